// The dashboard's page, which shows what Python decides. File names are only ever set as text; images arrive as bytes.
import { Confirm } from "./confirm.js";
import { csvName, csvOf, unread } from "./csv.js";
import { button, clean, icon, inBrackets, make, notice, probabilityText, size } from "./dom.js";
import { Downloader, saveFile } from "./download.js";
import { dropped, unreadable } from "./drop.js";
import { FileList } from "./files.js";
import { FullScreen } from "./full.js";
import { Gatherer } from "./gather.js";
import { Heartbeat } from "./heartbeat.js";
import { Help } from "./help.js";
import { film, layHero } from "./hero.js";
import { Keeper, nameOfKept } from "./keeper.js";
import { listenToKeys } from "./keys.js";
import { askBeforeLeaving } from "./leave.js";
import { OperatingPanel } from "./operating.js";
import { listenToPaste } from "./paste.js";
import { OWN, ReaderPanel, said } from "./reader.js";
import { Asker, IN_REPORTS, State } from "./state.js";
import { Memory, placeInTab } from "./storage.js";
import { nextVerdict, Table, tallyOf } from "./table.js";
import { Theme } from "./theme.js";
import { isTable, TruthPanel } from "./truth.js";
import { Uploader } from "./upload.js";
import { sentence, Viewer } from "./viewer.js";
import { able, neighbour, positionOf, Worklist } from "./worklist.js";
import { membersOf, isZip, ZipError } from "./zip.js";

const TOO_LARGE =
  "The plain upload takes at most ten megabytes in total, so none of these files was read. Use the drop zone or its " +
  "button. To use the plain upload again, reload the page, which deletes its films.";
const NOT_DELETED =
  "The films may not have been deleted: the connection was interrupted. Press Delete all again.";
const LOST =
  "Its process has ended or does not answer. The results on this page can still be read and saved: Download CSV works " +
  "without the server. Nothing new can be computed or opened, and the uploaded radiographs are no longer on the server.";
const NO_SERVER = "The server has lost this session, so";
const NONE_OPEN = "No film is open. Choose one in the worklist, or press J.";
const NONE_LEFT =
  "These results are of an earlier page: the server no longer has their films. Drop them again to see them.";
const FEW = 3; // results that are deleted without a question
const STEP = 60; // pixels that a key moves a zoomed film
// what a visitor does: it is done to all rows that have come
const DEEDS = ["click", "keydown", "input", "change", "drop", "paste", "beforeunload", "pagehide"];
const MANY = 60; // files, from which on only those in view are laid out

function broken(problem) {
  return make(
    "div",
    { class: "xp-broken", role: "alert" },
    make("h1", {}, "No model"),
    make("p", {}, problem),
    make("p", {}, "Reload the page once this is fixed."),
  );
}

// Make the plain upload, ipywidgets' own and outside of this widget, a landmark once it is there. Returns how to stop.
function namePlainUpload() {
  const look = () => {
    const part = document.querySelector(".xp-plain");
    if (!part) return;
    clearInterval(timer);
    part.setAttribute("role", "region");
    part.setAttribute("aria-label", "Plain upload");
  };
  const timer = setInterval(look, 200);
  return () => clearInterval(timer);
}

class Page {
  constructor(model, config) {
    Object.assign(this, { model, config });
    const send = (content, buffers) => this.send(content, buffers);
    const ping = () => this.heartbeat.pings;
    const say = (text) => this.say(text);
    const { chunk, patience, rest, max_bytes: maxBytes } = config;
    this.state = new State(config.threshold);
    const [lost, recovered] = [() => this.lost(), () => this.recovered()];
    const view = Math.floor(Math.random() * 2 ** 31); // a notebook may show one session in several views
    this.view = view;
    const busy = () => this.uploader.pending > 0;
    this.came = []; // rows that are not on the page yet, in the order of their arrival
    this.gatherer = new Gatherer(() => this.showRows());
    this.heartbeat = new Heartbeat({ send, patience, rest, lost, recovered, busy, first: view * 2 ** 21 });
    this.asker = new Asker(send, ping);
    this.list = new FileList(() => this.cancel());
    this.uploader = new Uploader({ send, ping, chunk, maxBytes, view: this.list, mark: view.toString(36) });
    this.downloader = new Downloader({ send, ping, say, save: (name, blob) => this.saveReport(name, blob) });
    const [report, remove] = [() => this.getFilmReport(), () => this.askRemove()];
    this.reader = new ReaderPanel((own) => this.note(own), report, remove);
    this.viewer = new Viewer(this.reader, { fetch: (part) => this.askDeep(part), say });
    this.confirm = new Confirm();
    this.table = new Table(this.state, (row) => this.reopen(row), (shown, all) => this.listed(shown, all));
    const { filter, only } = this.table;
    this.worklist = new Worklist({ open: (id) => this.openListed(id), filters: [filter, only] });
    this.operating = new OperatingPanel(this.asker, config.threshold);
    const askTruth = (message, buffers) => this.askTruth(message, buffers);
    this.truth = new TruthPanel({ ask: askTruth, say, most: config.max_table });
    const memory = new Memory(() => window.localStorage);
    this.help = new Help(memory);
    const [place, leave] = placeInTab();
    this.leave = leave;
    this.keeper = new Keeper(new Memory(() => window.sessionStorage, place), this.state);
    this.theme = new Theme(document.documentElement, matchMedia("(prefers-color-scheme: dark)"), memory);
    this.lay();
  }

