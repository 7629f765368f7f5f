"""Several trainings, publishing and verifying, in one run on films not marked as synthetic; cross-validation."""

import json
import re
import shutil
import sys
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, lay, run, set_params
from PIL import Image

from xraypneu.model import policy
from xraypneu.model.bundle import SHIPPED, BundleError, load_bundle
from xraypneu.model.signature import SignatureError, Trust, check_signature
from xraypneu.ops import publish
from xraypneu.ops.convert import convert_metrics
from xraypneu.ops.stage import StageError, read_metrics, stage_params, summary


@pytest.fixture(scope="module")
def films(project, made_once):
    "The small project on its images without the note that they're synthetic; two seeds."

    def make(folder):
        shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
        for split in ("train", "test"):
            shutil.copytree(folder / "data/sample" / split, folder / "films" / split)
        set_params(folder, {"data": {"path": "films"}, "train": {"seeds": 2, "epochs": 1}})
        for name in ("prepare", "train", "evaluate"):
            run([sys.executable, "-m", "xraypneu.ops.stage", name], folder)

    return made_once("films", make)


def test_every_seed_has_its_bundle(films):
    seeds = [load_bundle(films / f"models/seeds/{s}") for s in (0, 1)]
    assert [b.info["recipe"]["seed"] for b in seeds] == [0, 1]
    assert seeds[0].info["model_sha256"] != seeds[1].info["model_sha256"]
    assert load_bundle(films / "models/bundle").info["model_sha256"] in {
        b.info["model_sha256"] for b in seeds
    }  # the best of them, with what only a bundle in use needs
    for b in seeds:
        assert b.info["shifted"]["sensitivity"] >= 0.97  # the rule of the operating point
    m = json.loads((films / "reports/metrics.json").read_text())
    assert m["seeds"]["trainings"] == 2
    assert m["seeds"]["roc_auc"]["lowest"] <= m["test"]["roc_auc"] <= m["seeds"]["roc_auc"]["highest"]


@pytest.mark.nightly  # in short: the examples of `cross_validate` and `fold_summary`
def test_cross_validation_is_in_the_report(project, tmp_path):
    folder = shutil.copytree(project, tmp_path / "xray", symlinks=True)
    set_params(folder, {"train": {"folds": 2, "epochs": 1}})
    run([sys.executable, "-m", "xraypneu.ops.stage", "train"], folder)
    page = (folder / "reports/train.html").read_text()
    assert all(part in page for part in ("Cross-validation", "best epoch", "shifted_roc_auc"))


def test_the_report_has_its_sections(films):
    page = (films / "reports/evaluate.html").read_text()
    for part in (
        "Spread over seeds",
        "From validation to test",
        "Decision curve",
        "Metadata-only baseline",
        "Robustness",
        "Saliency",
        "Abstention",
        "Out-of-distribution inputs",
        "Subgroups",
        "Calibration slope",
        "Errors",
        "specificity at least 95%",
    ):
        assert part in page, part
    m = json.loads((films / "reports/metrics.json").read_text())
    assert {"area_deletion", "randomised_correlation", "pointing", "pointing_chance"} <= m["saliency"].keys()
    assert len(m["robustness"]) >= 12 and m["robustness"]["original"]["roc_auc"] == m["test"]["roc_auc"]
    assert {"coverage_normal", "coverage_pneumonia"} <= m["conformal"].keys()


def test_card_agrees_with_the_metrics(films):
    m, card = json.loads((films / "reports/metrics.json").read_text()), (films / "reports/model_card.md").read_text()
    assert f"| accuracy | **{100 * m['test']['accuracy']:.1f} %** |" in card and m["model"]["hash"] in card
    assert "10.1007/s10140-021-01954-x" in card and "Not a medical device" in card
    assert "<table>" in (films / "reports/model_card.html").read_text()


@pytest.fixture
def shipped(films, tmp_path):
    "The project's bundle, published into folders of the test's own."
    folder = tmp_path / "xray"
    shutil.copytree(films, folder, symlinks=True, ignore=shutil.ignore_patterns("films", ".dvc"))
    (folder / "films").symlink_to(films / "films")
    return folder, publish.ship(folder, tmp_path / "shipped")


