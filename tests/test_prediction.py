"Verdicts, maps and words of one prediction, and the promises of a stream: small arrays, exact answers."

import base64
import copy
import dataclasses
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock

import matplotlib
import numpy as np
import pytest
from conftest import ROOT, refusal
from PIL import Image
from test_image import dicom

from xraypneu.cli import _Table
from xraypneu.data.decoder import decode
from xraypneu.data.image import ImageError, to_square
from xraypneu.data.sample import draw_radiograph
from xraypneu.data.statistics import STATISTICS, VERSION
from xraypneu.model.bundle import BundleError, load_bundle
from xraypneu.model.ood import NO_CHEST, OODDetector, read_detector
from xraypneu.model.verdict import (
    NORMAL,
    NOT_RADIOGRAPH,
    OUT_OF_SCOPE,
    PNEUMONIA,
    REFUSED,
    UNSURE,
    ood_scores,
    verdicts,
)
from xraypneu.serving import predict as module
from xraypneu.serving.predict import CAUTION, Prediction, Predictor, cividis
from xraypneu.serving.session import Film, shown_film
from xraypneu.serving.table import as_row, to_csv, to_html


def rules(threshold=0.4, low=None, high=None, detector=None):
    "A bundle as far as `verdicts` looks at it."
    own = {"conformal": {"low": low, "high": high, "coverage": 0.9}} if low is not None else {}
    return SimpleNamespace(threshold=threshold, variant=own, detector=detector)


@pytest.fixture(scope="module")
def film():
    return draw_radiograph(patient=4, pneumonia=True)[0]


def made(map=None, **kw):
    "A prediction by hand."
    given = dict(
        name="a.png",
        probability=0.25,
        label="NORMAL",
        verdict="NORMAL",
        reasons=("one", "two"),
        threshold=0.5,
        ood_score=0.5,
        map=np.zeros((7, 7), np.float32) if map is None else np.float32(map),
        bundle="b" * 64,
    )
    return Prediction(**{**given, **kw})


# verdicts


def test_the_operating_point_itself_is_pneumonia():
    p = [0.4, np.nextafter(0.4, 0), 0, 1]
    assert verdicts(rules(), p)[0].tolist() == [PNEUMONIA, NORMAL, NORMAL, PNEUMONIA]
    assert verdicts(rules(), p, threshold=0.9)[0].tolist() == [NORMAL, NORMAL, NORMAL, PNEUMONIA]
    assert verdicts(rules(), p, threshold=0)[0].tolist() == [PNEUMONIA] * 4


def test_limits_belong_to_what_is_possible():
    overlap = verdicts(rules(0.4, low=0.3, high=0.6), [0.3, np.nextafter(0.3, 0), 0.6, np.nextafter(0.6, 1)])[0]
    assert overlap.tolist() == [UNSURE, NORMAL, UNSURE, PNEUMONIA]
    gap = verdicts(rules(0.4, low=0.6, high=0.3), [0.3, np.nextafter(0.3, 1), 0.6, np.nextafter(0.6, 0)])[0]
    assert gap.tolist() == [NORMAL, UNSURE, PNEUMONIA, UNSURE]
    other = verdicts(rules(0.4, low=0.3, high=0.2), [0.1, 0.35, 0.5])[0]
    assert other.tolist() == [NORMAL, UNSURE, PNEUMONIA]  # only PNEUMONIA is possible, but the label is NORMAL


def test_features_beyond_the_limit_overrule():
    scores = np.array([[0.5, 0.5], [1, 0], [2, 2]])
    found, no_chest = np.array([0.5, 1.0, 2.0]), np.array([True, False, True])
    odd = rules(detector=SimpleNamespace(judged=lambda given: (found, no_chest) if given is scores else None))
    out, ood_score = verdicts(odd, [0.1, 0.9, 0.9], scores)
    assert out.tolist() == [NORMAL, OUT_OF_SCOPE, NOT_RADIOGRAPH] and ood_score.tolist() == [0.5, 1, 2]
    out, ood_score = verdicts(odd, [0.1, 0.9, 0.9])
    assert out.tolist() == [NORMAL, PNEUMONIA, PNEUMONIA] and np.isnan(ood_score).all()
    assert np.isnan(verdicts(rules(), [0.1], scores)[1]).all() and ood_scores(rules(), "f") is None
    with pytest.raises(ValueError, match="of shape .3, 1280., not .3, 2.: give those of `ood_scores`"):
        verdicts(odd, [0.1, 0.9, 0.9], np.zeros((3, 1280)))


def detector_of(no_chest=None):
    "A detector whose outlier score is the first log feature, and whose distance is far below its limit."
    weights = np.eye(1, 8, dtype=np.float32)[0]
    arrays = np.zeros((2, 8), np.float32), np.eye(1, 8, dtype=np.float32), np.ones(2, np.float32), weights
    return OODDetector(*arrays, np.float32([[0, 0], [99, 1]]), no_chest)