  send(content, buffers) {
    try {
      this.model.send(content, undefined, buffers);
    } catch (e) {
      console.warn(e); // the connection is interrupted: the heartbeat reports it
    }
  }

  say(text) {
    this.status.textContent = text;
  }

  // --- the page's elements

  lay() {
    this.status = make("div", { role: "status", "aria-live": "polite", class: "soft status" });
    this.gone = make("div", { class: "gone", role: "alert", hidden: true });
    this.trouble = make("div", { class: "gone trouble", role: "alert", hidden: true });
    this.main = make(
      "main",
      { class: "xp", lang: "en" },
      notice(),
      this.gone,
      this.trouble,
      make("div", { class: "stage" }, this.layTop(), this.layUpload(), this.layReading()),
      this.operating.box,
      this.layBatch(),
      this.truth.box,
      this.layAbout(),
      this.confirm.box,
      this.help.box,
    );
    for (const [name, on] of [["dragenter", 1], ["dragover", 1], ["dragleave", 0], ["drop", 0]])
      this.main.addEventListener(name, (e) => this.hover(e, on));
    this.main.addEventListener("drop", (e) => this.take(dropped(e.dataTransfer)));
    this.full = new FullScreen(this.main, document.documentElement, this.fuller);
  }

  layTop() {
    return make(
      "div",
      { class: "top" },
      make(
        "div",
        { class: "title" },
        make("h1", {}, "Chest radiographs: NORMAL or PNEUMONIA"),
        make("p", { class: "soft" }, this.config.subtitle),
        ...(this.config.synthetic ? [make("p", { class: "synthetic" }, "Model of SYNTHETIC images")] : []),
      ),
      make("div", { class: "row tools" }, this.theme.press, this.help.press),
    );
  }

  // Worklist, film and rationale; hidden until there is a film.
  layReading() {
    this.body = make("div", { class: "result-body" });
    this.result = make(
      "section",
      { class: "shown", "aria-labelledby": "xp-result", hidden: true },
      make("h2", { id: "xp-result", class: "sr" }, "Result"),
      this.layBar(),
      this.body,
    );
    this.idle = make("p", { class: "idle" });
    this.reading = make("div", { class: "reading", hidden: true }, this.worklist.box, this.result, this.idle);
    return this.reading;
  }

  layBar() {
    this.position = make("span", { class: "position" });
    this.brief = make("p", { class: "brief", "aria-hidden": "true" }); // full screen shows no rationale
    const named = { class: "fuller", "aria-pressed": "false", "aria-label": "Full screen", title: "Full screen (F)" };
    this.fuller = button(icon("FULL"), () => this.full.toggle(), named);
    const step = (sign, label, by, key) =>
      button(sign, () => this.step(by), { class: "step", "aria-label": label, title: `${label} (${key})` });
    const [before, after] = [step("‹", "Previous film", -1, "K"), step("›", "Next film", 1, "J")];
    this.viewer.controls.append(this.fuller);
    return make(
      "div",
      { class: "row bar scroll" }, // on a telephone
      make("div", { class: "joined" }, before, this.position, after),
      this.brief,
      this.viewer.controls,
    );
  }

  layUpload() {
    const offer = "Or try a synthetic radiograph (computer-generated, no patient):";
    const samples = [make("span", { class: "lead" }, offer), make("span", { class: "short" }, "Synthetic:")];
    return make(
      "section",
      { class: "intake", "aria-labelledby": "xp-upload" },
      make("h2", { id: "xp-upload", class: "sr" }, "Radiographs"),
      this.layDrop(),
      make(
        "div",
        { class: "row samples scroll" },
        ...samples,
        ...this.config.samples.map(([which, label]) =>
          button(label, () => this.sample(which, label), { class: "sample" }),
        ),
      ),
      this.list.line,
      this.status,
      this.list.box,
      layHero(),
    );
  }

