"""Predictions in a program and on the command line: odd files, streams, threads, parity, MLflow addresses."""

import csv
import gc
import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fuzz
import numpy as np
import PIL
import pydicom.data
import pytest
from conftest import ROOT, refusal
from PIL import Image
from pydicom.data import get_testdata_file

from xraypneu import cli
from xraypneu.data import decoder
from xraypneu.data.image import ImageError, read_radiograph, to_square
from xraypneu.data.sample import draw_radiograph
from xraypneu.model import network
from xraypneu.model.bundle import SHIPPED, BundleError, load_bundle
from xraypneu.model.ood import ood_images
from xraypneu.model.verdict import NOT_RADIOGRAPH, REFUSED, VERDICTS
from xraypneu.serving.predict import Predictor
from xraypneu.serving.score import FilmScorer, list_films


@pytest.fixture(scope="module")
def films():
    return np.stack([draw_radiograph(i, size=224)[0] for i in range(40)])


def encoded(pixels, format="PNG", mode=None, **kw):
    image = Image.fromarray(pixels)
    image = image.convert(mode) if mode else image
    file = io.BytesIO()
    image.save(file, format, **kw)
    return file.getvalue()


def command(folder, *args, env=(), **kw):
    "The command in a folder."
    env = {"PYTHONPATH": str(ROOT), "PATH": ""} | dict(env)
    return subprocess.run([sys.executable, "-m", "xraypneu.cli", "predict", *args], cwd=folder, env=env, **kw)


