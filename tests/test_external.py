"""`xraypneu external`: a model measured on another hospital's labelled films, with nothing tuned."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, refusal
from fuzz import dicom
from PIL import Image

from xraypneu import Predictor, cli, load_bundle
from xraypneu.data import labelled
from xraypneu.data.dataset import DataError
from xraypneu.data.labelled import labelled_films
from xraypneu.data.sample import draw_radiograph
from xraypneu.errors import XraypneuError
from xraypneu.evaluation import external
from xraypneu.evaluation.card import recorded_sets
from xraypneu.evaluation.evaluate import EvaluationError
from xraypneu.glossary import plain
from xraypneu.metrics.definitions import BRIEF
from xraypneu.metrics.scores import bootstrap, classification_metrics
from xraypneu.model import seen
from xraypneu.model.bundle import SHIPPED
from xraypneu.ops.stage import StageError, report_notebook, run_report
from xraypneu.serving import external_run
from xraypneu.serving.dashboard import _card, _short_card
from xraypneu.serving.external_run import MADE, measure_set, record_set

MADE_HERE = {"external.json", "predictions.csv"}  # without the report


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    "Twelve films of six patients, half of them with pneumonia."
    folder = tmp_path_factory.mktemp("drawn") / "hospital"
    for i in range(12):
        ill = i % 2 == 1
        film = folder / f"{'PNEUMONIA' if ill else 'NORMAL'}/SYN{i // 2:04d}-{i}.png"
        film.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_radiograph(i, pneumonia=ill, size=128)[0]).save(film)
    return folder


@pytest.fixture
def films(drawn, tmp_path):
    "A copy of them that a test may change."
    return Path(shutil.copytree(drawn, tmp_path / "hospital"))


def measured(source, out, **options):
    "Measure without the report, which takes seconds; the films as a table."
    options = {"bootstrap": 50, "report": None, "workers": 1} | options
    return measure_set(source, out, **options), pd.read_csv(Path(out) / "predictions.csv", keep_default_na=False)


def table(folder, head, rows):
    "A CSV beside the films."
    file = folder / "set.csv"
    file.write_text("\n".join([head, *rows]) + "\n")
    return file


def rows_of(folder):
    "A row for each film: file, label, patient."
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    return [f"{f},{f.split('/')[0]},{f.split('/')[1][:7]}" for f in files]


# what is measured


def test_films_are_scored_as_users_see_them_and_nothing_is_tuned(drawn, tmp_path):
    info, rows = measured(drawn, tmp_path / "out")
    bundle, predictor = load_bundle(), Predictor()
    assert info["model"] == {"hash": bundle.hash, "precision": "fp32", "threshold": bundle.threshold}
    found = external_run.scored_films(labelled_films(drawn), bundle, workers=1)
    for path, verdict, p in zip(found.path, found.verdict, found.probability, strict=True):
        shown = predictor.predict(drawn / path).explanation
        assert (shown.verdict, shown.probability) == (verdict, p if p == p else None)
    used = found[found.verdict != "NOT A CHEST X-RAY"]
    values = classification_metrics(used.y, used.probability.astype(float), bundle.threshold)
    assert {k: info["labels"]["values"][k] for k in BRIEF} == {k: values[k] for k in BRIEF}
    assert set(p.name for p in (tmp_path / "out").iterdir()) == MADE_HERE and len(rows) == 12


def test_the_variant_of_8_bits_has_its_own_operating_point(drawn, tmp_path):
    info, _ = measured(drawn, tmp_path / "out", precision="int8")
    assert info["model"]["threshold"] == load_bundle(None, "int8").threshold
    assert info["expected"]["roc_auc"] == load_bundle(None, "int8").variant["shifted"]["roc_auc"]


def test_intervals_are_by_patient(drawn, tmp_path):
    "The patients of a column, else of the file names, else each film its own; and the report says which."
    info, _ = measured(drawn, tmp_path / "a")
    assert (info["patients_from"], info["named"], info["labels"]["patients"]) == ("names", 12, 6)
    folder = Path(shutil.copytree(drawn, tmp_path / "b"))
    one = [r.rpartition(",")[0] + f",p{i // 4}" for i, r in enumerate(rows_of(folder))]
    info, rows = measured(table(folder, "file,label,patient", one), tmp_path / "out")
    assert (info["patients_from"], info["labels"]["patients"]) == ("table", 3)
    used = rows[rows.verdict != "NOT A CHEST X-RAY"]
    low, high = bootstrap(used.y, used.probability.astype(float), used.patient, info["model"]["threshold"], n=50)["f1"]
    assert (info["labels"]["low"]["f1"], info["labels"]["high"]["f1"]) == pytest.approx((low, high))
    for i, film in enumerate(sorted(folder.rglob("*.png"))):
        film.rename(film.with_name(f"film{i}.png"))
    found = labelled_films(folder)
    assert (found.patients_from, found.films.patient.nunique()) == ("films", 12)


def test_few_patients_have_exact_intervals_or_none(tmp_path):
    rows = pd.DataFrame(
        {"y": [0, 1], "probability": [0.1, 0.9], "patient": ["a", "b"], "label": ["NORMAL", "PNEUMONIA"]}
    )
    m = external.measured(rows, 0.5, 20)
    assert (m["low"]["sensitivity"], m["high"]["sensitivity"]) == pytest.approx((0.025, 1.0))  # one of one
    assert external.measured(rows.assign(patient="a"), 0.5)["low"] == {}
    assert external.measured(rows[:0], 0.5)["films"] == 0


def test_verdicts_add_up_to_all_films(films, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(
        films / "NORMAL/x.png"
    )
    (films / "PNEUMONIA/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    info, rows = measured(films, tmp_path / "out")
    counts = info["verdicts"]
    assert [sum(v["films"] for v in counts[c].values()) for c in counts] == [7, 7]
    assert counts["NORMAL"]["NOT A CHEST X-RAY"]["films"] >= 1 and counts["PNEUMONIA"]["unreadable"]["films"] == 1
    assert info["films"]["excluded"]["unreadable"] == 1
    shown = external.verdict_rows(external.read_external(tmp_path / "out").info).set_index("verdict")
    for c, v in ((c, v) for c in ("NORMAL", "PNEUMONIA") for v in counts["NORMAL"]):
        assert shown.loc[v, c].startswith(f"{counts[c][v]['films']}: ")
    broken = rows[rows.path == "PNEUMONIA/broken.png"].iloc[0]
    assert broken.code and broken.excluded == "unreadable" and broken.probability == ""


def test_remarks_on_films_are_counted_and_said(films, tmp_path):
    "Films of 12 bits in 16, or lateral ones, were measured without a word."
    for i, film in enumerate(sorted(films.rglob("*.png"))[:4]):
        Image.fromarray(np.asarray(Image.open(film)) // (8 + i)).save(film)
    info, rows = measured(films, tmp_path / "out")
    (remark,) = info["film_remarks"]
    assert (remark["films"], remark["share"]) == (4, pytest.approx(4 / 12)) and "grey levels" in remark["remark"]
    assert f"On 33 % of the films the reader remarks: {remark['remark']}." in info["conclusion"]["text"]
    assert rows.remarks.str.contains("grey levels").sum() == 4 and set(rows.remarks[rows.remarks == ""]) == {""}
    assert external.read_external(tmp_path / "out").rows.remarks[0] == rows.remarks[0] == remark["remark"]


def test_copies_count_once_and_contradictions_not_at_all(films, tmp_path):
    first, second = sorted((films / "NORMAL").iterdir())[:2]
    shutil.copy(first, films / "NORMAL/copy.png")
    shutil.copy(second, films / "PNEUMONIA/contradiction.png")
    info, rows = measured(films, tmp_path / "out")
    assert info["films"]["excluded"] == {"unreadable": 0, "copy of another file": 1, "same bytes in both classes": 2}
    assert sum(v["films"] for c in info["verdicts"].values() for v in c.values()) == 11


def test_patients_in_dicom_files_and_pictures_that_are_there_twice_are_said(tmp_path):
    "Films numbered through: each number was a patient, and a second export a further film, without a word."
    for i in range(8):
        film = tmp_path / f"set/{'PNEUMONIA' if i % 2 else 'NORMAL'}/IM-{i:04}.dcm"
        film.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw_radiograph(i % 7, pneumonia=bool(i % 2), size=64)[0] if i else np.flip(draw_radiograph(9)[0], 1)
        film.write_bytes(dicom(pixels, PatientID=f"Secret-{i // 3}", StudyDate=f"2026010{i + 1}"))
    again = tmp_path / "set/PNEUMONIA/IM-0010.dcm"
    again.write_bytes(dicom(np.flip(draw_radiograph(9)[0], 1), PatientID="Secret-9"))
    info, rows = measured(tmp_path / "set", tmp_path / "out")
    assert info["patients_from"] == "names" and info["repeated"] == {"patients": 3, "pictures": 1, "both_labels": 1}
    text = info["conclusion"]["text"]
    assert "By the IDs in the DICOM files, 3 patients have films that count as different patients'" in text
    assert "1 picture is in several files of different bytes, 1 of them with both labels" in text
    assert not {"person", "look"} & set(rows) and "Secret" not in json.dumps(info)
    files = sorted((tmp_path / "set").rglob("*.dcm"))
    listed = [f"{f.relative_to(tmp_path / 'set').as_posix()},{f.parent.name},{i}" for i, f in enumerate(files)]
    info, _ = measured(table(tmp_path / "set", "file,label,patient", listed), tmp_path / "b")
    assert info["repeated"]["patients"] == 0  # whoever lists the patients knows them better


def test_films_of_equal_bytes_may_be_links_to_one_file(films):
    "DVC keeps them so (cache.type symlink): the second one was refused as the film of another line."
    (films / "a.png").symlink_to(next((films / "NORMAL").iterdir()))
    (films / "b.png").symlink_to((films / "a.png").resolve())
    found = labelled_films(table(films, "file,label", ["a.png,NORMAL", "b.png,PNEUMONIA"]))
    assert list(found.films.path) == ["a.png", "b.png"]


def test_calibration_does_not_depend_on_the_prevalence():
    "A perfectly calibrated model at 5 % prevalence: no error, and slope and shift of the same answers at 50 %."
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 40_000)
    y = (rng.random(len(p)) < p).astype(int)
    frame = pd.DataFrame({"y": y, "probability": p})
    rare = pd.concat([frame[frame.y == 0], frame[frame.y == 1][:1000]])
    for rows in (frame, rare):
        c = external.calibration_of(rows)
        assert c["ece"] < 0.02 and abs(c["shift"]) < 0.1 and abs(c["slope"] - 1) < 0.1
    assert rare.y.mean() < 0.06
    shifted = external.calibration_of(frame.assign(probability=external.at_prevalence(p, 0.2)))
    assert shifted["shift"] == pytest.approx(np.log(4), abs=0.1)


def test_a_training_says_which_films_its_initial_weights_know(tmp_path):
    "The public set in another layout: its films were recognised by `xraypneu external` alone."
    shutil.copytree(SHIPPED, tmp_path / "bundle")
    file = tmp_path / "bundle" / seen.TRAINING_FILMS
    rows = pd.DataFrame({"label": ["NORMAL", "PNEUMONIA"] * 10, "split": ["train"] * 12 + ["test"] * 8})
    rows = rows.assign(path=[f"all/{i}.png" for i in range(20)], sha256=[f"{i:02d}" * 32 for i in range(20)])
    names = "".join(seen.name_hash(c, f"train/{i}.jpeg") for i, c in enumerate(rows.label[:15]))
    content = json.loads(file.read_text()) | {"names": names, "files": rows.sha256[19][:12]}
    file.write_text(json.dumps(content))
    known = seen.known_films(load_bundle(tmp_path / "bundle"))
    sentence = seen.seen_sentence(seen.seen_counts(known, rows))
    assert "know 16 of 20 films (12 in train, 4 in test)" in sentence
    for broken in ("{", json.dumps(content | {"names": "a"}), json.dumps(content | {"data_hash": "0" * 64})):
        file.write_text(broken)
        assert seen.known_films(load_bundle(tmp_path / "bundle")) is None


def test_groups_need_twenty_films_of_a_class_and_small_ones_are_not_named(tmp_path):
    n = 90
    rows = pd.DataFrame({"y": [0, 1, 1] * (n // 3), "patient": [str(i) for i in range(n)]})
    rows["probability"] = np.where(rows.y == 1, 0.9, 0.2)
    rows["site"] = ["north"] * 84 + ["a hamlet"] * 3 + ["one man"] * 3
    north, rest = external.group_metrics(rows, ["site"], 0.5)
    assert (north["value"], north["films"], north["roc_auc"]["value"]) == ("north", 84, 1.0)
    assert (rest["value"], rest["groups"], rest["films"]) == (None, 2, 6) and "hamlet" not in json.dumps(rest)
    (only,) = external.group_metrics(rows[(rows.y == 1)].assign(site="north"), ["site"], 0.5)
    assert "sensitivity" in only and "specificity" not in only and "roc_auc" not in only


def test_what_differs_from_training_is_found():
    "Training films among themselves are 10 % outside; darkened ones nearly all are, in mean grey."
    training = external.stored_training_films(load_bundle())
    q = training.quantiles["NORMAL"]
    like = pd.DataFrame({k: np.interp(np.linspace(0, 1, 2001), np.linspace(0, 1, 101), v) for k, v in q.items()})
    rows = {r["statistic"]: r for r in external.differences(like.assign(label="NORMAL"), training)}
    assert all(abs(r["outside"] - 0.1) < 0.01 for k, r in rows.items() if k in ("mean", "contrast", "sharpness"))
    darker = external.differences(like.assign(label="NORMAL", mean=like["mean"] - 60), training)
    assert next(r for r in darker if r["statistic"] == "mean")["outside"] > 0.9
    assert "mean grey" in external._difference_sentence(darker)
    assert not external._difference_sentence(list(rows.values()))


# films that the model has seen


def describing(folder, films, **changes):
    "The shipped bundle with these films as its training films."
    bundle = Path(shutil.copytree(load_bundle().folder, folder))
    content = json.loads((bundle / seen.TRAINING_FILMS).read_text()) | changes
    content["files"] = "".join(sorted(f.sha256[:12] for f in films.itertuples()))
    content["names"] = "".join(sorted({seen.name_hash(f.label, f.path) for f in films.itertuples()}))
    (bundle / seen.TRAINING_FILMS).write_text(json.dumps(content))
    return bundle


def test_training_films_are_found_by_content_and_by_name(films, tmp_path):
    _, rows = measured(films, tmp_path / "a")
    bundle = describing(tmp_path / "bundle", rows[:3])
    second, third = (films / p for p in rows.path[1:3])
    second.rename(second.with_name("other.png"))  # by content
    Image.open(third).save(third.with_suffix(".jpeg"), quality=80)  # saved again: by class and name
    third.unlink()
    info, rows = measured(films, tmp_path / "b", bundle=bundle)
    assert info["training"] == {"file": 2, "name": 1}
    assert sorted(rows.training[rows.training != ""]) == ["file", "file", "name"]
    assert info["conclusion"]["text"].startswith("2 of the films are training or validation films")


def test_official_test_films_are_no_other_source(films, tmp_path, monkeypatch):
    "Before, 80 of them passed as films of another source: only training and validation films were recognised."
    listed = {h[:12] for h in pd.read_csv(ROOT / "results/chest_xray/test_files.csv").sha256}
    assert external.official_films() == listed
    info, rows = measured(films, tmp_path / "a")
    assert info["official_test"] == 0 and "official test films" not in info["conclusion"]["text"]
    monkeypatch.setattr(external, "official_films", lambda: frozenset(h[:12] for h in rows.sha256[:3]))
    info, _ = measured(films, tmp_path / "b")
    assert info["official_test"] == 3
    assert info["conclusion"]["text"].startswith("3 of the films are official test films of the public chest_xray set")


def test_films_of_the_initial_weights_are_training_films_too(tmp_path, monkeypatch):
    "A model that began with the shipped one was measured on that one's films, and none was said to be known."
    bundle = load_bundle(shutil.copytree(load_bundle().folder, tmp_path / "bundle"))
    content = json.loads((bundle.folder / seen.TRAINING_FILMS).read_text())
    began = {"data_hash": content["data_hash"], "files": "a" * 12, "names": "b" * 12}
    (bundle.folder / seen.TRAINING_FILMS).write_text(json.dumps(began))
    apart = external_run.training_of(bundle)  # without the project, which knows their statistics
    assert (apart.files, apart.names, apart.named) == ({"a" * 12}, {"b" * 12}, False)
    rows = pd.DataFrame({"label": ["NORMAL"], "sha256": "a" * 64, "path": "1.png", "code": "", "y": 0})
    assert list(external.marked(rows, apart).training) == ["file"] and external.differences(rows, apart) == []
    prepared = SimpleNamespace(info={"data_hash": content["data_hash"]})
    monkeypatch.setattr(external_run, "load_prepared", lambda folder: prepared)
    monkeypatch.setattr(external, "training_films", lambda prepared: content)
    found = external_run.training_of(bundle)
    assert found.files == {"a" * 12, *seen.hashes_of(content["files"])}
    assert found.names == {"b" * 12, *seen.hashes_of(content["names"])} and found.films == content["films"]
    assert found.named  # the project's own films by their names, too


def test_a_comparison_by_content_alone_is_no_comparison_by_name(films, tmp_path):
    "A training writes no names, and the report said that none was found 'by content or by class and name'."
    bundle = load_bundle(shutil.copytree(load_bundle().folder, tmp_path / "bundle"))
    own = {"data_hash": bundle.info["data"]["data_hash"], "files": "a" * 12, "names": "", "named": False}
    (bundle.folder / seen.TRAINING_FILMS).write_text(json.dumps(own))
    info, _ = measured(films, tmp_path / "out", bundle=bundle.folder)
    assert info["training"] == {"file": 0, "name": None}


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"data_hash": 3}'])
def test_a_damaged_description_of_the_training_films_is_none(tmp_path, text):
    bundle = Path(shutil.copytree(load_bundle().folder, tmp_path / "bundle"))
    whole = (bundle / seen.TRAINING_FILMS).read_text()
    (bundle / seen.TRAINING_FILMS).write_text(text or whole[:-100])
    assert external.stored_training_films(load_bundle(bundle)) is None
    (bundle / seen.TRAINING_FILMS).write_text(json.dumps(json.loads(whole) | {"data_hash": "0" * 64}))
    assert external.stored_training_films(load_bundle(bundle)) is None  # of other data


def test_without_a_description_nothing_is_claimed(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(external_run, "training_of", lambda bundle: None)
    info, _ = measured(drawn, tmp_path / "out")
    assert info["differences"] == [] and info["training"] is None
    assert info["conclusion"]["text"].endswith("Whether training films are among them is not known.")


def test_a_record_without_a_project_is_refused_before_the_films_are_scored(films, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XRAYPNEU_ROOT", raising=False)
    assert cli.main(["external", str(films), "--out", "out", "--record"]) == 2
    assert "Copy external.json there yourself" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_bundle_just_below_the_root_has_a_short_card():
    "As mounted into the documented container, /model: the page said that something went wrong on the server."
    bundle = replace(load_bundle(), folder=Path("/nowhere"))
    assert _card(bundle) == _short_card(bundle)


def test_the_shipped_training_films_are_those_of_the_shipped_model():
    bundle = load_bundle()
    content = json.loads((bundle.folder / seen.TRAINING_FILMS).read_text())
    counts = bundle.info["data"]["counts"]
    assert content["data_hash"] == bundle.info["data"]["data_hash"]
    training = external.stored_training_films(bundle)
    assert training.films == sum(c["images"] for c in counts["train"].values())
    assert len(training.files) == training.films + sum(c["images"] for c in counts["validation"].values())
    tested = pd.read_csv(ROOT / "results/chest_xray/test_files.csv")
    assert not {h[:12] for h in tested.sha256} & training.files  # no film of the test split


# the paragraph


EXPECTED = {"sensitivity": 0.97, "specificity": 0.95, "roc_auc": 0.99}
HIGH = {"sensitivity": 0.98, "specificity": 0.97, "roc_auc": 0.995}


@pytest.mark.parametrize(
    "high, few, code",
    [
        ({}, {}, "as_expected"),
        ({}, {"NORMAL": 3}, "too_few"),
        ({}, {"NORMAL": 1}, "too_few"),
        ({"specificity": 0.9}, {}, "operating_point"),
        ({"sensitivity": 0.5}, {"NORMAL": 3}, "operating_point"),  # lower is lower, however few
        ({"roc_auc": 0.9}, {}, "ranking"),
        ({"roc_auc": 0.9, "specificity": 0.9}, {}, "ranking"),
        # an AUC of .998 against 1 was called irreparable where a higher threshold gave all that was expected
        ({"roc_auc": 0.9, "specificity": 0.9, "within_reach": True}, {}, "operating_point"),
        (None, {}, "no_metrics"),
    ],
)
def test_the_conclusion_follows_from_the_intervals(high, few, code):
    high = {} if high is None else HIGH | high
    labels = {
        "within_reach": high.pop("within_reach", False),
        "few": few,
        "high": high,
        "low": {k: v - 0.1 for k, v in high.items()},
    }
    labels["values"] = {k: v - 0.05 for k, v in HIGH.items()}
    s = {"labels": labels, "expected": EXPECTED, "verdicts": {"NORMAL": {}, "PNEUMONIA": {}}, "differences": []}
    s |= {"calibration": dict.fromkeys(("slope", "shift"), np.nan), "training": {"file": 0, "name": 0}}
    found = external.conclusion(s)
    assert found["code"] == code and "{" not in found["text"] and "nan" not in found["text"]
    if code == "too_few":
        assert {3: "with 3 NORMAL patients that", 1: "with 1 NORMAL patient that"}[few["NORMAL"]] in found["text"]
    assert ("Another operating point would have to be chosen on other films" in found["text"]) == (
        code == "operating_point"
    )


@pytest.mark.parametrize(
    "slope, shift, words",
    [
        (1.0, 0.1, None),
        (np.nan, np.nan, None),
        (0.4, 0.0, "too extreme (calibration slope 0.40)"),
        (2.0, 0.0, "too cautious"),
        (1.0, -0.9, "too high (by 0.9"),
        (np.nan, 0.9, "too low"),
    ],
)
def test_the_sentence_on_calibration(slope, shift, words):
    measured = {"slope": slope, "shift": shift}
    text = external._calibration_sentence(measured, {})
    assert words in text if words else text == ""
    of_two = external._calibration_sentence(measured, {"NORMAL": 1, "PNEUMONIA": 1})  # it was as sure of two films
    assert ("with 1 NORMAL patient and 1 PNEUMONIA patient that says little" in of_two) == bool(words)


# sources


def test_a_csv_with_labels_of_other_names_groups_and_ages(films, tmp_path, monkeypatch):
    monkeypatch.setattr(labelled, "_MOST_VALUES", 8)
    rows = [r.replace("NORMAL,", "No finding,").replace("PNEUMONIA,", "pneumonia,") for r in rows_of(films)]
    rows = [f"{r},{'ab'[i % 2]},{i * 7}Y,{i}" for i, r in enumerate(rows)]
    rows[3] = rows[3].replace("/", "\\", 1)  # a path of Windows
    file = table(films, "URI,Label,Patient,Site,Age,Notes", rows)
    found = labelled_films(file, positive=["PNEUMONIA "], negative=["no finding"])
    assert (found.groups, found.patients_from, found.title) == (("site", "age"), "table", "set")
    assert set(found.films.age) == {"under 1", "6 to 17", "18 to 64", "65 or older"}
    assert found.films.y.sum() == 6 and found.remarks == ("Columns with more than 8 values are no groups: notes.",)
    info, rows = measured(file, tmp_path / "out", negative=["no finding"])
    assert info["groups_from"] == ["site", "age"] and "\\" in rows.path[3]
    assert info["films"]["excluded"]["unreadable"] == 0


def test_ages_that_are_none_are_counted(films):
    "Before, they were in no group without a word, and so was an age in words."
    ages = ["5 years", "18 months", "070Y", "", "000Y", "fifty"] * 2
    file = table(films, "file,label,patient,age", [f"{r},{age}" for r, age in zip(rows_of(films), ages, strict=True)])
    found = labelled_films(file)
    assert list(found.films.age)[:6] == ["1 to 5", "1 to 5", "65 or older", "", "", ""]
    (remark,) = found.remarks
    assert remark.startswith("4 of 10 entries of the column age are no age") and "fifty" not in remark


@pytest.mark.parametrize("on_disk, in_table", [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_csv_may_write_accents_in_another_way_than_the_disk(films, on_disk, in_table):
    "Films from a Mac and a table from Windows: each film with an umlaut counted as missing."
    film = sorted((films / "NORMAL").iterdir())[0]
    film = film.rename(film.with_name(unicodedata.normalize(on_disk, "Müller.png")))
    rows = [unicodedata.normalize(in_table, r).replace("/", "\\", 1) for r in rows_of(films)]
    found = labelled_films(table(films, "file,label,patient", rows))
    assert str(film) in set(found.films.file) and all(map(os.path.exists, found.films.file))


def test_films_are_known_by_name_whatever_writes_the_path(films, tmp_path):
    "A training film that was saved again, in a table from Windows, was not told from others."
    folder = films / "NORMAL"
    plain, accented = sorted(folder.iterdir())[:2]
    accented.rename(folder / unicodedata.normalize("NFD", "Müller-IM-0002.png"))
    trained = pd.DataFrame(
        {"label": "NORMAL", "path": [f"train/NORMAL/{plain.name}", "train/NORMAL/Müller-IM-0002.png"]}
    )
    bundle = describing(tmp_path / "bundle", trained.assign(sha256=["0" * 64, "1" * 64]))
    rows = [r.rpartition(",")[0].replace("/", "\\", 1) for r in rows_of(films)]
    file = table(films, "file,label", rows)
    info, rows = measured(file, tmp_path / "out", bundle=bundle)
    assert info["training"] == {"file": 0, "name": 2}
    assert set(rows.patient[rows.training == "name"]) == {"SYN0000", "IM-0002"} and info["patients_from"] == "names"


def test_a_name_that_is_a_uid_is_known_as_a_whole():
    "DICOM files are often named so, without an extension: all films of a device counted as one of training."
    films = pd.DataFrame({"label": "NORMAL", "path": ["a/1.2.840.7", "b/1.2.840.7.dcm", "a/1.2.840.8"], "sha256": ""})
    known = frozenset({seen.name_hash("NORMAL", "train/1.2.840.7")})
    training = external.TrainingFilms(frozenset(), known, films=1, size=(1, 1), quantiles={})
    assert training.seen(films).tolist() == ["name", "name", ""]


GOOD = "NORMAL/SYN0000-0.png"


@pytest.mark.parametrize(
    "head, row, code, words",
    [
        ("image,label", f"{GOOD},NORMAL", "bad_table", "no column file or uri or path"),
        ("file,finding", f"{GOOD},NORMAL", "bad_table", "no column label"),
        ("file,label", f"{GOOD},COVID", "bad_label", "line 3: the label is 'COVID'"),
        ("file,label", f"{GOOD},", "bad_label", "line 3: there is no label"),
        ("file,label", f"{GOOD},\x1b[31mX", "bad_label", "line 3: the label is '\ufffd[31mX'"),
        ("file,label", ",NORMAL", "bad_table", "line 3: no file"),
        ("file,label", "s3://x/y.png,NORMAL", "bad_table", "line 3: an address"),
        ("file,label", "NORMAL/SYN0001-2.png,NORMAL", "bad_table", "line 3 names the film of line 2 again"),
        ("file,label", "NORMAL/../NORMAL/SYN0001-2.png,NORMAL", "bad_table", "line 3 names the film of line 2 again"),
        ("file,label", f"{GOOD},NORMAL,more", "bad_table", "line 3: 3 cells under 2 columns"),
        ("file,label,file", f"{GOOD},NORMAL,x", "bad_table", "'file' more than once"),
        ("file,label,verdict,threshold,bundle", f"{GOOD},PNEUMONIA,x,x,x", "bad_table", "the model's own answer"),
        ("uri,label,verdict,probability,logit", f"{GOOD},PNEUMONIA,x,1,1", "bad_table", "the model's own answer"),
        ("file,label", "a\0b.png,NORMAL", "bad_table", "line 3: no file"),
        ("file,label", f"{GOOD},NORMAL", "one_class", "2 NORMAL and 0 PNEUMONIA"),
        ("file,label", '"' + GOOD, "bad_table", "can't be read as CSV"),
    ],
)
def test_a_csv_that_can_not_be_understood(films, tmp_path, head, row, code, words):
    cells = head.count(",")
    file = table(films, head, ["NORMAL/SYN0001-2.png,NORMAL" + ",x" * (cells - 1), row])
    with refusal(DataError, code, re.escape(words)) as e:
        measured(file, tmp_path / "out")
    assert str(file) in str(e.value) and not (tmp_path / "out").exists()


def test_more_csv_that_can_not_be_used(films, tmp_path):
    for content, code in ((b"", "bad_table"), (b"file,label\n", "empty"), (b"file,label\n\xff,NORMAL\n", "bad_table")):
        (films / "set.csv").write_bytes(content)
        with refusal(DataError, code):
            labelled_films(films / "set.csv")
    file = table(films, "file,label", ["nowhere.png,NORMAL", "there.png,PNEUMONIA"])
    with refusal(DataError, "missing", "Relative paths start at the folder of the table"):
        labelled_films(file)
    file = table(films, "file,label,patient", [f"{GOOD},NORMAL,", "PNEUMONIA/SYN0000-1.png,PNEUMONIA,p"])
    with pytest.raises(DataError, match="line 2: there is no patient"):
        labelled_films(file)
    file = table(films, "file,label", [f"{GOOD},NORMAL", "PNEUMONIA/SYN0000-1.png,"])
    # an empty name, as of a variable of the shell that is not set, gave films without a label one
    for options in ({"part": "test"}, {"positive": ["x"], "negative": ["X"]}, {"positive": [""]}):
        with refusal(DataError, "bad_setting"):
            labelled_films(file, **options)


def test_folders_that_can_not_be_used(films, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, code in ((tmp_path / "nowhere", "missing"), (films / GOOD, "file"), (tmp_path / "empty", "no_layout")):
        with refusal(DataError, code):
            measured(source, tmp_path / "out")
    with pytest.raises(DataError, match="labels of a CSV"):
        labelled_films(films, positive=["ill"])
    shutil.rmtree(films / "PNEUMONIA")
    with refusal(DataError, "missing_class"):
        measured(films, tmp_path / "out")
    (films / "PNEUMONIA").mkdir()
    with pytest.raises(DataError, match="is empty"):
        measured(films, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_of_a_folder_with_parts_the_test_part_is_used(drawn, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(drawn, tmp_path / f"set/{part}")
    next((tmp_path / "set/test/NORMAL").iterdir()).unlink()
    found = labelled_films(tmp_path / "set")
    assert (found.part, found.parts, len(found.films)) == ("test", ("test", "train"), 11)
    assert set(found.films.path.str.split("/").str[0]) == {"test"}
    assert [len(labelled_films(tmp_path / "set", p).films) for p in ("train", "all")] == [12, 23]
    for source, part in ((tmp_path / "set", "val"), (drawn, "test")):
        with refusal(DataError, "bad_setting", "has no part"):
            labelled_films(source, part)


def test_folders_that_may_be_patients_are_said(drawn, tmp_path):
    for i, film in enumerate(sorted(drawn.rglob("*.png"))):
        to = tmp_path / f"set/{film.parent.name}/person{i % 3}/IM-0001-{i}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, to)
    (remark,) = labelled_films(tmp_path / "set").remarks
    assert "give a CSV with a column patient" in remark


def test_patients_whose_films_are_numbered_anew_in_each_folder_are_said(drawn, tmp_path):
    "OsiriX names the film of each study IM-0001-0001: twelve people were one patient, without a word."
    rows = []
    for i, film in enumerate(sorted(drawn.rglob("*.png"))):
        (tmp_path / f"case{i}").mkdir()
        shutil.copy(film, tmp_path / f"case{i}/IM-0001-0001.png")
        rows.append(f"case{i}/IM-0001-0001.png,{film.parent.name}")
    cases = table(tmp_path, "file,label", rows)
    arguments = ["external", str(cases), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert cli.main(arguments, said := io.StringIO()) == 0
    assert "file names (1); some are in several folders and in both classes. If films are numbered" in said.getvalue()
    told = table(tmp_path, "file,label,patient", [f"{row},{i}" for i, row in enumerate(rows)])
    assert labelled_films(told).remarks == ()


def test_no_film_can_be_read(films, tmp_path):
    for film in films.rglob("*.png"):
        film.write_bytes(b"no picture")
    with refusal(EvaluationError, "unreadable", "none of the 12 films"):
        measured(films, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [films]


def test_a_failing_machine_stops_the_run(drawn, tmp_path, monkeypatch):
    "It must not become a film that is left out."
    refused = external_run.ImageError("the worker is gone", code="decoder")
    monkeypatch.setattr(external_run, "decode", Mock(side_effect=refused))
    with refusal(EvaluationError, "decoder", "scoring stopped at"):
        measured(drawn, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def from_the_fourth_film(monkeypatch, happens):
    "`happens(n)` before the nth film is read, n at least 4."
    seen, real = [], external_run.read_bytes

    def read(file):
        seen.append(file)
        if len(seen) >= 4:
            happens(len(seen))
        return real(file)

    monkeypatch.setattr(external_run, "read_bytes", read)


def test_a_drive_that_goes_away_stops_the_run(films, tmp_path, monkeypatch):
    "The rest of its films were rows, and the metrics those of what had been read before."
    from_the_fourth_film(monkeypatch, lambda n: n == 4 and films.rename(tmp_path / "elsewhere"))
    with refusal(EvaluationError, "changed", "was there when the run began, and is gone"):
        measured(films, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_ticket_that_expires_stops_the_run(films, tmp_path, monkeypatch):
    "On NFS with Kerberos, neither films nor folders can be opened then."

    def expired(n):
        monkeypatch.setattr(os, "scandir", Mock(side_effect=PermissionError(13, "denied")))
        raise external_run.ImageError("the file can't be opened (Permission denied)")

    from_the_fourth_film(monkeypatch, expired)
    with pytest.raises(EvaluationError, match="its folder can no longer be opened. Mount its disk or share again"):
        measured(films, tmp_path / "out")


def test_a_film_that_was_never_there_is_a_row(films, tmp_path):
    file = table(films, "file,label,patient", [*rows_of(films), "NORMAL/lost.png,NORMAL,lost"])
    info, rows = measured(file, tmp_path / "out")
    assert info["films"]["excluded"]["unreadable"] == 1 and list(rows.code[rows.code != ""]) == ["missing"]


def test_a_film_that_is_missing_in_a_folder_whose_name_is_not_utf8(films, tmp_path):
    "Its message names the folder: after the last film, the table could not be written."
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Klinik-K\xf6ln"))
    films.rename(folder)
    (folder / "NORMAL/SYN0099-1.png").symlink_to("nowhere.png")
    info, rows = measured(folder, tmp_path / "out", title=os.fsdecode(b"K\xf6ln"))  # an argument in Latin-1
    assert info["title"] == r"K\udcf6ln"
    assert info["films"]["excluded"]["unreadable"] == 1
    (message,) = rows.message[rows.code == "missing"]
    assert message.startswith("there is no such file.") and "Klinik-K\ufffdln" in message


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_a_number_of_workers_that_is_none(drawn, tmp_path, capfd, workers):
    arguments = ["external", str(drawn), "--out", str(tmp_path / "out"), "--workers", workers]
    assert cli.main(arguments, io.StringIO()) == 2
    assert capfd.readouterr().err == f"xraypneu: workers is {workers}. Give 1 or more.\n"
    assert not (tmp_path / "out").exists()


def test_ctrl_c_does_not_wait_for_a_share_that_hangs(monkeypatch):
    """Python would, at its end: before, for ever. That the threads are left: test_what_waits_is_cancelled.

    And it aborted one `xraypneu monitor` in six that stopped with an error: status 134, not 2."""
    ends = []
    monkeypatch.setattr(threading, "_register_atexit", ends.append)
    for command in ("external", "score", "monitor"):
        assert cli._left(130, SimpleNamespace(command=command), None) == 130
    assert len(ends) == 3


# results


def test_a_folder_belongs_to_one_set_and_one_model(drawn, films, tmp_path):
    out = tmp_path / "out"
    first, _ = measured(drawn, out)
    assert measured(drawn, out)[0] == first
    (out / ".DS_Store").write_bytes(b"")  # of a Mac's window of these results, which made the folder another's
    assert measured(drawn, out)[0] == first
    next((films / "NORMAL").iterdir()).unlink()
    for source, options in ((films, {}), (drawn, {"precision": "int8"})):
        with refusal(EvaluationError, "occupied", "another set or model.*--force"):
            measured(source, out, **options)
    assert measured(films, out, force=True)[0]["films"]["listed"] == 11
    (out / "external.json").write_text("{")
    with pytest.raises(EvaluationError, match="another set or model"):
        measured(films, out)
    (out / "thesis.docx").touch()
    with pytest.raises(EvaluationError, match="holds other files, such as thesis.docx"):
        measured(films, out, force=True)
    for place, code in ((films / "out", "occupied"), (films / GOOD, "occupied"), (drawn / GOOD, "file")):
        with refusal(EvaluationError, code):
            measured(films, place)


def test_a_folder_that_can_not_be_written(drawn, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        measured(drawn, tmp_path / "file/out")


def test_what_fails_midway_leaves_what_was_there(drawn, films, tmp_path, monkeypatch):
    out = tmp_path / "out"
    measured(drawn, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    monkeypatch.setattr(external_run, "write_csv", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        measured(films, out, force=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"hospital", "out"}


def test_a_report_that_fails_leaves_the_scoring(drawn, tmp_path, monkeypatch, capfd):
    "Before, the scores of hours were lost with it; and the command says where the numbers are."

    def fails(folder):
        assert folder == tmp_path / "out" and {p.name for p in folder.iterdir()} == MADE_HERE
        raise StageError("the report can't be written", "Ask why.", "failed")

    monkeypatch.setattr(external_run, "write_report", fails)
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    assert cli.main(["external", str(drawn), "--out", "out", "--workers", "1"], out) == 2
    assert "numbers out/external.json\n" in out.getvalue() and "report" not in out.getvalue()
    assert "the report can't be written" in capfd.readouterr().err
    assert {p.name for p in (tmp_path / "out").iterdir()} == MADE_HERE


def test_results_replace_neither_the_working_folder_nor_what_holds_the_films(films, tmp_path, monkeypatch):
    "Before, an empty working folder was replaced, and the shell stayed in one that was deleted."
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(OSError, match="The working folder can't be replaced"):
        measured(films, ".")
    monkeypatch.chdir(tmp_path)
    file = table(films, "file,label,patient", rows_of(films))
    for source, out in ((films, "."), (file, "hospital")):
        with refusal(EvaluationError, "occupied", "lies inside"):
            measured(source, out, force=True)
    assert {p.name for p in tmp_path.iterdir()} == {"hospital", "work"} and file.is_file()


def test_a_bundle_that_does_not_say_its_data(drawn, tmp_path):
    "`data` may be left out: before, a traceback at the end of `external`, in `info` and in the page's About."
    bundle = Path(shutil.copytree(load_bundle().folder, tmp_path / "bundle"))
    info = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({k: v for k, v in info.items() if k != "data"}))
    found, _ = measured(drawn, tmp_path / "out", bundle=bundle)
    assert found["bundle_synthetic"] is False and found["training"] is None
    out = io.StringIO()
    assert cli.main(["info", "--bundle", str(bundle)], out) == 0
    assert "data       unknown, hash unknown\n" in out.getvalue()
    assert "Trained on unknown data. " in _short_card(load_bundle(bundle))


def test_predictions_can_be_opened_in_a_spreadsheet_and_the_rest_names_no_film(films, tmp_path):
    film = sorted((films / "NORMAL").iterdir())[0]
    film.rename(films / "NORMAL/=cmd-Mueller.png")
    file = table(films, "file,label,patient", [f"NORMAL/{p.name},NORMAL,=p" for p in (films / "NORMAL").iterdir()])
    file.write_text(file.read_text() + "PNEUMONIA/SYN0000-1.png,PNEUMONIA,Mueller\n")
    info, rows = measured(file, tmp_path / "out")
    assert set(rows.patient) == {"'=p", "Mueller"}
    text = (tmp_path / "out/external.json").read_text()
    assert "Mueller" not in text and "SYN0000" not in text and str(tmp_path) not in text


def test_the_command(drawn, tmp_path, capfd):
    out, said = tmp_path / "out", io.StringIO()
    assert cli.main(["external", str(tmp_path / "nowhere"), "--out", str(out)], said) == 2
    assert "no data folder" in capfd.readouterr().err and said.getvalue() == "" and not out.exists()
    for wrong in (["external", str(drawn)], ["external", str(drawn), "--out", "x", "--part", "none"]):
        with pytest.raises(SystemExit):
            cli.main(wrong, said)


@pytest.mark.parametrize(
    "words",
    [
        ["external", "", "--out", "../out"],
        ["external", "films", "--out", "out", "--name", ""],
        ["fetch", "films.zip", "--sha256", "", "--to", "to"],
        ["score", "", "--out", "out"],
        ["monitor", "", "--out", "out"],
        ["remote", ""],
        ["new", ""],
    ],
)
def test_an_empty_argument_stands_for_no_folder_and_no_checksum(words, tmp_path, monkeypatch, capfd):
    'As of "$FILMS" without that variable: the films of the working folder were measured, an archive was not verified.'
    monkeypatch.chdir(tmp_path)
    assert cli.main(words, io.StringIO()) == 2
    assert re.search(r"the argument [\w-]+ is empty\. Give a value", capfd.readouterr().err)


# the model card


def test_a_recorded_set_is_in_the_card(drawn, tmp_path):
    from xraypneu.evaluation.card import card_text

    info, _ = measured(drawn, tmp_path / "out", title="Clinic | <b>B</b>")
    record = record_set(tmp_path / "out", tmp_path)
    assert record.parent == tmp_path / "results/external" and record_set(tmp_path / "out", tmp_path) == record
    bundle = load_bundle()
    m = json.loads((bundle.folder / "metrics.json").read_text())
    sets = recorded_sets(record.parent, bundle.hash)
    text = card_text(bundle.info, m, bundle.hash, sets)
    row = next(line for line in text.splitlines() if line.startswith("| Clinic"))
    assert "&lt;b&gt;" in row and f"{info['labels']['films']} ({info['labels']['patients']})" in row
    assert "| official test split | 624 (427) |" in text and info["conclusion"]["text"][:40] in text
    assert recorded_sets(record.parent, "0" * 64) == [] and recorded_sets(tmp_path / "none", bundle.hash) == []
    assert "None was recorded" in card_text(bundle.info, m, bundle.hash)
    record.write_text("{}")
    with refusal(XraypneuError, "damaged", "is no record of a set"):
        recorded_sets(record.parent, bundle.hash)


def test_a_set_that_is_recorded_after_the_evaluation_is_missed_in_the_card(drawn, tmp_path, monkeypatch):
    "DVC doesn't see records: `xraypneu run` ran nothing, and the card said that none was recorded."
    from xraypneu.evaluation.card import card_text
    from xraypneu.ops.stage import summary, unlisted_sets

    info, bundle = measured(drawn, tmp_path / "out", title="Clinic")[0], load_bundle()
    (tmp_path / "reports").mkdir()
    shutil.copy(bundle.folder / "metrics.json", tmp_path / "reports")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    m, card = json.loads((bundle.folder / "metrics.json").read_text()), tmp_path / "reports/model_card.md"
    assert unlisted_sets(tmp_path) == []
    card.write_text(card_text(bundle.info, m, bundle.hash))
    assert unlisted_sets(tmp_path) == [] and "Outdated" not in summary(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(external_run, "measure_set", lambda *args, **options: info)
    monkeypatch.setattr(external_run, "write_report", lambda folder: None)
    assert cli.main(["external", str(drawn), "--out", "out", "--record"], told := io.StringIO()) == 0
    (line,) = unlisted_sets(tmp_path)
    assert line.endswith("run `dvc repro --force --single-item evaluate`") and f"\n{line}\n" in told.getvalue()
    assert f"Outdated  {line}" in summary(tmp_path)
    m["test"]["roc_auc"] += 1e-7  # the evaluation knows more digits than its file
    card.write_text(card_text(bundle.info, m, bundle.hash, recorded_sets("results/external", bundle.hash)))
    assert unlisted_sets(tmp_path) == []
    (record,) = (tmp_path / "results/external").iterdir()
    record.write_text(record.read_text().replace('"Clinic"', '"Clinic B"'))
    assert unlisted_sets(tmp_path) == [line]
    record.write_text("{}")
    assert "is no record of a set" in unlisted_sets(tmp_path)[0]
    record.unlink()
    assert unlisted_sets(tmp_path) == [line]


def test_no_notebook_of_the_folder_of_films_is_run(tmp_path, monkeypatch):
    "Of a folder from elsewhere with a dvc.yaml and a nbs/pipeline/external.ipynb: the command ran it as its report."
    (tmp_path / "nbs/pipeline").mkdir(parents=True)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    for name in ("external", "monitor"):
        (tmp_path / f"nbs/pipeline/{name}.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert [report_notebook(n) for n in ("external", "monitor")] == [
        ROOT / "nbs/pipeline/external.ipynb",
        ROOT / "nbs/pipeline/monitor.ipynb",
    ]


def test_a_report_in_a_folder_whose_name_is_not_utf8(tmp_path):
    "A traceback, and of xraypneu monitor the status that says that a batch differs."
    with refusal(StageError, "bad_path", r"can't be made in .*/K\\xf6ln: this name is not UTF-8.*Rename"):
        run_report("external", tmp_path / os.fsdecode(b"K\xf6ln") / "external.ipynb")


def test_a_set_has_one_record_of_each_variant_whatever_its_name(drawn, tmp_path):
    "One took the place of the other, a set of two names had two rows, and no file could have a name of 80 characters."
    out = tmp_path / "out"
    measured(drawn, out)
    info = json.loads((out / "external.json").read_text())

    def recorded(title, precision="fp32"):
        changed = info | {"title": title, "model": info["model"] | {"precision": precision}}
        (out / "external.json").write_text(json.dumps(changed))
        return record_set(out, tmp_path)

    first, small = recorded("Clinic"), recorded("Clinic", "int8")
    (first.parent / "damaged.json").write_text("{")
    assert first != small and recorded("胸" * 80, "int8").is_file()
    named = recorded("Clinic A")
    assert {f.name[:8] for f in named.parent.glob("*.json")} == {"damaged.", "Clinic-A", "胸" * 8}


def test_a_record_is_not_replaced_by_that_of_another_set(drawn, films, tmp_path, monkeypatch):
    measured(drawn, tmp_path / "a")
    record = record_set(tmp_path / "a", tmp_path)
    before = record.read_bytes()
    next((films / "NORMAL").iterdir()).unlink()
    measured(films, tmp_path / "b")
    with refusal(EvaluationError, "occupied", "record of another set.*--name"):
        record_set(tmp_path / "b", tmp_path)
    assert record.read_bytes() == before
    assert record_set(tmp_path / "b", tmp_path, force=True).read_bytes() != before
    monkeypatch.chdir(tmp_path)
    with refusal(EvaluationError, "no_project"):
        record_set(tmp_path / "b")


# the report


def test_the_template_is_shipped_and_holds_no_policy():
    template = report_notebook("external")
    assert template == ROOT / "nbs/pipeline/external.ipynb"
    cells = [c for c in nbformat.read(template, as_version=4).cells if c.cell_type == "code"]
    assert [c.source for c in cells if "parameters" in c.metadata.get("tags", [])] and not any(c.outputs for c in cells)
    assert not any(re.search(r"^\s*(def|class) ", c.source, re.M) for c in cells)
    assert max(len(c.source.splitlines()) for c in cells) <= 40


def test_the_report_of_a_set(films, tmp_path, monkeypatch, capfd):
    "Executed where the results are, named for nobody, loading nothing; and the command says what it says."
    (films / "NORMAL/SYN0000-0.png").rename(films / "NORMAL/Mueller.png")
    monkeypatch.chdir(tmp_path)
    out, title = io.StringIO(), "Clinic {x} <script>B</script>"
    options = ["--name", title, "--out", "out {x}", "--workers", "1"]
    assert cli.main(["external", str(films), *options], out) == 0
    assert os.getcwd() == str(tmp_path)
    folder = tmp_path / "out {x}"
    assert {p.name for p in folder.iterdir()} == set(MADE) and len(list(tmp_path.iterdir())) == 2
    info = json.loads((folder / "external.json").read_text())
    assert info["conclusion"]["text"] in out.getvalue() and "scoring: 100%" in capfd.readouterr().err
    page, book = (folder / "external.html").read_text(), (folder / "external.ipynb").read_text()
    for text in (page, book):
        assert "Mueller" not in text and "SYN0001" not in text and str(tmp_path) not in text and "<script>B" not in text
    for part in (
        "Verdicts",
        "ROC curve",
        "Calibration",
        "Groups",
        "Limits",
        "shifted validation",
        info["model"]["hash"][:12],
    ):
        assert part in page, part
    assert info["conclusion"]["text"][:60] in plain(page)  # without the links of its terms
    assert "<script src" not in page and page.count("data:image/png") >= 4
    cells = nbformat.reads(book, as_version=4).cells
    assert all(c.execution_count for c in cells if c.cell_type == "code") and "papermill" not in book


@pytest.mark.parametrize("what", ["one answer", "nothing known", "separated"])
def test_the_report_of_odd_results(tmp_path, what):
    "All films of one class refused; a model without a description; classes that don't overlap."
    n, bundle = 8, load_bundle()
    y = np.arange(n) % 2
    rows = pd.DataFrame({"path": [f"{i}.png" for i in range(n)], "y": y, "patient": [str(i) for i in range(n)]})
    rows = rows.assign(label=np.where(y, "PNEUMONIA", "NORMAL"), code="", message="", sha256=[str(i) for i in range(n)])
    rows = rows.assign(probability=np.where(y, 0.9, 0.1), ood_score=0.1, width=10, height=10)
    rows["verdict"] = rows["predicted"] = rows.label
    rows[list(external.COMPARED)] = 100.0
    if what == "one answer":
        rows.loc[rows.y == 1, ["verdict", "probability"]] = ["NOT A CHEST X-RAY", None]
    training = None if what == "nothing known" else external.stored_training_films(bundle)
    rows = external.marked(rows, training)
    info = external.evaluate_set(rows, bundle, training, bootstrap=20)
    assert info["conclusion"]["code"] == ("no_metrics" if what == "one answer" else "too_few")
    said = {"title": "odd", "notice": "", "part": "", "parts": [], "patients_from": "films", "named": 0, "remarks": []}
    said |= {"list_sha256": "0", "bundle_synthetic": False, "version": "0", "git_commit": "unknown"}
    external_run.write_json(tmp_path / "external.json", info | said)
    external_run.write_csv(tmp_path / "predictions.csv", rows)
    page = external_run.write_report(tmp_path).with_suffix(".html").read_text()
    assert info["conclusion"]["text"][:40] in plain(page)


def test_kill_9_midway_leaves_nothing(drawn, tmp_path):
    "While results are written: all numbers are there, and the folder isn't."
    code = f"""
import sys, time
from xraypneu.serving import external_run
def wait(*args):
    print("here", flush=True)
    time.sleep(60)
external_run.write_csv = wait
external_run.measure_set({str(drawn)!r}, {str(tmp_path / "out")!r}, bootstrap=20, workers=1, report=None)
"""
    p = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "here\n"
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert not (tmp_path / "out").exists() and all(q.name.startswith(".out.new-") for q in tmp_path.iterdir())
    old = time.time() - 7200
    for q in [*tmp_path.rglob("*"), *tmp_path.iterdir()]:
        os.utime(q, (old, old))
    measured(drawn, tmp_path / "out")
    assert [q.name for q in tmp_path.iterdir()] == ["out"]  # the leftovers are gone
