"""One small project, run once: the tests share its trained model."""

import functools
import gc
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock
from ruamel.yaml import YAML
from tracked import POSTGRES, MlflowServer, Postgres, empty_store

ROOT = Path(__file__).parent.parent
VENV = Path(sys.prefix)
sys.path.insert(0, str(ROOT / "bench"))

import notebook_cells  # noqa: E402

SMALL = {
    "sample": {"patients": 48},
    "prepare": {"size": 96},
    # one phase, of the last block alone, which TensorFlow traces sooner; all of it: 06_training.ipynb, make run
    "train": {"head_epochs": 0, "epochs": 3, "batch_size": 16, "first_block": 16},
    "evaluate": {"bootstrap": 200},
}
# the shared project runs with these; test_tracking.py looks for them in all that it leaves
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "aws+secret/0a1b2c3d",
    "KAGGLE_KEY": "kaggle-key-4e5f6a",
    "GITHUB_TOKEN": "ghp_token7b8c9d0e",
    "XRAYPNEU_REMOTE_PASSWORD": "remote&pass<1f2a3b>",
    "EXAMPLE_SECRET": "example-secret-4c5d6e",
    "EXAMPLE_ADDRESS": "https://someone:address-pass-7f8a@host.invalid/x",
}

# What `make check` (pytest --fast) leaves out: tests with a fixture of SLOW_FIXTURES, and the files and tests in SLOW.
# They train, import TensorFlow, start a server or a browser, or take seconds. There is no other list.
SLOW_FIXTURES = {"project", "copy", "sqlite_server", "postgres_server", "study"}
SLOW = {
    "test_app.py",
    "test_cluster.py",
    "test_compare.py",
    "test_decoder.py",
    "test_docs.py",
    "test_doctor.py",
    "test_external.py",
    "test_faults.py",
    "test_fetch.py",
    "test_guard.py",
    "test_monitor.py",
    "test_network.py",
    "test_pipeline.py",
    "test_predict.py",
    "test_project.py",
    "test_registry.py",
    "test_remote.py",
    "test_same_film.py",
    "test_sample.py",
    "test_tracking.py",
    "test_tune.py",
    "test_workflows.py",
    "test_bundle.py::test_a_reference_that_unpacks_to_much",
    "test_bundle.py::test_flipped_bytes_of_the_json",
    "test_bundle.py::test_flipped_bytes_of_the_network",
    "test_bundle.py::test_flipped_bytes_of_the_reference",
    "test_bundle.py::test_mutants_of_values",
    "test_card.py::test_source_and_notice",
    "test_convert.py::test_a_converted_bundle_has_the_same_networks_and_numbers",
    "test_convert.py::test_a_signature_is_verified_and_not_carried_over",
    "test_convert.py::test_nothing_is_converted_where_signatures_are_required",
    "test_dataset.py::test_a_file_that_takes_too_long_is_named_and_left_out",
    "test_dataset.py::test_a_kill_leaves_the_old_result",
    "test_dataset.py::test_a_share_that_fails_leaves_no_film_out",
    "test_dataset.py::test_an_old_result_that_a_kill_left_is_no_obstacle",
    "test_dataset.py::test_memory_is_flat_however_many_images",
    "test_dataset.py::test_no_patient_in_train_and_validation_is_asserted",
    "test_dataset.py::test_packages_that_are_replaced_leave_no_film_out",
    "test_dataset.py::test_two_runs_are_byte_identical",
    "test_dataset.py::test_without_a_decoder_nothing_is_prepared",
    "test_dataset_edges.py::test_a_result_is_opened_whole_or_not_at_all",
    "test_dataset_edges.py::test_dicom_films_of_one_patient_id_under_several_keys_are_said",
    "test_dataset_edges.py::test_layout_findings_count_in_words",
    "test_dataset_edges.py::test_names_that_begin_with_the_patient_are_said",
    "test_dataset_edges.py::test_what_the_data_are_called",
    "test_files.py::test_killed_at_every_step",
    "test_layers.py::test_contributing_names_what_exists",
    "test_layers.py::test_metrics_are_named_in_their_registry_alone",
    "test_layers.py::test_no_module_imports_from_a_floor_above_it",
    "test_layers.py::test_sync_finds_what_was_not_exported",
    "test_metrics.py::test_every_figure_carries_the_notice",
    "test_metrics.py::test_grouped_auc_keeps_patients_apart",
    "test_metrics.py::test_grouped_auc_of_few_patients",
    "test_metrics.py::test_metadata_baseline_learns_from_train_alone",
    "test_metrics.py::test_thin_tables_draw",
    "test_prediction.py::test_a_buffer_may_be_used_again_for_the_next_film",
    "test_prediction.py::test_an_mlflow_address_without_a_store",
    "test_prediction.py::test_relative_names_mean_the_folder_in_which_they_were_given",
    "test_prediction.py::test_the_end_of_the_program_does_not_wait_for_what_is_read_ahead",
    "test_prediction.py::test_without_threads_a_batch_is_read_all_the_same",
    "test_publish.py::test_verify_command_without_data",
    "test_recipe.py::test_a_finished_training_of_another_package_is_another",
    "test_recipe.py::test_a_finished_training_of_other_contents_is_another",
    "test_recipe.py::test_a_finished_training_with_a_damaged_file_is_none",
    "test_recipe.py::test_a_fold_without_a_class_is_refused_before_the_training",
    "test_recipe.py::test_a_key_takes_the_hash_of_its_inputs",
    "test_recipe.py::test_a_new_target_is_part_of_the_key",
    "test_recipe.py::test_a_stage_depends_on_what_it_imports",
    "test_recipe.py::test_a_training_with_all_three_phases",
    "test_recipe.py::test_an_int8_variant_that_refuses_more_is_left_out",
    "test_recipe.py::test_an_invariance_phase_of_a_bundle_keeps_its_decision_policy",
    "test_recipe.py::test_an_upgrade_while_a_training_runs_is_survived",
    "test_recipe.py::test_the_source_in_a_fingerprint_is_that_of_the_start",
    "test_recipe.py::test_int8_keeps_the_policy_of_fp32_by_a_line",
    "test_recipe.py::test_more_folds_than_patients_are_refused_before_the_training",
    "test_recipe.py::test_seeds_that_would_run_over_are_refused_before_the_training",
    "test_recipe.py::test_the_defaults_of_the_library_are_those_of_params_yaml",
    "test_recipe.py::test_the_name_of_initial_weights_is_such_as_a_bundle_takes",
    "test_recipe.py::test_weights_without_a_head_cannot_skip_its_training",
    "test_report.py::test_metrics_of_an_earlier_run_are_reported_as_such",
    "test_score.py::test_a_drive_that_is_gone_stops_the_run_of_any_source",
    "test_score.py::test_a_film_may_arrive_slowly_but_not_silently",
    "test_score.py::test_a_full_disk_stops_and_loses_nothing",
    "test_score.py::test_a_host_that_fails_for_good_stops_the_run",
    "test_score.py::test_a_list_of_web_addresses",
    "test_score.py::test_a_second_program_is_refused",
    "test_score.py::test_a_web_host_that_lists_each_folder_in_itself_ends",
    "test_score.py::test_a_web_host_that_fails_is_not_one_that_lacks_the_film",
    "test_score.py::test_ctrl_c_says_how_to_go_on",
    "test_score.py::test_ctrl_c_waits_for_no_silent_host",
    "test_score.py::test_damage_of_values_is_named_and_not_merged",
    "test_score.py::test_films_of_a_web_host_are_read_whole",
    "test_score.py::test_kill_9_midway_and_resume_gives_the_same_bytes",
    "test_score.py::test_rows_are_those_of_predict_however_the_archive_is_cut",
    "test_score.py::test_scores_in_an_object_store_are_those_of_a_folder",
    "test_score.py::test_verify_names_a_shard_with_another_value",
    "test_session.py::test_labels_are_compared_with_the_verdicts_that_hold",
    "test_session.py::test_the_modules_of_the_page",
    "test_supply.py::test_a_file_that_was_exchanged_is_not_installed",
    "test_supply.py::test_a_mirror_of_the_build_machine_is_asked",
    "test_supply.py::test_a_signed_bundle_is_checked_wherever_it_is_used",
    "test_supply.py::test_pip_audit_itself_against_a_service",
    "test_supply.py::test_the_audit_of_a_report",
    "test_supply.py::test_the_sbom_lists_what_is_installed",
    "test_table.py::test_any_name_comes_back",
    "test_table.py::test_nothing_in_a_row_becomes_markup",
}

