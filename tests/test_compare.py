"""bench/compare.py: from films to the page, what is kept of a busy machine, whose test results count."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from xraypneu.data.sample import make_sample
from xraypneu.evaluation.evaluate import perturbations
from xraypneu.model.ood import ood_images

sys.path.insert(0, str(ROOT / "bench"))
import compare  # noqa: E402
import compare_contenders as contenders  # noqa: E402


def tiny(**options):
    "A network of one convolution in the place of MobileNetV2, with its names and its 1,280 features."
    import keras

    image = keras.Input(options["input_shape"])
    x = keras.layers.Conv2D(1280, 16, strides=32, padding="same", use_bias=False, name="Conv1")(image)
    x = keras.layers.ReLU(6.0, name="out_relu")(keras.layers.BatchNormalization(name="bn_Conv1")(x))
    return keras.Model(image, x, name=options.get("name"))


@pytest.fixture
def world(tmp_path, monkeypatch):
    "Tiny synthetic films, a tiny network, steps in this process, and a load that the test sets."
    import keras

    from xraypneu.model import network

    monkeypatch.setattr(keras.applications, "MobileNetV2", tiny)
    ours = replace(network.BACKBONES["mobilenet_v2"], make=tiny)
    monkeypatch.setitem(network.BACKBONES, "mobilenet_v2", ours)
    monkeypatch.setattr(
        compare, "in_a_process", lambda job, *step: json.loads(json.dumps(contenders.step(job, *step), default=float))
    )
    load = SimpleNamespace(busy=0.0, seen=[])
    monkeypatch.setattr(compare, "Others", lambda seconds: SimpleNamespace(most=lambda: load.busy))
    tiny(input_shape=(32, 32, 3)).save_weights(tmp_path / "tiny.weights.h5")
    make_sample(tmp_path / "films", 40, size=64)
    parsed = compare.parsed

    def arguments(argv=None):
        args = parsed(argv)
        args.train = {"batch_size": 8, "learning_rate": 0.003, "head_learning_rate": 0.003, "ema_momentum": 0.0}
        return args

    monkeypatch.setattr(compare, "parsed", arguments)
    options = {"weights": tmp_path / "tiny.weights.h5", "state": tmp_path / "state", "out": tmp_path, "size": 32}
    options |= {"epochs": 1, "bootstrap": 50}
    load.argv = [str(tmp_path / "films"), *(str(x) for k, v in options.items() for x in (f"--{k}", v))]
    return load


def test_films_become_a_page_and_a_stopped_run_goes_on(world, tmp_path, capsys):
    world.busy = 0.5
    compare.main([*world.argv, "--only", "sklearn"])
    assert "not kept" in capsys.readouterr().out  # the times of a busy machine
    kept = [json.loads(p.read_text()) for p in tmp_path.glob("state/models-*/sklearn-train.json")]
    assert len(kept) == 1 and "times" not in kept[0]
    page = (tmp_path / "compare.md").read_text()
    assert "scikit-learn, times of the training: others used 50%" in page and "xraypneu, train: not run yet" in page

    world.busy = 0.0
    compare.main(world.argv)
    page, numbers = (tmp_path / "compare.md").read_text(), json.loads((tmp_path / "compare.json").read_text())
    assert "scikit-learn, train, about" in capsys.readouterr().out  # again, as its times are missing
    for words in ("SYNTHETIC", "## Quality on the", "paired", "JPEG quality 50", "photographs", "## Time of training"):
        assert words in page, words
    assert "not run yet" not in page and "others used" not in page
    assert "in full: here a phase had 1 epochs" in page
    results = numbers["results"]
    assert set(results) == set(compare.NAMES) and all("times" in r["train"] for r in results.values())
    assert [len(results[n]["train"]["epochs"]) for n in compare.NAMES] == [1, 5, 2, 1, 2, 1]
    assert '"p"' not in json.dumps(numbers) and "SYN0" not in page + json.dumps(numbers)
    assert not any(k.startswith("test_") for row in results["ours"]["train"]["epochs"] for k in row)

    compare.main(world.argv)
    assert capsys.readouterr().out.count("is there already") == len(compare.STEPS)


def test_a_folder_and_an_array_give_a_model_the_same_pixels(tmp_path):
    import tensorflow as tf
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (4, 224, 224)).astype(np.uint8)
    for i, a in enumerate(images):
        (folder := tmp_path / "train" / ("NORMAL" if i < 2 else "PNEUMONIA")).mkdir(parents=True, exist_ok=True)
        Image.fromarray(a).save(folder / f"{i}.png")
    job = SimpleNamespace(films=tmp_path)
    for name in compare.RIVALS:
        x, y = next(iter(contenders.folder_data(job, "train", name, shuffle=False)))
        assert y.numpy()[:, 0].tolist() == [0, 0, 1, 1]
        assert float(tf.reduce_max(tf.abs(x - contenders.pixels(images, name)))) < 1e-3


def test_our_published_evaluation_has_all_that_the_others_are_measured_on():
    rows = pd.read_csv(compare.PUBLISHED / "predictions.csv")
    m = json.loads((compare.PUBLISHED / "metrics.json").read_text())
    q = compare.published(compare.PUBLISHED, rows[::-1], m["data"]["hash"])
    assert q["p"] == rows.probability[::-1].tolist()
    assert set(q["robustness"]) == set(perturbations(224))
    assert set(q["ood"]) == {*ood_images(np.zeros((1, 224, 224), np.uint8)), "test images"}
    found = compare.quality_rows({"ours": {"quality": {"quality": q}}})
    assert all(np.isfinite(values["ours"]) for _, _, values, _ in found)
    with pytest.raises(SystemExit, match="other files"):
        compare.published(compare.PUBLISHED, rows, "0" * 64)
    with pytest.raises(SystemExit, match="other files"):
        compare.published(compare.PUBLISHED, rows[1:], m["data"]["hash"])


def test_nothing_of_ours_is_scored_on_the_official_test_split():
    one = SimpleNamespace(args=SimpleNamespace(only=None), official=True)
    assert ("ours", "quality") not in compare.Comparison.steps(one)
    assert ("ours", "quality") in compare.Comparison.steps(SimpleNamespace(args=one.args, official=False))


def test_the_page_of_the_official_split_compares_on_the_same_images(tmp_path, capsys):
    "From results of all steps, made up but for ours: the page, its requirements, the numbers."
    frame = pd.read_csv(compare.PUBLISHED / "predictions.csv")
    y = (frame.label == "PNEUMONIA").to_numpy(int)
    data_hash = json.loads((compare.PUBLISHED / "metrics.json").read_text())["data"]["hash"]
    ours = compare.published(compare.PUBLISHED, frame, data_hash)
    results = {"ours": {"quality": {"quality": ours}}}
    for name in compare.RIVALS:
        noise = np.random.default_rng(len(name)).normal(0, 0.3, len(y))
        p = np.clip(0.3 + 0.4 * y + noise, 0, 1)
        changed, others = ({k: dict(v) for k, v in ours[part].items()} for part in ("robustness", "ood"))
        job = SimpleNamespace(bootstrap=20)
        q = contenders.measured(job, y, p, frame.patient, 0.5, changed, others)
        results[name] = {"quality": {"quality": q, "commit": "abc", "machine": "m"}}
    prepared = SimpleNamespace(info={"title": "t", "data_hash": data_hash}, synthetic=False, rows=lambda split: frame)
    args = SimpleNamespace(data="/x", weights="imagenet", epochs=None, out=tmp_path, published=compare.PUBLISHED)
    one = SimpleNamespace(prepared=prepared, args=args, official=True, test=frame.assign(y=y), ours=ours)
    one.job, one.weights_hash = SimpleNamespace(bootstrap=20, epochs=None), ""
    assert compare.write_page(results, one) == 1  # the alterations are equal, so ours isn't best in each row
    page, numbers = (tmp_path / "compare.md").read_text(), json.loads((tmp_path / "compare.json").read_text())
    assert "0.9916 (0.9860 to 0.9961)" in page and "published evaluation" in page and "results/test_looks.md" in page
    assert "| rows of quality in which xraypneu is best |" in page
    assert "the reference's recipe, train: not run yet" in page
    assert "person" not in page and '"p"' not in json.dumps(numbers) and "person" not in json.dumps(numbers)


def row(epoch, phase, sensitivity, specificity, auc):
    return {
        "epoch": epoch,
        "phase": phase,
        "shifted_sensitivity": sensitivity,
        "shifted_specificity": specificity,
        "validation_roc_auc": auc,
    }


def training(rows, seconds, **steps):
    times = {"steps": [{"step": k, "seconds": v} for k, v in steps.items()], "epochs": seconds}
    return {"epochs": rows, "times": times}


def checks(trained):
    sheet = compare.Sheet()
    compare.say_until(sheet, trained)
    compare.say_head(sheet, trained)
    return {what: (value, holds) for what, value, _, _, holds, _ in sheet.checks}


def test_times_to_a_quality_are_those_of_the_first_epoch_that_has_it(capsys):
    theirs = [row(1, "frozen", 0.9, 0.5, 0.8), row(2, "frozen", 0.95, 0.85, 0.9), row(3, "frozen", 0.9, 0.7, 0.95)]
    ours = [row(1, "head", 0.9, 0.5, 0.85), row(2, "fine-tuning", 0.97, 0.9, 0.99)]
    trained = {"reference": training(theirs, [10, 10, 10], loading=30)}
    trained["ours"] = training(ours, [4, 16], **{contenders.REST: 50})
    trained["cached"] = training([row(1, "fit", 0, 0, 0.97)], [1], features=5)
    found = checks(trained)
    whole = "time to the reference's accuracy, xraypneu / the reference's recipe"
    assert found[whole] == (20 / 50, "yes")  # .625 * .95 + .375 * .85 = .9125, in its second epoch
    assert found["the frozen recipe's time to the same AUC / head on cached features"] == (60 / 6, "yes")  # never
    trained["ours"]["epochs"][1]["shifted_specificity"] = 0.5
    assert checks(trained)[whole] == (float("inf"), "NO")
    trained["reference"]["epochs"] = theirs[:1] * 3
    trained["ours"]["epochs"] = [row(1, "head", 1, 0.9, 0.7), ours[1]]
    assert checks(trained)[f"{whole} (at most: it isn't reached in 3 epochs, 60 s)"] == (4 / 60, "yes")
    trained["longer"] = training(theirs[:1] * 5, [10] * 5, loading=30)
    assert checks(trained)[f"{whole} (at most: it isn't reached in 5 epochs, 80 s)"] == (4 / 80, "yes")
    trained["longer"]["epochs"] = [*theirs[:1] * 4, theirs[1]]
    assert checks(trained)[whole] == (4 / 80, "yes")


def test_sensitivity_is_compared_at_the_same_specificity():
    "A recipe that calls nearly all films PNEUMONIA is the most sensitive one, and no better for it."
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    test = {"sensitivity": 1.0, "specificity": 0.25}
    ours = {"p": [0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9], "test": {"sensitivity": 0.75, "specificity": 1.0}}
    results = {"ours": {"quality": {"quality": ours}}, "sklearn": {"quality": {"quality": {"test": test}}}}
    # at specificity .25 ours finds all; at sensitivity 1 it leaves three of four healthy ones alone
    assert compare.at_their_point(results, y) == {"sklearn": {"sensitivity": (1.0, 1.0), "specificity": (0.25, 0.75)}}
    test.update(sensitivity=0.75, specificity=0.75)
    assert compare.at_their_point(results, y) == {"sklearn": {"sensitivity": (0.75, 1.0), "specificity": (0.75, 1.0)}}


def test_best_means_better_than_each_other_one():
    assert compare.is_best(True, {"reference": 0.9, "sklearn": 0.8, "ours": 0.91})
    assert not compare.is_best(True, {"reference": 0.9, "ours": 0.9})
    assert compare.is_best(False, {"reference": 0.2, "ours": 0.1})
    assert not compare.is_best(False, {"reference": 0.2, "ours": float("nan")})


def test_what_others_use_is_told_from_what_the_steps_use(monkeypatch):
    t = {"busy": 100.0, "own": 10.0, "wall": 0.0}
    monkeypatch.setattr(compare.psutil, "cpu_percent", lambda seconds: 1.0)
    monkeypatch.setattr(compare.psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(compare.time, "monotonic", lambda: t["wall"])
    monkeypatch.setattr(compare.Others, "_busy", lambda self: t["busy"])
    monkeypatch.setattr(compare.Others, "_own", lambda self: t["own"])
    others = compare.Others(0)
    t.update(busy=290.0, own=195.0, wall=100.0)
    assert others.most() == pytest.approx(0.025)  # 190 s of 200, of which 185 were its own
    t["busy"] = 300.0
    assert others.most() > compare.BUSY


def test_the_work_folder_of_the_default_is_ignored_by_git():
    assert compare.STATE.relative_to(ROOT).parts[0] == ".cache" and Path(compare.PUBLISHED, "metrics.json").is_file()
