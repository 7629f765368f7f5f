"""How much a verdict depends on how the film was saved: `python bench/parity.py ORIGINALS COPIES [--bundle FOLDER]`.

Compares originals with copies of the same name, and the copies with altered ones, at the bundle's operating point.
*Drift* is the mean absolute change of the logit in units of the standard deviation of the unchanged images' logits.
Copies are the train split in Kaggle's layout; the test split is refused. Prints Markdown; `--json FILE` keeps it.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd

from xraypneu.data.dataset import CLASSES, PATIENT_PATTERNS, choose_patients, patient_of
from xraypneu.data.decoder import decode
from xraypneu.evaluation.evaluate import perturbations
from xraypneu.files import write_file
from xraypneu.markdown import markdown_table
from xraypneu.metrics.scores import classification_metrics
from xraypneu.model.bundle import load_bundle
from xraypneu.model.groups import family
from xraypneu.model.verdict import REFUSED, ood_scores, verdicts

VALIDATION, SEED = 0.15, 0  # prepare.validation and prepare.seed of the published model


def listed(folder):
    "The films of `NORMAL` and `PNEUMONIA` in a folder: name, label, path, sorted. Ends the program on a test split."
    folder = Path(folder).resolve()
    if "test" in (p.lower() for p in folder.parts[-2:]):
        sys.exit(f"{folder} looks like a test split, which this program does not open. Name the train split.")
    rows = [(p.name, c, p) for c in CLASSES for p in sorted((folder / c).glob("*")) if p.is_file()]
    if not rows:
        sys.exit(f"{folder} has no films in {' or '.join(CLASSES)}")
    return pd.DataFrame(rows, columns=["name", "label", "path"])


def with_patients(films, fraction=VALIDATION, seed=SEED):
    "Adds columns: patient, validation (bool, by the rule of prepare), y (1 = PNEUMONIA), family."
    patients = [patient_of(n, PATIENT_PATTERNS) or n for n in films.name]
    chosen = choose_patients(patients, films.label, fraction, seed)
    return films.assign(
        patient=patients,
        validation=[p in chosen for p in patients],
        y=(films.label == CLASSES[1]).astype(int),
        family=films.name.map(family),
    )


def squares(paths, size):
    "Decoded and squashed as for a prediction: (n, size, size) uint8."
    return np.stack([decode(p, size, with_colour=True, keep_pixels=False).square for p in paths])


def answers(bundle, images):
    "Logits (n,), probabilities (n,) and verdicts (n,), as a prediction gives them; the shape of the file aside."
    logits, features = bundle.scores(images)
    p = bundle.probability(logits)
    return logits.astype(float), p, verdicts(bundle, p, ood_scores(bundle, features, images))[0]


def drift(before, after, spread=None):
    "Mean absolute change of the logit in units of `spread`; None: the standard deviation of `before`."
    before, after = np.asarray(before, float), np.asarray(after, float)
    return float(np.abs(after - before).mean() / (before.std() if spread is None else spread))


def parity(bundle, originals, copies):
    "Originals against copies, both (n, S, S) uint8 in the same order: changes of logit and verdict, refusals."
    (a, p, before), (b, q, after) = answers(bundle, copies), answers(bundle, originals)
    return {
        "pairs": len(a),
        "change": float(np.abs(b - a).mean()),
        "spread": float(a.std()),
        "drift": drift(a, b),
        "largest": float(np.abs(b - a).max()),
        "change_p": float(np.abs(q - p).mean()),
        "differ": float((before != after).mean()),
        "refused_copies": float(np.isin(before, REFUSED).mean()),
        "refused_originals": float(np.isin(after, REFUSED).mean()),
    }


def altered(bundle, images, y, only=None):
    "Metrics at the operating point and drift, per change of the robustness table: a row each. `only`: their names."
    rows, before = [], bundle.logits(images).astype(float)
    for name, change in perturbations(images.shape[1]).items():
        if only and name not in only:
            continue
        z = before if change is None else bundle.logits(np.stack([change(a) for a in images])).astype(float)
        m = classification_metrics(y, bundle.probability(z), bundle.threshold)
        row = {"change": name} | {k: m[k] for k in ("sensitivity", "specificity", "roc_auc")}
        rows.append(row | {"drift": drift(before, z)})
    return pd.DataFrame(rows)


def parity_row(name, m):
    "Cells of one set of pairs."
    percent = [f"{100 * m[k]:.1f} %" for k in ("differ", "refused_copies", "refused_originals")]
    return [
        name,
        m["pairs"],
        *(f"{m[k]:.2f}" for k in ("change", "spread", "drift", "largest")),
        f"{m['change_p']:.3f}",
        *percent,
    ]


def report(bundle, parities, changes, n):
    "Both tables as Markdown."
    head = ["pairs of", "pairs", "mean change of the logit", "spread", "drift", "largest change"]
    first = markdown_table(
        [*head, "mean change of p", "verdicts that differ", "copies refused", "originals refused"],
        [parity_row(*i) for i in parities.items()],
    )
    cells = [
        [r.change, *(f"{100 * v:.1f} %" for v in (r.sensitivity, r.specificity)), f"{r.roc_auc:.4f}", f"{r.drift:.2f}"]
        for r in changes.itertuples()
    ]
    second = markdown_table([f"{n} copies of validation patients", "sensitivity", "specificity", "AUC", "drift"], cells)
    return f"Bundle {bundle.hash[:12]}, operating point {bundle.threshold:.3f}.\n\n{first}\n\n{second}"


def evenly(films, most):
    "At most so many films of each class, spread evenly over the names; None: all."
    if not most:
        return films
    parts = [g.iloc[np.unique(np.linspace(0, len(g) - 1, most).astype(int))] for _, g in films.groupby("label")]
    return pd.concat(parts)


def measured(bundle, originals, copies, most=None):
    "Parity per set of patients, and metrics on altered copies of validation patients with their number."
    films = with_patients(listed(copies))
    pairs = listed(originals).merge(films, on=["name", "label"], suffixes=("_original", ""))
    print(f"{len(films)} copies, {len(pairs)} of them with an original", file=sys.stderr)
    parities = {}
    for name, some in (("validation patients", pairs[pairs.validation]), ("train patients", pairs[~pairs.validation])):
        if len(some):
            parities[name] = parity(bundle, *(squares(some[k], bundle.size) for k in ("path_original", "path")))
            print(f"{name}: drift {parities[name]['drift']:.3f}", file=sys.stderr)
    held = evenly(films[films.validation], most)
    return parities, altered(bundle, squares(held.path, bundle.size), held.y.to_numpy()), len(held)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("originals", help="folder with NORMAL and PNEUMONIA, files as published")
    parser.add_argument("copies", help="train split with NORMAL and PNEUMONIA, copies of the same names")
    parser.add_argument("--bundle", help="folder of a bundle; default: the shipped one")
    parser.add_argument("--most", type=int, help="copies to alter of each class, at most; default: all")
    parser.add_argument("--json", help="file for the numbers")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    parities, changes, n = measured(bundle, args.originals, args.copies, args.most)
    print(report(bundle, parities, changes, n))
    if args.json:
        found = {"bundle": bundle.hash, "parity": parities, "altered": changes.to_dict("records")}
        write_file(args.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
