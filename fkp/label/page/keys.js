// Every key: what it does, and the sheet that lists them.

/** [keys as written, what they do, action, ...arguments]; the first that fits counts. */
export const KEYS = [
  ["Tab", "next point to look at; at the end, the button Accept", "look", 1],
  ["Shift+Tab", "the point before", "look", -1],
  ["]", "next point by number", "walk", 1],
  ["[", "point before by number", "walk", -1],
  ["Arrow keys", "move the point, the region or the box by a pixel of the screen", null],
  ["Shift+Arrow keys", "by ten; of a box: its size", null],
  ["Alt+Arrow keys", "turn (left, right) and scale (up, down) a region or the shape", null],
  ["Space", "the point is right where it is", "confirm"],
  ["v", "visible, covered, not labelled", "state"],
  ["u", "forget what you have set: the guess counts again", "forget"],
  ["g", "take the point's region: handles move, turn and scale it", "region"],
  ["a", "take the whole shape", "shape"],
  ["Escape", "take one point again; stop drawing a box", "escape"],
  ["x", "swap the names of left and right", "swap"],
  ["m", "mirror the point's side onto the other one", "mirror"],
  ["b", "draw a face: arrow keys and Shift, or drag; Enter adds it", "box"],
  ["Delete", "it is no face", "remove"],
  ["Enter", "accept the face and go to the next", "accept"],
  ["w", "label a finished face once more, with everything hidden: so the page learns how sure you are", "again"],
  ["n", "next face", "next"],
  ["p", "face before", "previous"],
  ["r", "name the group", "group"],
  ["Ctrl+Z", "undo", "undo"],
  ["Ctrl+Shift+Z", "redo", "redo"],
  ["Ctrl+Y", "redo", "redo"],
  ["+", "larger", "zoom", 1.3],
  ["-", "smaller", "zoom", 1 / 1.3],
  ["f", "the whole face", "face"],
  ["0", "the whole photograph", "photo"],
  ["z", "close to the point", "close"],
  ["h", "hide and show the points", "hide"],
  ["?", "this sheet", "help"],
];

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The direction of an arrow key; undefined for another. */
export const arrow = (event) => ARROWS[event.key];

/** The entry of a key press; undefined where it does nothing. */
export function entryOf(event) {
  if (event.altKey) return undefined;
  const control = event.ctrlKey || event.metaKey;
  const name = event.key === " " ? "Space" : event.key === "Backspace" ? "Delete" : event.key;
  const letter = name.length === 1 ? name.toLowerCase() : name;
  return KEYS.find(([keys, , action]) => {
    const parts = keys === "+" ? ["+"] : keys.split("+");
    const own = parts.at(-1);
    if (!action || parts.includes("Ctrl") !== control) return false;
    const shifted = parts.includes("Shift");
    const heeds = control || own === "Tab"; // "?" needs Shift on most keyboards, "+" on some.
    return (!heeds || shifted === event.shiftKey) && (own.length === 1 ? own.toLowerCase() === letter : own === name);
  });
}

/** Rows of the sheet. */
export function keyRows() {
  return KEYS.map(([keys, about]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    const key = document.createElement("kbd");
    key.textContent = keys;
    head.append(key);
    const cell = document.createElement("td");
    cell.textContent = about;
    row.append(head, cell);
    return row;
  });
}
