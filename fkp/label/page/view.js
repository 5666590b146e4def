// The photograph and its points on a canvas: where the reader looks, and what is drawn there.

import { bounds, placed } from "./shape.js";

const MOST_SCALE = 60;
/** The error circle of a point that is looked at has this radius on the screen, in CSS pixels. */
const CIRCLE = 46;
const HANDLES = { move: "\u2725", turn: "\u21bb", scale: "\u2922" };

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.scale = 1;
    this.left = 0;
    this.top = 0;
  }

  get size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  /** Pixels of the photograph (integers are pixel centres) to CSS pixels of the canvas. */
  toScreen([x, y]) {
    return [(x + 0.5) * this.scale + this.left, (y + 0.5) * this.scale + this.top];
  }

  toImage([x, y]) {
    return [(x - this.left) / this.scale - 0.5, (y - this.top) / this.scale - 0.5];
  }

  /** Look at a part of the photograph, with some room around it. */
  fit([x0, y0, x1, y1], room = 1.35) {
    const [width, height] = this.size;
    this.scale = Math.min(width / ((x1 - x0) * room || 1), height / ((y1 - y0) * room || 1), MOST_SCALE);
    this.centre([(x0 + x1) / 2, (y0 + y1) / 2]);
  }

  centre(place) {
    const [[x, y], [width, height]] = [this.toScreen(place), this.size];
    this.left += width / 2 - x;
    this.top += height / 2 - y;
  }

  zoomAt([x, y], factor) {
    const scale = Math.min(Math.max(this.scale * factor, 0.01), MOST_SCALE);
    const real = scale / this.scale;
    this.left = x - (x - this.left) * real;
    this.top = y - (y - this.top) * real;
    this.scale = scale;
  }

  /** Look at a point so that its error circle has its fixed size on the screen; a face stays large enough to be known. */
  lookAt(place, radius, facePx) {
    const whole = Math.min(...this.size) / (1.35 * facePx);
    this.scale = Math.min(Math.max(CIRCLE / radius, whole), 9 * whole, MOST_SCALE);
    this.centre(place);
  }

  /** Numbers of the points within reach of a place on the screen, the nearest first; the selected one before all. */
  hits(points, [x, y], reach, selected) {
    const away = (number) => {
      const [px, py] = this.toScreen([points[number].x, points[number].y]);
      return Math.hypot(px - x, py - y);
    };
    const near = placed(points).filter((number) => away(number) <= reach);
    return near.sort((a, b) => (b === selected) - (a === selected) || away(a) - away(b));
  }

  /** Where the handles of some places are on the screen: name -> [x, y]. */
  handles(places) {
    const [x0, y0, x1, y1] = this.#frame(places);
    return { move: [x0, y1], turn: [(x0 + x1) / 2, y0 - 22], scale: [x1, y1] };
  }

  #frame(places) {
    const [x0, y0, x1, y1] = bounds(places.map((place) => this.toScreen(place)));
    return [x0 - 20, y0 - 20, x1 + 20, y1 + 20];
  }

  /**
   * Draw everything.
   *
   * @param {object} scene picture, points, tables, selected, review, group (numbers, or null), box ([x0, y0, x1, y1] or null),
   *   drawn: whether that box is being drawn, others: boxes of other faces, hidden: draw the photograph alone
   */
  draw(scene) {
    const { canvas } = this;
    const density = window.devicePixelRatio || 1;
    const [width, height] = this.size;
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    if (scene.picture) {
      context.imageSmoothingEnabled = this.scale < 3;
      const { width: w, height: h, whole, small } = scene.picture;
      context.drawImage(this.scale * density * w > 1.2 * small.width ? whole : small, this.left, this.top, w * this.scale, h * this.scale);
      context.strokeStyle = "rgb(128 128 128 / 0.7)";
      context.strokeRect(this.left, this.top, w * this.scale, h * this.scale);
    }
    if (scene.hidden) return;
    if (scene.box) this.#box(context, scene.box, scene.drawn ? "#ffd34d" : "rgb(255 255 255 / 0.55)");
    if (!scene.points || scene.drawn) return;
    this.#edges(context, scene);
    this.#points(context, scene);
    if (scene.group) this.#group(context, scene);
  }

  #box(context, [x0, y0, x1, y1], colour) {
    const [[a, b], [c, d]] = [this.toScreen([x0, y0]), this.toScreen([x1, y1])];
    context.lineWidth = 1.5;
    context.strokeStyle = colour;
    context.strokeRect(a, b, c - a, d - b);
  }

  #edges(context, { points, tables }) {
    const there = new Set(placed(points));
    context.lineWidth = 1;
    context.globalAlpha = 0.5;
    for (const [from, to] of tables.edges) {
      if (!there.has(from) || !there.has(to)) continue;
      context.strokeStyle = tables.colours[from];
      context.beginPath();
      context.moveTo(...this.toScreen([points[from].x, points[from].y]));
      context.lineTo(...this.toScreen([points[to].x, points[to].y]));
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  #points(context, { points, tables, selected, review }) {
    const asked = new Set(review);
    points.forEach((point, number) => {
      if (point.x === null) return;
      const [x, y] = this.toScreen([point.x, point.y]);
      const colour = tables.colours[number];
      const circle = (radius, fill, stroke, width = 1.5) => {
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.lineWidth = width;
        if (fill) (context.fillStyle = fill), context.fill();
        if (stroke) (context.strokeStyle = stroke), context.stroke();
      };
      if (point.state === "missing") {
        context.globalAlpha = 0.6;
        this.#cross(context, x, y, 5, "#ffffff");
        context.globalAlpha = 1;
      } else {
        if (point.r !== null && (asked.has(number) || number === selected)) {
          context.globalAlpha = 0.16;
          circle(point.r * this.scale, colour);
          context.globalAlpha = 1;
          circle(point.r * this.scale, null, colour);
        }
        if (point.ghost && (asked.has(number) || number === selected)) this.#ghost(context, point, colour);
        const set = point.how !== null;
        circle(set ? 4 : 3, "rgb(0 0 0 / 0.65)");
        circle(set ? 3 : 2, point.state === "occluded" ? "#000000" : colour, point.state === "occluded" ? colour : null);
      }
      if (number === selected) {
        circle(9, null, "#000000", 4);
        circle(9, null, "#ffffff", 2);
      }
    });
    const chosen = selected === null ? null : points[selected];
    if (chosen && chosen.x !== null) this.#label(context, chosen, tables.landmarks[selected].replaceAll("_", " "));
  }

  /** Where the model has a point that another tool has labelled. */
  #ghost(context, { x, y, ghost: [gx, gy, radius] }, colour) {
    const [from, to] = [this.toScreen([x, y]), this.toScreen([gx, gy])];
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
    context.beginPath();
    context.arc(...to, radius * this.scale, 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
  }

  #cross(context, x, y, size, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    for (const sign of [-1, 1]) {
      context.moveTo(x - size, y - sign * size);
      context.lineTo(x + size, y + sign * size);
    }
    context.stroke();
  }

  #label(context, point, text) {
    const [x, y] = this.toScreen([point.x, point.y]);
    context.font = "600 13px system-ui, sans-serif";
    context.textBaseline = "middle";
    const width = context.measureText(text).width;
    const left = x + 16 + width > this.size[0] ? x - 20 - width : x + 14;
    context.fillStyle = "rgb(0 0 0 / 0.7)";
    context.fillRect(left - 4, y - 30, width + 8, 20);
    context.fillStyle = "#ffffff";
    context.fillText(text, left, y - 20);
  }

  #group(context, { points, group }) {
    const places = group.map((number) => [points[number].x, points[number].y]);
    const [x0, y0, x1, y1] = this.#frame(places);
    context.setLineDash([5, 4]);
    context.lineWidth = 1.5;
    context.strokeStyle = "#ffffff";
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
    context.font = "18px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    for (const [name, [x, y]] of Object.entries(this.handles(places))) {
      context.beginPath();
      context.arc(x, y, 14, 0, 2 * Math.PI);
      context.fillStyle = "#0a5aa8";
      context.fill();
      context.strokeStyle = context.fillStyle = "#ffffff";
      context.stroke();
      context.fillText(HANDLES[name], x, y);
    }
    context.textAlign = "start";
  }
}
