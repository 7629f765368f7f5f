"""`xraypneu score`: an archive of films, whatever happens on the way."""

import errno
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from unittest.mock import Mock

import fuzz
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, Files, giving, refusal, until
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from xraypneu import Predictor, cli, load_bundle
from xraypneu.data.sample import draw_radiograph
from xraypneu.process import alone
from xraypneu.serving import score
from xraypneu.serving.score import ScoreError, list_films, merge, progress_of, score_archive, verify, write_manifest


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    "Seven films in two folders."
    folder = tmp_path_factory.mktemp("drawn")
    for i in range(7):
        (folder / f"{i // 4}").mkdir(exist_ok=True)
        Image.fromarray(draw_radiograph(i, size=128)[0]).save(folder / f"{i // 4}/{i}.png")
    return folder


@pytest.fixture
def films(drawn, tmp_path):
    "A copy of them that a test may change; times of change are kept."
    folder = tmp_path / "films"
    subprocess.run(["cp", "-a", drawn, folder], check=True)
    return folder


def rows(out):
    "All rows of a folder of scores."
    return [r for f in sorted((Path(out) / "scores").glob("*.parquet")) for r in pq.read_table(f).to_pylist()]


def contents(out):
    "The files of the scores and their bytes."
    return {p.name: p.read_bytes() for p in (Path(out) / "scores").iterdir()}


def names(found):
    return [os.path.basename(f.uri) for f in found]


def dicom(path, **attributes):
    "A DICOM film with attributes."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(fuzz.dicom(draw_radiograph(3, size=128)[0], **attributes))


# what is listed


def test_a_folder_is_listed_in_the_order_of_its_paths(films):
    "Hidden files and other kinds are left out and counted; DICOM without an extension is taken; links upwards end."
    dicom(films / "2/IM0001")
    dicom(films / "1.2.840.99")
    (films / "0/notes.txt").write_text("text")
    (films / "0/README").write_text("text")
    for name in ("0/0.overlay.png", "0/0.overlay-2.png", "0/.hidden.png"):  # maps of `xraypneu predict --overlay`
        (films / name).touch()
    (films / "@eaDir").mkdir()
    (films / "@eaDir/0.png").touch()
    (films / "0/up").symlink_to(films)
    os.mkfifo(films / "pipe")
    left_out = score.Counter()
    found = [os.path.relpath(f.uri, films) for f in list_films(films, left_out)]
    assert found == [
        "0/0.png",
        "0/1.png",
        "0/2.png",
        "0/3.png",
        "1.2.840.99",
        "1/4.png",
        "1/5.png",
        "1/6.png",
        "2/IM0001",
    ]
    assert left_out == {".txt": 1, "": 2, ".overlay.png": 2}


