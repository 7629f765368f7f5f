"""`xraypneu tune`: ranges, the objective, and trials of which none is lost or run twice, whatever is killed."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nbformat
import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import ROOT, lay, make_project, refusal, run, set_params, until
from tracked import POSTGRES, Postgres

from xraypneu import cli, load_bundle
from xraypneu.data.dataset import Prepared
from xraypneu.model import groups
from xraypneu.ops import trials as trials_module
from xraypneu.ops import tune
from xraypneu.ops.stage import StageError, stage_params
from xraypneu.ops.trials import LeaseLost, Trials, TuneError, storage_address
from xraypneu.ops.tune import MONITOR, Measured, Range, Settings, Worker, read_range, read_settings

TOY = Settings({"mixup": Range(0.0, 1.0)}, {"head_epochs": 0, "epochs": 3, "mixup": 0.0}, trials=4, pruner="none")


@pytest.fixture(autouse=True)
def untracked(monkeypatch):
    monkeypatch.setenv("XRAYPNEU_TRACKING", "off")
    monkeypatch.setenv(tune.STORAGE, "")


def measured(value):
    return Measured(value, value, "other (NORMAL)", value, 0.9, 3)


def train(parameters, folder, on_epoch, report):
    "Three epochs of nothing."
    for epoch in (1, 2, 3):
        on_epoch({"epoch": epoch, MONITOR: parameters["mixup"] + 1 / epoch})
    return measured(parameters["mixup"])


def study(root, name="toy", settings=TOY):
    found = Trials(storage_address(None, root), name)
    found.agree(settings.facts("data"))
    return found


def worker(root, found, train=train, settings=TOY, lines=None):
    parent = tune.parent_of(found, settings, {})
    return Worker(root, found, settings, train, parent, (lines if lines is not None else []).append)


def project(folder, **changes):
    "A folder with params.yaml and the notebook whose parameters are searched."
    lay(folder, "dvc.yaml", "params.yaml", "nbs/pipeline/train.ipynb")
    set_params(folder, {"tune": changes})
    return folder


# --- ranges


@pytest.mark.parametrize(
    "given, default, problem",
    [
        ({"low": 0.1}, 0.5, "lacks high"),
        ({"low": 0.1, "high": 0.2, "lgo": True}, 0.5, "has lgo"),
        ({"low": 0.2, "high": 0.1}, 0.5, "goes from 0.2 to 0.1"),
        ({"low": 0.0, "high": 0.1, "log": True}, 0.5, "is logarithmic from 0.0"),
        ({"low": 0.1, "high": 0.2, "log": 1}, 0.5, "give true or false"),
        ({"low": "0.1", "high": 0.2}, 0.5, "has low: '0.1'"),
        ({"low": True, "high": 3}, 1, "give a whole number"),
        ({"low": 1, "high": 3.5}, 1, "give a whole number"),
        ({"low": 0.0, "high": 1.0, "step": 2.0}, 0.5, "has step: 2.0"),
        ({"low": 0, "high": 1}, "shipped", "give a list of choices"),
        ([], 0.5, r"give {low: …, high: …} or a list"),
        ([0.1, 0.1], 0.5, "has a choice twice"),
        ([0.1, "many"], 0.5, "has the choice 'many'"),
        ([None], 0.5, "has the choice None"),
        ([1.5], 1, "has the choice 1.5"),
        ("low", 0.5, "is 'low'"),
    ],
)
def test_a_wrong_range_is_named(given, default, problem):
    with pytest.raises(TuneError, match=re.escape(problem)) as e:
        read_range("gamma", given, default)
    assert "tune.ranges.gamma" in str(e.value) and e.value.code == "bad_setting" and e.value.hint


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"ranges": {"lr": {"low": 0.1, "high": 0.2}}}, "Did you mean train.learning_rate?"),
        ({"ranges": {"seed": [0, 1]}}, "they are no part of a recipe"),
        ({"ranges": {"sensitivity": [0.9]}}, "can't be searched"),
        ({"ranges": {"invariance_epochs": [1, 2]}}, "can't be searched"),
        ({"ranges": {}}, "has no ranges to search"),
        ({"pruner": "mean"}, "give median, hyperband or none"),
        ({"trials": 0}, "tune.trials is 0"),
        ({"worst_group": 2}, "give a number from 0 to 1"),
        ({"worst": 0.5}, "Did you mean tune.worst_group?"),
        ({"base": {}}, "Unknown parameter tune.base"),
    ],
)
def test_a_wrong_setting_is_named(changes, problem, tmp_path):
    with refusal(Exception, "bad_setting", re.escape(problem)):
        read_settings(project(tmp_path, **changes))


def test_a_recipe_of_the_invariance_phase_alone_has_no_trials(tmp_path):
    folder = project(tmp_path, ranges={"learning_rate": [0.1, 0.2]})
    set_params(folder, {"train": {"epochs": 0, "head_epochs": 0, "invariance_epochs": 4}})
    with pytest.raises(TuneError, match="train.epochs and train.head_epochs are 0"):
        read_settings(folder)


@pytest.mark.parametrize(
    "train, tune, problem",
    [
        ({}, {"ranges": {"learning_rate": {"low": 0.1, "high": 1.5}}}, "learning_rate .* allows 1.5: train refuses it"),
        ({}, {"ranges": {"batch_size": {"low": 8, "high": 32}}}, "batch_size .* allows 9: train refuses it"),
        (
            {},
            {"ranges": {"consistency": {"low": 0.0, "high": 1.0}, "batch_size": [32, 34]}},
            "allows 1.0: .* batch_size is 34",
        ),
        ({"ema_momentum": 2.0}, {}, r"train\.ema_momentum is 2\.0: give 0 to below 1"),
        ({"weights": "nowhere.h5"}, {}, r"train\.weights '.*nowhere.h5' not found. Take imagenet"),
    ],
)
def test_a_value_that_train_refuses_is_found_before_the_study_is_made(train, tune, problem, tmp_path):
    "Before, only when TensorFlow was there and the films were read; and one within a range by a failed trial."
    folder = project(tmp_path, **tune)
    set_params(folder, {"train": train})
    with pytest.raises((TuneError, StageError), match=problem):
        read_settings(folder)


def test_the_ranges_of_params_yaml_are_valid(tmp_path):
    settings = read_settings(project(tmp_path), 7)
    assert settings.trials == 7 and {"learning_rate", "weight_decay"} <= settings.ranges.keys()
    from xraypneu.model import training

    assert training.MONITOR == MONITOR


def test_commands_set_what_the_trial_had(tmp_path):
    "Read as DVC and `xraypneu run` read them."
    from dvc.utils.hydra import apply_overrides

    from xraypneu.ops.stage import read_yaml, set_params

    values = {"learning_rate": 3e-5, "image_sizes": [128, 224], "weights": None, "flip": False, "text_markers": 3}
    others = {"data.patient_patterns": [r"(person\d+)", r"(\d+)_\w"], "data.path": "my films", "prepare.size": 64}
    made = tune.commands(values | {"weights": "my start"}, others)
    one = project(tmp_path)
    code = "import sys; print(*sys.argv[1:], sep='\\n')"
    python = f'"{sys.executable}" -c "{code}"'
    told = {k: run(["bash", "-c", re.sub("^(dvc|xraypneu)", lambda _: python, made[k])], one).out for k in made}
    pairs = [p for p in told["dvc"].splitlines() if "=" in p]
    apply_overrides(one / "params.yaml", pairs)
    found = read_yaml(one / "params.yaml")["train"]
    assert {k: found[k] for k in values} == values | {"weights": "my start"}
    changed = [read_yaml(one / "params.yaml")[s][k] for s, _, k in (name.partition(".") for name in others)]
    assert changed == list(others.values())
    name, *changes = told["run"].splitlines()  # before, of `make run`, which divides SET at spaces: [128, 224] too
    other = project(tmp_path / "other")
    set_params(other, changes)
    assert name == "run" and read_yaml(other / "params.yaml") == read_yaml(one / "params.yaml")


def test_values_have_four_digits_and_stay_in_range():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    narrow = Range(0.12344, 0.12346)
    values = [narrow.suggest(found.ask(), "x") for _ in range(20)]
    assert all(0.12344 <= v <= 0.12346 for v in values)
    wide = Range(1e-5, 1e-3, log=True)
    assert all(float(f"{v:.4g}") == v for v in (wide.suggest(found.ask(), "y") for _ in range(20)))
    lists = Range(choices=([128, 224], None, True))
    assert {json.dumps(lists.suggest(found.ask(), "z")) for _ in range(20)} == {"[128, 224]", "null", "true"}


# --- the objective


def test_the_objective_is_loss_and_worst_group():
    y, families = np.array([0] * 50 + [1] * 25), ["IM"] * 25 + ["NORMAL2"] * 25 + ["virus"] * 25
    logits = np.where(y == 1, 1.0, -1.0)
    logits[25:35] = 3.0
    value, loss, worst, most = tune.objective(y, families, logits, 0.25)
    assert worst == "NORMAL2 (NORMAL)" and most > loss and value == pytest.approx(0.75 * loss + 0.25 * most)
    assert tune.objective(y, families, logits, 1)[0] == most
    logits[25:35] = -1.0
    better = tune.objective(y, families, logits, 0.25)
    assert better[0] < value
    assert tune.objective(y[-26:-24], families[:2], np.array([-1.0, 1]), 0.5)[2] == ""  # no group of 20


def test_groups_of_few_films_are_left_out():
    found = groups.group_means([1] * 20 + [0] * 19, [0] * 39, ["IM"] * 20 + ["NORMAL2"] * 19)
    assert found == {"IM (NORMAL)": 1.0}


def test_the_test_split_is_not_there():
    manifest = pd.DataFrame({"split": ["train", "test", "validation"], "row": range(3)})
    prepared = tune.without_test(Prepared(ROOT, manifest, np.zeros((3, 8, 8), np.uint8), {}))
    assert len(prepared.rows("test")) == 0 and len(prepared.manifest) == 2


# --- trials


def test_a_study_runs_as_many_trials_as_wanted_and_can_be_extended(tmp_path):
    found, lines = study(tmp_path), []
    worker(tmp_path, found, lines=lines).run()
    rows = found.rows()
    assert [r["number"] for r in rows] == [0, 1, 2, 3] and {r["state"] for r in rows} == {"complete"}
    assert all(r["train"]["mixup"] == r["value"] and r["commands"]["dvc"].startswith("dvc exp run -S ") for r in rows)
    best = tune.best_of(rows)
    text = (tmp_path / "models/tune/toy/best.yaml").read_text()
    assert f"train:\n  mixup: {best['value']}\n" in text and best["commands"]["run"] in text
    table = pd.read_csv(tmp_path / "models/tune/toy/trials.csv")
    assert table.trial.tolist() == [0, 1, 2, 3] and table.command.str.contains("-S train.mixup=").all()
    worker(tmp_path, study(tmp_path), settings=TOY._replace(trials=6)).run()
    assert len(found.rows()) == 6 and found.rows()[:4] == rows


def test_an_interrupted_study_has_the_trials_of_an_uninterrupted_one(tmp_path):
    whole = study(tmp_path, "whole", TOY._replace(trials=8))
    worker(tmp_path, whole, settings=TOY._replace(trials=8)).run()
    parts = study(tmp_path, "parts")
    worker(tmp_path, parts).run()
    worker(tmp_path, study(tmp_path, "parts"), settings=TOY._replace(trials=8)).run()
    assert [r["value"] for r in parts.rows()] == [r["value"] for r in whole.rows()]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_hopeless_trials_end_early(tmp_path, pruner):
    settings = TOY._replace(trials=20, pruner=pruner, base=TOY.base | {"epochs": 9})

    def long(parameters, folder, on_epoch, report):
        for epoch in range(1, 10):
            on_epoch({"epoch": epoch, MONITOR: parameters["mixup"]})
        return measured(parameters["mixup"])

    found = study(tmp_path, settings=settings)
    worker(tmp_path, found, long, settings).run()
    states = Counter(r["state"] for r in found.rows())
    assert states["pruned"] >= 3 and states["pruned"] + states["complete"] == 20
    assert all((r["epochs"] < 9) == (r["state"] == "pruned") for r in found.rows())
    assert tune.best_of(found.rows())["value"] == min(r["losses"][0] for r in found.rows())
    assert "pruned" in tune.status_text(found, tmp_path)


def test_a_trial_that_fails_is_a_result_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("EXAMPLE_SECRET", "example-secret-1a2b")

    def fails(parameters, *rest):
        if parameters["mixup"] > 0.6:
            raise FloatingPointError("the training diverged: example-secret-1a2b")
        return train(parameters, *rest)

    settings = TOY._replace(trials=8)
    found = study(tmp_path, settings=settings)
    worker(tmp_path, found, fails, settings).run()
    failed = [r for r in found.rows() if r["state"] == "failed"]
    assert 0 < len(failed) < 8 and {r["reason"] for r in failed} == {"FloatingPointError: the training diverged: ***"}
    assert "the training diverged: ***" in tune.status_text(found, tmp_path)
    assert not tmp_path_holds(tmp_path, b"example-secret-1a2b")


def tmp_path_holds(folder, what):
    return [p for p in folder.rglob("*") if p.is_file() and what in p.read_bytes()]


def test_many_failures_in_a_row_stop_the_worker(tmp_path):
    settings, fails = TOY._replace(trials=20), Mock(side_effect=ValueError("no good"))
    found = study(tmp_path, settings=settings)
    with pytest.raises(TuneError, match="5 trials in a row failed; the last one: ValueError: no good") as e:
        worker(tmp_path, found, fails, settings).run()
    assert "`xraypneu tune --study toy --status` has all reasons" in e.value.hint
    assert len(found.rows()) == 5


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_wrong_with_the_machine_leaves_the_trial_for_the_next_worker(tmp_path, error):
    def stops(parameters, folder, on_epoch, report):
        on_epoch({"epoch": 1, MONITOR: 1.0})
        raise error

    found, lines = study(tmp_path), []
    with pytest.raises(type(error)):
        worker(tmp_path, found, stops).run()
    assert [(r["state"], r["epochs"]) for r in found.rows()] == [("interrupted", 1)]
    assert "goes on with the next worker" in tune.status_text(found, tmp_path)
    before = found.rows()[0]["parameters"]
    worker(tmp_path, study(tmp_path), lines=lines).run()
    rows = found.rows()
    assert lines[0].startswith("trial 0 goes on") and rows[0]["parameters"] == before
    assert len(rows) == 4 and {r["state"] for r in rows} == {"complete"} and rows[0]["losses"][0] == 1.0


def passed_on(found, key="0", seconds=0):
    "Make the lease of a trial older; with seconds=0, that of a process which has ended."
    leases = found.leases
    owner = leases.owner.rpartition(" ")[0] + " 1"
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    values = {"at": at} if seconds else {"owner": owner}
    with leases.engine.begin() as db:
        db.execute(leases.table.update().where(leases._row(key)).values(**values))


def test_a_worker_that_was_suspended_finds_its_trial_taken_and_stores_nothing(tmp_path):
    one, two = study(tmp_path), study(tmp_path)
    slow = one.claim(4, TOY.suggest)
    one.progress(slow, 1, 0.5)
    assert two.claim(1, TOY.suggest) is None  # it is alive
    passed_on(one, seconds=trials_module.GRACE + 5)
    quick = two.claim(1, TOY.suggest)
    assert quick.number == slow.number and quick.again
    with pytest.raises(LeaseLost):
        one.progress(slow, 2, 0.5)
    with pytest.raises(LeaseLost):
        one.end(slow, "complete", 9.0)
    two.end(quick, "complete", 1.0)
    assert [(r["value"], r["epochs"]) for r in two.rows()] == [(1.0, 1)]


def test_a_trial_that_ends_while_another_worker_looks_for_one_is_not_taken(tmp_path):
    "Before, that worker trained it again, and ended with an error: the trial had already finished."
    one, two = study(tmp_path), study(tmp_path)
    claim, look = one.claim(1, TOY.suggest), two.all

    def ends():
        seen = look()
        del two.all
        one.end(claim, "complete", 1.0)
        one.leases.free(claim.key)
        return seen

    two.all = ends
    assert two.claim(1, TOY.suggest) is None
    assert not one.leases.is_held(claim.key) and one.rows()[0]["state"] == "complete"


def test_a_trial_that_kills_its_workers_counts_as_failed_in_the_end(tmp_path):
    found = study(tmp_path)
    for start in range(trials_module.STARTS):
        claim = found.claim(4, TOY.suggest)
        assert (claim.number, claim.starts) == (0, start + 1)
        passed_on(found)
    worker(tmp_path, found).run()
    rows = found.rows()
    assert "killed 3 times" in rows[0]["reason"] and [r["state"] for r in rows] == ["failed", *["complete"] * 3]


def test_a_trial_that_makes_progress_may_be_killed_any_number_of_times(tmp_path):
    found = study(tmp_path)
    for epoch in range(1, 9):
        claim = found.claim(4, TOY.suggest)
        assert (claim.number, claim.starts) == (0, 1)
        found.progress(claim, epoch, 0.5)
        passed_on(found)


# --- kills

CHILD = """
import os, signal, sys, time
from pathlib import Path
os.environ["XRAYPNEU_TRACKING"] = "off"
from xraypneu.ops import trials, tune
root, moment, most, nap = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
settings = tune.Settings(
    {"mixup": tune.Range(0.0, 1.0)}, {"head_epochs": 0, "epochs": 3, "mixup": 0.0}, trials=most, pruner="none"
)
tune.STARTS = 9  # more than there are kills: they may all meet one trial before its next epoch


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def train(parameters, folder, on_epoch, report):
    "Three epochs, each noted in a file before it is saved; goes on after the last saved one."
    folder.mkdir(parents=True, exist_ok=True)
    done = len(list(folder.glob("*.done")))
    for epoch in (1, 2, 3):
        if epoch > done:
            time.sleep(nap)
            with open(root / "epochs", "a") as log:
                log.write(f"{folder.name} {epoch}\\n")
            (folder / f"{epoch}.done").touch()
        if moment == "epoch" and epoch == 2:
            die()
        on_epoch({"epoch": epoch, tune.MONITOR: 1 / epoch})
    return tune.Measured(parameters["mixup"], 0.5, "other (NORMAL)", 0.6, 0.9, 3)