  // A file is dragged over the page, or no longer.
  hover(e, on) {
    e.preventDefault();
    const inside = !on && e.type === "dragleave" && this.main.contains(e.relatedTarget);
    if (!inside) this.main.classList.toggle("over", !!on);
  }

  layDrop() {
    const input = make("input", {
      type: "file",
      multiple: true,
      accept: this.config.accept,
      hidden: true, // the button opens it: a second control of that name would only be in the way
      onchange: () => {
        this.take(input.files);
        input.value = "";
      },
    });
    const choose = button("Choose radiographs", () => input.click(), { class: "main choose" });
    const kinds =
      `PNG, JPEG or DICOM, also TIFF, BMP, WebP, many in a ZIP, or pasted; up to ${size(this.config.max_bytes)} each. ` +
      "Processed in memory on the server; deleted when you close this page.";
    return make(
      "div",
      { class: "drop" },
      film(),
      make("p", { class: "lead" }, make("strong", {}, "Drop radiographs here"), ", one or many"),
      make("p", {}, choose, input),
      make("p", { class: "soft kinds" }, kinds),
    );
  }

  layBatch() {
    this.csv = button("Download CSV", () => this.saveCsv(), { class: "csv" });
    this.report = button("Download report", () => this.getReport(), { class: "html" });
    this.batch = make(
      "section",
      { class: "card batch", "aria-labelledby": "xp-batch", hidden: true },
      make("h2", { id: "xp-batch" }, "All files"),
      make(
        "div",
        { class: "row" },
        this.csv,
        this.report,
        button("Delete all", () => this.askForget(), { class: "clear" }),
      ),
      this.keeper.box,
      this.table.counted,
      this.table.box,
    );
    return this.batch;
  }

  layAbout() {
    // wide tables scroll, also by keyboard
    const region = { class: "about", tabindex: "0", role: "region", "aria-label": "Model card" };
    this.about = make("div", region, make("p", { class: "soft" }, "…"));
    const ask = () => {
      if (!details.open || details.dataset.asked) return;
      details.dataset.asked = "1";
      this.send({ kind: "about" });
    };
    const summary = make("summary", {}, "About this model");
    const facts = make("p", {}, this.config.about);
    const details = make("details", { class: "card", ontoggle: ask }, summary, facts, this.about);
    return details;
  }

  // --- the user's actions

  take(files) {
    this.truth.take([...files].filter(isTable));
    const rest = [...files].filter((file) => !isTable(file));
    for (const archive of rest.filter(isZip)) this.unpack(archive);
    const added = rest.filter((file) => !isZip(file));
    if (!added.length) return;
    this.takeFilms(added);
  }

  // The films of an archive take the way of all others; one that is refused is a row that says why.
  async unpack(archive) {
    if (!this.heartbeat.isLost) this.say(`Unpacking ${clean(archive.name)}`);
    const limits = { most: this.config.max_files, maxBytes: this.config.max_bytes };
    const refused = (e) => {
      const why = e instanceof ZipError ? e.message : "the browser can't read it. Choose it again";
      return [unreadable(archive.name, new ZipError(`not unpacked: ${why}`))];
    };
    const films = await this.uploader.unlessStopped(membersOf(archive, limits).catch(refused));
    if (films) this.takeFilms(films);
  }

  takeFilms(added) {
    if (this.heartbeat.isLost) return this.say(`${NO_SERVER} no file can be read. Start a new session.`);
    this.trouble.hidden = !this.state.undeleted;
    this.blank(added.length === 1 ? `Reading ${clean(added[0].name)}` : `Reading ${added.length} files`);
    this.uploader.take(added);
    this.list.showLast();
  }

  // Read none of the files that are still to come.
  cancel() {
    const n = this.uploader.cancel();
    this.say(n ? `Cancelled: ${n} ${n === 1 ? "file was" : "files were"} not read.` : "The last file is being read.");
    this.settle();
  }

  askTruth(message, buffers) {
    if (this.heartbeat.isLost) return this.truth.refuse(`${NO_SERVER} they can't be compared. Start a new session.`);
    this.asker.ask("truth", message, buffers);
  }

  // Films or verdicts are other ones than those that the labels were compared with.
  compareAgain() {
    if (this.truth.active) this.asker.ask("compare", { kind: "compare" });
  }