# Tests that take 15 seconds and more and don't wait for the shared project: the second process begins with them.
LONG = {
    "04_network.ipynb::04_network",
    "06_training.ipynb::06_training",
    "cluster.ipynb::cluster",
    "external.ipynb::external",
    "test_app.py::test_axe_finds_no_violation",
    "test_compare.py::test_films_become_a_page_and_a_stopped_run_goes_on",
    "test_doctor.py::test_all_is_well",
    "test_network.py::test_two_devices_train_as_one_does",
    "test_predict.py::test_overlays_of_large_pictures_stay_small",
    "test_predict.py::test_stream_stays_flat",
    "test_project.py::test_the_wheel_makes_a_project_runs_it_and_repeats_what_changed",
    "test_supply.py::test_the_sbom_lists_what_is_installed",
    "test_workflows.py::test_pull_brings_what_git_names",
}

# `make test` runs three tests at a time, but not these: they measure time or memory of a server under load.
ALONE = {
    "test_guard.py::test_others_are_answered_during",
    "test_guard.py::test_load_leaves_nothing",
    "test_guard.py::test_the_log_holds_no_secret_and_no_name",  # of the attacks
}


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="only the tests that need no training, server or browser")


def pytest_configure(config):
    "What DVC keeps of hundreds of small projects goes away with the tests, and doesn't fill the environment."
    state = tempfile.mkdtemp(prefix="dvc-state-")
    os.environ["DVC_SITE_CACHE_DIR"] = state
    config.add_cleanup(lambda: shutil.rmtree(state, ignore_errors=True))
    config.pluginmanager.register(notebook_cells)  # for nbs/api and the tutorials, where they are asked for


