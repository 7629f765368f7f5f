"""Fetching data: faulty and slow servers, hostile archives, full disks, kills, and Kaggle."""

import base64
import gzip
import hashlib
import io
import os
import re
import shutil
import signal
import socketserver
import ssl
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from conftest import ROOT, Answers, serving, until

from xraypneu import cli
from xraypneu.data.fetch import KAGGLE, Fetched, FetchError, Limits, fetch_kaggle, fetch_url, patient, unpack
from xraypneu.files import sha256_of

NAMES = [f"{s}/{c}/{i}.jpeg" for s in ("train", "test") for c in ("NORMAL", "PNEUMONIA") for i in range(3)]
SECRET = "s3cr3t-pa55"
BASIC = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
ARCHIVES = "http://kaggle.invalid/api/v1/datasets/download/"


def zipped(members, compression=zipfile.ZIP_STORED) -> bytes:
    "A zip of {name or ZipInfo: bytes}."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as z:
        for name, data in members.items():
            z.writestr(name, data)
    return out.getvalue()


def tarred(members, mode="w") -> bytes:
    "A tar of (TarInfo or name, bytes)."
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as t:
        for m, data in members:
            m = tarfile.TarInfo(m) if isinstance(m, str) else m
            m.size = len(data) if m.isreg() else 0
            t.addfile(m, io.BytesIO(data))
    return out.getvalue()


def films(prefix="chest_xray/", size=4000):
    "Members of a data set, each with bytes of its own that don't compress."
    return {prefix + n: os.urandom(size) for n in NAMES}


BIG = zipped(films(size=100_000))  # 1.2 MB


class Site(ThreadingHTTPServer):
    "One file at /data.zip, served as the test wants it."

    ranges, tag, length, kind, squeeze = True, '"v1"', True, "application/zip", False
    drops, keep, pace, stall, most = 0, 1 / 3, 0, False, None
    login, moved, careless, ended = None, None, False, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.statuses, self.seen = BIG, [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/data.zip"

    def handle_error(self, *a):
        pass  # a client that was killed


class Handler(Answers):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        s = self.server
        s.seen.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if s.statuses:
            return self.say(s.statuses.pop(0))
        if self.path.startswith(("/moved", ARCHIVES)):
            return self.say(302, {"Location": s.moved or f"/data.zip?sig={SECRET}"})
        if self.path.startswith("/endless"):
            return self.endless()
        if self.path.startswith("/loop"):
            return self.say(302, {"Location": "/loop"})
        if s.login and self.headers.get("Authorization") != "Basic " + base64.b64encode(s.login.encode()).decode():
            return self.say(401, {"WWW-Authenticate": "Basic"})
        self.send(s.data)

    def endless(self):
        "Bytes without a number of them, until the client has enough. With a redirect, if there is one."
        self.send_response(302 if self.server.moved else 200)
        self.send_header("Location", self.server.moved or "")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for _ in range(4000):  # 256 MB
            self.wfile.write(b"PK\3\4" * (1 << 14))
        self.server.ended = True

    def send(self, data):
        s, start = self.server, 0
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, s.tag) or s.careless
        if asked and s.ranges and same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return self.say(416, {"Content-Range": f"bytes */{len(data)}"})
            self.send_response(206)
            whole, data = len(data), data[: start + s.most] if s.most else data
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{whole}")
        else:
            self.send_response(200)
        if s.squeeze and "gzip" in self.headers.get("Accept-Encoding", ""):
            data = gzip.compress(data)
            self.send_header("Content-Encoding", "gzip")
        if s.tag:
            self.send_header("ETag", s.tag)
        if s.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if s.length:
            self.send_header("Content-Length", str(len(data) - start))
        else:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", s.kind)
        stop = len(data)
        if s.drops:
            s.drops, stop, self.close_connection = s.drops - 1, start + int((len(data) - start) * s.keep), True
        self.end_headers()
        if s.stall:
            time.sleep(3)
        for at in range(start, stop, 1 << 14):
            self.wfile.write(data[at : min(at + (1 << 14), stop)])
            if s.pace:
                time.sleep(s.pace)
        if not s.length:
            self.close_connection = True


@pytest.fixture
def site():
    with serving(server := Site()):
        yield server


