// How the map looks: land, borders and names of Natural Earth, then the hits; in light or dark colours.

const COLOURS = {
  light: { sea: "#e6ecee", land: "#f7f5f0", border: "#d3cdc1", coast: "#c5cccd", name: "#8f897e", halo: "#f7f5f0", accent: "#c2410c", rim: "#ffffff", lit: "#1a1917" },
  dark: { sea: "#0f1214", land: "#22211f", border: "#3d3a36", coast: "#343a3d", name: "#85807a", halo: "#22211f", accent: "#ff8a4c", rim: "#141413", lit: "#ffffff" },
};
const EMPTY = { type: "FeatureCollection", features: [] };
const state = (lit, chosen, other) => ["case", ["boolean", ["feature-state", "chosen"], false], chosen, ["boolean", ["feature-state", "lit"], false], lit, other];

/** Return the style of the map; `tiles` is an address with {z}, {x} and {y}, or empty. */
export function styleOf(isDark, world, tiles) {
  const c = COLOURS[isDark ? "dark" : "light"];
  const kind = name => ["==", ["get", "kind"], name];
  return {
    version: 8,
    sources: {
      world: { type: "geojson", data: world, tolerance: 0.3, maxzoom: 8 },
      hits: { type: "geojson", data: EMPTY, promoteId: "number", maxzoom: 18 },
      places: { type: "geojson", data: EMPTY, promoteId: "number" },
      area: { type: "geojson", data: EMPTY },
      ...(tiles ? { tiles: { type: "raster", tiles: [tiles], tileSize: 256 } } : {}),
    },
    layers: [
      { id: "sea", type: "background", paint: { "background-color": c.sea } },
      { id: "land", type: "fill", source: "world", filter: kind("land"), paint: { "fill-color": c.land } },
      { id: "coast", type: "line", source: "world", filter: kind("land"), paint: { "line-color": c.coast, "line-width": 0.8 } },
      { id: "borders", type: "line", source: "world", filter: kind("border"), paint: { "line-color": c.border, "line-width": 0.8 } },
      ...(tiles ? [{ id: "tiles", type: "raster", source: "tiles" }] : []),
      {
        id: "names", type: "symbol", source: "world", filter: ["all", ["has", "zoom"], ["<=", ["get", "zoom"], ["+", ["zoom"], 0.5]]],
        layout: { "text-field": ["get", "name"], "text-font": ["Instrument Sans"], "text-size": 11.5, "text-letter-spacing": 0.06, "text-max-width": 7 },
        paint: { "text-color": c.name, "text-halo-color": c.halo, "text-halo-width": 1.2 },
      },
      { id: "area-fill", type: "fill", source: "area", filter: ["==", ["geometry-type"], "Polygon"], paint: { "fill-color": c.lit, "fill-opacity": 0.05 } },
      { id: "area-line", type: "line", source: "area", paint: { "line-color": c.lit, "line-width": 1.5, "line-dasharray": [3, 2] } },
      { id: "area-corners", type: "circle", source: "area", filter: ["==", ["geometry-type"], "Point"], paint: { "circle-radius": 4, "circle-color": c.rim, "circle-stroke-color": c.lit, "circle-stroke-width": 1.5 } },
      { id: "hits-fill", type: "fill", source: "hits", paint: { "fill-color": c.accent, "fill-opacity": state(0.3, 0.12, 0.1) } },
      { id: "hits-line", type: "line", source: "hits", paint: { "line-color": state(c.lit, c.lit, c.accent), "line-width": state(2.5, 2.5, 1.2) } },
      {
        id: "places", type: "circle", source: "places",
        layout: { "circle-sort-key": ["-", 0, ["get", "number"]] },
        paint: {
          "circle-color": c.accent, "circle-stroke-color": state(c.lit, c.lit, c.rim), "circle-stroke-width": state(2.5, 3, 1.2),
          "circle-radius": ["interpolate", ["linear"], ["zoom"], 2, state(7.5, 8.5, 4.5), 8, state(8.5, 9.5, 6)],
          "circle-opacity": ["interpolate", ["linear"], ["zoom"], 11, 1, 13, 0],
          "circle-stroke-opacity": ["interpolate", ["linear"], ["zoom"], 11, 1, 13, 0],
        },
      },
    ],
  };
}
