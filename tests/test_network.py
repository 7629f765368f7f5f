"""What notebooks can't hold: a download from a real server, the shipped bundle, an installation without the extras."""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT
from keras.src.applications import mobilenet_v2
from keras.src.legacy.saving import legacy_h5_format

from xraypneu.data.sample import draw_radiograph
from xraypneu.model import network
from xraypneu.model.bundle import SHIPPED, load_bundle
from xraypneu.serving.predict import Predictor

FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


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

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", f"http://127.0.0.1:{httpd.server_port}/")
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    yield folder
    httpd.shutdown()
    httpd.server_close()


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
