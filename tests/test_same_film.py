"""One film, one verdict, however its file was saved: one way to decode, low-pass, consistency penalty, the study."""

import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, params_yaml
from PIL import Image, ImageFilter

from xraypneu.data import dataset
from xraypneu.data.image import read_radiograph, to_square
from xraypneu.data.sample import draw_radiograph
from xraypneu.model.bundle import SHIPPED, Bundle, BundleError, load_bundle, write_bundle
from xraypneu.serving import dashboard
from xraypneu.serving.predict import Predictor

sys.path.insert(0, str(ROOT / "bench"))
import head_study  # noqa: E402
import parity  # noqa: E402

ORIGINALS = ROOT / "../shared/data/originals"
SOFT = ImageFilter.GaussianBlur(0.8)


@pytest.fixture
def study():
    "bench/study.py, which imports TensorFlow."
    import study

    return study


def jpeg(pixels, quality=92):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def grainy(width, height, seed=0):
    "A large film with the grain of a real one."
    film = Image.fromarray(draw_radiograph(seed, pneumonia=True, size=512)[0])
    large = np.asarray(film.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(seed).normal(0, 40, large.shape)
    return np.clip(large + grain, 0, 255).astype(np.uint8)


def off(a, b):
    "Mean difference, grey levels."
    return np.abs(a.astype(int) - b).mean()


# --- one way to decode ------------------------------------------------------------------------------------------------


def test_a_film_gives_the_same_pixels_on_every_way(tmp_path, monkeypatch):
    "Preparation, prediction, stream and page decode at DCT scale; a caller who decoded it passes all pixels."
    seen, outputs = [], Bundle.outputs

    def record(self, images):
        seen.extend(images)
        return outputs(self, images)

    monkeypatch.setattr(Bundle, "outputs", record)
    predictor, board = Predictor(), dashboard.Dashboard()
    board.app.send = lambda content, buffers=None: None
    for width, height in ((2900, 2400), (1810, 1800), (700, 600)):
        data = jpeg(grainy(width, height))
        path = tmp_path / f"{width}.jpeg"
        path.write_bytes(data)
        seen.clear()
        prepared = dataset._read_one(path, 224)[1]
        predictor.predict(path)
        predictor.predict(data)
        list(predictor.predict_batch([str(path), data]))
        board.add("film.jpeg", data)
        assert len(seen) == 5 and all((a == prepared).all() for a in seen)
        predictor.predict(Image.open(path))
        full = to_square(read_radiograph(data).pixels, 224)
        assert (seen[-1] == full).all()
        assert off(full, prepared) < 1, (width, off(full, prepared))


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="no ../shared/data/originals here")
def test_originals_decoded_at_scale_and_in_full_are_the_same():
    "Two grainy films of more than 1,792 pixels were off by 1.0 to 1.3 grey levels on average."
    largest = sorted(ORIGINALS.rglob("*.jpeg"), key=lambda p: -p.stat().st_size)
    for path in largest[:6] + largest[6::120]:
        data = path.read_bytes()
        pair = (to_square(read_radiograph(data, side).pixels, 224) for side in (None, 224))
        assert off(*pair) < 1, path.name


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass
class Mean:
    "Stands in for a bundle: the logit is the mean grey level."

    threshold: float = 0.5
    detector = None
    variant = {}
    size = 32

    def scores(self, images):
        return images.mean((1, 2)), images[:, 0]

    def logits(self, images):
        return self.scores(images)[0]

    def probability(self, logits):
        return 1 / (1 + np.exp(-(np.asarray(logits) - 100) / 10))


def test_parity_counts_in_units_of_the_spread():
    copies = np.stack([np.full((32, 32), v, np.uint8) for v in (80, 98, 120, 140)])
    found = parity.parity(Mean(), copies + np.uint8(4), copies)
    assert found["change"] == found["largest"] == 4 and found["drift"] == pytest.approx(4 / copies[:, 0, 0].std())
    assert found["differ"] == 0.25 and found["refused_originals"] == 0  # 98 became 102
    table = parity.altered(Mean(), copies, np.array([0, 0, 1, 1])).set_index("change")
    assert table.drift["original"] == table.drift["mirrored"] == 0 < table.drift["border 10 % masked"]
    assert table.sensitivity["border 10 % masked"] < 1 == table.specificity["border 10 % masked"]