  // Show the page as a reading room while there is a film, else as an invitation to bring one.
  arrange() {
    const reads = !this.result.hidden || [...this.state.rows.values()].some((row) => !row.error);
    this.main.classList.toggle("reads", reads);
    this.reading.hidden = !reads;
    this.idle.hidden = !this.result.hidden;
    this.idle.textContent = [...this.state.rows.values()].some(able) ? NONE_OPEN : NONE_LEFT;
    if (!reads) this.full.leave();
  }

  showResult(on) {
    this.result.hidden = !on;
    this.arrange();
  }

  // The table shows these rows: so does the worklist.
  listed(shown, all) {
    this.labelDownloads(shown, all);
    this.main.classList.toggle("many", all >= MANY);
    this.list.tally.textContent = tallyOf(this.state.counts());
    this.worklist.show(this.table.shown);
    this.tellPosition();
  }

  tellPosition() {
    this.position.textContent = positionOf(this.table.shown, this.state.open);
  }

  markOpen() {
    this.table.markOpen();
    this.worklist.mark(this.state.open);
    this.tellPosition();
  }

  // --- reading

  openListed(id) {
    const row = this.state.rows.get(id);
    if (row.error) return this.say(`${row.file}: not read: ${row.error}`);
    if (row.kept) return this.say(`${row.file}: its film is no longer on the server. Drop it again to see it.`);
    if (id !== this.state.open) this.reopen(row);
  }

  // Open the film after or before the open one, in the order of the worklist.
  step(by) {
    const row = neighbour(this.table.shown, this.state.open, by);
    if (row) return this.reopen(row);
    this.say(by > 0 ? "This is the last film of the worklist." : "This is the first film of the worklist.");
  }

  // Do what a key asks for; false where there is nothing to do it to.
  act(action) {
    if (action === "help") return this.help.open() ?? true;
    if (action === "theme") return this.theme.change() ?? true;
    if (this.reading.hidden) return false;
    const { viewer } = this;
    const acts = {
      next: () => this.step(1),
      previous: () => this.step(-1),
      map: () => viewer.toggleMap(),
      sides: () => viewer.toggleSides(),
      invert: () => viewer.turn(),
      normal: () => this.choose(OWN[0]),
      ill: () => this.choose(OWN[1]),
      unsure: () => this.choose(OWN[2]),
      comment: () => this.comment(),
      full: () => this.full.toggle(),
      larger: () => viewer.zoomBy(1.5),
      smaller: () => viewer.zoomBy(1 / 1.5),
      fit: () => viewer.fit(),
      window: () => viewer.window.toggle(),
      narrower: () => viewer.window.widen(-1),
      wider: () => viewer.window.widen(1),
      darker: () => viewer.window.darken(1),
      lighter: () => viewer.window.darken(-1),
      reset: () => viewer.window.restart(),
      report: () => this.getFilmReport(),
      remove: () => this.askRemove(),
      filter: () => this.nextFilter(),
      csv: () => this.saveCsv(),
      why: () => viewer.focusReasons(),
      left: () => viewer.moveBy(STEP, 0),
      right: () => viewer.moveBy(-STEP, 0),
      up: () => viewer.moveBy(0, STEP),
      down: () => viewer.moveBy(0, -STEP),
    };
    acts[action]();
    return true;
  }

  // Show only the films of the next verdict, or all again.
  nextFilter() {
    const { only } = this.table;
    only.value = nextVerdict(only.value, this.state.counts());
    only.dispatchEvent(new Event("change"));
    this.say(`Shown: ${only.value || "all verdicts"}, ${this.table.shown.length} of ${this.state.rows.size} files.`);
  }

  // The reader's verdict by key, which may come while the next film is still on its way: it belongs to none then.
  choose(verdict) {
    if (!this.seen) return this.say("The film is not shown yet, so your verdict was not taken. Press the key again.");
    this.reader.choose(verdict);
    this.say(this.reader.own.verdict ? `Your verdict: ${verdict}` : "Your verdict was taken back");
  }

  // To the comment, with the film that is on its way.
  comment() {
    if (this.seen) this.reader.comment.focus();
    else this.focused = this.reader.comment;
  }

  // Whether the page shows the film that was asked for last.
  get seen() {
    return this.viewer.box.isConnected && this.viewer.id === this.state.open;
  }

  // Keep what the reader says of the open film.
  note(own) {
    const { id } = this.viewer;
    if (!this.state.rows.has(id)) return;
    this.state.note(id, own);
    this.table.note(id);
    this.worklist.note(this.state.rows.get(id));
    this.keeper.changed();
    this.asker.ask(`reader-${id}`, { kind: "reader", id, ...own, view: this.view });
  }

