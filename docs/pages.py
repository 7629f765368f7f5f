"""Builds the documentation: python docs/pages.py FOLDER. Executes no cell and needs no network.

Pages are the notebooks of nbs/, Markdown files of the repository, and a reference that is read from the source.
"""

import ast
import html
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import links
import nbformat
import prose
import reference

from xraypneu import __version__, glossary, webpage
from xraypneu.files import default_params

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
GROUPS = (
    (
        "Tutorials",
        "Learn by doing, on synthetic films",
        ("first_hour", "own_films", "predict", "evaluation", "compare"),
    ),
    (
        "How to",
        "One task each",
        ("external", "score", "cluster", "scale", "monitor", "tune", "backbone", "serve", "team"),
    ),
    ("Background", "Why it is as it is", ("decisions", "shifted_validation", "recipe_study")),
    ("Look up", "", ("glossary", "faults", "limits")),
)
DOCUMENTS = (  # Markdown files, and the address of each
    ("xraypneu/shipped/README.md", "model-card.html", "Look up"),
    ("CHANGELOG.md", "project/changelog.html", "Project"),
    ("CONTRIBUTING.md", "project/contributing.html", "Project"),
    ("SECURITY.md", "project/security.html", "Project"),
    ("results/protocol.md", "project/protocol.html", "Project"),
    ("results/test_looks.md", "project/test-looks.html", "Project"),
    ("bench/compare.md", "project/bench-compare.html", "Measurements"),
    ("bench/results.md", "project/bench.html", "Measurements"),
    ("bench/score.md", "project/bench-score.html", "Measurements"),
    ("bench/dashboard.md", "project/bench-dashboard.html", "Measurements"),
    ("bench/monitor.md", "project/bench-monitor.html", "Measurements"),
)
ROOMS = {
    "api": "Basics and the command",
    "metrics": "metrics",
    "data": "data",
    "model": "model",
    "evaluation": "evaluation",
    "ops": "ops",
    "serving": "serving",
}

BRAND = (
    '<button type="button" class="menu" aria-controls="site" aria-expanded="false" hidden>Menu</button>'
    '<a href="{up}index.html">xraypneu</a> <span class="version">{version}</span>'
)
SEARCH = (
    '<div class="search" role="search" data-root="{up}" hidden><input type="search" placeholder="Search" '
    'aria-label="Search the documentation" role="combobox" aria-expanded="false" aria-controls="found" '
    'autocomplete="off" spellcheck="false"><div id="found" role="listbox" aria-label="Results" hidden></div></div>'
)


@dataclass
class Page:
    "A page of the site."

    url: str
    title: str
    description: str  # plain text, one line
    group: str  # of the navigation; empty: not listed there
    source: str = ""  # path from the root
    body: str = ""  # HTML
    entries: list[tuple] = field(
        default_factory=list
    )  # for the search, besides title and headings: kind, text, anchor, line
    listed: str = ""  # address of the page that the navigation marks in its place


def cells_of(path: Path) -> list:
    "The cells of a notebook that readers see, without nbdev's directives."
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type != "raw"]
    for c in cells:
        c["hidden"] = bool(re.match(r"#\|\s*(hide\s*$|default_exp)", c.source.split("\n")[0]))
        if c.cell_type == "code":
            c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
    return [c for c in cells if not c.pop("hidden")]


def head_of(cells: list, otherwise: str) -> tuple[str, str]:
    "Title and line below it, of a notebook's first Markdown cell or of a Markdown text."
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.M)
    line = re.search(r"^> (.+)$", text, re.M)
    return (title[1] if title else otherwise), (glossary.plain(webpage.markdown_html(line[1])) if line else "")


