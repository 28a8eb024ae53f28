// Sentences about a search: how much was found, what to try if nothing was, and errors.

import { find, make } from "./dom.js";
import { hasFilters, hasQuestion, title } from "./state.js";

const PLAIN = ["airport runway", "harbour with ships", "river with a bridge", "solar panels"];
const LONGEST = 34;
const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Return the words, or what stands in their place. */
const headlineOf = state => state.q.trim() || (state.image ? "Images like yours" : state.like.length ? "Similar images" : title(state));

export function showFound(state, found, collections, act) {
  const shown = found.hits.length, total = collections.reduce((sum, one) => sum + one["dove:count"], 0);
  const where = collections.length === 1 ? collections[0].title : many(collections.length, "collection");
  const filtered = hasFilters(state) ? " that pass the filters" : "";
  let headline = hasQuestion(state) ? headlineOf(state) : hasFilters(state) ? "Filtered images" : "All images";
  let lead = hasQuestion(state)
    ? `${found.more ? `The ${shown === 1 ? "" : `${shown} `}best of ${many(total, "image")}` : `${many(shown, "image")} of ${total.toLocaleString("en")}`} in ${where}${filtered && ", after filters"}, best first`
    : `${many(found.matched ?? shown, "image")}${filtered} in ${where}`;
  find("headline").classList.remove("problem");
  if (shown === 0) {
    headline = "No image fits";
    lead = hasFilters(state) ? `None of ${many(total, "image")} in ${where} passes all filters.` : `${where} has no image that fits.`;
  }
  find("headline").textContent = headline;
  find("lead").replaceChildren(lead);
  if (shown === 0 && hasFilters(state)) {
    find("lead").append(" ", make("button", { type: "button", class: "link", onclick: () => act.change(act.withoutFilters) }, "Remove all filters"));
  }
}

/** Show remarks of the server, such as about words that a model does not know. */
export function showNotes(notes) {
  find("notes").replaceChildren(...notes.map(note => make("p", { class: "note" }, `${note[0].toUpperCase()}${note.slice(1)}.`)));
}

/** Say that the image which the address of the page names is not shown. */
export function showMissing(id) {
  find("notes").append(make("p", { class: "note" }, `The image of this link, ${id}, is not among these hits.`));
}

export function showError(error) {
  find("notes").replaceChildren(make("div", { class: "error" },
    make("p", {}, `${error.message[0].toUpperCase()}${error.message.slice(1)}${/[.?!]$/.test(error.message) ? "" : "."}`),
    error.hint ? make("p", { class: "faint" }, `What helps: ${error.hint}`) : null));
  find("more").hidden = true;
  if (!find("grid").children.length) {
    find("headline").textContent = "This search was not possible";
    find("lead").replaceChildren();
  }
}

/** Show words to begin with, from the captions of images that are shown. */
export function showSuggestions(state, hits, change) {
  if (hasQuestion(state) || hasFilters(state) || !hits.length) return;
  const starts = hits.map(hit => hit.caption.split(/[,;.]/)[0].trim()).filter(text => text && text.length <= LONGEST);
  const captioned = [...new Set(starts)].slice(0, 4);
  const words = captioned.length ? captioned : hits.some(hit => hit.caption) ? [] : PLAIN;
  find("lead").append(...(words.length ? [". Try "] : []), ...words.flatMap((text, k) => [
    k ? ", " : "", make("button", { type: "button", class: "link", onclick: () => change({ q: text }) }, text),
  ]));
}
