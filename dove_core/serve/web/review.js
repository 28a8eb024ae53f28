// Marks: hits that somebody confirms or rejects for a query, with a note.

import { address, json, pathOf, post } from "./api.js";

const NAME = "dove:who";
const placeOf = (id, who) => JSON.stringify([id, who]);

export class Review {
  #marks = new Map(); // of the present query, those of all analysts, by image and analyst
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

  /** Return own verdicts by the ids of images. */
  get verdicts() {
    return new Map([...this.#marks.values()].map(({ id }) => [id, this.of(id)?.verdict]));
  }

  /** Return the own mark of an image; one without a name may be anybody's. */
  of(id) {
    return this.#marks.get(placeOf(id, this.who)) ?? this.#marks.get(placeOf(id, ""));
  }

  /** Read the marks of a query in some collections. */
  async read(query, collections) {
    this.#query = query;
    const found = query ? await Promise.all(collections.map(name => json(address(pathOf(name, "marks"), [["query", query]])))) : [];
    if (this.#query !== query) return;
    this.#marks.clear();
    found.forEach(({ marks }, k) => marks.forEach(mark => this.#keep(`${collections[k]}/${mark.key}`, mark)));
  }

  /** Store a mark, or take one back; when this returns, that is on the server's disk. */
  async mark(hit, verdict, note) {
    const who = verdict === "withdraw" ? this.of(hit.id).who : this.who, query = this.#query;
    const mark = { key: hit.key, query, verdict, note, who };
    await post(address(pathOf(hit.collection, "marks")), mark);
    if (this.#query === query) this.#keep(hit.id, mark);
  }

  #keep(id, mark) {
    if (mark.verdict === "withdraw") this.#marks.delete(placeOf(id, mark.who));
    else this.#marks.set(placeOf(id, mark.who), { ...mark, id });
  }
}
