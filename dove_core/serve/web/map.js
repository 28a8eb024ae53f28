// The map: footprints and centres of hits; it lights and chooses what the grid does, and the other way round.

import * as maplibre from "./vendor/maplibre-gl.mjs";
import { json } from "./api.js";
import { draw } from "./draw.js";
import { imagesOn } from "./footprints.js";
import { styleOf } from "./style.js";

const WORLD = new URL("./vendor/world.json", import.meta.url);
const CALM = matchMedia("(prefers-reduced-motion: reduce)"), DARK = matchMedia("(prefers-color-scheme: dark)");
const LIMITS = { maxZoom: 13, padding: { top: 56, bottom: 40, left: 40, right: 40 } };

export const centreOf = ([west, south, east, north]) => [(west + east + (west > east ? 360 : 0)) / 2, (south + north) / 2];

/** Return the box around boxes; it may reach over the 180th meridian if that makes it narrower. */
function around(boxes) {
  const turned = shift => boxes.map(([west, south, east, north]) => {
    const left = west < shift ? west + 360 : west;
    return [left, south, left + ((east - west + 360) % 360), north];
  });
  const bounds = all => [Math.min(...all.map(b => b[0])), Math.min(...all.map(b => b[1])), Math.max(...all.map(b => b[2])), Math.max(...all.map(b => b[3]))];
  const [plain, shifted] = [bounds(turned(-180)), bounds(turned(0))];
  return shifted[2] - shifted[0] < plain[2] - plain[0] ? shifted : plain;
}

export class HitMap {
  #map;
  #on;
  #hits = [];
  #state = {};
  #area = null;
  #ready;
  #images;

  /** `on` has hover(id), choose(id) and area(name, value); tiles is the address of a base map, or empty. */
  constructor(container, on, tiles) {
    this.#on = on;
    this.#map = new maplibre.Map({
      container, style: { version: 8, sources: {}, layers: [] }, center: [10, 25], zoom: 1.2, minZoom: -1, maxZoom: 19,
      attributionControl: false, dragRotate: false, pitchWithRotate: false, touchPitch: false, fadeDuration: 0,
      transformConstrain: ({ lng, lat }, zoom) => ({ center: new maplibre.LngLat(lng, Math.max(-85, Math.min(85, lat))), zoom: zoom ?? 0 }),
    });
    this.#map.touchZoomRotate.disableRotation();
    this.#map.addControl(new maplibre.NavigationControl({ showCompass: false }), "bottom-right");
    this.#map.addControl(new maplibre.ScaleControl({ maxWidth: 90 }), "bottom-left");
    this.#ready = this.#prepare(tiles);
    container.hitMap = this; // for those who look at the page from outside: a console, a test
  }

  async #prepare(tiles) {
    const world = await json(WORLD);
    const dress = () => {
      this.#map.setStyle(styleOf(DARK.matches, world, tiles), { diff: false });
      this.#map.once("style.load", () => this.#fill());
    };
    await new Promise(done => { dress(); this.#map.once("style.load", done); });
    DARK.addEventListener("change", dress);
    this.#images = imagesOn(this.#map, () => this.#hits);
    this.#listen();
  }

  #listen() {
    const map = this.#map, here = { layers: ["places", "hits-fill"] };
    map.on("mousemove", event => {
      const [found] = this.drawing ? [] : map.queryRenderedFeatures(event.point, here);
      map.getCanvas().style.cursor = this.drawing ? "crosshair" : found ? "pointer" : "";
      this.#on.hover(found ? this.#hits[found.properties.number].id : "");
    });
    map.on("mouseout", () => this.#on.hover(""));
    map.on("click", event => {
      const [found] = this.drawing ? [] : map.queryRenderedFeatures(event.point, here);
      if (found) this.#on.choose(this.#hits[found.properties.number].id);
    });
  }

  async show(hits, { move = true } = {}) {
    this.#hits = hits.filter(hit => hit.bbox);
    await this.#ready;
    this.#fill();
    const boxes = this.#hits.map(hit => hit.bbox);
    if (move && (boxes.length || this.#area)) this.#go(this.#area ? this.#area.bbox : around(boxes));
  }

  #fill() {
    const feature = (geometry, number) => ({ type: "Feature", properties: { number }, geometry });
    const set = (name, features) => this.#map.getSource(name)?.setData({ type: "FeatureCollection", features });
    set("hits", this.#hits.map((hit, k) => feature(hit.geometry, k)));
    set("places", this.#hits.map((hit, k) => feature({ type: "Point", coordinates: centreOf(hit.bbox) }, k)));
    set("area", this.#area ? this.#area.features : []);
    for (const [name, id] of Object.entries(this.#state)) { this.#state[name] = ""; this.#mark(name, id); }
    this.#images?.();
  }

  #mark(name, id) {
    for (const [one, value] of [[this.#state[name], false], [id, true]]) {
      const number = this.#hits.findIndex(hit => hit.id === one);
      if (number >= 0) for (const source of ["hits", "places"]) if (this.#map.getSource(source)) this.#map.setFeatureState({ source, id: number }, { [name]: value });
    }
    this.#state[name] = id;
  }

  async light(id) {
    await this.#ready;
    this.#mark("lit", id);
  }

  async choose(id, move) {
    await this.#ready;
    this.#mark("chosen", id);
    const hit = this.#hits.find(one => one.id === id);
    if (!hit || !move) return;
    const [west, south, east, north] = this.#map.getBounds().toArray().flat(), [x, y] = centreOf(hit.bbox);
    const isSeen = y > south && y < north && [x - 360, x, x + 360].some(one => one > west && one < east);
    if (!isSeen) this.#map.easeTo({ center: [x, y], animate: !CALM.matches, duration: 500 });
  }

  /** Go near to a hit. */
  async near(hit) {
    await this.#ready;
    this.#go(hit.bbox, { maxZoom: 15 });
  }

  /** Show the area that is searched: a GeoJSON geometry and its box, or null. */
  async area(shape) {
    this.#area = shape && { ...shape, features: [{ type: "Feature", properties: {}, geometry: shape.geometry }] };
    await this.#ready;
    this.#fill();
  }

  /** Let somebody draw a "box" or a "polygon"; `done` receives its points, or null. */
  async draw(kind, done) {
    await this.#ready;
    this.drawing = draw(this.#map, kind, points => { this.drawing = null; done(points); });
  }

  cancel() {
    this.drawing?.cancel();
  }

  /** Return the box that the map shows. */
  get bounds() {
    return this.#map.getBounds().toArray().flat();
  }

  /** Return where a place is on the map, in pixels. */
  project(place) {
    return this.#map.project(place);
  }

  /** Return the hit that is lit or chosen; state is "lit" or "chosen". */
  marked(state) {
    return this.#state[state] ?? "";
  }

  resize() {
    this.#map.resize();
  }

  #go([west, south, east, north], limits = {}) {
    const bounds = [[west, south], [west > east ? east + 360 : east, north]];
    const size = Math.min(this.#map.getContainer().clientWidth, this.#map.getContainer().clientHeight);
    const padding = size < 320 ? 24 : LIMITS.padding;
    this.#map.fitBounds(bounds, { ...LIMITS, padding, ...limits, animate: !CALM.matches, duration: 600 });
  }
}
