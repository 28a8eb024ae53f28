// A slider with two thumbs over the months that images are from, beside the two fields for dates.

import { make } from "./dom.js";

const PAUSE = 300; // milliseconds: a key that is held moves a thumb several times

const monthOf = day => 12 * Number(day.slice(0, 4)) + Number(day.slice(5, 7)) - 1;
const textOf = month => `${String(Math.floor(month / 12)).padStart(4, "0")}-${String((month % 12) + 1).padStart(2, "0")}`;
const firstDay = month => `${textOf(month)}-01`;
const lastDay = month => new Date(Date.parse(`${firstDay(month + 1)}T00:00:00Z`) - 86_400_000).toISOString().slice(0, 10);

/** Return a slider from the month of `least` to that of `most`, or null for a single month; `changed` receives days, or "" at an end. */
export function monthSlider([from, to], [least, most], changed) {
  const start = monthOf(least), end = monthOf(most);
  if (!(end > start)) return null;
  const within = (day, other) => Math.min(end, Math.max(start, day ? monthOf(day) : other));
  const thumb = (label, value) => make("input", { type: "range", min: start, max: end, value, "aria-label": label });
  const low = thumb("Earliest month", within(from, start)), high = thumb("Latest month", within(to, end));
  const said = make("span", { class: "faint" }), track = make("div", { class: "slider" }, low, high);
  let timer = 0;

  const show = () => {
    const [first, last] = [low, high].map(one => Number(one.value));
    for (const one of [low, high]) one.setAttribute("aria-valuetext", textOf(Number(one.value)));
    track.style.setProperty("--from", (first - start) / (end - start));
    track.style.setProperty("--to", (last - start) / (end - start));
    track.classList.toggle("late", first > (start + end) / 2); // the thumb that can still move is above the other
    said.textContent = first === last ? textOf(first) : `${textOf(first)} – ${textOf(last)}`;
  };
  const moved = (one, other, keep) => {
    one.value = keep(Number(one.value), Number(other.value));
    show();
    clearTimeout(timer);
    timer = setTimeout(() => {
      const [first, last] = [low, high].map(each => Number(each.value));
      changed(first === start ? "" : firstDay(first), last === end ? "" : lastDay(last));
    }, PAUSE);
  };
  low.addEventListener("change", () => moved(low, high, Math.min));
  low.addEventListener("input", () => { low.value = Math.min(low.value, high.value); show(); });
  high.addEventListener("change", () => moved(high, low, Math.max));
  high.addEventListener("input", () => { high.value = Math.max(low.value, high.value); show(); });
  show();
  return make("div", { class: "months", role: "group", "aria-label": "Months" }, said, track);
}