@pytest.fixture
def to(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data/chest_xray"


def put(to: Path, data: bytes) -> Path:
    "An archive beside the folder of the target."
    path = to.parent.with_name("archive")
    path.write_bytes(data)
    return path


def fetch(url, to, **kw) -> Fetched:
    "From an address; from an archive of these bytes; from Kaggle, where there is neither."
    kw = {"wait": 0.01, "timeout": 5, **kw}
    url = put(to, url) if isinstance(url, bytes) else url
    return fetch_url(url, to, **kw) if url else fetch_kaggle(to=to, **kw)


def fails(url, to, *words, **kw) -> str:
    "The message of a fetch that must fail, and leave nothing at the target."
    with pytest.raises(FetchError) as e:
        fetch(url, to, **kw)
    for w in words:
        assert w in str(e.value), e.value
    assert e.value.message and e.value.hint and SECRET not in str(e.value) and not to.exists()
    assert e.value.__cause__ is None and e.value.__suppress_context__ or e.value.__context__ is None
    return str(e.value)


def left(to) -> list[str]:
    "What lies beside the target."
    return sorted(p.name for p in to.parent.iterdir() if p != to)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- downloads


def test_download(site, to, capsys):
    done = fetch(site.url, to, sha256=f" SHA256:{sha(BIG).upper()}\n")  # as people paste it
    assert done == Fetched(to, 12, 1_200_000, sha(BIG), site.url)
    assert sorted(p.relative_to(to).as_posix() for p in to.rglob("*.jpeg")) == sorted(NAMES)
    assert left(to) == [] and capsys.readouterr() == ("", "")  # no bar where there is no terminal


def test_checksum_that_nobody_gave_is_said(site, to, capsys):
    assert fetch(site.url, to).sha256 == sha(BIG)
    out, err = capsys.readouterr()
    assert sha(BIG) in err and "not verified" in err and out == ""


def test_progress_goes_to_stderr(site, to, capsys):
    fetch(site.url, to, sha256=sha(BIG), progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "downloading" in err and "unpacking" in err and "100%" in err


def test_wrong_checksum(site, to):
    said = fails(site.url, to, "another checksum", sha(BIG), "0" * 64, sha256="0" * 64)
    assert "Get it again" not in said and left(to) == []


def test_goes_on_after_a_drop(site, to):
    site.drops = 3
    assert fetch(site.url, to, sha256=sha(BIG), retries=1).files == 12  # progress each time: never two failures without
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for _, r, _ in site.seen if r]
    assert len(site.seen) == 4 and starts == sorted(set(starts)) and starts[0] >= len(BIG) // 4


@pytest.mark.parametrize(
    "odd, asked",
    [
        ({"ranges": False, "drops": 2}, 3),
        ({"drops": 1, "most": 400_000}, 4),
        ({"squeeze": True}, 1),
        ({"length": False}, 1),
        ({"statuses": [500, 503, 429]}, 4),
    ],
    ids=["no ranges", "a piece at a time", "compresses", "no length", "trouble that passes"],
)
def test_servers_that_are_odd(site, to, odd, asked):
    vars(site).update(odd)
    assert fetch(site.url, to, sha256=sha(BIG)).files == 12 and len(site.seen) == asked


def test_gives_up_where_nothing_gets_through(site, to):
    site.ranges, site.drops = False, 99
    fails(site.url, to, "the connection dropped", "resumes where it stopped", retries=2)
    assert len(site.seen) <= 4  # the first makes progress, then three that don't


def test_a_file_that_changed_is_not_continued(site, to):
    site.drops = 1
    fails(site.url, to, "dropped", retries=0)
    changed = zipped(films(size=90_000))
    site.data, site.tag = changed, '"v2"'
    assert fetch(site.url, to).sha256 == sha(changed)
    assert site.seen[-1][1]  # it did ask to go on


def test_a_part_of_another_file(site, to):
    "A server that doesn't look at If-Range, and says with the part that it is of a newer file: no splice of the two."
    old, new = (tarred([(n, bytes([v]) * 50_000) for n in NAMES]) for v in (1, 2))
    site.data, site.drops, site.careless = old, 1, True
    fails(site.url, to, "connection dropped", retries=0)
    site.data, site.tag = new, '"v2"'
    assert fetch(site.url, to).sha256 == sha(new)
    assert site.seen[-1][1] is None  # it was asked for again, from the beginning


@pytest.mark.parametrize("address", ["http://[::1", "http://\xff\xfe/data.zip", "//[bad]/", "http://127.0.0.1:99999/"])
@pytest.mark.parametrize("sha256", [None, "0" * 64])
def test_redirected_to_no_address(site, to, address, sha256):
    site.moved = address
    message = fails(site.url.replace("/data.zip", "/moved"), to, sha256=sha256, retries=0)
    assert "checksum" not in message and "None" not in message


def test_without_anything_to_compare(site, to):
    "No ETag: the rest is asked for only if a checksum tells whether it fits."
    site.tag, site.drops = None, 1
    fails(site.url, to, "dropped", retries=0)
    site.drops = 1
    fails(site.url, to, "dropped", retries=0)
    assert [r for _, r, _ in site.seen] == [None, None]
    assert fetch(site.url, to, sha256=sha(BIG)).files == 12 and site.seen[-1][1]


@pytest.mark.parametrize("more, asked", [(b"", 2), (b"more", 3)])
def test_all_was_there_but_the_end(site, to, more, asked):
    "Killed between the last byte and the checksum: it asks for the rest, and there is none. Nor is more than all kept."
    site.drops, site.keep = 1, 1 / 2
    fails(site.url, to, retries=0)
    next(to.parent.glob(".*/*/*.part")).write_bytes(BIG + more)
    assert fetch(site.url, to, sha256=sha(BIG)).files == 12 and len(site.seen) == asked


def test_a_host_that_sends_for_ever(site, to):
    start = time.monotonic()
    words = "sends more than allowed, without stating its size", "the limit is 5.0 MB"
    fails(site.url.replace("data.zip", "endless"), to, *words, limits=Limits(archive=5_000_000))
    assert time.monotonic() - start < 10 and left(to) == []
    site.moved = site.url  # nor is read what comes with a redirect
    assert fetch(site.url.replace("data.zip", "endless"), to).files == 12 and not site.ended


def test_a_file_that_is_too_long(site, to):
    fails(site.url, to, "is not downloaded: it has 1.2 MB", "the limit is 1.0 MB", limits=Limits(archive=10**6))
    assert left(to) == []
    site.drops = 1
    fails(site.url, to, "dropped", retries=0)
    fails(site.url, to, "is not downloaded", limits=Limits(archive=10**6))  # nor continued
    assert left(to) == [] and fetch(site.url, to, limits=Limits(archive=len(BIG))).files == 12


@pytest.mark.parametrize(
    "kaggles, status, words, asked",
    [
        (False, 401, "~/.netrc", 1),
        (False, 403, "Ask its owner", 1),
        (False, 404, "there is nothing", 1),
        (False, 410, "there is nothing", 1),
        (False, 400, "answered 400", 1),
        (False, 416, "answered 416", 1),
        (False, 500, "is temporarily unavailable", 3),
        (False, 503, "is temporarily unavailable", 3),
        (True, 401, "access_token", 1),
        (True, 403, "accept its terms", 1),
        (True, 404, "Check the name", 1),
        (True, 500, "Try later", 3),
        (True, 429, "Try later", 3),
    ],
)
def test_refusals(kaggle, to, kaggles, status, words, asked):
    kaggle.statuses = [status] * 9
    url, where = (None, f"Kaggle's data set {KAGGLE}") if kaggles else (kaggle.url, kaggle.url)
    fails(url, to, str(status), words, where, retries=2)
    assert len(kaggle.seen) == asked and left(to) == []


def test_an_archive_in_the_folder_that_is_replaced_stays(to):
    "It was deleted with the folder, although `fetch` leaves an archive where it is."
    archive = to / "downloads/data.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(zipped(films()))
    with pytest.raises(FetchError, match="data.zip lies in the target .* Move it out of that folder"):
        fetch(archive, to, force=True)
    assert archive.is_file()


def test_a_download_that_another_user_put_there(site, tmp_path, monkeypatch):
    "In a folder where everybody may write, as /scratch on a cluster. It was taken for an earlier download."
    shared = tmp_path / "scratch"
    shared.mkdir()
    planted = shared / ".x.download" / hashlib.sha256(site.url.encode()).hexdigest()[:12] / "data.zip"
    planted.parent.mkdir(parents=True)
    other = zipped(films(size=100))
    planted.write_bytes(other)
    shared.chmod(0o1777)
    monkeypatch.setattr(os, "getuid", lambda: planted.stat().st_uid + 1)
    fails(site.url, shared / "x", ".x.download", "belongs to another user", "a folder of your own")
    assert not (shared / "x").exists()
    shared.chmod(0o775)  # a group goes on with what one of it began
    assert fetch(site.url, shared / "x").sha256 == sha(other)


def test_password_is_used_and_never_shown(site, to, capfd):
    site.login = f"me:{SECRET}"
    address = site.url.replace("//", f"//me:{SECRET}@")
    site.statuses = [500]
    done = fetch(address, to)
    assert done.source == site.url and SECRET not in repr(done)
    for code in (401, 403, 404, 500):
        site.statuses = [code]
        fails(address, to.with_name("other"), str(code), retries=0)
    fails(site.url.replace("//", f"//you:{SECRET}@"), to.with_name("other"), "user name and password")
    fails(address + "?token=" + SECRET, to.with_name("other"), "checksum", sha256="0" * 64)
    fails(f"http://me:{SECRET}@127.0.0.1:1/x?sig={SECRET}", to.with_name("other"), "refused", retries=0)
    fails(f"me:{SECRET}@host/data.zip", to.with_name("other"), "no file")
    assert SECRET not in "".join(capfd.readouterr())
    assert not any(
        SECRET in p.name or (p.is_file() and SECRET in p.read_text(errors="replace")) for p in to.parent.rglob("*")
    )


def test_redirect(site, to, capfd, monkeypatch):
    assert fetch(site.url.replace("data.zip", "moved"), to, sha256=sha(BIG)).files == 12
    fails(site.url.replace("data.zip", "loop"), to.with_name("other"), "too many redirects", retries=0)
    site.drops = 99
    site.ranges = False
    fails(site.url.replace("data.zip", "moved"), to.with_name("third"), "dropped", retries=0)
    monkeypatch.setenv("https_proxy", "http://")
    site.moved = f"https://films.example.org/a.zip?sig={SECRET}"
    fails(site.url.replace("data.zip", "moved"), to.with_name("third"), "the proxy set in the environment", retries=0)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_server_that_says_nothing(site, to):
    site.stall = True
    start = time.monotonic()
    fails(site.url, to, "no answer within 0.3 s", timeout=0.3, retries=1)
    assert time.monotonic() - start < 3


SLOW = {  # what a host sends at once, and then again and again
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "the size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;", b"a"),
    "content": (b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: "x"\r\n\r\nPK\3\4', b"a"),
    "a byte for each question": (b'HTTP/1.1 206 OK\r\nContent-Length: 1\r\nETag: "x"\r\n', b""),
}


class Slow(socketserver.BaseRequestHandler):
    "A host that always sends something and never comes to an end."

    def handle(self):
        asked = self.request.recv(1 << 16).decode()
        first, again = self.server.sends
        if not again:
            start = int(found[1]) if (found := re.search("bytes=([0-9]+)-", asked)) else 0
            self.request.sendall(first + f"Content-Range: bytes {start}-{start}/1000000\r\n\r\nP".encode())
            return
        self.request.sendall(first)
        try:
            while not time.sleep(0.02):
                self.request.sendall(again)
        except OSError:
            pass


@pytest.fixture(params=SLOW)
def slow(request):
    "The address of such a host."
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow)
    server.sends = SLOW.get(request.param, request.param)
    with serving(server) as address:
        yield f"{address}/data.zip"