def odd_files(folder, film):
    "Path to the code of its error, or None where a prediction is right."
    wide = np.asarray(Image.fromarray(film).resize((500, 400)))
    sixteen = Image.fromarray(wide.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    png = encoded(wide)
    files = {
        "grey.png": (png, None),
        "rgb.png": (encoded(wide, mode="RGB"), None),
        "rgba.png": (encoded(wide, mode="RGBA"), None),
        "palette.png": (encoded(wide, mode="P"), None),
        "la.png": (encoded(wide, mode="LA"), None),
        "bits.png": (encoded(wide, mode="1"), None),
        "grey.jpg": (encoded(wide, "JPEG"), None),
        "rgb.jpg": (encoded(wide, "JPEG", "RGB"), None),
        "cmyk.jpg": (encoded(wide, "JPEG", "CMYK"), None),
        "progressive.jpg": (encoded(wide, "JPEG", progressive=True), None),
        "turned.jpg": (encoded(wide, "JPEG", exif=exif), None),
        "grey.tif": (encoded(wide, "TIFF"), None),
        "lzw.tif": (encoded(wide, "TIFF", compression="tiff_lzw"), None),
        "grey.bmp": (encoded(wide, "BMP"), None),
        "lossy.webp": (encoded(wide, "WEBP"), None),
        "wrong-ending.dcm": (png, None),
        "no-ending": (png, None),
        "tiny.png": (encoded(wide[:3, :3]), None),
        "line.png": (encoded(wide[:1]), None),
        "half.png": (png[: len(png) // 2], "truncated"),
        "half.jpg": (encoded(wide, "JPEG")[:3000], "truncated"),
        "head.png": (png[:20], "truncated"),
        "empty.png": (b"", "empty"),
        "text.png": (b"not a picture at all", "not_image"),
        "page.html": (b"<html><img onerror=alert(1)>", "not_image"),
        "paper.pdf": (b"%PDF-1.7 ...", "unsupported"),
        "loop.gif": (encoded(wide, "GIF"), "unsupported"),
        "zeros.bin": (bytes(5000), "not_image"),
        "array.npy": (b"\x93NUMPY\x01\x00", "unsupported"),
        "dicom-head.dcm": (bytes(128) + b"DICM", "unsupported"),
        "numbers.csv": (b"a,b\n1,2\n", "not_image"),
        "=cmd|calc!A1.png": (b"x", "not_image"),
        "‮gnp.txt": (b"x", "not_image"),
        "n" * 200 + ".png": (b"x", "not_image"),
        "new\nline.png": (b"x", "not_image"),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("film.png", png)
    files["films.zip"] = archive.getvalue(), "unsupported"
    frames = io.BytesIO()
    Image.fromarray(film).save(frames, "TIFF", save_all=True, append_images=[Image.fromarray(film)])
    files["two.tif"] = frames.getvalue(), "multiframe"
    huge = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(huge, "PNG")
    files["bomb.png"] = huge.getvalue(), "too_large"
    out = {}
    for name, (data, code) in files.items():
        (folder / name).write_bytes(data)
        out[str(folder / name)] = code
    sixteen.save(folder / "sixteen.png")
    sixteen.save(folder / "sixteen.tif")
    (folder / "a-folder.png").mkdir()
    (folder / "dangling.png").symlink_to(folder / "gone")
    out |= {
        str(folder / "sixteen.png"): None,
        str(folder / "sixteen.tif"): None,
        str(folder / "a-folder.png"): "directory",
        str(folder / "dangling.png"): "missing",
        str(folder / "nowhere.png"): "missing",
    }
    for name, code in (
        ("CT_small.dcm", None),
        ("MR_small.dcm", None),
        ("MR_small_RLE.dcm", None),
        ("MR_small_bigendian.dcm", None),
        ("JPEG-lossy.dcm", "codec"),
        ("image_dfl.dcm", "unsupported"),
        ("MR_truncated.dcm", "truncated"),
        ("no_meta.dcm", "not_image"),
        ("rtplan.dcm", "empty"),
        ("SC_rgb_small_odd.dcm", None),
        ("JPEG2000.dcm", None),
        ("emri_small.dcm", "multiframe"),
    ):
        try:
            path = get_testdata_file(name, download=False)
        except Exception:
            path = None  # pydicom downloads some of its files; those are not for here
        if path:
            out[path] = code
    return out


@pytest.fixture(scope="module")
def odd(tmp_path_factory, films):
    return odd_files(tmp_path_factory.mktemp("odd"), films[0])


def test_odd_files_each_get_a_prediction_or_a_reason(predictor, odd):
    assert len(odd) >= 45
    for path, code in odd.items():
        try:
            p = predictor.predict(path)
        except ImageError as e:
            assert code is not None and e.code == code, f"{path}: {e.code}, {e}"
            assert len(str(e)) < 500 and str(e).isprintable(), repr(str(e))
        else:
            assert code is None, f"{path} should be refused with {code}, got {p}"
            assert 0 <= p.probability <= 1 and p.verdict in VERDICTS


def test_command_goes_on_over_odd_files(odd, tmp_path):
    done = command(tmp_path, "--csv", "--overlay", "maps", *odd, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == len(odd)
    for row, code in zip(rows, odd.values(), strict=True):
        assert bool(row["error"]) is (code is not None), row
    maps = list((tmp_path / "maps").iterdir())
    assert len(maps) == sum(row["verdict"] not in ("", NOT_RADIOGRAPH) for row in rows)
    for m in maps:
        Image.open(m).verify()
    out = io.StringIO()
    assert cli.main(["predict", *map(str, odd)], out) == 1
    table = out.getvalue()
    assert f"of {len(odd)} files could not be read" in table
    assert "\u202e" not in table and all(line.isprintable() for line in table.splitlines())


@pytest.mark.parametrize("command, word", [("predict", "rows"), ("fetch", "goes on"), ("doctor", "again")])
def test_ctrl_c_ends_the_command_with_a_sentence(monkeypatch, capsys, command, word):
    def interrupted(args, out):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, f"_{command}", interrupted)
    assert cli.main([command, *(["a.png"] if command != "doctor" else [])]) == 130
    error = capsys.readouterr().err
    assert "interrupted" in error and word in error


def test_command_exit_status_and_words(tmp_path, films, monkeypatch, capsys):
    Image.fromarray(films[0]).save(tmp_path / "a.png")
    good = command(tmp_path, "--json", "a.png", capture_output=True, text=True)
    assert good.returncode == 0 and json.loads(good.stdout)["bundle"] == load_bundle().hash
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        "Exit status, output and errors of the command in this process."
        try:
            status = cli.main(list(argv))
        except SystemExit as e:
            status = e.code
        return status, *capsys.readouterr()

    assert run("predict", "a.png", "b.png")[0] == 1
    for argv, word in (
        (["predict"], "FILE"),
        (["predict", "--bundle", "gone", "a.png"], "no bundle in gone"),
        (["predict", "--overlay", "a.png", "a.png"], "a.png"),
        (["predict", "--precision", "int4", "a.png"], "int8"),
    ):
        status, _, error = run(*argv)
        assert status == 2 and word in error, error
    info = run("info")
    assert info[0] == 0 and load_bundle().hash in info[1]
    assert "xraypneu predict chest.png" in run("--help")[1] and "exit status" in run("predict", "--help")[1]
    assert run("--version")[1].startswith("xraypneu ")


def test_stream_stays_flat(predictor, films):
    data = encoded(films[0], "JPEG")

    def stream(n):
        for _ in range(n):
            yield bytes(data)

    def peak(n):
        gc.collect()
        tracemalloc.start()
        for _ in predictor.predict_batch(stream(n), keep_pixels=False):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(32)
    many, few = peak(240), peak(96)
    assert many < 1.3 * few, (many, few)


def test_threads_do_not_disturb_each_other(predictor, films):
    alone = [predictor.predict(a).probability for a in films]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda a: predictor.predict(a).probability, films))
    np.testing.assert_allclose(together, alone, atol=1e-5)


REAL = ROOT / "../shared/data/chest_xray/test"


def real_films():
    "Every eighth of the official test images, where they are at hand."
    return np.stack([to_square(read_radiograph(p).pixels, 224) for p in sorted(REAL.rglob("*.jpeg"))[::8]])


@pytest.mark.parametrize(
    "which",
    [
        "synthetic",
        pytest.param("real", marks=pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/chest_xray here")),
    ],
)
def test_keras_gives_the_same_probabilities(films, which):
    images = films if which == "synthetic" else real_films()
    bundle = load_bundle()
    model = network.set_weights(network.build(bundle.size), network.read_onnx((SHIPPED / "model.onnx").read_bytes()))
    keras_p = bundle.probability(model.predict(images[..., None], verbose=0)[:, 0])
    assert np.abs(keras_p - bundle.probability(bundle.logits(images))).max() < 1e-4


def test_shipped_int8_is_close(films):
    bundle = load_bundle()
    small = load_bundle(precision="int8")
    assert small.model_file.stat().st_size < 0.65 * bundle.model_file.stat().st_size
    for k in ("validation", "shifted"):
        assert abs(bundle.info["int8"][k]["roc_auc"] - bundle.info[k]["roc_auc"]) <= 0.002
    assert small.logits(films).std() > 0.5  # it does answer
    assert Predictor(precision="int8").predict(films[0]).threshold == bundle.info["int8"]["threshold"]


def test_strangers_are_refused(predictor, films):
    for kind, images in ood_images(films[:12]).items():
        said = [p.verdict for p in predictor.predict_batch(list(images))]
        if kind in ("photographs", "pages of text", "noise", "blank", "CT and MR slices"):
            assert "PNEUMONIA" not in said, kind
            assert sum(v in REFUSED for v in said) >= 0.9 * len(said), kind
            least = 0.5 if kind == "CT and MR slices" else 0.75  # of the two, the header names one
            assert said.count("NOT A CHEST X-RAY") >= least * len(said), kind


def test_what_the_header_calls_a_slice_is_no_chest_radiograph(predictor):
    "The features of one are only as strange as those of some films of adults."
    for name in ("CT_small.dcm", "MR_small.dcm"):
        p = predictor.predict(get_testdata_file(name))
        assert p.verdict == NOT_RADIOGRAPH and p.explanation.probability is None


def test_the_age_of_an_adult_is_a_caution_wherever_there_are_reasons(predictor, tmp_path, capsys):
    "Before, on the page alone: an archive of adults was scored without a word."
    pixels = draw_radiograph(12, pneumonia=True, seed=4, size=400)[0]
    for age in ("061Y", "004Y", "Doe^Jane"):
        (tmp_path / f"{age}.dcm").write_bytes(fuzz.dicom(pixels, PatientAge=age))
    said = "adult, 61 y: outside the training range (children aged 1 to 5 from one hospital in Guangzhou)"
    told = {f.name: predictor.predict(f).explanation.reasons for f in tmp_path.glob("*.dcm")}
    assert {name for name, reasons in told.items() if said in reasons} == {"061Y.dcm"}
    assert "Doe" not in str(told.values())
    for form in ("--csv", "--json"):
        assert cli.main(["predict", form, str(tmp_path / "061Y.dcm")]) == 0
        assert said in capsys.readouterr().out
    (film,) = list_films(tmp_path / "061Y.dcm")
    assert said in FilmScorer(predictor.bundle).row(0, film)["reasons"]


ADULTS = ROOT / "../shared/data/adults"


@pytest.mark.skipif(not ADULTS.is_dir(), reason="no ../shared/data/adults here")
def test_films_of_adults_are_chest_radiographs(predictor):
    "They were called NOT A CHEST X-RAY as soon as they were unlike the training films: every second one."
    films = sorted(p for p in ADULTS.iterdir() if p.suffix in (".jpg", ".jpeg", ".png"))
    said = [p.verdict for p in predictor.predict_batch(films)]
    assert said.count(NOT_RADIOGRAPH) <= 0.05 * len(said) and said.count("OUT OF SCOPE") > 0.2 * len(said)


TRAIN = ROOT / "../shared/data/chest_xray/train"


@pytest.mark.skipif(not TRAIN.is_dir(), reason="no ../shared/data/chest_xray here")
def test_what_is_made_of_real_films_is_refused(predictor):
    "A second limit must not let anything pass that the first one held: it only tells the two kinds of refusal apart."
    sys.path.insert(0, str(ROOT / "bench"))
    import parity

    films = parity.with_patients(parity.listed(TRAIN))
    films = parity.squares(films[films.validation].path[::16], predictor.bundle.size)
    for kind, images in ood_images(films).items():
        said = [p.verdict for p in predictor.predict_batch(list(images))]
        assert sum(v in REFUSED for v in said) >= 0.97 * len(said), (kind, said)
        least = 0.5 if kind == "CT and MR slices" else 0.75
        assert said.count(NOT_RADIOGRAPH) >= least * len(said), (kind, said)


def test_real_colour_is_seen(predictor):
    folder = Path(__import__("sklearn.datasets").datasets.__file__).parent / "images"
    for name in ("china.jpg", "flower.jpg"):
        p = predictor.predict(folder / name)
        assert p.verdict == "NOT A CHEST X-RAY" and "the image is coloured" in p.reasons


def test_registered_models(project):
    import mlflow

    uri = f"sqlite:///{project.resolve()}/mlflow.db"
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    version = client.get_model_version_by_alias("xraypneu", "candidate")  # the training registered it
    assert version.run_id == run.info.run_id
    assert version.tags["bundle_hash"] == load_bundle(project / "models/bundle").hash
    client.set_registered_model_alias("xraypneu", "champion", version.version)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("MLFLOW_TRACKING_URI", uri)
        for address in ("models:/xraypneu@champion", "models:/xraypneu/1", f"runs:/{run.info.run_id}"):
            assert Predictor(address).bundle.hash == load_bundle(project / "models/bundle").hash
        with pytest.raises(BundleError, match="no bundle found at"):
            Predictor("models:/xraypneu@nobody")


def one_wrong_bit(data):
    "A PNG with one bit flipped in the middle of its pixels."
    data = bytearray(data)
    data[len(data) // 2] ^= 1
    return bytes(data)


def six_files(folder, film):
    "Six films in colour, the third of them damaged; their paths."
    image = Image.fromarray(film)
    tint = Image.merge("RGB", [image, image.rotate(90), image.rotate(180)])
    paths = [folder / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(encoded(np.asarray(tint)))
        if i == 2:
            path.write_bytes(one_wrong_bit(path.read_bytes()))
    return paths


def test_one_damaged_file_of_six_is_one_error(predictor, films, tmp_path):
    paths = six_files(tmp_path, films[0])
    got = list(predictor.predict_batch(paths, errors="return"))
    assert [isinstance(g, ImageError) for g in got] == [False, False, True, False, False, False]
    assert got[2].name == "2.png" and got[2].code == "unreadable"
    assert all("the image is coloured" in g.reasons for g in got if not isinstance(g, ImageError))
    out = io.StringIO()
    assert cli.main(["predict", "--csv", *map(str, paths)], out) == 1
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert len(rows) == 6 and [bool(r["error"]) for r in rows] == [i == 2 for i in range(6)]


def test_damage_of_every_kind_is_an_image_error(predictor):
    "Through the Predictor, what the colour is measured of included."
    for files in fuzz.corpus().values():
        bad = [data[: len(data) // 2] for data in files] + [data[:40] for data in files]
        for number, data in enumerate(files):
            at = len(data) * 2 // 3
            bad.append(data[:at] + bytes(8) + data[at + 8 :] if number % 2 else data[:at] + data[at + 5 :])
        for p in predictor.predict_batch(bad, errors="return"):
            assert isinstance(p, ImageError) or 0 <= p.probability <= 1


def test_a_file_is_decoded_once_and_elsewhere(predictor, films, monkeypatch):
    "Colour included; nothing is decoded in this process."
    data = encoded(films[0], "JPEG", "RGB")
    expected = predictor.predict(np.asarray(Image.open(io.BytesIO(data)))).probability
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("decoded here"))
    monkeypatch.setattr(decoder, "read_radiograph", lambda *a, **k: pytest.fail("decoded here"))
    assert predictor.predict(data).probability == pytest.approx(expected, abs=0.02)
    (p,) = predictor.predict_batch([data], keep_pixels=True)
    assert p.pixels.shape == films[0].shape


def test_a_name_for_bytes_is_in_the_error(predictor):
    with pytest.raises(ImageError, match="^film.png: this is a text file"):
        predictor.predict(b"hello", name="film.png")


def test_versions_of_what_decodes():
    "Older ones have known holes."
    assert tuple(map(int, PIL.__version__.split(".")[:2])) >= (12, 2)
    assert tuple(map(int, pydicom.__version__.split(".")[:3])) >= (3, 0, 2)


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_the_output_cannot_show_stop_nothing(tmp_path, films, form, encoding, monkeypatch):
    names = [b"a.png", "é.png".encode(), b"\xff.png", "\u202e.png".encode()]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            Image.fromarray(films[0]).save(file, "PNG")
    monkeypatch.chdir(tmp_path)
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # strict, as PYTHONIOENCODING makes standard output
    assert cli.main(["predict", *form, *map(os.fsdecode, names)], output) == 0
    output.flush()
    assert output.buffer.getvalue().count(b".png") == len(names)


def test_an_output_without_letters_beyond_ascii(tmp_path, films):
    Image.fromarray(films[0]).save(tmp_path / "é.png")
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(tmp_path, "é.png", env=env, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b".png") == 1, done.stderr


@pytest.mark.parametrize("letter,n", [("胸", 83), ("é", 125), ("a", 251), ("🫁", 62)])
def test_overlays_of_long_names(tmp_path, films, letter, n):
    for name in (letter * n, letter * (n - 1)):
        Image.fromarray(films[0]).save(tmp_path / f"{name}.png")
    out = io.StringIO()
    assert cli.main(["predict", "--overlay", str(tmp_path / "maps"), *map(str, tmp_path.glob("*.png"))], out) == 0
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_a_map_is_no_film_whatever_its_name(tmp_path, films):
    "A second run over the folder scored the maps of the first as films."
    Image.fromarray(films[0]).save(tmp_path / "a.png")
    assert cli.main(["predict", "--overlay", str(tmp_path), str(tmp_path / "a.png")], io.StringIO()) == 0
    moved = (tmp_path / "a.overlay.png").rename(tmp_path / "b.png")
    with refusal(ImageError, "unsupported", "map of xraypneu predict, not a film"):
        read_radiograph(moved)


def test_overlays_on_disks_that_know_no_case_and_few_characters(tmp_path):
    "exFAT, a Mac, a share of Windows: the map of one film must not replace that of another, nor a name end the batch."
    taken, films = set(), ("a/IMG1.png", "b/img1.png", "c/x 12:30?.png")
    made = [Path(cli._save_overlay(tmp_path, f, f.encode(), taken)).name for f in films]
    assert made == ["IMG1.overlay.png", "img1.overlay-2.png", "x 12_30_.overlay.png"]


def test_the_map_of_a_film_that_is_named_by_a_uid_has_its_name(tmp_path):
    "1.2.3 got 1.2.overlay.png, and 1.2.2 got 1.2.3.overlay.png where it came third."
    taken, films = set(), ("1.2.3", "1.2.4", "1.2.2")
    made = [Path(cli._save_overlay(tmp_path, f, f.encode(), taken)).name for f in films]
    assert made == [f"{f}.overlay.png" for f in films]


def test_the_map_of_a_second_film_of_a_name_is_not_named_as_that_of_another_film(tmp_path):
    "film.2.overlay.png was the map of film.2.png, or of a second film.png."
    films = ("a/film.png", "b/film.png", "film.2.png", "film.overlay-2.png")
    taken: set[str] = set()
    made = [Path(cli._save_overlay(tmp_path, f, f.encode(), taken)).name for f in films]
    assert made == ["film.overlay.png", "film.overlay-2.png", "film.2.overlay.png", "film.overlay-2.overlay.png"]


def test_maps_of_films_of_one_name_stay_apart_and_rows_say_whose_they_are(tmp_path, films, predictor, monkeypatch):
    "One folder a patient, and a command for each: the maps of a run before were replaced without a word."
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    for patient, film in (("a", noise), ("b", films[0]), ("c", films[1])):
        (tmp_path / patient).mkdir()
        Image.fromarray(film).save(tmp_path / patient / "IM-0001.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("xraypneu.serving.predict.Predictor", lambda *args: predictor)

    def maps(*patients, form="--json"):
        "What the rows of a run name as the map."
        out = io.StringIO()
        assert cli.main(["predict", "--overlay", "maps", form, *(f"{p}/IM-0001.png" for p in patients)], out) == 0
        rows = (
            map(json.loads, out.getvalue().splitlines())
            if form == "--json"
            else csv.DictReader(io.StringIO(out.getvalue()))
        )
        return [row["overlay"] for row in rows]

    first, second = "maps/IM-0001.overlay.png", "maps/IM-0001.overlay-2.png"
    assert maps("a", "b") == [None, first]
    assert maps("c") == [second]
    assert maps("b", "c", "a", form="--csv") == [first, second, ""]  # nothing is written twice
    assert sorted(p.name for p in Path("maps").iterdir()) == ["IM-0001.overlay-2.png", "IM-0001.overlay.png"]
    for film, name in ((films[0], first), (films[1], second)):
        assert np.array_equal(np.asarray(Image.open(name)), np.asarray(predictor.predict(film).overlay()))
    table = io.StringIO()
    assert cli.main(["predict", "--overlay", "maps", "c/IM-0001.png"], table) == 0
    assert f"    map: {second}\n" in table.getvalue()


def test_a_closed_output_is_said(tmp_path, films):
    Image.fromarray(films[0]).save(tmp_path / "a.png")
    done = command(tmp_path, "a.png", stderr=subprocess.PIPE, text=True, preexec_fn=lambda: os.close(1))
    assert done.returncode == 2 and "output is closed" in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_under_the_output_is_said(tmp_path, films):
    "`--csv > predictions.csv`: Python complained of an ignored exception, at its end."
    Image.fromarray(films[0]).save(tmp_path / "a.png")
    said = "xraypneu: the output can't be written (No space left on device). Make room on its disk, then run it again\n"
    for form in (["--csv"], []):  # Python tries a second time, or not
        with open("/dev/full", "w") as full:
            done = command(tmp_path, *form, "a.png", stdout=full, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (2, said)


def test_a_reader_that_has_left_is_no_error(tmp_path, films):
    Image.fromarray(films[0]).save(tmp_path / "a.png")
    read, write = os.pipe()
    os.close(read)
    done = command(tmp_path, "a.png", stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("n", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_overlays_of_large_pictures_stay_small(tmp_path, n):
    radiograph = Image.fromarray(draw_radiograph(0, size=500)[0])
    radiograph.resize((6000, 6000), Image.Resampling.BILINEAR).save(tmp_path / "0.png", compress_level=1)
    files = [f"{i}.png" for i in range(n)]
    for name in files[1:]:
        os.link(tmp_path / "0.png", tmp_path / name)
    code = "import sys; from xraypneu.cli import main; status = main(sys.argv[1:]); "
    code += "print(status, int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", "--overlay", "maps", *files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    status, megabytes = done.stdout.split("\n")[-2].split()
    assert status == "0" and int(megabytes) < 700, done
    assert len(list((tmp_path / "maps").iterdir())) == n


def test_a_refused_image_gets_no_overlay(tmp_path, films):
    "Its map has no meaning, and a picture looks as if it had one."
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    out = io.StringIO()
    assert cli.main(["predict", "--overlay", str(tmp_path / "maps"), str(tmp_path / "noise.png")], out) == 0
    assert "NOT A CHEST X-RAY" in out.getvalue() and not list((tmp_path / "maps").iterdir())


def test_one_path_is_no_batch(predictor):
    for one in ("a.png", b"abc", Path("a.png")):
        with pytest.raises(ValueError, match="give a list"):
            next(predictor.predict_batch(one))
