"""The reference's recipe, trained on past its 10 epochs: does it reach the accuracy that it publishes, and when?

A step of bench/compare.py: `compare_longer.py JOB.json`. Nothing but the number of epochs differs from the recipe of
bench/compare_contenders.py, and the result counts for the time to that accuracy alone, never for quality.
"""

import sys

import compare_contenders as contenders

TIMES = 5  # as many epochs as the recipe has


def train_longer(job):
    "Rows of all epochs, and seconds of the steps before them."
    import keras

    keras.utils.set_random_seed(contenders.SEEDS["reference"])
    clock = contenders.Clock()
    train, held, class_weight = contenders.reference_data(job)
    clock.lap("loading")
    model, whole = contenders.reference_model(job)
    clock.lap("building")

    def ask(images):
        return contenders.keras_probabilities(whole, images, "reference")

    rows, options = [], {"validation_data": held, "class_weight": class_weight}
    for _ in range(TIMES):  # the optimizer goes on where it was
        rows = contenders.fitted(model, train, ask, job, "frozen", rows, **options)
    return rows, clock.seconds


contenders.TRAIN["longer"] = train_longer
contenders.MODELS["longer"] = ""  # nothing is measured on it later

if __name__ == "__main__":
    contenders.main(sys.argv[1])
