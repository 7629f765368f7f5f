"""Files and folders are written all or nothing: kills at every step, full disks, closed folders, two writers."""

import errno
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from conftest import ROOT

from xraypneu import files
from xraypneu.files import previous, replacing, write_file, writing

# what is called by the functions under test; the n-th call kills the process before or after it does its work
KILLED = """
import os, signal, sys
from pathlib import Path
from xraypneu import files

CALLS = ("open", "fsync", "rename", "replace", "link", "mkdir", "chmod", "rmdir", "unlink")

def deadly(nth, after):
    seen = 0
    def wrap(real):
        def call(*args, **kw):
            nonlocal seen
            seen += 1
            own = seen
            if own == nth and not after: os.kill(os.getpid(), signal.SIGKILL)
            try: return real(*args, **kw)
            finally:
                if own == nth: os.kill(os.getpid(), signal.SIGKILL)
        return call
    for name in CALLS: setattr(os, name, wrap(getattr(os, name)))

def killed(work, nth, after):
    "Run `work` in a process that dies at its nth call; False where it got to its end."
    pid = os.fork()
    if not pid:
        deadly(nth, after)
        work()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert not os.WIFEXITED(status) or not os.WEXITSTATUS(status), status
    return os.WIFSIGNALED(status)

def through(work, check):
    "Kill at each step, before and after it; `check` what is there each time."
    steps = 0
    for after in (False, True):
        nth = 1
        while killed(work, nth, after):
            check(nth, after)
            nth += 1
        check(None, after)
        steps += nth - 1
    print(steps)
"""

FILE = (
    KILLED
    + """
target = Path(sys.argv[1]) / "film.json"

def work():
    files.write_file(target, "new " * 1000)

def check(nth, after):
    assert target.read_text() in ("old", "new " * 1000), (nth, after)
    target.write_text("old")

target.write_text("old")
through(work, check)
"""
)

NEW_FILE = (
    KILLED
    + """
target = Path(sys.argv[1]) / "map.png"

def work():
    files.write_file(target, "new " * 1000, replace=False)

def check(nth, after):
    assert not target.exists() or target.read_text() == "new " * 1000, (nth, after)
    target.unlink(missing_ok=True)

through(work, check)
"""
)

FOLDER = (
    KILLED
    + """
import shutil, time
target = Path(sys.argv[1]) / "bundle"

def fill(folder, word):
    folder.mkdir(exist_ok=True)
    for name in "ab": (folder / name).write_text(word)

def work():
    with files.replacing(target) as new: fill(new, "new")

def check(nth, after):
    there = target if target.exists() else files.previous(target)
    words = [(there / name).read_text() for name in "ab"]
    assert words in (["old"] * 2, ["new"] * 2), (nth, after, words)
    for left in target.parent.glob(".bundle.new-*"):
        for p in (left, *left.iterdir()): os.utime(p, (0, 0))
    with files.replacing(target) as new:  # the next run finds its way
        assert [(target / name).read_text() for name in "ab"] == words
        fill(new, "old")
    assert [p.name for p in target.parent.iterdir()] == ["bundle"], (nth, after, list(target.parent.iterdir()))

fill(target, "old")
through(work, check)
"""
)


@pytest.mark.parametrize("code, least", [(FILE, 10), (NEW_FILE, 10), (FOLDER, 40)])
def test_killed_at_every_step(tmp_path, code, least):
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least


def test_content_is_flushed_before_the_name_changes(tmp_path, monkeypatch):
    calls, fsync, replace, rename = [], os.fsync, os.replace, os.rename

    def of(fd):
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(("flush", of(fd))), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("name", os.path.basename(b))), replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append(("name", os.path.basename(b))), rename(a, b)))
    write_file(tmp_path / "a", "1")
    kinds = [kind for kind, _ in calls]
    assert kinds == ["flush", "name", "flush"] and calls[1] == ("name", "a") and calls[2] == ("flush", tmp_path.name)
    calls.clear()
    with replacing(tmp_path / "out") as new:
        (new / "a").write_text("1")
    assert [c for c in calls if c[1] in ("a", "out", tmp_path.name)] == [
        ("flush", "a"),
        ("name", "out"),
        ("flush", tmp_path.name),
    ]


