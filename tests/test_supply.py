"""The supply chain: locks with hashes, the audit's policy, the image's base, the SBOM, the signature of a release."""

import base64
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import zipfile
from contextlib import contextmanager
from datetime import date
from http.server import ThreadingHTTPServer

import pytest
from conftest import ROOT, Answers, executable, giving, run, script, serving
from packaging.requirements import Requirement

from xraypneu.files import write_file
from xraypneu.model.signature import sign

LOCKS = {p.stem: p.read_text() for p in sorted((ROOT / "locks").glob("*.txt"))}
ENTRY = re.compile(r"([a-z0-9-]+)==([^\s;\\]+)( ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def versions(text):
    return {m[1]: m[2] for m in ENTRY.finditer(text)}


# --- locks


def test_a_lock_is_versions_and_hashes_and_nothing_else():
    "No index, no folder of wheels, no address: every machine takes the same files from wherever its pip looks."
    assert set(LOCKS) == {"env", "app", "cluster", "sign", "bench", "build", "tools"}
    for name, text in LOCKS.items():
        first, rest = text.split("\n", 1)
        assert first.startswith("# ") and first.endswith("written by make constraints")
        assert ENTRY.sub("", rest) == "", name


def test_the_locks_hold_what_settings_ini_asks_for():
    lock = script("lock")
    groups = lock.settings()
    for name, parts in lock.LOCKS.items():
        locked = versions(LOCKS[name])
        for requirement in (Requirement(r) for part in parts for r in groups[part]):
            canonical = re.sub(r"[-_.]+", "-", requirement.name).lower()
            assert canonical in locked and requirement.specifier.contains(locked[canonical]), (
                f"{requirement} in locks/{name}.txt: run make constraints"
            )


def test_one_version_of_a_package_everywhere():
    "constraints.txt, for those who install by hand, and every lock agree; the tools have an environment of their own."
    listed = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    for name in set(LOCKS) - {"tools", "build"}:
        assert versions(LOCKS[name]).items() <= listed.items(), name
    build, env = versions(LOCKS["build"]), versions(LOCKS["env"])
    assert {"pip", "setuptools", "wheel"} <= build.keys() and all(env[k] == build[k] for k in ("setuptools", "wheel"))


def test_nothing_is_installed_without_its_hash():
    "Every call of pip in Makefile and Dockerfile is by a lock, or takes the project alone, built with those locked."
    calls = [
        line
        for f in ("Makefile", "deploy/Dockerfile")
        for line in (ROOT / f).read_text().splitlines()
        if "pip install" in line and not line.startswith("#")
    ]
    calls += [line for line in (ROOT / "Makefile").read_text().splitlines() if "$(LOCKED)" in line]
    assert len(calls) >= 10
    for call in calls:
        assert "--require-hashes" in call or "$(LOCKED) locks/" in call or "--no-deps --no-build-isolation" in call, (
            call
        )
    assert "LOCKED := -m pip install --require-hashes --no-build-isolation" in (ROOT / "Makefile").read_text()
    assert "python -m build --no-isolation" in (ROOT / "Makefile").read_text()  # else it downloads a setuptools


def wheel(folder, says):
    "A wheel of one module."
    file, info = folder / "tiny-1.0-py3-none-any.whl", "tiny-1.0.dist-info"
    digest = base64.urlsafe_b64encode(hashlib.sha256(says.encode()).digest()).rstrip(b"=").decode()
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("tiny.py", says)
        z.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", f"tiny.py,sha256={digest},\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file


def test_a_file_that_was_exchanged_is_not_installed(tmp_path):
    "By the Makefile's own way of calling pip: the same name and version, other bytes."
    recipe = re.search(r"^LOCKED := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    honest = wheel(tmp_path, "x = 1")
    (tmp_path / "lock.txt").write_text(
        f"tiny==1.0 \\\n    --hash=sha256:{hashlib.sha256(honest.read_bytes()).hexdigest()}\n"
    )
    call = [
        sys.executable,
        *recipe,
        str(tmp_path / "lock.txt"),
        "--no-index",
        "--find-links",
        str(tmp_path),
        "--target",
    ]
    run([*call, str(tmp_path / "first")], tmp_path)
    wheel(tmp_path, "x = 2")
    done = run([*call, str(tmp_path / "second")], tmp_path, check=False)
    assert done.returncode and (tmp_path / "first/tiny.py").exists() and not (tmp_path / "second").exists()


def test_an_outage_of_the_registry(tmp_path, monkeypatch):
    "Copies of the last environments serve, if the locks are the same and no file differs from its wheel's."
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site, lock = ".venv/lib/python3.11/site-packages", "tiny==1.0 \\\n    --hash=sha256:0\n"
    for name in ("first", "second"):
        for env in (".venv", ".cache/tools"):
            (tmp_path / name / env / "bin").mkdir(parents=True)
            (tmp_path / name / env / "pyvenv.cfg").write_text("")
        files = {
            "locks/build.txt": "",
            "locks/env.txt": lock,
            "locks/tools.txt": "",
            "Makefile": "env tools:\n\t@echo $@\n",
        }
        for file, text in files.items():
            write_file(tmp_path / name / file, text.encode())
        write_file(tmp_path / name / ".ci/environment", (ROOT / ".ci/environment").read_bytes())
    call = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--target",
        site,
        str(wheel(tmp_path, "x = 1")),
    ]
    run(call, tmp_path / "first")
    (tmp_path / "first/.venv/bin/tiny").write_text(f"#!{tmp_path}/first/.venv/bin/python")
    command = [sys.executable, ".ci/environment"]
    run([*command, "--keep"], tmp_path / "first")
    done = run(command, tmp_path / "second")
    assert done.stdout.startswith("NOT A FRESH ENVIRONMENT") and done.stdout.endswith("env\ntools\n")
    assert (tmp_path / "second" / site / "tiny.py").read_text() == "x = 1"
    assert (tmp_path / "second/.venv/bin/tiny").read_text() == f"#!{tmp_path}/second/.venv/bin/python"
    module = next((tmp_path / "cache").rglob("tiny.py"))
    module.unlink()
    module.write_text("x = 2")
    done = run(command, tmp_path / "second", check=False)
    assert done.returncode == 1 and "tiny.py is not what its wheel brought" in done.stdout
    record = next((tmp_path / "cache").rglob("RECORD"))
    record.unlink()
    done = run(command, tmp_path / "second", check=False)
    assert done.returncode == 1 and "tiny has no list of its files" in done.stdout, "nothing would be compared"
    (tmp_path / "second/locks/env.txt").write_text(lock.replace("1.0", "1.1"))
    assert run([*command], tmp_path / "second", check=False).stdout == "env\ntools\n", "other locks: no copy is theirs"


def test_a_mirror_of_the_build_machine_is_asked(tmp_path, monkeypatch):
    "Before, pypi.org was asked whatever PIP_INDEX_URL said, and a build behind a mirror took copies that were old."
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "PIP_PROXY")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    (tmp_path / "simple/pip").mkdir(parents=True)
    (tmp_path / "simple/pip/index.html").write_text('<a href="pip-1.0-py3-none-any.whl">pip-1.0-py3-none-any.whl</a>')
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "simple/pip/index.html"))  # says nothing about the index
    environment = script("environment")
    with giving(tmp_path) as mirror:
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {mirror}/simple\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        assert environment.reachable()  # before, a file of settings counted for nothing
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{mirror}/simple")
        assert environment.reachable()
    assert not environment.reachable()


