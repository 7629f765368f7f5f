"Verdicts, maps and words of one prediction, and the promises of a stream: small arrays, exact answers."

import base64
import dataclasses
import io
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from xraypneu import predict as module
from xraypneu.image import ImageError
from xraypneu.predict import NORMAL, PNEUMONIA, STRANGE, UNSURE, Prediction, Predictor, cividis, verdicts
from xraypneu.sample import draw_radiograph


def rules(threshold=.4, low=None, high=None, known=None):
    "A bundle as far as `verdicts` looks at it."
    own = {"conformal": {"low": low, "high": high, "coverage": .9}} if low is not None else {}
    return SimpleNamespace(threshold=threshold, own=own, known=known)


@pytest.fixture(scope="module")
def predictor():
    return Predictor()


@pytest.fixture(scope="module")
def film():
    return draw_radiograph(patient=4, pneumonia=True)[0]


def made(map=None, **kw):
    "A prediction by hand."
    given = dict(name="a.png", probability=.25, label="NORMAL", verdict="NORMAL", reasons=("one", "two"), threshold=.5,
                 strange=.5, map=np.zeros((7, 7), np.float32) if map is None else np.float32(map), bundle="b" * 64)
    return Prediction(**{**given, **kw})


# verdicts

def test_the_operating_point_itself_is_pneumonia():
    p = [.4, np.nextafter(.4, 0), 0, 1]
    assert verdicts(rules(), p)[0].tolist() == [PNEUMONIA, NORMAL, NORMAL, PNEUMONIA]
    assert verdicts(rules(), p, threshold=.9)[0].tolist() == [NORMAL, NORMAL, NORMAL, PNEUMONIA]
    assert verdicts(rules(), p, threshold=0)[0].tolist() == [PNEUMONIA] * 4


def test_limits_belong_to_what_is_possible():
    overlap = verdicts(rules(.4, low=.3, high=.6), [.3, np.nextafter(.3, 0), .6, np.nextafter(.6, 1)])[0]
    assert overlap.tolist() == [UNSURE, NORMAL, UNSURE, PNEUMONIA]
    gap = verdicts(rules(.4, low=.6, high=.3), [.3, np.nextafter(.3, 1), .6, np.nextafter(.6, 0)])[0]
    assert gap.tolist() == [NORMAL, UNSURE, PNEUMONIA, UNSURE]
    other = verdicts(rules(.4, low=.3, high=.2), [.1, .35, .5])[0]
    assert other.tolist() == [NORMAL, UNSURE, PNEUMONIA]  # only PNEUMONIA is possible, but not called


def test_features_beyond_the_limit_overrule():
    seen = []
    known = SimpleNamespace(score=lambda features: seen.append(features) or np.array([.5, 1., 2.]))
    out, strange = verdicts(rules(known=known), [.1, .9, .9], features="f")
    assert out.tolist() == [NORMAL, STRANGE, STRANGE] and strange.tolist() == [.5, 1, 2] and seen == ["f"]
    out, strange = verdicts(rules(known=known), [.1, .9, .9])
    assert out.tolist() == [NORMAL, PNEUMONIA, PNEUMONIA] and np.isnan(strange).all()
    assert np.isnan(verdicts(rules(), [.1], features="f")[1]).all()


# colours and words

def test_cividis_runs_from_blue_to_yellow():
    assert cividis([0., 1., -3., 4.]).tolist() == [[0, 34, 78], [254, 232, 56]] * 2
    steps = cividis(np.linspace(0, 1, 52))
    assert steps.shape == (52, 3) and steps.dtype == np.uint8 and np.array_equal(steps, module._CIVIDIS)
    between = (steps[10].astype(float) + steps[11]) / 2
    assert np.abs(cividis([10.5 / 51])[0] - between).max() <= .5
    assert cividis(np.zeros((2, 3))).shape == (2, 3, 3)
    assert (np.diff(steps.astype(int) @ [299, 587, 114]) > 0).all()  # ever lighter


@pytest.mark.parametrize("y, x, words", [
    (0, 0, "upper left"), (1, 6, "upper right"), (6, 0, "lower left"), (5, 5, "lower right"), (0, 3, "upper"),
    (6, 3, "lower"), (3, 0, "left"), (3, 6, "right"), (3, 3, "in the middle"), (2, 2, "upper left"), (3, 4, "in the middle"),
    (5, 3, "lower"), (3, 5, "right"), (4, 4, "in the middle")])
def test_where_in_words(y, x, words):
    map = np.zeros((7, 7))
    map[y, x] = 1
    assert made(map).where == f"strongest {words}"


def test_plain_values():
    got = made(strange=float("nan")).to_dict()
    assert got == {"name": "a.png", "verdict": "NORMAL", "probability": .25, "label": "NORMAL", "threshold": .5,
                   "strange": None, "reasons": ["one", "two"], "bundle": "b" * 64}
    assert json.loads(json.dumps(made().to_dict()))["strange"] == .5


def test_a_prediction_is_itself_alone():
    one = made()
    assert one == one and one != made() and len({one, made()}) == 2
    assert "array" not in repr(made(pixels=np.zeros((2, 2), np.uint8)))  # neither map nor radiograph fills a log


