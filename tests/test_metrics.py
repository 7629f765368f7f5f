"Figures, intervals, operating points and their pictures: known answers, slow plain versions, and awkward input."
import ast
import json
import math
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as skm

from xraypneu import metrics, plots

ROOT = Path(__file__).parent.parent
NOTICE = "SYNTHETIC: computer-generated images, no patient, no diagnostic meaning"
#            NORMAL ............  PNEUMONIA .............
Y = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
P = np.array([.1, .1, .2, .3, .6, .9, .2, .6, .7, .7, .8, .9, .9, 1.])


def scores(n=150, seed=0, digits=2):
    "Labels and overlapping probabilities with ties."
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    return y, np.round(1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.5))), digits)


# figures

def test_by_hand():
    got = metrics.figures(Y, P, .6)
    assert [got[k] for k in ("tn", "fp", "fn", "tp")] == [4, 2, 1, 7]
    want = dict(accuracy=11 / 14, sensitivity=7 / 8, specificity=4 / 6, precision=7 / 9, npv=4 / 5, f1=14 / 17)
    assert {k: got[k] for k in want} == pytest.approx(want)
    pairs = [(q > p) + .5 * (q == p) for q in P[Y == 1] for p in P[Y == 0]]
    assert got["roc_auc"] == pytest.approx(np.mean(pairs))
    assert got["brier"] == pytest.approx(np.mean([(p - y) ** 2 for p, y in zip(P, Y, strict=True)]))
    # recall rises at 1.0 (1 of 1), .9 (3 of 4), .8 (4 of 5), .7 (6 of 7), .6 (7 of 9), .2 (8 of 12)
    assert got["average_precision"] == pytest.approx((1 + 2 * 3 / 4 + 4 / 5 + 2 * 6 / 7 + 7 / 9 + 8 / 12) / 8)


def test_threshold_itself_is_pneumonia():
    assert metrics.at_threshold([1, 0], [.5, .5], .5)["tp"] == 1
    assert metrics.at_threshold([1, 0], [.5, .5], np.nextafter(.5, 1))["tp"] == 0


def test_perfect_and_constant():
    perfect = metrics.figures([0, 0, 1, 1], [0., 0., 1., 1.], .5)
    assert all(perfect[k] == 1 for k in ("accuracy", "sensitivity", "specificity", "precision", "npv", "f1", "roc_auc", "average_precision"))
    assert perfect["brier"] == perfect["ece"] == 0 and perfect["log_loss"] < 1e-9
    constant = metrics.figures([0, 0, 0, 1], [.25] * 4, .5)
    assert constant["roc_auc"] == .5 and constant["ece"] == 0 and constant["average_precision"] == .25
    assert math.isnan(constant["precision"]) and constant["f1"] == 0 and constant["npv"] == .75
    assert math.isfinite(metrics.figures([0, 1], [1., 0.], .5)["log_loss"])


def test_one_class():
    normal = metrics.figures([0, 0], [.2, .9], .5)
    assert normal["specificity"] == .5 and all(math.isnan(normal[k]) for k in ("sensitivity", "roc_auc", "average_precision"))
    for f in (metrics.roc_points, metrics.pr_points):
        with pytest.raises(metrics.MetricsError, match="both classes"):
            f([1, 1], [.2, .9])
    with pytest.raises(metrics.MetricsError, match="both classes"):
        metrics.bootstrap([1, 1], [.2, .9], ["a", "b"], .5)


@pytest.mark.parametrize("y, p, message", [
    ([0, 1], [.1, float("nan")], "NaN or outside"), ([0, 1], [.1, 1.1], "NaN or outside"), ([0, 1], [.1], "one of each"),
    ([], [], "No images"), ([0, 2], [.1, .2], "0 .NORMAL. or 1"), ([[0, 1]], [[.1, .2]], "flat"), ([0, float("nan")], [.1, .2], "0 .NORMAL. or 1")])
