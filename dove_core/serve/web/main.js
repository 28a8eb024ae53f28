// The page: what is searched (state.js) leads to hits (search.js), shown as a grid and on a map that light each other.

import { BASE, address, json, pathOf } from "./api.js";
import { Detail } from "./detail.js";
import { closeOutside, find } from "./dom.js";
import { showExamples, showFilters } from "./filters.js";
import { Grid } from "./grid.js";
import { listen, showHelp } from "./keys.js";
import { Review } from "./review.js";
import { showSave } from "./save.js";
import { showError, showFound, showMissing, showNotes, showSuggestions } from "./saying.js";
import { Search } from "./search.js";
import { factsOf, shapeOf } from "./facts.js";
import { hasQuestion, read, title, withoutFilters, write } from "./state.js";

let state = read(), collections = [], basemap = "", map = null, mapComes = null, found = { hits: [], more: false, notes: [] };
const search = new Search(), review = new Review();

const grid = new Grid(find("grid"), { hover: light, choose, like: hit => refine("like", hit), unlike: hit => refine("unlike", hit) });
const detail = new Detail(find("detail"), { like: hit => refine("like", hit), unlike: hit => refine("unlike", hit), mark, step, near: hit => map?.near(hit), close: () => choose("") });

const chosenCollections = () => (state.collections ? collections.filter(one => one.id === state.collections) : collections);
const facts = () => factsOf(chosenCollections(), grid.hits);
const thumbnailOf = key => address(pathOf(grid.hits.find(hit => hit.key === key)?.collection ?? chosenCollections()[0]?.id ?? "", "thumbnails", key), [["side", "64"]]).href;

/** Change what is searched, and search. */
function change(changes) {
  state = { ...state, hit: "", limit: read("").limit, marks: false, ...changes };
  write(state, true);
  return run();
}

function refine(kind, hit) {
  const other = kind === "like" ? "unlike" : "like";
  change({ [kind]: [...new Set([...state[kind], hit.key])], [other]: state[other].filter(key => key !== hit.key) });
}

/** Search, and show what is found. */
async function run({ move = true } = {}) {
  showControls();
  document.body.setAttribute("aria-busy", "true");
  try {
    const [answer] = await Promise.all([search.first(state), readMarks()]);
    found = answer;
    grid.show(found.hits);
    showFound(state, found, chosenCollections(), { change, withoutFilters });
    showNotes(found.notes);
  } catch (error) {
    if (error.name === "AbortError") return;
    found = { hits: [], more: false, notes: [] };
    grid.show([]);
    showError(error);
  }
  document.body.removeAttribute("aria-busy");
  showRest(move);
}

/** Show all that follows from the hits. */
function showRest(move) {
  find("more").hidden = !found.more;
  showFilters(state, facts(), change, areas);
  showSuggestions(state, grid.hits, change);
  showMarks();
  const hasPlaces = chosenCollections().some(one => one["dove:located"] !== false) && (facts().located || grid.hits.some(hit => hit.bbox));
  find("main").classList.toggle("unplaced", !hasPlaces);
  find("map").hidden = !hasPlaces;
  const isThere = grid.hit(state.hit);
  if (state.hit && !isThere && grid.hits.length) showMissing(state.hit);
  choose(isThere ? state.hit : "", { quiet: true });
  if (hasPlaces) showMap(move && !isThere);
}

async function showMap(move) {
  mapComes ??= import("./map.js").then(({ HitMap }) => new HitMap(find("map"), { hover: light, choose }, basemap));
  try {
    map ??= await mapComes;
    map.resize();
    await map.area(shapeOf(state));
    await map.show(grid.hits, { move });
    map.choose(state.hit, true);
    find("map").dataset.ready = "true";
  } catch (error) {
    find("map").replaceChildren(`The map cannot be shown: ${error.message}`);
    find("map").classList.add("lost");
  }
}

function showControls() {
  document.title = title(state) ? `${title(state)} – dove` : "dove";
  find("words").value = state.q;
  find("collection").value = state.collections;
  showFilters(state, facts(), change, areas);
  showExamples(state, change, thumbnailOf);
}

async function readMarks() {
  await review.read(title(state), hasQuestion(state) ? chosenCollections().map(one => one.id) : []).catch(() => {});
}

function showMarks() {
  grid.mark(review.verdicts);
  showSave(state, grid.hits.length, chosenCollections().map(one => one.id), review, showError);
  const use = find("use-marks");
  use.hidden = !review.count && !state.marks;
  use.setAttribute("aria-pressed", String(state.marks));
  use.textContent = state.marks ? "Ranked by marks" : `Search with ${review.count} ${review.count === 1 ? "mark" : "marks"}`;
}

function light(id) {
  grid.light(id);
  map?.light(id);
}

/** Choose a hit, or none. */
function choose(id, { quiet = false } = {}) {
  const hit = grid.hit(id);
  state.hit = hit ? id : "";
  write(state, false);
  if (hit) detail.show(hit, state.q.trim(), hasQuestion(state) ? title(state) : "", review.of(id), review.who);
  else detail.hide();
  find("main").classList.toggle("chosen", Boolean(hit));
  grid.choose(state.hit);
  if (!quiet) map?.choose(state.hit, true);
  map?.resize();
}

function step(number) {
  const place = grid.hits.findIndex(hit => hit.id === state.hit), next = grid.hits[place + number];
  if (next) choose(next.id);
}

