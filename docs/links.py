"""Checks the links of the built site: python docs/links.py FOLDER. Every internal link and anchor must exist."""

import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    "Ids and links of a page."

    def __init__(self, text: str):
        super().__init__()
        self.ids: Counter = Counter()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids[value] += 1
            elif name in ("href", "src") and value and not value.startswith("data:"):
                self.links.append(value)


def check(folder: Path) -> tuple[list[str], Counter, int]:  # problems; external addresses; number of internal links
    "Read all pages. Raises `OSError`."
    pages = {p.resolve(): Page(p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*.html"))}
    problems, external, internal = [], Counter(), 0
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        problems += [f"{name}: id {i} occurs {n} times" for i, n in page.ids.items() if n > 1]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                external[link] += 1
                continue
            internal += 1
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
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
