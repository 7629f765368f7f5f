"""What notebooks can't hold: a download from a real server, the shipped bundle, an installation without the extras."""

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, giving
from keras.src.applications import efficientnet_v2, mobilenet_v2
from keras.src.legacy.saving import legacy_h5_format

from xraypneu.data.sample import draw_radiograph
from xraypneu.evaluation.explain import randomisation
from xraypneu.model import network, quantize, recipe, training
from xraypneu.model.bundle import INT8, SHIPPED, load_bundle, open_session, write_bundle
from xraypneu.serving.predict import Predictor

FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
B0 = "efficientnetv2-b0_notop.h5"


@pytest.fixture(scope="module")
def three():
    "MobileNetV2 for three channels, at random."
    keras.utils.set_random_seed(1)
    return keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))


def save_as_keras_publishes(model, path):
    "The weights that Keras offers for download are in its older HDF5 layout."
    with h5py.File(path, "w") as f:
        legacy_h5_format.save_weights_to_hdf5_group(f, model)


@pytest.fixture
def server(tmp_path, monkeypatch):
    "A server in place of Keras's; files put into the folder can be downloaded."
    folder = tmp_path / "www"
    folder.mkdir()
    (tmp_path / "keras").mkdir()

    with giving(folder) as address:
        monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", f"{address}/")
        monkeypatch.setattr(efficientnet_v2, "BASE_WEIGHTS_PATH", f"{address}/")
        monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path / "keras"))
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
        yield folder


def test_imagenet_is_downloaded(server, three):
    save_as_keras_publishes(three, server / FILE)
    model = network.initialise(network.build(64), "imagenet")
    kernel = np.asarray(three.get_layer("Conv1").kernel)
    np.testing.assert_allclose(network.weights(model)["Conv1/kernel"], kernel.sum(2, keepdims=True), rtol=1e-6)
    name = "block_16_project/kernel"
    np.testing.assert_array_equal(network.weights(model)[name], np.asarray(three.get_layer("block_16_project").kernel))


def test_imagenet_that_is_not_there_names_the_choices(server):
    with pytest.raises(network.WeightsError, match="could not be downloaded.*shipped.*null"):
        network.initialise(network.build(64), "imagenet")


def test_imagenet_that_came_damaged_is_downloaded_again(server, three):
    (server / FILE).write_bytes(b"half a file")
    with pytest.raises(network.WeightsError, match="arrived damaged and were deleted"):
        network.initialise(network.build(64), "imagenet")
    save_as_keras_publishes(three, server / FILE)
    network.initialise(network.build(64), "imagenet")


