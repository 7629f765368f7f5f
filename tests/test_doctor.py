"""What the doctor says of sound and faulty projects; faults of the remote are in test_remote.py."""

import json
import os
import shutil
import sqlite3
import sys
from unittest.mock import Mock

import pytest
from conftest import executable, run

from xraypneu import redact
from xraypneu.files import others_reach, write_file
from xraypneu.ops import doctor, tracking
from xraypneu.ops.journal import Journal

PASSWORD = "s3cret"


@pytest.fixture(scope="module")
def well(tmp_path_factory):
    "A small project in git with a stage and the shipped model as its own, and nothing else set up."
    folder = tmp_path_factory.mktemp("doctor") / "project"
    folder.mkdir()
    (folder / "dvc.yaml").write_text("stages:\n  hello:\n    cmd: echo hello > hello.txt\n    outs: [hello.txt]\n")
    (folder / ".gitignore").write_text("/mlflow.db*\n/models\n")
    shutil.copytree(doctor.bundle.SHIPPED, folder / "models/bundle")
    for cmd in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "repro", "-q"],
        ["git", "add", "-A"],
        ["git", "commit", "-q", "-m", "project"],
    ):
        run(cmd, folder)
    return folder


@pytest.fixture
def project(well, tmp_path):
    return shutil.copytree(well, tmp_path / "project", symlinks=True)


def test_all_is_well(well, tmp_path, monkeypatch):
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "state"))
    checks = doctor.examine(well / "models")  # from inside the project
    found = {c.name: c for c in checks}
    assert {n for n, c in found.items() if c.ok is None} == {"dvc remote", "tracking"}, doctor.report(checks)
    assert doctor.status(checks) == 0 and doctor.report(checks).endswith("All checks passed.")
    assert all(c.found and "\n" not in c.found and not (c.ok and c.fix) for c in checks)
    assert run(["git", "status", "--porcelain"], well).out == "" and not (well / "mlflow.db").exists()


def test_what_is_wrong_has_a_command(project, monkeypatch):
    (project / "models/bundle/model.onnx").write_bytes(b"torn")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD}@127.0.0.1:9")
    (project / ".dvc/config").write_text(
        "[core]\n    remote = old\n['remote \"old\"']\n    url = http://127.0.0.1:9/x\n    auth = basic\n"
        f"    user = me\n    password = {PASSWORD}\n"
    )
    checks = doctor.examine(project, quick=True)
    wrong = {c.name: c for c in checks if c.ok is False}
    assert wrong.keys() == {"model", "tracking", "secrets", "dvc remote"} and doctor.status(checks) == 1
    text = doctor.report(checks)
    assert all(c.fix in text for c in wrong.values()) and PASSWORD not in text
    assert "4 of 11" in text and text.count("fix:") == 4
    run(["sh", "-c", wrong["secrets"].fix], project)
    assert doctor.check_secrets(project).ok and PASSWORD not in (project / ".dvc/config").read_text()


@pytest.mark.parametrize("on_the_path", ["none", "another"])
def test_another_python_on_the_path_is_said_in_a_project(on_the_path, tmp_path, monkeypatch):
    "`/path/.venv/bin/xraypneu run` works, since it puts its own Python first; `dvc repro` by hand fails."
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if on_the_path == "another":
        (tmp_path / "bin/python").symlink_to("/bin/true")
    assert doctor.check_python(tmp_path).ok  # no stages here
    (tmp_path / "dvc.yaml").touch()
    check = doctor.check_python(tmp_path)
    which = "no `python` on the PATH" if on_the_path == "none" else str(tmp_path / "bin/python")
    assert check.ok is None and which in check.found and "`dvc repro`, typed here" in check.found
    shown = run(["/bin/sh", "-c", f"{check.fix}; python -c 'import sys; print(sys.executable)'"], tmp_path).out
    assert shown.strip() == sys.executable
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    assert doctor.check_python(tmp_path).ok


def test_one_broken_check_hides_no_other(project, monkeypatch):
    (project / "dvc.lock").write_text("{ not yaml")
    (project / ".dvc/config").write_text("[core\n")
    found = {c.name: c for c in doctor.examine(project, quick=True)}
    assert found["dvc remote"].ok is False and "config" in found["dvc remote"].found and found["shipped model"].ok
    (project / ".dvc/config").write_text(f"[core]\n    remote = a\n['remote \"a\"']\n    url = {project}\n")
    lock = doctor.check_remote(project)
    assert lock.ok is False and "dvc.lock" in lock.found


def test_damaged_store_of_runs(project):
    (project / "mlflow.db").write_bytes(b"no database at all" * 100)
    check = doctor.check_tracking(project)
    assert check.ok is False and check.fix.startswith("mv ")
    run(["sh", "-c", check.fix], project)
    assert doctor.check_tracking(project).ok is None