@pytest.mark.parametrize("stored, limit", [(None, NO_CHEST), (np.float32([1.5]), 1.5), (np.float32([1]), 1.0)])
def test_a_film_unlike_the_training_films_is_still_a_radiograph(stored, limit):
    "Films of adults were called NOT A CHEST X-RAY."
    outlier_scores = np.array([0.5, 0.99, 1.01, limit - 0.01, limit + 0.01, 9.0])
    features = np.zeros((6, 8), np.float32)
    features[:, 0] = np.expm1(outlier_scores)
    bundle = rules(detector=detector_of(stored))
    given = verdicts(bundle, [0.9] * 6, ood_scores(bundle, features))[0].tolist()
    kind = [PNEUMONIA if s < 1 else OUT_OF_SCOPE if s < limit else NOT_RADIOGRAPH for s in outlier_scores]
    assert given == kind and (limit == 1 or OUT_OF_SCOPE in given)
    far = features[:1] * 0 + np.float32([0, 0, 0, 0, 0, 0, 0, 1e9])  # a great distance alone makes nothing foreign
    odd = rules(detector=dataclasses.replace(detector_of(stored), scaling=np.float32([[0, 0], [1, 1]])))
    assert verdicts(odd, [0.9], ood_scores(odd, far))[0].tolist() == [OUT_OF_SCOPE]


# colours and words


def test_cividis_runs_from_blue_to_yellow():
    assert cividis([0.0, 1.0, -3.0, 4.0]).tolist() == [[0, 34, 78], [254, 232, 56]] * 2
    steps = cividis(np.linspace(0, 1, 52))
    assert steps.shape == (52, 3) and steps.dtype == np.uint8 and np.array_equal(steps, module._CIVIDIS)
    between = (steps[10].astype(float) + steps[11]) / 2
    assert np.abs(cividis([10.5 / 51])[0] - between).max() <= 0.5
    assert cividis(np.zeros((2, 3))).shape == (2, 3, 3)
    theirs = matplotlib.colormaps["cividis"](np.arange(0, 256, 5), bytes=True)[:, :3]
    assert np.abs(steps.astype(int) - theirs).max() <= 1  # theirs are cut off, not rounded
    assert (np.diff(steps.astype(int) @ [299, 587, 114]) > 0).all()  # ever lighter


@pytest.mark.parametrize(
    "y, x, words",
    [
        (0, 0, "upper left"),
        (1, 6, "upper right"),
        (6, 0, "lower left"),
        (5, 5, "lower right"),
        (0, 3, "upper"),
        (6, 3, "lower"),
        (3, 0, "left"),
        (3, 6, "right"),
        (3, 3, "in the middle"),
        (2, 2, "upper left"),
        (3, 4, "in the middle"),
        (5, 3, "lower"),
        (3, 5, "right"),
        (4, 4, "in the middle"),
    ],
)
def test_where_in_words(y, x, words):
    map = np.zeros((7, 7))
    map[y, x] = 1
    assert made(map).where == f"strongest {words}"


def test_plain_values():
    got = made(ood_score=float("nan")).to_dict()
    assert got == {
        "name": "a.png",
        "verdict": "NORMAL",
        "probability": 0.25,
        "label": "NORMAL",
        "threshold": 0.5,
        "ood_score": None,
        "reasons": ["one", "two"],
        "bundle": "b" * 64,
    }
    assert json.loads(json.dumps(made().to_dict()))["ood_score"] == 0.5


def test_what_is_no_radiograph_has_no_probability_to_show():
    "In a dictionary and in the text of a log, as in CSV and on the page; tables read the score from the attributes."
    got = made(verdict=NOT_RADIOGRAPH)
    assert (got.probability, got.label) == (0.25, "NORMAL")
    assert got.to_dict()["probability"] is got.to_dict()["label"] is None
    assert "0.25" not in repr(got) and "NORMAL" not in repr(got) and "probability=None" in repr(got)
    doubtful = made(verdict=OUT_OF_SCOPE)
    assert doubtful.to_dict()["probability"] == 0.25 and "label='NORMAL'" in repr(doubtful)


def test_a_prediction_is_itself_alone():
    one = made()
    assert one == one and one != made() and len({one, made()}) == 2
    assert "array" not in repr(made(pixels=np.zeros((2, 2), np.uint8)))  # neither map nor radiograph fills a log


def test_the_map_as_a_picture():
    map = np.array([[-10, 5], [0, 50]])
    picture = made(map).map_image((2, 2))
    want = cividis(np.array([[0, 0.75], [0.5, 1]]))
    assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), want)
    assert made(map).map_image((30, 20)).size == (30, 20)


