// The page: what the reader does, and what then happens.

import { Api } from "./api.js";
import { Camera, whyNoCamera } from "./camera.js";
import { element, flattenMetrics, renderMarkdown } from "./card.js";
import { draw } from "./draw.js";
import { canFilter } from "./filter.js";
import { Follower } from "./follow.js";
import { describe, faceRows, formatJson, measureRows, regionItems, timing } from "./result.js";

const find = (id) => document.getElementById(id);
const api = new Api(askToken);
const camera = new Camera(find("video"));

/** What is on the canvas; null before the first image. */
let scene = null;
/** Ends the request of the image before. */
let running = new AbortController();

// ---- pictures ----

async function openPicture(file) {
  stopCamera();
  const { signal } = startTask();
  if (!file.type.startsWith("image/")) return fail(new Error(`${file.name} is not an image: choose a JPEG, PNG or WebP file.`));
  try {
    say(`Reading ${file.name}.`, "busy");
    const picture = await decode(file);
    if (signal.aborted) return;
    show({ picture, name: file.name, answer: null, tables: null, mirrored: false });
    say("Looking for faces.", "busy");
    await ask(file, signal);
    say(`${describe(scene.answer)}${doubt(scene)}`);
  } catch (error) {
    fail(error);
  }
}

/** The image as displayed: browsers and the server both apply its EXIF orientation. */
async function decode(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch (error) {
    throw new Error(`The browser cannot show ${file.name}: choose a whole JPEG, PNG or WebP file.`, { cause: error });
  }
}

/** Ask the server about an encoded image and show its answer on `next`, by default on the image that is there. */
async function ask(encoded, signal, next = scene, follower = null) {
  const started = performance.now();
  const asked = [api.landmarks(), api.keypoints(encoded, signal, follower?.boxes(started)), follower ? limit() : 0];
  let [tables, answer, minQuality] = await Promise.all(asked);
  // Two models may have as many landmarks, and mean others.
  if (answer.model.digest !== tables.digest) {
    tables = await api.landmarks(true);
    if (follower) minQuality = await limit(true);
  }
  signal.throwIfAborted();
  const ended = performance.now();
  if (follower) answer = follower.take(answer, minQuality, ended);
  const rate = follower?.framesPerSecond;
  find("rate").textContent = `${rate ? `${rate.toFixed(1)} frames/s, ` : ""}${timing(answer, ended - started)}`;
  show({ ...next, answer, tables });
}

/** The least quality at which the model believes a face; asked for once, and anew where the model has changed. */
let leastQuality = null;
async function limit(anew = false) {
  if (anew || leastQuality === null) leastQuality = (await api.model()).min_quality;
  return leastQuality;
}

/** A sentence where the two sides do not see the same image, for then the points are elsewhere. */
function doubt({ picture, answer: { image } }) {
  if (image.width === picture.width && image.height === picture.height) return "";
  const [theirs, ours] = [image, picture].map(({ width, height }) => `${width} × ${height}`);
  return ` The server sees ${theirs} pixels and this browser ${ours}: the drawing may be off.`;
}

function startTask() {
  running.abort();
  running = new AbortController();
  return running;
}

// ---- camera ----

async function startCamera() {
  const { signal } = startTask();
  try {
    say("Opening the camera.", "busy");
    find("camera").disabled = true; // One question for permission at a time.
    await camera.start().finally(() => (find("camera").disabled = false));
    if (signal.aborted) return camera.stop();
    labelCamera();
    await follow(signal);
  } catch (error) {
    if (!signal.aborted) stopCamera();
    fail(error);
  }
}

/** One image at a time: the next is taken when the answer to the last one is on the screen. */
async function follow(signal) {
  const follower = new Follower();
  while (!signal.aborted) {
    const { picture, jpeg } = await camera.take();
    try {
      await ask(jpeg, signal, { picture, name: "camera.jpg", mirrored: camera.facesUser }, follower);
      say(describe(scene.answer));
    } catch (error) {
      if (!error.isBusy) throw error;
      say("The server is busy: the camera waits for it.");
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(0.1, error.retryAfterSeconds ?? 1)));
    }
    await new Promise(requestAnimationFrame);
  }
}

function stopCamera() {
  if (!camera.isOn) return;
  running.abort();
  camera.stop();
  labelCamera();
}

function labelCamera() {
  find("camera").textContent = camera.isOn ? "Stop camera" : "Start camera";
  find("camera").setAttribute("aria-pressed", camera.isOn);
  if (scene) show(scene);
}

// ---- what is seen ----

