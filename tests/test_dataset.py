"""Folders as people have them: the layouts, the troubles, and the promises of `prepare`."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import fuzz
import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from xraypneu.data import dataset as module
from xraypneu.data import decoder, image
from xraypneu.data.dataset import (
    BOTH_CLASSES,
    CLASSES,
    COPY,
    IN_TEST,
    UNREADABLE,
    DataError,
    counts_table,
    excluded_table,
    find_layout,
    findings_html,
    load_prepared,
    patient_of,
    prepare,
    stored_table,
)
from xraypneu.data.image import read_radiograph, to_square

FILES = {"manifest.parquet", "images.npy", "dataset.json"}
PREFIX = {"NORMAL": "IM-", "PNEUMONIA": "person"}


def picture(path, seed=None):
    "A small picture whose content depends on the seed, or on the name."
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = seed if seed is not None else int(hashlib.sha256(str(path).encode()).hexdigest()[:8], 16)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24), dtype=np.uint8)).save(path)
    return path


def kaggle(root, train=12, test=4, val=0, per_patient=2):
    "A folder in the Kaggle layout, with other patients in each split."
    first = 0
    for split, n in (("train", train), ("test", test), ("val", val)):
        for label in CLASSES:
            for i in range(first, first + n):
                for j in range(per_patient):
                    picture(root / split / label / f"{PREFIX[label]}{i:04d}-{j}.png")
        first += 1000
    return root


def flat(root, n=30):
    for label in CLASSES:
        for i in range(n):
            picture(root / label / f"{PREFIX[label]}{i:04d}-1.png")
    return root


@pytest.fixture
def data(tmp_path):
    return kaggle(tmp_path / "data")


@pytest.fixture
def run(tmp_path):
    return lambda path, **kw: prepare(path, tmp_path / "out", **({"size": 16, "workers": 2, "progress": False} | kw))


@pytest.fixture
def stops(data, run):
    "`prepare` stops with an error of these words, and its earlier result stays."
    before = content(run(data).folder)

    def check(words, **kw):
        with pytest.raises(DataError, match=words):
            run(data, **kw)
        assert content(load_prepared(data.parent / "out").folder) == before

    return check


def codes(p):
    return {f["code"]: f for f in p.info["findings"]}


def content(folder):
    return {f.name: f.read_bytes() for f in Path(folder).iterdir()}


def row(p, path):
    return p.manifest.set_index("path").loc[path]


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_kaggle(data, run):
    p = run(data)
    assert p.info["findings"] == [] and p.info["layout"] == "train/test"
    assert {f.name for f in p.folder.iterdir()} == FILES
    assert list(p.manifest.path) == sorted(p.manifest.path) and list(p.manifest.row) == list(range(len(p.manifest)))
    assert (p.rows("test").official_split == "test").all() and len(p.rows("test")) == 16
    assert len(p.rows("train")) + len(p.rows("validation")) == 48 and len(p.rows("validation")) == 8
    images, y, patients = p.arrays("train")
    assert images.shape == (len(y), 16, 16) and images.dtype == np.uint8 and y.dtype == np.int8 and set(y) == {0, 1}
    assert not set(patients) & set(p.arrays("validation")[2])
    first = p.manifest.iloc[0]
    assert first.sha256 == hashlib.sha256((data / first.path).read_bytes()).hexdigest()
    assert first.bytes == (data / first.path).stat().st_size
    assert (first.width, first.height, first["mode"], first.format) == (24, 20, "L", "PNG")
    assert (p.images[0] == to_square(read_radiograph(data / first.path).pixels, 16)).all()


def test_val_joins_the_training_pool(tmp_path, run):
    p = run(kaggle(tmp_path / "data", val=2))
    assert "8 images" in codes(p)["val_joined"]["message"]
    assert set(p.manifest[p.manifest.official_split == "val"].split) <= {"train", "validation"}


def test_empty_val_is_no_error(data, run):
    (data / "val/NORMAL").mkdir(parents=True)
    run(data)


@pytest.mark.parametrize("make", [flat, lambda root: kaggle(root, test=0)])
def test_a_missing_test_split_is_made_by_patient(tmp_path, run, make):
    p = run(make(tmp_path / "data"), test=0.2, validation=0.25)
    assert "test_made" in codes(p) and p.test_drawn
    parts = [set(p.rows(s).patient) for s in ("train", "validation", "test")]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    for label in CLASSES:
        n = [p.info["counts"][s][label]["images"] for s in ("train", "validation", "test")]
        assert 0 <= n[2] - 0.2 * sum(n) < 2 and 0 <= n[1] - 0.25 * (n[0] + n[1]) < 2  # reached, by less than a patient
    assert not p.manifest.patient_in_other_split.any()


def test_class_names_in_any_case_and_folders_inside(tmp_path, run):
    data = flat(tmp_path / "data")
    (data / "NORMAL").rename(data / "normal")
    picture(data / "PNEUMONIA/bacteria/person9999-1.png")
    p = run(data)
    assert set(p.manifest.label) == set(CLASSES) and "PNEUMONIA/bacteria/person9999-1.png" in set(p.manifest.path)


def test_what_the_system_left_behind_is_ignored_quietly(data, run):
    left = ".DS_Store", "._person0001-0.png", "Thumbs.db", "THUMBS.DB", "Desktop.INI", "__macosx/a.png", ".hidden/b.png"
    for name in left:
        f = data / "train/NORMAL" / name
        f.parent.mkdir(exist_ok=True)
        f.write_bytes(b"x")
    (data / "__MACOSX/train/NORMAL").mkdir(parents=True)
    p = run(data)
    assert len(p.manifest) == 64 and p.info["findings"] == []


@pytest.mark.parametrize("inner,other", [("chest_xray", "chest_xray_copy"), ("anything", None), ("a/chest_xray", None)])
def test_nested_folder(tmp_path, run, inner, other):
    kaggle(tmp_path / "zip" / inner)
    if other:
        kaggle(tmp_path / "zip" / other)
    (tmp_path / "zip/__MACOSX/chest_xray/train/NORMAL").mkdir(parents=True)
    p = run(tmp_path / "zip")
    assert inner in codes(p)["nested"]["message"] and p.manifest.path[0].startswith(f"{inner}/test/")
    assert len(p.manifest) == 64


@pytest.mark.parametrize("below", ["", "chest_xray"])
def test_two_candidates_are_not_guessed(tmp_path, below):
    kaggle(tmp_path / "zip/a" / below), kaggle(tmp_path / "zip/b" / below)
    with pytest.raises(DataError, match="no radiographs found.*expected.*Folders in it: a, b"):
        find_layout(tmp_path / "zip")


def test_other_folders_are_named_but_for_the_samples_masks(data, run):
    picture(data / "masks/a.png"), picture(data / "train/COVID/a.png")
    assert codes(run(data))["ignored_folders"]["files"] == ["masks", "train/COVID"]
    (data / "dataset.json").write_text(
        json.dumps({"title": "Sample", "synthetic": True, "notice": "SYNTHETIC: no patient"})
    )
    p = run(data)
    assert codes(p)["ignored_folders"]["files"] == ["train/COVID"]
    assert p.synthetic and p.banner == "SYNTHETIC: no patient" and p.info["title"] == "Sample"


# --- patients ---------------------------------------------------------------------------------------------------------


def test_patient_keys_keep_their_prefix():
    assert [
        patient_of(n) for n in ("person1_virus_6.jpeg", "IM-0001-0001.jpeg", "NORMAL2-IM-0001-0001.jpeg", "x.png")
    ] == ["person1", "IM-0001", "NORMAL2-IM-0001", None]
    assert patient_of("a7-b8", [r"(b\d)", r"(a\d)"]) == "b8"


def test_names_without_a_patient_are_counted(data, run):
    picture(data / "train/NORMAL/x.png"), picture(data / "train/PNEUMONIA/x.png")
    p = run(data)
    assert "2 file names of 66 match no patient pattern" in codes(p)["no_patient_key"]["message"]
    assert row(p, "train/NORMAL/x.png").patient != row(p, "train/PNEUMONIA/x.png").patient
    (data / "train/NORMAL/y.png").write_bytes(b"")  # excluded, so that its patient doesn't matter
    assert "2 file names of 66 match" in codes(run(data))["no_patient_key"]["message"]


def test_a_patient_in_both_classes_goes_as_a_whole(tmp_path, run):
    for label in CLASSES:
        for i in range(40):
            picture(tmp_path / "data" / label / f"person{i}_{label}.png")
    p = run(tmp_path / "data", validation=0.3, test=0.3)
    assert (p.manifest.groupby("patient").split.nunique() == 1).all()
    assert all(
        9 <= p.info["counts"][s][c]["images"] <= 13 for s in ("test", "validation") for c in CLASSES if s == "test"
    )


def test_split_is_stable_and_by_seed(data, run, tmp_path):
    before = run(data).manifest.set_index("path").split
    for i in range(3):
        picture(data / f"train/NORMAL/IM-{500 + i}-1.png")
    after = run(data).manifest.set_index("path").split
    assert (after[before.index] != before).sum() <= 2
    assert (run(data, seed=1).manifest.set_index("path").split != after).any()


def table(data, rows):
    f = data.parent / "patients.csv"
    f.write_text("\n".join(rows) + "\n", "utf-8-sig")
    return f


def test_patients_csv(data, run):
    files = sorted(f.relative_to(data).as_posix() for f in data.rglob("*.png"))
    rows = [f"{f},P{i // 5}" for i, f in enumerate(files)]
    p = run(data, patients_csv=table(data, ["file,patient,age", *(f"{r},7" for r in rows)]))
    assert list(p.manifest.patient) == [f"P{i // 5}" for i in range(len(files))]
    assert list(
        run(data, patients_csv=table(data, ["file,patient", *(r.rpartition("/")[2] for r in rows)])).manifest.patient
    ) == list(p.manifest.patient)


def test_patients_csv_errors(data, run):
    files = sorted(f.relative_to(data).as_posix() for f in data.rglob("*.png"))
    good = [f"{f},p" for f in files]
    for rows, text in [
        (["file,person", *good], r"has no column patient \(its columns: file, person\)"),
        (["file,patient", *good, files[0] + ",q"], "two patients: p and q"),
        (["file,patient", *good[:-1], files[-1] + ","], "has no patient for"),
        ([], "has no column file"),
        (["file,patient", *good, '"not closed'], "can't be read as CSV"),
        (["file,patient", *good, "a, b.png,p"], "line 66: 3 cells under 2 columns"),
    ]:
        with pytest.raises(DataError, match=text):
            run(data, patients_csv=table(data, rows))
    with pytest.raises(DataError, match="none.csv can't be opened"):
        run(data, patients_csv=data / "none.csv")


@pytest.mark.parametrize(
    "pattern,text",
    [("(person", "not a valid regular"), (r"person\d+", "exactly one group"), (r"(a)(b)", "exactly one group")],
)
def test_patient_pattern_errors(data, run, pattern, text):
    with pytest.raises(DataError, match=text):
        run(data, patient_patterns=[pattern])


# --- the same bytes, and no picture at all ----------------------------------------------------------------------------


def test_same_bytes(data, run):
    def copy(a, b):
        return shutil.copy(data / a, data / b)

    copy("test/NORMAL/IM-1000-0.png", "train/NORMAL/IM-7000-0.png")  # test and train
    copy("train/NORMAL/IM-0000-0.png", "train/PNEUMONIA/person7001-0.png")  # both classes
    copy("train/NORMAL/IM-0001-0.png", "train/NORMAL/IM-7002-0.png")  # extra copies
    copy("train/NORMAL/IM-0001-0.png", "train/NORMAL/IM-7003-0.png")
    copy("test/NORMAL/IM-1001-0.png", "test/NORMAL/IM-7004-0.png")  # within test
    copy("test/PNEUMONIA/person1002-0.png", "train/NORMAL/IM-7005-0.png")  # test and the other class
    p = run(data)
    excluded = p.manifest[p.manifest.excluded != ""].set_index("path").excluded.to_dict()
    assert excluded == {
        "train/NORMAL/IM-7000-0.png": IN_TEST,
        "train/NORMAL/IM-0000-0.png": BOTH_CLASSES,
        "train/PNEUMONIA/person7001-0.png": BOTH_CLASSES,
        "train/NORMAL/IM-7002-0.png": COPY,
        "train/NORMAL/IM-7003-0.png": COPY,
        "train/NORMAL/IM-7005-0.png": BOTH_CLASSES,
    }
    assert (p.manifest[p.manifest.excluded != ""].split == "").all()
    assert len(p.rows("test")) == 17 and row(p, "train/NORMAL/IM-0001-0.png").split != ""
    assert row(p, "train/NORMAL/IM-0001-0.png").duplicates == 2
    f = codes(p)
    assert set(f) == {"both_classes", "train_in_test", "copies", "copies_in_test"}
    assert f["copies"]["files"] == ["train/NORMAL/IM-7002-0.png", "train/NORMAL/IM-7003-0.png"]
    assert "1 group" in f["copies"]["message"]
    assert len(f["both_classes"]["files"]) == 4
    assert "those in the official test split stay" in f["both_classes"]["message"]
    assert excluded_table(p).loc[BOTH_CLASSES].tolist() == [2, 1]


def test_copies_in_a_flat_folder_never_cross_the_split(tmp_path, run):
    data = flat(tmp_path / "data")
    for i in range(30):
        shutil.copy(data / f"NORMAL/IM-{i:04d}-1.png", data / f"NORMAL/IM-{9000 + i}-1.png")
    p = run(data)
    assert p.manifest[p.manifest.split != ""].sha256.is_unique and (p.manifest.excluded == COPY).sum() == 30


def test_unreadable_files_are_recorded(data, run):
    bad = {
        "train/NORMAL/IM-0000-0.png": b"",
        "train/NORMAL/IM-0001-0.png": None,
        "train/PNEUMONIA/notes.txt": b"hello",
        "test/NORMAL/IM-1000-0.png": b"",
        "train/NORMAL/broken": "link",
    }
    for name, content in bad.items():
        f = data / name
        if content == "link":
            f.symlink_to(data / "nowhere")
        else:
            f.write_bytes(f.read_bytes()[:100] if content is None else content)
    p = run(data)
    m = p.manifest.set_index("path")
    for name in bad:
        assert (m.loc[name].excluded, m.loc[name].row, m.loc[name].split) == (UNREADABLE, -1, "")
    assert len(p.images) == len(m) - len(bad) == p.manifest.row.max() + 1 and (m.duplicates == 0).all()
    text = " ".join(codes(p)["unreadable"]["files"])
    assert "5 files could not be read" in codes(p)["unreadable"]["message"] and "notes.txt: this is a text file" in text
    assert "empty" in text
    assert str(data) not in json.dumps(p.info)  # no place on this machine
    last = p.manifest.iloc[-1]
    assert (p.images[last.row] == to_square(read_radiograph(data / last.path).pixels, 16)).all()


# --- what can't be used -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil,text",
    [
        (lambda d: shutil.rmtree(d), "there is no data folder"),
        (lambda d: (shutil.rmtree(d), d.write_text("x")), "is a file, not a folder"),
        (lambda d: (shutil.rmtree(d), d.mkdir()), "no radiographs found.*Folders in it: none"),
        (lambda d: shutil.rmtree(d / "train"), "no radiographs found.*expected the folders train/ and test/"),
        (lambda d: shutil.rmtree(d / "train/NORMAL"), "train/NORMAL is missing"),
        (lambda d: shutil.rmtree(d / "test/PNEUMONIA"), "test/PNEUMONIA is missing"),
        (lambda d: [f.unlink() for f in (d / "train/NORMAL").iterdir()], "train/NORMAL is empty"),
        (lambda d: [f.unlink() for f in (d / "test/NORMAL").iterdir()], "test/NORMAL is empty"),
        (lambda d: [f.write_text("x") for f in d.rglob("*.png")], "none of the 64 files .* is a readable image"),
        (
            lambda d: (
                shutil.rmtree(d / "train/NORMAL"),
                [picture(d / f"train/NORMAL/IM-1-{i}.png") for i in range(5)],
            ),
            "its 5 usable images come from 1 patient, who can't be divided",
        ),
        (lambda d: (d / "dataset.json").write_text("{"), "can't be read as JSON"),
        (lambda d: (d / "dataset.json").write_text("[]"), "one JSON object"),
        (lambda d: (d / "dataset.json").write_text("[" * 200_000), "can't be read as JSON"),
        (lambda d: (d / "dataset.json").write_text('{"a":' * 200_000), "can't be read as JSON"),
    ],
)
def test_data_errors(data, run, spoil, text, tmp_path):
    spoil(data)
    with pytest.raises(DataError, match=text):
        run(data)
    assert not (tmp_path / "out").exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]


@pytest.mark.parametrize("kw,text", [({"size": 224.0}, "size = 224.0"), ({"workers": -1}, "workers = -1: give 1 or")])
def test_parameter_errors(data, run, kw, text):
    with pytest.raises(DataError, match=text):
        run(data, **kw)


def test_out_folders_that_would_lose_something(data, tmp_path):
    def go(out):
        return prepare(data, out, size=16, progress=False)

    before = sorted(data.rglob("*"))
    for out, text in (
        (data, "inside the data folder"),
        (data / "prepared", "inside the data folder"),
        (tmp_path, "lies inside the out folder"),
        (data.parent, "lies inside"),
    ):
        with pytest.raises(DataError, match=text):
            go(out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    with pytest.raises(DataError, match="was not made by prepare.*thesis.txt"):
        go(tmp_path / "mine")
    with pytest.raises(DataError, match="is a file"):
        go(tmp_path / "mine/thesis.txt")
    assert sorted(data.rglob("*")) == before and (tmp_path / "mine/thesis.txt").read_text() == "years"
    (tmp_path / "empty").mkdir()
    go(tmp_path / "empty")


def test_no_patient_in_train_and_validation_is_asserted(data, run, monkeypatch):
    def torn(m, *a):
        m = whole(m, *a)
        m.loc[m.index[(m.split == "train")][0], "split"] = "validation"
        return m

    whole = module._assign
    monkeypatch.setattr(module, "_assign", torn)
    with pytest.raises(AssertionError, match="two splits"):
        run(data)


# --- promises ---------------------------------------------------------------------------------------------------------


def test_two_runs_are_byte_identical(data, tmp_path):
    (data / "train/NORMAL/bad.png").write_text("x")
    a = prepare(data, tmp_path / "a", size=16, workers=1, progress=False)
    shutil.copytree(data, tmp_path / "elsewhere/data")
    b = prepare(tmp_path / "elsewhere/data", tmp_path / "b", size=16, workers=8, progress=False)
    assert content(a.folder) == content(b.folder)


def test_data_hash_names_bytes_split_and_size(data, run):
    p = run(data)
    h = hashlib.sha256(
        "".join(f"{r.path} {r.sha256} {r.split}\n" for r in p.manifest.itertuples()).encode() + b"size 16\n"
    ).hexdigest()
    assert p.info["data_hash"] == h
    assert len({h, run(data, size=32).info["data_hash"], run(data, seed=5).info["data_hash"]}) == 3
    picture(data / "train/NORMAL/IM-0000-0.png", seed=7)
    assert run(data).info["data_hash"] != h


def test_an_error_midway_leaves_the_old_result(data, run, tmp_path, monkeypatch):
    before = content(run(data).folder)
    calls = iter(range(10**6))

    def stop(*a, **k):
        if next(calls) == 30:
            raise KeyboardInterrupt
        return read(*a, **k)

    read = module.decode
    monkeypatch.setattr(module, "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        run(data, seed=3)
    assert content(tmp_path / "out") == before and sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


def test_a_damaged_file_is_named_and_left_out(data, run):
    bad = {}
    for number, label in enumerate(CLASSES):
        path = next((data / "train" / label).iterdir())
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # one bit, which half-decodes to a picture that looks whole
        path.write_bytes(content)
        bad[path.relative_to(data).as_posix()] = number
    p = run(data)
    (finding,) = [f for f in p.info["findings"] if f["code"] == "unreadable"]
    assert "2 files could not be read and are excluded" in finding["message"]
    assert all(any(f.startswith(f"{name}: the picture is damaged") for f in finding["files"]) for name in bad)
    rows = p.manifest[p.manifest.path.isin(bad)]
    assert (rows.excluded == UNREADABLE).all() and (rows.row == -1).all() and (rows.split == "").all()


def test_a_file_that_takes_too_long_is_named_and_left_out(data, run, monkeypatch):
    path = sorted((data / "train/NORMAL").iterdir())[0]
    jp2 = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\0free" + bytes(100)  # pydicom would never end
    path.write_bytes(fuzz.dicom(fuzz.GREY, JPEG2000Lossless, pixel_data=encapsulate([jp2])))
    code = "from xraypneu.data import decoder, image; image._check_frame = lambda *a: None; decoder.CPU_SECONDS = 0.3"
    monkeypatch.setattr(decoder, "_MAIN", f"import sys; sys.path[:] = sys.argv[1:]; {code}; decoder.serve()")
    decoder._pool.close()
    p = run(data)
    decoder._pool.close()
    (finding,) = [f for f in p.info["findings"] if f["code"] == "unreadable"]
    assert len(finding["files"]) == 1 and "decoding it takes more than" in finding["files"][0]
    assert finding["files"][0].startswith(path.relative_to(data).as_posix())


def test_without_a_decoder_nothing_is_prepared(data, run, monkeypatch):
    decoder._pool.close()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DataError, match="decoding stopped at .*the decoder process can't be started"):
        run(data)


def test_packages_that_are_replaced_leave_no_film_out(stops, monkeypatch):
    decoder._pool.close()  # as after a thousand films each
    monkeypatch.setattr(decoder, "_MAIN", "import no_such_module")
    stops("decoding stopped at .*ended while it started")


KILL = """
import os, sys, signal
from xraypneu.data import dataset
real, n = getattr(dataset.os if sys.argv[3] == 'rename' else dataset, sys.argv[3]), 0
def stop(*a, **k):
    global n
    if (n := n + 1) == int(sys.argv[4]): os.kill(os.getpid(), signal.SIGKILL)
    return real(*a, **k)