/** Move the focus over the grid, or on to another image if one is open. */
function move(right, down) {
  const id = grid.focused || state.hit, next = grid.neighbour(id, right, down);
  if (next) {
    grid.focus(next.id);
    if (state.hit) choose(next.id);
  }
  return Boolean(next) || Boolean(id);
}

async function mark(hit, verdict, note = review.of(hit.id)?.note ?? "", who = review.who) {
  review.who = who;
  try {
    await review.mark(hit, verdict, note);
    showMarks();
    if (state.hit === hit.id) detail.show(hit, state.q.trim(), title(state), review.of(hit.id), review.who);
  } catch (error) {
    showError(error);
  }
}

/** Mark the hit with the focus, and go on to the next; or take its mark back. */
async function markNow(verdict) {
  const hit = grid.hit(grid.focused) ?? grid.hit(state.hit);
  if (!hit || !hasQuestion(state) || (verdict === "withdraw" && !review.of(hit.id))) return;
  await mark(hit, verdict);
  if (verdict === "withdraw") return;
  const next = grid.neighbour(hit.id, 1, 0);
  if (next && state.hit) choose(next.id);
  if (next) grid.focus(next.id);
}

const areas = {
  view: () => map && change({ intersects: "", bbox: boxText([map.bounds.slice(0, 2), map.bounds.slice(2)]) }),
  draw: async kind => {
    for (const open of document.querySelectorAll("details.pop[open]")) open.open = false;
    if (!map) return;
    document.body.dataset.drawing = kind;
    await map.draw(kind, points => {
      delete document.body.dataset.drawing;
      if (!points) return map.area(shapeOf(state));
      if (kind === "box") return change({ intersects: "", bbox: boxText(points) });
      const ring = [...points, points[0]].map(point => point.map(value => Number(value.toFixed(5))));
      return change({ bbox: "", intersects: JSON.stringify({ type: "Polygon", coordinates: [ring] }) });
    });
  },
};

/** Return a box around corners as text; one that reaches over the 180th meridian has a west that is larger. */
function boxText(points) {
  const xs = points.map(point => point[0]), ys = points.map(point => point[1]);
  const [west, east] = [Math.min(...xs), Math.max(...xs)];
  const turned = value => ((((value + 180) % 360) + 360) % 360) - 180;
  const sides = east - west >= 360 ? [-180, 180] : [turned(west), turned(east) === -180 ? 180 : turned(east)];
  return [sides[0], Math.max(-90, Math.min(...ys)), sides[1], Math.min(90, Math.max(...ys))].map(value => Number(value.toFixed(5))).join(",");
}

function uploaded(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) return showError({ message: `${file.name} is not an image.`, hint: "choose a JPEG, PNG, WebP, TIFF, BMP or GIF." });
  change({ image: file, like: [], unlike: [], rerank: "" });
}

function wire() {
  find("ask").addEventListener("submit", event => { event.preventDefault(); find("words").blur(); change({ q: find("words").value.trim() }); });
  find("collection").addEventListener("change", event => change({ collections: event.target.value, source: "", tag: "", like: [], unlike: [] }));
  find("upload").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", event => { uploaded(event.target.files[0]); event.target.value = ""; });
  find("help-button").addEventListener("click", showHelp);
  find("use-marks").addEventListener("click", () => change({ marks: !state.marks }));
  find("more").addEventListener("click", more);
  document.addEventListener("dragover", event => event.preventDefault());
  document.addEventListener("drop", event => { event.preventDefault(); uploaded(event.dataTransfer.files[0]); });
  document.addEventListener("paste", event => uploaded(event.clipboardData.files[0]));
  addEventListener("popstate", () => { state = { ...read(), image: state.image }; run(); });
  const now = () => grid.hit(grid.focused) ?? grid.hit(state.hit);
  listen({
    search: () => find("words").select(), move, mark: markNow, words: () => detail.explain(state.q.trim()),
    like: () => now() && refine("like", now()), unlike: () => now() && refine("unlike", now()),
    escape: () => { if (document.body.dataset.drawing) map.cancel(); else if (state.hit) { const id = state.hit; choose(""); grid.focus(id); } },
  });
  closeOutside();
  new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--head", `${target.offsetHeight}px`)).observe(find("head"));
}

async function more() {
  find("more").disabled = true;
  try {
    const next = await search.next(state, grid.hits.length);
    grid.add(next.hits);
    found = { ...found, hits: grid.hits, more: next.more };
    state.limit = grid.hits.length;
    write(state, false);
    showFound(state, found, chosenCollections(), { change, withoutFilters });
    showRest(false);
  } catch (error) {
    if (error.name !== "AbortError") showError(error);
  }
  find("more").disabled = false;
}

async function begin() {
  wire();
  find("words").value = state.q;
  try {
    const [landing, known] = await Promise.all([json(BASE), json(address("collections"))]);
    basemap = landing["dove:basemap"] ?? "";
    collections = known.collections;
  } catch (error) {
    return showError(error);
  }
  const options = [...(collections.length > 1 ? [["", "All collections"]] : []), ...collections.map(one => [one.id, one.title])];
  find("collection").replaceChildren(...options.map(([value, label]) => new Option(label, value)));
  find("chooser").hidden = collections.length < 2;
  return run();
}

begin();
