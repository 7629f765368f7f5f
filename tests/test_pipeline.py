"""The pipeline as DVC runs it: stages, caching, parameters, determinism, failures, tracking."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from unittest.mock import Mock

import mlflow
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, brief_stages, commit_all, lay, make_project, params_yaml, run, set_params, until
from ruamel.yaml import YAML
from served import free_port

from xraypneu.data.dataset import load_prepared
from xraypneu.evaluation.evaluate import Evaluation
from xraypneu.files import write_file
from xraypneu.model.bundle import load_bundle
from xraypneu.model.seen import known_films
from xraypneu.ops import project as project_module
from xraypneu.ops import stage as stage_module
from xraypneu.ops.stage import StageError, check_params, declared_params, run_stage, stage_params
from xraypneu.ops.stage import set_params as set_params_of

STAGES = ("prepare", "eda", "train", "evaluate")


def stage(name, project, check=True, **env):
    return run([sys.executable, "-m", "xraypneu.ops.stage", name], project, check, **env)


def client(project):
    return mlflow.MlflowClient(f"sqlite:///{project.resolve()}/mlflow.db")


def runs(project):
    return all_runs(client(project))


def all_runs(client):
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


# --- what a run leaves


def test_everything_is_there(project):
    for name in STAGES:
        page = (project / f"reports/{name}.html").read_text()
        assert "SYNTHETIC" in page and "ot a medical device" in page, name
        nb = nbformat.read(project / f"reports/{name}.ipynb", as_version=4)
        nbformat.validate(nb)
        assert all(c.execution_count for c in nb.cells if c.cell_type == "code" and c.source.strip()), (
            f"{name} was not run to its end"
        )
        assert not re.search(r'<(script|link|img)[^>]*(src|href)="https?:', page), f"{name}.html asks the network"
        terms = re.findall(r'<a class="term" href="#(term-[\w-]+)" title="[^"]+">', page)
        assert terms and set(terms) == set(re.findall(r'<dt id="([^"]+)">', page)), name  # explained within the page
    metrics = json.loads((project / "reports/metrics.json").read_text())
    for key in ("accuracy", "sensitivity", "specificity", "precision", "f1", "roc_auc", "average_precision", "brier"):
        low, high = metrics["test_low"][key], metrics["test_high"][key]
        assert metrics["test"][key] is None or 0 <= low <= high <= 1, key
    assert metrics["data"]["synthetic"] is True
    predictions = pd.read_csv(project / "reports/predictions.csv")
    assert len(predictions) == metrics["data"]["test_images"]
    assert load_bundle(project / "models/bundle").hash == metrics["model"]["hash"]


def test_reports_do_not_depend_on_the_machine(project):
    for name in STAGES:
        text = (project / f"reports/{name}.ipynb").read_text()
        assert str(project) not in text and not re.search(r"0x[0-9a-f]{8}", text), name


def test_metrics_and_plots_are_known_to_dvc(project):
    shown = json.loads(run(["dvc", "metrics", "show", "--json"], project).stdout)
    known = shown[""]["data"]["reports/metrics.json"]["data"]
    written = json.loads((project / "reports/metrics.json").read_text())
    # how good so short a training is, is luck: tests/accept_sample.py looks at the real sample
    assert known["test"]["roc_auc"] == written["test"]["roc_auc"]
    plots = json.loads(run(["dvc", "plots", "show", "--json"], project).stdout)["data"]
    assert len(plots) >= 4


def test_closing_lines(project):
    out = stage_module.summary(project)
    for word in ("accuracy", "ROC AUC", "SYNTHETIC", "reports", "models/bundle", "mlflow ui", "Not a medical device"):
        assert word in out


def test_closing_lines_have_no_interval_from_1_to_1_and_name_few_patients():
    "As the evaluate report says it of 36 test films."
    both = {"roc_auc": 1.0, "accuracy": 0.9}
    ends = {"test_low": both | {"accuracy": 0.8}, "test_high": both | {"accuracy": 0.95}}
    data = {"test_images": 36, "test_patients": 30, "synthetic": True, "few_patients": {"NORMAL": 12}}
    out = "\n".join(stage_module._metric_lines({"test": both, "data": data} | ends))
    assert "1.0000 (no interval)" in out and "90.0 % (80.0 % to 95.0 %)" in out
    assert "Few patients: 12 with NORMAL. The intervals themselves are imprecise" in out
    del data["few_patients"]
    assert "Few" not in "\n".join(stage_module._metric_lines({"test": both, "data": data} | ends))


def test_closing_lines_say_that_the_model_seldom_decides_or_began_with_the_test_films():
    "Of 61 own films: accuracy 100 % on ten test films, all of which were UNSURE and known to the initial weights."
    numbers = dict.fromkeys(("test", "test_low", "test_high"), {"accuracy": 1.0})
    data = {"test_images": 10, "test_patients": 10, "synthetic": False}
    conformal = {"target": 0.95, "decided": 0.0, "always_possible": ["NORMAL", "PNEUMONIA"]}

    def said(**more):
        return "\n".join(stage_module._metric_lines(numbers | {"data": data} | more))

    out = said(conformal=conformal, data=data | {"known_films": 10})
    assert "\nKnown films: The initial weights know 10 of 10 test films: they have content, or class and name" in out
    assert "\nAbstention: UNSURE for 100.0 % of the test films: there are too few validation films of NORMAL and" in out
    for usual in ({}, {"conformal": {"target": 0.95, "decided": 0.5}}, {"conformal": {"decided": None}}):
        assert not {"Known", "Abstention"} & set(re.findall(r"\w+", said(**usual)))


def test_closing_lines_have_the_findings_about_the_films_but_not_where_others_read(copy, monkeypatch):
    "They were in a report that nobody opened after a run without an error."
    file = copy / "data/prepared/dataset.json"
    content = json.loads(file.read_text())
    assert content["findings"] == [] and "Finding" not in stage_module.summary(copy)
    message = "3 files with a remark: the image is coloured, unlike a radiograph."
    file.unlink()  # a link into DVC's cache
    file.write_text(json.dumps(content | {"findings": [{"code": "remarks", "message": message, "files": ["a"]}]}))
    assert f"\nFinding   {message}\n" in stage_module.summary(copy)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert f"\nFinding   {message}\n" in stage_module.summary(copy)  # of the sample
    stage_module.set_params(copy, ["data.path=films"])
    out = stage_module.summary(copy)
    assert f"\nFinding   1 about the films, in {copy}/reports/prepare.html\n" in out and "coloured" not in out


def test_closing_lines_name_results_that_differ_from_the_commit(copy):
    assert "Changed" not in stage_module.summary(copy)
    (copy / "dvc.lock").write_text((copy / "dvc.lock").read_text() + "\n")
    line = next(line for line in stage_module.summary(copy).splitlines() if line.startswith("Changed"))
    assert "dvc.lock, the results of this run: commit" in line and "`git checkout dvc.lock`" in line
    assert "metrics.json" not in line


def test_closing_lines_name_the_parameters_that_a_run_changed(tmp_path):
    "DATA and SET change params.yaml; before, the command that restores left it as it was."
    for name in (*stage_module.RECORDED, "README.md"):
        write_file(tmp_path / name, "committed")
    commit_all(tmp_path)
    for name in ("dvc.lock", "README.md"):
        write_file(tmp_path / name, "changed")
    (line,) = stage_module._changed(tmp_path)
    assert "dvc.lock, the results of this run" in line and "params.yaml" not in line
    for name in ("reports/metrics.json", "params.yaml"):
        write_file(tmp_path / name, "changed")
    (line,) = stage_module._changed(tmp_path)
    assert "the parameters and results of this run" in line
    run(["sh", "-c", re.search("`(git checkout .+?)`", line)[1]], tmp_path)
    assert stage_module._changed(tmp_path) == []


def test_closing_lines_name_results_that_were_never_committed(tmp_path):
    "In a project of `xraypneu new` a colleague got parameters without dvc.lock, and so no model."
    write_file(tmp_path / "params.yaml", "committed")
    commit_all(tmp_path)
    for name in ("dvc.lock", "reports/metrics.json"):
        write_file(tmp_path / name, "new")
    (line,) = stage_module._changed(tmp_path)
    assert line.startswith("Changed   dvc.lock and reports/metrics.json, the results of") and "checkout" not in line
    write_file(tmp_path / "params.yaml", "changed")
    (line,) = stage_module._changed(tmp_path)
    assert "params.yaml and dvc.lock and reports/metrics.json, the parameters" in line
    assert "`git checkout params.yaml` restores" in line


def test_closing_lines_say_who_sees_the_runs(tmp_path, monkeypatch):
    "MLflow's server asks nobody who they are."
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").touch()
    assert "as all users of this machine can: end it after use" in stage_module._runs(tmp_path)


def test_copies_of_films_that_others_could_not_read_are_said(tmp_path, monkeypatch):
    "The films are for their owner alone; what the project makes of them would be for all users of the machine."
    films, project = tmp_path / "films", tmp_path / "a project"
    films.mkdir()
    project.mkdir()
    (project / "params.yaml").write_text(f"data:\n  path: {films}\n")
    reached = {films: False, project: True}
    monkeypatch.setattr(stage_module, "others_reach", reached.get)
    (line,) = stage_module._open_copies(project)
    assert str(films) in line and line.endswith(f"chmod o-rwx '{project}'")
    for reached[films], reached[project] in ((True, True), (False, False)):
        assert stage_module._open_copies(project) == []
    monkeypatch.setattr(stage_module, "others_reach", lambda folder: folder.joinpath("no/folder").stat())
    assert stage_module._open_copies(project) == []  # the stage says what is wrong with the folder
    (project / "params.yaml").write_text("data: 5\n")
    assert stage_module._open_copies(project) == []


def test_parameters_that_cannot_be_written_are_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    refused = PermissionError(13, "this user can't write there", "params.yaml")
    monkeypatch.setattr(stage_module, "set_params", Mock(side_effect=refused))
    assert stage_module.main(["set", "train.epochs=3"]) == 1
    assert "can't write there" in capsys.readouterr().err


# --- parameters


@pytest.mark.parametrize("name", STAGES)
def test_params_fit_the_notebooks(name):
    notebook = ROOT / f"nbs/pipeline/{name}.ipynb"
    declared_params(notebook)  # raises unless there is one such cell
    check_params(notebook, stage_params(ROOT, name))


def test_second_repro_runs_nothing(project):
    out = run(["dvc", "repro"], project).out
    assert "Running stage" not in out and "up to date" in out


def test_evaluate_parameter_runs_evaluate_alone(copy):
    set_params(copy, {"evaluate": {"seed": 1}})
    out = run(["dvc", "repro", "--dry"], copy).out
    assert re.findall(r"Running stage '(\w+)'", out) == ["evaluate"]


@pytest.fixture
def brief(copy):
    "The copy with a brief evaluation."
    brief_stages(copy, "evaluate")
    return copy


def test_experiment_reaches_the_notebook(brief):
    "Run, show, diff, apply; MLflow knows it by the name that DVC does."
    copy = brief
    brief_stages(copy, "train")
    options = ["-S", "train.learning_rate=2e-4", "-S", "train.epochs=1"]
    run(["dvc", "exp", "run", "-n", "slower", *options, "evaluate"], copy)
    nb = nbformat.read(copy / "reports/train.ipynb", as_version=4)
    injected = next(c.source for c in nb.cells if "injected-parameters" in c.metadata.get("tags", []))
    assert "learning_rate = 0.0002" in injected and "epochs = 1" in injected
    newest = runs(copy)[0]
    assert newest.data.params["learning_rate"] == "0.0002"
    assert newest.info.run_name == newest.data.tags["dvc_experiment"] == "slower"
    assert "test_roc_auc" in newest.data.metrics
    assert "slower" in run(["dvc", "exp", "show", "--csv", "--only-changed"], copy).out
    diff = run(["dvc", "exp", "diff", "main", "slower", "--md"], copy).out
    assert "train.learning_rate" in diff and "test.roc_auc" in diff
    run(["git", "checkout", "-q", "--", "params.yaml", "dvc.lock", "reports/metrics.json"], copy)
    run(["dvc", "exp", "apply", "slower"], copy)
    assert stage_params(copy, "train")["learning_rate"] == 0.0002


TOY = """
stages:
  train:
    cmd: cp params.yaml models && cp params.yaml reports/metrics.json
    params: [train.learning_rate]
    outs: [models]
    metrics:
    - reports/metrics.json:
        cache: false
