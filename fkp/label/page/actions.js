// Everything that a key or a button does.

import { get } from "./api.js";
import { bounds, mirrored, placed, regionOf, swapped, transformed } from "./shape.js";
import { changed, describe, fail, find, fitFace, open, page, paint, panel, say, select, show, store, view } from "./screen.js";

const NUDGE_MS = 250;
let nudged = 0;
page.leaving = flush;

export const valueOf = (number, place) => {
  const { state } = store.face.points[number];
  return [place[0], place[1], state === "missing" ? "visible" : state];
};

export function setPoint(what, number, place) {
  const saved = store.set(what, { [number]: valueOf(number, place) }).catch(fail);
  say(describe(number));
  return saved;
}

/** Points that are acted on: the region, the shape, or the one. */
export function acted() {
  if (page.group) return page.group.filter((number) => placed(store.face.points).includes(number));
  return page.selected === null ? [] : [page.selected];
}

/** Move what is selected by arrow keys; it is sent when they rest. */
export function nudge(change) {
  const numbers = acted().filter((number) => store.face.points[number].x !== null);
  if (!numbers.length) return say("No point is selected: Tab goes to the next one to look at.");
  const before = numbers.map((number) => [store.face.points[number].x, store.face.points[number].y]);
  preview(numbers, transformed(before, change));
  page.pending = new Set([...(page.pending ?? []), ...numbers]);
  store.held = true;
  clearTimeout(nudged);
  nudged = setTimeout(flush, NUDGE_MS);
}

export function preview(numbers, places) {
  numbers.forEach((number, at) => {
    const point = store.face.points[number];
    Object.assign(point, { x: places[at][0], y: places[at][1] });
  });
  paint();
}

/** Send what arrow keys have moved. */
export function flush() {
  clearTimeout(nudged);
  if (!page.pending?.size) return;
  const numbers = [...page.pending];
  page.pending = null;
  store.held = false;
  const changes = Object.fromEntries(numbers.map((number) => [number, valueOf(number, [store.face.points[number].x, store.face.points[number].y])]));
  store.set(numbers.length > 1 ? "shape" : "nudge", changes).catch(fail);
  if (numbers.length === 1) say(describe(numbers[0]));
}

function unite(mode) {
  flush();
  if (page.mode === mode) [page.mode, page.group] = [null, null];
  else {
    const number = page.selected ?? store.face.next ?? 0;
    page.mode = mode;
    page.group = mode === "shape" ? page.tables.landmarks.map((_, place) => place) : regionOf(page.tables, number);
    if (mode === "region") page.selected = number;
    const places = acted().map((one) => [store.face.points[one].x, store.face.points[one].y]);
    const [width, height] = view.size;
    const inside = ([x, y]) => x > 0 && y > 0 && x < width && y < height;
    if (places.length && !Object.values(view.handles(places)).every(inside)) view.fit(bounds(places), 1.6);
    say(mode === "shape" ? "The whole shape is selected." : `${page.tables.regions.find(({ points }) => points.includes(number)).name.replaceAll("_", " ")} is selected.`);
  }
  changed();
}

