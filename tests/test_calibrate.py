"Calibration, operating point and conformal limits: what each promises, on small samples and at its edges."

import numpy as np
import pytest

from xraypneu.metrics import scores as metrics
from xraypneu.model import calibrate


def scores(n=150, seed=0, digits=2):
    "Labels and overlapping probabilities with ties."
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
    return y, np.round(1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.5))), digits)


def test_platt():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, 20_000)
    y = (rng.random(z.size) < 1 / (1 + np.exp(-z))).astype(int)
    for factor, moved in ((0.5, 0), (1, -2), (4, 3)):
        slope, intercept = calibrate.fit_platt(factor * (z + moved), y)
        assert slope * factor == pytest.approx(1, rel=0.06) and intercept == pytest.approx(-moved, abs=0.12)
    for z, y in (
        ([-9, 9], [0, 1]),
        ([9, -9], [0, 1]),
        ([-1e9, 1e9], [0, 1]),
        ([0, 0], [0, 1]),
        ([-1e-9, 1e-9], [0, 1]),
        ([7, 7], [0, 1]),
    ):
        slope, intercept = calibrate.fit_platt(z, y)
        assert calibrate.SLOPES[0] <= slope <= calibrate.SLOPES[1]
        assert calibrate.INTERCEPTS[0] <= intercept <= calibrate.INTERCEPTS[1]
    separated = np.repeat([-4.0, 4.0], 500)
    # not without bound: 1,000 images don't show certainty
    assert 1 < calibrate.fit_platt(separated, separated > 0)[0] < 2


def test_conformal_limits():
    y, p = scores(400, 0)
    limits = calibrate.conformal_limits(p, y, 0.9)
    for possible in ((p <= limits["high"])[y == 0], (p >= limits["low"])[y == 1]):
        assert 0.9 <= possible.mean() < 0.93
    assert calibrate.conformal_limits([0.2, 0.8], [0, 1], 0.9) == {
        "low": 0,
        "high": 1,
        "coverage": 0.9,
    }  # two images promise nothing
    with pytest.raises(calibrate.CalibrationError, match="below 1"):
        calibrate.conformal_limits(p, y, 1)


@pytest.mark.parametrize("f", [calibrate.fit_platt, calibrate.threshold_at_sensitivity, calibrate.conformal_limits])
def test_calibration_refused(f):
    for s, y, message in (
        ([0.1, 0.2], [1, 1], "No NORMAL"),
        ([0.1, 0.2], [0, 0], "No PNEUMONIA"),
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1], [0, 1], "one label per image"),
        ([], [], "No NORMAL"),
        ([0.1, 0.2], [0, 3], "0 .NORMAL."),
    ):
        with pytest.raises(calibrate.CalibrationError, match=message):
            f(s, y)


def test_threshold_keeps_its_promise():
    for seed in range(60):
        y, p = scores(40, seed, digits=1 + seed % 4)
        for wanted in (0.5, 0.9, 0.97, 1.0):
            t = calibrate.threshold_at_sensitivity(p, y, wanted)
            assert metrics.at_threshold(y, p, t)["sensitivity"] >= wanted
            higher = p[p > t].min(initial=np.inf)
            assert (p[y == 1] > higher).mean() < wanted  # the next larger threshold would break it
            assert t not in p or t == 0
    assert calibrate.threshold_at_sensitivity([0.2, 0.4, 0.8], [0, 1, 1], 1) == pytest.approx(0.3)


@pytest.mark.parametrize("ill, well", [(1, 1), (3, 1), (3, 3), (40, 3)])
def test_platt_aims_at_smoothed_labels(ill, well):
    "Two scores, +2 and -2, are fitted exactly: (n + 1) / (n + 2) for the PNEUMONIAs, 1 / (n + 2) for the NORMALs."
    z, y = np.repeat([2.0, -2.0], [ill, well]), np.repeat([1, 0], [ill, well])
    at_ill, at_well = np.log(ill + 1), -np.log(well + 1)  # the logits of the two targets
    assert calibrate.fit_platt(z, y) == pytest.approx(((at_ill - at_well) / 4, (at_ill + at_well) / 2), abs=1e-4)


