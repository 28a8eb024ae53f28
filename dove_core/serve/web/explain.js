// Where the words of a query lie on an image: the server computes it when somebody asks.

import { address, json, pathOf } from "./api.js";
import { make } from "./dom.js";

const GLOW = [255, 138, 40], DARKEN = 0.6;

/** Draw a map of g x g numbers from 0 to 1 over an image: bright where the numbers are high, dark elsewhere. */
function paint(canvas, map) {
  const size = map.length, small = new OffscreenCanvas(size, size), pixels = new ImageData(size, size);
  map.flat().forEach((value, k) => {
    const lit = GLOW.map(channel => Math.round(channel * value));
    pixels.data.set([...lit, Math.round(255 * (DARKEN - (DARKEN - 0.45) * value))], 4 * k);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** Return an element with the image and its map, and buttons for each word. */
export async function explanation(hit, words) {
  const found = await json(address(pathOf(hit.collection, "attention", hit.key), [["q", words]]));
  const canvas = make("canvas", { width: 400, height: 400 });
  const maps = [["all words", found.whole, null], ...found.words.map((word, k) => [word, found.by_word[k], found.weights[k]])];
  const choose = place => {
    paint(canvas, maps[place][1]);
    buttons.forEach((one, k) => one.setAttribute("aria-pressed", String(k === place)));
  };
  const buttons = maps.map(([word, , weight], k) =>
    make("button", { type: "button", class: "chip", onclick: () => choose(k) }, word, weight === null ? null : make("small", {}, `${Math.round(100 * weight)}%`)));
  choose(0);
  const remark = found.shows_nothing ? "The words fit no part of this image better than others." : "Bright where the model finds the words. It shows where the model looked, not that it is right.";
  return {
    figure: make("div", { class: "square" }, make("img", { src: found.image, alt: "" }), canvas),
    legend: make("div", { class: "legend" }, make("div", { class: "suggestions" }, ...buttons), make("p", { class: "faint" }, remark)),
  };
}
