"""The documentation: reference, links, glossary, search, and what `make docs` refuses."""

import html
import json
import re
import sys

import nbformat
import pytest
from conftest import ROOT, commit_all, lay, params_yaml

from xraypneu.files import committed, project_root, write_file
from xraypneu.ops.stage import to_html

sys.path.insert(0, str(ROOT / "docs"))

import links  # noqa: E402
import pages  # noqa: E402
import prose  # noqa: E402
import reference  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The pages without the libraries' notebooks, which take most of the time; all addresses are known."
    folder = tmp_path_factory.mktemp("docs")
    site = pages.Site()
    site.collect()
    few = ("notebooks/model/10_policy.html", "notebooks/api/02_errors.html")
    for url in [u for u, p in site.pages.items() if p.listed and u not in few]:
        site.pages[url].source = ""  # listed, not rendered
    for url in ("project/changelog.html", "tutorials/recipe_study.html", "tutorials/shifted_validation.html"):
        site.pages[url].source = ""
    site.write_bodies()
    site.write(folder)
    return site, folder


def test_every_link_of_the_site_leads_somewhere(site):
    problems, _, internal = links.check(site[1])
    # of the notebooks that are not rendered here the cells are missing; `make docs` asks for those too
    assert [p for p in problems if "#cell-" not in p] == [] and internal > 10_000


def test_pages_load_nothing_from_elsewhere(site):
    for page in site[1].rglob("*.html"):
        assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?:https?:)?//", page.read_text()), page
    for name in ("style.css", "page.js"):
        assert not re.search(r"https?://|@import|url\(", (site[1] / name).read_text()), name


def test_a_broken_link_or_anchor_is_found(tmp_path, capsys):
    (tmp_path / "a.html").write_text('<h1 id="x"></h1><a href="b.html#y"></a><a href="c.html"></a><a href="#x"></a>')
    (tmp_path / "b.html").write_text('<p id="z"><p id="z"><a href="../etc"></a><a href="https://x.org/"></a>')
    problems, external, internal = links.check(tmp_path)
    assert [p.split(": ")[1] for p in problems] == [
        "b.html#y has no such anchor",
        "c.html does not exist",
        "id z occurs 2 times",
        "../etc leads out of the site",
    ]
    assert list(external) == ["https://x.org/"] and internal == 4
    assert links.main(str(tmp_path)) == 1 and "b.html#y" in capsys.readouterr().err


def test_the_front_page_lists_each_tutorial_with_a_line(site):
    page = (site[1] / "index.html").read_text()
    for p in site[0].pages.values():
        if p.url.startswith("tutorials/"):
            assert p.description and f'href="{p.url}">{html.escape(p.title)}</a><span>' in page, p.url


def test_a_tutorial_that_no_group_names_stops_the_build(monkeypatch):
    monkeypatch.setattr(pages, "GROUPS", pages.GROUPS[1:])
    monkeypatch.setattr(reference, "read_modules", lambda root: [])
    with pytest.raises(SystemExit, match="first_hour"):
        pages.Site().add_notebooks()


def test_every_public_name_is_in_the_reference_and_the_search(site):
    text = (site[1] / "search.js").read_text()
    index = json.loads(text.removeprefix("window.xraypneuIndex=").removesuffix(";\n"))
    found = {(title, url) for _, title, url, _ in index}
    modules = {m.name: m for m in site[0].modules}
    for path in (ROOT / "xraypneu").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "xraypneu").with_suffix("").parts)
        if path.name.startswith("_"):
            continue
        public = re.search(r"^__all__ = (\[.*?\])", path.read_text(), re.S | re.M)
        for one in re.findall(r"'(\w+)'", public[1]):
            assert (one, f"{modules[name].url}#{one}") in found, f"{name}.{one}"
    terms = [title for kind, title, *_ in index if kind == "term"]
    assert "operating point, threshold" in terms and len(terms) > 40


