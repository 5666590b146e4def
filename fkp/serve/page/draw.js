// An image and its faces on a canvas.

import { drawFilter } from "./filter.js";

/**
 * Draw the image over the whole canvas and the layers that are wanted on top.
 *
 * @param {HTMLCanvasElement} canvas already sized
 * @param {object} scene picture (anything drawImage takes), answer (of v1/keypoints, or null), tables (of v1/landmarks)
 * @param {object} look layers {edges, points, box, errors, filter}, mirrored, hairline: width of the thinnest line in canvas pixels
 */
export function draw(canvas, { picture, answer, tables }, { layers, mirrored, hairline }) {
  const context = canvas.getContext("2d");
  context.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? canvas.width : 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.setTransform(1, 0, 0, 1, 0, 0);
  if (!answer) return;
  const scale = canvas.width / answer.image.width;
  // The server's integers are pixel centres, the canvas's are pixel corners.
  const place = ([x, y]) => {
    const across = (x + 0.5) * scale;
    return [mirrored ? canvas.width - across : across, (y + 0.5) * scale];
  };
  const corners = (box) => [place(box.slice(0, 2)), place(box.slice(2))];
  const colours = coloursOf(tables);
  answer.faces.forEach((face, index) => {
    const points = face.keypoints.map(place);
    const pen = { context, points, colours, hairline, span: spanOf(points), hollow: unsureOf(face, tables) };
    if (layers.filter) drawFilter(context, points, tables.landmarks);
    const name = [answer.faces.length > 1 ? `${index + 1}` : "", face.believed === false ? doubtOf(face) : ""].filter(Boolean).join(" ");
    if (layers.box) drawBox(pen, corners(face.box), name, face.believed === false);
    if (layers.errors) drawErrors(pen, face.expected_error_px.map((error) => error * scale));
    if (layers.edges) drawEdges(pen, tables.edges);
    if (layers.points) drawPoints(pen);
  });
  for (const face of layers.box ? (answer.left_out_faces ?? []) : []) {
    const sides = corners(face.box);
    drawBox({ context, hairline, span: Math.abs(sides[1][0] - sides[0][0]) }, sides, doubtOf(face), true);
  }
}

/** What a face is called that the model does not believe. */
const doubtOf = (face) => `not believed ${face.quality.toFixed(2)}`;

/** Which points the model is unsure of: it expects them to be off by more than a part of the box's longer side. */
function unsureOf({ box: [x0, y0, x1, y1], expected_error_px: errors }, { unsure_ratio: ratio }) {
  const most = typeof ratio === "number" ? ratio * Math.max(x1 - x0, y1 - y0) : Infinity;
  return errors.map((error) => error > most);
}

function coloursOf(tables) {
  const colours = [];
  for (const region of tables.regions) for (const point of region.points) colours[point] = region.colour;
  return colours;
}

/** The longer side of the points' box, which decides how thick a face is drawn. */
function spanOf(points) {
  const sides = [0, 1].map((axis) => points.map((point) => point[axis]));
  return Math.max(...sides.map((values) => Math.max(...values) - Math.min(...values)));
}

function drawErrors({ context, points, colours, hairline }, radii) {
  context.lineWidth = hairline;
  points.forEach(([x, y], point) => {
    context.beginPath();
    context.arc(x, y, radii[point], 0, 2 * Math.PI);
    context.fillStyle = context.strokeStyle = colours[point];
    context.globalAlpha = 0.22;
    context.fill();
    context.globalAlpha = 0.75;
    context.stroke();
  });
  context.globalAlpha = 1;
}

function drawEdges({ context, points, colours, hairline, span }, edges) {
  context.lineWidth = Math.max(hairline, span / 150);
  context.lineCap = "round";
  for (const [from, to] of edges) {
    context.strokeStyle = colours[from];
    context.beginPath();
    context.moveTo(...points[from]);
    context.lineTo(...points[to]);
    context.stroke();
  }
}

function drawPoints({ context, points, colours, hairline, span, hollow }) {
  const radius = Math.max(1.3 * hairline, span / 110);
  const dots = (size, colourOf) =>
    points.forEach(([x, y], point) => {
      if (hollow[point]) return;
      context.fillStyle = colourOf(point);
      context.beginPath();
      context.arc(x, y, size, 0, 2 * Math.PI);
      context.fill();
    });
  // A dark rim keeps points visible on skin and on their own lines; below all of them, as some nearly touch.
  dots(radius + 0.6 * hairline, () => "rgb(0 0 0 / 0.6)");
  dots(radius, (point) => colours[point]);
  points.forEach(([x, y], point) => {
    if (!hollow[point]) return;
    for (const [line, colour] of [[2.4 * hairline, "rgb(0 0 0 / 0.6)"], [1.2 * hairline, colours[point]]]) {
      context.lineWidth = line;
      context.strokeStyle = colour;
      context.beginPath();
      context.arc(x, y, Math.max(1.4 * radius, 2.5 * hairline), 0, 2 * Math.PI);
      context.stroke();
    }
  });
}

function drawBox({ context, hairline, span }, [first, second], label, dashed) {
  const [left, right] = [first[0], second[0]].sort((a, b) => a - b);
  const [top, bottom] = [first[1], second[1]];
  const width = Math.max(1.2 * hairline, span / 200);
  // White, with a dark line below it for bright pictures.
  const dash = Math.max(4 * width, span / 24);
  context.setLineDash(dashed ? [dash, dash] : []);
  for (const [line, colour] of [[width + 2 * hairline, "rgb(0 0 0 / 0.45)"], [width, "#ffffff"]]) {
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.strokeRect(left, top, right - left, bottom - top);
  }
  context.setLineDash([]);
  if (!label) return;
  const size = Math.max(13 * hairline, span / 12);
  const height = 1.3 * size;
  // Below the box on the left, where a face has least to cover.
  const place = Math.min(bottom, context.canvas.height - height);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  context.fillStyle = "#ffffff";
  context.fillRect(left, place, context.measureText(label).width + 0.6 * size, height);
  context.fillStyle = "#000000";
  context.fillText(label, left + 0.3 * size, place + 0.2 * size);
}
