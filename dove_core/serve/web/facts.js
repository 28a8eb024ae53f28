// What the images of collections have, so that only filters that can do something are shown; and areas as shapes.

/** Return times, sources, resolutions and tags that images have, and whether any has a place. */
export function factsOf(collections, hits) {
  const starts = collections.flatMap(one => one.extent.temporal.interval.map(([start]) => start)).filter(Boolean).sort();
  const ends = collections.flatMap(one => one.extent.temporal.interval.map(([, end]) => end)).filter(Boolean).sort();
  const gsd = collections.map(one => one.summaries?.gsd).filter(Boolean);
  const tags = new Map();
  for (const hit of hits) for (const [name, value] of Object.entries(hit.tags)) tags.set(`${name}=${value}`, (tags.get(`${name}=${value}`) ?? 0) + 1);
  return {
    interval: [starts[0] ?? "", ends.at(-1) ?? ""],
    sources: [...new Set(collections.flatMap(one => one.summaries?.source ?? []))].sort(),
    gsd: gsd.length ? [Math.min(...gsd.map(one => one.minimum)), Math.max(...gsd.map(one => one.maximum))] : [],
    tags: [...tags].sort((a, b) => b[1] - a[1]).map(([tag]) => tag).filter(tag => !tag.includes(",")),
    located: collections.some(one => one["dove:located"]),
  };
}

/** Return the area of a state as a geometry with its box, or null; one that is not valid is none here. */
export function shapeOf(state) {
  const sides = state.bbox.split(",").map(Number);
  if (sides.length === 4 && sides.every(Number.isFinite)) {
    const [west, south, east, north] = sides, right = west > east ? east + 360 : east;
    return { bbox: [west, south, right, north], geometry: { type: "Polygon", coordinates: [[[west, south], [right, south], [right, north], [west, north], [west, south]]] } };
  }
  try {
    const geometry = JSON.parse(state.intersects), points = geometry.coordinates[0];
    const [xs, ys] = [points.map(point => point[0]), points.map(point => point[1])];
    const bbox = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
    return bbox.every(Number.isFinite) ? { bbox, geometry } : null;
  } catch {
    return null;
  }
}