def test_refused(y, p, message):
    for f in (lambda: metrics.figures(y, p, .5), lambda: metrics.bootstrap(y, p, list(range(len(y))), .5), lambda: metrics.reliability(y, p)):
        with pytest.raises(metrics.MetricsError, match=message):
            f()


def test_the_reference_contradicts_itself():
    r, n = metrics.REFERENCE, metrics.OFFICIAL_TEST
    tp = r["sensitivity"] * n["PNEUMONIA"]
    fp = n["NORMAL"] - (r["accuracy"] * sum(n.values()) - tp)
    assert tp / (tp + fp) == pytest.approx(.901, abs=1e-3)
    assert abs(tp / (tp + fp) - r["precision"]) > .01


# intervals

def test_bootstrap_is_a_plain_loop():
    y, p = scores(90)
    patients = np.array([f"P{i // 3}" for i in range(90)])
    draws = metrics._draws(y, patients, 60, seed=[5, 0])
    plain = [metrics.figures(y[c], p[c], .45) for c in (np.repeat(np.arange(90), w.astype(int)) for w in draws)]
    got = metrics.bootstrap(y, p, patients, .45, n=60, seed=5)
    assert set(got) == set(plain[0]) - {"tn", "fp", "fn", "tp"}
    for k, interval in got.items():
        assert interval == pytest.approx(tuple(np.nanquantile([o[k] for o in plain], [.025, .975])), abs=1e-9), k


def test_bootstrap_in_blocks(monkeypatch):
    y, p = scores(60)
    w = metrics._draws(y, range(60), 7)
    whole, parts = metrics._weighted(y, p, .5, w), [metrics._weighted(y, p, .5, w[i : i + 2]) for i in range(0, 7, 2)]
    for k in whole:
        np.testing.assert_allclose(np.concatenate([o[k] for o in parts]), whole[k])


def test_draws_hold_both_classes():
    w = metrics._draws(np.r_[np.zeros(50, int), 1], range(51), 300)  # one PNEUMONIA: absent from a third of naive draws
    assert len(w) == 300 and (w[:, -1] > 0).all() and (w[:, :-1].sum(1) > 0).all() and (w.sum(1) == 51).all()


