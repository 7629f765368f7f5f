// What an empty page tells beside the drop zone: what comes of a film, and how it is read.
import { make } from "./dom.js";

const FACTS = [
  ["A verdict, or none", "NORMAL or PNEUMONIA; UNSURE where a reader should decide; OUT OF SCOPE for films unlike the training films."],
  ["Its reasons", "Probability against the operating point, an activation map, and the reasons for an abstention."],
  ["Film after film by keyboard", "J and K for the next and previous film, M for the map, I to invert; ? lists all."],
];

const FILM =
  '<rect x="6" y="4" width="52" height="56" rx="5" fill="none" stroke="currentColor" stroke-width="2"/>' +
  '<path d="M32 11v18M32 29c-3 2-4 4-5 7M32 29c3 2 4 4 5 7" fill="none" stroke="currentColor" stroke-width="2.5"/>' +
  '<path d="M27 20c-8 1-13 14-13 26 0 5 3 6 7 4 4-2 6-4 6-9zM37 20c8 1 13 14 13 26 0 5-3 6-7 4-4-2-6-4-6-9z" ' +
  'fill="currentColor" fill-opacity=".16" stroke="currentColor" stroke-width="2" stroke-linejoin="round"/>';

// Picture of a film with two lungs.
export function film() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 64 64");
  svg.setAttribute("class", "film");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = FILM; // the constant above
  return svg;
}

export function layHero() {
  const fact = ([head, text]) => make("li", {}, make("strong", {}, head), make("span", { class: "soft" }, text));
  return make("ul", { class: "facts-of-page" }, ...FACTS.map(fact));
}
