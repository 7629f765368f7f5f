"""Data flows one way: the notebooks are numbered, and no module imports from one with a higher number, not even within a function."""

import ast

from conftest import ROOT

# 01, 01a, 02: a letter puts a notebook between two numbers
NUMBER = {name: number for number, name in (p.stem.split("_", 1) for p in (ROOT / "nbs/api").glob("*.ipynb"))}


def imported(tree):
    "Names of our modules that a module imports."
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "xraypneu"):
            inside = (node.module or "").removeprefix("xraypneu").strip(".")
            yield from [inside.split(".")[0]] if inside else [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("xraypneu."))


def test_no_module_imports_from_a_floor_above_it():
    assert len(set(NUMBER.values())) == len(NUMBER) > 15
    for name, own in NUMBER.items():
        above = [m for m in imported(ast.parse((ROOT / f"xraypneu/{name}.py").read_text())) if NUMBER.get(m, "") >= own]
        assert not above, f"xraypneu/{name}.py imports {above}"
