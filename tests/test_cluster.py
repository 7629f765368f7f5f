"""`xraypneu score --engine ray`: the same bytes as on one machine, whatever is killed on the way."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import ROOT, until
from PIL import Image
from served import moto

from xraypneu import cli
from xraypneu.data.sample import draw_radiograph
from xraypneu.serving.cluster import ray_engine
from xraypneu.serving.score import ScoreError, progress_of, score_archive, verify, write_manifest

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None and not os.environ.get("CI"), reason="Ray is not installed: make env"
)


def contents(out):
    "The finished shards and their bytes."
    return {p.name: p.read_bytes() for p in (Path(out) / "scores").glob("*.parquet")}


def driver(*args):
    "The command in a process of its own, which imports this package."
    code = "import sys; from xraypneu.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, "score", *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    "A list of 64 films, of which eight differ and one is damaged; and its scores by the local engine."
    folder = tmp_path_factory.mktemp("archive")
    for i in range(8):
        Image.fromarray(draw_radiograph(i, size=128)[0]).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:300])
    (folder / "list.txt").write_text("".join(f"{folder}/{i % 8}.png\n" for i in range(64)))
    score_archive(folder / "list.txt", folder / "local", shard_rows=4)
    return folder


@pytest.fixture(scope="module")
def s3():
    "What the environment needs for an S3 server, in which there is a bucket `team`."
    env = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    with moto() as url:
        yield env | {"AWS_ENDPOINT_URL": url}


@pytest.fixture(scope="module")
def nodes(s3):
    "Two nodes of one core, which have credentials for the S3 server."
    from clustered import TwoNodes

    with TwoNodes(**s3) as cluster:
        yield cluster


def at_work_until_the_end(process, nodes, most=120):
    """The ids of the workers that scored a shard. The first is paused until a second is at work, for `most` seconds:
    alone, it would do so few shards before the other node's has started."""
    seen, paused, last = set(), None, time.monotonic() + most
    while process.poll() is None:
        found = nodes.at_work()
        seen |= {p.pid for p in found}
        waits = len(seen) == 1 and time.monotonic() < last
        if found and waits and not paused:
            paused = found[0]
            paused.suspend()
        if paused and not waits:
            paused.resume()
            paused = None
        time.sleep(0.05)
    return seen


@needs_ray
@pytest.mark.nightly  # in short: nbs/tutorials/cluster.ipynb ends a node, test_score.py kills the driver
def test_kill_9_of_a_worker_a_node_and_the_driver(archive, nodes, tmp_path):
    "The first two are made good within the run; after the third, the tasks end, and the next run does the rest."
    out = tmp_path / "out"
    args = (archive / "list.txt", "--out", out, "--shard-rows", 4, "--engine", "ray", "--address", nodes.address)
    process = driver(*args)
    until(lambda: len(contents(out)) >= 2, process)
    until(nodes.at_work, process)[0].kill()
    until(lambda: len(contents(out)) >= 6, process)
    nodes.lose_node()
    until(lambda: len(contents(out)) >= 10, process)
    process.kill()
    process.communicate()
    until(lambda: not nodes.at_work())
    kept = contents(out)
    assert 10 <= len(kept) < 16 and not progress_of(out).complete
    assert kept == {n: b for n, b in contents(archive / "local").items() if n in kept}
    nodes.add_node()
    _, error = (process := driver(*args)).communicate(timeout=240)
    assert process.returncode == 0, error
    assert contents(out) == contents(archive / "local") and verify(out) == []


@needs_ray
def test_two_nodes_write_the_same_bytes_to_an_object_store(archive, nodes, capsys):
    """Without a folder that both see, which nbs/tutorials/cluster.ipynb has: one put for each shard.

    Both nodes work, and each makes one scorer for all its shards."""
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=nodes.env["AWS_ENDPOINT_URL"], key="any", secret="any")
    fs.mkdir("team")
    args = ("--out", "s3://team/scores", "--shard-rows", 4, "--engine", "ray", "--address", nodes.address)
    process = driver(archive / "list.txt", *args)
    seen = at_work_until_the_end(process, nodes)
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert b"64 of 64 films are scored, 8 of them can't be used" in out and b"scoring: 100%" in error
    assert len(seen) == 2
    found = {p.rpartition("/")[2]: fs.cat_file(p) for p in fs.find("team/scores/scores")}
    assert found == contents(archive / "local")
    fs.rm("team/scores/scores/00003.parquet")
    for what, status in (("--status", 1), ("--resume", 0), ("--verify", 0)):
        assert cli.main(["score", what, "--out", "s3://team/scores"], io.StringIO()) == status
    fs.invalidate_cache()
    assert fs.cat_file("team/scores/scores/00003.parquet") == found["00003.parquet"]
    argv = ["score", str(archive / "list.txt"), "--out", "s3://no-such-bucket/scores"]
    assert cli.main(argv, io.StringIO()) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and "s3://no-such-bucket/scores" in error