  // Delete the open film alone; what its reader said of it is not lost without a question.
  askRemove() {
    if (this.heartbeat.isLost) return this.say(`${NO_SERVER} single films can't be deleted. Delete all still works.`);
    if (!this.seen) return this.say("The film is not shown yet, so it was not deleted. Press the key again.");
    const { id, file, reader } = this.state.rows.get(this.state.open);
    if (!said(reader) || !this.state.unsaved.has(id)) return this.remove(id);
    const why = "Your reading of it is in no CSV or report yet. This cannot be undone.";
    this.confirm.ask(`Delete ${file}?`, why, "Delete it", () => this.remove(id));
  }

  // Delete a film here and on the server, and open the one that takes its place in the worklist.
  remove(id) {
    const row = this.state.rows.get(id);
    if (!row) return; // deleted in another view while the question was open
    const next = neighbour(this.table.shown, id, 1) ?? neighbour(this.table.shown, id, -1);
    this.discard(id);
    this.asker.ask(`remove-${id}`, { kind: "remove", id });
    if (next) this.reopen(next);
    else this.say(`${row.file} deleted.`);
  }

  // A film is gone: so is all that the page has of it.
  discard(id) {
    if (!this.state.rows.has(id)) return;
    const open = this.state.open === id;
    this.state.remove(id);
    this.worklist.remove(id);
    this.table.remove([id]);
    if (this.viewer.id === id) this.viewer.release();
    if (open) this.body.replaceChildren();
    this.showResult(!open && !this.result.hidden);
    this.batch.hidden = this.state.rows.size === 0;
    this.keeper.changed();
    this.compareAgain();
  }

  sample(which, label) {
    if (this.heartbeat.isLost) return this.say(`${NO_SERVER} no film can be drawn. Start a new session.`);
    this.blank(`Drawing: ${label}`, 1);
    this.send({ kind: "sample", which });
  }

  reopen(row) {
    // without a server there would be no answer: keep what is shown
    if (this.heartbeat.isLost) return this.say(`${NO_SERVER} ${row.file} can't be opened. Its row can be saved as CSV.`);
    this.busy(`Opening ${row.file}`);
    this.ask(row.id);
    const { top, bottom } = this.body.getBoundingClientRect();
    const seen = Math.min(bottom, innerHeight) - Math.max(top, 0);
    if (seen < 0.4 * Math.min(bottom - top, innerHeight)) this.reading.scrollIntoView(); // asked for from further down
  }

  ask(id) {
    this.state.open = id;
    this.markOpen();
    this.asker.ask("open", { kind: "open", id });
  }

  // Ask for a piece of the open film's values beyond 8 bits. Without a server its preview has to do.
  askDeep(part) {
    if (this.heartbeat.isLost) return this.viewer.window.fallBack();
    this.asker.ask("deep", { kind: "deep", id: this.viewer.id, part });
  }

  // The CSV has the rows that the filter shows, in their order. It is made here, so that it needs no server.
  saveCsv() {
    const { shown } = this.table;
    if (!shown.length) return this.say("No file matches the filter, so there is nothing to save.");
    const name = csvName(new Date());
    saveFile(name, new Blob([csvOf(this.config.columns, shown)], { type: "text/csv" }));
    this.state.saved(shown.map((row) => row.id));
    this.keeper.changed();
    this.say(`${name} downloaded: ${shown.length} of ${this.state.rows.size} files.${unread(this.uploader.pending)}`);
  }

  // The report has all films of the session, also those that the filter hides.
  getReport() {
    this.getFile({ kind: "download" }, this.state.held, this.uploader.pending);
  }

  // The report of the open film alone.
  getFilmReport() {
    if (this.heartbeat.isLost) return this.say(`${NO_SERVER} no report can be made. Start a new session.`);
    if (!this.seen) return this.say("The film is not shown yet, so no report was made. Press the key again.");
    const { id } = this.viewer;
    if (this.state.rows.has(id)) this.getFile({ kind: "film_report", id }, [id], 0);
  }

  getFile(request, reported, unread) {
    if (!this.downloader.fetching) {
      this.unread = unread;
      this.state.report(reported);
      this.asker.hurry(IN_REPORTS); // or the report would have an earlier reading than the page, or a deleted film
    }
    this.downloader.get(request);
  }

  saveReport(name, blob) {
    saveFile(name, blob);
    this.state.saved(this.state.reported);
    this.keeper.changed();
    if (this.unread) this.say(`${name} downloaded.${unread(this.unread)}`);
  }