take, end, free = trials.Leases.take, trials.Trials.end, trials.Leases.free
if moment == "asked":  # the trial is in the storage, its lease is not
    trials.Leases.take = lambda self, key: die() if key == "1" else take(self, key)
if moment == "measured":
    trials.Trials.end = lambda *a, **k: die()
if moment == "told":
    trials.Trials.end = lambda *a, **k: (end(*a, **k), die())
if moment == "choosing":  # it holds the lease of who chooses
    settings = settings._replace(ranges={"mixup": type("Dies", (tune.Range,), {"suggest": lambda *a: die()})(0.0, 1.0)})
found = trials.Trials(trials.storage_address(os.environ.get(tune.STORAGE), root), "toy")
found.agree({"seed": 0})
parent = tune.parent_of(found, settings, {})
tune.Worker(root, found, settings, train, parent, lambda line: print(line, flush=True)).run()
"""


def child(root, moment="", most=3, nap=0.0, **more):
    command = [sys.executable, "-c", CHILD, str(root), moment, str(most), str(nap)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def here(root, most=3):
    "The same worker in this process, to the end."
    with pytest.MonkeyPatch.context() as m:
        m.setattr(sys, "argv", ["", str(root), "", str(most), "0"])
        exec(CHILD, {"__name__": "worker"})


def ended(process, status=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return out


def epochs(root):
    "How often each epoch of each trial was trained."
    return Counter((root / "epochs").read_text().splitlines())


MOMENTS = ("asked", "choosing", "epoch", "measured", "told")
FORKS = """
import os, sys
from xraypneu.ops import trials, tune
code, root, *moments = sys.argv[1:]
for moment in moments:
    if not (pid := os.fork()):
        sys.argv = ["", f"{root}/{moment}", moment, "3", "0"]
        try:
            exec(code, {})
        finally:
            os._exit(0)
    print(moment, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    "A folder for each moment, in which a worker was killed. They are forked from a process that has the imports."
    root = tmp_path_factory.mktemp("moments")
    for moment in MOMENTS:
        (root / moment).mkdir()
    out = run([sys.executable, "-c", FORKS, CHILD, str(root), *MOMENTS], ROOT).out
    ends = [line for line in out.splitlines() if line.startswith(MOMENTS)]
    assert ends == [f"{moment} {-signal.SIGKILL}" for moment in MOMENTS], out
    return root


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_the_worst_moments(killed, moment):
    root = killed / moment
    here(root)
    rows = Trials(storage_address(None, root), "toy", create=False).rows()
    assert [(r["number"], r["state"], r["epochs"]) for r in rows] == [(n, "complete", 3) for n in range(3)]
    assert epochs(root) == {f"{n:05d} {e}": 1 for n in range(3) for e in (1, 2, 3)}
    assert not list((root / ".cache/tune/toy").iterdir())


def trained(root):
    return len((root / "epochs").read_text().splitlines()) if (root / "epochs").exists() else 0


def shared(root, trials=6, kills=1, **more):
    "Two workers of one study, each killed and started again, at random moments; returns the rows."
    moments = random.Random()
    workers = [child(root, most=trials, nap=0.15, **more) for _ in range(2)]
    for _ in range(kills):  # of each: later ones would meet workers that have nothing left to do
        for i in (0, 1):
            before = trained(root)  # an epoch later at the earliest: Python's start alone has nothing to lose
            until(lambda i=i, before=before: trained(root) > before or workers[i].poll() is not None)
            time.sleep(moments.uniform(0, 0.4))
            workers[i].kill()
            workers[i].communicate()
            workers[i] = child(root, most=trials, nap=0.15, **more)
    for process in workers:
        ended(process)
    with pytest.MonkeyPatch.context() as m:
        m.setenv(tune.STORAGE, more.get("env", os.environ).get(tune.STORAGE, ""))
        here(root, trials)  # what the last kill left, if the other worker had ended
    return Trials(storage_address(more.get("env", {}).get(tune.STORAGE), root), "toy", create=False).rows()


def check_shared(rows, counts, trials=6, kills=1):
    assert [(r["number"], r["state"], r["epochs"]) for r in rows] == [(n, "complete", 3) for n in range(trials)]
    most = 3 * trials + 2 * kills  # an epoch that wasn't saved yet
    assert len(counts) == 3 * trials and sum(counts.values()) <= most
    assert len({r["parameters"]["mixup"] for r in rows}) == trials


MANY = pytest.param({"trials": 12, "kills": 2}, marks=pytest.mark.nightly, id="many")


@pytest.mark.nightly  # in short: the next two tests, and test_killed_at_the_worst_moments
@pytest.mark.parametrize("size", [pytest.param({}, id="few"), MANY])
def test_two_workers_that_are_killed_lose_no_trial_and_run_none_twice(size, tmp_path):
    check_shared(shared(tmp_path, **size), epochs(tmp_path), **size)


@pytest.mark.skipif(POSTGRES is None and not os.environ.get("CI"), reason="PostgreSQL is not installed")
@pytest.mark.parametrize("size", [pytest.param({}, id="few"), MANY])
def test_two_workers_on_postgresql(size, tmp_path):
    with Postgres() as cluster:
        uri = cluster.uri.replace("tester@", "tester:no-secret-7c@")  # asked for no password, and given one
        env = os.environ | {tune.STORAGE: uri}
        check_shared(shared(tmp_path, env=env, **size), epochs(tmp_path), **size)
    assert not tmp_path_holds(tmp_path, b"no-secret-7c")


def test_a_worker_of_one_command_that_is_killed_is_replaced(tmp_path, monkeypatch):
    "The short form, without TensorFlow, of test_workers_of_one_command_and_one_that_is_killed."
    started, lines = [], []

    def start(*_):
        started.append(child(tmp_path, most=4, nap=0.15))
        return started[-1]

    def kill():
        until(lambda: trained(tmp_path))
        started[0].kill()

    monkeypatch.setattr(tune, "_worker_command", start)
    killer = threading.Thread(target=kill)
    killer.start()
    assert tune._several("toy", 2, TOY, lines.append) == 0
    killer.join()
    for process in started:
        process.communicate()
    assert len(started) == 3 and "another one takes its place" in lines[0]
    rows = Trials(storage_address(None, tmp_path), "toy", create=False).rows()
    check_shared(rows, epochs(tmp_path), trials=4)


def test_workers_work_in_the_project_that_was_named(tmp_path, monkeypatch):
    "Not in the one around the working folder, whose data they took into the study of the other."
    monkeypatch.setenv(tune.IN_USE, "sqlite:////nowhere.db")
    seen = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, env, cwd=None: seen.append((env[tune.STORAGE], cwd)))
    tune._worker_command("toy", 2, TOY, tmp_path)
    assert seen == [("sqlite:////nowhere.db", tmp_path)]


