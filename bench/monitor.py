"""How often the shift monitor alarms, and names the right cause: `python bench/monitor.py PREPARED --adults FOLDER`.

Films of the official train split alone: patients are halved by a seed. Thresholds were chosen on the first half;
`--half report` is the second. In each of ten splits of a half, half of its patients are the reference, and batches come
from the others, unaltered or altered. Films are scored once and kept in `--cache`; batches are drawn from these.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
from PIL import Image

from xraypneu.data.dataset import load_prepared
from xraypneu.data.decoder import decode
from xraypneu.evaluation.shift import ALPHA, Films, compare, films_of
from xraypneu.files import write_file
from xraypneu.markdown import markdown_table
from xraypneu.model.augment import as_grey, blur, gamma_contrast, shifted
from xraypneu.model.bundle import load_bundle

BATCH, SPLITS, ALTERED, SEED = 200, 10, 1300, 7
PREVALENCES = (0.3, 0.5)


def cropped(a, part):
    "The middle of (S, S) uint8, at the full size."
    side = a.shape[0]
    cut = (1 - part) / 2 * side
    box = (cut, cut, side - cut, side - cut)
    return np.asarray(Image.fromarray(a).resize((side, side), Image.Resampling.BILINEAR, box=box))


def bordered(a, width):
    "(S, S) uint8 within a black border."
    side, k = a.shape[0], round(width * a.shape[0])
    out = np.zeros_like(a)
    out[k : side - k, k : side - k] = Image.fromarray(a).resize((side - 2 * k,) * 2, Image.Resampling.BILINEAR)
    return out


def gamma(a, exponent):
    "Darker above 1, lighter below."
    return as_grey(gamma_contrast(a, exponent))


def elsewhere(a):
    "Framing, exposure, contrast and sharpness of another place, the same for all its films."
    return blur(as_grey(gamma_contrast(cropped(a, 0.92), 1.3, 0.85)), 1.0)


# the change, the cause that is right, and whether it counts among those that the aim names
SHIFTS = {
    "dark": (lambda a: gamma(a, 1.5), "exposure", True),
    "bright": (lambda a: gamma(a, 1 / 1.5), "exposure", True),
    "blur": (lambda a: blur(a, 1.5), "sharpness", True),
    "crop": (lambda a: cropped(a, 0.85), "framing", True),
    "border": (lambda a: bordered(a, 0.06), "framing", True),
    "hospital": (elsewhere, "other population", True),
    "shifted": (shifted, "other population", False),
    "dark_mild": (lambda a: gamma(a, 1.2), "exposure", False),
    "blur_mild": (lambda a: blur(a, 0.8), "sharpness", False),
    "crop_mild": (lambda a: cropped(a, 0.93), "framing", False),
    "border_mild": (lambda a: bordered(a, 0.03), "framing", False),
}
LABELS = {
    "dark": "dark, gamma 1.5",
    "bright": "bright, gamma 0.67",
    "blur": "blurred, sigma 1.5 pixels of 224",
    "crop": "cropped to the middle 85 %",
    "border": "black border of 6 %",
    "hospital": "another hospital: cropped to 92 %, gamma 1.3, less contrast, sigma 1",
    "adults": "50 films of adults from many places",
    "mixed": "50 films of adults among 150 of the same hospital",
    "originals": "the films as published, not rendered by Kaggle's copy",
    "shifted": "each film altered at random, as in the shifted validation",
    "dark_mild": "dark, gamma 1.2",
    "blur_mild": "blurred, sigma 0.8",
    "crop_mild": "cropped to 93 %",
    "border_mild": "black border of 3 %",
    "prevalence 30 %": "30 % PNEUMONIA instead of 74 %",
    "prevalence 50 %": "50 % PNEUMONIA instead of 74 %",
}
RIGHT = {"adults": ("other population", True), "mixed": ("other population", False), "originals": ("sharpness", False)}


def kept(cache, name, bundle, images):
    "Scores of images that a function makes, once."
    table, projections = cache / f"{name}.parquet", cache / f"{name}.npy"
    if not projections.exists():
        films = films_of(bundle, images())
        films.table.to_parquet(table)
        np.save(projections, films.projections)
    return Films(pd.read_parquet(table), np.load(projections))


def squares(paths, size):
    "Decoded and squashed as for a prediction."
    return np.stack([decode(p, size, with_colour=True, keep_pixels=False).square for p in paths])


def scored(args):
    "Rows of the train split; name to (films, row in the train split of each or -1)."
    prepared, bundle = load_prepared(args.prepared), load_bundle(args.bundle)
    m = prepared.manifest
    m = m[(m.official_split == "train") & (m.split != "") & (m.row >= 0)].reset_index(drop=True)
    images = prepared.images
    chosen = np.sort(np.random.default_rng(0).choice(len(m), min(ALTERED, len(m)), replace=False))
    args.cache.mkdir(parents=True, exist_ok=True)
    films = {"base": (kept(args.cache, "base", bundle, lambda: images[m.row.to_numpy()]), np.arange(len(m)))}
    for name, (change, _, _) in SHIFTS.items():
        made = kept(args.cache, name, bundle, lambda f=change: np.stack([f(images[r]) for r in m.row[chosen]]))
        films[name] = made, chosen
    rows = {Path(p).name: i for i, p in enumerate(m.path)}
    if args.adults:
        paths = sorted(p for p in args.adults.iterdir() if p.suffix != ".csv")
        found = kept(args.cache, "adults", bundle, lambda: squares(paths, bundle.size))
        films["adults"] = found, np.full(len(paths), -1)
    if args.originals:
        paths = [p for p in sorted(args.originals.glob("*/*")) if p.name in rows]
        found = kept(args.cache, "originals", bundle, lambda: squares(paths, bundle.size))
        films["originals"] = found, np.array([rows[p.name] for p in paths])
    return m, films


def together(a, b):
    "Films of both."
    return Films(pd.concat([a.table, b.table], ignore_index=True), np.concatenate([a.projections, b.projections]))


class Draws:
    "Batches of one split of the patients of a half."

    def __init__(self, rows, films, half, split):
        self.films, self.rows, self.rng = films, rows, np.random.default_rng([1, split])
        mine = np.array(sorted(rows.patient[half].unique()))
        first = set(mine[self.rng.random(len(mine)) < 0.5])
        is_first = rows.patient.isin(first).to_numpy()
        self.others = half & ~is_first
        self.reference = films["base"][0].rows(half & is_first)

    def some(self, name, allowed, n):
        "Films of a kind, drawn without replacement."
        films, rows = self.films[name]
        at = np.flatnonzero((rows < 0) | allowed[rows])
        return films.rows(self.rng.choice(at, min(n, len(at)), replace=False))

    def batch(self, kind):
        "A batch of a kind."
        if kind.startswith("prevalence"):
            y, n = self.rows.y.to_numpy(), round(BATCH * float(kind.split()[1]) / 100)
            ill, well = (self.some("base", self.others & (y == c), k) for c, k in ((1, n), (0, BATCH - n)))
            return together(ill, well)
        if kind == "adults":
            return self.some("adults", self.others, 50)
        if kind == "mixed":
            return together(self.some("adults", self.others, 50), self.some("base", self.others, BATCH - 50))
        return self.some("base" if kind == "none" else kind, self.others, BATCH)


def measured(rows, films, half, batches, alpha):
    "A row per batch: kind, alarm, cause."
    kinds = ["none", *(f"prevalence {100 * p:.0f} %" for p in PREVALENCES), *(k for k in films if k != "base")]
    kinds += ["mixed"] * ("adults" in films)
    out = []
    for split in range(SPLITS):
        draws = Draws(rows, films, half, split)
        for kind in kinds:
            counts = kind == "none" or right_of(kind)[1]
            for _ in range(20 if kind == "none" else batches if counts else max(1, batches // 4)):
                found = compare(draws.reference, draws.batch(kind), alpha)
                fired = " ".join(found.tests.index[found.tests.fires])
                out.append({"kind": kind, "alarm": found.alarm, "cause": found.cause, "fired": fired})
        print(f"split {split + 1} of {SPLITS}", file=sys.stderr, flush=True)
    return pd.DataFrame(out)


def right_of(kind):
    "The right cause of a kind of batch, and whether it counts among those of the aim."
    if kind.startswith("prevalence"):
        return "prevalence", True
    return RIGHT[kind] if kind in RIGHT else SHIFTS[kind][1:]


def report(found):
    "Rates per kind as Markdown, and over the kinds of the aim."
    none = found[found.kind == "none"]
    lines, rows, aim = [f"False alarms: {none.alarm.sum()} of {len(none)} batches ({none.alarm.mean():.1%}).\n"], [], []
    for kind in [k for k in found.kind.unique() if k != "none"]:
        f, (right, counts) = found[found.kind == kind], right_of(kind)
        hit = (f.cause == right).mean()
        others = f.cause[f.cause != right].value_counts()
        wrong = ", ".join(f"{k} {n}" for k, n in others.items())
        rows.append([LABELS[kind], len(f), f"{f.alarm.mean():.0%}", right, f"{hit:.0%}", wrong])
        aim += [(f.alarm.mean(), hit)] * counts
    alarms, hits = np.mean(aim, 0)
    lowest = np.min(aim, 0)
    lines.append(f"Clear shifts: alarm in {alarms:.1%} of batches (lowest of a kind {lowest[0]:.0%}), ")
    lines[-1] += f"right cause in {hits:.1%} (lowest of a kind {lowest[1]:.0%}).\n"
    head = ["batches of", "number", "alarm", "right cause", "named", "named instead (batches)"]
    return "\n".join(lines) + "\n" + markdown_table(head, rows)


TEXT = """# Shift monitor: rates

