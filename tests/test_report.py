"""The page about a run: with committed, odd and untrusted metrics; and what may be uploaded with it."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace
from urllib.parse import quote

import nbformat
import pandas as pd
import pytest
from conftest import ROOT, run, sample_metrics, set_params

from xraypneu.cli import _test_text
from xraypneu.model.bundle import SHIPPED, load_bundle
from xraypneu.ops import report
from xraypneu.ops.stage import _metric_lines
from xraypneu.redact import without_controls

METRICS = sample_metrics()


@pytest.fixture
def committed(tmp_path):
    "A folder with the committed metrics alone."
    report.write_file(tmp_path / "reports/metrics.json", json.dumps(METRICS))
    return tmp_path


def no_pictures(text):
    return not re.search(r"!\[|<img|data:image|base64", text)


def sections(text):
    return re.findall(r"^##? (.+)$", text, re.M)


def cells(text, first):
    "The cells of the table row that begins with `first`."
    return next(
        [c.strip() for c in ln.strip("|").split("|")] for ln in text.splitlines() if ln.startswith(f"| {first} ")
    )


def test_committed_figures(committed):
    page = report.write_report(committed, base=None).read_text()
    t, low, high = METRICS["test"], METRICS["test_low"], METRICS["test_high"]
    assert cells(page, "accuracy") == [
        "accuracy",
        f"**{100 * t['accuracy']:.1f} %**",
        f"{100 * low['accuracy']:.1f} % to {100 * high['accuracy']:.1f} %",
        "89.42 %",
    ]
    assert cells(page, "sensitivity (recall)")[-1] == "93.33 %" and cells(page, "precision (PPV)")[-1] == "91.43 %"
    assert cells(page, "ROC AUC")[1:3] == [f"**{t['roc_auc']:.4f}**", f"{low['roc_auc']:.4f} to {high['roc_auc']:.4f}"]
    assert [int(c.split()[0]) for c in cells(page, "**PNEUMONIA**")[1:]] == [t["fn"], t["tp"]]
    assert [int(c.split()[0]) for c in cells(page, "**NORMAL**")[1:]] == [t["tn"], t["fp"]]
    assert METRICS["data"]["hash"] in page and METRICS["model"]["hash"] in page
    assert METRICS["data"]["synthetic"] and "**SYNTHETIC**" in page and "not for these images" in page
    assert "Not a medical device" in page and no_pictures(page) and "no credentials" not in page
    assert page.startswith(report.MARK) and len(page) < report.LIMIT


def test_equal_ends_are_no_interval_in_any_text(committed):
    "Of a test set that is separated perfectly, all resamples give 1: before, the interval was 1.0000 to 1.0000."
    ones = {k: METRICS[k] | {"roc_auc": 1.0} for k in ("test", "test_low", "test_high")}
    metrics = {k: v for k, v in (METRICS | ones).items() if k != "seeds"}
    report.write_file(committed / "reports/metrics.json", json.dumps(metrics))
    page = report.write_report(committed, base=None).read_text()
    assert cells(page, "ROC AUC")[1:3] == ["**1.0000**", "none"]
    for text in ("\n".join(_metric_lines(metrics)) + "\n", _test_text(metrics)):
        assert re.search(r"^  ROC AUC +1\.0000 +\(no interval\)$", text, re.M)
        assert re.search(r"accuracy .*\(.* to .*\)$", text, re.M)


def test_metrics_of_radiographs_are_compared_and_not_called_synthetic(committed):
    shutil.copy(ROOT / "xraypneu/shipped/metrics.json", committed / "reports/metrics.json")
    page = report.write_report(committed, base=None).read_text()
    assert "SYNTHETIC" not in page and "the same 624 images" in page and "mean of 3 trainings" in page and "± " in page


def test_notice_links_and_promotion(committed):
    report.write_file(
        committed / "reports/promotion.json",
        json.dumps(
            {
                "decision": "refused",
                "reasons": ["its AUC may be worse | by <b> @team"],
                "metrics": {"mcnemar_p": 0.03125, "odd": None},
            }
        ),
    )
    page = report.write_report(
        committed,
        base=None,
        notice="no credentials: sample data",
        artefact_url="https://host/run/1/artifacts/2",
        run_url="https://host/run/1",
    ).read_text()
    lines = page.splitlines()
    assert next(i for i, ln in enumerate(lines) if "no credentials: sample data" in ln) < 5
    assert "[download](https://host/run/1/artifacts/2)" in page and "[log](https://host/run/1)" in page
    assert "**refused**" in page and "- its AUC may be worse \\| by &lt;b&gt; @\u200bteam" in page
    assert "| mcnemar\\_p | 0.03125 |" in page


def test_a_decision_about_another_model_is_not_this_one_s(committed):
    "Where `promote` makes no decision, the file of the one before stays."
    for bundle, said in ((METRICS["model"]["hash"], True), ("a" * 64, False)):
        decision = {"decision": "promoted", "reasons": ["it passes the floor"], "metrics": {}, "bundle": bundle}
        report.write_file(committed / "reports/promotion.json", json.dumps(decision))
        page = report.write_report(committed, base=None).read_text()
        assert ("**promoted**" in page) is said and ("No decision about this model" in page) is not said


def test_metrics_of_an_earlier_run_are_reported_as_such(committed):
    "A job whose run failed early has the metrics that git brought, and perhaps their model from the DVC remote."
    (committed / "code.py").write_text("1")
    (committed / "dvc.yaml").write_text(
        "stages:\n"
        "  prepare: {cmd: test -f good, deps: [code.py]}\n"
        "  train: {cmd: mkdir -p models, deps: [code.py]}\n"
        "  evaluate: {cmd: 'true', params: [evaluate]}\n"
    )
    (committed / "params.yaml").write_text("evaluate: {seed: 0}")
    (committed / "good").touch()
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "repro", "-q"]):
        run(command, committed)
    shutil.copytree(SHIPPED, committed / "models/bundle")
    metrics_text = json.dumps(METRICS | {"model": {"hash": load_bundle().hash}})
    report.write_file(committed / "reports/metrics.json", metrics_text)
    assert report.CAUTION not in report.write_report(committed, base=None).read_text()
    (committed / "code.py").write_text("2")
    (committed / "good").unlink()
    assert run(["dvc", "repro", "-q"], committed, check=False).returncode
    page = report.write_report(committed, base=None).read_text()
    assert report.CAUTION in page and "of prepare, train changed since" in page
    # the page of a fork's run is made anew from its numbers alone
    fork = committed / "fork"
    report.write_file(fork / "metrics.json", metrics_text)
    assert report.CAUTION not in report.rebuild(fork, committed).read_text()
    report.write_file(fork / "report.md", page)
    assert report.CAUTION in report.rebuild(fork, committed).read_text()


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "",
        "[]",
        "null",
        "{",
        "{}",
        '{"test": 1, "data": [], "model": "x", "seeds": null}',
        '{"test": {"accuracy": NaN, "tp": "3", "roc_auc": null}, "test_low": [], "data": {"hash": 7, '
        '"synthetic": "yes"}}',
        "[" * 10_000,
    ],
)
def test_odd_metrics(tmp_path, odd):
    if odd is not None:
        report.write_file(tmp_path / "reports/metrics.json", odd)
    for bad in ("roc.csv", "calibration.csv"):
        report.write_file(tmp_path / "reports/plots" / bad, "fpr,tpr\n0,x\n\0")
    report.write_file(tmp_path / "reports/promotion.json", '{"reasons": 3, "metrics": []}')
    page = report.write_report(tmp_path).read_text()
    assert "No metrics" in page and "Not in these metrics" in page and "is not known" in page and "None" not in page
    assert "nan" not in page.replace("Provenance", "")
    assert {"Metrics", "Confusion matrix", "Promotion", "Provenance"} <= set(sections(page))
    assert "```mermaid" not in page


def test_missing_keys(tmp_path):
    few = {"test": {"accuracy": 0.9}, "data": {"synthetic": False}}
    report.write_file(tmp_path / "reports/metrics.json", json.dumps(few))
    page = report.write_report(tmp_path).read_text()
    assert cells(page, "accuracy") == ["accuracy", "**90.0 %**", "none", "89.42 %"] and "ROC AUC" not in page
    assert "| data | unknown |" in page


def test_metrics_that_are_not_this_models(committed):
    assert "may be older than this run" in report.write_report(committed, base=None).read_text()
    shutil.copytree(ROOT / "xraypneu/shipped", committed / "models/bundle")
    page = report.write_report(committed, base=None).read_text()
    assert "not of the model in `models/bundle`" in page and load_bundle().hash[:12] in page
    shutil.copy(ROOT / "xraypneu/shipped/metrics.json", committed / "reports/metrics.json")
    assert "CAUTION" not in report.write_report(committed, base=None).read_text()


# --- against another revision


def commit(folder, what):
    run(["git", "add", "-A"], folder)
    run(["git", "commit", "-q", "-m", what], folder)
    return run(["git", "rev-parse", "HEAD"], folder).out.strip()


def change(folder, by):
    file = folder / "reports/metrics.json"
    m = json.loads(file.read_text())
    m["test"]["accuracy"] += by
    file.write_text(json.dumps(m))


def test_difference_to_main(copy):
    main = run(["git", "rev-parse", "HEAD"], copy).out.strip()
    run(["git", "checkout", "-q", "-b", "idea"], copy)
    set_params(copy, {"train": {"epochs": 7}})
    change(copy, -0.05)
    page = report.write_report(copy, "main", notice="x").read_text()
    assert cells(page, "accuracy")[3] == "-5.0 points" and cells(page, "ROC AUC")[3] == "0"
    assert "difference to main" in page
    assert "| train.epochs | 3 | 7 |" in page and "Changed parameters (1)" in page and "Changed metrics (1)" in page
    assert "| test.accuracy |" in page
    assert main in page and "with uncommitted changes" in page  # HEAD is main's commit, the files are not
    assert not re.search(r"SYN\d{4}", page) and no_pictures(page)  # no file's name
    assert {"Curves", "Compared with main"} <= set(sections(page)) and page.count("```mermaid") == 2


def test_main_on_the_remote_alone(copy, tmp_path):
    "As checkout leaves a pull request: no branch, and main known as origin/main."
    run(["git", "clone", "-q", str(copy), str(tmp_path / "clone")], tmp_path)
    clone = tmp_path / "clone"
    run(["git", "checkout", "-q", "--detach"], clone)
    run(["git", "branch", "-q", "-D", "main"], clone)
    change(clone, 0.01)
    assert cells(report.write_report(clone).read_text(), "accuracy")[3] == "+1.0 points"


def test_a_push_to_main_is_compared_with_what_was_before(copy):
    change(copy, 0.02)
    commit(copy, "better")
    page = report.write_report(copy).read_text()
    assert "difference to the parent commit" in page and cells(page, "accuracy")[3] == "+2.0 points"
    change(copy, 0.01)  # trained again: the metrics are no longer the committed ones
    page = report.write_report(copy).read_text()
    assert "difference to main" in page and cells(page, "accuracy")[3] == "+1.0 points"


def test_other_data_in_main(copy):
    file = copy / "reports/metrics.json"
    m = json.loads(file.read_text())
    file.write_text(json.dumps({**m, "data": {**m["data"], "hash": "0" * 64}}))
    assert "main was measured on other data" in report.write_report(copy).read_text()


@pytest.mark.parametrize(
    "base, why",
    [
        ("nowhere", "nowhere is not in this clone"),
        ("--output=x", "--output=x is not a revision"),
        (None, "not asked for"),
    ],
)
def test_no_base(copy, base, why):
    page = report.write_report(copy, base).read_text()
    assert f"No difference: {why}" in page.replace("\\", "") and not (copy / "x").exists()


def test_main_without_metrics(copy):
    metrics_text = (copy / "reports/metrics.json").read_text()
    (copy / "reports/metrics.json").unlink()
    commit(copy, "no metrics")
    run(["git", "checkout", "-q", "-b", "idea"], copy)
    (copy / "reports/metrics.json").write_text(metrics_text)
    commit(copy, "figures")
    assert "main has no reports/metrics.json" in report.write_report(copy).read_text()


def test_no_git(committed, monkeypatch):
    monkeypatch.setenv("PATH", str(committed))  # not even the program
    page = report.write_report(committed).read_text()
    assert "not a git repository" in page and "| commit | unknown |" in page


# --- a fork's run


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/x.png)",
        "<script>alert(1)</script>",
        "@everyone",
        "[a](javascript:x)",
        "a\n\n# Heading",
        "`" * 5,
    ],
)
def test_nothing_of_a_stranger_but_numbers(committed, text):
    evil = json.loads(json.dumps(METRICS))
    evil["test"] |= {text: 1, "accuracy": 0.77, "f1": text, "npv": 1e300, "brier": -1}
    evil |= {text: {text: text}, "model": {"hash": text}, "parts": {text: 1}}
    evil["data"] |= {"hash": text, "synthetic": text, "test_images": 161, text: text, "official_test": True}
    evil["seeds"] = {"trainings": text, "accuracy": {"mean": text}}
    report.write_file(committed / "fork/metrics.json", json.dumps(evil))
    report.write_file(committed / "fork/report.md", text)
    page = report.rebuild(committed / "fork", committed, commit="c" * 40, run_url="https://host/run/1").read_text()
    assert text not in page and no_pictures(page) and "evil" not in page and "Heading" not in page
    assert "everyone" not in page
    assert cells(page, "accuracy")[1] == "**77.0 %**" and "F1" not in page and "c" * 40 in page
    assert "On 161 test images" in page and "not for these images" in page
    assert not {"npv", "Brier score"} & {
        ln.split("|")[1].strip().lower() for ln in page.splitlines() if ln.startswith("|")
    }


def test_a_stranger_s_number_that_is_larger_than_any_float(committed):
    huge = {**METRICS, "test": {**METRICS["test"], "accuracy": 10**400}}
    report.write_file(committed / "theirs/metrics.json", json.dumps(huge))
    text = report.rebuild(committed / "theirs", committed).read_text()
    assert cells(text, "sensitivity (recall)") and "| accuracy |" not in text


def test_a_strangers_artefact_that_is_something_else(tmp_path):
    (tmp_path / "a/reports").mkdir(parents=True)
    (tmp_path / "a/metrics.json").symlink_to(ROOT / "reports/metrics.json")  # leads out of the artefact
    with pytest.raises(report.ReportError, match="no readable metrics.json"):
        report.rebuild(tmp_path / "a", tmp_path)
    (tmp_path / "a/reports/metrics.json").write_text('{"x": "' + "y" * 3_000_000 + '"}')
    with pytest.raises(report.ReportError, match="no readable metrics.json"):
        report.rebuild(tmp_path / "a", tmp_path)


def test_rebuild_needs_python_alone(committed):
    "The workflow that comments installs nothing."
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); from xraypneu.ops.report import main; "
            "sys.exit(main(['rebuild', 'reports']))",
        ],
        cwd=committed,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "GITHUB_STEP_SUMMARY": str(committed / "summary.md")},
    )
    assert done.returncode == 0, done.stderr
    assert (committed / "summary.md").read_text().strip() == (committed / "reports/report.md").read_text().strip()


# --- what may be uploaded


def test_all_of_the_sample_is_collected(project, tmp_path):
    files = {p.relative_to(tmp_path / "out").as_posix() for p in report.collect(tmp_path / "out", project)}
    assert {f"reports/{s}.{e}" for s in ("prepare", "eda", "train", "evaluate") for e in ("html", "ipynb")} <= files
    assert {
        "reports/predictions.csv",
        "reports/metrics.json",
        "reports/plots/roc.csv",
        "params.yaml",
        "dvc.lock",
    } <= files
    assert not [f for f in files if f.startswith(("data", "models", ".")) or f.endswith((".png", ".npy", ".npz"))]


def test_of_radiographs_no_picture_and_no_name_is_collected(copy, tmp_path):
    file = copy / "data/prepared/dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "synthetic": False}))

    def pictures(where):
        return [
            o
            for c in nbformat.read(where / "reports/eda.ipynb", as_version=4).cells
            if "radiographs" in c.metadata.get("tags", [])
            for o in c.outputs
            if "image/png" in o.get("data", {})
        ]

    # there is something to take out
    assert pictures(copy) and re.search(r"SYN\d{4}", (copy / "reports/evaluate.ipynb").read_text())
    files = report.collect(tmp_path / "out", copy)
    assert not pictures(tmp_path / "out")
    assert "reports/predictions.csv" not in {p.relative_to(tmp_path / "out").as_posix() for p in files}
    for f in files:
        assert not re.search(r"SYN\d{4}", f.read_text()), f
    kept = nbformat.read(tmp_path / "out/reports/evaluate.ipynb", as_version=4)
    assert sum("image/png" in o.get("data", {}) for c in kept.cells for o in c.get("outputs", [])) > 3  # curves stay
    assert "Left out: images of radiographs" in (tmp_path / "out/README.txt").read_text()


@pytest.mark.parametrize("name", ["O'Brien", "Meier & Sohn", "Hall <left>", 'Say "x"', "Grün", "Mei\u202eer"])
def test_a_name_that_a_page_or_a_message_spells_in_another_way_is_not_collected(name):
    shown = [
        {"text/html": f"<code>NORMAL/{html.escape(name)}.png</code>"},
        {"text/html": pd.DataFrame({"file": [f"NORMAL/{name}.png"]}).to_html()},
        {"text/html": f"<code>{html.escape(without_controls(name))}.png</code>"},
        {"text/plain": f"can't read {ascii(name + '.png')}"},
        {"text/plain": f"can't read {name + '.png'!r}"},
        {"text/plain": json.dumps({"files": [f"NORMAL/{name}.png"]})},
        {"text/plain": f"http://host/artifacts/{quote(name)}.png"},
    ]
    outputs = [nbformat.v4.new_output("display_data", data) for data in shown]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    kept = report._nameless(nb, {f"{name}.png", name}).cells[0].outputs
    assert [o["output_type"] for o in kept] == ["stream"] * len(shown)


@pytest.mark.parametrize(
    "name, value",
    [
        ("https_proxy", "me:correct-horse@proxy:3128"),
        ("GITHUB_PAT", "correct-horse-battery"),
        ("DAV_AUTH", "me correct-horse"),
        ("MY_TOKEN", "correct_horse!"),  # which a page escapes
    ],
)
def test_passwords_that_no_name_and_no_scheme_give_away_are_hidden(committed, monkeypatch, name, value):
    "A proxy is often written without http://, a token named for what GitHub calls it."
    monkeypatch.setenv(name, value)
    page = report.write_report(committed, base=None, notice=f"{name}={value}").read_text()
    assert "correct" not in page
    (committed / "params.yaml").write_text(f"note: {value}")
    with pytest.raises(report.ReportError, match=f"holds the value of {name}"):
        report.collect(committed / "out", committed)


@pytest.mark.parametrize("synthetic", [True, False])
def test_what_a_run_before_left_of_other_data_is_not_collected(tmp_path, monkeypatch, synthetic):
    "Radiographs, then the sample or renamed films were prepared, and a stage failed: the old reports are there."
    paths = [f"train/NORMAL/SYN000{i}.png" for i in range(4)]
    manifest = pd.DataFrame({"path": paths, "patient": [p[13:20] for p in paths]})
    now = SimpleNamespace(synthetic=synthetic, info={"data_hash": "b" * 64, "findings": []}, manifest=manifest)
    monkeypatch.setattr("xraypneu.data.dataset.load_prepared", lambda folder: now)

    def executed(name, data_hash, text):
        out = nbformat.v4.new_output("stream", name="stdout", text=text)
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[out])])
        nb.metadata |= {"data_hash": data_hash} if data_hash else {}
        report.write_file(tmp_path / f"reports/{name}.ipynb", nbformat.writes(nb))

    executed("eda", "b" * 64, "12 images")
    executed("evaluate", "a" * 64, "Meier-7.png")
    executed("train", None, "Meier-8.png")  # by an earlier version
    predictions = tmp_path / "reports/predictions.csv"
    predictions.write_text(f"path,label\n{paths[0]},NORMAL\ntest/NORMAL/Meier-7.png,NORMAL\n")
    files = report.collect(tmp_path / "out", tmp_path)
    assert {f.name for f in files} == {"eda.ipynb", "eda.html", "README.txt"}
    assert "evaluate.ipynb, which does not record" in (tmp_path / "out/README.txt").read_text()
    predictions.write_text(f"path,label\n{paths[0]},NORMAL\n")
    assert ("predictions.csv" in {f.name for f in report.collect(tmp_path / "out", tmp_path)}) is synthetic


def test_without_prepared_data_no_notebook_is_collected(copy, tmp_path):
    "Metrics of the sample may be left from a run before: they don't say what the notebooks show."
    shutil.rmtree(copy / "data/prepared")
    assert json.loads((copy / "reports/metrics.json").read_text())["data"]["synthetic"]
    assert not [
        p
        for p in report.collect(tmp_path / "out", copy)
        if p.suffix in (".ipynb",) or p.name in ("eda.html", "predictions.csv")
    ]


def test_command(copy, tmp_path):
    done = run(
        [sys.executable, "-m", "xraypneu.ops.report", "write", "--notice", "no credentials: sample data", "--base", ""],
        copy,
        GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
        GITHUB_SERVER_URL="https://host",
        GITHUB_REPOSITORY="a/b",
        GITHUB_RUN_ID="7",
    )
    assert "in the job's summary" in done.out
    summary = (tmp_path / "summary.md").read_text()
    assert "no credentials: sample data" in summary and "[log](https://host/a/b/actions/runs/7)" in summary
    done = run([sys.executable, "-m", "xraypneu.ops.report", "rebuild", str(tmp_path)], copy, check=False)
    assert done.returncode == 1 and "no readable metrics.json" in done.out and "Traceback" not in done.out