def test_any_worker_of_one_command_is_replaced_at_once(monkeypatch):
    "Before, the second one was looked at when the first had ended, hours later."
    waits = "import select, sys; select.select([sys.stdin], [], [], 5)"
    started, at_work = [], []

    def start(*_):
        code = (waits, "import os; os.kill(os.getpid(), 9)", "")[len(started)]
        if len(started) == 2:
            at_work.append(started[0].poll() is None)
            started[0].stdin.close()
        started.append(subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(tune, "_worker_command", start)
    assert tune._several("toy", 2, TOY, lambda line: None) == 0
    assert at_work == [True]


def test_initial_weights_that_were_replaced_under_their_name_are_others(tmp_path, monkeypatch):
    "Before, trials from two sets of weights were compared as if they were of one study."
    seen, settings = [], Settings({}, {"weights": "start.h5"})
    monkeypatch.setattr(tune, "Trainer", lambda *_: SimpleNamespace(inputs="data"))
    monkeypatch.setattr(tune, "_claim_folder", lambda *_: None)
    monkeypatch.setattr(tune, "parent_of", lambda *_: 1 / 0)
    prepared = SimpleNamespace(info={"data_hash": "d"}, synthetic=True)
    for content in (b"one", b"two"):
        (tmp_path / "start.h5").write_bytes(content)
        with pytest.raises(ZeroDivisionError):
            tune.work(tmp_path, settings, SimpleNamespace(agree=lambda facts, **_: seen.append(facts)), prepared)
    assert seen[0]["initial weights"] != seen[1]["initial weights"]
    searched = Settings({"weights": Range(choices=("shipped", "imagenet", None))}, {})
    assert tune.initial_hashes(tmp_path, searched) == {"shipped": load_bundle().hash}


def test_studies_of_one_name_in_two_storages_share_nothing(tmp_path, monkeypatch):
    "Before, the second replaced best.yaml of the first, and could go on from the state of its trials."
    monkeypatch.setattr(tune, "Trainer", lambda *_: SimpleNamespace(inputs="data"))
    monkeypatch.setattr(tune, "Worker", lambda *_: SimpleNamespace(run=lambda: None))
    prepared = SimpleNamespace(info={"data_hash": "d"}, synthetic=True)
    settings = TOY._replace(base=TOY.base | {"weights": None})
    one, two = (Trials(storage_address(f"sqlite:///{n}.db", tmp_path), "toy") for n in ("one", "two"))
    for _ in range(2):  # it goes on with its own
        tune.work(tmp_path, settings, one, prepared)
    with refusal(TuneError, "occupied", "models/tune/toy belongs to a study toy of another storage. Name"):
        tune.work(tmp_path, settings, two, prepared)


def test_a_storage_without_a_name(tmp_path):
    "Of a variable that is not set: before, each machine made a study of its own."
    with pytest.raises(TuneError, match="--storage names nothing"):
        tune.open_trials(tmp_path, "toy", "", create=True)
    assert list(tmp_path.iterdir()) == []


# --- the command


def command(*argv):
    out = io.StringIO()
    return cli.main([str(a) for a in argv], out), out.getvalue()


def test_the_status_of_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    found = study(tmp_path)
    worker(tmp_path, found).run()
    status, said = command("tune", "--status", "--study", "toy")
    assert status == 0 and "4 trials: 4 complete" in said and "dvc exp run -S train.mixup=" in said
    found.claim(5, TOY.suggest)
    status, said = command("tune", "--status", "--study", "toy")
    assert status == 1 and "1 running" in said
    passed_on(found, "4")
    assert "1 interrupted" in command("tune", "--status", "--study", "toy")[1]


def test_a_command_that_a_hint_names_can_be_copied(tmp_path, monkeypatch, capsys):
    "Before, it named neither study nor storage: another study was continued, or `there is no study yet`."
    monkeypatch.chdir(project(tmp_path))
    again = f"xraypneu tune --study wide --storage sqlite:///{tmp_path}/other.db"
    given = ("--status", "--study", "wide", "--storage", "sqlite:///other.db")
    assert command("tune", *given)[0] == 2 and f"Begin one: {again}\n" in capsys.readouterr().err
    found = Trials(storage_address("sqlite:///other.db", tmp_path), "narrow")
    assert command("tune", *given)[0] == 2 and f"Begin it with `{again}`" in capsys.readouterr().err
    found = Trials(found.address, "wide")
    found.claim(1, TOY.suggest)
    passed_on(found)
    assert f"run `{again}` again" in command("tune", *given)[1]
    monkeypatch.setenv(tune.STORAGE, "sqlite:///other.db")  # of this shell; the next one may have none
    assert f"run `{again}` again" in command("tune", *given[:3])[1]
    default = storage_address(None, tmp_path)
    assert trials_module.tune_command("tune", default, tmp_path) == f"xraypneu tune --storage {default}"


def with_base(root, name="toy"):
    "A study of a project, with the parameters of its params.yaml, and its trials."
    settings = Settings({"mixup": Range(0.0, 1.0)}, stage_params(root, "train"), trials=2, pruner="none")
    given = tune._present(root)
    noted = {"data_hash": "toy", "params": {k: v for k, v in given.items() if not k.startswith("train.")}}
    found = Trials(storage_address(None, root), name)
    found.agree(settings.facts("data") | {"initial weights": tune.initial_hashes(root, settings)}, prepared=noted)
    worker(root, found, settings=settings).run()
    return found


def test_commands_of_the_best_trial_restore_what_params_yaml_has_otherwise(tmp_path, monkeypatch):
    "Before, they named the searched parameters alone, and trained another model without a word."
    from xraypneu.ops.stage import set_params as change

    monkeypatch.chdir(project(tmp_path))
    found, before = with_base(tmp_path), tune._present(tmp_path)
    best = tune.best_of(found.rows())
    assert best["commands"]["dvc"] + "\n" in command("tune", "--status", "--study", "toy")[1]
    set_params(tmp_path, {"train": {"epochs": 3, "flip": False, "seeds": 3}, "prepare": {"size": 96}})
    said = command("tune", "--status", "--study", "toy")[1]
    assert f"{best['commands']['dvc']} -S train.epochs=10 -S train.flip=true -S prepare.size=224\n" in said
    assert "They name train.epochs, train.flip, prepare.size, too" in said and "another model" not in said
    (line,) = (ln for ln in said.splitlines() if ln.startswith("xraypneu run "))
    tune.write_best(tmp_path, found)
    text = (tmp_path / "models/tune/toy/best.yaml").read_text()
    assert f"# {line}\n" in text and "\n  epochs: 10\n" in text and "\nprepare:\n  size: 224\n" in text
    assert pd.read_csv(tmp_path / "models/tune/toy/trials.csv").command.str.endswith("prepare.size=224").all()
    change(tmp_path, line.removeprefix("xraypneu run ").split(" "))
    assert tune._present(tmp_path) == before | {"train.mixup": best["train"]["mixup"], "train.seeds": 3}


def test_what_no_command_restores_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    (tmp_path / "start.h5").write_bytes(b"one")
    set_params(tmp_path, {"train": {"weights": "start.h5"}})
    found = with_base(tmp_path)
    assert "another model" not in tune.status_text(found, tmp_path)
    (tmp_path / "start.h5").write_bytes(b"two")
    monkeypatch.setattr(tune, "__version__", "99.0.0")
    toy_data(tmp_path / "data/prepared")
    facts = json.loads((tmp_path / "data/prepared/dataset.json").read_text())
    (tmp_path / "data/prepared/dataset.json").write_text(json.dumps(facts | {"data_hash": "others"}))
    said = tune.status_text(found, tmp_path)
    assert "weights start.h5 were replaced; data/prepared holds other films" in said and "ran with xraypneu" in said


def test_the_folder_of_the_same_films_may_be_another_one(tmp_path, monkeypatch):
    "On another machine of the study. Its commands don't name the first one's."
    monkeypatch.chdir(project(tmp_path))
    found = with_base(tmp_path)
    set_params(tmp_path, {"data": {"path": "elsewhere"}})
    assert "data.path=data/sample" in tune.status_text(found, tmp_path)
    toy_data(tmp_path / "data/prepared")
    assert "data.path" not in tune.status_text(found, tmp_path)


def prepared_with(root, **values):
    "Prepared data and the report of their stage."
    toy_data(root / "data/prepared")
    given = stage_params(root, "prepare") | values
    source = "".join(f"{k} = {v!r}\n" for k, v in given.items())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
    (root / "reports").mkdir()
    report = nbformat.v4.new_notebook(cells=[cell], metadata={"data_hash": "toy"})
    nbformat.write(report, root / "reports/prepare.ipynb")


def test_prepared_data_of_other_parameters_are_not_searched_on(tmp_path, monkeypatch, capsys):
    "Before, the trials had other splits, or pixels, than the training that follows."
    monkeypatch.chdir(project(tmp_path))
    set_params(tmp_path, {"prepare": {"size": 32}})
    prepared_with(tmp_path, data_path="films", validation=0.3)
    assert command("tune")[0] == 2
    err = capsys.readouterr().err
    assert "data.path, prepare.validation in params.yaml changed since data/prepared was made" in err
    assert "Restore what was there, or run: dvc repro prepare\n" in err
    (tmp_path / "reports/prepare.ipynb").unlink()
    assert len(tune._prepared(tmp_path).manifest) == 52  # nothing says that they are others
    set_params(tmp_path, {"prepare": {"size": 64}})
    with pytest.raises(StageError, match="prepare.size in params.yaml changed") as e:
        tune._prepared(tmp_path)
    assert e.value.code == "changed" and not (tmp_path / "models").exists()


def test_a_patient_table_that_changed_or_a_report_of_other_data(tmp_path):
    root = project(tmp_path)
    (root / "patients.csv").write_text("file,patient\n")
    set_params(root, {"prepare": {"size": 32}, "data": {"path": "films", "patients_csv": "patients.csv"}})
    prepared_with(root)
    tune._prepared(root)
    file = root / "data/prepared/dataset.json"
    facts = json.loads(file.read_text())
    for change, problem in (
        ({"patients_csv": "0" * 64}, "patient table"),
        ({"data_hash": "x"}, "report of other data"),
    ):
        file.write_text(json.dumps(facts | change))
        with refusal(StageError, "changed", problem) as e:
            tune._prepared(root)
        assert "dvc repro --force --single-item prepare" in e.value.hint


@pytest.mark.parametrize(
    "argv, problem",
    [
        (("--status",), "there is no study yet"),
        (("--trials", "3"), "there is no prepared data"),
        (("--trials", "0"), "--trials is 0"),
        (("--workers", "0"), "--workers is 0"),
        (("--status", "--study", "../x", "--storage", "postgresql://db/x"), "can't be the name of a study"),
        (("--status", "--storage", "mysql://me:a-secret-9@db/x"), "mysql://***@db/x is no storage of studies"),
        (("--status", "--storage", "a-file.db"), "is no storage of studies"),
    ],
)
def test_what_the_command_refuses(tmp_path, monkeypatch, capsys, argv, problem):
    monkeypatch.chdir(project(tmp_path))
    assert command("tune", *argv)[0] == 2
    err = capsys.readouterr().err
    assert problem in err and "a-secret-9" not in err


def test_a_storage_that_does_not_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project(tmp_path))
    address = "postgresql+psycopg2://me:a-secret-9@127.0.0.1:1/x"
    assert command("tune", "--status", "--storage", address)[0] == 2
    err = capsys.readouterr().err
    assert "postgresql+psycopg2://***@127.0.0.1:1/x doesn't answer" in err and "a-secret-9" not in err
    assert len(err.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    assert command("tune", "--status", "--storage", address)[0] == 2
    assert "needs a package that is not installed: pip install psycopg2-binary" in capsys.readouterr().err


def test_the_package_that_sqlalchemy_wants_for_postgresql_is_named(tmp_path, monkeypatch, capsys):
    "SQLAlchemy 2.1 imports psycopg where 2.0 imported psycopg2, which message and tutorials still named."
    from sqlalchemy import create_engine

    from xraypneu.ops.tracking import TrackingError, check, missing_driver

    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    address = "postgresql://me@127.0.0.1:1/x"
    with pytest.raises(ModuleNotFoundError) as missing:
        create_engine(address)
    install = missing_driver(missing.value)
    assert install in ("pip install 'psycopg[binary]'", "pip install psycopg2-binary")
    monkeypatch.chdir(project(tmp_path))
    assert command("tune", "--status", "--storage", address)[0] == 2
    assert f"needs a package that is not installed: {install}" in capsys.readouterr().err
    with pytest.raises(TrackingError, match=re.escape(f"needs a package that is not installed: {install}")):
        check(address)
    for name in ("tune", "team"):
        assert install in (ROOT / f"nbs/tutorials/{name}.ipynb").read_text(), "the tutorial names another package"


def test_without_optuna(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project(tmp_path))
    study(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert command("tune", "--status")[0] == 2
    assert "pip install '.[pipeline,tune]'" in capsys.readouterr().err


def test_a_file_that_is_no_database(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project(tmp_path))
    (tmp_path / "notes.txt").write_text("no database " * 99)
    assert command("tune", "--status", "--storage", "sqlite:///notes.txt")[0] == 2
    assert "can't be used" in capsys.readouterr().err
    study(tmp_path)
    assert command("tune", "--status", "--study", "other")[0] == 2
    assert "has no study other" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings, inputs, what",
    [
        (TOY._replace(ranges={"mixup": Range(0.0, 2.0)}), "data", "ranges"),
        (TOY, "other data", "data or packages"),
        (TOY._replace(base=TOY.base | {"epochs": 4}), "data", "train.epochs"),
        (TOY._replace(worst_group=0.0), "data", "worst_group"),
    ],
)
def test_a_study_is_not_continued_with_something_else(tmp_path, settings, inputs, what):
    study(tmp_path).agree(TOY._replace(trials=99).facts("data"))  # more trials are the same search
    with refusal(TuneError, "changed", f"begun with other values of {what}$|of {what}. Restore"):
        Trials(storage_address(None, tmp_path), "toy").agree(settings.facts(inputs))


def test_a_study_is_not_continued_by_another_version(tmp_path, monkeypatch):
    "Which may augment, train or measure in another way: the best of both would be one of neither."
    study(tmp_path).agree(TOY.facts("data"))
    monkeypatch.setattr(tune, "__version__", "99.0.0")
    with pytest.raises(TuneError, match="begun with other values of xraypneu .its version."):
        Trials(storage_address(None, tmp_path), "toy").agree(TOY.facts("data"))


# --- trainings


def toy_data(folder):
    "Prepared data of 32 pixels: bright in the middle or not."
    rng, rows, images = np.random.default_rng(0), [], []
    disc = np.hypot(*(np.indices((32, 32)) - 15.5)) < 8
    for split, n in (("train", 32), ("validation", 16), ("test", 4)):
        for i in range(n):
            rows.append((f"{split}/SYN{i:04d}-1.png", split, i % 2, f"SYN{split}{i:04d}", len(rows)))
            images.append(np.clip(90 + 35 * (i % 2) * disc + rng.normal(0, 25, (32, 32)), 0, 255).astype(np.uint8))
    folder.mkdir(parents=True)
    pd.DataFrame(rows, columns=["path", "split", "y", "patient", "row"]).to_parquet(folder / "manifest.parquet")
    np.save(folder / "images.npy", np.stack(images))
    facts = {"title": "toy", "synthetic": True, "notice": "SYNTHETIC", "data_hash": "toy", "counts": {}, "size": 32}
    (folder / "dataset.json").write_text(json.dumps(facts))


@pytest.fixture
def small(tmp_path):
    "A project whose trainings take seconds."
    root = make_project(tmp_path / "project")
    toy_data(root / "data/prepared")
    set_params(root, {"train": {"head_epochs": 0, "first_block": 16, "epochs": 2, "batch_size": 8, "min_area": 0.6}})
    set_params(root, {"tune": {"ranges": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}}})
    set_params(root, {"tune": {"pruner": "none"}, "prepare": {"size": 32}})
    return root