def test_intervals_widen_with_images_a_patient():
    rng = np.random.default_rng(2)
    y = np.repeat(rng.integers(0, 2, 80), 5)
    p = 1 / (1 + np.exp(-np.repeat(rng.normal(0, 1.5, 80), 5) - 2 * y + 1))
    width = lambda patients: {k: h - l for k, (l, h) in metrics.bootstrap(y, p, patients, .5, n=400).items()}
    alone, together = width(range(400)), width(np.arange(400) // 5)
    for k in ("accuracy", "sensitivity", "specificity", "roc_auc", "average_precision", "brier"):
        assert together[k] > 1.6 * alone[k], k  # about the root of 5


def test_intervals_know_each_other():
    y, p = scores(200)
    a, b = metrics.bootstrap(y, p, range(200), .5, n=200), metrics.bootstrap(y, p, range(200), .5, n=200)
    assert a == b != metrics.bootstrap(y, p, range(200), .5, n=200, seed=1)
    values = metrics.figures(y, p, .5)
    for k in set(a) - {"ece"}:
        assert a[k][0] <= values[k] <= a[k][1], k
    shuffled = np.random.default_rng(0).permutation(200)
    assert metrics.figures(y[shuffled], p[shuffled], .5) == pytest.approx(values)


def test_flawless_is_no_certainty():
    got = metrics.bootstrap([0] * 30 + [1] * 30, [.1] * 30 + [.9] * 30, [f"N{i // 2}" for i in range(30)] + list(range(30)), .5, n=50)
    assert got["sensitivity"] == pytest.approx((.025 ** (1 / 30), 1)) and got["specificity"] == pytest.approx((.025 ** (1 / 15), 1))
    none = metrics.bootstrap([0, 0, 1, 1], [.9, .9, .1, .1], range(4), .5, n=20)
    assert none["sensitivity"][0] == 0 and .8 < none["sensitivity"][1] < 1


def test_fast_enough():
    y, p = scores(624, digits=6)
    start = time.perf_counter()
    metrics.bootstrap(y, p, np.arange(624) // 2, .5)
    assert time.perf_counter() - start < 10


# curves and tables

def test_curves():
    y, p = scores(3000, digits=6)
    roc, pr = metrics.roc_points(y, p), metrics.pr_points(y, p)
    assert len(roc) <= 200 and len(pr) <= 200
    assert skm.auc(roc.fpr, roc.tpr) == pytest.approx(skm.roc_auc_score(y, p), abs=.005)
    assert roc.fpr.is_monotonic_increasing and roc.tpr.is_monotonic_increasing and pr.recall.is_monotonic_increasing
    assert tuple(roc.iloc[0][["fpr", "tpr"]]) == (0, 0) and tuple(roc.iloc[-1][["fpr", "tpr"]]) == (1, 1)
    assert np.isfinite(roc.threshold[1:]).all() and not np.isinf(roc.threshold).any()
    at = roc.iloc[len(roc) // 2]
    assert (p[y == 1] >= at.threshold).mean() == pytest.approx(at.tpr)


def test_reliability():
    y, p = scores(500)
    t = metrics.reliability(y, p)
    assert t.images.sum() == 500 and len(t) <= 15 and (t.low <= t.predicted).all() and (t.predicted <= t.high).all()
    assert (t.high.to_numpy()[:-1] < t.low.to_numpy()[1:]).all()  # equal probabilities share a bin
    assert (t.observed_low <= t.observed).all() and (t.observed <= t.observed_high).all()
    assert (abs(t.observed - t.predicted) * t.images).sum() / 500 == pytest.approx(metrics.ece(y, p))


def test_json_and_csv(tmp_path):
    path = metrics.write_json(tmp_path / "a" / "m.json", {"b": float("nan"), "a": {"x": np.float32(.1), "i": np.int64(3), "f": np.inf}, "c": np.array([1.5, np.nan]), 1: True})
    assert json.loads(path.read_text()) == {"1": True, "a": {"f": None, "i": 3, "x": .1}, "b": None, "c": [1.5, None]}
    assert "NaN" not in path.read_text() and path.read_text().endswith("}\n")
    before = path.read_text()
    with pytest.raises(TypeError):
        metrics.write_json(path, {"a": object()})
    assert path.read_text() == before and [f.name for f in path.parent.iterdir()] == ["m.json"]
    table = metrics.write_csv(tmp_path / "t.csv", pd.DataFrame(dict(path=["é, b.png"], p=[1 / 3])))
    assert table.read_text(encoding="utf-8") == 'path,p\n"é, b.png",0.333333\n'


# shortcuts

def test_grouped_auc_keeps_patients_apart():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60).repeat(4)
    own = rng.normal(0, 1, 60).repeat(4)  # tells patients apart, not classes
    groups = np.arange(60).repeat(4)
    assert metrics.grouped_auc(own[:, None], y, groups)[0] < metrics.chance_auc(y, groups)
    assert metrics.grouped_auc(own[:, None], y, np.arange(240))[0] > .8  # what images as groups would have claimed
    assert metrics.grouped_auc(np.ones((240, 1)), y, groups) == (.5, .5, .5)


# pictures

def frame():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(dict(patient=[f"P{i // 2}" for i in range(48)], y=np.arange(48) // 2 % 2, row=range(48), width=rng.integers(900, 1400, 48),
                             height=1000, split=np.repeat(["train", "validation", "test"], 16)))
    rows["label"] = np.where(rows.y == 1, "PNEUMONIA", "NORMAL")
    return rng.integers(0, 256, (48, 32, 32), dtype=np.uint8), rows


def drawings():
    images, rows = frame()
    history = pd.DataFrame(dict(epoch=[1, 1, 2], phase=["head", "fine-tuning", "fine-tuning"], loss=[.6, .4, .3], val_loss=[.5, .4, .45], val_roc_auc=[.8, .9, .91]))
    y, p = scores()
    return {
        "roc_plot": (y, p, .5), "pr_plot": (y, p, .5), "confusion_plot": (y, p, .5), "reliability_plot": (y, p), "score_histogram": (y, p, .5),
        "interval_plot": (metrics.figures(y, p, .5), metrics.bootstrap(y, p, range(150), .5, n=20), metrics.REFERENCE), "history_plot": (history,),
        "balance_plot": (rows,), "images_per_patient_plot": (rows,), "sizes_plot": (rows,), "grey_plot": (images, rows), "sharpness_plot": (images, rows),
        "mean_images_plot": (images, rows), "image_grid": (images, rows, 1), "decision_plot": (y, p, .5),
        "prevalence_plot": ((.9, .8, 1.), (.8, .7, .9)), "robustness_plot": (pd.DataFrame(dict(change=["none"], sensitivity=.9, specificity=.8, roc_auc=.9)),),
        "deletion_plot": (pd.DataFrame(dict(share=[0, 1], deletion=[1, 0], deletion_random=[1, 0], insertion=[0, 1], insertion_random=[0, 1])),),
        "randomisation_plot": (pd.DataFrame(dict(layer=["head"], correlation=.1, low=0., high=.2)),)}


def words(fig):
    return " ".join(" ".join(t.get_text() for t in fig.findobj(mpl.text.Text)).split())


@pytest.mark.parametrize("name", list(drawings()))
def test_every_figure_carries_the_notice(name):
    draw, args = getattr(plots, name), drawings()[name]
    marked = draw(*args, notice=NOTICE)
    assert NOTICE in words(marked) and "SYNTHETIC DATA" in words(marked)
    red = [t for t in marked.findobj(mpl.text.Text) if "SYNTHETIC" in t.get_text()]
    assert len(red) == 2 and all(t.get_color() == plots.RED and t.get_visible() for t in red)
    assert "SYNTHETIC" not in words(draw(*args))


def test_no_figure_is_left_out():
    public = {k for k in plots.__all__ if k.endswith(("_plot", "_grid", "_histogram"))}
    assert public == set(drawings())


def test_style_stays_inside():
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30}):
        fig = plots.roc_plot(*scores(), .5)
    assert dict(mpl.rcParams) == before and fig.axes[0].xaxis.label.get_size() == 9
    assert fig._repr_png_().startswith(b"\x89PNG")


