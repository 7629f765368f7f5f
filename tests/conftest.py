"""One small project, run once: the tests share its trained model."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tracked import POSTGRES, MlflowServer, Postgres

ROOT = Path(__file__).parent.parent
SMALL = {"sample": {"patients": 48}, "prepare": {"size": 96}, "train": {"epochs": 2, "batch_size": 16}, "evaluate": {"bootstrap": 200}}
# the shared project runs with these; test_tracking.py looks for them in all that it leaves
SECRETS = {"AWS_SECRET_ACCESS_KEY": "aws+secret/0a1b2c3d", "KAGGLE_KEY": "kaggle-key-4e5f6a", "GITHUB_TOKEN": "ghp_token7b8c9d0e",
           "XRAYPNEU_REMOTE_PASSWORD": "remote&pass<1f2a3b>", "EXAMPLE_SECRET": "example-secret-4c5d6e",
           "EXAMPLE_ADDRESS": "https://someone:address-pass-7f8a@host.invalid/x"}


@pytest.fixture(autouse=True, scope="session")
def environment():
    "Programs of this environment first; nothing of the developer's own settings."
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        for name in list(os.environ):
            if name.lower() in ("http_proxy", "https_proxy", "all_proxy") or name.startswith(("MLFLOW_", "KERAS_", "XRAYPNEU_")):
                m.delenv(name)
        m.setenv("no_proxy", "127.0.0.1")
        m.setenv("NO_PROXY", "127.0.0.1")
        m.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        m.setenv("DVC_NO_ANALYTICS", "1")
        m.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for who in ("AUTHOR", "COMMITTER"):
            m.setenv(f"GIT_{who}_NAME", "test")
            m.setenv(f"GIT_{who}_EMAIL", "test@example.invalid")
        yield


def run(cmd, cwd, check=True, **env):
    "Run a command; its output, standard error included, as `.out`."
    done = subprocess.run(cmd, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **env}, timeout=900)
    done.out = done.stdout
    if check:
        assert done.returncode == 0, f"{cmd} exited with {done.returncode}:\n{done.out}"
    return done


def set_params(project, changes):
    "Change params.yaml."
    yaml, path = YAML(), project / "params.yaml"
    params = yaml.load(path)
    for section, values in changes.items():
        params[section].update(values)
    yaml.dump(params, path)


def make_project(folder):
    "A copy of this project's files in its own git repository."
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "settings.ini"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("nbs/pipeline", "xraypneu"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    shutil.copy(ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
    set_params(folder, SMALL)
    run(["git", "init", "-q", "-b", "main"], folder)
    run(["git", "add", "-A"], folder)
    run(["git", "commit", "-q", "-m", "project"], folder)
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    "A small project after `dvc repro`: read it, don't change it."
    folder = make_project(tmp_path_factory.mktemp("project") / "xray")
    done = run(["dvc", "repro"], folder, **SECRETS)
    (folder / ".repro.log").write_text(done.out)
    run(["git", "add", "-A"], folder)
    run(["git", "commit", "-q", "-m", "run"], folder)
    return folder


@pytest.fixture
def copy(project, tmp_path):
    "A copy of the project that a test may change."
    folder = Path(shutil.copytree(project, tmp_path / "copy", symlinks=True))
    # its store would still write into the shared project, whose absolute path it holds
    (folder / "mlflow.db").unlink()
    shutil.rmtree(folder / "mlartifacts")
    return folder


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory):
    "`mlflow server` with sqlite; a test that kills it starts it again."
    with MlflowServer(tmp_path_factory.mktemp("sqlite")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory):
    "`mlflow server` with PostgreSQL."
    if POSTGRES is None and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not installed: install Debian's package postgresql")
    assert POSTGRES, "PostgreSQL is not installed: .ci/programs installs it"
    with Postgres() as cluster, MlflowServer(tmp_path_factory.mktemp("postgres"), cluster.uri) as server:
        yield server
