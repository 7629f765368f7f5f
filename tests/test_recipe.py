"""The published recipe: notebook, library and params.yaml agree, and each stage depends on what it imports."""

import ast
import html
import json
import shutil
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import ROOT, params_yaml
from test_layers import FILES, closure, imported

from xraypneu.model import ood
from xraypneu.model.bundle import SHIPPED, load_bundle
from xraypneu.model.settings import SettingError

STAGES = ("prepare", "eda", "train", "evaluate")
# how a result is written, and where its run is recorded
RECORDING = {"errors", "files", "redact", "process", "journal", "tracking"}


def cells(stage):
    "Code cells of a stage's notebook: tags, source."
    notebook = json.loads((ROOT / f"nbs/pipeline/{stage}.ipynb").read_text())
    return [
        (c["metadata"].get("tags", []), "".join(c["source"])) for c in notebook["cells"] if c["cell_type"] == "code"
    ]


def defaults(stage):
    "What the parameters cell sets."
    (source,) = [s for tags, s in cells(stage) if "parameters" in tags]
    found = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        found[target.id] = ast.literal_eval(node.value)
    return found


def stated(section):
    "A section of params.yaml: as it is here, after a change of a default, and as committed, after a run on films."
    return [yaml.safe_load(text)[section] for text in ((ROOT / "params.yaml").read_bytes(), params_yaml())]


@pytest.mark.parametrize("stage", ["eda", "train", "evaluate"])
def test_an_interactive_run_has_the_parameters_of_params_yaml(stage):
    assert defaults(stage) in stated(stage)


def test_the_defaults_of_the_library_are_those_of_params_yaml():
    from xraypneu.model.recipe import recipe_of

    assert recipe_of() in [recipe_of(**parameters) for parameters in stated("train")]


def test_each_parameter_of_train_reaches_the_recipe():
    "One that only stands in the parameters cell would change nothing."
    tree = ast.parse("\n".join(source for _, source in cells("train")))
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "recipe.recipe_of"]
    passed = {k.arg: ast.unparse(k.value) for k in call.keywords}
    assert passed == {name: name for name in defaults("train")}


def test_what_is_not_searched_is_a_parameter():
    "A target that was removed everywhere else stayed in the list of `xraypneu tune`."
    from xraypneu.model.settings import parameter_names
    from xraypneu.ops.tune import NOT_SEARCHED

    assert set(NOT_SEARCHED) <= set(parameter_names())


