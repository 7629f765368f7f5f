"""Train named recipes with several seeds and compare how much their verdicts depend on the file.

    python bench/study.py bench/recipes.yaml --seeds 0 1 --originals ../shared/data/originals

Reads prepared data (`make run DATA=…`, or `dvc repro prepare`), never its test split. Each training gives a row of
results/invariance_study.csv; one that has a row is not repeated, and one that was interrupted goes on after its last
epoch. The seeds come in turn: every recipe with the first seed, then with the second. A recipe with `size: 160` reads
prepared data of that size from DATA-160 (`prepare(path, "DATA-160", size=160)`).
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
import yaml
from faults import commit
from parity import altered, drift, listed, parity, squares

from xraypneu.data.dataset import load_prepared
from xraypneu.files import project_root, write_file
from xraypneu.metrics.scores import classification_metrics
from xraypneu.model.augment import FILE_SHIFT, shifted_copies
from xraypneu.model.groups import family, groups
from xraypneu.model.recipe import SHIFT_COPIES, recipe_of, train, validation_of
from xraypneu.model.settings import initial_bundle
from xraypneu.ops.tracking import STATE, git_state
from xraypneu.ops.tune import without_test

CHANGES = {"JPEG quality 50": "jpeg_50", "cropped by 10 % per side": "crop_10", "border 10 % masked": "border_10"}


def read_recipes(file, base):
    "Name to all parameters of a training: of `base`, changed by `common` and by the recipe."
    content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    common = content.get("common") or {}
    return {name: base | common | (changes or {}) for name, changes in content["recipes"].items()}


def key_of(parameters, data_hash):
    "What determines a training apart from the code: 12 hexadecimal digits."
    return hashlib.sha256(json.dumps([parameters, data_hash], sort_keys=True).encode()).hexdigest()[:12]


def stored(out):
    "The rows so far."
    return (
        pd.read_csv(out, dtype={"key": str}) if Path(out).is_file() else pd.DataFrame(columns=["recipe", "seed", "key"])
    )


def is_done(rows, name, seed, key):
    "Whether this training has a row. Ends the program if the row belongs to other parameters or data."
    found = rows[(rows.recipe == name) & (rows.seed == seed)]
    if len(found) and (found.key != key).any():
        sys.exit(f"{name}, seed {seed}, has a row of other parameters or data: give the changed recipe a new name")
    return len(found) > 0


def store(out, row):
    "Add a row, atomically."
    frame = pd.concat([f for f in (stored(out), pd.DataFrame([row])) if len(f)])
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_file(out, frame.to_csv(index=False, float_format="%.5f", lineterminator="\n"))


def worst_group(bundle, held, names):
    "The family with the least fraction correct on shifted validation, at the operating point: its name and fraction."
    positive = bundle.probability(bundle.logits(held.shifted)) >= bundle.threshold
    found = groups(held.shifted_y, [family(n) for n in names] * SHIFT_COPIES, positive)
    worst = min(found, key=found.get, default="")
    return worst, found.get(worst, np.nan)


def parity_of(bundle, held, names, originals):
    "Parity of validation films whose original is in a folder; empty without."
    if not originals:
        return {}
    films = listed(originals).set_index("name")
    at = [i for i, n in enumerate(names) if n in films.index]
    if not at:
        return {}
    pixels = squares([films.path[names[i]] for i in at], bundle.size)
    return {f"parity_{k}": v for k, v in parity(bundle, pixels, held.images[at]).items()}


def from_teacher(bundle, recipe, images):
    "Distance from the bundle that an invariance phase alone started from, on unaltered films; empty otherwise."
    teacher = initial_bundle(recipe)
    if teacher is None:
        return {}
    return {"teacher_drift": drift(teacher.logits(images), bundle.logits(images))}


def on_other_files(bundle, held):
    "Metrics on version 2 of the shift, at the bundle's operating point."
    images = shifted_copies(held.images, SHIFT_COPIES, FILE_SHIFT)
    p = bundle.probability(bundle.logits(images))
    found = classification_metrics(held.shifted_y, p, bundle.threshold)
    return {f"shifted2_{m}": found[m] for m in ("roc_auc", "sensitivity", "specificity")}


def measured(trained, prepared, recipe, originals):
    "The measures of the protocol, on validation alone."
    bundle, held = trained.bundle, validation_of(*prepared.arrays("validation"), copies=SHIFT_COPIES)
    names = [Path(p).name for p in prepared.rows("validation").path]
    info, row = bundle.info, {"best_epoch": bundle.info["best_epoch"], "loss": trained.candidates[0].shifted_loss}
    for k in ("validation", "shifted"):
        row |= {f"{k}_{m}": info[k][m] for m in ("roc_auc", "sensitivity", "specificity")}
    row["worst_group"], row["worst_group_correct"] = worst_group(bundle, held, names)
    changes = altered(bundle, held.images, held.y, CHANGES).set_index("change")
    for change, name in CHANGES.items():
        row |= {f"drift_{name}": changes.drift[change], f"specificity_{name}": changes.specificity[change]}
    row |= parity_of(bundle, held, names, originals)
    row |= from_teacher(bundle, recipe, held.images)
    row |= on_other_files(bundle, held)
    row["drift"] = float(np.mean([v for k, v in row.items() if k.startswith("drift_") or k == "parity_drift"]))
    return row


def run(name, parameters, prepared, work, originals):
    "Train one recipe with one seed; returns the measures of its row. Its bundle stays in the work folder."
    recipe, targets = recipe_of(**parameters)
    folder, began, seconds = Path(work) / f"{name}-{recipe.seed}", time.perf_counter(), []
    trained = train(
        prepared,
        recipe,
        targets,
        folder,
        STATE,  # kept, so that `make run` with the chosen recipe takes over its seeds
        git_state()["git_commit"],
        on_epoch=lambda row: seconds.append(row.get("seconds", np.nan)),
        report=lambda line: print(f"{name}, seed {recipe.seed}: {line}", flush=True),
    )
    row = measured(trained, prepared, recipe, originals)
    each = float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else np.nan
    return row | {"epochs": len(seconds), "seconds_per_epoch": each, "seconds": time.perf_counter() - began}


def load_sizes(recipes, data):
    "Prepared data by name of a recipe, without test; of a recipe without `size`, `data` itself."
    folders = {name: f"{data}-{r['size']}" if "size" in r else str(data) for name, r in recipes.items()}
    loaded = {folder: without_test(load_prepared(folder)) for folder in sorted(set(folders.values()))}
    return {name: loaded[folder] for name, folder in folders.items()}


def of_training(recipe):
    "A recipe's parameters without the size, which only names the prepared data."
    return {name: value for name, value in recipe.items() if name != "size"}


def study(recipes, seeds, data, out, work, originals=None):
    "Run all that has no row yet; `data`: prepared data by name of a recipe."
    plan = [(name, seed) for seed in seeds for name in recipes]
    for i, (name, seed) in enumerate(plan, 1):
        parameters, prepared = of_training(recipes[name]) | {"seed": seed, "seeds": 1, "folds": 0}, data[name]
        key = key_of(parameters, prepared.info["data_hash"])
        if is_done(stored(out), name, seed, key):
            print(f"{i} of {len(plan)}: {name}, seed {seed}, is there already", flush=True)
            continue
        print(f"{i} of {len(plan)}: {name}, seed {seed}", flush=True)
        row = run(name, parameters, prepared, work, originals)
        store(out, {"recipe": name, "seed": seed, "key": key, "commit": commit(), **row})
        print(f"{name}, seed {seed}: loss {row['loss']:.4f}, drift {row['drift']:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipes", help="YAML: `recipes`, name to changed parameters of train; `common` for all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", help="names of recipes; default: all")
    parser.add_argument("--data", default="data/prepared", help="prepared data")
    parser.add_argument("--originals", help="folder with NORMAL and PNEUMONIA: originals of validation films, by name")
    parser.add_argument("--out", default="results/invariance_study.csv")
    parser.add_argument("--work", default="models/study", help="folder for bundles")
    args = parser.parse_args()
    base = yaml.safe_load((project_root() / "params.yaml").read_text(encoding="utf-8"))["train"]
    recipes = read_recipes(args.recipes, base)
    if unknown := set(args.only or ()) - set(recipes):
        sys.exit(f"no recipe {', '.join(sorted(unknown))} in {args.recipes}; there are {', '.join(recipes)}")
    chosen = {name: recipes[name] for name in args.only or recipes}
    data = load_sizes(chosen, args.data)
    for recipe in chosen.values():
        recipe_of(**of_training(recipe))  # a wrong value is found before the first hour
    study(chosen, args.seeds, data, args.out, args.work, args.originals)


if __name__ == "__main__":
    main()
