"""The served page under attack: real Voilà, real processes, and messages that no page would send."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from served import ROOT, Server, film
from traitlets.config import Config

from xraypneu.serving import dashboard, guard, template, warm
from xraypneu.serving import session as state

sys.path.insert(0, str(ROOT / "bench"))
import load  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    limits = load.LIMITS | {"XRAYPNEU_AWAY_S": "4"}  # each attack ends with a wait until its sessions are gone
    with Server(tmp_path_factory.mktemp("voila"), XRAYPNEU_TOKEN=load.TOKEN, **limits) as s:
        yield s


@pytest.fixture(scope="module")
def attacked(server):
    "What came of each attack; one after the other, beside one visitor."

    async def run():
        return {one: done async for one, done in load.attacks(server, seconds=1)}

    return asyncio.run(run())


@pytest.mark.parametrize("one", load.ATTACKS, ids=lambda a: a.__name__)
def test_others_are_answered_during(attacked, one):
    "One client does its worst; another one is answered within two seconds and sees only its own; no process is left."
    done = attacked[one]
    if isinstance(done, Exception):
        raise done
    assert done["slowest_s"] < load.ANSWER_S and done["left"] == 0, done


def test_a_closed_socket_takes_little_more(server):
    "Tornado reads for five seconds from a client that was told to go: others waited while it took gigabytes."

    async def run():
        me, taken = await load.Visitor(server, load.ATTACKER).start(), 0
        await me.socket.send(b"no message")
        with pytest.raises(load.Refused, match="1008"):
            while True:
                await me.socket.receive()
        until = time.monotonic() + 2
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < until:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + 2):
                    await me.socket.send(bytes(15_000_000))
                taken += 1
        await me.leave()
        return taken

    assert asyncio.run(run()) <= 40


def test_load_leaves_nothing(server):
    done = asyncio.run(load.load(server, 3, 5, settle_s=5))
    assert done["failures"] == [] and done["kernels_left"] == 0 and done["films"], done
    assert done["grew_percent"] < 15, done  # the long form in bench/load.py asks for 5 after a minute of rest


def test_the_log_holds_no_secret_and_no_name(server, attacked):
    "After all that stands above: token, films' names, tracebacks."
    for path in (
        f"nowhere?token={load.TOKEN}x",
        f"voila/files/{load.CANARY}.png?token={load.TOKEN}",
        f"{load.CANARY}.png",
    ):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{server.url}{path}", timeout=10)
    assert load.leaks(server) == []
    text = server.log.read_text()
    # what happened is there
    assert re.search("Websocket closed: (more than|too many unprocessed)", text) and "403 Unknown host name" in text


def test_sessions_are_capped_and_the_token_is_not_logged_then(tmp_path):
    with Server(tmp_path, XRAYPNEU_TOKEN="open-sesame", XRAYPNEU_SESSIONS="1", XRAYPNEU_WARM="0") as s:
        assert b"data-ready" in urllib.request.urlopen(f"{s.url}?token=open-sesame", timeout=60).read()
        (session,) = s.kernels()  # started the ordinary way, as XRAYPNEU_WARM wants it, without a word
        assert "ipykernel_launcher" in " ".join(session.cmdline()) and "slow way" not in s.log.read_text()
        with pytest.raises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(f"{s.url}?token=open-sesame", timeout=60)
        said = e.value.read().decode()
        assert e.value.code == 503 and "Too many sessions" in str(e.value) and e.value.headers["Retry-After"] == "120"
        assert "All sessions are in use" in said and "open-sesame" not in said
        deadline = time.monotonic() + 10  # the line comes after the answer
        while "503 GET / from 127.0.0.1" not in s.log.read_text():
            assert time.monotonic() < deadline, s.log.read_text()
            time.sleep(0.1)
        assert "sesame" not in s.log.read_text()


def test_who_may_ask(tmp_path):
    "Names of XRAYPNEU_HOSTS; the address that a trusted proxy names; a link of another site, not its image."

    async def ask(source="127.0.0.1", **headers):
        return (
            await load.http(s.port, "/", headers={k.replace("_", "-"): v for k, v in headers.items()}, source=source)
        )[0]

    async def all_of_them():
        link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert await ask(Host="xrays.example.org", X_Forwarded_For="203.0.113.1", **link) == 200
        assert await ask(X_Forwarded_For="203.0.113.1") == 503  # it has its session
        assert await ask(X_Forwarded_For="203.0.113.1, 203.0.113.2") == 200  # the proxy wrote the last one
        assert await ask(source="127.0.0.3", X_Forwarded_For="203.0.113.9") == 200
        # not a trusted proxy: what it writes is ignored
        assert await ask(source="127.0.0.3", X_Forwarded_For="203.0.113.8") == 503
        assert await ask(Host="xrays.example.com") == 403
        assert await ask(**(link | {"Sec_Fetch_Dest": "iframe"})) == 403

    with Server(
        tmp_path, XRAYPNEU_HOSTS="xrays.example.org", XRAYPNEU_PROXIES="127.0.0.1", XRAYPNEU_PER_ADDRESS="1"
    ) as s:
        asyncio.run(all_of_them())


def test_a_busy_session_ends(tmp_path):
    "A film that never ends, in a session whose page is open: the slot is free again."
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('XRAYPNEU_HANG'):\n import time, xraypneu.serving.predict as p\n"
        " p.Predictor.predict = lambda *a, **k: time.sleep(600)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))

    async def hang():
        me, data = await load.Visitor(s).start(), film(size=300)
        await me.say(kind="begin", id="u", name="never.png", size=len(data))
        await me.say(data, kind="chunk", id="u", at=0)
        while s.kernels():
            await asyncio.sleep(0.2)

    with Server(tmp_path, PYTHONPATH=path, XRAYPNEU_HANG="1", XRAYPNEU_TOKEN=load.TOKEN, XRAYPNEU_BUSY_S="3") as s:
        asyncio.run(asyncio.wait_for(hang(), 90))  # the film's answer would come after 600 s
        assert "one request has occupied it" in s.log.read_text()


# --- what is outside of the page: settings, log, disk, other users of the machine


@pytest.mark.parametrize(
    "name, value", [("SESSIONS", "many"), ("MAX_MB", "nan"), ("MAX_MB", "129"), ("TOKEN", " "), ("SIGNATURE", "yes")]
)
def test_a_wrong_setting_stops_the_server(tmp_path, name, value):
    "Jupyter would log the error and serve the page without token and limits."
    with pytest.raises(RuntimeError) as e:
        Server(tmp_path, **{"XRAYPNEU_TOKEN": load.TOKEN, f"XRAYPNEU_{name}": value}).stop()
    assert f"XRAYPNEU_{name}" in str(e.value) and "does not start" in str(e.value) and "Traceback" not in str(e.value)


@pytest.mark.parametrize(
    "command, path",
    [
        ([str(Path(sys.executable).with_name("voila"))], f"{os.sep}nowhere{os.pathsep}"),
        ([sys.executable, "-m", "voila"], ""),
    ],
)
def test_settings_that_are_taken_for_the_package_say_so(command, path):
    "An empty entry of PYTHONPATH, as `/lib:$PYTHONPATH` leaves it, is this folder: a NameError was all that was said."
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([*command, "nbs/app/dashboard.ipynb"], cwd=ROOT, env=env, capture_output=True, timeout=60)
    assert done.returncode == 1 and b"env -u PYTHONPATH" in done.stderr and b"Error" not in done.stderr


SETTINGS = """
import asyncio, json, os, runpy, time
from tornado.ioloop import PeriodicCallback
from traitlets.config import Config
runpy.run_path("voila.py", {"get_config": Config})
from xraypneu.serving import dashboard
ticks = []