@pytest.mark.parametrize("stage", ["eda", "train", "evaluate"])
def test_a_stage_notebook_holds_no_policy(stage):
    for _, source in cells(stage):
        tree = ast.parse(source)
        defined = [n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        assert not defined, f"{stage}.ipynb defines {defined}: move it to the library"
        assert len(source.splitlines()) <= 40


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_what_it_imports(stage):
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    declared = {d for d in deps if d.endswith(".py")}
    tree = ast.parse("\n".join(source for _, source in cells(stage)))
    wanted = closure(m for m in imported(tree) if m in FILES) - RECORDING
    assert declared == {str(FILES[m].relative_to(ROOT)) for m in wanted}


def test_a_finished_training_is_taken_whole_or_not_at_all(project, tmp_path):
    from xraypneu.model import recipe

    finished = tmp_path / "finished"
    shutil.copytree(project / ".cache/train/finished", finished)
    facts = json.loads((finished / "training.json").read_text())
    assert recipe.restore_finished(finished, "another key", tmp_path / "models") is None
    trained = recipe.restore_finished(finished, facts["key"], tmp_path / "models")
    assert trained.bundle.hash == load_bundle(project / "models/bundle").hash
    assert trained.lines[-1].startswith("best epoch") and len(trained.history) == len(trained.lines) - 1
    for path in (project / "models").rglob("*.onnx"):
        assert (tmp_path / path.relative_to(project)).read_bytes() == path.read_bytes()
    weights = finished / "bundle/model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert recipe.restore_finished(finished, facts["key"], tmp_path / "models") is None


def test_a_finished_training_with_a_damaged_file_is_none(tmp_path):
    "Whichever file it is: a training that is repeated gets a run of its own."
    from xraypneu.model import recipe

    (tmp_path / "bundle").mkdir()
    for name in ("bundle.json", "model.onnx", "model.int8.onnx", "reference.npz"):
        shutil.copy(SHIPPED / name, tmp_path / "bundle" / name)
    bundle, finished = load_bundle(tmp_path / "bundle"), tmp_path / "finished"
    recipe.store_finished(
        recipe.Trained(bundle, [recipe.Candidate(0, bundle, [], 0.5)], 0, {}, {}, []), finished, "key"
    )
    assert recipe.is_finished(finished, "key")
    files = [p for p in finished.rglob("*") if p.is_file()]
    assert len(files) == 9
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        assert not recipe.is_finished(finished, "key"), file
        assert recipe.restore_finished(finished, "key", tmp_path / "models") is None, file
        file.write_bytes(content)
    assert recipe.restore_finished(finished, "key", tmp_path / "models").bundle.hash == bundle.hash


def prepared(**changes):
    "Prepared data with what a training takes of them."
    said = {"title": "toy", "synthetic": False, "notice": "", "data_hash": "the same files", "counts": {}, "size": 32}
    arrays = {
        "images": np.zeros((4, 32, 32), np.uint8),
        "y": np.array([0, 0, 1, 1], np.int8),
        "patients": np.array(list("abcd")),
    }
    kept = tuple(changes.get(k, v) for k, v in arrays.items())
    return SimpleNamespace(info={k: changes.get(k, v) for k, v in said.items()}, arrays=lambda split: kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.ones((4, 32, 32), np.uint8)},
        {"y": np.array([0, 1, 0, 1], np.int8)},
        {"title": "other"},
        {"patients": np.array(list("aacd"))},
        {"synthetic": True},
        {"notice": "n"},
        {"data_hash": "others"},
        {"counts": {"excluded": 1}},
    ],
)
def test_a_finished_training_of_other_contents_is_another(changes):
    "The files may be the same: a decoder that was corrected makes other pixels of them."
    from xraypneu.model import recipe

    settings, targets = recipe.recipe_of(weights=None)
    model = recipe.new_model(32, None, 0)
    assert recipe.training_key(prepared(), settings, targets, model) == recipe.training_key(
        prepared(), settings, targets, model
    )
    assert recipe.training_key(prepared(**changes), settings, targets, model) != recipe.training_key(
        prepared(), settings, targets, model
    )


def test_a_finished_training_of_another_package_is_another(monkeypatch):
    from xraypneu.model import recipe

    before = recipe.inputs_of(prepared())
    monkeypatch.setattr(recipe, "version", lambda name: "0.0")
    assert recipe.inputs_of(prepared()) != before


def test_the_notice_of_foreign_data_has_no_effect_in_a_report():
    shown = []
    source = next(s for _, s in cells("train") if "prepared.banner" in s)
    prepared = SimpleNamespace(banner="<script>alert(1)</script>")
    exec(source, {"load_prepared": lambda _: prepared, "HTML": str, "display": shown.append, "escape": html.escape})
    assert len(shown) == 1 and "<script>" not in shown[0]


def test_more_folds_than_patients_are_refused_before_the_training():
    split = (np.zeros((6, 8, 8), np.uint8), np.array([0, 0, 0, 1, 1, 1]), np.array(list("aabcdd")))
    prepared = SimpleNamespace(arrays=lambda name: split)
    from xraypneu.model.recipe import Targets, recipe_of, train

    with pytest.raises(SettingError, match="folds is 3: the rarer class has 2 patients"):
        train(prepared, recipe_of()[0], Targets(folds=3))


def test_seeds_that_would_run_over_are_refused_before_the_training():
    "Before, after the first of them: seed is 4294967296."
    from xraypneu.model.recipe import Targets, recipe_of, train

    last = 2**32 - 1
    with pytest.raises(ValueError, match=r"seed is 4294967295: with 2 seeds, .* from 0 to 2\*\*32 - 2"):
        recipe_of(seed=last, seeds=2)
    with pytest.raises(ValueError, match="with 2 seeds"):
        train(None, recipe_of(seed=last)[0], Targets(seeds=2))


