// Writes dove_core/serve/web/vendor/: MapLibre GL, the font, and coasts, borders and names of countries of Natural Earth.
//
//     cd docs/serving && npm install --no-save maplibre-gl@6.17.0 world-atlas@2.0.2 topojson-client@3.1.0 \
//         topojson-simplify@3.0.3 @fontsource-variable/instrument-sans@5 && node write_basemap.mjs
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { feature, mesh } from "topojson-client";
import { presimplify, simplify } from "topojson-simplify";

const MODULES = "node_modules", OUT = "../../dove_core/serve/web/vendor";
const LEAST_AREA = 0.003; // square degrees: triangles of three points that are smaller lose their middle point

mkdirSync(OUT, { recursive: true });
for (const [from, to] of [
  ["maplibre-gl/dist/maplibre-gl.mjs", "maplibre-gl.mjs"],
  ["maplibre-gl/dist/maplibre-gl-worker.mjs", "maplibre-gl-worker.mjs"],
  ["maplibre-gl/dist/maplibre-gl.css", "maplibre-gl.css"],
  ["maplibre-gl/LICENSE.txt", "maplibre-gl.LICENSE.txt"],
  ["@fontsource-variable/instrument-sans/files/instrument-sans-latin-wght-normal.woff2", "instrument-sans.woff2"],
  ["@fontsource-variable/instrument-sans/LICENSE", "instrument-sans.LICENSE.txt"],
  ["world-atlas/LICENSE", "world-atlas.LICENSE.txt"],
]) copyFileSync(`${MODULES}/${from}`, `${OUT}/${to}`);

const topology = JSON.parse(readFileSync(`${MODULES}/world-atlas/countries-50m.json`));
const world = simplify(presimplify(topology), LEAST_AREA);

// Rings of Natural Earth go on over the 180th meridian; here they are unrolled, closed over a pole, and cut there.
function unrolled(ring) {
  let shift = 0;
  const points = ring.map(([x, y], k) => {
    if (k) { const step = x - ring[k - 1][0]; shift += step > 180 ? -360 : step < -180 ? 360 : 0; }
    return [x + shift, y];
  });
  const [first, last] = [points[0], points.at(-1)];
  if (Math.abs(last[0] - first[0]) < 180) return points;
  const pole = first[1] < 0 ? -90 : 90;
  return [...points, [last[0], pole], [first[0], pole], first];
}
function clipped(points, side, isInside) {
  return points.flatMap((point, k) => {
    const before = points[(k || points.length) - 1], crosses = isInside(point[0]) !== isInside(before[0]);
    const cut = crosses ? [[side, before[1] + (side - before[0]) / (point[0] - before[0]) * (point[1] - before[1])]] : [];
    return isInside(point[0]) ? [...cut, point] : cut;
  });
}
function cut(polygon) {
  const rings = polygon.map(unrolled);
  return [-360, 0, 360].flatMap(turn => {
    const inside = rings.map(ring => clipped(clipped(ring.map(([x, y]) => [x + turn, y]), -180, x => x >= -180), 180, x => x <= 180)).filter(ring => ring.length > 2);
    return inside.length ? [inside.map(ring => [...ring, ring[0]])] : [];
  });
}
// Lines lose the steps from one side of the globe to the other.
const split = lines => lines.flatMap(line => {
  const parts = [[line[0]]];
  for (let k = 1; k < line.length; k++) {
    if (Math.abs(line[k][0] - line[k - 1][0]) > 180) parts.push([]);
    parts.at(-1).push(line[k]);
  }
  return parts.filter(part => part.length > 1);
});
const border = { type: "Feature", properties: { kind: "border" }, geometry: { type: "MultiLineString", coordinates: split(mesh(world, world.objects.countries, (one, other) => one !== other).coordinates) } };

// The point of a country's name: the middle of the widest stretch of land along parallels of its largest polygon.
function namePoint(geometry) {
  const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
  const area = ring => Math.abs(ring.reduce((sum, [x, y], k) => { const [u, v] = ring[(k + 1) % ring.length]; return sum + x * v - u * y; }, 0)) / 2;
  const ring = polygons.map(polygon => polygon[0]).sort((a, b) => area(b) - area(a))[0];
  const ys = ring.map(point => point[1]), low = Math.min(...ys), high = Math.max(...ys);
  let best = { width: -1 };
  for (let k = 3; k <= 7; k++) {
    const y = low + (high - low) * k / 10;
    const xs = ring.flatMap(([x, v], n) => { const [u, w] = ring[(n + 1) % ring.length]; return (v > y) !== (w > y) ? [x + (y - v) / (w - v) * (u - x)] : []; }).sort((a, b) => a - b);
    for (let n = 0; n + 1 < xs.length; n += 2) if (xs[n + 1] - xs[n] > best.width) best = { width: xs[n + 1] - xs[n], point: [(xs[n] + xs[n + 1]) / 2, y] };
  }
  return { ...best, area: polygons.reduce((sum, polygon) => sum + area(polygon[0]), 0) };
}

const names = feature(topology, topology.objects.countries).features.flatMap(country => {
  const { point, area } = namePoint(country.geometry);
  const zoom = area > 250 ? 2 : area > 60 ? 3 : area > 15 ? 4 : area > 2 ? 5 : 6;
  return point && country.properties.name ? [{ type: "Feature", properties: { name: country.properties.name, zoom }, geometry: { type: "Point", coordinates: point } }] : [];
});
const land = {
  type: "Feature", properties: { kind: "land" },
  geometry: { type: "MultiPolygon", coordinates: feature(world, world.objects.land).features[0].geometry.coordinates.flatMap(cut) },
};
const round = (key, value) => (typeof value === "number" && !Number.isInteger(value) ? Math.round(value * 100) / 100 : value);
writeFileSync(`${OUT}/world.json`, JSON.stringify({ type: "FeatureCollection", features: [land, border, ...names] }, round));