def test_ship_and_verify(shipped, capsys):
    folder, bundle = shipped
    assert bundle.hash == load_bundle(folder / "models/bundle").hash
    results = folder / "results/films"
    assert {
        "metrics.json",
        "params.yaml",
        "dvc.lock",
        "model_card.md",
        "model_card.html",
        "evaluate.ipynb",
        "predictions.csv",
        "test_files.csv",
        "claim.md",
        "tripod_ai.md",
    } <= {p.name for p in results.iterdir()}
    assert not (results / "croissant.json").exists()  # nothing is known of the licence of other data
    assert "(model_card.md#metrics)" in (results / "claim.md").read_text()
    nb = nbformat.read(results / "evaluate.ipynb", as_version=4)
    assert all(c.execution_count for c in nb.cells if c.cell_type == "code" and c.source.strip())
    assert (bundle.folder / "README.md").read_text() == (folder / "reports/model_card.md").read_text()
    films = policy.stored_predictions(bundle)
    assert len(films.ill) == len(pd.read_csv(results / "predictions.csv"))
    assert publish.verify(folder / "films", bundle.folder, folder)
    assert "all metrics are as published" in capsys.readouterr().out
    # of other films now: the table of their patients was looked up for the public set, and named none of its films
    set_params(folder, {"data": {"path": "others", "patients_csv": "patients.csv"}, "prepare": {"test": 0.3}})
    (folder / "patients.csv").write_text("file,patient\na.png,1\n")
    assert publish.verify(folder / "films", bundle.folder, folder)
    assert "all metrics are as published" in capsys.readouterr().out

    metrics = bundle.folder / "metrics.json"
    m = json.loads(metrics.read_text())
    m["test"]["roc_auc"] += 0.002
    metrics.write_text(json.dumps(m))
    assert not publish.verify(folder / "films", bundle.folder, folder)
    out = capsys.readouterr().out
    assert "roc_auc" in next(line for line in out.splitlines() if "DIFFERS" in line) and "NOT as published" in out


def test_verify_says_when_it_is_given_other_images(shipped, tmp_path, capsys):
    folder, bundle = shipped
    shutil.copytree(folder / "films", tmp_path / "other")
    next((tmp_path / "other/test/NORMAL").iterdir()).unlink()
    publish.verify(tmp_path / "other", bundle.folder, folder)
    assert "not the images that the metrics were published for" in capsys.readouterr().out


def test_verify_recognises_another_rendering_of_the_films(shipped, tmp_path, capsys):
    "The same films as PNG of another size: the metrics with intervals and the changed labels, and no failure."
    folder, bundle = shipped
    other = tmp_path / "other"
    shutil.copytree(folder / "films/train", other / "train")
    files = sorted((folder / "films/test").glob("*/*.*"))
    for file in files:
        new = other / "test" / file.parent.name / f"{file.stem}.png"
        new.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            image.convert("L").resize((300, 300)).save(new)
    assert publish.verify(other, bundle.folder, folder)
    out = capsys.readouterr().out
    assert f"in another rendering: {len(files)} of {len(files)} files" in out and "DIFFERS" not in out
    assert re.search(r"roc_auc +[\d.]+ \(95 % interval, by patient, [\d.]+ to [\d.]+\); published [\d.]+", out)
    changed = int(re.search(r"(\d+) labels differ from the published run", out)[1])
    assert 0 <= changed <= len(files)

    shutil.rmtree(other / "test")  # the measured files beside other films of train: compared to 1e-3
    shutil.copytree(folder / "films/test", other / "test")
    next((other / "train/NORMAL").iterdir()).unlink()
    assert publish.verify(other, bundle.folder, folder)
    assert "The test images are those of the published run" in capsys.readouterr().out


def test_files_of_films_are_counted_one_by_one():
    "A PNG beside each JPEG is no rendering of the test films but twice as many; points in a UID begin no extension."

    def table(*names):
        return pd.DataFrame({"path": [f"test/NORMAL/{n}" for n in names], "sha256": list(names)})

    measured = table("1.jpeg", "2.jpeg")
    assert publish.match_files(table("1.png", "2.png"), measured).is_rendering
    for both in (("1.png", "1.jpeg", "2.png", "2.jpeg"), ("1.jpeg", "1.png", "2.jpeg", "2.png")):
        found = publish.match_files(table(*both), measured)
        assert found.added == 2 and not found.is_same and not found.is_rendering
    uids = table("1.2.840.1", "1.2.840.2")
    assert publish.match_files(uids, uids).is_same


