// Searches: pages of hits, and what is said about them.

import { address, json } from "./api.js";
import { PAGE, parameters } from "./state.js";

/** Return what the page shows of a STAC item. */
function hitOf(item, rank) {
  const own = item.properties;
  return {
    id: `${item.collection}/${item.id}`, key: item.id, collection: item.collection, rank,
    caption: own.caption ?? "", score: own["dove:score"], source: own.source ?? "", gsd: own.gsd, tags: own.tags ?? {},
    time: timeOf(own), geometry: item.geometry, bbox: item.bbox,
    image: item.assets.image.href, thumbnail: item.assets.thumbnail.href,
    item: item.links.find(link => link.rel === "self")?.href,
  };
}

/** Return a time as precise as it is known: 2019, 2019-05, 2019-05-31 or 2019-05-31 10:20. */
function timeOf({ datetime, start_datetime: start, end_datetime: end, "dove:undated": undated }) {
  if (undated) return "";
  if (datetime) return datetime.slice(0, 16).replace("T", " ");
  const seconds = (Date.parse(end) - Date.parse(start)) / 1000;
  if (seconds > 31 * 86400) return start.slice(0, 4);
  if (seconds > 86400) return start.slice(0, 7);
  return seconds > 3600 ? start.slice(0, 10) : start.slice(0, 16).replace("T", " ");
}

export class Search {
  #running = new AbortController();

  /** Return the first hits of a state: { hits, more, matched, notes }; a later search ends an earlier one. */
  first(state) {
    return this.#ask(state, state.limit, 0);
  }

  /** Return hits after those that are shown. */
  next(state, count) {
    return this.#ask(state, PAGE, count);
  }

  async #ask(state, limit, start) {
    this.#running.abort();
    this.#running = new AbortController();
    const pairs = [...parameters(state, limit), ...(start ? [["token", String(start)]] : [])];
    const options = { signal: this.#running.signal };
    let path = "search";
    if (state.image) {
      const body = new FormData();
      body.append("image", state.image, "image");
      Object.assign(options, { method: "POST", body });
      path = "search/image";
    }
    const found = await json(address(path, pairs), options);
    const isWhole = state.image ? found.features.length < limit : !found.links.some(link => link.rel === "next");
    return {
      hits: found.features.map((item, k) => hitOf(item, start + k + 1)),
      more: !isWhole, matched: found.numberMatched, notes: found["dove:notes"] ?? [],
    };
  }
}