const actions = {
  look(step, event) {
    flush();
    if (page.under.length > 1 && step > 0) {
      event?.preventDefault();
      const at = page.under.indexOf(page.selected);
      return select(page.under[(at + 1) % page.under.length]);
    }
    const { review, next } = store.face;
    if (step < 0) {
      const before = page.looked.length > 1 ? page.looked.at(-2) : undefined;
      if (before === undefined) return; // Focus goes to what stands before.
      page.looked.pop();
      event?.preventDefault();
      return select(before, true);
    }
    const left = review.filter((number) => !page.looked.includes(number));
    const chosen = left.includes(next) ? next : left[0];
    if (chosen === undefined) return say("No further point is to be looked at: Enter accepts the face."); // Focus goes on to the buttons.
    page.looked.push(chosen);
    event?.preventDefault();
    select(chosen, true);
  },
  walk(step) {
    flush();
    const total = store.face.points.length;
    select(page.selected === null ? (step > 0 ? 0 : total - 1) : (page.selected + step + total) % total);
  },
  confirm() {
    flush();
    const point = page.selected === null ? null : store.face.points[page.selected];
    if (!point || point.x === null) return say("No point is selected.");
    setPoint("place", page.selected, [point.x, point.y]);
    say(`${page.tables.landmarks[page.selected].replaceAll("_", " ")} is right.`);
  },
  state() {
    flush();
    const order = { visible: "occluded", occluded: "missing", missing: "visible" };
    const numbers = acted();
    if (!numbers.length) return say("No point is selected.");
    const state = order[store.face.points[numbers[0]].state];
    const changes = numbers.flatMap((number) => {
      const { x, y } = store.face.points[number];
      if (x === null && state !== "missing" && state !== "occluded") return [];
      return [[number, [x ?? 0, y ?? 0, x === null ? "missing" : state]]];
    });
    if (!changes.length) return undefined;
    store.set("state", Object.fromEntries(changes)).catch(fail);
    if (page.selected !== null) say(describe(page.selected));
  },
  forget() {
    flush();
    const numbers = acted();
    if (numbers.length) store.set("forget", Object.fromEntries(numbers.map((number) => [number, null]))).catch(fail);
  },
  region: () => unite("region"),
  shape: () => unite("shape"),
  escape() {
    flush();
    if (page.box) page.box = null;
    else if (page.group) [page.mode, page.group] = [null, null];
    else page.selected = null;
    changed();
  },
  swap() {
    flush();
    const changes = swapped(store.face.points, page.tables);
    if (!Object.keys(changes).length) return say("This scheme has no left and right.");
    store.set("swap", changes).catch(fail);
    say("Left and right have exchanged their names.");
  },
  mirror() {
    flush();
    if (page.selected === null) return say("Select a point of the side that is right.");
    const changes = mirrored(store.face.points, page.tables, page.selected);
    if (!Object.keys(changes).length) return say("This scheme has no left and right.");
    store.set("mirror", changes).catch(fail);
    say("One side is mirrored onto the other.");
  },
  box() {
    flush();
    const [width, height] = view.size;
    const [from, to] = [view.toImage([0.3 * width, 0.25 * height]), view.toImage([0.7 * width, 0.75 * height])];
    page.box = page.box ? null : [...from, ...to];
    if (page.box) say("Drawing a face: drag its box, or move it by arrow keys and change its size with Shift. Enter adds it, Escape stops.");
    changed();
  },
  async addBox() {
    const [x0, y0, x1, y1] = page.box;
    const box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
    page.box = null;
    show(await store.add(store.face?.photo_id ?? page.photo, box));
    say("A face is added.");
  },
  async remove() {
    flush();
    await store.tell({ removed: !store.face.removed });
    if (store.face.removed) await actions.next();
  },
  async accept() {
    if (page.box) return actions.addBox();
    flush();
    const { id } = store.face;
    await store.set("accept", {}, true);
    await panel.summary();
    if (store.face.id === id) await actions.next();
    return undefined;
  },
  async again() {
    flush();
    show(await store.again());
  },
  async next(step = 1) {
    flush();
    const from = Object.entries({ step, after: store.face?.id, coming: step > 0 ? page.coming : null }).filter(([, value]) => value);
    const { face } = await get(`next?${new URLSearchParams(from)}`);
    if (face) return open(face);
    say("All faces are finished.");
    return panel.around(store.face);
  },
  previous: () => actions.next(-1),
  group: () => find("group").focus(),
  async undo() {
    flush();
    await stepped("undo");
  },
  async redo() {
    flush();
    await stepped("redo");
  },
  zoom(factor) {
    view.zoomAt(view.size.map((side) => side / 2), factor);
    paint();
  },
  face: () => fitFace(),
  photo() {
    if (page.picture) view.fit([0, 0, page.picture.width, page.picture.height], 1.05);
    paint();
  },
  close: () => page.selected !== null && select(page.selected, true),
  hide() {
    page.hidden = !page.hidden;
    paint();
  },
  help: () => find("sheet").showModal(),
};

async function stepped(way) {
  const face = await store.step(way);
  if (!face) return;
  const selected = face.id === store.face?.id ? page.selected : null;
  if (face.id === store.face?.id) store.adopt(face);
  else await open(face.id);
  page.selected = selected;
  say(way === "undo" ? "Undone." : "Done again.");
  panel.summary().catch(fail);
  paint();
}

/** Do an action of a key or a button; what goes wrong is said. */
export async function act(name, ...rest) {
  try {
    await actions[name](...rest);
  } catch (error) {
    fail(error);
  }
}
