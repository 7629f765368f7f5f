"""Does a consistency penalty lower the drift? A study of minutes: `python bench/head_study.py COPIES`.

Only the head is trained, on features of the shipped network, which stay as they are: 150 train films of each class in
two augmentations each. Measured on 60 validation films of each class, as they are and altered. The loss is that of
`train.consistency`. What the whole network gains can't be seen here. Results and what follows from them:
results/protocol.md, amendment 1.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from parity import drift, evenly, listed, squares, with_patients
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from xraypneu.evaluation.evaluate import perturbations
from xraypneu.markdown import markdown_table
from xraypneu.model import augment
from xraypneu.model.bundle import load_bundle

CHANGES = ("JPEG quality 50", "cropped by 10 % per side", "border 10 % masked")
STRENGTHS = (0, 0.03, 0.1, 0.3, 1, 3)


def fitted(first, second, y, consistency, decay=1e-3):
    "Weights and bias of a head: log loss of both augmentations, plus the penalty, plus weight decay."

    def loss(w):
        za, zb = first @ w[:-1] + w[-1], second @ w[:-1] + w[-1]
        value, slope = decay * w[:-1] @ w[:-1], np.append(2 * decay * w[:-1], 0)
        for x, z in ((first, za), (second, zb)):
            residual = (1 / (1 + np.exp(-z)) - y) / (2 * len(y))
            value += np.logaddexp(0, np.where(y == 1, -z, z)).sum() / (2 * len(y))
            slope += np.append(x.T @ residual, residual.sum())
        gap = za - zb
        slope += np.append(2 * consistency * (first - second).T @ gap / len(y), 0)
        return value + consistency * np.mean(gap**2), slope

    return minimize(loss, np.zeros(first.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x


def features_of(bundle, copies, config):
    "Features of train films in two augmentations, of validation films as they are and altered; labels of both."
    films = with_patients(listed(copies))
    train, held = evenly(films[~films.validation], 150), evenly(films[films.validation], 60)
    pixels, unseen = (squares(some.path, bundle.size) for some in (train, held))
    pairs = [
        bundle.scores(
            np.stack(
                [
                    augment.augment_image(a, np.random.default_rng([s, i]), bundle.size, config)
                    for i, a in enumerate(pixels)
                ]
            )
        )[1]
        for s in (1, 2)
    ]
    changed = perturbations(bundle.size)
    altered = {k: bundle.scores(np.stack([changed[k](a) for a in unseen]))[1] for k in CHANGES}
    return pairs, {"original": bundle.scores(unseen)[1], **altered}, train.y.to_numpy(), held.y.to_numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("copies", help="train split with NORMAL and PNEUMONIA")
    parser.add_argument("--min-area", type=float, default=0.08, help="smallest crop, as train.min_area")
    parser.add_argument("--rendering-p", type=float, default=0.0, help="as train.rendering_p")
    args = parser.parse_args()
    config = augment.AugmentConfig(min_area=args.min_area, rendering_p=args.rendering_p)
    (first, second), held, y, held_y = features_of(load_bundle(), args.copies, config)
    rows = []
    for strength in STRENGTHS:
        w = fitted(first, second, y, strength)
        z = {k: f @ w[:-1] + w[-1] for k, f in held.items()}
        moved = [f"{drift(z['original'], z[k]):.2f}" for k in CHANGES]
        rows.append([strength, f"{roc_auc_score(held_y, z['original']):.4f}", f"{z['original'].std():.2f}", *moved])
    print(markdown_table(["consistency", "AUC", "spread", *(f"drift: {k}" for k in CHANGES)], rows))


if __name__ == "__main__":
    main()