async def tick():
    timer = PeriodicCallback(lambda: ticks.append(1), 20)
    timer.start()
    await asyncio.sleep(0.1)
    now = time.time
    time.time = lambda: now() - 3600
    before = len(ticks)
    await asyncio.sleep(0.5)
    return len(ticks) - before

names = ("XRAYPNEU_MODEL", "XRAYPNEU_SIGNER_KEY", "MLFLOW_TRACKING_URI")
print(json.dumps({k: os.environ[k] for k in names} | {"max_mb": dashboard.MAX_MB, "ticks": asyncio.run(tick())}))
"""


@pytest.fixture(scope="module")
def configured():
    "What a server and its sessions make of their settings."
    given = {"XRAYPNEU_MODEL": "models/bundle", "XRAYPNEU_SIGNER_KEY": "signer.pub", "XRAYPNEU_MAX_MB": ""}
    env = os.environ | given | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db?timeout=9"}
    out = subprocess.run(
        [sys.executable, "-c", SETTINGS], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    return json.loads(out.stdout or f'"{out.stderr}"')


def test_settings_name_files_in_the_server_s_folder(configured):
    "Sessions run in the notebook's: a signed bundle was refused there, and another store was asked, and made."
    assert configured["XRAYPNEU_MODEL"] == str(ROOT / "models/bundle")
    assert configured["XRAYPNEU_SIGNER_KEY"] == str(ROOT / "signer.pub")
    assert configured["MLFLOW_TRACKING_URI"] == f"sqlite:///{ROOT}/mlflow.db?timeout=9"


def test_a_setting_that_is_empty_is_unset(configured):
    "As compose files leave it: the server came up, and every page failed."
    assert configured["max_mb"] == 25


def test_timers_go_on_when_the_clock_is_set_back(configured):
    "No session ended for as long as the clock was set back."
    assert configured["ticks"] > 5


def test_a_clock_that_is_set_ends_no_session(monkeypatch):
    "Neither one in use nor, when it is set back, never: half an hour is counted, not read from the time of day."
    manager, now, ended = guard.SessionManager(cull_idle_timeout=1800), [1e5], []
    kernel = types.SimpleNamespace(execution_state="idle", last_activity=datetime(2000, 1, 1, tzinfo=UTC))
    kernel.kernel_name, kernel.kernel_spec = "python3", types.SimpleNamespace(metadata={})
    manager._kernels["k"] = kernel
    manager.sessions["k"] = guard._Session("192.0.2.1", starting=False, connected=True)
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(manager, "shutdown_kernel", lambda *_, **__: ended.append(now[0]))

    def sweep(seconds):
        now[0] += seconds
        asyncio.run(manager.cull_kernel_if_idle("k"))
        return ended

    assert not sweep(0) and not sweep(1790)
    kernel.last_activity = datetime(1990, 1, 1, tzinfo=UTC)
    assert not sweep(0) and not sweep(1790) and sweep(20)


def test_a_token_that_nobody_asks_for_opens_no_page(monkeypatch):
    "A server that was started in another folder, or may not read voila.py, has no token and no limits."
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    dashboard.Dashboard()
    monkeypatch.setenv("XRAYPNEU_TOKEN", load.TOKEN)  # voila.py would have taken it away
    with pytest.raises(RuntimeError, match="does not ask for it"):
        dashboard.Dashboard()


def test_what_a_client_made_up_is_not_logged(server):
    "Paths, methods, requests that are none, and whatever a widget's message contains."

    async def all_of_them():
        me = await load.Visitor(server).start()
        lines = [f"GET /voila/{part}/{load.CANARY}" for part in ("templates", "static", "files", "labextensions")]
        lines += [f"GET /voila/static/../../{load.CANARY}", f"GET /voila/static/..%2F..%2F{load.CANARY}%20x"]
        lines += [f"{method} /{load.CANARY}" for method in ("PROPFIND", load.CANARY, "TRACE")]
        lines += [f"GET http://localhost/{load.CANARY}", f"GET /api/kernels/{load.CANARY}/channels"]
        lines += [f"POST /voila/api/shutdown/{load.CANARY}", f"GET /{load.CANARY} {load.CANARY}"]
        for line in lines:
            method, path = line.split(" ", 1)
            await load.http(server.port, path, method, {"Cookie": me.cookie, "X-XSRFToken": me.xsrf})
        await load.http(server.port, "/", headers={load.CANARY + " ": load.CANARY})
        sent = [
            ("comm_msg", {"comm_id": me.comm, "data": {"method": load.CANARY}}, "shell", {}),
            ("comm_msg", {"comm_id": me.comm, "data": {"method": {load.CANARY: 1}}}, "shell", {}),
            ("comm_msg", {"comm_id": load.CANARY, "data": {"method": "update"}}, "shell", {}),
            ("comm_msg", {"comm_id": load.CANARY, "data": {"method": "custom"}}, "control", {}),
            ("kernel_info_request", {}, "shell", {"subshell_id": load.CANARY}),
            ("comm_close", {"comm_id": load.CANARY}, "shell", {}),
        ]
        for kind, content, channel, header in sent:
            await me.connect()
            await me.socket.send(load.frame(kind, content, channel=channel, **header))
            with contextlib.suppress(load.Refused, TimeoutError):
                await asyncio.wait_for(me.hear("never"), 0.5)
            me.socket.close()
        own, same_site = f"username-127-0-0-1-{server.port}={load.CANARY}|1|c", {"Sec-Fetch-Site": "same-origin"}
        for path in ("/", "/login", f"/login?next=//{load.CANARY}/", f"/login?next=http:{load.CANARY}%20x"):
            await load.http(server.port, path, headers={"Cookie": own})
            await load.http(server.port, path, headers=same_site | {"Cookie": me.cookie, "Origin": load.CANARY})
            await load.http(server.port, path, headers={"Cookie": me.cookie})
        with contextlib.suppress(load.Refused):
            await me.connect(Origin=f"http://{load.CANARY}", Sec_Fetch_Site="same-origin")
        await me.connect(session=load.CANARY)
        await asyncio.sleep(1)
        me.socket.close()
        await asyncio.sleep(1)
        await me.leave()

    asyncio.run(all_of_them())
    assert load.leaks(server) == []


def test_control_characters_in_an_address_are_refused(server):
    "Tornado failed in its redirect: an error 500, and a traceback in the log."
    before = server.log.read_text()
    for path in ("/%00", "/voila/render/%0a", "/a%7Fb"):
        status, _, body = asyncio.run(load.http(server.port, path))
        assert status == 400 and b"Wrong address" in body, path
    assert "Uncaught" not in server.log.read_text()[len(before) :]


def test_a_login_that_asks_for_an_address_that_is_none_goes_to_the_page(server):
    "An error 500: Python can't parse a host that begins with a bracket."
    status, top, _ = asyncio.run(load.http(server.port, f"/login?token={load.TOKEN}&next=//[x"))
    assert status == 302 and b"location: /\r\n" in top.lower() + b"\r\n"


def listening(process):
    return {c.laddr.port for c in process.net_connections() if c.status == "LISTEN"}


def test_another_user_of_the_machine_cannot_read_along(server):
    "The process's ports are open to all programs of the machine; names and films must not be heard there."
    import zmq

    async def run():
        me = await load.Visitor(server).start()
        kernel = max(server.kernels(), key=lambda k: k.create_time())
        with zmq.Context() as context, context.socket(zmq.SUB) as spy:
            spy.linger = 0
            spy.subscribe(b"")
            for port in listening(kernel):
                spy.connect(f"tcp://127.0.0.1:{port}")
            await asyncio.sleep(1)
            assert (await me.upload(f"{load.CANARY}.png", film(size=300)))["verdict"]
            assert not spy.poll(1000), spy.recv_multipart()
        await me.leave()

    asyncio.run(run())


def test_a_session_is_opened_by_nothing_that_others_can_see(tmp_path):
    "All users of the machine see a process's arguments, others read logs: with the id, films could be read along."
    id = "53a676f6-f9f2-4c42-84e9-377ed3465b9c"
    process = guard.SessionProcess(connection_file=str(tmp_path / f"kernel-{id}.json"))
    assert Path(process.connection_file).parent == tmp_path and id[9:] not in process.connection_file
    lines = (f"Kernel started: {id}", f"404 GET /api/kernels/{id}/channels?session_id=x", f"Connecting to kernel {id}.")
    for line in lines:
        said = guard.private_text(line)
        assert id[9:] not in said and id[:8] in said or "(another path)" in said, said


def test_nothing_is_sent_to_a_socket_that_another_has_replaced():
    "Voilà took the first bytes of an older protocol's message for a length: the server never answered anybody again."
    from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

    process = guard.SessionProcess(parent=guard.SessionManager())
    handler, written = object.__new__(KernelWebsocketHandler), []
    handler.ws_connection, handler.write_message = None, lambda *message: written.append(message)
    socket = guard.GuardedConnection(parent=process, websocket_handler=handler)
    socket.flow = guard.Flow()
    stream = types.SimpleNamespace(channel="iopub", closed=lambda: False)
    message = socket.session.msg("comm_msg", {"comm_id": "a", "data": {"method": "custom", "content": {}}})
    socket.handle_outgoing_message(stream, [*socket.session.serialize(message), b"a picture"])
    assert written == [] and socket.subprotocol == guard.PROTOCOL


def test_a_page_that_is_still_loading_keeps_its_session(monkeypatch):
    "On a slow line the page's scripts take longer than the minute within which it must connect."
    now, manager = [1000.0], guard.SessionManager()
    monkeypatch.setattr(guard, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    kernel = types.SimpleNamespace(execution_state="idle", last_activity=datetime(2000, 1, 1, tzinfo=UTC))
    manager._kernels["k"] = kernel
    manager.sessions["k"] = session = guard._Session("192.0.2.1", starting=False, served=1000.0)

    def script(address):
        context = types.SimpleNamespace(remote_ip=address)
        connection = types.SimpleNamespace(context=context)
        request = types.SimpleNamespace(connection=connection, headers={}, path="/voila/static/1.js", method="GET")
        settings = {"kernel_manager": manager}
        guard.log_request(types.SimpleNamespace(get_status=lambda: 200, request=request, settings=settings))

    now[0] += guard.LIMITS.connect_s - 1
    script("192.0.2.1")
    now[0] += guard.LIMITS.connect_s - 1
    script("192.0.2.9")  # somebody else's
    assert not manager.overdue("k")
    now[0] += 2
    assert manager.overdue("k") == "nobody has connected to it"
    now[0] = session.began + 10 * guard.LIMITS.connect_s + 1  # but nobody holds it by that for ever
    script("192.0.2.1")
    assert manager.overdue("k") == "nobody has connected to it"


def test_a_page_that_is_reloaded_while_it_loads_frees_its_session(monkeypatch):
    "Somebody who pressed F5 ten times was refused for a minute, and told to close pages that he did not have."
    manager, closes = guard.SessionManager(), []
    manager._kernels["k"] = types.SimpleNamespace(
        execution_state="busy", last_activity=datetime(2000, 1, 1, tzinfo=UTC)
    )
    monkeypatch.setattr(manager, "admit", lambda handler: "192.0.2.1")
    connection = types.SimpleNamespace(set_close_callback=closes.append)
    page = types.SimpleNamespace(kernel_manager=manager, xsrf_token="", write=None, on_connection_close=lambda: None)
    page.request = types.SimpleNamespace(connection=connection)
    guard.before_a_session(page, None, None)
    closes[0]()  # before there is a session
    page.session_started = manager.sessions["k"] = session = guard._Session("192.0.2.1", starting=False)
    closes[0]()
    assert session.deserted and not manager.overdue("k")  # Voilà still runs the notebook's cells
    session.served = time.monotonic()
    assert manager.overdue("k") == "nobody has connected to it"
    session.deserted = False
    closes[0]()  # the connection of a page that is complete
    assert not manager.overdue("k")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_leaves_no_file_and_knows_no_token(tmp_path, monkeypatch):
    "No history, no core file, no event for anybody else; nothing in the temporary folder once the terminal is closed."
    import resource

    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))  # as where core files are wanted
    for name in ("CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)  # with one of these ONNX Runtime is silent by itself
    (tmp_path / "home/tmp").mkdir(parents=True)
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "home/tmp")}
    s = Server(tmp_path, XRAYPNEU_TOKEN=load.TOKEN, **places)
    try:

        async def run():
            me = await load.Visitor(s).start()
            await me.upload("a.png", film(size=300))

        asyncio.run(run())
        (kernel,) = s.kernels()
        for process in [kernel, *kernel.children(recursive=True)]:
            assert process.rlimit(resource.RLIMIT_CORE) == (0, 0)
            assert not [k for k, v in process.environ().items() if load.TOKEN in v]
        os.kill(s.process.pid, signal.SIGHUP)
        s.process.wait(20)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
        if s.process.poll() is None:
            s.stop()
    assert not list((tmp_path / "home/tmp").iterdir())
    left = {p.name for p in (tmp_path / "home").rglob("*") if p.is_file()}
    assert not any(w in name for name in left for w in ("history", "onnxruntime", "deviceid")), left


def test_what_a_process_logs_is_not_in_the_log(tmp_path):
    "Libraries in a session's process write tracebacks, whose words may be a visitor's."
    import nbformat

    code = f"import logging; logging.getLogger('tornado.general').error('{load.CANARY}'); open('{tmp_path}/ran', 'w')"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), tmp_path / "logs.ipynb")
    with Server(tmp_path, XRAYPNEU_TOKEN=load.TOKEN, notebook=tmp_path / "logs.ipynb") as s:
        asyncio.run(load.http(s.port, f"/?token={load.TOKEN}"))
    assert load.leaks(s) == [] and (tmp_path / "ran").exists()


def test_a_process_warns_of_nothing():
    "A message not yet awaited when the process ends is warned of after its output is closed: a traceback in the log."
    from jupyter_client import KernelManager

    from xraypneu.serving.guard import _ARGUMENTS

    process, outputs = KernelManager(), []
    process.start_kernel(extra_arguments=list(_ARGUMENTS))
    client = process.client()
    client.start_channels()
    try:
        client.wait_for_ready(60)
        code = "async def message(): pass\nwaiting = message()\ndel waiting"
        reply = client.execute_interactive(code, output_hook=outputs.append, timeout=20)
    finally:
        client.stop_channels()
        process.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok"
    assert [m["msg_type"] for m in outputs if m["msg_type"] == "stream"] == []


def test_sessions_open_no_port_that_another_program_could_take_first(tmp_path):
    "But where the folder's path is too long for sockets, they use ports, and the page works all the same."
    long = tmp_path / ("long" * 25)
    long.mkdir()
    with tempfile.TemporaryDirectory() as short:  # tmp_path is too long where pytest runs several processes
        for folder, ports in ((Path(short), 1), (long, 6)):  # one is IPython's own, for what child processes print
            with Server(tmp_path, TMPDIR=str(folder)) as s:
                assert b"data-ready" in urllib.request.urlopen(s.url, timeout=60).read()
                (session,) = s.kernels()
                assert sum(c.status == "LISTEN" for c in session.net_connections("tcp")) == ports
                assert bool(list(folder.glob("voila_*/kernel-*-[1-5]"))) == (folder != long)
            assert not list(folder.glob("voila_*"))


def test_neither_a_cleaned_temporary_folder_nor_a_missing_home_stops_anybody(tmp_path):
    """Systems remove from /tmp what nobody has touched for days: the folder of the connection files too.

    A service's user has no home: Jupyter has no place for the keys of trusted notebooks, and each page was an error.
    """
    with Server(tmp_path, TMPDIR=str(tmp_path), HOME="/dev/null/home") as s:
        (folder,) = tmp_path.glob("voila_*")
        folder.rmdir()
        assert urllib.request.urlopen(s.url, timeout=60).status == 200
        (new,) = tmp_path.glob("voila_*")
        assert new != folder and new.stat().st_mode & 0o077 == 0
    said = s.log.read_text()
    assert not list(tmp_path.glob("voila_*")) and "Traceback" not in said and "Uncaught" not in said


def test_a_session_that_is_ended_while_it_starts_writes_no_traceback(tmp_path):
    "Jupyter would interrupt it among its imports."
    with Server(tmp_path) as s:
        pages = []
        for _ in range(2):
            pages.append(urllib.request.urlopen(s.url, timeout=60))  # its first bytes: the process has only begun
            time.sleep(0.3)
        assert s.kernels()
    for page in pages:
        page.close()
    assert "Kernel started" in s.log.read_text() and "Traceback" not in s.log.read_text()


@pytest.mark.parametrize(
    "forked, code",
    [
        ("0", "if 'ipykernel_launcher' in ' '.join(sys.orig_argv): os._exit(1)"),
        ("1", "import xraypneu.serving.template as t; t._own = lambda settings: os._exit(1)"),
    ],
)
def test_a_process_that_dies_at_its_start_ends_its_page(tmp_path, forked, code):
    "Killed for memory, or without a free port: Voilà would send signs of life to the page for ever."
    (tmp_path / "sitecustomize.py").write_text(f"import os, sys\n{code}\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with Server(tmp_path, PYTHONPATH=path, XRAYPNEU_WARM=forked) as s:
        page = urllib.request.urlopen(s.url, timeout=30).read().decode()  # ends
        assert page.endswith(guard._DIED) and "xpSay = " in page and "it may lack memory" in page
        assert "died before its page was complete" in s.log.read_text()


def test_somebody_elses_folder_is_not_used(tmp_path, monkeypatch):
    manager, folder = guard.SessionManager(connection_dir=str(tmp_path / "voila_x")), tmp_path / "voila_x"
    folder.mkdir()
    manager._have_folder()
    assert manager.connection_dir == str(folder)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    manager._have_folder()
    assert manager.connection_dir != str(folder)


INIT = """
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)  # who loses its parent becomes this process's child, as process 1's
from xraypneu.serving.guard import be_init
be_init()
orphan = int(subprocess.check_output(["sh", "-c", "sleep 0.2 >/dev/null & echo $!"]))
deadline = time.monotonic() + 5
while os.path.exists(f"/proc/{orphan}") and time.monotonic() < deadline: time.sleep(0.05)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("left" if os.path.exists(f"/proc/{orphan}") else "gone", flush=True)
time.sleep(20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of a container")
def test_the_first_process_of_a_container_keeps_no_zombies():
    "What a session's process leaves, when it's killed, goes; signals and the exit status pass through."
    with subprocess.Popen([sys.executable, "-c", INIT], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "gone\n"
        process.terminate()
        assert process.wait(10) == 7


def test_sessions_of_one_address_share_a_pace():
    "Ten sessions that each keep within a session's bounds would keep the server from answering others."
    manager, now = guard.SessionManager(), [0.0]
    for name, address in (("one", "192.0.2.1"), ("two", "192.0.2.1"), ("other", "192.0.2.2")):
        manager.sessions[name] = manager._enter(address)
    one, two, other = manager.sessions.values()
    for session in (one, two, other):
        for pace in (session.flow.session_pace, session.flow.pace):
            pace.clock, pace.seen = lambda: now[0], now[0]

    def taken(session):
        try:
            session.flow.take({"msg_id": "m", "msg_type": "comm_msg"}, 10)
        except ValueError as e:
            assert "from one address" in str(e)
            return False
        session.flow.done("m")
        return True

    rate, counts = guard.Flow.RATE - 10, {}  # of each: well within a session's own bound
    for second in range(40):
        counts = dict.fromkeys(manager.sessions, 0)
        for i in range(rate):
            now[0] = second + i / rate
            for name, session in manager.sessions.items():
                counts[name] += taken(session)
    assert counts["one"] + counts["two"] < guard.Flow.RATE + 10 and counts["other"] == rate, counts
    manager.sessions = {}  # closing all pages and opening new ones changes nothing
    assert manager._enter("192.0.2.1").flow.pace is one.flow.pace


# --- the start of a session: forked from a template, or the ordinary way


def template_of(server):
    "The process that the server's sessions are forked from."
    (found,) = [p for p in psutil.Process(server.process.pid).children() if template._MAIN in p.cmdline()]
    return found


def newest(server):
    return max(server.kernels(), key=lambda k: k.create_time())


def memory_has(process, words):
    "Which of the words are in a process's memory."
    found = set()
    with open(f"/proc/{process.pid}/maps") as maps, open(f"/proc/{process.pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            low, high = (int(x, 16) for x in span.split("-"))
            if not rights.startswith("rw"):
                continue
            with contextlib.suppress(OSError, OverflowError):
                memory.seek(low)
                data = memory.read(high - low)
                found |= {w for w in words if w in data}
    return found


@pytest.mark.skipif(not warm.is_possible(), reason="sessions are forked on Linux")
def test_a_session_is_forked_and_nothing_of_it_is_elsewhere(server):
    "It shares what the template has loaded; its film, its name and its keys are in its own memory alone."

    async def run():
        me, other = await load.Visitor(server).start(), None
        mine = newest(server)
        assert (await me.upload("jane-of-this-session.png", film(size=300)))["verdict"]
        other = await load.Visitor(server).start()
        others = newest(server)
        parent = template_of(server)
        assert mine.parent() == others.parent() == parent and mine != others and parent.num_threads() == 1
        assert set(guard._ARGUMENTS) < set(parent.cmdline())  # read once, not by each session
        memory = mine.memory_full_info()
        assert memory.uss < 50e6 < memory.rss - memory.uss, memory
        words = {b"jane-of-this-" + b"session", me.kernel.encode(), me.comm.encode()}
        assert memory_has(mine, words) == words
        assert not memory_has(parent, words) and not memory_has(others, words)
        await me.leave()
        await other.leave()

    asyncio.run(run())


@pytest.mark.skipif(not warm.is_possible(), reason="sessions are forked on Linux")
def test_a_dead_template_ends_no_session_and_is_replaced(server):
    async def run():
        me, dead = await load.Visitor(server).start(), template_of(server)
        dead.kill()
        other = await load.Visitor(server).start()
        assert newest(server).parent() == template_of(server) != dead
        assert await me.ping() < load.ANSWER_S
        await me.leave()
        await other.leave()

    asyncio.run(run())


@pytest.mark.skipif(not warm.is_possible(), reason="sessions are forked on Linux")
def test_a_killed_server_leaves_no_process(tmp_path):
    with Server(tmp_path) as s:
        assert b"data-ready" in urllib.request.urlopen(s.url, timeout=60).read()
        processes = [template_of(s), *s.kernels(), *newest(s).children(recursive=True)]
        os.killpg(s.process.pid, signal.SIGKILL)
        s.process.wait(10)
        assert psutil.wait_procs(processes, timeout=10)[1] == []
        s.stop = lambda: None


def test_a_system_without_pidfd_is_not_asked_to_fork(monkeypatch, caplog):
    "Linux before 5.3, some containers: each template would end at the first session, with two tracebacks in the log."
    monkeypatch.setattr(os, "pidfd_open", Mock(side_effect=OSError(38, "Function not implemented")), raising=False)
    c = Config()
    warm.install(c, {})
    assert not warm.is_possible() and "VoilaConfiguration" not in c and "5.3 or later" in caplog.text


def test_without_a_template_sessions_start_the_ordinary_way(tmp_path):
    "One that can't start: the page opens, and the log says in one line why it takes longer."
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'serving.template' in ' '.join(sys.orig_argv): os._exit(1)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with Server(tmp_path, PYTHONPATH=path) as s:
        for _ in range(2):
            assert b"data-ready" in urllib.request.urlopen(s.url, timeout=60).read()
        kernels = s.kernels()
        assert all("ipykernel_launcher" in " ".join(k.cmdline()) for k in kernels) and len(kernels) == 2
        assert s.log.read_text().count("start the slow way") == (1 if warm.is_possible() else 0)


@pytest.mark.skipif(not warm.is_possible(), reason="sessions are forked on Linux")
def test_forked_sessions_have_their_own_random_numbers_and_settings(tmp_path):
    code = """
import multiprocessing as m, numpy, os, random, tempfile, uuid
print(numpy.random.random(), random.random(), m.current_process().authkey.hex(), uuid.uuid4(), tempfile.mktemp())
print(os.environ["VISITOR"], os.getcwd())
"""
    source, said = warm.Template(), ["", ""]
    for i, visitor in enumerate(("one", "two")):
        (folder := tmp_path / visitor).mkdir()
        with tempfile.TemporaryDirectory() as short:
            file, _ = write_connection_file(f"{short}/k.json", ip=f"{short}/k", transport="ipc", key=visitor.encode())
            env = dict(os.environ) | {"VISITOR": visitor}
            session = source.fork({"argv": ["-f", file, "--log-level=CRITICAL"], "env": env, "cwd": str(folder)})
            client = BlockingKernelClient(connection_file=file)
            client.load_connection_file()
            client.start_channels()
            client.wait_for_ready(timeout=30)
            client.execute(code)
            while (message := client.get_iopub_msg(timeout=10))["content"].get("execution_state") != "idle":
                said[i] += message["content"].get("text", "")
            client.stop_channels()
            session.kill()
            assert session.wait() == 1
    source.stop()
    one, two = (text.split() for text in said)
    assert len(one) == len(two) == 7 and "one" in one and "two" in two and not {*one} & {*two}, said


# --- the page's messages, in this process


def test_a_long_report_gives_signs_of_life(monkeypatch):
    "Page and server would take the silence for a lost session, and a thousand films take half a minute."
    board, sent = dashboard.Dashboard(), []
    board.app.send = lambda content, buffers=None: sent.append(content["kind"])
    for which in ("plain", "opacity"):
        board._on_message(None, {"kind": "sample", "which": which}, [])
    monkeypatch.setattr(dashboard, "ALIVE_S", 0)
    sent.clear()
    board._on_message(None, {"kind": "download"}, [])
    assert sent == ["working", "working", "file"]


def test_a_file_comes_in_pieces(monkeypatch):
    "One message of thirty megabytes holds up all others: a page on a slow line took its session for lost."
    board, sent = dashboard.Dashboard(), []
    board.app.send = lambda content, buffers=None: sent.append((content, buffers))

    def page(**content):
        return board._on_message(None, content, [])

    page(kind="sample", which="plain")
    page(kind="download")
    whole = sent[-1][1][0]
    assert sent[-1][0]["last"] and b"SYNTHETIC No opacity" in whole
    monkeypatch.setattr(dashboard, "PART", 1000)
    page(kind="download")
    pieces = sent[-1][1][0]
    while not (said := sent[-1][0])["last"]:
        page(kind="part", file=said["file"], number=said["number"] + 1)
        pieces += sent[-1][1][0]
    assert len(pieces) == len(whole) == said["size"] and said["number"] > 10 and pieces.endswith(b"</html>\n")
    assert board.file is None
    page(kind="download")
    for file, number in ((board.files, -1), (board.files, 10**6), (board.files - 1, 0)):
        page(kind="part", file=file, number=number)
        assert sent[-1][0]["kind"] == "trouble" and "was deleted" in sent[-1][0]["message"]


def any_value(rng, depth=0):
    "Random JSON."
    plain = [
        None,
        True,
        0,
        -1,
        2**63,
        1e308,
        float("nan"),
        "",
        "u1",
        "../../etc/passwd",
        "\ud800",
        "x" * 5000,
        "csv",
        "plain",
    ]
    if depth > 3 or rng.random() < 0.6:
        return rng.choice(plain)
    if rng.random() < 0.5:
        return [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {
        rng.choice(["kind", "id", "name", "size", "at", "value"]): any_value(rng, depth + 1)
        for _ in range(rng.randrange(4))
    }


def any_message(rng):
    "Something near to a message, or nothing like it."
    if rng.random() < 0.1:
        return any_value(rng)
    kind = rng.choice([*dashboard.FIELDS, {}, [], None, "__class__", "config"])
    fields = dashboard.FIELDS.get(kind, {"id": 0}) if isinstance(kind, str) else {}
    near = {
        "id": f"u{rng.randrange(4)}",
        "name": "a.png",
        "size": rng.choice([3, 20_000_000, 10**12]),
        "at": rng.choice([0, 3]),
        "why": "no",
        "value": rng.random(),
        "which": "plain",
        "n": 1,
    }
    message = {"kind": kind} | {f: near.get(f, 0) if rng.random() < 0.7 else any_value(rng) for f in fields}
    if rng.random() < 0.1:
        message[rng.choice(["self", "buffer", "more", "_"])] = any_value(rng)
    return message


def test_no_message_gets_a_traceback(capfd, monkeypatch):
    monkeypatch.setattr(state, "MAX_FILES", 40)
    board, sent, rng = dashboard.Dashboard(), [], random.Random(10)
    # as Jupyter: a lone surrogate can't be sent
    board.app.send = lambda content, buffers=None: sent.append(json.dumps(content, ensure_ascii=False).encode())
    kinds = {
        "row",
        "rows",
        "ack",
        "gone",
        "pong",
        "trouble",
        "operating",
        "moved",
        "show",
        "cleared",
        "deep",
        "file",
        "about",
        "working",
        "compared",
        "removed",
    }
    for _ in range(1500):
        board._on_message(None, any_message(rng), [memoryview(b"abc")] * rng.choice([0, 0, 1, 1, 2]))
        films, uploads = board.session.films, board.session.uploads
        assert len(films) <= 40 and len(uploads) <= state.MAX_UPLOADS
        assert all(len(k) <= 64 for k in [*films, *uploads])
    assert {json.loads(s)["kind"] for s in sent} <= kinds
    assert not any(
        w in s for s in sent for w in (b"Traceback", b"Error:", b".py", str(ROOT).encode(), b"/site-packages/")
    )
    assert "passwd" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("jane"),
        MemoryError(),
        RecursionError(),
        SystemExit(3),
        KeyboardInterrupt(),
        type("Panic", (BaseException,), {})("jane"),
    ],
)
def test_whatever_a_decoder_raises_becomes_a_row(raised, capfd):
    board, sent = dashboard.Dashboard(), []
    board.predictor.predict = Mock(side_effect=raised)
    board.app.send = lambda content, buffers=None: sent.append(content)
    board._on_message(None, {"kind": "begin", "id": "u1", "name": "jane.png", "size": 3}, [])
    board._on_message(None, {"kind": "chunk", "id": "u1", "at": 0}, [memoryview(b"abc")])
    row = next(m["row"] for m in sent if m["kind"] == "row")
    assert row["id"] == "u1" and "went wrong" in row["error"] and board.session.uploads == {}
    board.uploader.set_state(
        {"value": [{"name": "jane.png", "type": "", "size": 3, "last_modified": 0, "content": memoryview(b"abc")}]}
    )
    assert sum(m["kind"] == "row" for m in sent) == 2
    err = capfd.readouterr().err
    assert type(raised).__name__ in err and "jane" not in err


def test_a_page_may_connect_any_number_of_times():
    "Each time it opens and closes a channel, by which it gets the widgets' state. At the 65th, the films were lost."
    flow = guard.Flow(clock=lambda: 0)
    for i in range(200):
        for kind in ("comm_open", "comm_close"):
            flow.take({"msg_id": f"{kind}{i}", "msg_type": kind}, 0, f"channel{i}")
    for i in range(flow.OPENED):
        flow.take({"msg_id": f"m{i}", "msg_type": "comm_open"}, 0, f"channel{i}")
    with pytest.raises(ValueError, match="too many channels"):
        flow.take({"msg_id": "m", "msg_type": "comm_open"}, 0, "one more")


def test_a_session_has_bounds(monkeypatch):
    "Every way in counts: refused and over-limit files, samples, plain upload; each limit has one clear message."
    monkeypatch.setattr(state, "MAX_FILES", 5)
    board, sent = dashboard.Dashboard(), []
    board.app.send = lambda content, buffers=None: sent.append(content)

    def last():
        return next(m["row"]["error"] for m in reversed(sent) if m["kind"] == "row")

    def page(**content):
        return board._on_message(None, content, [])

    for i in range(20):
        page(kind="begin", id=f"u{i}", name="a.png", size=1000)
    assert len(board.session.uploads) + len(board.session.films) <= 10
    for i in range(20):
        page(kind="refused", id=f"r{i}", name="n" * 10_000, why="w" * 10_000)
        page(kind="begin", id=f"o{i}", name="a.png", size=10**9)
        page(kind="sample", which="plain")
    board.uploader.set_state(
        {
            "value": [
                {"name": f"{i}.png", "type": "", "size": 3, "last_modified": 0, "content": memoryview(b"abc")}
                for i in range(9)
            ]
        }
    )
    assert len(board.session.films) <= 5 and "already has 5 files" in last()
    assert max(len(m["row"]["file"]) for m in sent if m["kind"] == "row") <= 120
    page(kind="clear")
    monkeypatch.setattr(state, "MAX_KEPT", 1)
    page(kind="sample", which="plain")
    page(kind="sample", which="plain")
    assert "images already take" in last()
    page(kind="clear")
    monkeypatch.setattr(state, "MAX_FILES", 100)
    for i in range(20):
        page(kind="begin", id=f"u{i}", name="a.png", size=1000)
    assert len(board.session.uploads) == state.MAX_UPLOADS and "already being uploaded" in last()