  labelDownloads(shown, all) {
    this.csv.textContent = "Download CSV" + (shown < all ? ` (${shown} of ${all})` : "");
    const { length } = this.state.held;
    const which = length < all ? ` (${length} of this session)` : ` (all ${all})`;
    this.report.textContent = "Download report" + (shown < all || length < all ? which : "");
    this.report.hidden = !length;
  }

  askForget() {
    const count = this.state.rows.size;
    const readings = this.state.unsavedReadings;
    if (count <= FEW && !readings) return this.forget();
    const unsaved = this.state.unsaved.size;
    const yours = readings ? `, ${readings} of them with your reading` : "";
    const number = unsaved === 1 ? "1 result" : `${unsaved} results`;
    const also = unsaved ? ` Not saved as CSV or report yet: ${number}${yours}.` : "";
    const consequence = `This cannot be undone: the server deletes the films and their results at once.${also}`;
    const what = count === 1 ? "the result" : `all ${count} results`;
    this.confirm.ask(`Delete ${what}?`, consequence, count === 1 ? "Delete it" : `Delete all ${count}`, () => {
      this.forget();
      this.main.querySelector("button.choose").focus(); // the pressed button is gone
    });
  }

  forget() {
    this.empty();
    this.send({ kind: "clear" });
  }

  empty() {
    this.came = [];
    this.uploader.forget();
    this.list.clear();
    this.downloader.stop();
    for (const key of ["open", "deep"]) this.asker.drop(key);
    if (this.state.undeleted) this.trouble.hidden = true;
    this.state.forget(this.heartbeat.pings);
    this.viewer.release();
    this.body.replaceChildren();
    this.table.filter.value = this.table.only.value = "";
    this.worklist.clear();
    this.table.clear();
    this.batch.hidden = true;
    for (const key of ["truth", "compare"]) this.asker.drop(key);
    this.truth.clear();
    this.table.label({});
    this.keeper.write();
    this.showResult(false);
  }

  // --- the result

  // New films are coming, `others` of them not uploads: clear the old result, which must not be taken for theirs.
  blank(text, others = 0) {
    this.state.expect(others);
    this.markOpen();
    this.busy(text);
  }

  // The viewer keeps its film, for which `restore` has a use.
  busy(text) {
    const focused = document.activeElement;
    if (this.viewer.box.contains(focused)) this.focused = focused; // it comes back with the next film
    this.body.replaceChildren(make("p", { class: "busy" }, text));
    this.brief.textContent = "";
    this.showResult(true);
    this.say(text);
  }

  // No answer will come to what the page waits for: show again the film that was shown before.
  restore() {
    if (!this.body.querySelector(".busy")) return;
    this.asker.drop("open");
    this.awaiting = this.state.open === null; // new films, of which the first is to be opened should the server recover
    const kept = this.state.rows.has(this.viewer.id) && this.viewer.threshold === this.state.threshold;
    this.state.open = kept ? this.viewer.id : null;
    if (kept) this.showFilm();
    else this.body.replaceChildren();
    this.showResult(kept);
    this.markOpen();
  }

  // Hide the result if nothing is pending and nothing was opened.
  settle() {
    if (this.state.open === null && this.uploader.pending + this.state.others === 0) this.showResult(false);
  }

  // The viewer has a film: put it on the page, with the focus that it had.
  showFilm() {
    this.body.replaceChildren(this.viewer.box);
    if (this.focused && document.activeElement === document.body) {
      const target = this.focused.offsetWidth ? this.focused : this.viewer.frame; // a film out of scope has no map
      target.focus({ preventScroll: true });
    }
    this.focused = null;
  }

  summarise(shown) {
    const number = shown.probability == null ? "" : `, probability ${probabilityText(shown.probability)}`;
    this.brief.textContent = `${shown.name}: ${shown.verdict}${number}${inBrackets(shown.caution)}`;
  }

  // --- the server's answers

  receive(message, buffers) {
    this.heartbeat.hear();
    if (!/^(row|ack)$/.test(message.kind)) this.gatherer.hurry(); // in the order of the messages
    const name = `on_${message.kind}`;
    if (this[name]) this[name](message, buffers);
  }

  on_pong({ n }) {
    if (!this.heartbeat.isMine(n)) return;
    this.uploader.pong(n);
    this.downloader.pong(n);
    // the server may have made the move, and its changes were lost with the answer
    if (this.asker.pong(n).includes("point")) this.state.doubtful = true;
    if (this.state.doubtful) this.send({ kind: "verdicts" });
    if (!this.state.lostForget(n, this.uploader.pending)) return;
    if (this.state.undeleted) this.complain(NOT_DELETED);
    else this.forget();
  }

