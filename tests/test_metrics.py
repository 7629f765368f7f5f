"Metrics, intervals, operating points and their plots: known answers, slow plain versions, and awkward input."

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
from test_calibrate import scores

from xraypneu.evaluation import evaluate, plots
from xraypneu.metrics import scores as metrics
from xraypneu.metrics.definitions import REFERENCE, predictive_values

ROOT = Path(__file__).parent.parent
NOTICE = "SYNTHETIC: computer-generated images, no patient, no diagnostic meaning"
#            NORMAL ............  PNEUMONIA .............
Y = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
P = np.array([0.1, 0.1, 0.2, 0.3, 0.6, 0.9, 0.2, 0.6, 0.7, 0.7, 0.8, 0.9, 0.9, 1.0])


# metrics


def test_by_hand():
    got = metrics.classification_metrics(Y, P, 0.6)
    assert [got[k] for k in ("tn", "fp", "fn", "tp")] == [4, 2, 1, 7]
    want = dict(accuracy=11 / 14, sensitivity=7 / 8, specificity=4 / 6, precision=7 / 9, npv=4 / 5, f1=14 / 17)
    assert {k: got[k] for k in want} == pytest.approx(want)
    pairs = [(q > p) + 0.5 * (q == p) for q in P[Y == 1] for p in P[Y == 0]]
    assert got["roc_auc"] == pytest.approx(np.mean(pairs))
    assert got["brier"] == pytest.approx(np.mean([(p - y) ** 2 for p, y in zip(P, Y, strict=True)]))
    # recall rises at 1.0 (1 of 1), .9 (3 of 4), .8 (4 of 5), .7 (6 of 7), .6 (7 of 9), .2 (8 of 12)
    assert got["average_precision"] == pytest.approx((1 + 2 * 3 / 4 + 4 / 5 + 2 * 6 / 7 + 7 / 9 + 8 / 12) / 8)


def test_threshold_itself_is_pneumonia():
    assert metrics.at_threshold([1, 0], [0.5, 0.5], 0.5)["tp"] == 1
    assert metrics.at_threshold([1, 0], [0.5, 0.5], np.nextafter(0.5, 1))["tp"] == 0


def test_perfect_and_constant():
    perfect = metrics.classification_metrics([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0], 0.5)
    assert all(
        perfect[k] == 1
        for k in ("accuracy", "sensitivity", "specificity", "precision", "npv", "f1", "roc_auc", "average_precision")
    )
    assert perfect["brier"] == perfect["ece"] == 0 and perfect["log_loss"] < 1e-9
    constant = metrics.classification_metrics([0, 0, 0, 1], [0.25] * 4, 0.5)
    assert constant["roc_auc"] == 0.5 and constant["ece"] == 0 and constant["average_precision"] == 0.25
    assert math.isnan(constant["precision"]) and constant["f1"] == 0 and constant["npv"] == 0.75
    assert math.isfinite(metrics.classification_metrics([0, 1], [1.0, 0.0], 0.5)["log_loss"])


def test_one_class():
    normal = metrics.classification_metrics([0, 0], [0.2, 0.9], 0.5)
    assert normal["specificity"] == 0.5
    assert all(math.isnan(normal[k]) for k in ("sensitivity", "roc_auc", "average_precision"))
    for f in (metrics.roc_points, metrics.pr_points):
        with pytest.raises(metrics.MetricsError, match="both classes"):
            f([1, 1], [0.2, 0.9])
    with pytest.raises(metrics.MetricsError, match="both classes"):
        metrics.bootstrap([1, 1], [0.2, 0.9], ["a", "b"], 0.5)


@pytest.mark.parametrize(
    "y, p, message",
    [
        ([0, 1], [0.1, float("nan")], "NaN or outside"),
        ([0, 1], [0.1, 1.1], "NaN or outside"),
        ([0, 1], [0.1], "one of each"),
        ([], [], "No images"),
        ([0, 2], [0.1, 0.2], "0 .NORMAL. or 1"),
        ([[0, 1]], [[0.1, 0.2]], "1-D arrays"),
        ([0, float("nan")], [0.1, 0.2], "0 .NORMAL. or 1"),
    ],
)
def test_refused(y, p, message):
    for f in (
        lambda: metrics.classification_metrics(y, p, 0.5),
        lambda: metrics.bootstrap(y, p, list(range(len(y))), 0.5),
        lambda: metrics.reliability(y, p),
    ):
        with pytest.raises(metrics.MetricsError, match=message):
            f()


