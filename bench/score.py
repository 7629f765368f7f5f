"""`xraypneu score` compared with the alternatives, in one run on this machine: `make bench-score`.

    python bench/score.py                      # all measures that have no result of this code yet
    python bench/score.py --only rate memory   # these, again
    python bench/score.py --films 2000         # fewer films, for a first look

Films are synthetic. A finished measure is kept in .cache/bench-score, so a run that was stopped goes on; a change of
the library or of this file begins anew. Writes bench/score.json and bench/score.md. Times are written only of an idle
machine: before each measure two seconds are watched, and where others are busy, its times are printed and not kept,
and it is measured again by the next run.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE)]

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import kills
from bench import Sheet, clock, jpeg, machine, rounds
from xraypneu import __version__
from xraypneu.data.sample import draw_radiograph
from xraypneu.ops.tracking import git_state
from xraypneu.model.bundle import load_bundle
from xraypneu.serving import score
from xraypneu.serving.predict import Predictor
from xraypneu.serving.score import score_archive

STATE = ROOT / ".cache/bench-score"
PRECISIONS = ("int8", "fp32")
CORES = 2  # of the limit and of the cluster
ORIGINALS, SIDE = 36, 1000  # different films, pixels a side: 1 megapixel
BUSY = 0.05  # share of the processor that others may use while times are taken
MEGABYTE = 1e6
CHILD = str(HERE / "score_child.py")


def median(values):
    return statistics.median(values)


# --- films


def originals(side):
    "The files of the different films; drawn once."
    folder = STATE / f"films-{side}"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(ORIGINALS):
        file = folder / f"{i}.jpg"
        if not file.exists():
            file.write_bytes(jpeg(draw_radiograph(i, size=side)[0]))
    return [folder / f"{i}.jpg" for i in range(ORIGINALS)]


@contextlib.contextmanager
def archive(n, side=SIDE):
    "A folder with `films`, n links to the originals, and with room for scores."
    root = Path(tempfile.mkdtemp(dir=STATE))
    (root / "films").mkdir()
    files = originals(side)
    for i in range(n):
        os.link(files[i % len(files)], root / f"films/{i:06d}.jpg")
    try:
        yield root
    finally:
        shutil.rmtree(root)


def paths(root):
    return sorted(map(str, (root / "films").iterdir()))


# --- memory and load


def family(pid):
    "A process and all that it started, by their ids."
    with contextlib.suppress(OSError):
        below = [
            int(p) for task in Path(f"/proc/{pid}/task").iterdir() for p in (task / "children").read_text().split()
        ]
        return [pid, *(q for p in below for q in family(p))]
    return [pid]


def pss(pid):
    "Bytes of a process, what it shares with others divided among them."
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) * 1024
    return 0


class Watched:
    "Runs a command and notes the most memory that its processes had together, in megabytes."

    def __init__(self, *args, every=0.2):
        self.peak = 0.0
        self.process = subprocess.Popen([sys.executable, CHILD, *map(str, args)], stdout=subprocess.PIPE, text=True)
        watcher = threading.Thread(target=self._watch, args=(every,), daemon=True)
        watcher.start()
        out, _ = self.process.communicate()
        watcher.join()
        if self.process.returncode:
            raise RuntimeError(f"{args} ended with {self.process.returncode}")
        self.said = json.loads(out.splitlines()[-1])

    @property
    def most(self):
        "Megabytes: of all processes, or of the main one where its peak fell between two looks."
        return max(self.peak, self.said["peak_mb"])

    def _watch(self, every):
        while self.process.poll() is None:
            self.peak = max(self.peak, sum(map(pss, family(self.process.pid))) / MEGABYTE)
            time.sleep(every)


def others_busy(seconds=2):
    "Share of all processors that is in use while this process rests."
    return psutil.cpu_percent(seconds) / 100


# --- 1: the rate


def by_score(files, root, precision):
    "The archive scored, with listing, loading and writing."
    out = root / "scores"
    assert score_archive(root / "films", out, precision=precision).errors == 0
    shutil.rmtree(out)


def by_loop(files, root, precision):
    predictor = Predictor(precision=precision)
    for file in files:
        predictor.predict(file)


def by_batch(files, root, precision):
    for _ in Predictor(precision=precision).predict_batch(files):
        pass


def decoded_alone(file, side=224):
    "The JPEG at the least scale of its DCT that still has so many pixels a side."
    with Image.open(file) as image:
        image.draft("L", (side, side))
        image.load()
        return image


def squashed_alone(file):
    "The JPEG at the library's scale, made the square that the session gets."
    return decoded_alone(file, 3 * 224).resize((224, 224), Image.Resampling.BILINEAR)


def on_both_cores(function, items):
    with ThreadPoolExecutor(CORES) as pool:
        for _ in pool.map(function, items):
            pass


def session_alone(files, precision):
    """Seconds of the session on so many films, both cores busy: one by one in two threads, or in batches of 32 with its
    own threads, whichever is faster."""
    squares = [np.asarray(decoded_alone(f).resize((224, 224)))[None] for f in files[:32]]
    one, wide = (load_bundle(precision=precision) for _ in range(2))
    one.open_single()
    batch, feed = np.concatenate(squares), [squares[i % len(squares)] for i in range(len(files))]

    def run(bundle, images):
        bundle.session.run(["logit", "map", "features"], {"image": images})

    run(one, batch), run(wide, batch)
    return min(
        clock(lambda: on_both_cores(lambda x: run(one, x), feed)),
        clock(lambda: [run(wide, batch) for _ in range(0, len(files), len(batch))]),
    )


def alone(files, precision):
    "Seconds of each part of the work by itself, with both cores busy."
    return {
        "decode at the least scale": clock(lambda: on_both_cores(decoded_alone, files)),
        "decode at the library's scale": clock(lambda: on_both_cores(lambda f: decoded_alone(f, 3 * 224), files)),
        "decode and squash at the library's scale": clock(lambda: on_both_cores(squashed_alone, files)),
        "session": session_alone(files, precision),
    }


CONTENDERS = {"score": by_score, "loop": by_loop, "predict_batch": by_batch}


def measure_rate(args):
    "Films a second of each contender and of the limit; a ratio is the median of the turns' ratios."
    n, found = max(1, args.films // args.turns), {}
    with archive(n) as root:
        files = paths(root)
        few = files[: max(64, n // 4)]
        for precision in PRECISIONS:
            taken = defaultdict(list)
            for _ in range(args.turns if precision == "int8" else 1):
                for name, run in CONTENDERS.items():
                    taken[name].append(clock(lambda f=run, p=precision: f(files, root, p)))
                parts = {k: v * n / len(few) for k, v in alone(few, precision).items()}
                taken["limit"].append(parts["decode at the least scale"] + parts["session"])
                taken["limit, library's scale"].append(parts["decode at the library's scale"] + parts["session"])
                squares = parts["decode and squash at the library's scale"]
                taken["limit, library's scale, squashed"].append(squares + parts["session"])
                for name, seconds in parts.items():
                    taken[f"{name} alone"].append(seconds)
            others = ("loop", "predict_batch", *(k for k in taken if k.startswith("limit")))
            found[precision] = {
                "films_per_s": {k: n / median(v) for k, v in taken.items()},
                **{f"score / {k}": ratio(taken[k], taken["score"]) for k in others},
            }
    return {"times": found}


def ratio(slow, fast):
    "The median ratio of two lists of seconds."
    return median(a / b for a, b in zip(slow, fast, strict=True))


# --- 2: one small image


def measure_single(args):
    "Milliseconds of Predictor and of the raw session on one image of 224 pixels."
    files = [f.read_bytes() for f in originals(224)]
    images = [np.asarray(Image.open(io.BytesIO(f)).convert("L")) for f in files]
    contenders, turns = {}, itertools.count()

    def one(of):
        return of[next(turns) % len(of)]

    for p in PRECISIONS:
        predictor = Predictor(precision=p)
        session = predictor.bundle.session
        contenders[f"Predictor {p}, array"] = lambda f=predictor: f.predict(one(images))
        contenders[f"Predictor {p}, JPEG"] = lambda f=predictor: f.predict(one(files))
        contenders[f"session {p}"] = lambda s=session: s.run(["logit", "map", "features"], {"image": one(images)[None]})
    ms, times = rounds(contenders, 15, 6)
    over = {
        f"{p}, {of}": 100 * (times(f"Predictor {p}, {of}", f"session {p}") - 1)
        for p in PRECISIONS
        for of in ("array", "JPEG")
    }
    return {"times": {"ms": ms, "overhead_percent": over}}


# --- 3: memory


def measure_memory(args):
    "Megabytes of all processes of a run at their peak, by number of films."
    found = {}
    for n in (args.films // 10, args.films):
        with archive(n) as root:
            seen = Watched("score", root / "films", root / "scores")
        found[str(n)] = {"all processes": seen.peak, "main process": seen.said["peak_mb"]}
    few, many = (v["all processes"] for v in found.values())
    return {"peak_mb": found, "more_percent": 100 * (many / few - 1)}


# --- 4: Ray


class PerBatch:
    "What somebody writes for Ray Data: a predictor of one thread in each actor."

    def __init__(self, precision):
        bundle = load_bundle(precision=precision)
        bundle.open_single()
        self.predictor = Predictor(bundle)

    def __call__(self, batch):
        uris = [str(u) for u in batch["uri"]]
        found = [p.to_dict() for p in self.predictor.predict_batch(uris, workers=1)]
        return {"uri": uris} | {k: [p[k] for p in found] for k in ("verdict", "label", "probability", "ood_score")}


def by_ray_data(files, out, address, precision):
    "The same films by `map_batches`, written as parquet files of 10,000 rows."
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    films = ray.data.from_items([{"uri": f} for f in files], override_num_blocks=max(4 * CORES, len(files) // 250))
    per_batch = {"fn_constructor_args": (precision,), "batch_size": 32, "num_cpus": 1}
    scored = films.map_batches(PerBatch, compute=ray.data.ActorPoolStrategy(size=CORES), **per_batch)
    out.mkdir()
    rows = 0
    for i, table in enumerate(scored.iter_batches(batch_size=10_000, batch_format="pyarrow")):
        pq.write_table(table, out / f"{i:05d}.parquet")
        rows += table.num_rows
    assert rows == len(files)
    ray.shutdown()
    shutil.rmtree(out)


def by_engine(root, precision, rows, address=None):
    from xraypneu.serving.cluster import score_on_cluster

    out, options = root / "scores", {"precision": precision, "shard_rows": rows}
    run = score_archive if address is None else lambda *a, **k: score_on_cluster(*a, address=address, **k)
    assert run(root / "films", out, **options).errors == 0
    shutil.rmtree(out)


def measure_ray(args, precision="int8"):
    "One machine, two one-core nodes, Ray Data on these, and one node, in turns; each starts its own processes."
    from clustered import TwoNodes

    n = max(1, args.films // args.turns)
    rows, taken = max(1, n // 20), {k: [] for k in ("local", "two nodes", "Ray Data", "one node")}
    with archive(n) as root, TwoNodes() as nodes:
        runs = {
            "local": lambda: by_engine(root, precision, rows),
            "two nodes": lambda: by_engine(root, precision, rows, nodes.address),
            "Ray Data": lambda: by_ray_data(paths(root), root / "scores", nodes.address, precision),
            "one node": lambda: by_engine(root, precision, rows, nodes.address),
        }
        for _ in range(args.turns):
            for name, run in runs.items():
                if name == "one node":
                    nodes.cluster.remove_node(nodes.worker)
                taken[name].append(clock(run))
            nodes.worker = nodes._node()
    return {
        "times": {
            "films_per_s": {k: n / median(v) for k, v in taken.items()},
            "two nodes / one": ratio(taken["one node"], taken["two nodes"]),
            "Ray / local": ratio(taken["local"], taken["two nodes"]),
            "Ray / Ray Data": ratio(taken["Ray Data"], taken["two nodes"]),
        }
    }


# --- 5: resume


ANSWERS = {"verdict": "NORMAL", "label": "NORMAL", "probability": 0.125, "logit": -2.5, "ood_score": 0.5}


def film_table(n, count, real):
    "The films of a shard; those of one that is not scored yet are there."
    uris = [real] * count if real else [f"/archive/{n:06d}/1.2.826.0.1.3680043.{n}.{i:08d}.dcm" for i in range(count)]
    seen = os.stat(real) if real else None
    size, mtime = (seen.st_size, seen.st_mtime_ns) if seen else (9_000_000 + n, 1_700_000_000_000_000_000 + n)
    columns = [range(n * score.SHARD_ROWS, n * score.SHARD_ROWS + count), uris, [size] * count, [mtime] * count]
    arrays = [pa.array(c, f.type) for c, f in zip([*columns, [None] * count], score._MANIFEST, strict=True)]
    return pa.table(arrays, schema=score._MANIFEST)


def score_table(films, settings, facts):
    "The scores of a shard, of invented values; the hash of the values, which only `--verify` reads, is left out."
    count, schema = films.num_rows, score.score_schema(settings)
    known = {"id": films["id"], "uri": films["uri"], "reasons": pa.array([[]] * count, schema.field("reasons").type)}
    columns = [known.get(f.name, pa.array([ANSWERS.get(f.name)] * count, f.type)) for f in schema]
    said = facts | {"errors": 0, "rows_sha256": "0" * 64}
    return pa.table(columns, schema=schema).replace_schema_metadata({"xraypneu": json.dumps(said)})


def build_archive(out, rows):
    "Manifest and scores of so many films in the library's own files, of which every hundredth shard is missing."
    shutil.rmtree(out, ignore_errors=True)
    (out / "manifest").mkdir(parents=True)
    (out / "scores").mkdir()
    used, real, shards = load_bundle(), str(originals(224)[0].absolute()), []
    settings = score.Settings(used.hash, used.precision, __version__, False, [])
    score._write(out / "score.json", json.dumps(settings.facts()) + "\n")
    for n in range(-(-rows // score.SHARD_ROWS)):
        count, missing = min(score.SHARD_ROWS, rows - n * score.SHARD_ROWS), n % 100 == 99
        films = film_table(n, count, real if missing else None)
        data = score._parquet(films)
        score._write(score._shard(out / "manifest", n), data)
        shards.append(hashlib.sha256(data).hexdigest())
        if not missing:
            facts = {"shard": n, "rows": count, "manifest": shards[-1], **settings.facts()}
            score._write(score._shard(out / "scores", n), score._parquet(score_table(films, settings, facts)))
    manifest = score.Manifest("/archive/films.txt", "0" * 64, score.SHARD_ROWS, rows, shards, {})
    score.write_file(out / "manifest/manifest.json", json.dumps(manifest.__dict__) + "\n")


def measure_resume(args):
    "An archive of which 99 % are scored: until a missing shard is being scored, `--status`, and the folder of all."
    out = STATE / f"resume-{args.rows}-{__version__}-{load_bundle().hash[:12]}"  # what its files say
    if not (out / "manifest/manifest.json").exists():  # written last
        build_archive(out, args.rows)
    found, times = {}, {}
    for name in ("resume", "status", "folder"):
        seen = Watched(name, out, time.time(), every=0.05)
        times[name] = seen.said["seconds"]
        found[name] = {"mb": seen.most, "cpu_s": seen.said["cpu_s"]}
        found["done"] = seen.said.get("done", found.get("done"))
    size = {k: sum(p.stat().st_size for p in (out / k).glob("*.parquet")) for k in ("manifest", "scores")}
    found["bytes_per_film"] = {k: v / args.rows for k, v in size.items()}
    found["manifest_json_bytes_per_shard"] = (
        (out / "manifest/manifest.json").stat().st_size * score.SHARD_ROWS / args.rows
    )
    return {"times": times, **found}


# --- 6: kills


def measure_kills(args):
    "Rows lost, doubled, differing or half written after kills of workers, nodes and drivers."
    kills.random.seed(1)
    return {"seed": 1, **kills.campaign(args.kills)}


# --- the page


@dataclass(frozen=True)
class Measure:
    run: Callable
    options: tuple = ()  # of the command that it depends on
    timed: bool = True  # needs an idle machine


MEASURES = {
    "rate": Measure(measure_rate, ("films", "turns")),
    "single": Measure(measure_single),
    "memory": Measure(measure_memory, ("films",), timed=False),
    "ray": Measure(measure_ray, ("films", "turns")),
    "resume": Measure(measure_resume, ("rows",)),
    "kills": Measure(measure_kills, ("kills",), timed=False),
}
FULL = {"films": 20_000, "rows": 10_000_000, "kills": 20}  # what the requirements are about
# what, measure, where its value stands, must, aim, whether less is better
REQUIREMENTS = [
    ("score / a loop over Predictor", "rate", ("times", "int8", "score / loop"), 1.7, 1.95, False),
    ("score / predict_batch", "rate", ("times", "int8", "score / predict_batch"), 0.95, 1.05, False),
    ("score / the limit", "rate", ("times", "int8", "score / limit"), 0.8, 0.9, False),
    ("a 224-px array, over the session, fp32, %", "single", ("times", "overhead_percent", "fp32, array"), 15, 10, True),
    ("a 224-px JPEG, over the session, fp32, %", "single", ("times", "overhead_percent", "fp32, JPEG"), 15, 10, True),
    ("memory of ten times the films, % more", "memory", ("more_percent",), 10, 5, True),
    ("two one-core nodes / one", "ray", ("times", "two nodes / one"), 1.8, 1.95, False),
    ("Ray / local", "ray", ("times", "Ray / local"), 0.85, 0.95, False),
    ("Ray / Ray Data map_batches", "ray", ("times", "Ray / Ray Data"), 1.0, 1.2, False),
    ("resume, s", "resume", ("times", "resume"), 10, 3, True),
    ("resume, MB", "resume", ("resume", "mb"), 500, 200, True),
    ("rows lost after kills", "kills", ("lost",), 0, 0, True),
    ("rows doubled after kills", "kills", ("doubled",), 0, 0, True),
    ("files differing or half written after kills", "kills", ("differing",), 0, 0, True),
    ("files that --verify names after kills", "kills", ("faults",), 0, 0, True),
]
TITLES = {
    "rate": "JPEGs of 1 megapixel, {films:,} links to 36 synthetic ones, in {turns} turns",
    "single": "One image of 224 pixels, as an array and as the bytes of its JPEG",
    "memory": "Peak memory, {films:,} JPEGs of 1 megapixel and a tenth of them",
    "ray": "A Ray cluster of two one-core nodes on this machine, {films:,} films in {turns} turns, int8",
    "resume": "Resume: {rows:,} films, of which 99 % are scored",
    "kills": "{kills} times kill -9 of a worker, a node or the driver",
}
NOTES = {
    "rate": "`score` includes listing, loading the model and writing. The limit is the time of decoding alone plus "
    "that of the session alone, each with both cores busy, on a quarter of a turn's films: any program on these two "
    "cores must do both. Decoding alone is Pillow at the least DCT scale that has 224 pixels; the library's scale has "
    "three times as many, as grainy films need that for the same answers. Squashed: with the films made squares of 224 "
    "pixels, which the session gets and neither limit above counts. fp32 has one turn.",
    "single": "The raw session gets an array; it has no verdict to find and no picture to keep. A JPEG is decoded in a "
    "process of its own, so that a hostile file can't harm the program.",
    "memory": "Of all processes together, what they share counted once (PSS), five times a second; fp32.",
    "ray": "Each run connects and starts its own worker processes; shards are a twentieth of a turn. "
    "Ray Data runs `map_batches` with one Predictor of one thread a core.",
    "resume": "Manifest and scores are synthetic, in the files of the library: shards of 10,000, every hundredth is "
    "missing. `resume` is the command, from its start to the first row of a missing shard. `folder` reads the whole "
    "manifest; a list or glob needs it when a first film is missing, and at the end of a run.",
    "kills": "At random moments, while shards are scored; the driver is started again, a node is replaced.",
}


def value_of(result, keys):
    "A value of a result; None if it was not measured."
    for key in keys:
        result = result.get(key) if isinstance(result, dict) else None
    return result


def flat(value, name=""):
    "Names and numbers of a result, for its table."
    if isinstance(value, dict):
        return [row for k, v in value.items() for row in flat(v, f"{name}, {k}" if name else k)]
    if isinstance(value, float):
        return [(name, f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}")]
    return [(name, f"{value:,}" if isinstance(value, int) else value)]


def is_full(result):
    "Was so much measured as the requirements are about?"
    return all(result["options"][k] >= n for k, n in FULL.items() if k in result["options"])


def write_page(results):
    "bench/score.md and bench/score.json; the exit status."
    sheet, todo = Sheet(), []
    sheet.say("# `xraypneu score` compared with the alternatives\n")
    sheet.say("Written by `make bench-score`; don't edit. Films are synthetic.\n")
    for name in MEASURES:
        if name not in results:
            todo.append(f"- {name}: not run yet")
            continue
        r = results[name]
        sheet.say(f"## {TITLES[name].format(**r['options'])}\n\n{NOTES[name]}\n")
        if r["busy"] > BUSY and MEASURES[name].timed:
            todo.append(f"- {name}: times, as the machine was busy" + " (memory and sizes are here)" * bool(r["found"]))
        if not is_full(r):
            todo.append(f"- {name}: in full, " + ", ".join(f"{k} {v:,}" for k, v in FULL.items() if k in r["options"]))
        if rows := flat(r["found"]):
            sheet.table(["", ""], rows)
        sheet.say(f"\n`{r['command']}`, commit {r['commit']}. {r['machine']}.\n")
    for what, name, keys, must, aim, fewer in REQUIREMENTS:
        value = value_of(results.get(name, {}).get("found"), keys)
        if value is not None and is_full(results[name]):
            sheet.check(what, value, must, aim, fewer)
    if todo:
        sheet.say("## Still to be run on an idle machine\n\n" + "\n".join(todo))
    return sheet.write(HERE, "score", results)


# --- the driver


def code():
    "Names what is measured: the library and this program."
    files = [
        *sorted((ROOT / "xraypneu").rglob("*.py")),
        *(HERE / f for f in ("score.py", "score_child.py", "kills.py", "bench.py")),
    ]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def commit():
    state = git_state(ROOT)
    return state["git_commit"][:12] + "+" * (state["git_dirty"] == "true")


def options_of(name, args):
    return {k: getattr(args, k) for k in MEASURES[name].options}


def is_finished(name, kept, args):
    "Is there a result of this code and these options, with times if it has any?"
    same = kept.get("code") == code() and kept["options"] == options_of(name, args)
    return same and not (MEASURES[name].timed and kept["busy"] > BUSY)


def perform(name, args):
    "The result of a measure, without times if the machine was busy."
    busy, began = others_busy(), time.monotonic()
    found = MEASURES[name].run(args)
    print(json.dumps({name: found, "busy": busy}, indent=1), flush=True)
    if busy > BUSY:
        found.pop("times", None)
    options = options_of(name, args)
    return {
        "found": found,
        "busy": busy,
        "seconds": round(time.monotonic() - began),
        "options": options,
        "command": " ".join(["python bench/score.py --only", name, *(f"--{k} {v}" for k, v in options.items())]),
        "machine": machine(),
        "commit": commit(),
        "code": code(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="these measures, also if there are results")
    parser.add_argument("--films", type=int, default=FULL["films"], help="JPEGs of 1 megapixel")
    parser.add_argument("--turns", type=int, default=4, help="in which the films are scored by each contender")
    parser.add_argument("--rows", type=int, default=FULL["rows"], help="films of the archive that is resumed")
    parser.add_argument("--kills", type=int, default=FULL["kills"])
    args = parser.parse_args()
    STATE.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in MEASURES:
        file = STATE / f"{name}.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        if name in (args.only or ()) or (not args.only and not is_finished(name, kept, args)):
            kept = perform(name, args)
            file.write_text(json.dumps(kept, indent=1))
        if kept:
            results[name] = kept
    return write_page(results)


if __name__ == "__main__":
    sys.exit(main())