  on_ack({ id, received }) {
    this.uploader.ack(id, received);
  }

  on_gone({ id }) {
    this.uploader.gone(id);
  }

  on_reading({ files }) {
    if (!this.state.forgetting) this.blank(files === 1 ? "Reading the file" : `Reading ${files} files`, files);
  }

  on_row({ row }) {
    if (this.state.forgetting) return;
    this.collect(row);
    if (this.uploader.pending) this.gatherer.ask();
    else this.gatherer.now();
  }

  // Note a row that has come, to be shown with others; its upload has ended, so the next file is sent.
  collect(row) {
    this.came.push({ row, mine: this.uploader.end(row.id, row.error || "read", !!row.error) });
  }

  // Put the rows that have come on the page: those of a long batch together, or drawing them would take longer than
  // reading the films.
  showRows() {
    const came = this.came.splice(0);
    if (!came.length) return;
    this.list.teller.hurry(); // in the same frame
    const toOpen = came.filter(({ row, mine }) => this.state.arrive(row, mine));
    for (const { row } of came) this.worklist.put(this.state.rows.get(row.id));
    this.table.put(...came.map(({ row }) => row.id));
    this.batch.hidden = this.truth.box.hidden = false;
    this.compareAgain();
    this.arrange();
    this.keeper.changed();
    if (toOpen.length) this.ask(toOpen[0].row.id);
    else if (came.some(({ row }) => row.id === this.state.open)) this.markOpen(); // it came twice
    for (const { row } of came) if (row.error) this.say(`${row.file}: not read: ${row.error}`);
    if (came.some(({ row }) => row.error)) this.settle();
  }

  // All rows of the session, for a view that is new.
  on_rows({ rows }) {
    const doubles = this.state.unkeep(rows);
    for (const id of doubles) this.worklist.remove(id);
    this.table.remove(doubles);
    if (this.state.forgetting) return;
    for (const row of rows) this.collect(row);
    this.gatherer.now();
  }

  on_show({ shown }, buffers) {
    this.asker.answered("open");
    if (this.state.forgetting || shown.id !== this.state.open) return; // another was opened meanwhile
    this.viewer.show(shown, buffers);
    this.reader.show(this.state.rows.get(shown.id)?.reader);
    this.showFilm();
    this.summarise(shown);
    this.showResult(true);
    this.say(sentence(shown));
  }

  on_deep(message, buffers) {
    this.asker.answered("deep");
    if (message.id === this.viewer.id) this.viewer.window.piece(message, buffers?.[0]);
  }

  on_noted({ id, view, own }) {
    const key = `reader-${id}`;
    if (view === this.view) this.asker.answered(key);
    else if (!this.asker.asked.has(key) && this.state.hear(id, own)) this.showReading(id, own); // else ours comes last
  }

  // Another view of the session has another reading of this film.
  showReading(id, own) {
    this.table.note(id);
    this.worklist.note(this.state.rows.get(id));
    if (id === this.viewer.id) this.reader.show(own);
    this.keeper.changed();
  }

  on_removed({ id }) {
    this.asker.answered(`remove-${id}`);
    if (!this.state.forgetting) this.discard(id); // from another view
  }

  on_compared({ of, problem, found }) {
    this.asker.answered(of);
    if (this.state.forgetting) return;
    this.truth.show({ problem, found });
    if (problem) return;
    this.table.label(found?.labels ?? {});
    if (of === "truth") this.say(`Labels read: ${found.cover}`);
  }

  on_operating({ operating }) {
    this.asker.answered("metrics");
    this.state.threshold = operating.threshold;
    this.operating.show(operating, !this.asker.asked.has("point"));
  }

  on_moved({ operating, rows, shown, all }) {
    this.operating.show(operating, all ? !this.asker.asked.has("point") : this.asker.answered("point"));
    if (all) this.state.doubtful = false;
    if (this.state.forgetting) return;
    this.state.move(operating.threshold, rows);
    this.table.changed();
    this.keeper.changed();
    this.compareAgain();
    if (shown?.id !== this.viewer.id) return this.follow();
    const seen = shown.id === this.state.open && this.viewer.box.isConnected;
    if (seen && shown.verdict !== this.viewer.verdict) this.say(sentence(shown));
    this.viewer.explain(shown);
    if (seen) this.summarise(shown);
  }

