// Mouse, pen and fingers on the canvas: drag a point, a handle or the view; click places; two fingers zoom.

const REACH = { mouse: 12, pen: 14, touch: 24 };
const MOVED = 4;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./view.js").View} view
 * @param {object} page what happens: grab(hits) -> number or null, drag(number, place), drop(number, moved, from), place(place),
 *   handle(at) -> name or null, shape(name, from, to), shaped(), draws() -> boolean, drawing(from, to), drawn(), moved(), under(at)
 */
export function listen(canvas, view, page) {
  const pointers = new Map();
  let held = null;

  const at = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 && event.button !== 1) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    if (pointers.size === 2) return begin(pinch(), event);
    if (pointers.size > 2) return;
    const place = at(event);
    if (page.draws()) return begin({ kind: "box", from: view.toImage(place) }, event);
    const handle = page.handle(place);
    if (handle) return begin({ kind: "handle", name: handle, from: place }, event);
    const number = event.button === 1 ? null : page.grab(place, REACH[event.pointerType] ?? 14);
    const start = number === null ? null : page.placeOf(number);
    begin({ kind: number === null ? "view" : "point", number, start, from: place, moved: false }, event);
  });

  function begin(next, event) {
    event.preventDefault();
    if (held?.kind === "point") page.drop(held.number, held.moved, held.start, true);
    held = next;
  }

  function pinch() {
    const [[ax, ay], [bx, by]] = [...pointers.values()];
    return { kind: "pinch", apart: Math.hypot(ax - bx, ay - by), middle: [(ax + bx) / 2, (ay + by) / 2] };
  }

  canvas.addEventListener("pointermove", (event) => {
    const place = at(event);
    if (!pointers.has(event.pointerId)) return page.under(place, REACH[event.pointerType] ?? 14);
    const before = pointers.get(event.pointerId);
    pointers.set(event.pointerId, place);
    if (!held) return;
    if (held.kind === "pinch") {
      const now = pinch();
      view.left += now.middle[0] - held.middle[0];
      view.top += now.middle[1] - held.middle[1];
      view.zoomAt(now.middle, now.apart / (held.apart || 1));
      held = now;
      return page.moved();
    }
    if (held.kind === "box") return page.drawing(held.from, view.toImage(place));
    if (held.kind === "handle") return page.shape(held.name, held.from, place);
    held.moved ||= Math.hypot(place[0] - held.from[0], place[1] - held.from[1]) > MOVED;
    if (!held.moved) return;
    if (held.kind === "point") {
      const step = [(place[0] - held.from[0]) / view.scale, (place[1] - held.from[1]) / view.scale];
      return page.drag(held.number, [held.start[0] + step[0], held.start[1] + step[1]]);
    }
    view.left += place[0] - before[0];
    view.top += place[1] - before[1];
    page.moved();
  });

  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      if (!pointers.delete(event.pointerId) || !held) return;
      const ended = held;
      held = null;
      if (ended.kind === "point") page.drop(ended.number, ended.moved, ended.start, kind === "pointercancel");
      else if (ended.kind === "handle") page.shaped();
      else if (ended.kind === "box") page.drawn();
      else if (ended.kind === "view" && !ended.moved && kind === "pointerup" && event.button === 0) page.place(view.toImage(at(event)));
    });
  }

  canvas.addEventListener("pointerleave", () => page.under(null, 0));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    view.zoomAt(at(event), Math.exp(-event.deltaY * unit * 0.0015));
    page.moved();
  }, { passive: false });
}
