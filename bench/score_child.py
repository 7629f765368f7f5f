"""What bench/score.py measures in a process of its own, which imports no more than the command does."""

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def own_peak():
    "Megabytes that this process had at most."
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6


def say(**found):
    "Print what was found, with memory and processor seconds."
    t = os.times()
    used = t.user + t.system + t.children_user + t.children_system
    print(json.dumps(found | {"peak_mb": own_peak(), "cpu_s": used}), flush=True)


def score(films, out):
    "An archive."
    from xraypneu.serving.score import score_archive

    assert score_archive(films, out).errors == 0
    say()


def resume(out, began):
    "The command, until the first row of a missing shard is there."
    from xraypneu.cli import main
    from xraypneu.serving import score

    def seen(watch, row):
        assert "code" not in row, row
        say(seconds=time.time() - float(began))
        os._exit(0)

    score._Watch.see = seen
    main(["score", "--resume", "--out", out])


def status(out, began):
    "The command."
    from xraypneu.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["score", "--status", "--out", out])
    line = next(line for line in said.getvalue().splitlines() if "films are scored" in line)
    say(seconds=time.time() - float(began), done=line)


def folder(out, began):
    "What a list's first missing film asks for, and the end of a run: the folder that all films are in."
    from xraypneu.serving.score import _folder_of_all, read_manifest

    _folder_of_all(Path(out), read_manifest(out))
    say(seconds=time.time() - float(began))


if __name__ == "__main__":
    {f.__name__: f for f in (score, resume, status, folder)}[sys.argv[1]](*sys.argv[2:])