def test_a_fold_without_a_class_is_refused_before_the_training():
    "Before, its training ran, and could not be scored."
    y, patients = np.array([0] * 3 + [1] * 2 + [0] * 6 + [1] * 5), np.array(list("a" * 5 + "b" * 6 + "c" * 5))
    halves = {"train": slice(0, 5), "validation": slice(5, None)}
    prepared = SimpleNamespace(
        arrays=lambda name: (np.zeros((16, 8, 8), np.uint8)[halves[name]], y[halves[name]], patients[halves[name]])
    )
    from xraypneu.model.recipe import Targets, recipe_of, train

    with pytest.raises(
        ValueError, match="folds is 2: fold 1 of train .* no PNEUMONIA image.* give fewer folds, another seed"
    ):
        train(prepared, recipe_of()[0], Targets(folds=2))


def test_a_key_takes_the_hash_of_its_inputs(monkeypatch):
    "It takes seconds on many images; the stage passes it on to the training."
    from xraypneu.model import recipe

    settings, targets = recipe.recipe_of()
    model = SimpleNamespace(get_weights=lambda: [])
    monkeypatch.setattr(recipe.training, "fingerprint", lambda settings, inputs, model: inputs)
    found = recipe.inputs_of(prepared())
    key = recipe.training_key(prepared(), settings, targets, model)
    monkeypatch.setattr(recipe, "inputs_of", lambda prepared: pytest.fail("hashed again"))
    assert recipe.training_key(prepared(), settings, targets, model, found) == key


def test_a_new_target_is_part_of_the_key(monkeypatch):
    "Else a finished training would be taken that followed another rule."
    from xraypneu.model import recipe

    @dataclass(frozen=True)
    class More(recipe.Targets):
        npv: float = 0.9

    monkeypatch.setattr(recipe.training, "fingerprint", lambda *_: "")
    one, other = (recipe.training_key(None, None, More(npv=n), None, "inputs") for n in (0.9, 0.8))
    assert one != other


def test_an_upgrade_while_a_training_runs_is_survived(tmp_path, monkeypatch):
    "The weights and versions that it began with were asked for after the last epoch, and their lack lost it."
    from xraypneu.model import recipe

    class Reached(Exception):
        "Here the bundles would be written."

    def networks(*_):
        weights.unlink()
        monkeypatch.setattr(recipe, "version", lambda package: pytest.fail(f"{package} is not there now"))
        monkeypatch.setattr(recipe, "import_module", lambda name: pytest.fail(f"{name} is not there now"))
        return [SimpleNamespace(recipe=settings, model=None, history=[{"epoch": 1}], policy=None)]

    def candidate(model, info, *_):
        assert info["initial_weights"]["name"] == "start.h5" and set(info["versions"]) == set(recipe.VERSIONS)
        raise Reached

    weights = tmp_path / "start.h5"
    weights.write_bytes(b"weights")
    settings, targets = recipe.recipe_of(weights=str(weights))
    for name, fake in (("_networks", networks), ("candidate_of", candidate)):
        monkeypatch.setattr(recipe, name, fake)
    monkeypatch.setattr(recipe.training, "best_epoch", lambda history: history[0])
    split = np.zeros((4, 32, 32), np.uint8), np.array([0, 1, 0, 1]), np.array(list("abcd"))
    info = {"size": 32} | {k: {} for k in recipe.DATA_FACTS}
    with pytest.raises(Reached):
        recipe.train(SimpleNamespace(arrays=lambda name: split, info=info), settings, targets, tmp_path, inputs="i")


