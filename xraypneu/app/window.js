// The window of the open film. The film is drawn anew from its values, on a canvas over the preview: those of the file,
// which the server sends when the window is changed for the first time, or else the preview's 8 bits.
import { button, make } from "./dom.js";
import { dragged, EIGHT, levelsOf, readoutOf, sensible, shifted } from "./voi.js";
import { spanOf, spokenOf, startOf, tableOf, widened } from "./voi.js";

const WIDER = 1.25; // factor of a key
const SHIFT = 0.1; // of the width, by a key
const NOTE = "Display only: the verdict does not change.";

async function inflated(pieces) {
  const stream = new Blob(pieces).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The levels of a preview.
async function levelsOfPicture(picture) {
  await picture.decode();
  const [width, height] = [picture.naturalWidth, picture.naturalHeight];
  const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return [Uint16Array.from({ length: width * height }, (_, i) => data[4 * i] + 1), width];
}

export class FilmWindow {
  // `picture`: the preview; `fetch` asks the server for a piece of the open film's values; `say` tells the window
  constructor({ picture, fetch, say }) {
    Object.assign(this, { picture, fetch, say, film: null, reversed: false });
    const canvas = () => make("canvas", { class: "windowed", hidden: true, "aria-hidden": "true" });
    this.canvases = [canvas(), canvas()];
    this.readouts = [make("p", { class: "voi" }), make("p", { class: "voi" })];
    this.layControls();
  }

  layControls() {
    const tool = {
      class: "windowing",
      "aria-pressed": "false",
      title: "Window and level by dragging (W); always by right button, or with Shift",
    };
    this.tool = button("Window", () => this.toggle(), tool);
    const resets = { class: "windowreset", "aria-label": "Reset window", title: "Reset window (R)", disabled: true };
    this.reset = button("Reset", () => this.restart(), resets);
    this.box = make("div", { class: "joined" }, this.tool, this.reset);
  }

  // Whether the left button and one finger change the window instead of moving the film.
  get held() {
    return this.tool.getAttribute("aria-pressed") === "true";
  }

  toggle() {
    this.tool.setAttribute("aria-pressed", !this.held);
  }

  // Another film, shown with its own window. `depth`: of its values, from the server, or nothing.
  show(depth) {
    this.stored = depth?.bits;
    this.film = { depth: depth?.kept ? depth : EIGHT, levels: null, pieces: null, waiting: [] };
    this.restart(false);
  }

  release() {
    this.film = null;
    for (const canvas of this.canvases) Object.assign(canvas, { hidden: true, width: 0, height: 0 });
  }

  // The window that the film came with.
  restart(told = true) {
    if (!this.film) return;
    this.film.waiting = [];
    this.voi = startOf(this.film.depth);
    this.touch(false);
    if (told) this.tell();
  }

  touch(changed) {
    this.reset.disabled = !changed;
    for (const canvas of this.canvases) canvas.hidden = !changed;
    const text = readoutOf(this.voi, this.film.depth, this.stored);
    for (const p of this.readouts) p.textContent = changed ? `${text}. ${NOTE}` : text;
  }

  tell() {
    this.say(spokenOf(this.voi, this.film.depth));
  }

  drag(x, y) {
    this.change((voi) => dragged(voi, x, this.darker * y));
  }

  widen(steps) {
    this.change((voi) => widened(voi, WIDER ** steps), true);
  }

  darken(steps) {
    this.change((voi) => shifted(voi, this.darker * steps * SHIFT), true);
  }

  // The direction in which a shift of the window makes the picture darker: 1 or -1.
  get darker() {
    return this.film?.depth.inverted !== this.reversed ? -1 : 1;
  }

  // Change the window once the values are there.
  change(does, told = false) {
    if (!this.film) return;
    if (!this.film.levels) {
      this.film.waiting.push([does, told]);
      return this.load();
    }
    this.voi = sensible(does(this.voi), this.film.span);
    this.touch(true);
    this.draw();
    if (told) this.tell();
  }

  load() {
    if (this.film.pieces) return;
    this.film.pieces = [];
    if (this.film.depth === EIGHT) return this.fallBack();
    this.say("Loading the full depth of the film");
    this.fetch(0);
  }

  // A piece of the values came; without one the server no longer has them.
  async piece({ part, last }, buffer) {
    const { film } = this;
    if (!film?.pieces || part !== film.pieces.length) return;
    if (!buffer || !globalThis.DecompressionStream) return this.fallBack();
    film.pieces.push(buffer);
    if (!last) return this.fetch(part + 1);
    try {
      this.take(film, levelsOf(await inflated(film.pieces), film.depth.across), film.depth.across);
    } catch {
      this.fallBack(); // damaged on its way
    }
  }

  // Take the preview's 8 bits instead of the values that can't be had.
  async fallBack() {
    const { film } = this;
    if (!film?.pieces || film.levels) return;
    film.depth = EIGHT;
    this.voi = startOf(EIGHT);
    try {
      this.take(film, ...(await levelsOfPicture(this.picture)));
    } catch {
      film.pieces = null; // the preview can't be read: it is on its way, or was replaced by another's
    }
  }

  take(film, levels, width) {
    if (film !== this.film) return; // another was opened meanwhile
    Object.assign(film, { levels, pieces: [], span: spanOf(film.depth, levels) });
    for (const canvas of this.canvases) Object.assign(canvas, { width, height: levels.length / width });
    for (const [does] of film.waiting.splice(0)) this.change(does);
    this.tell();
  }

  // Draw once for all changes until the next frame.
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (this.film?.levels && !this.reset.disabled) this.paint();
    });
  }

  paint() {
    const { levels, depth } = this.film;
    const table = tableOf(depth, this.voi);
    const image = new ImageData(this.canvases[0].width, this.canvases[0].height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < levels.length; i++) pixels[i] = 0xff000000 | (table[levels[i]] * 0x010101);
    for (const canvas of this.canvases) canvas.getContext("2d").putImageData(image, 0, 0);
  }
}