def test_overlay_blends():
    pixels = np.full((20, 30), 100, np.uint8)
    p = made(np.full((2, 2), 10.0), pixels=pixels)
    yellow = cividis([1.0])[0]
    for opacity in (0, 0.25, 0.5, 1):
        want = np.rint(100 + opacity * (yellow.astype(float) - 100))
        got = np.asarray(p.overlay(opacity))
        assert got.shape == (20, 30, 3) and np.abs(got[9, 9] - want).max() <= 1
    assert np.array_equal(np.asarray(p.overlay()), np.asarray(p.overlay(0.5)))
    assert made(pixels=None).overlay(pixels=pixels).size == (30, 20)
    for wrong in (-0.1, 1.1, 2):
        with pytest.raises(ValueError, match="from 0 to 1"):
            p.overlay(wrong)
    with pytest.raises(ValueError, match="not kept"):
        made(pixels=None).overlay()


def test_html_shows_pictures_and_is_safe():
    page = made(name="<b>.png", reasons=("a & b",), pixels=np.full((300, 200), 7, np.uint8))._repr_html_()
    assert "<b>.png" not in page and "&lt;b&gt;.png" in page and "<li>a &amp; b</li>" in page
    assert "0.250" in page and "0.500" in page and "b" * 12 in page and "b" * 13 not in page
    sources = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert len(sources) == 2 and all(s.startswith("data:image/png;base64,") for s in sources)
    small = Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2])))
    assert small.size == (224, 224) and small.getextrema() == (7, 7)
    assert "<img" not in made()._repr_html_()


# one image


def test_names(predictor, film, tmp_path):
    Image.fromarray(film).save(tmp_path / "film.png")
    path = tmp_path / "film.png"
    got = [predictor.predict(image).name for image in (path, str(path), film, path.read_bytes())]
    assert got == ["film.png", "film.png", "ndarray", "bytes"]
    assert predictor.predict(film, name="mine").name == "mine"
    assert [r.name for r in predictor.predict_batch(os.scandir(tmp_path))] == ["film.png"]  # as a folder lists it


def test_shape_at_its_limits(predictor):
    def said(pixels):
        p = predictor.predict(pixels)
        assert (p.verdict == NOT_RADIOGRAPH) or not any("shape" in r for r in p.reasons)
        return any("shape" in r for r in p.reasons)

    noise = np.random.default_rng(0).integers(0, 256, (900, 900)).astype(np.uint8)
    gradient = np.add.outer(np.arange(900), np.arange(900)).astype(np.float32) / 1800 * 255
    film = ((gradient + noise) / 2).astype(np.uint8)
    assert not said(film[:, :300]) and not said(film[:300])  # three times as long is still allowed
    assert said(film[:, :299]) and said(film[:299])