def test_the_source_in_a_fingerprint_is_that_of_the_start(tmp_path, monkeypatch):
    "After an upgrade, the second training of a stage had the fingerprint of code that did not run."
    from xraypneu.model.training import source_of

    (tmp_path / "module_of_a_test.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import module_of_a_test

    assert source_of(module_of_a_test) == "a = 1\n"
    (tmp_path / "module_of_a_test.py").write_text("a = 1000\n")
    assert source_of(module_of_a_test) == "a = 1\n"


def test_an_int8_variant_that_refuses_more_is_left_out():
    "The outlier detector's limits were set on features in 32 bits; those in 8 bits are noisier."
    from xraypneu.model import recipe

    same = {"validation": 0.0, "shifted": 0.0}
    assert recipe.Int8Variant(b"", {}, same, {"validation": 0.03, "shifted": -0.01}).accepted
    assert not recipe.Int8Variant(b"", {}, same, {"validation": 0.12, "shifted": 0.07}).accepted


def test_a_detector_of_features_that_are_practically_constant_is_such_as_a_bundle_takes():
    "Else the training would fail after its last epoch."
    rng = np.random.default_rng(0)
    features = rng.random((60, 40)).astype(np.float32)
    features[:, :30] *= np.float32(1e-12)
    layout = np.zeros((ood.CELLS**2 + 1, 1), np.float32), np.zeros(2, np.float32)
    detector = ood.fit_detector(features, np.arange(60) % 2, layout, features, np.zeros((60, 20, 20), np.uint8))
    assert ood.read_detector(detector.to_bytes()).means.shape == (2, 40)


def test_the_name_of_initial_weights_is_such_as_a_bundle_takes(tmp_path):
    "It is recorded after the training, which a refusal would lose."
    from xraypneu.model.bundle import _odd
    from xraypneu.model.recipe import initial_weights

    for name in ("R\xc3\x9cntgen.h5", "two\rlines.h5", "R\udcf6ntgen.h5"):
        (tmp_path / name).write_bytes(b"weights")
        assert not list(_odd(initial_weights(str(tmp_path / name))))


def test_an_invariance_phase_of_a_bundle_keeps_its_decision_policy():
    "It is the same classifier: calibration and operating point are not chosen again, on films that it was trained for."
    from xraypneu.model import recipe

    settings, shipped = recipe.recipe_of(epochs=0, head_epochs=0, invariance_epochs=1)[0], load_bundle()
    policy = recipe.teacher_policy(settings, SimpleNamespace(input_shape=(None, 224, 224, 1)), {}, None)
    for name in ("calibration", "threshold", "conformal"):
        assert policy[name] == shipped.info[name]
    with pytest.raises(ValueError, match="takes images of 224 pixels"):
        recipe.teacher_policy(settings, SimpleNamespace(input_shape=(None, 96, 96, 1)), {}, None)


def test_int8_keeps_the_policy_of_fp32_by_a_line():
    from xraypneu.model import recipe

    z = np.random.default_rng(0).normal(size=40)
    policy = {"calibration": {"slope": 2.0, "intercept": 0.5, "fitted": "so"}, "threshold": 0.3}
    fp32 = SimpleNamespace(logits=lambda images: z, info=policy)
    line = recipe._on_line(fp32, (z - 1) / 3, SimpleNamespace(images=None))["calibration"]
    np.testing.assert_allclose(line["slope"] * (z - 1) / 3 + line["intercept"], 2 * z + 0.5)


def test_weights_without_a_head_cannot_skip_its_training():
    from xraypneu.model import network, recipe

    for weights in (None, "imagenet", "somewhere.h5"):
        settings = recipe.recipe_of(weights=weights, epochs=0, head_epochs=0, invariance_epochs=1)[0]
        with pytest.raises(network.WeightsError, match="have no head"):
            recipe.initial_model(32, settings)


def test_a_training_with_all_three_phases(tmp_path, capsys):
    "The last epoch's weights, with the policy that was chosen before the third phase. The terminal says how long."
    from xraypneu.model import recipe

    y = np.arange(48) % 2
    films = np.clip(np.random.default_rng(0).normal(60 + 120 * y[:, None, None], 40, (48, 32, 32)), 0, 255)
    split = films.astype(np.uint8), y, np.array([f"p{i}" for i in range(48)])
    settings, targets = recipe.recipe_of(
        weights=None, head_epochs=0, epochs=1, invariance_epochs=1, batch_size=16, first_block=16, text_markers=0
    )
    data = prepared(images=split[0], y=split[1], patients=split[2])
    known = {"train": 5, "validation": 0, "test": 2}
    trained = recipe.train(data, settings, targets, tmp_path, report=lambda line: None, known_films=known)
    info = load_bundle(trained.bundle.folder).info
    assert info["known_films"] == known
    assert [row["phase"] for row in info["history"]] == ["fine-tuning", "invariance"]
    assert "at most 1 more epoch, about" in capsys.readouterr().err
    assert info["best_epoch"] == 2 and info["threshold_rule"].endswith("chosen before the invariance phase")


def test_the_checks_of_a_run_import_no_tensorflow():
    "With it, `xraypneu run` would take seconds longer to say that a number is wrong."
    assert not closure(["settings", "dataset"]) & {"network", "training"}
