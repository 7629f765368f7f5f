"""The short form of `make faults`: a kill of dvc alone, a full disk, a read-only folder; and tests of the driver."""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from conftest import ROOT, brief_stages
from ruamel.yaml import YAML
from tracked import empty_store

sys.path.insert(0, str(ROOT / "bench"))

import faults  # noqa: E402
from faults import (  # noqa: E402
    Case,
    Ground,
    Skip,
    compare,
    files,
    inside,
    kill_once,
    kills,
    lock,
    page,
    recorded,
    resource_case,
    resources,
    run,
)

from xraypneu.ops import stage, tracking  # noqa: E402


def earlier(project: Path, to: Path, keep: tuple) -> Path:
    "A copy of the shared project as it was when only these stages had run, without DVC's memory of the later ones."
    shutil.copytree(project, to, symlinks=True)
    stages = YAML(typ="safe").load((to / "dvc.lock").read_text())
    for name in set(stages["stages"]) - set(keep):
        for out in stages["stages"].pop(name)["outs"]:
            path = to / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    YAML(typ="safe").dump(stages, to / "dvc.lock")
    for name in ("mlartifacts", ".cache", ".dvc/cache/runs"):
        shutil.rmtree(to / name, ignore_errors=True)
    (to / "mlflow.db").unlink()
    return to


@pytest.fixture
def ground(project, tmp_path):
    "The state before and after `prepare`, on which a resource is taken away."
    short = Ground(tmp_path / "ground", tmp_path / "work")
    earlier(project, short.before("prepare") / "xray", ("sample",))
    earlier(project, short.after("prepare") / "xray", ("sample", "prepare"))
    return short


def take_away(ground, what, moment=0.0, **more):
    try:
        return resource_case(ground, Case("resources", what, "prepare", moment=moment, what=what, more=more), ())
    except Skip as e:
        pytest.skip(str(e))


# --- kills


def test_a_stage_whose_dvc_is_killed_ends_with_it_and_goes_on_in_its_run(project, tmp_path, monkeypatch):
    "`kill -9` of dvc alone during a brief training: nothing runs on, and the next dvc completes the same run, once."
    copy = earlier(project, tmp_path / "xray", ("sample", "prepare"))
    brief_stages(copy, "train")
    (copy / "wait").touch()  # it stays in its first epoch
    monkeypatch.setitem(faults.EDGES, "first epoch", lambda p: "epoch 1/" in (p.parent / "killed.log").read_text())
    command = ["dvc", "repro", "--single-item", "train"]
    killed = kill_once(command, copy, "dvc", "first epoch", {})
    assert killed["running"] == "dvc, stage, kernel" and killed["killed"] == "dvc"
    assert not killed["left"] and killed["gone_after"] < 5 and not inside(copy)
    note = json.loads((copy / ".cache/train/run.json").read_text())
    assert not (copy / "models/bundle").exists()

    (copy / "wait").unlink()
    done = run(command, copy)
    assert done.returncode == 0, done.stdout
    assert json.loads((copy / "models/run.json").read_text())["run_id"] == note["run_id"]
    found = recorded(copy)
    assert found["run"] == {("FINISHED",): 1} and list(found["model version"].values()) == [1]
    assert all(n == 1 for n in found["metric point"].values())


