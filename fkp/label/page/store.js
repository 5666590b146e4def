// The face that is worked on, and its commands on their way to the disk: in order, one at a time, kept until they are saved.

import { get, post } from "./api.js";

const RETRY_MS = 2000;

export class Store {
  /** @param {{changed: Function, said: Function, saved: Function, trouble: Function}} told what the page does about it */
  constructor(told) {
    this.told = told;
    this.face = null;
    this.held = false; // A pointer holds a point: nothing on the screen may move under it.
    this.last = 0;
    this.waiting = 0;
    this.queue = Promise.resolve();
    this.arrived = null;
  }

  /** Show a face as the server has it. */
  adopt(face) {
    this.face = { ...face, told: face.points.map((point) => ({ ...point })) };
    this.last = Math.max(this.last, face.last);
    this.arrived = null;
    this.told.changed();
  }

  /** The pointer lets go: what came meanwhile is shown. */
  release() {
    this.held = false;
    if (this.arrived && !this.waiting) this.adopt(this.arrived);
  }

  /**
   * Set points: seen at once, saved behind what waits already.
   *
   * @param {string} what in a word
   * @param {object} changes number -> [x, y, state], or null for a point whose guess counts again
   * @param {boolean} done whether the face is finished with that
   */
  set(what, changes, done = false) {
    const face = this.face;
    for (const [number, value] of Object.entries(changes)) {
      if (value) face.points[number] = { x: value[0], y: value[1], state: value[2], r: null, how: "set" };
    }
    this.told.changed();
    const before = Object.fromEntries(Object.keys(changes).map((number) => [number, this.base?.[number]]));
    return this.#send(face, async () => {
      const body = () => ({ version: face.version, do: what, points: changes, done });
      try {
        return await post(`faces/${face.id}/points`, body());
      } catch (error) {
        if (error.status !== 409) throw error;
        const theirs = await get(`faces/${face.id}`);
        const same = (number) => sameAs(theirs.points[number], before[number]);
        face.version = theirs.version;
        if (Object.keys(changes).every(same)) return await post(`faces/${face.id}/points`, body());
        this.told.said("Another window has set this point, too: that is shown now, and yours was not saved.");
        return theirs;
      }
    });
  }

  /** Say anything else of the face: box, group, done, removed. */
  tell(change) {
    const face = this.face;
    return this.#send(face, async () => {
      try {
        return await post(`faces/${face.id}`, { version: face.version, ...change });
      } catch (error) {
        if (error.status !== 409) throw error;
        face.version = (await get(`faces/${face.id}`)).version;
        return await post(`faces/${face.id}`, { version: face.version, ...change });
      }
    });
  }

  /** Draw a face that was missed. */
  add(photo, box) {
    return this.#send(null, () => post("faces", { photo, box }));
  }

  /** Label the face once more. */
  again() {
    const { id } = this.face;
    return this.#send(null, () => post(`faces/${id}/again`, {}));
  }

  /** Take the last command back, or do it again, behind what waits; the face that it was about, null for none. */
  async step(way) {
    const answer = await this.#send(null, async () => {
      try {
        const { face } = await post(way, { last: this.last });
        if (!face) this.told.said(way === "undo" ? "There is nothing to undo." : "There is nothing to redo.");
        return face ?? { last: this.last };
      } catch (error) {
        if (error.status !== 409) throw error;
        this.told.said(`Another window has worked meanwhile, and this one shows it now: press ${way} again for its last change.`);
        return { last: (await get("summary")).last };
      }
    });
    if (!answer.id && this.face) this.adopt(await get(`faces/${this.face.id}`));
    return answer.id ? answer : null;
  }

  /** What the points of the face were when the server told them last. */
  get base() {
    return this.face?.told;
  }

  #send(face, ask) {
    this.waiting += 1;
    this.told.saved(this.waiting);
    const sent = this.queue.then(async () => {
      try {
        return this.#took(face, await this.#insist(ask));
      } finally {
        this.waiting -= 1;
        this.told.saved(this.waiting);
      }
    });
    this.queue = sent.catch(() => {});
    return sent;
  }

  /** Ask until the server takes it: it may be restarted, and a disk may be made free. */
  async #insist(ask) {
    for (;;) {
      try {
        const answer = await ask();
        this.told.trouble("");
        return answer;
      } catch (error) {
        if (error.status !== 0 && error.status !== 507) {
          this.told.trouble(error.message);
          if (this.face) this.adopt(await get(`faces/${this.face.id}`));
          throw error;
        }
        this.told.trouble(`${error.message} This page tries again until it is saved: leave it open.`);
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #took(face, answer) {
    this.last = Math.max(this.last, answer.last);
    if (!face || face !== this.face) return answer;
    face.version = answer.version;
    if (this.waiting > 1) return answer; // Later changes are on the screen already.
    if (this.held) this.arrived = answer;
    else this.adopt(answer);
    return answer;
  }
}

function sameAs(theirs, mine) {
  return Boolean(mine) && theirs.how === mine.how && (theirs.how === null || (theirs.x === mine.x && theirs.y === mine.y && theirs.state === mine.state));
}
