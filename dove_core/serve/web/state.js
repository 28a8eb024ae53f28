// What is searched and chosen. The address of the page holds all of it, with the names that the API has.

const TEXTS = ["collections", "q", "bbox", "intersects", "datetime", "source", "tag", "max_gsd", "rerank", "hit"];
const LISTS = ["like", "unlike"];
const SWITCHES = ["dedup", "marks"];
export const PAGE = 60;

const empty = () => ({
  ...Object.fromEntries(TEXTS.map(name => [name, ""])),
  ...Object.fromEntries(LISTS.map(name => [name, []])),
  ...Object.fromEntries(SWITCHES.map(name => [name, false])),
  limit: PAGE,
  image: null, // a File; an address cannot hold it
});

/** Return the state that an address describes. */
export function read(search = location.search) {
  const given = new URLSearchParams(search), state = empty();
  for (const name of TEXTS) state[name] = given.get(name) ?? "";
  for (const name of LISTS) state[name] = [...new Set(given.getAll(name))];
  for (const name of SWITCHES) state[name] = given.get(name) === "true";
  const limit = Number.parseInt(given.get("limit"), 10);
  if (limit > 0) state.limit = Math.min(limit, 1000);
  return state;
}

/** Return the parameters of a search, as pairs. */
export function parameters(state, limit = state.limit) {
  const pairs = TEXTS.filter(name => name !== "hit" && state[name]).map(name => [name, state[name]]);
  for (const name of LISTS) pairs.push(...state[name].map(value => [name, value]));
  for (const name of SWITCHES) if (state[name]) pairs.push([name, "true"]);
  return [...pairs, ["limit", String(limit)]];
}

/** Put the state into the address; a new search is a new entry of the history. */
export function write(state, isNew) {
  const pairs = parameters(state).filter(([name, value]) => name !== "limit" || value !== String(PAGE));
  if (state.hit) pairs.push(["hit", state.hit]);
  const query = new URLSearchParams(pairs).toString();
  const where = `${location.pathname}${query && `?${query}`}`;
  if (where === `${location.pathname}${location.search}`) return;
  history[isNew ? "pushState" : "replaceState"](null, "", where);
}

/** Return the question in one line, as marks have it. */
export function title(state) {
  return [
    ...(state.q.trim() ? [state.q.trim()] : []),
    ...(state.image ? ["like the uploaded image"] : []),
    ...state.like.map(key => `like ${key}`),
    ...state.unlike.map(key => `unlike ${key}`),
  ].join(", ");
}

export const hasQuestion = state => Boolean(state.q.trim() || state.image || state.like.length || state.unlike.length);

export const FILTERS = ["datetime", "source", "max_gsd", "tag", "bbox", "intersects"];
export const hasFilters = state => FILTERS.some(name => state[name]);
export const withoutFilters = Object.fromEntries(FILTERS.map(name => [name, ""]));
