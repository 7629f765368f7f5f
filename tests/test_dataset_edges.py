"""Limits, order and wording of `prepare`: small folders and small tables with exact answers."""

import dataclasses
import json
import os
import shutil
import threading
import time
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import refusal
from PIL import Image
from test_dataset import picture
from test_image import dicom

from xraypneu.data import dataset as module
from xraypneu.data.dataset import (
    CLASSES,
    DataError,
    Layout,
    Prepared,
    choose_patients,
    excluded_table,
    find_layout,
    findings_html,
    load_prepared,
    prepare,
    stored_table,
)
from xraypneu.data.labelled import labelled_films
from xraypneu.model import bundle

COLUMNS = {
    "path": "O", "label": "O", "y": "int8", "official_split": "O", "split": "O", "patient": "O", "row": "int64",
    "sha256": "O", "bytes": "int64", "width": "int32", "height": "int32", "mode": "O", "format": "O", "excluded": "O",
    "duplicates": "int32", "patient_in_other_split": "bool", "synthetic": "bool",
}  # fmt: skip


def folder(root, split, n=4, first=0):
    "A class folder for both classes, `n` patients in each; flat where split is ''."
    for label, prefix in zip(CLASSES, ("IM-", "person"), strict=True):
        for i in range(first, first + n):
            picture(root / split / label / f"{prefix}{i}.png")
    return root


def go(data, out="out", **kw):
    return prepare(data, data.parent / out, **({"size": 16, "workers": 2, "progress": False} | kw))


@pytest.fixture
def data(tmp_path):
    return folder(folder(tmp_path / "data", "train"), "test", 2, first=100)


def messages(p):
    return {f["code"]: f["message"] for f in p.info["findings"]}


# --- parameters -------------------------------------------------------------------------------------------------------


def test_sizes_at_their_limits(data):
    for size in (16, 2048):
        p = go(data, size=size)
        assert p.images.shape == (12, size, size) and p.info["size"] == size
    for size in (15, 2049):
        with pytest.raises(DataError, match=f"size = {size} must be an integer from 16 to 2048"):
            go(data, size=size)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_fractions_at_their_limits(data, name):
    for value in (0, 1, -0.1, 1.5):
        with pytest.raises(DataError, match=f"{name} = {value} is not a fraction"):
            go(data, **{name: value})
    for low in (1e-6, 0.01):
        assert len(go(data, validation=low, test=0.5).rows("validation")) == 2  # at least a patient of each class
    with pytest.raises(DataError, match=r"validation \+ test = 1 leaves nothing"):
        go(data, validation=0.25, test=0.75)


def test_defaults_are_15_percent_and_224_pixels(tmp_path):
    p = prepare(folder(tmp_path / "data", "", 20), tmp_path / "out", progress=False)

    def images(s):
        return [p.info["counts"][s][c]["images"] for c in CLASSES]

    assert images("test") == [3, 3] and images("validation") == [3, 3] and images("train") == [14, 14]
    assert p.images.shape == (40, 224, 224) and p.info["seed"] == 0
    assert prepare(tmp_path / "data", tmp_path / "again", seed=0, progress=False).info == p.info


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system doesn't say which cores are ours")
def test_as_many_threads_as_cores(data, monkeypatch):
    asked, real = [], module._in_order
    monkeypatch.setattr(module, "_in_order", lambda f, items, workers: asked.append(workers) or real(f, items, workers))
    go(data, workers=3)  # the processes that decode are started before this thread is bound to one core
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})  # of this thread alone
        go(data, workers=None)
    finally:
        os.sched_setaffinity(0, mine)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    go(data, workers=None)
    monkeypatch.setattr(os, "cpu_count", lambda: None)  # where the number is unknown
    go(data, workers=None)
    assert asked == [3, 1, 5, 1]


def test_progress_is_shown_on_request_alone(data, capfd):
    go(data)
    assert capfd.readouterr() == ("", "")
    prepare(data, data.parent / "out", size=16)
    out, err = capfd.readouterr()
    assert out == "" and "decoding" in err and "12/12" in err and "images" in err


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_data_are_found_two_levels_down_and_not_three(tmp_path):
    folder(tmp_path / "a/b/c", "train")
    assert find_layout(tmp_path / "a").root == tmp_path / "a/b/c"
    with pytest.raises(DataError, match="Folders in it: a."):
        find_layout(tmp_path)


def test_eight_folders_are_named_where_no_class_is(tmp_path):
    for i in range(9):
        (tmp_path / f"f{i}").mkdir()
    with pytest.raises(DataError) as e:
        find_layout(tmp_path)
    assert str(e.value).endswith("Folders in it: f0, f1, f2, f3, f4, f5, f6, f7.")


def test_split_folders_are_not_data_folders(tmp_path):
    folder(tmp_path / "data", "val")  # a validation split alone is nothing to train on
    with pytest.raises(DataError, match="no radiographs found"):
        find_layout(tmp_path / "data")


def test_of_several_the_one_called_chest_xray(tmp_path):
    folder(tmp_path / "alpha", ""), folder(tmp_path / "Chest_XRay", "train"), folder(tmp_path / "zeta", "train")
    assert find_layout(tmp_path).root == tmp_path / "Chest_XRay"


def test_layouts_by_kind(tmp_path):
    root = folder(tmp_path / "data", "")
    kinds = [find_layout(root)]
    kinds.append(find_layout(folder(root, "train")))  # which goes before classes beside it
    kinds.append(find_layout(folder(root, "test")))
    assert [k.kind for k in kinds] == ["flat", "train", "train/test"]
    assert kinds[0].ignored == [] and kinds[2].ignored == ["NORMAL", "PNEUMONIA"]
    assert [(s, c) for s, c, _ in kinds[2].folders] == [(s, c) for s in ("test", "train") for c in CLASSES]
    assert all(f == root / s / c for s, c, f in kinds[2].folders)
    with pytest.raises(dataclasses.FrozenInstanceError):
        kinds[0].kind = "train"


