// The keyboard: all that a review needs, without the mouse.

import { find, make } from "./dom.js";

const HELP = [
  ["/", "write a query"], ["← → ↑ ↓", "go from image to image"], ["Enter", "open the image"], ["m, l", "more or less like this image"],
  ["w", "where the words lie"], ["y, n", "confirm or reject, and go on"], ["u", "take your mark back"], ["Esc", "close, or stop drawing"], ["?", "show this help"],
];
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function showHelp() {
  const dialog = find("help");
  if (dialog.open) return dialog.close();
  dialog.replaceChildren(
    make("h2", {}, "Keyboard"),
    make("dl", {}, ...HELP.flatMap(([keys, meaning]) => [make("dt", {}, ...keys.split(", ").map(key => make("kbd", {}, key))), make("dd", {}, meaning)])),
    make("p", { class: "faint" }, "Drop or paste an image anywhere to search by it. The address of the page holds your search: share it. Programs find the same under ",
      make("a", { href: "api.html" }, "the API"), "."),
    make("form", { method: "dialog" }, make("button", { class: "button" }, "Close")));
  dialog.showModal();
}

/** Listen; `act` has search(), move(right, down), open(), like(), unlike(), words(), mark(verdict) and escape(). */
export function listen(act) {
  const plain = { "/": act.search, "?": showHelp, m: act.like, l: act.unlike, w: act.words, y: () => act.mark("confirm"), n: () => act.mark("reject"), u: () => act.mark("withdraw") };
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || find("help").open) return;
    const isTyping = event.target.matches?.("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") {
      if (isTyping) event.preventDefault(), event.target.blur(); // browsers would empty a search field
      const open = document.querySelector("details.pop[open]");
      if (open) open.open = false;
      else if (!isTyping) act.escape();
      return;
    }
    if (isTyping || event.target.closest?.("#map")) return;
    if (STEPS[event.key] && !event.shiftKey) {
      if (act.move(...STEPS[event.key])) event.preventDefault();
    } else if (plain[event.key]) {
      event.preventDefault();
      plain[event.key]();
    }
  });
}