def test_the_shipped_model_lists_the_files_that_it_was_measured_on():
    folder = ROOT / "results/chest_xray"
    files, predictions = (pd.read_csv(folder / name) for name in ("test_files.csv", "predictions.csv"))
    assert files.path.tolist() == predictions.path.tolist() and len(files) == 624
    assert files.sha256.str.fullmatch("[0-9a-f]{64}").all()


def test_ship_refuses_other_data_than_the_bundle_s(films, tmp_path):
    folder = tmp_path / "xray"
    shutil.copytree(films, folder, symlinks=True, ignore=shutil.ignore_patterns("films", ".dvc"))
    info = folder / "data/prepared/dataset.json"
    content = json.loads(info.read_text())
    info.unlink()
    info.write_text(json.dumps(content | {"data_hash": "0" * 64}))
    with pytest.raises(BundleError, match="is not the data that models/bundle was trained with"):
        publish.ship(folder, tmp_path / "shipped")
    assert not (folder / "results").exists()


def test_a_patient_may_be_called_na():
    "As R writes who is unknown; pandas took it for a missing value, and `ship` ended with a traceback."
    table = "path,label,patient,probability\na.png,NORMAL,NA,0.1\nb.png,PNEUMONIA,p1,0.9\nc.png,NORMAL,null,0.2\n"
    films = publish._scored(table.encode(), {})
    assert len(set(films.patient)) == 3 and list(films.probability) == [0.1, 0.9, 0.2]


DATA = '"data": {"hash": "d", "synthetic": true, "test_images": 3, "test_patients": 2}'
TEXT = f'{{"model": {{"hash": "b"}}, {DATA}, "test": {{"roc_auc": "0.9"}}, "test_low": {{}}, "test_high": {{}}}}'
WITHOUT = f'{{"model": {{"hash": "b"}}, {DATA}, "test": {{}}}}'


ODD = TEXT.replace('"0.9"', "0.9")[:-1] + ', "conformal": {"decided": "none", "target": 0.9}}'


@pytest.mark.parametrize("content", ["", "[1]", "{}", f'{{"model": 3, {DATA}, "test": {{}}}}', TEXT, WITHOUT, ODD])
def test_a_damaged_metrics_json_is_named(tmp_path, content):
    file = tmp_path / "reports/metrics.json"
    file.parent.mkdir()
    file.write_text(content)
    for asks in (lambda: read_metrics(file), lambda: summary(tmp_path)):
        with pytest.raises(StageError, match=re.escape(f"{file} is no metrics.json")):
            asks()


def test_a_record_of_another_model_is_not_compared_with(tmp_path):
    "Before, `verify` counted the labels that differ from those of another model's run."
    bundle, lines, folder = load_bundle(), [], tmp_path / "results/chest_xray"
    folder.mkdir(parents=True)
    for name in ("test_files.csv", "predictions.csv", "metrics.json"):
        shutil.copy(ROOT / "results/chest_xray" / name, folder)
    assert len(publish._record(tmp_path, bundle, lines.append)) == 624 and not lines
    content = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(content | {"model": {"hash": "0" * 64}}))
    assert publish._record(tmp_path, bundle, lines.append) is None
    assert f"{folder} is the record of another model" in lines[0]


def test_ship_with_a_key(films, tmp_path):
    "The shipped bundle is signed: its metrics and its card too, so that they can't be exchanged either."
    folder, key, public = tmp_path / "xray", tmp_path / "key.pem", tmp_path / "key.pub"
    shutil.copytree(films, folder, symlinks=True, ignore=shutil.ignore_patterns("films", ".dvc"))
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key)], tmp_path)
    run(["openssl", "ec", "-in", str(key), "-pubout", "-out", str(public)], tmp_path)
    bundle = publish.ship(folder, tmp_path / "shipped", key=key)
    assert check_signature(bundle.folder, Trust(key=str(public))) == "verified"
    (bundle.folder / "metrics.json").write_text("{}")
    with pytest.raises(SignatureError, match="metrics.json"):
        check_signature(bundle.folder, Trust(key=str(public)))


