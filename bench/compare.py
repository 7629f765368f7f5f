"""xraypneu compared with what somebody would use instead, in one run on this machine: `make compare DATA=folder`.

    python bench/compare.py FOLDER                          # all steps that have no result yet
    python bench/compare.py FOLDER --weights FILE           # ImageNet weights from a file, where Keras can't download
    python bench/compare.py data/sample --epochs 1          # a first look
    python bench/compare.py FOLDER --only reference ours    # these contenders alone

Each contender has two steps, training and quality on test, in processes of their own: bench/compare_contenders.py has
the recipes. The reference's is trained on as well, to time when it has the accuracy that it publishes.
A finished step is kept in .cache/bench-compare, so a run that was stopped goes on with the next one.
Writes bench/compare.json and bench/compare.md. Times are written only of an idle machine: where others are busy before
a training or during it, its times are printed and not kept, and it is repeated by the next run.

Of the official test split, our row is the published evaluation in results/chest_xray: nothing of ours is scored on it.
"""

import argparse
import hashlib
import json
import math
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
import psutil
import yaml
from compare_contenders import EPOCHS, REST, SIDES, THRESHOLD, TIMES, Job, model_hash
from PIL import Image
from sklearn.metrics import roc_curve

from bench import Sheet, machine
from xraypneu.data import dataset
from xraypneu.data.dataset import CLASSES, load_prepared, prepare
from xraypneu.files import replacing, sha256_of, write_file
from xraypneu.metrics.definitions import METRICS, REFERENCE, metric_text, value_text
from xraypneu.metrics.scores import OFFICIAL_TEST, is_official_test, paired
from xraypneu.ops.tracking import git_state

HERE = Path(__file__).parent
ROOT = HERE.parent
STATE = ROOT / ".cache/bench-compare"
PUBLISHED = ROOT / "results/chest_xray"
BUSY = 0.05  # share of the processors that others may use while times are taken
NAMES = {
    "reference": "the reference's recipe",
    "longer": "the reference's recipe, trained on",
    "finetuned": "Keras fine-tuning",
    "sklearn": "scikit-learn",
    "ours": "xraypneu",
    "cached": "head on cached features",
}
RIVALS = ("reference", "finetuned", "sklearn")
SHOWN = (*RIVALS, "ours")
ABOUT = {
    "reference": "the project that this one replaces, by its README, parameters and code: MobileNetV2 at 150 pixels, "
    "frozen; `image_dataset_from_directory`; flip, rotation and zoom, drawn once and cached; dropout .5, class "
    "weights, Adam, 10 epochs, threshold .5",
    "finetuned": "TensorFlow's tutorial *Transfer learning and fine-tuning*: MobileNetV2 at 160 pixels, flip and "
    "rotation, 10 epochs frozen and 10 from layer 100 on, threshold .5",
    "sklearn": "`StandardScaler` and `LogisticRegression` on pooled features of the frozen MobileNetV2 at 224 pixels, "
    "threshold .5",
    "ours": "params.yaml, one seed, from the ImageNet weights of the others; threshold, calibration and refusals from "
    "validation and its shifted copies. On the official test split, quality is that of the published model",
}
STEPS = [*((name, phase) for name in SHOWN for phase in ("train", "quality")), ("cached", "train"), ("longer", "train")]
PACKAGES = ("tensorflow", "keras", "scikit-learn", "numpy", "onnxruntime", "pillow")
FORWARD_MS, TRAIN_MS = 7.3, 22  # per image at 224 pixels, 2 idle cores


# --- data: the same squares for all