def test_few_grey_levels_are_said(predictor, film):
    "Many normal films that are so dark or flat get PNEUMONIA: 20 of 61 at an eighth of their levels."
    faint = [(film / 4).astype(np.uint8), 255 - (255 - film) // 4, 100 + film // 4]
    for image in faint:
        image[:2, :5], image[-2:, :5] = 255, 0  # a marker is no part of the film
    for p in predictor.predict_batch(faint):
        assert [n for n in p.notes if "of 256 grey levels" in n] == list(p.notes) and p.notes[0] in p.reasons
    assert not any(p.notes for p in predictor.predict_batch([film, film // 2 + 60, np.zeros_like(film)]))


def labelled(image, value=255):
    "With a white box, as programs write a label into a picture: 2 % of it."
    image = image.copy()
    image[4 : 4 + len(image) // 10, 4 : 4 + image.shape[1] // 5] = value
    return image


def test_few_grey_levels_are_said_beside_labels_and_borders(predictor, film):
    "27 of 61 normal films of 12 bits in 16 with a white label get PNEUMONIA, as the label alone uses the range."
    sides = film // 8 + 110
    sides[:, : film.shape[1] // 10] = sides[:, -film.shape[1] // 10 :] = 0
    faint = [labelled(film // 4), labelled(sides), labelled(film.astype(np.uint16) * 16, 65_535)]
    for p in predictor.predict_batch(faint):
        assert any("besides black and white areas, the image uses only" in n for n in p.notes), p.notes
    borders = film.copy()
    borders[:, :20] = borders[:20] = 0
    for p in predictor.predict_batch([labelled(film), borders, np.where(film > 128, 255, 0).astype(np.uint8)]):
        assert not any("grey levels" in n for n in p.notes), p.notes


def test_thumbnails_are_said(predictor, film):
    "At 28 pixels, the side of a public copy of the training data, 8 of 40 normal films get PNEUMONIA."
    small = [to_square(film, side) for side in (28, 64, 111, 112)]
    notes = [p.notes for p in predictor.predict_batch([*small, small[3][:, :111]])]
    assert [len(n) for n in notes] == [1, 1, 1, 0, 1] and "28 x 28 pixels" in notes[0][0] and "111 x 112" in notes[4][0]


def test_label_and_reasons_follow_the_verdict(predictor, film):
    p = predictor.predict(film)
    b = predictor.bundle
    assert p.label == ("PNEUMONIA" if p.probability >= p.threshold else "NORMAL")
    assert p.bundle == b.hash and p.threshold == b.threshold and np.array_equal(p.pixels, film)
    assert p.probability == pytest.approx(b.probability([p.map.mean()])[0], abs=1e-3)
    assert (p.verdict in REFUSED) == (p.ood_score >= 1)


# streams


def test_stream_in_order_with_errors_in_their_places(predictor, film):
    other = film[:, ::-1].copy()
    images = [film, b"no picture", other, b"", film]
    for batch_size in (1, 2, 5, 32):
        got = list(predictor.predict_batch(images, batch_size=batch_size, errors="return"))
        assert [isinstance(g, ImageError) for g in got] == [False, True, False, True, False]
        assert [g.code for g in got[1::2]] == ["not_image", "empty"]
        assert got[0].probability == pytest.approx(got[4].probability, abs=1e-6)
        assert abs(got[0].probability - got[2].probability) > 1e-6 and got[0].pixels is None
    with pytest.raises(ImageError):
        list(predictor.predict_batch(images))
    assert list(predictor.predict_batch([b"", b""], errors="return"))[1].code == "empty"
    kept = next(predictor.predict_batch([film], keep_pixels=True))
    assert np.array_equal(kept.pixels, film)


@pytest.mark.parametrize(
    "kw", [{"errors": "ignore"}, {"batch_size": 0}, {"workers": 0}, {"batch_size": -1}, {"workers": -1}]
)
def test_stream_parameters(predictor, kw):
    ((name, value),) = kw.items()
    hint = "give 'raise' or 'return'" if name == "errors" else "give at least 1"
    with pytest.raises(ValueError, match=f"{name}.* {value!r}.*: {hint}"):
        list(predictor.predict_batch([], **kw))


def test_sources_of_the_bundle(predictor, tmp_path):
    assert Predictor(predictor.bundle).bundle is predictor.bundle
    assert Predictor(predictor.bundle.folder).bundle.hash == predictor.bundle.hash
    assert Predictor(str(predictor.bundle.folder), "int8").bundle.precision == "int8"
    assert Predictor(precision="int8").bundle.precision == "int8"


def test_a_precision_that_is_asked_for_is_used_with_a_loaded_bundle_too():
    "`Predictor(load_bundle(), 'int8')` used fp32, and took 'int9'."
    loaded = load_bundle(precision="int8")
    assert Predictor(load_bundle(), "int8").bundle.precision == "int8" and Predictor(loaded).bundle is loaded
    assert Predictor(loaded, "int8").bundle is loaded and Predictor().bundle.precision == "fp32"
    with pytest.raises(BundleError):
        Predictor(loaded, "int9")


@pytest.mark.parametrize("address", ["models:/xraypneu@champion", "runs:/0123456789abcdef"])
def test_an_mlflow_address_without_mlflow(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    with pytest.raises(BundleError) as e:
        Predictor(address)
    assert str(e.value) == f"{address} needs MLflow: pip install '.[pipeline]' in the clone, or 'FILE.whl[pipeline]'"


def test_an_mlflow_address_without_a_store(monkeypatch, tmp_path):
    pytest.importorskip("mlflow.exceptions")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"models:/a@b: no MLflow store is set here. Set MLFLOW_TRACKING_URI"):
        Predictor("models:/a@b")


def test_a_folder_may_be_called_like_an_address(monkeypatch, tmp_path, predictor):
    shutil.copytree(predictor.bundle.folder, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert Predictor("models").bundle.hash == predictor.bundle.hash
    with pytest.raises(BundleError):
        Predictor("nowhere")


# limits of one prediction


def changed(predictor, detector=None, **info):
    "The predictor with another decision: keys of bundle.json, or the detector."
    bundle = dataclasses.replace(predictor.bundle, info={**predictor.bundle.info, **info})
    return Predictor(dataclasses.replace(bundle, detector=detector) if detector else bundle)


def test_the_label_at_exactly_the_operating_point(predictor, film):
    p = predictor.predict(film).probability
    for threshold, label in ((p, PNEUMONIA), (np.nextafter(p, 0), PNEUMONIA), (np.nextafter(p, 1), NORMAL)):
        got = changed(predictor, threshold=float(threshold), conformal=None).predict(film)
        assert (got.label, got.verdict, got.threshold, got.probability) == (label, label, threshold, p)
        assert got.reasons == ()


class Judging(OODDetector):
    "The detector of a bundle, with the same scores for every image."

    def scaled(self, features, images=None):
        return np.array([self.given] * len(features))


def judging(predictor, distance=0.0, layout=0.0, **arrays):
    "A detector with these scores. The limits from which an image is no chest radiograph: 2 and 2.5."
    arrays = {"no_chest": np.float32([2.5])} | arrays
    known = vars(predictor.bundle.detector) | arrays
    detector = Judging(**{k: known[k] for k in OODDetector.__dataclass_fields__})
    object.__setattr__(detector, "given", (distance, layout))
    return detector


BY_DISTANCE, BY_LAYOUT = "feature distance (OUT OF SCOPE from 1.00, ", "layout score (OUT OF SCOPE from 1.00, "


@pytest.mark.parametrize(
    "distance, layout, verdict, said",
    [
        (0.0, 0.0, None, ""),
        (np.nextafter(1.0, 0), -3.0, None, ""),
        (1.0, 0.2, OUT_OF_SCOPE, f"1.00 by {BY_DISTANCE}NOT A CHEST X-RAY from 2.00)"),
        (0.2, 2.4, OUT_OF_SCOPE, f"2.40 by {BY_LAYOUT}NOT A CHEST X-RAY from 2.50)"),
        (1.2, 1.3, OUT_OF_SCOPE, f"1.30 by {BY_LAYOUT}NOT A CHEST X-RAY from 2.50) and 1.20 by feature distance"),
        (0.2, 3.26, NOT_RADIOGRAPH, "3.26 by layout score (NOT A CHEST X-RAY from 2.50)"),
        (2.0, 2.4, NOT_RADIOGRAPH, "2.00 by feature distance (NOT A CHEST X-RAY from 2.00) and 2.40 by layout score"),
    ],
)
def test_the_reason_names_the_score_that_led_to_this_verdict(predictor, film, distance, layout, verdict, said):
    "A photograph was 'refused from 1.00' beside an adult's film, OUT OF SCOPE at 1.36: from where on was either?"
    odd = changed(predictor, judging(predictor, distance, layout), conformal=None)
    got = odd.predict(film)
    assert got.ood_score == max(distance, layout) and got.verdict == (verdict or got.label)
    unlike = "the image is unlike the training images: dissimilarity " + said
    assert got.unlike.startswith(unlike if said else "") and bool(got.unlike) is bool(said)
    assert got.reasons[:1] == ((got.unlike,) if said else ())  # a second one says what differs
    assert got.at(0.99).reasons[:1] == got.reasons[:1] or not said


def test_a_detector_without_a_second_limit_of_the_distance_names_none(predictor, film):
    older = judging(predictor, 9.0, unit_length=None, hidden=None, output=None)
    got = changed(predictor, older).predict(film)
    assert (got.verdict, got.reasons[0].partition("dissimilarity ")[2]) == (
        OUT_OF_SCOPE,
        "9.00 by feature distance (OUT OF SCOPE from 1.00)",
    )


def test_what_is_out_of_scope_has_a_caution_wherever_it_has_a_number(predictor, film):
    "And a reason says what differs."
    odd = changed(predictor, judging(predictor, 1.26), conformal={"low": 0.3, "high": 0.6, "coverage": 0.9})
    got = odd.predict(to_square(film // 4, 64), name="adult.png")
    assert got.verdict == OUT_OF_SCOPE and got.at(0.99).verdict == got.at(0.01).verdict == OUT_OF_SCOPE
    e, number, row = got.explanation, f"{got.probability:.3f}", as_row("adult.png", got)
    first = e.rationale.partition(". ")[0]
    assert first.startswith("This film is unlike the training films") and "not measured on such films" in first
    assert "1.26" not in e.rationale and "pixels" not in e.rationale  # which the reasons say
    assert str(e.reasons).count("1.26") == 1
    assert e.reasons[1].startswith("what differs: ") and "only 64 x 64 pixels, only" in e.reasons[1]
    assert "of 256 grey" in e.reasons[1] and "less contrast than all of the training films" in e.reasons[1]
    assert got.at(0.99).reasons[1] == e.reasons[1]
    assert (e.caution, e.label, e.where) == (CAUTION, got.label, got.where) and "abstains" not in e.rationale
    page = got._repr_html_().replace(f"<p>{e.rationale}</p>", "")
    assert page.count(number) == page.count(f"{number} ({CAUTION})") == 1
    assert page.count(got.where) == page.count(f"{got.where} ({CAUTION})") == 2  # in words, and of the picture
    report = to_html([row | {"pictures": [("map", "data:image/png;base64,AA")]}])
    assert report.count(number) == report.count(f"<td>{number}<br>{CAUTION}</td>") == 1
    assert report.count(CAUTION) == 2 and f'AA"><br>{CAUTION}</td>' in report  # under the picture too
    assert f",{OUT_OF_SCOPE},{got.probability:.6f},{got.label}," in to_csv([row])
    _Table(out := io.StringIO(), 12).write(row)
    assert f"{number} ({CAUTION})\n" in out.getvalue()
    shown = shown_film(Film("u1", "adult.png", got))
    assert (shown["caution"], shown["probability"]) == (CAUTION, got.probability)
    assert f'"{CAUTION}"' in (ROOT / "xraypneu/app/dom.js").read_text()


def sharper_than_all(bundle):
    "The bundle as if all its training films were less sharp than any, and in all else like any film."
    inside = dict.fromkeys(STATISTICS, [float(v) for v in np.linspace(-999, 999, 101)])
    percentiles = inside | {"sharpness": [-9.0] * 101}
    scope = {"statistics": VERSION, "percentiles": percentiles}
    return dataclasses.replace(bundle, info=bundle.info | {"scope": scope})


def test_what_differs_is_the_same_wherever_a_film_is_out_of_scope(predictor, film, monkeypatch):
    "Adults' films were out of scope without a word on why, and with another model not even that."
    odd = judging(predictor, 1.3, 0.2)
    bundle = dataclasses.replace(sharper_than_all(predictor.bundle), detector=odd)
    got = Predictor(bundle).predict(film)
    said = "what differs: sharper than all of the training films"
    assert (got.verdict, got.reasons[1]) == (OUT_OF_SCOPE, said) and got.reasons.count(said) == 1
    row = as_row("a.png", got)
    _Table(out := io.StringIO(), 12).write(row)
    shown = shown_film(Film("u1", "a.png", got))["reasons"]
    for place in (to_csv([row]), to_html([row]), got._repr_html_(), "; ".join(shown), out.getvalue()):
        assert place.count(said) == 1
    inside = dataclasses.replace(bundle, detector=judging(predictor, 0.9))
    assert "differs" not in str(Predictor(inside).predict(film).explanation)  # alone it decides nothing
    other = dataclasses.replace(bundle, info=bundle.info | {"scope": bundle.info["scope"] | {"statistics": "0"}})
    assert Predictor(other).predict(film).reasons == got.reasons[:1]


def test_the_scores_of_the_detector_are_computed_once(predictor, film, monkeypatch):
    "They were computed again for each film out of scope, whose reasons name them."
    calls, raw = [], OODDetector.raw
    detector = dataclasses.replace(predictor.bundle.detector, scaling=np.float32([[-99, -99], [-3, 99]]))
    odd = Predictor(dataclasses.replace(predictor.bundle, detector=detector))
    monkeypatch.setattr(OODDetector, "raw", lambda self, f, images: calls.append(len(f)) or raw(self, f, images))
    got = list(odd.predict_batch([film, film[::-1].copy(), film]))
    assert [p.verdict for p in got] == [OUT_OF_SCOPE] * 3 and calls == [3]
    assert all("by feature distance (OUT OF SCOPE from 1.00" in p.reasons[0] for p in got)


def test_a_detector_of_layouts_sees_the_image_that_the_network_gets(predictor, film):
    "Features of a network that was made invariant let turned and inverted films pass."
    detector, side = predictor.bundle.detector, predictor.bundle.size
    hidden, output = np.zeros((401, 2), np.float32), np.float32([1, -1, 0])
    hidden[:200, 0] = hidden[200:400, 1] = 1 / 200  # the upper half against the lower
    scaling = np.float32([detector.scaling[0] * [1, 0], [detector.scaling[1][0] + 99, 0.1]])
    weights = detector.weights * 0
    layered = dataclasses.replace(detector, weights=weights, scaling=scaling, hidden=hidden, output=output)
    layered = read_detector(dataclasses.replace(layered, no_chest=np.float32([3])).to_bytes())
    half = np.zeros((side, side), np.uint8)
    half[: side // 2] = np.tile(np.arange(side, dtype=np.uint8), (side // 2, 1))
    odd = Predictor(dataclasses.replace(predictor.bundle, detector=layered))
    upper, lower = (odd.predict(a) for a in (half, half[::-1].copy()))
    assert (upper.verdict, lower.verdict in REFUSED) == (NOT_RADIOGRAPH, False)
    with pytest.raises(ValueError, match="pass them with their features"):
        ood_scores(odd.bundle, np.zeros((1, 1280), np.float32))


def test_the_header_decides_between_two_kinds_of_refusal_only(predictor, film):
    data = dicom(film, Modality="CT")
    for score, verdicts_ in ((0.2, (NORMAL, PNEUMONIA)), (1.26, (NOT_RADIOGRAPH,))):
        got = changed(predictor, judging(predictor, score), conformal=None).predict(data)
        assert got.verdict in verdicts_
    assert got.reasons[0].endswith("; NOT A CHEST X-RAY because of the file's header")
    assert "the file says that it is not a plain radiograph" in got.reasons
    plain = changed(predictor, judging(predictor, 1.26)).predict(dicom(film))
    assert plain.verdict == OUT_OF_SCOPE and "header" not in str(plain.reasons)


@pytest.mark.parametrize("score, foreign", [(0.2, False), (2.6, True)])
def test_nothing_else_has_a_caution(predictor, film, score, foreign):
    got = changed(predictor, judging(predictor, layout=score)).predict(film)
    assert got.explanation.caution == "" and CAUTION not in got._repr_html_() + to_html([as_row("a.png", got)])
    assert (got.explanation.probability is None) is (got.verdict == NOT_RADIOGRAPH) is foreign
    assert got.at(0.5).verdict == NOT_RADIOGRAPH or not foreign


def test_an_unsure_film_with_its_numbers(predictor, film):
    p = predictor.predict(film).probability
    for low, high, words in (
        (p, 1.0, "both classes meet"),
        (0.0, p, "both classes meet"),
        (p, p, "both classes meet"),
        (p + 0.01, p - 0.01, "neither class meets"),
    ):
        limits = {"low": low, "high": high, "coverage": 0.9}
        got = changed(predictor, judging(predictor), threshold=0.5, conformal=limits).predict(film)
        said = f"{words} the 90 % criterion: the probability {p:.3f} is too near the operating point 0.500"
        assert got.verdict == UNSURE and got.reasons == (said,)


def test_each_reason_against_a_picture_stands_first_and_once(predictor):
    strip = np.full((50, 250), 80, np.uint8)
    for pixels, size in ((strip, "250 x 50"), (strip.T, "50 x 250")):
        got = predictor.predict(pixels)
        assert got.verdict == NOT_RADIOGRAPH and got.reasons[:2] == (
            "the image is empty: it has almost no contrast",
            f"{size} pixels is not the shape of a radiograph",
        )
        assert len(set(got.reasons)) == len(got.reasons)


# read ahead


class Slow(Predictor):
    "Counts what is decoded; the network answers at once."

    def __init__(self, predictor, wait):
        super().__init__(predictor.bundle)
        self.wait, self.decoded, self.batches = wait, [], []

    def _read(self, image, name=None, keep_pixels=True):
        self.wait(image)
        self.decoded.append(image)
        return image, None, [], ()

    def _score(self, names, read, keep_pixels):
        self.batches.append(len(read))
        return iter([image for image, *_ in read])


def stream(predictor, n, wait=lambda image: None, **kw):
    "The slow predictor, its stream over `n` whole numbers, and those that were taken."
    slow, taken = Slow(predictor, wait), []
    return slow, slow.predict_batch((taken.append(i) or i for i in range(n)), **kw), taken


@pytest.mark.parametrize(
    "kw, batch, workers",
    [({}, 32, 2), ({"batch_size": 3, "workers": 4}, 3, 4), ({"batch_size": 1, "workers": 1}, 1, 1)],
)
def test_a_stream_reads_two_batches_ahead(predictor, kw, batch, workers):
    n = 5 * batch + 1
    slow, got, taken = stream(predictor, n, **kw)
    for i in range(n):
        assert next(got) == i
        assert len(taken) == min(n, (i // batch + 1) * batch + 2 * batch + workers)
    assert next(got, None) is None and slow.batches == [batch] * 5 + [1] and sorted(slow.decoded) == list(range(n))


def test_a_stream_that_is_left_decodes_no_more(predictor):
    go_on = threading.Event()
    slow, got, taken = stream(predictor, 1000, lambda i: i < 8 or go_on.wait(5), batch_size=8, workers=1)
    next(got)
    began = time.monotonic()
    got.close()
    assert time.monotonic() - began < 2.5  # it doesn't wait for the image that is being decoded
    go_on.set()
    time.sleep(0.2)  # enough for all 25
    assert len(taken) == 25 and 8 <= len(slow.decoded) <= 9


def test_an_error_amid_a_stream_comes_after_what_is_before_it(predictor, film):
    for batch_size in (1, 2, 32):  # at 32 the good ones were lost
        got = predictor.predict_batch([film, film, b"", film], batch_size=batch_size)
        assert next(got).name == next(got).name == "ndarray"
        with refusal(ImageError, "empty"):
            next(got)
        assert next(got, None) is None


# what needs no network, at its limits


def test_contrast_at_exactly_its_limit(predictor):
    side = predictor.bundle.size
    stripes = np.indices((side, side))[1] % 2
    for step, empty in ((8, False), (7, True)):  # a standard deviation of 4, the least that is not empty, and 3.5
        pixels = (100 + step * stripes).astype(np.uint8)
        assert pixels.std() == step / 2
        assert ("the image is empty: it has almost no contrast" in predictor.predict(pixels).reasons) is empty


def test_colour_close_to_its_limit(predictor):
    grey = np.tile(np.linspace(60, 190, 256), (256, 1))
    tints = [
        np.stack([grey + s * (np.arange(256) // 64 % 2), grey, grey], -1).astype(np.uint8)
        for s in np.arange(5, 60, 0.25)
    ]
    colours = [decode(t, predictor.bundle.size, None, with_colour=True).colour for t in tints]
    for low, high, refused in ((11, 12, False), (12, 13, True)):
        tint = next(t for t, c in zip(tints, colours, strict=True) if low < c < high)
        assert ("the image is coloured" in predictor.predict(tint).reasons) is refused


def test_without_known_features_nothing_is_strange(predictor, film):
    got = Predictor(dataclasses.replace(predictor.bundle, detector=None)).predict(film)
    assert np.isnan(got.ood_score) and got.to_dict()["ood_score"] is None and got.verdict not in REFUSED
    assert not any("features" in r for r in got.reasons)


def test_every_image_of_a_batch_has_its_own_answer(predictor, film, tmp_path):
    Image.fromarray(film).save(tmp_path / "film.png")
    images = [film, tmp_path / "film.png", film[::-1].copy(), film[:, ::-1].copy(), film[100:].copy()]
    for got, image in zip(predictor.predict_batch(images, batch_size=5, keep_pixels=True), images, strict=True):
        alone = predictor.predict(image)
        assert got.name == alone.name and np.array_equal(got.pixels, alone.pixels) and got.label == alone.label
        assert (got.probability, got.ood_score) == pytest.approx((alone.probability, alone.ood_score), abs=1e-4)
        assert np.abs(got.map - alone.map).max() < 1e-3 and (got.verdict, got.bundle) == (alone.verdict, alone.bundle)


def test_a_decoder_is_warmed_up_for_files_alone(predictor, film, monkeypatch, tmp_path):
    Image.fromarray(film).save(tmp_path / "film.png")
    warmed = []
    monkeypatch.setattr(module, "warm_up", lambda: warmed.append(1))
    predictor.predict(film)
    assert warmed == []
    for image in (tmp_path / "film.png", str(tmp_path / "film.png"), (tmp_path / "film.png").read_bytes()):
        predictor.predict(image)
    assert warmed == [1, 1, 1]


def test_the_map_of_a_large_picture_is_made_in_bands(monkeypatch):
    values = np.random.default_rng(0).normal(0, 5, (7, 7)).astype(np.float32)
    p = Prediction("a", 0.5, "NORMAL", "NORMAL", (), 0.5, 0.0, values, "hash")
    pixels = np.random.default_rng(1).integers(0, 256, (301, 203), dtype=np.uint8)
    whole_map, whole = np.asarray(p.map_image((203, 301)), int), np.asarray(p.overlay(pixels=pixels), int)
    monkeypatch.setattr("xraypneu.serving.predict._BAND", 2000)
    assert np.abs(np.asarray(p.map_image((203, 301)), int) - whole_map).max() <= 1
    assert np.abs(np.asarray(p.overlay(pixels=pixels), int) - whole).max() <= 1


# what changes while a batch is under way


@pytest.fixture(scope="module")
def several():
    return [draw_radiograph(patient=i, pneumonia=bool(i % 2), size=224)[0] for i in range(8)]


def same(got, several, predictor):
    "Are these the predictions of these films, in order?"
    wanted = [predictor.predict(a).probability for a in several]
    return [g.probability for g in got] == pytest.approx(wanted, abs=1e-5) and len(set(wanted)) == len(wanted)


def test_relative_names_mean_the_folder_in_which_they_were_given(predictor, several, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def films():
        for i, film in enumerate(several):
            (tmp_path / str(i)).mkdir()
            monkeypatch.chdir(tmp_path / str(i))
            Image.fromarray(film).save("film.png")
            yield "film.png"

    got = list(predictor.predict_batch(films(), batch_size=4))
    assert same(got, several, predictor) and {g.name for g in got} == {"film.png"}


@pytest.mark.parametrize("kind", [np.asarray, bytearray, memoryview, Image.fromarray])
def test_a_buffer_may_be_used_again_for_the_next_film(predictor, several, kind):
    def films():
        pixels, coded = np.empty_like(several[0]), bytearray(200_000)
        for film in several:
            pixels[:], file = film, io.BytesIO()
            Image.fromarray(film).save(file, "BMP")
            coded[: len(file.getvalue())] = file.getvalue()
            if kind in (bytearray, memoryview):
                yield coded if kind is bytearray else memoryview(coded)
            elif kind is Image.fromarray:
                with Image.fromarray(film) as image:  # closed, or another picture, at the next
                    yield image
            else:
                yield pixels

    assert same(list(predictor.predict_batch(films(), batch_size=4)), several, predictor)


def test_without_threads_a_batch_is_read_all_the_same(predictor, several, tmp_path, monkeypatch):
    for i, film in enumerate(several):
        Image.fromarray(film).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    got = list(predictor.predict_batch([str(tmp_path / f"{i}.png") for i in range(len(several))]))
    monkeypatch.undo()
    assert same(got, several, predictor)


LEFT = """
import sys, time
from xraypneu.serving import predict
predictor = predict.Predictor()
read, slow = predictor._read, []
def slowly(image, name, keep):
    time.sleep(0.7 if len(slow) > 7 else 0)
    slow.append(1)
    return read(image, name, keep)
predictor._read = slowly
batch = predictor.predict_batch([sys.argv[1]] * 100, batch_size=8)
next(batch)
print(time.time())
raise SystemExit(3)
"""


def test_the_end_of_the_program_does_not_wait_for_what_is_read_ahead(film, tmp_path):
    Image.fromarray(film).save(tmp_path / "a.png")
    argv = [sys.executable, "-c", LEFT, str(tmp_path / "a.png")]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 3, done.stderr
    assert time.time() - float(done.stdout) < 4  # 18 films more would take 6 s


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 1.1, float("inf")])
def test_a_threshold_that_is_none(threshold):
    with pytest.raises(ValueError, match="give a number from 0 to 1"):
        verdicts(rules(), [0.5], threshold=threshold)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_a_predictor_that_was_used_can_be_copied_and_sent(predictor, film, copied):
    wanted = predictor.predict(film).probability
    assert copied(predictor).predict(film).probability == wanted == predictor.predict(film).probability