class Site:
    "All pages, and what they link to."

    def __init__(self, root: Path = ROOT):
        self.root, self.began = root, time.monotonic()
        self.pages: dict[str, Page] = {}
        self.targets = prose.Targets()
        self.modules = reference.read_modules(root)

    def say(self, what: str):
        print(f"{time.monotonic() - self.began:5.1f} s  {what}", flush=True)

    def add(self, page: Page, *names: str):
        "A page, and names by which files and code lead to it."
        self.pages[page.url] = page
        for name in (page.source, *names):
            if name:
                self.targets.files.setdefault(name, page.url)

    # --- what there is

    def collect(self):
        "All pages without their text, so that each can link to all."
        self.add(Page("index.html", "xraypneu", "", "Start", "README.md"), "nbs/index.ipynb")
        self.add_notebooks()
        self.add(Page("commands.html", "Commands", "The command xraypneu and its options", "Look up"))
        self.add(Page("parameters.html", "Parameters", "Every parameter of the pipeline", "Look up", "params.yaml"))
        for path, url, group in DOCUMENTS:
            title = re.search(r"^# (.+)$", (self.root / path).read_text(encoding="utf-8"), re.M)[1].replace("`", "")
            self.add(Page(url, "Model card" if url == "model-card.html" else title, "", group, path))
        _, self.targets.terms = glossary.glossary_of(webpage.cells_html(cells_of(self.root / glossary.GLOSSARY)))
        self.add_reference()

    def add_notebooks(self):
        listed = [stem for _, _, stems in GROUPS for stem in stems]
        there = {p.stem for p in (self.root / "nbs/tutorials").glob("*.ipynb")}
        if set(listed) != there:
            sys.exit(f"GROUPS in docs/pages.py and nbs/tutorials differ: {sorted(set(listed) ^ there)}")
        for group, _, stems in GROUPS:
            for stem in stems:
                path = f"nbs/tutorials/{stem}.ipynb"
                title, line = head_of(cells_of(self.root / path), stem)
                self.add(Page(f"tutorials/{stem}.html", title, line, group, path))
        for stem in ("prepare", "eda", "train", "evaluate", "external", "monitor"):
            path = f"nbs/pipeline/{stem}.ipynb"
            title, _ = head_of(cells_of(self.root / path), stem)
            self.add(Page(f"pipeline/{stem}.html", title, f"Stage or report {stem}", "Stages", path))

    def add_reference(self):
        code, twice = {}, set()
        self.add(Page("api/index.html", "API reference", "All public names, room by room", "API"), "nbs/api")
        for m in self.modules:
            url, book = m.url, m.notebook.as_posix()
            room, stem = m.notebook.parent.name, m.notebook.stem
            self.add(Page(url, m.name, m.text.rstrip("."), f"API {room}"))
            notes = Page(f"notebooks/{room}/{stem}.html", f"Notebook {m.name}", m.text, "", book, listed=url)
            self.add(notes, f"{room}/{stem}", f"{room}/{stem}.ipynb", f"xraypneu/{m.name.replace('.', '/')}.py")
            names = [m.name, m.name.split(".")[-1]]
            code |= {n: url for n in names if n not in code}
            for n in m.names:
                for part in (n, *n.members):
                    for text in (part.name, f"{m.name}.{part.name}", f"{m.name.split('.')[-1]}.{part.name}"):
                        twice |= {text} if code.get(text, f"{url}#{part.name}") != f"{url}#{part.name}" else set()
                        code[text] = f"{url}#{part.name}"
                if n.kind == "class":
                    code |= {f"{n.name}.{p.name}": f"{url}#{n.name}" for p in n.parameters}
        self.targets.code = {k: v for k, v in code.items() if k not in twice and (len(k) > 3 or "." in k)}
        for t in self.targets.terms:
            self.targets.code |= {n: f"tutorials/glossary.html#{t.anchor}" for n in t.names if n.isupper()}
        for text, anchor in command_anchors():
            self.targets.code[text] = f"commands.html#{anchor}"
        for p in parameters_of(self.root):
            self.targets.code[p.name] = f"parameters.html#{p.name}"

    # --- texts

    def linker(self, page: Page) -> prose.Linker:
        source = page.source if page.source.endswith((".md", ".ipynb")) else ""
        return prose.Linker(self.targets, self.root, source, page.url, page.url != "tutorials/glossary.html")

    def write_bodies(self):
        for page in self.pages.values():
            link = self.linker(page)
            if page.source.endswith(".ipynb"):
                page.body = webpage.cells_html(cells_of(self.root / page.source), True, link)
            elif page.source.endswith(".md"):
                page.body = link(webpage.markdown_html((self.root / page.source).read_text(encoding="utf-8")))
        terms = self.pages["tutorials/glossary.html"]
        terms.body, _ = glossary.glossary_of(terms.body)
        terms.entries = [("term", ", ".join(t.names), t.anchor, t.meaning) for t in self.targets.terms]
        self.say("notebooks and texts")
        for module in self.modules:
            page = self.pages[module.url]
            page.body, page.entries = self.module_body(module, page)
        self.pages["api/index.html"].body = self.api_index()
        self.pages["commands.html"].body = commands_body()
        self.parameters_body(self.pages["parameters.html"])
        self.front()
        self.say(f"reference of {sum(len(m.names) for m in self.modules)} public names")

    def front(self):
        "The front page: README.md, and before its results the way into the documentation."
        page, parts = self.pages["index.html"], []
        for group, line, _ in GROUPS:
            rows = [p for p in self.pages.values() if p.group == group]
            items = "".join(
                f'<li><a href="{p.url}">{html.escape(p.title)}</a>'
                f"{f'<span>{html.escape(p.description)}</span>' if p.description else ''}</li>"
                for p in rows
            )
            told = f'<p class="told">{line}</p>' if line else ""
            parts.append(f"<section>{heading(3, group)}{told}<ul>{items}</ul></section>")
        at = page.body.index("<h2 ")
        page.body = (
            f'{page.body[:at]}{heading(2, "Documentation")}<div class="ways">{"".join(parts)}</div>{page.body[at:]}'
        )

    # --- reference

    def module_body(self, module: reference.Module, page: Page) -> tuple[str, list]:  # HTML; entries for the search
        "The reference of a module: functions and classes in the order of the notebook, then constants."
        link, room = self.linker(page), module.notebook.parent.name
        notes = link.here(self.targets.files[module.notebook.as_posix()])
        within, name = module.name.rpartition(".")[::2]
        parts = [
            heading(1, module.name),
            f"<blockquote>{link(webpage.markdown_html(module.text))}</blockquote>",
            f'<p class="from"><code>from xraypneu{"." * bool(within)}{within} import {name}</code> · '
            f'<a href="{notes}">notebook with examples</a> · {ROOMS[room] if room == "api" else f"room {room}"}</p>',
        ]
        calls = [n for n in module.names if n.kind != "constant"]
        constants = [n for n in module.names if n.kind == "constant"]
        rows = "".join(
            f'<tr><td><a href="#{n.name}"><code>{broken(n.name)}</code></a></td><td>{n.kind}</td>'
            f"<td>{inline(n.line or n.errors)}</td></tr>"
            for n in calls
        )
        if len(calls) > 1:
            parts.append(table(rows, "names"))
        for n in calls:
            parts.append(name_html(n, 2, notes, link))
            parts += [name_html(member, 3, notes, link) for member in n.members]
        if constants:
            rows = "".join(constant_row(n, notes, link) for n in constants)
            parts += [heading(2, "Constants"), table(rows, "parameters constants")]
        found = [part for n in module.names for part in (n, *n.members)]
        return "\n".join(parts), [(n.kind, n.name, n.name, (n.line or n.errors).replace("`", "")) for n in found]

    def api_index(self) -> str:
        page, parts = self.pages["api/index.html"], [heading(1, "API reference")]
        link = self.linker(page)
        text = (
            "> All public names of the package, from their definitions in the notebooks\n\n"
            "What `from xraypneu import` offers is stable: "
            + ", ".join(f"`{n}`" for n in public_face(self.root))
            + ". "
            "The modules are in rooms; a room imports only from those above it."
        )
        parts.append(link(webpage.markdown_html(text)))
        for room, title in ROOMS.items():
            rows = ""
            for m in (m for m in self.modules if m.notebook.parent.name == room):
                to = link.here(m.url)
                names = " ".join(f'<a href="{to}#{n.name}">{n.name}</a>' for n in m.names)
                rows += f'<tr><td><a href="{to}"><code>{m.name}</code></a></td><td>{inline(m.text)}'
                rows += f'<div class="all">{names}</div></td></tr>'
            parts.append(heading(2, title))
            parts.append(table(rows, "modules"))
        return "\n".join(parts)

    def parameters_body(self, page: Page):
        "The page of parameters, section by section."
        link, found = self.linker(page), parameters_of(self.root)
        text = "# Parameters\n\n> Every parameter of `params.yaml`, with its default\n\n"
        text += 'Set one with `make run SET="train.epochs=5"` or `xraypneu run train.epochs=5`.'
        page.body = link(webpage.markdown_html(text))
        for section in dict.fromkeys(p.name.split(".")[0] for p in found):
            rows = "".join(
                f'<tr id="{p.name}"><td><code>{broken(p.name)}</code></td><td>{html.escape(p.default)}</td>'
                f"<td>{link(inline(p.comment))}</td></tr>"
                for p in found
                if p.name.split(".")[0] == section
            )
            page.body += heading(2, section) + table(rows, "settings", ("parameter", "default", "meaning"))
        page.entries = [("parameter", p.name, p.name, p.comment) for p in found if p.comment]

    # --- files

    def nav(self, page: Page) -> str:
        "The list of pages, as seen from one of them."
        marked = page.listed or page.url

        def item(p):
            now = ' aria-current="page"' if p.url == marked else ""
            title = p.title.split(".")[-1] if p.group.startswith("API ") else p.title
            return f'<li><a href="{prose.relative(p.url, page.url)}"{now}>{html.escape(title)}</a></li>'

        out = []
        groups = [
            "Start",
            *(g for g, _, _ in GROUPS),
            "API",
            *(f"API {r}" for r in ROOMS),
            "Stages",
            "Project",
            "Measurements",
        ]
        for group in groups:
            rows = [p for p in self.pages.values() if p.group == group]
            items = "".join(map(item, rows))
            if group.startswith("API "):
                is_open = " open" if any(p.url == marked for p in rows) else ""
                out.append(f"<details{is_open}><summary>{ROOMS[group[4:]]}</summary><ul>{items}</ul></details>")
            else:
                title = "" if group == "Start" else f'<p class="group">{group}</p>'
                out.append(f"{title}<ul>{items}</ul>")
        return "".join(out)

    def turn(self, page: Page) -> str:
        "Links to the pages before and after this one in its group."
        rows = [p for p in self.pages.values() if p.group == page.group and p.group in {g for g, _, _ in GROUPS}]
        if page not in rows:
            return ""
        at = rows.index(page)
        before = rows[at - 1] if at else None
        after = rows[at + 1] if at + 1 < len(rows) else None
        found = (("before", "Previous", before), ("after", "Next", after))
        shown = "".join(
            f'<a class="{way}" href="{prose.relative(p.url, page.url)}"><small>{word}</small>{html.escape(p.title)}</a>'
            for way, word, p in found
            if p
        )
        return f'<nav class="turn" aria-label="Before and after">{shown}</nav>'

    def html(self, page: Page) -> tuple[str, list]:  # HTML; level, id and text of each heading
        "A page with its navigation."
        up = prose.relative("x", page.url)[:-1]
        source = f"From <code>{page.source}</code>. " if page.source else ""
        return webpage.web_page(
            page.title if page.url == "index.html" else f"{page.title} · xraypneu",
            page.body + self.turn(page),
            description=page.description,
            head=f'<link rel="stylesheet" href="{up}style.css">',
            scripts=f'<script src="{up}page.js" defer></script>',
            brand=BRAND.format(up=up, version=__version__),
            tools=SEARCH.format(up=up),
            nav=self.nav(page),
            footer=f"{source}xraypneu {__version__}, Apache-2.0.",
        )

    def write(self, out: Path):
        "Write pages, style, script, index and pictures."
        entries = []
        for url, page in self.pages.items():
            text, headings = self.html(page)
            (out / url).parent.mkdir(parents=True, exist_ok=True)
            (out / url).write_text(text, encoding="utf-8")
            entries += self.entries(page, headings)
        own = {name: (HERE / name).read_text(encoding="utf-8") for name in ("site.css", "site.js")}
        (out / "style.css").write_text(webpage.page_style() + own["site.css"], encoding="utf-8")
        scripts = webpage.page_script(), own["site.js"]
        (out / "page.js").write_text("{\n" + "\n}\n{\n".join(scripts) + "\n}\n", encoding="utf-8")
        # a script, since pages that were opened from a disk may not fetch
        found = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
        (out / "search.js").write_text(f"window.xraypneuIndex={found};\n", encoding="utf-8")
        for path in self.targets.pictures:
            (out / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / path, out / "files" / path)

    def entries(self, page: Page, headings: list) -> list[tuple]:  # kind, title, address, line
        "What the search finds on a page."
        if page.listed:  # the notebook of a module: its names lead to the reference, which links here
            return []
        own = {anchor for _, _, anchor, _ in page.entries}
        kind = "page" if not page.group.startswith("API") else "module"
        found = [(kind, page.title, page.url, page.description)]
        found += [
            ("section", text, f"{page.url}#{at}", page.title)
            for level, at, text in headings
            if level in (2, 3) and at not in own and text not in own
        ]
        return found + [(k, text, f"{page.url}#{at}", line) for k, text, at, line in page.entries]