def test_a_whole_store_is_not_moved_away(tmp_path, monkeypatch):
    "It holds all runs and versions. That it is busy, or another user's, is no damage."
    file = tmp_path / "mlflow.db"
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("CREATE TABLE runs (id)")
    monkeypatch.setattr(tracking, "check", Mock(side_effect=tracking.TrackingError("it doesn't work", code="store")))
    db.execute("BEGIN EXCLUSIVE")
    assert doctor.check_tracking(tmp_path).fix.startswith("xraypneu doctor ")
    db.execute("ROLLBACK")
    monkeypatch.setattr(os, "access", lambda *a, **kw: False)
    assert doctor.check_tracking(tmp_path).fix.startswith("chmod ug+w ")
    db.close()
    file.write_bytes(b"no database at all" * 100)
    assert doctor.check_tracking(tmp_path).fix.startswith("mv ")


def test_a_run_that_waits_for_its_store_is_named(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    assert doctor.check_journals(tmp_path).ok
    Journal(tmp_path / tracking.JOURNALS / "r1").add("run", store="http://127.0.0.1:1")
    check = doctor.check_journals(tmp_path)
    assert check.ok is False and check.fix == "xraypneu sync"


ELSEWHERE = "import sys; sys.prefix = '/elsewhere'; from ipykernel.kernelapp import launch_new_instance as go; go()"


@pytest.mark.parametrize(
    "argv, words",
    [
        (["/no/such/python", "-f", "{connection_file}"], "doesn't start"),
        (
            [sys.executable, "-c", ELSEWHERE, "-f", "{connection_file}"],
            "runs Python in /elsewhere",
        ),
    ],
)
def test_kernel_of_another_environment(tmp_path, monkeypatch, argv, words):
    folder = tmp_path / "kernels/python3"
    folder.mkdir(parents=True)
    spec = {"argv": argv, "display_name": "x", "language": "python", "metadata": {"supported_encryption": ["curve"]}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    check = doctor.check_kernel(tmp_path)
    assert check.ok is False and words in check.found
    assert check.fix == "unset JUPYTER_PATH"  # it goes before the environment


def test_a_kernel_that_does_not_encrypt_is_said(tmp_path, monkeypatch):
    "As an earlier ipykernel installed it; the stages refuse it."
    folder = tmp_path / "kernels/python3"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    check = doctor.check_kernel(tmp_path)
    assert check.ok is False and "encryption" in check.found and check.fix == "unset JUPYTER_PATH"


def test_disk_and_git(tmp_path):
    assert doctor.check_disk(tmp_path, least=1e18).ok is False
    for check in (doctor.check_git(tmp_path), doctor.check_remote(tmp_path)):
        assert check.ok is None and check.fix == "xraypneu new FOLDER"  # it said git init and dvc init: no project
    for name in ("dvc.yaml", "film.png"):
        (tmp_path / name).write_text("")
    run(["git", "init", "-q"], tmp_path)
    check = doctor.check_git(tmp_path)
    assert "no commit" in check.found and check.fix == "git add dvc.yaml && git commit -m project"  # and no film
    for name in ("reports/metrics.json", "reports/predictions.csv", "data/our films.dvc", "data/sample/a.png"):
        write_file(tmp_path / name, "")
    wanted = "git add dvc.yaml reports/metrics.json 'data/our films.dvc' && git commit -m project"
    assert doctor.check_git(tmp_path).fix == wanted  # without metrics.json, a colleague's `dvc repro` evaluates again
    (tmp_path / ".git/HEAD").write_text("nonsense")
    assert doctor.check_git(tmp_path).ok is False


def test_a_password_in_the_query_of_the_store_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/?user=me&password=s3cr3t")
    found = doctor.check_tracking(tmp_path)
    assert found.ok is False and "user=me" in found.found and "s3cr3t" not in doctor.report([found])


@pytest.mark.parametrize("password", ["s3c/r3t", "s3c#r3t", "s3c?r3t", "12/s3cr3t"])
def test_no_character_of_a_database_s_password_has_it_shown(tmp_path, monkeypatch, password):
    "SQLAlchemy takes / # ? in a password as they are. It would be stored beside the run, and printed."
    uri = f"postgresql://me:{password}@127.0.0.1:9/runs"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking.public_url(uri) == "postgresql://***@127.0.0.1:9/runs"
    assert password not in redact.scrub(f"could not connect to {uri} with {password}")
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", f"postgresql://127.0.0.1:9/runs?user=me&password={password.replace('#', '')}"
    )
    assert "r3t" not in redact.scrub(f"password {password.replace('#', '')}")


def configured(project, text):
    (project / ".dvc/config").write_text("[core]\n    remote = old\n['remote \"old\"']\n" + text)


def test_a_password_in_the_address_of_a_remote(project):
    "It is named where git publishes it, and shown nowhere, not in the command that fixes it either."
    configured(project, f"    url = http://me:{PASSWORD}@127.0.0.1:9/x\n")
    secrets, remote = doctor.check_secrets(project), doctor.check_remote(project)
    assert "a password in remote.old.url" in secrets.found
    assert secrets.fix.startswith("dvc remote modify old url ADDRESS")
    assert remote.ok is False and PASSWORD not in doctor.report([secrets, remote])


@pytest.mark.parametrize("line", [f"password: {PASSWORD}", f'password "{PASSWORD}'])
def test_a_line_that_dvc_cannot_read_is_not_quoted(project, line):
    configured(project, f"    url = http://127.0.0.1:9/x\n    {line}\n")
    check = doctor.check_remote(project)
    assert check.ok is False and "line 5" in check.found and PASSWORD not in doctor.report([check])


def test_a_name_in_a_command_is_one_word(project):
    "The configuration came with the repository; its owner's words are no commands."
    (project / ".dvc/config").write_text(
        '[core]\n    remote = "a;touch b"\n[\'remote "a;touch b"\']\n    url = http://127.0.0.1:9/\x1b]0;x\n'
    )
    check = doctor.check_remote(project)
    assert "--name 'a;touch b'" in check.fix and "\x1b" not in doctor.report([check])


def test_a_repository_that_came_with_data_runs_nothing(tmp_path, monkeypatch):
    "A folder with HEAD, objects, refs and config is one without .git, and its settings may name a program."
    run(["git", "init", "-q", "seed"], tmp_path)
    run(["git", "commit", "-q", "--allow-empty", "-m", "seed"], tmp_path / "seed")
    (tmp_path / "seed/.git").rename(tmp_path / "films")
    (tmp_path / "films/config").write_text(f"[core]\nworktree = .\nfsmonitor = touch {tmp_path}/ran\n")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert doctor.check_git(tmp_path / "films").ok is None
    doctor.tracking.git_state(tmp_path / "films")
    assert not (tmp_path / "ran").exists()


def test_modules_beside_the_data_are_not_run(tmp_path, monkeypatch):
    "Python would take them for the packages of their names."
    for module in ("numpy", "PIL", "ipykernel_launcher"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    assert doctor.check_imports(".", {"numpy": "numpy", "pillow": "PIL"}).ok and doctor.check_kernel(".").ok
    assert not (tmp_path / "ran").exists()


def test_a_repository_that_came_with_a_folder_runs_nothing(tmp_path):
    "Of an unpacked copy of a project: its settings name programs for git, and doctor asks git of it."
    folder = tmp_path / "theirs"
    folder.mkdir()
    run(["git", "init", "-q"], folder)
    run(["dvc", "init", "-q"], folder)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    run(["git", "add", "-A"], folder)
    run(["git", "commit", "-q", "-m", "x"], folder)
    ran, hook = tmp_path / "ran", folder / ".git/hooks/post-index-change"
    (folder / ".git/info/attributes").write_text("* filter=x\n")
    for setting in ("core.fsmonitor", "filter.x.clean"):
        run(["git", "config", setting, f"touch {ran}; cat"], folder)
    hook.parent.mkdir(exist_ok=True)
    executable(hook, f"#!/bin/sh\ntouch {ran}\n")
    os.utime(folder / "dvc.yaml", (1, 1))  # git compares the content of what looks changed
    found = [c(folder) for c in (doctor.check_git, doctor.check_secrets, doctor.check_remote)]
    assert [c.ok for c in found] == [True, True, None] and not ran.exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_others_don_t_reach_dvc_s_state(project, tmp_path, monkeypatch):
    "DVC makes its folder writable for all, its files readable, and unpickles what it finds there."
    (tmp_path / "public").mkdir()
    (tmp_path / "private").mkdir(mode=0o750)
    monkeypatch.setattr(doctor, "others_reach", lambda p: tmp_path / "private" not in p.parents)  # pytest's is 0700
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "public"))
    check = doctor.check_state(project)
    assert check.ok is None and f"rm -rf {tmp_path}/public/repo/" in check.fix and "core.site_cache_dir" in check.fix
    (project / "Makefile").touch()
    assert doctor.check_state(project).fix.startswith("make env && rm -rf ")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "private"))
    assert doctor.check_state(project).ok


def test_whom_a_folder_s_mode_lets_in(tmp_path, monkeypatch):
    "One folder on the way that others may not enter is enough."
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.setattr(type(tmp_path), "parents", property(lambda p: [tmp_path / "a"]))  # pytest's own is 0700
    (tmp_path / "a").chmod(0o755)
    assert others_reach(tmp_path / "a/b")
    (tmp_path / "a").chmod(0o750)
    assert not others_reach(tmp_path / "a/b")
