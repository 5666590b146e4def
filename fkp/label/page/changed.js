// The faces that an adaptation has changed most: each cut out of its photograph, with the points of both models.

import { picture } from "./api.js";

const [SIDE, ROOM] = [160, 1.25];
const COLOURS = { before: "#ff9f1c", after: "#2ec4b6" };

/** A list item a face, which opens it; one after the other, for a photograph may be large. */
export async function changedFaces(faces, open) {
  const items = [];
  for (const face of faces) items.push(item(face, await cut(face), open));
  return items;
}

function item(face, canvas, open) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(canvas, `${face.photo}, ${face.pct.toFixed(1)} %`);
  button.addEventListener("click", () => open(face.id));
  const element = document.createElement("li");
  element.append(button);
  return element;
}

async function cut(face) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * SIDE, height: 2 * SIDE }); // Sharp on fine screens, too.
  const context = canvas.getContext("2d");
  const all = [...face.before, ...face.after];
  const [left, top] = [0, 1].map((axis) => Math.min(...all.map((point) => point[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...all.map((point) => point[axis])));
  const side = ROOM * Math.max(right - left, bottom - top);
  const [x0, y0] = [(left + right - side) / 2, (top + bottom - side) / 2];
  const scale = canvas.width / side;
  try {
    const { whole, small } = await picture(face.photo_id);
    // The first pixel's centre is at 0.
    context.drawImage(whole, (-0.5 - x0) * scale, (-0.5 - y0) * scale, whole.width * scale, whole.height * scale);
    [whole, small].forEach((bitmap) => bitmap.close());
  } catch {
    context.fillStyle = "#888"; // The photograph is gone, and the page says so where it is opened: the points alone are drawn.
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  for (const [name, colour] of Object.entries(COLOURS)) {
    context.fillStyle = colour;
    for (const [x, y] of face[name]) {
      context.beginPath();
      context.arc((x - x0) * scale, (y - y0) * scale, 4, 0, 2 * Math.PI);
      context.fill();
    }
  }
  return canvas;
}