def heading(level: int, text: str, anchor: str = "") -> str:
    "A heading of plain text, with an anchor of its own or one that is made from the text."
    kept = f' class="own" id="{anchor}"' if anchor else ' id=""'
    return f'<h{level}{kept}>{html.escape(text)}<a class="anchor-link" href="#">¶</a></h{level}>'


def table(rows: str, kind: str, head: tuple = ()) -> str:
    "A table that scrolls where it is too wide."
    top = f"<thead><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="{kind}">{top}<tbody>{rows}</tbody></table></div>'


def inline(text: str) -> str:
    "One line of Markdown as HTML, without a paragraph."
    return re.sub(r"^<p>|</p>$", "", webpage.markdown_html(text).strip()) if text else ""


def name_html(n: reference.Name, level: int, notes: str, link: prose.Linker) -> str:
    "A public name: signature, what it does, parameters, result, errors, source."
    source = f'<a class="source" href="{notes}#cell-{n.cell}">source</a>' if n.cell else ""
    text = link(webpage.markdown_html(n.text)) if n.text else ""
    rows = "".join(parameter_row(p, link) for p in n.parameters)
    if n.returns:
        rows += parameter_row(n.returns, link, "returns")
    errors = f'<p class="errors">{link(inline(n.errors))}</p>' if n.errors else ""
    head = f'{heading(level, n.name, n.name)}<p class="kind">{n.kind} {source}</p>{webpage.code_html(n.signature)}'
    return f'<section class="name">{head}{text}{table(rows, "parameters") if rows else ""}{errors}</section>'


