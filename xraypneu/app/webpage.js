// A page's buttons and contents list; without this script the page can be read, and follows the system's theme.
const root = document.documentElement;
const OTHER = { dark: "light", light: "dark" };
const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

function keep(theme) {
  try {
    localStorage.setItem("xraypneu-theme", theme);
  } catch {
    // storage is refused: the choice holds for this page
  }
}

const theme = document.querySelector("button.theme");
const shown = () => root.dataset.theme ?? system();
const name = () => (theme.textContent = `${OTHER[shown()] === "dark" ? "Dark" : "Light"} theme`);
theme.hidden = false;
name();
theme.addEventListener("click", () => {
  root.dataset.theme = OTHER[shown()];
  keep(root.dataset.theme);
  name();
});

const codes = [...document.querySelectorAll(".cell.code > details:not(.given)")];
const fold = document.querySelector("button.fold");
const open = () => codes.some((d) => d.open);
const label = () => (fold.textContent = open() ? "Hide code" : "Show code");
fold.hidden = codes.length === 0;
label();
fold.addEventListener("click", () => {
  const to = !open();
  for (const d of codes) d.open = to;
});
for (const d of codes) d.addEventListener("toggle", label);

// Narrow: the list is folded until it is asked for.
const contents = document.querySelector(".contents details");
if (contents && matchMedia("(max-width: 74.99rem)").matches) contents.open = false;
const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
const heads = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
function mark() {
  const now = heads.findLast((h) => h.getBoundingClientRect().top < 120) ?? heads[0];
  for (const [id, a] of links) a.toggleAttribute("aria-current", id === now.id);
}
if (heads.length) {
  addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true });
  mark();
}
// A link to a line of folded code unfolds it.
function unfold() {
  const to = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const code = to?.querySelector?.(":scope > details");
  if (code) code.open = true;
}
addEventListener("hashchange", unfold);
unfold();
