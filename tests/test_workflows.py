"""The workflows: permissions, commands, and a rehearsal of their steps in clean clones.

The rehearsal runs without credentials, with them, and with wrong ones.
"""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import (
    ROOT,
    SMALL,
    VENV,
    Answers,
    as_committed,
    commit_all,
    executable,
    lay,
    params_yaml,
    run,
    script,
    serving,
    set_params,
)
from ruamel.yaml import YAML
from test_remote import SECRET, needs_nginx, nginx  # noqa: F401

from xraypneu import process
from xraypneu.files import write_file
from xraypneu.ops.stage import check_settings, stage_params

FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
FLOWS = {f.stem: YAML(typ="safe").load(f) for f in FILES}
STEPS = [(flow, job, step) for flow, f in FLOWS.items() for job, j in f["jobs"].items() for step in j["steps"]]
STRANGERS = ("ci", "codeql", "docs", "comment")  # run for pull requests of forks
needs_environment = pytest.mark.skipif(
    not (VENV / ".ready").exists() and not os.environ.get("CI"), reason="not in an environment that make env made"
)


def on(flow):
    "The events of a workflow: YAML 1.2 has `on` as a word."
    return FLOWS[flow]["on"]


def before(flow, job):
    "All jobs that came before."
    needs = FLOWS[flow]["jobs"][job].get("needs", [])
    needs = [needs] if isinstance(needs, str) else needs
    return {*needs, *(b for n in needs for b in before(flow, n))}


def test_these_are_the_workflows():
    assert set(FLOWS) == {"ci", "train", "comment", "docs", "release", "nightly", "codeql", "scorecard"}
    assert {"push", "pull_request"} <= on("ci").keys() and on("train")["push"] == {"branches": ["main"]}
    assert "workflow_dispatch" in on("train")
    assert on("comment") == {"workflow_run": {"workflows": ["ci"], "types": ["completed"]}}
    assert FLOWS["ci"]["name"] == "ci"
    assert on("release") == {"push": {"tags": ["v*"]}}
    assert all("schedule" in on(flow) for flow in ("nightly", "codeql", "scorecard"))


def fit(schema, *files):
    from check_jsonschema import main

    arguments = ["--builtin-schema", f"vendor.{schema}", *(str(ROOT / f) for f in files)]
    assert not main(arguments, standalone_mode=False), files  # it says itself what is wrong


def test_they_fit_the_schema(tmp_path):
    fit("github-workflows", *FILES)
    fit("dependabot", ".github/dependabot.yml")
    fit("github-issue-forms", *(f".github/ISSUE_TEMPLATE/{f}.yml" for f in ("bug", "feature")))
    fit("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml")
    fit("citation-file-format", "CITATION.cff")
    write_file(tmp_path / "wrong.yml", "on: push\n")
    with pytest.raises(AssertionError):
        fit("github-workflows", tmp_path / "wrong.yml")
    updates = YAML(typ="safe").load(ROOT / ".github/dependabot.yml")["updates"]
    assert {u["package-ecosystem"] for u in updates} == {"pip", "github-actions", "docker"}
    for u in updates:
        for folder in u.get("directories", [u.get("directory")]):
            assert (ROOT / folder.lstrip("/")).is_dir()


def test_zizmor_finds_nothing():
    done = run(["zizmor", "--offline", "--no-progress", "--persona", "pedantic", "--color", "never", ".github"], ROOT)
    assert "No findings" in done.out
    ignored = [(f.name, ln.strip()) for f in FILES for ln in f.read_text().splitlines() if "zizmor: ignore" in ln]
    assert len(ignored) == 1 and ignored[0][0] == "comment.yml" and "dangerous-triggers" in ignored[0][1]


def test_actions_are_pinned_by_commit():
    lines = [ln.strip() for f in FILES for ln in f.read_text().splitlines() if re.match(r"\s*(- )?uses:", ln)]
    assert len(lines) == sum("uses" in s for _, _, s in STEPS) > 20
    pins = [re.fullmatch(r"(?:- )?uses: ([\w./-]+)@([0-9a-f]{40}) # (v[\d.]+)", ln) for ln in lines]
    assert all(pins), [ln for ln, p in zip(lines, pins, strict=True) if not p]
    assert len({p.groups() for p in pins}) == len({p[1] for p in pins})  # one commit and tag an action


def test_no_secret_where_a_fork_has_a_say():
    for flow in FLOWS:
        text = (ROOT / f".github/workflows/{flow}.yml").read_text()
        assert "pull_request_target" not in text and "secrets: inherit" not in text
        if flow in STRANGERS or "pull_request" in on(flow):
            assert not re.search(r"\bsecrets\b\s*[.\[]", text), flow
        if "pull_request" in on(flow):
            assert "github.token" not in text and "GITHUB_TOKEN" not in text, flow
    assert not {"pull_request", "workflow_run", "issue_comment"} & on("train").keys()


def test_nothing_of_a_fork_is_run():
    steps = FLOWS["comment"]["jobs"]["comment"]["steps"]
    checkout = next(s for s in steps if s.get("uses", "").startswith("actions/checkout"))
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    download = next(s for s in steps if s.get("uses", "").startswith("actions/download-artifact"))
    assert download["with"]["path"].startswith("${{ runner.temp }}/")  # beside the checkout
    assert [s["run"] for s in steps if "run" in s] == ["make rebuild"]  # writes the page anew from numbers
    assert not any("setup-cml" in s.get("uses", "") for s in steps)


WRITES = {
    ("train", "comment"): {"pull-requests"},
    ("comment", "comment"): {"pull-requests"},
    ("docs", "publish"): {"pages", "id-token"},
    ("release", "sign"): {"id-token"},
    ("release", "attest"): {"id-token", "attestations"},
    ("release", "publish"): {"id-token"},
    ("release", "page"): {"contents"},
    ("codeql", "analyze"): {"security-events"},
    ("scorecard", "analysis"): {"security-events", "id-token"},
}


def test_least_permissions():
    for flow, f in FLOWS.items():
        assert f["permissions"] in ({}, {"contents": "read"}), flow
        for job, j in f["jobs"].items():
            writes = {k for k, v in (j.get("permissions") or {}).items() if v == "write"}
            assert writes == WRITES.get((flow, job), set()), (flow, job)
            if writes:  # no training with a right to write
                assert not [s for s in j["steps"] if re.search(r"make (env|run|test|pull)", s.get("run", ""))]
    for flow, job, step in STEPS:
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False, (flow, job)


