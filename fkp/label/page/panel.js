// What stands beside the photograph: the queue, what the labels are worth, and the adaptation.

import { get, post, remove } from "./api.js";
import { changedFaces } from "./changed.js";

const find = (id) => document.getElementById(id);
const PAGE = 40;

export class Panel {
  /** @param {(face: string) => void} open shows a face */
  constructor(open) {
    this.open = open;
    this.start = 0;
    this.shown = null;
    this.running = false;
    this.compared = ""; // Of which adaptation, and of which quarter of the photographs, the changed faces are shown.
    find("earlier").addEventListener("click", () => this.list(this.start - PAGE));
    find("later").addEventListener("click", () => this.list(this.start + PAGE));
    find("adapt").addEventListener("click", () => this.#ask(() => post("adapt", { ways: find("ways").value ? [find("ways").value] : [] })));
    find("stop").addEventListener("click", () => this.#ask(() => remove("adapt")));
  }

  /** The part of the list around a face. */
  around({ id, place }) {
    this.shown = id;
    const start = place === null ? this.start : Math.floor(place / PAGE) * PAGE;
    return this.list(start);
  }

  async list(start) {
    this.start = Math.max(0, start);
    const { faces } = await get(`queue?start=${this.start}&count=${PAGE}`);
    find("queue").replaceChildren(...faces.map((face) => this.#row(face)));
    find("earlier").disabled = this.start === 0;
    find("later").disabled = faces.length < PAGE;
    find("queue").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  #row({ id, photo, done, removed, blind, pct, place }) {
    const button = document.createElement("button");
    button.type = "button";
    const [name, state] = [document.createElement("span"), document.createElement("span")];
    name.textContent = `${place + 1}. ${photo}`;
    state.textContent = removed ? "no face" : done ? "\u2713" : blind ? "blind" : pct === null ? "" : `${pct.toFixed(1)} %`;
    if (done) state.setAttribute("aria-label", "finished");
    button.append(name, state);
    if (id === this.shown) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => this.open(id));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  async summary() {
    const told = await get("summary");
    const looking = told.looked < told.photos ? `; the model has looked at ${told.looked} of ${told.photos} photographs` : "";
    const ordering = told.ordering_pct === null ? "" : `; they are put in order, ${told.ordering_pct} %`;
    find("progress").textContent = `${told.done} of ${told.faces} faces are finished${looking}${ordering}. Set: ${told.out}`;
    find("model").textContent = `Guesses: ${told.model}`;
    find("forecast").textContent = told.forecast;
    find("blind").textContent = blindText(told.statistics.blind);
    const warnings = [...told.warnings, ...told.faults, ...(told.broken > told.faults.length ? [`${told.broken} photographs in all cannot be used.`] : [])];
    find("warnings").replaceChildren(...warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    find("without").hidden = !told.without;
    find("without").textContent = `${told.without} photographs without a face`;
    this.#adapting(told);
    this.#compare(told).catch(() => {}); // Asked again after the next quarter; what the server has to say stands in the summary.
    return told;
  }

  async #compare({ adapting, looked, photos }) {
    const now = adapting.written ? `${adapting.out} ${Math.floor((4 * looked) / photos)}` : "";
    if (now === this.compared) return;
    this.compared = now;
    const faces = now ? await get("changed") : [];
    const items = await changedFaces(faces, this.open);
    if (now !== this.compared) return;
    find("changed").hidden = !items.length;
    find("changed").querySelector("ul").replaceChildren(...items);
  }

  #adapting({ adapting, serve }) {
    const { state, step, pct, spans, helps, written } = adapting;
    const ended = this.running && state !== "running";
    this.running = state === "running";
    find("adapt").disabled = this.running;
    find("stop").hidden = !this.running;
    find("bar").hidden = !this.running;
    if (pct === null) find("bar").removeAttribute("value");
    else find("bar").value = pct;
    const said = {
      idle: "",
      running: `Adapting: ${step}.`,
      failed: `The model was not adapted: ${step}`,
      done: written ? "Done: the guesses and the order are the new model's." : "Done, and it does not help yet: no model was written. Label more faces.",
    }[state];
    if (find("adapting").textContent !== said) find("adapting").textContent = said;
    find("outcome").hidden = !spans;
    if (spans) find("outcome").querySelector("tbody").replaceChildren(...spanRows(spans, helps));
    find("serve").textContent = written ? `Serve it: ${serve}` : "";
    if (ended) this.ended?.();
  }

  async #ask(request) {
    try {
      await request();
    } catch (error) {
      find("adapting").textContent = error.message;
      return;
    }
    await this.summary();
  }
}

function blindText({ faces, nme_pct: nme, low, high, in_circle_pct: inside }) {
  if (!faces) return "No face was labelled blind yet: only these measure the model.";
  const span = low === null ? "" : ` (${low.toFixed(2)} to ${high.toFixed(2)})`;
  const circle = inside === null ? "" : ` ${inside.toFixed(0)} % of the points lay in their 90 % circle.`;
  return `${faces} faces labelled blind: the models were off by ${nme.toFixed(2)} %${span} of the face's size.${circle}`;
}

function spanRows(spans, helps) {
  const rows = Object.entries(spans).filter(([, span]) => span);
  return [
    ...rows.map(([name, { nme_pct: mean, low, high }]) => [name, `${mean.toFixed(2)} % (${low.toFixed(2)} to ${high.toFixed(2)})`]),
    ["helps", helps ? "yes" : "not beyond chance"],
  ].map(([name, text]) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { textContent: name }), Object.assign(document.createElement("td"), { textContent: text }));
    return row;
  });
}
