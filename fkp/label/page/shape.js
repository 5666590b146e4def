// Geometry of points; all in pixels of the photograph.

/** The points that are somewhere: numbers. */
export function placed(points) {
  return points.flatMap((point, number) => (point.x === null || point.state === "missing" ? [] : [number]));
}

/** x0, y0, x1, y1 around some places. */
export function bounds(places) {
  const [xs, ys] = [places.map(([x]) => x), places.map(([, y]) => y)];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** Turn by an angle (radians), scale and move places about their middle. */
export function transformed(places, { angle = 0, scale = 1, by = [0, 0] }) {
  const [x0, y0, x1, y1] = bounds(places);
  const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const [c, s] = [Math.cos(angle) * scale, Math.sin(angle) * scale];
  return places.map(([x, y]) => [mx + c * (x - mx) - s * (y - my) + by[0], my + s * (x - mx) + c * (y - my) + by[1]]);
}

/** The region of a point. */
export function regionOf(tables, number) {
  return tables.regions.find((region) => region.points.includes(number)).points;
}

/** Number of the partner of each point that has one. */
export function partners(tables) {
  return new Map(tables.pairs.flatMap(([left, right]) => [[left, right], [right, left]]));
}

/** Places where both sides have exchanged their names: number -> [x, y, state]. */
export function swapped(points, tables) {
  const changes = {};
  for (const [left, right] of tables.pairs) {
    if (points[left].x === null || points[right].x === null) continue;
    changes[left] = [points[right].x, points[right].y, points[right].state];
    changes[right] = [points[left].x, points[left].y, points[left].state];
  }
  return changes;
}

/** The side of a point, mirrored over the middle of the face, as the places of the other side: number -> [x, y, state]. */
export function mirrored(points, tables, number) {
  const isLeft = tables.pairs.some(([left]) => left === number);
  const pairs = tables.pairs.filter(([left, right]) => points[left].x !== null && points[right].x !== null);
  if (!pairs.length) return {};
  // The axis stands on the mean way from the left to the right one, through the mean middle.
  let [dx, dy, mx, my] = [0, 0, 0, 0];
  for (const [left, right] of pairs) {
    dx += points[right].x - points[left].x;
    dy += points[right].y - points[left].y;
    mx += (points[right].x + points[left].x) / 2 / pairs.length;
    my += (points[right].y + points[left].y) / 2 / pairs.length;
  }
  const length = Math.hypot(dx, dy) || 1;
  [dx, dy] = [dx / length, dy / length];
  const changes = {};
  for (const [left, right] of pairs) {
    const [from, to] = isLeft ? [left, right] : [right, left];
    const away = 2 * ((points[from].x - mx) * dx + (points[from].y - my) * dy);
    changes[to] = [points[from].x - away * dx, points[from].y - away * dy, points[from].state];
  }
  return changes;
}