def listing(folder):
    "Identifies the files of a data folder by name, size and time, without reading them."
    files = sorted(Path(here, n) for here, _, names in os.walk(folder, followlinks=True) for n in names)
    rows = [f"{p.relative_to(folder)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
    return hashlib.sha256("\n".join(rows).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def squares(folder, state, settings):
    "The prepared data of a folder and their squares as PNG, made once; returns both folders."
    code = [p.read_text() for p in sorted(Path(dataset.__file__).parent.glob("*.py"))]
    key = hashlib.sha256(json.dumps([listing(folder), settings, code], sort_keys=True).encode()).hexdigest()[:12]
    prepared, films = state / f"prepared-{key}", state / f"films-{key}"
    if not prepared.exists():
        prepare(folder, prepared, **settings)
    if not films.exists():
        write_films(load_prepared(prepared), films)
    return prepared, films


def write_films(prepared, folder):
    "Train and validation as PNG, {split}/{class}/{row}.png; test isn't written."
    with replacing(folder) as new:
        for split in ("train", "validation"):
            rows = prepared.rows(split)
            for label in CLASSES:
                (new / split / label).mkdir(parents=True)
            for label, row in zip(rows.label, rows.row, strict=True):
                Image.fromarray(prepared.images[row]).save(new / split / label / f"{row:06d}.png", compress_level=1)


# --- our published evaluation

OLD_NAMES = {"rejection": "ood", "fixed": "fixed_points"}  # of metrics.json up to 0.2.0
OLD_WORDS = {"as they are": "original", " a side": " per side", "turned by": "rotated by"}


def renamed(value):
    "Sections and rows of a metrics.json as they are named today."
    if not isinstance(value, dict):
        return value
    out = {}
    for k, v in value.items():
        for old, new in OLD_WORDS.items():
            k = k.replace(old, new)
        out[OLD_NAMES.get(k, k)] = renamed(v)
    return out


def published(folder, rows, data_hash):
    "Quality of the published model from its evaluation. Ends the program if that is of other files than these."
    m = renamed(json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8")))
    p = pd.read_csv(Path(folder, "predictions.csv")).set_index("path").probability
    if m["data"]["hash"] != data_hash or set(p.index) != set(rows.path):
        sys.exit(
            f"The published evaluation is of other files ({m['data']['hash'][:12]}) than DATA ({data_hash[:12]}). "
            "Give the folder that the published model was trained on, or publish the new model first (make ship)."
        )
    return {
        "test": m["test"],
        "intervals": {k: [low, m["test_high"][k]] for k, low in m["test_low"].items()},
        "fixed_points": m["fixed_points"],
        "robustness": m["robustness"],
        "ood": m["ood"],
        "threshold": m["threshold"],
        "p": [float(v) for v in p[rows.path]],
        "published": m["model"]["hash"],
    }


# --- load


class Others:
    "Share of the processors that programs other than this one's children use, before and during a step."

    def __init__(self, seconds):
        self.before = psutil.cpu_percent(seconds) / 100
        self.began, self.busy, self.own = time.monotonic(), self._busy(), self._own()

    def _busy(self):
        t = psutil.cpu_times()
        return sum(t) - t.idle - getattr(t, "iowait", 0) - getattr(t, "guest", 0) - getattr(t, "guest_nice", 0)

    def _own(self):
        used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    def most(self):
        "The larger of both; to be asked when the children have ended."
        wall = (time.monotonic() - self.began) * psutil.cpu_count()
        return max(self.before, (self._busy() - self.busy - self._own() + self.own) / max(wall, 1e-9))


# --- a step


class Comparison:
    "What is compared, and where its results are kept."

    def __init__(self, args):
        self.args, self.state = args, Path(args.state)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        self.state.mkdir(parents=True, exist_ok=True)
        settings = params["prepare"] | {"patient_patterns": params["data"]["patient_patterns"], "size": args.size}
        prepared, films = squares(args.data, self.state, settings)
        self.prepared = load_prepared(prepared)
        self.test = self.prepared.rows("test").reset_index(drop=True)
        self.official = is_official_test(self.test.y, self.test.path, self.prepared.synthetic)
        self.weights_hash = "" if args.weights == "imagenet" else sha256_of(args.weights)
        work = self.state / f"models-{prepared.name.split('-')[-1]}-{self.options()}"
        weights = args.weights if args.weights == "imagenet" else str(Path(args.weights).resolve())
        self.job = Job(
            str(prepared), str(films), str(work), weights, params["train"] | args.train, args.bootstrap, args.epochs
        )
        self.ours = published(args.published, self.test, self.prepared.info["data_hash"]) if self.official else None

    def options(self):
        "What distinguishes runs on the same data: 8 hexadecimal digits."
        some = [self.args.epochs, self.args.train, self.weights_hash or "imagenet"]
        return hashlib.sha256(json.dumps(some, sort_keys=True).encode()).hexdigest()[:8]

    def steps(self):
        "Contender and phase, in the order in which they run; of the published model, quality is there already."
        some = [s for s in STEPS if not self.args.only or s[0] in self.args.only]
        return [s for s in some if s != ("ours", "quality") or not self.official]

    def key(self, name, phase):
        "What a result depends on: code, data, parameters, versions."
        files = [HERE / "compare_contenders.py"]
        if phase == "quality" or name in ("ours", "cached"):
            files += sorted((ROOT / "xraypneu").rglob("*.py"))
        digest = hashlib.sha256(b"".join(f.read_bytes() for f in files))
        facts = asdict(self.job) | {"prepared": Path(self.job.prepared).name, "films": "", "work": "", "weights": ""}
        if name != "ours":
            facts["parameters"] = {}
        facts |= {"weights": self.weights_hash, "versions": [version(p) for p in PACKAGES]}
        digest.update(json.dumps(facts, sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def kept(self, name, phase):
        "The result of a step, if it is of this code, data and model; None: it has to be made."
        file = Path(self.job.work, f"{name}-{phase}.json")
        found = json.loads(file.read_text()) if file.is_file() else None
        model = model_hash(self.job.work, name)
        return found if found and (found["key"], found["model"]) == (self.key(name, phase), model) else None

    def is_finished(self, name, phase):
        "Is there nothing left to do, times included?"
        found = self.kept(name, phase)
        return bool(found) and (phase == "quality" or found["busy"] <= BUSY)

    def perform(self, name, phase):
        "Run a step and keep its result, without times if others were busy."
        Path(self.job.work).mkdir(parents=True, exist_ok=True)
        others, began = Others(self.args.watch), time.monotonic()
        found = in_a_process(self.job, name, phase)
        found |= {"busy": round(others.most(), 3), "seconds": round(time.monotonic() - began)}
        found |= {"key": self.key(name, phase), "machine": machine(), "commit": commit()}
        if phase == "train" and found["busy"] > BUSY:
            print(f"Others used {found['busy']:.0%} of the processors, so these times are not kept:", flush=True)
            print(json.dumps(found.pop("times")), flush=True)
        write_file(Path(self.job.work, f"{name}-{phase}.json"), json.dumps(found, indent=1) + "\n")
        return found

    def run(self):
        "All steps that are not finished; returns contender to phase to result."
        plan, results = self.steps(), {}
        for i, (name, phase) in enumerate(plan, 1):
            title = f"{i} of {len(plan)}: {NAMES[name]}, {phase}"
            if self.is_finished(name, phase):
                print(f"{title}: is there already", flush=True)
            else:
                print(f"{title}, about {minutes(name, phase, self):.0f} min on 2 idle cores", flush=True)
                self.perform(name, phase)
        for name, phase in STEPS:
            if found := self.kept(name, phase):
                results.setdefault(name, {})[phase] = found
        if self.official:
            results.setdefault("ours", {})["quality"] = {"quality": self.ours}
        return results


def in_a_process(job, name, phase):
    "The result of a step; TensorFlow keeps settings of one training for the next of the same process."
    asked, out = Path(job.work, "job.json"), Path(job.work, "result.json")
    out.unlink(missing_ok=True)
    write_file(asked, json.dumps({"job": asdict(job), "name": name, "phase": phase, "out": str(out)}) + "\n")
    subprocess.run([sys.executable, str(HERE / "compare_contenders.py"), str(asked)], check=True, cwd=ROOT)
    return json.loads(out.read_text())


def minutes(name, phase, comparison):
    "Expected minutes of a step on two idle cores, from counts of images and the costs of notes on MobileNetV2."
    counts = {s: len(comparison.prepared.rows(s)) for s in ("train", "validation", "test")}
    n, held, test = counts["train"], counts["validation"], counts["test"]
    forward = FORWARD_MS * (SIDES.get(name, 224) / 224) ** 2
    limit, seen = comparison.job.limit, 2 * held + test
    if phase == "quality":
        return (18 * test + 200) * forward / 60_000
    frozen = limit(EPOCHS) * (n + held + seen) * (forward + 2)  # 2 ms to read and augment
    if name in ("reference", "longer"):
        return frozen * (TIMES if name == "longer" else 1) / 60_000
    if name == "finetuned":
        return (frozen + limit(EPOCHS) * (n * (2 + forward * 2) + (held + seen) * forward)) / 60_000
    if name == "ours":
        p = comparison.job.parameters
        epochs, head = limit(p["epochs"]), limit(p["head_epochs"])
        fit = n * (epochs * TRAIN_MS + head * forward) + (epochs + head) * 2 * held * forward
        return (fit + 2 * (10 * held + 2 * n) * forward) / 60_000
    return (n + seen) * (forward if name == "sklearn" else forward / 2) / 60_000


def commit():
    state = git_state(ROOT)
    return state["git_commit"][:12] + "+" * (state["git_dirty"] == "true")


# --- the page: quality


def quality(results, name):
    return results.get(name, {}).get("quality", {}).get("quality")


def spread(q):
    "Mean and lowest accuracy over the alterations, and the largest fall of specificity."
    rows = {k: v for k, v in q["robustness"].items() if k != "original"}
    accuracy = [v["accuracy"] for v in rows.values()]
    fall = q["test"]["specificity"] - min(v["specificity"] for v in rows.values())
    return float(np.mean(accuracy)), min(accuracy), fall


def answered(q):
    "Mean over the kinds of images that are no upright radiographs: percentage that gets an answer, and AUROC."
    kinds = [v for k, v in q["ood"].items() if k != "test images"]
    if not kinds:  # a bundle without detector
        return math.nan, math.nan
    return float(np.mean([1 - v["refused"] for v in kinds])), float(np.mean([v["auroc"] for v in kinds]))


def quality_rows(results):
    "Rows of the table: label, whether more is better, contender to value, contender to text."
    found = {name: q for name in SHOWN if (q := quality(results, name))}
    rows = []
    for k in ("roc_auc", "accuracy", "sensitivity", "specificity", "brier"):
        values = {n: q["test"][k] for n, q in found.items()}
        texts = {n: value_text(k, v, *found[n]["intervals"][k]) for n, v in values.items()}
        rows.append((METRICS[k].label, METRICS[k].higher_is_better, values, texts))

    def more(label, values, higher=True, percent=True):
        rows.append((label, higher, values, {n: metric_text(v, percent) for n, v in values.items()}))

    for k in ("sensitivity at specificity at least 90%", "specificity at sensitivity at least 95%"):
        more(k.replace("%", " %"), {n: q["fixed_points"][k] for n, q in found.items()})
    labels = ("accuracy on altered images, mean", "accuracy on altered images, lowest", "largest fall of specificity")
    for i, (label, higher) in enumerate(zip(labels, (True, True, False), strict=True)):
        more(label, {n: spread(q)[i] for n, q in found.items()}, higher)
    more("out-of-distribution images, answered anyway", {n: answered(q)[0] for n, q in found.items()}, False)
    more("out-of-distribution images, AUROC", {n: answered(q)[1] for n, q in found.items()}, percent=False)
    return rows


BY_THRESHOLD = ("sensitivity", "specificity")  # each can be had at the price of the other


def at_their_point(results, y):
    """Sensitivity and specificity of each recipe, and ours where the other of the two is at least theirs.

    y: (n,), labels in the order of the predictions `p` of the results. A row is name, then metric to (theirs, ours)."""
    ours = quality(results, "ours")
    if not ours:
        return {}
    false, true, _ = roc_curve(y, ours["p"], drop_intermediate=False)
    out = {}
    for name in RIVALS:
        if q := quality(results, name):
            high, low = (q["test"][k] for k in BY_THRESHOLD)
            least = 1e-9  # of a rounding
            ours_high = float(true[1 - false >= low - least].max())
            ours_low = float((1 - false[true >= high - least]).max())
            out[name] = {"sensitivity": (high, ours_high), "specificity": (low, ours_low)}
    return out


def say_points(sheet, points):
    "The table of `at_their_point`."
    sheet.say("\n### At the operating point of each recipe\n")
    sheet.say(
        "Sensitivity and specificity depend on the threshold: a model that calls all films PNEUMONIA has a sensitivity "
        "of 100 %. So ours is compared where it has the same specificity, or the same sensitivity, as the other.\n"
    )
    cells = [
        [NAMES[n], *(metric_text(v, True) for v in (*p["sensitivity"], *p["specificity"]))] for n, p in points.items()
    ]
    head = ["sensitivity", "xraypneu at this recipe's specificity", "specificity", "xraypneu at its sensitivity"]
    sheet.table(["", *head], cells)


def is_best(higher, values):
    "Is our value better than each other one?"
    ours = values.get("ours", math.nan)
    return all(ours > v if higher else ours < v for n, v in values.items() if n != "ours")


def say_quality(sheet, results, comparison):
    rows = quality_rows(results)
    names = [n for n in SHOWN if quality(results, n)]
    if not names:
        return
    sheet.say(f"\n## Quality on the {len(comparison.test)} test images\n")
    what = "95 % intervals by patient. Ours is the published evaluation in results/chest_xray; the others were trained "
    sheet.say((what if comparison.official else "95 % intervals by patient. All were trained ") + "in this run.\n")
    points = at_their_point(results, comparison.test.y.to_numpy(int))
    by_threshold = {METRICS[k].label: all(p[k][1] > p[k][0] for p in points.values()) for k in BY_THRESHOLD}
    good = {label: by_threshold.get(label, is_best(higher, values)) for label, higher, values, _ in rows}
    words = {label: ("yes" if best else "NO") + " (below)" * (label in by_threshold) for label, best in good.items()}
    best = words if "ours" in names else {}
    cells = [[label, *(texts[n] for n in names), best.get(label, "")] for label, _, _, texts in rows]
    sheet.table(["", *(NAMES[n] for n in names), "xraypneu is best"], cells)
    if "ours" in names:
        refused = quality(results, "ours")["ood"].get("test images", {}).get("refused", math.nan)
        sheet.say(
            f"\nThe price of refusing: of the test images, all radiographs of children, xraypneu refuses "
            f"{metric_text(refused, True)} too in the published evaluation. (Its detector was fitted again since: "
            "the model card has the present figure.) The others can't refuse: they answer all out-of-distribution "
            "images, and their AUROC is that of their confidence.\n"
        )
        say_points(sheet, points)
        say_pairs(sheet, results, comparison)
    for title, table in (("Altered test images: accuracy", altered_table), ("Out-of-distribution images", ood_table)):
        sheet.say(f"\n### {title}\n")
        sheet.table(*table(results, names))
    if len(names) > 1 and "ours" in names:
        sheet.check("rows of quality in which xraypneu is best", sum(good.values()), len(good), len(good))


def say_pairs(sheet, results, comparison):
    "Differences on the same images."
    ours, cells = quality(results, "ours"), []
    y, patients = comparison.test.y.to_numpy(int), comparison.test.patient
    for name in RIVALS:
        if q := quality(results, name):
            d = paired(y, ours["p"], ours["threshold"], q["p"], THRESHOLD, patients, n=comparison.job.bootstrap)
            low, high = d["roc_auc_low"], d["roc_auc_high"]
            interval = f"{d['roc_auc']:+.4f} ({low:+.4f} to {high:+.4f})"
            cells.append([NAMES[name], interval, d["won"], d["lost"], f"{d['mcnemar_p']:.2g}"])
    if cells:
        sheet.say("\n### xraypneu minus the other, paired\n")
        sheet.table(["", "AUC, 95 % interval", "only xraypneu right", "only the other right", "McNemar's p"], cells)


def altered_table(results, names):
    "Head and cells: accuracy per alteration."
    found = {n: quality(results, n)["robustness"] for n in names}
    changes = found[names[0]]
    cells = [[k, *(metric_text(found[n].get(k, {}).get("accuracy"), True, "–") for n in names)] for k in changes]
    return ["", *(NAMES[n] for n in names)], cells


def ood_table(results, names):
    "Head and cells: percentage refused, and called PNEUMONIA, per kind of image."
    found = {n: quality(results, n)["ood"] for n in names}
    kinds = next((v for v in found.values() if len(v) > 1), {})

    def cell(row):
        return f"{metric_text(row.get('refused'), True, '–')}, {metric_text(row.get('pneumonia'), True, '–')}"

    cells = [[k, *(cell(found[n].get(k, {})) for n in names)] for k in kinds if k != "test images"]
    return ["refused, called PNEUMONIA", *(NAMES[n] for n in names)], cells


# --- the page: time


def accuracy_at_test_ratio(row, name):
    "Accuracy at the class ratio of the official test split, from the sensitivity and specificity of a set."
    ill, well = OFFICIAL_TEST["PNEUMONIA"], OFFICIAL_TEST["NORMAL"]
    if f"{name}_sensitivity" not in row:
        return math.nan
    return (ill * row[f"{name}_sensitivity"] + well * row[f"{name}_specificity"]) / (ill + well)


def until(result, reached):
    "Seconds of a training, loading included, to the first epoch whose row `reached` accepts, and this epoch, or None."
    steps = {s["step"]: s["seconds"] for s in result["times"]["steps"]}
    spent = sum(v for k, v in steps.items() if k != REST)  # most of which comes after the epochs
    for row, seconds in zip(result["epochs"], result["times"]["epochs"], strict=True):
        spent += seconds
        if reached(row):
            return spent, row["epoch"]
    return None


def total(result):
    "All seconds of a training."
    return sum(s["seconds"] for s in result["times"]["steps"]) + sum(result["times"]["epochs"])


def time_cells(name, result, n):
    "Rows of the table of times: contender, step, epochs, seconds, milliseconds per image."
    cells = [[NAMES[name], s["step"], "", s["seconds"], ""] for s in result["times"]["steps"]]
    phases = pd.DataFrame({"phase": [r["phase"] for r in result["epochs"]], "s": result["times"]["epochs"]})
    for phase, s in phases.groupby("phase", sort=False).s:
        each = "" if phase == "fit" else f"{1000 * s.mean() / n:.1f}"
        cells.append([NAMES[name], phase, "" if phase == "fit" else len(s), s.sum(), each])
    cells.append([NAMES[name], "**total**", "", total(result), ""])
    return [[a, b, c, f"{v:.1f}", e] for a, b, c, v, e in cells]


def timed(results):
    "The trainings that have times."
    return {n: r["train"] for n, r in results.items() if "times" in r.get("train", {})}


def say_times(sheet, results, comparison):
    trained, n = timed(results), len(comparison.prepared.rows("train"))
    if not trained:
        return
    sheet.say(f"\n## Time of training on {n:,} images\n")
    sheet.say(
        "Seconds. All read squares of 224 pixels that were decoded beforehand, from PNG or from one array. Epochs "
        "include the validation of the recipe; what this page measures after an epoch is off the clock. "
        f"*{NAMES['cached']}* is not a part of our training: ONNX Runtime computes the features of the unaltered "
        "images once, and scikit-learn fits the head.\n"
    )
    head = ["", "step", "epochs", "s", "ms per image and epoch"]
    sheet.table(head, [row for name, r in trained.items() for row in time_cells(name, r, n)])
    say_until(sheet, trained)
    say_head(sheet, trained)


def say_until(sheet, trained):
    "Time to the reference's accuracy."
    goal = REFERENCE["accuracy"]
    sheet.say(f"\n### Time to the reference's published accuracy, {goal:.2%}\n")
    sheet.say(
        "On shifted validation (validation films altered to imitate another hospital; accuracy at the class ratio of "
        "the official test split), as epochs of ours are not scored on test. The threshold is .5; ours is the "
        "operating point of each epoch, which is chosen on these images. On test: the baselines alone. "
        f"*{NAMES['longer']}* has {TIMES * EPOCHS} epochs instead of {EPOCHS}, to see when the recipe gets there.\n"
    )
    sets, cells, first = ("shifted", "test"), [], {}
    for name in [n for n in NAMES if n in trained and n != "cached"]:
        r = trained[name]
        found = {k: until(r, lambda row, k=k: accuracy_at_test_ratio(row, k) >= goal) for k in sets}
        best = [max(accuracy_at_test_ratio(row, k) for row in r["epochs"]) for k in sets]
        first[name] = found["shifted"]
        words = ["not reached" if not f else f"{f[0]:.0f} s, epoch {f[1]}" for f in found.values()]
        if name == "ours":
            words[1] = "not measured"
        cells.append([NAMES[name], *words, f"{total(r):.0f} s", *(metric_text(b, True, "–") for b in best)])
    sheet.table(["", "shifted validation", "test", "all epochs", "best epoch, shifted", "best epoch, test"], cells)
    if "ours" in first and "reference" in first:
        reached = first["reference"] or first.get("longer")
        last = trained.get("longer", trained["reference"])
        theirs = reached[0] if reached else total(last)
        what = "time to the reference's accuracy, xraypneu / the reference's recipe"
        what += "" if reached else f" (at most: it isn't reached in {len(last['epochs'])} epochs, {theirs:.0f} s)"
        sheet.check(what, first["ours"][0] / theirs if first["ours"] else math.inf, 0.5, 0.25, fewer=True)


def say_head(sheet, trained):
    "The head phase against the frozen recipe."
    theirs = trained.get("reference")
    rows = {}
    if head := [r for r in trained.get("ours", {}).get("epochs", []) if r["phase"] == "head"]:
        rows["ours, head phase (nothing is cached)"] = sum(trained["ours"]["times"]["epochs"][: len(head)]), head[-1]
    if "cached" in trained:
        rows[NAMES["cached"]] = total(trained["cached"]), trained["cached"]["epochs"][-1]
    if not theirs or not rows:
        return
    last, cells = theirs["epochs"][-1]["validation_roc_auc"], []
    for label, (seconds, row) in rows.items():
        auc = row["validation_roc_auc"]
        found = until(theirs, lambda r, auc=auc: r["validation_roc_auc"] >= auc)
        needs = found[0] if found else total(theirs)
        ratio = needs / seconds
        text = f"{needs:.0f} s, epoch {found[1]}" if found else f"not in {needs:.0f} s (AUC {last:.4f})"
        cells.append([label, f"{seconds:.1f}", f"{auc:.4f}", text, f"{ratio:.1f}"])
        if label == NAMES["cached"]:
            sheet.check(f"the frozen recipe's time to the same AUC / {label}", ratio, 5, 8)
    sheet.say("\n### A head on the frozen backbone, against the reference's recipe at equal AUC\n")
    sheet.say(
        f"AUC on validation. The reference's recipe has {last:.4f} after all its epochs ({total(theirs):.0f} s). The "
        "head phase of our training augments each image anew, so it caches nothing; fine-tuning goes on from it.\n"
    )
    sheet.table(["", "s", "AUC", "the reference's recipe has this AUC after", "times as long"], cells)


# --- the page


def files_of(comparison):
    "Names and hashes of what was read."
    out = {"data": comparison.prepared.info["data_hash"], "params.yaml": sha256_of(ROOT / "params.yaml")}
    out |= {f"bench/{f}": sha256_of(HERE / f) for f in ("compare.py", "compare_contenders.py")}
    out["initial weights"] = comparison.weights_hash or "imagenet, downloaded by Keras"
    if comparison.official:
        files = ("metrics.json", "predictions.csv")
        out |= {f"published {f}": sha256_of(Path(comparison.args.published, f)) for f in files}
        out["published model"] = comparison.ours["published"]
    return out


def left(results, comparison):
    "What is still to be run."
    out = []
    for name, phase in STEPS:
        r = results.get(name, {}).get(phase)
        if not r:
            out.append(f"- {NAMES[name]}, {phase}: not run yet")
        elif phase == "train" and "times" not in r:
            out.append(f"- {NAMES[name]}, times of the training: others used {r['busy']:.0%} of the processors")
    if comparison.job.epochs:
        out.append(f"- all, in full: here a phase had {comparison.job.epochs} epochs at most")
    return out


def of_steps(results, key):
    "Commit or machine that the steps ran on; several, if they did not share one."
    found = {r[key] for phases in results.values() for r in phases.values() if key in r}
    return " and ".join(sorted(found)) or "none"


def command(args):
    "The command that repeats this run."
    data = "DATA" if not Path(args.data).is_relative_to(".") else args.data
    more = [f"--weights {Path(args.weights).name}"] * (args.weights != "imagenet")
    more += [f"--epochs {args.epochs}"] * bool(args.epochs)
    return " ".join(["python bench/compare.py", str(data), *more])


def write_page(results, comparison):
    "compare.md and compare.json; the exit status."
    sheet, info = Sheet(), comparison.prepared.info
    sheet.say("# Compared with what one would use instead\n")
    sheet.say("Written by `make compare`; don't edit.\n")
    counts = ", ".join(f"{len(comparison.prepared.rows(s)):,} {s}" for s in ("train", "validation", "test"))
    what = f"Films: {info['title']}, {counts}, split by patient; all contenders see the same."
    if comparison.prepared.synthetic:
        what = f"**{info['notice']}: these results show that the program works, and nothing else.** {what}"
    ran = f"commit {of_steps(results, 'commit')}. {of_steps(results, 'machine')}"
    sheet.say(f"{what}\n\n`{command(comparison.args)}`, {ran}.\n")
    sheet.table(["", "what it is"], [[NAMES[n], ABOUT[n]] for n in SHOWN])
    say_quality(sheet, results, comparison)
    say_times(sheet, results, comparison)
    if comparison.official:
        sheet.say("\nThe baselines' results are looks at the official test split: results/test_looks.md counts them.\n")
    sheet.say("\n## Files\n")
    sheet.table(["", "SHA-256"], [[k, f"`{v[:16]}`" if len(v) == 64 else v] for k, v in files_of(comparison).items()])
    if todo := left(results, comparison):
        sheet.say("\n## Still to be run on an idle machine\n\n" + "\n".join(todo))
    return sheet.write(comparison.args.out, "compare", numbers(results, comparison))


def numbers(results, comparison):
    "Content of compare.json: no prediction of a film."
    steps = {
        name: {
            phase: {k: v for k, v in r.items() if k != "quality"}
            | ({"quality": {k: v for k, v in r["quality"].items() if k != "p"}} if "quality" in r else {})
            for phase, r in phases.items()
        }
        for name, phases in results.items()
    }
    return {"command": command(comparison.args), "files": files_of(comparison), "results": steps}


def parsed(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="radiographs, as for `make run DATA=…`")
    parser.add_argument("--weights", default="imagenet", help="file of ImageNet weights; default: Keras downloads them")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, help="steps of these contenders; results of others are kept"
    )
    parser.add_argument("--epochs", type=int, help="at most so many per phase, for a first look")
    parser.add_argument("--bootstrap", type=int, default=2000, help="resamples behind the intervals")
    parser.add_argument("--size", type=int, default=224, help="side of the prepared images, pixels")
    parser.add_argument("--state", default=str(STATE), help="folder where finished steps are kept")
    parser.add_argument("--out", default=str(HERE), help="folder of compare.md and compare.json")
    parser.add_argument("--published", default=str(PUBLISHED), help="the evaluation of our published model")
    args = parser.parse_args(argv)
    if not Path(args.data).is_dir() or args.data == "":
        parser.error(f"there is no folder {args.data!r}: give the radiographs, make compare DATA=folder")
    if args.weights != "imagenet" and not Path(args.weights).is_file():
        parser.error(f"there is no file {args.weights!r}: give ImageNet weights of MobileNetV2 without its top, as .h5")
    args.train, args.watch = {}, 2.0
    return args


def main(argv=None):
    args = parsed(argv)
    comparison = Comparison(args)
    todo = [s for s in comparison.steps() if not comparison.is_finished(*s)]
    expected = sum(minutes(*s, comparison) for s in todo)
    print(f"{len(todo)} steps to run, about {expected:.0f} minutes on 2 idle cores", flush=True)
    return write_page(comparison.run(), comparison)


if __name__ == "__main__":
    sys.exit(main())