def test_jobs_end_and_don_t_pile_up():
    for flow, f in FLOWS.items():
        assert {"group", "cancel-in-progress"} <= f["concurrency"].keys(), flow
        assert all(0 < j["timeout-minutes"] <= 360 for j in f["jobs"].values()), flow


def test_a_step_runs_a_make_target():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for flow, job, step in STEPS:
        if "run" in step:
            call = re.fullmatch(r"make ([a-z-]+)( [A-Z]+=[\w./-]+)*", step["run"])
            assert call and call[1] in targets, (flow, job, step["run"])
        if "script" in step.get("with", {}):
            assert step["with"]["script"] == "await require('./.ci/comment.js')({github, context, core})"


@pytest.fixture
def all_of_ci(tmp_path):
    "`.ci/run` in a folder of its own, whose environment can't be made: it ends with status 1 when it has deleted."
    (tmp_path / ".ci").mkdir()
    for name in ("programs", "environment"):
        executable(tmp_path / ".ci" / name, "#!/bin/sh\n[ $(basename $0) = programs ]\n")
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "data/sample").mkdir(parents=True)
    return lambda **env: run([str(tmp_path / ".ci/run")], tmp_path, check=False, **{"PYTHON": sys.executable, **env})


def test_all_that_ci_runs_deletes_no_films(all_of_ci, tmp_path):
    "`.ci/run` begins with an empty cache, and deleted `data` in whatever clone it was started."
    film = write_file(tmp_path / "data/chest_xray/a.png", "")
    done = all_of_ci()
    assert done.returncode == 2 and "data/chest_xray would be deleted" in done.out
    assert film.exists()
    shutil.rmtree(tmp_path / "data/chest_xray")
    for name in ("dataset.json", "train/NORMAL/SYN0001-1.png"):
        write_file(tmp_path / "data/sample" / name, "")
    film = write_file(tmp_path / "data/sample/train/NORMAL/a.png", "")
    done = all_of_ci()
    assert done.returncode == 2 and "data/sample/train/NORMAL/a.png would be deleted" in done.out and film.exists()
    film.unlink()
    assert all_of_ci().returncode == 1  # it goes on, to our environment
    assert not (tmp_path / "data").exists()


MD5 = "0123456789abcdef0123456789abcdef.dir"
OF_FILMS = {  # by what is named: files, and what of the same is the sample's
    "models/bundle, which is of films,": ({"models/bundle/bundle.json": '{"data": {"synthetic": false}}'}, "true"),
    "data/prepared, which is of films,": ({"data/prepared/dataset.json": '{"synthetic": false}'}, "true"),
    "models/tune": ({"models/tune/studies.db": ""}, ""),
    "models/clinic": ({"models/clinic/bundle.json": "{}"}, ""),
    ".cache/journal/0a/": ({".cache/journal/0a/journal.jsonl": ""}, ""),
    "with the files of data/x.dvc,": (
        {"data/x.dvc": f"outs:\n- md5: {MD5}\n", f".dvc/cache/files/md5/{MD5[:2]}/{MD5[2:]}": ""},
        "",
    ),
    "mlflow.db, with runs of films,": ({}, ""),
}


@pytest.mark.parametrize("said", OF_FILMS)
def test_all_that_ci_runs_deletes_no_trainings(said, all_of_ci, tmp_path):
    "It deleted models, runs and searches of films that lie elsewhere, and films that DVC alone still had."
    files, of_sample = OF_FILMS[said]
    for name, content in files.items():
        write_file(tmp_path / name, content)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as db, db:
        db.execute("CREATE TABLE tags (key TEXT, value TEXT)")
        db.execute("INSERT INTO tags VALUES ('synthetic', ?)", ["True" if files else "False"])
    done = all_of_ci()
    assert done.returncode == 2 and f"{said} would be deleted" in done.out, done.out
    assert (tmp_path / "mlflow.db").exists() and all((tmp_path / name).exists() for name in files)
    if of_sample:
        for name, content in files.items():
            write_file(tmp_path / name, content.replace("false", of_sample))
        assert all_of_ci().returncode == 1 and not (tmp_path / "mlflow.db").exists()


def test_runs_that_can_t_be_read_are_not_deleted(all_of_ci, tmp_path):
    "Without a python3.11, they counted as none."
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "basename", "find", "sed", "rm", "grep"):
        (tools / name).symlink_to(shutil.which(name))
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as db, db:
        db.execute("CREATE TABLE tags (key TEXT, value TEXT)")
    done = all_of_ci(PYTHON="no-python", PATH=str(tools))
    assert done.returncode == 2 and "mlflow.db, whose runs no Python here can read, would be" in done.out, done.out
    (tools / "python3").symlink_to(sys.executable)
    assert all_of_ci(PYTHON="no-python", PATH=str(tools)).returncode == 1 and not (tmp_path / "mlflow.db").exists()


def test_a_run_that_mlflow_never_got_turns_the_job_red():
    "Else it ended with the runner: `make run` goes on without a server, and the job was green."
    steps = FLOWS["train"]["jobs"]["train"]["steps"]
    at = {s["run"]: i for i, s in enumerate(steps) if "run" in s}
    sent, trained = steps[at["make sent"]], steps[at["make run"]]
    assert sent["env"] == trained["env"] and sent["if"] == "${{ !cancelled() }}"
    uploads = [i for i, s in enumerate(steps) if "upload-artifact" in s.get("uses", "")]
    assert at["make sent"] > max(*uploads, at["make push"], at["make report"])  # what it stops is done by then


def test_what_is_uploaded_is_compared_with_the_secrets_of_the_job():
    "`make artefact` refuses, and `make report` hides, the secrets of its environment; before, there were none in it."
    steps = FLOWS["train"]["jobs"]["train"]["steps"]
    used = {(k, v) for s in steps for k, v in s.get("env", {}).items() if re.search(r"\bsecrets\.", v)}
    for name in ("make artefact", "make report"):
        step = next(s for s in steps if s.get("run") == name)
        assert used and used <= step.get("env", {}).items(), name