function show(next) {
  scene = next;
  const { answer, tables, name } = scene;
  find("empty").hidden = true;
  find("canvas").hidden = false;
  find("canvas").setAttribute("aria-label", answer ? `${name}: ${describe(answer)}` : name);
  find("download").disabled = !answer || camera.isOn;
  find("result").hidden = find("legend").hidden = !answer;
  find("no-result").hidden = Boolean(answer);
  if (answer) {
    find("faces").tBodies[0].replaceChildren(...faceRows(answer));
    find("measures").tBodies[0].replaceChildren(...measureRows(answer));
    find("regions").replaceChildren(...regionItems(answer, tables));
    find("json").value = formatJson(answer);
    const filter = find("layers").elements.filter;
    filter.disabled = !canFilter(tables.landmarks);
    filter.parentElement.title = filter.disabled ? "The model's landmarks lack an eye, the nose or the mouth." : "";
  }
  paint();
}

/** Fit the image into the stage, in pixels of the screen, so that lines stay sharp. */
function paint() {
  if (!scene) return;
  const { picture, mirrored } = scene;
  const room = { width: find("stage").clientWidth, height: Math.max(240, 0.62 * window.innerHeight) };
  const zoom = Math.min(room.width / picture.width, room.height / picture.height, 4);
  const density = window.devicePixelRatio || 1;
  const canvas = find("canvas");
  canvas.style.width = `${picture.width * zoom}px`;
  canvas.style.height = `${picture.height * zoom}px`;
  canvas.width = Math.round(picture.width * zoom * density);
  canvas.height = Math.round(picture.height * zoom * density);
  draw(canvas, scene, { layers: layers(), mirrored, hairline: density });
}

function layers() {
  return Object.fromEntries([...find("layers").elements].filter((box) => box.name).map((box) => [box.name, box.checked]));
}

/** Tell what happens. The line is read aloud, so the same text is not set twice. */
function say(text, kind = "done") {
  const status = find("status");
  if (status.textContent !== text) status.textContent = text;
  status.dataset.kind = kind;
  find("stage").setAttribute("aria-busy", kind === "busy");
}

function fail(error) {
  if (error.name === "AbortError") return; // Something newer has taken its place and speaks for itself.
  find("rate").textContent = "";
  say(error.message, "error");
}

// ---- taking it away ----

/** The drawing in the image's own pixels, as a PNG; never mirrored, so that it fits the JSON. */
async function download() {
  const canvas = document.createElement("canvas");
  canvas.width = scene.picture.width;
  canvas.height = scene.picture.height;
  draw(canvas, scene, { layers: layers(), mirrored: false, hairline: Math.max(1, Math.max(canvas.width, canvas.height) / 1000) });
  const png = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!png) return say("This browser cannot save an image of this size: choose a smaller one.", "error");
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(png),
    download: `${scene.name.replace(/\.[^.]*$/, "")}.landmarks.png`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  say(`${link.download} is saved.`);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(find("json").value);
    say("The JSON is copied.");
  } catch {
    // Without HTTPS, or against the reader's settings, a page may not write to the clipboard.
    find("json").select();
    say("The browser does not let this page copy: the JSON is selected, press Ctrl+C.");
  }
}

// ---- model and token ----

async function showModel() {
  try {
    const { name, version, digest, card, metrics } = await api.model();
    find("model").textContent = `${name}, version ${version}, ${String(digest).slice(0, 12)}`;
    find("card").replaceChildren(...renderMarkdown(card));
    const rows = flattenMetrics(metrics).map(([key, text]) => element("tr", element("th", key), element("td", text)));
    find("metrics").querySelector("tbody").replaceChildren(...rows);
    find("metrics").hidden = !rows.length;
  } catch (error) {
    find("card").replaceChildren(element("p", error.message));
  }
}

function askToken(refused) {
  const dialog = find("token-dialog");
  find("token").value = "";
  if (refused) find("token-note").textContent = "The server refused that token. Please try again.";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const close = () => {
      const token = find("token").value.trim();
      find("token").value = "";
      resolve(dialog.returnValue === "given" && token ? token : null);
    };
    dialog.addEventListener("close", close, { once: true });
  });
}

// ---- events ----

find("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) openPicture(file);
  event.target.value = ""; // So that the same file can be chosen again.
});
find("camera").addEventListener("click", () => {
  if (!camera.isOn) return startCamera();
  stopCamera();
  say("The camera is off.");
});
find("download").addEventListener("click", download);
find("copy").addEventListener("click", copy);
find("layers").addEventListener("change", paint);
window.addEventListener("resize", paint);

document.addEventListener("visibilitychange", () => {
  if (!document.hidden || !camera.isOn) return;
  stopCamera();
  say("The camera was stopped because the page was hidden.");
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) openPicture(file);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // Also beside the stage: else the browser would leave the page for the image.
    find("stage").classList.toggle("over", kind === "dragover");
    const [file] = kind === "drop" ? event.dataTransfer.files : [];
    if (file) openPicture(file);
  });
}

const reason = whyNoCamera();
find("camera").disabled = reason !== null;
find("camera-note").textContent = reason ?? "";
showModel();
