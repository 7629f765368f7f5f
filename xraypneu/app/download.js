// A file comes in pieces, each asked for when the one before is here: a slow line still brings signs of life.
import { make, size } from "./dom.js";

export class Downloader {
  constructor({ send, ping, say, save }) {
    Object.assign(this, { send, ping, say, save, fetching: null });
  }

  get(what) {
    // the pieces of the file before would be taken for this one's
    if (this.fetching) return this.say("Wait until the file before is here.");
    this.say("The file is being made.");
    this.ask({ kind: "download", what });
  }

  ask(request) {
    this.fetching = { request, sealed: this.ping(), pieces: this.fetching ? this.fetching.pieces : [] };
    this.send(request);
  }

  piece(message, buffer) {
    if (!this.fetching) return;
    if (message.number === 0) this.fetching.pieces = [];
    if (message.number !== this.fetching.pieces.length) return; // of a request that was repeated
    const { pieces } = this.fetching;
    pieces.push(buffer);
    if (!message.last) {
      const here = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
      this.say(`${message.name}: ${size(here)} of ${size(message.size)}`);
      return this.ask({ kind: "part", file: message.file, number: message.number + 1 });
    }
    this.fetching = null;
    this.save(message.name, new Blob(pieces, { type: message.type }));
    this.say(`${message.name} is downloaded.`);
  }

  // The server has answered a ping: a request of before it that has no answer was lost on the way.
  pong(n) {
    if (this.fetching && n > this.fetching.sealed) this.ask(this.fetching.request);
  }

  stop() {
    this.fetching = null;
  }
}

// As the browser saves a file.
export function saveFile(name, blob) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