def test_globs_lists_and_tables(films, tmp_path, monkeypatch):
    monkeypatch.chdir(films)
    for source in (".", "./0/", "../films/0", "../films/*/*.png", "./0/0.png"):
        assert next(list_films(source)).uri == f"{films}/0/0.png"
    assert names(list_films("[01]/[0-4].png")) == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert names(list_films(f"{films}/**/?.png")) == [f"{i}.png" for i in range(7)]
    text = tmp_path / "list.txt"
    text.write_bytes("\ufeff0/1.png\r\n\n1/4.png\n0/1.png\nnowhere.png\n".encode())
    assert names(list_films(text)) == ["1.png", "4.png", "1.png", "nowhere.png"]  # in order, with duplicates
    (tmp_path / "t.csv").write_text("id,uri\n1,0/1.png\n2,1/4.png\n")
    pq.write_table(pa.table({"uri": ["0/1.png", "1/4.png"], "x": [1, 2]}), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        found = list(list_films(tmp_path / name))
        assert names(found) == ["1.png", "4.png"] and found[0].size == os.path.getsize("0/1.png")


@pytest.mark.parametrize(
    "name, content", [("t.csv", b"path\na.png\n"), ("t.csv", b"uri\n\xff\n"), ("t.parquet", b"PAR1")]
)
def test_a_table_that_is_none(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refusal(ScoreError, "bad_table") as e:
        list(list_films(tmp_path / name))
    assert name in str(e.value)


def test_a_dicomdir(tmp_path, monkeypatch):
    "Its images are found whatever the case of their names; one that leads out of the folder is refused."
    dicom(tmp_path / "dicom/im1")
    dicom(tmp_path / "DICOM/IM2")
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    records = []
    for kind, name in (("PATIENT", None), ("IMAGE", ["DICOM", "IM2"]), ("IMAGE", ["DICOM", "IM1"])):
        record = Dataset()
        record.DirectoryRecordType = kind
        if name:
            record.ReferencedFileID = name
        records.append(record)
    ds.DirectoryRecordSequence = records
    ds.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    found = list(list_films(tmp_path / "DICOMDIR"))
    assert [os.path.relpath(f.uri, tmp_path) for f in found] == ["dicom/im1", "DICOM/IM2"]
    assert all(f.size for f in found)
    with warnings.catch_warnings(action="ignore"):
        records[-1].ReferencedFileID = ["..", "IM1"]
    ds.DirectoryRecordSequence = records
    with warnings.catch_warnings(action="ignore"):
        ds.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    with refusal(ScoreError, "unsafe"):
        list(list_films(tmp_path / "DICOMDIR"))


@pytest.mark.parametrize(
    "source, code",
    [
        ("nowhere", "missing"),
        ("empty", "empty"),
        ("texts", "empty"),
        ("none.txt", "empty"),
        ("ftp://host/films", "bad_address"),
        ("https://me:word@host/films", "exposed"),
    ],
)
def test_sources_that_hold_nothing(tmp_path, source, code):
    "Each says so, and leaves no manifest behind."
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.md").touch()
    (tmp_path / "none.txt").touch()
    with refusal(ScoreError, code) as e:
        score_archive(source if "://" in source else tmp_path / source, tmp_path / "out")
    assert "me:word" not in str(e.value)
    assert os.listdir(tmp_path / "out") == [".lock"]


def test_a_missing_backend_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    score._filesystem.cache_clear()
    (tmp_path / "list.txt").write_text("gs://bucket/a.png\n")
    for source in ("gs://bucket/films", tmp_path / "list.txt"):
        with refusal(ScoreError, "no_package", "pip install 'gcsfs'"):
            score_archive(source, tmp_path / "out")


def test_ten_thousand_lines_with_duplicates(drawn, tmp_path):
    "Each has its id; the shards follow each other."
    text = tmp_path / "list.txt"
    text.write_text(f"{drawn}/0/0.png\n{drawn}/0/1.png\n" * 5_000)
    manifest = write_manifest(text, tmp_path / "out", 3_000)
    tables = [pq.read_table(tmp_path / f"out/manifest/{n:05d}.parquet") for n in range(4)]
    assert manifest.rows == 10_000 and [len(t) for t in tables] == [3_000, 3_000, 3_000, 1_000]
    assert [i for t in tables for i in t["id"].to_pylist()] == list(range(10_000))
    assert len({u for t in tables for u in t["uri"].to_pylist()}) == 2


def closed(monkeypatch, folder, number):
    "A folder that the system does not list."
    listed = score._listed

    def fails(path):
        if path.endswith(folder):
            raise OSError(number, os.strerror(number), path)
        return listed(path)

    monkeypatch.setattr(score, "_listed", fails)


def test_a_glob_in_a_folder_whose_name_has_brackets(films):
    "Before, `a[1]/*.png` meant the folder a1 alone: there are no films."
    (films / "0").rename(films / "a[1]")
    (films / "1").rename(films / "a1")
    assert names(list_films(f"{films}/a[1]/*.png")) == [f"{i}.png" for i in range(4)]
    assert names(list_films(f"{films}/a[2-1]/*.png")) == []
    assert names(list_films(f"{films}/a[0-9]/*.png")) == ["4.png", "5.png", "6.png"]


def test_a_closed_folder_under_a_glob_is_a_row(films, monkeypatch):
    "As in a folder: its films are not left out without a word. One that holds nothing of the glob is."
    closed(monkeypatch, "/0", errno.EACCES)
    assert names(list_films(f"{films}/**/*.png")) == ["0", "4.png", "5.png", "6.png"]
    assert names(list_films(f"{films}/*/*.png"))[0] == "0" and names(list_films(f"{films}/1*/*.png"))[0] == "4.png"


def test_a_link_that_leads_nowhere_hides_no_other_film(films):
    (films / "0/again").symlink_to("again")
    assert names(list_films(films / "0")) == ["0.png", "1.png", "2.png", "3.png", "again"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_a_disk_or_share_that_fails_leaves_no_list_with_gaps(films, tmp_path, monkeypatch, number):
    "ENOENT: of a drive that was unplugged meanwhile."
    closed(monkeypatch, "/1", number)
    monkeypatch.setattr(score, "_is_bare", lambda folder: True)
    with refusal(ScoreError, "unreadable", "can't be listed"):
        write_manifest(films, tmp_path / "out")
    assert not (tmp_path / "out/manifest").exists()


def test_a_file_of_a_disk_or_share_that_fails_is_not_a_changed_one(films, tmp_path, monkeypatch):
    "Neither while it is listed nor later."
    manifest, stat = score._films(tmp_path, write_manifest(films, tmp_path), 0).to_pylist(), os.stat

    def fails(path, *args, **kwargs):
        if str(path).endswith("1.png"):
            raise OSError(errno.EIO, "Input/output error", path)
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", fails)
    with pytest.raises(ScoreError, match="can't be listed"):
        list(list_films(films))
    with refusal(score.ImageError, "decoder"):
        score._check_unchanged(manifest[1]["uri"], score.Film("", *list(manifest[1].values())[2:4]))


def test_what_is_left_out_is_said_in_a_line(films, tmp_path):
    "Names that are UIDs have no extension, although each has another end."
    for i in range(30):
        (films / f"0/1.2.840.{i}").touch()
    for i in range(12):
        (films / f"0/a.{'abcdefghijkl'[i]}x").touch()
    (films / "0/b.IMA").touch()
    manifest, said = write_manifest(films, tmp_path / "out"), io.StringIO()
    assert len(manifest.left_out) == 14 and manifest.left_out[""] == 30
    cli.main(["score", "--status", "--out", str(tmp_path / "out")], said)
    line = said.getvalue().splitlines()[-1]
    assert "30 without extension, 1 .ax" in line and line.endswith("4 of other kinds")


def test_a_list_in_another_encoding(tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n", encoding="utf-16")
    with pytest.raises(ScoreError, match="UTF-16"):
        list(list_films(tmp_path / "list.txt"))


# rows


def test_rows_are_those_of_predict_however_the_archive_is_cut(films, tmp_path):
    predictor = Predictor()
    score_archive(films, tmp_path / "a", shard_rows=2)
    score_archive(films, tmp_path / "b", shard_rows=7, workers=3)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    for row in rows(tmp_path / "a"):
        alone_scored = predictor.predict(row["uri"])
        shown = alone_scored.explanation
        assert (row["verdict"], row["label"]) == (alone_scored.verdict, shown.label)
        assert row["probability"] == shown.probability and row["ood_score"] == alone_scored.ood_score
        logit = np.float32(row["logit"])
        assert predictor.bundle.probability(np.array([logit]))[0] == alone_scored.probability


def test_errors_are_rows(films, tmp_path):
    "Of files that are damaged, empty, gone, changed or in the way, and of a name in another encoding."
    (films / "0/0.png").write_bytes(b"")
    (films / "0/1.png").write_bytes((films / "0/1.png").read_bytes()[:300])
    odd = os.fsencode(films) + b"/\xfc.png"
    os.link(films / "1/4.png", odd)
    out = tmp_path / "out"
    write_manifest(films, out, 3)
    (films / "0/2.png").unlink()
    (films / "0/3.png").touch()  # as it was, but at another time
    done = score_archive(films, out, with_hash=True)
    found = rows(out)
    codes = [r["code"] for r in found]
    assert codes == ["empty", "unreadable", "missing", "changed", None, None, None, None] or codes[1] == "truncated"
    assert done.errors == 4 and done.complete and verify(out) == []
    assert all(r["message"] and r["verdict"] is None for r in found if r["code"])
    assert all(r["verdict"] and len(r["sha256"]) == 64 for r in found if not r["code"])
    assert found[-1]["uri"].endswith("/%FC.png") and found[-1]["logit"] == found[4]["logit"]


def test_a_drive_under_another_time_zone_has_not_changed(films, tmp_path):
    "FAT keeps local time. A second more is a change."
    write_manifest(films, tmp_path / "out")
    for file, seconds in (("0/0.png", 3600), ("0/1.png", -5.5 * 3600), ("0/2.png", 3601), ("0/3.png", 30 * 3600)):
        time_of_change = (films / file).stat().st_mtime_ns
        os.utime(films / file, ns=(0, time_of_change + int(seconds * 10**9)))
    score_archive(films, tmp_path / "out")
    assert [r["code"] for r in rows(tmp_path / "out")][:4] == [None, None, "changed", "changed"]


def test_a_folder_that_fails_is_a_row_and_the_root_an_error(films, tmp_path, monkeypatch):
    closed(monkeypatch, "/0", errno.EACCES)
    done = score_archive(films, tmp_path / "out")
    first = rows(tmp_path / "out")[0]
    assert (done.rows, done.errors, first["code"], first["uri"]) == (4, 1, "unreadable", str(films / "0"))
    with refusal(ScoreError, "unreadable", "can't be opened"):
        list(list_films(films / "0"))


def test_an_error_in_a_folder_whose_name_is_not_utf8(tmp_path):
    "Its message names the folder: such a shard could never be written."
    folder = os.fsencode(tmp_path) + b"/films/M\xfcller"
    os.makedirs(folder)
    os.symlink(b"gone.png", folder + b"/x.png")
    Image.fromarray(draw_radiograph(1, size=128)[0]).save(os.fsdecode(folder + b"/a.png"))
    assert score_archive(tmp_path / "films", tmp_path / "out").errors == 1
    assert "M\ufffdller" in rows(tmp_path / "out")[1]["message"]


def test_tags_that_name_nobody(tmp_path):
    "Attributes of DICOM files come along where they are asked for; those that identify are refused."
    dicom(
        tmp_path / "films/a.dcm",
        ViewPosition="PA",
        StudyDate="20200102",
        PatientName="Doe^Jane",
        PixelSpacing=[0.1, 0.2],
    )
    Image.fromarray(draw_radiograph(1, size=128)[0]).save(tmp_path / "films/b.png")
    score_archive(tmp_path / "films", tmp_path / "out", tags=("ViewPosition", "StudyDate", "PixelSpacing"))
    first, second = rows(tmp_path / "out")
    assert [first[k] for k in ("ViewPosition", "StudyDate", "PixelSpacing")] == ["PA", "20200102", "0.1\\0.2"]
    assert first["code"] is None and second["verdict"] and second["ViewPosition"] is None
    assert b"Doe" not in b"".join(contents(tmp_path / "out").values())
    for tag in ("PatientName", "PatientID", "StudyInstanceUID", "InstitutionName", "no such"):
        with refusal(ScoreError, "bad_setting"):
            score_archive(tmp_path / "films", tmp_path / "new", tags=(tag,))
        assert not (tmp_path / "new").exists()


# killed, resumed, verified


def started(*args):
    "The command in a process of its own, which imports this package."
    command = [sys.executable, "-m", "xraypneu.cli", *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def test_kill_9_midway_and_resume_gives_the_same_bytes(films, tmp_path):
    out = tmp_path / "out"
    args = ("score", films, "--out", out, "--shard-rows", 1, "--workers", 1)
    for shards in (1, 3):
        process = started(*args)
        until(lambda shards=shards: len(list((out / "scores").glob("*.parquet"))) >= shards, process)
        process.kill()
        process.communicate()
    first = contents(out)
    kept = {n: (out / "scores" / n).stat().st_ino for n in first if not n.startswith(".")}
    assert 3 <= len(kept) < 7 and not progress_of(out).complete
    done = score_archive(films, out)
    assert done.complete and done.rows == 7
    assert all((out / "scores" / n).stat().st_ino == i for n, i in kept.items())  # not made again
    score_archive(films, tmp_path / "whole", shard_rows=1)
    assert {n: b for n, b in contents(out).items() if not n.startswith(".")} == contents(tmp_path / "whole")
    assert verify(out) == []


def test_a_list_of_films_that_was_not_completed(films, tmp_path, monkeypatch):
    "Nothing is left that a later run takes for a manifest."
    out = tmp_path / "out"
    with monkeypatch.context() as m, pytest.raises(RuntimeError):
        m.setattr(score, "asdict", Mock(side_effect=RuntimeError("killed")))
        write_manifest(films, out, 2)
    assert not (out / "manifest").exists()
    assert score_archive(films, out, shard_rows=3).complete


def test_ctrl_c_says_how_to_go_on(films, tmp_path):
    out = tmp_path / "out"
    process = started("score", films, "--out", out, "--shard-rows", 1, "--workers", 1)
    until(lambda: (out / "scores/00000.parquet").exists(), process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Finished shards are kept: run the same command again" in error
    assert b"Traceback" not in error and score_archive(films, out).complete


def test_ctrl_c_waits_for_no_silent_host(tmp_path):
    "Its threads wait a minute for a byte, three times."
    pytest.importorskip("aiohttp")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "list.txt").write_text(f"http://127.0.0.1:{silent.getsockname()[1]}/a.png\n" * 9)
        process = started("score", tmp_path / "list.txt", "--out", tmp_path / "out", "--workers", 2)
        silent.settimeout(60)
        connections = [silent.accept(), silent.accept()]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 130 and b"run the same command again" in error and len(connections) == 2


def test_the_light_install_names_what_it_lacks(tmp_path, monkeypatch, capsys):
    for name in [n for n in sys.modules if n == "xraypneu.serving.score" or n.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    assert cli.main(["score", str(tmp_path), "--out", str(tmp_path / "out")], io.StringIO()) == 2
    said = capsys.readouterr().err
    assert "pyarrow" in said and "pip install '.[pipeline]'" in said


def test_a_second_program_is_refused(films, tmp_path, capsys):
    out = tmp_path / "out"
    with alone(out / ".lock", "a scoring"):
        assert cli.main(["score", str(films), "--out", str(out)], io.StringIO()) == 2
    assert f"process {os.getpid()}" in capsys.readouterr().err and os.listdir(out) == [".lock"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks(films, tmp_path, monkeypatch, capsys, number):
    "As on clusters (Lustre, NFS without its lock service): scored all the same, and said."

    def flock(fd, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    assert cli.main(["score", str(films), "--out", str(tmp_path / "out")], io.StringIO()) == 0
    assert "can't be locked" in capsys.readouterr().err


@pytest.fixture
def scored(films, tmp_path):
    "A folder of complete scores."
    score_archive(films, tmp_path / "out", shard_rows=3)
    return tmp_path / "out"


def edited(file, column, value):
    "Write a shard again with another first value, as a careful forger would."
    table = pq.read_table(file)
    values = [value, *table[column].to_pylist()[1:]]
    i = table.schema.get_field_index(column)
    changed = table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))
    pq.write_table(changed, file)


@pytest.mark.parametrize("column, value", [("probability", 0.5), ("id", 9), ("uri", "x.png"), ("reasons", ["none"])])
def test_verify_names_a_shard_with_another_value(scored, column, value):
    edited(scored / "scores/00001.parquet", column, value)
    out = io.StringIO()
    assert cli.main(["score", "--verify", "--out", str(scored)], out) == 1
    assert out.getvalue().startswith("scores/00001.parquet: ") and out.getvalue().count("\n") == 1


def test_verify_names_what_is_missing_damaged_or_of_another(scored):
    assert verify(scored) == []
    (scored / "scores/00000.parquet").write_bytes((scored / "scores/00001.parquet").read_bytes())
    (scored / "scores/00001.parquet").write_bytes(b"PAR1 and no more")
    (scored / "scores/00002.parquet").unlink()
    faults = verify(scored)
    assert [f.partition(":")[0] for f in faults] == [f"scores/0000{n}.parquet" for n in range(3)]
    assert "another shard" in faults[0] and "can't be read" in faults[1] and "not scored yet" in faults[2]
    assert progress_of(scored).shards_done == 0 and score_archive(None, scored).complete and verify(scored) == []


def test_damage_of_values_is_named_and_not_merged(scored, tmp_path, capsys):
    "A flipped bit leaves the footer whole: neither other values nor a traceback come of it."
    file, want = scored / "scores/00001.parquet", rows(scored)
    whole = file.read_bytes()
    for place in range(10, 1_500, 60):
        data = bytearray(whole)
        data[place] ^= 4
        file.write_bytes(data)
        try:
            merge(scored, tmp_path / "all.parquet")
        except ScoreError as e:
            assert e.code in ("damaged", "missing") and "--resume" in str(e)
            assert verify(scored)[0].startswith("scores/00001.parquet: ")
        else:
            assert pq.read_table(tmp_path / "all.parquet").to_pylist() == want
    file.write_bytes(whole)
    edited(file, "probability", 0.5)
    assert cli.main(["score", "--verify", "--out", str(scored)], io.StringIO()) == 1
    assert "delete what is wrong in scores/, then: xraypneu score --resume" in capsys.readouterr().err


def test_a_manifest_that_was_edited(scored):
    "Scores of it are not made again from other films; verify names it."
    edited(scored / "manifest/00001.parquet", "uri", "other.png")
    (scored / "scores/00001.parquet").unlink()
    with refusal(ScoreError, "wrong_hash", "00001.parquet was changed"):
        score_archive(None, scored)
    assert verify(scored)[0].startswith("manifest/00001.parquet")
    (scored / "manifest/manifest.json").write_text("{")
    with pytest.raises(ScoreError, match="damaged"):
        progress_of(scored)


def test_a_shard_says_what_it_belongs_to(scored):
    said = json.loads(pq.read_schema(scored / "scores/00002.parquet").metadata[b"xraypneu"])
    manifest = json.loads((scored / "manifest/manifest.json").read_text())
    assert said["bundle"] == load_bundle().hash and said["manifest"] == manifest["shards"][2]
    assert (said["shard"], said["rows"], said["errors"], said["precision"]) == (2, 1, 0, "fp32") and said["version"]


def test_another_bundle_source_or_option_is_refused(scored, films, tmp_path, capsys):
    before = contents(scored)
    for argv in (["--precision", "int8"], ["--hash"], ["--tags", "ViewPosition"], ["--shard-rows", "4"]):
        assert cli.main(["score", str(films), "--out", str(scored), *argv], io.StringIO()) == 2
        assert "another folder" in capsys.readouterr().err
    bundle = tmp_path / "bundle"
    subprocess.run(["cp", "-a", load_bundle().folder, bundle], check=True)
    info = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(info | {"licence": "another"}))
    with refusal(ScoreError, "occupied", "bundle"):
        score_archive(films, scored, bundle=bundle)
    with pytest.raises(ScoreError, match="holds the scores of"):
        score_archive(films / "0", scored)
    assert contents(scored) == before


def other_bundle(folder, licence="another"):
    "A copy of the package's bundle with another hash."
    shutil.copytree(load_bundle().folder, folder, dirs_exist_ok=True)
    info = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(info | {"licence": licence}))
    return folder


def begun(monkeypatch, films, out, *options):
    "A folder of scores whose run was interrupted before its first shard was finished."
    with monkeypatch.context() as m:
        m.setattr(score.ShardScorer, "score", Mock(side_effect=KeyboardInterrupt))
        assert cli.main(["score", str(films), "--out", str(out), *options], io.StringIO()) == 130
    assert not (out / "scores").exists()
    return (out / "score.json").read_bytes()


def resumed(out, *options):
    return cli.main(["score", "--resume", "--out", str(out), *options], io.StringIO())


OPTIONS = ("--features", "--hash", "--precision", "int8", "--tags", "ViewPosition")


def test_resume_before_the_first_shard_keeps_bundle_and_options(films, tmp_path, monkeypatch):
    "Before, the package's model scored the rest of the archive, without features, and without a word."
    other_bundle(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    noted = begun(monkeypatch, films, out, "--bundle", "mine", *OPTIONS)
    monkeypatch.chdir(films)  # the bundle is found from elsewhere, too
    assert resumed(out) == 0 and (out / "score.json").read_bytes() == noted and verify(out) == []
    said = json.loads(pq.read_schema(out / "scores/00000.parquet").metadata[b"xraypneu"])
    assert said["bundle"] == load_bundle(tmp_path / "mine").hash and "bundle_address" not in said
    row = rows(out)[0]
    assert said["precision"] == "int8" and row["features"] and row["sha256"] and "ViewPosition" in row


def test_resume_refuses_an_option_that_differs_also_before_the_first_shard(films, tmp_path, monkeypatch, capsys):
    other_bundle(tmp_path / "mine")
    noted = begun(monkeypatch, films, tmp_path / "out")
    capsys.readouterr()
    for argv, words in (
        (["--features"], "(without features, not with)"),
        (["--hash", "--precision", "int8"], "(precision fp32, not int8; without hashes, not with)"),
        (["--tags", "ViewPosition"], "(tags none, not ViewPosition)"),
        (["--bundle", str(tmp_path / "mine")], f"(bundle {load_bundle().hash[:12]}, not "),
    ):
        assert resumed(tmp_path / "out", *argv) == 2
        said = capsys.readouterr().err
        assert f"was begun with other options {words}" in said and "Leave out what differs" in said
        assert (tmp_path / "out/score.json").read_bytes() == noted and not (tmp_path / "out/scores").exists()
    assert resumed(tmp_path / "out", "--precision", "fp32", "--bundle", str(load_bundle().folder)) == 0
    assert (tmp_path / "out/score.json").read_bytes() == noted


def test_resume_refuses_a_bundle_that_was_replaced_or_is_gone(films, tmp_path, monkeypatch, capsys):
    mine, out = other_bundle(tmp_path / "mine"), tmp_path / "out"
    noted = begun(monkeypatch, films, out, "--bundle", str(mine))
    shutil.copytree(mine, tmp_path / "elsewhere")
    other_bundle(mine, "a third")
    assert resumed(out) == 2
    said = capsys.readouterr().err
    assert f"that of {mine} is {load_bundle(mine).hash[:12]}. Give that bundle: --bundle FOLDER" in said
    shutil.rmtree(mine)
    assert resumed(out) == 2
    assert f"of {mine}, which can't be used: no bundle in" in capsys.readouterr().err
    assert (out / "score.json").read_bytes() == noted and not (out / "scores").exists()
    assert resumed(out, "--bundle", str(tmp_path / "elsewhere")) == 0  # the same one, which is noted from now on
    (out / "scores/00000.parquet").unlink()
    assert resumed(out) == 0 and verify(out) == []


def test_scores_of_a_version_that_noted_no_address_are_resumed(films, tmp_path, monkeypatch, capsys):
    "With the package's own bundle if it is that one; else the bundle has to be given, and finished shards are kept."
    mine, out = other_bundle(tmp_path / "mine"), tmp_path / "out"
    score_archive(films, out, mine, shard_rows=3)
    before, said = contents(out), json.loads((out / "score.json").read_text())
    assert said.pop("bundle_address") == str(mine)
    (out / "score.json").write_text(json.dumps(said))
    (out / "scores/00001.parquet").unlink()
    assert resumed(out) == 2
    assert "that of the package is" in (error := capsys.readouterr().err) and "--bundle FOLDER" in error
    assert resumed(out, "--bundle", str(mine)) == 0 and contents(out) == before
    score_archive(films, tmp_path / "own")
    assert "bundle_address" not in json.loads((tmp_path / "own/score.json").read_text())


def test_the_bundle_of_an_mlflow_address_is_noted_by_it(films, tmp_path, monkeypatch, capsys):
    from xraypneu.ops import tracking

    mine, out = other_bundle(tmp_path / "mine"), tmp_path / "out"
    with monkeypatch.context() as m:
        m.setattr(tracking, "registered_bundle", lambda uri: mine)
        begun(m, films, out, "--bundle", "models:/team@champion")
        assert json.loads((out / "score.json").read_text())["bundle_address"] == "models:/team@champion"
        assert resumed(out) == 0
    lost = tracking.TrackingError("no MLflow store is set here", "Set MLFLOW_TRACKING_URI", "missing")
    monkeypatch.setattr(tracking, "registered_bundle", Mock(side_effect=lost))
    (out / "scores/00000.parquet").unlink()
    assert resumed(out) == 2
    said = capsys.readouterr().err
    assert (
        "of models:/team@champion, which can't be used" in said and "Set MLFLOW_TRACKING_URI. Give that bundle" in said
    )


def test_the_command_that_completes_scores_works_as_it_is_named(films, tmp_path, capsys):
    "Before, it was refused as one of other options, by --merge, --verify and monitor alike."
    mine, out = other_bundle(tmp_path / "my bundle"), tmp_path / "my scores"
    argv = ["score", str(films), "--out", str(out), "--shard-rows", "3", "--bundle", str(mine), *OPTIONS]
    assert cli.main(argv, io.StringIO()) == 0
    before = contents(out)
    for named in (
        ["monitor", str(out), "--out", str(tmp_path / "monitor")],
        ["score", "--merge", str(tmp_path / "all.parquet"), "--out", str(out)],
        ["score", "--verify", "--out", str(out)],
    ):
        (out / "scores/00002.parquet").unlink()
        capsys.readouterr()
        assert cli.main(named, io.StringIO()) in (1, 2)
        hint = re.search(r"xraypneu (score --resume .*)", capsys.readouterr().err)[1]
        assert cli.main(shlex.split(hint), io.StringIO()) == 0 and contents(out) == before


def test_a_list_whose_options_were_not_noted_is_resumed_with_a_word(films, tmp_path, capsys):
    write_manifest(films, tmp_path / "out")
    assert resumed(tmp_path / "out", "--hash") == 0 and rows(tmp_path / "out")[0]["sha256"]
    assert "those that are not given are the defaults" in capsys.readouterr().err


def test_films_that_came_after_the_list_are_not_passed_over_without_a_word(scored, films, tmp_path, capsys):
    "The command of last month, or of another disk at the same mount point, said that all films are scored."
    (films / "new.png").write_bytes(next(films.rglob("*.png")).read_bytes())
    assert cli.main(["score", str(films), "--out", str(scored)], said := io.StringIO()) == 0
    assert "7 of 7 films are scored" in said.getvalue() and "nothing was done" in capsys.readouterr().err
    assert cli.main(["score", "--resume", "--out", str(scored)], said) == 0
    assert "nothing was done" not in capsys.readouterr().err  # nobody named a source


def test_a_list_that_changed_is_refused(drawn, tmp_path):
    text = tmp_path / "list.txt"
    text.write_text(f"{drawn}/0/0.png\n")
    score_archive(text, tmp_path / "out")
    text.write_text(f"{drawn}/0/1.png\n")
    with refusal(ScoreError, "changed", "changed since"):
        score_archive(text, tmp_path / "out")


def test_another_bundle_is_taken_while_nothing_is_finished(films, tmp_path):
    out = tmp_path / "out"
    write_manifest(films, out, 4)
    (out / "score.json").write_text('{"bundle": "b", "precision": "fp32", "version": "0", "hash": false, "tags": []}')
    assert score_archive(films, out).complete and verify(out) == []


def test_scores_of_a_newer_version_are_not_called_damaged(tmp_path):
    said = {"bundle": "b", "precision": "fp32", "version": "9.1", "hash": False, "tags": []}
    (tmp_path / "score.json").write_text(json.dumps(said | {"depth": 12}))
    with refusal(ScoreError, "unsupported", r"newer xraypneu \(9.1; .*depth.*Go on with xraypneu 9.1, or score into"):
        score._settings(tmp_path)
    for content in (json.dumps({"bundle": "b"}), json.dumps(said | {"bundle_address": 1}), "[]", "{"):
        (tmp_path / "score.json").write_text(content)
        with pytest.raises(ScoreError, match="is damaged"):
            score._settings(tmp_path)


def test_shards_of_no_films_are_refused(films, tmp_path):
    with refusal(ScoreError, "bad_setting"):
        score_archive(films, tmp_path / "out", shard_rows=0)


def test_folders_that_are_no_place_for_scores(films, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "taken/scores").mkdir(parents=True)
    places = {"file": "file", "file/below": "file", "taken": "occupied"}
    for name, code in places.items():
        with refusal(ScoreError, code):
            score_archive(films, tmp_path / name)
    with refusal(ScoreError, "unsupported"):
        score_archive(films, "https://host/scores")


def test_a_full_disk_stops_and_loses_nothing(films, tmp_path, monkeypatch, capsys):
    out, write = tmp_path / "out", score.write_file

    def full(path, data):
        if path.name == "00002.parquet" and path.parent.name == "scores":
            raise score.explained(OSError(errno.ENOSPC, "No space left on device"), path, len(data))
        return write(path, data)

    with monkeypatch.context() as m:
        m.setattr(score, "write_file", full)
        assert cli.main(["score", str(films), "--out", str(out), "--shard-rows", "2"], io.StringIO()) == 2
    assert "Make room, then repeat" in capsys.readouterr().err
    assert progress_of(out).shards_done == 2 and score_archive(films, out).complete and verify(out) == []


def test_films_that_can_t_be_used_are_named(films, tmp_path):
    "The end of a run said how many, and not which: now the first, and the command that lists all with their reasons."
    (films / "0/2.png").write_bytes(b"")
    (films / "1/6.png").write_bytes(b"no film")
    out, said, listed = tmp_path / "my scores", io.StringIO(), io.StringIO()
    assert cli.main(["score", str(films), "--out", str(out), "--shard-rows", "2"], said) == 0
    line = next(line for line in said.getvalue().splitlines() if line.startswith("the first that can't be used: "))
    bad = [r for r in rows(out) if r["code"]]
    assert f": {bad[0]['uri']} (empty); " in line and [Path(r["uri"]).name for r in bad] == ["2.png", "6.png"]
    assert cli.main(shlex.split(line.partition("all: xraypneu ")[2]), listed) == 0
    assert listed.getvalue().splitlines() == [f"{r['uri']}: {r['code']}: {r['message']}" for r in bad]
    assert list(score.failures(out)) == [{k: r[k] for k in ("uri", "code", "message")} for r in bad]
    for r in bad:
        os.remove(r["uri"])
    said = io.StringIO()
    assert cli.main(["score", str(films), "--out", str(tmp_path / "good")], said) == 0
    assert "the first that" not in said.getvalue() and list(score.failures(tmp_path / "good")) == []


def test_status_and_merge(films, tmp_path):
    out, said = tmp_path / "out", io.StringIO()
    write_manifest(films, out, 2)
    assert cli.main(["score", "--status", "--out", str(out)], said) == 1 and "0 of 7 films" in said.getvalue()
    with refusal(ScoreError, "missing", "--resume"):
        merge(out, tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()
    said = io.StringIO()
    assert cli.main(["score", "--resume", "--out", str(out)], said) == 0 and "7 of 7 films" in said.getvalue()
    assert cli.main(["score", "--status", "--out", str(out)], said) == 0
    assert merge(out, tmp_path / "all.parquet") == 7
    whole = pq.ParquetFile(tmp_path / "all.parquet")
    assert whole.read().to_pylist() == rows(out) and whole.num_row_groups == 4
    assert json.loads(whole.schema_arrow.metadata[b"xraypneu"])["rows"] == 7
    with refusal(ScoreError, "occupied"):
        merge(out, out / "scores/all.parquet")
    assert merge(out, tmp_path / "all.parquet") == 7  # again: it was written by merge
    score_archive(films / "0", tmp_path / "other")
    with refusal(ScoreError, "occupied", "holds the scores of another archive"):
        merge(tmp_path / "other", tmp_path / "all.parquet")


def test_a_merge_replaces_nothing_that_it_did_not_write(films, tmp_path):
    "Before, `--merge films.parquet` replaced the list of the films, from which the folder could then not go on."
    pq.write_table(pa.table({"uri": [str(films / "0/0.png")]}), tmp_path / "films.parquet")
    (tmp_path / "films.txt").write_text("0/0.png\n")
    score_archive(tmp_path / "films.parquet", tmp_path / "out")
    shutil.copy(tmp_path / "out/scores/00000.parquet", tmp_path / "shard.parquet")
    for file in (tmp_path / name for name in ("films.parquet", "films.txt", "out/score.json", "shard.parquet")):
        before = file.read_bytes()
        with refusal(ScoreError, "occupied", "was not written by xraypneu score --merge"):
            merge(tmp_path / "out", file)
        assert file.read_bytes() == before


def test_nothing_to_resume(tmp_path, capsys):
    for what in ("resume", "status", "verify"):
        assert cli.main(["score", f"--{what}", "--out", str(tmp_path / "out")], io.StringIO()) == 2
        assert "xraypneu score SOURCE --out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# addresses, and what fails because of the machine


def test_addresses_of_objects(drawn, tmp_path):
    "A bucket is listed with sizes; a glob and a list of addresses give the same films; one that changed is a row."
    import fsspec

    fs = fsspec.filesystem("memory")
    for i in range(4):
        fs.pipe(f"/bucket/{i // 2}/{i}.png", (drawn / f"0/{i}.png").read_bytes())
    fs.pipe("/bucket/notes.md", b"text")
    assert names(list_films("memory://bucket")) == [f"{i}.png" for i in range(4)]
    assert names(list_films("memory://bucket/*/[13].png")) == ["1.png", "3.png"]
    out = tmp_path / "out"
    write_manifest("memory://bucket", out, 3)
    fs.pipe("/bucket/0/1.png", b"another")
    fs.rm("/bucket/1/2.png")
    score_archive("memory://bucket", out, with_hash=True)
    assert [r["code"] for r in rows(out)] == [None, "changed", "missing", None]
    assert rows(out)[0]["probability"] == Predictor().predict(drawn / "0/0.png").explanation.probability
    fs.rm("/bucket", recursive=True)


def test_objects_that_changed_are_known_by_their_etag(monkeypatch):
    "One of the same size too; one that is too large is not fetched."

    class Objects:
        def info(self, path):
            return {"ETag": '"new"'}

        def cat_file(self, path):
            return b"1234"

    monkeypatch.setattr(score, "_of_address", lambda uri: (Objects(), uri))
    assert score._fetched(score.Film("s3://b/a", 4, None, "new")) == b"1234"
    for film, code in (((4, None, "old"), "changed"), ((5, None, "new"), "changed"), ((10**9,), "too_large")):
        with refusal(score.ImageError, code):
            score._fetched(score.Film("s3://b/a", *film))


@pytest.mark.parametrize(
    "address, code",
    [
        ("https://host/a.png?X-Amz-Credential=AK&X-Amz-Signature=s3cr3t", "exposed"),
        ("https://acct.blob.core.windows.net/c/a.png?sv=1&sig=s3cr3t", "exposed"),
        ("ftp://me:s3cr3t@host/a.png", "exposed"),
        ("s3://me:s3cr3t@bucket/a.png", "exposed"),
        ("https://[x/a.png", "bad_address"),
        ("s3://bucket*/a.png", "bad_address"),
    ],
)
def test_addresses_that_a_manifest_may_not_hold(tmp_path, address, code):
    "As a source and in a list: they would be in manifest, scores and merged scores."
    (tmp_path / "list.txt").write_text(f"{address}\n")
    for source in (address, tmp_path / "list.txt"):
        with refusal(ScoreError, code) as e:
            score_archive(source, tmp_path / "out")
        assert "s3cr3t" not in str(e.value)
    assert os.listdir(tmp_path / "out") == [".lock"]


def test_containers_of_one_account_are_different_sources():
    one, other = (score._identity(f"abfs://{c}@account.dfs.core.windows.net/films") for c in "ab")
    assert one != other


class Web(Files):
    "A host whose addresses end in the status that they answer, or name a file."

    def do_GET(self):
        end = self.path.rpartition("/")[2]
        if end == "silent":
            time.sleep(2)
        if self.path.startswith("/endless"):
            self.path = "/endless.html"
        self.send_error(int(end)) if end.isdigit() else super().do_GET()

    do_HEAD = do_GET


@pytest.fixture
def web(tmp_path):
    pytest.importorskip("aiohttp")
    with giving(tmp_path, Web) as address:
        yield address


def test_films_of_a_web_host_are_read_whole(tmp_path, web):
    "A stream gives what has arrived, of a large film a part. A film's address is no page to be listed."
    content = os.urandom(3_000_000)
    (tmp_path / "a.png").write_bytes(content)
    (film,) = list_films(f"{web}/a.png")
    assert score._fetched(film) == content


def test_a_film_may_arrive_slowly_but_not_silently(web, monkeypatch):
    "With many at a time over a thin line, one may take longer than the five minutes that its client would give."
    monkeypatch.setattr(score, "_SILENT_SECONDS", 0.2)
    score._filesystem.cache_clear()
    try:
        with refusal(score.ImageError, "unreachable"):
            score._fetched(score.Film(f"{web}/silent"))
        assert score._filesystem("http").client_kwargs["timeout"].total > 300
    finally:
        score._filesystem.cache_clear()


def test_a_web_host_that_fails_is_not_one_that_lacks_the_film(web):
    codes = {404: "missing", 410: "missing", 401: "forbidden", 403: "forbidden", 451: "forbidden"}
    codes |= {429: "unreachable", 500: "unreachable", 503: "unreachable"}
    for address, code in [*((f"{web}/{k}", v) for k, v in codes.items()), ("http://127.0.0.1:9/a.png", "unreachable")]:
        with refusal(score.ImageError, code):
            score._fetched(score.Film(address))


def test_a_web_host_that_lists_each_folder_in_itself_ends(tmp_path, web):
    "It was a RecursionError after a thousand requests."
    (tmp_path / "endless.html").write_text('<a href="more/">more</a>')
    with refusal(ScoreError, "unsafe", "more than 100 folders deep"):
        list(list_films(f"{web}/endless/"))


def test_films_that_a_host_refuses_for_themselves_are_rows(drawn, tmp_path, monkeypatch):
    "Twenty in a row stop no run whose host gives another one, read before or first or last in the archive."
    import fsspec

    fs, fetched = fsspec.filesystem("memory"), score._fetched
    (tmp_path / "list.txt").write_text("".join(f"memory://store/{i}.png\n" for i in range(7)))
    fs.pipe("/store/6.png", (drawn / "0/0.png").read_bytes())
    refused = score._of_host(PermissionError("it is archived"), "memory://store/x.png")

    def fails(film):
        if film.uri.endswith("6.png"):
            return fetched(film)
        raise refused

    monkeypatch.setattr(score, "_IN_A_ROW", 3)
    monkeypatch.setattr(score, "_fetched", fails)
    done = score_archive(tmp_path / "list.txt", tmp_path / "out")
    assert (done.rows_done, done.errors) == (7, 6) and rows(tmp_path / "out")[6]["verdict"]
    fs.rm("/store", recursive=True)


def test_a_list_of_web_addresses(drawn, tmp_path):
    pytest.importorskip("aiohttp")
    text = tmp_path / "list.txt"
    with giving(drawn) as address:
        text.write_text(f"{address}/0/0.png\n{address}/0/gone.png\n{drawn}/0/0.png\n")
        score_archive(text, tmp_path / "out")
    first, gone, here = rows(tmp_path / "out")
    assert (first["code"], gone["code"]) == (None, "missing") and first["logit"] == here["logit"]


def test_a_host_that_fails_for_good_stops_the_run(drawn, tmp_path, monkeypatch):
    "Twenty films in a row are no rows of errors: the shard is not written, and the next run does it."
    text, out = tmp_path / "list.txt", tmp_path / "out"
    text.write_text("".join(f"memory://bucket/{i}.png\n" for i in range(30)))
    monkeypatch.setattr(score, "_PAUSES", (0, 0))
    fetched = score._fetched
    with monkeypatch.context() as m:
        refused = score._of_host(PermissionError("the token has expired"), "memory://bucket/x.png")
        m.setattr(score, "_fetched", Mock(side_effect=refused))
        with pytest.raises(ScoreError, match="20 films in a row.*token has expired") as e:
            score_archive(text, out)
    assert e.value.code == "forbidden" and not (out / "scores").exists() and score._fetched is fetched
    import fsspec

    for i in range(30):
        fsspec.filesystem("memory").pipe(f"/bucket/{i}.png", (drawn / "0/0.png").read_bytes())
    assert score_archive(text, out).errors == 0


def test_a_few_films_whose_host_is_down_are_no_finished_shard(drawn, tmp_path, monkeypatch):
    "Before, fewer than twenty were rows of errors, status 0, and the same command never tried them again."
    import fsspec

    monkeypatch.setattr(score, "_PAUSES", (0, 0))
    text, out, fs = tmp_path / "list.txt", tmp_path / "out", fsspec.filesystem("memory")
    text.write_text("".join(f"memory://down/{i}.png\n" for i in range(5)) + f"{drawn}/0/0.png\n")
    fetched, down = score._fetched, score._of_host(ConnectionRefusedError("no answer"), "memory://down/x.png")
    fails = {f"memory://down/{i}.png" for i in range(5)}

    def give(film):
        if film.uri in fails:
            raise down
        return fetched(film)

    monkeypatch.setattr(score, "_fetched", give)
    with pytest.raises(ScoreError, match="a film can't be read: memory://down/4.png.*run this again") as e:
        score_archive(text, out)
    assert e.value.code == "unreachable" and not (out / "scores").exists()
    for i in range(5):
        fs.pipe(f"/down/{i}.png", (drawn / "0/0.png").read_bytes())
    fails -= {f"memory://down/{i}.png" for i in range(4)}
    assert score_archive(text, out).errors == 1  # the last one fails for itself: its host gives the others
    fs.rm("/down", recursive=True)
    fs.pipe("/up/0.png", (drawn / "0/0.png").read_bytes())
    fails |= {"memory://down/0.png"}
    text.write_text("memory://up/0.png\nmemory://down/0.png\n")  # of many hosts, one may be gone for good
    assert score_archive(text, tmp_path / "hosts").errors == 1


def test_packages_that_are_replaced_stop_the_run(drawn, tmp_path, monkeypatch):
    "At the first film: rows of errors in a finished shard would stay, though the message says to start again."
    monkeypatch.setattr(score, "_PAUSES", (0, 0))
    calls, predicted = [], score.FilmScorer._predicted

    def replaced(self, content, name):
        calls.append(name)
        if len(calls) > 3:
            raise score.ImageError("the decoder process ended while it started", score.PACKAGES_CHANGED, "decoder")
        return predicted(self, content, name)

    with monkeypatch.context() as m:
        m.setattr(score.FilmScorer, "_predicted", replaced)
        with pytest.raises(ScoreError, match="a film can't be read: .*png: .*Packages may have changed") as e:
            score_archive(drawn, tmp_path / "out")
    assert e.value.code == "decoder" and not (tmp_path / "out/scores").exists()
    assert score_archive(None, tmp_path / "out").errors == 0


def test_a_film_is_tried_again_where_the_machine_is_at_fault(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "_PAUSES", (0, 0))
    calls = []

    def fails_once(self, id, film, row=score.FilmScorer.row):
        calls.append(id)
        return row(self, id, film) if calls.count(id) > 1 else {"id": id, "uri": film.uri, "code": "unreachable"}

    monkeypatch.setattr(score.FilmScorer, "row", fails_once)
    assert score_archive(drawn, tmp_path / "out").errors == 0 and len(calls) == 14


@pytest.mark.parametrize("mount_point", [False, True])
@pytest.mark.parametrize("kind", ["list", "glob", "folder"])
def test_a_drive_that_is_gone_stops_the_run_of_any_source(films, tmp_path, kind, mount_point):
    "Its mount point is gone with it, as on desktops, or is empty; whatever the films were listed from."
    text, out = tmp_path / "list.txt", tmp_path / "out"
    text.write_text("".join(f"{films}/0/{i}.png\n" for i in range(4)))
    source = {"list": text, "glob": f"{films}/*/*.png", "folder": films}[kind]
    write_manifest(source, out, 2)
    films.rename(tmp_path / "away")
    if mount_point:
        films.mkdir()
    with refusal(ScoreError, "missing", "gone or empty"):
        score_archive(None, out)
    assert not (out / "scores").exists()
    shutil.rmtree(films, ignore_errors=True)
    (tmp_path / "away").rename(films)
    assert score_archive(source, out).errors == 0


def test_one_of_several_drives_that_is_gone_stops_the_run(films, tmp_path, monkeypatch):
    "Its mount point is left, and empty. Films that were deleted with their folder are rows."
    monkeypatch.setattr(score, "_IN_A_ROW", 3)
    write_manifest(films, tmp_path / "out")
    (films / "1").rename(tmp_path / "away")
    (films / "1").mkdir()
    with refusal(ScoreError, "missing", "films/1 is empty, as if its drive"):
        score_archive(films, tmp_path / "out")
    assert not (tmp_path / "out/scores").exists()
    (films / "1").rmdir()
    assert score_archive(films, tmp_path / "out").errors == 3


def test_folders_that_were_cleared_are_no_drive_that_is_gone(films, tmp_path, monkeypatch):
    "As an archive leaves them after years: seven films in a row, of two folders."
    monkeypatch.setattr(score, "_IN_A_ROW", 5)
    Image.fromarray(draw_radiograph(8, size=128)[0]).save(films / "8.png")
    write_manifest(films, tmp_path / "out")
    for file in films.glob("*/*.png"):
        file.unlink()
    assert score_archive(films, tmp_path / "out").errors == 7


def test_the_folder_of_all_is_found_without_a_look_at_each_path(monkeypatch):
    "As that of a list of ten million is needed when a first film is missing."
    looked, local = [], score._local
    monkeypatch.setattr(score, "_local", lambda uri: looked.append(uri) or local(uri))
    for paths in (
        ["/a/b/x.png"],
        ["/a/b/x.png", "/a/b-c/y.png", "/a/b/c/z.png"],
        ["/a/bc/x.png", "/a/bd/x.png"],
        ["/x.png", "/a/x.png"],
        ["/a/é/1.png", "/a/è/1.png"],
        ["/a/../b/1.png", "/a/../c/1.png"],
    ):
        wanted = os.path.commonpath(list(map(os.path.dirname, paths)))
        addresses = ["s3://bucket/a/b/1.png", "https://host/1.png"] + [f"gs://bucket/{i}.png" for i in range(1000)]
        assert score._folder_of(pa.chunked_array([paths, addresses])) == wanted, paths
    assert looked == [] and score._folder_of(pa.chunked_array([addresses])) is None
    assert score._folder_of(pa.chunked_array([["/a/b/1.png", "FILE:///a/c/%ff.png"]])) == "/a"


def test_paths_of_private_films_are_not_open_to_all_without_a_word(films, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(score, "others_reach", lambda folder: bool(folder.stat().st_mode & 0o001))
    for mode, words in ((0o700, 1), (0o755, 0)):
        films.chmod(mode)
        assert cli.main(["score", str(films), "--out", str(tmp_path / "out")], io.StringIO()) == 0
        assert capsys.readouterr().err.count("To keep them out: chmod o-rwx") == words


def test_progress_says_rate_and_errors(films, tmp_path, capfd):
    (films / "0/0.png").write_bytes(b"")
    assert cli.main(["score", str(films), "--out", str(tmp_path / "out")], io.StringIO()) == 0
    said = capfd.readouterr().err
    assert re.search(r"scoring: 100%.* 7/7 .*films/s, errors=1", said), said


# scores in an object store


@pytest.fixture
def bucket():
    "An address of objects in memory."
    import fsspec

    fs = fsspec.filesystem("memory")
    yield "memory://scores/a"
    if fs.exists("/scores"):
        fs.rm("/scores", recursive=True)


def stored(address):
    "All objects below an address and their bytes."
    import fsspec

    fs, root = fsspec.core.url_to_fs(address)
    return {p.removeprefix(f"{root}/"): fs.cat_file(p) for p in fs.find(root)}


def test_scores_in_an_object_store_are_those_of_a_folder(films, tmp_path, bucket, monkeypatch):
    "One put each, and no other name at any time; finished shards are not made again; status, verify and merge work."
    import fsspec

    puts, put = [], type(fsspec.filesystem("memory")).pipe_file
    monkeypatch.setattr(
        type(fsspec.filesystem("memory")),
        "pipe_file",
        lambda fs, path, *args: puts.append(path) or put(fs, path, *args),
    )
    score_archive(films, tmp_path / "out", shard_rows=3)
    assert cli.main(["score", str(films), "--out", bucket, "--shard-rows", "3"], io.StringIO()) == 0
    of_folder = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    of_folder.pop(".lock")
    assert stored(bucket) == of_folder and len(puts) == len(set(puts)) == len(of_folder)
    assert [p.rpartition("/")[2] for p in puts[3:5]] == ["manifest.json", "score.json"]  # the list is complete, then
    fsspec.filesystem("memory").rm("/scores/a/scores/00001.parquet")
    said = io.StringIO()
    assert cli.main(["score", "--status", "--out", bucket], said) == 1 and "2 of 3 shards" in said.getvalue()
    assert cli.main(["score", "--verify", "--out", bucket], said) == 1 and "00001.parquet: it is not" in said.getvalue()
    puts.clear()
    assert cli.main(["score", "--resume", "--out", bucket], io.StringIO()) == 0
    assert puts == ["/scores/a/scores/00001.parquet"] and stored(bucket) == of_folder and verify(bucket) == []
    assert merge(bucket, tmp_path / "all.parquet") == merge(tmp_path / "out", tmp_path / "other.parquet") == 7
    assert (tmp_path / "all.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()


def test_an_object_store_is_asked_for_many_footers_at_a_time(films, bucket, monkeypatch):
    "Each answer waits until four are asked for: one after another, thousands would take minutes."
    score_archive(films, bucket, shard_rows=1)
    together, opened = threading.Barrier(4, timeout=60), score._opened
    asked = itertools.count()

    def slow(place):
        if next(asked) < 4:
            together.wait()
        return opened(place)

    monkeypatch.setattr(score, "_opened", slow)
    assert progress_of(bucket).shards_done == 7


def test_a_run_into_an_object_store_that_is_stopped(films, bucket, monkeypatch):
    "A list that is not complete is none; a damaged object is made again."
    import fsspec

    fs, write = fsspec.filesystem("memory"), score._write
    with monkeypatch.context() as m, pytest.raises(OSError):
        lost = Mock(side_effect=OSError("the connection was lost"))
        m.setattr(score, "_write", lambda place, data: (lost if place.name == "manifest.json" else write)(place, data))
        score_archive(films, bucket, shard_rows=3)
    assert "manifest/00000.parquet" in stored(bucket)
    assert score_archive(films, bucket, shard_rows=3).complete
    before = stored(bucket)
    fs.pipe_file("/scores/a/scores/00002.parquet", b"PAR1 and no more")
    assert progress_of(bucket).shards_done == 2 and score_archive(None, bucket).complete and stored(bucket) == before


def test_a_store_that_refuses_is_no_damage(films, bucket, monkeypatch):
    "Expired credentials must not make finished shards look missing."
    import fsspec

    score_archive(films, bucket, shard_rows=3)
    before, memory = stored(bucket), type(fsspec.filesystem("memory"))
    for name in ("cat_file", "open"):
        with monkeypatch.context() as m, pytest.raises(ScoreError, match="expired") as e:
            m.setattr(memory, name, Mock(side_effect=PermissionError("the token has expired")))
            score_archive(films, bucket)
        assert e.value.code == "forbidden" and stored(bucket) == before


def test_addresses_that_are_no_place_for_scores(films, tmp_path, bucket):
    with pytest.raises(ScoreError, match="needs the package|can't be read"):
        score_archive(films, "nothing://host/scores")
    with refusal(ScoreError, "unsupported"):
        merge(bucket, "s3://bucket/all.parquet")
