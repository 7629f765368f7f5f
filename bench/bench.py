"""Predictor compared with the alternatives, in one run on this machine: `make bench`.

All run the shipped network's weights on two threads. Rounds go through all contenders in turn, so that a busy moment
hits each; a ratio is the median of the rounds' ratios.
The radiographs are synthetic. Writes bench/results.md and bench/results.json.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
RADIOGRAPHS = 24  # different ones


def clock(f):
    "Seconds that f takes."
    began = time.perf_counter()
    f()
    return time.perf_counter() - began


def rounds(contenders, n, each=1):
    "Median milliseconds per call of each contender, and a function: median over the rounds of two names' ratio."
    for f in contenders.values():
        f(), f()
    times = {k: [] for k in contenders}
    for _ in range(n):
        for k, f in contenders.items():
            time.sleep(0.05)  # until the threads of the one before have stopped waiting for work
            f()
            times[k].append(1000 * clock(lambda f=f: [f() for _ in range(each)]) / each)
    return {k: statistics.median(v) for k, v in times.items()}, lambda a, b: statistics.median(
        x / y for x, y in zip(times[a], times[b], strict=True)
    )


def jpeg(pixels, quality=92):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def radiographs(size):
    from xraypneu.data.sample import draw_radiograph

    return [draw_radiograph(i, size=size)[0] for i in range(RADIOGRAPHS)]


def keras_twin(bundle):
    "The same weights in Keras."
    from xraypneu.model import network

    return network.set_weights(
        network.build(bundle.size), network.read_onnx((bundle.folder / "model.onnx").read_bytes())
    )


def square(data, size=224):
    "What somebody writes who has Pillow: decode, grey, resize."
    return np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((size, size), Image.Resampling.BILINEAR))


def other_runtimes(model, bundle):
    "LiteRT and OpenVINO on the same weights, as functions of an (n, S, S) uint8 array."
    import openvino as ov
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    with contextlib.redirect_stdout(io.StringIO()):  # it lists every variable
        content = converter.convert()
    lite = Interpreter(model_content=content, num_threads=2)
    shapes = {}

    def litert(x):
        if shapes.get("n") != len(x):
            lite.resize_tensor_input(lite.get_input_details()[0]["index"], (len(x), *x.shape[1:], 1))
            lite.allocate_tensors()
            shapes["n"] = len(x)
        lite.set_tensor(lite.get_input_details()[0]["index"], x[..., None].astype(np.float32))
        lite.invoke()
        return lite.get_tensor(lite.get_output_details()[0]["index"])[:, 0]

    core = ov.Core()
    compiled = core.compile_model(
        str(bundle.folder / "model.onnx"),
        "CPU",
        {"INFERENCE_NUM_THREADS": 2, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"},
    )
    return {"LiteRT fp32": litert, "OpenVINO fp32": lambda x: compiled({"image": x})["logit"]}


def cold(code):
    "Wall seconds and megabytes at the end of a new process; the least of three."
    # proportional set size would need root on some systems: resident size it is
    code += "\nimport re; print(int(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1]))"
    seen = []
    for _ in range(3):
        began = time.perf_counter()
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent)
        seen.append((time.perf_counter() - began, int(out.stdout.split()[-1]) / 1024))
    return min(s for s, _ in seen), min(m for _, m in seen)


PACKAGES = "onnxruntime", "tensorflow", "keras", "openvino", "ai-edge-litert", "numpy", "pillow"


def machine():
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].splitlines()[0].split()
    have = [f for f in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if f in flags]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    installed = {d.name: d.version for d in distributions()}  # `make bench` alone installs OpenVINO and LiteRT
    versions = [f"{p} {installed[p]}" for p in PACKAGES if p in installed]
    return (
        f"{cpu} ({', '.join(have)}), {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
        + ", ".join(versions)
    )


class Sheet:
    "A page of measurements that is printed while it grows, with the requirements at its end."

    def __init__(self):
        self.lines, self.checks = [], []

    def say(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def check(self, what, value, must, aim, fewer=False):
        good = (lambda limit: value <= limit) if fewer else (lambda limit: value >= limit)
        self.checks.append((what, value, must, aim, "yes" if good(must) else "NO", "yes" if good(aim) else "no"))

    def table(self, head, rows):
        from xraypneu.markdown import markdown_table

        self.say(markdown_table(head, rows))

    def write(self, folder, name, numbers):
        "Write NAME.md and NAME.json; the exit status: 0 where every 'must' holds."
        self.say("\n## Requirements\n")
        rows = [
            (what, f"{value:.2f}", must, holds, aim, reached) for what, value, must, aim, holds, reached in self.checks
        ]
        self.table(["", "measured", "must", "holds", "aim", "reached"], rows)
        Path(folder, f"{name}.md").write_text("\n".join(self.lines) + "\n")
        Path(folder, f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
        return 0 if all(c[4] == "yes" for c in self.checks) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5216, help="of the packed array")
    parser.add_argument("--originals", type=int, default=240, help="large JPEGs")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", default=str(HERE))
    args = parser.parse_args()

    import tensorflow as tf

    from xraypneu.model import network  # noqa: F401  sets what TensorFlow reads
    from xraypneu.model.bundle import load_bundle
    from xraypneu.serving.predict import Predictor

    tf.config.threading.set_intra_op_parallelism_threads(2)
    bundle, predictors = load_bundle(), {p: Predictor(precision=p) for p in ("fp32", "int8")}
    model = keras_twin(bundle)
    compiled = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    others = other_runtimes(model, bundle)
    raw = {
        p: (lambda x, s=predictor.bundle.session: s.run(["logit", "map", "features"], {"image": x}))
        for p, predictor in predictors.items()
    }

    small, large = radiographs(224), radiographs(1300)
    files, originals = [jpeg(a) for a in small], [jpeg(a) for a in large]
    batch = np.stack(small)
    result, sheet = {"machine": machine(), "bundle": bundle.hash}, Sheet()
    say, check, table = sheet.say, sheet.check, sheet.table

    say(
        "# Predictor compared with the alternatives\n\n"
        "Written by `make bench`; don't edit. "
        "Synthetic radiographs, the weights of the shipped network, two threads.\n"
    )
    say(f"{result['machine']}. Bundle `{bundle.hash[:12]}`.\n")

    # the same answers, before anybody is timed
    want = raw["fp32"](batch)[0]
    for name, f in {"Keras": lambda x: model.predict(x[..., None], verbose=0)[:, 0], **others}.items():
        gap = float(np.abs(bundle.probability(f(batch)) - bundle.probability(want)).max())
        assert gap < 2e-3, f"{name} gives other answers: {gap}"

    # one image, from its bytes
    turn = {"i": 0}

    def data():
        turn["i"] = (turn["i"] + 1) % RADIOGRAPHS
        return files[turn["i"]]

    single = {
        "Predictor fp32": lambda: predictors["fp32"].predict(data()),
        "Predictor int8": lambda: predictors["int8"].predict(data()),
        "raw session fp32": lambda: raw["fp32"](batch[:1]),
        "raw session int8": lambda: raw["int8"](batch[:1]),
        "decode + Keras predict": lambda: model.predict(square(data())[None, ..., None], verbose=0),
        "decode + tf.function": lambda: compiled(tf.constant(square(data())[None, ..., None])).numpy(),
        **{f"decode + {k}": (lambda f=f: f(square(data())[None])) for k, f in others.items()},
    }
    ms, ratio = rounds(single, args.rounds, 6)
    result["single_ms"] = ms
    say("## One image of 224 pixels, from the bytes of its JPEG\n")
    rows = [(k, f"{v:.2f}", f"{ratio('decode + Keras predict', k):.1f}") for k, v in ms.items()]
    table(["", "ms", "Keras takes so many times as long"], rows)
    say("\nThe raw session has no decoding to do, no verdict to find and no picture to keep.\n")
    best = min(("fp32", "int8"), key=lambda p: ms[f"Predictor {p}"])
    check("one image, Keras predict / Predictor", ratio("decode + Keras predict", f"Predictor {best}"), 12, 20)
    check(
        "overhead of Predictor over the raw session, fp32, %",
        100 * (ratio("Predictor fp32", "raw session fp32") - 1),
        35,
        15,
        fewer=True,
    )

    # a packed array
    packed = np.concatenate([batch] * (args.images // len(batch) + 1))[: args.images]
    parts = [packed[i : i + 32] for i in range(0, len(packed), 32)]
    array = {
        "fp32": lambda: [raw["fp32"](x) for x in parts],
        "int8": lambda: [raw["int8"](x) for x in parts],
        "Keras predict, batches of 32": lambda: model.predict(packed[..., None], batch_size=32, verbose=0),
    }
    few = [packed[i : i + 32] for i in range(0, 640, 32)]
    more = {
        "fp32": lambda: [raw["fp32"](x) for x in few],
        **{k: (lambda f=f: [f(x) for x in few]) for k, f in others.items()},
        "tf.function": lambda: [compiled(tf.constant(x[..., None])) for x in few],
    }
    for f in array.values():
        f()
    times = {k: [] for k in array}
    for _ in range(3):
        for k, f in array.items():
            time.sleep(0.05)
            times[k].append(clock(f))
    rate = {k: len(packed) / statistics.median(v) for k, v in times.items()}

    def against(k):
        return statistics.median(a / b for a, b in zip(times["Keras predict, batches of 32"], times[k], strict=True))

    result["array_per_s"] = rate
    ms_more, ratio_more = rounds(more, 3)
    say(f"## {len(packed):,} images of a packed array, batches of 32\n")
    by_fp32 = {k: ratio_more("fp32", k) * against("fp32") for k in list(more)[1:]}
    rows = [(k, f"{v:.0f}", f"{against(k):.2f}") for k, v in rate.items()] + [
        (f"{k}, 640 images", f"{640_000 / ms_more[k]:.0f}", f"{v:.2f} (by way of fp32)") for k, v in by_fp32.items()
    ]
    table(["", "images/s", "times Keras"], rows)
    check("packed array, best of fp32 and int8 / Keras", max(against("fp32"), against("int8")), 2, 4)

    # large JPEGs
    stream = (originals * (args.originals // len(originals) + 1))[: args.originals]
    kb = sum(map(len, originals)) / len(originals) / 1024

    def keras_stream():
        for i in range(0, len(stream), 32):
            model.predict(np.stack([square(d) for d in stream[i : i + 32]])[..., None], batch_size=32, verbose=0)

    jpegs = {
        f"predict_batch {p}": (lambda p=p: [None for _ in predictors[p].predict_batch(stream)]) for p in predictors
    } | {"Pillow + Keras": keras_stream}
    ms_jpegs, ratio_jpegs = rounds(jpegs, 3)
    result["jpegs_per_s"] = {k: 1000 * len(stream) / v for k, v in ms_jpegs.items()}
    say(f"\n## JPEGs of 1.7 megapixels, {kb:.0f} KiB each\n")
    rows = [(k, f"{result['jpegs_per_s'][k]:.0f}", f"{ratio_jpegs('Pillow + Keras', k):.2f}") for k in jpegs]
    table(["", "images/s", "times Pillow + Keras"], rows)
    check(
        "large JPEGs, best of fp32 and int8 / Pillow + Keras",
        max(ratio_jpegs("Pillow + Keras", k) for k in list(jpegs)[:2]),
        2.5,
        5,
    )

    # a new process
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.jpg"
        film.write_bytes(files[0])
        ours = cold(f"from xraypneu.serving.predict import Predictor; Predictor().predict({str(film)!r})")
        eight = cold(
            f"from xraypneu.serving.predict import Predictor; Predictor(precision='int8').predict({str(film)!r})"
        )
        theirs = cold(
            f"import sys; sys.path.insert(0, {str(HERE)!r}); import bench; "
            "from xraypneu.model.bundle import load_bundle; m = bench.keras_twin(load_bundle()); "
            f"m.predict(bench.square(open({str(film)!r}, 'rb').read())[None, ..., None], verbose=0)"
        )
    result["cold"] = {"fp32": ours, "int8": eight, "keras": theirs}
    say("\n## A new process: start, import, first prediction\n")
    rows = [
        (k, f"{s:.2f}", f"{mb:.0f}", f"{theirs[0] / s:.1f} × the time, {theirs[1] / mb:.1f} × the memory")
        for k, (s, mb) in (("Predictor fp32", ours), ("Predictor int8", eight), ("Keras", theirs))
    ]
    table(["", "s", "MB resident", "Keras needs so many times"], rows)
    check("new process to first prediction, s", ours[0], 1.0, 0.5, fewer=True)
    check("its memory, MB", ours[1], 200, 130, fewer=True)

    return sheet.write(args.out, "results", result)


if __name__ == "__main__":
    sys.exit(main())
