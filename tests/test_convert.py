"""Bundles of version 0.2.0 become bundles of the present schema, with the same networks and the same numbers."""

import io
import json
import shutil

import numpy as np
import pytest
from conftest import ROOT, lay, run

from xraypneu import cli
from xraypneu.model import bundle as module
from xraypneu.model.bundle import INT8, REFERENCE, SHIPPED, BundleError, load_bundle
from xraypneu.model.signature import Trust, check_signature
from xraypneu.ops.convert import RENAMED_PARAMETERS, convert_bundle, convert_metrics

FORMER = ROOT / "tests/former/metrics.json"  # of the model of 0.2.0, with its names


def former(info):
    "What bundle.json of a model would have said in schema 2."
    back = {new: old for old, new in RENAMED_PARAMETERS.items()}
    info = {k: v for k, v in info.items() if k != "converted_from"} | {"schema": 2}
    info["kept_epoch"] = info.pop("best_epoch")
    info["recipe"] = {back.get(k, k): v for k, v in info["recipe"].items()}
    info["recipe"]["views"] = {back.get(k, k): v for k, v in info["recipe"].pop("augmentation").items()}
    return info


@pytest.fixture
def old(tmp_path):
    "The shipped model as version 0.2.0 would have had it, with metrics of that version."
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("model.onnx", INT8, REFERENCE):
        shutil.copy(SHIPPED / name, folder / name)
    info = former(load_bundle().info)
    (folder / "bundle.json").write_text(module._text(info))
    metrics = json.loads(FORMER.read_text())
    metrics["model"]["hash"] = module._bundle_hash(info)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "README.md").write_text("A card.")
    return folder


def test_a_converted_bundle_has_the_same_networks_and_numbers(old, tmp_path):
    with pytest.raises(BundleError, match=f"schema 2.*Convert it: xraypneu convert {old} NEW"):
        load_bundle(old)
    before = {p.name: p.read_bytes() for p in old.iterdir()}
    out = io.StringIO()
    assert cli.main(["convert", str(old), str(tmp_path / "new")], out) == 0
    assert "all predictions" in out.getvalue() and "signature" not in out.getvalue()
    assert {p.name: p.read_bytes() for p in old.iterdir()} == before
    for name in ("model.onnx", INT8, REFERENCE):
        assert (tmp_path / "new" / name).read_bytes() == (SHIPPED / name).read_bytes(), name
    hash_of_old = json.loads(before["metrics.json"])["model"]["hash"]
    converted, info = load_bundle(tmp_path / "new").info, load_bundle().info
    assert converted.pop("converted_from") == {"schema": 2, "hash": hash_of_old}
    assert converted == {k: v for k, v in info.items() if k != "converted_from"}
    assert load_bundle(tmp_path / "new").hash[:12] in (tmp_path / "new/README.md").read_text()
    images = np.random.default_rng(0).integers(0, 256, (2, load_bundle().size, load_bundle().size)).astype(np.uint8)
    for precision in ("fp32", "int8"):
        new, shipped = load_bundle(tmp_path / "new", precision), load_bundle(None, precision)
        assert (new.logits(images) == shipped.logits(images)).all()


def test_metrics_of_another_model_are_left_out(old, tmp_path):
    m = json.loads((old / "metrics.json").read_text())
    (old / "metrics.json").write_text(json.dumps(m | {"model": {"hash": "0" * 64}}))
    bundle = convert_bundle(old, tmp_path / "new").bundle
    assert not (bundle.folder / "metrics.json").exists() and not (bundle.folder / "README.md").exists()


@pytest.mark.parametrize("text", ["", "[]", "null", '{"model": 3}', '{"model": {}}'])
def test_metrics_that_are_none_are_left_out(old, tmp_path, text):
    (old / "metrics.json").write_text(text)
    assert not (convert_bundle(old, tmp_path / "new").bundle.folder / "metrics.json").exists()


def test_numbers_stay_as_published():
    published = json.loads(FORMER.read_text())
    converted = convert_metrics(published, "new")

    def numbers(value):
        return [n for v in value.values() for n in numbers(v)] if isinstance(value, dict) else [value]

    same = sorted(map(str, numbers({**published, "model": {}})))
    assert sorted(map(str, numbers({**converted, "model": {}}))) == same


