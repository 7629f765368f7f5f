"Bundles: what is written is read again, and what was changed on disk is refused with the file's name."

import hashlib
import json
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_bundle import reference, toy

from xraypneu.model.bundle import INT8, REFERENCE, SHIPPED, BundleError, load_bundle, write_bundle

INFO = {
    "classes": ["NORMAL", "PNEUMONIA"],
    "input": {"size": 32},
    "calibration": {"slope": 0.5, "intercept": 1.0},
    "threshold": 0.5,
    "threshold_rule": "none",
}
OTHER = {"calibration": {"slope": 2.0, "intercept": -4.0}, "threshold": 0.7}


@pytest.fixture(scope="module")
def parts():
    "The fp32 network, the 8-bit network, the reference features."
    return toy(bias=0.0), toy(2.0, bias=0.0), reference()


@pytest.fixture
def both(tmp_path, parts):
    "A bundle with both networks and the reference."
    model, small, reference = parts
    extra = {INT8: small, REFERENCE: reference, "NOTE.txt": "grün"}
    return write_bundle(tmp_path / "both", model, {**INFO, "int8": OTHER}, extra)


def images(*levels):
    return np.stack([np.full((32, 32), v, np.uint8) for v in levels])


def edit(folder, **changes):
    "Change fields of bundle.json; None takes one out."
    path = folder / "bundle.json"
    info = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in info.items() if v is not None}))


def test_what_is_written_is_read(both, parts):
    again = load_bundle(both.folder)
    assert again.folder == both.folder and again.hash == both.hash and again.precision == "fp32"
    assert again.info["kind"] == "xraypneu bundle" and again.info["schema"] == 3
    assert again.info["model_sha256"] == hashlib.sha256(parts[0]).hexdigest()
    assert again.info["parts_sha256"] == {
        INT8: hashlib.sha256(parts[1]).hexdigest(),
        REFERENCE: hashlib.sha256(parts[2]).hexdigest(),
    }
    assert {k: again.info[k] for k in INFO} == INFO
    names = sorted(p.name for p in both.folder.iterdir())
    assert names == sorted(["NOTE.txt", "bundle.json", "model.onnx", INT8, REFERENCE])
    assert (both.folder / "NOTE.txt").read_text(encoding="utf-8") == "grün"
    text = (both.folder / "bundle.json").read_text(encoding="utf-8")
    assert text.endswith("}\n") and list(json.loads(text)) == sorted(json.loads(text))
    assert again.size == 32 and again.model_file == both.folder / "model.onnx"
    assert "calibration" not in repr(again)


def test_a_bundle_of_one_network_has_no_parts(tmp_path, parts):
    b = write_bundle(tmp_path / "one", parts[0], INFO, {"NOTE.txt": b"bytes"})
    assert b.info["parts_sha256"] == {} and b.detector is None and (b.folder / "NOTE.txt").read_bytes() == b"bytes"
    assert write_bundle(tmp_path / "bare", parts[0], INFO).hash == b.hash
    edit(b.folder, parts_sha256=None)  # bundles of other tools may lack the field
    assert load_bundle(b.folder).detector is None


def test_each_precision_has_its_own_network_calibration_and_threshold(both):
    small = load_bundle(both.folder, "int8")
    assert small.model_file == both.folder / INT8 and small.threshold == 0.7 and both.threshold == 0.5
    assert both.logits(images(0, 3)).tolist() == [0, 3] and small.logits(images(0, 3)).tolist() == [0, 6]
    assert both.variant is both.info and small.variant == OTHER
    assert both.probability([-2, 0]) == pytest.approx([0.5, 1 / (1 + np.exp(-1))])
    assert small.probability([2, 4]) == pytest.approx([0.5, 1 / (1 + np.exp(-4))])
    assert small.hash == both.hash


def _precision_of(b):
    try:
        return b.session.get_session_options().get_session_config_entry("session.x64quantprecision")
    except RuntimeError:  # not set
        return None


@pytest.mark.parametrize(
    "machine, flags, precise",
    [
        ("x86_64", "avx2 fma", True),
        ("AMD64", "avx2 avx512f", True),
        ("x86_64", "avx512f avx512_vnni", False),
        ("x86_64", "avx2 avx_vnni", False),
        ("x86_64", None, True),
        ("aarch64", "asimd", False),
    ],
)
def test_the_8_bit_network_does_not_overflow_on_processors_without_vnni(both, monkeypatch, machine, flags, precise):
    def cpuinfo(path, *args, **kw):
        assert str(path) == "/proc/cpuinfo"
        if flags is None:
            raise FileNotFoundError
        return f"flags\t: {flags}\n"

    small = load_bundle(both.folder, "int8")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "read_text", cpuinfo)
    assert (_precision_of(small) == "1") == precise and _precision_of(both) is None