@pytest.mark.nightly
def test_a_training_whose_dvc_is_killed_ends_with_it_and_goes_on_once(project, tmp_path):
    "`kill -9` of dvc alone: nothing runs on, and the next dvc completes the same run, to the byte."
    copy = earlier(project, tmp_path / "xray", ("sample", "prepare"))
    run(["git", "reset", "-q", "--soft", "HEAD~1"], copy)  # the commit that the project was trained at is in the bundle
    command = ["dvc", "repro", "--single-item", "train"]
    killed = kill_once(command, copy, "dvc", "second epoch", {})  # so that the optimizer has a state to go on from
    assert killed["running"] == "dvc, stage, kernel" and killed["killed"] == "dvc"
    assert not killed["left"] and killed["gone_after"] < 5 and not inside(copy)
    note = json.loads((copy / ".cache/train/run.json").read_text())
    assert not (copy / "models/bundle").exists()

    shutil.copy(project / "reports/evaluate.ipynb", copy / "reports")  # of an earlier training: not to be stored
    done = run(command, copy)
    assert done.returncode == 0 and "resuming after epoch" in done.stdout, done.stdout
    assert lock(copy)["train"] == lock(project)["train"]
    for path in ("models/bundle", "reports/train.ipynb", "reports/train.html", "reports/history.csv"):
        assert files(copy / path) == files(project / path), path
    assert json.loads((copy / "models/run.json").read_text())["run_id"] == note["run_id"]
    found = recorded(copy)
    assert found["run"] == {("FINISHED",): 1} and list(found["model version"].values()) == [1]
    client = mlflow.MlflowClient(f"sqlite:///{copy}/mlflow.db")
    assert [m.step for m in client.get_metric_history(note["run_id"], "val_loss")] == [1, 2, 3]
    stored = {f.path for f in client.list_artifacts(note["run_id"], "reports")}
    assert "reports/train.ipynb" in stored and "reports/evaluate.ipynb" not in stored
    assert len(found["Keras model"]) == 1 and all(n == 1 for n in found["metric point"].values())

    # DVC has recorded it, so the state has served; the next stage clears it away
    states = list((copy / ".cache/train").glob("*.npz"))
    assert states
    with pytest.MonkeyPatch.context() as m:
        m.setenv("DVC_STAGE", "evaluate")
        stage._take_up("evaluate", copy)
    assert not any(s.exists() for s in states)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    "A project in which DVC runs a training that came to the end of its notebook; what begins it, and its run."
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train")
    for name, value in tracking.environment(tmp_path).items():
        monkeypatch.setenv(name, value)

    def attempt():
        stage._take_up("train", tmp_path)
        run = tracking.start("train", key="same")
        run.metrics({"accuracy": 0.5})
        run.epoch({"epoch": 1, "accuracy": 0.25, "val_loss": 1.0})
        run.metrics({"accuracy": 0.75})
        run.register("model", {"bundle_hash": "abc"})
        tracking.save(run)
        run.end()
        (tmp_path / ".cache/train/state.npz").write_bytes(b"")
        return run.run_id

    return tmp_path, attempt


def complete_and_lock(root):
    "As the stage and DVC do after a training: dvc.lock names its run."
    stage._completed("train", root)
    md5 = faults.digest(root / "models/run.json")
    (root / "dvc.lock").write_text(f"stages: {{train: {{outs: [{{path: models/run.json, md5: {md5}}}]}}}}\n")


def test_a_training_killed_after_its_last_line_is_repeated_in_its_run(trained):
    "Nothing is doubled, although MLflow had the run as finished: dvc.lock doesn't name it."
    root, attempt = trained
    first = attempt()
    stage._completed("train", root)  # and the kill comes while DVC hashes what there is
    assert attempt() == first and (root / ".cache/train/state.npz").is_file()
    found = recorded(root)
    assert found["run"] == {("FINISHED",): 1} and list(found["model version"].values()) == [1]
    assert all(n == 1 for n in found["metric point"].values()), found["metric point"]


def test_a_training_that_is_asked_for_again_is_another_run(trained):
    root, attempt = trained
    first = attempt()
    complete_and_lock(root)
    stage._take_up("train", root)
    assert not (root / ".cache/train/state.npz").exists()  # it begins from the beginning
    assert attempt() != first
    assert recorded(root)["run"] == {("FINISHED",): 2}


def test_a_lock_that_was_restored_does_not_ask_for_another_training(trained):
    "`git checkout dvc.lock`, as `make run` offers: before, the next run trained again, though nothing had changed."
    root, attempt = trained
    attempt()
    complete_and_lock(root)
    mine = (root / "dvc.lock").read_text()
    stage._take_up("evaluate", root)
    finished = root / tracking.FINISHED
    finished.mkdir()
    (root / "dvc.lock").write_text(f"stages: {{train: {{outs: [{{path: models/run.json, md5: {'0' * 32}}}]}}}}\n")
    stage._take_up("train", root)
    assert finished.is_dir()
    (root / "dvc.lock").write_text(mine)
    stage._take_up("train", root)  # dvc repro --force
    assert not finished.exists()


