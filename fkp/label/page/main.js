// The page: keys, buttons, and how it begins.

import { act, flush, nudge } from "./actions.js";
import { get, remembered } from "./api.js";
import "./hands.js";
import { arrow, entryOf, keyRows } from "./keys.js";
import { changed, fail, find, open, page, paint, panel, picture, say, store, view } from "./screen.js";

const { canvas } = view;

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
    act("photo");
    act("box");
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
      await open(wanted).catch(() => act("next"));
      break;
    }
    if (told.looked >= told.photos) {
      say(told.faces ? "All faces are finished." : "The model has found no face: draw one on the photographs that are listed.");
      break;
    }
    say("The model looks at the first photographs.");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  setInterval(() => panel.summary().catch(fail), 1500);
}

begin().catch(fail);

export { page, store, view };