"""


def test_an_experiment_is_discarded_as_the_tutorials_say(tmp_path):
    "`dvc exp remove` alone leaves parameters, results and model of the experiment in the workspace."
    for name, text in {"dvc.yaml": TOY, "params.yaml": "train: {learning_rate: 3e-4}\n", "reports/.keep": ""}.items():
        write_file(tmp_path / name, text)
    run(["git", "init", "-q", "-b", "main"], tmp_path)
    run(["dvc", "init", "-q"], tmp_path)
    run(["dvc", "repro", "-q"], tmp_path)
    commit_all(tmp_path)
    before = (tmp_path / "models").read_text()
    pages = [(ROOT / f"nbs/tutorials/{name}.ipynb") for name in ("team", "compare")]
    text = ["\n".join(c.source for c in nbformat.read(page, as_version=4).cells) for page in pages]
    (ran,) = {re.search("^dvc exp run -n half-rate [^#\n]+", t, re.M)[0].strip() for t in text}
    (discard,) = {re.search("^dvc exp remove half-rate.*?(?=^```)", t, re.M | re.S)[0] for t in text}
    run(["sh", "-c", ran], tmp_path)
    assert (tmp_path / "models").read_text() != before
    run(["sh", "-ec", discard], tmp_path)
    assert (tmp_path / "models").read_text() == before
    assert run(["git", "status", "--porcelain"], tmp_path).out == ""


@pytest.mark.nightly  # in short: test_a_relative_store_is_the_project_s
def test_temporary_experiment_is_recorded_in_the_project(brief):
    copy = brief
    run(["dvc", "exp", "run", "--temp", "-S", "evaluate.seed=7", "evaluate"], copy)
    assert [p.relative_to(copy) for p in copy.rglob("mlflow.db")] == [Path("mlflow.db")]
    (r,) = runs(copy)
    assert r.info.artifact_uri.startswith((copy / "mlartifacts").as_uri())
    assert client(copy).list_artifacts(r.info.run_id, "reports")


def test_wrong_parameters_are_errors(copy):
    notebook = ROOT / "nbs/pipeline/train.ipynb"
    with pytest.raises(StageError, match="epochs is 'ten'"):
        check_params(notebook, stage_params(ROOT, "train") | {"epochs": "ten"})
    set_params(copy, {"train": {"lr": 0.1}})
    done = run(["dvc", "repro", "train"], copy, check=False)
    assert done.returncode and "Did you mean learning_rate?" in done.out


@pytest.mark.parametrize(
    "tracked",
    [None, "x", {"experiment": None}, {"experiment": 2024}, {"experiment": ""}, {"required": "no"}, {"required": 0}],
)
def test_wrong_settings_of_tracking_are_named(tmp_path, tracked):
    'Before anything is run: `required: "no"` would be true.'
    lay(tmp_path, "dvc.yaml", "params.yaml", "nbs/pipeline/train.ipynb")
    yaml = YAML()
    params = yaml.load(tmp_path / "params.yaml")
    params["tracking"] = tracked
    yaml.dump(params, tmp_path / "params.yaml")
    with pytest.raises(StageError, match=r"^tracking.* in params\.yaml: give"):
        run_stage("train", tmp_path)


@pytest.mark.parametrize("text", [b"just text", b"- a", b"\xff\xfe", b"a: [1", b""])
def test_params_that_are_none_are_named(tmp_path, text):
    (tmp_path / "params.yaml").write_bytes(text)
    (tmp_path / "dvc.yaml").write_text("stages: {eda: {params: [eda]}}")
    for ask in (lambda: stage_params(tmp_path, "eda"), lambda: set_params_of(tmp_path, ["eda.seed=1"])):
        with pytest.raises(StageError, match="params.yaml"):
            ask()


@pytest.mark.parametrize("weights", ["link", "models/bundle", "./models/seeds/0", "models/bundle/model.onnx"])
def test_weights_that_dvc_deletes_before_it_trains_are_refused(tmp_path, weights):
    "To go on from the last model: DVC deleted it, and then it was not found."
    (tmp_path / "params.yaml").write_text("train: {weights: shipped}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {train: {params: [train], outs: [models/bundle, models/seeds]}}")
    (tmp_path / "link").symlink_to("models/bundle")
    with pytest.raises(StageError, match=r"DVC deletes before it trains. Copy it .*train.weights=start"):
        set_params_of(tmp_path, [f"train.weights={weights}"])
    with pytest.raises(StageError, match="DVC deletes"):  # of `dvc exp run -S`
        stage_module._check_not_deleted(weights, tmp_path)
    set_params_of(tmp_path, ["train.weights=models/start"])
    assert stage_params(tmp_path, "train") == {"weights": "models/start"}


def test_a_training_under_required_signatures_is_refused_before_it_begins(monkeypatch):
    "It failed after its last epoch, since its model had no signature: `Ask for a signed copy`."
    stage_module._check_signature()
    monkeypatch.setenv("XRAYPNEU_SIGNATURE", "required")
    with pytest.raises(StageError, match="XRAYPNEU_SIGNATURE is required.* Unset it for this command"):
        stage_module._check_signature()
    monkeypatch.setenv("XRAYPNEU_SIGNATURE", "yes")
    with pytest.raises(StageError, match="Set it to required"):
        stage_module._check_signature()


def test_a_training_of_days_is_not_ended(tmp_path):
    "All trainings of a stage run in one cell, which was ended after 24 hours."
    assert stage_module._options("train", tmp_path)["execution_timeout"] is None


def test_papermill_warns_of_no_save_that_takes_seconds(tmp_path):
    "On a busy disk a save took 8 s, a quarter of Papermill's 30: `Autosave too slow` stood in the terminal."
    assert stage_module._options("train", tmp_path)["autosave_cell_every"] / 4 > 60


def test_files_that_params_yaml_names_and_that_changed_are_said(tmp_path):
    "DVC sees the name alone: the table was corrected, nothing ran, and the old metrics were shown without a word."
    (tmp_path / "params.yaml").write_text("data: {patients_csv: people.csv}\ntrain: {weights: start.h5}\n")
    records = {
        "people.csv": ("data/prepared/dataset.json", lambda h: {"patients_csv": h}),
        "start.h5": ("models/bundle/bundle.json", lambda h: {"initial_weights": {"name": "start.h5", "sha256": h}}),
    }
    assert stage_module.replaced_files(tmp_path) == []
    for name, (record, facts) in records.items():
        (tmp_path / name).write_text("file,patient\na,b\n")
        (tmp_path / record).parent.mkdir(parents=True)
        (tmp_path / record).write_text(json.dumps(facts(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())))
    assert stage_module.replaced_files(tmp_path) == []
    for name, who in (("people.csv", "prepare"), ("start.h5", "train")):
        (tmp_path / name).write_text("file,patient\na,c\n")
        assert stage_module.replaced_files(tmp_path)[-1].startswith(f"{name} changed since {who} ran")
    (tmp_path / "people.csv").unlink()
    assert len(stage_module.replaced_files(tmp_path)) == 1
    set_params_of(tmp_path, ["train.weights=shipped"])
    assert stage_module.replaced_files(tmp_path) == []


@pytest.mark.parametrize("content", ['{"initial_weights": ', "[1]", '{"initial_weights": [1]}', "[" * 100_000, "\x80"])
def test_a_damaged_bundle_is_said_where_replaced_files_are_looked_for(tmp_path, content):
    "The end of `xraypneu run`, and the report of a job, were a traceback."
    (tmp_path / "params.yaml").write_text("train: {weights: start.h5}\n")
    (tmp_path / "models/bundle").mkdir(parents=True)
    (tmp_path / "models/bundle/bundle.json").write_bytes(content.encode("latin-1"))
    (line,) = stage_module.replaced_files(tmp_path)
    assert line.startswith("models/bundle/bundle.json can't be read (") and "--force --single-item train" in line


def test_a_model_that_is_trained_further_knows_its_films(project):
    "Of a project's own model nothing was known: after another split, its training films were tested, without a word."
    known = known_films(load_bundle(project / "models/bundle"))
    rows = load_prepared(project / "data/prepared").manifest
    seen = pd.Series(known.seen(rows), rows.index)
    assert set(seen[rows.split.isin(["train", "validation"])]) == {"file"} and set(seen[rows.split == "test"]) == {""}
    # those of the initial weights: a name may be a patient's number, whose hash is guessed
    assert known.names == known_films(load_bundle()).names
    told = SimpleNamespace(same_data=True, bundle=SimpleNamespace(info={"recipe": {"weights": "file"}}))
    assert Evaluation.known_films.fget(told) is None
    told.bundle.info["known_films"] = {"test": 3}
    assert Evaluation.known_films.fget(told) == 3
    numbers = dict.fromkeys(("test", "test_low", "test_high"), {"accuracy": 1.0})
    data = {"test_images": 10, "test_patients": 10, "synthetic": False, "known_films": None}
    out = "\n".join(stage_module._metric_lines(numbers | {"data": data}))
    assert (
        "\nKnown films: Which films the initial weights were trained with is not known. If any of 10 test films" in out
    )


def test_a_parameter_that_changes_during_its_stage_is_not_recorded(copy):
    "DVC reads params.yaml again after the command: the new value would stand in dvc.lock beside the old result."
    set_params(copy, {"prepare": {"seed": 3}})
    was = YAML(typ="safe").load(copy / "dvc.lock")["stages"]["prepare"]
    lock = copy / ".cache/stages/prepare.kernel.lock"
    lock.unlink(missing_ok=True)
    command = ["dvc", "repro", "--single-item", "prepare"]
    with subprocess.Popen(command, cwd=copy, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as dvc:
        report = copy / "reports/prepare.ipynb"
        # Papermill writes the notebook with its parameters before it runs the first cell
        until(lambda: report.is_file() and lock.exists() and "seed = 3" in report.read_text(), dvc)
        set_params(copy, {"prepare": {"seed": 4}})
        out = dvc.communicate(timeout=120)[0]
    assert dvc.returncode and "seed in params.yaml changed while prepare ran" in out, out
    assert YAML(typ="safe").load(copy / "dvc.lock")["stages"]["prepare"] == was


def test_the_terminal_of_a_stage_shows_no_notices_of_tensorflow(tmp_path, monkeypatch, capfd):
    "They came past the notebook, by the process's standard error, and filled the terminal of `make run`."
    from jupyter_client.manager import AsyncKernelManager

    async def start(self, stderr=2, **kw):
        os.write(stderr, b"I0000 00:00:1796 31283 port.cc:153] oneDNN custom operations are on.\nlast words\n")

    monkeypatch.setattr(AsyncKernelManager, "start_kernel", start)
    options = stage_module._options("eda", tmp_path)
    asyncio.run(options.get("kernel_manager_class", AsyncKernelManager)().start_kernel())
    said, deadline = "", time.monotonic() + 10
    while "last words" not in said and time.monotonic() < deadline:
        said += capfd.readouterr().err
    assert said == "last words\n"


def test_nobody_reads_along_at_the_ports_of_a_stage(tmp_path):
    "Every user of the machine can connect to them; what the kernel publishes are names of films, and films."
    import papermill

    listen = """
        import json, threading, time, zmq
        from ipykernel.connect import get_connection_file
        port = json.load(open(get_connection_file()))["iopub_port"]
        heard, socket = [], zmq.Context().socket(zmq.SUB)
        socket.subscribe(b"")
        socket.connect(f"tcp://127.0.0.1:{port}")
        threading.Thread(target=lambda: heard.append(socket.poll(1500)), daemon=True).start()
        time.sleep(0.5)
    """
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "", "language": ""}})
    for code in (dedent(listen), "print('Mustermann.png')\ntime.sleep(1.5)", "heard"):
        book.cells.append(nbformat.v4.new_code_cell(code))
    nbformat.write(book, tmp_path / "in.ipynb")
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", **stage_module._options("eda", tmp_path))
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert done.cells[-1].outputs[0].data["text/plain"] == "[0]"


def test_a_job_s_log_has_no_message_of_prepare(tmp_path, monkeypatch):
    "It may name films, as that of a table of patients without a row for one does; others read the logs of GitHub."
    error = SimpleNamespace(exec_count=3, ename="DataError", evalue="no row for Erika.png", traceback=["Erika.png"])

    def said(path, name="prepare"):
        (tmp_path / "params.yaml").write_text(f"data:\n  path: {path}\n")
        return stage_module._cell_error(error, name, "", stage_module._names_films(name, tmp_path))

    assert "Erika" in said("data/xrays")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "Erika" not in said("data/xrays") and "DataError" in said("data/xrays")
    assert "Erika" in said("data/sample") and "Erika" in said("data/xrays", "train")


def test_a_folder_of_films_that_is_a_link_is_refused(tmp_path, monkeypatch):
    "DVC doesn't look behind it: other films there, and `dvc repro` said that nothing changed."
    films, data = tmp_path / "it's films", tmp_path / "data/mine"
    for folder in (films, data / "train/NORMAL"):
        folder.mkdir(parents=True)
    (films / "a.png").write_bytes(b"film")
    (data / "train/PNEUMONIA").symlink_to(films)
    (tmp_path / "dvc.yaml").write_text("stages: {prepare: {params: [data], deps: ['${data.path}']}}")
    (tmp_path / "params.yaml").write_text("data: {path: data/mine}")
    monkeypatch.setenv("DVC_STAGE", "prepare")
    with pytest.raises(StageError, match="is a link to a folder") as refused:
        run_stage("prepare", tmp_path)
    advice = re.search(r"instead \((.+)\), or", str(refused.value))[1]
    run(["sh", "-c", advice], tmp_path)
    assert (data / "train/PNEUMONIA/a.png").read_bytes() == b"film"
    stage_module._no_links("prepare", tmp_path)
    (tmp_path / "here").symlink_to(data)  # the data folder itself may be one: DVC follows that
    (tmp_path / "params.yaml").write_text("data: {path: here}")
    stage_module._no_links("prepare", tmp_path)


def test_results_behind_a_link_to_another_disk_are_refused_before_a_stage_runs(tmp_path, monkeypatch):
    "DVC said after the training, and after each further one, that models/bundle is outside of the git repository."
    root, disk = tmp_path / "project", tmp_path / "project on disk"
    (root / ".git").mkdir(parents=True)
    disk.mkdir()
    lay(root, "dvc.yaml", "params.yaml")
    (root / "models").symlink_to(disk)
    monkeypatch.setenv("DVC_STAGE", "prepare")
    with pytest.raises(StageError, match="models is a link to .*project on disk, outside of this git repo") as refused:
        run_stage("prepare", root)
    run(["sh", "-c", re.search(r"a folder \((.+?)\)", str(refused.value))[1]], root)
    assert disk.is_dir() and not (root / "models").exists()
    stage_module.check_outs(root)
    (root / "data").symlink_to(disk)
    before = (root / "params.yaml").read_text()
    with pytest.raises(StageError, match="DVC would refuse data/sample"):
        project_module.run(["train.epochs=5"], root)
    assert (root / "params.yaml").read_text() == before
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    no_scm = True\n")  # then DVC takes them
    stage_module.check_outs(root)


@pytest.mark.parametrize("path", ["", ".", "..", "data/.."])
def test_the_project_is_no_folder_of_films(path, tmp_path):
    'As of `xraypneu run --data "$FILMS"` without that variable; DVC spoke of a dependency that is an output.'
    (tmp_path / "params.yaml").write_text(given := "data:\n  path: data/sample\n")
    with pytest.raises(StageError, match="this project's folder, or one that holds it"):
        set_params_of(tmp_path, [f"data.path={path}"])
    assert (tmp_path / "params.yaml").read_text() == given
    set_params_of(tmp_path, ["data.path=../films"])


def test_dvc_deletes_no_films_in_the_sample_s_folder(tmp_path):
    "DVC removes the results of a stage before its command can refuse: by `dvc repro` alone, films were gone."
    stage = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["sample"] | {"deps": ["params.yaml"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"sample": stage}}))
    (tmp_path / "params.yaml").write_text("sample: {patients: 20, seed: 0}")
    run(["dvc", "init", "--quiet", "--no-scm"], tmp_path)
    film = write_file(tmp_path / "data/sample/train/NORMAL/film.png", "a film")
    for command in (["dvc", "repro"], ["dvc", "repro", "--force"]):
        done = run(command, tmp_path, check=False)
        assert done.returncode and "data/sample is the synthetic sample's" in done.out and "1 file of yours" in done.out
        assert film.read_text() == "a film"
    film.rename(tmp_path / "film.png")
    run(["dvc", "repro"], tmp_path)
    assert "Stage 'sample' didn't change" in run(["dvc", "repro"], tmp_path).out
    drawn = next((tmp_path / "data/sample/train/NORMAL").glob("SYN*.png"))
    before = drawn.read_bytes()
    (tmp_path / "params.yaml").write_text("sample: {patients: 20, seed: 1}")
    film = write_file(tmp_path / "data/sample/train/NORMAL/film.png", "a film")
    assert run(["dvc", "repro"], tmp_path, check=False).returncode and film.exists() and drawn.read_bytes() == before
    film.unlink()
    run(["dvc", "repro"], tmp_path)  # the stage replaces its own films itself
    assert json.loads((tmp_path / "data/sample/dataset.json").read_text())["seed"] == 1


def test_another_size_is_prepared_anew(copy):
    "DVC's run cache leaves keys called `size` out of its key: the old images came back, and dvc.lock said otherwise."
    set_params(copy, {"prepare": {"size": 64}})
    run(["dvc", "repro", "--single-item", "prepare"], copy)
    assert json.loads((copy / "data/prepared/dataset.json").read_text())["size"] == 64


def test_no_parameter_is_overlooked_by_the_run_cache():
    from dvc_data.hashfile.meta import Meta

    values = YAML(typ="safe").load(params_yaml())
    for name, about in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].items():
        named = about.get("params", [])
        for section in (s for s in named if "." not in s):
            for key in {Meta.PARAM_SIZE, Meta.PARAM_NFILES} & values[section].keys():
                assert f"{section}.{key}" in named, f"name {section}.{key} in dvc.yaml, by itself, for {name}"


def test_make_passes_data_and_set_on(tmp_path):
    def commands(*args, **env):
        return run(["make", "-n", "run", f"VENV={tmp_path}", *args], ROOT, **env).out

    out = commands("DATA=my data, (1)", "SET=train.epochs=3 train.weights=imagenet")
    assert "cli run data.path='my data, (1)' 'train.epochs=3' 'train.weights=imagenet'" in out
    assert "elsewhere" not in commands(DATA="/elsewhere")  # a variable of the environment is somebody else's
    shown = run(["make", "help"], ROOT).out
    assert "make run DATA=folder" in shown and "make test" in shown


def test_unknown_parameter_is_an_error(tmp_path, monkeypatch, capsys):
    lay(tmp_path, "dvc.yaml", "params.yaml")
    monkeypatch.chdir(tmp_path)
    assert stage_module.main(["set", "train.lr=1"]) and "train.learning_rate" in capsys.readouterr().err


# --- the same again


def with_store(project, copy):
    "The copy with the runs of the project, as if it had been trained there."
    shutil.copy(project / "mlflow.db", copy)
    shutil.copytree(project / "mlartifacts", copy / "mlartifacts")
    note = copy / ".cache/train/run.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"uri": f"sqlite:///{copy.resolve()}/mlflow.db"}))


def test_new_prose_does_not_train_again(project, copy):
    "The finished training is taken: the same bundle to the byte, in the same run, and nothing else is executed."
    source = copy / "nbs/pipeline/train.ipynb"
    kept = {p: p.stat().st_mtime_ns for p in (copy / ".cache/train/finished").rglob("*") if p.is_file()}
    with_store(project, copy)
    stored = sorted((project / "mlartifacts").rglob("*"))
    nb = nbformat.read(source, as_version=4)
    nb.cells[1].source += "\n\nBetter prose."
    nbformat.write(nb, source)
    done = run(["dvc", "repro"], copy)
    assert "Better prose." in (copy / "reports/train.html").read_text()
    assert "Stage 'evaluate' didn't change, skipping" in done.out
    assert len(client(copy).search_model_versions()) == 1 and sorted((project / "mlartifacts").rglob("*")) == stored
    (r,) = runs(copy)
    assert r.info.status == "FINISHED" and [r.info.run_id] == [old.info.run_id for old in runs(project)]
    losses = client(copy).get_metric_history(r.info.run_id, "val_loss")
    assert len(losses) == len(pd.read_csv(copy / "reports/history.csv"))
    bundle = [p.relative_to(project) for p in (project / "models/bundle").iterdir()]
    for path in ("reports/history.csv", *bundle):
        assert (copy / path).read_bytes() == (project / path).read_bytes()
    assert kept and kept == {p: p.stat().st_mtime_ns for p in kept}, "it trained"
    assert stage_module._forced(copy)  # nothing changed since, so that `dvc repro --force` trains
    source.write_text(source.read_text() + " ")
    assert not stage_module._forced(copy)


@pytest.mark.parametrize(
    "name", ["prepare", *(pytest.param(n, marks=pytest.mark.nightly) for n in ("eda", "evaluate"))]
)
def test_reports_twice_are_identical(name, project, copy):
    "Those of train: test_new_prose_does_not_train_again."
    with_store(project, copy)
    stage(name, copy)
    for path in (f"reports/{name}.ipynb", f"reports/{name}.html", "data/prepared/manifest.parquet"):
        assert (copy / path).read_bytes() == (project / path).read_bytes(), path


# --- failures


def test_failing_notebook_leaves_its_partial_copy(copy):
    path = copy / "nbs/pipeline/eda.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells.insert(len(nb.cells) // 2, nbformat.v4.new_code_cell("raise ValueError('the lamp is broken')"))
    nbformat.write(nb, path)
    done = run(["dvc", "repro"], copy, check=False)
    assert done.returncode
    lines = [ln for ln in done.out.splitlines() if ln.strip() and not ln.startswith("ERROR: failed to reproduce")]
    assert lines[-1] == "ValueError: the lamp is broken"
    partial = (copy / "reports/eda.ipynb").read_text()
    assert "the lamp is broken" in partial and "image/png" in partial  # what was shown before it failed
    assert not (copy / "reports/eda.html").exists()


def test_weights_that_cannot_be_had():
    "test_network.py asks for the other ways in which weights fail."
    from xraypneu.errors import rendered
    from xraypneu.model.network import WeightsError
    from xraypneu.model.recipe import new_model

    with pytest.raises(WeightsError, match="not found") as e:
        new_model(96, "nowhere.h5", 0)
    for choice in ("shipped", ".h5", "null"):
        assert choice in rendered(e.value)


def test_data_folder_missing(copy):
    set_params(copy, {"data": {"path": "no/such/folder"}})
    done = stage("prepare", copy, check=False)
    assert done.returncode and "no/such/folder" in done.out.strip().splitlines()[-1]
    assert load_bundle(copy / "models/bundle")  # what was there before is still there


# --- tracking


def test_run_holds_the_whole_training(project):
    (r,) = runs(project)
    assert r.info.status == "FINISHED"
    assert r.data.tags["git_dirty"] in ("true", "false")
    assert r.data.params["learning_rate"] == "0.0003" and r.data.params["seed"] == "0"
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert r.data.metrics["test_accuracy"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-6)
    assert r.data.tags["data_hash"] == metrics["data"]["hash"]
    assert re.fullmatch(r"[0-9a-f]{40}", r.data.tags["git_commit"])
    c = client(project)
    assert [m.step for m in c.get_metric_history(r.info.run_id, "val_loss")] == [1, 2, 3]
    stored = {f.path for f in c.list_artifacts(r.info.run_id, "reports")}
    assert {f"reports/{s}.ipynb" for s in STAGES} <= stored
    assert {f.path for f in c.list_artifacts(r.info.run_id, "bundle")} >= {"bundle/model.onnx", "bundle/bundle.json"}


def test_metrics_of_the_bundle_in_mlflow_are_not_those_of_an_epoch(project):
    "shifted_roc_auc, by which the tutorial tells to choose, was that of the last epoch: runs compare the last step."
    (r,) = runs(project)
    bundle = load_bundle(project / "models/bundle")
    for prefix, measured in (
        ("validation_", bundle.info["validation"]),
        ("shifted_validation_", bundle.info["shifted"]),
    ):
        for name in ("roc_auc", "sensitivity", "brier"):
            (point,) = client(project).get_metric_history(r.info.run_id, prefix + name)
            assert point.value == pytest.approx(measured[name])


def test_pictures_of_radiographs_are_not_recorded(project):
    (r,) = runs(project)
    path = client(project).download_artifacts(r.info.run_id, "reports/eda.ipynb")
    for nb, has in ((path, False), (project / "reports/eda.ipynb", True)):
        cells = [c for c in nbformat.read(nb, as_version=4).cells if "radiographs" in c.metadata.get("tags", [])]
        assert len(cells) == 1 and ("image/png" in str(cells[0].outputs)) is has


def test_logged_model_predicts_as_the_bundle(project, monkeypatch):
    (r,) = runs(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.resolve()}/mlflow.db")
    model = mlflow.pyfunc.load_model(f"runs:/{r.info.run_id}/model")
    assert model.metadata.signature.inputs.inputs[0].type == np.dtype("uint8"), model.metadata.signature
    images = np.load(project / "data/prepared/images.npy")[:8]
    logits = load_bundle(project / "models/bundle").logits(images)
    np.testing.assert_allclose(model.predict(images[..., None])[:, 0], logits, atol=1e-3)


def test_server_that_does_not_answer(copy):
    uri = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    done = stage("train", copy, check=False, MLFLOW_TRACKING_URI=uri)
    assert done.returncode and f"no MLflow server at {uri}" in done.out
    assert time.monotonic() - began < 10
    assert "epoch 1" not in done.out


def test_server_that_hangs(copy):
    with socket.socket() as s:  # accepts, never answers
        s.bind(("127.0.0.1", 0))
        s.listen()
        began = time.monotonic()
        done = stage("train", copy, check=False, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{s.getsockname()[1]}")
    assert done.returncode and "doesn't work" in done.out
    # the 10 s of the promise, and the start of Python and MLflow on a busy machine
    assert time.monotonic() - began < 15


def test_an_evaluation_by_hand_on_another_store(brief, sqlite_server):
    "As somebody who opens the notebook, without the runner: no store is made there, and the run says what it lacks."
    copy = brief
    uri, server = sqlite_server.uri, mlflow.MlflowClient(sqlite_server.uri)
    known = {r.info.run_id for r in all_runs(server)}
    command = ["jupyter", "nbconvert", "--execute", "--to", "notebook", "--output-dir", str(copy)]
    run([*command, "evaluate.ipynb"], copy / "nbs/pipeline", MLFLOW_TRACKING_URI=uri)
    (r,) = [r for r in all_runs(server) if r.info.run_id not in known]
    assert "test_roc_auc" in r.data.metrics
    assert "is not in this store" in r.data.tags["note"]  # the training was recorded elsewhere
    assert not list(copy.rglob("mlflow.db"))


def test_store_does_not_follow_the_working_directory(brief):
    copy = brief
    run([sys.executable, "-m", "xraypneu.ops.stage", "evaluate"], copy / "nbs/pipeline")
    assert [p.relative_to(copy) for p in copy.rglob("mlflow.db")] == [Path("mlflow.db")]
    assert len(runs(copy)) == 1


# --- other data


@pytest.mark.parametrize(
    "brief", [("eda", "train", "evaluate"), pytest.param(("train", "evaluate"), marks=pytest.mark.nightly, id="eda")]
)
def test_flat_folder_without_a_test_split_and_without_the_server(brief, tmp_path, project):
    "`tracking.required: false` goes on where no server answers."
    flat, uri = tmp_path / "flat", f"http://127.0.0.1:{free_port()}"
    for cls in ("NORMAL", "PNEUMONIA"):
        shutil.copytree(project / "data/sample/train" / cls, flat / cls)
    other = make_project(tmp_path / "other")
    brief_stages(other, *brief)
    run([sys.executable, "-m", "xraypneu.ops.stage", "set", f"data.path={flat}", "train.epochs=1"], other)
    set_params(other, {"tracking": {"required": False}})
    out = run(["dvc", "repro", "eda", "evaluate"], other, MLFLOW_TRACKING_URI=uri).out
    assert out.count("continuing without MLflow") == 4  # of each stage
    assert "not recorded" in stage_module.summary(other)
    assert len(load_prepared(other / "data/prepared").rows("test")) > 0 and not (other / "data/sample").exists()
