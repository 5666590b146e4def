// Requests to the server of this page. The token stands behind # in the address, which no browser sends or hands on.

const [token] = location.hash.slice(1).split("/");

/** An answer that is no result; `status` is 0 where there was none. `message` is for the reader. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The address of this page with the face that is shown, so that a reload shows it again. */
export function remember(face) {
  history.replaceState(null, "", `#${token}/${face}`);
}

/** The face of the address; empty for none. */
export const remembered = location.hash.slice(1).split("/")[1] ?? "";

async function reach(path, options = {}) {
  let response;
  try {
    response = await fetch(`api/${path}`, { ...options, headers: { Authorization: `Bearer ${token}`, ...options.headers } });
  } catch {
    throw new ApiError("The server does not answer: start `fkp label` again with the same --out, and open the address that it prints.");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new ApiError(said.message ?? `The server answers ${response.status}.`, response.status);
}

export async function get(path) {
  return (await reach(path)).json();
}

export async function post(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await reach(path, options)).json();
}

export async function remove(path) {
  return (await reach(path, { method: "DELETE" })).json();
}

/** A photograph, decoded as it is displayed. */
export async function picture(id) {
  const blob = await (await reach(`photos/${id}`)).blob();
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new ApiError("The browser cannot show this photograph: save it anew as JPEG.");
  }
}

/** The last few photographs, and those that come next: a function from an id to a promise of it. */
export function pictures(keep = 6) {
  const known = new Map();
  return (id) => {
    const found = known.get(id) ?? picture(id);
    known.delete(id);
    known.set(id, found);
    found.catch(() => known.delete(id));
    if (known.size > keep) {
      const [oldest, gone] = known.entries().next().value;
      known.delete(oldest);
      gone.then((bitmap) => bitmap.close(), () => {});
    }
    return found;
  };
}