def test_copies_that_another_run_makes_stay(tmp_path, monkeypatch):
    "Two jobs on one machine: each removed what the other was copying."
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("build", "env", "tools"):
        write_file(tmp_path / f"locks/{name}.txt", "")
    for name in (".venv", ".cache/tools"):
        write_file(tmp_path / name / "pyvenv.cfg", "")
    environment = script("environment")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    copies, name = environment.kept().parent, environment.kept().name
    dead = 2**22 + 1  # more than a pid can be
    names = [f"{name}.{os.getppid()}.part", f"{name}.{dead}.part", f"{name}.part", "of other locks"]
    for other in names:
        (copies / other).mkdir(parents=True)
    environment.keep()
    assert {p.name for p in copies.iterdir()} == {name, names[0]}
    assert (environment.kept() / environment.PREFIX).read_text() == str(tmp_path)
    # another run has kept the same locks just before
    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda p, **kw: p == environment.kept() or remove(p, **kw))
    environment.keep()
    assert {p.name for p in copies.iterdir()} == {name, names[0]}


def test_the_image_is_made_from_one_base_by_digest():
    text = (ROOT / "deploy/Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.M)
    stages = {name for _, name in bases if name}
    outside = [image for image, _ in bases if image not in stages]
    assert len(outside) == 1 and re.fullmatch(r"python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", outside[0])
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (?!--from)(\S+) ", text, re.M):
        assert source == "." or any(line == f"!{source}" for line in ignored), source


# --- audit


@contextmanager
def osv(vulnerable, records):
    "A service that answers as OSV does: package name to its vulnerabilities, and id to record."

    class Answer(Answers):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/query" and asked["package"]["ecosystem"] == "PyPI"
            found = vulnerable.get(asked["package"]["name"])
            self.say(200, body=json.dumps({"vulns": found} if found else {}).encode())

        def do_GET(self):
            found = records.get(self.path.removeprefix("/v1/vulns/"))
            answer = found or {"code": 5, "message": "Bug not found."}
            self.say(404 if found is None else 200, body=json.dumps(answer).encode())

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Answer)) as url:
        yield f"{url}/v1"


