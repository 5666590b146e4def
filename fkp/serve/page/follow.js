// Which boxes go along with the camera's next image, so that the server need not look for faces it has just found.

/** New faces are looked for so long after the last look, as in videos; at least every other image is followed, however slow the server. */
const LOOK_EVERY_MS = 500;
/** The server takes no more boxes. */
const MOST_FACES = 32;
/** A face that is smaller is looked for anew. */
const LEAST_SIDE_PX = 8;

export class Follower {
  #boxes = [];
  #looks = true;
  #lookedAt = -Infinity;
  #shownAt = [];

  /** Boxes [x0, y0, x1, y1] for an image taken now; none where the server is to look for faces. */
  boxes(now) {
    if (now - this.#lookedAt >= LOOK_EVERY_MS) this.#boxes = [];
    this.#looks = !this.#boxes.length;
    return this.#boxes;
  }

  /**
   * Take the answer to such an image, and return it with the faces that the model believes: in a box that is given the server leaves
   * out none. Where one is lost the next image is looked at as a whole.
   */
  take(answer, minQuality, now) {
    const faces = answer.faces.filter((face) => face.quality >= minQuality);
    const boxes = faces.map((face) => tight(face.keypoints));
    const good = faces.length === answer.faces.length && faces.length <= MOST_FACES && boxes.every(isLarge);
    this.#boxes = good ? boxes : [];
    if (this.#looks) this.#lookedAt = now;
    this.#shownAt = [...this.#shownAt.filter((then) => now - then < 1000), now];
    return { ...answer, faces };
  }

  /** Images a second over the last second; null before there are two. */
  get framesPerSecond() {
    const [first, last] = [this.#shownAt[0], this.#shownAt.at(-1)];
    return last > first ? (1000 * (this.#shownAt.length - 1)) / (last - first) : null;
  }
}

function tight(points) {
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

const isLarge = ([x0, y0, x1, y1]) => Math.min(x1 - x0, y1 - y0) >= LEAST_SIDE_PX;