def test_val_may_lack_a_class_or_files(data):
    picture(data / "val/NORMAL/IM-200.png")
    assert messages(go(data)) == {
        "val_joined": "1 image of the folder val added to the training pool: the validation split is made by patient."
    }


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has other rights")
def test_a_folder_that_cant_be_opened_is_named(data, monkeypatch):
    def refused():
        try:
            if root:
                os.seteuid(65534)  # for root no folder is locked
            with pytest.raises(DataError) as e:
                prepare(Path("data"), Path("out"), progress=False)
            return str(e.value)
        finally:
            if root:
                os.seteuid(0)

    root = os.geteuid() == 0
    data.parent.chmod(0o755)
    monkeypatch.chdir(data.parent)  # whose own parents need not be open to everyone
    for locked in ("data/train/NORMAL", "data/train", "data"):
        (data.parent / locked).chmod(0)
        try:
            assert refused() == f"the folder {locked} can't be opened: Permission denied."
        finally:
            (data.parent / locked).chmod(0o755)


def test_linked_folders_are_followed_once(data):
    picture(data.parent / "elsewhere/deep/IM-300.png")
    (data / "train/NORMAL/linked").symlink_to(data.parent / "elsewhere")
    (data / "train/NORMAL/linked_again").symlink_to(data.parent / "elsewhere")
    (data.parent / "elsewhere/deep/up").symlink_to(data.parent / "elsewhere")
    found = go(data).manifest
    assert sum(found.path.str.endswith("IM-300.png")) == 1 and len(found) == 13


def test_layout_findings_count_in_words(data):
    picture(data / "other/a.png")
    assert messages(go(data)) == {"ignored_folders": "1 folder outside the layout ignored."}
    picture(data / "train/COVID/a.png"), picture(data / "masks/a.png")
    assert messages(go(data)) == {"ignored_folders": "3 folders outside the layout ignored."}
    one = Layout(Path("/x/a/b"), "flat", [], ["masks"])
    found = module._layout_findings(one, Path("/x"), False, Counter(val=1234))
    assert [f["message"] for f in found] == [
        "The data was found in the subfolder a/b.",
        "1 folder outside the layout ignored.",
        "1,234 images of the folder val added to the training pool: the validation split is made by patient.",
        "There is no official test split, so one was made by patient.",
    ]
    assert [f["code"] for f in module._layout_findings(one, Path("/x/a/b"), True, Counter())] == ["test_made"]


# --- the manifest -----------------------------------------------------------------------------------------------------


def test_files_are_in_the_order_of_their_paths(data):
    for name in ("b.png", "a/z.png", "a.png", "a-b.png"):
        picture(data / "train/NORMAL" / name)
        (data / "train/NORMAL" / name).with_suffix(".txt").write_text("no picture")
    (data / "train/NORMAL").rename(data / "train/normal")
    p = go(data)
    paths = list(p.manifest.path)
    assert paths == sorted(paths) and paths[2] == "test/PNEUMONIA/person100.png"
    inside = [n.removeprefix("train/normal/") for n in paths if n.startswith("train/normal/") and n.endswith(".png")]
    assert inside == ["IM-0.png", "IM-1.png", "IM-2.png", "IM-3.png", "a-b.png", "a.png", "a/z.png", "b.png"]
    assert paths.index("train/PNEUMONIA/person0.png") < paths.index("train/normal/IM-0.png")
    found = {f["code"]: f["files"] for f in p.info["findings"]}
    bad = ["a-b.txt", "a.txt", "a/z.txt", "b.txt"]
    assert [f.split(":")[0] for f in found["unreadable"]] == [f"train/normal/{n}" for n in bad]
    assert found["no_patient_key"] == [f"train/normal/{n}" for n in ("a-b.png", "a.png", "a/z.png", "b.png")]
    rows = p.manifest[p.manifest.row >= 0]
    assert list(rows.row) == list(range(16))
    for path, square in zip(rows.path, p.images, strict=True):
        single = module._read_one(data / path, 16)[1]
        assert (square == single).all()


def test_the_manifest_has_its_columns_and_types(data):
    p = go(data)
    assert {k: v.kind if v.kind == "O" else v.name for k, v in p.manifest.dtypes.items()} == COLUMNS
    assert list(p.manifest.columns) == list(COLUMNS) and list(p.manifest.index) == list(range(12))
    assert (p.manifest.y == p.manifest.label.map({"NORMAL": 0, "PNEUMONIA": 1})).all()
    assert not p.manifest.synthetic.any() and not p.manifest.patient_in_other_split.any()
    (data / "dataset.json").write_text('{"synthetic": true}')
    assert go(data).manifest.synthetic.all()


