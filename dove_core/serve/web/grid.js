// The grid of hits. One card at a time can have the focus; arrows move it.

import { button, icon, make } from "./dom.js";

export class Grid {
  #list;
  #on;
  #cards = new Map();
  hits = [];

  /** `on` has hover(id), choose(id), like(hit) and unlike(hit). */
  constructor(list, on) {
    this.#list = list;
    this.#on = on;
  }

  show(hits) {
    this.hits = [];
    this.#cards.clear();
    this.#list.replaceChildren();
    this.add(hits);
  }

  add(hits) {
    const fresh = hits.filter(hit => !this.#cards.has(hit.id));
    for (const hit of fresh) this.#cards.set(hit.id, this.#card(hit));
    this.#list.append(...fresh.map(hit => this.#cards.get(hit.id)));
    this.hits.push(...fresh);
    if (this.hits.length && !this.#list.querySelector('.frame[tabindex="0"]')) this.#reachable(this.hits[0].id);
  }

  /** Show which hit the pointer is on, wherever that is. */
  light(id) {
    for (const [other, card] of this.#cards) card.classList.toggle("lit", other === id);
  }

  /** Show which hit is chosen, and scroll to it. */
  choose(id) {
    for (const [other, card] of this.#cards) card.classList.toggle("chosen", other === id);
    const card = this.#cards.get(id);
    if (!card) return;
    this.#reachable(id);
    card.scrollIntoView({ block: "nearest" });
  }

  focus(id) {
    const card = this.#cards.get(id);
    if (!card) return;
    this.#reachable(id);
    card.firstChild.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  get focused() {
    return document.activeElement?.closest?.(".card")?.dataset.id ?? "";
  }

  /** Return the hit `right` steps to the right of one and `down` rows below it. */
  neighbour(id, right, down) {
    const place = this.hits.findIndex(hit => hit.id === id);
    if (place < 0) return this.hits[0];
    const columns = getComputedStyle(this.#list).gridTemplateColumns.split(" ").length;
    return this.hits[place + right + down * columns];
  }

  hit(id) {
    return this.hits.find(hit => hit.id === id);
  }

  /** Show the verdicts of marks: a Map from ids to "confirm" or "reject". */
  mark(verdicts) {
    for (const [id, card] of this.#cards) {
      const verdict = verdicts.get(id) ?? "";
      card.dataset.verdict = verdict;
      card.querySelector(".verdict").replaceChildren(...(verdict ? [icon(verdict === "confirm" ? "yes" : "close")] : []));
      card.querySelector(".verdict").title = { confirm: "Confirmed", reject: "Rejected" }[verdict] ?? "";
    }
  }

  #reachable(id) {
    for (const [other, card] of this.#cards) card.firstChild.tabIndex = other === id ? 0 : -1;
  }

  #card(hit) {
    const picture = make("img", { src: `${hit.thumbnail}?side=320`, alt: "", loading: "lazy", decoding: "async", draggable: false });
    picture.addEventListener("error", () => picture.replaceWith(make("span", { class: "lost" }, "The image cannot be shown.")));
    const frame = make("button", {
      type: "button", class: "frame", tabIndex: -1, "aria-label": `${hit.rank}. ${hit.caption || hit.key}`,
      onclick: () => this.#on.choose(hit.id),
    }, picture, make("span", { class: "rank" }, String(hit.rank)), make("span", { class: "verdict" }));
    const tools = make("div", { class: "tools" },
      button("More like this", { name: "plus", kind: "tool", tabIndex: -1, onclick: () => this.#on.like(hit) }),
      button("Less like this", { name: "minus", kind: "tool", tabIndex: -1, onclick: () => this.#on.unlike(hit) }));
    const caption = hit.caption ? make("p", { class: "caption", title: hit.caption }, hit.caption) : make("p", { class: "caption key", title: hit.key }, hit.key);
    const facts = [hit.time.slice(0, 4), hit.source, hit.gsd && `${hit.gsd} m`].filter(Boolean).join(" · ");
    const score = hit.score === undefined ? null : make("span", { class: "score" }, hit.score.toFixed(3));
    const line = make("p", { class: "facts" }, make("span", {}, facts), score);
    const card = make("li", { class: "card" }, frame, tools, caption, line);
    card.dataset.id = hit.id;
    card.addEventListener("pointerenter", () => this.#on.hover(hit.id));
    card.addEventListener("pointerleave", () => this.#on.hover(""));
    card.addEventListener("focusin", () => this.#on.hover(hit.id));
    card.addEventListener("focusout", () => this.#on.hover(""));
    return card;
  }
}
