"""A Ray cluster of two one-core nodes on this machine, for tests, bench/kills.py and bench/score.py."""

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
MEMORY = 80_000_000  # bytes of a node's object store, the least that Ray allows
# A busy machine needs longer than Ray waits for its own processes; nothing is sent to its makers.
PATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
}


def free_ports(n):
    "Ports that nobody listens on now."
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("", 0))
        return [s.getsockname()[1] for s in sockets]


def alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class TwoNodes:
    "The cluster; its nodes import this checkout's package."

    def __init__(self, **env):
        # Paths of sockets have at most 107 characters, and Ray's own part of them is long
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        (self.folder / "lib").mkdir()
        # not the root itself: its voila.py would be found before the package voila
        (self.folder / "lib/xraypneu").symlink_to(ROOT / "xraypneu")
        self.env = {**PATIENT, **env, "PYTHONPATH": str(self.folder / "lib"), "RAY_TMPDIR": str(self.folder)}
        self.before = {k: os.environ.get(k) for k in self.env}
        os.environ.update(self.env)  # before Ray is imported, which reads some of them then
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(shutdown_at_exit=True)
        self.head = self._node(include_log_monitor=False, include_dashboard=False)
        self.worker = self._node()
        self.address = self.cluster.address

    def _node(self, **options):
        # with ports of their own, nobody waits for the agents to say which they took
        names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        return self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY, **ports, **options)

    def processes(self, of):
        "What runs on the cluster whose command line holds a text."
        return [
            p for p in psutil.process_iter(["cmdline"]) if of in " ".join(p.info["cmdline"] or ()) and self._ours(p)
        ]

    def _ours(self, process):
        with contextlib.suppress(psutil.Error):
            return any(str(self.folder) in " ".join(p.cmdline()) for p in (process, *process.parents()))
        return False

    def at_work(self):
        "The worker processes that score a shard now."
        return [p for p in self.processes("ray::score_shard") if alive(p)]

    def lose_node(self):
        "End the node where no driver is with kill -9."
        self.worker.kill_raylet(check_alive=False)

    def add_node(self):
        "A node in the place of the lost one."
        self.cluster.remove_node(self.worker, allow_graceful=False)
        self.worker = self._node()

    def close(self):
        "End all processes of the cluster."
        self.cluster.shutdown()
        for name, value in self.before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