setattr(dataset.os if sys.argv[3] == 'rename' else dataset, sys.argv[3], stop)
dataset.prepare(sys.argv[1], sys.argv[2], size=16, seed=3, workers=2, progress=False)
"""


@pytest.mark.parametrize("where,nth", [("decode", 30), ("rename", 1), ("rename", 2)])
def test_a_kill_leaves_the_old_result(data, run, tmp_path, where, nth):
    before = content(run(data).folder)
    old = load_prepared(tmp_path / "out").info["data_hash"]
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(data), str(tmp_path / "out"), where, str(nth)], cwd=Path(__file__).parents[1]
    )
    assert done.returncode == -signal.SIGKILL
    assert load_prepared(tmp_path / "out").info["data_hash"] == old
    if (where, nth) != ("rename", 2):
        assert content(tmp_path / "out") == before
    for left in tmp_path.glob(".out.new-*"):
        for f in [left, *left.iterdir()]:
            os.utime(f, (0, 0))  # an hour and more ago
    again = run(data)
    assert again.info["data_hash"] == old and content(again.folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


def test_an_old_result_that_a_kill_left_is_no_obstacle(data, run, tmp_path):
    shutil.copytree(run(data).folder, tmp_path / ".out.old")
    run(data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


MEMORY = """
import resource, sys
from pathlib import Path
from xraypneu.data.dataset import prepare
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
prepare(sys.argv[1], sys.argv[2] + '/small', size=512, workers=2, progress=False)
small = peak()
p = prepare(sys.argv[3], sys.argv[2] + '/large', size=512, workers=2, progress=False)
print(len(p.images) * 512 * 512 // 2**20, peak() - small)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss has other units elsewhere")
def test_memory_is_flat_however_many_images(tmp_path):
    flat(tmp_path / "few", 20), flat(tmp_path / "many", 120)
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "few"), str(tmp_path), str(tmp_path / "many")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    written, grown = map(int, run.stdout.split())
    assert written == 60 and grown < 20, f"{grown} MB more for {written} MB of images"


