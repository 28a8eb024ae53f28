// Hits and marks as files, and the link to what is shown.

import { address, pathOf, request } from "./api.js";
import { button, find, make } from "./dom.js";
import { parameters } from "./state.js";

const KINDS = [
  ["geojson", "GeoJSON", "footprints, for any GIS"],
  ["geoparquet", "GeoParquet", "footprints, for QGIS and GeoPandas"],
  ["csv", "CSV", "a table, also of images without a place"],
];
const SUFFIXES = { geojson: "geojson", geoparquet: "parquet", csv: "csv" };

/** Send an uploaded image once more, and save the answer. */
async function saveByImage(state, pairs, kind) {
  const body = new FormData();
  body.append("image", state.image, "image");
  const answer = await request(address("save/image", pairs), { method: "POST", body, headers: { Accept: "*/*" } });
  const link = make("a", { href: URL.createObjectURL(await answer.blob()), download: `dove.${SUFFIXES[kind]}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Show what can be saved. `say` shows an error. */
export function showSave(state, count, collections, review, say) {
  const links = KINDS.map(([kind, name, use]) => {
    const pairs = [...parameters(state, count), ["kind", kind]];
    const link = make("a", { class: "item", href: address("save", pairs).href, download: `dove.${SUFFIXES[kind]}` }, make("b", {}, name), make("span", {}, use));
    if (state.image) link.addEventListener("click", event => { event.preventDefault(); saveByImage(state, pairs, kind).catch(say); });
    return link;
  });
  const copy = button("Copy the link to this search", { text: "Copy link", onclick: async () => {
    const done = await navigator.clipboard.writeText(location.href).then(() => "Copied", () => "Copy the address of this page");
    copy.querySelector("span").textContent = done;
  } });
  const marks = review.count > 0 && make("div", { class: "group" },
    make("h3", {}, "Marks"),
    ...collections.flatMap(name => ["csv", "geojson"].map(kind => make("a", { class: "item", href: address(pathOf(name, "marks"), [["kind", kind]]).href, download: `${name}-marks.${kind}` },
      make("b", {}, kind === "csv" ? "CSV" : "GeoJSON"), make("span", {}, `all marks of ${name}`)))));
  find("save").querySelector(".panel").replaceChildren(
    make("h3", {}, count === 1 ? "1 image" : `${count} images`), ...(count ? links : [make("p", { class: "faint" }, "There is nothing to save.")]),
    ...(marks ? [marks] : []), make("div", { class: "group" }, copy, state.image ? make("p", { class: "faint" }, "The link does not hold the uploaded image.") : ""));
}