def test_a_host_that_sends_next_to_nothing(slow, to):
    code = (
        "import sys; from xraypneu.data.fetch import fetch_url; "
        "fetch_url(sys.argv[1], sys.argv[2], sha256='0' * 64, timeout=0.3, retries=1, wait=0.01)"
    )
    done = subprocess.run([sys.executable, "-c", code, slow, str(to)], capture_output=True, text=True, timeout=20)
    assert "FetchError" in done.stderr and "can't be downloaded" in done.stderr and not to.exists()


def test_whoever_reads_may_take_a_rest(site):
    with patient(requests.Session(), 0.1).get(site.url, stream=True, timeout=0.1) as r:
        time.sleep(0.5)
        assert r.raw.read() == BIG


def test_a_web_page_is_no_archive(site, to):
    site.data, site.kind = b"<!DOCTYPE html><html>log in</html>", "text/html"
    fails(site.url, to, "data.zip is a web page", "login")
    site.data = b"nothing known"
    fails(site.url, to, "neither a zip nor a tar")
    assert left(to) == []


@pytest.mark.parametrize(
    "url, words",
    [
        ("http://127.0.0.1:1/data.zip", "connection refused"),
        ("http://no-such-host.invalid/data.zip", "can't be resolved"),
        (None, "the proxy doesn't respond"),  # Kaggle
    ],
)
def test_no_network(kaggle, to, url, words, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1,invalid")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr("xraypneu.data.fetch._ARCHIVES", ARCHIVES.replace("invalid", "example"))
    fails(url, to, url or KAGGLE, words, "xraypneu run", "xraypneu fetch path/to/archive.zip", retries=1)
    assert left(to) == []


@pytest.fixture
def secure(site, tmp_path, monkeypatch):
    "The site again behind TLS, with a certificate that only this test trusts."
    cert = tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=127.0.0.1"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", cert, "-out", tmp_path / "public.pem"]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    cert.write_text(cert.read_text() + (tmp_path / "public.pem").read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert)
    server = Site()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield server, server.url.replace("http:", "https:"), cert


def test_tls(secure, site, to, monkeypatch):
    server, url, cert = secure
    for address in (url, site.url.replace("http:", "https:")):  # a certificate that nobody trusts, and none
        fails(address, to, "certificate can't be verified", retries=0)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    fails(url, to, "/nowhere/ca.pem", retries=0)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
    assert fetch(url, to).files == 12
    server.moved = site.url
    fails(url.replace("data.zip", "moved"), to.with_name("other"), "without encryption", "sha256")
    # the checksum makes that safe
    assert fetch(url.replace("data.zip", "moved"), to, sha256=sha(BIG), force=True).files == 12