def constant_row(n: reference.Name, notes: str, link: prose.Linker) -> str:
    "A constant in the table of a module's constants."
    listed = "".join(f"<dt>{html.escape(p.name)}</dt><dd>{html.escape(p.comment)}</dd>" for p in n.parameters)
    value = f"<dl>{listed}</dl>" if listed else f"<code>{html.escape(n.signature.partition(' = ')[2])}</code>"
    return (
        f'<tr id="{n.name}"><td><a href="{notes}#cell-{n.cell}"><code>{broken(n.name)}</code></a></td>'
        f"<td>{value}</td><td>{link(inline(n.text))}</td></tr>"
    )


def broken(name: str) -> str:
    "A name that may be broken across lines, at its dots and underscores."
    return re.sub(r"(?<=[._])(?=\w)", "<wbr>", html.escape(name))


def parameter_row(p: reference.Parameter, link: prose.Linker, head: str = "") -> str:
    kind = link(f"<code>{html.escape(p.type)}</code>") if p.type else ""
    default = f' <span class="default">= {html.escape(p.default)}</span>' if p.default and len(p.default) < 60 else ""
    name = head or f"<code>{broken(p.name)}</code>"
    return f"<tr><td>{name}</td><td>{kind}{default}</td><td>{link(inline(p.comment))}</td></tr>"


