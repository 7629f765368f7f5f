// The dashboard's page, which shows what Python decides. File names are only ever set as text; images arrive as bytes.
import { Confirm } from "./confirm.js";
import { csvName, csvOf, unread } from "./csv.js";
import { button, clean, make, notice, size } from "./dom.js";
import { Downloader, saveFile } from "./download.js";
import { Heartbeat } from "./heartbeat.js";
import { askBeforeLeaving } from "./leave.js";
import { OperatingPanel } from "./operating.js";
import { Asker, State } from "./state.js";
import { Table } from "./table.js";
import { Uploader, UploadList } from "./upload.js";
import { sentence, Viewer } from "./viewer.js";

const TOO_LARGE =
  "The plain upload takes at most ten megabytes in total, so none of these files was read. Use the drop zone or its " +
  "button. To use the plain upload again, reload the page, which deletes its films.";
const NOT_DELETED =
  "The films may not have been deleted: the connection was interrupted. Press Delete all again.";
const LOST =
  "Its process has ended or does not answer. The results on this page can still be read and saved: Download CSV works " +
  "without the server. Nothing new can be computed or opened, and the uploaded radiographs are no longer on the server.";
const NO_SERVER = "The server has lost this session, so";
const FEW = 3; // results that are deleted without a question

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
    const busy = () => this.uploader.pending > 0;
    this.heartbeat = new Heartbeat({ send, patience, rest, lost, recovered, busy, first: view * 2 ** 21 });
    this.asker = new Asker(send, ping);
    this.list = new UploadList();
    this.uploader = new Uploader({ send, ping, chunk, maxBytes, view: this.list, mark: view.toString(36) });
    this.downloader = new Downloader({ send, ping, say, save: (name, blob) => this.saveReport(name, blob) });
    this.viewer = new Viewer();
    this.confirm = new Confirm();
    this.table = new Table(this.state, (row) => this.reopen(row), (shown, all) => this.labelDownloads(shown, all));
    this.operating = new OperatingPanel(this.asker, config.threshold);
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
    this.body = make("div", { class: "result-body" });
    this.result = make(
      "section",
      { class: "card shown", "aria-labelledby": "xp-result", hidden: true },
      make("h2", { id: "xp-result" }, "Result"),
      this.body,
    );
    this.main = make(
      "main",
      { class: "xp", lang: "en" },
      notice(),
      this.gone,
      this.trouble,
      make("h1", {}, "Chest radiographs: NORMAL or PNEUMONIA"),
      make("p", { class: "soft" }, this.config.subtitle),
      this.status,
      this.layUpload(),
      this.result,
      this.operating.box,
      this.layBatch(),
      this.layAbout(),
      this.confirm.box,
    );
  }

  layUpload() {
    const section = make(
      "section",
      { class: "card", "aria-labelledby": "xp-upload" },
      make("h2", { id: "xp-upload" }, "Radiographs"),
      this.layDrop(),
      make(
        "div",
        { class: "row samples" },
        make("span", {}, "Or try a synthetic radiograph (computer-generated, no patient):"),
        ...this.config.samples.map(([which, label]) =>
          button(label, () => this.sample(which, label), { class: "sample" }),
        ),
      ),
      this.list.box,
    );
    const over = (on) => (e) => {
      e.preventDefault();
      this.drop.classList.toggle("over", on);
    };
    for (const name of ["dragenter", "dragover"]) section.addEventListener(name, over(true));
    for (const name of ["dragleave", "drop"]) section.addEventListener(name, over(false));
    section.addEventListener("drop", (e) => this.take(e.dataTransfer.files));
    return section;
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
      `PNG, JPEG or DICOM, also TIFF, BMP, WebP; up to ${size(this.config.max_bytes)} each. ` +
      "Processed in memory on the server; deleted when you close this page.";
    this.drop = make(
      "div",
      { class: "drop" },
      make("p", {}, make("strong", {}, "Drop radiographs here"), ", one or many"),
      make("p", {}, choose, input),
      make("p", { class: "soft" }, kinds),
    );
    return this.drop;
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
        this.table.filter,
        this.table.only,
        this.csv,
        this.report,
        button("Delete all", () => this.askForget(), { class: "clear" }),
      ),
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
    const added = [...files];
    if (!added.length) return;
    if (this.heartbeat.isLost) return this.say(`${NO_SERVER} no file can be read. Start a new session.`);
    this.trouble.hidden = !this.state.undeleted;
    this.blank(added.length === 1 ? `Reading ${clean(added[0].name)}` : `Reading ${added.length} files`);
    this.uploader.take(added);
    this.list.showLast();
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
  }

  ask(id) {
    this.state.open = id;
    this.table.markOpen();
    this.asker.ask("open", { kind: "open", id });
  }

  // The CSV has the rows that the filter shows, in their order. It is made here, so that it needs no server.
  saveCsv() {
    const { shown } = this.table;
    if (!shown.length) return this.say("No file matches the filter, so there is nothing to save.");
    const name = csvName(new Date());
    saveFile(name, new Blob([csvOf(this.config.columns, shown)], { type: "text/csv" }));
    this.state.saved(shown.map((row) => row.id));
    this.say(`${name} downloaded: ${shown.length} of ${this.state.rows.size} files.${unread(this.uploader.pending)}`);
  }

  // The report has all films, also those that the filter hides.
  getReport() {
    if (!this.downloader.fetching) {
      this.reported = [...this.state.rows.keys()];
      this.unread = this.uploader.pending;
    }
    this.downloader.get();
  }

  saveReport(name, blob) {
    saveFile(name, blob);
    this.state.saved(this.reported);
    if (this.unread) this.say(`${name} downloaded.${unread(this.unread)}`);
  }

  labelDownloads(shown, all) {
    this.csv.textContent = "Download CSV" + (shown < all ? ` (${shown} of ${all})` : "");
    this.report.textContent = "Download report" + (shown < all ? ` (all ${all})` : "");
  }

  askForget() {
    const count = this.state.rows.size;
    if (count <= FEW) return this.forget();
    const unsaved = this.state.unsaved.size;
    const also = unsaved ? ` Not saved as CSV or report yet: ${unsaved}.` : "";
    const consequence = `This cannot be undone: the server deletes the films and their results at once.${also}`;
    this.confirm.ask(`Delete all ${count} results?`, consequence, `Delete all ${count}`, () => {
      this.forget();
      this.main.querySelector("button.choose").focus(); // the pressed button is gone
    });
  }

  forget() {
    this.empty();
    this.send({ kind: "clear" });
  }

  empty() {
    this.uploader.forget();
    this.list.clear();
    this.downloader.stop();
    this.asker.drop("open");
    if (this.state.undeleted) this.trouble.hidden = true;
    this.state.forget(this.heartbeat.pings);
    this.viewer.release();
    this.body.replaceChildren();
    this.table.clear();
    this.result.hidden = this.batch.hidden = true;
  }

  // --- the result

  // New films are coming, `others` of them not uploads: clear the old result, which must not be taken for theirs.
  blank(text, others = 0) {
    this.state.expect(others);
    this.table.markOpen();
    this.busy(text);
  }

  // The viewer keeps its film, for which `restore` has a use.
  busy(text) {
    this.body.replaceChildren(make("p", { class: "busy" }, text));
    this.result.hidden = false;
    this.say(text);
  }

  // No answer will come to what the page waits for: show again the film that was shown before.
  restore() {
    if (!this.body.querySelector(".busy")) return;
    this.asker.drop("open");
    this.awaiting = this.state.open === null; // new films, of which the first is to be opened should the server recover
    const kept = this.state.rows.has(this.viewer.id) && this.viewer.threshold === this.state.threshold;
    this.state.open = kept ? this.viewer.id : null;
    this.body.replaceChildren(...(kept ? [this.viewer.box] : []));
    this.result.hidden = !kept;
    this.table.markOpen();
  }

  // Hide the result if nothing is pending and nothing was opened.
  settle() {
    if (this.state.open === null && this.uploader.pending + this.state.others === 0) this.result.hidden = true;
  }

  // --- the server's answers

  receive(message, buffers) {
    this.heartbeat.hear();
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
    const mine = this.uploader.end(row.id, row.error || "read", !!row.error);
    const opens = this.state.arrive(row, mine);
    this.table.put(row.id);
    this.batch.hidden = false;
    if (opens) this.ask(row.id);
    if (row.error) {
      this.say(`${row.file}: not read: ${row.error}`);
      this.settle();
    }
  }

  // All rows of the session, for a view that is new.
  on_rows({ rows }) {
    for (const row of rows) this.on_row({ row });
  }

  on_show({ shown }, buffers) {
    this.asker.answered("open");
    if (this.state.forgetting || shown.id !== this.state.open) return; // another was opened meanwhile
    this.viewer.show(shown, buffers);
    this.body.replaceChildren(this.viewer.box);
    this.result.hidden = false;
    this.say(sentence(shown));
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
    if (!shown || shown.id !== this.viewer.id) return;
    const seen = shown.id === this.state.open && this.viewer.box.isConnected;
    if (seen && shown.verdict !== this.viewer.verdict) this.say(sentence(shown));
    this.viewer.explain(shown);
  }

  on_cleared() {
    if (!this.state.forgetting) this.empty(); // another view of this session deleted them
    this.state.forgets.shift();
    if (!this.state.forgetting) this.say("All films deleted.");
  }

  on_trouble({ message, id }) {
    this.complain(message);
    this.downloader.stop();
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
    const again = button("Start a new session", () => location.reload(), { class: "main" });
    this.gone.replaceChildren(
      make("h2", {}, "The server has lost this session"),
      make("p", {}, LOST + unread(this.uploader.pending)),
      make("p", {}, again),
    );
    this.gone.hidden = false;
    this.restore();
    this.downloader.stop();
    this.setLost(true);
    this.say("The server has lost this session. Save the CSV, then start a new one.");
  }

  setLost(lost) {
    this.report.disabled = lost;
    this.table.setLost(lost);
  }

  recovered() {
    this.gone.hidden = true;
    if (this.awaiting) this.state.expect();
    this.awaiting = false;
    this.setLost(false);
    this.say("The server answers again.");
  }

  start() {
    const tooLarge = () => this.complain(TOO_LARGE); // the plain upload sends all its files in one message
    const near = (e) => e.preventDefault(); // a file dropped beside the zone must not replace the page
    window.addEventListener("xp-too-large", tooLarge);
    for (const name of ["dragover", "drop"]) window.addEventListener(name, near);
    const stop = this.heartbeat.start(window);
    const waiting = () => !this.heartbeat.isLost && this.uploader.pending > 0;
    const stay = askBeforeLeaving(window, () => this.state.unsaved.size > 0 || waiting());
    this.model.on("msg:custom", (message, buffers) => this.receive(message, buffers));
    this.asker.ask("metrics", { kind: "hello" });
    this.say("Ready.");
    this.main.dataset.ready = "1";
    const named = namePlainUpload();
    return () => {
      stop();
      stay();
      named();
      window.removeEventListener("xp-too-large", tooLarge);
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
