"""The worker that decodes untrusted files: its limits, its death, its surroundings."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import fuzz
import numpy as np
import pytest
from conftest import ROOT, refusal
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from xraypneu.data import decoder
from xraypneu.data.decoder import decode, warm_up
from xraypneu.data.image import ImageError, read_radiograph, to_square
from xraypneu.process import started

GREY = fuzz.GREY
PNG = fuzz.encode(Image.fromarray(GREY), "PNG")
PATH = "import sys; sys.path[:] = sys.argv[1:]; "
ALONE = ("__init__", "redact", "errors", "data/__init__", "data/image", "data/decoder")  # modules that decoding needs


def refused(source, code, text, **kw):
    "The `ImageError` that decoding raises."
    with refusal(ImageError, code, text) as e:
        decode(source, **kw)
    return e.value


def pids():
    "Of the workers of this process."
    return [w.process.pid for w in decoder._pool.all]


def gone(pid, seconds=10):
    "Wait until a process has ended."
    end = time.monotonic() + seconds
    while started(pid):
        assert time.monotonic() < end, f"{pid} is still there"
        time.sleep(0.02)
    return True


@pytest.fixture
def worker_with(monkeypatch):
    "Start workers that run some code before they serve."
    decoder._pool.close()

    def use(code):
        monkeypatch.setattr(
            decoder, "_MAIN", PATH + "from xraypneu.data import decoder, image; " + code + "; decoder.serve()"
        )

    yield use
    decoder._pool.close()


def python(code, *argv, **kw):
    "Run a new Python; what it printed."
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=120, **kw)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", list(fuzz.corpus()))
def test_a_worker_gives_what_read_radiograph_gives(format, tmp_path):
    for data in fuzz.corpus()[format]:
        (tmp_path / "a b").write_bytes(data)
        r = read_radiograph(data, min_side=16, with_colour=True)
        for source in (data, bytearray(data), tmp_path / "a b", str(tmp_path / "a b")):
            d = decode(source, 16, with_colour=True)
            assert (d.pixels == r.pixels).all() and (d.square == to_square(r.pixels, 16)).all()
            for name in ("width", "height", "mode", "format", "notes", "colour"):
                assert getattr(d, name) == getattr(r, name)
        d = decode(data, 16, keep_pixels=False)
        assert d.pixels is None and (d.square == to_square(r.pixels, 16)).all()


def test_a_square_alone_needs_no_copy_of_the_whole_picture(monkeypatch):
    seen, read = [], decoder.read_radiograph
    monkeypatch.setattr(decoder, "read_radiograph", lambda *args: seen.append(read(*args)) or seen[-1])
    job = {"min_side": 16, "name": None, "with_colour": True, "size": 16}
    data = bytearray(fuzz.encode(Image.fromarray(GREY), "JPEG"))
    (square,), (same, whole) = (decoder._work(job | {"keep_pixels": k}, data)[1] for k in (False, True))
    assert (square == same).all() and whole.shape == GREY.shape
    assert [r.pixels.shape for r in seen] == [(16, 16), GREY.shape]


def test_pictures_in_memory_need_no_worker():
    decoder._pool.close()
    for source in (GREY, Image.fromarray(GREY)):
        assert (decode(source, 16).square == to_square(GREY, 16)).all()
    refused(GREY.astype(int), "unsupported", "ambiguous")
    refused(None, "unsupported", "NoneType")
    assert not pids()


def test_errors_are_those_of_read_radiograph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    Path("text.png").write_text("hello")
    for source in ("none.png", "empty.png", "text.png", ".", "/dev/null", b"", b"hello", PNG[:50], "a\0b", "x" * 5000):
        with pytest.raises(ImageError) as ours:
            decode(source)
        with pytest.raises(ImageError) as theirs:
            read_radiograph(source)
        assert (str(ours.value), ours.value.code) == (str(theirs.value), theirs.value.code)
    assert refused(b"hello", "not_image", "text file", name="/secret/a\u202egnp.txt").name == "a\ufffdgnp.txt"


def test_names_that_are_not_utf8(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe \n.png"
    with open(path, "wb") as f:
        f.write(PNG)
    assert (decode(os.fsdecode(path)).pixels == GREY).all()
    with open(path, "wb") as f:
        f.write(b"hello")
    assert str(refused(os.fsdecode(path), "not_image", "text file")).isprintable()


def test_a_relative_path_means_the_folder_of_now(tmp_path, monkeypatch):
    decode(PNG)  # a worker that started elsewhere
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    assert (decode("a.png").pixels == GREY).all()


def test_a_folder_above_a_link_is_not_the_one_that_the_link_is_in(tmp_path, monkeypatch):
    for folder, data in (("real", PNG), ("here", b"another file")):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "a.png").write_bytes(data)
    (tmp_path / "here/link").symlink_to(tmp_path / "real/sub")
    assert (decode(tmp_path / "here/link/../a.png").pixels == GREY).all()
    monkeypatch.chdir(tmp_path / "here")
    assert (decode("link/../a.png").pixels == GREY).all()


def test_standard_input_is_ours_and_not_the_workers(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    code = "from xraypneu.data.decoder import decode; print(decode('/dev/stdin').width)"
    with open(tmp_path / "a.png", "rb") as f:
        assert python(code, stdin=f) == "96"


def test_the_largest_picture_fits_into_the_limits():
    sixteen = np.zeros((8000, 8000), np.uint16)
    sixteen[::100] = 5
    data = fuzz.encode(Image.fromarray(sixteen), "PNG", compress_level=1)
    d = decode(data, 64)
    assert d.pixels.shape == (8000, 8000) and d.pixels[:2, 0].tolist() == [255, 0]


# --- limits -----------------------------------------------------------------------------------------------------------


def endless():
    "A DICOM file whose JPEG 2000 has a box of length 0: pydicom steps over it for ever."
    jp2 = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\0free" + bytes(100)
    return fuzz.dicom(GREY, JPEG2000Lossless, pixel_data=encapsulate([jp2]))


def test_a_file_that_never_ends_is_refused_before_it_is_decoded():
    refused(endless(), "unreadable", "a box has no valid length")


# what the upfront check does not know
NO_CHECKS = "image._check_frame = lambda *a: None"


def test_cpu_time_is_limited(worker_with, monkeypatch):
    monkeypatch.setattr(decoder, "CPU_SECONDS", 0.3)
    worker_with(f"{NO_CHECKS}; decoder.CPU_SECONDS = 0.3")
    start = time.monotonic()
    e = refused(endless(), "limit", r"film\.dcm: decoding it takes more than the 0\.3 s of CPU time", name="film.dcm")
    assert e.hint and time.monotonic() - start < 8
    assert not pids() and (decode(PNG).pixels == GREY).all()


def test_wall_time_is_limited(monkeypatch):
    decode(PNG)
    (pid,) = pids()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(decoder, "WALL_SECONDS", 0.3)
    refused(PNG, "decoder", "takes more than 0.3 s. The computer is overloaded, or was suspended")
    assert gone(pid)
    monkeypatch.undo()
    assert (decode(PNG).pixels == GREY).all()


def test_who_waits_longer_gives_more_cpu_time(worker_with, monkeypatch):
    "On a slow computer, lossless JPEG 2000 of a large detector takes more than the page can wait for."
    monkeypatch.setattr(decoder, "CPU_SECONDS", 0.2)
    worker_with(
        "decoder.CPU_SECONDS = 0.2; read = decoder.read_radiograph; "
        "decoder.read_radiograph = lambda *a: (sum(range(40_000_000)), read(*a))[1]"
    )
    refused(PNG, "limit", r"more than the 0\.2 s of CPU time")
    assert (decode(PNG, seconds=600).pixels == GREY).all()


def test_a_film_of_a_large_detector_may_be_slow():
    "3,000 x 3,000 pixels of 12 bits in lossless JPEG 2000: 9 MB, and 1.3 s on a server. Some computers are slower."
    assert 4 * 1.3 < decoder.cpu_limit(9_000_000) < decoder.cpu_limit(128_000_000) < decoder.WALL_SECONDS


def test_a_large_file_to_a_worker_that_does_not_read(monkeypatch):
    decode(PNG)
    (pid,) = pids()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(decoder, "WALL_SECONDS", 0.3)
    refused(bytes(20_000_000), "decoder", "takes more than")
    assert gone(pid)


def test_a_worker_that_the_system_does_not_end_holds_nothing_up(monkeypatch, tmp_path):
    (tmp_path / "x.png").write_bytes(PNG)
    decode(PNG)
    (pid,) = pids()
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: None)  # as on a share that hangs, until it answers
    for name, value in (("WALL_SECONDS", 0.3), ("END_SECONDS", 0.2), ("MAX_STUCK", 1)):
        monkeypatch.setattr(decoder, name, value, raising=False)
    threading.Timer(5, os.kill, (pid, signal.SIGKILL)).start()
    start = time.monotonic()
    refused(tmp_path / "x.png", "decoder", r"x\.png: reading it takes more than 0\.3 s\. Its disk or share")
    refused(PNG, "decoder", "1 decoder processes wait for a disk or a share that does not answer")
    assert time.monotonic() - start < 3 and started(pid)
    assert gone(pid)
    monkeypatch.undo()
    assert (decode(PNG).pixels == GREY).all() and not decoder._pool.stuck


SLOW = "import time; read = decoder.read_bytes; decoder.BEAT_SECONDS = 0; "


def test_a_file_that_arrives_slowly_is_waited_for(worker_with, monkeypatch, tmp_path):
    "From a share over a VPN, or a drive in the cloud."
    (tmp_path / "x.png").write_bytes(PNG)
    beats = "[(time.sleep(0.2), arrived()) for _ in range(5)]"
    worker_with(SLOW + f"decoder.read_bytes = lambda path, arrived: ({beats}, read(path, arrived))[1]")
    monkeypatch.setattr(decoder, "WALL_SECONDS", 0.6)
    assert (decode(tmp_path / "x.png").pixels == GREY).all()
    monkeypatch.setattr(decoder, "READ_SECONDS", 0.0)  # nor for ever
    refused(tmp_path / "x.png", "decoder", "reading it takes more than")


def test_a_file_that_does_not_arrive_is_not_blamed_on_the_computer(worker_with, monkeypatch, tmp_path):
    (tmp_path / "x.png").write_bytes(PNG)
    worker_with(SLOW + "decoder.read_bytes = lambda *_: time.sleep(9)")
    monkeypatch.setattr(decoder, "WALL_SECONDS", 0.3)
    refused(tmp_path / "x.png", "decoder", "reading it takes more than 0.3 s. Its disk or share does not answer")


def test_only_a_file_that_is_being_read_gets_more_time(worker_with, monkeypatch):
    "Not one that came as bytes, whatever its worker says."
    say = "[(time.sleep(0.1), decoder._send(c, {'reading': True})) for _ in range(50)]"
    worker_with(f"import time, socket; c = socket.socket(fileno=0); c.sendall(b'1'); decoder._next_job(c); {say}")
    refused(PNG, "limit", "ended without an answer")


def test_what_reads_dicom_is_imported_before_its_time_counts(worker_with):
    "Where modules aren't compiled, the import alone took more than the CPU time of a small file, in each worker."
    imports = "e == 'import' and a[0].startswith('pydicom')"
    worker_with(
        "import os, signal, sys; sys.addaudithook(lambda e, a: "
        f"{imports} and signal.getitimer(signal.ITIMER_PROF)[0] and os._exit(7))"
    )
    d = decode(fuzz.dicom(GREY))
    assert (d.pixels == GREY).all() and d.format == "DICOM"


def test_the_caller_asks_nothing_of_the_disk(monkeypatch, tmp_path):
    (tmp_path / "x.png").write_bytes(PNG)
    decode(PNG)
    for name in ("stat", "lstat", "open"):  # each may wait for ever, and only a worker has a limit
        monkeypatch.setattr(os, name, lambda *_, **__: pytest.fail("the caller asked"))
    pixels = decode(tmp_path / "x.png").pixels
    monkeypatch.undo()
    assert (pixels == GREY).all()


def test_memory_is_limited(worker_with):
    if not Path("/proc/self/statm").exists():
        pytest.skip("no RLIMIT_AS here")
    worker_with("decoder.MEMORY_BYTES = 100_000_000")
    large = fuzz.encode(Image.new("RGB", (6000, 6000)), "PNG", compress_level=1)  # 144 MB decoded
    e = refused(large, "limit", "more than the 100 MB of memory", name="large.png")
    assert e.name == "large.png" and e.hint
    assert (decode(PNG).pixels == GREY).all()


def test_memory_that_ends_after_the_decoding_is_the_same_limit(monkeypatch):
    monkeypatch.setattr(decoder, "to_square", Mock(side_effect=MemoryError))
    job = dict(kind="bytes", name="large.png", size=224, min_side=224, with_colour=False, keep_pixels=True)
    reply, arrays = decoder._work(job, bytearray(PNG))
    e = decoder._answer(reply, job)
    assert (e.code, e.name, arrays) == ("limit", "large.png", [])
    assert e.what.endswith("of memory allowed") and e.hint


# --- death ------------------------------------------------------------------------------------------------------------


def test_a_file_whose_worker_is_killed_from_outside_is_tried_once_more():
    decode(PNG)
    (pid,) = pids()
    os.kill(pid, signal.SIGSTOP)  # it has the job, and doesn't get on
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(decode, PNG)
        time.sleep(0.2)
        assert not job.done()
        os.kill(pid, signal.SIGKILL)
        assert (job.result(30).pixels == GREY).all()
    assert pid not in pids()


def test_a_file_that_kills_its_worker_is_not_tried_for_ever(worker_with, tmp_path):
    log = tmp_path / "tries"
    log.write_text("")
    worker_with(
        f"import os; fd = os.open({str(log)!r}, os.O_WRONLY | os.O_APPEND); "
        "decoder.read_radiograph = lambda *a: os.kill(os.getpid(), 11)"
    )
    e = refused(PNG, "limit", r"x\.png: the decoder process ended without an answer, twice \(signal 11\)", name="x.png")
    assert e.hint and not pids()


def test_a_worker_that_the_system_kills_is_no_fault_of_the_file(worker_with):
    worker_with("import os; decoder.read_radiograph = lambda *a: os.kill(os.getpid(), 9)")
    assert refused(PNG, "decoder", r"the decoder process was killed twice \(signal 9\)").hint


def test_a_worker_that_cannot_start_is_no_fault_of_the_file(monkeypatch):
    decoder._pool.close()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    refused(PNG, "decoder", "can't be started")
    warm_up()  # leaves that to decode
    assert not pids()


def test_packages_that_are_replaced_are_no_fault_of_the_file(worker_with, monkeypatch):
    "`pip install` or `git checkout` during a long run: later films were damaged, and left out."
    worker_with("import sys; sys.modules['pydicom'] = None")
    refused(fuzz.dicom(GREY), "decoder", "x.dcm: the Python module pydicom.pixels can't be loaded. Pack", name="x.dcm")
    assert (decode(PNG).pixels == GREY).all()
    decoder._pool.close()
    monkeypatch.setattr(decoder, "_MAIN", "import no_such_module")
    refused(
        PNG, "decoder", r"x\.png: the decoder process ended while it started, twice \(exit status 1\)", name="x.png"
    )
    assert not pids()


def test_a_reader_that_cannot_be_loaded_is_no_fault_of_the_file(worker_with):
    "Pillow loads its readers late and is silent if it can't: the first TIFF after an upgrade counted as damaged."
    worker_with("import sys; sys.modules['PIL.TiffImagePlugin'] = None")
    refused(
        fuzz.encode(Image.fromarray(GREY), "TIFF"),
        "decoder",
        "ended while it started, twice .* Packages may have changed",
    )


def test_the_files_of_a_run_are_not_read_by_two_versions(tmp_path):
    "Workers that start after `git checkout` would read the later films in another way, or not understand the job."
    (tmp_path / "xraypneu/data").mkdir(parents=True)
    for name in ALONE:
        shutil.copy(ROOT / f"xraypneu/{name}.py", tmp_path / f"xraypneu/{name}.py")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from xraypneu.data import decoder, image
from xraypneu.data.decoder import decode
print(decode(sys.argv[2]).width)
decoder._pool.close()
with open(image.__file__, "a") as file:
    file.write("# another version")
try:
    decode(sys.argv[2])
except image.ImageError as e:
    print(e.code, e)
"""
    (tmp_path / "a.png").write_bytes(PNG)
    width, error = python(code, str(tmp_path), str(tmp_path / "a.png")).splitlines()
    assert width == "96" and error.startswith("decoder a.png: the decoder process ended while it started, twice")


