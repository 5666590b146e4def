// The model card: a small part of Markdown as elements. Text never becomes HTML, so a card cannot bring in a script.

/** An element with children, strings among them. */
export function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

/** Headings, paragraphs, lists, tables and fenced code; anything else stays as it is written. */
export function renderMarkdown(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  const takeWhile = (test) => {
    const taken = [];
    while (lines.length && test(lines[0])) taken.push(lines.shift());
    return taken;
  };
  while (lines.length) {
    const line = lines[0];
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (!line.trim()) {
      lines.shift();
    } else if (heading) {
      lines.shift();
      // The page's own headings stand above those of the card.
      blocks.push(element(`h${Math.min(heading[1].length + 2, 6)}`, ...inline(heading[2])));
    } else if (line.startsWith("```")) {
      lines.shift();
      blocks.push(element("pre", element("code", takeWhile((next) => !next.startsWith("```")).join("\n"))));
      lines.shift();
    } else if (line.startsWith("|")) {
      blocks.push(table(takeWhile((next) => next.startsWith("|"))));
    } else if (ITEM.test(line)) {
      blocks.push(list(takeWhile((next) => ITEM.test(next) || /^\s+\S/.test(next))));
    } else {
      const [first, ...rest] = [lines.shift(), ...takeWhile((next) => next.trim() && !BLOCK.test(next))];
      blocks.push(element("p", ...inline([first, ...rest].join(" "))));
    }
  }
  return blocks;
}

const ITEM = /^(?:[-*]|\d+[.)])\s+/;
const BLOCK = /^(?:#{1,6}\s|```|\||[-*]\s|\d+[.)]\s)/;
const INLINE = /(`[^`]+`)|\*\*([^*]+)\*\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/g;

function inline(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[1]) parts.push(element("code", match[1].slice(1, -1)));
    else if (match[2]) parts.push(element("strong", match[2]));
    else parts.push(Object.assign(element("a", match[3]), { href: match[4], rel: "noopener noreferrer" }));
  }
  return [...parts, text.slice(end)];
}

function list(lines) {
  const items = [];
  for (const line of lines) {
    if (ITEM.test(line)) items.push(line.replace(ITEM, ""));
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  return element(/^\d/.test(lines[0]) ? "ol" : "ul", ...items.map((item) => element("li", ...inline(item))));
}

function table(lines) {
  const rows = lines.map((line) => line.replace(/^\||\|\s*$/g, "").split("|").map((cell) => cell.trim()));
  const isHeaded = rows.length > 1 && rows[1].every((cell) => /^:?-+:?$/.test(cell));
  const row = (name) => (cells) => element("tr", ...cells.map((cell) => element(name, ...inline(cell))));
  const made = element("table");
  if (isHeaded) made.append(element("thead", row("th")(rows[0])));
  made.append(element("tbody", ...rows.slice(isHeaded ? 2 : 0).map(row("td"))));
  return scrolled(made, "Table of the model card");
}

/** A wide table scrolls by itself, by keyboard too, and never the page. */
function scrolled(content, label) {
  const frame = element("div", content);
  frame.className = "scroll";
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", label);
  return frame;
}

/** Nested metrics as rows [dotted name, text], numbers with the unit of their name. */
export function flattenMetrics(metrics, prefix = "") {
  return Object.entries(metrics).flatMap(([key, value]) => {
    const name = prefix + key;
    if (value !== null && typeof value === "object" && !Array.isArray(value)) return flattenMetrics(value, `${name}.`);
    return [[name, Array.isArray(value) ? value.map((part) => format(key, part)).join(", ") : format(key, value)]];
  });
}

function format(key, value) {
  if (typeof value !== "number") return String(value);
  const text = Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  return text + (key.endsWith("_pct") ? " %" : key.endsWith("_px") ? " px" : "");
}