def test_parity_never_opens_the_test_split(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name / "NORMAL").mkdir(parents=True)
        (tmp_path / name / "NORMAL" / "IM-0001-0001.jpeg").touch()
    films = parity.with_patients(parity.listed(tmp_path / "train"))
    assert films.family.tolist() == ["IM"] and films.patient.tolist() == ["IM-0001"]
    for folder in (tmp_path / "test", tmp_path / "test" / "."):
        with pytest.raises(SystemExit, match="test split"):
            parity.listed(folder)


def test_families_are_those_of_the_names():
    names = (
        "IM-0115-0001.jpeg",
        "NORMAL2-IM-0354-0001.jpeg",
        "person1_bacteria_2.jpeg",
        "person1_virus_6.jpeg",
        "a.png",
    )
    assert [parity.family(n) for n in names] == ["IM", "NORMAL2", "bacteria", "virus", "other"]


def test_the_worst_group_has_enough_images(study):
    y, families = np.array([0] * 60 + [1] * 50), ["IM"] * 30 + ["NORMAL2"] * 30 + ["virus"] * 45 + ["bacteria"] * 5
    positive = y == 1
    positive[:3] = True
    positive[30:36] = True
    positive[105:] = False
    assert study.groups(y, families, positive) == {"IM (NORMAL)": 0.9, "NORMAL2 (NORMAL)": 0.8, "virus (PNEUMONIA)": 1}


def test_a_recipe_that_has_a_row_is_not_changed(study, tmp_path):
    out = tmp_path / "results.csv"
    assert not study.is_done(study.stored(out), "a", 0, "012345678901")
    study.store(out, {"recipe": "a", "seed": 0, "key": "012345678901", "loss": 0.1})
    study.store(out, {"recipe": "a", "seed": 1, "key": "112345678901", "loss": 0.2})
    rows = study.stored(out)
    assert study.is_done(rows, "a", 0, "012345678901") and not study.is_done(rows, "a", 2, "012345678901")
    with pytest.raises(SystemExit, match="a new name"):
        study.is_done(rows, "a", 1, "012345678901")
    assert study.key_of({"lr": 1}, "data") != study.key_of({"lr": 2}, "data") != study.key_of({"lr": 2}, "other")


def test_the_study_has_no_test_split(study):
    manifest = pd.DataFrame({"split": ["train", "test", "validation", "test"], "row": range(4)})
    prepared = study.without_test(dataset.Prepared(ROOT, manifest, np.zeros((4, 8, 8), np.uint8), {}))
    assert len(prepared.rows("test")) == 0 and len(prepared.manifest) == 2


# --- the ingredients --------------------------------------------------------------------------------------------------


def renderings(n=8):
    "Synthetic films of 224 pixels as a soft copy and as a sharp original."
    films = [Image.fromarray(draw_radiograph(i, pneumonia=i % 2, size=448)[0]) for i in range(n)]
    sharp = np.stack([np.asarray(f.resize((224, 224), Image.Resampling.LANCZOS)) for f in films])
    soft = np.stack([np.asarray(f.resize((224, 224), Image.Resampling.BILINEAR, reducing_gap=1)) for f in films])
    return sharp, np.stack([np.asarray(Image.open(io.BytesIO(jpeg(a, 60)))) for a in soft])