def test_the_row_of_an_unreadable_file(data):
    names = {"text": b"no picture", "same": b"no picture", "void": b""}
    for name, content in names.items():
        (data / "train/NORMAL" / f"IM-9-{name}.png").write_bytes(content)
    (data / "train/NORMAL/IM-9-gone.png").symlink_to(data / "nowhere")
    p = go(data)
    bad = p.manifest[p.manifest.row < 0]
    bad = bad.set_index(bad.path.str.removeprefix("train/NORMAL/IM-9-").str.removesuffix(".png"))
    assert sorted(bad.index) == ["gone", "same", "text", "void"]
    assert (bad[["width", "height", "duplicates"]] == 0).all(axis=None)
    assert (bad[["mode", "format", "split"]] == "").all(axis=None) and set(bad.row) == {-1}
    text = module.hashlib.sha256(b"no picture").hexdigest()
    assert bad.bytes.to_dict() == {"text": 10, "same": 10, "void": 0, "gone": 0}
    assert bad.sha256["text"] == bad.sha256["same"] == text and bad.sha256["gone"] == ""
    assert list(excluded_table(p).loc["unreadable"]) == [4, 0] and list(excluded_table(p).index) == ["unreadable"]
    good = p.manifest[p.manifest.row >= 0]
    assert set(zip(good.width, good.height, good["mode"], good.format, strict=True)) == {(24, 20, "L", "PNG")}
    assert all(n == (data / f).stat().st_size for f, n in zip(good.path, good.bytes, strict=True))


def test_counts_by_hand(data):
    picture(data / "train/NORMAL/IM-0-second.png")
    (data / "train/PNEUMONIA/person9.png").write_text("x")
    counts = go(data, validation=0.2).info["counts"]
    assert list(counts) == ["train", "validation", "test", "excluded"]

    def n(split, label):
        return tuple(counts[split][label].values())

    assert n("test", "NORMAL") == n("test", "PNEUMONIA") == (2, 2)
    assert n("train", "PNEUMONIA") == (3, 3) and n("validation", "PNEUMONIA") == (1, 1)
    assert np.add(n("train", "NORMAL"), n("validation", "NORMAL")).tolist() == [5, 4]
    assert n("excluded", "PNEUMONIA") == (1, 1) and n("excluded", "NORMAL") == (0, 0)


# --- patients and splits ----------------------------------------------------------------------------------------------


def by_hand(patients, labels, fraction, seed):
    "`choose_patients`, slowly and one image at a time."

    def order(k):
        return module.hashlib.sha256(f"{seed}:{k}".encode()).digest()

    chosen = set()
    for label in CLASSES:
        mine = [p for p, x in zip(patients, labels, strict=True) if x == label]
        for patient in sorted(set(mine), key=order):
            if sum(p in chosen for p in mine) >= fraction * len(mine):
                break
            chosen.add(patient)
    return chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.75])
def test_choose_patients_against_a_slow_version(seed, fraction):
    rng = np.random.default_rng(seed)
    patients = [f"p{i}" for i in rng.integers(0, 20, 80)]  # many of them in both classes
    labels = list(rng.choice(CLASSES, 80))
    assert choose_patients(patients, labels, fraction, seed) == by_hand(patients, labels, fraction, seed)
    assert choose_patients(patients, labels, fraction) == by_hand(patients, labels, fraction, 0)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("label", CLASSES)
def test_a_split_without_either_class_is_refused(data, split, label):
    for file in (data / split / label).iterdir():
        file.write_text("x")
    n = 4 if split == "train" else 2
    with pytest.raises(DataError, match=rf"the {split} split .* has no {label} image: none of its {n} files is usable"):
        go(data)


def test_one_readable_file_is_not_none(data):
    for file in sorted(data.rglob("*.png"))[1:]:
        file.write_text("x")
    with pytest.raises(DataError, match="the train split .* has no NORMAL image: none of its 4 files is usable"):
        go(data)
    (data / "test/NORMAL/IM-100.png").write_text("x")
    with pytest.raises(DataError) as e:
        go(data)
    assert str(e.value).endswith("is a readable image. The first: test/NORMAL/IM-100.png.")


@pytest.mark.parametrize("label", CLASSES)
def test_one_patient_of_a_class_cant_be_divided(data, label):
    for file in list((data / "train" / label).iterdir())[1:]:
        file.unlink()
    text = f"has no {label} image: its 1 usable image come from 1 patient, who can't be divided"
    with pytest.raises(DataError, match=text):
        go(data)


def test_patients_in_train_and_test_by_hand(data):
    picture(data / "train/NORMAL/IM-100.png"), picture(data / "train/PNEUMONIA/person101-2.png")
    p = go(data)
    marked = p.manifest[p.manifest.patient_in_other_split]
    assert sorted(marked.path) == [
        "test/NORMAL/IM-100.png", "test/PNEUMONIA/person101.png",
        "train/NORMAL/IM-100.png", "train/PNEUMONIA/person101-2.png",
    ]  # fmt: skip
    assert len(p.rows("test")) == 4 and (p.manifest.excluded == "").all()  # marked, not moved
    assert messages(p)["patients_in_both"].startswith(
        "2 patient keys of the official test split (2 images) also occur in training."
    )
    rows = [f"{path},{who}" for path, who in zip(p.manifest.path, p.manifest.patient, strict=True)]
    said = messages(go(data, **csv(data, "\n".join(["file,patient", *rows]))))["patients_in_both"]
    assert said.startswith("2 patients of the official test split (2 images) also occur in training. Metrics on them")
    (data / "train/PNEUMONIA/person101-2.png").unlink()
    assert messages(go(data))["patients_in_both"].startswith(
        "1 patient key of the official test split (1 image) also occurs in training."
    )


def test_films_that_are_left_out_make_nobody_a_patient_of_both(data):
    "Copies of test films in train, all excluded, were counted as patients of train; so were files that can't be read."
    shutil.copy(data / "test/NORMAL/IM-100.png", data / "train/NORMAL/IM-100-1.png")
    (data / "train/PNEUMONIA/person101-2.png").write_text("x")
    p = go(data)
    assert sorted(p.manifest.path[p.manifest.excluded != ""]) == [
        "train/NORMAL/IM-100-1.png", "train/PNEUMONIA/person101-2.png",
    ]  # fmt: skip
    assert not p.manifest.patient_in_other_split.any() and "patients_in_both" not in messages(p)