def test_pictures_of_people_are_not_uploaded():
    "What goes up is what `make artefact` gathered, the page, or what was made of the source."
    for flow, job, step in STEPS:
        if step.get("uses", "").startswith(("actions/upload-artifact", "actions/upload-pages-artifact")):
            assert set(step["with"]["path"].split()) <= {
                "build/artefact",
                "reports/report.md",
                "reports/metrics.json",
                "build/docs",
                "dist",
                "build/release/sbom.cdx.json",
                "build/release/bundle.tar.gz",
                "bench/faults.md",
            }, (flow, job)


def test_a_release_is_tested_first_and_leaves_with_its_papers():
    jobs = FLOWS["release"]["jobs"]
    ran = {job: [s.get("run", s.get("uses", "").split("@")[0]) for s in j["steps"]] for job, j in jobs.items()}

    assert {"make lint", "make types", "make sync", "make test", "make audit"} <= set(ran["test"])
    assert all("test" in before("release", job) for job in jobs if job != "test")
    # nothing is published that has no provenance
    assert {"attest", "sign"} <= before("release", "publish") and "publish" in before("release", "page")
    assert "make sbom" in ran["build"] and "make sign" in ran["sign"] and ran["page"][-1] == "make release"
    provenance, sbom = (s["with"] for s in jobs["attest"]["steps"] if s["uses"].startswith("actions/attest@"))
    assert provenance == {"subject-path": "dist/*"}
    assert sbom == {"subject-path": "dist/*", "sbom-path": "build/release/sbom.cdx.json"}
    assert "make audit" in [s.get("run") for s in FLOWS["ci"]["jobs"]["audit"]["steps"]]
    assert "make coverage" in [s.get("run") for s in FLOWS["ci"]["jobs"]["coverage"]["steps"]]
    assert "make faults" in [s.get("run") for s in FLOWS["nightly"]["jobs"]["faults"]["steps"]]
    assert "make test-nightly" in [s.get("run") for s in FLOWS["nightly"]["jobs"]["tests"]["steps"]]


# --- the comment, against an answering host


@contextmanager
def host(pulls, comments, refuses=None):
    "A host like GitHub for pull requests and comments, which refuses writes with status `refuses`; what was sent."
    sent = []

    class Answer(Answers):
        def do_GET(self):
            url = urlsplit(self.path)
            asked = {k: v[0] for k, v in parse_qs(url.query).items()}
            if url.path.endswith("/comments"):
                found = comments[100 * (int(asked["page"]) - 1) : 100 * int(asked["page"])]
            elif url.path == "/repos/team/xray/pulls":
                found = [p for p in pulls if p["from"] == asked["head"]]
            else:
                found = [p for p in pulls if p["head"]["sha"] == url.path.split("/")[-2]]
            self.give(found)

        def do_POST(self):
            sent.append((self.command, self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.give({}, refuses or 200)

        do_PATCH = do_POST

        def give(self, what, status=200):
            self.say(status, body=json.dumps(what).encode())

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Answer)) as url:
        yield url, sent


def comment(api, payload, tmp_path, text="<!-- xraypneu report -->\nfigures"):
    (tmp_path / "report.md").write_text(text)
    return run(
        ["node", str(ROOT / "tests/github.mjs"), json.dumps(payload)],
        ROOT,
        check=False,
        GITHUB_API_URL=api,
        REPORT=str(tmp_path / "report.md"),
        GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
    )


def pull(number, sha, source):
    return {"number": number, "head": {"sha": sha}, "from": source}


def own(id, text="<!-- xraypneu report -->\nold", kind="Bot"):
    return {"id": id, "body": text, "user": {"type": kind}}


FORK = {
    "payload": {
        "workflow_run": {
            "head_sha": "b" * 40,
            "head_branch": "patch",
            "html_url": "https://host.invalid/runs/3",
            "head_repository": {"owner": {"login": "fork"}},
        }
    }
}
needs_node = pytest.mark.skipif(
    not shutil.which("node") and not os.environ.get("CI"), reason="no node here: install Debian's package npm"
)


@needs_node
def test_comment_on_the_pull_request_of_a_fork(tmp_path):
    pulls = [pull(3, "a" * 40, "fork:patch"), pull(4, "b" * 40, "fork:patch"), pull(5, "b" * 40, "other:patch")]
    with host(pulls, [own(1, kind="User"), own(2, "hello")]) as (api, sent):
        assert "pull request 4" in comment(api, FORK, tmp_path).out
    body = {"body": "<!-- xraypneu report -->\nfigures"}
    assert sent == [("POST", "/repos/team/xray/issues/4/comments", body)]  # nobody else's comment is touched


@needs_node
def test_comment_is_written_over(tmp_path):
    nobody = {"id": 899, "body": None, "user": None}  # of an account that was deleted
    comments = [own(i, "talk", "User") for i in range(150)] + [nobody, own(900)]
    with host([pull(4, "b" * 40, "fork:patch")], comments) as (api, sent):
        comment(api, FORK, tmp_path)
    assert [s[:2] for s in sent] == [("PATCH", "/repos/team/xray/issues/comments/900")]


@needs_node
def test_comment_after_a_push_to_main(tmp_path):
    with host([pull(7, "d" * 40, "team:idea")], []) as (api, sent):
        assert "pull request 7" in comment(api, {"payload": {}, "sha": "d" * 40}, tmp_path).out
        assert "no pull request belongs" in comment(api, {"payload": {}, "sha": "e" * 40}, tmp_path).out
        done = comment(api, {"payload": {}, "sha": "d" * 40}, tmp_path, "something else")
        assert done.returncode and "is not a report" in done.out
    assert len(sent) == 1


@needs_node
@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_comment_that_is_not_permitted_is_a_warning(tmp_path, status):
    "The report is in the summary in any case; why it is no comment is too."
    with host([pull(4, "b" * 40, "fork:patch")], [own(900)], refuses=status) as (api, _):
        done = comment(api, FORK, tmp_path)
    assert done.returncode == 0 and "warning: The report could not be posted as a comment: " in done.out
    assert f"HTTP {status}" in done.out
    assert f"(HTTP {status})" in (tmp_path / "summary.md").read_text()


@needs_node
def test_comment_on_a_host_that_fails_is_red(tmp_path):
    with host([pull(4, "b" * 40, "fork:patch")], [], refuses=502) as (api, _):
        assert comment(api, FORK, tmp_path).returncode
    assert comment("http://127.0.0.1:9", FORK, tmp_path).returncode  # nobody there