def test_thin_tables_draw():
    images, rows = frame()
    flat = rows.assign(width=224, height=224)
    for some in (flat[flat.label == "NORMAL"], flat[:1]):
        for draw in (plots.balance_plot, plots.images_per_patient_plot, plots.sizes_plot):
            draw(some)._repr_png_()
        for draw in (plots.grey_plot, plots.sharpness_plot):
            draw(np.zeros_like(images), some)._repr_png_()
    plots.image_grid(images, flat[:1])._repr_png_()
    with pytest.raises(plots.PlotError, match="both classes"):
        plots.mean_images_plot(images, flat[flat.label == "NORMAL"])
    with pytest.raises(plots.PlotError, match="no rows"):
        plots.balance_plot(rows[:0])
    plots.history_plot(pd.DataFrame(dict(epoch=[1], loss=[.5])))._repr_png_()
    for p in ([0., 1.], [.5, .5]):
        for draw in (plots.roc_plot, plots.pr_plot, plots.confusion_plot, plots.score_histogram):
            draw([0, 1], p, .5)
        plots.reliability_plot([0, 1], p)
        plots.interval_plot(metrics.figures([0, 1], p, .5), {})._repr_png_()


# reports

@pytest.mark.parametrize("name, parameters", [("eda", ["images", "seed"]), ("evaluate", ["bootstrap", "seed"])])
def test_report_parameters(name, parameters):
    cells = json.loads((ROOT / f"nbs/pipeline/{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1 and [n.targets[0].id for n in ast.parse("".join(tagged[0]["source"])).body] == parameters
    assert cells[0]["cell_type"] == "raw" and "skip_exec: true" in "".join(cells[0]["source"])
    assert not any(c.get("outputs") for c in cells)
