// Requests to the server the page came from.

/** An answer that is no result. `message` is meant for the reader; `status` is 0 where there was no answer at all. */
export class ApiError extends Error {
  constructor(message, status = 0, retryAfterSeconds = null) {
    super(message);
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether the server only had no room for this request. */
  get isBusy() {
    return this.status === 429 || this.status === 503;
  }
}

export class Api {
  #token = null; // In memory only: it is gone with the page.
  #asking = null;
  #askToken;
  #landmarks = null;

  /** @param {(refused: boolean) => Promise<string|null>} askToken asks the reader; null when they do not want to tell. */
  constructor(askToken) {
    this.#askToken = askToken;
  }

  /** Find the faces of an encoded picture; with boxes [x0, y0, x1, y1], those that are in them. */
  keypoints(picture, signal, boxes = []) {
    const query = new URLSearchParams(boxes.map((box) => ["box", box.join(",")]));
    const path = boxes.length ? `v1/keypoints?${query}` : "v1/keypoints";
    return this.#request(path, { method: "POST", body: picture, headers: { "Content-Type": picture.type }, signal });
  }

  model() {
    return this.#request("v1/model");
  }

  /** Edges, regions and colours. Asked for once; anew after a failure, and where the model has changed to other landmarks. */
  async landmarks(anew = false) {
    if (anew) this.#landmarks = null;
    this.#landmarks ??= this.#request("v1/landmarks");
    try {
      return await this.#landmarks;
    } catch (error) {
      this.#landmarks = null;
      throw error;
    }
  }

  async #request(path, options = {}) {
    for (;;) {
      const used = this.#token;
      const headers = { Accept: "application/json", ...options.headers, ...(used && { Authorization: `Bearer ${used}` }) };
      const response = await reach(path, { ...options, headers, cache: "no-store" });
      if (response.status === 401) {
        // Another request may have brought a token meanwhile: then that one is tried first.
        if (used === this.#token && !(await this.#learnToken())) throw await explain(response);
        continue;
      }
      if (!response.ok) throw await explain(response);
      return read(response);
    }
  }

  /** Ask for a token, once for all requests that wait for it. */
  async #learnToken() {
    this.#asking ??= this.#askToken(this.#token !== null).finally(() => (this.#asking = null));
    const given = await this.#asking;
    if (given !== null) this.#token = given;
    return given !== null;
  }
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached: check the connection and try again.");
  }
}

async function read(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(`The server's answer to ${new URL(response.url).pathname} is broken: try again.`, response.status);
  }
}

async function explain(response) {
  const wait = Number.parseFloat(response.headers.get("Retry-After"));
  const said = await response.json().catch(() => ({})); // A proxy in between explains itself in HTML, if at all.
  const message = typeof said.message === "string" ? said.message : "The server gave no reason.";
  const trace = said.request_id ? `, request ${said.request_id}` : "";
  return new ApiError(`${message} (${response.status}${trace})`, response.status, Number.isFinite(wait) ? wait : null);
}