def started(root, log, *argv):
    env = {k: v for k, v in os.environ.items() if k not in ("XRAYPNEU_TRACKING", tune.STORAGE)}
    code = [sys.executable, "-m", "xraypneu.cli", "tune", *argv]
    with open(log, "a") as out:
        return subprocess.Popen(code, cwd=root, stdout=out, stderr=out, env=env, start_new_session=True)


@pytest.mark.nightly
def test_two_trainings_killed_at_a_random_moment(small, tmp_path):
    "Every trial is in the study once, with its epochs in MLflow once, below one parent run."
    logs, moments = [tmp_path / "one.log", tmp_path / "two.log"], random.Random()
    both = [started(small, log, "--trials", "3") for log in logs]
    for process, log in zip(both, logs, strict=True):
        until(lambda log=log, process=process: "trial " in log.read_text() or process.poll() is not None)
        time.sleep(moments.uniform(0, 15))
        process.kill()
        process.wait()
    both = [started(small, log, "--trials", "3") for log in logs]
    said = "".join(f"{process.wait(600)} {log.read_text()}" for process, log in zip(both, logs, strict=True))
    assert [p.returncode for p in both] == [0, 0], said
    rows = Trials(storage_address(None, small), "tune", create=False).rows()
    assert [(r["number"], r["state"], r["epochs"]) for r in rows] == [(n, "complete", 2) for n in range(3)], said
    results = Counter(re.findall(r"^trial (\d+): objective", said, re.M))
    assert set(results.values()) <= {1} and results, said  # a kill may fall between result and line
    check_runs(small, rows)
    best = tune.best_of(rows)
    assert f"learning_rate: {best['train']['learning_rate']}" in (small / "models/tune/tune/best.yaml").read_text()