# As pip-audit 2.10 writes it, and as OSV keeps it: PyPI's own record has no severity, its alias at GitHub has.
REPORT = {
    "dependencies": [
        {
            "name": "tiny",
            "version": "1.0",
            "vulns": [
                {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": ["CVE-2026-1", "GHSA-aaaa-bbbb-cccc"]},
                {"id": "PYSEC-2026-2", "fix_versions": [], "aliases": []},
            ],
        },
        {"name": "small", "version": "2.0", "vulns": []},
        {"name": "odd", "skip_reason": "not on the index"},
    ],
    "fixes": [],
}
GITHUB = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "database_specific": {"severity": "HIGH", "cwe_ids": ["CWE-22"]},
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}],
}


def test_the_policy_on_a_recorded_report():
    audit = script("audit")
    records = {"PYSEC-2026-1": {}, "GHSA-aaaa-bbbb-cccc": GITHUB}
    known = lambda id: records.get(id, {})  # noqa: E731
    accepted = {"GHSA-aaaa-bbbb-cccc": {"id": "GHSA-aaaa-bbbb-cccc", "reason": "not used", "until": date(2026, 6, 1)}}
    first, second = audit.judged(audit.found(REPORT), known, {}, date(2026, 1, 1))
    assert first == ("tiny", "1.0", "PYSEC-2026-1", "HIGH", "1.1", "fails")
    assert second[3:] == ("UNKNOWN", "no version", "fails")  # nobody knows how bad it is
    assert audit.judged(audit.found(REPORT), known, accepted, date(2026, 6, 1))[0][-1] == "accepted until 2026-06-01"
    assert audit.judged(audit.found(REPORT), known, accepted, date(2026, 6, 2))[0][-1] == "fails"
    records["GHSA-aaaa-bbbb-cccc"] = {"database_specific": {"severity": "MODERATE"}}
    assert audit.judged(audit.found(REPORT), known, {}, date(2026, 1, 1))[0][3:] == ("MODERATE", "1.1", "below high")
    assert audit.acceptances(ROOT / ".ci/audit.toml") == {}


