// Marks: hits that somebody confirms or rejects for a query, with a note.

import { address, json, pathOf, post } from "./api.js";

const NAME = "dove:who";

export class Review {
  #marks = new Map(); // of the present query, by the id of an image
  #query = "";

  /** The name that marks are stored with; it stays in this browser. */
  get who() {
    return localStorage.getItem(NAME) ?? "";
  }

  set who(name) {
    localStorage.setItem(NAME, name);
  }

  get query() {
    return this.#query;
  }

  get count() {
    return this.#marks.size;
  }

  get verdicts() {
    return new Map([...this.#marks].map(([id, mark]) => [id, mark.verdict]));
  }

  of(id) {
    return this.#marks.get(id);
  }

  /** Read the marks of a query in some collections. */
  async read(query, collections) {
    this.#query = query;
    const found = query ? await Promise.all(collections.map(name => json(address(pathOf(name, "marks"), [["query", query]])))) : [];
    if (this.#query !== query) return;
    this.#marks = new Map(found.flatMap(({ marks }, k) => marks.filter(mark => mark.who === this.who || !mark.who).map(mark => [`${collections[k]}/${mark.key}`, mark])));
  }

  /** Store a mark; when this returns, it is on the server's disk. */
  async mark(hit, verdict, note) {
    const mark = { key: hit.key, query: this.#query, verdict, note, who: this.who };
    await post(address(pathOf(hit.collection, "marks")), mark);
    this.#marks.set(hit.id, mark);
  }
}