def pytest_ignore_collect(collection_path, config):
    "Slow files aren't even imported."
    return True if config.getoption("fast") and collection_path.name in SLOW else None


def listed(item):
    "A test as SLOW names it, whatever its parameters."
    return f"{item.path.name}::{item.name.split('[')[0]}"


def needs(item):
    "The names of the fixtures that a test uses; a notebook uses none."
    return getattr(item, "fixturenames", ())


def ordered(items):
    """The long ones first, so that none is left alone with one in the end: the tests of the shared projects at the
    beginning, which the first process makes, and the others where the second process begins."""
    shared = sorted((i for i in items if "made_once" in needs(i)), key=lambda i: "films" not in needs(i))
    rest = [i for i in items if "made_once" not in needs(i)]
    rest.sort(key=lambda i: listed(i) not in LONG)
    long = sum(listed(i) in LONG for i in rest)
    processes = max(2, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
    short = max(0, len(items) // processes - len(shared))
    return [*shared, *rest[long : long + short], *rest[:long], *rest[long + short :]]


def left_out(config, item):
    "Slow tests from `make check`; nightly ones unless they are asked for, by their marker or by name."
    if config.getoption("fast"):
        if {item.path.name, listed(item)} & SLOW or SLOW_FIXTURES & set(needs(item)):  # also a file named by hand
            return True
    asked = "nightly" in config.option.markexpr or any("::" in argument for argument in config.args)
    return not asked and item.get_closest_marker("nightly") is not None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if listed(item) in ALONE or "nodes" in needs(item):  # a Ray cluster is a load itself
            item.add_marker(pytest.mark.alone)
    gone = {i for i in items if left_out(config, i)}
    config.hook.pytest_deselected(items=list(gone))
    items[:] = [i for i in items if i not in gone]
    yield  # pytest leaves out what -m and -k don't want
    items[:] = ordered(items)


def pytest_collection_finish(session):
    """Imports cost each process seconds, and so do garbage collections that look through all that was imported: a
    sixth of the processor time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    imported = {"tensorflow", "mlflow"} & sys.modules.keys()
    if session.config.getoption("fast") and imported:
        raise pytest.UsageError(f"a fast test file imports {', '.join(imported)}: do that in a test or a fixture")


@pytest.fixture(autouse=True)
def nothing_slow(request, monkeypatch):
    "With --fast, a test that imports TensorFlow or opens a port fails and says where it belongs."
    if not request.config.getoption("fast"):
        yield
        return
    remedy = f"add '{listed(request.node)}' to SLOW in tests/conftest.py"
    before, bind = "tensorflow" in sys.modules, socket.socket.bind

    def local(self, address):
        assert self.family == socket.AF_UNIX, f"This test opens a port: {remedy}"
        return bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", local)
    yield
    imported = "tensorflow" in sys.modules and not before
    assert not imported, f"This test imports TensorFlow: {remedy}"


# proxies, the runner, and what `make test` tells a make below it: that one would say which folder it enters
OF_THE_CALLER = {"http_proxy", "https_proxy", "all_proxy", "github_actions", "makeflags", "makelevel", "mflags"}


@pytest.fixture(autouse=True, scope="session")
def environment():
    "This environment's programs first; no settings of the developer's, of nohup's or of a background job's."
    for number in (signal.SIGHUP, signal.SIGINT):  # what is ignored here would be ignored by all that tests start
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        for name in list(os.environ):
            if name.lower() in OF_THE_CALLER or name.startswith(
                # in a hook of a linked worktree, GIT_DIR leads what tests commit to the developer's branch
                ("MLFLOW_", "KERAS_", "XRAYPNEU_", "GIT_")
            ):
                m.delenv(name)
        m.setenv("no_proxy", "127.0.0.1")
        m.setenv("NO_PROXY", "127.0.0.1")
        m.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        m.setenv("DVC_NO_ANALYTICS", "1")
        m.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # more would spin, and slow the test beside this one
            m.setenv(name, "1")
        for who in ("AUTHOR", "COMMITTER"):
            m.setenv(f"GIT_{who}_NAME", "test")
            m.setenv(f"GIT_{who}_EMAIL", "test@example.invalid")
        yield


def run(cmd, cwd, check=True, **env):
    "Run a command; its output, standard error included, as `.out`."
    streams = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(cmd, cwd=cwd, env={**os.environ, **env}, timeout=900, **streams)
    done.out = done.stdout
    if check:
        assert done.returncode == 0, f"{cmd} exited with {done.returncode}:\n{done.out}"
    return done


def commit_all(folder):
    "Make a git repository of a folder, with all its files committed."
    for command in ("git init -q -b main", "git add -A", "git commit -q -m project"):
        run(command.split(), folder)


def executable(file, text):
    "Write a program."
    file.write_text(text)
    file.chmod(0o755)


def script(name):
    "A program of .ci as a module."
    loader = SourceFileLoader(name, str(ROOT / ".ci" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


@contextmanager
def refusal(kind, code, match=None):
    "`pytest.raises` for an error of the library with this code."
    with pytest.raises(kind, match=match) as raised:
        yield raised
    assert raised.value.code == code, raised.value


def until(true, process=None, seconds=120):
    "Wait for something that a process does."
    deadline = time.monotonic() + seconds
    while not (found := true()):
        if process and process.poll() is not None and not (found := true()):
            raise AssertionError(process.communicate())
        assert found or time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.fixture
def small_disk(tmp_path):
    "A disk of one megabyte."
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("can't mount a small disk here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="session")
def predictor():
    "The shipped model, for tests that don't change it."
    from xraypneu.serving.predict import Predictor

    return Predictor()


@functools.cache
def before_a_team():
    "The last commit whose params.yaml names the sample: a team commits parameters and results of its films after it."
    found = subprocess.run(["git", "log", "--format=%H", "--", "params.yaml"], cwd=ROOT, capture_output=True, text=True)
    at = "HEAD"
    for commit in found.stdout.split():
        if YAML(typ="safe").load(as_of(commit, "params.yaml"))["data"]["path"] == "data/sample":
            break
        at = f"{commit}^"
    known = subprocess.run(["git", "rev-parse", "--verify", "--quiet", at], cwd=ROOT, capture_output=True)
    return at if known.returncode == 0 else "HEAD"  # of a shallow clone, or of no repository


def as_of(commit, name):
    "A file of the repository as a commit has it, as bytes."
    return subprocess.run(["git", "show", f"{commit}:{name}"], cwd=ROOT, capture_output=True, check=True).stdout


@functools.cache
def params_yaml():
    "params.yaml with its defaults, as bytes: `make run DATA=films SET=train.epochs=1` changes the values in a clone."
    from xraypneu.files import default_params

    return default_params(ROOT) if (at := before_a_team()) == "HEAD" else as_of(at, "params.yaml")


@functools.cache
def sample_metrics():
    "metrics.json of the sample: of the last run here, or as committed, if that was of other films or parameters."
    file = ROOT / "reports/metrics.json"
    here = json.loads(file.read_bytes()) if file.is_file() else None
    of_sample = here and here["data"]["synthetic"] and (ROOT / "params.yaml").read_bytes() == params_yaml()
    return here if of_sample else json.loads(as_of(before_a_team(), "reports/metrics.json"))


def lay(folder, *names):
    "Copy files of this project into a folder, but not what a run here left in them."
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(params_yaml() if name == "params.yaml" else (ROOT / name).read_bytes())


def set_params(project, changes):
    "Change params.yaml."
    yaml, path = YAML(), project / "params.yaml"
    params = yaml.load(path)
    for section, values in changes.items():
        params[section].update(values)
    yaml.dump(params, path)


def make_project(folder):
    "A copy of this project's files in its own git repository."
    files = ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "settings.ini", "nbs/tutorials/glossary.ipynb")
    lay(folder, *files, ".dvc/config", ".dvc/.gitignore")
    for name in ("nbs/pipeline", "xraypneu"):  # with the compiled modules, which cost each project a second
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    set_params(folder, SMALL)
    commit_all(folder)
    return folder


ROOM = """
import json, os, shutil, time
from pathlib import Path
from xraypneu.files import project_root
from xraypneu.model.bundle import SHIPPED, load_bundle
from xraypneu.ops import tracking
os.chdir(project_root())
"""
BRIEF = {
    "train": """
run = tracking.start("train", f"{seed} {learning_rate}", {"synthetic": True})
run.params({"learning_rate": learning_rate})
for epoch in range(1, epochs + 1):
    print(f"epoch {epoch}/{epochs}", flush=True)
    run.epoch({"epoch": epoch, "val_loss": 1 / epoch})
    while Path("wait").exists():
        time.sleep(0.05)
for folder in ("models/bundle", "models/seeds/0"):
    shutil.copytree(SHIPPED, folder, dirs_exist_ok=True)
run.artifacts(SHIPPED, to="bundle")
if Path("logged").is_dir():
    run.add("model", Path("logged"), name="model")
run.register("xraypneu", {"bundle_hash": load_bundle().hash})
tracking.save(run)
run.end()
Path("reports/history.csv").write_text("epoch\\n1\\n")
""",
    "evaluate": """
data = {"hash": "0" * 64, "synthetic": True, "test_images": 0, "test_patients": 0}
model = {"hash": load_bundle().hash}
metrics = {"test": {"roc_auc": 0.5}, "test_low": {}, "test_high": {}, "data": data, "model": model}
run = tracking.resume()
run.metrics({"roc_auc": 0.5}, "test_")
run.end()
for name in ("metrics.json", "predictions.csv", "plots/roc.csv", "model_card.md", "model_card.html"):
    Path("reports", name).parent.mkdir(exist_ok=True)
    Path("reports", name).write_text(json.dumps(metrics))
""",
}


def brief_stages(project, *names):
    """Exchange stages for ones that record made-up metrics of the shipped bundle, where a test asks how a run goes.

    A stage without made-up results does nothing."""
    for name in names:
        path = project / f"nbs/pipeline/{name}.ipynb"
        nb = nbformat.read(path, as_version=4)
        nb.cells = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
        nb.cells += [nbformat.v4.new_code_cell(ROOM + BRIEF[name])] if name in BRIEF else []
        nbformat.write(nb, path)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    "`made_once(name, make)`: the folder that `make(folder)` fills, once for all processes that share the tests."
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def once(name, make):
        folder, done = shared / name / "xray", shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def project(made_once):
    "A small project after `dvc repro`: read it, don't change it."

    def make(folder):
        make_project(folder)
        done = run(["dvc", "repro"], folder, **SECRETS)
        (folder / ".repro.log").write_text(done.out)
        run(["git", "add", "-A"], folder)
        run(["git", "commit", "-q", "-m", "run"], folder)

    return made_once("project", make)


@pytest.fixture
def copy(project, tmp_path):
    "A copy of the project that a test may change."
    # its store would still write into the shared project, whose absolute path it holds
    store = shutil.ignore_patterns("mlflow.db*", "mlartifacts")
    return Path(shutil.copytree(project, tmp_path / "copy", symlinks=True, ignore=store))


def as_committed(folder):
    "A repository with the files as they are here, committed, and the parameters' defaults."
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    lay(folder, "params.yaml")
    commit_all(folder)
    return folder


@pytest.fixture(scope="session")
def dist(made_once):
    "The wheel and the source distribution, from which `make dist` builds the wheel, in a clone after a run on films."

    def make(folder):
        set_params(as_committed(folder), {"data": {"path": "/tmp/films"}, "train": {"epochs": 1}})
        done = run(["make", "-s", "dist", f"VENV={VENV}", "-o", str(VENV / ".ready")], folder)
        (folder / "dist.log").write_text(done.out)

    return made_once("dist", make) / "dist"


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory):
    "`mlflow server` with sqlite; a test that kills it starts it again."
    folder = tmp_path_factory.mktemp("sqlite")
    (folder / "server.db").write_bytes(empty_store())
    with MlflowServer(folder) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory):
    "`mlflow server` with PostgreSQL."
    if POSTGRES is None and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not installed: install Debian's package postgresql")
    assert POSTGRES, "PostgreSQL is not installed: .ci/programs installs it"
    with Postgres() as cluster, MlflowServer(tmp_path_factory.mktemp("postgres"), cluster.uri) as server:
        yield server


@contextmanager
def serving(server):
    "Have a server of socketserver answer from a thread; its address."
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Answers(BaseHTTPRequestHandler):
    "Answers without writing a log."

    def log_message(self, *args):
        pass

    def say(self, status, headers=None, body=b""):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Files(SimpleHTTPRequestHandler):
    "Gives out the files of a folder, without a log."

    def log_message(self, *args):
        pass


def giving(folder, handler=Files):
    "Have a server give out a folder; its address."
    return serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)))
