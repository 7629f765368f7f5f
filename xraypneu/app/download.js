// Downloads a file in pieces, each requested once the previous one has arrived, so that pongs get through a slow line.
import { make, size } from "./dom.js";

export class Downloader {
  constructor({ send, ping, say, save }) {
    Object.assign(this, { send, ping, say, save, fetching: null });
  }

  get(request) {
    // pieces of the previous file would be taken for this one's
    if (this.fetching) return this.say("Wait until the previous download has ended.");
    this.say("Preparing the file.");
    this.ask(request);
  }

  ask(request) {
    this.fetching = { request, sealed: this.ping(), pieces: this.fetching ? this.fetching.pieces : [] };
    this.send(request);
  }

  piece(message, buffer) {
    if (!this.fetching) return;
    if (message.number === 0) this.fetching.pieces = [];
    if (message.number !== this.fetching.pieces.length) return; // from a repeated request
    const { pieces } = this.fetching;
    pieces.push(buffer);
    if (!message.last) {
      const here = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
      this.say(`${message.name}: ${size(here)} of ${size(message.size)}`);
      return this.ask({ kind: "part", file: message.file, number: message.number + 1 });
    }
    this.fetching = null;
    this.say(`${message.name} downloaded.`);
    this.save(message.name, new Blob(pieces, { type: message.type }));
  }

  // The server answered ping n: an earlier request without an answer was lost and is repeated.
  pong(n) {
    if (this.fetching && n > this.fetching.sealed) this.ask(this.fetching.request);
  }

  // Returns what to say of a download that ends without its file.
  stop() {
    const said = this.fetching ? " The download has ended without its file: ask for it again." : "";
    this.fetching = null;
    return said;
  }
}

// Save a file through the browser.
export function saveFile(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