def test_the_files_of_a_run_are_not_read_by_two_versions_of_pydicom(tmp_path, monkeypatch):
    "Nor by two of its codecs: pixels of a compressed DICOM file may depend on them."
    for name in ("pydicom", "pydicom-99.0.dist-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "pydicom/__init__.py").touch()
    assert (decode(PNG).pixels == GREY).all()
    decoder._pool.close()
    monkeypatch.syspath_prepend(tmp_path)  # as after `pip install`
    refused(PNG, "decoder", "ended while it started, twice .* Packages may have changed")


def test_an_idle_worker_ends_and_another_takes_its_place(worker_with):
    worker_with("decoder.IDLE_SECONDS = 0.1")
    decode(PNG)
    assert gone(pids()[0])
    assert (decode(PNG).pixels == GREY).all()


def test_a_worker_is_replaced_after_many_files(monkeypatch):
    decoder._pool.close()
    monkeypatch.setattr(decoder, "MAX_JOBS", 2)
    seen = []
    for _ in range(5):
        decode(PNG)
        seen += pids()
    assert len(set(seen)) == 3 or len(seen) == 3


def test_what_a_worker_says_is_checked(worker_with):
    lies = [b"\xff" * 100, b"\0\0\0\2{}", b"\0\0\0\2[]", b"\0\0\0\3abc"]
    lies += [
        struct.pack(">I", len(t)) + t for t in (json.dumps({"shape": s}).encode() for s in ([1, 10**9], [-1, 1], 5))
    ]
    for lie in lies:
        decoder._pool.close()
        worker_with(f"decoder._send = lambda channel, *a: channel.sendall({lie!r})")
        refused(PNG, "limit", "without an answer")


def test_ctrl_c_ends_the_file_and_leaves_nothing_behind():
    decode(PNG)
    (pid,) = pids()
    assert os.getpgid(pid) != os.getpgid(0)  # a terminal's Ctrl-C is not for the worker
    os.kill(pid, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, Mock(side_effect=KeyboardInterrupt))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            decode(PNG)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert gone(pid) and (decode(PNG).pixels == GREY).all()


HOLD = """
import os, sys, time
from xraypneu.data import decoder
decoder.decode(open(sys.argv[1], 'rb').read())
if sys.argv[2] == 'fork' and os.fork() == 0: time.sleep(60)
print(next(iter(decoder._pool.all)).process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_worker_does_not_outlive_a_process_that_is_killed(how, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "a.png"), how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as parent:
        pid = int(parent.stdout.readline())
        assert started(pid)
        parent.kill()
        parent.wait()
        assert gone(pid)
        if how == "fork":
            os.killpg(parent.pid, signal.SIGKILL)  # the fork, which we left alive


FORK = """
import os, sys
from xraypneu.data import decoder
data = open(sys.argv[1], 'rb').read()
width, first = decoder.decode(data).width, {w.process.pid for w in decoder._pool.all}
child = os.fork()
if child == 0:
    ok = decoder.decode(data).width == width and not first & {w.process.pid for w in decoder._pool.all}
    decoder._pool.close()
    os._exit(0 if ok else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert decoder.decode(data).width == width and first == {w.process.pid for w in decoder._pool.all}
print('ok')
"""


def test_a_fork_has_workers_of_its_own(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    assert python(FORK, str(tmp_path / "a.png")) == "ok"


def test_an_exit_leaves_no_worker(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    code = (
        "import sys; from xraypneu.data import decoder; decoder.decode(sys.argv[1]); "
        "print(*[w.process.pid for w in decoder._pool.all])"
    )
    assert not started(int(python(code, str(tmp_path / "a.png"))))


# --- surroundings -----------------------------------------------------------------------------------------------------


def test_many_threads_and_no_open_files_left():
    decoder._pool.close()
    jobs = [d for files in fuzz.corpus().values() for d in files] * 2 + [b"no picture", PNG[:60]] * 5

    def read(data):
        try:
            return decode(data, 16).square.tobytes()
        except ImageError as e:
            return str(e)

    expected = list(map(read, jobs))
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(read, jobs)) == expected
    assert len(pids()) <= len(os.sched_getaffinity(0))
    decoder._pool.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(4):
        decode(PNG)
        for pid in pids():
            os.kill(pid, signal.SIGKILL)
            gone(pid)
        decode(PNG)
        decoder._pool.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_worker_has_no_secret_and_no_network_library(monkeypatch):
    decoder._pool.close()
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    decode(fuzz.corpus()["dicom-jpeg"][0])
    (pid,) = pids()
    assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "_imaging" in maps and "onnxruntime" not in maps and "tensorflow" not in maps
    assert "Max core file size        0" in Path(f"/proc/{pid}/limits").read_text()


def test_a_zipped_package_and_spaces_in_its_path(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    with zipfile.ZipFile(folder / "x y.zip", "w") as z:
        for name in ALONE:
            z.write(ROOT / f"xraypneu/{name}.py", f"xraypneu/{name}.py")
    (folder / "a b.png").write_bytes(PNG)
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from xraypneu.data import decoder
print(decoder.__file__, decoder.decode(sys.argv[2]).width)
"""
    out = python(code, str(folder / "x y.zip"), str(folder / "a b.png"), cwd=folder)
    assert out == f"{folder}/x y.zip/xraypneu/data/decoder.py 96"


def test_a_notebooks_kernel_and_threads_that_are_daemons():
    out = []
    thread = threading.Thread(target=lambda: out.append(decode(PNG).width), daemon=True)
    thread.start()
    thread.join(60)
    assert out == [96]
    assert (decode(PNG).pixels == GREY).all()  # the worker lives on after the thread that started it


def test_messages_arrive_in_pieces():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        data = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8)
        sender = threading.Thread(target=decoder._send, args=(ours, {"a": 1}, data))
        sender.start()
        got = np.empty_like(data)
        assert decoder._receive(theirs, time.monotonic() + 10) == {"a": 1}
        decoder._fill(theirs, got, time.monotonic() + 10)
        sender.join()
        assert (got == data).all()
        with pytest.raises(TimeoutError):
            decoder._fill(theirs, bytearray(1), time.monotonic() + 0.1)


# --- fuzz -------------------------------------------------------------------------------------------------------------


def test_every_format_is_fuzzed():
    formats = {read_radiograph(d).format for files in fuzz.corpus().values() for d in files}
    assert formats == {"PNG", "JPEG", "TIFF", "BMP", "WEBP", "MPO", "DICOM"}


def test_damaged_files_are_refused_where_pillow_and_pydicom_refuse_them(tmp_path):
    summary = fuzz.run(tmp_path, 5, seed=0)
    failures = tmp_path / "failures.jsonl"
    assert not failures.exists(), failures.read_text()
    for format, counts in summary["formats"].items():
        assert counts["calls"] >= 20 and counts["failures"] == 0, format
    again = fuzz.run(tmp_path, 0.01, seed=0, formats=["png"])
    assert again["formats"]["png"]["calls"] > summary["formats"]["png"]["calls"]  # goes on where it stopped


def test_files_that_once_failed():
    for file in sorted(fuzz.CORPUS.glob("*.bin")):
        assert fuzz.check(file.read_bytes(), {"size": 16, "with_colour": True})[0] is None, file.name


def test_the_checks_of_the_fuzzer_see_failures(monkeypatch):
    def accepts(data, **kw):
        return decode(PNG)

    monkeypatch.setattr(fuzz.decoder, "decode", accepts)
    assert fuzz.check(PNG[:-40], {})[0].startswith("accepted, but:")
    assert fuzz.check(endless()[:-40], {})[0].startswith("accepted, but:")
    monkeypatch.setattr(fuzz.decoder, "decode", lambda *a, **k: 1 / 0)
    assert fuzz.check(PNG, {})[0].startswith("exception: ZeroDivisionError")
    assert fuzz.refuses(PNG) is None


@pytest.mark.parametrize("source", ["\ud800.png", "a" * 300_000, memoryview(np.zeros((0, 3), np.uint8))])
def test_sources_that_nothing_can_be_read_from(source):
    with pytest.raises(ImageError) as e:
        decoder.decode(source, 16)
    assert e.value.code in ("unreadable", "empty")


def test_a_memoryview_that_was_released():
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ImageError, match="released"):
        decoder.decode(view, 16)