def test_a_file_is_read_once(data, run, monkeypatch):
    read, seen = module.read_bytes, []
    monkeypatch.setattr(module, "read_bytes", lambda p: seen.append(p) or read(p))
    run(data)
    assert len(seen) == len(set(seen)) == 64


# --- loading and reporting --------------------------------------------------------------------------------------------


def test_half_a_file_of_a_result_is_none(data, run):
    p = run(data)
    assert isinstance(p.images, np.memmap) and not p.images.flags.writeable
    for name, whole in content(p.folder).items():
        (p.folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="is damaged"):
            load_prepared(p.folder)
        (p.folder / name).write_bytes(whole)


def test_tables(data, run):
    p = run(data)
    assert counts_table(p)["images"].to_numpy().sum() == 64 and len(excluded_table(p)) == 0
    assert "No findings" in findings_html(p)
    assert stored_table(p).loc["NORMAL", "mode"] == "L 100%"


def test_strange_names_are_safe_in_the_report(data, run):
    for i in range(12):
        (data / "train/NORMAL" / f"<img src=x onerror=alert({i})>\u202e.png").write_text("x")
    (data / "train/NORMAL" / os.fsdecode(b"\xff\xfe.png")).write_text("x")
    h = findings_html(run(data))
    assert "<img" not in h and "&lt;img" in h and "\u202e" not in h and "and 3 more" in h