def test_refit_exchanges_the_detector_alone(shipped, tmp_path):
    "A bundle with a detector of before, here one that refuses nothing, gets that of a training of now."
    folder, bundle = shipped
    lenient = replace(bundle.detector, scaling=bundle.detector.scaling + np.float32([[0], [99]]))
    extra = {p.name: p.read_bytes() for p in bundle.folder.iterdir() if p.suffix in (".json", ".md")}
    del extra["bundle.json"]
    old = publish._copy_of(bundle, tmp_path / "old", {"reference.npz": lenient.to_bytes()}, scope={"rule": "of before"})
    for name, content in extra.items():
        (old.folder / name).write_bytes(content.replace(bundle.hash.encode(), old.hash.encode()))
    new = publish.refit(folder / "data/prepared", old.folder, tmp_path / "new")
    for name in ("means", "basis", "variances", "scaling", "no_chest", "hidden", "output"):  # of a training of now
        assert np.array_equal(getattr(new.detector, name), getattr(bundle.detector, name)), name
    known = {k: v for k, v in new.info.items() if k not in ("parts_sha256", "scope")}
    assert known == {k: v for k, v in old.info.items() if k in known} and new.info["scope"] == bundle.info["scope"]
    about = json.loads((folder / "data/prepared/dataset.json").read_text())
    (folder / "data/prepared/dataset.json").write_text(json.dumps(about | {"data_hash": "0" * 64}))
    with pytest.raises(BundleError, match="is not the data"):
        publish.refit(folder / "data/prepared", old.folder)
    for name in ("metrics.json", policy.TEST_PREDICTIONS):
        assert json.loads((new.folder / name).read_text()) == json.loads(extra[name]) | {"model": {"hash": new.hash}}
    assert f"Bundle `{new.hash}`" in (new.folder / "README.md").read_text()


@pytest.mark.parametrize("key", ["", "no/such/key.pem", "key.pem"])
def test_what_is_no_key_ships_nothing(key, tmp_path, monkeypatch, capsys):
    "`make ship KEY=$KEY` without that variable shipped unsigned; with another file, what was signed was replaced."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(SignatureError, match="There is no key|is not a key to sign with"):
        publish.ship(tmp_path, tmp_path / "shipped", key=key)
    assert [p.name for p in tmp_path.iterdir()] == ["key.pem"]
    assert publish.main(["ship", "--key", key]) == 1 and "Nothing was written" in capsys.readouterr().err


def test_ship_refuses(project, films, tmp_path):
    with pytest.raises(BundleError, match="synthetic"):
        publish.ship(project, tmp_path / "shipped")
    folder = tmp_path / "xray"
    shutil.copytree(films, folder, symlinks=True, ignore=shutil.ignore_patterns("films", ".dvc"))
    other = next(
        s
        for s in (0, 1)
        if load_bundle(folder / f"models/seeds/{s}").hash != load_bundle(folder / "models/bundle").hash
    )
    shutil.rmtree(folder / "models/bundle")
    shutil.copytree(folder / f"models/seeds/{other}", folder / "models/bundle")
    with pytest.raises(BundleError, match="another model"):
        publish.ship(folder, tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists() and not (folder / "results").exists()


@pytest.mark.parametrize("name, value", [("train.coverage", 0.8), ("prepare.seed", 3), ("data.path", "films")])
def test_ship_publishes_no_parameters_that_no_stage_ran_with(tmp_path, name, value):
    "The recipe in the bundle doesn't have them; the executed notebooks do."
    lay(tmp_path, "params.yaml", "dvc.yaml")
    (tmp_path / "reports").mkdir()
    for stage in ("prepare", "train", "evaluate"):
        source = "# Parameters\n" + "".join(f"{k} = {v!r}\n" for k, v in stage_params(tmp_path, stage).items())
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"reports/{stage}.ipynb")
    publish._check_params(tmp_path)
    section, _, key = name.partition(".")
    set_params(tmp_path, {section: {key: value}})
    with pytest.raises(BundleError, match=f"{key} in params.yaml changed since the stage (prepare|train) ran"):
        publish._check_params(tmp_path)


