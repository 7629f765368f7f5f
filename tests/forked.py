"""Commands of DVC and stages, forked from a process that has their libraries: the imports take longer than most."""

import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile

LIBRARIES = {"dvc": ("dvc.cli",), "xraypneu.ops.stage": ("papermill", "nbconvert", "mlflow")}


@functools.cache
def template():
    "The process."
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
    )


def run_forked(module, words, cwd, env):
    "As `python -m module words` in a folder, with an environment; one of `LIBRARIES`."
    with tempfile.NamedTemporaryFile() as out:
        request = {"module": module, "words": [*map(str, words)], "cwd": str(cwd), "env": env, "out": out.name}
        print(json.dumps(request), file=template().stdin, flush=True)
        status = int(template().stdout.readline())
        return subprocess.CompletedProcess([module, *words], status, out.read().decode())


# --- in the process


@functools.cache
def load(module):
    "Import what the command needs; DVC's commands import more when they are first used."
    for name in LIBRARIES[module]:
        importlib.import_module(name)
    if module == "dvc":
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            os.system("git init -q; echo 'stages: {a: {cmd: touch a, outs: [a]}}' > dvc.yaml")
            for words in ("init", "remote add -d store store", "repro", "push", "status -c"):
                sys.modules["dvc.cli"].main([*words.split(), "-q"])
            os.chdir("/")


def requested():
    "Fork for each request, in which this returns it."
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        load(request["module"])
        pid = os.fork()
        if not pid:
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)
    sys.exit()


def become(module, words, cwd, env, out):
    "Do as the command does."
    signal.alarm(900)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, (path, mode) in enumerate([(os.devnull, os.O_RDONLY), (out, os.O_WRONLY | os.O_APPEND)]):
        os.dup2(os.open(path, mode), number)
    os.dup2(1, 2)
    sys.argv = ["", *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path[0] = ""  # the command's folder
    become(**requested())
