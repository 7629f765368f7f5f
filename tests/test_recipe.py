"""The published recipe is said once: notebook, library and params.yaml agree, and each stage depends on what it imports."""

import ast
import json

import pytest
import yaml
from conftest import ROOT

STAGES = ("prepare", "eda", "train", "evaluate")


def cells(stage):
    "Code cells of a stage's notebook: tags, source."
    notebook = json.loads((ROOT / f"nbs/pipeline/{stage}.ipynb").read_text())
    return [(c["metadata"].get("tags", []), "".join(c["source"])) for c in notebook["cells"] if c["cell_type"] == "code"]


def defaults(stage):
    "What the parameters cell sets."
    (source,) = [s for tags, s in cells(stage) if "parameters" in tags]
    found = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        found[target.id] = ast.literal_eval(node.value)
    return found


@pytest.mark.parametrize("stage", ["eda", "train", "evaluate"])
def test_an_interactive_run_has_the_parameters_of_params_yaml(stage):
    assert defaults(stage) == yaml.safe_load((ROOT / "params.yaml").read_text())[stage]


def test_the_defaults_of_the_library_are_those_of_params_yaml():
    from xraypneu.recipe import recipe_of

    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    assert recipe_of(**parameters) == recipe_of()


@pytest.mark.parametrize("stage", ["eda", "train", "evaluate"])
def test_a_stage_notebook_holds_no_policy(stage):
    for _, source in cells(stage):
        tree = ast.parse(source)
        defined = [n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        assert not defined, f"{stage}.ipynb defines {defined}: move it to the library"
        assert len(source.splitlines()) <= 40