@pytest.mark.parametrize("severity, status", [("HIGH", 1), ("CRITICAL", 1), ("LOW", 0), (None, 1)])
def test_the_audit_of_a_report(severity, status, tmp_path):
    "A program in pip-audit's place that writes the recorded report; real ones are asked for severities."
    tool = tmp_path / "pip-audit"
    found = {
        "dependencies": [{**REPORT["dependencies"][0], "vulns": REPORT["dependencies"][0]["vulns"][:1]}],
        "fixes": [],
    }
    tool.write_text(
        f"#!{sys.executable}\nimport sys\nto = sys.argv[sys.argv.index('--output') + 1]\n"
        f"open(to, 'w').write({json.dumps(json.dumps(found))})\nsys.exit(1)\n"
    )
    tool.chmod(0o755)
    records = {"GHSA-aaaa-bbbb-cccc": {"database_specific": {"severity": severity}}} if severity else {}
    with osv({}, records) as service:
        done = run(
            [sys.executable, ".ci/audit", "--pip-audit", str(tool), "--service", service, "--lock", "locks/build.txt"],
            ROOT,
            check=False,
            GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
        )
    assert done.returncode == status and "PYSEC-2026-1" in done.out
    assert "| PYSEC-2026-1 |" in (tmp_path / "summary.md").read_text()


def test_an_audit_that_could_not_be_made_is_no_pass(tmp_path):
    tool = tmp_path / "pip-audit"
    executable(tool, "#!/bin/sh\necho no network\nexit 1\n")
    done = run([sys.executable, ".ci/audit", "--pip-audit", str(tool), "--lock", "locks/build.txt"], ROOT, check=False)
    assert done.returncode == 2 and "no verdict" in done.out and "no network" in done.out


TOOLS = ROOT / ".cache/tools/bin"
needs_tools = pytest.mark.skipif(
    not TOOLS.exists() and not os.environ.get("CI"), reason="no supply-chain tools here: make tools installs them"
)


@needs_tools
def test_pip_audit_itself_against_a_service(tmp_path):
    "The locked pip-audit on a lock of ours, asking a service of ours: its arguments, its report and the policy in one."
    vulnerable = {
        "wheel": [
            {
                "id": "PYSEC-2026-1",
                "aliases": ["GHSA-aaaa-bbbb-cccc"],
                "summary": "bad",
                "published": "2026-01-01T00:00:00Z",
                "affected": [
                    {
                        "package": {"name": "wheel", "ecosystem": "PyPI"},
                        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
                    }
                ],
            }
        ]
    }
    call = [str(TOOLS / "python"), ".ci/audit", "--lock", "locks/build.txt", "--service"]
    with osv(vulnerable, {"GHSA-aaaa-bbbb-cccc": {"database_specific": {"severity": "HIGH"}}}) as service:
        done = run([*call, service], ROOT, check=False)
    found = re.search(r"\| wheel \| [\d.]+ \| PYSEC-2026-1 \| HIGH \| 99.0 \|", done.out)
    assert done.returncode == 1 and found, done.out  # the other severities: test_the_audit_of_a_report
    with osv({}, {}) as service:
        assert "No known vulnerability" in run([*call, service], ROOT).out
    done = run([*call, "http://127.0.0.1:9/v1"], ROOT, check=False)
    assert done.returncode == 2 and "no verdict" in done.out


# --- the clone as a package


def test_a_clone_does_not_hide_the_package_from_the_folder_around_it(tmp_path):
    "`git clone` names the folder xraypneu, too: beside it, Python took that for a package without content."
    clone, site = tmp_path / "xraypneu", tmp_path / "site"
    clone.mkdir()
    for name in ("setup.py", "settings.ini", "README.md", "pyproject.toml", "LICENSE", "NOTICE", "xraypneu"):
        (clone / name).symlink_to(ROOT / name)
    build = "from setuptools.build_meta import build_editable; print(build_editable('..'))"  # as pip does
    name = run([sys.executable, "-c", build], clone).out.splitlines()[-1]
    zipfile.ZipFile(tmp_path / name).extractall(site)
    # without this environment's own packages, and so without its xraypneu
    found = f"import site; site.addsitedir({str(site)!r}); from xraypneu import __version__, __file__ as f; print(f)"
    done = run([sys.executable, "-S", "-c", found], tmp_path, PYTHONPATH="")
    assert done.out.strip() == str(clone / "xraypneu/__init__.py")