@needs_node
def test_comment_that_is_too_long_ends_at_a_section(tmp_path):
    sections = [
        f"## Part {i}\n<details><summary>more</summary>\n\n```\n{'x' * 900}\n```\n</details>\n" for i in range(100)
    ]
    report = "<!-- xraypneu report -->\n" + "\n".join(sections)
    with host([pull(4, "b" * 40, "fork:patch")], []) as (api, sent):
        comment(api, FORK, tmp_path, report)
        comment(api, FORK, tmp_path, "<!-- xraypneu report -->\n## One\n<details>\n```\n" + "y\n" * 50_000)
    whole, cut = (body["body"] for _, _, body in sent)
    assert 60_000 < len(whole) < 65_000 and report.startswith(whole.split("\n\n**The report is too long")[0])
    for body in (whole, cut):
        assert len(body) < 65_000 and "https://host.invalid/runs/3" in body
        assert body.count("```") % 2 == 0 and body.count("<details") == body.count("</details>")


def test_the_comment_needs_no_cml_and_hides_no_failure():
    "CML runs only if a variable asks for it, and a failure fails the job; `continue-on-error` once hid one."
    assert not [step for _, _, step in STEPS if step.get("continue-on-error")]
    assert not [job for f in FLOWS.values() for job in f["jobs"].values() if job.get("continue-on-error")]
    script, cml, by_cml = FLOWS["train"]["jobs"]["comment"]["steps"][-3:]
    assert (
        script["uses"].startswith("actions/github-script") and script["if"] == "${{ vars.XRAYPNEU_COMMENT != 'cml' }}"
    )
    assert cml["uses"].startswith("iterative/setup-cml") and cml["with"] == {"version": "v0.20.6", "vega": "false"}
    assert cml["if"] == by_cml["if"] == "${{ vars.XRAYPNEU_COMMENT == 'cml' }}" and by_cml["run"] == "make comment"


@pytest.mark.parametrize("status", [0, 3])
def test_make_comment_calls_cml_without_uploading_images(tmp_path, status):
    "A program in CML's place records how it is called; its exit status is make's."
    executable(tmp_path / "cml", f'#!/bin/sh\nprintf "%s|" "$@" > "{tmp_path}/called"\nexit {status}\n')
    done = run(["make", "comment", f"BIN={tmp_path}"], ROOT, check=False, REPORT="some/report.md")
    assert (done.returncode == 0) == (status == 0)
    assert (tmp_path / "called").read_text() == "comment|update|--publish=false|some/report.md|"


# --- the rehearsal itself


def test_expressions():
    rehearse = script("rehearse")
    context = {"github": {"ref": "refs/heads/main"}, "steps": {"cml": {"outputs": {"artifact-url": "u-1"}}}}
    for text, wanted in (
        ("github.ref == 'refs/heads/main'", True),
        ("github.ref != 'refs/heads/main'", False),
        ("steps.cml.outputs.artifact-url", "u-1"),
        ("secrets.NONE == ''", True),
        ("!cancelled()", True),
    ):
        assert rehearse.evaluate(text, context) == wanted, text
    for odd in ("contains(github.ref, 'x')", "github['ref']", "1 +", "github.ref == 'a' || always()"):
        with pytest.raises(rehearse.Stop):
            rehearse.evaluate(odd, context)
    for condition, wanted in ((None, False), ("${{ !cancelled() }}", True), ("${{ github.ref != '' }}", False)):
        assert rehearse.due(condition, context, failed=False)
        assert rehearse.due(condition, context, failed=True) == wanted


FLOW = """name: mini
on: push
jobs:
  train:
    steps:
      - uses: actions/checkout@x
      - run: mkdir out && echo "$GITHUB_SHA" > out/sha && echo "# Page" >> "$GITHUB_STEP_SUMMARY"
      - uses: actions/upload-artifact@x
        id: kept
        with: {name: out, path: out}
      - run: test "${URL##*/}" = 1 && test "$CI" = true && test -z "${OURS:-}" && git diff --quiet && \
test "$GITHUB_REF" = refs/heads/main && test ! -e new.txt
        env: {URL: "${{ steps.kept.outputs.artifact-url }}"}
STEPS
  comment:
    needs: train
    steps:
      - uses: actions/download-artifact@x
        with: {name: out, path: got}
      - run: test "$(cat got/sha)" = "$GITHUB_SHA"
"""


@pytest.fixture
def mini(tmp_path):
    "Rehearses a workflow in a repository of its own: exit status, output, table."
    folder = tmp_path / "mini"
    write_file(folder / ".ci/rehearse", (ROOT / ".ci/rehearse").read_bytes())
    write_file(tmp_path / "venv/.ready", "")

    def show(*steps, arguments=(), **env):
        text = "".join(f"      - {step}\n" for step in steps)
        write_file(folder / ".github/workflows/train.yml", FLOW.replace("STEPS\n", text))
        for command in ("git init -q -b main", "git add .ci .github", "git commit -q --allow-empty -m mini"):
            run(command.split(), folder)
        write_file(folder / "new.txt", "not committed")
        command = [sys.executable, ".ci/rehearse", "train", "--venv", "../venv", "--out", "../out", *arguments]
        done = run(command, folder, check=False, OURS="1", **env)
        done.folder, table = tmp_path / "out", tmp_path / "out/table.txt"
        done.table = table.read_text() if table.exists() else ""
        return done

    return show


def test_rehearsal_does_as_github_and_takes_what_is_committed(mini):
    done = mini()
    assert done.returncode == 0, done.out
    assert (done.folder / "train/train/summary.md").read_text() == "# Page\n"
    assert (done.folder / "artefacts/out/sha").exists() and "not committed are left out" in done.out
    assert re.search(r"train/comment .* success", done.table) and "failure" not in done.table


def test_rehearsal_is_red_where_the_job_would_be(mini):
    done = mini("run: exit 3", "run: echo never", 'run: echo yet\n        if: "${{ !cancelled() }}"')
    assert done.returncode == 1 and re.search(r"exit 3 +[\d.]+ 3 +failure", done.table)
    assert re.search(r"echo never .*skipped", done.table) and re.search(r"echo yet .*success", done.table)
    assert re.search(r"train/comment +\(job\) .*skipped", done.table)
    assert mini("uses: actions/upload-artifact@x\n        with: {name: x, path: nowhere}").returncode == 1
    done = mini("uses: someone/else@x")
    assert done.returncode == 2 and "no stand-in for someone/else" in done.out and "Traceback" not in done.out