def test_the_reference_contradicts_itself():
    r, n = REFERENCE, metrics.OFFICIAL_TEST
    tp = r["sensitivity"] * n["PNEUMONIA"]
    fp = n["NORMAL"] - (r["accuracy"] * sum(n.values()) - tp)
    assert tp / (tp + fp) == pytest.approx(0.901, abs=1e-3)
    assert abs(tp / (tp + fp) - r["precision"]) > 0.01


# intervals


def test_bootstrap_is_a_plain_loop():
    y, p = scores(90)
    patients = np.array([f"P{i // 3}" for i in range(90)])
    draws = metrics._draws(y, patients, 60, seed=[5, 0])
    plain = [
        metrics.classification_metrics(y[c], p[c], 0.45)
        for c in (np.repeat(np.arange(90), w.astype(int)) for w in draws)
    ]
    got = metrics.bootstrap(y, p, patients, 0.45, n=60, seed=5)
    assert set(got) == set(plain[0]) - {"tn", "fp", "fn", "tp"}
    for k, interval in got.items():
        assert interval == pytest.approx(tuple(np.nanquantile([o[k] for o in plain], [0.025, 0.975])), abs=1e-9), k


def test_bootstrap_in_blocks(monkeypatch):
    y, p = scores(60)
    w = metrics._draws(y, range(60), 7)
    whole, parts = metrics._weighted(y, p, 0.5, w), [metrics._weighted(y, p, 0.5, w[i : i + 2]) for i in range(0, 7, 2)]
    for k in whole:
        np.testing.assert_allclose(np.concatenate([o[k] for o in parts]), whole[k])


def test_draws_hold_both_classes():
    w = metrics._draws(np.r_[np.zeros(50, int), 1], range(51), 300)  # one PNEUMONIA: absent from a third of naive draws
    assert len(w) == 300 and (w[:, -1] > 0).all() and (w[:, :-1].sum(1) > 0).all() and (w.sum(1) == 51).all()


