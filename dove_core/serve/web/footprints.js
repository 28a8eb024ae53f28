// Images in their footprints, once the map is near enough to see something on them.

const LEAST = 48, MOST = 40; // pixels across, images at a time

/** Return the corners of a box, clockwise from the north-west; its middle is between 180 west and 180 east. */
const corners = ([west, south, east, north]) => {
  const width = west > east ? east + 360 - west : east - west;
  if (west + width / 2 >= 180) west -= 360;
  const right = west + width;
  return [[west, north], [right, north], [right, south], [west, south]];
};

/** Keep the images of the hits on a map in view; returns a function to call when the hits have changed. */
export function imagesOn(map, hitsNow) {
  const shown = new Set();

  const wanted = () => {
    const found = new Map(), bounds = map.getBounds(), [low, high] = [bounds.getSouthWest(), bounds.getNorthEast()];
    for (const hit of hitsNow()) {
      const [[west, north], [east]] = corners(hit.bbox), south = hit.bbox[1];
      const isSeen = [-360, 0, 360].some(turn => east + turn > low.lng && west + turn < high.lng);
      if (!isSeen || north < low.lat || south > high.lat) continue;
      if (map.project([east, north]).x - map.project([west, north]).x >= LEAST) found.set(`image ${hit.id}`, hit);
      if (found.size === MOST) break;
    }
    return found;
  };

  const update = () => {
    if (!map.isStyleLoaded()) return void map.once("idle", update);
    const now = wanted();
    for (const name of shown) {
      if (now.has(name)) continue;
      if (map.getLayer(name)) map.removeLayer(name);
      if (map.getSource(name)) map.removeSource(name);
      shown.delete(name);
    }
    for (const [name, hit] of now) {
      if (map.getSource(name)) continue;
      map.addSource(name, { type: "image", url: `${hit.thumbnail}?side=320`, coordinates: corners(hit.bbox) });
      map.addLayer({ id: name, type: "raster", source: name, paint: { "raster-fade-duration": 0 } }, "hits-fill");
      shown.add(name);
    }
  };

  map.on("moveend", update);
  return update;
}
