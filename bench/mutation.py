"""Mutation testing: how many small faults in a module do its tests notice?

`python bench/mutation.py --module metrics --sample 150 --seed 0 --out .cache/mutation` writes `summary.json` there.
Started again with the same arguments, it goes on where it stopped. Cosmic Ray makes the mutants, in an environment of
its own; the tests run in this one, forked for each mutant from a process that has imported the libraries already. Each
mutant meets the tests that reach its line, those of the notebook among them. The sample takes every place of the
module once before it takes any place twice. Mutants that can't be imported, and those in annotations, are not counted.
Known equivalent mutants, with the reason, are in `mutation_equivalent.json`.
"""

import argparse
import ast
import difflib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOL = "cosmic-ray==8.7.0"
MODULES = {  # the tests of each, those that notice most for their time first
    "calibrate": ["tests/test_calibrate.py", "nbs/api/model/05_calibrate.ipynb"],
    "scores": ["tests/test_metrics.py", "nbs/api/metrics/01_scores.ipynb"],
    "dataset": ["nbs/api/data/03_dataset.ipynb", "tests/test_dataset.py", "tests/test_dataset_edges.py"],
    "bundle": ["tests/test_bundle_files.py", "nbs/api/model/03_bundle.ipynb"],
    "predict": ["tests/test_prediction.py", "nbs/api/serving/00_predict.ipynb"],
    "image": ["nbs/api/data/00_image.ipynb", "tests/test_image.py", "tests/test_image_edges.py"],
}
LEFT_OUT = {"metrics": "not figure and not thin_tables and not style and not report_parameters and not platt"}
WARM = (
    "hypothesis",
    "numpy",
    "pandas",
    "PIL.Image",
    "pyarrow.parquet",
    "pydicom.pixels",
    "pytest",
    "ruamel.yaml",
    "scipy.optimize",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "fastcore.test",
    "matplotlib.figure",
    "onnxruntime",
    "tqdm",
    "mapie.classification",
)
MEMORY = 12 << 30  # bytes of address space of a test process
SPARE = 40  # more mutants than wanted, since some can't be imported
INVALID = 99  # exit status: the mutant can't be imported


def tool() -> Path:
    "The Python that has Cosmic Ray; its environment is made once."
    home = ROOT / ".cache/mutation/tool"
    python = home / "bin/python"
    if not (home / "lib").exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TOOL], check=True)
    return python


def sample(source: Path, seed: int, count: int) -> list[dict]:
    "The first mutants in the order of the seed."
    command = [tool(), ROOT / "bench/mutants.py", source, str(seed), str(count)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def changed(source: str, code: str) -> dict:
    "The first line that a mutant changes, and its diff."
    old, new = source.splitlines(), code.splitlines()
    diff = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    lines = [next((d[1:].strip() for d in diff if d.startswith(sign)), "") for sign in "-+"]
    return {"before": lines[0], "after": lines[1], "diff": "\n".join(diff)}


def file_of(module: str) -> Path:
    "Where the module lies in the package: the last of its tests' notebooks is named after it."
    (book,) = [b for b in MODULES[module] if b.endswith(f"_{module}.ipynb")]
    return Path(book).relative_to("nbs/api").with_name(f"{module}.py")


def name_of(module: str) -> str:
    "As it is imported."
    return ".".join(("xraypneu", *file_of(module).with_suffix("").parts))


def shadow(module: str, code: str) -> Path:
    "A folder with a copy of the package in which one module is changed."
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    package = folder / "xraypneu"
    shutil.copytree(ROOT / "xraypneu", package, ignore=shutil.ignore_patterns("__pycache__"))  # mutants write anywhere
    (package / file_of(module)).write_text(code, encoding="utf-8")
    return folder


class Reached:
    "A pytest plugin: the tests that are named, in that order; or, with a coverage, which lines each test reaches."

    def __init__(self, order: list[str] | None = None, cov=None):
        self.order, self.cov, self.seconds = order, cov, {}

    def pytest_collection_modifyitems(self, items):
        if self.order is not None:
            place = {name: i for i, name in enumerate(self.order)}
            items[:] = sorted((i for i in items if i.nodeid in place), key=lambda i: place[i.nodeid])

    def pytest_runtest_logstart(self, nodeid):
        if self.cov:
            self.cov.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


def pytest_once(module: str, folder: Path, reached: Reached) -> int:
    "The exit status of the module's tests."
    import notebook_cells
    import pytest

    args = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:cov",
        "--tb=line",
        f"--rootdir={ROOT}",
        f"--basetemp={folder / 'pytest'}",
        *[str(ROOT / name) for name in MODULES[module]],
    ]
    if module in LEFT_OUT:
        args += ["-k", LEFT_OUT[module]]
    return int(pytest.main(args, plugins=[notebook_cells, reached]))