def test_a_training_of_another_branch_does_not_fail_afterwards(trained):
    "dvc.lock is another branch's by now: the training that it doesn't name was complete, and its run stays so."
    root, attempt = trained
    first = attempt()
    stage._completed("train", root)
    stage._take_up("train", root)  # of other parameters, and killed before it began
    assert recorded(root)["run"] == {("FINISHED",): 1}
    other = tracking.start("train", key="other")
    assert other.run_id != first
    other.end()
    assert recorded(root)["run"] == {("FINISHED",): 2}


def test_a_run_that_a_lock_once_named_is_not_written_into_by_a_new_training(trained):
    root, attempt = trained
    first = attempt()
    complete_and_lock(root)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("DVC_STAGE", "evaluate")
        stage._take_up("evaluate", root)
    (root / "dvc.lock").write_text("stages: {}\n")  # git switch
    assert attempt() != first
    assert recorded(root)["run"] == {("FINISHED",): 2}


def test_a_stage_that_fails_after_it_took_a_finished_training_leaves_its_run_finished(trained):
    "Nothing runs again where the fault is undone: DVC has the result in its cache."
    root, attempt = trained
    first = attempt()
    run = tracking.start("train", key="same", finished=True)
    run.epoch({"epoch": 1, "accuracy": 0.25, "val_loss": 1.0})
    run.metrics({"accuracy": 0.5})
    assert run.run_id == first and recorded(root)["run"] == {("FINISHED",): 1}
    tracking.interrupted(root)
    found = recorded(root)
    assert found["run"] == {("FINISHED",): 1}
    assert all(n == 1 for n in found["metric point"].values()), found["metric point"]


# --- resources


def test_the_state_of_an_abandoned_training_is_deleted_by_a_later_one(tmp_path):
    "A training that was broken off and never repeated left tens of megabytes for good."
    from xraypneu.model import training

    for name, days in (("resumed", 60), ("of last month", 25), ("abandoned", 35)):
        training._save(tmp_path / f"{name}.npz", {}, {"history": []})
        os.utime(tmp_path / f"{name}.npz", (time.time() - 24 * 3600 * days,) * 2)
    assert training._taken_up(tmp_path / "resumed.npz")
    assert len(list(tmp_path.iterdir())) == 3, "what resumes deletes nothing: it may be one of several seeds"
    assert training._taken_up(tmp_path / "new.npz") is None
    assert {p.stem for p in tmp_path.iterdir()} == {"resumed", "of last month"}


def test_a_full_disk_loses_nothing(ground):
    found = take_away(ground, "disk full", moment=0.3)
    assert found["exit"] and not found["problems"], found


def test_a_folder_without_permission_loses_nothing(ground):
    found = take_away(ground, "no permission", closed=["data", "reports"])
    assert found["exit"] and not found["problems"], found


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    "Whatever error it shows itself by."
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(stage, "_LITTLE", usage.free + 1)
    (line,) = stage._circumstances(RuntimeError("any"), tmp_path)
    assert f"The disk of {tmp_path} has" in line and "Make room and start again" in line
    monkeypatch.setattr(stage, "_LITTLE", 0)
    assert stage._circumstances(RuntimeError("any"), tmp_path) == []
    (line,) = stage._circumstances(PermissionError(13, "no"), tmp_path)
    assert "Give this user write permission" in line


def test_a_full_folder_of_temporary_files_is_said(tmp_path, monkeypatch):
    "Without it, ONNX Runtime says `Protobuf serialization failed` and nothing of a disk."
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    free = {tmp_path: 10**9, str(temporary): 10**6}
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda place: SimpleNamespace(free=free[place]))
    (line,) = stage._circumstances(RuntimeError("any"), tmp_path)
    assert line.startswith(f"{temporary}, where temporary files go, has 1.0 MB free") and "set TMPDIR" in line
    free[str(temporary)] = 10**9
    assert stage._circumstances(RuntimeError("any"), tmp_path) == []


# --- the driver


