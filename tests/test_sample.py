"The synthetic sample: deterministic, honest (no cue but the opacity), and never in anybody's way."

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from xraypneu.data import sample
from xraypneu.data.sample import NOTICE, SampleError, draw_radiograph, make_sample

SIZE = 64


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_sample(tmp_path_factory.mktemp("sample") / "data" / "sample", patients=40, size=SIZE, workers=1)


@pytest.fixture(scope="module")
def drawn():
    "Many pictures as (pixels, mask, facts), each patient as in the sample."
    return [draw_radiograph(p, shot, size=SIZE) for p in range(120) for shot in (0, 1)]


def test_layout_and_notice(folder):
    info, files = json.loads((folder / "dataset.json").read_text()), tree(folder)
    images = [f for f in files if f.startswith(("train/", "test/"))]
    assert info["synthetic"] is True and info["notice"] == NOTICE and info["seed"] == 0
    assert info["images"] == len(images)
    folders = {f"{s}/{c}" for s in ("train", "test") for c in ("NORMAL", "PNEUMONIA")}
    assert {f.rsplit("/", 1)[0] for f in images} == folders
    for f in files:
        if f.endswith(".png"):
            with Image.open(folder / f) as im:
                assert (im.format, im.size, im.mode) == ("PNG", (SIZE, SIZE), "1" if f.startswith("masks/") else "L")
                assert im.info["Notice"] == NOTICE


def test_patients_are_disjoint_and_of_one_class(folder):
    where = {}
    for p in folder.glob("t*/*/*.png"):
        where.setdefault(p.name.split("-")[0], set()).add(p.parent)
    assert all(len(places) == 1 for places in where.values()) and len(where) == 40


def test_every_pneumonia_image_has_a_mask(folder):
    ill = {p.relative_to(folder).as_posix() for p in folder.glob("t*/PNEUMONIA/*.png")}
    masks = {p.relative_to(folder / "masks").as_posix(): p for p in folder.glob("masks/*/*/*.png")}
    assert ill == set(masks)
    assert all(np.asarray(Image.open(p)).mean() > 0.003 for p in masks.values())


def test_same_bytes_whatever_the_workers(folder, tmp_path):
    assert tree(make_sample(tmp_path / "again", patients=40, size=SIZE, workers=3)) == tree(folder)


def test_other_seed_other_pictures():
    assert not np.array_equal(draw_radiograph(3, seed=0, size=SIZE)[0], draw_radiograph(3, seed=1, size=SIZE)[0])


def test_more_patients_leave_the_others_alone(folder, tmp_path):
    few = tree(make_sample(tmp_path / "few", patients=25, size=SIZE))
    few.pop("dataset.json")
    assert few.items() <= tree(folder).items()


@pytest.mark.parametrize("seed", range(30))
def test_every_seed_fills_all_four_cells(seed):
    plans = [sample._plan(p, seed) for p in range(1, 247)]
    assert {p[:2] for p in plans[:20]} == {(c, s) for c in (True, False) for s in ("train", "test")}
    assert 0.52 < np.mean([p[0] for p in plans]) < 0.58 and 0.24 < np.mean([p[1] == "test" for p in plans]) < 0.30


def test_the_opacity_is_all_that_differs():
    for p in range(12):
        (well, none, _), (ill, mask, facts) = (draw_radiograph(p, 1, pneumonia=c, size=128) for c in (False, True))
        diff = np.abs(ill.astype(int) - well)
        assert not none.any() and mask.any() and facts["density"] > 0
        assert diff[mask].mean() > 5 * diff[~mask].mean()
        assert np.median(diff[:, :8]) <= 3  # the border (markers, air) only sees a little more or less scatter


def test_masks_lie_in_the_picture_on_the_side_that_is_said(drawn):
    for pixels, mask, facts in drawn:
        assert pixels.shape == mask.shape and pixels.dtype == np.uint8 and mask.dtype == bool
        assert facts["pneumonia"] == mask.any()
        if facts["side"] in ("right", "left"):  # the child's right is on the left of the picture
            middle = np.nonzero(mask)[1].mean() - SIZE / 2
            assert middle < 6 if facts["side"] == "right" else middle > -6


def test_markers_do_not_know_the_class(drawn):
    y = np.array([d["pneumonia"] for *_, d in drawn])
    for text in ("R", "L"):
        has = np.array([text in d["marker"].split() for *_, d in drawn])
        p, n = has.mean(), [y.sum(), (~y).sum()]
        z = (has[y].mean() - has[~y].mean()) / np.sqrt(p * (1 - p) * (1 / n[0] + 1 / n[1]))
        assert abs(z) < 3
    same = [draw_radiograph(p, 0, pneumonia=c, size=SIZE)[2]["marker"] for c in (True, False) for p in range(8)]
    assert same[:8] == same[8:]