def baseline(module: str, folder: Path, notes: Path) -> int:
    "Run all tests of the module; write down which lines each of them reaches, and how long it takes."
    import coverage

    file = str(folder / "xraypneu" / file_of(module))
    cov = coverage.Coverage(data_file=None, include=[file], config_file=False)
    cov.start()
    reached = Reached(cov=cov)
    importlib.import_module(name_of(module))
    status = pytest_once(module, folder, reached)
    cov.stop()
    lines = cov.get_data().contexts_by_lineno(file)
    notes.write_text(json.dumps({"seconds": reached.seconds, "lines": lines}))
    return status


def run_tests(module: str, folder: Path, log: Path, order: list[str] | None, notes: Path | None):
    "In a forked process: the module's tests against the package in `folder`; ends the process."
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for fd in (1, 2):
        os.dup2(out, fd)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    tempfile.tempdir = str(folder)
    status = INVALID
    try:
        if notes:
            status = baseline(module, folder, notes)
        else:
            importlib.import_module(name_of(module))
            status = pytest_once(module, folder, Reached(order))
    except BaseException as error:
        print(type(error).__name__, error)
    finally:
        sys.stdout.flush()
        os._exit(status)


def statement(source: str, line: int) -> range:
    "The lines of the statement at a line; of a compound one, its head."
    best = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno:
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            if line <= last:
                best = range(node.lineno, last + 1)
    return best


def chosen(source: str, line: int, notes: dict) -> list[str]:
    "The tests that reach a line, quickest first; all of them where it is run on import, or by processes alone."
    found = {name for n in statement(source, line) for name in notes["lines"].get(str(n), ())}
    if not found or "" in found:
        found = set(notes["seconds"])
    return sorted(found, key=notes["seconds"].get)


def start(module: str, code: str, log: Path, order=None, notes=None) -> tuple[int, Path, float]:
    "Begin the tests of one mutant: process, its folder, when."
    folder = shadow(module, code)
    pid = os.fork()
    if not pid:
        run_tests(module, folder, log, order, notes)
    return pid, folder, time.monotonic()


def finished(pid: int, began: float, limit: float) -> str | None:
    "What became of a test process: survived, killed, timeout, invalid; None while it runs."
    done, status = os.waitpid(pid, os.WNOHANG)
    late = not done and time.monotonic() - began > limit
    if not done and not late:
        return None
    try:
        os.killpg(pid, signal.SIGKILL)  # whatever the tests left running
    except ProcessLookupError:
        pass
    if late:
        os.waitpid(pid, 0)
        return "timeout"
    code = os.waitstatus_to_exitcode(status)
    return {0: "survived", INVALID: "invalid"}.get(code, "killed")


def first(module: str, source: str, out: Path) -> tuple[dict, float]:
    "Run the tests without any mutant: what `baseline` wrote down, seconds."
    log, notes = out / f"{module}-baseline.log", out / f"{module}-baseline.json"
    notes.unlink(missing_ok=True)
    pid, folder, began = start(module, source, log, notes=notes)
    while not (result := finished(pid, began, 900)):
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)
    if result != "survived":
        sys.exit(f"The tests of {module} fail without any mutant: see {log}.")
    return json.loads(notes.read_text()), time.monotonic() - began


def campaign(module: str, todo: list[dict], source: str, out: Path, notes: dict, limit: float, jobs: int):
    "Test mutants, `jobs` at a time; yields each with its result."
    running, todo, logs = {}, iter(todo), {out / f"{module}-{i}.log" for i in range(jobs)}
    while True:
        while len(running) < jobs and (mutant := next(todo, None)):
            log = logs.pop()
            pid, folder, began = start(module, mutant["code"], log, chosen(source, mutant["line"], notes))
            running[pid] = mutant, folder, began, log
        if not running:
            return
        time.sleep(0.05)
        for pid, (mutant, folder, began, log) in list(running.items()):
            result = finished(pid, began, limit)
            if result is None:
                continue
            del running[pid]
            shutil.rmtree(folder, ignore_errors=True)
            lines = log.read_text(errors="replace").splitlines()
            noticed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
            logs.add(log)
            kept = {k: mutant[k] for k in ("operator", "occurrence", "line")}
            yield kept | {
                "result": result,
                "seconds": round(time.monotonic() - began, 1),
                "by": noticed[0][:160] if noticed else "",
                **changed(source, mutant["code"]),
            }