def check_runs(root, rows):
    "One parent, one child for each trial, each epoch once."
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("xraypneu").experiment_id])
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {int(r.data.tags["trial"]): r for r in runs if r not in parents}
    assert len(parents) == 1 and len(runs) == len(rows) + 1 and children.keys() == {r["number"] for r in rows}
    assert {r.info.status for r in runs} == {"FINISHED"}
    for row in rows:
        found = children[row["number"]]
        assert found.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert found.info.run_id == row["mlflow_run"]
        assert [m.step for m in client.get_metric_history(found.info.run_id, MONITOR)] == [1, 2]
        assert found.data.metrics["objective"] == pytest.approx(row["value"])
        assert found.data.metrics["trial_loss"] == pytest.approx(row["loss"])  # not that of the last epoch
        assert float(found.data.params["learning_rate"]) == row["train"]["learning_rate"]
        assert found.data.tags["command"] == row["commands"]["dvc"]


@pytest.mark.nightly
def test_workers_of_one_command_and_one_that_is_killed(small, tmp_path):
    "Another worker takes its place, and the trial goes on."
    log = tmp_path / "log"
    process = started(small, log, "--trials", "3", "--workers", "2")
    until(lambda: "trial " in log.read_text() or process.poll() is not None)
    ours = [p for p in Path("/proc").glob("[0-9]*") if f"PPid:\t{process.pid}\n" in status_of(p)]
    os.kill(int(ours[0].name), signal.SIGKILL)
    assert process.wait(600) == 0, log.read_text()
    said = log.read_text()
    assert "another one takes its place" in said and "3 trials: 3 complete" in said
    assert status_of(Path(f"/proc/{ours[-1].name}")) == ""  # no worker is left