def test_a_low_pass_in_the_file_moves_the_logit_less(tmp_path):
    "It is part of the network, in 8 bits too; bundle.json names it, and one that names another is refused."
    from xraypneu.model import network, quantize, recipe

    shipped, (sharp, soft) = load_bundle(), renderings()
    model = network.set_weights(network.build(224, lowpass=1.5), network.read_onnx(shipped.model))
    info = {k: v for k, v in shipped.info.items() if k not in (*recipe.STAMPED, "int8")}
    info["input"] = info["input"] | {"lowpass": 1.5}
    int8 = quantize.to_int8(network.to_onnx(model), soft)
    parts = {"model.int8.onnx": int8, "reference.npz": (SHIPPED / "reference.npz").read_bytes()}
    bundle = write_bundle(tmp_path / "b", network.to_onnx(model), info | {"int8": shipped.info["int8"]}, parts)
    assert bundle.lowpass == 1.5 and shipped.lowpass == 0
    drift = {b.lowpass: parity.drift(b.logits(soft), b.logits(sharp)) for b in (shipped, bundle)}
    assert drift[1.5] < 0.8 * drift[0], drift
    out = bundle.outputs(sharp)
    np.testing.assert_allclose(out["map"].mean((1, 2)), out["logit"], atol=1e-4)
    again = recipe.model_of(bundle)
    assert network.to_onnx(again) == bundle.model and network.has_lowpass(again, 1.5)
    eight = load_bundle(tmp_path / "b", "int8").logits(sharp)
    assert np.corrcoef(eight, out["logit"])[0, 1] > 0.95
    for lowpass, model_file in ((0, bundle.model), (1.5, shipped.model)):
        with pytest.raises(BundleError, match="lowpass"):
            write_bundle(tmp_path / "c", model_file, info | {"input": info["input"] | {"lowpass": lowpass}})


def test_a_model_without_the_recipes_low_pass_is_not_trained():
    from xraypneu.model import recipe, training

    films, y = np.zeros((4, 32, 32), np.uint8), np.array([0, 1, 0, 1])
    settings = training.Recipe(weights=None, lowpass=4, batch_size=2)
    with pytest.raises(ValueError, match=r"recipe\.new_model"):
        training.fit(recipe.new_model(32, None, 0), (films, y), (films, y), settings)


def test_consistency_lowers_the_drift_of_what_augmentations_change():
    "Two features: one of the film, one of the file that goes with the class in most of the training films."
    from xraypneu.model import augment, training

    keras, rng, y = training.keras, np.random.default_rng(0), np.arange(64) % 2
    order = augment.paired_order(augment.balanced_order(y, rng, 64), 32)
    slope = {}
    for strength in (0, 0.3):
        training.seed_everything(0)
        head = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        head.compile(keras.optimizers.Adam(0.05), training._loss(strength))
        for step in range(120):
            at = order[64 * (step % 2) :][:64]
            x = np.stack([y[at] + rng.normal(0, 0.7, 64), 0.8 * y[at] + rng.normal(0, 0.7, 64)], 1)
            x[32:, 0] = x[:32, 0]  # the same film in another file
            head.train_on_batch(x.astype(np.float32), y[at, None].astype(np.float32))
        film, file = np.asarray(head.layers[-1].kernel)[:, 0]
        slope[strength] = file / film
    assert 0 < slope[0.3] < slope[0] / 2, slope


def test_a_head_that_is_fitted_with_the_penalty_ignores_the_file():
    "The same in bench/head_study.py, without TensorFlow."
    rng, y = np.random.default_rng(0), np.arange(200) % 2
    film = y + rng.normal(0, 0.7, 200)
    first, second = (np.stack([film, 0.8 * y + rng.normal(0, 0.7, 200)], 1) for _ in range(2))
    weights = {strength: head_study.fitted(first, second, y, strength) for strength in (0, 0.3)}
    assert 0 < weights[0.3][1] / weights[0.3][0] < 0.5 * weights[0][1] / weights[0][0]


def test_a_recipe_reads_the_data_of_its_size(study, monkeypatch):
    manifest = pd.DataFrame({"split": ["train", "test"], "row": range(2)})
    monkeypatch.setattr(
        study, "load_prepared", lambda folder: dataset.Prepared(Path(folder), manifest, np.zeros((2, 8, 8)), {})
    )
    recipes = {"a": {"epochs": 1}, "b": {"epochs": 1, "size": 160}, "c": {}}
    data = study.load_sizes(recipes, "data/films")
    assert {k: str(d.folder) for k, d in data.items()} == {"a": "data/films", "b": "data/films-160", "c": "data/films"}
    assert recipes["b"] == {"epochs": 1, "size": 160} and not any(len(d.rows("test")) for d in data.values())
    assert study.of_training(recipes["b"]) == recipes["a"]