def csv(data, text):
    (data.parent / "patients.csv").write_text(text)
    return {"patients_csv": data.parent / "patients.csv"}


def test_the_table_of_patients_as_people_write_it(data):
    files = sorted(f.relative_to(data).as_posix() for f in data.rglob("*.png"))
    rows = "".join(f" ./{f} ,p{i} \n".replace("/", "\\" if i % 2 else "/") for i, f in enumerate(files))
    p = go(
        data, **csv(data, " Patient , FILE\n" + "".join(",".join(r.split(",")[::-1]) + "\n" for r in rows.split("\n")))
    )
    assert list(p.manifest.patient) == [f"p{i}" for i in range(12)]


def test_a_backslash_in_a_name_of_the_table_of_patients(data):
    "Not only of Windows' folders: before, no row was the one of such a file."
    film = data / "train/NORMAL/IM-0.png"
    film.rename(film.with_name("a\\IM-0.png"))
    files = sorted(f.relative_to(data).as_posix() for f in data.rglob("*.png"))
    p = go(data, **csv(data, "\n".join(["file,patient", *[f"{f},p{i}" for i, f in enumerate(files)]])))
    assert list(p.manifest.patient) == [f"p{i}" for i in range(12)]


def test_the_full_path_goes_before_the_bare_name(data):
    (data / "train/NORMAL/IM-0.png").rename(data / "train/NORMAL/same.png")
    (data / "test/NORMAL/IM-100.png").rename(data / "test/NORMAL/same.png")
    files = sorted(f.relative_to(data).as_posix() for f in data.rglob("*.png"))
    rows = [f"{f if 'same' in f else Path(f).name},p{i}" for i, f in enumerate(files)]
    p = go(data, **csv(data, "\n".join(["file,patient", "same.png,nobody", *rows])))
    assert list(p.manifest.patient) == [f"p{i}" for i in range(12)]
    with pytest.raises(DataError, match="same.png in the patient table .* could be any of 2 files: write its path"):
        go(data, **csv(data, "\n".join(["file,patient", "same.png,nobody", *[r for r in rows if "same" not in r]])))


def test_three_files_without_a_patient_are_named(data):
    with pytest.raises(DataError) as e:
        go(data, **csv(data, "file,patient\nIM-0.png,a\n"))
    listed = str(e.value).partition("has no row for ")[2]
    assert listed == (
        "11 of 12 files, for instance test/NORMAL/IM-100.png, test/NORMAL/IM-101.png, test/PNEUMONIA/person100.png."
    )
    with pytest.raises(DataError, match=r"no column file \(its columns: a, b\)"):
        go(data, **csv(data, "a,b\n1,2\n"))


def test_one_name_without_a_patient(data):
    picture(data / "train/NORMAL/x.png")
    text = "1 file name of 13 matches no patient pattern: each counts as a separate patient."
    assert messages(go(data)) == {"no_patient_key": text}


def test_folders_that_may_be_patients_are_said(tmp_path):
    "As viewers export them: IM-0002 is a series of many patients, and one patient has several."
    for label in CLASSES:
        for i in range(6):
            for series in (i, i + 1):
                picture(tmp_path / "data" / label / f"{label[0]}{i}" / f"IM-000{series}-0001.png")
    p = go(tmp_path / "data")
    text = messages(p)["patient_folders"]
    assert text.startswith("12 folders inside the class folders are not used as patients")
    assert "(7 patient keys)" in text and "data.patients_csv" in text
    person = p.manifest.path.str.split("/").str[1]
    assert (p.manifest.groupby(person).split.nunique() > 1).any()
    rows = [f"{path},{who}" for path, who in zip(p.manifest.path, person, strict=True)]
    p = go(tmp_path / "data", **csv(tmp_path / "data", "\n".join(["file,patient", *rows])))
    assert "patient_folders" not in messages(p) and (p.manifest.groupby(person).split.nunique() == 1).all()


def test_patients_of_both_classes_are_said(data):
    "As where a viewer begins with IM-0001 in each folder: two people counted as one without a word."
    for label in CLASSES:
        for i in (1, 2):
            picture(data / "train" / label / f"IM-000{i}.png")
    text = messages(go(data))["patients_of_both_classes"]
    assert text.startswith("2 patient keys (4 files) are in both classes, and count as one patient each. If the files")
    rows = [f"{p},{p}" for p in go(data).manifest.path]
    table = csv(data, "\n".join(["file,patient", *rows]))
    assert "patients_of_both_classes" not in messages(go(data, **table))


def test_excluded_films_are_no_finding_about_patients(data):
    "A damaged film, or a copy, made a patient one of both classes, and a file one of two formats."
    for i in (1, 2):
        picture(data / "train/NORMAL" / f"IM-000{i}.png")
        (data / "train/PNEUMONIA" / f"IM-000{i}.png").write_bytes(b"no picture")
        picture(data / "train/NORMAL" / f"film{i}.png")
        (data / "train/NORMAL" / f"film{i}.jpg").write_bytes(b"no picture")
    found = messages(go(data))
    assert found.keys() == {"unreadable", "no_patient_key"} and found["no_patient_key"].startswith("2 file names")


def test_folders_that_agree_with_the_file_names_are_no_finding(data):
    for label, prefix in zip(CLASSES, ("IM-", "person"), strict=True):
        for i in range(20, 24):
            for view in (1, 2):
                picture(data / "train" / label / f"child{label[0]}{i}" / f"{prefix}{i}_{view}.png")
    assert messages(go(data)) == {}