def test_the_reference_says_what_docments_say(tmp_path):
    (tmp_path / "m.py").write_text('''
# %% nbs/api/m.ipynb #c1
__all__ = ["f", "K", "A", "B"]
K = {"a": "first", "b": "second"}  # what they mean
A, B = 1, 2  # numbers
# %% nbs/api/m.ipynb #c2
def f(
    x: int,  # pixels
    # a list
    # of names
    names=(),
    *,
    size: float = 0.5,  # 0 to 1
) -> tuple:  # two numbers
    """Does it. Raises `ValueError` for x.y < 0. Then more."""
''')
    k, a, _, f = reference.Reader(tmp_path / "m.py").names()
    assert [(p.name, p.type, p.default, p.comment) for p in f.parameters] == [
        ("x", "int", "", "pixels"),
        ("names", "", "()", "a list of names"),
        ("size", "float", "0.5", "0 to 1"),
    ]
    assert (f.returns.type, f.returns.comment, f.cell) == ("tuple", "two numbers", "c2")
    assert f.errors == "Raises `ValueError` for x.y < 0." and f.line == "Does it."
    assert f.signature == "f(x: int, names=(), *, size: float = 0.5) -> tuple"
    assert (k.text, k.parameters[1].comment, a.signature) == ("what they mean", "second", "A, B = (1, 2)")


def test_the_glossary_names_functions_and_parameters_that_there_are(site):
    "It sent readers to `ood.FOREIGN` and `metrics.is_official_test`, which had other names."
    cells = nbformat.read(ROOT / "nbs/tutorials/glossary.ipynb", as_version=4).cells
    names = re.findall(r"`([a-z]\w*\.\w+)`", "\n".join(c.source for c in cells))  # no members of classes
    assert len(names) > 30 and [n for n in names if not site[0].targets.of_code(n)] == []


def test_terms_are_linked_where_a_page_first_uses_them():
    targets = prose.Targets(terms=[prose.Term("term-op", ["operating point", "threshold"], "a <point>")])
    targets.code["f"] = "api/m.html#f"
    link = prose.Linker(targets, ROOT, "README.md", "a/b.html")
    page = link("<h2>threshold</h2><p>Thresholds, <code>f</code> <a>threshold</a> and threshold</p>")
    term = '<a class="term" href="../tutorials/glossary.html#term-op" title="a &lt;point&gt;">Thresholds</a>'
    assert page == (
        f'<h2>threshold</h2><p>{term}, <a href="../api/m.html#f"><code>f</code></a> <a>threshold</a> and threshold</p>'
    )


def test_a_report_explains_its_terms_without_the_site():
    table = nbformat.v4.new_output("display_data", {"text/html": "<table><tr><td>Brier score &lt; x</td></tr></table>"})
    cells = [
        nbformat.v4.new_markdown_cell("# Specificity\n\nThe specificity is `specificity`, a specificity."),
        nbformat.v4.new_code_cell("specificity = 1", outputs=[table]),
    ]
    page = to_html(nbformat.v4.new_notebook(cells=cells))
    links = re.findall(r'<a class="term" href="#([^"]+)" title="([^"]+)">([^<]+)</a>', page)
    assert [(anchor, shown) for anchor, _, shown in links] == [
        ("term-specificity", "specificity"),
        ("term-brier-score", "Brier score"),
    ]
    assert all(f'<dt id="{anchor}">' in page and f"<dd>{meaning}</dd>" in page for anchor, meaning, _ in links)
    assert '<h2 id="terms">' in page


def test_links_of_the_repository_lead_to_pages():
    targets = prose.Targets(files={"CONTRIBUTING.md": "project/contributing.html"})
    link = prose.Linker(targets, ROOT, "README.md", "index.html")
    assert link('<a href="CONTRIBUTING.md#how-to">') == '<a href="project/contributing.html#how-to">'
    assert link('<img src="nbs/images/dashboard.png">') == '<img src="files/nbs/images/dashboard.png">'
    assert targets.pictures == {"nbs/images/dashboard.png"} and link('<a href="https://x">') == '<a href="https://x">'
    assert prose.relative("api/m.html#f", "api/m.html") == "#f"
    assert prose.relative("index.html", "a/b.html") == "../index.html"


