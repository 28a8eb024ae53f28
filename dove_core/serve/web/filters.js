// Filters as pills: dates, sources, resolution, tags, an area, and how hits are ranked.

import { button, find, make } from "./dom.js";
import { monthSlider } from "./slider.js";

const dayOf = text => (text && text !== ".." ? text.slice(0, 10) : "");
const range = state => { const [from = "", to = ""] = state.datetime.split("/"); return [dayOf(from), dayOf(to)]; };
const interval = (from, to) => (from || to ? `${from ? `${from}T00:00:00Z` : ".."}/${to ? `${to}T23:59:59Z` : ".."}` : "");

const shortArea = state => (state.intersects ? "polygon" : state.bbox && state.bbox.split(",").map(value => Number(value).toFixed(1)).join(", "));
const shortDates = state => { const [from, to] = range(state); return from || to ? `${from || "…"} – ${to || "…"}` : ""; };
const shortRanking = state => [state.rerank && "words on regions", state.dedup && "no duplicates"].filter(Boolean).join(", ");

/** Return an input with a label that changes the state when it changes itself. */
function field(label, properties, changed) {
  return make("label", { class: "field" }, make("span", {}, label), make("input", { ...properties, onchange: event => changed(event.target.value.trim()) }));
}

function dates(state, change, facts) {
  const [from, to] = range(state), [least, most] = facts.interval.map(dayOf);
  const limits = { type: "date", min: least, max: most };
  return [
    least && most && monthSlider([from, to], [least, most], (first, last) => change({ datetime: interval(first, last) })),
    field("From", { ...limits, value: from }, value => change({ datetime: interval(value, range(state)[1]) })),
    field("To", { ...limits, value: to }, value => change({ datetime: interval(range(state)[0], value) })),
    least && make("p", { class: "faint" }, `Images are from ${least} to ${most}.`),
  ];
}

function sources(state, change, facts) {
  const chosen = new Set(state.source.split(",").filter(Boolean));
  const toggle = name => { if (!chosen.delete(name)) chosen.add(name); change({ source: [...chosen].join(",") }); };
  return facts.sources.map(name => make("label", { class: "check" },
    make("input", { type: "checkbox", checked: chosen.has(name), onchange: () => toggle(name) }), make("span", {}, name)));
}

function resolution(state, change, facts) {
  const [finest, coarsest] = facts.gsd;
  return [
    field("Metres per pixel, at most", { type: "number", min: "0", step: "any", value: state.max_gsd, placeholder: "any" }, value => change({ max_gsd: Number(value) > 0 ? value : "" })),
    make("p", { class: "faint" }, `Images have ${finest} to ${coarsest} m.`),
  ];
}

function tags(state, change, facts) {
  return [
    field("Tags that images must have", { type: "text", value: state.tag, placeholder: "highway=motorway, bridge" }, value => change({ tag: value.replaceAll(/\s*,\s*/g, ",") })),
    facts.tags.length > 0 && make("div", { class: "suggestions" }, ...facts.tags.slice(0, 12).map(tag =>
      make("button", { type: "button", class: "chip", onclick: () => change({ tag: [...new Set([...state.tag.split(",").filter(Boolean), tag])].join(",") }) }, tag))),
  ];
}

function area(state, change, facts, act) {
  const sides = state.bbox.split(","), names = ["West", "South", "East", "North"];
  const set = (place, value) => {
    sides[place] = value;
    if (sides.length === 4 && sides.every(side => side && Number.isFinite(Number(side)))) change({ bbox: sides.join(","), intersects: "" });
  };
  return [
    make("div", { class: "row" },
      button("Draw a box on the map", { name: "box", text: "Box", onclick: () => act.draw("box") }),
      button("Draw a polygon on the map", { name: "polygon", text: "Polygon", onclick: () => act.draw("polygon") }),
      button("Search what the map shows", { text: "This view", onclick: () => act.view() })),
    make("div", { class: "sides" }, ...names.map((name, k) => field(name, { type: "number", step: "any", value: sides[k] ?? "" }, value => set(k, value)))),
  ];
}

function ranking(state, change) {
  const check = (name, on, label, changed) => make("label", { class: "check" }, make("input", { type: "checkbox", name, checked: on, onchange: event => changed(event.target.checked) }), make("span", {}, label));
  return [
    check("dedup", state.dedup, "Leave out near-duplicates", on => change({ dedup: on })),
    check("rerank", Boolean(state.rerank), "Rank the best 50 again by words and regions (slower)", on => change({ rerank: on ? "50" : "" })),
  ];
}

const PILLS = [
  { label: "Dates", fill: dates, short: shortDates, off: { datetime: "" }, fits: facts => facts.interval.some(Boolean) },
  { label: "Source", fill: sources, short: state => state.source, off: { source: "" }, fits: facts => facts.sources.length > 0 },
  { label: "Resolution", fill: resolution, short: state => state.max_gsd && `≤ ${state.max_gsd} m`, off: { max_gsd: "" }, fits: facts => facts.gsd.length > 0 },
  { label: "Tags", fill: tags, short: state => state.tag, off: { tag: "" }, fits: facts => facts.tags.length > 0 },
  { label: "Area", fill: area, short: shortArea, off: { bbox: "", intersects: "" }, fits: facts => facts.located },
  { label: "Ranking", fill: ranking, short: shortRanking, off: { dedup: false, rerank: "" }, fits: () => true },
];

/** Show the filters of a state. `facts` says what images have, `act` has draw(kind) and view(). */
export function showFilters(state, facts, change, act) {
  const box = find("filters");
  const open = box.querySelector("details[open]")?.dataset.name;
  const focused = box.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  box.replaceChildren(...PILLS.filter(pill => pill.fits(facts) || pill.short(state)).map(pill => {
    const value = pill.short(state);
    const panel = make("div", { class: "panel" }, ...pill.fill(state, change, facts, act).filter(Boolean));
    const summary = make("summary", { class: value ? "pill on" : "pill" }, value ? `${pill.label}: ${value}` : pill.label);
    const details = make("details", { class: "pop", open: open === pill.label }, summary, panel);
    details.dataset.name = pill.label;
    if (!value) return details;
    const clear = button(`Remove the filter ${pill.label}`, { name: "close", kind: "clear", onclick: () => change(pill.off) });
    return make("span", { class: "set" }, details, clear);
  }));
  if (focused) box.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

/** Show the images that hits are like and unlike; `thumbnail` returns the address of one. */
export function showExamples(state, change, thumbnail) {
  const chips = ["like", "unlike"].flatMap(kind => state[kind].map(key => {
    const picture = make("img", { src: thumbnail(key), alt: "" });
    picture.addEventListener("error", () => picture.remove());
    const remove = button(`Leave out: ${kind} ${key}`, { name: "close", kind: "clear", onclick: () => change({ [kind]: state[kind].filter(other => other !== key) }) });
    return make("span", { class: `example ${kind}` }, make("b", {}, kind === "like" ? "like" : "unlike"), picture, make("span", { class: "key" }, key), remove);
  }));
  if (state.image) {
    const address = URL.createObjectURL(state.image);
    const picture = make("img", { src: address, alt: "", onload: () => URL.revokeObjectURL(address) });
    const remove = button("Leave out the uploaded image", { name: "close", kind: "clear", onclick: () => change({ image: null }) });
    chips.unshift(make("span", { class: "example like" }, make("b", {}, "like"), picture, make("span", {}, state.image.name || "your image"), remove));
  }
  find("examples").replaceChildren(...chips);
}
