// The dashboard's page. Python decides, this shows: names are only ever set as text, pictures come as bytes.
const ICONS = {
  NORMAL:
    '<circle cx="24" cy="24" r="20" fill="none" stroke="currentColor" stroke-width="4"/><path d="M14 25l7 7 13-15" fill="none" stroke="currentColor" stroke-width="5"/>',
  PNEUMONIA:
    '<path d="M24 4l21 38H3z" fill="none" stroke="currentColor" stroke-width="4"/><path d="M24 17v13M24 34v4" stroke="currentColor" stroke-width="5"/>',
  UNSURE:
    '<circle cx="24" cy="24" r="20" fill="none" stroke="currentColor" stroke-width="4" stroke-dasharray="6 4"/><path d="M17 19a7 7 0 1 1 10 6c-2 1-3 3-3 5M24 34v4" fill="none" stroke="currentColor" stroke-width="4.5"/>',
  STRANGE:
    '<rect x="5" y="9" width="38" height="30" fill="none" stroke="currentColor" stroke-width="4"/><path d="M9 41L39 7" stroke="currentColor" stroke-width="5"/>',
};
const WORDS = {
  NORMAL: "The model finds no pneumonia at this operating point.",
  PNEUMONIA: "The model finds pneumonia at this operating point.",
  UNSURE: "Too near the operating point: the model leaves this one to a reader.",
  STRANGE: "The model was not made for this picture, and its probability means nothing.",
};
const kind = (verdict) => (verdict === "NOT A CHEST X-RAY" ? "STRANGE" : verdict);
const percent = (v) => (v == null ? "–" : (100 * v).toFixed(1) + " %");
const size = (n) => (n < 1e6 ? Math.max(1, Math.round(n / 1e3)) + " kB" : (n / 1e6).toFixed(1) + " MB");

// as Python's `printable` does: no control or direction characters, no endless names
const clean = (name) => {
  const shown = name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
  return shown.length > 120 ? shown.slice(0, 80) + "…" + shown.slice(-39) : shown;
};

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (v === false || v == null) continue;
    if (k.startsWith("on")) node.addEventListener(k.slice(2), v);
    else node.setAttribute(k, v === true ? "" : v);
  }
  node.append(...children);
  return node;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 48 48");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = ICONS[name]; // one of the constants above
  return svg;
}

const notice = () =>
  make("p", { class: "notice", role: "note" }, "Not a medical device. For research and teaching; no decision about a patient may rest on it.");

