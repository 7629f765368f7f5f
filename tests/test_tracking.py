"""Runs on real tracking servers, with sqlite and PostgreSQL: what they take, two at once, crashes, freezes."""

import base64
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import mlflow
import numpy as np
import pytest
from conftest import SECRETS, Answers, brief_stages, refusal, run, serving, set_params, until
from tracked import POSTGRES, Postgres, empty_store

from xraypneu.cli import main
from xraypneu.files import write_file
from xraypneu.model.bundle import SHIPPED, load_bundle
from xraypneu.ops import stage, tracking
from xraypneu.ops.doctor import check_journals, check_tracking
from xraypneu.ops.tracking import (
    TrackingError,
    check,
    local_note,
    registered_bundle,
    resume,
    save,
    start,
    sync,
    waiting,
)
from xraypneu.process import hold
from xraypneu.redact import scrub
from xraypneu.serving.predict import Predictor

USER, PASSWORD = "mlflow-user", "p@ss:w%rd/7"
PATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}  # a busy test machine is not a server that is away
WITH_PASSWORD = "mlflow-user:p%40ss%3Aw%25rd%2F7@"


@pytest.fixture(params=["sqlite", "postgres"])
def server(request):
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def place(tmp_path, monkeypatch):
    "A project whose runs go to the server that is given."
    root = tmp_path / "project"
    root.mkdir()
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(root)
    monkeypatch.setenv("XRAYPNEU_ROOT", str(root))
    monkeypatch.setenv("XRAYPNEU_EXPERIMENT", tmp_path.name)
    monkeypatch.delenv("XRAYPNEU_TRACKING", raising=False)

    def to(server):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        return root

    return to


def client(server):
    return mlflow.MlflowClient(server.uri)


def steps(server, run_id, key="val_loss"):
    return [m.step for m in client(server).get_metric_history(run_id, key)]


# --- what a server takes


def test_every_value_is_text_and_every_metric_a_number(place, server):
    place(server)
    values = {
        f"p{i:03}": v
        for i, v in enumerate([True, None, float("nan"), np.float32(1.5), [1, 2], "y" * 9000, "a\0b", *range(150)])
    }
    run = start("train", "text", tags={"synthetic": True, "nothing": None, "long": "x" * 9000, "odd": "a\0b\ud800"})
    run.params(values)
    run.epoch(
        {"epoch": np.int64(1), "loss": np.float32(0.5), "val_loss": 0.25, "seconds": float("inf"), "phase": "head"}
    )
    run.metrics({"auc": np.float64(0.9), "count": np.int64(7), "none": None, "flag": True}, "test_")
    version = run.register("text", {"synthetic": True, "bundle_hash": None})
    run.end()
    found = client(server).get_run(run.run_id)
    assert found.data.tags["synthetic"] == "True" and found.data.tags["nothing"] == "None"
    assert len(found.data.tags["long"]) == 5000
    assert found.data.params["p000"] == "True" and found.data.params["p001"] == "None"
    assert len(found.data.params) == len(values)
    assert found.data.metrics == {"loss": 0.5, "val_loss": 0.25, "test_auc": 0.9, "test_count": 7.0}
    assert client(server).get_model_version("text", version).tags["synthetic"] == "True"
    assert found.info.status == "FINISHED" and not waiting()


class Listening(Answers):
    "Remembers how it was asked."

    def do_GET(self):
        self.server.seen.append(self.headers.get("Authorization"))
        self.say(200, body=b"{}")

    do_POST = do_GET


@pytest.mark.parametrize("written", ["me:p%40ss%3Aw%25rd", "me:p@ss:w%rd"])
def test_the_password_of_the_address_is_sent_and_shown_nowhere(written, monkeypatch, capfd):
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Listening)
    listening.seen, address = [], f"127.0.0.1:{listening.server_port}"
    with serving(listening):
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            monkeypatch.setenv(name, "of-an-older-session")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{written}@{address}")
        uri = tracking.store_uri("/nowhere")
        check(uri)
    assert uri == os.environ["MLFLOW_TRACKING_URI"] == f"http://{address}"
    assert {base64.b64decode(seen.split()[1]).decode() for seen in listening.seen} == {"me:p@ss:w%rd"}
    with pytest.raises(TrackingError) as refused:
        check(uri)  # nobody listens any more
    assert "p@ss" not in str(refused.value) + "".join(capfd.readouterr())


# --- a server that goes away


def history(run, epochs):
    for epoch in epochs:
        run.epoch({"epoch": epoch, "val_loss": 1 / epoch})


def test_a_store_that_cannot_be_written_is_said_at_once(tmp_path):
    "MLflow alone asks SQLite again and again, for two minutes."
    (tmp_path / "mlflow.db").write_bytes(b"")
    tmp_path.chmod(0o555)
    code = """
import os, sys
from xraypneu.ops.tracking import TrackingError, check
if os.getuid() == 0: os.setuid(65534)  # root may write anywhere
try: check(f"sqlite:///{sys.argv[1]}/mlflow.db")
except TrackingError as e: print(e)
"""
    began = time.monotonic()
    said = run([sys.executable, "-c", code, str(tmp_path)], Path(__file__).parent.parent).out
    assert f"no permission to write {tmp_path}" in said and "chmod" in said and time.monotonic() - began < 20


def test_what_the_next_user_of_a_group_needs_can_be_written(tmp_path):
    "Two people in one clone, with a umask of 002."
    before = os.umask(0o002)
    try:
        tracking._begin(tmp_path / "mlflow.db")
        os.close(hold(tmp_path / "stage.lock", "a stage"))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(f.stat().st_mode) for f in sorted(tmp_path.iterdir())] == [0o664, 0o664]
    assert tracking.check(f"sqlite:///{tmp_path}/mlflow.db") is None  # an empty file is a new store