def test_encryption_is_not_given_up_on_the_way(secure, site, to, monkeypatch):
    "From https to http and back: what stood in between could have sent us anywhere."
    server, url, cert = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
    server.moved, site.moved = site.url.replace("data.zip", "moved"), url
    fails(url.replace("data.zip", "moved"), to, "redirects to an address without encryption", "sha256")
    assert site.seen == [] and len(server.seen) == 1
    assert fetch(url.replace("data.zip", "moved"), to, sha256=sha(BIG)).files == 12 and len(site.seen) == 1
    server.moved = "ftp://127.0.0.1/data.zip"
    fails(url.replace("data.zip", "moved"), to.with_name("other"), "neither https nor http")


@pytest.fixture
def two_sites(site):
    "A site, and one of another name on this machine."
    with serving(server := Site()):
        yield site, server, server.url.replace("127.0.0.1", "localhost")


def test_credentials_stay_with_their_host(two_sites, to, tmp_path, monkeypatch, capfd):
    site, other, elsewhere = two_sites
    start = site.url.replace("http://", f"http://me:{SECRET}@").replace("data.zip", "moved")
    site.moved = elsewhere
    assert fetch(start, to).files == 12
    assert site.seen[0][2] == BASIC and [s[2] for s in other.seen] == [None]
    other.moved, site.moved = site.url, elsewhere.replace("data.zip", "moved")  # there and back
    assert fetch(start, to, force=True).files == 12
    assert [s[0] for s in site.seen] == ["/moved", "/moved", "/data.zip"] and site.seen[2][2] is None
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {SECRET}\ndefault login anyone password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    site.moved = elsewhere
    assert fetch(start.replace(f"me:{SECRET}@", ""), to, force=True).files == 12
    assert site.seen[-1][2] == BASIC and other.seen[-1][2] is None
    assert SECRET not in "".join(capfd.readouterr())


