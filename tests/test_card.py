"The model card: each part appears where its numbers are known, and says so where they are not."

import copy
import math

import pytest

from xraypneu.evaluation.card import card_text, write_card
from xraypneu.markdown import without_front_matter
from xraypneu.metrics.definitions import metric_text


def counts(n):
    return {c: {"images": n, "patients": n // 2} for c in ("NORMAL", "PNEUMONIA")}


INFO = dict(
    classes=["NORMAL", "PNEUMONIA"],
    input={"size": 224},
    calibration={"slope": 0.5, "intercept": -1, "fitted": "Platt"},
    threshold=0.4,
    threshold_rule="made up",
    best_epoch=2,
    history=[{}, {}, {}],
    versions={"xraypneu": "0"},
    licence="none",
    recipe=dict(weights="imagenet", head_epochs=1, batch_size=32, seed=7),
    data=dict(
        title="toy",
        synthetic=False,
        notice="",
        data_hash="d0",
        counts={"train": counts(4000), "test": counts(10), "excluded": counts(6)},
    ),
)
M = dict(
    test=dict(accuracy=0.9, roc_auc=0.95, brier=math.nan),
    test_low=dict(accuracy=0.8, roc_auc=0.9),
    test_high=dict(accuracy=1.0, roc_auc=1.0),
    validation=dict(accuracy=0.951),
    shifted=dict(accuracy=0.712),
    data=dict(test_images=1234, test_patients=10),
)


def card(info=None, **m):
    "A card of the given changes, and its lines."
    text = card_text({**copy.deepcopy(INFO), **(info or {})}, {**copy.deepcopy(M), **m}, "b0")
    return text, text.splitlines()


def test_numbers():
    assert [metric_text(v) for v in (0.5, 0, None, math.nan, math.inf)] == ["0.5000", "0.0000"] + ["not defined"] * 3
    assert metric_text(0.1234, True) == "12.3 %"


def test_initial_weights_that_may_know_the_test_images_are_a_limit():
    def said(weights, synthetic=False, official=False):
        info = dict(recipe=dict(INFO["recipe"], weights=weights), data=dict(INFO["data"], synthetic=synthetic))
        return "metrics are too good" in card(info, data=dict(M["data"], official_test=official))[0]

    assert said("shipped") and said("file") and said("file", synthetic=True)
    assert not (said("shipped", synthetic=True) or said("shipped", official=True) or said("imagenet"))


def test_test_films_that_the_initial_weights_know_are_counted():
    "Ten of ten were known, and the card said that they might be."
    info = dict(recipe=dict(INFO["recipe"], weights="shipped"), known_films={"train": 40, "test": 3})
    text = card(info, data=dict(M["data"], known_films=3))[0]
    assert "**Known films:** The initial weights know 3 of 1,234 test films: they have content, or class" in text
    assert "- The initial weights are those of" not in text and "- No test film" not in text
    none = card(info | {"known_films": {"train": 40, "test": 0}})[0]
    assert "initial weights know" not in none and "- No test film is known to be one that the initial weights" in none
    unknown = card(info, data=dict(M["data"], known_films=None))[0]
    assert "**Known films:** Which films the initial weights were trained with is not known. If any of 1,234" in unknown
    other = card(info, data=dict(M["data"], hash="d1"))[0]  # of which the bundle says nothing
    assert "- The initial weights are those of" in other and "- No test film" not in other


def test_a_model_that_seldom_decides_says_so_beside_its_metrics():
    decides = dict(target=0.95, coverage_normal=1.0, coverage_pneumonia=1.0, decided=0.0, accuracy_decided=None)
    text = card(conformal=decides | {"always_possible": ["NORMAL", "PNEUMONIA"]})[0]
    before = text.partition("| metric |")[0]
    assert "**Abstention:** UNSURE for 100.0 % of the test films: there are too few validation films" in before
    assert "UNSURE for 60.0 % of" in card(conformal=decides | {"decided": 0.4})[0]
    assert "UNSURE for" not in card(conformal=decides | {"decided": 0.5})[0]


def test_few_patients_are_a_caution_as_in_the_report():
    text = card(data=M["data"] | {"few_patients": {"NORMAL": 12}})[0]
    assert "**Few patients:** 12 with NORMAL. The intervals themselves are imprecise" in text.partition("| metric |")[0]


def test_patients_on_both_sides_of_an_own_split_are_a_caution():
    "By the table of patients they were the same people, and nothing beside the metrics said so."
    text = card(data=M["data"] | {"patient_table": True, "shared_films": 27})[0]
    before = text.partition("| metric |")[0]
    assert "**Shared patients:** 27 of 1,234 test films are of patients who are in train or validation too" in before


def test_patients_of_a_table_are_not_said_to_come_from_file_names():
    for more, by in (({}, "file name"), ({"patient_table": True}, "a table of the patients")):
        text = card(data=M["data"] | more)[0]
        assert f"Patients are identified by {by}; none is in both train and validation." in text
        assert f"- Patients are identified by {by}; a wrong key" in text
    assert "\n\nNo patient is in both train and validation." in card(data=dict(M["data"], hash="d1"))[0]
    text = card(data=M["data"] | {"nameless_films": 48})[0]  # it said the same of films whose names tell no patient
    assert "identified by" not in text and "\n\nNo patient key is in both train and validation." in text
    assert "**Unknown patients:** Of 48 films, neither a file name nor a table tells the patient" in text
    assert "- Not all patients are known; a wrong key makes" in text


def test_metrics_of_other_data_than_the_training_s_are_said():
    "`dvc repro -s evaluate` after another split was prepared: 13 of 19 test films were training films, without a word."
    data = dict(M["data"], hash="d1", official_test=True)
    text = card(data=data)[0]
    assert "Measured on other data" in text and "Kermany, Kang Zhang" not in text and "folder named 'toy'" in text
    assert "Measured on synthetic images" in card(data=dict(data, synthetic=True))[0]
    same = card(data=dict(data, hash="d0"))[0]
    assert "Measured on" not in same and "Kermany, Kang Zhang" in same


def test_a_card_of_other_films_says_nothing_of_adults():
    "A model of a hospital's own films was 'not for adults', whomever they showed."
    data = dict(M["data"], hash="d0")
    assert "adults; lateral films" in card(data=dict(data, official_test=True))[0]
    assert "a patient; lateral films" in card(data=dict(data, official_test=False))[0]


def test_resamples_that_are_all_alike_are_no_interval():
    "Beside an accuracy of 100 % (92.6 % to 100 %), an AUC of 1 had the interval 1 to 1."
    same = dict(test=dict(M["test"], roc_auc=1.0), test_low=dict(M["test_low"], roc_auc=1.0))
    text = card(**same, test_high=dict(M["test_high"], roc_auc=1.0))[0]
    assert "| ROC AUC | **1.0000** | none |" in text


def test_every_metric_has_its_row():
    text, lines = card()
    assert "| accuracy | **90.0 %** | 80.0 % to 100.0 % | 95.1 % | 71.2 % |" in lines
    assert "| ROC AUC | **0.9500** | 0.9000 to 1.0000 | not defined | not defined |" in lines
    assert "| Brier score | **not defined** | none | not defined | not defined |" in lines
    assert not any(line.startswith("| F1") for line in lines)  # not measured
    assert "1,234 test images of 10 patients." in lines


@pytest.mark.parametrize("trainings, shown", [(1, False), (2, True)])
def test_spread_needs_several_trainings(trainings, shown):
    text, lines = card(seeds=dict(trainings=trainings, accuracy=dict(mean=0.88, sd=0.02)))
    assert ("mean of the trainings" in text) is shown
    wanted = "| accuracy | **90.0 %** | 80.0 % to 100.0 % | 88.0 % | 2.0 % | 95.1 % | 71.2 % |"
    assert (wanted in lines) is shown
    widths = {line.count("|") for line in lines if line.startswith(("| metric", "| accuracy", "| ROC AUC | **"))}
    assert len(widths) == 1


def test_self_distillations_of_one_network_are_no_trainings_of_a_classifier():
    seeds = dict(trainings=5, accuracy=dict(mean=0.88, sd=0.02))
    teacher = dict(recipe=INFO["recipe"], history=INFO["history"], best_epoch=INFO["best_epoch"])
    shared = dict(trained_before=teacher, initial_weights={"name": "shipped", "sha256": "0123456789abcdef"})
    assert "5 self-distillations of one network, bundle 0123456789ab:" in card(shared, seeds=seeds)[0]
    assert "self-distillations" not in card(seeds=seeds)[0] + card(shared)[0]


def test_a_self_distillation_of_a_self_distillation_has_a_card():
    "Its evaluation failed after the training: min() arg is an empty sequence."
    alone = [{"epoch": 1, "phase": "invariance"}, {"epoch": 2, "phase": "invariance"}]
    first = dict(recipe=dict(INFO["recipe"], weights="file", epochs=0, head_epochs=0), history=alone, best_epoch=2)
    weights = {"name": "bundle", "sha256": "0123456789abcdef"}
    info = dict(trained_before=first | {"initial_weights": weights}, initial_weights=weights, history=alone)
    text = card(info)[0]
    assert "Began with" in text and text.count("2 epochs of self-distillation follow") == 2


def test_data_and_training():
    text, lines = card()
    assert "| train | 4,000 (2,000) | 4,000 (2,000) |" in lines and "| excluded | 6 (3) | 6 (3) |" in lines
    assert not any(line.startswith("| validation") for line in lines)
    assert "Trained from ImageNet weights. Epochs with the backbone frozen: 1; then all convolutions for 2" in text
    assert "Balanced batches of 32 random augmentations of 224 pixels; seed 7. Best epoch: 2" in text
    recipe = dict(INFO["recipe"], weights="shipped", first_block=13, balanced=False, image_sizes=[192, 224])
    text, _ = card(dict(recipe=recipe))
    assert "the backbone that came with the package" in text and "all convolutions from block 13 on for 2" in text
    assert " Batches of 32 random augmentations of 192, 224 pixels" in text
    assert "weights read from a file" in card(dict(recipe=dict(recipe, weights="file")))[0]
    mine = {"name": "my_<b>.h5", "sha256": "0123456789abcdef"}
    text = card(dict(recipe=dict(recipe, weights="file"), initial_weights=mine))[0]
    assert "the weights in my\\_&lt;b&gt;.h5 (SHA-256 0123456789ab)" in text
    assert "random weights" in card(dict(recipe=dict(recipe, weights="none")))[0]
    assert "MobileNetV2 1.0 for one grey channel of 224 × 224 pixels" in text  # of a bundle that names none
    other = {"name": "efficientnetv2_b0", "title": "EfficientNetV2-B0 <b>"}
    text = card(dict(backbone=other))[0]
    assert "EfficientNetV2-B0 &lt;b&gt; for one grey channel" in text and "MobileNet" not in text


def test_optional_tables():
    part = dict(images=5, sensitivity=0.5, specificity=0.25, roc_auc=0.75)
    ood = {
        "noise": dict(images=20, auroc=0.99, fpr95=0.01, refused=1.0, pneumonia=0.0),
        "test images": dict(refused=0.02),
    }
    conformal = dict(target=0.95, coverage_normal=0.94, coverage_pneumonia=0.96, decided=0.8, accuracy_decided=0.99)
    text, lines = card(
        subgroups={"bacterial": part},
        robustness={"rotated": part},
        fixed_points={"specificity at 95 %": 0.8},
        ood=ood,
        conformal=conformal,
        calibration=dict(slope=1.1, intercept=-0.2),
        metadata_baseline=dict(roc_auc=0.6),
    )
    assert "| bacterial | 5 | 50.0 % | 25.0 % | 0.7500 |" in lines and "| rotated | 50.0 % | 25.0 % | 0.7500 |" in lines
    assert "| specificity at 95 % | 80.0 % |" in lines and "| noise | 20 | 0.9900 | 1.0 % | 100.0 % | 0.0 % |" in lines
    for words in (
        "Test images refused: 2.0 %",
        "a target coverage of 95.0 % cover 94.0 %",
        "96.0 %",
        "decides on 80.0 %",
        "an accuracy of 99.0 %",
        "slope 1.1000 and intercept -0.2000",
        "size and type of the files: ROC AUC 0.6000",
    ):
        assert words in text, words
    bare, _ = card()
    assert "no out-of-distribution detector" in bare and "(UNSURE) on the rest" not in bare
    assert "slope not defined" in bare


@pytest.mark.parametrize("flagged", [None, 0.75])
def test_saliency(flagged):
    areas = dict(area_deletion=0.1, area_deletion_random=0.2, area_insertion=0.8, area_insertion_random=0.7)
    pointing = dict(pointing=0.6, pointing_chance=0.1, pointing_flagged=flagged, randomised_correlation=0.05)
    text, _ = card(saliency=areas | pointing)
    for words in (
        "area under the curve 0.1000 (random order 0.2000; lower is better)",
        "Insertion: 0.8000 (random order 0.7000; higher is better)",
        "all shuffled: 0.0500",
        "lesion in 60.0 % (by chance 10.0 %)",
    ):
        assert words in text, words
    assert ("in 75.0 %." in text) is (flagged is not None) and "Not measured." not in text
    assert "Not measured." in card()[0]


def test_source_and_notice(tmp_path):
    official = dict(M["data"], official_test=True)
    text, _ = card(data=official)
    assert "Kermany" in text and "89.4 %" in text and "A folder named" not in text
    assert "A folder named 'toy'" in card()[0] and "Kermany" not in card()[0]
    assert "Add here" not in card()[0], "the next run would overwrite it"
    drawn = dict(data=dict(INFO["data"], synthetic=True, notice="SYNTHETIC <b>"))
    text, _ = card(drawn, data=official)
    assert "**SYNTHETIC &lt;b&gt;**" in text and "Kermany" not in text and "synthetic images only" in text
    assert "commit `unknown`" in text and "commit `abc`" in card(dict(git_commit="abc"))[0]
    path = write_card(tmp_path / "new/card.md", {**INFO, **drawn}, M, "b0")
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert '<p class="notice">SYNTHETIC &lt;b&gt;</p>' in page and "pipeline_tag" not in page
    assert without_front_matter(path.read_text(encoding="utf-8")).startswith("# Model card")
    write_card(path, INFO, M, "b0")
    assert 'class="notice"' not in path.with_suffix(".html").read_text(encoding="utf-8")


def test_titles_of_foreign_data_have_no_effect(tmp_path):
    "They come with a data set, in its dataset.json."
    bad = "<script>alert(1)</script>\n\n# [x](javascript:alert(2)) `a` | b"
    for synthetic in (False, True):
        data = INFO["data"] | {"title": bad, "notice": bad, "synthetic": synthetic}
        path = write_card(tmp_path / "card.md", INFO | {"data": data}, M, "b0")
        page, text = path.with_suffix(".html").read_text(), path.read_text()
        assert "<script" not in text + page and "[x](" not in text and "\n# [" not in text
        assert "javascript:" in page and 'href="java' not in page and page.count("<h1") == 1