@needs_ray
def test_an_error_of_a_node_names_it(archive, nodes, tmp_path):
    "The folder can't be written to: nothing is lost, and the message says where."
    out = tmp_path / "out"
    write_manifest(archive / "list.txt", out, shard_rows=16)
    (out / "scores").symlink_to("/proc/nowhere")
    process = driver("--resume", "--out", out, "--engine", "ray", "--address", nodes.address)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 2 and b"Traceback" not in error and b"(on " in error
    assert len(error.strip().splitlines()[-1].split(b"xraypneu: ")) == 2


# without a cluster


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert cli.main(["score", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "ray"], io.StringIO()) == 2
    said = capsys.readouterr().err
    assert "pip install '.[cluster]'" in said and said.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "address, code", [("127.0.0.1:1", "no_server"), ("nowhere", "bad_address"), ("ray://host:10001", "bad_address")]
)
def test_an_address_without_a_cluster(address, code):
    pytest.importorskip("ray")
    begun = time.monotonic()
    with pytest.raises(ScoreError, match=address) as e, ray_engine(address):
        pass
    assert e.value.code == code and e.value.hint and time.monotonic() - begun < 30


def test_an_address_is_of_ray_alone(tmp_path, capsys):
    argv = ["score", str(tmp_path), "--out", str(tmp_path / "out"), "--address", "127.0.0.1:6379"]
    assert cli.main(argv, io.StringIO()) == 2
    assert "--engine ray" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_local_engine_needs_no_ray(archive, tmp_path):
    code = "import sys; from xraypneu.cli import main; assert main(sys.argv[1:]) == 0; assert 'ray' not in sys.modules"
    call = ["score", "--resume", "--out", str(archive / "local")]
    done = subprocess.run([sys.executable, "-c", code, *call], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# files for real clusters


def deployed(name):
    return yaml.safe_load((ROOT / "deploy/ray" / name).read_text())


@needs_ray
def test_the_cluster_file_fits_ray_s_schema():
    "And its nodes are made from the lock, with Ray's token and without its statistics."
    ray = Path(importlib.util.find_spec("ray").origin).parent
    schema = json.loads((ray / "autoscaler/ray-schema.json").read_text())
    cluster = deployed("cluster.yaml")
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_worker": 2}, schema)  # it does refuse what it doesn't know
    starts = cluster["head_start_ray_commands"][1:] + cluster["worker_start_ray_commands"][1:]
    assert all("RAY_AUTH_MODE=token" in s and "--disable-usage-stats" in s for s in starts) and len(starts) == 2
    assert any("--require-hashes --requirement ~/xraypneu/locks/cluster.txt" in s for s in cluster["setup_commands"])


FIELDS = {  # of ray.io/v1, those that are used; KubeRay's own schema comes in no package
    "job": {
        "entrypoint": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "rayClusterSpec": dict,
    },
    "cluster": {"rayVersion": str, "enableInTreeAutoscaling": bool, "headGroupSpec": dict, "workerGroupSpecs": list},
    "head": {"rayStartParams": dict, "template": dict},
    "workers": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": dict,
    },
}


def test_the_ray_job_fits_the_schema_of_kubernetes():
    "Its pods do, strictly; the fields around them are those of the list above."
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    job = deployed("rayjob.yaml")
    assert (job["apiVersion"], job["kind"], set(job)) == (
        "ray.io/v1",
        "RayJob",
        {"apiVersion", "kind", "metadata", "spec"},
    )
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    parts = {"job": job["spec"], "cluster": cluster, "head": cluster["headGroupSpec"], "workers": workers}
    for name, part in parts.items():
        assert {k: type(v) for k, v in part.items()} == FIELDS[name], name
    pods = [{"apiVersion": "v1", "kind": "Pod", **g["template"]} for g in (cluster["headGroupSpec"], workers)]
    for pod in pods:
        kubernetes_validate.validate(pod, "1.33", strict=True)
        (container,) = pod["spec"]["containers"]
        assert container["resources"].keys() == {"requests", "limits"}
        assert [m["mountPath"] for m in container["volumeMounts"]] == ["/archive", "/scores"]
    with pytest.raises(kubernetes_validate.ValidationError):
        wrong = {**pods[0], "spec": {**pods[0]["spec"], "container": []}}
        kubernetes_validate.validate(wrong, "1.33", strict=True)
    locked = re.search(r"^ray==([\d.]+)", (ROOT / "locks/cluster.txt").read_text(), re.M)[1]
    assert cluster["rayVersion"] == locked
    options = cli._parser().parse_args(job["spec"]["entrypoint"].split()[1:])
    assert (options.engine, options.source, options.out) == ("ray", "/archive", "/scores")