def status_of(folder):
    try:
        return (folder / "status").read_text()
    except OSError:
        return ""


def test_a_run_is_continued_by_its_record(tmp_path, monkeypatch):
    "Also where the journal is gone, as on another machine."
    from xraypneu.ops import tracking

    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path))
    monkeypatch.delenv("XRAYPNEU_TRACKING")
    ids = []
    for epoch, last in ((1, 1), (2, 2)):
        run = tracking.continued("a-record", "study 0", {"trial": 0})
        for e in range(1, epoch + 1):
            run.epoch({"epoch": e, "val_loss": 1 / e})
        run.end("FAILED" if last == 1 else "FINISHED")
        ids.append(run.run_id)
        if last == 1:
            run.journal.remove()
    found = run.client.get_run(ids[0])
    assert ids[0] == ids[1] and found.info.status == "FINISHED" and not run.journal.folder.exists()
    assert [m.step for m in run.client.get_metric_history(ids[0], "val_loss")] == [1, 2]


def test_a_trial_is_recorded_while_the_server_is_away(tmp_path, monkeypatch):
    "What is not sent waits for `xraypneu sync`, with the parent that it belongs to."
    from xraypneu.ops import tracking

    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.delenv("XRAYPNEU_TRACKING")
    known = tracking.Run(None)
    known.head, known.journal = {"run_id": "parent-id"}, tracking.Journal(tmp_path / "parent")
    child_run = tune.Parent("a-record", known, "toy").child(3, {"command": "dvc exp run"})
    child_run.epoch({"epoch": 1, "val_loss": 0.5})
    child_run.end()
    (waiting,) = tracking.waiting(tmp_path)
    assert [e["kind"] for e in waiting.entries] == ["run", "metrics", "status"]
    assert waiting.entries[0]["tags"]["mlflow.parentRunId"] == "parent-id"
