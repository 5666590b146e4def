// Glasses and a moustache that follow a face, drawn in a frame that its eyes and mouth span.

/** Numbers of the landmarks that the filter needs, each part with its alternatives; null where a scheme lacks one. */
function partsOf(names) {
  const numbers = (test) => names.flatMap((name, number) => (test(name) ? [number] : []));
  const first = (...tests) => tests.map(numbers).find((found) => found.length) ?? [];
  const parts = {
    left: first((name) => name === "left_pupil", (name) => name.startsWith("left_eye_")),
    right: first((name) => name === "right_pupil", (name) => name.startsWith("right_eye_")),
    nose: first((name) => name === "nose_base", (name) => name === "nose_tip"),
    mouth: numbers((name) => name === "left_mouth_corner" || name === "right_mouth_corner"),
  };
  return Object.values(parts).every((found) => found.length) && parts.mouth.length === 2 ? parts : null;
}

/** Whether the filter can follow faces with these landmarks. */
export const canFilter = (names) => partsOf(names) !== null;

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[][]} points of one face, in canvas pixels; mirrored or not
 * @param {string[]} names of the landmarks
 */
export function drawFilter(context, points, names) {
  const parts = partsOf(names);
  if (!parts) return;
  const [left, right, nose, mouth] = ["left", "right", "nose", "mouth"].map((part) => middle(parts[part].map((number) => points[number])));
  const eyes = middle([left, right]);
  const across = [right[0] - left[0], right[1] - left[1]];
  const down = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
  // Units from here on: the way from eye to eye, and from the eyes to the mouth; so all turns, leans and shrinks with the face.
  const from = ([x, y]) => context.setTransform(...across, ...down, x, y);
  context.save();
  context.lineCap = context.lineJoin = "round";
  from(eyes);
  glasses(context);
  // Between nose and lip, a little nearer to whichever is told more exactly.
  from(middle(names.includes("nose_base") ? [nose, nose, mouth] : [nose, mouth]));
  moustache(context);
  context.restore();
}

function glasses(context) {
  context.strokeStyle = "#1b1b1f";
  context.fillStyle = "rgb(70 110 150 / 0.25)";
  context.lineWidth = 0.055;
  for (const side of [-1, 1]) {
    context.beginPath();
    context.ellipse(0.5 * side, 0.04, 0.33, 0.27, 0, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
    context.beginPath();
    context.moveTo(0.83 * side, -0.02);
    context.lineTo(1.02 * side, -0.06);
    context.stroke();
  }
  context.beginPath();
  context.moveTo(-0.17, 0);
  context.quadraticCurveTo(0, -0.1, 0.17, 0);
  context.stroke();
}

function moustache(context) {
  context.fillStyle = "#3a2416";
  context.beginPath();
  context.moveTo(0, -0.07);
  for (const side of [1, -1]) {
    // Out along the upper edge to a tip that curls up, and back along the lower edge to the middle.
    context.bezierCurveTo(0.14 * side, -0.13, 0.3 * side, 0.02, 0.44 * side, 0.03);
    context.bezierCurveTo(0.53 * side, 0.03, 0.58 * side, -0.03, 0.57 * side, -0.11);
    context.bezierCurveTo(0.66 * side, 0.02, 0.56 * side, 0.15, 0.4 * side, 0.15);
    context.bezierCurveTo(0.24 * side, 0.16, 0.1 * side, 0.11, 0, 0.04);
    context.lineTo(0, -0.07);
  }
  context.fill();
}

function middle(places) {
  const sum = (axis) => places.reduce((total, place) => total + place[axis], 0);
  return [sum(0) / places.length, sum(1) / places.length];
}