def test_names_that_begin_with_the_patient_are_said(tmp_path):
    "IM-0001 is a series here, as where somebody put the folders of a viewer's export into one."
    for label in CLASSES:
        for i in range(6):
            for series in (i, i + 1):
                picture(tmp_path / "data" / label / f"{label[0]}{i}_IM-000{series}-0001.png")
    p = go(tmp_path / "data")
    text = messages(p)["patient_beginnings"]
    assert text.startswith("12 beginnings of file names come with more than one patient key each. If")
    assert not any(f"{c}{i}" in text for c in "NP" for i in range(6))  # eda.ipynb shows it, which jobs upload
    person = p.manifest.path.str.split("/").str[1].str[:2]
    assert (p.manifest.groupby(person).split.nunique() > 1).any()
    p = go(tmp_path / "data", patient_patterns=["([NP]\\d+)_"])
    assert messages(p).keys() == {"test_made"} and (p.manifest.groupby(person).split.nunique() == 1).all()


def test_a_beginning_that_all_names_share_is_no_finding(data):
    for file in list(data.rglob("*.png")):
        file.rename(file.with_name(f"clinic_{file.name}"))
    assert messages(go(data)) == {}


def test_copies_of_a_film_in_other_formats_are_one_patient(tmp_path):
    for label in CLASSES:
        for i in range(12):
            film = picture(tmp_path / "data" / label / f"1.2.{i}.png")
            Image.open(film).resize((20, 20)).save(film.with_suffix(".jpg"))
            Image.open(film).save(film.with_name(f"1.2.{i}.dcm.PNG"))
    p = go(tmp_path / "data")
    assert p.manifest.groupby("patient").size().tolist() == [3] * 24 and set(p.manifest.patient[:3]) == {"NORMAL/1.2.0"}
    assert (p.manifest[p.manifest.split != ""].groupby("patient").split.nunique() == 1).all()
    assert messages(p)["formats"].startswith("48 files differ from another one only in the extension")


