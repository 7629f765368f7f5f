"""Layers: the notebooks are numbered, and no module, nor a function in it, imports from one with a higher number."""

import ast
import importlib
import json
import re
import shutil
import sys
from configparser import ConfigParser
from types import SimpleNamespace

import pytest
from conftest import ROOT, left_out, run
from ruamel.yaml import YAML

# the ground floor first: errors, files and the like, before any room
FLOORS = ("api", "metrics", "data", "model", "evaluation", "ops", "serving")
BOOKS = {p.stem.split("_", 1)[1]: p for p in (ROOT / "nbs/api").rglob("*.ipynb")}
FILES = {m: ROOT / "xraypneu" / p.parent.relative_to(ROOT / "nbs/api") / f"{m}.py" for m, p in BOOKS.items()}


def floor(module):
    "A room's place in the house and the notebook's in the room; the command (99) is the roof."
    book = BOOKS[module]
    number = book.stem.split("_")[0]
    return (len(FLOORS) if number == "99" else FLOORS.index(book.parent.name), number)


def imported(tree):
    "Names of our modules that a module imports."
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "xraypneu"):
            last = (node.module or "").rsplit(".", 1)[-1]
            yield from [last] if last in BOOKS else [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.rsplit(".", 1)[1] for a in node.names if a.name.startswith("xraypneu."))


def closure(names):
    "Our modules that these import, and those that these import, themselves included."
    found, open_ = set(), set(names)
    while open_:
        name = open_.pop()
        found.add(name)
        open_ |= {m for m in imported(ast.parse(FILES[name].read_text())) if m in BOOKS} - found
    return found


LONG = 400  # lines


def test_a_long_module_says_why_it_is_one():
    "Its notebook does; a short one needs no reason."
    says = {m for m, book in BOOKS.items() if "**Why one module:** " in book.read_text()}
    lines = {m: len(file.read_text().splitlines()) for m, file in FILES.items()}
    assert {m for m, n in lines.items() if n > LONG} <= says, "give the reason in the notebook, or split the module"
    assert {m for m in says if lines[m] < 0.8 * LONG} == set(), "these have become short"


def test_no_module_imports_from_a_floor_above_it():
    assert len(set(map(floor, BOOKS))) == len(BOOKS) > 35
    for name, file in FILES.items():
        ours = [m for m in imported(ast.parse(file.read_text())) if m in BOOKS]
        above = [m for m in ours if floor(m) >= floor(name)]
        assert not above, f"{file.relative_to(ROOT)} imports {above}"


def test_the_public_face_is_lazy_and_whole():
    "`import xraypneu` costs next to nothing, its names need no TensorFlow, and README lists them."
    code = """
import sys, xraypneu
heavy = {"numpy", "PIL", "onnxruntime"} & sys.modules.keys()
assert not heavy and set(xraypneu.__all__) <= set(dir(xraypneu)), heavy
from xraypneu import *
assert xraypneu.Predictor is Predictor and "tensorflow" not in sys.modules
print(*(f"{o.__module__}.{o.__name__}" for o in map(vars(xraypneu).get, xraypneu.__all__)))
"""
    named = run([sys.executable, "-c", code], ROOT).out.split()
    assert "xraypneu.serving.predict.Predictor" in named and "xraypneu.data.image.read_radiograph" in named
    (line,) = [ln for ln in (ROOT / "README.md").read_text().splitlines() if "from xraypneu import` offers" in ln]
    assert {n.rsplit(".", 1)[1] for n in named} <= set(re.findall(r"`(\w+)`", line))
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        importlib.import_module("xraypneu").Predicter  # noqa: B018


def test_the_table_of_faults_names_tests_that_exist():
    page = (ROOT / "nbs/tutorials/faults.ipynb").read_text()
    named = set(re.findall(r"`(test_\w+)::(test_\w+)`", page))
    assert len(named) > 40
    missing = {
        f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / f"tests/{file}.py").read_text()
    }
    assert not missing


def test_every_metric_is_computed():
    "One that isn't would be left out without a word, or stop evaluate.ipynb after minutes."
    from xraypneu.metrics import scores as metrics
    from xraypneu.metrics.definitions import METRICS

    assert METRICS.keys() <= metrics.classification_metrics([0, 1], [0.2, 0.8], 0.5).keys()


def test_contributing_names_what_exists():
    "Notebooks, and in their modules the functions, classes and constants."
    text = (ROOT / "CONTRIBUTING.md").read_text()
    notebooks = set(re.findall(r"`(?:nbs/api/)?((?:[a-z]+/)?\d\d[a-z]?_\w+)(?:\.ipynb)?`", text))
    assert len(notebooks) > 10 and all((ROOT / f"nbs/api/{n}.ipynb").exists() for n in notebooks)
    package = "".join(p.read_text() for folder in ("xraypneu", "tests") for p in (ROOT / folder).rglob("*.py"))
    rows = re.findall(r"^\| [A-Z].+\? \| (.+) \|$", text, re.M)
    steps = re.findall(r"^\d\. `(?:model|metrics|evaluation)/.+(?:\n   .+)*", text, re.M)
    words = {n for part in rows + steps for n in re.findall(r"`(\w+)`", part)}
    names = {n for n in words if f"{n}.ipynb" not in text and n not in notebooks | {"unknown"}}
    missing = {n for n in names if not re.search(rf"^ *(def|class) {n}\b|^ *{n}\b *[:=]", package, re.M)}
    assert len(names) > 15 and not missing
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)