@pytest.mark.parametrize("where", ["", ' >> "$GITHUB_STEP_SUMMARY"'])
def test_rehearsal_finds_a_secret_that_shows(mini, where):
    step = f'run: echo "$P"{where}\n        env: {{P: "${{{{ secrets.XRAYPNEU_REMOTE_PASSWORD }}}}"}}'
    done = mini(step, arguments=["--with-credentials"], XRAYPNEU_REMOTE_PASSWORD="geheim-7")
    assert done.returncode == 1 and "a secret shows" in done.out and "geheim-7" not in done.out
    assert not [f for f in done.folder.rglob("*") if f.is_file() and "geheim-7" in f.read_text()]


# --- the workflows rehearsed


@pytest.fixture(scope="module")
def show(project, tmp_path_factory):
    "Rehearses workflows on the small project; its stages ran before, so that DVC takes them from its cache."
    cache, source = (tmp_path_factory.mktemp("rehearsal") / name for name in ("cache", "source"))
    shutil.copytree(project / ".dvc/cache", cache)
    as_committed(source)
    set_params(source, SMALL)
    with open(source / ".dvc/config", "a") as f:
        f.write(f"[cache]\n    dir = {cache}\n")
    run(["git", "commit", "-q", "-a", "-m", "rehearsed"], source)

    def go(*arguments, skip=(), **env):
        out = tmp_path_factory.mktemp("rehearsal") / "out"
        # so small a sample does not reach the expected metrics
        leave = [word for step in ("make check-sample", *skip) for word in ("--skip", step)]
        command = [sys.executable, ".ci/rehearse", "--venv", str(VENV), "--out", str(out), *leave, *arguments]
        done = run(command, source, check=False, **env)
        done.folder = out
        return done

    return go


def test_everything_but_the_stages_is_the_small_projects(project):
    "Else DVC would run the stages again, in minutes."
    assert all((project / f).read_bytes() == (ROOT / f).read_bytes() for f in ("dvc.yaml", "nbs/pipeline/train.ipynb"))


@needs_environment
def test_without_credentials(show):
    done = show("ci", "train", "comment")
    assert done.returncode == 0, done.out[-6000:]
    ci, train = ((done.folder / f"{w}/{j}/summary.md").read_text() for w, j in (("ci", "sample"), ("train", "train")))
    for page in (ci, train):
        assert all(words in page for words in ("**SYNTHETIC**", "## Curves", "[download](", "[log]("))
        assert "SYN0" not in page
    assert "**no credentials: sample data**" in train.splitlines()[4] and "no credentials" not in ci
    # ci: a pull request, where only origin/main is known
    assert "difference to main" in train and "difference to main" in ci
    assert "not pushed: no credentials" in done.out and "is cached - skipping run" in done.out
    notebooks = done.folder / "artefacts/notebooks"
    names = {p.relative_to(notebooks).as_posix() for p in notebooks.rglob("*.html")}
    assert names == {f"reports/{s}.html" for s in ("prepare", "eda", "train", "evaluate", "model_card")}
    # the script commented, with the report
    assert (done.folder / "train/comment/comment.md").read_text().strip() == train.strip()
    comment = (done.folder / "comment/comment/comment.md").read_text()
    assert "from a pull request" in comment and "## Metrics" in comment and "## Curves" not in comment


@needs_environment
def test_with_credentials(show, tmp_path):
    (tmp_path / "remote").mkdir()
    how = {"XRAYPNEU_REMOTE_URL": str(tmp_path / "remote"), "XRAYPNEU_COMMENT": "cml"}
    done = show("train", "--with-credentials", skip=("make promote", "make artefact"), **how)
    assert done.returncode == 0, done.out[-6000:]
    page = (done.folder / "train/train/summary.md").read_text()
    assert "no credentials" not in page and "could not be read" not in page and "**SYNTHETIC**" in page
    assert re.search(r"\d+ files pushed", done.out) and any(p.is_file() for p in (tmp_path / "remote").rglob("*"))
    assert (done.folder / "train/comment/comment.md").read_text().strip() == page.strip()  # by CML


@needs_environment
@needs_nginx
def test_with_wrong_credentials(show, nginx):  # noqa: F811
    "The sample takes the place of the data, the report says why, and the job is red in the end."
    wrong = SECRET + "-no longer"
    how = {"XRAYPNEU_REMOTE_URL": f"{nginx}/data", "XRAYPNEU_REMOTE_USER": "ann", "XRAYPNEU_REMOTE_PASSWORD": wrong}
    done = show("train", "--with-credentials", skip=("make run", "make promote", "make artefact"), **how)
    table = (done.folder / "table.txt").read_text()
    steps = (r"make run", "success"), (r"make pulled", "failure"), ("actions/github-script", "success")
    for step, outcome in (*steps, ("make comment", "skipped")):
        assert re.search(rf"{step} .*{outcome}", table), table
    page = (done.folder / "train/train/summary.md").read_text()
    line = page.splitlines()[4]
    assert done.returncode == 1 and "the host rejects this user or password" in line and "sample data" in line
    assert nginx not in page and "not pushed" in done.out and wrong not in done.out


def test_artefacts_are_uploaded_before_they_are_downloaded():
    "By a job that the other one needs, or in ci, whose end starts comment.yml."

    def named(jobs, action):
        steps = (s for j in jobs for s in j["steps"] if s.get("uses", "").startswith(f"actions/{action}@"))
        return {s["with"]["name"] for s in steps}

    for flow, f in FLOWS.items():
        for job, j in f["jobs"].items():
            earlier = [f["jobs"][b] for b in before(flow, job)] + [FLOWS["ci"]["jobs"]["sample"]] * (flow == "comment")
            assert named([j], "download-artifact") <= named(earlier, "upload-artifact"), (flow, job)


