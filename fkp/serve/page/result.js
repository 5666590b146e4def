// An answer of v1/keypoints in words, tables and JSON.

import { element } from "./card.js";

/** What was found, as one sentence. */
export function describe(answer) {
  const count = answer.faces.length;
  const out = answer.left_out ? ` ${answer.left_out} left out: the model does not believe ${answer.left_out === 1 ? "it" : "them"}.` : "";
  if (!count) return `No face was found: try an image in which a face is larger or turned more to the camera.${out}`;
  return `${count} ${count === 1 ? "face" : "faces"} found.${out}`;
}

/** The milliseconds the reader waited, those of the server, and its longer steps. */
export function timing(answer, waitedMs) {
  const steps = Object.entries(answer.milliseconds).filter(([step, ms]) => step !== "total" && ms >= 0.5);
  const parts = steps.map(([step, ms]) => `${step} ${short(ms)}`).join(", ");
  return `${short(waitedMs)} ms, of which the server ${short(answer.milliseconds.total)}${parts && ` (${parts})`}`;
}

/** One row a face. */
export function faceRows(answer) {
  return answer.faces.map((face, index) => {
    const [x0, y0, x1, y1] = face.box;
    const cells = [
      `${index + 1}`,
      fixed(face.score, 2),
      fixed(face.quality, 2),
      `${Math.round(x1 - x0)} × ${Math.round(y1 - y0)}`,
      fixed(mean(face.expected_error_px), 2),
    ];
    return element("tr", ...cells.map((cell) => element("td", cell)));
  });
}

/** One row a face: how the head is turned, and how far eyes and mouth are open; a dash where the model's landmarks do not tell. */
export function measureRows(answer) {
  return answer.faces.map((face, index) => {
    const angles = ["yaw_deg", "pitch_deg", "roll_deg"].map((name) => (face.pose ? `${Math.round(face.pose[name])}°` : "–"));
    const openings = ["left_eye", "right_eye", "mouth"].map((name) => fixed(face.openness?.[name], 2));
    return element("tr", ...[`${index + 1}`, ...angles, ...openings].map((cell) => element("td", cell)));
  });
}

/** One item a region with its colour: the legend of the drawing. */
export function regionItems(answer, tables) {
  return tables.regions.map((region) => {
    const errors = answer.faces.flatMap((face) => region.points.map((point) => face.expected_error_px[point]));
    const swatch = element("span");
    swatch.className = "swatch";
    swatch.style.backgroundColor = region.colour;
    const figure = element("span", errors.length ? `${fixed(mean(errors), 2)} px` : "–");
    figure.className = "figure";
    return element("li", swatch, region.name.replaceAll("_", " "), figure);
  });
}

/** JSON with each list of numbers on one line. */
export function formatJson(value, indent = "") {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((part) => formatJson(part, `${indent}  `))
    : Object.entries(value).map(([key, part]) => `${JSON.stringify(key)}: ${formatJson(part, `${indent}  `)}`);
  const [open, close] = isList ? "[]" : "{}";
  if (!parts.length || (isList && value.every((part) => typeof part === "number"))) return open + parts.join(", ") + close;
  return `${open}\n${parts.map((part) => `${indent}  ${part}`).join(",\n")}\n${indent}${close}`;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const fixed = (value, digits) => (typeof value === "number" ? value.toFixed(digits) : "–");
const short = (ms) => (ms < 9.95 ? ms.toFixed(1) : Math.round(ms));
