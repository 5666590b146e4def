// What a pointer does to the face.

import { act, acted, flush, preview, setPoint, valueOf } from "./actions.js";
import { listen } from "./pointer.js";
import { fail, page, paint, say, select, store, view } from "./screen.js";
import { transformed } from "./shape.js";

let shaping = null;

listen(view.canvas, view, {
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
