// The chosen image: larger, with all that is known of it, and what can be done with it.

import { button, make } from "./dom.js";
import { explanation } from "./explain.js";

const degrees = (value, signs) => `${Math.abs(value).toFixed(4)}° ${signs[value < 0 ? 1 : 0]}`;
const placeOf = ([west, south, east, north]) => {
  const x = (west + east + (west > east ? 360 : 0)) / 2;
  return `${degrees((south + north) / 2, "NS")}, ${degrees(x > 180 ? x - 360 : x, "EW")}`;
};

export class Detail {
  #box;
  #on;
  #asked = 0;
  hit = null;

  /** `on` has like, unlike, mark(hit, verdict, note), step(number), near(hit), close and say(error). */
  constructor(box, on) {
    this.#box = box;
    this.#on = on;
  }

  hide() {
    this.hit = null;
    this.#asked++;
    this.#box.hidden = true;
    this.#box.replaceChildren();
  }

  /** Show a hit; `words` are those of the query, `mark` is what was said of it. */
  show(hit, words, query, mark, who) {
    const isOther = this.hit?.id !== hit.id;
    this.hit = hit;
    this.#asked++;
    const picture = make("img", { src: `${hit.thumbnail}?side=800`, alt: hit.caption || hit.key });
    picture.addEventListener("error", () => picture.replaceWith(make("span", { class: "lost" }, "The image cannot be shown.")));
    this.figure = make("div", { class: "figure" }, picture);
    this.legend = make("div", { class: "below" });
    this.#box.replaceChildren(this.#bar(hit), make("div", { class: "both" },
      make("div", {}, this.figure, this.legend),
      make("div", { class: "told" }, hit.caption ? make("p", { class: "caption" }, hit.caption) : null, this.#actions(hit, words), query ? this.#review(hit, mark, who) : null, this.#facts(hit))));
    this.#box.hidden = false;
    if (isOther) this.#box.scrollTop = 0;
  }

  /** Show where the words lie. */
  async explain(words) {
    const asked = ++this.#asked, hit = this.hit, trigger = this.#box.querySelector(".explain");
    if (!hit || !words) return;
    trigger?.setAttribute("aria-busy", "true");
    this.legend.replaceChildren(make("p", { class: "faint" }, "Looking where the words lie …"));
    try {
      const { figure, legend } = await explanation(hit, words);
      if (asked !== this.#asked) return;
      this.figure.replaceChildren(figure);
      this.legend.replaceChildren(legend);
    } catch (error) {
      if (asked === this.#asked) this.legend.replaceChildren(make("p", { class: "faint" }, [error.message, error.hint].filter(Boolean).join(" – ")));
    }
    trigger?.removeAttribute("aria-busy");
  }

  #bar(hit) {
    const score = hit.score === undefined ? "" : `score ${hit.score.toFixed(3)}`;
    return make("div", { class: "bar" },
      make("strong", {}, `${hit.rank}`), make("span", { class: "score" }, score), make("span", { class: "space" }),
      button("Previous image", { name: "left", kind: "plain", onclick: () => this.#on.step(-1) }),
      button("Next image", { name: "right", kind: "plain", onclick: () => this.#on.step(1) }),
      button("Close", { name: "close", kind: "plain", onclick: () => this.#on.close() }));
  }

  #actions(hit, words) {
    return make("div", { class: "row" },
      button("Search for more images like this one", { name: "plus", text: "More like this", onclick: () => this.#on.like(hit) }),
      button("Search for fewer images like this one", { name: "minus", text: "Less like this", onclick: () => this.#on.unlike(hit) }),
      words ? button("Show where the words of the query lie", { name: "eye", text: "Where the words lie", kind: "button explain", onclick: () => this.explain(words) }) : null);
  }

  #review(hit, mark, who) {
    const note = make("input", { type: "text", value: mark?.note ?? "", placeholder: "Note", "aria-label": "Note", maxLength: 2000 });
    const name = make("input", { type: "text", value: who, placeholder: "Your name", "aria-label": "Your name", maxLength: 100, class: "who" });
    const choose = verdict => this.#on.mark(hit, verdict, note.value.trim(), name.value.trim());
    const isOwn = kind => mark?.verdict === kind && name.value.trim() === who;
    const verdict = (kind, sign, label) => button(label, {
      name: sign, text: label, kind: `button verdict-${kind}`, "aria-pressed": String(mark?.verdict === kind),
      title: mark?.verdict === kind ? "Take this mark back" : label, onclick: () => choose(isOwn(kind) ? "withdraw" : kind),
    });
    note.addEventListener("keydown", event => { if (event.key === "Enter" && mark) choose(mark.verdict); });
    return make("div", { class: "review" },
      make("div", { class: "row" }, verdict("confirm", "yes", "Confirm"), verdict("reject", "close", "Reject")),
      make("div", { class: "row notes" }, note, name));
  }

  #facts(hit) {
    const lines = [
      ["Key", make("span", { class: "key" }, hit.key)], ["Time", hit.time], ["Source", hit.source],
      ["Resolution", hit.gsd && `${hit.gsd} m per pixel`],
      ["Place", hit.bbox && make("button", { type: "button", class: "link", onclick: () => this.#on.near(hit) }, placeOf(hit.bbox))],
      ["Tags", Object.keys(hit.tags).length && make("span", {}, ...Object.entries(hit.tags).map(([name, value]) => make("span", { class: "tag" }, `${name}=${value}`)))],
      ["Files", make("span", {}, make("a", { href: hit.image, target: "_blank", rel: "noopener" }, "image"), " · ", make("a", { href: hit.item, target: "_blank", rel: "noopener" }, "STAC item"))],
    ];
    return make("dl", {}, ...lines.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }
}