def test_the_recipes_of_the_protocol_are_valid(study):
    from xraypneu.model.recipe import recipe_of

    base = yaml.safe_load(params_yaml())["train"]
    recipes = study.read_recipes(ROOT / "bench/recipes.yaml", base)
    assert {r.pop("size", 224) for r in recipes.values()} == {160, 224}  # which prepared data it reads
    of_bundle = {name for name, r in recipes.items() if recipe_of(**r)[0].keeps_head}
    weights = {name: recipe_of(**r)[0].weights for name, r in recipes.items()}
    assert {w for name, w in weights.items() if name not in of_bundle} == {recipes["base"]["weights"]}
    assert {weights[name] for name in of_bundle} == {"shipped"}
    assert recipes["base"] | {"weights": "shipped"} == base


def toy(n, seed):
    "Films of 32 pixels, bright in the middle or not, and as good as all soft copies of one class: images, labels."
    rng, y = np.random.default_rng(seed), np.arange(n) % 2
    disc = np.hypot(*(np.indices((32, 32)) - 15.5)) < 8
    x = np.clip(90 + 35 * y[:, None, None] * disc + rng.normal(0, 25, (n, 32, 32)), 0, 255).astype(np.uint8)
    soft = (rng.random(n) < 0.85) == (y == 0)
    return np.stack([np.asarray(Image.fromarray(a).filter(SOFT)) if s else a for a, s in zip(x, soft, strict=True)]), y


def prepared_toy():
    "A toy as prepared data, without files."
    parts = {"train": toy(128, 0), "validation": toy(64, 1), "test": toy(8, 2)}
    rows = [(f"{s}/SYN{i:04d}-1.png", s, y, f"SYN{s}{i:04d}") for s, (_, ys) in parts.items() for i, y in enumerate(ys)]
    manifest = pd.DataFrame(rows, columns=["path", "split", "y", "patient"])
    info = {"title": "toy", "synthetic": True, "notice": "SYNTHETIC", "data_hash": "toy", "counts": {}, "size": 32}
    images = np.concatenate([x for x, _ in parts.values()])
    return dataset.Prepared(ROOT, manifest.assign(row=range(len(rows))), images, info)


@pytest.mark.nightly  # in short: the ingredients, and the rows of recipes that are there
def test_the_study_trains_each_recipe_once_and_a_low_pass_lowers_the_drift(study, tmp_path, capsys):
    "From two tiny trainings to rows: the measures of the protocol, on validation alone."
    recipes = tmp_path / "recipes.yaml"
    recipes.write_text(
        "common: {epochs: 5, batch_size: 16, learning_rate: 0.001, min_area: 0.6, ema_momentum: 0}\n"
        "recipes: {plain: {}, tied: {consistency: 0.01, lowpass: 8.0}}\n"
    )
    base, out = {"weights": "shipped", "head_epochs": 0, "first_block": 14}, tmp_path / "study.csv"
    read, data = study.read_recipes(recipes, base), study.without_test(prepared_toy())
    plan = read, [0], dict.fromkeys(read, data)
    study.study(*plan, out, tmp_path / "work")
    rows = study.stored(out).set_index("recipe")
    assert list(rows.index) == ["plain", "tied"] and (rows.epochs >= 4).all() and (rows.seconds > 0).all()
    assert rows.drift["tied"] < rows.drift["plain"], rows.drift
    assert "parity_drift" not in rows and rows.worst_group.str.contains("other").all()  # without originals
    assert load_bundle(tmp_path / "work/tied-0/bundle").info["input"]["lowpass"] == 8
    assert not (tmp_path / "work/tied-0/state").exists()
    shutil.rmtree(tmp_path / "work")
    study.study(*plan, out, tmp_path / "work")
    assert not (tmp_path / "work").exists() and "is there already" in capsys.readouterr().out