@pytest.mark.parametrize("scale", [0.01, 1, 30])
def test_platt_is_the_least_loss(scale):
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], [12, 30])
    z = scale * (rng.normal(y, 1.2) + 0.4)
    n = np.where(y == 1, 30, 12)
    target = np.where(y == 1, 31 / 32, 1 / 14)

    def loss(slope, intercept):
        q = 1 / (1 + np.exp(-(slope * z + intercept)))
        return -((target * np.log(q) + (1 - target) * np.log(1 - q)) / n).sum()

    slope, intercept = calibrate.fit_platt(z, y)
    least = loss(slope, intercept)
    for other in np.clip(slope * np.array([0.9, 0.99, 1, 1.01, 1.1]), *calibrate.SLOPES):
        for moved in np.clip(intercept + np.array([-0.1, -0.01, 0, 0.01, 0.1]), *calibrate.INTERCEPTS):
            assert loss(other, moved) >= least - 1e-9


def test_platt_stays_within_its_bounds():
    assert calibrate.SLOPES == (0.1, 4) and calibrate.INTERCEPTS == (-8, 8)
    assert calibrate.fit_platt([99.0, 101.0], [0, 1])[1] == pytest.approx(-8)
    assert calibrate.fit_platt([-101.0, -99.0], [0, 1])[1] == pytest.approx(8)
    assert calibrate.fit_platt([-0.001, 0.001], [0, 1])[0] == pytest.approx(4)
    assert calibrate.fit_platt([50.0, -50.0], [0, 1])[0] == pytest.approx(0.1)


def test_threshold_at_its_edges():
    one_to_hundred = np.arange(1, 101) / 100
    y = np.r_[0, np.ones(100, int)]
    p = np.r_[0, one_to_hundred]
    assert calibrate.threshold_at_sensitivity(p, y) == pytest.approx(0.035)  # 97 of 100 are .04 and above
    assert calibrate.threshold_at_sensitivity(p, y, 1) == pytest.approx(0.005)
    assert calibrate.threshold_at_sensitivity(p, y, 0.001) == pytest.approx(0.995)  # at least one
    assert calibrate.threshold_at_sensitivity(p, y, 0.565) == pytest.approx(0.435)  # 57: half an image is one image
    assert calibrate.threshold_at_sensitivity([0.0, 1.0], [0, 1]) == 0.5  # 0 and 1 are probabilities
    for wrong in ([0, 1.001], [-0.001, 1]):
        with pytest.raises(calibrate.CalibrationError, match="between 0 and 1"):
            calibrate.threshold_at_sensitivity(wrong, [0, 1])
    for wrong in (0, -0.5, 1.001, 1.5, 97):
        with pytest.raises(calibrate.CalibrationError, match="above 0 and at most 1"):
            calibrate.threshold_at_sensitivity(p, y, wrong)


def test_refusal_counts():
    with pytest.raises(calibrate.CalibrationError, match="3 of 5 scores are NaN or infinite"):
        calibrate.fit_platt([np.nan, np.inf, -np.inf, 0, 1], [0, 1, 0, 1, 1])
    for labels in ([0, 0.5], [-1, 1], [1, 2]):
        with pytest.raises(calibrate.CalibrationError, match="must be 0"):
            calibrate.fit_platt([0.1, 0.2], labels)
    with pytest.raises(calibrate.CalibrationError, match="one label per image"):
        calibrate.fit_platt([[0.1, 0.2]], [[0, 1]])


@pytest.mark.parametrize(
    "n, coverage", [(19, 0.95), (20, 0.95), (40, 0.95), (9, 0.9), (10, 0.9), (37, 0.8), (3, 0.6), (2, 0.51)]
)
def test_conformal_limits_are_order_statistics(n, coverage):
    "The limit of n images is the ceil((n + 1) x coverage)-th of them, the likeliest first; with fewer images, none."
    p = np.random.default_rng(n).permutation(np.linspace(0.05, 0.95, 2 * n))
    y = np.arange(2 * n) % 2
    at = int(np.ceil((n + 1) * coverage)) - 1
    low = np.sort(p[y == 1])[::-1][at] if at < n else 0
    high = np.sort(p[y == 0])[at] if at < n else 1
    assert calibrate.conformal_limits(p, y, coverage) == pytest.approx({"low": low, "high": high, "coverage": coverage})


def test_a_small_class_stays_possible_alone():
    y = np.repeat([0, 1], [18, 19])
    p = np.linspace(0.1, 0.9, 37)
    limits = calibrate.conformal_limits(p, y)
    assert limits == {"low": p[18], "high": 1.0, "coverage": 0.95}  # 19 images exclude something at 95 %, 18 nothing
    with pytest.raises(calibrate.CalibrationError, match="must be above 0.5"):
        calibrate.conformal_limits(p, y, 0.5)
