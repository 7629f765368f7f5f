"""Measure how the library reads: `python bench/style.py`. Exported cells, long lines and functions, examples, docments.

A row per room of `nbs/api`; the notebooks beside the rooms are the ground floor.

An *example* is a use of a public name in the next code cell that is not exported. *Stated* means that the cell's
comments or docstrings name a shape, a unit, a range or an error.
"""

import argparse
import ast
import json
import re
import statistics
from pathlib import Path

from xraypneu.markdown import markdown_table

ROOT = Path(__file__).parent.parent
STATED = re.compile(r"\([a-z0-9 +*-]+,[^)]*\)|\(n,\)|uint8|float|pixels|seconds|bytes|\b0 to 1\b|Raises|%")


def code_cells(path):
    "Source of the code cells of a notebook."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


def public(source):
    "Public functions and classes that a cell defines, each with its source."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return {}
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {n.name: ast.get_source_segment(source, n) for n in body if isinstance(n, kinds) and n.name[0] != "_"}


def measure(path):
    "Numbers of one notebook."
    cells = code_cells(path)
    exported = [i for i, c in enumerate(cells) if c.startswith("#| export")]
    names, shown, stated = 0, 0, 0
    for i in exported:
        after = next((c for c in cells[i + 1 :] if not c.startswith("#| export")), "")
        for name, text in public(cells[i]).items():
            names += 1
            shown += bool(re.search(rf"\b{name}\b", after))
            stated += bool(STATED.search(text))
    lines = [line for c in cells for line in c.splitlines()]
    return {
        "notebook": f"{path.parent.name}/{path.stem}",
        "room": path.parent.name.replace("api", "ground floor"),
        "cells": [len(cells[i].splitlines()) for i in exported],
        "lines": len(lines),
        "long": sum(len(line) > 120 for line in lines),
        "names": names,
        "shown": shown,
        "stated": stated,
        "functions": long_functions("\n\n".join(cells[i] for i in exported)),
    }


def long_functions(source, most=40):
    "Functions of more than `most` lines."
    source = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [f"{n.name} ({n.end_lineno - n.lineno + 1})" for n in nodes if n.end_lineno - n.lineno >= most]


def row(name, found):
    "Cells of one row of the table."
    sizes = sorted(n for m in found for n in m["cells"])
    total = {k: sum(m[k] for m in found) for k in ("lines", "long", "names", "shown", "stated")}
    middle, last = statistics.median(sizes), sizes[round(0.95 * (len(sizes) - 1))]
    share = [f"{100 * total[k] / max(1, total['names']):.0f} %" for k in ("shown", "stated")]
    functions = ", ".join(f for m in found for f in m["functions"]) or "–"
    return name, f"{middle:g} / {last} / {sizes[-1]}", total["long"], *share, functions


def main():
    "Print the table."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", action="store_true", help="a row per notebook instead")
    found = [measure(p) for p in sorted((ROOT / "nbs/api").rglob("*.ipynb"))]
    found = [m for m in found if m["cells"]]
    key = "notebook" if parser.parse_args().each else "room"
    rows = [row(name, [m for m in found if m[key] == name]) for name in dict.fromkeys(m[key] for m in found)]
    cells = "exported cell, lines: median / 95 % / longest"
    head = ["", cells, "lines over 120", "example next", "stated", "functions over 40 lines"]
    print(markdown_table(head, [*rows, row("all", found)]))


if __name__ == "__main__":
    main()