Written by `bench/monitor.py`. Films of the official train split of the Kermany set; the test split is not opened.
Patients are halved: limits and floors of `evaluation/06_shift` were chosen on one half, and the table is of the other.
In each of {splits} splits of its patients, half are the reference (about 1,300 films), and batches of {batch} films are
drawn from the other half. An alarm is any test that fires; Holm's correction limits false ones to {alpha:.0%} a batch.
Reference and unaltered batches are of one hospital, so an alarm there is false. Alterations are made at 224 pixels.
Batches are random draws; weeks of a clinic differ more, so expect more alarms there than this table has.
The 55 films of adults are the same in both halves.

{table}
"""


def main():
    "Measure, print and write."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", help="prepared data with an official test split, which is left out")
    parser.add_argument("--adults", type=Path, help="a folder of films of adults")
    parser.add_argument("--originals", type=Path, help="train films as published, in folders per class")
    parser.add_argument("--bundle")
    parser.add_argument("--half", choices=("choose", "report"), default="report")
    parser.add_argument("--batches", type=int, default=10, help="a split and kind of clear shift; of others a quarter")
    parser.add_argument("--alpha", type=float, default=ALPHA)
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench-monitor"))
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    rows, films = scored(args)
    patients = np.array(sorted(rows.patient.unique()))
    first = set(patients[np.random.default_rng(SEED).random(len(patients)) < 0.5])
    half = rows.patient.isin(first).to_numpy() == (args.half == "choose")
    found = measured(rows, films, half, args.batches, args.alpha)
    found.to_csv(args.cache / f"{args.half}.csv", index=False)
    table = report(found)
    print(table)
    if args.out:
        write_file(args.out, TEXT.format(splits=SPLITS, batch=BATCH, alpha=args.alpha, table=table))


if __name__ == "__main__":
    main()