def test_objects_are_made_once(both):
    assert both.session is both.session and both.detector is both.detector
    assert both.detector.means.tolist() == [[1] * 32] * 2
    with pytest.raises(AttributeError):
        both.precision = "int8"


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5])
def test_batches_lose_nothing(both, n):
    got = both.logits(images(*range(1, 6))[:n], batch_size=2)
    assert got.tolist() == list(range(1, n + 1)) and got.dtype == np.float32


def test_outputs_and_what_is_refused(both):
    out = both.outputs(images(1, 2))
    assert list(out) == ["logit", "map", "features"] and out["map"].shape == (2, 32, 32)
    sides = images(1)[:, :20, :20], images(1)[:, :20], np.zeros((1, 64, 64), np.uint8)  # the network would answer
    for wrong in (images(1).astype(np.float32), images(1)[0], images(1)[None], images(1).astype(np.int64), *sides):
        with pytest.raises(ValueError, match="expected images"):
            both.outputs(wrong)


def test_the_hash_is_of_what_bundle_json_says_but_the_commit(tmp_path, parts):
    def write(model=parts[0], **kw):
        return write_bundle(tmp_path / "b", model, {**INFO, **kw}).hash

    first = write()
    assert len(first) == 64 and write() == first
    assert write(git_commit="abc") == first
    assert len({first, write(threshold=0.6), write(note=1), write(toy(3.0))}) == 4


@pytest.mark.parametrize(
    "name, precision", [("model.onnx", "fp32"), (REFERENCE, "fp32"), (INT8, "int8"), (REFERENCE, "int8")]
)
def test_a_changed_or_absent_file_is_named(both, name, precision):
    load_bundle(both.folder, precision)
    path = both.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        load_bundle(both.folder, precision)
    path.unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(both.folder, precision)


def test_files_that_are_not_used_are_not_read(both):
    (both.folder / INT8).write_bytes(b"")
    assert load_bundle(both.folder).precision == "fp32"
    shutil.copy(both.folder / "NOTE.txt", both.folder / INT8)
    with pytest.raises(BundleError):
        load_bundle(both.folder, "int8")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "other"}, "not written by xraypneu"),
        ({"kind": None}, "not written by xraypneu"),
        ({"schema": 4}, "newer than 3"),
        ({"schema": "3"}, "newer"),
        ({"schema": None}, "newer"),
        ({"schema": 2}, "schema 2, .* Convert it: xraypneu convert"),
        ({"schema": 1}, "schema 1, .* Train again"),
        ({"threshold": None, "classes": None}, "lacks classes, threshold"),
        ({"model_sha256": None}, "lacks model_sha256"),
    ],
)
def test_fields_are_checked(both, changes, message):
    edit(both.folder, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(both.folder)


def test_no_bundle_there(tmp_path, both):
    with pytest.raises(BundleError, match="bundle.json is missing"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="fp32, int8"):
        load_bundle(both.folder, "int4")


def test_an_8_bit_network_needs_its_file_and_its_fields(tmp_path, parts):
    model, small, _ = parts
    with pytest.raises(BundleError, match="no 8-bit network"):
        write_bundle(tmp_path / "b", model, INFO, {INT8: small})  # no calibration for it
    with pytest.raises(BundleError, match="no 8-bit network"):
        load_bundle(write_bundle(tmp_path / "c", model, {**INFO, "int8": OTHER}).folder, "int8")
    assert not (tmp_path / "b").exists()


def test_a_writer_that_was_killed_left_the_old_one(both):
    both.folder.rename(both.folder.with_name(".both.old"))
    assert load_bundle(both.folder).hash == both.hash


def test_what_can_not_be_read_is_not_written(both, parts):
    for bad in ({"threshold": float("nan")}, {"classes": []}, {"calibration": {"slope": 1.0}}):
        with pytest.raises(BundleError):
            write_bundle(both.folder, parts[0], INFO | bad)
    assert load_bundle(both.folder).hash == both.hash and [p.name for p in both.folder.parent.iterdir()] == ["both"]
    history = [{"epoch": 1, "val_roc_auc": float("nan")}]  # of a validation with one class
    written = write_bundle(both.folder, parts[0], INFO | {"history": history})
    assert written.info["history"] == [{"epoch": 1, "val_roc_auc": None}]


def test_the_shipped_one_is_the_default():
    b = load_bundle()
    assert b.folder == SHIPPED and b.size == 224 and b.detector is not None
    assert load_bundle(precision="int8").hash == b.hash