# --- SBOM


@needs_tools
def test_the_sbom_lists_what_is_installed(tmp_path):
    "By the Makefile's command line, of the tools' own small environment; no file of this machine is in it."
    recipe = re.search(
        r"^\t\$\(TOOLS\)/bin/cyclonedx-py (.+) build/release/sbom.cdx.json \$\(BIN\)/python$",
        (ROOT / "Makefile").read_text(),
        re.M,
    )[1]
    file = tmp_path / "sbom.cdx.json"
    run([str(TOOLS / "cyclonedx-py"), *recipe.split(), str(file), str(TOOLS / "python")], ROOT)
    sbom = json.loads(file.read_text())
    seen = {re.sub(r"[-_.]+", "-", c["name"]).lower(): c["version"] for c in sbom["components"]}
    locked = versions(LOCKS["tools"])
    assert sbom["bomFormat"] == "CycloneDX" and seen.keys() <= locked.keys() | versions(LOCKS["build"]).keys()
    assert {"uv", "pip-audit", "cyclonedx-bom"} <= seen.keys()
    assert all(seen[k] == locked[k] for k in seen if k in locked)
    assert str(ROOT) not in file.read_text() and len(sbom["dependencies"]) >= len(seen)


# --- signatures


def test_a_signed_bundle_is_checked_wherever_it_is_used(tmp_path):
    "As the release signs it and a server uses it: one that was changed afterwards is refused."
    key, public, folder = tmp_path / "key.pem", tmp_path / "key.pub", tmp_path / "bundle"
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key)], tmp_path)
    run(["openssl", "ec", "-in", str(key), "-pubout", "-out", str(public)], tmp_path)
    shutil.copytree(ROOT / "xraypneu/shipped", folder)
    call = [sys.executable, "-m", "xraypneu.model.signature"]
    done = run([*call, "sign", str(folder)], ROOT, check=False)
    assert done.returncode == 1 and "no key is given" in done.out and not (folder / "model.sig").exists()
    run([*call, "sign", str(folder), "--key", str(key)], ROOT)
    assert "verified" in run([*call, "verify", str(folder)], ROOT, XRAYPNEU_SIGNER_KEY=str(public)).out
    # nobody said whose it should be
    assert "was not checked" in run([*call, "verify", str(folder)], ROOT, check=False).out
    serving = {"XRAYPNEU_SIGNER_KEY": str(public), "XRAYPNEU_SIGNATURE": "required"}
    info = [sys.executable, "-m", "xraypneu.cli", "info"]
    assert run([*info, "--bundle", str(folder)], ROOT, **serving).returncode == 0
    assert run(info, ROOT, **serving).returncode == 0  # the package's own
    with open(folder / "model.onnx", "ab") as f:
        f.write(b"!")
    done = run([*info, "--bundle", str(folder)], ROOT, check=False, **serving)
    assert done.returncode and "is refused" in done.out and "Traceback" not in done.out