def test_no_trivial_cue(drawn):
    y = [d["pneumonia"] for *_, d in drawn]
    x, q = np.stack([p for p, *_ in drawn]).astype(float), SIZE // 4
    centre = x[:, q:-q, q:-q]
    cues = {"mean": x.mean((1, 2)), "centre": centre.mean((1, 2)), "std": x.std((1, 2))}
    for name, v in cues.items():
        auc = roc_auc_score(y, v)
        assert max(auc, 1 - auc) < 0.75, name


def test_synthetic_is_burned_in(monkeypatch):
    said, text = [], sample.ImageDraw.ImageDraw.text

    def spy(self, xy, what, **kw):
        said.append(what)
        text(self, xy, what, **kw)

    monkeypatch.setattr(sample.ImageDraw.ImageDraw, "text", spy)
    pixels, *_ = draw_radiograph(5, size=256)
    assert "SYNTHETIC" in said
    assert max(pixels[:24].max(), pixels[-24:].max()) >= 220


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "x.jpeg").write_bytes(b"1")
    with pytest.raises(SampleError, match="1 file of yours .*x.jpeg"):
        make_sample(tmp_path, patients=20, size=SIZE)
    for text in ('{"synthetic": true, "title": "prepared from a sample"}', "[not json"):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(SampleError, match="2 files of yours .*dataset.json"):
            make_sample(tmp_path, patients=20, size=SIZE)
    with pytest.raises(SampleError, match="is a file"):
        make_sample(tmp_path / "x.jpeg", patients=20, size=SIZE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset.json", "x.jpeg"]


def test_files_of_others_in_a_sample_are_kept(tmp_path):
    folder = make_sample(tmp_path / "s", patients=20, size=SIZE)
    (folder / "train" / "NORMAL" / "mine.png").write_bytes(b"1")
    with pytest.raises(SampleError, match="mine.png"):
        make_sample(folder, patients=20, size=SIZE)
    assert (folder / "train" / "NORMAL" / "mine.png").exists()


def test_what_a_broken_off_download_left_of_a_sample_is_replaced(tmp_path):
    "As of `dvc pull`; systems add files of their own."
    for name in ("train/NORMAL/SYN0007-1.png", "train/NORMAL/Thumbs.db", ".DS_Store"):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).touch()
    assert "SYN0007-1.png" not in tree(make_sample(tmp_path / "s", patients=20, size=SIZE))


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_midway_leaves_what_was_there(tmp_path, monkeypatch, error):
    folder = make_sample(tmp_path / "s", patients=20, size=SIZE)
    before, save, calls = tree(folder), sample._save_png, []

    def fails(*args):
        calls.append(args)
        if len(calls) > 9:
            raise error
        save(*args)

    monkeypatch.setattr(sample, "_save_png", fails)
    for target in (folder, tmp_path / "fresh"):
        with pytest.raises(type(error)):
            make_sample(target, patients=20, seed=5, size=SIZE, workers=2)
    assert tree(folder) == before and [p.name for p in tmp_path.iterdir()] == ["s"]


def test_killed_midway_leaves_no_half_sample(tmp_path):
    code = (
        "import os, sys, signal\nfrom xraypneu import sample\nsave, n = sample._save_png, []\n"
        "def dies(*a):\n    n.append(1)\n    os.kill(os.getpid(), signal.SIGKILL) if len(n) > 9 else save(*a)\n"
        "sample._save_png = dies\nsample.make_sample(sys.argv[1], patients=20, size=64, workers=1)"
    )
    folder = tmp_path / "s"
    assert subprocess.run([sys.executable, "-c", code, folder]).returncode != 0
    assert not folder.exists()
    make_sample(folder, patients=20, size=SIZE)  # and what a kill leaves behind is not in the way


def test_bad_arguments(tmp_path):
    with pytest.raises(SampleError, match="too few"):
        make_sample(tmp_path / "s", patients=3)
    with pytest.raises(SampleError, match="between 64"):
        make_sample(tmp_path / "s", size=16)
    with pytest.raises(SampleError, match="0 or more"):
        draw_radiograph(-1)
    with pytest.raises(SampleError, match="workers is -1. give 1 or more"):
        make_sample(tmp_path / "s", workers=-1)
    assert not list(tmp_path.iterdir())


def test_command(tmp_path):
    args = [sys.executable, "-m", "xraypneu.data.sample", str(tmp_path / "s"), "--patients", "20", "--size", "64"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(args, capture_output=True, text=True, env=env)
    # no bar without a terminal
    assert done.returncode == 0 and str(tmp_path / "s") in done.stdout
    assert len(done.stderr.splitlines()) == 4 and "50 % of " in done.stderr  # a log has no bar
    again = subprocess.run(args[:3] + [str(tmp_path)] + args[4:], capture_output=True, text=True, env=env)
    assert again.returncode == 1 and "of yours" in again.stderr and "Traceback" not in again.stderr


def test_imports_stay_light():
    heavy = ("pandas", "sklearn", "scipy", "tensorflow", "matplotlib", "fastcore")
    code = f"import sys, xraypneu.data.sample; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
