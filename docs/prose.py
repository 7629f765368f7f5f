"""Links in prose: from files of the repository to pages, from code to the reference, from terms to the glossary."""

import html
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from xraypneu.glossary import PageMarker, Term


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


class Linker(PageMarker):
    "Sets the links of one page; each term is linked where the page first uses it."

    def __init__(self, targets: Targets, root: Path, source: str, url: str, terms: bool = True):
        self.targets, self.root, self.source, self.url = targets, root, source, url
        super().__init__(targets.terms if terms else (), lambda t: self.here(f"tutorials/glossary.html#{t.anchor}"))

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

    def tag(self, tag: str) -> str:
        "A tag with the addresses of the site."
        return re.sub(r'( (?:href|src)=")([^"]*)', lambda m: m[1] + html.escape(self.address(html.unescape(m[2]))), tag)

    def code(self, code: str) -> str:
        "Inline code, as a link where it names something of ours."
        inner = code.removeprefix("<code>").removesuffix("</code>")
        to = self.targets.of_code(html.unescape(inner))
        if re.fullmatch(r"[\w.]{14,}", inner):  # may be broken at dots and underscores
            code = "<code>" + re.sub(r"(?<=[._])(?=\w)", "<wbr>", inner) + "</code>"
        return f'<a href="{self.here(to)}">{code}</a>' if to and to != self.url else code
