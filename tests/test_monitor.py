"""`xraypneu score --features` and `xraypneu monitor`: what is kept, what is compared, what is refused."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import refusal
from PIL import Image

import xraypneu
from xraypneu import Predictor, cli
from xraypneu.data.sample import draw_radiograph
from xraypneu.evaluation import shift
from xraypneu.evaluation.shift import CAUSES, FEATURES, STATISTICS, Films, ShiftError, compare
from xraypneu.model.bundle import Bundle
from xraypneu.serving import monitor as monitoring
from xraypneu.serving.monitor import monitor, read_reference, read_result, read_scores, reference_of, save_reference
from xraypneu.serving.score import ScoreError, score_archive

COLUMNS = ["id", "verdict", "probability", "logit", "ood_score", *STATISTICS]


def table(n, ill=0.7, seed=0, first=0, **moved):
    "Rows of scores without films; `moved` adds spreads to statistics, and `contrast` follows the class."
    rng = np.random.default_rng(seed)
    y = rng.random(n) < ill
    z = rng.normal(np.where(y, 3, -3), 2)
    rows = pd.DataFrame({"id": np.arange(first, first + n), "verdict": np.where(z > 0, "PNEUMONIA", "NORMAL")})
    rows = rows.assign(probability=1 / (1 + np.exp(-1.5 * z)), logit=z, ood_score=rng.normal(size=n))
    for name, s in STATISTICS.items():
        rows[name] = s.least * (rng.normal(size=n) + moved.get(name, 0) + (name == "contrast") * (y - 0.5) * 2)
    return rows


def written(file, *parts, seed=0, numbers=32, **said):
    "Rows as `xraypneu score --features` and `--merge` write them; of a failed film everything but the id is empty."
    rows = pd.concat(parts, ignore_index=True)
    drawn = np.random.default_rng([seed, 5]).normal(size=(len(rows), numbers)).astype(np.float16)
    features = [None if v is None else x for v, x in zip(rows.verdict, drawn, strict=True)]
    saved = pa.Table.from_pandas(rows, preserve_index=False).append_column(
        "features", pa.array(features, pa.list_(pa.float16()))
    )
    facts = {"bundle": "b" * 64, "precision": "fp32", "features": FEATURES} | said
    pq.write_table(saved.replace_schema_metadata({"xraypneu": json.dumps(facts)}), file)
    return file


def failed(n, first=0):
    "Rows of files that could not be read."
    rows = pd.DataFrame({c: pd.Series([None] * n, dtype=object if c == "verdict" else float) for c in COLUMNS})
    return rows.assign(id=np.arange(first, first + n))


def films(n, seed=0, **kwargs):
    "The same as `Films`."
    numbers = np.random.default_rng([seed, 5]).normal(size=(n, 32)).astype(np.float32)
    return Films(table(n, seed=seed, **kwargs).drop(columns="id"), numbers)


@pytest.fixture(scope="module")
def reference():
    return films(1_500, seed=100)


# what a scoring keeps


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    "Three films and a file that is none."
    folder = tmp_path_factory.mktemp("drawn")
    for i in range(3):
        Image.fromarray(draw_radiograph(i, size=224)[0]).save(folder / f"patient{i}.png")
    (folder / "patient3.png").write_bytes(b"none")
    return folder


@pytest.fixture(scope="module")
def kept(drawn, tmp_path_factory):
    "Their scores with features."
    out = tmp_path_factory.mktemp("kept")
    score_archive(drawn, out, with_features=True)
    return out


def rows(out):
    return pq.read_table(out / "scores/00000.parquet").to_pylist()


def test_features_are_those_of_the_one_pass(drawn, tmp_path, monkeypatch):
    "No second run of the network; the numbers are the projected features and the statistics of the scored square."
    calls, outputs = [], Bundle.outputs

    def counted(self, images):
        calls.append((images[0], outputs(self, images)))
        return calls[-1][1]

    monkeypatch.setattr(Bundle, "outputs", counted)
    score_archive(drawn, tmp_path / "out", with_features=True, workers=1)
    found = rows(tmp_path / "out")
    assert len(calls) == 3
    for row, (square, out) in zip(found, calls, strict=False):
        assert row["features"] == shift.project(out["features"])[0].tolist()
        statistics = shift.film_statistics(square)
        assert [row[k] for k in STATISTICS] == [float(np.float32(v)) for v in statistics.values()]
    assert found[3]["code"] and found[3]["features"] is None and found[3]["brightness"] is None


def test_without_the_option_nothing_is_added(drawn, kept, tmp_path):
    "Columns, settings and what a file says of itself are as before the option existed; the other values are equal."
    score_archive(drawn, tmp_path / "out")
    before, after = rows(tmp_path / "out"), rows(kept)
    names = "id uri verdict label probability logit ood_score reasons code message"
    assert list(before[0]) == names.split() and list(after[0]) == [*before[0], "features", *STATISTICS]
    assert [{k: r[k] for k in before[0]} for r in after] == before
    settings = json.loads((tmp_path / "out/score.json").read_text())
    said = json.loads(pq.read_schema(tmp_path / "out/scores/00000.parquet").metadata[b"xraypneu"])
    assert list(settings) == ["bundle", "precision", "version", "hash", "tags"] and "features" not in said


def test_the_option_belongs_to_the_checkpoint(drawn, kept, tmp_path):
    with refusal(ScoreError, "occupied", "with features, not without"):
        score_archive(drawn, kept)
    score_archive(drawn, tmp_path / "out")
    with pytest.raises(ScoreError, match="without features, not with"):
        score_archive(drawn, tmp_path / "out", with_features=True)
    assert score_archive(drawn, kept, with_features=True).complete


def test_a_prediction_keeps_no_features_unless_asked():
    assert Predictor().predict(draw_radiograph(0, size=224)[0]).features is None


def test_the_projection_never_changes():
    "Files of years are compared: signs that differ would be a shift of all films."
    ones = shift.project(np.eye(1280, dtype=np.float32)[:3] * (np.e - 1))
    signs = ["".join("+-"[int(x < 0)] for x in row) for row in ones]
    assert np.allclose(np.abs(ones.astype(float)), 1 / np.sqrt(1280), rtol=1e-3)
    assert signs == SIGNS


SIGNS = ["++-+-++--++-+---+++-+-+++++-+--+", "+++++-+-+++-+-+----++--++-++---+", "-++--+++++-+-++++---+---+----+++"]


# tests


def test_false_alarms_and_prevalence(reference):
    "Batches of the reference's kind rarely alarm; another prevalence is named although contrast follows the class."
    quiet = [compare(reference, films(200, seed=s)).alarm for s in range(12)]
    assert sum(quiet) <= 1
    found = compare(reference, films(200, seed=3, ill=0.3))
    assert found.cause == "prevalence" and not found.tests.fires["contrast"]
    assert found.prevalence["low"] < 0.3 < found.prevalence["high"] and abs(found.prevalence["reference"] - 0.7) < 0.04


@pytest.mark.parametrize("name", STATISTICS)
def test_each_statistic_speaks_for_its_cause(reference, name):
    found = compare(reference, films(200, seed=4, **{name: 1.0}))
    assert found.tests.fires[name] and found.cause == STATISTICS[name].cause
    assert abs(found.tests.effect[name] - 1) < 0.35 and found.advice == CAUSES[found.cause]


def test_other_populations(reference):
    "Several ways at once, or features alone."
    assert compare(reference, films(200, seed=5, brightness=-1.5, width=1.5)).cause == "other population"
    batch = films(200, seed=6)
    moved = Films(batch.table, batch.projections + 0.5)
    assert compare(reference, moved).cause == "other population"
    refused = Films(batch.table.assign(verdict="OUT OF SCOPE"), batch.projections)
    found = compare(reference, refused)
    assert found.cause == "other population" and found.tests.effect["refused"] == 1


def test_a_framed_film_is_resampled_and_so_less_sharp(reference):
    assert compare(reference, films(200, seed=7, width=1.2, detail=-1.8)).cause == "framing"
    assert compare(reference, films(200, seed=7, width=0.8, detail=-3)).cause == "other population"


def test_files_that_fail(reference):
    "A few more are a cause of their own; a batch in which nothing can be read is no error."
    batch = films(200, seed=8)
    some, none = Films(batch.table, batch.projections, 20), Films(batch.table[:0], batch.projections[:0], 200)
    assert compare(reference, some).cause == compare(reference, none).cause == "files"
    assert compare(reference, none).shares.reference["failed"] == 0


def test_all_refused_or_without_detector(reference):
    "No probability, or no dissimilarity: the tests of the others remain."
    batch = films(200, seed=9)
    nothing = Films(batch.table.assign(probability=np.nan, verdict="NOT A CHEST X-RAY"), batch.projections)
    found = compare(reference, nothing)
    assert found.cause == "other population" and np.isnan(found.prevalence["batch"])
    without = [Films(f.table.assign(ood_score=np.nan), f.projections) for f in (reference, batch)]
    assert not compare(*without).alarm


def test_holm_and_permutations_by_their_definitions():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(7) ** 4
        order, stopped, expected = np.argsort(p), False, np.zeros(7, bool)
        for i, j in enumerate(order):
            stopped |= p[j] > 0.05 / (7 - i)
            expected[j] = not stopped
        assert (shift.holm(p, 0.05) == expected).all()
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)) + 0.3
    z = np.concatenate([x, y]) / (x.std(0) + 1e-6)
    d = ((z[:, None] - z) ** 2).sum(2)
    k = np.exp(-d / np.median(d))
    expected = k[:30, :30].mean() + k[30:, 30:].mean() - 2 * k[:30, 30:].mean()
    assert abs(shift.mmd(x, y, 19)[0] - expected) < 1e-5


def test_statistics_of_altered_films():
    "Each family follows its alteration, and the others stay: that is what a cause is named by."
    square = draw_radiograph(3, size=224)[0]
    plain = pd.Series(shift.film_statistics(square))
    least = pd.Series({k: s.least for k, s in STATISTICS.items()})
    dark = (255 * (square / 255) ** 1.5).astype(np.uint8)
    middle = np.asarray(Image.fromarray(square).resize((224, 224), Image.Resampling.BILINEAR, box=(22, 22, 202, 202)))
    border = np.pad(square[16:-16, 16:-16], 16)
    moved = {
        name: (pd.Series(shift.film_statistics(a)) - plain).abs() / least
        for name, a in (("dark", dark), ("crop", middle), ("border", border))
    }
    assert moved["dark"].brightness > 1 and moved["dark"][["edge", "width", "margin"]].max() < 0.5
    assert moved["border"].margin > 3 and moved["border"].brightness == 0
    assert moved["crop"][["edge", "width"]].max() > 0.5
    assert shift.film_statistics(np.zeros((224, 224), np.uint8))["margin"] == 2  # an empty film is no error


# files


def test_a_reference_holds_no_name_and_no_order(kept, tmp_path):
    file = save_reference(reference_of(kept), tmp_path / "reference.parquet")
    content = file.read_bytes()
    assert b"patient" not in content and b"uri" not in content and str(kept).encode() not in content
    again = read_reference(file)
    assert (len(again.films.table), again.films.failed) == (3, 1)
    big = written(tmp_path / "big.parquet", table(6_000), failed(60, 6_000))
    thinned = reference_of(big)
    saved = read_reference(save_reference(thinned, tmp_path / "big_reference.parquet")).films
    for found in (thinned.films, saved):  # before, a few unreadable files could become none
        assert len(found.table) == 5_000 and found.unreadable() == (60, 6_060)
    assert len(set(saved.table.logit[:100]) & set(table(6_000).logit[:100])) < 10  # not the first ones


def test_the_validation_split_as_reference(tmp_path, capsys):
    "Prepared data are scored by the bundle; test and train films are left out."
    folder = tmp_path / "prepared"
    folder.mkdir()
    np.save(folder / "images.npy", np.stack([draw_radiograph(i, size=224)[0] for i in range(4)]))
    split = ["train", "validation", "test", "validation"]
    pd.DataFrame({"split": split, "row": range(4)}).to_parquet(folder / "manifest.parquet")
    (folder / "dataset.json").write_text('{"size": 224}')
    found = reference_of(folder)
    expected = Predictor().predict(draw_radiograph(1, size=224)[0]).logit
    assert found.source == "validation split" and len(found.films.table) == 2 and found.films.failed is None
    assert np.abs(found.films.table.logit - expected).min() < 1e-4
    np.save(folder / "images.npy", np.load(folder / "images.npy")[:, :96, :96])  # for another model
    (folder / "dataset.json").write_text('{"size": 96}')
    args = ["monitor", str(folder), "--save-reference", str(tmp_path / "r.parquet")]
    assert (
        cli.main(args, io.StringIO()) == 2
        and "prepared at 96 pixels, but the model needs 224" in capsys.readouterr().err
    )


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    "1,400 films, of which the last 200 are darker."
    file = tmp_path_factory.mktemp("month") / "scores.parquet"
    return written(file, table(1_200, seed=1), table(200, seed=2, first=1_200, brightness=-1.5))


def test_batches_in_the_order_of_the_list(month, tmp_path):
    result = monitor(month, tmp_path / "out")
    assert [(b["first"], b["last"], b["cause"]) for b in result["batches"]] == [
        (1_000, 1_199, "none"),
        (1_200, 1_399, "exposure"),
    ]
    source = "the first 1,000 films of the scores"
    assert result["reference"] == {"films": 1_000, "failed": 0, "files": 1_000, "source": source}
    assert read_result(tmp_path / "out/monitor.json") == result
    file = save_reference(reference_of(month), tmp_path / "reference.parquet")
    other = monitor(month, tmp_path / "out", file, batch=500)
    assert [b["films"] for b in other["batches"]] == [500, 500, 400]


def test_failed_rows_count_in_their_batch(tmp_path):
    file = written(tmp_path / "s.parquet", table(1_000), table(170, seed=3, first=1_000), failed(30, 1_170))
    (batch,) = monitor(file, tmp_path / "out")["batches"]
    assert (batch["films"], batch["cause"]) == (200, "files")


def test_labelled_films_do_not_tell_how_many_files_cannot_be_read(reference, tmp_path):
    "Before, the validation split had none, so the usual 2 % of an archive were an alarm."
    model = monitoring.Model("b" * 64, "fp32", FEATURES)
    labelled = monitoring.Reference(model, Films(reference.table, reference.projections, None), "validation split")
    file = save_reference(labelled, tmp_path / "reference.parquet")
    usual = table(195, seed=3), failed(5, 195)
    broken = table(60, seed=6, first=200), failed(140, 260)  # an export that fails must be found
    archive = written(tmp_path / "s.parquet", *usual, *broken)
    result = monitor(archive, tmp_path / "out", file)
    assert [b["cause"] for b in result["batches"]] == ["none", "files"]
    assert result["reference"]["failed"] is None
    assert monitoring.batch_table(result).failed.tolist() == [0.025, 0.7]
    assert [c.stop - c.start for c in monitoring._cut(0, 113, 30)] == [30, 30, 53]  # 23 alone were refused, with all
    assert [c.stop - c.start for c in monitoring._cut(0, 300, 200)] == [200, 100]
    assert monitoring.share_table(result, 1).set_index("share").batch["failed"] == 0.025
    assert "only above one half" in monitoring.reference_sentence(result)
    scored = save_reference(monitoring.Reference(model, reference, "scored films"), tmp_path / "scored.parquet")
    assert monitor(archive, tmp_path / "other", scored)["batches"][0]["cause"] == "files"  # 0 of 1,500 is known there
    content = pq.read_table(file)  # as earlier versions wrote it
    said = json.loads(content.schema.metadata[b"xraypneu_reference"])
    del said["files"]
    old = tmp_path / "old.parquet"
    pq.write_table(content.replace_schema_metadata({"xraypneu_reference": json.dumps(said | {"failed": 0})}), old)
    assert read_reference(old).films.failed is None


@pytest.mark.parametrize(
    "make, code, words",
    [
        (lambda d: d / "nowhere", "missing", "there are no scores"),
        (lambda d: written(d / "s.parquet", table(50), features=""), "no_features", "--features"),
        (lambda d: written(d / "s.parquet", table(50), features="0"), "unsupported", "version 0"),
        (lambda d: written(d / "s.parquet", table(0)), "empty", "no films"),
        (lambda d: written(d / "s.parquet", table(900)), "too_few", "--first 200 or more"),
        (lambda d: written(d / "s.parquet", table(51)), "too_few", "230 or more suffice with --first 200"),
        (lambda d: pq.write_table(pa.table({"id": [1]}), d / "s.parquet") or d / "s.parquet", "foreign", "can't be"),
        (lambda d: written(d / "s.parquet", table(300), numbers=16), "foreign", "32 numbers"),
        (lambda d: written(d / "s.parquet", table(300).drop(columns="logit")), "foreign", "lacks the column logit"),
        (lambda d: (d / "s.parquet").write_bytes(b"PAR1") and d / "s.parquet", "foreign", "can't be read"),
    ],
)
def test_scores_that_cannot_be_compared(tmp_path, capsys, make, code, words):
    "Each says what is wrong and what to do, and writes nothing."
    path = make(tmp_path)
    with refusal(ShiftError, code, words) as e:
        monitor(path, tmp_path / "out")
    assert e.value.hint and not (tmp_path / "out").exists()
    assert cli.main(["monitor", str(path), "--out", str(tmp_path / "out")], io.StringIO()) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_scores_that_are_not_complete(drawn, tmp_path):
    score_archive(drawn, tmp_path / "out", with_features=True, shard_rows=2)
    (tmp_path / "out/scores/00001.parquet").unlink()
    with refusal(ShiftError, "missing", "1 of 2 shards") as e:
        read_scores(tmp_path / "out")
    assert "--resume" in e.value.hint
    with refusal(ShiftError, "missing", "--features"):  # the command that was named scored into the films' own folder
        read_scores(drawn)
    assert len(read_scores(tmp_path / "out/scores/00000.parquet").table) == 2  # a shard by itself is a file of scores


def test_shards_are_compared_with_their_hashes_and_an_object_store_is_read(kept, drawn, tmp_path):
    "Before, a value that was changed was compared as it was, and an address was 'no scores'."
    address = "memory://scores/of-monitor"
    score_archive(drawn, address, with_features=True)
    pd.testing.assert_frame_equal(read_scores(address).table, read_scores(kept).table)
    out = Path(shutil.copytree(kept, tmp_path / "out"))
    shard = out / "scores/00000.parquet"
    scores = pq.read_table(shard)
    pq.write_table(
        scores.set_column(scores.column_names.index("logit"), "logit", pa.array([0.5] * 4, pa.float32())), shard
    )
    with refusal(ShiftError, "damaged", "scores/00000.parquet: its values were changed after it was written") as e:
        read_scores(out)
    assert "--resume" in e.value.hint


@pytest.mark.parametrize(
    "options, unused",
    [
        ("--save-reference new.parquet --reference other.parquet", "--reference"),
        ("--save-reference new.parquet --batch 100", "--batch"),
        ("--save-reference new.parquet --first 500", "--first"),
        ("--save-reference new.parquet --no-report", "--no-report"),
        ("--save-reference new.parquet --force", "--force"),
        ("--save-reference new.parquet --bundle models/bundle", "--bundle"),
        ("--out new --bundle models/bundle", "--bundle"),
        ("--out new --reference other.parquet --first 500", "--first"),
    ],
)
def test_a_reference_is_made_or_used(kept, tmp_path, monkeypatch, capsys, options, unused):
    "Before, an option that changes nothing was ignored: `--reference` beside `--save-reference`, for instance."
    monkeypatch.chdir(tmp_path)
    assert cli.main(["monitor", str(kept), *options.split()], io.StringIO()) == 2
    assert f"{unused} changes nothing here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "said, code, words",
    [
        ({"bundle": "c" * 64}, "other_model", "another bundle"),
        ({"precision": "int8"}, "other_model", "another precision"),
        ({"features": "0"}, "unsupported", "version 0"),
    ],
)
def test_a_reference_of_something_else(month, tmp_path, monkeypatch, said, code, words):
    with monkeypatch.context() as m:
        m.setattr(monitoring, "FEATURES", said.get("features", FEATURES))  # as an earlier version would write it
        scores = written(tmp_path / "s.parquet", table(300), **said)
        file = save_reference(reference_of(scores), tmp_path / "reference.parquet")
    with refusal(ShiftError, code, words) as e:
        monitor(month, tmp_path / "out", file)
    assert e.value.hint


def test_a_reference_that_is_missing_small_or_none(month, tmp_path):
    small = save_reference(reference_of(written(tmp_path / "s.parquet", table(50))), tmp_path / "small.parquet")
    cases = {tmp_path / "none.parquet": "missing", month: "foreign", small: "too_few"}
    for file, code in cases.items():
        with refusal(ShiftError, code) as e:
            monitor(month, tmp_path / "out", file)
        assert e.value.hint


@pytest.mark.parametrize("setting", [{"batch": 10}, {"first": 0}, {"alpha": 0.0}])
def test_settings_out_of_range(month, tmp_path, setting):
    with refusal(ShiftError, "bad_setting", next(iter(setting))):
        monitor(month, tmp_path / "out", **setting)


@pytest.mark.parametrize("text, code", [(None, "missing"), ("{", "damaged"), ("{}", "damaged"), ("[1]", "damaged")])
def test_results_that_are_none(tmp_path, text, code):
    if text is not None:
        (tmp_path / "monitor.json").write_text(text)
    with refusal(ShiftError, code):
        monitoring.write_report(tmp_path)


# command and report


def test_the_command_and_its_status(month, tmp_path, capsys):
    out = io.StringIO()
    assert cli.main(["monitor", str(month), "--out", str(tmp_path / "out"), "--no-report"], out) == 1
    assert "batch 2, films 1,200 to 1,399: exposure" in out.getvalue() and "1 of 2 batches" in out.getvalue()
    calm, saved = written(tmp_path / "calm.parquet", table(600, seed=11)), str(tmp_path / "reference.parquet")
    assert cli.main(["monitor", str(calm), "--save-reference", saved], out) == 0 and "no names" in out.getvalue()
    few, unused = written(tmp_path / "few.parquet", table(66)), tmp_path / "few_reference.parquet"
    assert cli.main(["monitor", str(few), "--save-reference", str(unused)], out) == 2 and not unused.exists()
    assert "66 films that can be read. A reference needs 200" in capsys.readouterr().err  # each comparison refused it
    args = ["monitor", str(calm), "--reference", saved, "--out", str(tmp_path / "out"), "--no-report"]
    assert cli.main(args, out) == 0
    with pytest.raises(SystemExit):
        cli.main(["monitor", str(calm)], out)
    assert "--out" in capsys.readouterr().err


def test_a_reference_replaces_nothing_but_a_reference(month, tmp_path):
    "Before, `--save-reference` with the name of the scores replaced these."
    scores = tmp_path / "scores.parquet"
    scores.write_bytes(month.read_bytes())
    reference = reference_of(scores)
    with refusal(ShiftError, "occupied", "exists and is no reference"):
        save_reference(reference, scores)
    assert scores.read_bytes() == month.read_bytes()
    for _ in range(2):  # again: it is one
        save_reference(reference, tmp_path / "reference.parquet")
    assert cli.main(["monitor", str(scores), "--save-reference", ""], io.StringIO()) == 2  # a variable that is not set


def test_the_result_of_another_archive_is_not_replaced(tmp_path, capsys):
    "Before, it was, without a word; and so was a notebook that is called monitor.ipynb."
    june, july = (
        written(tmp_path / f"{name}.parquet", table(1_200, seed=seed), source=f"/archive/{name}/Meier")
        for seed, name in ((1, "june"), (2, "july"))
    )
    assert "Meier" not in json.dumps(monitor(june, tmp_path / "out"))
    before = monitor(june, tmp_path / "out")  # the same archive, again
    args = ["monitor", str(july), "--out", str(tmp_path / "out"), "--no-report"]
    assert cli.main(args, io.StringIO()) == 2 and "the result of another archive" in capsys.readouterr().err
    assert read_result(tmp_path / "out/monitor.json") == before
    (tmp_path / "out/monitor.html").write_text("of june")
    assert cli.main([*args, "--force"], io.StringIO()) in (0, 1)
    assert read_result(tmp_path / "out/monitor.json")["archive"] != before["archive"]
    assert not (tmp_path / "out/monitor.html").exists()  # beside the result of july
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/monitor.ipynb").write_text("mine")
    with refusal(ShiftError, "occupied", "without a result of xraypneu monitor"):
        monitor(july, tmp_path / "mine", force=True)
    assert (tmp_path / "mine/monitor.ipynb").read_text() == "mine"
    with refusal(ShiftError, "file"):
        monitor(july, tmp_path / "mine/monitor.ipynb")


def test_the_report(month, tmp_path):
    "The executed notebook and a page that names cause and advice and loads nothing, nor runs what lies in the folder."
    hostile = {"numpy.py", "ipykernel_launcher.py"}
    for name in hostile:
        (tmp_path / name).write_text("raise SystemExit('run')")
    monitor(month, tmp_path)
    page = monitoring.write_report(tmp_path).read_text()
    assert "1 of 2 batches differ from the reference" in page and CAUSES["exposure"][:40] in page
    assert "<script src" not in page and "image/png;base64" in page
    assert "Of 1,000 files, 0 could not be read" in page
    assert "Batch 2, the last one that differs" in page
    assert {p.name for p in tmp_path.iterdir()} == {"monitor.json", "monitor.ipynb", "monitor.html"} | hostile


def test_an_installation_without_the_notebook(month, tmp_path, monkeypatch):
    "The result is complete; the command says that there is no page, and why."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(xraypneu, "__file__", str(tmp_path / "site-packages/xraypneu/__init__.py"))
    out = io.StringIO()
    assert cli.main(["monitor", str(month), "--out", "out"], out) == 1
    assert "No page" in out.getvalue() and read_result("out/monitor.json")["batches"]


def test_shares_of_refused_films_are_those_of_all_films(tmp_path):
    "The report's line was the share in films at the first batch's prevalence: a doubled share looked unchanged."

    def refusing(n, ill, seed, first=0):
        "Rows of which 30 % of the films with PNEUMONIA are refused."
        rows = table(n, ill, seed, first)
        refused = (rows.verdict == "PNEUMONIA") & (np.random.default_rng([seed, 9]).random(n) < 0.3)
        return rows.assign(verdict=rows.verdict.mask(refused, "OUT OF SCOPE"))

    normal, other = refusing(1000, 0.2, 1), refusing(200, 0.6, 2, 1000)
    result = monitor(written(tmp_path / "s.parquet", normal, other), tmp_path / "out", first=1000)
    (entry,) = result["batches"]
    shares = [(part.verdict == "OUT OF SCOPE").mean() for part in (normal, other)]
    assert shares[1] > 2 * shares[0]
    assert [monitoring.refused_share(entry, k) for k in ("reference", "batch")] == pytest.approx(shares)
    assert monitoring.batch_table(result).refused.tolist() == pytest.approx(shares[1:])