def test_folders_whose_names_are_no_utf8(data, run):
    os.mkdir(os.fsencode(data) + b"/other\xff")
    root = data.with_name(os.fsdecode(b"data\xff"))
    data.rename(root)
    p = run(root)
    assert p.info["title"] == "data\\udcff" and codes(p)["ignored_folders"]["files"] == ["other\\xff"]


def test_a_title_that_is_no_text(data, run):
    (data / "dataset.json").write_text('{"title": "\\ud800"}')
    assert run(data).info["title"] == "\\ud800"


@pytest.mark.parametrize("header", ["file,File,patient", " patient,patient ,file"])
def test_a_table_of_patients_with_a_column_twice(data, run, tmp_path, header):
    (tmp_path / "p.csv").write_text(header + "\na,b,c\n")
    with pytest.raises(DataError, match="more than once"):
        run(data, patients_csv=tmp_path / "p.csv")


def test_what_this_computer_lacks_is_no_fault_of_a_file(stops, monkeypatch):
    monkeypatch.setattr(image, "_content", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
    stops("Too many open files")


@pytest.mark.parametrize(
    "number", [errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EIO, errno.ENODEV, errno.EAGAIN, errno.EKEYEXPIRED]
)
def test_a_share_that_fails_leaves_no_film_out(stops, monkeypatch, number):
    real, n = image._content, []

    def fail(path, arrived=None):
        n.append(path)
        if len(n) > 20:
            raise OSError(number, os.strerror(number))
        return real(path, arrived)

    monkeypatch.setattr(image, "_content", fail)
    stops(f"stopped at .*{os.strerror(number)}")


def test_a_suspended_computer_leaves_no_film_out(data, run, monkeypatch):
    "A cluster stops the job, or somebody pauses the container: the time of the film in hand passes meanwhile."
    before = content(run(data).folder)
    calls, real = [], decoder._run

    def suspended(job, content, seconds):
        calls.append(job["name"])
        if len(calls) == 20:
            raise decoder._timeout(True, False, seconds)
        return real(job, content, seconds)

    monkeypatch.setattr(decoder, "_run", suspended)
    assert content(run(data, workers=1).folder) == before
    assert calls[19] == calls[20]


def test_a_computer_that_is_too_slow_stops_prepare(stops, monkeypatch):
    def never(job, content, seconds):
        raise decoder._timeout(True, False, seconds)

    monkeypatch.setattr(decoder, "_run", never)
    stops("stopped at .*: decoding it takes more than 60 s")


def test_a_disk_that_goes_away_leaves_no_film_out(data, stops, monkeypatch):
    real, n = module.read_bytes, []

    def gone(path):
        n.append(path)
        if len(n) == 20:
            data.rename(data.with_name("elsewhere"))
        return real(path)

    monkeypatch.setattr(module, "read_bytes", gone)
    stops("its folder can no longer be opened", workers=1)


@pytest.mark.parametrize("nth", [0, 20])
def test_a_disk_to_which_films_are_linked_leaves_no_film_out(data, run, stops, monkeypatch, nth):
    "`prepare` advises to link the films of another disk: cp -rs. It goes away meanwhile, or was not mounted."
    real, n = module.read_bytes, []
    before, disk = content(data.parent / "out"), data.rename(data.with_name("disk"))
    for film in disk.rglob("*.png"):
        link = data / film.relative_to(disk)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(film)

    def gone(path):
        n.append(path)
        if len(n) == nth:
            disk.rename(data.with_name("elsewhere"))
        return real(path)

    assert content(run(data, workers=1).folder) == before
    if not nth:
        (disk / "train/NORMAL").rename(data.with_name("elsewhere"))
    monkeypatch.setattr(module, "read_bytes", gone)
    stops("the folder that it links to is not there. Mount the disk or share again", workers=1)