def test_a_password_beyond_latin_1(site, to, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    for text, sent in (("schön", "schön".encode("latin-1")), ("€uro", "€uro".encode())):
        netrc.write_text(f"machine 127.0.0.1 login me password {text}\n", encoding="utf-8")
        netrc.chmod(0o600)
        address = site.url.replace("http://", f"http://me:{text}@")
        for url in (site.url, address):
            assert fetch(url, to, force=True).files == 12
            assert site.seen[-1][2] == "Basic " + base64.b64encode(b"me:" + sent).decode()
    netrc.write_bytes("machine 127.0.0.1 login me password schön\n".encode("latin-1"))
    shutil.rmtree(to)
    fails(site.url, to, "~/.netrc", "UTF-8", retries=0)


@pytest.mark.parametrize(
    "proxy",
    [
        f"socks5h://me:{SECRET}@127.0.0.1:1",
        f"me:{SECRET}@127.0.0.1:1",
        f"http://me:{SECRET}@127.0.0.1:99999",
        f"http://me:{SECRET}@",
        "http://:@:",
        "http://",
    ],
)
def test_a_proxy_that_cannot_be_used_is_not_blamed_on_the_address(to, proxy, monkeypatch):
    monkeypatch.setattr("urllib3.contrib.socks", None, raising=False)
    monkeypatch.setitem(sys.modules, "socks", None)  # PySocks, which an environment may have
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    fails("http://films.example.org/a.zip", to, "the proxy", "https_proxy", retries=0)


@pytest.mark.parametrize(
    "url, words",
    [
        ("ftp://me:s3cr3t-pa55@host/a.zip", "not ftp"),
        ("http://me:s3cr3t-pa55@h:x/a", "is not valid"),
        ("http://[::1/a", "is not valid"),
        ("s3://bucket/a.zip", "not s3"),
    ],
)
def test_addresses(to, url, words):
    fails(url, to, words)


def test_a_home_that_nobody_knows(to, monkeypatch):
    "In a container of a user without a name there is none."
    fails("~nobody-of-that-name/a.zip", to, "there is no file")
    to.parent.mkdir(exist_ok=True)
    monkeypatch.chdir(to.parent)
    fails(ROOT / "README.md", Path("~nobody-of-that-name"), "neither a zip")


@pytest.mark.parametrize("value", ["", "abc", "g" * 64, "md5:" + "0" * 32])
def test_a_checksum_that_is_none(to, value):
    fails("http://127.0.0.1:1/a", to, "64 digits", sha256=value)


# --- kills


def start(code, *args):
    "Run lines of Python with the module imported."
    lines = "import sys\nfrom pathlib import Path\nfrom xraypneu.data.fetch import *\n" + code
    return subprocess.Popen(
        [sys.executable, "-c", lines, *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_when(process, condition):
    "SIGKILL at the moment the condition holds."
    until(condition, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def test_goes_on_after_a_kill(site, to):
    site.pace = 0.02
    process = start("fetch_url(sys.argv[1], sys.argv[2], timeout=5)", site.url, to)
    kill_when(process, lambda: sum(p.stat().st_size for p in to.parent.glob(".*/*/*.part")) > 300_000)
    assert not to.exists()
    have = next(to.parent.glob(".*/*/*.part")).stat().st_size
    site.pace, site.statuses = 0, [500]
    fails(site.url, to, "unavailable", retries=0)
    assert sorted(p.name for p in to.parent.glob(".*/*/*")) == ["data.zip.part", "data.zip.part.json"]
    assert fetch(site.url, to).sha256 == sha(BIG)
    assert site.seen[-1][1] == f"bytes={have}-" and len(site.seen) == 3 and left(to) == []


@pytest.mark.parametrize("old", [False, True])
def test_killed_while_unpacking(to, tmp_path, old):
    archive = tmp_path / "many.zip"
    archive.write_bytes(
        zipped({f"train/{c}/{i}.jpeg": b"%d" % i for c in ("NORMAL", "PNEUMONIA") for i in range(1500)})
    )
    if old:
        to.mkdir()
        (to / "old.txt").write_text("old")
    process = start("fetch_url(sys.argv[1], sys.argv[2], force=True)", archive, to)
    kill_when(process, lambda: any(to.parent.glob(".*.new-*/.unpacked/train/*/20.jpeg")))
    assert [p.name for p in to.iterdir()] == ["old.txt"] if old else not to.exists()
    assert any(n.startswith(".chest_xray.new-") for n in left(to))
    assert fetch(archive, to, force=old).files == 3000
    assert left(to) == [] and not (to / "old.txt").exists()


def test_only_one_at_a_time(site, to):
    site.pace = 0.02
    process = start("fetch_url(sys.argv[1], sys.argv[2], timeout=5)", site.url, to)
    until(lambda: any(to.parent.glob(".*/*/*.part")), process)
    with pytest.raises(FetchError, match="another fetch"):
        fetch(site.url, to)
    site.pace = 0
    assert process.wait() == 0, process.stdout.read()
    process.stdout.close()
    assert to.is_dir() and left(to) == []


def test_a_lock_that_its_owner_just_removed(to, monkeypatch):
    monkeypatch.setattr("xraypneu.data.fetch.lock_now", lambda fd: not (to.parent / ".chest_xray.lock").unlink())
    fails(BIG, to, "another fetch")


# --- the target


def test_existing_target(site, to, tmp_path):
    to.mkdir()
    fetch(site.url, to)  # an empty folder is fine
    (to / "mine.txt").write_text("mine")
    with pytest.raises(FetchError, match="not empty"):
        fetch(site.url, to)
    assert len(site.seen) == 1  # said before anything is downloaded
    for data in (b"junk", BIG[:-400], zipped({"readme.txt": b"x"})):
        site.data = data
        with pytest.raises(FetchError):
            fetch(site.url, to, force=True)
        assert (to / "mine.txt").read_text() == "mine" and left(to) == []
    site.data = BIG
    fetch(site.url, to, force=True)
    assert not (to / "mine.txt").exists() and left(to) == []


def test_a_link_as_target(site, to, tmp_path):
    (tmp_path / "disk").mkdir()
    to.symlink_to(tmp_path / "disk/films")
    assert fetch(site.url, to).path == tmp_path / "disk/films" and to.is_symlink() and (to / "train").is_dir()


def test_targets_that_hold_more(to, tmp_path, monkeypatch):
    (tmp_path / "project/.git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "file").touch()
    targets = {target: "holds more" for target in (".", "..", "/", Path.home())} | {tmp_path / "file": "is a file"}
    for target, words in targets.items():
        with pytest.raises(FetchError, match=words):
            fetch("http://127.0.0.1:1/a", target, force=True)


def test_local_archive(to, tmp_path):
    archive = tmp_path / "archive.zip"
    archive.write_bytes(BIG)
    with pytest.raises(FetchError, match="another checksum"):
        fetch(archive, to, sha256="1" * 64)
    assert fetch(archive, to, sha256=sha256_of(archive)) == Fetched(to, 12, 1_200_000, sha(BIG), str(archive))
    assert archive.read_bytes() == BIG


# --- what is in the archive


def test_the_kaggle_zip(to, tmp_path, capsys):
    "All twice, with what macOS leaves behind."
    one = films()
    junk = {
        "__MACOSX/chest_xray/._train": b"x",
        "chest_xray/__MACOSX/._x": b"x",
        "chest_xray/.DS_Store": b"x",
        "chest_xray/train/.DS_Store": b"x",
        "chest_xray/train/NORMAL/._0.jpeg": b"x",
    }
    twice = {n.replace("chest_xray/", "chest_xray/chest_xray/"): data for n, data in one.items()}
    (tmp_path / "a.zip").write_bytes(zipped({**one, **twice, **junk}))
    done = fetch(tmp_path / "a.zip", to)
    assert done.files == 12
    assert sorted(p.relative_to(to).as_posix() for p in to.rglob("*") if p.is_file()) == sorted(NAMES)
    assert "left out" in capsys.readouterr().err
    twice["chest_xray/chest_xray/train/NORMAL/0.jpeg"] = b"another"
    assert fetch(zipped({**one, **twice}), to, force=True).files == 24  # nothing is lost that isn't a copy


@pytest.mark.parametrize("prefix", ["", "./", "a/b/"])
def test_layouts(to, tmp_path, prefix):
    data = zipped({prefix + n.removeprefix("train/"): b"x" for n in NAMES if n.startswith("train")})
    assert fetch(data, to).files == 6 and sorted(p.name for p in to.iterdir()) == ["NORMAL", "PNEUMONIA"]


@pytest.mark.parametrize(
    "names, words",
    [
        (["images/a.png", "readme.txt"], "Found: 'images/', 'images/a.png', 'readme.txt'"),
        (["train/NORMAL/a.png"], "missing"),
        (["__MACOSX/train/NORMAL/a"], "Found: nothing"),
        ([f"{i}.png" for i in range(30)], "and 20 more"),
        (["a\x1b[31m.png"], r"'a\x1b[31m.png'"),
    ],
)
def test_no_layout(to, tmp_path, names, words):
    fails(zipped(dict.fromkeys(names, b"x")), to, "not a usable data set", words, "xraypneu run --data FOLDER")
    assert left(to) == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar(to, tmp_path, mode):
    data = films()
    assert fetch(tarred(data.items(), mode), to).files == 12
    assert (to / NAMES[5]).read_bytes() == data["chest_xray/" + NAMES[5]]


@pytest.mark.parametrize(
    "end, system, attributes", [("\\", 0, 0x10), ("\\", 0, 0), ("", 0, 0x10), ("", 3, 0o40755 << 16)]
)
def test_folders_in_a_zip_of_windows(to, tmp_path, end, system, attributes):
    "With backslashes, and folders that only their attributes or the backslash tell from empty files."
    members = {}
    for name in (
        "chest_xray",
        *(f"chest_xray/{s}{c}" for s in ("train", "test", "val") for c in ("", "/NORMAL", "/PNEUMONIA")),
    ):
        info = zipfile.ZipInfo()
        info.filename, info.create_system, info.external_attr = name.replace("/", "\\") + end, system, attributes
        members[info] = b""
    members |= {n.replace("/", "\\"): data for n, data in films().items()}
    assert fetch(zipped(members), to).files == 12 and len([p for p in to.rglob("*") if p.is_file()]) == 12


def info(name, kind=tarfile.REGTYPE, link="", **more):
    m = tarfile.TarInfo(name)
    m.type, m.linkname = kind, link
    for k, v in more.items():
        setattr(m, k, v)
    return m


def zip_info(name, mode=0, **more):
    i = zipfile.ZipInfo("x")
    i.filename, i.external_attr, i.create_system = name, mode << 16, 3
    return i


OUT = ("../evil", "a/../../evil", "..\\evil", "..", "train/..")
ABSOLUTE = ("/tmp/xraypneu-evil", "C:\\evil", "c:evil", "\\\\host\\evil")


def refused(archive, to, *words, **kw):
    "A hostile archive, or its bytes: refused, and nothing anywhere."
    archive = put(to, archive) if isinstance(archive, bytes) else archive
    around = sorted(map(str, to.parent.parent.rglob("*")))
    fails(archive, to, *words, **kw)
    assert sorted(map(str, to.parent.parent.rglob("*"))) == around and not Path("/tmp/xraypneu-evil").exists()


def test_a_letter_and_a_colon_before_a_space_are_no_drive(to):
    "Before, one such name refused the whole archive."
    data = zipped({**films(), "train/NORMAL/A: x.png": b"film"})
    unpack(put(to, data), to)
    assert (to / "train/NORMAL/A: x.png").read_bytes() == b"film"


@pytest.mark.parametrize("words, name", [*(("leads out", n) for n in OUT), *(("absolute path", n) for n in ABSOLUTE)])
def test_names_that_escape(to, tmp_path, words, name):
    tars = tarred([*films().items(), (name, b"evil")]), tarred([(name, b"evil")], "w:gz")
    for data in (zipped({**films(), zip_info(name): b"evil"}), *tars):
        refused(data, to, "is not unpacked", words)


@pytest.mark.parametrize(
    "member, words",
    [
        *((info("l", tarfile.SYMTYPE, to), "is a link") for to in ("../../evil", "/etc/passwd", "C:\\evil", "x")),
        *((info("l", tarfile.LNKTYPE, to), "is a link") for to in ("../evil", "/etc/passwd", f"chest_xray/{NAMES[0]}")),
        (info("d", tarfile.CHRTYPE, devmajor=1, devminor=3), "device"),
        (info("d", tarfile.BLKTYPE), "device"),
        (info("d", tarfile.FIFOTYPE), "device"),
    ],
)
def test_tar_members_that_are_no_files(to, tmp_path, member, words):
    refused(tarred([*films().items(), (member, b"")]), to, words)


@pytest.mark.parametrize("mode, words", [(0o120777, "is a link"), (0o010644, "device"), (0o020644, "device")])
def test_zip_members_that_are_no_files(to, tmp_path, mode, words):
    refused(zipped({**films(), zip_info("train/l", mode): b"../../evil"}), to, words)


def test_writing_through_a_link(to, tmp_path):
    "A link to a folder, then a file 'in' it."
    (tmp_path / "outside").mkdir()
    data = tarred([(info("train", tarfile.SYMTYPE, str(tmp_path / "outside")), b""), ("train/evil", b"evil")])
    refused(data, to, "is a link")


def test_the_same_name_twice(to, tmp_path):
    with pytest.warns(UserWarning):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as z:
            for _ in range(2):
                z.writestr("train/NORMAL/a", b"x")
    refused(out.getvalue(), to, "'a' twice")
    refused(tarred([("a", b"x"), ("a/b", b"x")]), to, "'a' twice")


ZEROS = bytes(30_000_000)


def test_bombs(to, tmp_path):
    limits = Limits(small=1_000_000)
    refused(zipped({"train/NORMAL/a": ZEROS}, zipfile.ZIP_DEFLATED), to, "decompression bomb", limits=limits)
    refused(tarred([("train/NORMAL/a", ZEROS)], "w:gz"), to, "decompression bomb", limits=limits)
    refused(gzip.compress(tarred(films().items()) + ZEROS), to, "decompression bomb", limits=limits)  # after the end
    refused(BIG, to, "more than 500.0 kB", limits=Limits(bytes=500_000))
    refused(BIG, to, "more than 11 files", limits=Limits(members=11))
    refused(tarred([(f"d{i}", b"") for i in range(20)]), to, "more than 11 files", limits=Limits(members=11))


def test_a_zip_that_lies_about_its_size(to, tmp_path):
    "A member larger than declared: no more than the declared size is written, and the checksum doesn't fit."
    data = zipped({"train/NORMAL/a": ZEROS[:5_000_000]}, zipfile.ZIP_DEFLATED)
    refused(data.replace(struct.pack("<L", 5_000_000), struct.pack("<L", 1000)), to, "damaged")


def test_members_that_share_their_bytes(tmp_path):
    "Entries that all point to the same compressed kilobytes: each is small, together they are a bomb."
    first = zipped({"0": ZEROS[:1_000_000]}, zipfile.ZIP_DEFLATED)
    at = first.index(b"PK\1\2")
    entry, body = first[at : first.index(b"PK\5\6")], first[:at]
    entries = [entry[:-1] + bytes([48 + i]) for i in range(10)]
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 10, 10, sum(map(len, entries)), len(body), 0)
    (tmp_path / "a.zip").write_bytes(body + b"".join(entries) + tail)
    with pytest.raises(FetchError, match="decompression bomb"):
        unpack(tmp_path / "a.zip", tmp_path / "x", Limits(small=2_000_000))
    with pytest.raises(FetchError):
        unpack(tmp_path / "a.zip", tmp_path / "x")  # other names in the members' own headers
    assert sum(p.stat().st_size for p in (tmp_path / "x").rglob("*") if p.is_file()) < 2_000_000


def test_folders_of_a_few_bytes(tmp_path):
    "A name of a hundred bytes that is forty folders, compressed to a tenth of that: each takes a block on the disk."
    members = [(info("/".join([str(i), *"a" * 38]), tarfile.DIRTYPE), b"") for i in range(2000)]
    (tmp_path / "a.tgz").write_bytes(tarred(members, "w:gz"))
    with pytest.raises(FetchError, match="decompression bomb"):
        unpack(tmp_path / "a.tgz", tmp_path / "out")
    with pytest.raises(FetchError, match="more than 1,000 folders"):
        unpack(tmp_path / "a.tgz", tmp_path / "b", Limits(members=1000, ratio=1e9))


def test_headers_are_not_kept(tmp_path):
    "Those for all members that follow pile up in memory, each with another name."
    text, raw = os.urandom(1 << 18).hex(), io.BytesIO()
    for i in range(60):
        for part in (tarfile.TarInfo.create_pax_global_header({f"k{i}": text}), tarfile.TarInfo(f"f{i}").tobuf()):
            raw.write(part)
    (tmp_path / "a.tar").write_bytes(raw.getvalue() + bytes(1024))
    tracemalloc.start()
    try:
        assert unpack(tmp_path / "a.tar", tmp_path / "out") == (60, 0)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 12 * 2**20, most
    many = b"".join(tarfile.TarInfo.create_pax_global_header({f"k{i}": text}) for i in range(60))  # before one member
    (tmp_path / "b.tar").write_bytes(many + tarfile.TarInfo("f").tobuf() + bytes(1024))
    with pytest.raises(FetchError, match="damaged"):
        unpack(tmp_path / "b.tar", tmp_path / "b")


def test_orders_to_dvc_are_left_out(tmp_path, capsys):
    "DVC would run the commands of a dvc.yaml anywhere in the project to make what `prepare` reads."
    order = f"stages:\n  evil:\n    cmd: touch {tmp_path}/ran\n    outs: [NORMAL/new.jpeg]\n"
    names = {"dvc.yaml": "dvc.yaml", "train/dvc.yaml": "train/dvc.yaml", "x.dvc": "x.dvc"}
    members = films("") | dict.fromkeys(names, order.encode())
    project = tmp_path / "project"
    for folder in ("project", "project/shared"):
        (tmp_path / folder).mkdir()
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=project, check=True)
    (project / "dvc.yaml").write_text("stages:\n  prepare:\n    cmd: 'true'\n    deps: [xrays, shared]\n")
    assert fetch(zipped(members), project / "xrays").files == 12
    assert "left out 3 files that would make DVC or git run or fetch something" in capsys.readouterr().err
    # nor does one of a folder that somebody unpacked by hand, in this project with its .dvcignore
    (project / "shared/NORMAL").mkdir()
    (project / "shared/dvc.yaml").write_text(order)
    shutil.copy(ROOT / ".dvcignore", project)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "prepare"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0 and "evil" not in done.stdout and not (tmp_path / "ran").exists(), done


def test_a_repository_among_the_films_is_none_afterwards(tmp_path):
    "git would run what its settings name as soon as somebody, or a shell's prompt, asks for the folder's state."
    hostile = {"HEAD": b"ref: refs/heads/main\n", "objects/x": b"", "refs/x": b""}
    hostile["config"] = f"[core]\nworktree = .\nfsmonitor = touch {tmp_path}/ran\n".encode()
    assert fetch(zipped(films("") | hostile), tmp_path / "xrays").files == 15  # without HEAD
    run = dict(cwd=tmp_path / "xrays", env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert subprocess.run(["git", "status"], capture_output=True, **run).returncode
    assert not (tmp_path / "ran").exists()


def test_a_header_of_gigabytes(tmp_path):
    """Huge headers are refused without reading them into memory.

    A tar claims an extended header of 3 GB; the directory of a zip has 60,000 entries where one is declared.
    """
    head = info("x", tarfile.XHDTYPE, size=3 * 10**9).tobuf(tarfile.PAX_FORMAT)
    (tmp_path / "a.tgz").write_bytes(gzip.compress(head + ZEROS))
    one = zipped({"a": b""})
    at, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    (tmp_path / "a.zip").write_bytes(
        one[:at] + one[at:end] * 60_000 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 60_000 * (end - at), at, 0)
    )
    tracemalloc.start()
    try:
        with pytest.raises(FetchError, match="damaged"):
            unpack(tmp_path / "a.tgz", tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        with pytest.raises(FetchError, match="more than 10 files"):
            unpack(tmp_path / "a.zip", tmp_path / "x", Limits(members=10))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_sparse_file(to, tmp_path):
    hole = tmp_path / "hole"
    with open(hole, "wb") as f:
        f.truncate(10**9)
    if subprocess.run(["tar", "--sparse", "-cf", "a.tar", "hole"], cwd=tmp_path).returncode:
        pytest.skip("no GNU tar")
    refused(tmp_path / "a.tar", to, "sparse file")


def test_encrypted_and_unknown(to, tmp_path):
    data = bytearray(zipped({"train/NORMAL/a": b"x"}))
    for at in (6, data.index(b"PK\1\2") + 8):
        data[at] |= 1
    refused(bytes(data), to, "is encrypted")
    refused(zipped({"train/NORMAL/a": b"x" * 100}, zipfile.ZIP_LZMA), to, "7-Zip")
    for mode in ("w:xz", "w:bz2"):
        refused(tarred(films().items(), mode), to, "with a method that is not supported", "xraypneu run --data FOLDER")


@pytest.mark.parametrize("file, mode", [("a.zip", None), ("a.tar", "w"), ("a.tgz", "w:gz")])
def test_damage(to, tmp_path, file, mode):
    "Cut anywhere, or with bits turned over: an error, never a part of the data set."
    whole = zipped(films(), zipfile.ZIP_DEFLATED) if mode is None else tarred(films().items(), mode)
    # a plain tar has checksums of its headers only
    ends = (512, 5120, 4608 * 5) if mode == "w" else (len(whole) // 3, len(whole) - 30)
    for cut in (20, *ends, len(whole) // 2):
        (tmp_path / file).write_bytes(whole[:cut])
        refused(tmp_path / file, to, file)
    for at in range(600, len(whole) - 600, len(whole) // 5):
        if mode == "w":
            at = at // 4608 * 4608 + 2
        bad = bytearray(whole)
        bad[at] ^= 0xFF
        (tmp_path / file).write_bytes(bad)
        refused(tmp_path / file, to, file)


# --- full disks


def test_disk_too_small_is_said_before(site, small_disk, tmp_path):
    fails(site.url, small_disk / "x", "free", "needs 1.2 MB")
    assert not any(p.stat().st_size > 1000 for p in small_disk.rglob("*") if p.is_file())
    fails(BIG, small_disk / "x", "free", "unpacking archive needs 1.2 MB")


def test_disk_that_fills_up(site, small_disk, tmp_path):
    site.length = False  # nobody could know
    fails(site.url, small_disk / "x", "the disk is nearly full", "the download resumes", "are free")
    assert shutil.disk_usage(small_disk).free > 0  # the rest is for others
    shutil.rmtree(small_disk / ".x.download")
    members = [(f"train/{c}/{i}", b"x" * 200_000) for c in ("NORMAL", "PNEUMONIA") for i in range(4)]
    fails(tarred(members, "w:gz"), small_disk / "x", "the disk is full")
    assert list(small_disk.iterdir()) == []


LIMITED = (
    "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
    "try: fetch_url(sys.argv[1], sys.argv[2], wait=0)\nexcept FetchError as e: print(e)"
)


def test_a_limit_on_files(site, to):
    "Works without root too. The archive that was whole is kept, and then not downloaded again."
    process = start(LIMITED, site.url, to, 500_000)
    assert "the disk is full" in process.communicate()[0] and not to.exists()
    assert 0 < next(to.parent.glob(".*/*/*.part")).stat().st_size <= 500_000
    site.data = zipped({**films(), "chest_xray/train/NORMAL/big.jpeg": ZEROS[:3_000_000]}, zipfile.ZIP_DEFLATED)
    site.tag = '"v2"'
    process = start(LIMITED, site.url, to, 500_000)
    assert "the disk is full: unpacking data.zip" in process.communicate()[0] and not to.exists()
    assert [p.name for p in to.parent.glob(".*/*/*")] == ["data.zip"]
    asked = len(site.seen)
    assert fetch(site.url, to).files == 13 and len(site.seen) == asked and left(to) == []


def test_a_folder_that_is_closed(site):
    "Not even root may write there."
    for target in ("/proc/films", "/proc/films/chest_xray"):
        with pytest.raises(FetchError, match="in /proc.* failed.*is writable"):
            fetch(site.url, target)
    assert site.seen == []


# --- Kaggle, at an address of its own by the variable for proxies


@pytest.fixture
def kaggle(site, tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home/.kaggle"))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.server_port}")
    monkeypatch.setattr("xraypneu.data.fetch._ARCHIVES", ARCHIVES)
    site.moved = f"http://storage.invalid/archive.zip?sig={SECRET}"
    yield site
    assert {p.name for p in (tmp_path / "home").rglob("*")} <= {".kaggle", "kaggle.json"}


def test_kaggle(kaggle, to, capfd):
    kaggle.data = zipped({**films(), "chest_xray/__MACOSX/._x": b"x", **films("chest_xray/chest_xray/")})
    done = fetch(None, to)
    assert (done.files, done.sha256, done.source) == (24, sha(kaggle.data), f"Kaggle's data set {KAGGLE}")
    assert {"train", "test"} <= {p.name for p in to.iterdir()} and left(to) == []
    assert kaggle.seen == [(ARCHIVES + KAGGLE, None, None), (kaggle.moved, None, None)]
    out, err = capfd.readouterr()
    assert out == "" and SECRET not in err
    with pytest.raises(FetchError, match="not empty"):
        fetch(None, to)


@pytest.mark.parametrize(
    "env, sent",
    [
        ({"KAGGLE_API_TOKEN": SECRET}, f"Bearer {SECRET}"),
        ({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": SECRET}, BASIC),
    ],
)
def test_kaggle_token_is_used_and_not_shown(kaggle, to, monkeypatch, capfd, env, sent):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert fetch(None, to, dataset="me/mine/versions/7").source.endswith("me/mine, version 7")
    assert kaggle.seen == [(f"{ARCHIVES}me/mine?datasetVersionNumber=7", None, sent), (kaggle.moved, None, None)]
    kaggle.statuses = [401]
    fails(None, to.with_name("other"), "401", "access_token", "xraypneu fetch path/to/archive.zip")
    assert SECRET not in "".join(capfd.readouterr())


def test_kaggle_trouble_that_passes(kaggle, to):
    "From one call to the next, and then within it."
    kaggle.drops = 2
    fails(None, to, "the connection dropped", retries=0)
    kaggle.statuses = [503]
    assert fetch(None, to).files == 12 and left(to) == []
    assert [bool(r) for p, r, _ in kaggle.seen if p == kaggle.moved] == [False, True, True]


@pytest.mark.parametrize(
    "data, words, limits",
    [
        (BIG[:-400], "damaged", {}),
        # anybody may put one there
        (zipped({"train/NORMAL/a": bytes(70_000_000)}, zipfile.ZIP_DEFLATED), "decompression bomb", {}),
        (BIG, "is not downloaded: it has 1.2 MB", {"archive": 10**6}),
    ],
    ids=["cut off", "bomb", "bytes"],
)
def test_kaggle_bomb(kaggle, to, data, words, limits):
    "What can't be used is said and removed."
    kaggle.data = data
    fails(None, to, words, limits=Limits(**limits))
    assert left(to) == []


def test_kaggle_with_broken_credentials(kaggle, to, tmp_path):
    (tmp_path / "home/.kaggle").mkdir(parents=True)
    (tmp_path / "home/.kaggle/kaggle.json").write_text('{"username": "me", "key": "' + SECRET)
    fails(None, to, "credentials can't be read", "kaggle.json")


def test_the_checksum_of_a_kaggle_archive_is_compared(kaggle, to, capsys):
    "`fetch kaggle --sha256 X` ignored X."
    kaggle.data = zipped(films())
    with pytest.raises(FetchError, match="another checksum than expected"):
        fetch(None, to, sha256="0" * 64)
    assert not to.exists()
    assert fetch(None, to, sha256=sha(kaggle.data)).files == 12
    assert cli.main(["fetch", "a.zip", "--dataset", "a/b", "--to", str(to)]) == 2
    assert "--dataset names a data set on Kaggle" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["", "chest-xray-pneumonia", "a/b/c", "a/b/versions/0", "../../etc", "https://kaggle.com/a/b"]
)
def test_kaggle_names(to, name):
    fails(None, to, "owner/name", dataset=name)


def test_packages_that_are_missing(to, tmp_path):
    "In a Python that finds neither."
    block = (
        "sys.modules['kagglehub'] = sys.modules['requests'] = None\n"
        "for f in (lambda: fetch_kaggle(to=sys.argv[1]), lambda: fetch_url('http://127.0.0.1:1/a', "
        "sys.argv[1])):\n    try: f()\n    except FetchError as e: print(e)"
    )
    out = start(block, to).communicate()[0]
    assert "the package kagglehub is missing" in out and "the package requests is missing" in out
    assert out.count("pip install '.[team]'") == 2


def test_import_is_light():
    code = "print([m for m in ('kagglehub', 'requests', 'tqdm', 'pandas', 'numpy') if m in sys.modules])"
    assert start(code).communicate()[0].strip() == "[]"


def test_kaggle_set_without_a_name(tmp_path, monkeypatch, capsys):
    "As of a variable of the shell that is not set: the default data set was downloaded."
    monkeypatch.setattr("xraypneu.data.fetch._from_web", lambda *a, **kw: pytest.fail("downloaded"))
    assert cli.main(["fetch", "kaggle", "--dataset", "", "--to", str(tmp_path / "x")]) == 2
    assert "is not the name of a Kaggle data set" in capsys.readouterr().err