def test_intervals_widen_with_images_a_patient():
    rng = np.random.default_rng(2)
    y = np.repeat(rng.integers(0, 2, 80), 5)
    p = 1 / (1 + np.exp(-np.repeat(rng.normal(0, 1.5, 80), 5) - 2 * y + 1))

    def width(patients):
        return {k: high - low for k, (low, high) in metrics.bootstrap(y, p, patients, 0.5, n=400).items()}

    alone, together = width(range(400)), width(np.arange(400) // 5)
    for k in ("accuracy", "sensitivity", "specificity", "roc_auc", "average_precision", "brier"):
        assert together[k] > 1.6 * alone[k], k  # about the root of 5


def test_intervals_know_each_other():
    y, p = scores(200)
    a, b = metrics.bootstrap(y, p, range(200), 0.5, n=200), metrics.bootstrap(y, p, range(200), 0.5, n=200)
    assert a == b != metrics.bootstrap(y, p, range(200), 0.5, n=200, seed=1)
    values = metrics.classification_metrics(y, p, 0.5)
    for k in set(a) - {"ece"}:
        assert a[k][0] <= values[k] <= a[k][1], k
    shuffled = np.random.default_rng(0).permutation(200)
    assert metrics.classification_metrics(y[shuffled], p[shuffled], 0.5) == pytest.approx(values)


def test_flawless_is_no_certainty():
    got = metrics.bootstrap(
        [0] * 30 + [1] * 30, [0.1] * 30 + [0.9] * 30, [f"N{i // 2}" for i in range(30)] + list(range(30)), 0.5, n=50
    )
    assert got["sensitivity"] == pytest.approx((0.025 ** (1 / 30), 1))
    assert got["specificity"] == pytest.approx((0.025 ** (1 / 15), 1))
    none = metrics.bootstrap([0, 0, 1, 1], [0.9, 0.9, 0.1, 0.1], range(4), 0.5, n=20)
    assert none["sensitivity"][0] == 0 and 0.8 < none["sensitivity"][1] < 1


def test_films_of_one_patient_say_nothing_about_others():
    "All draws were alike: eight of ten films of the only patient with PNEUMONIA had the interval 80 % to 80 %."
    y, p = np.repeat([0, 1], [40, 10]), np.r_[np.linspace(0, 0.4, 40), np.linspace(0.31, 1, 10)]
    patients, values = [*range(40), *["ill"] * 10], metrics.at_threshold(y, p, 0.45)
    got = metrics.bootstrap(y, p, patients, 0.45, n=50)
    assert values["sensitivity"] == 0.8 and got["sensitivity"] == (0, 1)
    assert got["specificity"] == pytest.approx((0.025 ** (1 / 40), 1)) and got["precision"][1] == 1
    table = metrics.operating_table(y, p, patients, [0.2, 0.45], n=50)
    low, high = table["sensitivity_low"], table["sensitivity_high"]
    assert table["sensitivity"] == [1, 0.8] and (low, high) == ([0.025, 0], [1, 1])
    assert table["specificity_low"][1] == round(0.025 ** (1 / 40), 4)  # exact, as in `bootstrap`
    assert 0 < table["specificity_low"][0] < table["specificity_high"][0] < 1


def test_fast_enough():
    y, p = scores(624, digits=6)
    start = time.perf_counter()
    metrics.bootstrap(y, p, np.arange(624) // 2, 0.5)
    assert time.perf_counter() - start < 10


# curves and tables


def test_curves():
    y, p = scores(3000, digits=6)
    roc, pr = metrics.roc_points(y, p), metrics.pr_points(y, p)
    assert len(roc) <= 200 and len(pr) <= 200
    assert skm.auc(roc.fpr, roc.tpr) == pytest.approx(skm.roc_auc_score(y, p), abs=0.005)
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
    path = metrics.write_json(
        tmp_path / "a" / "m.json",
        {
            "b": float("nan"),
            "a": {"x": np.float32(0.1), "i": np.int64(3), "f": np.inf},
            "c": np.array([1.5, np.nan]),
            1: True,
        },
    )
    assert json.loads(path.read_text()) == {"1": True, "a": {"f": None, "i": 3, "x": 0.1}, "b": None, "c": [1.5, None]}
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
    assert metrics.grouped_auc(own[:, None], y, np.arange(240))[0] > 0.8  # what images as groups would have claimed
    assert metrics.grouped_auc(np.ones((240, 1)), y, groups) == (0.5, 0.5, 0.5)


# exact answers on small samples


def test_equal_mass_bins_by_hand():
    y, p = [0, 1, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.5, 0.5, 0.9]
    assert metrics._bins(np.array(p), 3).tolist() == [0, 0, 1, 1, 1, 2]
    t = metrics.reliability(y, p, 3)
    assert t.images.tolist() == [2, 3, 1]
    assert t[["low", "high", "predicted", "observed"]].to_numpy() == pytest.approx(
        np.array([[0.1, 0.2, 0.15, 0.5], [0.3, 0.5, 1.3 / 3, 2 / 3], [0.9, 0.9, 0.9, 1]])
    )
    z = 1.959964
    wilson = (0.5 + z * z / 4) / (1 + z * z / 2) - z / (1 + z * z / 2) * math.sqrt(0.125 + z * z / 16)
    assert (t.observed_low[0], t.observed_high[0]) == pytest.approx((wilson, 1 - wilson), abs=1e-6)
    assert metrics.ece(y, p, 3) == pytest.approx((abs(1 - 0.3) + abs(2 - 1.3) + abs(1 - 0.9)) / 6)
    pairs = [abs(1 - (4 * k + 1) / 30) for k in range(15)]  # 15 bins of 2, in each one PNEUMONIA
    assert metrics.ece(np.arange(30) % 2, np.arange(30) / 30) == pytest.approx(sum(pairs) / 30)


def test_paired_is_a_plain_loop():
    y, p = scores(80, digits=3)
    _, other = scores(80, seed=9, digits=3)
    other = np.where(np.arange(80) % 3, p, other)
    patients = np.arange(80) // 2
    got = metrics.paired(y, p, 0.5, other, 0.3, patients, n=40, seed=4)
    right, other_right = (p >= 0.5) == (y == 1), (other >= 0.3) == (y == 1)
    won, lost = sum(right & ~other_right), sum(other_right & ~right)
    assert (got["won"], got["lost"]) == (won, lost) and won != lost
    draws = [np.repeat(np.arange(80), w.astype(int)) for w in metrics._draws(y, patients, 40, seed=[4, 0])]
    differences = [skm.roc_auc_score(y[c], p[c]) - skm.roc_auc_score(y[c], other[c]) for c in draws]
    assert (got["roc_auc_low"], got["roc_auc_high"]) == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    assert got["roc_auc"] == pytest.approx(skm.roc_auc_score(y, p) - skm.roc_auc_score(y, other))
    assert metrics.paired(y, p, 0.5, other, 0.3, patients, n=40, seed=5) != got
    with pytest.raises(metrics.MetricsError, match="79 patients for 80 images"):
        metrics.paired(y, p, 0.5, other, 0.3, patients[:79])


def test_mcnemar_by_hand():
    y = np.array([1, 1, 1, 1, 0, 0])
    mine, other = np.array([0.5, 0.9, 0.9, 0.9, 0.1, 0.1]), np.array([0.1, 0.1, 0.1, 0.9, 0.1, 0.5])
    got = metrics.paired(y, mine, 0.5, other, 0.5, range(6), n=5)
    assert (got["won"], got["lost"], got["mcnemar_p"]) == (4, 0, pytest.approx(2 / 16))
    assert metrics.paired(y, mine, 0.5, other, 0.05, range(6), n=5)["won"] == 2  # the other's own threshold counts


def test_bootstrap_needs_its_ingredients():
    y, p = [0, 1, 1], [0.1, 0.8, 0.9]
    for patients, n, message in (
        (["a", "b"], 5, "2 patients for 3 images"),
        (["a", "b", None], 5, "no patient"),
        (["a"] * 3, 5, "at least two patients"),
        (["a", "b", "c"], 0, "n=0"),
    ):
        with pytest.raises(metrics.MetricsError, match=message):
            metrics.bootstrap(y, p, patients, 0.5, n=n)
    with pytest.raises(metrics.MetricsError, match="both classes"):
        metrics.bootstrap([0, 0, 0], p, ["a", "b", "c"], 0.5)
    # two of everything are enough
    assert metrics.bootstrap([0, 1], [0.2, 0.8], ["a", "b"], 0.5, n=1)["roc_auc"] == (1, 1)


def test_exact_interval_of_every_share():
    "With nothing wrong, n patients allow a share down to the n-th root of .025: of those that the share is about."
    y = np.repeat([0, 1], [3, 5])
    got = metrics.bootstrap(y, np.repeat([0.5, 0.6], [3, 5]), range(8), 0.6, n=20)
    for k, n in (("accuracy", 8), ("sensitivity", 5), ("precision", 5), ("specificity", 3), ("npv", 3)):
        assert got[k] == pytest.approx((0.025 ** (1 / n), 1)), k
    assert metrics._exact(0, [1, 2, 2, 3]) == pytest.approx((0, 1 - 0.025 ** (1 / 3)))


def test_is_official_test_by_number_balance_and_names():
    published = pd.read_csv(ROOT / "results/chest_xray/predictions.csv")
    y, names = (published.label == "PNEUMONIA").astype(int), published.path
    assert metrics.is_official_test(y, names)
    assert metrics.is_official_test(y, [f"elsewhere/{n.replace('.jpeg', '.png')}" for n in names])
    assert not metrics.is_official_test(y, names, synthetic=True)
    assert not metrics.is_official_test(y, [f"{n}.jpeg" for n in range(len(y))])  # as many films of someone else
    assert not metrics.is_official_test(y[1:], names[1:]) and not metrics.is_official_test(1 - y, names)


def test_curves_by_hand():
    y, p = [0, 1, 0, 1], [0.1, 0.4, 0.6, 0.8]
    roc, pr = metrics.roc_points(y, p), metrics.pr_points(y, p)
    assert roc.fpr.tolist() == [0, 0, 0.5, 0.5, 1] and roc.tpr.tolist() == [0, 0.5, 0.5, 1, 1]
    assert math.isnan(roc.threshold[0]) and roc.threshold.tolist()[1:] == [0.8, 0.6, 0.4, 0.1]
    assert pr.recall.tolist()[0] == 0 and math.isnan(pr.threshold[0]) and pr.precision.tolist()[1] == 1
    assert (pr.recall.iloc[-1], pr.precision.iloc[-1], pr.threshold.iloc[-1]) == (1, 0.5, 0.1)
    for one_class in ([0, 0], [1, 1]):
        for f in (metrics.roc_points, metrics.calibration_line, metrics.decision_curve):
            with pytest.raises(metrics.MetricsError, match="both classes"):
                f(one_class, [0.1, 0.2])


@pytest.mark.parametrize(
    "n, limit, kept", [(3, 3, [0, 1, 2]), (4, 3, [0, 2, 3]), (10, 4, [0, 3, 6, 9]), (5, 9, range(5))]
)
def test_thinned_rows_are_evenly_spaced(n, limit, kept):
    got = metrics._thin(pd.DataFrame(dict(a=range(n)), index=range(50, 50 + n)), limit)
    assert got.a.tolist() == list(kept) and got.index.tolist() == list(range(len(kept)))


def test_operating_table_is_a_plain_loop():
    y, p = scores(40)
    got = metrics.operating_table(y, p, range(40), n=30, seed=2)
    assert got["threshold"] == [round(i / 100, 2) for i in range(1, 100)]
    draws = metrics._draws(y, range(40), 30, 2)
    for i in (0, 30, 98):
        t = got["threshold"][i]
        for k, own, right in (("sensitivity", y == 1, p >= t), ("specificity", y == 0, p < t)):
            assert got[k][i] == pytest.approx(right[own].mean(), abs=5.1e-5)
            drawn = [np.average(right[own], weights=w[own]) for w in draws]
            ends = np.quantile(drawn, [0.025, 0.975])
            if right[own].mean() in (0, 1):
                ends = metrics._exact(right[own].mean(), np.flatnonzero(own))
            assert [got[f"{k}_low"][i], got[f"{k}_high"][i]] == pytest.approx(ends, abs=5.1e-5)
    assert all(v == round(v, 4) for values in got.values() for v in values)


def test_calibration_line_by_hand():
    "Two probabilities are a straight line through the observed odds, each class weighing the same."
    p = np.repeat([0.2, 0.8], [5, 3])
    y = np.array([1, 0, 0, 0, 0, 1, 1, 0])
    low, high = np.log(5 / 12), np.log(10 / 3)  # odds of 1 to 4 and 2 to 1, times 5 NORMALs to 3 PNEUMONIAs
    want = (high - low) / (2 * np.log(4)), (high + low) / 2
    assert metrics.calibration_line(y, p) == pytest.approx(want, abs=1e-3)
    sure = metrics.calibration_line([0, 1, 0, 1], [0.0, 0.0, 1.0, 1.0])  # 0 and 1 have finite logits here
    assert sure == pytest.approx((0, 0), abs=1e-3)


@pytest.mark.parametrize("y", [[0, 0, 1, 1], [1, 1, 0, 0]])
def test_classes_that_do_not_overlap_have_no_calibration_slope(y):
    "A steeper line always fits better: what the solver stopped at was shown as the slope."
    assert np.isnan(metrics.calibration_line(y, [0.1, 0.2, 0.6, 0.9])).all()
    assert "not defined where the classes don't overlap" in metrics.calibration_text(np.nan, np.nan)
    assert "below" not in metrics.calibration_text(1.3, 0.2)  # the case at hand alone


def test_predictive_values_by_hand():
    ppv, npv = zip(*(predictive_values(0.8, 0.9, q) for q in (0, 0.25, 1)), strict=True)
    assert ppv == pytest.approx([0, 0.2 / 0.275, 1]) and npv == pytest.approx([1, 0.675 / 0.725, 0])
    nobody, everybody = predictive_values(0, 1, 0.3), predictive_values(1, 0, 0.3)
    at = metrics.at_threshold([0, 0, 0, 1, 1], [0.1, 0.2, 0.7, 0.6, 0.9], 0.5)  # of five images two are PNEUMONIA
    own = predictive_values(at["sensitivity"], at["specificity"], 0.4)
    assert own == pytest.approx((at["precision"], at["npv"]))
    assert math.isnan(nobody[0]) and nobody[1] == pytest.approx(0.7)
    assert everybody[0] == pytest.approx(0.3) and math.isnan(everybody[1])


def test_decision_curve_by_hand():
    curve = metrics.decision_curve([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9])
    assert curve.threshold.tolist() == [round(0.02 * i, 2) for i in range(1, 50)]
    at = curve.set_index("threshold")
    assert at.model[0.5] == pytest.approx(0.5 - 0.25) and at.everybody[0.5] == pytest.approx(0)
    assert at.model[0.8] == pytest.approx(0.25) and at.everybody[0.8] == pytest.approx(0.5 - 4 * 0.5)


def test_spread_is_the_samples():
    got = metrics.spread([dict(ece=0.1, own=1, brier=0.2), dict(ece=0.3, own=2, brier=0.2)], ("brier", "ece", "f1"))
    assert got.metric.tolist() == ["brier", "ece"]
    assert got[["mean", "sd", "lowest", "highest"]].to_numpy() == pytest.approx(
        np.array([[0.2, 0, 0.2, 0.2], [0.2, math.sqrt(0.02), 0.1, 0.3]])
    )


def test_image_statistics_by_hand():
    image = np.array([[15, 16, 239, 240], [0, 100, 7, 255], [16, 50, 200, 30], [1, 2, 3, 4]], np.uint8)
    row = metrics.image_statistics([image]).iloc[0]
    assert row["mean"] == pytest.approx(image.mean()) and row.contrast == pytest.approx(image.std())
    assert (row.dark, row.bright) == (7 / 16, 2 / 16)  # below 16, above 239
    corners = [16 + 50 + 0 + 7 - 400, 239 + 200 + 100 + 255 - 28, 100 + 2 + 16 + 200 - 200, 7 + 3 + 50 + 30 - 800]
    assert row.sharpness == pytest.approx(np.var(corners), rel=1e-6)


@pytest.mark.parametrize("shape", [(20, 20), (47, 33), (64, 200)])
def test_border_strip_is_a_plain_loop(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    edges = [[i * s // 20 for i in range(21)] for s in shape]
    want = [
        image[edges[0][r] : edges[0][r + 1], edges[1][c] : edges[1][c + 1]].mean()
        for r in range(20)
        for c in range(20)
        if r in (0, 1, 18, 19) or c in (0, 1, 18, 19)
    ]
    got = metrics.border_strip([image, image[::-1]])
    assert got.shape == (2, 144) and got[0] == pytest.approx(want, rel=1e-5)


def test_chance_auc_by_hand():
    assert metrics.chance_auc(np.arange(100) % 2, range(100)) == pytest.approx(0.5 + 1.96 * math.sqrt(101 / 30_000))
    assert metrics.chance_auc([0, 0, 1, 1, 1], ["a", "b", "c", "d", "d"]) == pytest.approx(
        min(1, 0.5 + 1.96 * math.sqrt(5 / 48))
    )
    assert metrics.chance_auc([0, 1], ["a", "b"]) == 1.0
    assert math.isnan(metrics.chance_auc([1, 1], ["a", "b"])) and math.isnan(metrics.chance_auc([0, 0], ["a", "b"]))


def test_grouped_auc_of_few_patients():
    x = pd.DataFrame(dict(x=np.r_[np.zeros(20), np.ones(20)]))
    y = np.repeat([0, 1], 20)
    two = np.r_[np.arange(20) // 10, 2 + np.arange(20) // 10]
    assert metrics.grouped_auc(x, y, two) == (1, 1, 1)  # two patients a class are two folds
    for one in (np.repeat([0, 1], 20), np.r_[np.zeros(20, int), np.arange(1, 21)]):
        assert np.isnan(metrics.grouped_auc(x, y, one)).all()
    holes = x.assign(x=x.x.where(x.x == 1))  # a missing value is no error
    assert metrics.grouped_auc(holes, y, two) == (1, 1, 1)
    text = pd.DataFrame(dict(mode=np.repeat(["L", "RGB"], 20)))
    assert metrics.grouped_auc(text, y, np.arange(40), folds=4) == (1, 1, 1)
    for nothing in (pd.DataFrame(index=range(40)), np.empty((40, 0))):
        with pytest.raises(metrics.MetricsError, match="No columns"):
            metrics.grouped_auc(nothing, y, two)
    noise = np.random.default_rng(0).normal(size=(40, 1))
    mean, low, high = metrics.grouped_auc(noise, y, np.arange(40))
    assert low < mean < high and (mean, low, high) == metrics.grouped_auc(noise, y, np.arange(40))


def test_metadata_baseline_learns_from_train_alone():
    rows = pd.DataFrame(dict(y=np.arange(80) % 2, width=100, height=100, mode="L", format="PNG", bytes=5))
    train = rows.assign(mode=np.where(rows.y == 1, "RGB", "L"))
    p, varying = metrics.metadata_baseline(train, train[:7].assign(y=0))
    assert varying == ["mode"] and len(p) == 7 and ((p > 0.5) == (train.y[:7] == 1)).all()
    assert metrics.metadata_baseline(rows, rows[:3])[0].tolist() == [0.5] * 3
    larger = rows.assign(width=np.where(rows.y == 1, 300, 600), height=np.where(rows.y == 1, 200, 400))
    assert metrics.metadata_baseline(larger, larger[:3])[1] == ["width", "height"]  # one shape, two sizes
    flat = rows.assign(height=0)  # no shape is no division by zero
    assert metrics.metadata_baseline(flat, flat[:3])[1] == []


@pytest.mark.parametrize(
    "value, text",
    [
        (1 / 3, "0.333333"),
        (-1e-9, "0.0"),
        (np.float64(2.0000004), "2.0"),
        (np.inf, "null"),
        (np.bool_(True), "true"),
        ((1, np.int8(2)), "[\n  1,\n  2\n ]"),
    ],
)
def test_numbers_in_json(tmp_path, value, text):
    written = metrics.write_json(tmp_path / "m.json", {"é": value}).read_text(encoding="utf-8")
    assert written == f'{{\n  "é": {text}\n}}\n'.replace("[\n  1,\n  2\n ]", "[\n    1,\n    2\n  ]")


# pictures


def frame():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        dict(
            patient=[f"P{i // 2}" for i in range(48)],
            y=np.arange(48) // 2 % 2,
            row=range(48),
            width=rng.integers(900, 1400, 48),
            height=1000,
            split=np.repeat(["train", "validation", "test"], 16),
        )
    )
    rows["label"] = np.where(rows.y == 1, "PNEUMONIA", "NORMAL")
    return rng.integers(0, 256, (48, 32, 32), dtype=np.uint8), rows


def drawings():
    images, rows = frame()
    history = pd.DataFrame(
        dict(
            epoch=[1, 1, 2],
            phase=["head", "fine-tuning", "fine-tuning"],
            loss=[0.6, 0.4, 0.3],
            val_loss=[0.5, 0.4, 0.45],
            val_roc_auc=[0.8, 0.9, 0.91],
        )
    )
    y, p = scores()
    return {
        "roc_plot": (y, p, 0.5),
        "pr_plot": (y, p, 0.5),
        "confusion_plot": (y, p, 0.5),
        "reliability_plot": (y, p),
        "score_histogram": (y, p, 0.5),
        "interval_plot": (
            metrics.classification_metrics(y, p, 0.5),
            metrics.bootstrap(y, p, range(150), 0.5, n=20),
            REFERENCE,
        ),
        "history_plot": (history,),
        "balance_plot": (rows,),
        "images_per_patient_plot": (rows,),
        "sizes_plot": (rows,),
        "grey_plot": (images, rows),
        "sharpness_plot": (images, rows),
        "mean_images_plot": (images, rows),
        "image_grid": (images, rows, 1),
        "decision_plot": (y, p, 0.5),
        "prevalence_plot": ((0.9, 0.8, 1.0), (0.8, 0.7, 0.9)),
        "robustness_plot": (pd.DataFrame(dict(change=["none"], sensitivity=0.9, specificity=0.8, roc_auc=0.9)),),
        "deletion_plot": (
            pd.DataFrame(
                dict(
                    fraction=[0, 1], deletion=[1, 0], deletion_random=[1, 0], insertion=[0, 1], insertion_random=[0, 1]
                )
            ),
        ),
        "randomisation_plot": (pd.DataFrame(dict(layer=["head"], correlation=0.1, low=0.0, high=0.2)),),
    }


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


def covered(fig):
    "Lines and points of a figure that lie under one of its legends, as (legend, line)."
    fig.draw_without_rendering()
    found = []
    for legend in fig.findobj(mpl.legend.Legend):
        box = legend.get_window_extent()
        for ax in fig.axes:
            for line in ax.lines:
                path = line.get_transform().transform_path(line.get_path())
                x, y = (path if line.get_linestyle() == "None" else path.interpolated(200)).vertices.T
                within = ax.bbox.contains
                if any(box.contains(*at) and within(*at) for at in zip(x, y, strict=True)):
                    found.append((legend.get_texts()[0].get_text(), line.get_label()))
    return found


def test_no_legend_covers_a_line():
    "That of the decision curve covered the operating point and the line of treating nobody."
    for name, args in drawings().items():
        assert covered(getattr(plots, name)(*args)) == [], name
    rng = np.random.default_rng(0)
    for prevalence, strength in ((0.6, 4), (0.6, 1), (0.1, 4), (0.1, 1), (0.9, 2)):
        y = (np.arange(400) < 400 * prevalence).astype(int)
        p = 1 / (1 + np.exp(-(strength * (y - 0.5) + rng.normal(0, 1, 400))))
        for threshold in (0.1, 0.3, 0.6):
            for draw in (plots.pr_plot, plots.decision_plot):
                assert covered(draw(y, p, threshold)) == [], (draw, prevalence, strength, threshold)
        f = metrics.classification_metrics(y, p, 0.3)
        assert covered(plots.prevalence_plot(*((f[k], f[k], f[k]) for k in ("sensitivity", "specificity")))) == []
        assert covered(plots.reliability_plot(y, p)) == []


def test_a_figure_shows_no_interval_from_1_to_1():
    "All resamples of a perfect ranking give 1."
    fig = plots.interval_plot(
        {"f1": 1.0, "roc_auc": 0.9}, {"f1": (1.0, 1.0), "roc_auc": (0.8, 0.95)}, names=("f1", "roc_auc")
    )
    assert "1.000 (no interval)" in words(fig) and "0.900 (0.800 to 0.950)" in words(fig)
    drawn = next(line for line in fig.axes[0].lines if line.get_label() == "95 % interval")
    assert np.isnan(drawn.get_xdata()).all()


def test_legends_name_what_is_drawn():
    "The loss that chooses the epoch as the log names it; the bands of the predictive values, if there are any."
    (history,) = drawings()["history_plot"]
    assert "shifted, calibrated" in words(plots.history_plot(history.assign(shifted_calibrated_loss=0.4)))
    assert "ends of both 95 % intervals" in words(plots.prevalence_plot((0.9, 0.8, 0.95), (0.8, 0.7, 0.9)))
    assert "intervals" not in words(plots.prevalence_plot((0.9, np.nan, np.nan), (0.8, np.nan, np.nan)))


def test_no_figure_is_left_out():
    public = {k for k in plots.__all__ if k.endswith(("_plot", "_grid", "_histogram"))}
    assert public == set(drawings())


def test_style_stays_inside():
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30}):
        fig = plots.roc_plot(*scores(), 0.5)
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
    plots.history_plot(pd.DataFrame(dict(epoch=[1], loss=[0.5])))._repr_png_()
    for p in ([0.0, 1.0], [0.5, 0.5]):
        for draw in (plots.roc_plot, plots.pr_plot, plots.confusion_plot, plots.score_histogram):
            draw([0, 1], p, 0.5)
        plots.reliability_plot([0, 1], p)
        plots.interval_plot(metrics.classification_metrics([0, 1], p, 0.5), {})._repr_png_()


# reports


@pytest.mark.parametrize(
    "name, parameters", [("eda", ["images", "seed"]), ("evaluate", ["bootstrap", "seed"]), ("monitor", ["result"])]
)
def test_report_parameters(name, parameters):
    cells = json.loads((ROOT / f"nbs/pipeline/{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1 and [n.targets[0].id for n in ast.parse("".join(tagged[0]["source"])).body] == parameters
    assert cells[0]["cell_type"] == "raw" and "skip_exec: true" in "".join(cells[0]["source"])
    assert not any(c.get("outputs") for c in cells)


def test_paired_needs_both_classes():
    "A draw with both classes would be looked for without end."
    with pytest.raises(metrics.MetricsError, match="both classes"):
        metrics.paired(np.ones(5, int), np.linspace(0, 1, 5), 0.5, np.linspace(0, 1, 5), 0.5, np.arange(5))


def test_fixed_points_are_the_best_of_all_thresholds():
    "Also where equal probabilities put the threshold that is looked for in the middle of a straight line."
    rng = np.random.default_rng(0)
    y, p = np.repeat([0, 1], 11), np.r_[np.arange(11), np.arange(11)] / 20  # a step of each class a threshold
    cases = [(y, p)] + [(rng.permutation(np.arange(n) % 2), np.round(rng.random(n), 1)) for n in range(4, 60)]
    for y, p in cases:
        limits = np.r_[np.inf, np.unique(p)]
        sensitivity = (p[y == 1] >= limits[:, None]).mean(1)
        specificity = (p[y == 0] < limits[:, None]).mean(1)
        best = {"sensitivity": (specificity, sensitivity), "specificity": (sensitivity, specificity)}
        for row in evaluate.fixed_points(y, p, (0.5, 0.9, 0.95), (0.5, 0.9, 0.97)).to_dict("records"):
            held, then = best[row["metric"]]
            least = float(row["constraint"].split()[-1].rstrip("%")) / 100
            assert row["value"] == pytest.approx(then[held >= least - 1e-12].max()), row