def test_parameters_and_commands_are_those_of_the_program():
    names = {p.name: p for p in pages.parameters_of(ROOT)}
    assert names["train.epochs"].default == "10" and "fine-tuning" in names["train.epochs"].comment
    assert "person" in names["data.patient_patterns"].default
    assert {"predict", "score", "app"} <= set(pages.commands())


def test_each_size_and_colour_that_the_styles_use_is_defined():
    "One that is not counts as none, without a word: text touched its neighbour column."
    files = ("xraypneu/app/dashboard.css", "xraypneu/app/webpage.css", "docs/site.css")
    text = "\n".join((ROOT / f).read_text() for f in files)
    by_script = {"--at", "--ratio", "--to"}
    assert set(re.findall(r"var\((--[\w-]+)", text)) <= set(re.findall(r"(?<![\w(-])(--[\w-]+):", text)) | by_script


def first_hour():
    "The cells of that page."
    return json.loads((ROOT / "nbs/tutorials/first_hour.ipynb").read_text())["cells"]


def test_the_first_hour_shows_the_metrics_of_the_sample():
    "Its outputs were those of an earlier model: 0.995, where a reader's own run said 0.990."
    file = ROOT / "reports/metrics.json"
    here = json.loads(file.read_bytes()) if file.is_file() else {"data": {"synthetic": False}}
    # those of a run here on other films or with other parameters are not to be committed
    of_defaults = here["data"]["synthetic"] and (ROOT / "params.yaml").read_bytes() == params_yaml()
    m = here if of_defaults else json.loads(committed(file))
    (cell,) = [c for c in first_hour() if "reports/metrics.json" in "".join(c["source"]) and c.get("outputs")]
    shown = "".join("".join(o.get("text", o.get("data", {}).get("text/plain", ""))) for o in cell["outputs"])
    lines = [
        f"{name}: {m['test'][name]:.3f} ({m['test_low'][name]:.3f} to {m['test_high'][name]:.3f})\n"
        for name in ("roc_auc", "sensitivity", "specificity")
    ]
    data = tuple(m["data"][name] for name in ("test_images", "test_patients", "synthetic"))
    again = "jupyter execute --inplace nbs/tutorials/first_hour.ipynb, then make export"
    assert shown == "".join(lines) + str(data), f"the page shows other metrics than reports/metrics.json: {again}"


def test_the_first_hour_finds_the_metrics_of_the_sample_whatever_runs(tmp_path, monkeypatch, capsys):
    "DVC removes the file before its stage writes it, and a run on own films replaces it: the page ended in an error."
    (code,) = [s for c in first_hour() if "committed(file)" in (s := "".join(c["source"]))]
    names = {"json": json, "project_root": project_root, "committed": committed}
    lay(tmp_path, "dvc.yaml")
    file = tmp_path / "reports/metrics.json"
    monkeypatch.chdir(tmp_path)

    def of(synthetic, value):
        values = dict.fromkeys(("roc_auc", "sensitivity", "specificity"), value)
        data = {"test_images": 1, "test_patients": 1, "synthetic": synthetic}
        write_file(file, json.dumps(dict.fromkeys(("test", "test_low", "test_high"), values) | {"data": data}))

    of(False, 0.9)
    with pytest.raises(AssertionError, match="no metrics of the sample: call `make run DATA=data/sample` first"):
        exec(code, dict(names))
    of(True, 0.5)
    commit_all(tmp_path)
    of(False, 0.9)
    exec(code, dict(names))
    file.unlink()
    exec(code, dict(names))
    of(True, 0.7)
    exec(code, dict(names))
    assert re.findall("roc_auc: (.{5})", capsys.readouterr().out) == ["0.500", "0.500", "0.700"]
