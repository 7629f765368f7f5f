"""Faults on purpose: kills, full disks, read-only folders, jumping clocks, bad networks, fuzzing, load. `make faults`.

Each case starts a step of the pipeline in a small synthetic project, injects one fault, runs the step again as a user
would, and compares the outcome with that of an undisturbed run: files, DVC's cache and remote, MLflow. Results are
stored per case in .cache/faults, so that a campaign that was stopped goes on; a change of what it tests begins it anew.
Writes bench/faults.md and bench/faults.json from these results.
"""

import argparse
import ast
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from xraypneu.markdown import markdown_table
from xraypneu.ops.project import mend_rwlock
from xraypneu.ops.tracking import git_state

HERE = Path(__file__).parent
ROOT = HERE.parent
STATE = ROOT / ".cache/faults"
sys.path.insert(0, str(ROOT / "tests"))
KINDS = ("lost", "doubled", "differing", "failed")
STEPS = ("prepare", "train", "evaluate", "promote", "push", "fetch")
TINY = {
    "sample": {"patients": 30},
    "evaluate": {"bootstrap": 50},
    "promote": {"floor": {"roc_auc": 0.0}},  # so short a training must be promoted too
}
DATA = "data/fetched"  # where the step fetch puts its data set


# --- a project, its steps, and what undisturbed steps leave