def test_fast_leaves_out_a_slow_file_that_is_named():
    "`pytest --fast tests/test_app.py`: pytest opens a file that is named, and each test asked to be added to SLOW."
    config = SimpleNamespace(getoption=lambda name: True, option=SimpleNamespace(markexpr=""), args=[])
    for file, gone in (("test_app.py", True), ("test_card.py", False)):
        item = SimpleNamespace(path=ROOT / "tests" / file, name="test_it", fixturenames=[])
        item.get_closest_marker = lambda name: None
        assert left_out(config, item) == gone
    notebook = SimpleNamespace(path=ROOT / "nbs/api/00_files.ipynb", name="00_files")  # it has no fixtures
    notebook.get_closest_marker = lambda name: None
    assert not left_out(config, notebook)


def test_versions_agree():
    settings = ConfigParser()
    settings.read(ROOT / "settings.ini")
    assert YAML(typ="safe").load(ROOT / "CITATION.cff")["version"] == settings["DEFAULT"]["version"]


def test_sync_finds_what_was_not_exported(tmp_path):
    "A module edited by hand is named, alone; and nothing is changed. The notebook is among the few that are there."
    left_out = shutil.ignore_patterns("[0-9][0-9]_[!c]*.ipynb", "tutorials", "__pycache__")
    for name in (".ci", "nbs", "xraypneu", "results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left_out)
    for name in ("Makefile", "settings.ini", "setup.py", "pyproject.toml", "README.md", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    module = tmp_path / "xraypneu/model/calibrate.py"
    module.write_text(module.read_text() + "edited = True\n")
    done = run(["bash", ".ci/sync", sys.prefix], tmp_path, check=False)
    assert done.returncode == 1 and done.out.splitlines()[1:] == ["xraypneu/model/calibrate.py"]
    assert module.read_text().endswith("edited = True\n")


SOURCES = {p.stem: p.read_text() for p in (ROOT / "xraypneu").rglob("*.py") if p.stem not in ("_modidx", "__init__")}
PAGES = {p.name: p.read_text() for p in [*(ROOT / "nbs/pipeline").glob("*.ipynb"), ROOT / "nbs/index.ipynb"]}


def in_code(text):
    "The code of a notebook."
    cells = json.loads(text)["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


@pytest.mark.parametrize(
    "pattern, home",
    [
        (r"InferenceSession\(|SessionOptions\(", {"bundle"}),  # the options that make every processor compute the same
        (r"\bisprintable\(", {"redact"}),  # what may be shown of a name
        (r"-{3}:?\|", {"markdown"}),  # the rule below the head of a table
        (r"np\.exp\(-\(slope|\bexpit\(", {"bundle", "calibrate"}),  # `platt`; the gradient by which it is fitted
        (r"\(1 - specificity\) \*|\(1 - spec\b", {"definitions"}),  # predictive values
    ],
)
def test_a_rule_has_one_place(pattern, home):
    places = SOURCES | {name: in_code(text) for name, text in PAGES.items()}
    assert {name for name, text in places.items() if re.search(pattern, text)} == home


def test_tests_read_nothing_that_a_run_here_left():
    "`make run DATA=films SET=train.epochs=1` changes files of the clone: tests of `make ship` and the report failed."
    read = r"""ROOT / ["'](params\.yaml|reports/metrics\.json)"""
    own = re.compile(read + r"""|for name in \([^)]*["']params\.yaml.*\n(.*\n)?.*ROOT / name""")
    found = {p.name for p in (ROOT / "tests").glob("*.py") if own.search(p.read_text())}
    # accept_sample.py is about a run here; a link in test_report.py leads there
    allowed = {"conftest.py", "test_recipe.py", "accept_sample.py", "test_report.py"}
    assert found == allowed, "use lay(), params_yaml() or sample_metrics() of conftest"


def test_metrics_are_named_in_their_registry_alone():
    "No label is written anywhere else, and no list of three metrics or more."
    from xraypneu.metrics.definitions import METRICS

    labels = {m.label for name, m in METRICS.items() if m.label != name}
    for place, text in (SOURCES | {name: in_code(text) for name, text in PAGES.items()}).items():
        for node in ast.walk(ast.parse(text)) if place != "definitions" else ():
            if isinstance(node, ast.Constant):
                assert node.value not in labels, f"{place}, line {node.lineno}: {node.value!r}"
            members = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", ())
            named = {m.value for m in members if isinstance(m, ast.Constant)} & METRICS.keys()
            assert len(named) < 3, f"{place}, line {node.lineno}: a list of {sorted(named)}"


def test_the_lists_of_conftest_name_tests_that_exist():
    "A test that was renamed was no longer left out of `make check`."
    import conftest

    for name in sorted(conftest.SLOW | conftest.LONG | conftest.ALONE):
        file, _, test = name.partition("::")
        if file.endswith(".ipynb"):
            assert list((ROOT / "nbs").rglob(file)) and test == file.removesuffix(".ipynb"), name
        else:
            assert (f"def {test}(" if test else "") in (ROOT / "tests" / file).read_text(), name