def public_face(root: Path) -> list[str]:
    "The names that `from xraypneu import` offers."
    tree = ast.parse((root / "xraypneu/__init__.py").read_text(encoding="utf-8"))
    return next(
        ast.literal_eval(n.value)
        for n in tree.body
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    )


def commands() -> dict:  # name to parser
    from xraypneu.cli import _parser

    (actions,) = [a for a in _parser()._actions if hasattr(a, "choices") and isinstance(a.choices, dict)]
    return actions.choices


def command_anchors() -> list[tuple[str, str]]:
    return [(f"xraypneu {name}", name) for name in commands()]


def commands_body() -> str:
    "What `xraypneu COMMAND --help` says."
    parts = [webpage.markdown_html("# Commands\n\n> `xraypneu COMMAND --help`, for each command")]
    for name, parser in commands().items():
        text = re.sub(r"\x1b\[[0-9;]*m", "", parser.format_help())
        parts.append(f"{heading(2, name)}<pre>{html.escape(text)}</pre>")
    return "".join(parts)


def parameters_of(root: Path) -> list[reference.Parameter]:
    "Parameters in params.yaml with their defaults and comments."
    found, section = [], ""
    for line in default_params(root).decode().splitlines():
        if m := re.match(r"(\w+):", line):
            section = m[1]
        elif m := re.match(r"  (\w+): *(.*?)(?:\s+#\s*(.*))?$", line):
            default = m[2] if not m[2].startswith("#") else ""
            comment = m[3] or (m[2].lstrip("# ") if m[2].startswith("#") else "")
            found.append(reference.Parameter(f"{section}.{m[1]}", default=default, comment=comment))
        elif found and re.match(r"    \S", line):
            found[-1].default += f" {line.strip().split('  #')[0]}"
    return found


def build(out: Path, root: Path = ROOT) -> Site:
    "Write the site."
    site = Site(root)
    site.collect()
    site.say(f"{len(site.pages)} pages")
    site.write_bodies()
    site.write(out)
    site.say(f"written to {out}")
    return site


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    build(folder)
    sys.exit(links.main(sys.argv[1]))
