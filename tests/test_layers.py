"""Data flows one way: the notebooks are numbered, and no module imports from one with a higher number, not even within a function."""

import ast
import re

from conftest import ROOT

# name to number: "00" < "00a" < "01"
NUMBER = {p.stem.split("_", 1)[1]: p.stem.split("_")[0] for p in (ROOT / "nbs/api").glob("*.ipynb")}


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


def test_the_table_of_faults_names_tests_that_exist():
    page = (ROOT / "nbs/tutorials/faults.ipynb").read_text()
    named = set(re.findall(r"`(test_\w+)::(test_\w+)`", page))
    assert len(named) > 40
    missing = {f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / f"tests/{file}.py").read_text()}
    assert not missing