  // The server explains the film that was opened last, which is another view's: ask for that of this one.
  follow() {
    if (this.seen) this.asker.ask("open", { kind: "open", id: this.viewer.id });
  }

  on_cleared() {
    if (!this.state.forgetting) this.empty(); // another view of this session deleted them
    this.state.forgets.shift();
    if (!this.state.forgetting) this.say("All films deleted.");
  }

  on_trouble({ message, id }) {
    this.complain(message + this.downloader.stop());
    this.asker.failed();
    if (id == null) this.state.others = 0;
    if (id != null && id === this.state.open) this.state.open = null;
    this.uploader.end(id, "not read: something went wrong on the server", true);
    this.settle();
  }

  on_about({ html }) {
    this.about.innerHTML = html; // rendered by Python from the model's card, with raw HTML escaped
  }

  on_file(message, buffers) {
    this.downloader.piece(message, buffers[0]);
  }

  // --- errors and lost connections

  complain(words) {
    this.trouble.replaceChildren(make("p", {}, words));
    this.trouble.hidden = false;
    this.say(words);
  }

  lost() {
    this.gatherer.hurry();
    const again = button("Start a new session", () => location.reload(), { class: "main" });
    this.gone.replaceChildren(
      make("h2", {}, "The server has lost this session"),
      make("p", {}, LOST + unread(this.uploader.pending)),
      make("p", {}, again),
    );
    this.gone.hidden = false;
    this.restore();
    this.asker.drop("deep");
    this.viewer.window.fallBack();
    this.downloader.stop();
    this.setLost(true);
    this.say("The server has lost this session. Save the CSV, then start a new one.");
  }

  setLost(lost) {
    this.report.disabled = this.reader.report.disabled = this.reader.remove.disabled = lost;
    this.table.setLost(lost);
  }

  recovered() {
    this.gone.hidden = true;
    if (this.awaiting) this.state.expect();
    this.awaiting = false;
    this.setLost(false);
    this.say("The server answers again.");
  }

  // The results of this tab's earlier page; their films are no longer on the server.
  putKept() {
    const rows = this.keeper.recall();
    if (!rows.length) return;
    this.state.restore(rows);
    const names = rows.map(nameOfKept).join("\n").slice(0, this.config.max_table);
    this.send({ kind: "kept" }, [new TextEncoder().encode(names).buffer]); // labels are for them, too
    for (const { id } of rows) this.worklist.put(this.state.rows.get(id));
    this.table.put(...rows.map((row) => row.id));
    this.batch.hidden = false;
    this.arrange();
    const films = rows.length === 1 ? "one result" : `${rows.length} results`;
    this.say(`Kept in this tab: ${films}. Their films are no longer on the server; drop them again to see them.`);
  }

  start() {
    const tooLarge = () => this.complain(TOO_LARGE); // the plain upload sends all its files in one message
    const near = (e) => e.preventDefault(); // a file dropped beside the zone must not replace the page
    window.addEventListener("xp-too-large", tooLarge);
    for (const name of ["dragover", "drop"]) window.addEventListener(name, near);
    const hurry = () => this.gatherer.hurry();
    for (const name of DEEDS) window.addEventListener(name, hurry, true);
    const stop = this.heartbeat.start(window);
    const waiting = () => !this.heartbeat.isLost && this.uploader.pending > 0;
    const stay = askBeforeLeaving(window, () => this.state.unsaved.size > 0 || waiting());
    this.model.on("msg:custom", (message, buffers) => this.receive(message, buffers));
    this.asker.ask("metrics", { kind: "hello" });
    this.say("Ready.");
    this.putKept();
    this.main.dataset.ready = "1";
    const named = namePlainUpload();
    const ends = [
      listenToKeys(document, () => this.help.letters, (action) => this.act(action)),
      listenToPaste(document, (files) => this.take(files)),
      this.theme.follow(),
      this.full.follow(),
      this.keeper.follow(window),
      this.leave,
    ];
    return () => {
      for (const end of ends) end();
      stop();
      stay();
      named();
      window.removeEventListener("xp-too-large", tooLarge);
      for (const name of DEEDS) window.removeEventListener(name, hurry, true);
      for (const name of ["dragover", "drop"]) window.removeEventListener(name, near);
    };
  }
}

function render({ model, el }) {
  const config = model.get("config");
  if (config.problem) {
    el.append(make("div", { class: "xp" }, notice()), broken(config.problem));
    return;
  }
  const page = new Page(model, config);
  el.append(page.main);
  return page.start();
}

export default { render };
