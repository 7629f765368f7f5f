"""Use without a clone: the wheel makes a project, runs it, repeats what changed, and serves the dashboard."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import ROOT, SMALL, brief_stages, commit_all, lay, params_yaml, refusal, set_params, until
from served import free_port

import xraypneu
from xraypneu.cli import main
from xraypneu.errors import XraypneuError
from xraypneu.ops import project
from xraypneu.ops.stage import StageError, read_yaml, stage_params
from xraypneu.process import alone
from xraypneu.serving import app


@pytest.fixture(scope="module")
def site(dist, tmp_path_factory):
    "A folder with what the wheel installs."
    folder = tmp_path_factory.mktemp("site")
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as z:
        z.extractall(folder)
    return folder


def command(site, *arguments, cwd, **kw):
    env = os.environ | {"PYTHONPATH": str(site), "MLFLOW_TRACKING_URI": ""}
    run = [sys.executable, "-P", "-m", "xraypneu.cli", *arguments]
    return subprocess.run(run, cwd=cwd, env=env, capture_output=True, text=True, timeout=900, **kw)


@pytest.mark.parametrize(
    "brief", [("eda", "train", "evaluate"), pytest.param((), marks=pytest.mark.nightly, id="whole")]
)
def test_the_wheel_makes_a_project_runs_it_and_repeats_what_changed(brief, site, tmp_path):
    made = command(site, "new", "lungs", cwd=tmp_path)
    assert made.returncode == 0 and "Next: cd " in made.stdout, made.stderr
    folder = tmp_path / "lungs"
    assert not (folder / "xraypneu").exists() and (folder / ".git").is_dir()
    brief_stages(folder, *brief)
    small = SMALL | {"train": SMALL["train"] | {"epochs": 1}}
    small |= {"sample": {"patients": 24}} if brief else {}
    changes = [f"{section}.{k}={json.dumps(v)}" for section, values in small.items() for k, v in values.items()]
    done = command(site, "run", *changes, cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "SYNTHETIC" in done.stdout and (folder / "models/bundle/model.onnx").is_file()
    assert 'class="term"' in (folder / "reports/prepare.html").read_text()  # the glossary comes with the wheel
    again = command(site, "run", cwd=folder / "nbs")
    assert again.returncode == 0 and "Running stage" not in again.stdout, again.stdout

    module = site / "xraypneu/evaluation/shortcuts.py"  # as after an upgrade
    module.write_text(f"{module.read_text()}# changed, {len(brief)}\n")
    upgraded = command(site, "run", cwd=folder)
    assert upgraded.returncode == 0, upgraded.stderr[-2000:]
    assert "Running stage 'eda'" in upgraded.stdout and "Running stage 'train'" not in upgraded.stdout


def test_the_wheel_serves_the_dashboard(site, tmp_path):
    port, env = free_port(), os.environ | {"PYTHONPATH": str(site)}
    serve = [sys.executable, "-P", "-m", "xraypneu.cli", "app", "--port", str(port)]
    server = subprocess.Popen(serve, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    try:
        page = b""
        for _ in range(120):
            assert server.poll() is None, server.stderr.read()
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).read()
                break
            except OSError:
                time.sleep(0.5)
        assert b"data-ready" in page and os.path.samefile(f"/proc/{server.pid}/cwd", site / "xraypneu/project")
    finally:
        server.terminate()
        server.wait(30)


def test_a_project_is_never_laid_over_files(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/film.png").touch()
    assert main(["new", str(tmp_path / "mine")]) == 2
    assert "is not empty. Name a new folder" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["film.png"]


def test_a_project_that_could_not_be_made_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "_initialise", Mock(side_effect=project.ProjectError("DVC can't be set up")))
    for folder in (tmp_path / "lungs", tmp_path):
        with pytest.raises(project.ProjectError):
            project.new(folder)
        assert list(tmp_path.iterdir()) == []


def test_a_project_in_the_folder_of_the_shell(tmp_path, monkeypatch):
    "`xraypneu new .` replaced the folder: the shell was in a deleted one, and `xraypneu run` failed there."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(project, "_initialise", lambda *_: None)
    assert project.new(".") == tmp_path
    assert os.path.samefile(".", tmp_path) and project.outdated(tmp_path) == []
    assert not list(tmp_path.glob(".new-*")) and (tmp_path / "dvc.yaml").is_file()


@pytest.fixture
def lungs(tmp_path, monkeypatch):
    "A project without git and DVC, and a DVC that does nothing."
    monkeypatch.setattr(project, "_initialise", lambda *_: None)
    monkeypatch.setattr(project, "_waited", lambda *_: 1)
    return project.new(tmp_path / "lungs")


@pytest.fixture
def refused(lungs, monkeypatch, capsys):
    "What `xraypneu run` with these words says in that project: it refuses, starts no DVC and keeps params.yaml."
    monkeypatch.setattr(project, "_waited", lambda *_: pytest.fail("DVC ran"))
    monkeypatch.chdir(lungs)
    before = (lungs / "params.yaml").read_bytes()

    def said(*words):
        assert main(["run", *words]) == 2 and (lungs / "params.yaml").read_bytes() == before
        return capsys.readouterr().err

    return said


def test_a_project_of_an_earlier_version_is_told_so(lungs, monkeypatch, capsys):
    "Before, its notebooks called the new package, and failed or did something else, without a word of the cause."
    files, name = project._files(), "nbs/pipeline/train.ipynb"
    monkeypatch.setattr(project, "_files", lambda: files | {name: files[name] + b" "})  # as after an upgrade
    assert project.outdated(lungs) == [name] and project.check_project(lungs).ok is False
    project.run(root=lungs)
    said = capsys.readouterr().err
    assert f"brings other versions of {name}" in said and f"xraypneu new {lungs}-" in said and project._NOTE in said
    (lungs / name).write_bytes(files[name] + b" ")  # taken over
    assert project.outdated(lungs) == []
    (lungs / name).write_bytes(b"changed here")
    monkeypatch.setattr(project, "_files", lambda: files)
    assert project.outdated(lungs) == [] and project.check_project(lungs).ok
    (lungs / project._NOTE).unlink()  # as in a project of a version that kept no note
    assert project.outdated(lungs) == [name] and project.check_project(lungs).ok is None
    assert project.check_project(ROOT) is None
    shown = project._how_to_update(lungs, ["params.yaml", name])  # it compared the notebooks alone
    assert f"--no-index {lungs}/params.yaml {lungs}-{xraypneu.__version__}/params.yaml; git diff" in shown


def test_a_group_s_project_has_a_state_of_dvc_for_each_user(lungs, monkeypatch):
    "Before, the second user got DVC's Permission denied: what `make env` does for a clone, nobody did here."
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    state = lungs / ".cache/dvc"
    assert project._environment(lungs)["DVC_SITE_CACHE_DIR"] == str(state) and state.stat().st_mode & 0o77 == 0
    monkeypatch.setattr(os, "access", lambda path, mode: path != state)  # a colleague's; root gets everywhere
    own = Path(project._environment(lungs)["DVC_SITE_CACHE_DIR"])
    assert own == lungs / f".cache/dvc-{os.getuid()}" and own.stat().st_mode & 0o77 == 0


def test_a_user_without_a_name_gets_one_for_dvc(lungs, monkeypatch):
    "A container runs as a bare number. Before, 'DVC can't be set up: Having any troubles? Hit us up'."
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    assert project._environment(lungs)["LOGNAME"] == str(os.getuid())
    monkeypatch.setenv("USER", "ann")
    assert "LOGNAME" not in project._environment(lungs)


def test_dvc_s_reason_is_shown_and_not_its_offer_of_help(tmp_path, monkeypatch):
    said = "ERROR: unexpected error - no name\n\nHaving any troubles? Hit us up, we are always happy to help!\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **kw: subprocess.CompletedProcess([], 255, "", said))
    with pytest.raises(project.ProjectError, match="can't be set up: ERROR: unexpected error - no name$"):
        project._initialise(tmp_path, within=True)


def test_names_that_are_not_utf_8_are_said(lungs, tmp_path, monkeypatch, capsys):
    "DVC fails at them: 'utf-8' codec can't encode character, and no word of which film, or what to do."
    films = tmp_path / "films"
    for film in (b"NORMAL/M\xfcller.png", b"PNEUMONIA/b.png"):
        path = Path(os.fsdecode(os.fsencode(films) + b"/" + film))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert project.run([f"data.path={films}"], lungs) == 1
    assert r"are not UTF-8 (1, such as M\xfcller.png)" in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_ACTIONS", "true")  # whose log others read
    assert project.run([], lungs) == 1 and "ller" not in capsys.readouterr().err
    before, other = (lungs / "params.yaml").read_bytes(), films.rename(os.fsdecode(os.fsencode(films) + b"\xfc"))
    with pytest.raises(StageError, match=r"films\\xfc, which is not UTF-8"):
        project.run([f"data.path={other}"], lungs)
    assert (lungs / "params.yaml").read_bytes() == before


def test_parameters_are_not_changed_under_a_stage_that_runs(lungs):
    "Before, they were, DVC refused to run, and the stage of the other command failed in the end."
    before = (lungs / "params.yaml").read_bytes()
    with alone(lungs / ".cache/stages/train.stage.lock", "Stage train"):
        with pytest.raises(StageError, match="Stage train is already running"):
            project.run(["train.epochs=5"], lungs)
    assert (lungs / "params.yaml").read_bytes() == before


def test_lists_of_modules_are_not_changed_under_a_training_that_runs(lungs, monkeypatch):
    "After an upgrade, a second `xraypneu run` wrote them, and the training of the first failed after its last epoch."
    before = (lungs / "code/train.txt").read_bytes()
    monkeypatch.setattr(project, "code_lists", lambda: {"train": "0  xraypneu/model/training.py\n"})
    with alone(lungs / ".cache/stages/train.stage.lock", "Stage train"):
        with pytest.raises(StageError, match="Stage train is already running"):
            project.run([], lungs)
    assert (lungs / "code/train.txt").read_bytes() == before


@pytest.mark.parametrize("path", [None, "", "/nowhere"])
def test_stages_start_this_python_whatever_the_path(path, tmp_path, monkeypatch):
    "As where `/path/.venv/bin/xraypneu run` is called by its path. An empty PATH made the films' folder a part of it."
    monkeypatch.delenv("PATH") if path is None else monkeypatch.setenv("PATH", path)
    code = "import os, sys; print(sys.executable, os.environ['PATH'])"
    assert project._waited(tmp_path, ["/bin/sh", "-c", f'python -c "{code}" > said']) == 0
    mine, entries = (tmp_path / "said").read_text().split()
    assert mine == sys.executable and all(entries.split(os.pathsep))


def test_ctrl_c_lets_a_stage_mark_its_run_as_failed(tmp_path):
    "Before, DVC was killed a quarter of a second after Ctrl-C, and its stage with it."
    (tmp_path / "dvc.py").write_text(
        "import pathlib, time\n"
        "pathlib.Path('began').touch()\n"
        "try:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.6); pathlib.Path('ended').touch()\n"
    )
    code = "from xraypneu.ops import project; from pathlib import Path; import sys; "
    code += "project._waited(Path('.'), [sys.executable, 'dvc.py'])"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True)
    until(lambda: (tmp_path / "began").exists(), process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) and (tmp_path / "ended").exists()


@pytest.mark.parametrize("started", ["by hand", "by a script with &"])
def test_kill_ends_dvc_and_its_stage_too(started, tmp_path):
    "Before, `kill PID` ended the command alone, and DVC went on. DVC ignores Ctrl-C while a stage runs."
    (tmp_path / "stage.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "pathlib.Path('began').touch()\n"
        "try:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    pathlib.Path('interrupted').touch()\n"
        "finally:\n    time.sleep(0.3); pathlib.Path('ended').touch()\n"
    )
    (tmp_path / "dvc.py").write_text(
        "import signal, subprocess, sys\n"
        "stage = subprocess.Popen(f'{sys.executable} stage.py; true', shell=True)\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "stage.wait()\n"
    )
    code = "from xraypneu.ops import project; from pathlib import Path; import sys; "
    code += "project._waited(Path('.'), [sys.executable, 'dvc.py'])"
    ignore = None if started == "by hand" else lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, preexec_fn=ignore)
    until(lambda: (tmp_path / "began").exists(), process)
    process.terminate()
    assert process.wait(20) == 143
    assert (tmp_path / "ended").exists(), "the shell between DVC and the stage ends before it"
    assert (tmp_path / "interrupted").exists() is (started == "by hand")


def test_a_project_gets_no_parameters_of_the_clone_it_was_made_with(tmp_path, monkeypatch):
    "After `make run DATA=/tmp/films` in the clone, a new project looked for its films there, too."
    clone = tmp_path / "clone"
    lay(clone, *project.LAID_DOWN)
    commit_all(clone)
    set_params(clone, {"data": {"path": "/tmp/films"}, "train": {"epochs": 1}})
    monkeypatch.setattr(project, "source_folder", lambda: clone)
    assert project._files()["params.yaml"] == params_yaml() != (clone / "params.yaml").read_bytes()
    (clone / ".git/HEAD").unlink()  # git then doesn't know it for a repository, as another user's
    assert project._files()["params.yaml"] == (clone / "params.yaml").read_bytes()


def test_inside_a_repository_a_project_makes_none_of_its_own(tmp_path):
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "here").mkdir()
    for folder in (project.new(tmp_path / "studies/lungs"), project.new(tmp_path / "here")):  # a new one, an empty one
        assert (folder / ".dvc").is_dir() and not (folder / ".git").exists()
        dvc = [sys.executable, "-m", "dvc", "root"]
        assert subprocess.check_output(dvc, cwd=folder, env=project._environment(folder), text=True).strip() == "."
    status = ["git", "status", "--porcelain", "--untracked-files=normal"]
    found = subprocess.run(status, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["??", "here/", "??", "studies/"], "before, the index had files of a temporary folder"


def test_in_a_folder_that_git_ignores_a_project_has_its_own_repository(tmp_path, monkeypatch):
    "DVC refuses to work where git ignores its files, and `xraypneu new` said that it can't be set up, without why."
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("scratch/\n/lungs\n")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch/.dvc").mkdir()
    with pytest.raises(project.ProjectError, match="can't be set up: ERROR: failed to initiate DVC - '.dvc' exists"):
        project._initialise(tmp_path / "scratch", within=False)
    shutil.rmtree(tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    repositories = []
    monkeypatch.setattr(project, "_initialise", lambda made, within: repositories.append(within))
    for folder in ("scratch/lungs", "lungs", "chest"):
        project.new(tmp_path / folder)
    assert repositories == [False, False, True]


def test_the_dashboard_is_not_served_without_its_model(tmp_path, monkeypatch, capsys):
    "Before, the server ran for ever, and each of its pages failed."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("the server was started"))
    assert main(["app", "--bundle", "nosuch"]) == 2
    assert "nosuch: bundle.json is missing" in capsys.readouterr().err
    assert os.path.samefile(".", tmp_path)


def _empty(folder):
    folder.mkdir()


def _photographs(folder):
    (folder / "holidays").mkdir(parents=True)
    (folder / "holidays/beach.jpg").touch()


@pytest.mark.parametrize(
    "make, said",
    [
        (_empty, "no radiographs found"),
        (_photographs, "no radiographs found"),
        (lambda _: 0, "there is no data folder"),
    ],
)
def test_a_wrong_folder_of_films_is_refused_before_it_is_written(make, said, refused, tmp_path):
    "Before, DVC ran: a traceback of 30 lines, and params.yaml named that folder from then on."
    make(tmp_path / "films")
    shown = refused("--data", "../films")
    assert said in shown and len(shown.splitlines()) == 1


def test_a_parameter_that_is_given_twice_is_refused(lungs, refused):
    "Before, the last one won without a word."
    shown = refused("--data", "../films", "data.path=../others")
    assert "data.path is given twice, as '../films' and as '../others'" in shown
    assert "train.epochs is given twice" in refused("train.epochs=5", "train.epochs=6")


def test_films_in_the_sample_s_folder_stay(lungs, refused, monkeypatch):
    "It is where params.yaml looks for films at first. DVC deletes a stage's results before it: the films were gone."
    film = lungs / "data/sample/train/NORMAL/film.png"
    film.parent.mkdir(parents=True)
    film.touch()
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    for change in ("train.epochs=5", "data.path=data/sample"):
        shown = refused(change)
        assert "holds 1 file of yours (such as" in shown and "film.png" in shown and "--data data/films" in shown
    monkeypatch.setenv("GITHUB_ACTIONS", "true")  # others read that log
    assert "film.png" not in refused() and film.exists()


@pytest.mark.parametrize("path", ["data", "data/prepared"])
def test_films_share_no_folder_with_results(path, lungs, refused):
    "DVC said that items are defined as both a dependency and an output, and so it did at each later run."
    for name in ("NORMAL", "PNEUMONIA"):
        (lungs / path / name).mkdir(parents=True)
    shown = refused("--data", path)
    assert f"data.path is '{path}', and a stage writes data/" in shown and "such as data/films" in shown


def test_a_model_that_was_signed_in_its_place_stays(lungs, refused):
    "The next `xraypneu run`, up to date or not, brought it back without its signature."
    signature = lungs / "models/bundle/model.sig"
    signature.parent.mkdir(parents=True)
    signature.touch()
    assert "mv models/bundle SIGNED" in refused() and signature.exists()


def test_a_project_ignores_what_a_clone_ignores():
    "Names of films are in the files of MLflow, and of the server that team.ipynb starts to try it."
    lines = (ROOT / ".gitignore").read_text().splitlines()
    assert set(lines[lines.index("/data/?*") :]) <= set(project._IGNORED.splitlines())
    assert {"/mlflow-team*", "/mlruns/", "/mlartifacts/"} <= set(lines)


def test_a_home_that_nobody_has_is_a_missing_folder(lungs, monkeypatch, capsys):
    "pathlib raises a RuntimeError of its own for it."
    monkeypatch.chdir(lungs)
    assert main(["run", "--data", "~nobody-has-it/films"]) == 2
    assert "there is no data folder" in capsys.readouterr().err
    assert main(["run", "data.path=~nobody-has-it/films"]) == 2


@pytest.mark.parametrize(
    "change, said",
    [
        ("train.epochs=0", "train.epochs is 0: give at least 1; with"),
        ("train.batch_size=7", "train.batch_size is 7: give an even"),
        ("train.gamma=-1", "train.gamma is -1: give 0 or more"),
        ("train.seed=-1", "train.seed is -1: give a whole number from 0"),
        ("train.coverage=95", "train.coverage is 95: give a number above 0.5"),
        ("train.backbone=resnet", "train.backbone is 'resnet': give one of mobilenet_v2"),
        ("train.backbone=efficientnetv2_b0", "train.weights 'shipped' are of mobilenet_v2, not of efficientnetv2_b0"),
        ("train.weights=start.h5", "start.h5' not found. Take imagenet"),
        ("prepare.size=100", "prepare.size is 100: give a multiple of 32 up to 1024"),
        ("prepare.test=15", "prepare.test = 15 is not a fraction: give a number"),
        ("eda.images=few", "'few'"),
        ("data.patients_csv=nowhere.csv data.path=films", "nowhere.csv can't be opened: No such file"),
        ("data.patients_csv=5", "data.patients_csv is 5: give the name of a table"),
        ("data.patients_csv=code/sample.txt data.path=films", "has no column file"),
        ('data.patient_patterns=["(person"]', "'(person' is not a valid regular expression"),
        ("data.patient_patterns=[1]", "data.patient_patterns is [1]: give a list of texts"),
        ("evaluate.bootstrap=0", "evaluate.bootstrap is 0: give a whole number, 1 or more"),
        ("evaluate.seed=-1", "evaluate.seed is -1: give a whole number, 0 or more"),
        ("sample.patients=5", "sample.patients is 5: give a whole number, 20 or more"),
        ("tracking.required=maybe", "tracking.required is 'maybe' in params.yaml"),
    ],
)
def test_a_wrong_value_is_refused_before_it_is_written(change, said, refused):
    "Before, by the stage that reads it, minutes later for `train`."
    shown = refused(*change.split())
    assert said in shown and len(shown.splitlines()) == 1


def test_a_linked_folder_and_a_table_without_all_films_are_refused_before_they_are_written(lungs, refused):
    "Before, by the stage `prepare`, when the results of the run before were gone."
    films = lungs.parent / "films"
    for c in ("NORMAL", "PNEUMONIA"):
        (films / c).mkdir(parents=True)
        (films / c / f"{c}.png").touch()
    (lungs / "p.csv").write_text("file,patient\nNORMAL.png,p1\n")
    given = f"data.path={films}"
    assert "has no row for 1 of 2 files, for instance PNEUMONIA/" in refused(given, "data.patients_csv=p.csv")
    (films / "NORMAL").rename(lungs.parent / "elsewhere")
    (films / "NORMAL").symlink_to(lungs.parent / "elsewhere")
    assert "is a link to a folder. DVC doesn't follow it" in refused(given)


def test_what_only_looks_wrong_is_run(lungs):
    for changes in (["train.image_sizes=[96]"], ["train.devices=1"], ["train.weights=null", "train.first_block=16"]):
        assert project.run(changes, lungs) == 1  # by DVC, which does nothing here
    (lungs / "films.h5.dvc").touch()  # weights that come with `dvc pull`
    assert project.run(["train.weights=films.h5", "train.image_sizes=null"], lungs) == 1
    (lungs / "patients.csv.dvc").touch()
    (lungs / "films.dvc").touch()
    assert project.run(["data.path=films", "data.patients_csv=patients.csv"], lungs) == 1
    (lungs / "patients.csv").write_text("file,patient\na.png,p1\n")
    assert project.run([], lungs) == 1
    assert project.run(["train.epochs=0", "train.invariance_epochs=2"], lungs) == 1


def test_back_on_the_sample_the_table_of_one_s_own_films_is_not_read(lungs, capsys):
    "As in CI, where a private table isn't even there: before, it had no row for the sample's films."
    (lungs / "films.dvc").touch()
    (lungs / "patients.csv").write_text("file,patient\na.png,p1\n")
    assert project.run(["data.path=films", "data.patients_csv=patients.csv"], lungs) == 1
    assert "not read" not in capsys.readouterr().err
    (lungs / "patients.csv").unlink()
    assert project.run(["data.path=data/sample"], lungs) == 1
    said = capsys.readouterr().err
    assert said == "patients.csv (data.patients_csv) is not read: the sample's patients are in its file names\n"
    assert stage_params(lungs, "prepare")["data_patients_csv"] is None
    assert read_yaml(lungs / "params.yaml")["data"]["patients_csv"] == "patients.csv"  # for when the films are back


def test_no_message_asks_for_a_makefile():
    "A project has none: before, fetch, publish and a required signature said `make run`."
    texts = {p: p.read_text() for p in (ROOT / "xraypneu").rglob("*.py")}
    assert not [p.name for p, text in texts.items() if "make run" in text]


def test_a_job_s_log_names_no_film_and_no_person_where_the_data_are_refused(lungs, monkeypatch, capsys):
    "Before, a folder without classes was refused with the folders in it, which may be named for patients."
    monkeypatch.chdir(lungs)
    (lungs / "films/Doe_Jane").mkdir(parents=True)
    (lungs / "patients.csv").write_text("file,patient\nDoe.png,Jane\nDoe.png,John\n")
    for more, seen in (([], "Doe_Jane"), (["data.patients_csv=patients.csv"], "Doe.png")):
        monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
        assert main(["run", "data.path=films", *more]) == 2 and seen in capsys.readouterr().err
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        assert main(["run", "data.path=films", *more]) == 2
        shown = capsys.readouterr().err
        assert "Doe" not in shown and "the data are refused (" in shown
    assert main(["run", "data.path=nowhere"]) == 2 and "no data folder" in capsys.readouterr().err


def test_doctor_names_a_parameter_that_was_edited_by_hand(lungs):
    assert project.check_parameters(lungs).ok
    file = lungs / "params.yaml"
    file.write_text(file.read_text().replace("patience: 4", "patience: 0"))
    check = project.check_parameters(lungs)
    assert check.ok is False and "train.patience is 0: give at least 1 epoch" in check.found and "edit" in check.fix


def test_doctor_looks_for_the_films(lungs):
    "All checks passed where the run refused: a colleague's films have another path here."
    file = lungs / "params.yaml"
    file.write_text(file.read_text().replace("path: data/sample", "path: /nowhere/films"))
    check = project.check_parameters(lungs)
    assert check.ok is False and "no data folder /nowhere/films" in check.found


def test_all_outputs_of_a_project_are_in_its_lock_file(lungs, monkeypatch):
    "Before, not the sample's in a project of other films: a colleague's `dvc pull` failed, all files fetched."
    commands = []
    monkeypatch.setattr(project, "_waited", lambda root, command: commands.append(command) or 1)
    project.run(root=lungs)
    assert commands[0][-3:] == ["eda", "evaluate", "sample"]
    assert project._targets(ROOT) == ["eda", "evaluate"]  # whose dvc.lock has the sample


def test_a_project_of_other_films_draws_no_sample(tmp_path):
    "Before, its last stage drew 600 films that nobody had asked for."
    folder = project.new(tmp_path / "lungs")

    def repro(path):
        project.set_params(folder, [f"data.path={path}", "sample.patients=20"])
        dvc = [sys.executable, "-m", "dvc", "repro", "sample"]
        done = subprocess.run(dvc, cwd=folder, env=project._environment(folder), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, len(list((folder / "data/sample").rglob("*.png")))

    said, pictures = repro("films")
    assert "No sample is drawn: data.path in params.yaml names other films" in said and not pictures
    assert "path: data/sample" in (folder / "dvc.lock").read_text()  # else a colleague's `dvc pull` fails
    assert "Running stage" not in repro("films")[0]
    assert repro("data/sample")[1] and repro("data/sample/train")[1] and not repro("data/sample-2")[1]


@pytest.mark.parametrize("arguments, said", [(["run"], "no dvc.yaml in"), (["app", "--port", "0"], "from 1 to 65535")])
def test_what_cannot_work_says_why(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_data_are_named_from_the_folder_where_the_command_runs(tmp_path, monkeypatch):
    "Before, from the project's: `xraypneu run --data films` in a subfolder took another folder, or found none."
    (tmp_path / "dvc.yaml").write_text("")
    (tmp_path / "notes").mkdir()
    taken = []
    monkeypatch.setattr(project, "run", lambda changes: taken.extend(changes) or 0)
    for folder, data in (("", "films"), ("notes", "films"), ("notes", "../films"), ("notes", "/films"), ("notes", "")):
        monkeypatch.chdir(tmp_path / folder)
        assert main(["run", "--data", data]) == 0
    assert taken == [f"data.path={p}" for p in ("films", "notes/films", "films", "/films", "")]


def test_a_lock_file_that_a_kill_cut_off_is_removed(tmp_path):
    "DVC writes it in place, and refuses to run with half of it."

    def dvc(*command):
        return subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, capture_output=True).returncode

    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: echo 1}}\n")
    assert dvc("init", "-q", "--no-scm") == 0 and not project.mend_rwlock(tmp_path)
    (tmp_path / ".dvc/tmp/rwlock").write_text("")
    assert dvc("repro", "-q") != 0
    assert project.mend_rwlock(tmp_path) and dvc("repro", "-q") == 0


def test_the_page_does_not_start_with_a_wrong_signature_setting(monkeypatch, capsys):
    "It started, and each of its pages failed."
    monkeypatch.setenv("XRAYPNEU_SIGNATURE", "yes")
    monkeypatch.setattr(app.os, "execve", lambda *args: pytest.fail("the server was started"))
    assert main(["app"]) == 2 and "XRAYPNEU_SIGNATURE is 'yes'" in capsys.readouterr().err


def test_files_that_settings_name_are_of_the_folder_where_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"XRAYPNEU_SIGNER_KEY": "signer.pub", "MLFLOW_TRACKING_URI": "sqlite:///runs.db"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    _, env, folder = app.app_command()
    want = {"XRAYPNEU_SIGNER_KEY": f"{tmp_path}/signer.pub", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/runs.db"}
    assert folder != tmp_path and {name: env[name] for name in given} == want


def test_the_dashboard_finds_a_model_in_the_store_of_the_project_where_the_command_runs(tmp_path, monkeypatch):
    "It looked in the folder of the package, whose clone may have a model of that name, too."
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path / "notes")
    with refusal(XraypneuError, "missing", "no MLflow store is set here"):
        app.app_command(bundle="models:/xraypneu@champion")
    (tmp_path / "dvc.yaml").write_text("")
    _, env, folder = app.app_command(bundle="models:/xraypneu@champion")
    assert folder != tmp_path and env["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert "MLFLOW_TRACKING_URI" not in app.app_command(bundle="models/bundle")[1]  # no store is needed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    _, env, _ = app.app_command(bundle="models:/xraypneu@champion")
    assert env["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"


def test_an_installation_without_the_pipelines_files_says_so(site, tmp_path):
    bare = tmp_path / "site"
    shutil.copytree(site, bare, ignore=shutil.ignore_patterns("project"))
    done = command(bare, "new", "lungs", cwd=tmp_path)
    assert done.returncode == 2 and "Install xraypneu again" in done.stderr
    assert not (tmp_path / "lungs").exists()
