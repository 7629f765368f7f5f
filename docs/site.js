// Menu and search of the documentation. The index is a script that is loaded when the search is first used.
document.documentElement.classList.add("scripted");

const menu = document.querySelector("button.menu");
const site = document.getElementById("site");
menu.hidden = false;
menu.addEventListener("click", () => {
  menu.setAttribute("aria-expanded", String(site.classList.toggle("shown")));
});
const current = site.querySelector("[aria-current]");
if (current && site.scrollHeight > site.clientHeight) site.scrollTop = current.offsetTop - site.clientHeight / 2;

const KINDS = { page: 3, module: 2, term: 2, class: 2, function: 2, parameter: 1, constant: 1, section: 1 };

// How well an entry answers the words; 0 if it doesn't.
function score([kind, title, , line], words) {
  const name = title.toLowerCase();
  const parts = name.split(/[^\p{L}\p{N}]+/u);
  let sum = 0;
  for (const w of words) {
    if (name.split(", ").includes(w)) sum += 40; // a term may have several names
    else if (name.startsWith(w) || parts.includes(w)) sum += 20;
    else if (parts.some((p) => p.startsWith(w))) sum += 14;
    else if (w.length > 2 && name.includes(w)) sum += 8;
    else if (line.toLowerCase().includes(w)) sum += 3;
    else return 0;
  }
  return sum + (KINDS[kind] ?? 0) - name.length / 100;
}

function answers(index, query) {
  const typed = query.toLowerCase().split(/\s+/).filter(Boolean);
  const words = typed.length > 1 ? typed.filter((w) => w !== "xraypneu") : typed; // `xraypneu score` is listed as score
  if (!words.length) return [];
  const scored = index.map((e) => [score(e, words), e]).filter(([s]) => s > 0);
  return scored.sort((a, b) => b[0] - a[0]).slice(0, 30).map(([, e]) => e);
}

const box = document.querySelector(".search");
const input = box.querySelector("input");
const list = document.getElementById("found");
box.hidden = false;

let loaded;
function index() {
  loaded ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${box.dataset.root}search.js`;
    script.onload = () => resolve(window.xraypneuIndex);
    script.onerror = reject;
    document.head.append(script);
  });
  return loaded;
}

function marked(text, query) {
  const words = query.split(/\s+/).filter(Boolean).map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return text.split(new RegExp(`(${words.join("|")})`, "i")).map((part, i) => {
    if (i % 2 === 0) return document.createTextNode(part);
    const mark = document.createElement("mark");
    mark.textContent = part;
    return mark;
  });
}

function item([kind, title, url, line], i, query) {
  const a = document.createElement("a");
  a.href = box.dataset.root + url;
  a.id = `found-${i}`;
  a.setAttribute("role", "option");
  const [b, k, text] = ["b", "i", "span"].map((tag) => document.createElement(tag));
  b.append(...marked(title, query));
  k.textContent = kind;
  text.textContent = line;
  a.append(b, k, text);
  return a;
}

let chosen = -1;
function choose(i) {
  const rows = list.querySelectorAll("a");
  if (!rows.length) return;
  rows[chosen]?.removeAttribute("aria-selected");
  chosen = (i + rows.length) % rows.length;
  rows[chosen].setAttribute("aria-selected", "true");
  rows[chosen].scrollIntoView({ block: "nearest" });
  input.setAttribute("aria-activedescendant", rows[chosen].id);
}

function show(open) {
  list.hidden = !open;
  input.setAttribute("aria-expanded", String(open));
  if (!open) input.removeAttribute("aria-activedescendant");
}

async function search() {
  const query = input.value.trim();
  if (!query) return show(false);
  let found;
  try {
    found = answers(await index(), query);
  } catch {
    list.replaceChildren(Object.assign(document.createElement("p"), { textContent: "The index can't be loaded." }));
    return show(true);
  }
  if (query !== input.value.trim()) return;
  chosen = -1;
  const none = Object.assign(document.createElement("p"), { textContent: `Nothing found for “${query}”.` });
  list.replaceChildren(...(found.length ? found.map((e, i) => item(e, i, query)) : [none]));
  show(true);
  if (found.length) choose(0);
}

input.addEventListener("input", search);
input.addEventListener("focus", () => index().catch(() => {}), { once: true });
input.addEventListener("keydown", (e) => {
  if (e.key === "ArrowDown") choose(chosen + 1);
  else if (e.key === "ArrowUp") choose(chosen - 1);
  else if (e.key === "Enter") list.querySelectorAll("a")[chosen]?.click();
  else if (e.key === "Escape") show(false);
  else return;
  e.preventDefault();
});
list.addEventListener("click", () => show(false));
document.addEventListener("click", (e) => {
  if (!box.contains(e.target)) show(false);
});
document.addEventListener("keydown", (e) => {
  const writes = e.target.closest?.("input, textarea, select");
  if (e.key === "/" && !writes && !e.ctrlKey && !e.metaKey && !e.altKey) {
    e.preventDefault();
    input.focus();
  }
});