def test_two_writers(tmp_path):
    texts = [str(i) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            list(pool.map(lambda text: write_file(tmp_path / "a", text), texts))
            assert (tmp_path / "a").read_text() in texts
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("links", [True, False])
def test_of_writers_that_replace_nothing_one_succeeds(tmp_path, monkeypatch, links):
    "exFAT and some shares have no links: there, what was written before stays."
    if not links:
        monkeypatch.setattr(os, "link", Mock(side_effect=PermissionError(errno.EPERM, "no links")))

    def written(text):
        try:
            write_file(tmp_path / "a", text, replace=False)
        except FileExistsError as e:
            assert str(tmp_path / "a") in str(e)
            return False
        return True

    texts = [str(i) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8 if links else 1) as pool:
        done = list(pool.map(written, texts))
    assert done.count(True) == 1 and (tmp_path / "a").read_text() == texts[done.index(True)]
    assert os.listdir(tmp_path) == ["a"]


def test_a_writer_at_work_is_not_disturbed(tmp_path):
    "However long it takes: its folder is locked."
    target = tmp_path / "out"
    with replacing(target) as new:
        (new / "a").write_text("1")
        for p in (new, new / "a"):
            os.utime(p, (0, 0))
        with replacing(target) as other:
            (other / "a").write_text("2")
        assert (new / "a").read_text() == "1"
    assert (target / "a").read_text() == "1" and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("umask, mode", [(0o002, 0o775), (0o022, 0o755), (0o077, 0o700)])
def test_a_new_folder_is_for_whom_the_umask_says(tmp_path, umask, mode):
    "A group that shares a project has a umask of 002: in folders of 755 nobody else could repeat a stage."
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode and os.listdir(tmp_path) == ["out"]


def test_mode_is_kept(tmp_path):
    file, folder = tmp_path / "a", tmp_path / "out"

    def mode(p):
        return stat.S_IMODE(p.stat().st_mode)

    before = os.umask(0o027)
    try:
        assert mode(write_file(file, "1")) == 0o640
    finally:
        os.umask(before)
    file.chmod(0o600)
    assert mode(write_file(file, "2")) == 0o600
    with writing(file):  # what is written is private before it takes the file's place
        assert [mode(p) for p in tmp_path.glob(".a.*.tmp")] == [0o600]
    with replacing(folder):
        pass
    assert mode(folder) == 0o755
    folder.chmod(0o2770)
    with replacing(folder):
        pass
    assert mode(folder) == 0o2770


def test_what_a_killed_program_left(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_swept", set())
    old, young, other = (tmp_path / name for name in (".a.0123456789ab.tmp", ".b.0123456789ab.tmp", ".mine.tmp"))
    for p in (old, young, other):
        p.write_text("x")
    for p in (old, other):
        os.utime(p, (0, time.time() - 4000))
    write_file(tmp_path / "c", "1")
    assert {p.name for p in tmp_path.iterdir()} == {young.name, other.name, "c"}


def test_a_file_that_is_being_written_is_not_removed_whatever_the_clocks_say(tmp_path, monkeypatch):
    "A share's clock was more than an hour behind: another program took the file for a killed program's."
    with writing(tmp_path / "a") as out:
        out.write(b"1")
        for tmp in tmp_path.glob(".a.*.tmp"):
            os.utime(tmp, (0, 0))
        monkeypatch.setattr(files, "_swept", set())
        write_file(tmp_path / "b", "2")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_folder_behind_a_link(tmp_path):
    "The link stays, and what it leads to is replaced."
    (tmp_path / "big").mkdir()
    (tmp_path / "out").symlink_to("big/out")
    for word in ("1", "2"):
        with replacing(tmp_path / "out") as new:
            (new / "a").write_text(word)
        assert (tmp_path / "out").is_symlink() and (tmp_path / "big/out/a").read_text() == word
    assert os.listdir(tmp_path / "big") == ["out"] and previous(tmp_path / "out") == tmp_path / "big/.out.old"


# --- no room


LIMITED = """
import resource, sys
from pathlib import Path
from xraypneu.files import replacing, write_file
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)
try: write_file(folder / "a", b"x" * 500_000)
except OSError as e: print(e.errno, e)
try:
    with replacing(folder / "out") as new: (new / "a").write_bytes(b"x" * 500_000)
except OSError as e: print(e.errno, e)
"""


def unchanged(folder):
    "The old file and folder, and nothing else."
    assert (folder / "a").read_text() == (folder / "out/a").read_text() == "old"
    assert sorted(os.listdir(folder)) == ["a", "out"]


def old(folder):
    write_file(folder / "a", "old")
    with replacing(folder / "out") as new:
        (new / "a").write_text("old")


def test_a_limit_on_files(tmp_path):
    "Works without root too."
    old(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    file, folder = done.stdout.splitlines()
    assert file.startswith(str(errno.EFBIG)) and "500,000 bytes were to be written" in file
    assert "Make room" in file and f"{tmp_path}/a" in file
    assert folder.startswith(str(errno.EFBIG)) and "Make room" in folder and f"{tmp_path}/out" in folder
    unchanged(tmp_path)


def test_a_full_disk(small_disk):
    old(small_disk)
    with pytest.raises(OSError, match="2,000,000 bytes were to be written.*bytes are free.*Make room.*disk/a") as e:
        write_file(small_disk / "a", b"x" * 2_000_000)
    assert e.value.errno == errno.ENOSPC
    unchanged(small_disk)
    with pytest.raises(OSError, match="bytes are free.*Make room.*disk/out") as e, replacing(small_disk / "out") as new:
        (new / "a").write_bytes(b"x" * 2_000_000)
    assert e.value.errno == errno.ENOSPC
    unchanged(small_disk)


def test_a_disk_that_can_only_be_read(small_disk):
    old(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for work in (lambda: write_file(small_disk / "a", "new"), lambda: replacing(small_disk / "out").__enter__()):
        with pytest.raises(OSError, match="can't write there.*owner or mode") as e:
            work()
        assert e.value.errno == errno.EROFS
    unchanged(small_disk)


def test_a_folder_of_someone_else(tmp_path):
    "In a process that gives root's rights up, where it has them."
    code = (
        "import os, sys\nfrom xraypneu.files import write_file\nif not os.geteuid(): os.setuid(65534)\n"
        "try: write_file(sys.argv[1] + '/a', 'new')\nexcept PermissionError as e: print(e)"
    )
    old(tmp_path)
    tmp_path.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60, cwd=ROOT)
    tmp_path.chmod(0o755)
    assert "can't write there" in done.stdout and f"{tmp_path}/a" in done.stdout, done
    unchanged(tmp_path)


def test_a_mount_point_is_refused_before_the_work(tmp_path, monkeypatch):
    "The system doesn't rename it: before, the results of hours were lost in the end."
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "out")
    with pytest.raises(OSError, match="Name a folder in it") as e:
        with replacing(tmp_path / "out"):
            raise AssertionError("begun")
    assert e.value.errno == errno.EBUSY and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".", "..", "../../link"])
def test_the_working_folder_is_not_replaced(tmp_path, monkeypatch, name):
    "Before, `xraypneu external --out .` left the shell in a deleted folder; nor is one above it replaced."
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    monkeypatch.chdir(tmp_path / "a/b")
    with pytest.raises(OSError, match="The working folder can't be replaced") as e:
        with replacing(name):
            raise AssertionError("begun")
    assert e.value.errno == errno.EBUSY and {p.name for p in tmp_path.iterdir()} == {"a", "link"}


def test_an_error_of_the_caller_is_told_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere") as e, writing(tmp_path / "a"):
        open(tmp_path / "nowhere")
    assert e.value.filename.endswith("nowhere") and os.listdir(tmp_path) == []


@pytest.mark.parametrize("free, written", [(1 << 20, False), (1 << 30, True)])
def test_no_compiled_module_is_cut_off_by_a_full_disk(free, written):
    "Python 3.11 doesn't notice it, and then `EOFError: marshal data too short` was all that a command said."
    code = (
        "import os, sys\nfrom types import SimpleNamespace\n"
        f"os.statvfs = lambda path: SimpleNamespace(f_bavail={free}, f_frsize=1)\n"
        "import xraypneu\nprint(not sys.dont_write_bytecode)"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(written)
