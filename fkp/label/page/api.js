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

/** The longer side of what is drawn of a large photograph that is looked at as a whole: to shrink it in each frame would take too long. */
const SMALL = 2048;

/** A photograph, decoded as it is displayed: width, height, and `small`, the same in fewer pixels where it has many. */
export async function picture(id) {
  const blob = await (await reach(`photos/${id}`)).blob();
  try {
    const whole = await createImageBitmap(blob, { imageOrientation: "from-image" });
    const { width, height } = whole;
    const part = SMALL / Math.max(width, height);
    if (part > 0.7) return { width, height, whole, small: whole };
    const size = { resizeWidth: Math.round(width * part), resizeHeight: Math.round(height * part), resizeQuality: "medium" };
    return { width, height, whole, small: await createImageBitmap(whole, size) };
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
      gone.then(({ whole, small }) => [whole, small].forEach((bitmap) => bitmap.close()), () => {});
    }
    return found;
  };
}
