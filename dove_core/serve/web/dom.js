// Elements of the page. Text is always text: nothing here or elsewhere parses HTML.

export const find = id => document.getElementById(id);

/** Return a new element; properties that begin with "on" are listeners, children that are empty are left out. */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

/** Return one of the icons that the page defines. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Return a button with an icon, a text or both. */
export function button(label, { name = "", text = "", kind = "button", ...properties } = {}) {
  const shown = text ? make("span", {}, text) : null;
  return make("button", { type: "button", class: kind, "aria-label": label, title: label, ...properties }, name && icon(name), shown);
}

/** Close a pop-up when somebody clicks or moves the focus elsewhere. */
export function closeOutside() {
  const close = event => {
    for (const open of document.querySelectorAll("details.pop[open]")) if (!open.contains(event.target)) open.open = false;
  };
  document.addEventListener("pointerdown", close);
  document.addEventListener("focusin", close);
}