def test_a_store_of_another_mlflow_is_said_at_once(tmp_path, monkeypatch):
    "As after an upgrade of the environment. MLflow alone retries for up to half a minute."
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    file = tmp_path / "mlflow.db"
    uri = f"sqlite:///{file}"
    Base.metadata.create_all(create_engine(uri))
    command.upgrade(_get_alembic_config(uri), "75868b020152")
    before, began = file.read_bytes(), time.monotonic()
    with pytest.raises(TrackingError, match="an older MLflow created") as e:
        check(uri)
    assert time.monotonic() - began < 10 and file.read_bytes() == before
    run(["sh", "-c", str(e.value).splitlines()[-1].strip()], tmp_path)  # what it advises
    check(uri)
    with sqlite3.connect(file) as db:
        db.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(TrackingError, match="a newer MLflow than the installed one created"):
        check(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert check_tracking(tmp_path).fix == "make env"


def test_a_frozen_server_costs_seconds_once(place, sqlite_server):
    "Whatever its store is: it answers nothing."
    server = sqlite_server
    place(server)
    run = start("train", "frozen")
    history(run, [1])
    server.freeze()
    try:
        began = time.monotonic()
        history(run, [2])
        assert time.monotonic() - began < 8  # one time limit of 5 s
        began = time.monotonic()
        history(run, range(3, 9))
        assert time.monotonic() - began < 2  # not asked again so soon
        began = time.monotonic()
        run._breaker_test = run.breaker.allows(now=True)
        assert time.monotonic() - began < 3 and not run._breaker_test  # the question whether it is back
    finally:
        server.thaw()
    server.wait()
    run.end()  # it is back: all is sent in the order of the epochs
    assert steps(server, run.run_id) == list(range(1, 9)) and not waiting()
    assert client(server).get_run(run.run_id).info.status == "FINISHED"


def everything_but_the_first_epoch(run, root, name):
    "What a training records after the server went away, and its evaluation."
    history(run, [2, 3])
    run.artifacts(SHIPPED, to="bundle")
    run.register(name, {"bundle_hash": load_bundle().hash})
    save(run, root / "models/run.json")
    run.end()
    later = resume(root / "models/run.json")
    later.metrics({"roc_auc": 0.9}, "test_")
    (root / "metrics.json").write_text("{}")
    later.artifacts(root / "metrics.json", to="evaluate")
    (root / "metrics.json").write_text("of the next evaluation")
    later.end()


def is_whole(server, run_id, name):
    "The run is in the store, each part once."
    c = client(server)
    found = c.get_run(run_id)
    (version,) = [v for v in c.search_model_versions(f"name = '{name}'") if v.run_id == run_id]
    assert steps(server, run_id) == [1, 2, 3] and steps(server, run_id, "test_roc_auc") == [0]
    assert found.info.status == "FINISHED"
    assert c.get_model_version_by_alias(name, "candidate").version == version.version
    assert [r.info.run_id for r in c.search_runs([found.info.experiment_id])] == [run_id]
    assert Path(c.download_artifacts(run_id, "evaluate/metrics.json")).read_text() == "{}"
    assert Predictor(f"models:/{name}@candidate").bundle.hash == load_bundle().hash


def test_a_store_whose_making_is_killed_is_made_again(tmp_path, monkeypatch):
    "Half of its tables passed for a store of an older MLflow, and each later run was refused."
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    code = f"""
import os, sqlite3, sys
import mlflow.store.db.utils as utils
utils._upgrade_db = lambda engine: os.kill(os.getpid(), 9)  # the first tables are there, and no revision
from xraypneu.ops.tracking import check
check({uri!r})
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == -9
    assert not (tmp_path / "mlflow.db").exists()
    check(uri)
    assert [p.name for p in tmp_path.iterdir()] == ["mlflow.db"] and (tmp_path / "mlflow.db").stat().st_size


def test_a_kill_before_a_finished_run_was_cleared_away_doubles_no_epoch(place, sqlite_server):
    "The next run sent the last entry, deleted the journal, and with it the knowledge of the epochs."
    place(sqlite_server)
    run = start("train", "cleared")
    history(run, [1, 2])
    with sqlite_server.dead():
        run.end()  # as after a kill, the store doesn't have this entry
    again = start("train", "cleared", finished=True)
    again.params({"a": 1})
    history(again, [1, 2])
    again.end()
    assert again.run_id == run.run_id and steps(sqlite_server, run.run_id) == [1, 2]


def test_a_kill_between_a_training_and_the_record_of_its_pages_doubles_no_epoch(place, sqlite_server):
    "The journal of the pages had begun, so the epochs before it were taken for new ones, and sent again."
    place(sqlite_server)
    run = start("train", "twice")
    history(run, [1, 2])
    run.end()
    save(run, "run.json")
    with sqlite_server.dead():
        resume("run.json")  # what it writes is not sent, as after a kill
        away = start("train", "twice", finished=True)
        history(away, [1, 2])
    again = start("train", "twice", finished=True)
    history(again, [1, 2])
    again.end()
    assert again.run_id == run.run_id and steps(sqlite_server, run.run_id) == [1, 2]


def test_a_server_that_died_gets_everything_later(place, sqlite_server, monkeypatch, capsys):
    root = place(sqlite_server)
    run = start("train", "died")
    history(run, [1])
    began = time.time()
    with sqlite_server.dead():
        everything_but_the_first_epoch(run, root, "died")
        assert time.time() - began < 10 and "xraypneu sync" in local_note()
        assert main(["sync"]) == 2 and "no MLflow server" in capsys.readouterr().err  # it is still away
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    here = start("train", "here")
    here.journal.add("metrics", values={"a": 1.0}, step=0)
    assert main(["sync"]) == 2  # a run for a server that is gone kept all others from being sent
    said = "".join(capsys.readouterr())
    assert f"{here.run_id}: 1 metrics sent" in said and f"{run.run_id} for {sqlite_server.uri}" in said
    assert "--here" in said and [w.entries[0]["store"] for w in waiting()] == [sqlite_server.uri]
    place(sqlite_server)
    assert main(["sync"]) == 0
    assert re.search(rf"train {run.run_id}: .*3 metrics.*1 register", capsys.readouterr().out)
    is_whole(sqlite_server, run.run_id, "died")
    first, second = client(sqlite_server).get_metric_history(run.run_id, "val_loss")[1:]
    assert began * 1000 - 1 <= first.timestamp <= second.timestamp  # when it happened, not when it was sent
    assert main(["sync"]) == 0 and "All runs are in MLflow" in capsys.readouterr().out
    is_whole(sqlite_server, run.run_id, "died")


class Killed(BaseException):
    "Ends what runs as a kill does: nothing is caught, nothing is written."


@pytest.mark.parametrize(
    "worst, server",
    [
        *(("register", server) for server in ("sqlite", "postgres")),
        *(pytest.param(w, "sqlite", marks=pytest.mark.nightly) for w in ("run", "metrics", "artifacts", "status")),
    ],
    indirect=["server"],
)
def test_sync_that_is_killed_before_it_knows_the_answer(worst, place, server, monkeypatch):
    "The store has the entry, the journal doesn't know: the worst moment. The next one sends nothing twice."
    name, root = f"killed-{worst}", place(server)
    address = server.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run = start("train", f"killed {worst}")
    history(run, [1])
    everything_but_the_first_epoch(run, root, name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for died in (True, True, False):  # twice at the same place
        with monkeypatch.context() as m:
            if died:
                real = tracking.SENDERS[worst]
                m.setitem(tracking.SENDERS, worst, lambda *a, real=real: (real(*a), Mock(side_effect=Killed)()))
            try:
                (found,) = sync(any_store=True)
            except Killed:
                assert died
    is_whole(server, found["run_id"], name)
    assert not waiting() and not list((root / ".cache/journal").iterdir())


DIES = """
import os, signal
from xraypneu.ops import tracking
real = tracking.SENDERS["register"]
tracking.SENDERS["register"] = lambda *a: (real(*a), os.kill(os.getpid(), signal.SIGKILL))
tracking.sync(any_store=True)
"""


def test_sync_killed_as_a_process(place, sqlite_server, monkeypatch):
    root = place(sqlite_server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run = start("train", "process")
    history(run, [1])
    everything_but_the_first_epoch(run, root, "process")
    place(sqlite_server)
    assert subprocess.run([sys.executable, "-c", DIES], timeout=120).returncode == -signal.SIGKILL
    (found,) = sync(any_store=True)
    is_whole(sqlite_server, found["run_id"], "process")


def test_an_older_training_that_is_sent_later_is_not_the_candidate(place, sqlite_server, monkeypatch):
    place(sqlite_server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    older = start("train", "older")
    older.register("order", {"bundle_hash": "older"})
    older.end()
    place(sqlite_server)
    newer = start("train", "newer")
    version = newer.register("order", {"bundle_hash": "newer"})
    newer.end()
    sync(any_store=True)
    assert len(client(sqlite_server).search_model_versions("name = 'order'")) == 2
    assert client(sqlite_server).get_model_version_by_alias("order", "candidate").version == version


def test_a_finished_training_that_is_taken_again_is_not_the_newest(place, sqlite_server):
    "Somebody else's candidate was trained later: it stays the candidate."
    root = place(sqlite_server)
    c, name = client(sqlite_server), f"again-{root.parent.name}"
    versions = []
    for key, tag, taken in (("one", "a", False), ("two", "b", False), ("one", "a", True)):
        if taken:
            shutil.copy(root / "one.json", root / tracking.STATE / "run.json")  # of the clone that trained it
        run = start("train", key=key, finished=taken)
        if key == "one":
            shutil.copy(root / tracking.STATE / "run.json", root / "one.json")
        versions.append(run.register(name, {"bundle_hash": tag}))
        run.end()
    assert versions[2] == versions[0] != versions[1]
    assert c.get_model_version_by_alias(name, "candidate").version == versions[1]


def test_a_server_that_dies_before_a_run_is_taken_up_is_named(place, sqlite_server):
    root = place(sqlite_server)
    run = start("train", key="same")
    run.end()
    with sqlite_server.dead(), pytest.raises(TrackingError, match="no longer answers"):
        start("train", key="same", finished=True)
    again = start("train", key="same", finished=True)
    assert again.run_id == run.run_id and not waiting(root)


def test_what_the_server_refuses_is_named_and_kept(place, sqlite_server, capsys):
    root = place(sqlite_server)
    run = start("train", "refused")
    run.params({"rate": 1})
    run.add("status", status="NONSENSE")
    run.end()
    assert "rejected the entry status" in capsys.readouterr().err
    assert main(["sync"]) == 1 and "refused: status" in capsys.readouterr().out
    assert client(sqlite_server).get_run(run.run_id).info.status == "FINISHED" and len(waiting(root)) == 1


def test_a_run_that_a_restored_backup_lacks_is_recorded_anew(tmp_path, monkeypatch, capsys):
    "What waits of it was refused for ever: `xraypneu sync` was advised, and sent nothing."
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("XRAYPNEU_TRACKING", raising=False)
    store = tracking.default_uri(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty_store())

    def begun(key):
        run = start("train", key)
        run.epoch({"epoch": 1, "val_loss": 0.5})
        run.artifacts(*([tmp_path / "dvc.yaml"] if key == "files" else []))
        run.breaker.closed, run.breaker._next = False, time.monotonic() + 600
        run.epoch({"epoch": 2, "val_loss": 0.25})
        lost = run.run_id
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as db, db:
            for table in ("metrics", "latest_metrics", "tags", "params", "runs"):
                db.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (lost,))
        run.end()
        return lost, run

    lost, run = begun("anew")
    c, found = mlflow.MlflowClient(store), run.run_id
    assert "was a backup restored" in capsys.readouterr().err and found != lost and not waiting(tmp_path)
    assert [m.step for m in c.get_metric_history(found, "val_loss")] == [1, 2]
    assert c.get_run(found).info.status == "FINISHED" and not sync(tmp_path)

    lost, _ = begun("files")  # sent, and deleted here: without them the record would not be whole
    assert sync(tmp_path)[0]["refused"] and f"xraypneu sync --forget {lost}" in capsys.readouterr().err
    assert main(["sync", "--forget", lost]) == 0 and not waiting(tmp_path)
    assert start("train", "files").run_id != lost


# --- bundles over REST


def test_a_bundle_that_was_changed_in_the_store_is_refused(place, sqlite_server, tmp_path):
    root = place(sqlite_server)
    run = start("train", "bundle")
    run.artifacts(SHIPPED, to="bundle")
    version = run.register("bundle", {"bundle_hash": load_bundle().hash})
    address = f"models:/bundle/{version}"
    found = registered_bundle(address)
    assert load_bundle(found).hash == load_bundle().hash and found.is_relative_to(root / ".cache")
    (found / "model.onnx").write_bytes(b"torn")  # a damaged download is not used again
    assert load_bundle(registered_bundle(address)).hash == load_bundle().hash
    shutil.rmtree(root / ".cache/registered")
    (stored,) = (sqlite_server.folder / "artifacts").rglob(f"{run.run_id}/artifacts/bundle/model.onnx")
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    with pytest.raises(TrackingError, match="damaged"):
        registered_bundle(address)
    assert not list((root / ".cache/registered").glob("[!.]*"))


def test_a_version_that_no_run_registered_is_named(place, sqlite_server):
    "As MLflow's own page and client register one: before, a traceback."
    place(sqlite_server)
    client = mlflow.MlflowClient(sqlite_server.uri)
    client.create_registered_model("elsewhere")
    version = client.create_model_version("elsewhere", "s3://bucket/model").version
    client.set_registered_model_alias("elsewhere", "champion", version)
    for address in ("models:/elsewhere@champion", f"models:/elsewhere/{version}"):
        with pytest.raises(TrackingError, match="version 1 has no run, so `xraypneu run` did not register it"):
            registered_bundle(address)


# --- two at once


REGISTER = """
import sys
from xraypneu.ops.tracking import start
for i in range(3):
    run = start("train", key=f"{sys.argv[1]} {i}", tags={"synthetic": True})
    run.epoch({"epoch": 1, "val_loss": i})
    run.register(sys.argv[2], {"bundle_hash": f"{sys.argv[1]} {i}"})
    run.end()
"""


OPEN = """
import sys, time
from pathlib import Path
from xraypneu.ops import tracking
tracking._quiet()
Path(sys.argv[2]).touch()
while not Path(sys.argv[3]).exists(): time.sleep(0.001)
tracking.check(sys.argv[1])
"""


def test_a_new_store_is_made_by_one_process_at_a_time(tmp_path):
    "Three processes open a sqlite store that is not there yet, at the same moment."
    ready = [tmp_path / f"ready{i}" for i in range(3)]
    opening = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, f"sqlite:///{tmp_path}/mlflow.db", str(r), str(tmp_path / "go")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in ready
    ]
    until(lambda: all(r.exists() for r in ready))
    (tmp_path / "go").touch()
    for process in opening:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said


def test_a_store_that_another_process_is_making_is_writable(tmp_path, monkeypatch):
    "It appears between two questions of this process about it."
    file, access = tmp_path / "mlflow.db", os.access

    def and_then_it_is_there(path, mode):
        allowed = access(path, mode)
        if path == file:
            file.touch()
        return allowed

    monkeypatch.setattr(os, "access", and_then_it_is_there)
    tracking.reach(f"sqlite:///{file}")


@pytest.mark.parametrize("kind", ["new sqlite file", pytest.param("sqlite", marks=pytest.mark.nightly), "postgres"])
def test_two_trainings_at_once_lose_nothing(kind, tmp_path, request):
    "Both make store, experiment, model, versions and alias at the same moment."
    file = f"sqlite:///{tmp_path}/mlflow.db"
    uri = file if kind.startswith("new") else request.getfixturevalue(f"{kind}_server").uri
    env = {**os.environ, **PATIENT, "MLFLOW_TRACKING_URI": uri, "XRAYPNEU_EXPERIMENT": "crowd"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, who, "crowd"],
            env=env | {"XRAYPNEU_ROOT": str(tmp_path / who)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for who in "ab"
    ]
    for process in both:
        _, said = process.communicate(timeout=180)
        assert process.returncode == 0, said
    c = mlflow.MlflowClient(uri)
    versions = c.search_model_versions("name = 'crowd'")
    assert sorted(v.tags["bundle_hash"] for v in versions) == [f"{who} {i}" for who in "ab" for i in range(3)]
    assert sorted(int(v.version) for v in versions) == list(range(1, 7))
    runs = c.search_runs([c.get_experiment_by_name("crowd").experiment_id])
    assert len(runs) == 6 and all(r.info.status == "FINISHED" and r.data.metrics for r in runs)
    assert c.get_model_version_by_alias("crowd", "candidate").tags["bundle_hash"] in ("a 2", "b 2")
    assert not [w for who in "ab" for w in waiting(tmp_path / who)]


# --- the pipeline itself


def forms(secrets):
    "Each secret as it could be written."
    both = [*secrets, PASSWORD, "p%40ss%3Aw%25rd%2F7"]
    pairs = [base64.b64encode(f"{u}:{p}".encode()).decode().rstrip("=") for u in (USER, "") for p in both]
    return [s.encode() for s in both + pairs]


def files_with(secrets, *folders, least=50):
    "Files that hold one of the secrets."
    files = [p for folder in folders for p in Path(folder).rglob("*") if p.is_file()]
    assert len(files) > least
    return [(str(p), s) for p in files for s in forms(secrets) if s in p.read_bytes()]


def test_no_secret_of_the_environment_is_left_by_a_run(project):
    "The shared project ran with all of them set, tracking store and artifacts included."
    assert (project / "mlflow.db").is_file() and (project / "mlartifacts").is_dir()
    assert not files_with(SECRETS.values(), project)


TALKATIVE = """import base64, os, sys
print({k: v for k, v in os.environ.items()})
print(os.environ, file=sys.stderr)
pair = f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
base64.b64encode(pair.encode()).decode()"""


@pytest.mark.parametrize("ending", ["", "raise ValueError(f'no access with {os.environ}')"])
def test_a_notebook_that_prints_the_environment_is_cleaned(ending, tmp_path, sqlite_server):
    "What is written and what goes to the terminal, also when it fails."
    toy_stage(tmp_path, TALKATIVE + "\n" + ending)
    uri = sqlite_server.uri.replace("//", f"//{WITH_PASSWORD}")
    command = [sys.executable, "-m", "xraypneu.ops.stage", "prepare"]
    done = run(command, tmp_path, check=False, **SECRETS, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == bool(ending)
    (tmp_path / "log").write_text(done.out)
    assert "***" in done.out and "***" in (tmp_path / "reports/prepare.ipynb").read_text()
    assert not files_with(SECRETS.values(), tmp_path, least=4)


def start_pipeline(folder, server, again):
    """Train and evaluate with credentials in the address: another training as DVC does, or the project's once more.

    The finished training of the project is taken, and recorded in this store."""
    stages = "python -m xraypneu.ops.stage train && python -m xraypneu.ops.stage evaluate"
    if not again:
        set_params(folder, {"train": {"seed": 1}})
    uri = server.uri.replace("//", f"//{WITH_PASSWORD}")
    env = os.environ | SECRETS | PATIENT | {"MLFLOW_TRACKING_URI": uri}
    with open(folder / "run.log", "w") as log:
        command = ["sh", "-c", stages if again else "dvc repro evaluate"]
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=env)


@pytest.mark.nightly  # in parts: test_two_trainings_at_once_lose_nothing, test_registry.py
def test_two_trainings_and_a_promotion_on_postgresql(project, postgres_server, tmp_path, monkeypatch, capsys):
    "Two trainings at the same time, then promotion and rollback; no secret anywhere; the same evaluation again."
    folders = [Path(shutil.copytree(project, tmp_path / who, symlinks=True)) for who in "ab"]
    both = [start_pipeline(folder, postgres_server, again=folder is folders[0]) for folder in folders]
    for process, folder in zip(both, folders, strict=True):
        assert process.wait(600) == 0, (folder / "run.log").read_text()[-3000:]
    c = client(postgres_server)
    found = c.search_runs([c.get_experiment_by_name("xraypneu").experiment_id])
    assert len(found) == 2 and all(r.info.status == "FINISHED" and "test_roc_auc" in r.data.metrics for r in found)
    assert {r.data.tags["synthetic"] for r in found} == {"True"}
    versions = {v.run_id: v for v in c.search_model_versions("name = 'xraypneu'")}
    by_run = {json.loads((f / "models/run.json").read_text())["run_id"]: f for f in folders}
    assert versions.keys() == by_run.keys() == {r.info.run_id for r in found}
    for run_id, folder in by_run.items():
        assert steps(postgres_server, run_id) == ([1, 2, 3] if folder is folders[0] else [1, 2])
        stored = {f.path for f in c.list_artifacts(run_id, "reports")}
        assert {"reports/train.ipynb", "reports/evaluate.html"} <= stored
        assert versions[run_id].tags["bundle_hash"] == load_bundle(folder / "models/bundle").hash
    for path in ("reports/evaluate.ipynb", "reports/evaluate.html", "reports/metrics.json"):
        assert (folders[0] / path).read_bytes() == (project / path).read_bytes(), path
    promote_and_roll_back(folders[0], postgres_server, c, monkeypatch, capsys)
    assert not files_with(SECRETS.values(), tmp_path, postgres_server.folder)
    load_the_keras_model(postgres_server, found[0].info.run_id, folders[0], monkeypatch)


def promote_and_roll_back(folder, server, c, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", f"//{WITH_PASSWORD}"))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")  # restored afterwards: the command changes them
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    set_params(folder, {"promote": {"floor": {"roc_auc": 0.0}, "margin": 0.5}})
    for version in ("1", "2"):
        status = main(["promote", "--version", version])
        assert status == 0, capsys.readouterr()
        assert c.get_model_version_by_alias("xraypneu", "champion").version == version
    assert main(["rollback", "--reason", f"typed by mistake: {PASSWORD}"]) == 0
    assert c.get_model_version_by_alias("xraypneu", "champion").version == "1"
    assert c.get_model_version("xraypneu", "2").tags["decision_reasons"] == "typed by mistake: ***"
    assert PASSWORD not in "".join(capsys.readouterr())


def load_the_keras_model(server, run_id, folder, monkeypatch):
    "As a colleague would, from another machine."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    assert model.metadata.signature.inputs.inputs[0].type == np.dtype("uint8")
    assert np.isfinite(model.predict(np.load(folder / "data/prepared/images.npy")[:2][..., None])).all()


def test_a_server_that_dies_during_a_training(project, copy, sqlite_server):
    "The training goes on and says what to do; the evaluation adds to the same run; sync sends all, once."
    brief_stages(copy, "train", "evaluate")
    (model,) = (project / "mlartifacts").rglob("MLmodel")
    shutil.copytree(model.parent, copy / "logged")
    log, env = copy / "train.log", {"MLFLOW_TRACKING_URI": sqlite_server.uri}
    (copy / "wait").touch()
    with open(log, "w") as out:
        command = [sys.executable, "-m", "xraypneu.ops.stage", "train"]
        training = subprocess.Popen(command, cwd=copy, stdout=out, stderr=out, env=os.environ | env)
    until(lambda: "epoch 1/" in log.read_text(), training)
    with sqlite_server.dead():
        (copy / "wait").unlink()
        assert training.wait(300) == 0, log.read_text()
        done = run([sys.executable, "-m", "xraypneu.ops.stage", "evaluate"], copy, **env)
    for said in (log.read_text(), done.out):
        assert "recorded locally: run `xraypneu sync`" in said.strip().splitlines()[-1]
    assert "All runs" not in run([sys.executable, "-m", "xraypneu.cli", "sync"], copy, **env).out
    c = client(sqlite_server)
    record = json.loads((copy / "models/run.json").read_text())["record"]  # the server has runs of other tests, too
    experiment = c.get_experiment_by_name("xraypneu").experiment_id
    (found,) = c.search_runs([experiment], f"tags.xraypneu_record = '{record}'")
    assert found.info.status == "FINISHED" and "test_roc_auc" in found.data.metrics
    assert steps(sqlite_server, found.info.run_id) == [1, 2, 3]
    assert len(c.search_model_versions(f"run_id = '{found.info.run_id}'")) == 1
    models = c.search_logged_models([experiment])
    assert [m.source_run_id for m in models].count(found.info.run_id) == 1
    stored = {f.path for f in c.list_artifacts(found.info.run_id, "reports")}
    assert stored >= {"reports/train.html", "reports/evaluate.html"} and not waiting(copy)


# --- what was found by trying to break it


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASS",
        "MYSQL_PWD",
        "LDAP_PW",
        "AZURE_STORAGE_SAS",
        "SESSION_COOKIE",
        "AZURE_STORAGE_CONNECTION_STRING",
        "SSHPASS",
    ],
)
def test_other_names_of_secrets(name):
    assert scrub("it is hunter2-hunter2.", {name: "hunter2-hunter2"}) == "it is ***."
    assert scrub("in /work", {"PWD": "/work", "OLDPWD": "/somewhere/else"}) == "in /work"


OTHERS = [pytest.param(name, marks=pytest.mark.nightly) for name in ("SIGTERM", "SIGHUP")]


@pytest.mark.parametrize("number", ["SIGKILL", *OTHERS])
def test_a_stage_that_is_killed_leaves_no_secret(number, tmp_path):
    "Papermill writes the notebook after each cell, long before it could be cleaned."
    end = f"import signal, time; os.kill(os.getppid(), signal.{number}); time.sleep(60)"
    folder = toy_stage(tmp_path / "a{b}", TALKATIVE, end)
    own = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    done = run([sys.executable, "-m", "xraypneu.ops.stage", "prepare"], folder, check=False, **SECRETS, **own)
    assert done.returncode < 0 and "***" in (folder / "reports/prepare.ipynb").read_text()
    assert not files_with(SECRETS.values(), folder, least=1)


def toy_stage(folder, *cells):
    "A project whose stage `prepare` runs these cells."
    import nbformat

    (folder / "nbs/pipeline").mkdir(parents=True)
    for name, text in (
        ("dvc.yaml", "stages: {prepare: {cmd: x, params: [prepare]}}"),
        ("params.yaml", "prepare: {a: 1}"),
    ):
        (folder / name).write_text(text)
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in ("a = 0", *cells)])
    nb.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nb, folder / "nbs/pipeline/prepare.ipynb")
    return folder


def test_a_stage_runs_in_its_own_environment_whatever_others_set(tmp_path):
    """JUPYTER_PATH, as clusters set it, and the home folder: the stage ended in an error about encryption.

    PYTHONOPTIMIZE would leave out the asserts that pandas needs."""
    folder = toy_stage(
        tmp_path / "project",
        "import sys; print(sys.executable)",
        "import pandas as pd; print((pd.RangeIndex(1, 3) + 0.5).tolist())",
    )
    (tmp_path / "kernels/python3").mkdir(parents=True)
    spec = {"argv": ["/no/such/python", "-f", "{connection_file}"], "display_name": "x", "language": "python"}
    (tmp_path / "kernels/python3/kernel.json").write_text(json.dumps(spec))
    places = {"JUPYTER_PATH": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "0"}
    done = run([sys.executable, "-m", "xraypneu.ops.stage", "prepare"], folder, PYTHONOPTIMIZE="1", **places)
    assert sys.executable in done.out and "[1.5, 2.5]" in done.out


def test_an_interrupt_is_said_in_a_line(tmp_path):
    folder = toy_stage(
        tmp_path / "project", "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    )
    done = run([sys.executable, "-m", "xraypneu.ops.stage", "prepare"], folder, check=False)
    assert done.returncode == 130 and "prepare was interrupted. Run it again" in done.out.splitlines()[-1]


@pytest.mark.parametrize("where", ["head", "/dev/full"])
def test_a_stage_goes_on_when_nobody_can_read_it(where, tmp_path):
    "`| head`, a terminal that was closed, a log on a full disk."
    folder = toy_stage(tmp_path / "project", "for i in range(20000): print(i)", "open('done', 'w').close()")
    to = f"| {where} -1" if where == "head" else f"> {where}"
    script = f"set -o pipefail; {sys.executable} -m xraypneu.ops.stage prepare {to}"
    done = run(["bash", "-c", script], folder, check=False)
    assert done.returncode == 0 and (folder / "done").is_file() and (folder / "reports/prepare.html").is_file(), (
        done.out
    )


@pytest.mark.parametrize("line", [b"\0\0\0\0", b"[]", b"{}", b'{"sent": 0}'])
def test_a_damaged_journal_is_named_and_holds_nothing_up(line, place, sqlite_server, monkeypatch, capsys):
    "Neither another run nor the stage that ends."
    root = place(sqlite_server)
    folder = root / ".cache/journal/0damaged"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(line + b"\n")
    with pytest.MonkeyPatch.context() as m:
        m.setenv("XRAYPNEU_TRACKING", "local")
        run = resume(root / "models/run.json")
        run.breaker.failed()
        run.metrics({"accuracy": 1.0})
    note = local_note(root)
    assert f"line 1 of {folder}/journal.jsonl is damaged" in note and "1 run is recorded locally" in note
    assert check_journals(root).ok is False and "is damaged" in check_journals(root).found
    assert main(["sync"]) == 1
    said = capsys.readouterr().out
    assert "1 metrics" in said and "is damaged" in said and "All runs" not in said
    shutil.rmtree(folder)
    assert main(["sync"]) == 0 and not local_note(root)


@pytest.mark.parametrize("text", ["{", "[]", "null", "\xff", "[" * 100_000])
def test_a_damaged_note_of_a_run_is_named_with_what_to_do(text, tmp_path, monkeypatch, capsys):
    "Before, `dvc repro` ended in a traceback."
    write_file(tmp_path / "dvc.yaml", "stages: {}\n")
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "train")
    for name in (tracking.STATE / "run.json", tracking.RUN_FILE):
        write_file(tmp_path / name, text.encode("latin-1"))
    for task, hint in (
        (lambda: start("train", "key"), "Delete it"),
        (lambda: stage._take_up("train", tmp_path), "Delete it"),
        (lambda: stage._completed("train", tmp_path), "Delete it"),
        (lambda: resume(tmp_path / tracking.RUN_FILE), "Restore models/run.json"),
    ):
        with refusal(TrackingError, "damaged", f"run.json, which names the run, is damaged. {hint}"):
            task()
    tracking.interrupted(tmp_path)  # raises nothing
    assert "could not mark" in capsys.readouterr().err


@pytest.mark.parametrize("record", ["../..", "."])  # none outside tmp_path: without the check, it is deleted
def test_a_record_that_leads_out_of_its_folder_is_refused(record, tmp_path, monkeypatch):
    "models/run.json comes from a remote, perhaps: with ../.. the project was deleted, once all entries were sent."
    write_file(tmp_path / "project/dvc.yaml", "")
    write_file(tmp_path / "project/models/run.json", json.dumps({"record": record, "run_id": None}))
    (tmp_path / "project/.cache/journal").mkdir(parents=True)
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path / "project"))
    with pytest.raises(TrackingError, match="can't be the record of a run"):
        resume(tmp_path / "project/models/run.json").end()
    assert (tmp_path / "project/dvc.yaml").is_file()


def test_a_store_that_names_a_run_by_a_path_brings_no_bundle_there(tmp_path, monkeypatch):
    "Before, the bundle would have replaced the folder at that path."
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path))
    run = SimpleNamespace(info=SimpleNamespace(artifact_uri="mlflow-artifacts:/1/2/artifacts"))
    store = SimpleNamespace(get_run=lambda _: run, tracking_uri="http://127.0.0.1:1")
    with pytest.raises(ValueError, match="is no run"):
        tracking._fetched(store, "../../../mine", None)


def test_runs_are_recorded_on_a_file_system_without_locks(tmp_path, monkeypatch):
    "As on clusters (Lustre, some NFS); a stage said that it goes on, and ended with `Function not implemented`."

    def flock(fd, how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    journal = tracking.Journal(tmp_path / "journal/a")
    journal.add("run", name="train")
    assert [e["kind"] for e in tracking.Journal(tmp_path / "journal/a").waiting()] == ["run"]
    monkeypatch.setattr(tracking, "_quiet", lambda: SimpleNamespace(MlflowClient=lambda uri: uri))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert tracking._client(uri := "sqlite:////nowhere/mlflow.db") == uri


def test_a_relative_store_is_the_project_s(tmp_path, monkeypatch):
    "DVC runs `dvc exp run --temp` in a copy that it deletes, with its mlflow.db; a command may run in a subfolder."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    wanted = f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    copy = tmp_path / ".dvc/tmp/exps/standalone/tmpabc"
    copy.mkdir(parents=True)
    (tmp_path / "nbs").mkdir()
    monkeypatch.chdir(tmp_path / "nbs")
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path))
    assert {tracking.store_uri(r) for r in (tmp_path, copy, None)} == {wanted}
    assert tracking._same_store("sqlite:///mlflow.db", wanted, tmp_path)  # of a run that waits since an earlier version
    for kept in (wanted, "sqlite:///:memory:", "sqlite:///a.db?timeout=9", "http://localhost:5000", "mlruns"):
        assert tracking.absolute_uri(kept, tmp_path) == kept
    monkeypatch.delenv("XRAYPNEU_ROOT")
    monkeypatch.chdir("/")
    assert tracking.store_uri() == "sqlite:///mlflow.db"


@pytest.mark.parametrize("name", ["what?", "it's", "chest%20xray"])
def test_a_path_that_mlflow_cuts_off_is_refused(name, tmp_path):
    "The store would lie beside the project, in a file of another name."
    with pytest.raises(TrackingError, match="Rename the folder"):
        tracking.default_uri(tmp_path / name)


def test_a_store_lock_follows_no_link(tmp_path, monkeypatch):
    "Anybody may put a link into the folder of temporary files."
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    uri, mine = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mine"
    mine.write_text("precious")
    digest = hashlib.sha256(uri.encode()).hexdigest()[:16]
    (tmp_path / f"xraypneu-{os.getuid()}-{digest}.lock").symlink_to(mine)
    with pytest.raises(OSError):
        tracking._client(uri)
    assert mine.read_text() == "precious"


def test_a_lock_that_another_user_made_is_not_waited_for(tmp_path, monkeypatch):
    "Anybody may make it first, and hold it for ever."
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    somebody = os.getuid() + 1
    with monkeypatch.context() as patch:
        patch.setattr(tracking.os, "getuid", lambda: somebody)
        with pytest.raises(TrackingError, match=r"xraypneu-.*\.lock, a lock of this user, belongs to another.*TMPDIR"):
            tracking._client(f"sqlite:///{tmp_path}/mlflow.db")


def test_without_git_nothing_is_said_to_be_clean(tmp_path):
    assert tracking.git_state(tmp_path) == {"git_commit": "unknown", "git_dirty": "unknown"}


class Odd(Answers):
    "Something that is no MLflow: it drips, or answers nothing, with status 200."

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-length", "1000" if self.server.drips else "0")
        self.end_headers()
        with contextlib.suppress(OSError):
            while self.server.drips:
                self.wfile.write(b" ")
                time.sleep(0.2)

    do_POST = do_GET


@pytest.fixture
def odd(request):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.drips = request.param
    with serving(server) as server.uri:
        yield server
        server.drips = False


@pytest.mark.parametrize("odd", [True], indirect=True)
def test_a_server_that_drips_is_not_waited_for(odd):
    "Each byte is in time; the answer never is."
    began = time.monotonic()
    with pytest.raises(TrackingError, match="no complete answer within 3 s"):
        check(odd.uri, 1)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("odd", [False], indirect=True)
def test_a_run_that_a_proxy_swallowed_is_not_lost(odd, place, sqlite_server, monkeypatch):
    "An empty answer makes no run: what was recorded waits for the server itself."
    root = place(odd)
    run = start("train", key="swallowed")
    history(run, [1])
    run.end()
    assert run.run_id is None and waiting(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_server.uri)
    (sent,) = sync(any_store=True)
    assert not sent["waiting"] and not sent["refused"] and steps(sqlite_server, sent["run_id"]) == [1]


# --- a project's own store


@pytest.fixture
def own(tmp_path, monkeypatch):
    "Makes a project whose runs go to its own store; the environment is that of its stages."
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "XRAYPNEU_")):
            monkeypatch.delenv(name)

    def enter(root):
        root.mkdir(exist_ok=True)
        if not (root / "mlflow.db").exists():
            (root / "mlflow.db").write_bytes(empty_store())
        (root / "dvc.yaml").write_text("stages: {}\n")
        monkeypatch.chdir(root)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, value in tracking.environment(root).items():
            monkeypatch.setenv(name, value)
        return tracking.store()[0]

    return enter


def train_in(root, key, tag):
    "A training with a bundle, registered; its run."
    (root / "bundle").mkdir(exist_ok=True)
    (root / "bundle/model.txt").write_text(tag)
    run = start("train", key=key)
    run.epoch({"epoch": 1, "val_loss": 1.0})
    run.artifacts(root / "bundle", to="bundle")
    run.version = str(run.register("own", {"bundle_hash": tag}))
    run.end()
    return run


def stored(c, run):
    return Path(c.download_artifacts(run.run_id, "bundle"), "model.txt").read_text()


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_that_was_moved_or_copied_keeps_its_artifacts_with_it(own, how, tmp_path):
    "The store has absolute places: new runs would be written into the old folder, and old ones not be found."
    old, new = tmp_path / "old", tmp_path / "new folder"
    own(old)
    first = train_in(old, "first", "a")
    begun = start("train", key="begun")
    begun.epoch({"epoch": 1, "val_loss": 1.0})
    (shutil.move if how == "moved" else shutil.copytree)(old, new)
    before = sorted(old.rglob("*"))
    c = own(new)
    assert stored(c, first) == "a"
    if how == "moved":
        assert start("train", key="begun").run_id == begun.run_id
    second = train_in(new, "second", "b")
    assert stored(c, second) == "b" and sorted(old.rglob("*")) == before
    assert {c.get_run(r.run_id).info.artifact_uri for r in (first, second)} == {
        f"{(new / 'mlartifacts').as_uri()}/{r.run_id}/artifacts" for r in (first, second)
    }
    assert all(v.source.startswith(new.as_uri()) for v in c.search_model_versions("name = 'own'"))
    if how == "copied":
        assert own(old).get_run(first.run_id).info.artifact_uri.startswith(old.as_uri())


def test_the_artifacts_of_another_project_that_uses_a_store_stay_where_they_are(own, tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    own(one)
    own(two)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{one}/mlflow.db")
    monkeypatch.setenv("XRAYPNEU_EXPERIMENT", "of two")
    run = train_in(two, "key", "b")
    c = own(one)
    assert c.get_run(run.run_id).info.artifact_uri.startswith((two / "mlartifacts").as_uri())


@pytest.mark.skipif(POSTGRES is None and not os.environ.get("CI"), reason="PostgreSQL is not installed")
def test_artifacts_of_a_database_without_a_server_are_in_the_project(own, tmp_path, monkeypatch, capsys):
    "Before, in ./mlruns of the folder in which the command was started, and nothing was said."
    own(tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with Postgres() as cluster:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", cluster.uri)
        run = train_in(tmp_path / "project", "key", "a")
        place = tracking.store()[0].get_run(run.run_id).info.artifact_uri
    assert place.startswith((tmp_path / "project/mlartifacts").as_uri())
    assert next((tmp_path / "project/mlartifacts").rglob("model.txt")).read_text() == "a"
    assert not list((tmp_path / "elsewhere").iterdir())
    said = capsys.readouterr().err
    assert f"Artifacts are written to {place}" in said and "use the database by a server with `mlflow server" in said


def test_what_waits_in_a_project_that_was_moved_is_sent(own, tmp_path, monkeypatch):
    own(tmp_path / "old")
    monkeypatch.setattr(tracking.Run, "flush", lambda *_, **__: None)
    start("train", key="key").end()
    monkeypatch.undo()
    shutil.move(tmp_path / "old", tmp_path / "new")
    own(tmp_path / "new")
    (sent,) = sync()
    assert not sent["waiting"] and not sent["refused"]


def test_a_clock_that_was_ahead_keeps_no_later_training_from_being_the_candidate(own, tmp_path, monkeypatch, capsys):
    c, now = own(tmp_path / "project"), time.time()

    def candidate():
        return str(c.get_model_version_by_alias("own", "candidate").version)

    with monkeypatch.context() as m:
        m.setattr(tracking.time, "time", lambda: now + 86400)
        assert train_in(tmp_path, "ahead", "a").version == candidate()
    late = train_in(tmp_path, "right", "b").version
    assert candidate() == late
    c.set_model_version_tag("own", late, tracking.REGISTERED, "by hand")
    assert train_in(tmp_path, "third", "c").version == candidate()
    capsys.readouterr()
    with monkeypatch.context() as m:  # within what clocks may differ by
        m.setattr(tracking.time, "time", lambda: now - 30)
        train_in(tmp_path, "a little behind", "d")
    assert "candidate of own remains version 3" in capsys.readouterr().err


def test_a_metric_that_goes_back_to_a_value_of_before_is_recorded(own, tmp_path):
    c = own(tmp_path / "project")
    run = train_in(tmp_path, "key", "a")
    tracking.save(run)
    for value in (0.9, 0.8, 0.9, 0.9):
        evaluation = tracking.resume()
        evaluation.metrics({"test_accuracy": value})
        evaluation.end()
    assert c.get_run(run.run_id).data.metrics["test_accuracy"] == 0.9
    assert [m.value for m in c.get_metric_history(run.run_id, "test_accuracy")] == [0.9, 0.8, 0.9]


def test_a_metric_of_a_clock_that_was_ahead_does_not_stay(own, tmp_path, monkeypatch):
    "MLflow shows the point with the latest time: later evaluations seemed to have changed nothing."
    c, now = own(tmp_path / "project"), time.time
    run = train_in(tmp_path, "key", "a")
    tracking.save(run)
    for value, ahead in ((0.9, 3600), (0.7, 0), (0.9, 0), (0.7, 0)):
        monkeypatch.setattr(time, "time", lambda ahead=ahead: now() + ahead)
        evaluation = tracking.resume()
        evaluation.metrics({"test_accuracy": value})
        evaluation.end()
        assert c.get_run(run.run_id).data.metrics["test_accuracy"] == value
    assert len(c.get_metric_history(run.run_id, "test_accuracy")) == 4


def test_the_commit_of_a_repository_that_only_lies_around_the_project_is_not_recorded(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project/dvc.yaml").write_text("stages: {}\n")

    def git(*a):
        return subprocess.run(["git", *a], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another project")
    assert tracking.git_state(tmp_path / "project") == {"git_commit": "unknown", "git_dirty": "unknown"}
    git("add", "project")
    git("commit", "-q", "-m", "it belongs here")
    assert tracking.git_state(tmp_path / "project")["git_dirty"] == "false"
