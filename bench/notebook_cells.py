"""A pytest plugin: a notebook's test cells against the module that was exported from it, instead of against itself.

`python -m pytest tests nbs/api` (tests/conftest.py registers it). `nbdev_test` runs the exported cells too, and so
neither measures the module's coverage nor notices a change in the file; this does both, and shares the libraries that
are imported with the other tests. A notebook without a module, as the tutorials are, runs from its first cell on.
"""

import ast
import asyncio
import importlib
import inspect
import json
import os
import re
from pathlib import Path

import pytest

EXPORTED = re.compile(r"^#\|\s*(export|exporti|exports)\b", re.M)
SKIPPED = re.compile(r"^#\|\s*(default_exp|notest|slow|eval:\s*false)\b", re.M)
NOT_RUN = re.compile(r"^skip_exec:\s*true", re.M)  # in the front matter
TARGET = re.compile(r"^#\|\s*default_exp\s+([\w.]+)", re.M)


def test_cells(notebook: Path) -> tuple[str | None, list[str]]:
    "The module's name, if the notebook has one, and the sources of the cells that test it."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    if any(NOT_RUN.search("".join(c["source"])) for c in cells if c["cell_type"] == "raw"):
        return None, []
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    target = next((m[1] for s in sources if (m := TARGET.search(s))), None)
    return target, [s for s in sources if not EXPORTED.search(s) and not SKIPPED.search(s)]


def run_code(tree: ast.AST, where: str, kind: str, names: dict, loop: asyncio.AbstractEventLoop):
    "The value of an expression or of a cell's statements, which may `await`."
    value = eval(compile(tree, where, kind, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    return loop.run_until_complete(value) if inspect.iscoroutine(value) else value


def run_cell(source: str, where: str, names: dict, loop: asyncio.AbstractEventLoop):
    "Execute one cell; show what its last line evaluates to, as Jupyter would."
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    run_code(tree, where, "exec", names, loop)
    if last is None or source.rstrip().endswith(";"):
        return
    value = run_code(ast.Expression(last.value), where, "eval", names, loop)
    show = getattr(value, "_repr_html_", None)
    repr(value) if show is None or isinstance(value, type) else show()


class NotebookItem(pytest.Item):
    def runtest(self):
        target, cells = test_cells(self.path)
        names = vars(importlib.import_module(f"xraypneu.{target}")) if target else {"__name__": "__main__"}
        before, folder, loop = dict(names), os.getcwd(), asyncio.new_event_loop()
        os.chdir(self.path.parent)
        try:
            for i, source in enumerate(cells):
                run_cell(source, f"{self.path.name}, test cell {i}", names, loop)
        finally:
            loop.close()
            os.chdir(folder)
            names.clear()
            names.update(before)


class Notebook(pytest.File):
    def collect(self):
        yield NotebookItem.from_parent(self, name=self.path.stem)


def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".ipynb":
        return Notebook.from_parent(parent, path=file_path)
