// Requests to the server that sent this page. Errors are RFC 7807 JSON with a hint.

export const BASE = new URL("./", location.href);

export class Problem extends Error {
  constructor(detail, hint = "") {
    super(detail);
    this.hint = hint;
  }
}

/** Return the address of a path with parameters; those that are empty are left out. */
export function address(path, parameters = []) {
  const url = new URL(path, BASE);
  for (const [name, value] of parameters) if (value !== "" && value !== null && value !== undefined) url.searchParams.append(name, value);
  return url;
}

/** Return the answer to a request; a Problem is thrown for an error, or if the server is away. */
export async function request(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { ...options, headers: { Accept: "application/json", ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer.", "See whether dove serve is running, then search again.");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Problem(problem.detail || `The server answered ${answer.status}.`, problem.hint);
}

export const json = async (url, options) => (await request(url, options)).json();

export const post = (url, value) =>
  json(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });

/** Return the path of something of an image: its item, its marks, where words lie on it. */
export const pathOf = (collection, what, key = "") =>
  `collections/${encodeURIComponent(collection)}/${what}${key && `/${encodeURIComponent(key)}`}`;