def equivalent(module: str, result: dict, known: list[dict]) -> str | None:
    "Why a survivor can't be noticed by any test, if that is known."
    for k in known:
        if (k["module"], k["before"], k["after"]) == (module, result["before"], result["after"]):
            return k["reason"]


def summary(module: str, seed: int, results: list[dict], seconds: float) -> dict:
    "Counts, the fraction that was noticed, and the survivors."
    known = json.loads((ROOT / "bench/mutation_equivalent.json").read_text(encoding="utf-8"))
    counts = {k: sum(r["result"] == k for r in results) for k in ("killed", "timeout", "survived")}
    survivors = [r for r in results if r["result"] == "survived"]
    same = [r | {"reason": why} for r in survivors if (why := equivalent(module, r, known))]
    alive = [r for r in survivors if not equivalent(module, r, known)]
    counted = counts["killed"] + counts["timeout"] + len(alive)
    share = (counts["killed"] + counts["timeout"]) / counted if counted else None
    return {
        "module": module,
        "seed": seed,
        "mutants": counted,
        "killed": counts["killed"],
        "timeout": counts["timeout"],
        "survived": len(alive),
        "equivalent": len(same),
        "share": share and round(share, 4),
        "tests_seconds": round(seconds, 1),
        "survivors": alive,
        "equivalents": same,
    }


def warm():
    "Import what the tests import, none of it ours: each fork has it for nothing."
    sys.dont_write_bytecode = True
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    sys.path.insert(0, str(ROOT / "bench"))
    for name in WARM:
        importlib.import_module(name)
    assert not any(name.split(".")[0] == "xraypneu" for name in sys.modules)


def run(module: str, wanted: int, seed: int, out: Path, jobs: int, again: bool) -> dict:
    "The campaign of one module, continued from what `out` holds of it."
    path = ROOT / "xraypneu" / file_of(module)
    source = path.read_text(encoding="utf-8")
    journal = out / f"{module}-{seed}-{hashlib.sha256(source.encode()).hexdigest()[:12]}.jsonl"
    results = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    if again:
        wanted = max(wanted, sum(r["result"] != "invalid" for r in results))  # none of them may drop out of the count
        results = [r for r in results if r["result"] != "survived"]
        journal.write_text("".join(json.dumps(r) + "\n" for r in results))
    notes, seconds = first(module, source, out)
    done = {(r["operator"], r["occurrence"]) for r in results}
    mutants = [m for m in sample(path, seed, SPARE + wanted) if (m["operator"], m["occurrence"]) not in done]
    valid = sum(r["result"] != "invalid" for r in results)
    with journal.open("a") as f:
        while valid < wanted and mutants:
            batch, mutants = mutants[: wanted - valid], mutants[wanted - valid :]
            for r in campaign(module, batch, source, out, notes, 3 * jobs * seconds + 10, jobs):
                results.append(r)
                valid += r["result"] != "invalid"
                f.write(json.dumps(r) + "\n")
                f.flush()
    return summary(module, seed, results, seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--module", choices=MODULES, action="append", help="one or several; all by default")
    parser.add_argument("--sample", type=int, default=150, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="test processes at a time")
    parser.add_argument("--again", action="store_true", help="try the survivors again: tests were added")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache/mutation/results")
    args = parser.parse_args()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = "1"  # a process with threads can't be forked safely
    args.out.mkdir(parents=True, exist_ok=True)
    warm()
    found = []
    for module in args.module or MODULES:
        found.append(run(module, args.sample, args.seed, args.out, args.jobs, args.again))
        counts = {k: found[-1][k] for k in ("mutants", "killed", "timeout", "survived", "equivalent", "share")}
        print(module, *(f"{k} {v}" for k, v in counts.items()), flush=True)
        (args.out / "summary.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
