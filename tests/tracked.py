"""Real tracking servers for tests: an `mlflow server` that can be killed, frozen and started again, and PostgreSQL."""

import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from served import free_port

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@functools.cache
def empty_store():
    "Bytes of an MLflow store with sqlite and without a run: MLflow takes seconds to make its tables."
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/mlflow.db")
        _initialize_tables(engine)
        engine.dispose()
        return Path(folder, "mlflow.db").read_bytes()


class MlflowServer:
    "`mlflow server` in processes of its own; artifacts go through it to a folder that only it knows."

    def __init__(self, folder, store=None):
        self.folder, self.port = Path(folder), free_port()
        self.store = store or f"sqlite:///{self.folder}/server.db"
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        "Start it, at the same address as before."
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            self.store,
            "--artifacts-destination",
            str(self.folder / "artifacts"),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--workers",
            "1",
        ]
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # starts faster
        with open(self.folder / "server.log", "a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        self.wait()

    def wait(self, seconds=120):
        "Until it answers."
        deadline = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except (urllib.error.URLError, OSError):
                alive = self.process.poll() is None and time.monotonic() < deadline
                assert alive, (self.folder / "server.log").read_text()[-3000:]
                time.sleep(0.2)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait(20)

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    @contextmanager
    def dead(self):
        "Killed, and started again at the end."
        self.kill()
        try:
            yield
        finally:
            self.start()

    def stop(self):
        if self.process.poll() is None:
            self.thaw()
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Postgres:
    "A PostgreSQL cluster in a temporary folder, on a free port."

    def __init__(self):
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="xraypneu-pg-", dir="/tmp")), free_port()
        self.prefix = []
        if os.getuid() == 0:  # initdb refuses root
            user = "postgres" if any(p.pw_name == "postgres" for p in pwd.getpwall()) else "nobody"
            shutil.chown(self.folder, user)
            self.prefix = ["runuser", "-u", user, "--"]
        self.run("initdb", "-D", self.folder / "data", "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-k {self.folder} -p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "-w", "start")
        self.uri = f"postgresql+psycopg2://tester@127.0.0.1:{self.port}/postgres"

    def run(self, program, *arguments):
        command = [*self.prefix, str(POSTGRES / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd="/tmp",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
