"""A real Voilà and what a real Chromium needs, for the browser tests and for bench/dashboard.py."""

import contextlib
import functools
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
from PIL import Image

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Playwright's own list, which a second one replaces, and the address bar's two pop-ups: each window would load their
# pages, which nobody sees, and which take a third as long as ours
DISABLED = (
    "AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,"
    "LensOverlay,MediaRouter,PaintHolding,ThirdPartyStoragePartitioning,AvoidCorsURLLoaderRestartOnRedirect,"
    "OptimizationHints,NetworkTimeServiceQuerying,AimEnabled,PreconnectToSearch,WebUIOmniboxPopup,WebUIOmniboxAimPopup"
)
ARGS = [
    f"--disable-features={DISABLED}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY = "main.xp[data-ready]"
# a test's browser ends without the message that ends a session, so its sessions last a while: the defaults would turn
# the 51st page within five minutes away
VISITORS = {"XRAYPNEU_SESSIONS": "1000", "XRAYPNEU_PER_ADDRESS": "1000", "XRAYPNEU_AWAY_S": "60"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, process=None):
    for _ in range(1200):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process is None or process.poll() is None, "the server ended"
            time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


@contextlib.contextmanager
def moto(**env):
    "An S3 server; its address."
    port = free_port()
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    command, quiet = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)], subprocess.DEVNULL
    server = subprocess.Popen(command, env={**os.environ, **env}, stdout=quiet, stderr=quiet)
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


class Server:
    "Voilà in a process of its own, as `make app` starts it."

    def __init__(self, folder, *arguments, notebook="nbs/app/dashboard.ipynb", **env):
        self.port, self.log = free_port(), Path(folder) / "voila.log"
        self.url = f"http://127.0.0.1:{self.port}/"
        command = [
            str(Path(sys.executable).with_name("voila")),
            str(notebook),
            f"--port={self.port}",
            "--no-browser",
            *arguments,
        ]
        with open(self.log, "w") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=out, env={**os.environ, **VISITORS, **env}, start_new_session=True
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}voila/static/voila.js", timeout=2).read()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Voilà did not start:\n{self.log.read_text()}") from None
                time.sleep(0.2)

    def kernels(self):
        "The processes of the sessions."
        from xraypneu.serving.template import PROCESS_NAME  # imports the dashboard, which not all tests need

        def is_kernel(p):
            try:
                return p.name() == PROCESS_NAME or "ipykernel_launcher" in " ".join(p.cmdline())
            except psutil.Error:
                return False  # it has just ended

        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if is_kernel(p)]

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


@functools.lru_cache(maxsize=512)
def film(patient=0, ill=False, size=400, format="PNG", seed=4):
    "Bytes of a synthetic radiograph; drawing one takes a tenth of a second."
    from xraypneu.data.sample import draw_radiograph

    file = io.BytesIO()
    Image.fromarray(draw_radiograph(patient, pneumonia=ill, seed=seed, size=size)[0]).save(file, format)
    return file.getvalue()


# of a list of [name, base64], the DataTransfer that a drop of these files brings
TRANSFER = """files => { const d = new DataTransfer();
    for (const [n, b] of files) d.items.add(new File([Uint8Array.from(atob(b), c => c.charCodeAt(0))], n)); \
return d; }"""
