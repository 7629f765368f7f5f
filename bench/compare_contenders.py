"""The contenders of bench/compare.py. Each step runs in a process of its own: `compare_contenders.py JOB.json`.

Settings of the others are those of their sources, as read on 2026-11-29, and are never changed in view of a result:

- reference: README, params.yaml and src/ of github.com/naqshabjaved/pneumonia-mlops-pipeline. 150 pixels, scaled to
  0 to 1, backbone frozen; flip, rotation and zoom drawn once, as they are cached; dropout .5, class weights, Adam,
  10 epochs, threshold .5. Its own split of train, 20 % of the files, is replaced by that of the prepared data.
- finetuned: TensorFlow's tutorial 'Transfer learning and fine-tuning' (tensorflow.org/tutorials/images), for the same
  backbone. 160 pixels, flip and rotation, dropout .2; 10 epochs frozen with Adam at 1e-4, then 10 from layer 100 on
  with RMSprop at 1e-5, batch norms frozen, threshold .5.
- sklearn: the user guide's pipeline of StandardScaler and LogisticRegression on pooled features, 224 pixels.

All read the squares of the prepared data, train on its train split, and start from the same ImageNet weights.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xraypneu.data.dataset import load_prepared
from xraypneu.evaluation.evaluate import fixed_points, ood_benchmark, perturbations, robustness, score_test
from xraypneu.files import sha256_of, write_file
from xraypneu.metrics.definitions import ROBUSTNESS
from xraypneu.metrics.scores import at_threshold, bootstrap, classification_metrics
from xraypneu.model.augment import shifted_copies
from xraypneu.model.bundle import load_bundle
from xraypneu.model.ood import ood_images

THRESHOLD = 0.5  # of all but ours
BATCH = 32
SEEDS = {"reference": 1337, "finetuned": 0, "sklearn": 0}
SIDES = {"reference": 150, "finetuned": 160, "sklearn": 224}
EPOCHS = 10  # of the reference; of the tutorial, frozen and again fine-tuned
TIMES = 5  # as many epochs, to see when the reference's recipe has the accuracy that it publishes
REST = "building, calibration, outlier detector, int8, bundle"  # what our training does besides its epochs
FIRST_LAYER = 100  # of the backbone that the tutorial fine-tunes


@dataclass(frozen=True)
class Job:
    "What a step needs to know."

    prepared: str  # folder
    films: str  # folder with {train,validation}/{NORMAL,PNEUMONIA}: the prepared squares as PNG
    work: str  # folder for models
    weights: str  # `imagenet`, or the file that stands for it
    parameters: dict  # section `train` of params.yaml
    bootstrap: int = 2000
    epochs: int | None = None  # per phase, at most; None: as the recipe says

    def limit(self, epochs):
        return min(epochs, self.epochs or epochs)


class Clock:
    "Seconds of named steps."

    def __init__(self):
        self.seconds, self.last = {}, time.perf_counter()

    def lap(self, name):
        "The time since the last lap belongs to this step."
        now = time.perf_counter()
        self.seconds[name], self.last = now - self.last, now


# --- what all are measured on


def splits(job, *names):
    "Name to images (n, S, S) uint8 and labels; `shifted` is the validation, altered once, as in our training."
    prepared, out = load_prepared(job.prepared), {}
    for name in names:
        images, y, _ = prepared.arrays("validation" if name == "shifted" else name)
        out[name] = (shifted_copies(images) if name == "shifted" else images), y
    return out


def summary(name, y, p, threshold):
    "ROC AUC and rates of one set, with its name in front."
    rates = at_threshold(y, p, threshold)
    row = {"roc_auc": float(roc_auc_score(y, p))} | {k: rates[k] for k in ("accuracy", "sensitivity", "specificity")}
    return {f"{name}_{k}": v for k, v in row.items()}


def told(row):
    "Print an epoch."
    values = [f"{k} {v:.3f}" for k, v in row.items() if k.endswith(("roc_auc", "accuracy"))]
    print(f"epoch {row['epoch']} ({row['phase']}), {row['seconds']:.0f} s: {', '.join(values)}", flush=True)
    return row


# --- Keras: the reference's recipe, the tutorial's


def backbone(side, weights):
    "MobileNetV2 with ImageNet weights, 3 channels."
    import keras

    named = weights == "imagenet"
    net = keras.applications.MobileNetV2(
        input_shape=(side, side, 3), include_top=False, weights="imagenet" if named else None
    )
    if not named:
        net.load_weights(weights)
    return net


def folder_data(job, split, name, shuffle=True):
    "Batches of float32 pixels, 0 to 255, and labels (n, 1)."
    import keras

    return keras.utils.image_dataset_from_directory(
        Path(job.films, split),
        label_mode="binary",
        image_size=(SIDES[name],) * 2,
        batch_size=BATCH,
        shuffle=shuffle,
        seed=SEEDS[name],
        verbose=False,
    )


def pixels(images, name):
    "The same batch from an array: (n, S, S) uint8 to float32 (n, side, side, 3), resized as the folder's files are."
    import tensorflow as tf

    return tf.image.resize(tf.repeat(np.ascontiguousarray(images)[..., None], 3, axis=-1), (SIDES[name],) * 2)


def outputs(model, images, name):
    "What a model of pixels from 0 to 255 answers: (n, k)."
    parts = [model.predict_on_batch(pixels(images[i : i + 64], name)) for i in range(0, len(images), 64)]
    return np.concatenate(parts)


def fitted(model, data, ask, job, phase, before=(), **options):
    """Train `EPOCHS` epochs; returns a row per epoch, after those `before`.

    Its metrics are measured off the clock; `ask` gives probabilities of images."""
    import keras

    held, rows = splits(job, "validation", "shifted", "test"), list(before)

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            row = {"epoch": len(rows) + 1, "phase": phase, "seconds": time.perf_counter() - self.began}
            for k, (images, y) in held.items():
                row |= summary(k, y, ask(images), THRESHOLD)
            rows.append(told(row))

    model.fit(data, epochs=job.limit(EPOCHS), verbose=0, callbacks=[Watch()], **options)
    return rows


def keras_probabilities(model, images, name):
    "(n,) of a model with one sigmoid unit."
    return outputs(model, images, name)[:, 0].astype(np.float64)


def reference_model(job):
    "The network that is trained, of pixels from 0 to 1, and the same of pixels from 0 to 255."
    import keras

    net = backbone(SIDES["reference"], job.weights)
    net.trainable = False
    layers = [net, keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.5)]
    head = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
    head.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    side = SIDES["reference"]
    whole = keras.Sequential([keras.Input((side, side, 3)), keras.layers.Rescaling(1 / 255), head])
    return head, whole


def reference_data(job):
    "Augmented and cached training batches, validation batches, and class weights, for which all are read once."
    import keras
    import tensorflow as tf

    some = keras.layers
    change = keras.Sequential([some.RandomFlip("horizontal"), some.RandomRotation(0.1), some.RandomZoom(0.1)])

    def ready(data, function):
        return data.map(function, num_parallel_calls=tf.data.AUTOTUNE).cache().prefetch(tf.data.AUTOTUNE)

    train = ready(folder_data(job, "train", "reference"), lambda x, y: (change(x, training=True) / 255, y))
    held = ready(folder_data(job, "validation", "reference", shuffle=False), lambda x, y: (x / 255, y))
    y = np.concatenate([y.numpy()[:, 0] for _, y in train]).astype(int)
    return train, held, {c: len(y) / (2 * (y == c).sum()) for c in (0, 1)}


def fit_reference(job, times=1):
    "Train as many epochs as the recipe has, `times` over: rows, seconds of the steps before them, and the network."
    import keras

    keras.utils.set_random_seed(SEEDS["reference"])
    clock = Clock()
    train, held, class_weight = reference_data(job)
    clock.lap("loading")
    model, whole = reference_model(job)
    clock.lap("building")
    rows, options = [], {"validation_data": held, "class_weight": class_weight}
    for _ in range(times):  # the optimizer goes on where it was
        rows = fitted(
            model, train, lambda images: keras_probabilities(whole, images, "reference"), job, "frozen", rows, **options
        )
    return rows, clock.seconds, whole


def train_reference(job):
    rows, seconds, whole = fit_reference(job)
    whole.save(Path(job.work, "reference.keras"))
    return rows, seconds


def train_longer(job):
    "The same, trained on: its rows count for the time to the accuracy that the reference publishes, never for quality."
    return fit_reference(job, TIMES)[:2]


def tutorial_model(job):
    "Augmentation, scale, backbone and one unit; the backbone."
    import keras

    side = SIDES["finetuned"]
    net = backbone(side, job.weights)
    net.trainable = False
    image = keras.Input((side, side, 3))
    x = keras.layers.RandomRotation(0.2)(keras.layers.RandomFlip("horizontal")(image))
    x = net(keras.layers.Rescaling(1 / 127.5, -1)(x), training=False)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(x)), net


def train_finetuned(job):
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(SEEDS["finetuned"])
    clock = Clock()
    train, held = (folder_data(job, s, "finetuned").prefetch(tf.data.AUTOTUNE) for s in ("train", "validation"))
    clock.lap("loading")
    model, net = tutorial_model(job)
    clock.lap("building")

    def ask(images):
        return keras_probabilities(model, images, "finetuned")

    model.compile(keras.optimizers.Adam(1e-4), "binary_crossentropy", metrics=["accuracy"])
    rows = fitted(model, train, ask, job, "frozen", validation_data=held)
    net.trainable = True
    for layer in net.layers[:FIRST_LAYER]:
        layer.trainable = False
    model.compile(keras.optimizers.RMSprop(1e-5), "binary_crossentropy", metrics=["accuracy"])
    rows = fitted(model, train, ask, job, "fine-tuning", rows, validation_data=held)
    model.save(Path(job.work, "finetuned.keras"))
    return rows, clock.seconds


# --- scikit-learn on frozen features


def feature_model(job):
    "Pixels to pooled features (n, 1280)."
    import keras

    side = SIDES["sklearn"]
    scale, net = keras.layers.Rescaling(1 / 127.5, -1), backbone(side, job.weights)
    return keras.Sequential([keras.Input((side, side, 3)), scale, net, keras.layers.GlobalAveragePooling2D()])


def linear(features, y):
    "Weights (k,) and bias of a logistic regression on standardised features, for the features as they are."
    steps = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, y)
    scale, fit = steps[0], steps[1]
    w = fit.coef_[0] / scale.scale_
    return w, float(fit.intercept_[0] - w @ scale.mean_)


def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


def head_row(seconds, w, b, features):
    "The row of a head that is fitted at once; `features`: name of a set to features and labels."
    row = {"epoch": 1, "phase": "fit", "seconds": seconds}
    for name, (x, y) in features.items():
        row |= summary(name, y, sigmoid(x @ w + b), THRESHOLD)
    return told(row)


def train_sklearn(job):
    import keras

    keras.utils.set_random_seed(SEEDS["sklearn"])
    clock = Clock()
    model = feature_model(job)
    clock.lap("building")
    data = folder_data(job, "train", "sklearn", shuffle=False)
    features = model.predict(data, verbose=0)
    clock.lap("features")
    w, b = linear(features, np.concatenate([y.numpy()[:, 0] for _, y in data]))
    clock.lap("fit")
    held = splits(job, "validation", "shifted", "test")
    measured = {k: (outputs(model, x, "sklearn"), y) for k, (x, y) in held.items()}
    np.savez(Path(job.work, "sklearn.npz"), w=w, b=b)
    return [head_row(clock.seconds.pop("fit"), w, b, measured)], clock.seconds


# --- ours


def train_ours(job):
    "One seed with the parameters of params.yaml, from the same weights. Never opens the test split."
    from xraypneu.model import recipe, training
    from xraypneu.ops.tune import without_test

    limits = {k: job.limit(job.parameters[k]) for k in ("epochs", "head_epochs")}
    chosen = job.parameters | limits | {"weights": job.weights, "seeds": 1, "folds": 0}
    settings, targets = recipe.recipe_of(**chosen)
    prepared, seen, epochs = without_test(load_prepared(job.prepared)), [], []
    logits_of = training.logits_of

    def noted(*args, **options):
        seen.append(logits_of(*args, **options))
        return seen[-1]

    def on_epoch(row):
        print(f"epoch {row['epoch']} ({row['phase']}), {row['seconds']:.0f} s", flush=True)
        epochs.append((row, *seen[-2:]))  # logits of validation, and of its shifted copies

    began = time.perf_counter()
    with mock.patch.object(training, "logits_of", noted):
        recipe.train(prepared, settings, targets, Path(job.work, "ours"), on_epoch=on_epoch, report=lambda line: None)
    rest = time.perf_counter() - began - sum(row["seconds"] for row, *_ in epochs)
    held = recipe.validation_of(*prepared.arrays("validation"), copies=1)
    return [epoch_row(row, plain, shifted, held, targets) for row, plain, shifted in epochs], {REST: rest}


def epoch_row(row, plain, shifted, held, targets):
    "An epoch of ours at the operating point that the library's policy chooses from its logits."
    from xraypneu.model.bundle import platt
    from xraypneu.model.recipe import decision_policy

    policy = decision_policy(plain, shifted, held, targets)
    line, out = policy["calibration"], {k: row[k] for k in ("epoch", "phase", "seconds")}
    for name, z in (("validation", plain), ("shifted", shifted)):
        out |= summary(name, held.y, platt(z, line["slope"], line["intercept"]), policy["threshold"])
    return told(out)


def onnx_features(session, images):
    "Pooled features (n, 1280) of (n, S, S) uint8, in batches of 32."
    parts = [session.run(["features"], {"image": images[i : i + BATCH]})[0] for i in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def train_cached(job):
    "A head on features that ONNX Runtime computes once. Our training doesn't do this: what caching would gain."
    import onnxruntime

    from xraypneu.model import network

    held = splits(job, "train", "validation", "shifted")
    images, y = held.pop("train")
    clock = Clock()
    model = network.initialise(network.build(images.shape[1]), job.weights)
    session = onnxruntime.InferenceSession(network.to_onnx(model))
    clock.lap("building")
    features = onnx_features(session, images)
    clock.lap("features")
    w, b = linear(features, y)
    clock.lap("fit")
    measured = {k: (onnx_features(session, x), labels) for k, (x, labels) in held.items()}
    return [head_row(clock.seconds.pop("fit"), w, b, measured)], clock.seconds


# --- quality


def answers(job, name):
    "A function of images (n, S, S) uint8: probabilities (n,)."
    import keras

    if name == "sklearn":
        model, head = feature_model(job), np.load(Path(job.work, "sklearn.npz"))
        return lambda images: sigmoid(outputs(model, images, name) @ head["w"] + head["b"])
    model = keras.models.load_model(Path(job.work, f"{name}.keras"))
    return lambda images: keras_probabilities(model, images, name)


def altered(ask, images, y):
    "Metrics per alteration of the robustness table."
    out = {}
    for name, change in perturbations(images.shape[1]).items():
        print(f"  {name}", flush=True)
        p = ask(images if change is None else np.stack([change(a) for a in images]))
        values = classification_metrics(y, p, THRESHOLD)
        out[name] = {k: values[k] for k in ROBUSTNESS}
    return out


def other_images(ask, images, p):
    """Answers to images that are no upright frontal radiographs: who can't refuse, answers each.

    The AUROC is that of the confidence, max(p, 1 - p), which is all that such a model has to tell them apart."""
    out = {"test images": {"images": len(images), "refused": 0.0}}
    doubt = -np.maximum(p, 1 - p)
    for kind, a in ood_images(images).items():
        print(f"  {kind}", flush=True)
        q = ask(a)
        both = np.r_[doubt, -np.maximum(q, 1 - q)]
        auroc = roc_auc_score(np.r_[np.zeros(len(p)), np.ones(len(q))], both)
        row = {"images": len(a), "refused": 0.0, "pneumonia": float((q >= THRESHOLD).mean()), "auroc": float(auroc)}
        out[kind] = row
    return out


def measured(job, y, p, patients, threshold, changed, others):
    "The quality of a contender, as the published evaluation has it."
    points = fixed_points(y, p).to_dict("records")
    return {
        "test": classification_metrics(y, p, threshold),
        "intervals": bootstrap(y, p, patients, threshold, n=job.bootstrap),
        "fixed_points": {f"{o['metric']} at {o['constraint']}": o["value"] for o in points},
        "robustness": changed,
        "ood": others,
        "threshold": threshold,
        "p": [float(v) for v in p],
    }


def quality_of(job, name):
    "The test split's results of a baseline."
    images, y, patients = load_prepared(job.prepared).arrays("test")
    ask = answers(job, name)
    p = ask(images)
    return measured(job, y, p, patients, THRESHOLD, altered(ask, images, y), other_images(ask, images, p))


def quality_of_ours(job):
    "The same of the bundle that was trained here: for films whose test split nobody has published results of."
    prepared, bundle = load_prepared(job.prepared), load_bundle(Path(job.work, "ours/bundle"))
    s = score_test(prepared, bundle)
    changed = {row.pop("change"): row for row in robustness(bundle, s).to_dict("records")}
    return measured(job, s.y, s.p, s.patients, s.threshold, changed, ood_benchmark(bundle, s.images))


# --- a step

TRAIN = {
    "reference": train_reference,
    "longer": train_longer,
    "finetuned": train_finetuned,
    "sklearn": train_sklearn,
    "ours": train_ours,
    "cached": train_cached,
}
MODELS = {"reference": "reference.keras", "finetuned": "finetuned.keras", "sklearn": "sklearn.npz"}
MODELS |= {"ours": "ours/bundle/bundle.json", "cached": "", "longer": ""}


def model_hash(work, name):
    "SHA-256 of a trained model's file; empty if there is none."
    file = Path(work, MODELS[name])
    return sha256_of(file) if MODELS[name] and file.is_file() else ""


def step(job, name, phase):
    "The result of a step: training with its times, or quality on test."
    Path(job.work).mkdir(parents=True, exist_ok=True)
    if phase == "quality":
        found = quality_of_ours(job) if name == "ours" else quality_of(job, name)
        return {"quality": found, "model": model_hash(job.work, name)}
    rows, seconds = TRAIN[name](job)
    steps = [{"step": k, "seconds": v} for k, v in seconds.items()]
    each = [row.pop("seconds") for row in rows]
    return {"epochs": rows, "times": {"steps": steps, "epochs": each}, "model": model_hash(job.work, name)}


def main(file):
    asked = json.loads(Path(file).read_text())
    found = step(Job(**asked["job"]), asked["name"], asked["phase"])
    write_file(asked["out"], json.dumps(found, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