def test_a_distribution(dist):
    "Wheel and source, with what the dashboard and a prediction need, and no data."
    (wheel,), (_,) = (list(dist.glob(p)) for p in ("*.whl", "*.tar.gz"))
    with zipfile.ZipFile(wheel) as z:
        names = set(z.namelist())
    assert {
        *(f"xraypneu/app/{p.name}" for p in (ROOT / "xraypneu/app").glob("*.*")),
        "xraypneu/app/voila/templates/xraypneu/index.html.j2",
        "xraypneu/shipped/model.onnx",
        "xraypneu/shipped/reference.npz",
    } <= names
    assert not any(n.endswith((".jpeg", ".jpg", ".npy", ".csv")) for n in names)


def test_a_distribution_carries_the_committed_parameters(dist, tmp_path):
    "After `make run DATA=/tmp/films`, projects made with the wheel looked for those films, and nothing was said."
    clone = dist.parent
    assert "path: /tmp/films" in (clone / "params.yaml").read_text()  # the source distribution's was a link to it
    assert "params.yaml is changed here. Wheel and source have the committed one" in (clone / "dist.log").read_text()
    (wheel,), (source,) = (list(dist.glob(p)) for p in ("*.whl", "*.tar.gz"))
    with zipfile.ZipFile(wheel) as z:
        assert z.read("xraypneu/project/params.yaml") == params_yaml()
    with tarfile.open(source) as t:
        assert t.extractfile(f"{source.name.removesuffix('.tar.gz')}/params.yaml").read() == params_yaml()
    built = tmp_path / "lib/xraypneu/project/params.yaml"  # without the source distribution, as by `pip install .`
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    run(build, clone)
    assert built.read_bytes() == params_yaml()
    done = run(build, clone, check=False, GIT_DIR=str(tmp_path))
    assert done.returncode and "git doesn't say what is committed in " in done.out and "Traceback" not in done.out


def test_without_credentials_a_job_needs_no_table_of_patients(tmp_path):
    "Its clone lacks the films and their private table, and the sample's files have no row in it: `make run` failed."
    lay(tmp_path, "dvc.yaml", "params.yaml", "nbs/pipeline/prepare.ipynb")
    set_params(tmp_path, {"data": {"path": "films", "patients_csv": "private.csv"}})
    run([ROOT / ".ci/pull"], tmp_path, XRAYPNEU_REMOTE_URL="")
    check_settings(tmp_path)  # of `make run`
    assert stage_params(tmp_path, "prepare")["data_patients_csv"] is None


def test_pull_brings_what_git_names(tmp_path):
    "A set under DVC whose name git would quote: pushed, cloned, pulled as train.yml does; then a store that lost it."
    mine, yours, store, pull = tmp_path / "mine", tmp_path / "yours", tmp_path / "store", ROOT / ".ci/pull"
    where = {"XRAYPNEU_REMOTE_URL": str(store), "XRAYPNEU_REMOTE_PASSWORD": ""}
    mine.mkdir()
    run(["git", "init", "-q", "-b", "main"], mine)
    run(["dvc", "init", "-q"], mine)
    (mine / "params.yaml").write_text("data: {path: Röntgenbilder}\n")
    (mine / "Röntgenbilder").mkdir()
    (mine / "Röntgenbilder/a.txt").write_text("a radiograph")
    run(["dvc", "add", "-q", "Röntgenbilder"], mine)
    run(["git", "add", "-A"], mine)
    run(["git", "commit", "-q", "-m", "Röntgenbilder"], mine)
    run([sys.executable, "-m", "xraypneu.cli", "remote"], mine, **where)
    run(["dvc", "push", "-q"], mine)
    run(["git", "clone", "-q", str(mine), str(yours)], tmp_path)
    out = run(["bash", str(pull)], yours, **where).out
    assert "pulled: Röntgenbilder.dvc" in out and (yours / "Röntgenbilder/a.txt").read_text() == "a radiograph"
    assert (yours / ".cache/ci/pulled").exists()

    for lost in [p for p in store.rglob("*") if p.is_file()]:
        lost.unlink()
    run(["git", "clone", "-q", str(mine), str(tmp_path / "theirs")], tmp_path)
    out = run(["bash", str(pull)], tmp_path / "theirs", **where).out
    assert "data that git tracks are missing on it" in (tmp_path / "theirs/.cache/ci/notice").read_text(), out
    assert (tmp_path / "theirs/.cache/ci/refused").exists(), out


def test_what_measures_alone_is_where_make_looks_for_it():
    "make test collects these files alone a second time."
    import conftest

    (files,) = re.findall(r"^ALONE := (.+?) #", (ROOT / "Makefile").read_text(), re.M)
    by_nodes = {
        p.name
        for p in (ROOT / "tests").glob("test_*.py")
        if re.search(r"^def \w+\([^)]*\bnodes\b", p.read_text(), re.M)
    }
    assert {Path(f).name for f in files.split()} == {name.partition("::")[0] for name in conftest.ALONE} | by_nodes