def test_the_map_as_a_picture():
    map = np.array([[-10, 5], [0, 50]])
    picture = made(map).map_image((2, 2))
    want = cividis(np.array([[0, .75], [.5, 1]]))
    assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), want)
    assert made(map).map_image((30, 20)).size == (30, 20)


def test_overlay_blends():
    pixels = np.full((20, 30), 100, np.uint8)
    p = made(np.full((2, 2), 10.), pixels=pixels)
    yellow = cividis([1.])[0]
    for opacity in (0, .25, .5, 1):
        want = np.rint(100 + opacity * (yellow.astype(float) - 100))
        got = np.asarray(p.overlay(opacity))
        assert got.shape == (20, 30, 3) and np.abs(got[9, 9] - want).max() <= 1
    assert np.array_equal(np.asarray(p.overlay()), np.asarray(p.overlay(.5)))
    assert made(pixels=None).overlay(pixels=pixels).size == (30, 20)
    for wrong in (-.1, 1.1, 2):
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
    got = [predictor.predict(path).name, predictor.predict(str(path)).name, predictor.predict(film).name,
           predictor.predict(path.read_bytes()).name, predictor.predict(film, name="mine").name]
    assert got == ["film.png", "film.png", "ndarray", "bytes", "mine"]


def test_contrast_and_shape_at_their_limits(predictor):
    def said(pixels):
        p = predictor.predict(pixels)
        assert (p.verdict == STRANGE) or not any("empty" in r or "shape" in r for r in p.reasons)
        return {word for word in ("empty", "shape") for r in p.reasons if word in r}

    checks = (np.indices((480, 480)).sum(0) // 40 % 2).astype(np.uint8)
    assert said(checks * 2 + 100) == {"empty"} and said(checks * 20 + 100) == set()
    noise = np.random.default_rng(0).integers(0, 256, (900, 900)).astype(np.uint8)
    gradient = np.add.outer(np.arange(900), np.arange(900)).astype(np.float32) / 1800 * 255
    film = ((gradient + noise) / 2).astype(np.uint8)
    assert said(film[:, :300]) == set() and said(film[:300]) == set()  # three times as long is still allowed
    assert said(film[:, :299]) == {"shape"} and said(film[:299]) == {"shape"}


def test_colour_is_refused_at_its_limit(predictor):
    grey = np.tile(np.linspace(60, 190, 256), (256, 1))
    tint = np.where(np.arange(256) // 64 % 2, 1, -1)
    for strength, refused in ((5, False), (30, True)):
        rgb = np.stack([grey + strength * tint, grey, grey], -1).astype(np.uint8)
        assert any("colour" in r for r in predictor.predict(rgb).reasons) is refused


def test_label_and_reasons_follow_the_verdict(predictor, film):
    p = predictor.predict(film)
    b = predictor.bundle
    assert p.label == ("PNEUMONIA" if p.probability >= p.threshold else "NORMAL")
    assert p.bundle == b.hash and p.threshold == b.threshold and np.array_equal(p.pixels, film)
    assert p.probability == pytest.approx(b.probability([p.map.mean()])[0], abs=1e-3)
    assert (p.verdict == STRANGE) == (p.strange >= 1)


def test_unsure_says_why(predictor, film):
    p = predictor.predict(film).probability
    for low, high, both in ((p - .01, p + .01, True), (p, p, True), (p + .01, p - .01, False)):
        info = {**predictor.bundle.info, "conformal": {"low": low, "high": high, "coverage": .9}}
        got = Predictor(dataclasses.replace(predictor.bundle, info=info)).predict(film)
        assert got.strange < 1 and got.verdict == UNSURE and "90%" in " ".join(got.reasons)
        assert ("both" in got.reasons[-1]) is both


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


@pytest.mark.parametrize("kw", [{"errors": "ignore"}, {"batch_size": 0}, {"workers": 0}, {"batch_size": -1}, {"workers": -1}])
def test_stream_parameters(predictor, kw):
    with pytest.raises(ValueError, match=next(iter(kw))):
        list(predictor.predict_batch([], **kw))


def test_a_stream_reads_a_bounded_number_ahead(predictor, film):
    taken = []
    def endless():
        while True:
            taken.append(len(taken))
            yield film
    stream = predictor.predict_batch(endless(), batch_size=3, workers=2)
    for i in range(1, 8):
        next(stream)
        assert len(taken) <= 3 * ((i + 2) // 3) + 2 * 3 + 2
    stream.close()
    for _ in range(100):
        if threading.active_count() < 20:
            break
        time.sleep(.02)
    assert threading.active_count() < 20


def test_sources_of_the_bundle(predictor, tmp_path):
    assert Predictor(predictor.bundle).bundle is predictor.bundle
    assert Predictor(predictor.bundle.folder).bundle.hash == predictor.bundle.hash
    assert Predictor(str(predictor.bundle.folder), "int8").bundle.precision == "int8"
    assert Predictor(precision="int8").bundle.precision == "int8"