def test_a_key_beside_the_proxy_s_settings_is_not_packed(tmp_path):
    for name in ("setup.py", "settings.ini", "README.md", "LICENSE", "MANIFEST.in", "xraypneu/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("deploy", "locks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for name in ("deploy/xrays.key", "deploy/.htpasswd", "locks/.env"):
        (tmp_path / name).write_text("secret")
    run([sys.executable, "setup.py", "-q", "sdist"], tmp_path)
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {n.partition("/")[2] for n in tar.getnames()}
    assert not packed & {"deploy/xrays.key", "deploy/.htpasswd", "locks/.env"}
    git = run(["git", "ls-files", "deploy", "locks"], ROOT).out.split()
    assert set(git) <= packed


def test_the_image_s_files_can_be_read_by_its_user():
    "A clone's own modes, of umask 077 perhaps, don't reach the last stage; without voila.py there would be no token."
    build, last = re.split(r"^FROM python\n", (ROOT / "deploy/Dockerfile").read_text(), flags=re.M)
    copied = re.findall(r"^COPY --from=build (\S+)", last, re.M)
    assert len(copied) == len(re.findall("^(COPY|ADD) ", last, re.M)) and "USER 10001" in last
    readable = re.search(r"^COPY \. \.\n(?:#.*\n)*RUN chmod -R a\+rX (.*)$", build, re.M)[1].split()
    assert all(c == "/venv" or c.split("/")[2] in readable for c in copied)


def test_a_bundle_is_signed_from_within_and_checked_behind_a_link(tmp_path, monkeypatch):
    "As `current` leads to one of several versions."
    from xraypneu.model.signature import Trust, check_signature

    key, public, folder = tmp_path / "key.pem", tmp_path / "key.pub", tmp_path / "v1"
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key)], tmp_path)
    run(["openssl", "ec", "-in", str(key), "-pubout", "-out", str(public)], tmp_path)
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    monkeypatch.chdir(folder)
    sign(".", key)
    (tmp_path / "current").symlink_to("v1")
    assert {check_signature(p, Trust(key=str(public))) for p in (".", tmp_path / "current")} == {"verified"}
    sign(tmp_path / "current", key)
    assert check_signature(folder, Trust(key=str(public))) == "verified"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "key.pem", "key.pub", "v1"]


def test_a_bundle_that_is_exchanged_after_its_signature_was_checked(tmp_path, monkeypatch):
    "Whoever can write to the folder waits for the check to end."
    import model_signing

    from xraypneu.model.bundle import BundleError, load_bundle, write_bundle

    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(key)], tmp_path)
    run(["openssl", "ec", "-in", str(key), "-pubout", "-out", str(public)], tmp_path)
    shipped = load_bundle()
    info = {
        k: v for k, v in shipped.info.items() if k not in ("kind", "schema", "model_sha256", "parts_sha256", "int8")
    }
    signed = write_bundle(tmp_path / "signed", shipped.model, info)
    sign(signed.folder, key)
    forged = write_bundle(tmp_path / "forged", shipped.model, {**info, "threshold": 0.99})
    monkeypatch.setenv("XRAYPNEU_SIGNER_KEY", str(public))
    assert load_bundle(signed.folder).threshold == signed.threshold
    good, verify = (signed.folder / "bundle.json").read_bytes(), model_signing.verifying.Config.verify

    def exchanging(config, folder, signature):
        verify(config, folder, signature)
        shutil.copy(forged.folder / "bundle.json", folder)

    monkeypatch.setattr(model_signing.verifying.Config, "verify", exchanging)
    assert load_bundle(signed.folder).threshold == signed.threshold  # what was read before

    def mending(config, folder, signature):
        (folder / "bundle.json").write_bytes(good)
        verify(config, folder, signature)

    monkeypatch.setattr(model_signing.verifying.Config, "verify", mending)
    with pytest.raises(BundleError, match="was changed while it was read"):
        load_bundle(signed.folder)


def test_a_signature_is_checked_by_no_code_that_came_with_the_bundle(tmp_path):
    "As SECURITY.md has it, in the folder where an archive was unpacked that brings an xraypneu of its own."
    theirs = tmp_path / "xraypneu/model"
    theirs.mkdir(parents=True)
    (tmp_path / "bundle").mkdir()
    for name in ("xraypneu/__init__.py", "xraypneu/model/__init__.py", "xraypneu/model/signature.py"):
        (tmp_path / name).write_text("print('bundle: verified')\n")
    said = re.search(r"python .*model\.signature verify bundle", (ROOT / "SECURITY.md").read_text())[0]
    done = run([sys.executable, *said.split()[1:]], tmp_path, check=False, PYTHONPATH=str(ROOT))
    assert done.returncode == 1 and "bundle: verified" not in done.out
