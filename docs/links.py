"""Checks the links of the built site: python docs/links.py FOLDER. Every internal link and anchor must exist."""

import html
import re
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page:
    "Ids and links of a page. Its HTML has no `>` within attributes: what writes it escapes them."

    def __init__(self, text: str):
        self.ids: Counter = Counter()
        self.links: list[str] = []
        for tag in re.finditer(r"<[a-zA-Z][^<>]*>", text):
            for name, value in re.findall(r'\s(id|href|src)="([^"]*)"', tag[0]):
                if name == "id":
                    self.ids[html.unescape(value)] += 1
                elif value and not value.startswith("data:"):
                    self.links.append(html.unescape(value))


def check(folder: Path) -> tuple[list[str], Counter, int]:  # problems; external addresses; number of internal links
    "Read all pages. Raises `OSError`."
    pages = {p.resolve(): Page(p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*.html"))}
    problems, external, internal, there = [], Counter(), 0, {}
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        problems += [f"{name}: id {i} occurs {n} times" for i, n in page.ids.items() if n > 1]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                external[link] += 1
                continue
            internal += 1
            key = path.parent, parts.path
            if parts.path and key not in there:
                there[key] = (path.parent / unquote(parts.path)).resolve()
            to = there[key] if parts.path else path
            if to != folder.resolve() and folder.resolve() not in to.parents:
                problems.append(f"{name}: {link} leads out of the site")
            elif not to.is_file():
                problems.append(f"{name}: {link} does not exist")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].ids:
                problems.append(f"{name}: {link} has no such anchor")
    return problems, external, internal


def main(folder: str) -> int:  # exit status
    problems, external, internal = check(Path(folder))
    print(f"{internal:,} internal links, {len(problems)} broken; {len(external)} external ones, not followed:")
    print(*(f"  {link}" for link in sorted(external)), sep="\n")
    print(*problems, sep="\n", file=sys.stderr, end="\n" if problems else "")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