def test_a_release_is_the_versions(tmp_path):
    for name in ("Makefile", "xraypneu/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "dist").mkdir()
    for ref in ("v0.0.0", "main; echo oops"):
        make = ["make", "-s", "dist", f"VENV={VENV}", "-o", str(VENV / ".ready")]
        done = run(make, tmp_path, check=False, GITHUB_REF_TYPE="tag", GITHUB_REF_NAME=ref)
        assert done.returncode and f"tag {ref} is not v and the version" in done.out and "\noops" not in done.out
        assert (tmp_path / "dist").exists()


# --- make


@pytest.fixture
def quiet_make(tmp_path):
    "The Makefile with an environment whose programs only say what they are given."
    for name in ("Makefile", "settings.ini", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "locks", tmp_path / "locks")
    (tmp_path / "venv/bin").mkdir(parents=True)
    for name in ("python", "dvc", "nbdev_clean", "nbdev_export", "jupyter"):
        executable(tmp_path / "venv/bin" / name, '#!/bin/sh\nfor a; do printf "[%s]" "$a"; done; echo\n')
    (tmp_path / "venv/.ready").touch()
    return lambda *args, **env: run(["make", "VENV=venv", *args], tmp_path, check=False, **env)


def test_a_name_that_the_shell_or_make_would_run_is_a_name(quiet_make, tmp_path):
    name = "a`touch one` $(touch two) $(shell touch three) \"q' b"
    done = quiet_make("run", f"DATA={name}", "SET=train.epochs=1 x=`touch${IFS}four`")
    assert done.returncode == 0 and f"[data.path={name}][train.epochs=1][x=`touch${{IFS}}four`]" in done.out, done.out
    assert name in quiet_make("verify", f"DATA={name}").out
    for empty in ("DATA=", "SET=", "SET= "):  # of a variable that is not set; before, SET= changed nothing, silently
        done = quiet_make("run", empty)
        assert done.returncode and f"{empty[:4].strip('=')}= names nothing" in done.out and "[run]" not in done.out
    assert "[--key][]" in quiet_make("ship", "KEY=").out
    assert not [n for n in ("one", "two", "three", "four") if (tmp_path / n).exists()]


def test_the_model_of_the_environment_is_served(quiet_make, tmp_path):
    "As serve.ipynb has it; before, make emptied the variable, and the shipped model was served."
    python = tmp_path / "venv/bin/python"
    python.write_text('#!/bin/sh\nfor a; do printf "[%s]" "$a"; done; echo "model [$XRAYPNEU_MODEL]"\n')
    assert "[app]model [my/bundle]" in quiet_make("app", XRAYPNEU_MODEL="my/bundle").out
    # by the command, which refuses what is no bundle; before, the server started, and each of its pages failed
    assert "[app][--bundle=other][--port=8900]" in quiet_make("app", "MODEL=other", "PORT=8900").out
    done = quiet_make("app", "MODEL=")  # of a variable that is not set: before, the shipped model
    assert done.returncode and "MODEL= names nothing" in done.out and "model [" not in done.out


def test_runs_that_wait_are_sent_before_one_is_promoted_and_fail_the_job(quiet_make, tmp_path):
    "A model that the store doesn't have yet is no candidate there, and an older one would be compared."
    program = tmp_path / "venv/bin/python"
    program.write_text('#!/bin/sh\necho "$3"; [ "$3" = promote ]\n')  # the store doesn't answer `sync`
    assert quiet_make("promote").out.split() == ["sync", "promote"]
    assert quiet_make("sent").returncode


def test_export_empties_notebooks_that_show_films(tmp_path):
    "A stage's notebook that was run by hand passed `make sync`: into git, the wheel, and the pages of `make docs`."
    names = "nbs/pipeline/eda.ipynb", "nbs/app/dashboard.ipynb"
    for name in names:
        book = json.loads((ROOT / name).read_text())
        code = next(c for c in book["cells"] if c["cell_type"] == "code")
        film = {"output_type": "display_data", "data": {"image/png": "aaaa"}, "metadata": {}}
        code |= {"outputs": [film], "execution_count": 1}
        write_file(tmp_path / name, json.dumps(book))
    lines = run(["make", "-n", "-o", ".venv/.ready", "export"], ROOT).out.splitlines()
    clean = next(line for line in lines if "--clear-output" in line)
    run(["sh", "-c", clean], tmp_path, PATH=f"{VENV / 'bin'}:{os.environ['PATH']}")
    for name in names:
        cells = [json.loads((folder / name).read_text())["cells"] for folder in (tmp_path, ROOT)]
        assert cells[0] == cells[1]


def test_clean_keeps_what_was_not_sent_yet(quiet_make, tmp_path):
    "Runs that wait for their MLflow server are nowhere else, and neither are the trials of a search."
    for name in ("journal/run/journal.jsonl", "tools/.ready", "train/state", "ci/notice", "stages/eda.stage.lock"):
        write_file(tmp_path / ".cache" / name, "")
    for name in ("models/bundle/model.onnx", "models/tune/studies.db", ".cache/tune/tune/00001/state"):
        write_file(tmp_path / name, "")
    assert quiet_make("clean").returncode == 0
    assert {p.name for p in (tmp_path / ".cache").iterdir()} == {"journal", "stages", "tools", "tune"}
    assert (tmp_path / ".cache/journal/run/journal.jsonl").is_file()
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["tune"]
    assert (tmp_path / "models/tune/studies.db").is_file()
    shutil.rmtree(tmp_path / ".cache")
    assert quiet_make("clean").returncode == 0


def test_clean_deletes_what_the_stages_write_and_nothing_else(quiet_make, tmp_path):
    "Before, all of reports, and all of models but the studies: notes and models that somebody kept there."
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].values()
    outs = [o for stage in stages for key in ("outs", "metrics") for o in stage.get(key, [])]
    written = [o if isinstance(o, str) else next(iter(o)) for o in outs]
    for name in (*written, "reports/report.md", "reports/promotion.json"):
        write_file(tmp_path / name / "x" if "." not in name else tmp_path / name, "")
    write_file(tmp_path / "reports/.evaluate.ipynb.0123456789ab.tmp", "")
    write_file(tmp_path / "models/.bundle.new-abc/model.onnx", "")
    mine = ("reports/notes.md", "reports/paper/table.csv", "models/signed/bundle.json", "models/run 1.json")
    for name in mine:
        write_file(tmp_path / name, "")
    assert quiet_make("clean").returncode == 0
    left = [p for folder in ("data", "reports", "models") for p in (tmp_path / folder).rglob("*") if p.is_file()]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in left) == sorted(mine)
    for name in ("reports", "models"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / name).mkdir()
    assert quiet_make("clean").returncode == 0
    assert not (tmp_path / "reports").exists()