def test_the_same_seed_draws_the_same_kills_of_every_step():
    drawn = kills(1)
    assert drawn == kills(1) and drawn != kills(2)
    at_random = [c for c in drawn if isinstance(c.moment, float)]
    assert len(at_random) == 40 and {c.step for c in at_random} == set(faults.STEPS)
    assert {c.target for c in at_random} == {"group", "dvc", "stage", "kernel"}
    assert all(0 <= c.moment < 1 for c in at_random)
    assert len({faults.result_file(c) for c in [*drawn, *resources(1)]}) == len(drawn) + len(resources(1))


def test_finished_cases_are_not_repeated_unless_the_tree_changes(monkeypatch, tmp_path):
    monkeypatch.setattr(faults, "STATE", tmp_path)
    case = Case("kills", "train 1")
    assert faults.finished(case, "tree", 1) is None
    faults.result_file(case).parent.mkdir()
    faults.result_file(case).write_text(json.dumps({"tree": "tree", "seed": 1, "problems": []}))
    assert faults.finished(case, "tree", 1) and not faults.finished(case, "other", 1)
    assert not faults.finished(case, "tree", 2)
    monkeypatch.setattr(faults, "meaning", faults.digest)  # which is quicker; the next test is about meaning
    trees = {name: faults.tree(name) for name in faults.TESTED}
    first = next(iter(trees))
    assert trees[first] == faults.tree(first) and trees["kills train"] != trees["kills fetch"]
    assert {faults.key(c) for c in faults.planned(SimpleNamespace(seed=1, kills=40, only=None), None)} <= set(trees)
    for names in faults.TESTED.values():
        assert all((ROOT / name).exists() for name in names)


def test_prose_leaves_a_campaign_valid_and_code_does_not(tmp_path):
    "What a campaign tested is named by what the code does."

    def meaning(text):
        (tmp_path / "a.py").write_text(text)
        notebook = {"cells": [{"cell_type": "markdown", "source": text}, {"cell_type": "code", "source": [text]}]}
        (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
        return faults.meaning(tmp_path / "a.py"), faults.meaning(tmp_path / "a.ipynb")

    first = meaning('def f():\n    "Text."\n    return "a b"\n')
    assert meaning('# why\ndef f():\n    "Other."\n    return ("a "\n            "b")\n') == first
    assert all(a != b for a, b in zip(first, meaning('def f():\n    return "a c"\n'), strict=True))


def test_what_is_lost_doubled_or_differs_is_found(project, tmp_path):
    "The comparison itself: a campaign that finds nothing must be able to find something."
    copy = Path(shutil.copytree(project, tmp_path / "copy", symlinks=True))
    assert compare(copy, project) == []
    (copy / "reports/predictions.csv").unlink()
    (copy / "models/bundle/more").write_text("")
    (copy / "reports/metrics.json").write_text("{}")
    broken = next(p for p in (copy / ".dvc/cache/files/md5").glob("??/*") if p.stat().st_size > 1000)
    broken.chmod(0o644)
    os.truncate(broken, 1000)
    c = mlflow.MlflowClient(f"sqlite:///{copy}/mlflow.db")
    (run_id,) = [r[0] for r in faults.ask(copy / "mlflow.db", "select run_uuid from runs")]
    c.log_metric(run_id, "test_accuracy", 0.0)
    text = " ".join(f"{kind} {what}" for kind, what in compare(copy, project))
    for words in (
        "lost reports/predictions.csv/",
        "doubled models/bundle/ more",
        "differing reports/metrics.json/",
        "of the cache is broken",
        "doubled 1 × metric point ('test_accuracy'",
    ):
        assert words in text, text


def test_the_table_counts_what_the_results_say():
    row = {"campaign": "kills", "case": "a", "seed": 1, "commit": "abc", "seconds": 60.0}
    text = page(
        [
            row | {"problems": []},
            row | {"problems": [["doubled", "x"], ["doubled", "y"], ["failed", "z"]]},
            row | {"problems": [], "skipped": "no root"},
        ]
    )
    assert "| kills | 3 | 0 | 1 | 0 | 1 | 1 | 1 | abc | 3.0 |" in text and "doubled: x; doubled: y; failed: z" in text
    assert "no root" in text