def test_a_damaged_bundle_is_not_converted(old, tmp_path):
    for name in ("model.onnx", INT8, REFERENCE):
        data = (old / name).read_bytes()
        (old / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(BundleError, match=f"{name} is damaged"):
            convert_bundle(old, tmp_path / "new")
        (old / name).write_bytes(data)
    for text in ("", "{", "[]", "null", '{"schema": 2}', '{"schema": 2, "schema": 2}'):
        (old / "bundle.json").write_text(text)
        with pytest.raises(BundleError, match="is damaged"):
            convert_bundle(old, tmp_path / "new")
    (old / "bundle.json").unlink()
    with pytest.raises(BundleError, match="bundle.json is missing"):
        convert_bundle(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"schema": 1}, "schema 1: only schema 2 is converted"),
        ({"schema": 3}, "schema 3: only schema 2 is converted"),
        ({"kind": "other"}, "only schema 2"),
        ({"parts_sha256": {"../x": "0" * 64}}, "names the file '../x'"),
        ({"parts_sha256": 3}, "is damaged"),
        ({"threshold": 2}, "threshold must be"),
        ({"licence": float("nan")}, "finite number"),
    ],
)
def test_what_is_no_bundle_of_schema_2_is_not_converted(old, tmp_path, change, words):
    info = json.loads((old / "bundle.json").read_text())
    (old / "bundle.json").write_text(json.dumps(info | change))
    with pytest.raises(BundleError, match=words):
        convert_bundle(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_existing_folder_is_not_replaced(old, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(BundleError, match="exists. Name a folder"):
        convert_bundle(old, tmp_path / "new")


@pytest.fixture
def signed(old, tmp_path):
    "The old bundle, signed; the public key."
    from xraypneu.model.signature import sign

    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key)], tmp_path)
    run(["openssl", "ec", "-in", str(key), "-pubout", "-out", str(public)], tmp_path)
    sign(old, key)
    assert check_signature(old, Trust(key=str(public))) == "verified"
    return old, public


def test_a_signature_is_verified_and_not_carried_over(signed, tmp_path, monkeypatch):
    folder, public = signed
    monkeypatch.setenv("XRAYPNEU_SIGNER_KEY", str(public))
    out = io.StringIO()
    assert cli.main(["convert", str(folder), str(tmp_path / "new")], out) == 0
    assert "The old signature (verified) covers the old files and was not copied" in out.getvalue()
    assert "xraypneu.model.signature sign" in out.getvalue() and not (tmp_path / "new/model.sig").exists()
    (folder / "metrics.json").write_text("{}")  # a signed bundle that was changed can't be laundered
    with pytest.raises(BundleError, match="could not be verified"):
        convert_bundle(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_nothing_is_converted_where_signatures_are_required(signed, tmp_path, monkeypatch):
    folder, public = signed
    monkeypatch.setenv("XRAYPNEU_SIGNER_KEY", str(public))
    monkeypatch.setenv("XRAYPNEU_SIGNATURE", "required")
    with pytest.raises(BundleError, match="a converted bundle is unsigned"):
        convert_bundle(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_former_parameter_is_refused_with_its_present_name(tmp_path):
    from xraypneu.ops.stage import StageError, check_params, read_yaml, set_params, stage_params

    lay(tmp_path, "params.yaml", "dvc.yaml")
    present, notebook = stage_params(tmp_path, "train"), ROOT / "nbs/pipeline/train.ipynb"
    check_params(notebook, present)
    for old, new in RENAMED_PARAMETERS.items():
        assert new in read_yaml(tmp_path / "params.yaml")["train"]
        with pytest.raises(StageError, match=rf"^Unknown parameter train\.{old}\. Did you mean train\.{new}\?$"):
            set_params(tmp_path, [f"train.{old}=1"])
        with pytest.raises(StageError, match=rf"^Unknown parameter {old}\. Did you mean {new}\?$"):
            check_params(notebook, {old if k == new else k: v for k, v in present.items()})