def test_clean_waits_for_a_stage_or_dvc_at_work(quiet_make, tmp_path):
    "Before, it deleted a training's state and data, and the lock, so that a second one could begin beside it."
    executable(tmp_path / "venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    write_file(tmp_path / "dvc.yaml", "")
    write_file(tmp_path / "data/prepared/images.npy", "")
    lock = tmp_path / ".cache/stages/train.stage.lock"
    with process.alone(lock, "Stage train"):
        done = quiet_make("clean")
    assert done.returncode and f"Stage train is already running here (process {os.getpid()})" in done.out
    assert lock.is_file() and (tmp_path / "data/prepared/images.npy").is_file()


def test_clean_deletes_no_films_in_the_sample_s_folder(quiet_make, tmp_path):
    executable(tmp_path / "venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    write_file(tmp_path / "dvc.yaml", "stages: {sample: {outs: [data/sample]}}")
    film = write_file(tmp_path / "data/sample/NORMAL/a.png", "")
    done = quiet_make("clean")
    assert done.returncode and "data/sample is the synthetic sample's" in done.out and film.exists()


def test_git_takes_the_names_of_data_sets_and_not_the_data(tmp_path):
    "`dvc add data/chest_xray` refuses a name that git ignores."
    shutil.copy(ROOT / ".gitignore", tmp_path)
    run(["git", "init", "-q"], tmp_path)
    taken = ["data/chest_xray.dvc", "data/.gitignore"]
    left = [
        "data/chest_xray/NORMAL/a.png",
        "data/sample",
        "data/prepared/x.dvc",
        "data/chest.zip",
        "data/.x.download/a",
        "mlflow-team.db",
        "mlflow-team/1/run/artifacts/evaluate/predictions.csv",
        "mlruns/1/run/artifacts/evaluate/predictions.csv",
    ]
    for name in (*taken, *left):
        write_file(tmp_path / name, "")
    found = run(["git", "status", "--porcelain", "--untracked-files=all"], tmp_path).out.split()[1::2]
    assert sorted(found) == sorted([".gitignore", *taken])


def test_dvc_sees_a_data_set_in_data(tmp_path):
    "Else `dvc push` says that all is up to date, and the remote gets no film."
    from dvc.repo import Repo

    run(["git", "init", "-q"], tmp_path)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    write_file(tmp_path / "data/chest_xray/NORMAL/a.png", "a film")
    with Repo.init(str(tmp_path)) as repo:
        repo.add(str(tmp_path / "data/chest_xray"))
    with Repo(str(tmp_path)) as repo:
        assert [out.fs_path for out in repo.index.outs] == [str(tmp_path / "data/chest_xray")]


def test_a_clone_has_the_lines_that_git_stores(tmp_path):
    "As Git for Windows is set up, in WSL too: no script starts with a carriage return in its first line."
    for name in (".gitattributes", ".ci/pull"):
        write_file(tmp_path / "mine" / name, (ROOT / name).read_bytes())
    commit_all(tmp_path / "mine")
    run(["git", "-c", "core.autocrlf=true", "clone", "-q", "mine", "yours"], tmp_path)
    assert (tmp_path / "yours/.ci/pull").read_bytes() == (ROOT / ".ci/pull").read_bytes()


def test_a_hook_s_git_settings_do_not_reach_the_tests(tmp_path):
    "In a hook of a linked worktree git sets GIT_DIR: `git init` and the commits of tests would be the developer's."
    write_file(tmp_path / "test_it.py", "import os\n\n\ndef test_it():\n    assert 'GIT_DIR' not in os.environ\n")
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "bench")])
    run(command, tmp_path, PYTHONPATH=paths, GIT_DIR=str(tmp_path / "none"))


def test_sync_in_a_folder_with_a_blank_in_its_name(quiet_make, tmp_path):
    project = tmp_path / "my films"
    project.mkdir()
    for name in (".ci", "nbs", "xraypneu", "results"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("Makefile", "settings.ini", "setup.py", "pyproject.toml", "README.md", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    (tmp_path / "venv").rename(project / ".venv")  # its programs change nothing
    done = run(["make", "-s", "sync", "-o", ".venv/.ready"], project, check=False)
    assert done.returncode == 0, done.out


def test_an_environment_that_pip_was_killed_in_is_made_anew(tmp_path):
    "What was half unpacked, and would be taken for installed, is gone when make goes on."
    for name in ("Makefile", "settings.ini", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "locks", tmp_path / "locks")
    # makes environments whose pip is killed at the locks/env.txt, as long as there is a file `kill`
    pip = '#!/bin/sh\ncase "$*" in *env.txt) touch "$(dirname "$0")/half"; [ ! -e kill ] || kill -9 $$;; esac\n'
    executable(
        tmp_path / "maker",
        f'#!/bin/sh\n[ "$3" != --clear ] || {{ shift; rm -rf "$3"; }}\nmkdir -p "$3/bin"\n'
        f'cat >"$3/bin/python" <<\'END\'\n{pip}END\nchmod +x "$3/bin/python"\necho made >>"$3/log"\n',
    )
    (tmp_path / "kill").touch()
    make = ["make", "env", "PYTHON=./maker", "VENV=venv"]
    assert run(make, tmp_path, check=False).returncode and not (tmp_path / "venv/.ready").exists()
    (tmp_path / "kill").unlink()
    (tmp_path / "venv/left").touch()
    run(make, tmp_path)
    assert (tmp_path / "venv/.ready").exists() and not (tmp_path / "venv/left").exists()
    (tmp_path / "locks/env.txt").touch()  # an environment that was finished is only brought up to date
    (tmp_path / "venv/kept").touch()
    run(make, tmp_path)
    assert (tmp_path / "venv/kept").exists()


def test_dvc_s_state_is_out_of_others_reach_and_its_user_has_a_name(tmp_path):
    "Its default is a folder that all users of the machine may read and write, with names of films."
    shutil.copy(ROOT / "Makefile", tmp_path)
    run([sys.executable, "-m", "venv", "--without-pip", "venv"], tmp_path)
    (tmp_path / "venv/.ready").touch()
    run(["make", "env", "VENV=venv", "--assume-old=venv/.ready"], tmp_path)
    state = tmp_path / "venv/var/dvc"
    assert not state.stat().st_mode & 0o007
    ask = [str(tmp_path / "venv/bin/python"), "-c", "import os; print(os.environ['DVC_SITE_CACHE_DIR'])"]
    assert run(ask, tmp_path, DVC_SITE_CACHE_DIR="/mine").out.strip() == "/mine"  # who has chosen one keeps it
    env = {k: v for k, v in os.environ.items() if k != "DVC_SITE_CACHE_DIR"}
    assert subprocess.run(ask, env=env, capture_output=True, text=True).stdout.strip() == str(state)
    made = (ROOT / "Makefile").read_text().split("\n$(READY):", 1)[1].split("\n\n", 1)[0]
    assert "$(private_state)" in made  # make run makes the environment, too
    (start,) = (tmp_path / "venv").rglob("dvc_state.pth")
    nameless = "import os, pwd; pwd.getpwuid = {}.__getitem__; os.environ.pop('LOGNAME', 0); os.environ.pop('USER', 0)"
    ask[2] = f"{nameless}; exec(open({str(start)!r}).read()); print(os.environ['LOGNAME'] == str(os.getuid()))"
    assert run(ask, tmp_path).out.strip() == "True"  # DVC ends for a user without a name, as of docker run --user 1000