function render({ model, el }) {
  const config = model.get("config");
  const send = (content, buffers) => {
    try {
      model.send(content, undefined, buffers);
    } catch (e) {
      console.warn(e);
    } // the line is cut: the heartbeat below will say so
  };
  if (config.problem) {
    el.append(
      make("div", { class: "xp" }, notice()),
      make(
        "div",
        { class: "xp-broken", role: "alert" },
        make("h1", {}, "There is no model"),
        make("p", {}, config.problem),
        make("p", {}, "The page can be reloaded once that is mended."),
      ),
    );
    return;
  }

  // --- the page
  const status = make("div", { role: "status", "aria-live": "polite", class: "soft status" });
  const gone = make("div", { class: "gone", role: "alert", hidden: true });
  const trouble = make("div", { class: "gone trouble", role: "alert", hidden: true });
  const input = make("input", {
    type: "file",
    multiple: true,
    accept: config.accept,
    "aria-label": "Choose radiographs",
    tabindex: "-1",
    onchange: () => {
      take(input.files);
      input.value = "";
    },
  });
  const choose = make("button", { type: "button", class: "main choose", onclick: () => input.click() }, "Choose radiographs");
  const drop = make(
    "div",
    { class: "drop" },
    make("p", {}, make("strong", {}, "Drop radiographs here"), ", one or many"),
    make("p", {}, choose, input),
    make(
      "p",
      { class: "soft" },
      `PNG, JPEG or DICOM, also TIFF, BMP, WebP; up to ${size(config.max_bytes)} each. They stay in memory and go when this page closes.`,
    ),
  );
  const samples = make(
    "div",
    { class: "row samples" },
    make("span", {}, "Or try a synthetic one, drawn by the computer, no patient:"),
    ...config.samples.map((s) =>
      make(
        "button",
        {
          type: "button",
          class: "sample",
          onclick: () => {
            blank(`Drawing: ${s[1]}`);
            send({ kind: "sample", which: s[0] });
          },
        },
        s[1],
      ),
    ),
  );
  const progress = make("ul", { class: "uploads", "aria-label": "Files" });
  const upload = make(
    "section",
    { class: "card", "aria-labelledby": "xp-upload" },
    make("h2", { id: "xp-upload" }, "Radiographs"),
    drop,
    samples,
    progress,
  );
  const result = make("section", { class: "card shown", "aria-labelledby": "xp-result", hidden: true }, make("h2", { id: "xp-result" }, "Result"));
  const body = make("div", { class: "result-body" });
  result.append(body);

  const slider = make("input", {
    type: "range",
    min: "0.01",
    max: "0.99",
    step: "0.01",
    value: config.threshold,
    id: "xp-threshold",
    oninput: () => send({ kind: "threshold", value: +slider.value }),
  });
  const shownThreshold = make("output", { for: "xp-threshold" });
  const prevalence = make("input", {
    type: "number",
    min: "0",
    max: "100",
    step: "1",
    value: "30",
    id: "xp-prevalence",
    oninput: () => {
      if (prevalence.value !== "") send({ kind: "prevalence", value: +prevalence.value / 100 });
    },
  });
  const reset = make("button", { type: "button", class: "reset", onclick: () => send({ kind: "default" }) }, "Back to the default");
  const figures = make("div", { class: "figures" });
  const operating = make(
    "section",
    { class: "card", "aria-labelledby": "xp-operating" },
    make("h2", { id: "xp-operating" }, "Operating point"),
    make("p", {}, "PNEUMONIA from this probability on. A lower one misses less and alarms more."),
    make("div", { class: "row" }, make("label", { for: "xp-threshold" }, "Probability"), slider, shownThreshold, reset),
    make("div", { class: "row" }, make("label", { for: "xp-prevalence" }, "Patients with pneumonia, of 100"), prevalence),
    figures,
  );

  const filter = make("input", { type: "search", "aria-label": "Filter by file name", placeholder: "file name", oninput: () => list() });
  const only = make(
    "select",
    { "aria-label": "Show only this verdict", onchange: () => list() },
    make("option", { value: "" }, "all verdicts"),
    ...["NORMAL", "PNEUMONIA", "UNSURE", "NOT A CHEST X-RAY", "not read"].map((v) => make("option", { value: v }, v)),
  );
  const tableBox = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of the results" });
  const counted = make("p", { class: "soft" });
  // a file comes in pieces, each asked for when the one before is here: a slow line still brings signs of life
  let fetching = null; // the request, the number of the last ping before it, the pieces so far
  const ask = (request) => {
    fetching = { request, sealed: pings, pieces: fetching ? fetching.pieces : [] };
    send(request);
  };
  const get = (what) => () => {
    if (fetching) return say("Wait until the file before is here."); // its pieces would be taken for this one's
    say("The file is being made.");
    ask({ kind: "download", what });
  };
  const batch = make(
    "section",
    { class: "card batch", "aria-labelledby": "xp-batch", hidden: true },
    make("h2", { id: "xp-batch" }, "All files"),
    make(
      "div",
      { class: "row" },
      filter,
      only,
      make("button", { type: "button", class: "csv", onclick: get("csv") }, "Download CSV"),
      make("button", { type: "button", class: "html", onclick: get("html") }, "Download report"),
      make(
        "button",
        {
          type: "button",
          class: "clear",
          onclick: () => {
            // now, not when the answer is here: a file begun after the order would be kept, one chosen after it dropped
            queue.splice(0);
            for (const w of waiting.values()) w.end();
            progress.replaceChildren();
            send({ kind: "clear" });
          },
        },
        "Forget all",
      ),
    ),
    counted,
    tableBox,
  );
  const aboutBody = make("div", { class: "about" }, make("p", { class: "soft" }, "…"));
  const about = make(
    "details",
    {
      class: "card",
      ontoggle: () => {
        if (about.open && !about.dataset.asked) {
          about.dataset.asked = "1";
          send({ kind: "about" });
        }
      },
    },
    make("summary", {}, "About this model"),
    make("p", {}, config.about),
    aboutBody,
  );
  const main = make(
    "main",
    { class: "xp", lang: "en" },
    notice(),
    gone,
    trouble,
    make("h1", {}, "Chest radiographs: NORMAL or PNEUMONIA"),
    make("p", { class: "soft" }, config.subtitle),
    status,
    upload,
    result,
    operating,
    batch,
    about,
  );
  el.append(main);

  // --- the server's answers
  const rows = new Map(),
    waiting = new Map(),
    urls = [];
  let order = { key: "n", down: false },
    open = null,
    opened = 0,
    threshold = config.threshold,
    lastPong = Date.now(),
    pings = 0,
    lost = false;
  const say = (text) => {
    status.textContent = text;
  };

  function blank(text) {
    // the old result must not be taken for the new file's
    open = null;
    urls.splice(0).forEach((u) => URL.revokeObjectURL(u));
    body.replaceChildren(make("p", { class: "busy" }, text));
    result.hidden = false;
    list();
    say(text);
  }

  model.on("msg:custom", (message, buffers) => {
    lastPong = Date.now();
    if (lost) {
      lost = false;
      gone.hidden = true;
      say("The server answers again.");
    }
    const handler = {
      pong() {
        // answers come in order: whatever was sent before this ping, and has no answer yet, never arrived
        for (const w of waiting.values()) if (message.n > w.sealed && w.missing()) interrupted(w);
        if (fetching && message.n > fetching.sealed) ask(fetching.request);
      },
      ack() {
        const w = waiting.get(message.id);
        if (w) w.ack(message.received);
      },
      row() {
        rows.set(message.row.id, { n: rows.has(message.row.id) ? rows.get(message.row.id).n : ++opened, ...message.row });
        finish(message.row);
        batch.hidden = false;
        list();
        if (message.row.error) unread(message.row);
      },
      rows() {
        for (const r of message.rows) rows.set(r.id, { ...rows.get(r.id), ...r });
        list();
      },
      show() {
        show(message.shown, buffers);
      },
      operating() {
        operate(message.operating);
      },
      cleared() {
        rows.clear();
        batch.hidden = true;
        result.hidden = true;
        open = null;
        say("Everything is forgotten.");
      },
      trouble() {
        trouble.replaceChildren(make("p", {}, message.message));
        trouble.hidden = false;
        say(message.message);
        fetching = null;
        if (body.querySelector(".busy")) result.hidden = true; // nothing is coming
        const w = waiting.get(message.id);
        if (!w) return;
        w.job.bar.remove();
        w.job.note.className = "note error";
        w.job.note.textContent = " – not read: something went wrong on the server";
        w.end();
      },
      about() {
        aboutBody.innerHTML = message.html;
      }, // made by Python of the model's own card, raw HTML in it escaped
      file() {
        if (!fetching) return;
        if (message.number === 0) fetching.pieces = [];
        if (message.number !== fetching.pieces.length) return; // of a request that was repeated
        fetching.pieces.push(buffers[0]);
        if (!message.last) {
          say(`${message.name}: ${size((message.number + 1) * config.chunk)} of ${size(message.size)}`);
          return ask({ kind: "part", file: message.file, number: message.number + 1 });
        }
        const url = URL.createObjectURL(new Blob(fetching.pieces, { type: message.type }));
        fetching = null;
        make("a", { href: url, download: message.name }).click();
        setTimeout(() => URL.revokeObjectURL(url), 10000);
        say(`${message.name} is downloaded.`);
      },
    }[message.kind];
    if (handler) handler();
  });

  // --- uploads: one file after the other, in pieces, a few pieces ahead of what the server has taken
  const queue = [];
  let busy = false,
    counter = 0;

  function take(files) {
    const added = [...files];
    if (!added.length) return;
    trouble.hidden = true;
    blank(added.length === 1 ? `Reading ${clean(added[0].name)}` : `Reading ${added.length} files`);
    for (const file of added) {
      const id = `u${++counter}`,
        bar = make("progress", { max: Math.max(file.size, 1), value: "0", "aria-label": `Upload of ${clean(file.name)}` });
      const note = make("span", { class: "note" }),
        item = make("li", {}, make("span", { class: "name" }, clean(file.name)), bar, note);
      item.firstChild.append(note);
      progress.append(item);
      queue.push({ id, file, bar, item, note });
    }
    progress.scrollTop = progress.scrollHeight;
    next();
  }

  function refuse(job, why) {
    job.bar.remove();
    job.note.className = "note error";
    job.note.textContent = ` – ${why}`;
    send({ kind: "refused", id: job.id, name: job.file.name, why });
  }

  async function next() {
    if (busy) return;
    busy = true;
    while (queue.length) {
      const job = queue.shift(),
        { file } = job;
      if (file.size === 0) {
        refuse(job, "the file is empty");
        continue;
      }
      if (file.size > config.max_bytes) {
        refuse(job, `${size(file.size)} is over the limit of ${size(config.max_bytes)}`);
        continue;
      }
      try {
        await put(job);
      } catch (e) {
        refuse(job, "the browser can't read this file");
      }
    }
    busy = false;
  }

  async function put(job) {
    const { id, file } = job;
    let taken = 0,
      sent = 0,
      ended = false, // by a row, by an error, or because everything was forgotten
      wake = () => {};
    const finished = new Promise((done) =>
      waiting.set(id, {
        job,
        sealed: Infinity, // number of the last ping before the last piece
        missing: () => !ended && (taken < sent || sent >= file.size),
        end: () => {
          ended = true;
          done();
          wake();
        },
        ack: (n) => {
          taken = n;
          job.bar.value = n;
          wake();
        },
      }),
    );
    send({ kind: "begin", id, name: file.name, size: file.size });
    for (let at = 0; at < file.size && !ended; at += config.chunk) {
      const piece = await file.slice(at, at + config.chunk).arrayBuffer();
      while (at - taken > 4 * config.chunk && !ended)
        await new Promise((r) => {
          wake = r;
          setTimeout(r, 1000);
        });
      if (ended) break;
      send({ kind: "chunk", id, at }, [piece]);
      sent = at + piece.byteLength;
      waiting.get(id).sealed = pings;
    }
    await finished;
    waiting.delete(id);
  }

  function interrupted(w) {
    w.job.bar.remove();
    w.job.note.className = "note error";
    w.job.note.textContent = " – not read: the connection was interrupted. Choose the file again.";
    if (body.querySelector(".busy")) result.hidden = true; // nothing is coming
    w.end();
  }

  function finish(row) {
    const w = waiting.get(row.id);
    if (!w) return;
    w.job.bar.remove();
    w.job.note.className = row.error ? "note error" : "note soft";
    w.job.note.textContent = row.error ? ` – ${row.error}` : ` – ${row.verdict}`;
    w.end();
  }

  function unread(row) {
    say(`${row.file}: not read: ${row.error}`);
    const coming = queue.length || [...waiting.keys()].some((id) => id !== row.id);
    if (!coming && body.querySelector(".busy")) result.hidden = true;
  }

  for (const name of ["dragenter", "dragover"])
    upload.addEventListener(name, (e) => {
      e.preventDefault();
      drop.classList.add("over");
    });
  for (const name of ["dragleave", "drop"])
    upload.addEventListener(name, (e) => {
      e.preventDefault();
      drop.classList.remove("over");
    });
  upload.addEventListener("drop", (e) => take(e.dataTransfer.files));
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (e) => e.preventDefault()); // a near miss must not replace the page

  // --- one result
  function show(s, buffers) {
    open = s.id;
    urls.splice(0).forEach((u) => URL.revokeObjectURL(u));
    const v = kind(s.verdict);
    const verdict = make("div", { class: `verdict v-${v}` }, icon(v), make("div", {}, make("strong", {}, s.verdict), make("span", {}, WORDS[v])));
    const left = Math.min(100, Math.max(0, 100 * s.probability)),
      cut = Math.min(100, Math.max(0, 100 * s.threshold));
    const scale = make("div", {
      class: "scale",
      role: "img",
      "aria-label": `Calibrated probability of PNEUMONIA ${s.probability.toFixed(3)}; operating point ${s.threshold.toFixed(3)}`,
    });
    const edge = (x) => Math.min(88, Math.max(12, x)) + "%";
    const bar = make("div", { class: "bar" }, make("i", { style: `left:${cut}%` }));
    scale.append(
      bar,
      make("div", { class: "cut", style: `left:${cut}%` }),
      make("span", { class: "label", style: `left:${edge(cut)};top:-1.2rem` }, `operating point ${s.threshold.toFixed(3)}`),
      make("div", { class: "point", style: `left:${left}%` }),
      make("strong", { class: "label", style: `left:${edge(left)};top:2.5rem` }, s.probability.toFixed(3)),
      make("div", { class: "ends" }, make("span", {}, "0 NORMAL"), make("span", {}, "PNEUMONIA 1")),
    );
    const reasons = make("ul", { class: "reasons" }, ...s.reasons.map((r) => make("li", {}, r)));
    const parts = [make("h3", { class: "name" }, s.name), verdict];
    if (v !== "STRANGE") parts.push(make("p", {}, "Calibrated probability of PNEUMONIA, as if both classes were equally common:"), scale);
    if (s.notice) parts.push(make("p", { class: "error" }, make("strong", {}, s.notice)));
    parts.push(make("h3", {}, "What the verdict rests on"), make("p", {}, s.rests), reasons);
    if (v !== "STRANGE")
      parts.push(make("p", { class: "where" }, `Where the map speaks most for PNEUMONIA: ${s.where}. Left and right are the picture's.`));
    parts.push(make("p", { class: "soft" }, `Model ${s.bundle.slice(0, 16)}`));

    const [picture, map] = buffers.map((b, i) => {
      const u = URL.createObjectURL(new Blob([b], { type: i ? "image/png" : "image/jpeg" }));
      urls.push(u);
      return u;
    });
    const shape = `aspect-ratio:${s.width}/${s.height}`;
    const plain = make("img", { src: picture, alt: `Radiograph ${s.name}` }),
      under = make("img", { src: picture, alt: "" });
    const over = make("img", { class: "map", src: map, alt: `Activation map over the radiograph, ${s.where}`, style: "opacity:.5" });
    const stacks = [make("div", { class: "stack", style: shape }, plain), make("div", { class: "stack", style: shape }, under, over)];
    let zoom = 1;
    const zoomTo = (z) => {
      zoom = Math.min(6, Math.max(1, z));
      stacks.forEach((t) => {
        t.style.width = 100 * zoom + "%";
      });
      zoomed.textContent = Math.round(100 * zoom) + " %";
    };
    const zoomed = make("output", { "aria-label": "Zoom" }, "100 %");
    const opacity = make("input", {
      type: "range",
      min: "0",
      max: "100",
      value: "50",
      class: "opacity",
      "aria-label": "Opacity of the map",
      oninput: () => {
        over.style.opacity = opacity.value / 100;
      },
    });
    const invert = make(
      "button",
      {
        type: "button",
        class: "invert",
        "aria-pressed": "false",
        onclick: () => {
          const on = invert.getAttribute("aria-pressed") !== "true";
          invert.setAttribute("aria-pressed", on);
          for (const i of [plain, under]) i.style.filter = on ? "invert(1)" : "";
        },
      },
      "Invert",
    );
    const controls = make(
      "div",
      { class: "row" },
      make("label", {}, "Map", opacity),
      make("button", { type: "button", class: "zoom-out", "aria-label": "Zoom out", onclick: () => zoomTo(zoom / 1.5) }, "−"),
      zoomed,
      make("button", { type: "button", class: "zoom-in", "aria-label": "Zoom in", onclick: () => zoomTo(zoom * 1.5) }, "+"),
      make("button", { type: "button", onclick: () => zoomTo(1) }, "Whole"),
      invert,
    );
    const view = (stack, label, caption) =>
      make("figure", {}, make("div", { class: "view", tabindex: "0", role: "region", "aria-label": label }, stack), make("figcaption", {}, caption));
    body.replaceChildren(
      make(
        "div",
        { class: "result" },
        make("div", {}, ...parts),
        make(
          "div",
          {},
          controls,
          make(
            "div",
            { class: "views" },
            view(stacks[0], "Radiograph", "As it was read"),
            view(
              stacks[1],
              "Radiograph under its map",
              "Under its map: yellow speaks for PNEUMONIA, blue for NORMAL. It shows where the number comes from, not why.",
            ),
          ),
        ),
      ),
    );
    result.hidden = false;
    list();
    say(v === "STRANGE" ? `${s.name}: ${s.verdict}.` : `${s.name}: ${s.verdict}, probability ${s.probability.toFixed(3)}, map ${s.where}.`);
  }

  // --- the operating point
  function operate(o) {
    threshold = o.threshold;
    slider.value = o.threshold;
    shownThreshold.textContent = o.threshold.toFixed(3) + (o.is_default ? " (default)" : "");
    reset.disabled = o.is_default;
    if (!o.table.length) {
      figures.replaceChildren(make("p", { class: "soft" }, "This model does not say what other operating points are worth."));
      return;
    }
    figures.replaceChildren(
      make(
        "p",
        { class: "soft" },
        `At ${o.threshold.toFixed(3)}, on the model's ${o.on}; 95 % intervals by patient. PPV and NPV where ${(100 * o.prevalence).toFixed(0)} of 100 have pneumonia. Another place may deny all of it.`,
      ),
      make(
        "table",
        { "aria-label": "What this operating point is worth" },
        make("thead", {}, make("tr", {}, ...["figure", "value", "95 % interval"].map((h) => make("th", { scope: "col" }, h)))),
        make(
          "tbody",
          {},
          ...o.table.map((t) =>
            make(
              "tr",
              {},
              make("th", { scope: "row" }, t.name, make("span", { class: "words" }, t.words)),
              make("td", {}, percent(t.value)),
              make("td", {}, `${percent(t.low)} to ${percent(t.high)}`),
            ),
          ),
        ),
      ),
    );
  }

  // --- all files
  function reopen(r) {
    blank(`Opening ${r.file}`);
    send({ kind: "open", id: r.id });
  }

  const COLUMNS = [
    ["n", "#"],
    ["file", "file"],
    ["verdict", "verdict"],
    ["probability", "probability"],
    ["threshold", "operating point"],
    ["bundle", "model"],
  ];
  function list() {
    const wanted = filter.value.toLowerCase(),
      focus = tableBox.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const shown = [...rows.values()].filter(
      (r) => r.file.toLowerCase().includes(wanted) && (!only.value || (r.verdict || "not read") === only.value),
    );
    const value = (r) => {
      const x = order.key === "verdict" ? r.verdict || "not read" : r[order.key];
      return x == null ? (order.key === "probability" || order.key === "threshold" ? -1 : "") : x;
    };
    shown.sort((a, b) => (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : a.n - b.n) * (order.down ? -1 : 1));
    const head = make(
      "tr",
      {},
      ...COLUMNS.map(([key, label]) =>
        make(
          "th",
          { scope: "col", "aria-sort": order.key === key ? (order.down ? "descending" : "ascending") : "none" },
          make(
            "button",
            {
              type: "button",
              "data-key": `sort-${key}`,
              onclick: () => {
                order = { key, down: order.key === key && !order.down };
                list();
              },
            },
            label + (order.key === key ? (order.down ? " ▾" : " ▴") : ""),
          ),
        ),
      ),
      make("th", { scope: "col" }, "open"),
    );
    const line = (r) =>
      make(
        "tr",
        // the button in the row has no handler of its own: its click, a key's too, arrives here
        { class: r.error ? false : r.id === open ? "can-open open" : "can-open", ...(r.error ? {} : { onclick: () => reopen(r) }) },
        make("td", {}, String(r.n)),
        make("td", { class: "name" }, r.file),
        make(
          "td",
          {},
          r.error ? make("span", { class: "error" }, `not read: ${r.error}`) : make("span", { class: `t-${kind(r.verdict)}` }, r.verdict),
        ),
        make("td", {}, r.error || kind(r.verdict) === "STRANGE" ? "" : r.probability.toFixed(3)),
        make("td", {}, r.error ? "" : r.threshold.toFixed(3)),
        make("td", {}, r.error ? "" : r.bundle.slice(0, 8)),
        make("td", {}, r.error ? "" : make("button", { type: "button", "data-key": `open-${r.id}`, "aria-label": `Open ${r.file}` }, "Open")),
      );
    counted.textContent = `${shown.length} of ${rows.size} files`;
    tableBox.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...shown.map(line))));
    if (focus) {
      const again = tableBox.querySelector(`[data-key="${CSS.escape(focus)}"]`);
      if (again) again.focus();
    }
  }

  // --- the plain upload sends all its files in one message, which the server would not take
  const tooLarge = () => {
    const words =
      "The plain upload takes ten megabytes in all at a time, so none of these files was read. Use the drop zone, or the button beside it. " +
      "The plain upload works again once the page is reloaded, which forgets what it shows.";
    trouble.replaceChildren(make("p", {}, words));
    trouble.hidden = false;
    say(words);
  };
  window.addEventListener("xp-too-large", tooLarge);

  // --- is there anybody?
  // An open page that nobody uses stops asking, so that the server may end its session in time.
  let used = Date.now(),
    beaten = Date.now();
  for (const name of ["pointerdown", "keydown", "wheel", "visibilitychange"])
    window.addEventListener(
      name,
      () => {
        if (Date.now() - used > config.rest) lastPong = Date.now();
        used = Date.now();
      },
      { passive: true },
    );
  const beat = setInterval(() => {
    const late = Date.now() - beaten > 6000;
    beaten = Date.now();
    if (late) lastPong = beaten; // it was this page that slept, hidden or with its machine: nobody was asked
    if (Date.now() - used > config.rest) return;
    send({ kind: "ping", n: ++pings });
    if (Date.now() - lastPong > config.patience && !lost) {
      lost = true;
      gone.replaceChildren(
        make("h2", {}, "The server has lost this session"),
        make(
          "p",
          {},
          "Its process has ended or does not answer. What is on this page can still be read, but nothing new can be computed, and uploaded radiographs are gone from the server.",
        ),
        make("p", {}, make("button", { type: "button", class: "main", onclick: () => location.reload() }, "Start a new session")),
      );
      gone.hidden = false;
      say("The server has lost this session. Start a new one.");
    }
  }, 3000);
  send({ kind: "hello" });
  say("Ready.");
  main.dataset.ready = "1";
  return () => {
    clearInterval(beat);
    window.removeEventListener("xp-too-large", tooLarge);
  };
}

export default { render };