def environment(**more) -> dict:
    "Variables for a step: this environment's programs first, the project's package, none of the developer's settings."
    removed = ("MLFLOW_", "XRAYPNEU_", "DVC_", "KERAS_", "GIT_", "PYTHONPATH", "PYTEST")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(removed) and not k.lower().endswith("_proxy")}
    who = {
        f"GIT_{w}_{k}": v
        for w in ("AUTHOR", "COMMITTER")
        for k, v in (("NAME", "test"), ("EMAIL", "test@example.invalid"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return (
        keep
        | who
        | {
            "PATH": path,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_SITE_CACHE_DIR": str(STATE / "work/state"),  # what DVC knows of the remote, restored with it
        }
        | more
    )


def command(step: str, url: str = "", sha256: str = "") -> list[str]:
    "A step as a user types it."
    if step == "push":
        return ["dvc", "push"]
    if step == "promote":
        return [sys.executable, "-m", "xraypneu.cli", "promote"]
    if step == "fetch":
        return [sys.executable, "-m", "xraypneu.cli", "fetch", url, "--sha256", sha256, "--to", DATA]
    return ["dvc", "repro", "--single-item", step]


def run(cmd: list, cwd: Path, timeout: float = 600, **env) -> subprocess.CompletedProcess:
    "Run a command to its end; standard error is in its stdout."
    return subprocess.run(
        cmd,
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        env=environment(**env),
    )


def copy_tree(source: Path, to: Path):
    "Put a copy in the place of `to`, which may be a mounted disk."
    to.mkdir(parents=True, exist_ok=True)
    for p in to.iterdir():
        shutil.rmtree(p) if p.is_dir() and not p.is_symlink() else p.unlink()
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", str(to)], check=True)


class Ground:
    "A small project at one path (MLflow stores absolute ones), and copies of it from before and after each step."

    def __init__(self, folder: Path, work: Path):
        self.folder, self.work = folder, work
        self.project = self.work / "xray"
        self.seconds = {}

    def before(self, step: str) -> Path:
        return self.folder / step

    def after(self, step: str) -> Path:
        return self.folder / [*STEPS, "end"][STEPS.index(step) + 1]

    def restore(self, step: str) -> Path:  # the project
        "The state before a step, at the path where it is run."
        copy_tree(self.before(step), self.work)
        return self.project

    def build(self, site):
        "Run all steps once, undisturbed."
        note = self.folder / "seconds.json"
        if not note.is_file():
            for old in STATE.glob("ground-*"):
                shutil.rmtree(old)
            copy_tree(self._new_project(), self.work)
            for step in STEPS:
                copy_tree(self.work, self.before(step))
                status, output, self.seconds[step] = measured(command(step, *site), self.project)
                if status:
                    raise SystemExit(f"the undisturbed {step} failed:\n{output}")
                say(f"undisturbed {step}: {self.seconds[step]}")
            copy_tree(self.work, self.folder / "end")
            note.write_text(json.dumps(self.seconds))
        self.seconds = json.loads(note.read_text())

    def _new_project(self) -> Path:
        from conftest import make_project, set_params

        with tempfile.TemporaryDirectory() as folder:
            os.environ.update({k: v for k, v in environment().items() if k.startswith("GIT_")})
            project = make_project(Path(folder) / "xray")
            set_params(project, TINY)
            for cmd in (
                ["git", "commit", "-qam", "smaller"],
                ["dvc", "repro", "-q", "sample"],
                ["dvc", "remote", "add", "-q", "-d", "team", "../remote"],
            ):
                if (done := run(cmd, project)).returncode:
                    raise SystemExit(f"{cmd} failed:\n{done.stdout}")
            copy_tree(Path(folder), self.folder / "new")
        return self.folder / "new"


# --- comparing


def digest(path: Path) -> str:
    "md5 of a file's bytes."
    with open(path, "rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def files(folder: Path) -> dict:
    "Relative path to md5, of all files of a folder or of one file; {} where there is none."
    if folder.is_file():
        return {"": digest(folder)}
    return {p.relative_to(folder).as_posix(): digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def lock(project: Path) -> dict:
    "Stage to output to md5, of dvc.lock; models/run.json apart, which holds the run's random id."
    path = project / "dvc.lock"
    stages = YAML(typ="safe").load(path.read_text())["stages"] if path.is_file() else {}
    outs = {name: {o["path"]: o["md5"] for o in stage.get("outs", [])} for name, stage in stages.items()}
    return {name: {k: v for k, v in found.items() if k != "models/run.json"} for name, found in outs.items()}


def ask(db: Path, query: str) -> list:
    "Rows of an MLflow store, read from the file: a client would keep connections to a store that was replaced."
    if not db.is_file():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=1)) as c:
        try:
            return c.execute(query).fetchall()
        except sqlite3.OperationalError:  # no such table yet, or being written
            return []


def recorded(project: Path) -> dict:  # name to Counter
    "What MLflow holds, without what differs from run to run: ids, times, durations."
    db = project / "mlflow.db"
    got = {
        "run": ask(db, "select status from runs where lifecycle_stage = 'active'"),
        "metric point": ask(db, "select key, step, value from metrics where key != 'seconds'"),
        "time of an epoch": ask(db, "select step from metrics where key = 'seconds'"),
        "parameter": ask(db, "select key, value from params"),
        "tag": ask(db, "select key, value from tags where key != 'xraypneu_record'"),
        "model version": ask(db, "select name, version, status from model_versions"),
        "alias": ask(db, "select name, alias, version from registered_model_aliases"),
        "model's tag": ask(db, "select name, key, value from registered_model_tags"),
        "decision": ask(
            db, "select version, key, value from model_version_tags where key not in ('decided', 'registered_at')"
        ),
        "Keras model": ask(db, "select name, status from logged_models where lifecycle_stage = 'active'"),
        "artifact": _artifacts(project, db),
    }
    return {k: Counter(v) for k, v in got.items()}


def _artifacts(project, db):
    "Path and md5 of what lies in the run; of the Keras model, whose description has ids in it, the paths."
    out = []
    for (run_id,) in ask(db, "select run_uuid from runs where lifecycle_stage = 'active'"):
        out += files(project / "mlartifacts" / run_id).items()
    for (model,) in ask(db, "select model_id from logged_models where lifecycle_stage = 'active'"):
        out += [(f"model/{path}", "") for path in files(project / "mlartifacts/models" / model)]
    return out


def broken_objects(store: Path) -> list[str]:
    "Objects of a DVC cache or remote whose bytes are not those that their name promises."
    found = [
        p for p in store.glob("files/md5/??/*") if p.is_file() and not p.name.startswith(".")
    ]  # .*.tmp: being written
    return [str(p.relative_to(store)) for p in found if digest(p) != (p.parent.name + p.name).removesuffix(".dir")]


def differences(wanted: dict, got: dict, what: str) -> list:  # pairs of kind and text
    "Compare two mappings of paths to hashes."
    out = [("lost", f"{what} {k}") for k in wanted.keys() - got.keys()]
    out += [("doubled", f"{what} {k}") for k in got.keys() - wanted.keys()]
    return out + [("differing", f"{what} {k}") for k in wanted.keys() & got.keys() if wanted[k] != got[k]]


_TEMPORARY = re.compile(r"/\.[\w-]+\.tmp$")  # what DVC was writing when it was killed; it is no object


def compare(project: Path, reference: Path, remote: tuple[Path, Path] | None = None, ignore: tuple = ()) -> list:
    "What a project has lost, doubled or changed, compared with one that ran undisturbed; pairs of kind and text."
    problems = []
    wanted, got = lock(reference), lock(project)
    for stage in wanted:
        problems += differences(wanted[stage], got.get(stage, {}), "output in dvc.lock:")
        for out in wanted[stage]:
            problems += differences(files(reference / out), files(project / out), f"{out}/")
    before, now = recorded(reference), recorded(project)
    for what in before:
        if what not in ignore:
            problems += [("lost", f"{n} × {what} {k}") for k, n in (before[what] - now[what]).items()]
            problems += [("doubled", f"{n} × {what} {k}") for k, n in (now[what] - before[what]).items()]
    problems += differences(files(reference / DATA), files(project / DATA), "fetched file")
    problems += [("doubled", f"left behind: {p.relative_to(project)}") for p in project.glob("data/.fetched.*")]
    problems += [("differing", f"object {p} of the cache is broken") for p in broken_objects(project / ".dvc/cache")]
    if remote:
        problems += [("differing", f"object {p} of the remote is broken") for p in broken_objects(remote[1])]
        kept = {k: v for k, v in files(remote[1]).items() if not _TEMPORARY.search(k)}
        problems += differences(files(remote[0]), kept, "object on the remote")
    return problems


# --- processes


def inside(folder: Path) -> list[psutil.Process]:
    "Processes that work in a folder."
    out = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if p.status() != psutil.STATUS_ZOMBIE and Path(p.cwd()).is_relative_to(folder):
                out.append(p)
    return out


def roles(top: psutil.Process) -> dict:  # role to process
    "The command, its stage and the stage's kernel, as far as they run."
    out = {"dvc": top}
    for p in top.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(p.cmdline())
            for role, mark in (("kernel", "ipykernel_launcher"), ("stage", "xraypneu.ops.stage")):
                if mark in line and role not in out:
                    out[role] = p
                    break
    return out


def wait_gone(folder: Path, seconds: float) -> list[psutil.Process]:
    "Wait until nothing works in a folder; what still does after that."
    deadline = time.monotonic() + seconds
    while (left := inside(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def end_all(processes):
    for p in processes:
        with contextlib.suppress(psutil.Error):
            p.kill()


# --- campaign 1: kill anywhere

# moments that a random draw seldom hits: predicates of the project
EDGES = {
    "second epoch": lambda p: "epoch 2/" in (p.parent / "killed.log").read_text(errors="replace"),
    "version registered": lambda p: ask(p / "mlflow.db", "select 1 from model_versions"),
    "run finished": lambda p: ask(p / "mlflow.db", "select 1 from runs where status = 'FINISHED'"),
    "page written": lambda p: (p / "reports/train.html").is_file(),
    "metrics recorded": lambda p: ask(p / "mlflow.db", "select 1 from metrics where key = 'test_accuracy'"),
    "decision recorded": lambda p: ask(p / "mlflow.db", "select 1 from model_version_tags where key = 'decision'"),
    "objects on the remote": lambda p: len(list((p.parent / "remote").rglob("*"))) > 30,
}


@dataclass
class Case:
    campaign: str
    name: str
    step: str = ""
    target: str = ""  # of a kill: group, dvc, stage or kernel
    moment: float | str = 0.0  # part of the step's duration, or an edge
    what: str = ""  # of a resource: what is missing
    more: dict = field(default_factory=dict)


def kills(seed: int, n: int = 40) -> list[Case]:
    "Random moments and targets, spread over each step's duration, and the edges."
    rng, cases = random.Random(seed), []
    parts = {"prepare": 6, "train": 16, "evaluate": 7, "promote": 4, "push": 3, "fetch": 4}
    for step, of40 in parts.items():
        count = max(1, round(of40 * n / 40))
        targets = ["group", "dvc", "stage", "kernel"] if step in ("prepare", "train", "evaluate") else ["group"]
        offset = rng.randrange(len(targets))
        for i in range(count):  # one draw in each of so many equal parts of the duration
            moment = round((i + rng.random()) / count, 4)
            cases.append(Case("kills", f"{step} {i + 1}", step, targets[(i + offset) % len(targets)], moment))
    edges = (
        ("train", "dvc", "version registered"),
        ("train", "group", "run finished"),
        ("train", "dvc", "page written"),
        ("evaluate", "group", "metrics recorded"),
        ("promote", "group", "decision recorded"),
        ("push", "group", "objects on the remote"),
    )
    cases += [Case("kills", f"{step}: {edge}", step, target, edge) for step, target, edge in edges]
    rng.shuffle(cases)  # a run that is stopped has seen something of each step
    return cases


def spent(process) -> float:
    "CPU seconds of a process and all that it started: progress, however busy the machine is with other things."
    total = 0.0
    with contextlib.suppress(psutil.Error):
        for p in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += sum(p.cpu_times()[:4])  # its own and those of its children that have ended
    return total


def measured(cmd: list, project: Path) -> tuple[int, str, dict]:
    "Run a command undisturbed: its exit status, output, and the seconds of the clock and of the CPU that it takes."
    before, began = os.times(), time.monotonic()
    done = run(cmd, project)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return done.returncode, done.stdout, {"clock": round(time.monotonic() - began, 2), "cpu": round(cpu, 2)}


def wait_for(process, project, moment, seconds: dict, by: str) -> bool:
    "Wait for the moment of a kill; False where the process ended before."
    top, deadline = psutil.Process(process.pid), time.monotonic() + 600
    began = time.monotonic()
    while process.poll() is None and time.monotonic() < deadline:
        if isinstance(moment, str):
            reached = EDGES[moment](project)
        else:
            reached = (spent(top) if by == "cpu" else time.monotonic() - began) >= moment * seconds[by]
        if reached:
            return process.poll() is None
        time.sleep(0.02)
    return False


def kill_once(cmd: list, project: Path, target: str, moment, seconds: dict, by: str = "cpu") -> dict | None:
    "Start a command and `kill -9` a part of it; what was running, or None where the command had ended before."
    log = project.parent / "killed.log"
    with open(log, "w") as out:
        process = subprocess.Popen(cmd, cwd=project, stdout=out, stderr=out, env=environment(), start_new_session=True)
    began = time.monotonic()
    if not wait_for(process, project, moment, seconds, by):
        process.wait()
        return None
    at = time.monotonic() - began
    found = roles(psutil.Process(process.pid))
    hit = target if target in found or target == "group" else [r for r in ("dvc", "stage", "kernel") if r in found][-1]
    running = ", ".join(found)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if hit == "group" else os.kill(found[hit].pid, signal.SIGKILL)
    # of a kernel that is killed its stage learns within a second or two, and says so
    left = [p.as_dict(["pid", "cmdline"]) for p in wait_gone(project, 10 if hit in ("group", "dvc") else 90)]
    end_all(inside(project))
    process.wait()
    last = [ln for ln in log.read_text(errors="replace").replace("\r", "\n").splitlines() if ln.strip()][-1:]
    return {
        "killed": hit,
        "at": round(at, 2),
        "running": running,
        "said": last[0][:200] if last else "",
        "left": [str(p) for p in left],
        "gone_after": round(time.monotonic() - began - at, 2),
    }


def again(step: str, project: Path, site=()) -> list:
    "Run a step as a user would after a fault, by what `xraypneu run` does; problems where it doesn't end well."
    mend_rwlock(project)
    done = run(command(step, *site), project)
    if step == "push" and not done.returncode:  # DVC may take half an index of the project for all of it
        done = run([sys.executable, "-m", "xraypneu.cli", "remote", "--restore"], project)
    # 2: it is the champion already, since the kill came after the last of it
    fine = {"promote": (0, 2)}.get(step, (0,))
    if done.returncode in fine:
        return []
    return [
        (
            "failed",
            f"the next {step} ended with {done.returncode}: {' | '.join(done.stdout.strip().splitlines()[-3:])[:600]}",
        )
    ]


def kill_case(ground: Ground, case: Case, site) -> dict:
    "One kill, the run after it, and the comparison."
    moment = case.moment
    by = "clock" if case.step in ("push", "fetch") else "cpu"  # these two wait for others
    for _ in range(6):
        project = ground.restore(case.step)
        happened = kill_once(command(case.step, *site), project, case.target, moment, ground.seconds[case.step], by)
        if happened or isinstance(moment, str):
            break
        moment *= 0.6  # the machine is faster than it was
    if not happened:
        return {"problems": [("failed", f"{case.step} ended before it could be killed")]}
    problems = [("failed", f"still running after the kill: {p}") for p in happened["left"]]
    problems += again(case.step, project, site)
    reference = ground.after(case.step)
    problems += compare(project, reference / "xray", (reference / "remote", ground.work / "remote"))
    if case.step == "promote" and not (project / "reports/promotion.json").is_file():
        problems.append(("lost", "reports/promotion.json"))
    return happened | {"problems": problems}


# --- campaign 2: resources


class Skip(Exception):
    "Something that this machine doesn't have; the message says what."


@contextlib.contextmanager
def small_disk(folder: Path):
    "A disk of memory in the place of a folder; yields a function that leaves so many bytes free."
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g", "faults", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        raise Skip("a small disk can only be mounted by root")

    def remount(option):
        return subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)

    def leave(free: int | None):
        remount("size=1g" if free is None else f"size={(shutil.disk_usage(folder).used + free + 4095) // 4096 * 4096}")

    leave.remount = remount
    try:
        yield leave
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def unprivileged(cmd: list) -> list:
    "A command without root's right to write where the permissions forbid it."
    if os.geteuid():
        return cmd
    if not shutil.which("setpriv"):
        raise Skip("setpriv (of util-linux) is missing, and root may write everywhere")
    return [
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
        "--inh-caps",
        "-dac_override,-dac_read_search",
        "--",
        *cmd,
    ]


EXPLAINED = {  # what a message must say, each in some words
    "disk full": r"(?i)no space left|disk\b.*\bfull|\bfree\b",
    "read-only": r"(?i)read-only|readonly|permission|writ",
    "no permission": r"(?i)permission|readonly|writ",
}


def half_written(project: Path, reference: Path) -> list:
    """Outputs of a failed step that are neither whole nor missing, and a damaged store.

    Reports are left out: a partial one shows how far the step came.
    """
    problems = []
    for out in (
        "data/prepared",
        "models/bundle",
        "models/run.json",
        DATA,
        "reports/metrics.json",
        "reports/promotion.json",
    ):
        got, wanted = files(project / out), files(reference / out)
        if got and wanted and got != wanted and out not in ("models/run.json", "reports/promotion.json"):
            problems.append(("differing", f"half-written: {out}"))
    if (project / "mlflow.db").is_file() and ask(project / "mlflow.db", "pragma integrity_check") not in (
        [("ok",)],
        [],
    ):
        problems.append(("lost", "mlflow.db is damaged"))
    return problems


def hindered(ground: Ground, case: Case, project: Path, site, prefix=lambda c: c) -> dict:
    "Run a step that can't succeed: it must end by itself, with a reason, and leave nothing half-written."
    began = time.monotonic()
    done = run(prefix(command(case.step, *site)), project)
    out = {"exit": done.returncode, "after": round(time.monotonic() - began, 2)}
    lines = [ln for ln in done.stdout.replace("\r", "\n").splitlines() if ln.strip()]
    out["said"] = " | ".join(lines[-3:])[:500]
    problems = []
    if done.returncode and not re.search(EXPLAINED[case.what], "\n".join(lines[-30:])):
        problems.append(("failed", f"no word of why: {out['said']}"))
    left = wait_gone(project, 10)
    end_all(left)
    problems += [("failed", f"still running: {p.pid}") for p in left]
    return out | {"problems": problems + half_written(project, ground.after(case.step) / "xray")}


def resource_case(ground: Ground, case: Case, site) -> dict:
    "Take something away, run, give it back, run again, compare."
    reference = ground.after(case.step)
    with contextlib.ExitStack() as stack:
        if case.what == "no permission":
            project = ground.restore(case.step)
            closed = [p for p in map(project.__truediv__, case.more["closed"]) if p.exists()]
            modes = {p: p.stat().st_mode for p in closed}
            for p in closed:
                p.chmod(0o555 if p.is_dir() else 0o444)
            out = hindered(ground, case, project, site, unprivileged)
            for p, mode in modes.items():
                p.chmod(mode)
        else:
            leave = stack.enter_context(small_disk(ground.work))
            project = ground.restore(case.step)
            if case.what == "disk full":
                grows = max(200_000, size(reference) - size(ground.before(case.step)))
                leave(int(case.moment * grows))
            else:
                leave.remount("ro")
            out = hindered(ground, case, project, site)
            leave.remount("rw")
            leave(None)
        out["problems"] += again(case.step, project, site)
        out["problems"] += compare(project, reference / "xray", (reference / "remote", ground.work / "remote"))
    return out


def other_clock(days: float) -> dict:
    "Variables that set Python's wall clock some days off, in a command and all that it starts; tried before use."
    jump = {"PYTHONPATH": str(HERE / "clock"), "FAULTS_CLOCK": str(days * 86_400)}
    done = run([sys.executable, "-c", "import time; print(time.time())"], HERE, **jump)
    off = float(done.stdout) - time.time() if not done.returncode else 0
    if abs(off - days * 86_400) > 60:
        raise Skip(f"the clock can't be moved; time-machine, of the extra `dev`, is needed: {done.stdout[-200:]}")
    return jump


def clock_case(ground: Ground, case: Case, site) -> dict:
    "Kill a step in the middle; the clock jumps; run it again."
    project = ground.restore(case.step)
    jump = other_clock(case.more["days"])
    out = kill_once(command(case.step, *site), project, "group", case.moment, ground.seconds[case.step]) or {}
    done = run(command(case.step, *site), project, **jump)
    problems = [("failed", " | ".join(done.stdout.strip().splitlines()[-3:])[:500])] if done.returncode else []
    return out | {"problems": problems + compare(project, ground.after(case.step) / "xray")}


def network_case(ground: Ground, case: Case, site) -> dict:
    "Fetch from a server that is bad in one way; where it must fail, it is good the second time."
    server, url = case.more["site"], site[0]
    project = ground.restore("fetch")
    code = (
        "import sys; from xraypneu.data.fetch import fetch_url; "
        "fetch_url(sys.argv[1], sys.argv[2], sys.argv[3], timeout=2, retries=2, wait=0.2)"
    )
    cmd = [
        sys.executable,
        "-c",
        code,
        "http://127.0.0.1:9/data.zip" if case.what == "no network" else url,
        DATA,
        site[1],
    ]
    before = server.drops, server.stall, server.pace
    server.drops, server.stall, server.pace = {
        "drops": (2, False, 0),
        "stalls": (0, True, 0),
        "slow": (0, False, 0.05),
    }.get(case.what, before)
    began = time.monotonic()
    try:
        done = run(cmd, project, timeout=120)
    finally:
        server.drops, server.stall, server.pace = before
    out = {
        "exit": done.returncode,
        "after": round(time.monotonic() - began, 2),
        "said": done.stdout.strip().splitlines()[-1][:300] if done.stdout.strip() else "",
    }
    problems = []
    if (case.what in ("no network", "stalls")) != bool(done.returncode):
        problems.append(("failed", f"ended with {done.returncode}: {out['said']}"))
    if done.returncode:
        problems += [("differing", "half-written data set")] if (project / DATA).exists() else []
        problems += again("fetch", project, site)
    return out | {
        "problems": problems
        + differences(files(ground.after("fetch") / "xray" / DATA), files(project / DATA), "fetched file")
    }


def resources(seed: int, server=None) -> list[Case]:
    rng, out = random.Random(seed + 1), []
    for step in ("prepare", "train", "evaluate", "promote", "fetch"):
        for i in (1, 2):
            out.append(
                Case(
                    "resources",
                    f"disk full: {step} {i}",
                    step,
                    moment=round(rng.uniform(0.05, 0.9), 3),
                    what="disk full",
                )
            )
        out.append(Case("resources", f"read-only: {step}", step, what="read-only"))
    closed = {
        "prepare": ["data"],
        "train": ["models", "reports", "."],
        "evaluate": ["reports"],
        "promote": ["mlflow.db"],
        "fetch": ["data"],
    }
    out += [
        Case("resources", f"no permission: {step}", step, what="no permission", more={"closed": names})
        for step, names in closed.items()
    ]
    out += [
        Case("resources", f"clock {days:+} days: {step}", step, moment=0.6, what="clock", more={"days": days})
        for step, days in (("prepare", 2), ("train", -2), ("train", 400), ("evaluate", -2))
    ]
    return out + [
        Case("resources", f"network: {what}", "fetch", what=what, more={"site": server})
        for what in ("no network", "stalls", "slow", "drops")
    ]


# --- campaigns of other scripts


SCRIPTS = {  # name to command; both leave {out}/summary.json
    "fuzz": ["tests/fuzz.py", "--seconds", "3600", "--seed", "{seed}", "--out", "{out}"],
    "load": ["bench/load.py", "--minutes", "15", "--sessions", "20", "--seed", "{seed}", "--out", "{out}/summary.json"],
}


def script_case(case: Case, seed: int) -> dict:
    "Run another campaign; its summary.json says `problems` or its exit status does."
    script, *arguments = SCRIPTS[case.campaign]
    if not (ROOT / script).is_file():
        raise Skip(f"{script} is missing")
    folder = STATE / case.campaign / "out"
    shutil.rmtree(folder, ignore_errors=True)  # of another tree
    folder.mkdir(parents=True)
    cmd = [sys.executable, script, *(a.format(seed=seed, out=folder) for a in arguments)]
    code = subprocess.run(cmd, cwd=ROOT).returncode
    summary = folder / "summary.json"
    found = json.loads(summary.read_text()) if summary.is_file() else {}
    calls = sum(f.get("calls", 0) for f in found.get("formats", {}).values())
    why = "; ".join(found.get("failures", []))[:600]
    problems = [("failed", f"{script} ended with {code}: {why}")] if code else []
    return {"summary": found, "cases": calls or 1, "problems": problems}


def tracking_case(case: Case, seed: int) -> dict:
    "The tests of a tracking server that dies, freezes and comes back."
    cmd = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / case.what)]
    if not (ROOT / case.what).is_file():
        raise Skip(f"{case.what} is missing")
    done = subprocess.run(cmd, cwd=ROOT, text=True, capture_output=True)
    last = done.stdout.strip().splitlines()[-1:]
    return {
        "said": last[0] if last else "",
        "problems": [("failed", f"{case.what}: {last}")] if done.returncode else [],
    }


# --- the driver


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def modules(*names) -> list:
    "Files of these modules and of all modules of ours that they import."
    from test_layers import FILES, closure

    return sorted(str(FILES[name].relative_to(ROOT)) for name in closure(names))


def code_of(notebook: Path) -> str:
    "The code of a notebook, as Python."
    cells = (c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code")
    return "\n".join("".join(c["source"]) for c in cells).replace("\n%", "\n#%")


def run_by(step: str) -> list:
    "What a step runs: the stage and its notebook, or the command; DVC alone for push."
    from test_layers import BOOKS, imported

    if step == "push":
        return []
    if step in ("promote", "fetch"):
        return [*modules({"promote": "registry"}.get(step, step)), "xraypneu/cli.py"]
    notebook = f"nbs/pipeline/{step}.ipynb"
    used = [m for m in imported(ast.parse(code_of(ROOT / notebook))) if m in BOOKS]
    return [*modules("stage", *used), "xraypneu/shipped", notebook]


def tested() -> dict:
    "Campaign, with the step where cases have one, to the files that its results may depend on."
    project = [
        "xraypneu/__init__.py",
        "dvc.yaml",
        "params.yaml",
        "constraints.txt",
        "bench/faults.py",
        "tests/conftest.py",
    ]
    steps = {step: [*run_by(step), *project, "tests/test_fetch.py"] for step in STEPS}
    tracked = ["tests/conftest.py", "tests/tracked.py", "tests/test_tracking.py"]
    served = [
        *modules("dashboard", "guard"),
        "xraypneu/app",
        "xraypneu/shipped",
        "nbs/app",
        "voila.py",
        "deploy",
        "constraints.txt",
    ]
    return {
        **{f"kills {step}": files for step, files in steps.items()},
        **{f"resources {step}": [*files, "bench/clock"] for step, files in steps.items()},
        "fuzz": [*modules("decoder"), "xraypneu/process.py", "tests/fuzz.py", "tests/corpus", "constraints.txt"],
        "load": [*served, "bench/load.py", "tests/served.py"],
        "tracking": [*run_by("train"), *run_by("evaluate"), *run_by("promote"), "dvc.yaml", *tracked],
    }


TESTED = tested()


def meaning(path: Path) -> str:
    """md5 of what a file does: of Python its syntax tree without docstrings, of a notebook that of its code cells, and
    of other files the bytes. New prose or line breaks don't make a campaign's hours of results invalid."""
    if path.suffix not in (".py", ".ipynb"):
        return digest(path)
    code = ast.parse(code_of(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8"))
    for node in ast.walk(code):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return hashlib.md5(ast.dump(code).encode(), usedforsecurity=False).hexdigest()


def tree(campaign: str) -> str:  # a key of `TESTED`
    "Names what a campaign tests: what the files do that its results may depend on."
    listed = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *TESTED[campaign]]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    sums = [f"{n} {meaning(ROOT / n)}" for n in sorted(filter(None, names)) if (ROOT / n).is_file()]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:12]


def commit() -> str:
    "The commit of the code, 12 hexadecimal digits, with + if files are changed."
    state = git_state(ROOT)
    return state["git_commit"][:12] + "+" * (state["git_dirty"] == "true")


@contextlib.contextmanager
def served(seed: int):
    "The step fetch's archive, seeded, on a server of this process; yields the server and what `command` needs."
    from conftest import serving
    from test_fetch import NAMES, Site, zipped

    rng, server = random.Random(seed), Site()
    server.data, server.pace = zipped({f"chest_xray/{n}": rng.randbytes(100_000) for n in NAMES}), 0.03
    with serving(server):
        yield server, (server.url, hashlib.sha256(server.data).hexdigest())


def perform(ground, case: Case, site, seed: int) -> dict:
    "One case, whatever it is; an exception of ours is a failure of the case, and the campaign goes on."
    try:
        if case.campaign == "kills":
            return kill_case(ground, case, site)
        if case.campaign == "resources":
            kind = {"clock": clock_case}.get(case.what, network_case if "site" in case.more else resource_case)
            return kind(ground, case, site)
        return (tracking_case if case.campaign == "tracking" else script_case)(case, seed)
    except Skip as e:
        return {"skipped": str(e), "problems": []}
    except subprocess.TimeoutExpired as e:
        end_all(inside(ground.work))
        return {"problems": [("failed", f"no end within {e.timeout:g} s: {e.cmd}")]}
    except Exception as e:
        return {"problems": [("failed", f"{type(e).__name__}: {e}"[:600])]}


def planned(args, server) -> list[Case]:
    others = [Case("fuzz", "fuzz"), Case("load", "load"), Case("tracking", "tracking", what="tests/test_tracking.py")]
    out = [*kills(args.seed, args.kills), *resources(args.seed, server), *others]
    return [c for c in out if args.only in (None, c.campaign)]


def key(case: Case) -> str:  # of `TESTED`
    return f"{case.campaign} {case.step}".strip()


def result_file(case: Case) -> Path:
    return STATE / case.campaign / f"{re.sub(r'[^a-z0-9+-]+', '-', case.name)}.json"


def finished(case: Case, now: str, seed: int) -> dict | None:
    "The result of a case, if it is of this tree and seed."
    file = result_file(case)
    found = json.loads(file.read_text()) if file.is_file() else {}
    return found if (found.get("tree"), found.get("seed")) == (now, seed) else None


def campaign(args) -> int:
    sys.path.insert(0, str(ROOT))
    now, results = {name: tree(name) for name in TESTED}, []
    if os.path.ismount(STATE / "work"):  # of a campaign that was killed
        subprocess.run(["umount", "-l", str(STATE / "work")], check=True)
    with served(args.seed) as (server, site):
        cases = planned(args, server)
        of_steps = hashlib.sha256("".join(now[key(c)] for c in cases if c.step).encode()).hexdigest()[:12]
        ground = Ground(STATE / f"ground-{of_steps}", STATE / "work")
        if any(c.step and not finished(c, now[key(c)], args.seed) for c in cases):
            ground.build(site)
        for i, case in enumerate(cases, 1):
            result = finished(case, now[key(case)], args.seed)
            if result is None:
                began = time.monotonic()
                result = perform(ground, case, site, args.seed)
                result |= {
                    "campaign": case.campaign,
                    "case": case.name,
                    "target": case.target,
                    "moment": case.moment,
                    "seed": args.seed,
                    "tree": now[key(case)],
                    "commit": commit(),
                    "seconds": round(time.monotonic() - began, 1),
                }
                result_file(case).parent.mkdir(parents=True, exist_ok=True)
                result_file(case).write_text(json.dumps(result, indent=1))
            results.append(result)
            verdict = (
                f"skipped: {result['skipped']}"
                if "skipped" in result
                else "; ".join(f"{k}: {t}" for k, t in result["problems"][:4]) or "ok"
            )
            say(
                f"{i}/{len(cases)} {case.campaign} | {case.name} "
                f"| {result.get('killed', '')} {result.get('at', '')} | {verdict}"
            )
    if not args.only:
        (HERE / "faults.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        (HERE / "faults.md").write_text(page(results))
    print(page(results))
    return int(any(r["problems"] for r in results))


def page(results: list) -> str:
    "The table, from the results alone."
    lines = [
        "# Faults",
        "",
        "Written by `make faults`; each case is in faults.json.",
        "",
    ]
    head = "campaign cases lost doubled differing failed skipped seed commit minutes".split()
    table = []
    for name in dict.fromkeys(r["campaign"] for r in results):
        rows = [r for r in results if r["campaign"] == name]
        counts = [sum(any(k == kind for k, _ in r["problems"]) for r in rows) for kind in KINDS]
        skipped = sum("skipped" in r for r in rows)
        table.append(
            [
                name,
                sum(r.get("cases", 1) for r in rows),
                *counts,
                skipped,
                rows[0]["seed"],
                " ".join(dict.fromkeys(r["commit"] for r in rows)),
                f"{sum(r['seconds'] for r in rows) / 60:.1f}",
            ]
        )
    lines.append(markdown_table(head, table, "lrrrrrrllr"))
    bad = [
        f"- {r['campaign']}, {r['case']}: " + "; ".join(f"{k}: {t}" for k, t in r["problems"])
        for r in results
        if r["problems"]
    ]
    skipped = [f"- {r['campaign']}, {r['case']}: {r['skipped']}" for r in results if "skipped" in r]
    lines += ["", "## Problems", "", *(bad or ["None."]), *(["", "## Skipped", "", *skipped] if skipped else [])]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        choices=("kills", "resources", "fuzz", "load", "tracking"),
        help="one campaign; bench/faults.md is not written then",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=40, help="random kills")
    return campaign(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
