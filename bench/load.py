"""Load and attacks on a real server with real session processes, over 127.0.0.1 alone: `python bench/load.py`.

Many sessions for some minutes, then memory and processes must be back where they began. Then twelve attacks, during
each of which another visitor must be answered within two seconds. Prints a table, writes JSON where --out says.
Seeded and bounded.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import re
import sys
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import quote

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent)]

from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1
from served import Server, film

from xraypneu.serving.guard import PROTOCOL, split_message

ANSWER_S = 2  # within which another visitor must be answered
TOKEN, CANARY = "tok-4f1c-canary", "zz-jane-doe"  # must not be found in a log
LIMITS = {
    "XRAYPNEU_SESSIONS": "8",
    "XRAYPNEU_PER_ADDRESS": "4",
    "XRAYPNEU_CONNECT_S": "4",
    "XRAYPNEU_AWAY_S": "8",
    "XRAYPNEU_BUSY_S": "20",
}
ATTACKER = "127.0.0.2"  # its connections come from here


class Refused(Exception):
    "The server said no: `status` of HTTP, or the code with which it closed the socket."

    def __init__(self, status, body=b"", headers=b""):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


# --- as much of HTTP and websockets as an attacker needs


async def http(port, path="/", method="GET", headers=None, source="127.0.0.1", timeout=90):
    "Status, headers and body of an answer."
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    lines = {
        "Host": f"127.0.0.1:{port}",
        "Connection": "close",
        "Content-Length": "0" if method == "POST" else None,
    } | (headers or {})
    head = "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None)
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), timeout)
    finally:
        writer.close()
    top, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in top.lower():
        body = re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n", b"", body)
    return int(top.split()[1]) if top else 0, top, body


class Socket:
    "A websocket's client that can misbehave."

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port, path, source="127.0.0.1", **headers):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), limit=2**20)
        lines = {
            "Host": f"127.0.0.1:{port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": PROTOCOL,
        }
        lines |= {k.replace("_", "-"): v for k, v in headers.items()}
        head = "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None)
        writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        try:
            top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        except asyncio.IncompleteReadError:
            writer.close()
            raise Refused(0) from None
        if int(top.split()[1]) != 101:
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", top)  # the server keeps the connection for 30 s
            body = await reader.readexactly(int(length[1])) if length else b""
            writer.close()
            raise Refused(int(top.split()[1]), body, top)
        return cls(reader, writer)

    async def send(self, data, opcode=2):
        size = len(data)  # with a mask of zeros the data stay as they are
        length = (
            bytes([0x80 | size])
            if size < 126
            else b"\xfe" + size.to_bytes(2, "big")
            if size < 65536
            else b"\xff" + size.to_bytes(8, "big")
        )
        self.writer.write(bytes([0x80 | opcode]) + length + b"\0\0\0\0" + data)
        await self.writer.drain()

    async def receive(self):
        "The next binary message; `Refused` with its code where the server closes."
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                size = second & 127
                if size > 125:
                    size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
                data = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                raise Refused(1006) from None
            if first & 15 == 8:
                raise Refused(int.from_bytes(data[:2], "big"))
            if first & 15 == 9:
                await self.send(data, 10)
            if first & 15 == 2:
                return data

    def close(self):
        self.writer.close()


def frame(kind, content, buffers=(), channel="shell", **header):
    "A v1 message of a page."
    head = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "load", "username": "", "version": "5.3"} | header
    parts = (json.dumps(p).encode() for p in (head, {}, {"version": "1.0.0"}, content))
    return serialize_msg_to_ws_v1([*parts, *buffers], channel)


class Visitor:
    "A page without a browser."

    present = []  # those with a session

    def __init__(self, server, source="127.0.0.1"):
        self.port, self.source, self.socket, self.comm, self.rows, self.types = (
            server.port,
            source,
            None,
            None,
            [],
            set(),
        )
        self.cookie = ""

    async def open(self):
        "Ask for the page: a session's process starts."
        status, top, body = await http(self.port, f"/?token={TOKEN}", source=self.source)
        if status == 302:
            raise Refused(302)
        if status != 200:
            raise Refused(status, body, top)
        return self.keep(top, body)

    def keep(self, top, body):
        "Keep what a page says of its session."
        cookies = dict(c.split(b"=", 1) for c in re.findall(rb"(?i)set-cookie: ([^;\r]+)", top))
        self.cookie = b"; ".join(k + b"=" + v for k, v in cookies.items()).decode()
        self.xsrf = cookies.get(b"_xsrf", b"").decode()
        self.kernel = re.search(rb'"kernelId":\s*"([\w-]+)"', body)[1].decode()
        self.present.append(self)
        return self

    async def connect(self, session=None, **headers):
        path = f"/api/kernels/{self.kernel}/channels?session_id={session or uuid.uuid4().hex}"
        self.socket = await Socket.connect(self.port, path, self.source, Cookie=self.cookie, **headers)
        return self

    async def start(self):
        "Open, connect, find the page's widget."
        await self.open()
        await self.connect()
        control = uuid.uuid4().hex
        await self.socket.send(
            frame("comm_open", {"comm_id": control, "target_name": "jupyter.widget.control", "data": {}})
        )
        await self.socket.send(frame("comm_msg", {"comm_id": control, "data": {"method": "request_states"}}))
        while self.comm is None:
            kind, content, _ = await self.message()
            states = content.get("data", {}).get("states", {}) if kind == "comm_msg" else {}
            self.comm = next((k for k, v in states.items() if v["model_module"] == "anywidget"), None)
        return self

    async def message(self):
        "The next one: type, content, buffers."
        _, header, _, _, content, *buffers = split_message(await self.socket.receive())
        kind = json.loads(header)["msg_type"]
        self.types.add(kind)
        return kind, json.loads(content), buffers

    def say_frame(self, buffer=None, **content):
        return frame(
            "comm_msg",
            {"comm_id": self.comm, "data": {"method": "custom", "content": content}},
            [] if buffer is None else [buffer],
        )

    async def say(self, buffer=None, **content):
        await self.socket.send(self.say_frame(buffer, **content))

    async def hear(self, kind, timeout=60, **wanted):
        "The page's next message of a kind."
        async with asyncio.timeout(timeout):
            while True:
                _, content, _ = await self.message()
                said = content.get("data", {}).get("content", {})
                if said.get("kind") == "row":
                    self.rows.append(said["row"])
                if said.get("kind") == kind and all(said.get(k) == v for k, v in wanted.items()):
                    return said

    async def ping(self, n=1):
        began = time.monotonic()
        await self.say(kind="ping", n=n)
        await self.hear("pong", n=n)
        return time.monotonic() - began

    async def upload(self, name, data, id=None):
        "A file's row."
        id = id or uuid.uuid4().hex
        await self.say(kind="begin", id=id, name=name, size=len(data))
        for at in range(0, len(data), 524_288):
            await self.say(data[at : at + 524_288], kind="chunk", id=id, at=at)
        return (await self.hear("row"))["row"]

    async def leave(self):
        "As a page that is closed."
        if self.socket:
            self.socket.close()
        if self in self.present:
            self.present.remove(self)
        headers = {"Cookie": self.cookie, "X-XSRFToken": self.xsrf}
        return (await http(self.port, f"/voila/api/shutdown/{self.kernel}", "POST", headers, self.source))[0]


# --- attacks: each takes the server and returns what the attacker got, in words


async def gather(*jobs):
    return await asyncio.gather(*jobs, return_exceptions=True)


def tally(results):
    "How often each answer came."
    seen = {}
    for r in results:
        key = f"{r.status}" if isinstance(r, Refused) else f"{r[0]}" if isinstance(r, tuple) else type(r).__name__
        seen[key] = seen.get(key, 0) + 1
    return ", ".join(f"{n} x {k}" for k, n in sorted(seen.items()))


async def no_subprotocol(server, seconds):
    "Sockets without the subprotocol; each message would make Voilà build a list of 2**63 numbers."
    me = await Visitor(server, ATTACKER).open()
    answers = await gather(
        *[me.connect(Sec_WebSocket_Protocol=None) for _ in range(20)],
        *[me.connect(Sec_WebSocket_Protocol="other") for _ in range(20)],
    )
    assert all(isinstance(a, Refused) and a.status == 400 for a in answers), tally(answers)
    return tally(answers)


def hostile_frames():
    "v1 messages that lie about their parts."
    good, word = frame("kernel_info_request", {}), lambda n: (n % 2**64).to_bytes(8, "little")
    yield from (
        b"",
        b"\0" * 8,
        b"\xff" * 8,
        b"\xff" * 4096,
        good[:-1],
        good + b"x",
        good[:12],
        word(2**40) + good[8:],
        word(0) + good[8:],
        word(-1),
    )
    yield from (
        good[: 8 * i] + word(v) + good[8 * i + 8 :] for i in (1, 2, 5, 7) for v in (0, -1, 2**62, len(good) + 1)
    )
    yield frame("execute_request", {"code": "1"})
    yield frame("comm_open", {"comm_id": "x", "target_name": "jupyter.widget", "data": {}})
    yield serialize_msg_to_ws_v1([b"[" * 2000, b"{}", b"{}", b"{}"], "shell")
    yield frame("comm_msg", {"comm_id": "c", "data": {}}, msg_id="i" * 10_000)


async def hostile_offsets(server, seconds):
    "Huge, negative and cut offsets in the right subprotocol."
    me, codes = await Visitor(server, ATTACKER).open(), []
    for data in hostile_frames():
        await me.connect()
        await me.socket.send(data)
        try:
            async with asyncio.timeout(10):
                while True:
                    await me.socket.receive()
        except Refused as e:
            codes.append(e)
        me.socket.close()
    assert all(c.status == 1008 for c in codes), tally(codes)
    return tally(codes)


async def oversize(server, seconds):
    "A message over 16 MB, then as many of 15 MB as go."
    me = await Visitor(server, ATTACKER).start()
    try:
        await me.socket.send(bytes(17_000_000))
        await me.socket.receive()
    except (Refused, ConnectionError) as e:
        first = getattr(e, "status", 1006)
    await me.connect()
    until, sent = time.monotonic() + seconds, 0
    try:
        while time.monotonic() < until:
            await me.say(bytes(15_000_000), kind="chunk", id="u", at=0)
            sent += 1
    except (Refused, ConnectionError):
        pass
    return f"17 MB: closed with {first}; {sent} of 15 MB taken"


async def slow_loris(server, seconds):
    "Seven hundred requests that never end."

    async def half():
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(ATTACKER, 0))
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: ")
        return writer

    writers = [w for w in await gather(*[half() for _ in range(700)]) if not isinstance(w, BaseException)]
    for _ in range(int(seconds)):
        await asyncio.sleep(1)
        for w in writers:
            w.write(b"b")
    for w in writers:
        w.close()
    held = len(
        [
            c
            for c in psutil.Process(server.process.pid).net_connections()
            if c.raddr and c.raddr.ip == ATTACKER and c.status == "ESTABLISHED"
        ]
    )
    assert held <= 120, held
    return f"{len(writers)} opened, {held} held"


async def burst(server, seconds):
    "Forty requests at once for a page, where four sessions are allowed to one address."
    answers = await gather(*[http(server.port, f"/?token={TOKEN}", source=ATTACKER) for _ in range(40)])
    assert sum(a[0] == 200 for a in answers) <= 4, tally(answers)
    refused = next(a for a in answers if a[0] == 503)
    assert b"Retry-After: 120" in refused[1] and b"Your address already has 4 open sessions" in refused[2], refused
    return tally(answers)


async def never_connecting(server, seconds):
    "Sessions that nobody connects to; they must end by themselves."
    answers = await gather(*[http(server.port, f"/?token={TOKEN}", source=f"127.0.0.{i}") for i in range(10, 22)])
    opened, began = sum(a[0] == 200 for a in answers), time.monotonic()
    assert opened <= 7 and all(a[0] in (200, 503) for a in answers), tally(answers)
    while len(server.kernels()) > 1:
        assert time.monotonic() - began < 20, "sessions without a page stay"
        await asyncio.sleep(0.3)
    return f"{tally(answers)}; all ended within {time.monotonic() - began:.0f} s"


async def not_reading(server, seconds):
    "Reports are asked for and never read."
    me = await Visitor(server, ATTACKER).start()
    for i in range(3):
        await me.say(kind="sample", which=["plain", "opacity", "faint"][i])
    before, process = psutil.Process(server.process.pid).memory_info().rss, psutil.Process(server.process.pid)
    until, asked, most = time.monotonic() + 4 * seconds, 0, before
    try:
        while time.monotonic() < until:
            for _ in range(10):
                await asyncio.wait_for(me.say(kind="open", id="p2"), 2)
            asked += 10
            await asyncio.sleep(0.05)
            most = max(most, process.memory_info().rss)
    except (ConnectionError, TimeoutError):
        pass
    grew = (most - before) / 1e6
    assert grew < 200, grew
    return f"{asked} asked for, server grew by {grew:.0f} MB"


async def reconnecting(server, seconds):
    "A page whose network changes connects again, under its name, while pictures are on their way to its old socket."
    me, name, times, old = await Visitor(server, ATTACKER).start(), uuid.uuid4().hex, 0, []
    me.socket.close()
    until = time.monotonic() + 2 * seconds
    while time.monotonic() < until:
        try:
            await me.connect(session=name)
        except Refused as e:  # the two before are still known
            assert e.status == 503, e.status
            await asyncio.sleep(0.1)
            continue
        old.append(me.socket)  # it stays open: nobody is there to close it
        await me.say(kind="sample", which="plain")
        for _ in range(20):
            await me.say(kind="open", id="p1")
        times += 1
    assert times > 1
    return f"{times} connections, none closed by the page"


async def flood(server, seconds):
    "Messages as fast as they go."
    me, sent = await Visitor(server, ATTACKER).start(), 0
    until = time.monotonic() + 2 * seconds
    drain = asyncio.create_task(me.hear("never"))
    try:
        while time.monotonic() < until:
            for _ in range(100):
                await me.say(kind="ping", n=0)
            sent += 100
    except ConnectionError:
        pass
    await asyncio.wait([drain], timeout=5)
    drain.cancel()
    code = (
        drain.exception().status
        if drain.done() and not drain.cancelled() and isinstance(drain.exception(), Refused)
        else "not closed"
    )
    return f"{sent} sent, then closed with {code}"


async def endless_uploads(server, seconds):
    "Uploads that begin and never end."
    me, pieces = await Visitor(server, ATTACKER).start(), 0
    drain = asyncio.create_task(me.hear("never"))
    kernel = max(server.kernels(), key=lambda k: k.create_time())
    until = time.monotonic() + 2 * seconds
    try:
        while time.monotonic() < until:
            for i in range(12):
                await me.say(kind="begin", id=f"u{pieces}-{i}", name="x" * 100_000, size=20_000_000)
                await me.say(bytes(500_000), kind="chunk", id=f"u{pieces}-{i}", at=0)
            pieces += 12
    except ConnectionError:
        pass
    drain.cancel()
    used = kernel.memory_info().rss / 1e6
    assert used < 700, used
    return f"{pieces} begun, session's process at {used:.0f} MB"


async def unauthorised(server, seconds):
    "Foreign names, and pages of other sites."
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    before = len(server.kernels())
    jobs = [
        {"Host": "evil.example"},
        foreign,
        foreign | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Origin": "http://evil.example"},
    ]
    answers = await gather(*[http(server.port, f"/?token={TOKEN}", headers=h, source=ATTACKER) for h in jobs * 20])
    assert {a[0] for a in answers} == {403} and len(server.kernels()) == before, tally(answers)
    return tally(answers)


async def many_lists(server, seconds):
    "Small messages of a hundred thousand lists each, from three sessions."
    visitors = [await Visitor(server, ATTACKER).start() for _ in range(3)]
    until, answers = time.monotonic() + seconds, []

    async def one(me):
        lists = ",".join(["[[[[]]]]"] * 29_000)
        content = f'{{"comm_id":"{me.comm}","data":{{"method":"update","state":{{}},"x":[{lists}]}}}}'.encode()
        while time.monotonic() < until:
            head = {"msg_id": uuid.uuid4().hex, "msg_type": "comm_msg", "session": "load"}
            try:
                await me.socket.send(
                    serialize_msg_to_ws_v1([json.dumps(head).encode(), b"{}", b"{}", content], "shell")
                )
                async with asyncio.timeout(5):
                    while True:
                        await me.socket.receive()
            except (Refused, ConnectionError, TimeoutError) as e:
                answers.append(e)
                me.socket.close()
                await me.connect()

    await asyncio.gather(*[one(me) for me in visitors])
    assert answers and all(getattr(a, "status", 0) == 1008 for a in answers), tally(answers)
    return tally(answers)


async def new_passwords(server, seconds):
    "Somebody who knows the token asks for a new password, again and again: each would be hashed."
    _, top, _ = await http(server.port, "/login", source=ATTACKER)
    xsrf = re.search(rb"_xsrf=([^;]+)", top)[1].decode()
    form = f"/login?_xsrf={quote(xsrf)}&password={TOKEN}&new_password=x"
    until, answers = time.monotonic() + seconds, []

    async def one():
        while time.monotonic() < until:
            with contextlib.suppress(ConnectionError):  # one of too many from an address
                answers.append(await http(server.port, form, "POST", {"Cookie": f"_xsrf={xsrf}"}, ATTACKER))

    await asyncio.gather(*[one() for _ in range(40)])
    assert {a[0] for a in answers} == {302}, tally(answers)  # the token is right, the password is ignored
    return tally(answers)


ATTACKS = [
    no_subprotocol,
    hostile_offsets,
    oversize,
    slow_loris,
    burst,
    never_connecting,
    not_reading,
    reconnecting,
    flood,
    endless_uploads,
    unauthorised,
    many_lists,
    new_passwords,
]


async def attack(server, one, victim, seconds):
    "One attack: how long another visitor's requests took meanwhile, the slowest, and what the attacker got."
    times, name = [], f"{CANARY}-{one.__name__}.png"
    task = asyncio.create_task(one(server, seconds))
    while not task.done():
        began = time.monotonic()
        status, _, _ = await http(server.port, "/voila/static/voila.js", timeout=30)
        assert status == 200
        times += [time.monotonic() - began, await victim.ping(len(times))]
        await asyncio.sleep(0.1)
    for visitor in [v for v in Visitor.present if v is not victim]:
        await visitor.leave()
    row = await victim.upload(name, film(0, size=300))
    assert row["verdict"] and row["file"] == name and all(r["file"].startswith(CANARY) for r in victim.rows)
    assert not victim.types & {"error", "stream"}, victim.types
    done = {"attack": one.__name__, "what": one.__doc__.strip(), "slowest_s": round(max(times), 2), "asked": len(times)}
    return done | {"attacker": await task, "left": await empty(server, allowed=1)}


async def attacks(server, wanted=ATTACKS, seconds=3):
    "One attack after the other beside the same visitor; yields what came of each, or its exception."
    victim = await Visitor(server).start()
    for one in wanted:
        try:
            yield one, await attack(server, one, victim, seconds)
        except Exception as e:
            yield one, e
    await victim.leave()


async def empty(server, most_s=40, allowed=0):
    "Wait until all sessions have ended, but for so many; how many are too many in the end."
    deadline = time.monotonic() + most_s
    while len(server.kernels()) > allowed and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
    return max(0, len(server.kernels()) - allowed)


# --- load


async def person(server, i, until, rng, counts):
    "Uploads, looks, moves the operating point, downloads, leaves, comes back; sees nobody else's files."
    while time.monotonic() < until:
        me = await Visitor(server, f"127.0.1.{i + 1}").start()
        try:
            for k in range(rng.randint(4, 30)):
                if time.monotonic() > until:
                    break
                name = f"{CANARY}-{i}-{k}.png"
                row = await me.upload(
                    name, film(rng.randrange(40), rng.random() < 0.5, size=rng.choice([300, 512, 800]))
                )
                assert row["file"] == name, row
                counts["films"] += 1
                await me.say(kind="threshold", value=rng.random())
                if rng.random() < 0.2:
                    await me.say(kind="download")
                counts["slowest_ping_s"] = max(counts["slowest_ping_s"], await me.ping(k))
                await asyncio.sleep(rng.random() * 2)
            assert all(r["file"].startswith(f"{CANARY}-{i}-") for r in me.rows), "a film of somebody else"
        finally:
            await me.leave()
        counts["sessions"] += 1


async def load(server, n, seconds, seed=0, settle_s=100, warm_s=3):
    """n people for some seconds; memory of the server before and after.

    Before, as many people come twice, `warm_s` seconds each: what is loaded once, and what the allocator keeps of the
    most that are there at once. With 20 people it stays after some 160 sessions; a leak would grow with each."""
    process, counts = psutil.Process(server.process.pid), {"sessions": 0, "films": 0, "slowest_ping_s": 0.0}
    for _ in range(2):
        until = time.monotonic() + warm_s
        await asyncio.gather(*[person(server, i, until, random.Random(i), dict(counts)) for i in range(n)])
        await empty(server)
    before = process.memory_full_info().uss / 1e6
    until = time.monotonic() + seconds
    results = await gather(*[person(server, i, until, random.Random(seed + i), counts) for i in range(n)])
    left = await empty(server)
    after, deadline = 1e9, time.monotonic() + settle_s
    while (
        after > 1.05 * before and time.monotonic() < deadline
    ):  # Jupyter's timers hold a session's sockets for a minute
        await asyncio.sleep(1)
        after = process.memory_full_info().uss / 1e6
    failures = [repr(r) for r in results if r is not None]
    return {
        "people": n,
        "seconds": seconds,
        **counts,
        "failures": failures,
        "kernels_left": left,
        "server_mb_before": round(before, 1),
        "server_mb_after": round(after, 1),
        "grew_percent": round(100 * (after / before - 1), 1),
    }


def leaks(server):
    "What must not be found in the log, each with the lines around its first occurrence."
    text = server.log.read_text()
    found = ((w, text.find(w)) for w in (TOKEN, CANARY, "Traceback"))
    return [f"{w}: ...{text[max(0, at - 500) : at + 3000]}" for w, at in found if at >= 0]


async def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--sessions", type=int, default=20)
    p.add_argument("--minutes", type=float, default=15)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--attacks", default=",".join(a.__name__ for a in ATTACKS), help="names, comma-separated; '' for none"
    )
    p.add_argument("--seconds", type=float, default=5, help="of an attack")
    p.add_argument("--out", help="JSON file")
    args = p.parse_args(argv)
    summary, bad = {"attacks": []}, []
    with tempfile.TemporaryDirectory() as folder:
        if args.sessions and args.minutes:
            with Server(folder, XRAYPNEU_TOKEN=TOKEN, XRAYPNEU_SESSIONS=str(args.sessions + 5)) as server:
                summary["load"] = done = await load(server, args.sessions, 60 * args.minutes, args.seed, warm_s=80)
                bad += [f"load: {f}" for f in done["failures"]] + [f"log: {w}" for w in leaks(server)]
                if done["kernels_left"]:
                    bad.append("load: processes left")
                if done["grew_percent"] > 5:
                    bad.append("load: memory")
            for k, v in done.items():
                print(f"{k:20} {v}")
        with Server(folder, XRAYPNEU_TOKEN=TOKEN, **LIMITS) as server:
            print("\n| attack | another visitor waited at most, s | the attacker got |\n|---|---|---|")
            wanted = [a for a in ATTACKS if a.__name__ in args.attacks.split(",")]
            async for one, done in attacks(server, wanted, args.seconds):
                if isinstance(done, Exception):
                    bad.append(f"{one.__name__}: {done!r}")
                    continue
                summary["attacks"].append(done)
                print(f"| {done['what']} | {done['slowest_s']:.2f} | {done['attacker']} |", flush=True)
                if done["slowest_s"] > ANSWER_S:
                    bad.append(f"{done['attack']}: {done['slowest_s']} s")
                if done["left"]:
                    bad.append(f"{done['attack']}: processes left")
            bad += [f"log: {w}" for w in leaks(server)]
    summary["failures"] = bad
    print("\nFailed: " + "; ".join(bad) if bad else "\nAll held.")
    if args.out:
        Path(args.out).write_text(json.dumps(summary, indent=1) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
