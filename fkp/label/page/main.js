// The page: what the reader does, and what then happens.

import { get, pictures, remember, remembered } from "./api.js";
import { arrow, entryOf, keyRows } from "./keys.js";
import { Panel } from "./panel.js";
import { listen } from "./pointer.js";
import { bounds, mirrored, placed, regionOf, swapped, transformed } from "./shape.js";
import { Store } from "./store.js";
import { View } from "./view.js";

const find = (id) => document.getElementById(id);
const NUDGE_MS = 250;
const canvas = find("canvas");
const view = new View(canvas);
const picture = pictures();
const panel = new Panel((face) => open(face).catch(fail));
const store = new Store({ changed, said: say, saved, trouble });
const page = { tables: null, picture: null, selected: null, group: null, box: null, hidden: false, looked: [], under: [], dismissed: new Set() };
let frame = 0;
let nudged = 0;
let shaping = null;

// ---- what is shown ----

function paint() {
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

function changed() {
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
function say(text) {
  find("live").textContent = text;
}

function saved(waiting) {
  find("saved").textContent = waiting ? "Saving." : "Saved.";
}

function trouble(text) {
  find("trouble").hidden = !text;
  find("trouble").textContent = text;
}

function fail(error) {
  trouble(error.message);
}

function describe(number) {
  const point = store.face.points[number];
  const place = store.face.review.indexOf(number);
  const state = point.state === "occluded" ? "covered" : point.state === "missing" ? "not labelled" : "visible";
  const sure = point.r === null ? (point.how ?? "to be placed") : `expected error ${point.r.toFixed(1)} px, ${((100 * point.r) / store.face.size_px).toFixed(1)} %`;
  const asked = place < 0 ? "" : `, one of ${store.face.review.length} to look at`;
  return `${page.tables.landmarks[number].replaceAll("_", " ")}: ${sure}, ${state}${asked}`;
}

function select(number, zoom = false) {
  page.selected = number;
  const point = number === null ? null : store.face.points[number];
  if (zoom && point && point.x !== null && point.r !== null) view.lookAt([point.x, point.y], point.r, store.face.size_px);
  if (page.mode === "region" && number !== null) page.group = regionOf(page.tables, number);
  if (number !== null) say(describe(number));
  paint();
}

async function open(id, focus = true) {
  flush();
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
function show(face, focus = true) {
  Object.assign(page, { selected: null, group: null, mode: null, box: null, looked: [] });
  store.adopt(face);
  remember(face.id);
  fitFace();
  panel.around(face).catch(fail);
  select(face.blind && !face.done ? face.next : null);
  say(`${face.photo}, face ${(face.place ?? 0) + 1}. ${find("review").textContent}`);
  if (focus) canvas.focus({ preventScroll: true });
  get(`next?after=${encodeURIComponent(face.id)}`)
    .then(({ face: next }) => next && get(`faces/${next}`))
    .then((next) => next && picture(next.photo_id))
    .catch(() => {}); // It is asked for again, and then said.
}

function fitFace() {
  const { face } = store;
  const points = placed(face.points).map((number) => [face.points[number].x, face.points[number].y]);
  const [x0, y0, x1, y1] = face.box;
  const xs = [x0, x1, ...points.map(([x]) => x)];
  const ys = [y0, y1, ...points.map(([, y]) => y)];
  view.fit([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
  paint();
}

// ---- what is done ----

const valueOf = (number, place) => {
  const { state } = store.face.points[number];
  return [place[0], place[1], state === "missing" ? "visible" : state];
};

function setPoint(what, number, place) {
  return store.set(what, { [number]: valueOf(number, place) }).catch(fail);
}

/** Points that are acted on: the region, the shape, or the one. */
function acted() {
  if (page.group) return page.group.filter((number) => placed(store.face.points).includes(number));
  return page.selected === null ? [] : [page.selected];
}

/** Move what is selected by arrow keys; it is sent when they rest. */
function nudge(change) {
  const numbers = acted().filter((number) => store.face.points[number].x !== null);
  if (!numbers.length) return say("No point is selected: Tab goes to the next one to look at.");
  const before = numbers.map((number) => [store.face.points[number].x, store.face.points[number].y]);
  preview(numbers, transformed(before, change));
  page.pending = new Set([...(page.pending ?? []), ...numbers]);
  store.held = true;
  clearTimeout(nudged);
  nudged = setTimeout(flush, NUDGE_MS);
}

function preview(numbers, places) {
  numbers.forEach((number, at) => {
    const point = store.face.points[number];
    Object.assign(point, { x: places[at][0], y: places[at][1] });
  });
  paint();
}

/** Send what arrow keys have moved. */
function flush() {
  clearTimeout(nudged);
  if (!page.pending?.size) return;
  const numbers = [...page.pending];
  page.pending = null;
  store.held = false;
  const changes = Object.fromEntries(numbers.map((number) => [number, valueOf(number, [store.face.points[number].x, store.face.points[number].y])]));
  store.set(numbers.length > 1 ? "shape" : "nudge", changes).catch(fail);
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
    const { face } = await get(`next?step=${step}${store.face ? `&after=${encodeURIComponent(store.face.id)}` : ""}`);
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
async function act(name, ...rest) {
  try {
    await actions[name](...rest);
  } catch (error) {
    fail(error);
  }
}

// ---- pointers ----

listen(canvas, view, {
  grab(place, reach) {
    if (!store.face || page.hidden) return null;
    flush();
    const [number] = view.hits(store.face.points, place, reach, page.selected);
    if (number === undefined || page.group) return null;
    store.held = true;
    select(number);
    return number;
  },
  placeOf: (number) => [store.face.points[number].x, store.face.points[number].y],
  drag: (number, place) => preview([number], [place]),
  drop(number, moved, start, cancelled) {
    const point = store.face.points[number];
    if (cancelled) preview([number], [start]);
    const place = [point.x, point.y];
    store.release();
    if (moved && !cancelled) setPoint("move", number, place);
  },
  place(place) {
    if (!store.face || page.group || page.hidden) return;
    const number = page.selected ?? store.face.next;
    if (number === null) return say("No point is selected.");
    page.selected = number;
    const blind = store.face.blind && !store.face.done;
    setPoint("place", number, place).then(() => blind && !store.waiting && select(store.face.next));
  },
  handle(place) {
    if (!page.group || !store.face) return null;
    const numbers = acted();
    if (!numbers.length) return null;
    const places = numbers.map((number) => [store.face.points[number].x, store.face.points[number].y]);
    const [found] = Object.entries(view.handles(places)).find(([, [x, y]]) => Math.hypot(x - place[0], y - place[1]) < 22) ?? [];
    if (found) {
      flush();
      store.held = true;
      shaping = { numbers, places };
    }
    return found ?? null;
  },
  shape(name, from, to) {
    const { numbers, places } = shaping;
    const [x0, y0, x1, y1] = [Math.min, Math.max].flatMap((pick) => [0, 1].map((axis) => pick(...places.map((place) => view.toScreen(place)[axis]))));
    const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
    const change = {
      move: () => ({ by: [(to[0] - from[0]) / view.scale, (to[1] - from[1]) / view.scale] }),
      turn: () => ({ angle: Math.atan2(to[1] - my, to[0] - mx) - Math.atan2(from[1] - my, from[0] - mx) }),
      scale: () => ({ scale: Math.max(Math.hypot(to[0] - mx, to[1] - my) / Math.hypot(from[0] - mx, from[1] - my), 0.05) }),
    }[name]();
    shaping.changed = true;
    preview(numbers, transformed(places, change));
  },
  shaped() {
    const { numbers, changed: moved } = shaping;
    const changes = Object.fromEntries(numbers.map((number) => [number, valueOf(number, [store.face.points[number].x, store.face.points[number].y])]));
    shaping = null;
    store.release();
    if (moved) store.set("shape", changes).catch(fail);
  },
  draws: () => Boolean(page.box),
  drawing(from, to) {
    page.box = [...from, ...to];
    paint();
  },
  drawn() {
    const [x0, y0, x1, y1] = page.box;
    if (Math.min(Math.abs(x1 - x0), Math.abs(y1 - y0)) * view.scale > 8) act("addBox");
  },
  moved: paint,
  under(place, reach) {
    page.under = place && store.face ? view.hits(store.face.points, place, reach, null) : [];
  },
});

// ---- keys and buttons ----

document.addEventListener("keydown", (event) => {
  const { activeElement: focused } = document;
  if (find("sheet").open || focused.matches("input, select, textarea")) return;
  const onButton = focused.matches("button, a, summary");
  if (!store.face && !["?"].includes(event.key)) return;
  const direction = arrow(event);
  if (direction && !event.ctrlKey && !event.metaKey && !onButton) {
    event.preventDefault();
    const step = (event.shiftKey ? 10 : 1) / view.scale;
    const by = direction.map((value) => value * step);
    if (page.box) {
      const [dx, dy] = direction.map((value) => (value * 8) / view.scale);
      page.box = page.box.map((value, at) => value + (at % 2 ? dy : dx) * (event.shiftKey && at < 2 ? 0 : 1));
      paint();
    } else if (event.altKey && page.group) nudge(direction[0] ? { angle: (direction[0] * Math.PI) / 180 } : { scale: 1 - 0.01 * direction[1] });
    else if (!event.altKey) nudge({ by });
    return;
  }
  const entry = entryOf(event);
  if (!entry) return;
  const [, , action, ...rest] = entry;
  if (action === "look") {
    if (focused === canvas) act("look", ...rest, event);
    return;
  }
  if (onButton && ["Enter", " "].includes(event.key)) return;
  event.preventDefault();
  act(action, ...rest);
});

find("tools").addEventListener("click", clicked);
document.querySelector(".side").addEventListener("click", clicked);
function clicked(event) {
  const name = event.target.closest("[data-do]")?.dataset.do;
  if (name && (store.face || name === "box")) act(name);
}
find("help").addEventListener("click", () => act("help"));
find("group").addEventListener("change", () => store.face && store.tell({ group: find("group").value }).then(() => panel.around(store.face)).catch(fail));
find("group").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== "Escape") return;
  event.preventDefault();
  canvas.focus();
});
find("question-keep").addEventListener("click", () => {
  page.dismissed.add(`${store.face.id} ${store.face.question.points}`);
  changed();
  canvas.focus();
});
find("question-mend").addEventListener("click", () => act("undo").then(() => canvas.focus()));
let bare = 0;
find("without").addEventListener("click", async () => {
  try {
    const photos = await get("without");
    const chosen = photos[bare++ % photos.length];
    page.picture = await picture(chosen.photo_id);
    page.photo = chosen.photo_id;
    store.face = null;
    find("face-heading").textContent = `${chosen.name}, no face was found`;
    find("review").textContent = "Draw one, or leave it.";
    actions.photo();
    actions.box();
  } catch (error) {
    fail(error);
  }
});
new ResizeObserver(paint).observe(canvas);
window.addEventListener("beforeunload", (event) => {
  flush();
  if (store.waiting) event.preventDefault();
});
document.addEventListener("visibilitychange", () => document.hidden && flush());

// ---- the beginning ----

function colours(tables) {
  const found = [];
  for (const region of tables.regions) for (const point of region.points) found[point] = region.colour;
  return found;
}

async function begin() {
  find("keys").append(...keyRows());
  const tables = await get("tables");
  page.tables = { ...tables, colours: colours(tables) };
  panel.ended = () => store.face && !store.waiting && open(store.face.id, false).catch(fail);
  for (;;) {
    const told = await panel.summary();
    const wanted = remembered || (await get("next")).face;
    if (wanted) {
      await open(wanted).catch(() => actions.next());
      break;
    }
    if (told.looked >= told.photos) {
      say(told.faces ? "All faces are finished." : "The model has found no face: draw one on the photographs that are listed.");
      break;
    }
    say("The model looks at the first photographs.");
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  setInterval(() => panel.summary().catch(fail), 1500);
}

begin().catch(fail);

export { page, store, view };