def test_dicom_films_of_one_patient_id_under_several_keys_are_said(tmp_path):
    "Films numbered through, as a workstation writes them: each number was taken for a patient, and nothing was said."
    n = 0
    for label in CLASSES:
        (tmp_path / "data" / label).mkdir(parents=True)
        for person in range(8):
            for _ in range(2):
                n += 1
                pixels = np.random.default_rng(n).integers(0, 256, (5, 4), dtype=np.uint8)
                film = dicom(pixels, PatientID=f"{label}-{person}", PatientName="Secret^Patient")
                (tmp_path / "data" / label / f"IM-{n:04}.dcm").write_bytes(film)
    p = go(tmp_path / "data")
    person = p.manifest.label + ((p.manifest.path.str[-8:-4].astype(int) - 1) // 2).astype(str)
    assert (p.manifest.groupby(person).split.nunique() > 1).any()
    text = messages(p)["dicom_patients"]
    assert text.startswith("16 patient IDs in DICOM files (32 files) have more than one patient key each")
    assert "Secret" not in json.dumps(p.info) and "NORMAL-" not in json.dumps(p.info)
    pd.DataFrame({"file": p.manifest.path, "patient": person}).to_csv(tmp_path / "people.csv", index=False)
    p = go(tmp_path / "data", patients_csv=tmp_path / "people.csv")
    assert messages(p).keys() == {"test_made"} and len(p.info["patients_csv"]) == 64  # `replaced_files` compares it
    films = pd.DataFrame({"path": list("abcd"), "patient": list("wxyz"), "excluded": ""})
    assert not module._patient_findings(films, pd.Series(["anonymous"] * 3 + [""]))  # one ID for all is nobody's
    assert module._patient_findings(films, pd.Series(["i", "i", "k", ""]))[0]["files"] == ["a", "b"]
    films.loc[1, "excluded"] = "copy"
    assert not module._patient_findings(films, pd.Series(["i", "i", "k", ""]))


def test_patients_of_a_table_that_differ_in_case_or_blanks_are_said(data, capsys):
    "p1 and P1 were two patients without a word, who could be in two splits. They stay two: they may be two."
    files = sorted(f.relative_to(data).as_posix() for f in data.rglob("*.png"))
    ways = ("p1", "P1", " p1 ", "p\u200b1", "Doe  Jane", "doe jane")
    rows = [f"{file},{ways[i] if i < len(ways) else f'q{i}'}" for i, file in enumerate(files)]
    p = go(data, **csv(data, "\n".join(["file,patient", *rows])))
    said = messages(p)["patients_alike"]
    assert said.startswith("5 patients in the table") and "(6 films)" in said and "write a patient the same" in said
    assert capsys.readouterr().err.splitlines()[0] == f"Warning: {said}"
    assert f"{files[1]}: P1" in findings_html(p) and "Jane" not in said and p.manifest.patient[0] == "p1"
    p = go(
        data,
        **csv(
            data,
            "\n".join(["file,patient", *(r.replace("P1", "p1") for r in rows[:3]), *(f"{f},{f}" for f in files[3:])]),
        ),
    )
    assert "patients_alike" not in messages(p) and "Warning" not in capsys.readouterr().err


def test_remarks_of_the_reader_are_findings(data):
    "A prediction remarks on a lateral film; `prepare` trained and tested on it without a word."
    for i, view in enumerate(("LL", "PA", "LL")):
        pixels = np.random.default_rng(i).integers(0, 256, (5, 4), dtype=np.uint8)
        (data / f"train/NORMAL/IM-9{i}.dcm").write_bytes(dicom(pixels, ViewPosition=view, PatientID=str(i)))
    (found,) = go(data).info["findings"]
    assert found["code"] == "remarks" and found["message"].startswith("2 files with a remark: the file says that it")
    assert found["files"] == ["train/NORMAL/IM-90.dcm", "train/NORMAL/IM-92.dcm"]


def test_a_colour_photograph_among_films_is_a_finding(data):
    "A prediction refuses it; `prepare` trained on it without a word."
    grey, rng = np.tile(np.arange(200, dtype=np.uint8), (200, 1)), np.random.default_rng(0)
    photograph = Image.fromarray(np.stack([grey, grey.T, grey[:, ::-1]], -1))
    photograph.save(data / "train/NORMAL/IM-93.jpg")
    film = Image.fromarray(rng.integers(0, 256, (200, 200), dtype=np.uint8))
    film.convert("RGB").save(data / "train/NORMAL/IM-94.jpg")  # three channels, but grey
    (found,) = go(data).info["findings"]
    assert found["message"].startswith("1 file with a remark: the image is coloured")
    assert found["files"] == ["train/NORMAL/IM-93.jpg"]


def test_what_network_storage_leaves_is_no_film(data):
    "A Synology NAS keeps a thumbnail of every picture; named otherwise, it would be another patient's film."
    before = list(go(data).manifest.path)
    for film in list(data.rglob("*.png")):
        picture(film.parent / "@eaDir" / film.name / "SYNOPHOTO_THUMB_M.jpg")
        (film.parent / "@eaDir" / f"{film.name}@SynoEAStream").write_bytes(b"x")
    for name in ("#recycle", "$RECYCLE.BIN", "lost+found"):
        picture(data / name / "NORMAL" / "x.png")
    p = go(data)
    assert list(p.manifest.path) == before and messages(p) == {}


# --- findings ---------------------------------------------------------------------------------------------------------


def copy(data, source, *names):
    for name in names:
        (data / name).write_bytes((data / source).read_bytes())


def test_findings_say_how_many(data):
    (data / "train/NORMAL/IM-9.png").write_text("x")
    copy(data, "train/NORMAL/IM-0.png", "train/NORMAL/IM-0-1.png")
    copy(data, "test/NORMAL/IM-100.png", "test/NORMAL/IM-100-1.png", "train/NORMAL/IM-8.png")
    assert messages(go(data)) == {
        "unreadable": "1 file could not be read and is excluded.",
        "train_in_test": "1 training file identical to a test file: excluded from training.",
        "copies": "1 group of identical files: the first of each stays, 1 copy excluded.",
        "copies_in_test": ("1 group of identical files inside the official test split, which stays as published."),
    }
    copy(data, "train/NORMAL/IM-1.png", "train/NORMAL/IM-1-1.png", "train/NORMAL/IM-1-2.png")
    copy(data, "train/PNEUMONIA/person0.png", "train/NORMAL/IM-7.png")
    got = messages(go(data))
    assert got["copies"] == "2 groups of identical files: the first of each stays, 3 copies excluded."
    assert got["both_classes"] == ("1 group of identical files in both classes: all copies excluded from training.")


def test_remarks_on_used_files_are_findings(data):
    "What a prediction would say of a file must not stay silent where it trains or tests a model."
    rng, masks = np.random.default_rng(0), np.zeros((3, 64, 64), np.uint8)
    film = Image.fromarray(rng.integers(1, 255, (150, 150), dtype=np.uint8))
    film.save(data / "test/NORMAL/IM-101.bmp")
    whole = (data / "test/NORMAL/IM-101.bmp").read_bytes()
    (data / "test/NORMAL/IM-101.bmp").write_bytes(whole[:12_288] + bytes(len(whole) - 12_288))
    for i, mask in enumerate(masks):
        mask[10:50, 5 : 25 + i] = mask[12:50, 38:58] = 255
        Image.fromarray(mask).save(data / f"train/NORMAL/IM-5{i}.png")
    for side in (20, 21):
        Image.new("L", (side, side), 3).save(data / f"train/PNEUMONIA/person9{side}.png")
    Image.fromarray(rng.integers(0, 65_535, (9, 9), dtype=np.uint16)).save(data / "train/NORMAL/IM-60.png")
    found = [(f["message"], sorted(f["files"])) for f in go(data).info["findings"]]
    says = "with a remark: the {}. Nothing is excluded: remove what does not belong."
    incomplete = "file ends in zeros, like an incomplete copy: part of the picture may be missing"
    assert found == [
        ("1 file " + says.format(incomplete), ["test/NORMAL/IM-101.bmp"]),
        (
            "3 files " + says.format("image has hardly more than two grey levels, like a mask"),
            [f"train/NORMAL/IM-5{i}.png" for i in range(3)],
        ),
        (
            "2 files " + says.format("image is empty: it has almost no contrast"),
            [f"train/PNEUMONIA/person9{side}.png" for side in (20, 21)],
        ),
    ]


def test_accents_in_one_or_two_characters_are_the_same_patient(tmp_path):
    "Names from a Mac may be decomposed (NFD), those from elsewhere are not, and both look the same."
    data, rows = tmp_path / "data", ["file,patient"]
    for label in CLASSES:
        for i in range(12):
            for n, form in enumerate(("NFC", "NFD")):
                path = picture(data / label / f"{unicodedata.normalize(form, f'Zoé{label[0]}{i}')}_{n}.png")
                rows.append(f"{unicodedata.normalize('NFC', path.name)},{unicodedata.normalize(form, f'é{label}{i}')}")
    (tmp_path / "patients.csv").write_text("\n".join(rows), "utf-8")
    for settings in ({"patient_patterns": ["^(.+)_"]}, {"patients_csv": tmp_path / "patients.csv"}):
        p = go(data, **settings)
        assert p.manifest.patient.nunique() == 24 and set(messages(p)) == {"test_made"}
        assert (p.manifest.groupby("patient").split.nunique() == 1).all()


def test_films_that_are_only_in_a_cloud_are_not_passed_over(data):
    (data / "train/NORMAL/.IM-7.png.icloud").write_bytes(b"bplist00")
    with refusal(DataError, "missing", r"NORMAL lacks 1 of its files, .* iCloud .*Download the folder first"):
        go(data)


def test_a_class_within_the_other_is_refused(data):
    "As a copy into the wrong place leaves it: pneumonia was trained, and measured, as normal."
    picture(data / "train/NORMAL/2024/normal/IM-77.png")
    go(data)
    picture(data / "train/NORMAL/2024/Pneumonia/IM-77.png")
    with refusal(DataError, "no_layout", "2024/Pneumonia lies among the films of NORMAL"):
        go(data)
    with pytest.raises(DataError, match="lies among the films"):
        labelled_films(data, "train")


@pytest.mark.parametrize("below", ["test", "2024/Validation"])
def test_splits_below_a_class_are_refused(below, tmp_path):
    "`NORMAL/train`, `NORMAL/test`: the films of all splits were mixed, and the given test films trained on."
    data = folder(tmp_path / "data", "")
    picture(data / f"NORMAL/{below}/IM-77.png")
    with refusal(DataError, "no_layout", f"{below} is a split's folder .* train/NORMAL and test"):
        go(data)
    with pytest.raises(DataError, match="split's folder below the class NORMAL"):
        labelled_films(data)


@pytest.mark.parametrize("name", ["IM-0.overlay.png", "IM-0.overlay-2.png"])
def test_maps_of_predict_are_no_films(name, data):
    "Of `xraypneu predict --overlay .` among the films: each counted as a film, often of another patient and split."
    picture(data / f"train/NORMAL/{name}")
    with refusal(DataError, "foreign", f"holds maps of xraypneu predict .*: {name}, 1 in all"):
        go(data)
    with pytest.raises(DataError, match="of xraypneu predict"):
        labelled_films(data, "train")


def test_the_same_picture_in_other_bytes_is_said(data):
    "A film that is exported twice gets other dates and numbers in its header, and so other bytes."
    for source, copy_of in (
        ("test/NORMAL/IM-100.png", "train/NORMAL/IM-8.bmp"),
        ("train/NORMAL/IM-0.png", "train/PNEUMONIA/person8.bmp"),
        ("train/NORMAL/IM-1.png", "train/NORMAL/IM-1-1.bmp"),  # of one patient, so in one split
    ):
        Image.open(data / source).save(data / copy_of)
    p = go(data)
    assert messages(p) == {
        "same_picture": "2 pictures in several splits or classes, in files of different bytes, like a film that was "
        "exported twice. Nothing is excluded: remove the copies, or the metrics will be too good."
    }
    assert len(p.info["findings"][0]["files"]) == 4


def test_unreadable_files_of_the_same_bytes_are_no_copies(data):
    for name in ("NORMAL/IM-9.png", "NORMAL/IM-8.png", "PNEUMONIA/person9.png"):
        (data / "train" / name).write_text("x")
    assert messages(go(data)) == {"unreadable": "3 files could not be read and are excluded."}


def test_a_group_with_members_in_test_and_out_of_it(data):
    copy(data, "test/NORMAL/IM-100.png", "train/NORMAL/IM-8.png")  # a single copy in test is no finding about test
    p = go(data)
    assert list(messages(p)) == ["train_in_test"]
    assert set(p.manifest[p.manifest.duplicates == 1].path) == {"test/NORMAL/IM-100.png", "train/NORMAL/IM-8.png"}


def prepared(manifest, findings=()):
    return Prepared(Path("x"), manifest, np.zeros((1, 1, 1)), {"findings": list(findings)})


def test_stored_pictures_by_hand():
    rows = [  # the first row counts too, an unreadable file does not
        (0, "NORMAL", 100, 200, 1500, "L", "PNG"),
        (1, "NORMAL", 300, 200, 3500, "RGB", "JPEG"),
        (2, "NORMAL", 301, 100, 4400, "RGB", "JPEG"),
        (-1, "NORMAL", 0, 0, 9, "", ""),
        (3, "PNEUMONIA", 10, 20, 1000, "RGB", "PNG"),
        (4, "PNEUMONIA", 10, 20, 1000, "L", "DICOM"),
    ]
    table = stored_table(prepared(pd.DataFrame(rows, columns="row label width height bytes mode format".split())))
    assert list(table.index) == list(CLASSES)
    assert table.loc["NORMAL"].to_dict() == {
        "median width": "300", "median height": "200", "median width / height": "1.50", "median kB": "4",
        "mode": "RGB 67%, L 33%", "format": "JPEG 67%, PNG 33%",
    }  # fmt: skip
    assert list(table.loc["PNEUMONIA"]) == ["10", "20", "0.50", "1", "L 50%, RGB 50%", "DICOM 50%, PNG 50%"]


def test_findings_as_html():
    names = [f"{i}.png" for i in range(11)]

    def find(files):
        return [{"code": "x", "message": "A & B.", "files": files}]

    page = findings_html(prepared(None, find(names)))
    assert page == (
        "<ul><li>A &amp; B.<br><small>"
        + ", ".join(f"<code>{n}</code>" for n in names[:10])
        + ", and 1 more</small></li></ul>"
    )
    assert "more" not in findings_html(prepared(None, find(names[:10])))
    assert findings_html(prepared(None, find(names)), limit=1).count("<code>") == 1
    assert findings_html(prepared(None, find([]))) == "<ul><li>A &amp; B.</li></ul>"
    assert findings_html(prepared(None)) == "<p>No findings.</p>"
    assert "\ufffd" in findings_html(prepared(None, find(["a\nb\u202e"])))


# --- dataset.json and the result --------------------------------------------------------------------------------------


def test_what_the_data_are_called(data):
    plain = {"title": "data", "synthetic": False, "notice": "", "source": "data"}

    def own(p):
        return {k: p.info[k] for k in plain}

    assert own(go(data)) == plain and go(data).banner == ""
    for meta, changed in [
        ({"title": "T", "source": "S", "notice": "N"}, {"title": "T", "source": "S", "notice": "N"}),
        ({"synthetic": True}, {"synthetic": True, "notice": "SYNTHETIC data"}),
        ({"synthetic": True, "notice": "N"}, {"synthetic": True, "notice": "N"}),
        ({"synthetic": "yes", "title": 7}, {"title": "7"}),
        ({"synthetic": 1}, {}),
    ]:
        (data / "dataset.json").write_text(json.dumps(meta))
        p = go(data)
        assert own(p) == plain | changed and p.synthetic is p.info["synthetic"]
        assert p.banner == (p.info["notice"] if p.synthetic else "")


@pytest.mark.parametrize(
    "odd,shown",
    [
        ("R\xc3\xb6ntgen \xc3\x9cbung", "R\xc3\xb6ntgen \xc3\ufffdbung"),  # UTF-8 that a program took for Latin-1
        ("two\r\nlines", "two lines"),
        ("films\u202egpj", "films\ufffdgpj"),
        ("x" * 20_000, "x" * 1_000),
    ],
)
def test_names_of_data_are_such_as_a_bundle_takes(data, odd, shown):
    "After the training it would be refused, and the training be lost."
    meta = dict.fromkeys(("title", "source", "notice"), odd) | {"synthetic": True}
    (data / "dataset.json").write_text(json.dumps(meta))
    info = go(data).info
    assert {info[k] for k in ("title", "source", "notice")} == {shown}
    facts = {k: info[k] for k in ("title", "synthetic", "notice", "data_hash", "counts")}
    assert not [*bundle._odd(facts), *bundle._faults(facts, bundle._RULES["data?"])]


def test_a_folder_of_data_may_have_any_name(data):
    odd = data.rename(data.parent / "R\xc3\xb6ntgen \xc3\x9cbung")
    assert go(odd).info["title"] == "R\xc3\xb6ntgen \xc3\ufffdbung"


def test_the_given_folders_json_goes_before_the_inner_one(data):
    data.rename(data.parent / "inner")
    inner = data.parent / "zip/inner"
    inner.parent.mkdir()
    (data.parent / "inner").rename(inner)
    (inner / "dataset.json").write_text('{"title": "inner"}')
    assert go(inner.parent, "../made").info["title"] == "inner"
    (inner.parent / "dataset.json").write_text('{"title": "outer"}')
    p = go(inner.parent, "../made")
    assert p.info["title"] == "outer" and p.info["source"] == "zip"


def test_a_result_is_opened_whole_or_not_at_all(data):
    for name, content, text in [
        ("dataset.json", None, "is damaged"),
        ("dataset.json", b"{", "is damaged"),
        ("dataset.json", b'{"size": 32}', "do not belong together"),
        ("dataset.json", b"{}", "is damaged"),
        ("dataset.json", b"[]", "is damaged"),
        ("dataset.json", b"[" * 100_000, "is damaged"),
        ("manifest.parquet", None, "is damaged"),
        ("manifest.parquet", b"x", "is damaged"),
        ("images.npy", None, "is damaged"),
        ("images.npy", b"x", "is damaged"),
        ("images.npy", np.zeros((11, 16, 16), np.uint8), "do not belong together"),
    ]:
        file = go(data).folder / name
        if content is None:
            file.unlink()
        elif isinstance(content, bytes):
            file.write_bytes(content)
        else:
            np.save(file, content)
        with pytest.raises(DataError, match=f"{text}.*Run the prepare stage again"):
            load_prepared(file.parent)
    with pytest.raises(DataError, match="there is no prepared data in .*nowhere.*Run the prepare stage first"):
        load_prepared(data / "nowhere")


def test_splits_by_name(data):
    p = go(data)
    for wrong in ("val", "", "excluded"):
        with pytest.raises(DataError, match=f"there is no split '{wrong}': choose one of train, validation, test"):
            p.rows(wrong)
    images, y, patients = p.arrays("test")
    rows = p.rows("test")
    assert (images == p.images[rows.row]).all() and list(y) == list(rows.y) and list(patients) == list(rows.patient)
    assert repr(p) == "Prepared('data', train 6, validation 2, test 4, size 16)"


def test_three_strange_files_of_an_out_folder_are_named(data):
    out = data.parent / "mine"
    out.mkdir()
    for name in ("d", "b", "images.npy", "a", "c"):
        (out / name).write_text("x")
    with pytest.raises(DataError, match=r"\(it holds a, b, c\) and will not be replaced"):
        go(data, "mine")


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [3, 80])
def test_few_are_in_flight_however_many_threads(workers):
    started = []
    for done, _ in enumerate(module._in_order(started.append, range(1000), workers), 1):
        assert len(started) - done < 4 * workers
    assert done == 1000 and sorted(started) == list(range(1000))


def test_what_waits_is_cancelled_when_the_work_stops():
    started, go_on = [], threading.Event()

    def until_told(i):
        started.append(i)
        return i == 0 or go_on.wait(10)

    work = module._in_order(until_told, range(1000), workers=2)
    next(work)
    begun = time.monotonic()
    work.close()  # the two that run may wait for a share that hangs: before, Ctrl-C waited with them
    assert len(started) <= 3 and time.monotonic() - begun < 5
    go_on.set()