def test_imagenet_weights_of_efficientnet_see_the_colours_that_they_were_trained_with(server, monkeypatch):
    "The network scales its grey levels as Keras scales colours; the border of the first convolution shows it."
    name, grey = "efficientnetv2_b0", np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype("float32")
    keras.utils.set_random_seed(1)
    model = network.initialise(network.build(64, backbone=name), None)
    colours = keras.applications.EfficientNetV2B0(include_top=False, weights=None, input_shape=(64, 64, 3))
    drawn = network.weights(model)
    for layer in colours.layers:
        for v in layer.weights:
            value = drawn[f"{layer.name}/{v.name}"]
            v.assign(-value if v.name == "kernel" else value)
    save_as_keras_publishes(colours, server / B0)
    digest = hashlib.md5((server / B0).read_bytes()).hexdigest()
    monkeypatch.setitem(efficientnet_v2.WEIGHTS_HASHES, "b0", ("", digest))
    features = keras.Model(network.initialise(model, "imagenet").input, model.get_layer("pool").input)(grey)
    assert np.std(features) > 0.01
    np.testing.assert_allclose(features, colours(np.repeat(grey, 3, -1)), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", network.BACKBONES)
def test_a_backbone_is_the_same_in_keras_in_the_file_and_in_8_bits(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = network.half_precision(network.initialise(network.build(64, 0.5, name), None))
    images = np.stack([draw_radiograph(p, pneumonia=bool(p % 2), size=64)[0] for p in range(12)])
    data, weights = network.to_onnx(model), network.weights(model)
    logit, cam, features = open_session(data).run(["logit", "map", "features"], {"image": images})
    scale = np.abs(logit).max()
    np.testing.assert_allclose(logit, np.asarray(model(images[..., None].astype("float32")))[:, 0], atol=1e-4 * scale)
    np.testing.assert_allclose(cam.mean((1, 2)), logit, atol=1e-4 * scale)
    np.testing.assert_allclose(features @ weights["head/kernel"][:, 0], logit, atol=1e-4 * scale)  # the bias is 0
    assert cam.shape == (12, 2, 2) and features.shape == (12, 1280) and 0.01 < features.std() < 20

    info = json.loads((SHIPPED / "bundle.json").read_text())
    title = network.BACKBONES[name].title
    info |= {"backbone": {"name": name, "title": title}, "input": {"size": 64, "lowpass": 0.5 * 224 / 64}}
    bundle = write_bundle(tmp_path / "b", data, info, {INT8: quantize.to_int8(data, images)})
    again = recipe.model_of(bundle)
    assert again.name == bundle.backbone == name and network.has_lowpass(again, 0.5)
    assert all((v == weights[k]).all() for k, v in network.weights(again).items())
    eight = load_bundle(tmp_path / "b", "int8").outputs(images)
    assert np.corrcoef(eight["features"].ravel(), features.ravel())[0, 1] > 0.95
    shuffled = randomisation(bundle, images[:2])  # it knew MobileNetV2's layers alone: other models had no evaluation
    assert len(shuffled) == 7 and shuffled.layer[0] == "head" and shuffled.correlation.iloc[-1] < 0.95
    np.testing.assert_allclose(eight["map"].mean((1, 2)), eight["logit"], atol=1e-3 * scale)


def test_a_layer_that_onnx_would_get_wrong_is_refused():
    layers = keras.layers
    image = keras.Input((32, 32, 1))
    for layer in (layers.ReLU(name="odd"), layers.Activation("tanh", name="odd"), layers.MaxPooling2D(name="odd")):
        backbone = keras.Model(image, layer(image), name="backbone")
        output = layers.Dense(1, name="head")(layers.GlobalAveragePooling2D()(backbone(image)))
        with pytest.raises(TypeError, match="layer odd can't be written as ONNX"):
            network.to_onnx(keras.Model(image, output, name="mobilenet_v2"))


DEVICES = """
import json, sys, tempfile
import numpy as np
from xraypneu.model import network, recipe, training
import keras
import tensorflow as tf

parts = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)


def tiny(include_top, weights, input_shape):
    image = x = keras.Input(input_shape)
    for i, stride in enumerate((4, 4, 2)):
        x = keras.layers.Conv2D(8, 3, stride, padding="same", use_bias=False, name=f"block{i}_conv")(x)
        x = keras.layers.ReLU(6, name=f"block{i}_relu")(keras.layers.BatchNormalization(name=f"block{i}_bn")(x))
    return keras.Model(image, x)


network.BACKBONES["tiny"] = network.Backbone("Tiny", tiny, ("block0_", "block1_", "block2_"), "none")
rng, y = np.random.default_rng(0), np.arange(24) % 2
images = np.clip(rng.normal(60 + 120 * y[:, None, None], 40, (24, 64, 64)), 0, 255).astype(np.uint8)


class Killed(Exception):
    pass


def curve(devices, killed=0, **changes):
    settings = training.Recipe("tiny", None, 1, 2, 8, 1e-2, devices=devices, first_block=1, **changes)
    counted.append(len(training.devices_of(settings)))

    def on_epoch(row):
        if row["epoch"] == killed:
            raise Killed

    def fit(on_epoch=None):
        model = recipe.new_model(64, None, 0, 0.0, "tiny")
        held = images[:12], y[:12]
        return training.fit_all(model, (images, y), held, settings, state, "", on_epoch, lambda line: None)[0]

    with tempfile.TemporaryDirectory() as state:
        try:
            history = fit(on_epoch)
        except Killed:
            history = fit()
    return [[row[k] for k in ("loss", "val_loss", "shifted_loss")] for row in history]


counted = []
whole = curve("auto")
pairs = {"consistency": 0.5, "image_sizes": (32, 64)}
found = [whole, curve(1), curve("auto", 2), curve("auto", **pairs), curve(1, **pairs)]
third = {"invariance_epochs": 2, "invariance_learning_rate": 1e-2}
found += [curve("auto", **third), curve("auto", 4, **third), curve(1, **third)]
print(json.dumps([counted, found]))
"""


def test_two_devices_train_as_one_does():
    "Two logical devices: the same loss of each epoch, also resumed, with pairs of augmentations and invariance phase."
    done = subprocess.run([sys.executable, "-c", DEVICES], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counted, (two, one, resumed, two_paired, one_paired, *third) = json.loads(done.stdout)
    assert counted == [2, 1, 2, 2, 1, 2, 2, 1]
    np.testing.assert_allclose(two, one, atol=1e-3)
    np.testing.assert_allclose(two_paired, one_paired, atol=1e-3)
    np.testing.assert_array_equal(resumed, two)
    np.testing.assert_array_equal(third[1], third[0])
    np.testing.assert_allclose(third[2], third[0], rtol=1e-3)
    assert np.ptp([row[0] for row in one]) > 0.05  # it learns: a constant would agree, too


@pytest.fixture(scope="module")
def radiographs():
    return np.stack([draw_radiograph(patient=p, pneumonia=bool(p % 2), size=224)[0] for p in range(8)])


def test_keras_and_onnx_agree(radiographs):
    bundle = load_bundle()
    model = network.build(bundle.size)
    network.set_weights(model, network.read_onnx((bundle.folder / "model.onnx").read_bytes()))
    keras_logits = model.predict(radiographs[..., None], verbose=0)[:, 0]
    difference = bundle.probability(keras_logits) - bundle.probability(bundle.logits(radiographs))
    assert np.abs(difference).max() < 1e-4


def test_shipped_bundle():
    bundle = load_bundle()
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 9e6
    assert (SHIPPED / "model.onnx").stat().st_size < 5e6
    assert bundle.info["data"]["synthetic"] is False
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    assert metrics["model"]["hash"] == bundle.hash  # the metrics are this model's
    readme = (SHIPPED / "README.md").read_text()
    for word in (
        "Kermany",
        "CC BY 4.0",
        "10.17632/rscbjbr9sj",
        bundle.hash,
        "Not a medical device",
        f"{metrics['test']['roc_auc']:.4f}",
    ):
        assert word in readme


def test_shipped_weights_are_where_training_starts():
    model = network.initialise(network.build(96), "shipped")
    shipped = network.read_onnx((SHIPPED / "model.onnx").read_bytes())
    np.testing.assert_array_equal(network.weights(model)["Conv1/kernel"], shipped["Conv1/kernel"])
    assert not np.array_equal(network.weights(model)["head/kernel"], shipped["head/kernel"])  # the head starts anew


def test_settings_of_keras_in_the_home_folder_are_not_those_of_a_training(tmp_path):
    "With float16, the first epoch ended in NaN, and the message blamed the learning rate."
    settings = {"floatx": "float16", "epsilon": 1e-3, "backend": "tensorflow", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    code = "import keras; from xraypneu.model import network as n; print(n.build(32).dtype_policy.name, "
    code += "keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())"
    env = {**os.environ, "KERAS_HOME": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert out.stdout.split() == ["float32", "float32", "1e-07", "channels_last"], out.stderr


def test_random_weights_pass_the_signal_on():
    "Keras's initial weights count on the batch norms, which are frozen: features were 5e-12, nothing was learned."
    keras.utils.set_random_seed(0)
    model = network.initialise(network.build(64), None)
    features = keras.Model(model.input, model.get_layer("pool").output)
    out = np.asarray(features(np.random.default_rng(0).integers(0, 256, (8, 64, 64, 1)).astype("float32")))
    assert 0.05 < out.mean() < 20 and out.std(0).mean() > 1e-4
    keras.utils.set_random_seed(0)
    again = network.weights(network.initialise(network.build(64), None))
    assert all((v == again[k]).all() for k, v in network.weights(model).items())


def test_predicting_needs_the_base_install_alone(tmp_path, radiographs):
    "Every package of the extras is hidden, as in an environment made by `pip install xraypneu`."
    from PIL import Image

    Image.fromarray(radiographs[0]).save(tmp_path / "chest.png")
    line = (ROOT / "settings.ini").read_text().split("\nrequirements = ")[1].splitlines()[0]
    queue, seen, provides = [re.match(r"[\w.-]+", r)[0] for r in line.split()], set(), packages_distributions()
    while queue:
        if (package := queue.pop().lower()) not in seen:
            seen.add(package)
            queue += [re.match(r"[\w.-]+", r)[0] for r in requires(package) or () if "extra ==" not in r]
    names = {"xraypneu"} | {top for top, packages in provides.items() if seen & {p.lower() for p in packages}}
    code = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in {names} and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ImportError(name + " is not in the base install")
sys.meta_path.insert(0, Hide())
from xraypneu.serving.predict import Predictor
print(Predictor().predict({str(tmp_path / "chest.png")!r}).probability)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert float(out.stdout) == pytest.approx(Predictor().predict(radiographs[0]).probability, abs=1e-6)


KERAS = """
from xraypneu.model import network
import keras
from keras.src.backend import config
print(config.keras_home(), keras.config.floatx(), keras.config.epsilon())
"""


def keras_of(**env):
    "Where Keras looks for settings and weights, its kind of number and its epsilon, in a new process."
    left = {k: v for k, v in os.environ.items() if k != "KERAS_HOME"}
    done = subprocess.run([sys.executable, "-c", KERAS], capture_output=True, text=True, env=left | env, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_keras_takes_nothing_from_where_others_may_write():
    "For a user without a home, as services are, it would read settings and weights of anybody in /tmp/.keras."
    home, *settings = keras_of(HOME="/proc/none")
    assert home != "/tmp/.keras" and not Path(home).exists()  # removed at the end


REPEATED = """
import hashlib
import numpy as np
from xraypneu.model import network, recipe, training

rng = np.random.default_rng(0)
images, y = rng.integers(0, 255, (32, 224, 224), np.uint8), np.arange(32) % 2
model = recipe.new_model(224, "shipped", 0)
small = training.Recipe(head_epochs=0, epochs=1, batch_size=16)
training.fit(model, (images, y), (images[:8], y[:8]), small, report=lambda line: None)
digest = hashlib.sha256(b"".join(v.tobytes() for v in network.weights(model).values()))
print(digest.hexdigest())
"""


@pytest.mark.nightly
def test_a_training_on_a_busy_machine_is_the_same_to_the_bit():
    "At full size, two at once and beside other tests, so that threads finish in any order."
    start = [sys.executable, "-c", REPEATED]
    running = [subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate(timeout=300)[0] for process in running}
    assert len(found) == 1 and len(found.pop()) == 65


def test_validation_does_without_tf_data(monkeypatch):
    "Its pipeline once waited forever for the only thread that TensorFlow has for operations; batches give the same."
    model = network.build(32)
    films = np.random.default_rng(0).integers(0, 256, (5, 32, 32)).astype(np.uint8)
    whole = training.logits_of(model, films)
    for begin in ("from_tensors", "from_tensor_slices", "range"):
        monkeypatch.setattr(tf.data.Dataset, begin, lambda *_: pytest.fail("tf.data"))
    with pytest.raises(pytest.fail.Exception):
        model.predict(films[..., None], verbose=0)
    np.testing.assert_allclose(training.logits_of(model, films, batch_size=2), whole, atol=1e-5)
