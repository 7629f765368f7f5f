"""The gate between candidate and champion, on a real `mlflow server`."""

import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import lay
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from PIL import Image
from ruamel.yaml import YAML
from served import ROOT, free_port

from xraypneu import cli
from xraypneu.data.dataset import prepare
from xraypneu.model.bundle import SHIPPED, load_bundle, write_bundle
from xraypneu.ops import registry
from xraypneu.ops.stage import set_params
from xraypneu.ops.tracking import environment, start
from xraypneu.serving.predict import Predictor

PUBLISHED = ROOT / "results/chest_xray"


@pytest.fixture
def server(sqlite_server):
    return sqlite_server.uri


@pytest.fixture
def team(server, tmp_path, monkeypatch):
    "A project whose runs go to the server; returns what stands for a training and its evaluation."
    (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    lay(tmp_path, "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    for k, v in environment(tmp_path).items():
        monkeypatch.setenv(k, v)
    metrics, shipped = json.loads((PUBLISHED / "metrics.json").read_text()), load_bundle()
    predictions = pd.read_csv(PUBLISHED / "predictions.csv")

    def train(name, registered, noise=0.0, model=None, params=None, data_hash=None, **data):
        "The shipped model's real predictions with noise in the logits, and a bundle of its own."
        logit = predictions.logit + np.random.default_rng(0).normal(0, 1, len(predictions)) * noise
        threshold = metrics["threshold"]
        probability = shipped.probability(logit.to_numpy())
        info = {
            k: v for k, v in shipped.info.items() if k not in ("kind", "schema", "model_sha256", "parts_sha256")
        } | {"licence": name}  # which is part of the hash
        bundle = write_bundle(tmp_path / "bundle", (SHIPPED / "model.onnx").read_bytes(), info)
        run = start("train", key=name)
        run.params(params or {})
        run.artifacts(bundle.folder, to="bundle")
        version = run.register(
            registered, {"bundle_hash": bundle.hash} | ({"data_hash": data_hash} if data_hash else {})
        )
        predictions.assign(
            logit=logit, probability=probability, predicted=np.where(probability >= threshold, "PNEUMONIA", "NORMAL")
        ).to_csv(tmp_path / "predictions.csv", index=False)
        (tmp_path / "metrics.json").write_text(
            json.dumps(metrics | {"data": metrics["data"] | data, "model": model or {"hash": bundle.hash}})
        )
        run.artifacts(tmp_path / "predictions.csv", tmp_path / "metrics.json", to="evaluate")
        run.end()
        return version, bundle.hash

    return train


def command(capsys, *argv):
    status = cli.main(list(argv))
    return status, "".join(capsys.readouterr())


def test_a_worse_model_is_refused_a_better_one_promoted_and_rolled_back(team, server, capsys):
    name, client = "gate", mlflow.MlflowClient(server)
    fair = team("fair", name, noise=1.5)
    assert command(capsys, "promote", "--name", name)[0] == 0
    follow = f"models:/{name}@champion"
    assert Predictor(follow).bundle.hash == fair[1]

    worse = team("worse", name, noise=5)
    status, said = command(capsys, "promote", "--name", name)
    assert status == 1 and "refused" in said and ("AUC may be worse" in said or "more errors" in said)
    assert client.get_model_version(name, worse[0]).tags["decision"] == "refused"
    assert float(client.get_model_version(name, worse[0]).tags["decision_roc_auc_difference_low"]) < -0.01
    assert Predictor(follow).bundle.hash == fair[1]

    better = team("better", name)
    assert command(capsys, "promote", "--name", name, "--dry-run")[0] == 0 and Predictor(follow).bundle.hash == fair[1]
    status, said = command(capsys, "promote", "--name", name)
    assert status == 0 and "McNemar" in said and Predictor(follow).bundle.hash == better[1]
    decision = json.loads(Path("reports/promotion.json").read_text())
    assert decision["decision"] == "promoted" and decision["bundle"] == better[1]

    status, said = command(capsys, "rollback", "--name", name, "--reason", "missed effusions")
    assert status == 0 and Predictor(follow).bundle.hash == fair[1]
    assert client.get_model_version(name, better[0]).tags["decision_reasons"] == "missed effusions"
    assert not Path("reports/promotion.json").exists()  # a report would go on saying that it was promoted
    status, said = command(capsys, "rollback", "--name", name)
    assert status == 2 and "nothing to go back to" in said


def test_a_model_that_the_project_no_longer_has_is_not_the_candidate(team, tmp_path, capsys):
    "An experiment was discarded as the tutorial says, and its model became champion; films that it knew weren't said."
    kept = team("kept", "exp", known_films=3)
    shutil.copytree(tmp_path / "bundle", tmp_path / "models/bundle")
    discarded = team("discarded", "exp", noise=0.1)
    for argv in ([], ["--dry-run"]):
        status, said = command(capsys, "promote", "--name", "exp", *argv)
        assert status == 2 and f"version {discarded[0]} of exp, is not the model in models/bundle" in said
        assert f"(version {kept[0]})" in said and f"--version {kept[0]}" in said
    status, said = command(capsys, "promote", "--name", "exp", "--version", kept[0])
    assert status == 0 and "Known films: The initial weights know 3 of" in said
    assert Predictor("models:/exp@champion").bundle.hash == kept[1]


def test_the_floor_and_synthetic_figures(team, capsys):
    team("below", "floor", noise=9)
    status, said = command(capsys, "promote", "--name", "floor")
    assert status == 1 and "the floor is 0.95" in said
    team("real", "floor")
    assert command(capsys, "promote", "--name", "floor")[0] == 0
    team("drawn", "floor", noise=0.01, synthetic=True, hash="other")
    status, said = command(capsys, "promote", "--name", "floor")
    assert status == 1 and "synthetic" in said


def test_a_real_candidate_and_a_synthetic_champion_are_scored_on_the_same_images(team, capsys):
    team("drawn", "first", synthetic=True, hash="d" * 64)
    assert command(capsys, "promote", "--name", "first")[0] == 0
    team("real", "first")
    status, said = command(capsys, "promote", "--name", "first")
    assert status == 2 and "data/prepared does not hold the candidate's" in said  # which this project has not got


def test_other_images_and_no_evaluation(team, server, capsys):
    team("here", "images")
    assert command(capsys, "promote", "--name", "images")[0] == 0
    team("there", "images", hash="f" * 64)
    status, said = command(capsys, "promote", "--name", "images")
    assert status == 2 and "different images" in said and "dvc repro prepare" in said
    run = start("train", key="bare")
    run.register("images", {})
    status, said = command(capsys, "promote", "--name", "images")
    assert status == 2 and "has not been evaluated" in said
    run.journal.add("metrics", values={"roc_auc": 0.9}, step=0)  # as where the server was down
    status, said = command(capsys, "promote", "--name", "images")
    assert status == 2 and "waits in this project's journal" in said and "xraypneu sync" in said
    status, said = command(capsys, "promote", "--name", "nobody")
    assert status == 2 and "no version of nobody" in said


def test_no_server(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("XRAYPNEU_ROOT", str(tmp_path))
    status, said = command(capsys, "promote")
    assert status == 2 and "no MLflow server at" in said


def test_settings_that_are_missing(team, capsys):
    Path("params.yaml").write_text("promote: {floor: {brier: 0.1}, margin: 0.01}\n")
    assert "no floor can be set" in command(capsys, "promote", "--name", "any")[1]
    Path("params.yaml").write_text("train: {}\n")
    assert "needs a section `promote`" in command(capsys, "promote", "--name", "any")[1]


# --- what a gate must not let through


def edited(**changes):
    "Change the section `promote` of params.yaml."
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["promote"].update(changes)
    yaml.dump(params, Path("params.yaml"))


@pytest.mark.parametrize(
    "changes",
    [
        {"margin": float("nan")},
        {"margin": float("inf")},
        {"margin": True},
        {"margin": 1},
        {"floor": {"roc_auc": None}},
        {"floor": {"roc_auc": "0.9"}},
        {"floor": {"roc_auc": float("nan")}},
        {"floor": {}},
    ],
)
def test_a_gate_that_is_no_number_is_named(team, capsys, changes):
    "A margin of NaN is below nothing: it would let every model through. No server is needed for it."
    edited(**changes)
    status, said = command(capsys, "promote", "--name", "any")
    assert status == 2 and "promote." in said and "params.yaml" in said and "Traceback" not in said


def test_metrics_of_another_model_are_no_measurement(team, capsys):
    "An evaluation of other weights, such as of a bundle that was put in the place of the trained one."
    version, _ = team("swapped", "swapped", model={"hash": "0" * 64})
    status, said = command(capsys, "promote", "--name", "swapped")
    assert status == 2 and "another model" in said and "dvc repro --force --single-item evaluate" in said


def test_a_model_that_was_rolled_back_does_not_come_back_by_itself(team, server, capsys):
    "The next promotion, such as that of a nightly job, finds the same candidate."
    name, client = "returns", mlflow.MlflowClient(server)
    fair = team("fair", name, noise=1.5)
    assert command(capsys, "promote", "--name", name)[0] == 0
    better = team("better", name)
    assert command(capsys, "promote", "--name", name)[0] == 0
    assert command(capsys, "rollback", "--name", name, "--reason", "missed effusions")[0] == 0
    for dry in ([], ["--dry-run"]):
        status, said = command(capsys, "promote", "--name", name, *dry)
        assert status == 2 and "was rolled back: missed effusions" in said and "--version" in said
    assert client.get_model_version_by_alias(name, "champion").version == fair[0]
    assert client.get_model_version(name, better[0]).tags["decision"] == "rolled back"
    again = team("better", name)  # a job that trains at each push gets the same bytes under another version
    assert again[0] != better[0] and again[1] == better[1]
    status, said = command(capsys, "promote", "--name", name)
    assert status == 2 and f"version {again[0]} is the same model" in said and f"--version {again[0]}" in said
    assert client.get_model_version_by_alias(name, "champion").version == fair[0]
    assert command(capsys, "promote", "--name", name, "--version", again[0])[0] == 0  # somebody says so
    team("better", name)
    status, said = command(capsys, "promote", "--name", name)  # and then it is no longer held back
    assert status == 2 and f"the same answers as the champion, version {again[0]}" in said


def test_the_champion_of_another_commit_is_no_new_one_and_hides_no_other(team, server, capsys):
    "A job that trains at each push makes it again, with another hash: a rollback went back to the same model."
    name, client = "pushes", mlflow.MlflowClient(server)
    fair = team("fair", name, noise=1.5)
    assert command(capsys, "promote", "--name", name)[0] == 0
    versions = [team(f"commit {i}", name) for i in range(3)]
    assert len({hash for _, hash in versions}) == 3
    assert command(capsys, "promote", "--name", name, "--version", versions[0][0])[0] == 0
    for dry in (["--dry-run"], []):
        status, said = command(capsys, "promote", "--name", name, *dry)
        assert status == 2 and f"version {versions[2][0]} of {name} gives the same answers as the champion" in said
    assert command(capsys, "promote", "--name", name, "--version", versions[2][0])[0] == 0  # somebody says so
    status, said = command(capsys, "rollback", "--name", name, "--reason", "missed effusions")
    assert status == 0 and f"version {fair[0]} of {name} is the champion again" in said
    team("commit 4", name)
    status, said = command(capsys, "promote", "--name", name)
    assert status == 2 and "was rolled back: missed effusions; version 5 is the same model, trained again" in said
    assert client.get_model_version_by_alias(name, "champion").version == fair[0]


def test_the_training_of_a_rolled_back_model_repeated_on_another_machine_is_held_back(team, capsys):
    "Another processor gives it slightly other answers."
    name, data = "repeated", json.loads((PUBLISHED / "metrics.json").read_text())["data"]["hash"]
    for who, noise, epochs in (("fair", 1.5, 2), ("bad", 0, 3)):
        team(who, name, noise, params={"epochs": epochs}, data_hash=data)
        assert command(capsys, "promote", "--name", name)[0] == 0
    assert command(capsys, "rollback", "--name", name)[0] == 0
    team("again", name, 0.01, params={"epochs": 3}, data_hash=data)
    status, said = command(capsys, "promote", "--name", name)
    assert status == 2 and "version 3 was trained with the same data and parameters" in said
    team("other", name, 0.01, params={"epochs": 4}, data_hash=data)
    assert command(capsys, "promote", "--name", name)[0] == 0


def test_a_champion_that_may_know_the_test_images_is_said(monkeypatch):
    "The data grew, or were split anew: films of its training are among the test images, and favour it."
    own = pd.DataFrame({"path": ["a", "b"], "label": "NORMAL", "probability": 0.1, "threshold": 0.5})
    now = own.assign(path=["b", "c"])
    measured = {"data": {"hash": "new", "synthetic": False}}
    monkeypatch.setattr(registry, "_measured", lambda *given: (own, {"data": {"hash": "old", "synthetic": False}}))
    monkeypatch.setattr(registry, "_rescored", lambda *given: now)
    champion = SimpleNamespace(name="grown", version="1")
    assert "1 of the 2 test images" in registry._compared_with(None, None, champion, now, measured, False)[1][0]
    assert registry._compared_with(None, None, champion, own, measured, False)[1] == []


def test_a_project_does_not_take_the_champion_of_another_one(monkeypatch):
    "Two projects of one server share the registered model: the first one's dashboard would serve the second's model."
    own = pd.DataFrame({"path": ["a", "b"], "label": "NORMAL", "probability": 0.1, "threshold": 0.5})
    other = own.assign(path=["c", "d"])
    data = {"hash": "theirs", "synthetic": False}
    monkeypatch.setattr(registry, "_measured", lambda *given: (own, {"data": data}))
    monkeypatch.setattr(registry, "_rescored", lambda *given: other)
    given = None, None, SimpleNamespace(name="shared", version="1"), other, {"data": data | {"hash": "ours"}}
    with pytest.raises(registry.PromotionError, match="on none of the candidate's"):
        registry._compared_with(*given, False)
    assert registry._compared_with(*given, True)[0] is other  # somebody says so
    data["synthetic"] = True
    assert registry._compared_with(*given, False)[0] is other  # the sample's model may go


def test_the_sample_s_model_is_no_first_champion_of_a_job_without_data(tmp_path, monkeypatch):
    drawn, real = (SimpleNamespace(version="1", name="first", tags={"synthetic": s}) for s in ("True", "False"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    registry._check_first(tmp_path, drawn)  # somebody tries the sample
    (tmp_path / ".cache/ci").mkdir(parents=True)
    (tmp_path / ".cache/ci/notice").write_text("the DVC remote could not be read: sample data")
    registry._check_first(tmp_path, real)
    with pytest.raises(registry.PromotionError, match="trained on the sample, since this job got no data"):
        registry._check_first(tmp_path, drawn)


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"threshold": 0.5, "data": []}'])
def test_a_damaged_evaluation_in_the_store_is_named(tmp_path, monkeypatch, content):
    file = tmp_path / "metrics.json"
    file.write_text(content)
    monkeypatch.setattr(registry, "_evaluation", lambda *given: [file, PUBLISHED / "predictions.csv"])
    version = SimpleNamespace(version="2", name="damaged", tags={})
    with pytest.raises(registry.PromotionError, match="evaluation of version 2 of damaged is damaged"):
        registry._measured(None, version)


def test_a_store_that_fails_while_a_champion_is_crowned_leaves_no_report_of_it(team, server, capsys, monkeypatch):
    "The report of a job would say that the version was promoted."
    name, client = "uncrowned", mlflow.MlflowClient(server)
    one = team("one", name)[0]
    with monkeypatch.context() as m:
        m.setattr(registry, "set_alias", Mock(side_effect=mlflow.MlflowException("the database is down")))
        status, said = command(capsys, "promote", "--name", name)
    assert status == 2 and "the database is down" in said and "Run it again" in said and "Traceback" not in said
    assert not Path("reports/promotion.json").exists()
    assert command(capsys, "promote", "--name", name)[0] == 0 and Path("reports/promotion.json").is_file()
    assert client.get_model_version_by_alias(name, "champion").version == one


def test_a_store_that_fails_is_no_version_without_evaluation(team, capsys, monkeypatch):
    "`dvc repro evaluate`, which the message for those names, would not help."
    team("one", "unread")
    monkeypatch.setattr(registry, "_download", Mock(side_effect=ConnectionError("no answer from the bucket")))
    status, said = command(capsys, "promote", "--name", "unread")
    assert status == 2 and "can't be read: no answer from the bucket" in said and "has not been" not in said


def test_a_champion_that_was_named_by_hand_is_gone_back_to(team, server, capsys):
    name, client = "by hand", mlflow.MlflowClient(server)
    versions = [team(f"run {i}", name, noise=2 - i)[0] for i in range(3)]
    assert command(capsys, "promote", "--name", name, "--version", versions[0])[0] == 0
    client.set_registered_model_alias(name, "champion", versions[1])
    assert command(capsys, "promote", "--name", name)[0] == 0
    for was in (versions[1], versions[0]):
        status, said = command(capsys, "rollback", "--name", name)
        assert status == 0 and f"version {was} " in said


def test_a_champion_of_before_that_was_deleted_is_passed_over(team, server, capsys):
    name, client = "deleted", mlflow.MlflowClient(server)
    versions = [team(f"run {i}", name, noise=2 - i)[0] for i in range(3)]
    for v in versions:
        assert command(capsys, "promote", "--name", name, "--version", v)[0] == 0
    client.delete_model_version(name, versions[1])
    status, said = command(capsys, "rollback", "--name", name)
    assert status == 0 and f"version {versions[0]} " in said
    client.delete_model_version(name, versions[0])
    status, said = command(capsys, "rollback", "--name", name)
    assert status == 2 and "no champion" in said


def test_a_rollback_does_not_promote_who_was_never_champion(team, server, capsys):
    "The store went away between the last two requests of a promotion, and the champion of before is given up."
    name, client = "cut off", mlflow.MlflowClient(server)
    versions = [team(f"run {i}", name, noise=2 - i)[0] for i in range(3)]
    for v in versions[:2]:
        assert command(capsys, "promote", "--name", name, "--version", v)[0] == 0
    history = json.loads(client.get_registered_model(name).tags["champions"])
    client.set_registered_model_tag(name, "champions", json.dumps([*history, versions[2]]))
    status, said = command(capsys, "rollback", "--name", name)
    assert status == 0 and f"version {versions[0]} " in said
    assert client.get_model_version_by_alias(name, "champion").version == versions[0]


@pytest.mark.parametrize("argv", [("promote", "--version", "99"), ("promote", "--version", "x"), ("rollback",)])
def test_what_the_registry_does_not_have_is_said_in_a_line(team, capsys, argv):
    team("one", "absent")
    status, said = command(capsys, *argv, "--name", "absent" if argv[0] == "promote" else "nobody at all")
    assert status == 2 and len(said.strip().splitlines()) == 1, said


def test_a_user_without_rights_to_the_registry_is_told_so(tmp_path, monkeypatch, capsys):
    "A server may let a user record runs and not promote: before, a traceback."
    refused = mlflow.MlflowException("Permission denied", PERMISSION_DENIED)
    client = SimpleNamespace(get_model_version_by_alias=Mock(side_effect=refused))
    lay(tmp_path, "params.yaml")
    monkeypatch.setattr(registry, "_client", lambda: (client, tmp_path))
    for name in ("promote", "rollback"):
        status, said = command(capsys, name)
        assert status == 2 and "Permission denied" in said and "this user's rights" in said


def test_a_version_without_a_name_is_not_the_candidate(capsys):
    "Of a variable that is not set: before, the candidate was promoted, without some of the checks."
    status, said = command(capsys, "promote", "--version", "")
    assert status == 2 and "--version names nothing" in said


def test_a_champion_changes_while_the_gate_compares(team, server, capsys, monkeypatch):
    "A decision against a version that was rolled back meanwhile is none."
    name, c = "meanwhile", mlflow.MlflowClient(server)
    for who, noise in (("one", 1.5), ("two", 1)):
        team(who, name, noise)
        assert command(capsys, "promote", "--name", name)[0] == 0
    late = team("late", name)[0]

    gate = registry.gate

    def slow(*given):
        monkeypatch.setattr(registry, "gate", gate)
        registry.rollback(name, "it was bad")
        return gate(*given)

    monkeypatch.setattr(registry, "gate", slow)
    status, said = command(capsys, "promote", "--name", name)
    assert status == 2 and "changed while the gate compared" in said
    assert c.get_model_version_by_alias(name, "champion").version == "1"
    assert "decision" not in c.get_model_version(name, late).tags
    assert command(capsys, "promote", "--name", name)[0] == 0


def test_metrics_of_other_data_than_the_training_s_are_no_measurement():
    "Another split, evaluated without a training: films that it was trained on are among the test images."
    version = SimpleNamespace(version="2", name="split", tags={"data_hash": "a" * 64})
    registry._check_data(version, {"data": {"hash": "a" * 64}})
    with pytest.raises(registry.PromotionError, match="measured on other data"):
        registry._check_data(version, {"data": {"hash": "b" * 64}})


@pytest.fixture
def films(tmp_path, monkeypatch):
    "A project with a few films, prepared at 96 pixels; the champion is the shipped bundle."
    (tmp_path / "dvc.yaml").write_text("stages: {prepare: {params: [data, prepare]}}\n")
    lay(tmp_path, "params.yaml")
    set_params(tmp_path, ["data.path=films", "prepare.size=96"])
    rng = np.random.default_rng(0)
    for split, label, i in itertools.product(("train", "test"), ("NORMAL", "PNEUMONIA"), range(3)):
        file = tmp_path / "films" / split / label / f"{label}{split}{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (250, 240), dtype=np.uint8)).save(file)
    monkeypatch.setattr(registry, "registered_bundle", lambda uri: SHIPPED)
    return tmp_path


@pytest.mark.parametrize("size", [96, 224])
def test_a_champion_of_other_data_is_scored_at_its_own_size(films, size):
    wanted = prepare(films / "films", films / "data/prepared", size=size, progress=False).info["data_hash"]
    scored = registry._rescored(films, "name", SimpleNamespace(version="1"), wanted)
    bundle = load_bundle()
    own = prepare(films / "films", films / "own", size=bundle.size, progress=False)
    rows = own.rows("test")
    assert len(rows) == 6
    for column in ("path", "label", "patient"):
        assert list(scored[column]) == list(rows[column])
    np.testing.assert_array_equal(scored.probability, bundle.probability(bundle.logits(own.arrays("test")[0])))


def test_films_that_are_gone_or_others_make_no_decision(films):
    wanted = prepare(films / "films", films / "data/prepared", size=96, progress=False).info["data_hash"]

    def again():
        return registry._rescored(films, "name", SimpleNamespace(version="1"), wanted)

    next((films / "films/test/NORMAL").iterdir()).unlink()
    with pytest.raises(registry.PromotionError, match="no longer holds the test images"):
        again()
    shutil.rmtree(films / "films")
    with pytest.raises(registry.PromotionError, match="224 pixels, and they can't be made: there is no data folder"):
        again()
