// What is on the screen: the face that is worked on, what is selected, and what is said about it.

import { get, pictures, remember } from "./api.js";
import { Panel } from "./panel.js";
import { placed, regionOf } from "./shape.js";
import { Store } from "./store.js";
import { View } from "./view.js";

export const find = (id) => document.getElementById(id);
export const view = new View(find("canvas"));
export const picture = pictures();
export const panel = new Panel((face) => open(face).catch(fail));
export const store = new Store({ changed, said: say, saved, trouble });
/** What the reader has before them: the scheme, the photograph, the selected point, the numbers of a region or of all, a box that is drawn. */
export const page = {
  tables: null,
  picture: null,
  selected: null,
  mode: null,
  group: null,
  box: null,
  hidden: false,
  looked: [],
  under: [],
  dismissed: new Set(),
  coming: null, // The face whose photograph was fetched ahead: it is the next one, though the order may change meanwhile.
  leaving: () => {},
};
let frame = 0;

export function paint() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const face = store.face;
    view.draw({
      picture: page.picture,
      points: face?.points,
      tables: page.tables,
      selected: page.selected,
      review: face?.review ?? [],
      group: page.group && face ? page.group.filter((number) => placed(face.points).includes(number)) : null,
      box: page.box ?? face?.box,
      drawn: Boolean(page.box),
      hidden: page.hidden,
    });
  });
}

export function changed() {
  const { face } = store;
  const total = face.points.length;
  const asked = face.review.length;
  const sure = total - asked;
  find("face-heading").textContent = `${face.photo}${face.done ? ", finished" : ""}${face.removed ? ", no face" : ""}${face.blind ? ", blind" : ""}`;
  find("review").textContent = face.blind && !face.done
    ? `Guesses are hidden here: set all points, ${asked} are left. These faces alone measure the model.`
    : asked
      ? `${sure} of ${total} are set or surer than ${face.sure_pct} %: look at ${asked}.`
      : `All ${total} are set or surer than ${face.sure_pct} %: accept.`;
  if (document.activeElement !== find("group")) find("group").value = face.group;
  document.querySelector("[data-do=undo]").disabled = !face.can_undo && !store.waiting;
  document.querySelector("[data-do=redo]").disabled = !face.can_redo;
  const { question } = face;
  const asks = question && !page.dismissed.has(`${face.id} ${question.points}`);
  find("question").hidden = !asks;
  if (asks) find("question-text").textContent = question.text;
  for (const name of ["region", "shape", "box"]) {
    const on = name === "box" ? Boolean(page.box) : page.group !== null && page.mode === name;
    document.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", on);
  }
  paint();
}

/** Tell what happens; a screen reader says it, too. */
export function say(text) {
  find("live").textContent = text;
}

function saved(waiting) {
  find("saved").textContent = waiting ? "Saving." : "Saved.";
}

export function trouble(text) {
  find("trouble").hidden = !text;
  find("trouble").textContent = text;
}

export function fail(error) {
  trouble(error.message);
}

export function describe(number) {
  const point = store.face.points[number];
  const place = store.face.review.indexOf(number);
  const state = point.state === "occluded" ? "covered" : point.state === "missing" ? "not labelled" : "visible";
  const sure = point.r === null ? (point.how ?? "to be placed") : `expected error ${point.r.toFixed(1)} px, ${((100 * point.r) / store.face.size_px).toFixed(1)} %`;
  const asked = place < 0 || point.how === "set" ? "" : `, one of ${store.face.review.length} to look at`;
  return `${page.tables.landmarks[number].replaceAll("_", " ")}: ${sure}, ${state}${asked}`;
}

export function select(number, zoom = false) {
  page.selected = number;
  const point = number === null ? null : store.face.points[number];
  if (zoom && point && point.x !== null && point.r !== null) view.lookAt([point.x, point.y], point.r, store.face.size_px);
  if (page.mode === "region" && number !== null) page.group = regionOf(page.tables, number);
  if (number !== null) say(describe(number));
  paint();
}

export async function open(id, focus = true) {
  page.leaving();
  const face = await get(`faces/${id}`);
  if (face.photo_id !== store.face?.photo_id || !page.picture) {
    page.picture = null;
    try {
      page.picture = await picture(face.photo_id);
      trouble("");
    } catch (error) {
      fail(error);
    }
  }
  show(face, focus);
}

/** Work on a face from now on. */
export function show(face, focus = true) {
  Object.assign(page, { selected: null, group: null, mode: null, box: null, looked: [], coming: null });
  store.adopt(face);
  remember(face.id);
  fitFace();
  panel.around(face).catch(fail);
  select(face.blind && !face.done ? face.next : null);
  say(`${face.photo}, face ${(face.place ?? 0) + 1}. ${find("review").textContent}`);
  if (focus) view.canvas.focus({ preventScroll: true });
  get(`next?after=${encodeURIComponent(face.id)}`)
    .then(({ face: next }) => next && get(`faces/${next}`))
    .then((next) => {
      if (!next || store.face?.id !== face.id) return undefined;
      page.coming = next.id;
      return picture(next.photo_id);
    })
    .catch(() => {}); // It is asked for again, and then said.
}

export function fitFace() {
  const { face } = store;
  const points = placed(face.points).map((number) => [face.points[number].x, face.points[number].y]);
  const [x0, y0, x1, y1] = face.box;
  const xs = [x0, x1, ...points.map(([x]) => x)];
  const ys = [y0, y1, ...points.map(([, y]) => y)];
  view.fit([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
  paint();
}