def test_a_long_name_is_no_fault_of_the_file():
    with pytest.raises(ImageError, match="not a picture") as e:
        decoder.decode(b"abc", 16, name="n" * 300_000)
    assert e.value.code == "not_image" and len(e.value.name) <= 120


def test_modules_in_a_folder_of_films_are_not_run(tmp_path):
    "In a notebook, `%cd films` puts the folder first where modules are looked for."
    code = """
import os, sys
from xraypneu.data import decoder
os.chdir(sys.argv[1])
print(decoder.decode("a.png", 16).pixels.shape, sorted(os.listdir()))
"""
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / "a.png")
    for name in ("json.py", "numpy.py", "PIL.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, env=env
    )
    assert done.stdout == "(30, 40) ['PIL.py', 'a.png', 'json.py', 'numpy.py']\n", done


def test_a_working_folder_that_was_deleted(tmp_path):
    code = """
import os, sys
from xraypneu.data import decoder
from xraypneu.data.image import ImageError
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
print(decoder.decode(sys.argv[1], 16).pixels.shape)
try: decoder.decode("a.png", 16)
except ImageError as e: print(e.code)
"""
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / "a.png")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], cwd=tmp_path, capture_output=True, text=True, env=env
    )
    assert done.stdout.split("\n")[:2] == ["(30, 40)", "unreadable"], done