def test_ship_publishes_no_other_parameters_and_metrics_than_the_bundle_s(tmp_path):
    "params.yaml may be edited already for the next training, and the test split be of other data."
    lay(tmp_path, "dvc.yaml", "params.yaml")
    bundle, measured = load_bundle(), json.loads((SHIPPED / "metrics.json").read_text())
    given, own = stage_params(tmp_path, "train"), bundle.info["recipe"]
    set_params(tmp_path, {"train": {k: v for k, v in (own | own["augmentation"]).items() if k in given}})
    publish._check_record(tmp_path, bundle, measured)
    with pytest.raises(BundleError, match="measured on other data"):
        publish._check_record(tmp_path, bundle, measured | {"data": measured["data"] | {"hash": "0" * 64}})
    set_params(tmp_path, {"train": {"epochs": 99, "gamma": 0.1, "seed": 7}})
    with pytest.raises(BundleError, match="^epochs, gamma in params.yaml changed"):
        publish._check_record(tmp_path, bundle, measured)


def test_who_ships_is_told_which_files_name_films(monkeypatch, capsys):
    "The next step is a commit, and names of a hospital's files may be those of patients."
    monkeypatch.setattr(publish, "ship", lambda key: load_bundle())
    assert publish.main(["ship"]) == 0
    assert "names the test films, in predictions.csv, test_files.csv, evaluate.ipynb" in capsys.readouterr().out


def test_verify_command_without_data(capsys):
    for words, code, message in (
        (["verify", ""], 2, "make verify DATA="),
        (["verify", "/no/such/folder"], 1, "/no/such/folder"),
    ):
        assert publish.main(words) == code
        assert message in capsys.readouterr().err


# --- what is published with the package


def test_published_metrics_belong_to_the_shipped_bundle():
    bundle, m = load_bundle(), json.loads((SHIPPED / "metrics.json").read_text())
    assert m["model"]["hash"] == bundle.hash
    folder = ROOT / "results" / bundle.info["data"]["title"]
    published = json.loads((folder / "metrics.json").read_text())
    assert published["model"]["hash"] == bundle.info["converted_from"]["hash"]  # it was measured as schema 2
    then = convert_metrics(published, bundle.hash)  # since then, the detector was fitted again (look 12)
    assert {k: v for k, v in then.items() if k != "ood"} == {k: v for k, v in m.items() if k != "ood"}
    assert then["ood"].keys() == m["ood"].keys() and m["ood"]["test images"]["refused"] <= 0.02
    card = (SHIPPED / "README.md").read_text()
    assert f"Bundle `{bundle.hash}` (converted from `{published['model']['hash']}`" in card
    films = publish._scored((folder / "predictions.csv").read_bytes(), m)
    assert (SHIPPED / policy.TEST_PREDICTIONS).read_text() == policy.predictions_text(bundle.hash, films)
    assert policy.stored_predictions(bundle).refused == m["ood"]["test images"]["refused"]
    predicted = pd.read_csv(folder / "predictions.csv")
    y = (predicted.label == "PNEUMONIA").to_numpy()
    assert np.mean((predicted.probability >= bundle.threshold) == y) == pytest.approx(m["test"]["accuracy"], abs=1e-6)
    pictures = [
        o
        for c in nbformat.read(folder / "evaluate.ipynb", as_version=4).cells
        if "radiographs" in c.metadata.get("tags", [])
        for o in c.outputs
        if "data" in o
    ]
    assert not pictures


def test_the_published_model_meets_its_requirements():
    "The goals that were set for the mean of the trainings; README and model card quote the same file."
    s = json.loads((SHIPPED / "metrics.json").read_text())["seeds"]
    assert s["trainings"] >= 3
    for metric, least in (("accuracy", 0.95), ("roc_auc", 0.987), ("sensitivity", 0.97), ("specificity", 0.89)):
        assert s[metric]["mean"] >= least, metric
    assert s["brier"]["mean"] <= 0.06 and s["ece"]["mean"] <= 0.05
