"""A visitor's session and the page's messages, without a browser and without a server; the page's own code, in node."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from test_image import dicom

from xraypneu.data.decoder import TAGS
from xraypneu.data.image import ImageError
from xraypneu.data.sample import draw_radiograph
from xraypneu.model.bundle import SHIPPED
from xraypneu.model.verdict import NORMAL, NOT_RADIOGRAPH, OUT_OF_SCOPE, PNEUMONIA, UNSURE, decided
from xraypneu.serving import dashboard, predict
from xraypneu.serving import session as state
from xraypneu.serving.predict import CAUTION, Prediction
from xraypneu.serving.session import Film, Session, shown_film
from xraypneu.serving.table import COLUMNS, csv_cells, to_csv

LIMITS = {"low": 0.338, "high": 0.553, "coverage": 0.9}


def prediction(probability=0.9, verdict=PNEUMONIA, **more):
    values = {"reasons": (), "limits": LIMITS, "notes": ("a note",)} | more
    return Prediction(
        "a.png",
        probability,
        PNEUMONIA,
        verdict,
        map=np.eye(7),
        bundle="b" * 64,
        threshold=0.314,
        ood_score=0.5,
        **values,
    )


REFUSED = prediction(
    0.979, NOT_RADIOGRAPH, reasons=("the image is coloured",), objections=("the image is coloured",), notes=()
)


@pytest.fixture
def session():
    s = Session(0.314)
    for id, p in (("u1", prediction(0.1)), ("u2", prediction(0.4)), ("u3", prediction(0.979)), ("u4", REFUSED)):
        s.keep(id, f"{id}.png", p)
    s.refuse("u5", "u5.png", ImageError("the file is empty"))
    return s


def test_a_move_decides_all_films_at_once_and_sends_only_those_that_changed(monkeypatch):
    "The decision for each film by itself, and two explanations of it, took most of the time of a move."
    page, sizes, sent = dashboard.Dashboard(), [], []
    for i in range(300):
        refused = {"verdict": OUT_OF_SCOPE if i % 2 else NOT_RADIOGRAPH} if i % 10 == 0 else {}
        page.session.keep(f"u{i}", f"{i}.png", prediction(i / 300, **refused))
    before = {id: (f.row()["verdict"], f.row()["reasons"], f.row()["label"]) for id, f in page.session.films.items()}
    monkeypatch.setattr(predict, "decided", lambda p, *more: sizes.append(len(p)) or decided(p, *more))
    monkeypatch.setattr(page, "send", lambda kind, buffers=None, **content: sent.append(content))
    page.move(0.7)
    after = {id: (f.row()["verdict"], f.row()["reasons"], f.row()["label"]) for id, f in page.session.films.items()}
    assert sizes == [300] and {f.prediction.threshold for f in page.session.films.values()} == {0.7}
    changed = [row["id"] for row in sent[0]["rows"]]
    assert changed == [id for id in before if before[id] != after[id]] and 100 < len(changed) < 200


def test_reasons_follow_the_operating_point(session):
    "They named the operating point of before, and a row that became UNSURE had none."
    reasons = {id: film.row().get("reasons") for id, film in session.films.items()}
    assert "0.314" in reasons["u2"][0] and reasons["u3"] == ["a note"]
    session.move(0.99)
    rows = {id: film.row() for id, film in session.films.items()}
    assert [rows[f"u{i}"].get("verdict") for i in range(1, 6)] == [NORMAL, UNSURE, UNSURE, NOT_RADIOGRAPH, None]
    for id in ("u2", "u3"):
        why, note = rows[id]["reasons"]
        assert "operating point 0.990" in why and "0.314" not in why and note == "a note"
        assert rows[id]["threshold"] == 0.99
    assert rows["u4"]["reasons"] == ["the image is coloured"]


def test_a_move_returns_what_changed(session):
    assert [f.id for f in session.move(0.32)] == ["u2"]  # its reason names the operating point
    assert [f.id for f in session.move(0.99)] == ["u2", "u3"]
    assert [f.id for f in session.move(session.default)] == ["u2", "u3"] and session.threshold == 0.314
    assert session.move(session.default) == []
    session.move(7.0)
    assert session.threshold == 0.99  # as far as the slider goes


def test_a_session_counts_and_forgets(session):
    session.keep("u7", "adult.png", prediction(0.9, OUT_OF_SCOPE))
    kinds = (NORMAL, UNSURE, PNEUMONIA, NOT_RADIOGRAPH, OUT_OF_SCOPE, "not read")
    assert session.counts() == dict.fromkeys(kinds, 1)
    session.open = "u1"
    session.begin("u6", "late.png", 100)
    session.clear()
    assert (session.films, session.uploads, session.open) == ({}, {}, None)


def test_what_was_refused_has_no_number_anywhere(session):
    "CSV and report printed the probability that the page hides."
    row, shown = session.films["u4"].row(), shown_film(session.films["u4"])
    assert row["probability"] is row["label"] is shown["probability"] is shown["where"] is None
    assert "0.979" not in str(row) + str(shown) + str(session.films["u4"].line())
    html = session.films["u4"].prediction._repr_html_()
    assert "0.979" not in html and "strongest" not in html and "coloured" in html


def test_every_face_shows_the_same_reasons(session):
    for film in session.films.values():
        if film.prediction:
            said = film.prediction.explanation
            assert film.row()["reasons"] == shown_film(film)["reasons"] == list(said.reasons)
            assert said.rationale in film.prediction._repr_html_() and said.rationale == shown_film(film)["rationale"]


def test_a_film_keeps_no_pixels():
    film = Session(0.314).keep("u1", "a.png", replace(prediction(), pixels=None), preview=b"jpeg", size=(3, 2))
    assert isinstance(film, Film) and film.prediction.pixels is None and film.size == (3, 2)


# --- the page's messages


@pytest.fixture
def board():
    board = dashboard.Dashboard()
    board.sent = []
    board.app.send = lambda content, buffers=None: board.sent.append((content, buffers))
    board.page = lambda **content: board._on_message(None, content, [])
    return board


def kinds(board):
    return [content["kind"] for content, _ in board.sent]


def test_pictures_go_for_the_film_that_is_opened_and_no_other(board):
    "A thousand dropped files sent a thousand previews."
    for _ in range(3):
        board.page(kind="sample", which="plain")
    assert kinds(board) == ["row"] * 3
    board.page(kind="open", id="p2")
    assert kinds(board)[3:] == ["show"] and len(board.sent[-1][1]) == 2


def test_a_new_view_gets_the_films_of_the_session(board):
    "In a notebook, a cell that was run again showed an empty page, and the report had the films of before."
    for which in ("plain", "opacity"):
        board.page(kind="sample", which=which)
    board.sent.clear()
    board.page(kind="hello")
    assert kinds(board) == ["operating", "rows"]
    assert [r["id"] for r in board.sent[1][0]["rows"]] == ["p1", "p2"]


def test_a_move_sends_what_changed_and_no_picture(board):
    "It sent all rows, and preview and map of the open film, which reset zoom and opacity."
    for which in ("plain", "opacity", "rotated"):
        board.page(kind="sample", which=which)
    board.page(kind="open", id="p2")
    board.sent.clear()
    board.page(kind="threshold", value=board.session.threshold + 1e-4)
    assert kinds(board) == ["moved"] and board.sent[0][0]["rows"] == []
    board.page(kind="threshold", value=0.99)
    said, buffers = board.sent[-1]
    assert said["kind"] == "moved" and not buffers and said["operating"]["threshold"] == 0.99
    assert all(set(r) == {"id", "verdict", "cells"} for r in said["rows"])
    assert "p3" not in [r["id"] for r in said["rows"]]
    assert said["shown"]["id"] == "p2" and said["shown"]["threshold"] == 0.99


def test_the_table_says_what_happens_to_the_films(board):
    "It had the labels' specificity, 71 % at 0.02, where films became UNSURE and none further PNEUMONIA."
    films = pd.read_csv(ROOT / "results/chest_xray/predictions.csv")
    limits = board.bundle.variant["conformal"]
    for point in (board.session.default, *np.round(np.arange(0.01, 1, 0.01), 2)):
        board.page(kind="threshold", value=float(point))
        said = board.sent[-1][0]["operating"]
        given = decided(films.probability.to_numpy(), said["threshold"], limits)
        for name in (NORMAL, PNEUMONIA):
            mine = given[films.label == name]
            assert said["counts"][name] == len(mine) and said["threshold"] == point
            assert sum(row[name]["value"] for row in said["shares"]) == pytest.approx(1)
            for row in said["shares"]:
                share = row[name]
                assert share["value"] == np.mean(mine == row["verdict"]), (point, name, row)
                assert 0 <= share["low"] <= share["value"] <= share["high"] <= 1 and share["low"] < share["high"]
        assert [row["verdict"] for row in said["shares"]] == [PNEUMONIA, NORMAL, UNSURE]


def test_the_table_of_a_bundle_without_test_films_is_of_verdicts_too(tmp_path):
    "The table is the bundle's own, on its shifted validation; without limits no film is UNSURE."
    folder = shutil.copytree(SHIPPED, tmp_path / "bundle")
    (folder / "test_predictions.json").unlink()
    board = dashboard.Dashboard(folder)
    table, limits = (board.bundle.info[k] for k in ("operating", "conformal"))
    board.move(0.02)
    said = board._point_metrics()
    rows = {row["verdict"]: row for row in said["shares"]}
    low, high = (np.interp(at, table["threshold"], table["sensitivity"]) for at in (0.02, limits["low"]))
    ill = [rows[v][PNEUMONIA]["value"] for v in (PNEUMONIA, NORMAL, UNSURE)]
    assert ill == pytest.approx([high, 1 - low, low - high])
    assert said["on"] == "shifted validation" and said["counts"] is None
    del board.bundle.info["conformal"]
    said = board._point_metrics()
    assert [row["verdict"] for row in said["shares"]] == [PNEUMONIA, NORMAL] and said["limits"] is None


@pytest.mark.parametrize("limits", [LIMITS, {"low": 0.553, "high": 0.338, "coverage": 0.9}])
def test_the_rationale_names_the_band_in_which_the_film_is_unsure(limits):
    "At 0.99 a film of 0.979 was UNSURE, and it said that the model abstains between 0.338 and 0.553."
    said = prediction(0.979, limits=limits).at(0.99).explanation
    assert said.verdict == UNSURE and "Between 0.338 and 0.990 the model abstains" in said.rationale
    assert "Between 0.338 and 0.553" in prediction(0.979, limits=limits).at(0.4).explanation.rationale


def test_what_a_lost_answer_said_is_said_again(board):
    "The line was cut amid a move: the table kept the verdict of before beside the new operating point."
    board.page(kind="sample", which="plain")
    film = board.session.films["p1"]
    film.prediction = replace(film.prediction, probability=0.02)
    board.page(kind="threshold", value=0.01)  # its answer is lost
    board.page(kind="threshold", value=0.01)
    assert board.sent[-1][0]["rows"] == []
    board.page(kind="verdicts")
    said = board.sent[-1][0]
    assert said["kind"] == "moved" and said["all"]
    assert [(r["id"], r["verdict"]) for r in said["rows"]] == [("p1", UNSURE)]


def test_a_film_whose_row_was_lost_is_kept_once(board):
    "The page said that it was not read, the server had it: chosen again it stood twice in CSV and report."
    board.page(kind="sample", which="plain")
    row = board.sent[-1][0]
    board.page(kind="refused", id="p1", name="a.png", why="the connection was interrupted")
    assert board.sent[-1][0] == row and board.session.films["p1"].prediction
    for i in range(10):  # what never arrived whole leaves room for others
        board.page(kind="begin", id=f"u{i}", name="a.png", size=100)
        board.page(kind="refused", id=f"u{i}", name="a.png", why="the connection was interrupted")
    assert not board.session.uploads and "interrupted" in board.sent[-1][0]["row"]["error"]


def cells(board, row):
    "The cells of a row that the page was sent, by column."
    return dict(zip(board.app.config["columns"], row["cells"], strict=True))


def test_csv_and_report_are_of_the_moved_operating_point_and_hide_what_means_nothing(board):
    for which in ("opacity", "rotated"):
        board.page(kind="sample", which=which)
    film = board.session.films["p1"]
    film.prediction = replace(film.prediction, probability=0.9)
    refused = cells(board, next(c["row"] for c, _ in reversed(board.sent) if c["kind"] == "row"))
    board.page(kind="threshold", value=0.99)
    unsure = cells(board, board.sent[-1][0]["rows"][0])
    assert "operating point 0.990" in unsure["reasons"] and unsure["threshold"] == "0.990000"
    assert refused["verdict"] == NOT_RADIOGRAPH and refused["probability"] == refused["label"] == ""
    board.page(kind="download")
    report = board.sent[-1][1][0].decode()
    # over the film, in its shape
    assert report.count("data:image/jpeg") == 3 and report.count("With activation map") == 1
    assert f"{board.session.films['p2'].prediction.probability:.3f}" not in report


def test_csv_and_report_count_the_files_that_a_full_session_did_not_keep(board, monkeypatch):
    "The page listed them as not read; the files that are passed on said nothing of them."
    monkeypatch.setattr(state, "MAX_FILES", 2)
    for _ in range(4):
        board.page(kind="sample", which="plain")
    board.page(kind="refused", id="u9", name="a.png", why="the file is empty")
    board.page(kind="refused", id="u9", name="a.png", why="the file is empty")  # its answer was lost
    sent = {c["row"]["id"]: cells(board, c["row"]) for c, _ in board.sent if c["kind"] == "row"}
    assert len(sent) == 5 and "already has 2 files" in sent["p3"]["error"]
    board.page(kind="download")
    report = board.sent[-1][1][0].decode()
    assert "3 not read" in report and "(3 more)" in report
    board.page(kind="clear")
    board.page(kind="download")
    assert b"more" not in board.sent[-1][1][0]


def test_long_names_that_differ_in_the_middle_stay_two(session):
    "Cut at 120 characters, they were one film in CSV and report."
    names = [f"/films/{'a' * 100}{i}{'b' * 100}.png" for i in range(2)]
    films = [session.keep(f"v{i}", n, prediction()) for i, n in enumerate(names)]
    films += [session.refuse(f"w{i}", n, ImageError("empty")) for i, n in enumerate(names)]
    assert all(len(f.name) == 120 for f in films)
    for one, two in (films[:2], films[2:]):
        assert one.row()["file"] != two.row()["file"] and one.line()["cells"][0] != two.line()["cells"][0]
        assert one.row()["file"] == names[0].removeprefix("/films/")
    assert session.keep("x", "a\u202e\n" + "c" * 5000, prediction()).row()["file"][:4] == "a\ufffd\ufffdc"


def test_what_is_no_chest_radiograph_has_no_map(board):
    board.page(kind="sample", which="rotated")
    board.page(kind="open", id="p1")
    shown, buffers = board.sent[-1]
    assert len(buffers) == 1 and shown["shown"]["where"] is None


def test_pieces_of_what_was_forgotten_are_answered(board):
    "The page waited for ever for the row of an upload that the server had forgotten."
    board.page(kind="begin", id="u1", name="a.png", size=100)
    board.page(kind="clear")
    board._on_message(None, {"kind": "chunk", "id": "u1", "at": 0}, [memoryview(b"abc")])
    assert board.sent[-1][0] == {"kind": "gone", "id": "u1"} and board.session.films == {}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of the file that this test writes
def test_of_a_dicom_file_only_what_names_nobody_is_shown(board):
    "Each attribute that is read, its value as it may be shown, and no other word of the file."
    assert state.FACTS == ("PatientAge", "Modality", "ViewPosition", "Rows", "Columns", "BurnedInAnnotation")
    assert set(state.FACTS) <= set(TAGS)
    pixels = draw_radiograph(12, pneumonia=True, seed=4, size=400)[0]
    named = dict(PatientBirthDate="19650101", InstitutionName="Secret Hospital", AccessionNumber="Secret1")
    named |= dict(ReferringPhysicianName="Secret^Doctor", StudyDescription="Secret", StationName="SECRET")
    facts = dict(PatientAge="061Y", Modality="DX", ViewPosition="PA", BurnedInAnnotation="YES")
    board.add("a.dcm", dicom(pixels, **facts, **named), "u1")
    board.add("b.dcm", dicom(pixels, PatientAge="Secr", Modality="SECRET", ViewPosition="SECRET", **named), "u2")
    for id in ("u1", "u2"):
        board.page(kind="open", id=id)
    shown = [content["shown"] for content, _ in board.sent if content["kind"] == "show"]
    assert {f["name"]: f["value"] for f in shown[0]["facts"]} == {
        "Age": "61 y, outside the training range",
        "Modality": "DX, digital radiography",
        "View": "PA",
        "Matrix": "400 × 400",
        "Burned-in text": "yes, it may name the patient",
    }
    assert [f["name"] for f in shown[1]["facts"]] == ["Matrix"]
    board.page(kind="download")
    assert "secret" not in (repr(board.sent) + repr(board.session.films)).lower() and "1965" not in repr(board.sent)
    assert b"outside the training range" in board.sent[-1][1][0]


def test_an_age_outside_the_training_range_is_a_caution_and_stays_one(board):
    pixels = draw_radiograph(12, pneumonia=True, seed=4, size=400)[0]
    for id, age in (("u1", "061Y"), ("u2", "004Y"), ("u3", None), ("u4", "000Y")):
        board.add(f"{id}.dcm", dicom(pixels, **({"PatientAge": age} if age else {})), id)
    board.page(kind="threshold", value=0.99)
    told = [r for f in board.session.films.values() for r in f.row()["reasons"] if "training range" in r]
    assert len(told) == 1 and told[0].startswith("adult, 61 y: outside the training range (children aged 1 to 5")


def test_the_shipped_model_in_another_folder_is_cautious_about_ages_too(tmp_path):
    "A release has it in an archive, signed; served from there, adults got no caution."
    folder = shutil.copytree(SHIPPED, tmp_path / "release")
    board = dashboard.Dashboard(folder)
    assert "of children aged 1 to 5" in board.app.config["subtitle"]
    board.add("a.dcm", dicom(draw_radiograph(12, seed=4, size=400)[0], PatientAge="061Y"), "u1")
    assert any("adult, 61 y: outside the training range" in r for r in board.session.films["u1"].row()["reasons"])
    info = json.loads((folder / "bundle.json").read_text())
    info["data"] |= {"data_hash": "0" * 64, "title": "Clinic"}
    (folder / "bundle.json").write_text(json.dumps(info))
    assert "data set Clinic" in dashboard.Dashboard(folder).app.config["subtitle"]


def test_a_model_whose_files_are_gone_is_served_until_there_is_another(tmp_path, monkeypatch):
    "Pages that opened during a training said for hours that there is no model: DVC deletes it before."
    folder = shutil.copytree(SHIPPED, tmp_path / "bundle")
    monkeypatch.setenv("XRAYPNEU_MODEL", str(folder))
    monkeypatch.setattr(dashboard, "_ready", None)
    dashboard.preload()
    loaded = dashboard._ready[0]
    (folder / "model.onnx").unlink()  # as a deletion begins
    assert dashboard.Dashboard().predictor is loaded
    shutil.rmtree(folder)
    board = dashboard.Dashboard()
    assert board.predictor is loaded and board.app.config["problem"] == ""
    assert board.app.config["subtitle"].endswith(f"this is model {loaded.bundle.hash[:8]}, which was loaded before.")
    board._about()
    monkeypatch.setenv("XRAYPNEU_SIGNER_KEY", str(tmp_path / "renewed.pub"))
    assert "no bundle in" in dashboard.Dashboard().app.config["problem"]  # there is no such key
    (tmp_path / "renewed.pub").write_text("another")
    assert "no bundle in" in dashboard.Dashboard().app.config["problem"]
    monkeypatch.delenv("XRAYPNEU_SIGNER_KEY")
    shutil.copytree(SHIPPED, folder)
    (folder / "bundle.json").write_text("{}")  # there is another one, which can't be used
    assert "was not written by xraypneu" in dashboard.Dashboard().app.config["problem"]
    monkeypatch.setenv("XRAYPNEU_MODEL", str(tmp_path / "other"))
    assert "no bundle in" in dashboard.Dashboard().app.config["problem"]


def test_the_card_of_another_bundle_is_not_shown(tmp_path):
    "A new model was copied over a published one, whose card, with its metrics, stood under About."
    folder = shutil.copytree(SHIPPED, tmp_path / "bundle")

    def about(board):
        board.app.send = lambda content, buffers=None: sent.append(content)
        sent = []
        board._about()
        return sent[-1]["html"]

    old = dashboard.Dashboard(folder)
    assert "Model card: NORMAL or PNEUMONIA" in about(old)
    info = json.loads((folder / "bundle.json").read_text()) | {"licence": "another"}
    (folder / "bundle.json").write_text(json.dumps(info))
    shown = about(dashboard.Dashboard(folder))
    assert "Model card: NORMAL or PNEUMONIA" not in shown
    assert f"is of another one, <code>{old.bundle.hash[:12]}" in shown
    (folder / "README.md").write_text("# Ours\n\nWritten by hand.\n")
    assert "Written by hand" in about(old)


def test_a_report_with_other_films_is_not_called_synthetic(board):
    "A visitor tried a sample first: the report of all films began with the notice that no patient is in it."
    board.page(kind="sample", which="plain")

    def notice():
        board.page(kind="download")
        return re.findall('<p class="notice">(.*?)</p>', b"".join(map(bytes, board.sent[-1][1])).decode())[1:]

    assert notice() == [dashboard.NOTICE]
    board.add("a.png", draw_radiograph(12, seed=4, size=400)[0], "u1")
    (said,) = notice()
    assert said.startswith("1 of 2 files, with names that begin with SYNTHETIC,")
    board.page(kind="remove", id="p1")
    assert notice() == []


def said_of(board):
    return [content for content, _ in board.sent if content["kind"] == "compared"][-1]


def test_labels_are_compared_with_the_verdicts_that_hold(board):
    "They stay in the session alone: a new view gets the comparison, and Delete all ends it."
    for which in ("plain", "opacity", "rotated", "plain", "opacity"):
        board.page(kind="sample", which=which)
    for id, name in (("p4", "twice.png"), ("p5", "twice.png")):
        board.session.films[id].file = name
    table = (
        "file,label\nx/SYNTHETIC No opacity,0\nSYNTHETIC Opacity,1\nSYNTHETIC Rotated 90°,1\ntwice.png,1\nother.png,0"
    )

    def give(table):
        board._on_message(None, {"kind": "truth"}, [memoryview(table)])

    give(table.encode())
    assert said_of(board)["of"] == "truth" and said_of(board)["problem"] == ""
    found = said_of(board)["found"]
    assert [found[k] for k in ("films", "unlabelled", "twice", "unmatched")] == [3, 0, 2, 1]
    assert found["labels"] == {"p1": NORMAL, "p2": PNEUMONIA, "p3": PNEUMONIA}
    assert found["matrix"][PNEUMONIA][PNEUMONIA] == found["matrix"][PNEUMONIA][NOT_RADIOGRAPH] == 1
    assert [(r["hit"], r["of"]) for r in found["rates"]] == [(1, 1), (1, 1), (1, 2), (0, 1)]
    board.page(kind="download")
    report = b"".join(bytes(b) for _, buffers in board.sent for b in buffers or ()).decode(errors="ignore")
    assert report.count("<i>Label: PNEUMONIA</i>") == 2 and "<p>sensitivity (recall): 1 of 1, 100.0 %" in report
    assert "<p>3 films with a label; 2 left out, as others have the same name; 1 label for no film" in report
    assert "each film counted as one patient: several films of one patient make them too narrow" in report
    film = board.session.films["p2"]
    film.prediction = replace(film.prediction, probability=0.9)
    board.page(kind="threshold", value=0.99)
    board.page(kind="compare")
    assert said_of(board)["found"]["matrix"][PNEUMONIA][UNSURE] == 1
    assert "was moved" in said_of(board)["found"]["caveat"] and "was moved" not in found["caveat"]
    give(to_csv(film.row() for film in board.session.films.values()).encode())  # compared with itself, it is right
    assert "is one of predictions" in said_of(board)["problem"]
    give(b"file,label\na,ill")  # leaves the former table
    assert "line 2: the label 'ill' is unknown. Write" in said_of(board)["problem"]
    board.sent.clear()
    board.page(kind="hello")
    assert kinds(board) == ["operating", "rows", "compared"] and said_of(board)["found"]["films"] == 3
    board.page(kind="clear")
    board.page(kind="compare")
    assert said_of(board)["found"] is None
    for bad in (b"\xff", b"x" * 400_002):
        give(bad)
        assert "does not understand" in board.sent[-1][0]["message"]


def test_labels_are_for_results_of_an_earlier_page_too(board):
    "Before, these rows got none, and a table for them alone matched 'no film here'. No rate counts them."
    board.page(kind="sample", which="plain")
    names = ["a.png", "x/twice.png", "y/twice.png", "SYNTHETIC No opacity", "none.png"]
    board._on_message(None, {"kind": "kept"}, [memoryview("\n".join(names).encode())])
    table = b"file,label\na.png,1\ntwice.png,1\nSYNTHETIC No opacity,0\nother.png,0"
    board._on_message(None, {"kind": "truth"}, [memoryview(table)])
    found = said_of(board)["found"]
    assert found["labels"] == {"p1": NORMAL, "kept-0": PNEUMONIA, "kept-3": NORMAL}
    assert (found["films"], found["unmatched"]) == (1, 1)
    assert "2 labels for results of an earlier page, in no rate." in found["cover"]
    board.page(kind="clear")
    assert board.session.kept == []


@pytest.mark.parametrize("name", ["a\\b.png", "10.30\u202fAM\xa0x.png", "a\nb.png"])
def test_a_label_finds_its_film_whatever_is_in_the_name(board, name):
    "On Linux a backslash may be in a name, and macOS writes spaces that don't break into those of screenshots."
    board.page(kind="sample", which="plain")
    board.session.films["p1"].file = name
    board._on_message(None, {"kind": "truth"}, [memoryview(f'file,label\n"films/{name}",0'.encode())])
    assert said_of(board)["found"]["labels"] == {"p1": NORMAL}


# --- the page's own code


NODE = shutil.which("node")


@pytest.mark.skipif(not NODE and not os.environ.get("CI"), reason="no node here: install Debian's package npm")
def test_the_modules_of_the_page():
    assert NODE, "CI needs node: .ci/programs installs it"
    tests = sorted(map(str, (ROOT / "tests/js").glob("*.test.mjs")))
    done = subprocess.run([NODE, "--test", *tests], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and len(tests) > 3, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.skipif(not NODE and not os.environ.get("CI"), reason="no node here: install Debian's package npm")
def test_the_page_saves_the_csv_that_the_library_writes(session):
    "But for the byte order mark; with umlauts, quotes, line ends and formulas, at another operating point."
    for i, name in enumerate(('Müller, "A".png', "=cmd|' /C calc'!A0", "a\nb", "@x;=1", "")):
        session.keep(f"v{i}", name, prediction(0.4))
        session.refuse(f"w{i}", name, ImageError("empty"))
    lines = {id: film.line() for id, film in session.films.items()}
    changed = {film.id: film.line()["cells"] for film in session.move(0.42)}
    rows = [
        line | {"cells": changed.get(id, line["cells"])} | ({} if "error" in line else {"threshold": 0.42})
        for id, line in lines.items()
    ]
    module = (ROOT / "xraypneu/app/csv.js").as_uri()
    code = (
        f"import {{ csvOf }} from {json.dumps(module)}; process.stdout.write(csvOf(...{json.dumps([COLUMNS, rows])}));"
    )
    done = subprocess.run([NODE, "--input-type=module", "-e", code], capture_output=True, check=True, timeout=60)
    header, *lines = to_csv(film.row() for film in session.films.values()).split("\n")
    nothing = "".join(f"{line},,,\n" for line in lines[:-1])  # no reader said anything; no name has a line end here
    assert done.stdout.decode() == f"\ufeff{header},reader_verdict,reader_comment,truth\n{nothing}"


HOSTILE = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\nx",
    "a;=HYPERLINK(1); @x;b",
    "a\r=1",
    'said "so", twice',
    "\ufeff=1",
)


@pytest.mark.skipif(not NODE and not os.environ.get("CI"), reason="no node here: install Debian's package npm")
def test_a_comment_is_made_safe_as_the_library_makes_cells_safe():
    module = (ROOT / "xraypneu/app/csv.js").as_uri()
    code = f"import {{ safe }} from {json.dumps(module)}; console.log(JSON.stringify({json.dumps(HOSTILE)}.map(safe)));"
    done = subprocess.run([NODE, "--input-type=module", "-e", code], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [csv_cells({"file": text})[0] for text in HOSTILE]


def test_what_the_reader_says_stays_with_the_film_in_every_view_and_in_the_report(board):
    "Its row, which a new view gets, has it; a move keeps it; markup in it is text; a deleted film has no use for it."
    for which in ("plain", "opacity"):
        board.page(kind="sample", which=which)
    board.page(kind="reader", id="p2", verdict="UNSURE", comment="<b>old</b> scar?", view=7)
    own = {"verdict": "UNSURE", "comment": "<b>old</b> scar?"}
    assert board.sent[-1][0] == {"kind": "noted", "id": "p2", "view": 7, "own": own}  # to all views
    board.page(kind="threshold", value=0.99)
    board.page(kind="hello")
    plain, opacity = board.sent[-1][0]["rows"]
    assert opacity["reader"] == {"verdict": "UNSURE", "comment": "<b>old</b> scar?"} and "reader" not in plain
    board.page(kind="download")
    report = board.sent[-1][1][0].decode()
    assert "Reader: UNSURE: &lt;b&gt;old&lt;/b&gt; scar?" in report and report.count("Reader:") == 1
    board.page(kind="reader", id="p2", verdict="", comment="", view=7)
    assert "reader" not in board.session.films["p2"].line()
    board.page(kind="clear")
    board.page(kind="reader", id="p2", verdict="NORMAL", comment="", view=7)
    assert board.sent[-1][0]["kind"] == "noted" and board.session.films == {}
    for bad in ("OUT OF SCOPE", None, 1):
        board.page(kind="reader", id="p2", verdict=bad, comment="", view=7)
        assert "does not understand" in board.sent[-1][0]["message"]


def test_the_report_of_a_film_out_of_scope_has_a_caution_beside_number_and_map(board):
    board.page(kind="sample", which="opacity")
    film = board.session.films["p1"]
    film.prediction = replace(film.prediction, verdict=OUT_OF_SCOPE, ood_score=1.2)
    board.page(kind="film_report", id="p1")
    report = b"".join(bytes(b) for b in board.sent[-1][1]).decode()
    number = f"{film.prediction.probability:.3f} ({CAUTION})</dd>"
    assert number in report and re.search(rf"<figcaption>With activation map, [\w ]+ \({CAUTION}\);", report)


def test_the_scale_of_a_film_has_the_range_in_which_films_are_unsure(board):
    "0.4, which is UNSURE, lay in the stripes of PNEUMONIA."
    board.page(kind="sample", which="opacity")
    limits = board.bundle.variant["conformal"]
    board.page(kind="threshold", value=0.02)
    assert shown_film(board.session.films["p1"])["band"] == (0.02, max(limits["low"], limits["high"]))


@pytest.mark.parametrize("asked", [{"kind": "download"}, {"kind": "film_report", "id": "p1"}])
def test_reports_say_that_the_operating_point_was_moved(board, asked):
    "A film's sheet at a point that a visitor chose read as the model's own answer."

    def report():
        board.page(**asked)
        return b"".join(bytes(b) for b in board.sent[-1][1]).decode()

    board.page(kind="sample", which="opacity")
    assert "was moved" not in report()
    board.page(kind="threshold", value=0.7)
    own = f"{board.session.default:.3f}"
    assert f"The operating point was moved to 0.700; the model&#x27;s own is {own}.</p>" in report()
    board.page(kind="default")
    assert "was moved" not in report()


@pytest.mark.skipif(not NODE and not os.environ.get("CI"), reason="no node here: install Debian's package npm")
def test_the_modules_join_to_one(tmp_path):
    "A name that two modules define would be an error in the browser alone."
    (tmp_path / "page.mjs").write_text(dashboard.App._esm)
    subprocess.run([NODE, "--check", tmp_path / "page.mjs"], check=True, timeout=60)
    modules = {p.stem for p in (ROOT / "xraypneu/app").glob("*.js")} - {"webpage"}  # of reports and documentation
    firsts = [(ROOT / f"xraypneu/app/{m}.js").read_text().splitlines()[0] for m in modules]
    assert all(first.startswith("//") and dashboard.App._esm.count(first + "\n") == 1 for first in firsts)
    assert "\nimport " not in dashboard.App._esm
