"""Kill scoring on a cluster on purpose, and count what is lost, doubled, differing or half written.

    python bench/kills.py --kills 20 --seed 1

Starts two one-core nodes on this machine and scores a synthetic archive with `--engine ray`. At random moments it ends
a worker process, a node or the driver with kill -9; the driver is started again, a node is replaced. After each kill,
every finished file is compared with that of an undisturbed run on one machine; at the end, every row is counted. Exit
status 1 if one differs.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from xraypneu.data.sample import draw_radiograph
from xraypneu.serving.score import progress_of, score_archive, verify

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
KINDS = ("worker", "node", "driver")
FILMS, SHARD_ROWS = 600, 5  # of an archive: longer than the time between two kills


def archive(folder):
    "A list of films, of which twelve differ and one is damaged."
    for i in range(12):
        Image.fromarray(draw_radiograph(i, size=128)[0]).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes(b"")
    (folder / "list.txt").write_text("".join(f"{folder}/{i % 12}.png\n" for i in range(FILMS)))
    return folder / "list.txt"


def shards(out):
    "The finished files of a folder and their bytes."
    return {p.name: p.read_bytes() for p in (out / "scores").glob("*.parquet")}


def driver(films, out, address):
    "The command in a process of its own."
    code = "import sys; from xraypneu.cli import main; sys.exit(main())"
    options = ["--out", str(out), "--shard-rows", str(SHARD_ROWS), "--engine", "ray", "--address", address]
    call = [sys.executable, "-c", code, "score", str(films), *options]
    return subprocess.Popen(call, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def kill(kind, nodes, process):
    "End a process of this kind; False if there was none at the moment."
    if kind == "driver":
        process.kill()
    elif kind == "node":
        nodes.lose_node()
    elif at_work := nodes.at_work():
        random.choice(at_work).kill()
    else:
        return False
    return True


def disturbed(films, out, nodes, kinds, wanted):
    "Score with kills until the archive is complete; `kinds` counts them, `wanted` are differing files."
    process, failed = driver(films, out, nodes.address), 0
    while True:
        moment = time.monotonic() + random.uniform(1, 8)
        while process.poll() is None and (time.monotonic() < moment or not nodes.at_work()):
            time.sleep(0.01)
        if process.poll() == 0:
            return failed
        if process.poll() is None and sum(kinds.values()) < kinds.most:
            kind = random.choice(KINDS)
            kinds[kind] += kill(kind, nodes, process)
            wanted.update(n for n, b in shards(out).items() if b != wanted.right.get(n))
            if kind == "node":
                nodes.add_node()
        if process.poll() not in (None, 0):
            failed += process.poll() != -9
            print(process.communicate()[1].splitlines()[-1:], file=sys.stderr)
            process = driver(films, out, nodes.address)


class Kills(Counter):
    "Kills by kind, at most so many."

    def __init__(self, most):
        super().__init__()
        self.most = most


class Wrong(set):
    "Names of files that differ from the right ones."

    def __init__(self, right):
        super().__init__()
        self.right = right


def campaign(kills):
    "What came of so many kills."
    from clustered import TwoNodes

    root, total = Path(tempfile.mkdtemp()), Kills(kills)
    films = archive(root)
    score_archive(films, root / "right", shard_rows=SHARD_ROWS)
    wrong, found, runs = Wrong(shards(root / "right")), Counter(), 0
    with TwoNodes() as nodes:
        while sum(total.values()) < kills:
            out, runs = root / f"out{runs}", runs + 1
            found["stopped"] += disturbed(films, out, nodes, total, wrong)
            ids = [i for n in sorted(shards(out)) for i in pq.read_table(out / "scores" / n)["id"].to_pylist()]
            found["lost"] += FILMS - len(set(ids))
            found["doubled"] += len(ids) - len(set(ids))
            found["faults"] += len(verify(out)) + (not progress_of(out).complete)
            wrong.update(n for n, b in shards(out).items() if b != wrong.right.get(n))
    shutil.rmtree(root)
    return {"runs": runs, "kills": dict(total), "differing": len(wrong), **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    result = {"seed": args.seed, **campaign(args.kills)}
    print(json.dumps(result))
    return int(any(result[k] for k in ("differing", "lost", "doubled", "faults")))


if __name__ == "__main__":
    sys.exit(main())
