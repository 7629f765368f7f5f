"""Links in prose: from files of the repository to pages, from code to the reference, from terms to the glossary."""

import html
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

# Terms that are everyday words too: a link at their first use would mislead.
EVERYDAY = {
    *("run", "study", "trial", "recipe", "look", "sample", "patient", "reasons", "explanation", "shift", "reference"),
    *(
        "effect",
        "outside",
        "gate",
        "lease",
        "precision",
        "objective",
        "validation",
        "label",
        "rendering",
        "recall",
        "drift",
    ),
}
SKIPPED = {"a", "pre", "h1", "h2", "h3", "h4", "script", "style", "svg", "button", "summary", "kbd"}


@dataclass
class Term:
    "A term of the glossary."

    anchor: str
    names: list[str]
    meaning: str  # plain text


def plain(text: str) -> str:
    "HTML as text on one line."
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


def glossary_of(page: str) -> tuple[str, list[Term]]:
    "The glossary's HTML with an anchor for each row, and its terms."
    terms = []

    def row(m):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", m[0], re.S)
        names = [plain(n) for n in re.sub(r"\([^)]*\)", "", cells[0]).split(",")]
        anchor = "term-" + re.sub(r"\W+", "-", names[0].lower()).strip("-")
        terms.append(Term(anchor, names, plain(cells[1])))
        return m[0].replace("<tr>", f'<tr id="{anchor}">', 1)

    return re.sub(r"<tr>\s*<td>.*?</tr>", row, page, flags=re.S), terms


def relative(url: str, base: str) -> str:
    "An address within the site, as seen from a page."
    path, _, anchor = url.partition("#")
    if path == base:
        return f"#{anchor}" if anchor else PurePosixPath(path).name
    return os.path.relpath(path, os.path.dirname(base) or ".").replace(os.sep, "/") + (f"#{anchor}" if anchor else "")


@dataclass
class Targets:
    "What can be linked to."

    files: dict[str, str] = field(default_factory=dict)  # path from the root to address of the page
    code: dict[str, str] = field(default_factory=dict)  # text of inline code to address
    terms: list[Term] = field(default_factory=list)
    pictures: set[str] = field(default_factory=set)  # paths from the root that pages show

    def of_code(self, text: str) -> str:
        "Address of what inline code names; empty if it is nothing of ours."
        if text in self.files:
            return self.files[text]
        if m := re.match(r"xraypneu (\w+)", text):
            return self.code.get(f"xraypneu {m[1]}", "")
        text = re.sub(r"\(.*\)$", "", text)
        return self.code.get(text) or self.code.get(text.removeprefix("xraypneu."), "")


class Linker:
    "Sets the links of one page; each term is linked where the page first uses it."

    def __init__(self, targets: Targets, root: Path, source: str, url: str, terms: bool = True):
        self.targets, self.root, self.source, self.url = targets, root, source, url
        usable = [(n, t) for t in targets.terms for n in t.names if n.lower() not in EVERYDAY and len(n) > 2]
        self.open = {n.lower(): t for n, t in usable} if terms else {}
        names = sorted(map(re.escape, self.open), key=len, reverse=True)
        self.pattern = re.compile(rf"(?<![\w-])({'|'.join(names)})(s?)(?![\w-])", re.I) if names else None

    def here(self, url: str) -> str:
        return relative(url, self.url)

    def address(self, href: str) -> str:
        "Where a link of the source leads on the site."
        if re.match(r"[a-z]+:|#|//", href) or not href:
            return href
        path, _, anchor = href.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(self.source), path)).replace(os.sep, "/")
        if path in self.targets.files:
            return self.here(self.targets.files[path] + (f"#{anchor}" if anchor else ""))
        if re.search(r"\.(png|jpe?g|svg|gif)$", path) and (self.root / path).is_file():
            self.targets.pictures.add(path)
            return self.here(f"files/{path}")
        return href

    def words(self, text: str) -> str:
        "Text with links at the first use of terms."

        def link(m):
            term = self.open.get(m[1].lower())
            if not term:
                return m[0]
            for name in [n for n, t in self.open.items() if t is term]:
                del self.open[name]
            to, meaning = self.here(f"tutorials/glossary.html#{term.anchor}"), html.escape(term.meaning, quote=True)
            return f'<a class="term" href="{to}" title="{meaning}">{m[0]}</a>'

        return self.pattern.sub(link, text) if self.pattern else text

    def __call__(self, page: str) -> str:
        parts, depth, i = re.split(r"(<[^>]*>)", page), 0, 0
        out = []
        while i < len(parts):
            part = parts[i]
            if part == "<code>" and not depth and parts[i + 2] == "</code>":
                to = self.targets.of_code(html.unescape(parts[i + 1]))
                shown = parts[i + 1]
                if re.fullmatch(r"[\w.]{14,}", shown):  # may be broken at dots and underscores
                    shown = re.sub(r"(?<=[._])(?=\w)", "<wbr>", shown)
                code = f"<code>{shown}</code>"
                out.append(f'<a href="{self.here(to)}">{code}</a>' if to and to != self.url else code)
                i += 3
                continue
            if part.startswith("<"):
                name = re.match(r"</?(\w*)", part)[1]
                depth += (name in SKIPPED) * (-1 if part.startswith("</") else 1)
                part = re.sub(
                    r'( (?:href|src)=")([^"]*)', lambda m: m[1] + html.escape(self.address(html.unescape(m[2]))), part
                )
            elif not depth:
                part = self.words(part)
            out.append(part)
            i += 1
        return "".join(out)
