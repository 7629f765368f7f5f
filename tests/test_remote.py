"""Push and pull against real servers on 127.0.0.1: nginx, S3, SSH, a folder. Each failure has its own answer."""

import asyncio
import base64
import gzip
import hashlib
import importlib
import io
import json
import os
import queue
import shlex
import shutil
import socket
import socketserver
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from unittest.mock import Mock

import pytest
from conftest import ROOT, Answers, run, serving
from served import free_port, moto, wait_for
from test_fetch import slow  # noqa: F401

from xraypneu import cli
from xraypneu.ops import doctor, remote
from xraypneu.ops.remote import CODES, RemoteError, configure, current, exposed, probe, restore

SECRET = "s3cret 50% #'1\",2"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
needs_nginx = pytest.mark.skipif(
    not NGINX and not os.environ.get("CI"), reason="nginx is not installed: apt-get install nginx"
)

DVC_YAML = """stages:
  count:
    cmd: python -c "open('count.txt', 'w').write(str(len(open('films/a.txt').read())))"
    deps: [films]
    outs: [count.txt]
"""


def needs(*modules):
    "Skip where a package is not installed, except in CI."
    for m in modules:
        importlib.import_module(m) if os.environ.get("CI") else pytest.importorskip(m)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    "Nothing of the developer's own remotes."
    for name in [n for n in os.environ if n.startswith(("AWS_", "XRAYPNEU_REMOTE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    "A project with a folder of two files under DVC and a stage that counts; run once."
    folder = tmp_path_factory.mktemp("remote") / "origin"
    (folder / "films").mkdir(parents=True)
    for name, text in (("a", "one film"), ("b", "another film")):
        (folder / f"films/{name}.txt").write_text(text)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    for cmd in (
        ["git", "init", "-q", "-b", "main"],
        ["dvc", "init", "-q"],
        ["dvc", "add", "-q", "films"],
        ["dvc", "repro", "-q"],
        ["git", "add", "-A"],
        ["git", "commit", "-q", "-m", "data"],
    ):
        run(cmd, folder)
    return folder


@pytest.fixture
def project(origin, tmp_path):
    "A copy of it, cache included."
    return shutil.copytree(origin, tmp_path / "project", symlinks=True)


@pytest.fixture
def clone(origin, tmp_path):
    "A fresh clone, without data."
    run(["git", "clone", "-q", str(origin), str(tmp_path / "clone")], tmp_path)
    return tmp_path / "clone"


def dvc(folder, *words, check=True):
    return run(["dvc", *words], folder, check=check)


def command(folder, *words):
    "Exit status and output of the command `xraypneu` in a project."
    with pytest.MonkeyPatch.context() as m:
        m.chdir(folder)
        return cli.main([*map(str, words)], out := io.StringIO()), out.getvalue()


def round_trip(project, clone, *args, **kw):
    "Push, clone, pull; nothing is left to do, and no secret has got anywhere."
    said = []
    for folder, words in ((project, ["push"]), (clone, ["pull", "--no-run-cache"])):
        made = configure(*args, root=folder, **kw)
        said += [repr(made), dvc(folder, *words, "-v").out]
    answer = probe(root=clone, write=True)
    assert (answer.code, answer.files, answer.missing) == ("ok", 4, ()), answer
    assert answer.reachable and answer.authenticated and answer.can_write, answer
    assert (clone / "films/a.txt").read_text() == "one film" and (clone / "count.txt").read_text() == "8"
    assert "Data and pipelines are up to date" in dvc(clone, "status").out
    assert "Running stage" not in (repro := dvc(clone, "repro").out), repro
    private(clone, repr(answer), *said)


def private(folder, *said, secret=SECRET):
    "The secret is in config.local, which its owner alone may read, and nowhere else."
    file = folder / ".dvc/config.local"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 or secret not in file.read_text()
    assert run(["git", "status", "--porcelain"], folder).out == ""
    tracked = run(["git", "ls-files", "-z"], folder).out.split("\0")
    texts = [*said, *((folder / t).read_text(errors="replace") for t in tracked if t)]
    sent = base64.b64encode(f"ann:{secret}".encode()).decode()
    assert not any(secret in t or sent in t for t in texts)
    git = run(["git", "grep", "-F", "-e", secret, "HEAD"], folder, check=False)
    assert git.returncode == 1, git.out


def failing(folder, code, *fixes, **kw):
    "What probe and doctor say of a remote that fails."
    answer = probe(root=folder, **kw)
    assert answer.code == code, answer
    assert answer.code in CODES and not answer.ok and "\n" not in answer.message
    for words in fixes:
        assert words in answer.fix, answer
    check = doctor.check_remote(folder)
    if not kw:
        assert check.ok is False and check.fix == answer.fix and answer.message in check.found
    private(folder, repr(answer), doctor.report([check]))
    return answer


# --- a folder


def test_folder(project, clone, tmp_path):
    round_trip(project, clone, tmp_path / "store")
    assert "are in sync" in dvc(clone, "status", "-c").out and probe(root=clone).can_write


def test_no_remote_is_not_an_error(clone):
    assert probe(root=clone).code == "no_remote" and current(root=clone) is None
    check = doctor.check_remote(clone)
    assert check.ok is None and "xraypneu remote" in check.fix
    assert doctor.status([check]) == 0


def test_missing_files(project, clone, tmp_path, monkeypatch, capsys):
    store = tmp_path / "store"
    configure(store, root=project)
    configure(store, root=clone)
    failing(project, "not_found", "dvc push")
    store.mkdir()
    (status, said), check = command(project, "remote"), doctor.check_remote(project)
    assert status == 0 and "it is empty: nothing has been pushed yet\n    dvc push -r origin\n" in said
    assert check.ok is None and check.fix == "dvc push -r origin" and doctor.status([check]) == 0
    failing(clone, "missing_files", "dvc push -r origin   # on the machine that has the files")
    dvc(project, "push")
    (store / stored(project)["b.txt"]).unlink()
    assert failing(project, "missing_files", "xraypneu remote --name origin --restore").missing == ("films/b.txt",)
    answer = failing(clone, "missing_files", "--restore", "machine that has the files")
    assert answer.missing == ("films/b.txt",) and "1 of 4" in answer.message
    assert "neither locally nor on remote" in answer.message
    assert probe(root=clone, most=1).ok  # the one file that is looked for is there
    assert dvc(clone, "pull", check=False).returncode != 0
    dvc(project, "push")
    assert probe(root=clone).code == "missing_files"  # DVC takes a folder whose list is there for complete
    monkeypatch.chdir(clone)
    assert cli.main(["remote", "--restore"]) == 1  # it said "0 files copied", and nothing of the file that is missing
    assert "1 of 4" in capsys.readouterr().out
    assert restore(root=clone) == [] and restore(root=project) == ["films/b.txt"]
    assert probe(root=clone).ok
    shutil.rmtree(store)
    failing(project, "not_found", "dvc push -r origin")
    dvc(project, "push")
    assert probe(root=clone).ok


def test_restore_leaves_what_is_damaged(project, tmp_path):
    configure(tmp_path / "store", root=project)
    _, write = on_disk(project / ".dvc/cache")
    write(stored(project)["b.txt"], b"rot")
    (tmp_path / "store").mkdir()
    assert len(restore(root=project)) == 3 and probe(root=project).missing == ("films/b.txt",)


def test_missing_output_of_a_stage(project, clone, tmp_path):
    configure(tmp_path / "store", root=project)
    configure(tmp_path / "store", root=clone)
    dvc(project, "push", "films.dvc")
    assert failing(clone, "missing_files", "dvc repro").missing == ("count.txt",)


def test_folder_without_permission(project, tmp_path):
    configure(tmp_path / "store", root=project)
    dvc(project, "push")
    for folder in (tmp_path / "store").rglob("*"):
        if folder.is_dir():
            folder.chmod(0o555)
    if os.access(folder.parent, os.W_OK):
        pytest.skip("this user may write anywhere")
    assert probe(root=project).can_write is False
    failing(project, "forbidden", write=True)


# --- what configure refuses


@pytest.mark.parametrize("where, password", [("störe", None), ("https://127.0.0.1:9/x", "pä55wörd")])
def test_letters_beyond_ascii(project, tmp_path, where, password):
    "DVC reads its configuration as UTF-8, and would write it as ASCII."
    url = where if password else str(tmp_path / where)
    made = configure(url, user="ann" if password else None, password=password, root=project)
    assert made.url == url and url in dvc(project, "remote", "list").out
    assert doctor.remote._config(project)["remote"]["origin"].get("password") == password
    if not password:
        dvc(project, "push")
        assert probe(root=project).ok


def test_a_home_that_nobody_knows(project):
    assert configure("~nobody-of-that-name/x", root=project).url.endswith("~nobody-of-that-name/x")


def test_secret_only_where_git_ignores_it(project):
    ignore = project / ".dvc/.gitignore"
    text = ignore.read_text()
    ignore.write_text(text.replace("/config.local\n", ""))
    with pytest.raises(RemoteError, match="not ignored"):
        configure("https://host.invalid/x", user="ann", password=SECRET, root=project)
    assert not (project / ".dvc/config.local").exists()
    ignore.write_text(text)
    configure("https://host.invalid/x", user="ann", password=SECRET, root=project)
    run(["git", "add", "-f", ".dvc/config.local"], project)
    with pytest.raises(RemoteError, match="tracked by git"):
        configure(method="PUT", root=project)
    assert exposed(project) == ["remote.origin.password in .dvc/config.local"]
    found = doctor.check_secrets(project)
    assert found.ok is False and SECRET not in doctor.report([found]) and "git rm --cached" in found.fix


@pytest.mark.parametrize(
    "args, words",
    [
        (("https://ann:pw@host.invalid/x",), "address contains a password"),
        (("ftp://host.invalid/x",), "Unsupported URL type"),
        (("https://host.invalid:no/x",), "can't be read"),
        (("s3:///x",), "names no host or bucket"),
        ((), "no address"),
        (("https://host.invalid/x", "origin", None, "pw"), "only one of the two"),
        (("s3://bucket/x", "origin", "key"), "only one of the two"),
        (("https://host.invalid/x", "origin", "ann", "pw€"), "beyond Latin-1"),
        (("https://host.invalid/x", "a b"), "is not a valid remote name"),
        (("https://host.invalid/x", "origin", "ann", "line\nline '''\"\"\""), "Nothing was changed"),
    ],
)
def test_refused(project, args, words):
    configure("/before", "before", root=project)
    before = (project / ".dvc/config.local").read_bytes()
    with pytest.raises(RemoteError, match=words) as e:
        configure(*(args or (None, "new")), root=project)
    assert "pw" not in str(e.value).replace("password", "") and "line" not in str(e.value).replace("line breaks", "")
    assert (project / ".dvc/config.local").read_bytes() == before


def test_environment_and_what_stays(project, monkeypatch):
    (project / ".dvc/config").write_text(
        "[core]\n    remote = team\n['remote \"team\"']\n    url = https://host.invalid/x\n"
    )
    for name, value in (("URL", ""), ("USER", "ann"), ("PASSWORD", SECRET), ("METHOD", "put")):
        monkeypatch.setenv(f"XRAYPNEU_REMOTE_{name}", value)
    made = configure(root=project)
    assert (made.name, made.url, made.user, made.secret) == ("team", "https://host.invalid/x", "ann", True)
    settings = (project / ".dvc/config.local").read_text()
    assert "method = PUT" in settings and "auth = basic" in settings
    for name in ("USER", "PASSWORD", "METHOD"):
        monkeypatch.setenv(f"XRAYPNEU_REMOTE_{name}", "")
    assert configure(read_timeout=30, root=project).secret  # the same address keeps what it has
    assert not configure("https://elsewhere.invalid/x", root=project).secret  # no password for another host
    assert SECRET not in (project / ".dvc/config.local").read_text()


# --- HTTP


CONF = """{user}daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {dir}/body; \
proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{
    listen 127.0.0.1:{port}; root {dir}/www; client_max_body_size 0;
    dav_methods PUT DELETE MKCOL; create_full_put_path on;
    auth_basic "team data"; auth_basic_user_file {dir}/users;
    location /denied/ {{ deny all; }}
    location /readonly/ {{ alias {dir}/www/data/; limit_except GET HEAD {{ deny all; }} }}
    location /public/ {{ auth_basic off; alias {dir}/www/data/; \
limit_except GET HEAD {{ auth_basic "team data"; auth_basic_user_file {dir}/users; }} }}
    location /page/ {{ auth_basic off; try_files /index.html =500; }}
  }}
}}
"""


NGINX_ROOTS = {}


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    "Its address; it knows ann."
    assert NGINX, "CI runs these tests, and nginx is not installed: apt-get install nginx"
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    (folder / "www").mkdir()
    (folder / "www/index.html").write_text("<html>welcome</html>")
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "-stdin"], input=SECRET, capture_output=True, text=True, check=True
    ).stdout.strip()
    (folder / "users").write_text(f"ann:{hashed}\n")
    (folder / "nginx.conf").write_text(
        CONF.format(dir=folder, port=port, user="user root; " if os.geteuid() == 0 else "")
    )
    server = subprocess.Popen(
        [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    )
    try:
        wait_for(port, server)
        NGINX_ROOTS[f"http://127.0.0.1:{port}"] = folder / "www"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def pushed(nginx, origin, tmp_path_factory):
    "The address, with the data of the project there."
    project = shutil.copytree(origin, tmp_path_factory.mktemp("pushed") / "project", symlinks=True)
    configure(f"{nginx}/data", user="ann", password=SECRET, method="PUT", root=project)
    dvc(project, "push")
    return nginx


@needs_nginx
def test_nginx(nginx, project, clone):
    round_trip(project, clone, f"{nginx}/data", user="ann", password=SECRET, method="PUT")
    (clone / "extra.txt").write_text(str(time.time()))
    dvc(clone, "add", "-q", "extra.txt")
    answer = probe(root=clone)
    assert (answer.code, answer.missing, answer.fix) == ("missing_files", ("extra.txt",), "dvc push -r origin")
    assert answer.can_write is None  # not tried


@needs_nginx
def test_nginx_401_and_403(pushed, clone):
    configure(f"{pushed}/data", root=clone)
    answer = failing(clone, "no_credentials", "xraypneu remote --user", "XRAYPNEU_REMOTE_PASSWORD")
    assert "401" in answer.message and (answer.reachable, answer.authenticated) == (True, False)
    said = dvc(clone, "pull", check=False).out  # this is what DVC says in its place
    assert "neither locally nor on remote" in said and "401" not in said
    configure(f"{pushed}/data", user="ann", password=SECRET + "x", root=clone)
    assert "401" in failing(clone, "wrong_credentials", "xraypneu remote --user").message
    configure(f"{pushed}/data", user="bob", password=SECRET, root=clone)
    failing(clone, "wrong_credentials")
    remote_in_git = f"[core]\n    remote = origin\n['remote \"origin\"']\n    url = {pushed}/data\n    auth = basic\n"
    (clone / ".dvc/config.local").write_text(remote_in_git)
    assert "auth = basic" in failing(clone, "no_credentials").message
    configure(user="ann", password=SECRET, root=clone)
    assert probe(root=clone).ok
    configure(f"{pushed}/denied", user="ann", password=SECRET, root=clone)
    answer = failing(clone, "forbidden", "--user")
    assert "403" in answer.message and answer.authenticated


@needs_nginx
def test_nginx_wrong_path(pushed, clone):
    configure(f"{pushed}/nowhere/data", user="ann", password=SECRET, root=clone)
    failing(clone, "not_found", "xraypneu remote ADDRESS", "dvc push -r origin")
    configure(f"{pushed}/page/x", root=clone)
    answer = failing(clone, "not_found", "xraypneu remote ADDRESS")
    assert "web site" in answer.message and "no credentials were sent" in answer.message


@needs_nginx
def test_nginx_read_and_not_write(pushed, clone):
    configure(f"{pushed}/readonly", user="ann", password=SECRET, method="PUT", root=clone)
    assert probe(root=clone).ok
    answer = failing(clone, "forbidden", write=True)
    assert answer.can_write is False and "403" in answer.message and answer.files == 4
    configure(f"{pushed}/public", method="PUT", root=clone)
    assert probe(root=clone).ok
    assert failing(clone, "no_credentials", write=True).can_write is False
    configure(f"{pushed}/data", user="ann", password=SECRET, root=clone)  # DVC's default is POST
    failing(clone, "wrong_method", "xraypneu remote --method PUT", write=True)
    configure(method="PUT", root=clone)
    assert probe(root=clone, write=True).ok


@contextmanager
def answering(status, headers, body):
    "A server that gives one answer; {sent} in it is what it was sent as credentials."

    class Handler(Answers):
        def do_GET(self):
            sent = self.headers.get("Authorization", "")
            self.say(
                status,
                {k: v.replace("{sent}", sent) for k, v in headers.items()},
                body.replace("{sent}", sent).encode(),
            )

        do_HEAD = do_PUT = do_POST = do_GET

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


@pytest.mark.parametrize(
    "headers, body",
    [
        ({"WWW-Authenticate": 'Bearer error="invalid_token", error_description="The access token expired"'}, ""),
        ({"WWW-Authenticate": 'Basic realm="x"'}, '{"message": "Token has expired", "you": "{sent}"}'),
    ],
)
def test_expired_token(clone, headers, body):
    with answering(401, headers, body) as url:
        configure(f"{url}/data", user="ann", password=SECRET, root=clone)
        answer = failing(clone, "expired_credentials", "xraypneu remote --user", "new token")
        assert "expired" in answer.message and (answer.reachable, answer.authenticated) == (True, False)
        configure(f"{url}/other", root=clone)
        failing(clone, "no_credentials")  # what wasn't sent has not expired


def test_host_down_or_ill(clone):
    configure(f"http://127.0.0.1:{free_port()}/data", user="ann", password=SECRET, root=clone)
    start = time.time()
    answer = failing(clone, "unreachable", "xraypneu remote ADDRESS")
    assert answer.reachable is False and "refused" in answer.message and time.time() - start < 5
    configure("http://no-such-host.invalid/data", user="ann", password=SECRET, root=clone)
    failing(clone, "unreachable")
    with answering(502, {}, "") as url:
        configure(f"{url}/data", user="ann", password=SECRET, root=clone)
        assert "502" in failing(clone, "unreachable").message
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        configure(f"http://127.0.0.1:{silent.getsockname()[1]}/data", user="ann", password=SECRET, root=clone)
        assert probe(root=clone, timeout=0.5).code == "unreachable"


# --- S3


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    "The address of an S3 server, and the keys of a user who may use its bucket and of one who may not."
    needs("moto", "dvc_s3")
    import boto3

    with moto(INITIAL_NO_AUTH_ACTION_COUNT="6") as url:  # so many are the preparation; then keys and rights count
        first = dict(endpoint_url=url, aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1")
        iam, keys = boto3.client("iam", **first), {}
        boto3.client("s3", **first).create_bucket(Bucket="team")
        for user in ("ann", "bob"):
            iam.create_user(UserName=user)
            keys[user] = (k := iam.create_access_key(UserName=user)["AccessKey"])["AccessKeyId"], k["SecretAccessKey"]
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="ann", PolicyName="s3", PolicyDocument=json.dumps(policy))
        yield url, keys


def s3_of(s3, user, **more):
    "The settings of a user of this server."
    url, (key, secret) = s3[0], s3[1][user]
    return {"user": key, "password": secret, "endpoint": url, "region": "us-east-1", **more}


def test_s3(s3, project, clone):
    made = s3_of(s3, "ann")
    round_trip(project, clone, "s3://team/data", **made)
    private(clone, secret=made["password"])


def test_s3_refusals(s3, project, clone, monkeypatch):
    ann, (url, keys) = s3_of(s3, "ann"), s3
    key, secret = keys["ann"]
    configure("s3://team/data", **ann, root=project)
    dvc(project, "push")
    configure("s3://team/data", endpoint=url, region="us-east-1", root=clone)
    answer = failing(clone, "no_credentials", "xraypneu remote --user ACCESS_KEY")
    assert answer.authenticated is False
    for user, password, code in (
        (key, secret + "x", "wrong_credentials"),
        ("AKIANOBODY", secret, "wrong_credentials"),
        (*keys["bob"], "forbidden"),
    ):
        configure(user=user, password=password, root=clone)
        assert password not in repr(failing(clone, code))
    for address, fix in (("s3://nobody/data", "xraypneu remote ADDRESS"), ("s3://team/nowhere", "dvc push -r origin")):
        configure(address, **ann, root=clone)
        answer = failing(clone, "not_found", fix)
        assert "nowhere" in address or "NoSuchBucket" in answer.message
    env = {"ACCESS_KEY_ID": key, "SECRET_ACCESS_KEY": secret, "ENDPOINT_URL": url, "DEFAULT_REGION": "us-east-1"}
    with monkeypatch.context() as m:
        for name, value in env.items():
            m.setenv(f"AWS_{name}", value)
        configure("s3://team/data", root=clone)
        assert probe(root=clone).ok
    assert probe(root=clone).ok  # it is all in config.local
    configure("s3://team/data", **s3_of(s3, "ann", endpoint=f"http://127.0.0.1:{free_port()}"), root=clone)
    start = time.time()
    failing(clone, "unreachable")
    assert time.time() - start < 5


def test_s3_expired_token(clone):
    needs("dvc_s3")
    body = (
        "<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The provided token has "
        "expired.</Message></Error>"
    )
    with answering(400, {"Content-Type": "application/xml"}, body) as url:
        configure(
            "s3://team/data", user="key", password=SECRET, token="tok-en", endpoint=url, region="us-east-1", root=clone
        )
        answer = failing(clone, "expired_credentials", "xraypneu remote --user ACCESS_KEY")
        assert "tok-en" not in repr(answer)


def test_missing_plugin(clone):
    configure("s3://team/data", root=clone)
    code = (
        "import sys; sys.modules['s3fs'] = None; from xraypneu.ops.remote import probe; a = probe(); "
        "print(a.code, a.fix)"
    )  # as where it isn't installed
    said = run([sys.executable, "-c", code], clone, PYTHONPATH=str(ROOT)).out
    assert said.strip().endswith("missing_plugin pip install dvc-s3")
    configure("gs://bucket/data", root=clone)
    failing(clone, "missing_plugin", "pip install dvc-gs")


# --- SSH


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    "The port of an SFTP server that knows ann and her key, and the key's file."
    needs("asyncssh", "dvc_ssh")
    import asyncssh

    folder = tmp_path_factory.mktemp("ssh")
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "id")
    key.write_public_key(folder / "id.pub")

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username):
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return (username, password) == ("ann", SECRET)

    ports = queue.Queue()

    async def serve():
        server = await asyncssh.create_server(
            Server,
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=str(folder / "id.pub"),
            sftp_factory=True,
        )
        ports.put(server.get_port())
        await server.wait_closed()

    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    return ports.get(timeout=20), folder / "id"


def test_ssh(ssh, project, clone, tmp_path):
    port, keyfile = ssh
    round_trip(project, clone, f"ssh://127.0.0.1:{port}{tmp_path}/store", user="ann", password=SECRET)
    configure(f"ssh://127.0.0.1:{port}{tmp_path}/store", user="ann", keyfile=keyfile, root=clone)
    assert probe(root=clone).ok


def test_ssh_refusals(ssh, clone, tmp_path):
    port, _ = ssh
    configure(f"ssh://127.0.0.1:{port}{tmp_path}/store", user="ann", password=SECRET + "x", root=clone)
    failing(clone, "wrong_credentials", "xraypneu remote --user")
    configure(f"ssh://127.0.0.1:{port}{tmp_path}/other", user="ann", root=clone)
    failing(clone, "no_credentials", "xraypneu remote --user")
    configure(f"ssh://127.0.0.1:{port}{tmp_path}/nowhere", user="ann", password=SECRET, root=clone)
    failing(clone, "not_found", "dvc push -r origin")
    configure(f"ssh://127.0.0.1:{free_port()}{tmp_path}/store", user="ann", password=SECRET, root=clone)
    failing(clone, "unreachable")


# --- half of a file


def stored(project):
    "Path in a DVC remote of each file of the project, by its name."
    listing = json.loads(next(p for p in (project / ".dvc/cache/files/md5").rglob("*.dir")).read_text())
    digests = {f["relpath"]: f["md5"] for f in listing} | {"count.txt": hashlib.md5(b"8").hexdigest()}
    return {name: f"files/md5/{digest[:2]}/{digest[2:]}" for name, digest in digests.items()}


def half_uploaded(project, clone, read, write, *args, **kw):
    """The rest of an upload that broke off is found, not taken for data, and repaired from a machine that has it whole.

    `read` and `write` act on the remote.
    """
    for folder in (project, clone):
        configure(*args, root=folder, **kw)
    dvc(project, "push")
    where = stored(project)
    whole = {name: read(path) for name, path in where.items()}
    write(where["b.txt"], whole["b.txt"][:5])
    answer = failing(project, "damaged_files", "xraypneu remote --name origin --restore")
    assert answer.damaged == ("films/b.txt",) and "5 bytes instead of 12" in answer.message
    assert "cache has intact copies" in answer.message
    # which has only the sum of the sizes
    answer = failing(clone, "damaged_files", "--restore   # on a machine that has the files")
    assert answer.damaged == ("films",) and "13 bytes together instead of 20" in answer.message
    assert dvc(clone, "pull", "--no-run-cache", check=False).returncode != 0 and not (clone / "films/b.txt").exists()
    assert "up to date" in dvc(project, "push").out  # DVC alone never repairs it
    assert restore(root=clone) == [] and restore(root=project) == ["films/b.txt"]
    assert read(where["b.txt"]) == whole["b.txt"]
    assert probe(root=clone).ok and probe(root=project).ok
    write(where["b.txt"], b"B" + whole["b.txt"][1:])  # as long as before
    write(where["count.txt"], b"")
    answer = probe(root=clone)
    assert answer.damaged == ("count.txt",) and "0 bytes instead of 1" in answer.message
    assert sorted(probe(root=clone, deep=True).damaged) == ["count.txt", "films/b.txt"]
    answer = probe(root=project, deep=True)
    assert sorted(answer.damaged) == ["count.txt", "films/b.txt"] and answer.fix.endswith("--restore --deep")
    assert doctor.check_remote(clone, deep=True).ok is False
    assert dvc(clone, "pull", "--no-run-cache", check=False).returncode != 0
    assert sorted(restore(root=project, deep=True)) == ["count.txt", "films/b.txt"]
    deep = doctor.check_remote(clone, deep=True)
    assert deep.ok and "all hashes correct" in deep.found
    dvc(clone, "pull", "--no-run-cache")
    assert (clone / "films/b.txt").read_text() == "another film" and (clone / "count.txt").read_text() == "8"


def on_disk(folder):
    "How to read and write below a folder."

    def write(path, content):
        (folder / path).chmod(0o644)
        (folder / path).write_bytes(content)

    return lambda path: (folder / path).read_bytes(), write


def test_a_remote_s_name_is_one_word_of_what_is_advised(tmp_path):
    "The configuration may be another one's, and what is advised is pasted into a shell."
    name = "o;touch oops"
    wanted = remote._Wanted("data/a", "0" * 32, str(tmp_path / "a"), False)
    found = remote._Comparison({wanted: None}, {wanted: "another hash"}, {})
    advice = [remote._damage_report(found, name, True)[1], remote._missing_report([wanted], [wanted], name)[1]]
    (tmp_path / "project/.dvc").mkdir(parents=True)
    (tmp_path / "project/.dvc/config").write_text(
        f"['remote \"{name}\"']\n    url = /\n['remote \"p\"']\n    url = /\n"
    )
    advice.append(probe(root=tmp_path / "project").fix)
    assert all(name in shlex.split(a, comments=True) for a in advice), advice


def test_no_film_is_named_in_the_log_of_a_job(tmp_path, monkeypatch):
    "Others read that of GitHub, and a film's name may be a patient's."
    film = remote._Wanted("data/x/Erika.png", "0" * 32, str(tmp_path / "a"), False, inside="1" * 32 + ".dir")
    found = remote._Comparison({film: None}, {film: "another hash"}, {})

    def said():
        return remote._damage_report(found, "o", True)[0], remote._missing_report([film], [film], "o")[0]

    assert all("Erika" in text for text in said())
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert not any("Erika" in text for text in said()) and all(film.oid in text for text in said())


def test_half_uploaded_to_a_folder(project, clone, tmp_path):
    half_uploaded(project, clone, *on_disk(tmp_path / "store"), tmp_path / "store")


@needs_nginx
@pytest.mark.nightly  # in short, as the next two: to a folder
def test_half_uploaded_to_nginx(nginx, project, clone):
    store = on_disk(NGINX_ROOTS[nginx] / "half")
    half_uploaded(project, clone, *store, f"{nginx}/half", user="ann", password=SECRET, method="PUT")


@pytest.mark.nightly
def test_half_uploaded_to_s3(s3, project, clone):
    import s3fs

    how = s3_of(s3, "ann")
    there = s3fs.S3FileSystem(key=how["user"], secret=how["password"], client_kwargs={"endpoint_url": how["endpoint"]})

    def write(path, content):
        there.pipe_file(f"team/half/{path}", content)

    half_uploaded(project, clone, lambda path: there.cat_file(f"team/half/{path}"), write, "s3://team/half", **how)


@pytest.mark.nightly
def test_half_uploaded_by_ssh(ssh, project, clone, tmp_path):
    store = tmp_path / "store"
    half_uploaded(project, clone, *on_disk(store), f"ssh://127.0.0.1:{ssh[0]}{store}", user="ann", password=SECRET)


def test_half_of_the_list_of_a_folder(project, clone, tmp_path):
    for folder in (project, clone):
        configure(tmp_path / "store", root=folder)
    dvc(project, "push")
    listing = next(p for p in (tmp_path / "store").rglob("*.dir"))
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes()[:40])
    for folder in (project, clone):
        assert failing(folder, "damaged_files").damaged == ("films",)
    assert dvc(clone, "pull", "--no-run-cache", check=False).returncode != 0
    assert restore(root=project) == ["films"] and probe(root=clone).ok
    dvc(clone, "pull", "--no-run-cache")


def test_data_that_dvc_2_added(project, tmp_path):
    "It is stored elsewhere, by other hashes: said, and not taken for missing."
    configure(tmp_path / "store", root=project)
    file = project / "films.dvc"
    file.write_text(file.read_text().replace("  hash: md5\n", ""))
    answer = probe(root=project)
    assert answer.code == "bad_config" and "dvc cache migrate --dvc-files" in answer.message
    assert doctor.check_cache(project).ok is None


def test_what_is_pulled_is_verified(project, tmp_path):
    configure(tmp_path / "store", root=project)
    assert "verify = true" in (project / ".dvc/config.local").read_text()
    dvc(project, "push")
    assert "not verified" not in doctor.check_remote(project).found
    dvc(project, "remote", "modify", "--local", "origin", "verify", "false")
    found = doctor.check_remote(project)
    assert found.ok
    assert found.found.endswith("not verified, turn it on with: dvc remote modify --local origin verify true")
    configure(root=project)  # the address as it was
    assert "not verified" not in doctor.check_remote(project).found
    configure(verify=False, root=project)
    assert "not verified" in doctor.check_remote(project).found


def test_damaged_cache(project, tmp_path):
    "Of this machine: `doctor --deep` reads it, and the command that it names brings the file back."
    configure(tmp_path / "store", root=project)
    dvc(project, "push")
    found = doctor.check_cache(project)
    assert found.ok and "4 files" in found.found
    kept = project / ".dvc/cache" / stored(project)["b.txt"]
    kept.chmod(0o644)
    kept.write_bytes(b"rot")
    status, said = command(project, "doctor", "--quick", "--deep")
    assert status == 1 and "1 of 4 files are damaged: films/b.txt" in said, said
    run(["sh", "-c", doctor.check_cache(project).fix], project)
    assert doctor.check_cache(project).ok and kept.read_bytes() == b"another film"


def test_command_restores(project, clone, tmp_path):
    for folder in (project, clone):
        configure(tmp_path / "store", root=folder)
    dvc(project, "push")
    _, write = on_disk(tmp_path / "store")
    write(stored(project)["b.txt"], b"another fiLm")
    for words, found in (
        ([tmp_path / "store"], "checked are there"),
        ([tmp_path / "store", "--deep"], "1 of 4 cache files on the remote are damaged"),
        (["--restore"], "0 files copied to the remote"),
        (["--restore", "--deep"], "1 files copied to the remote"),
    ):
        status, said = command(project, "remote", *words)
        assert status == 0 and found in said, said
    assert probe(root=clone, deep=True).ok


def test_a_token_stays_with_its_host(clone):
    "A header of one's own is a secret like a password: a host that sends elsewhere doesn't send it along."
    seen = []

    class Elsewhere(Answers):
        def do_GET(self):
            seen.append(self.headers.get("X-Token"))
            self.say(404)

        do_HEAD = do_GET

    with serving(server := ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)):
        with answering(302, {"Location": f"http://localhost:{server.server_port}/x"}, "") as url:
            configure(f"{url}/data", password=SECRET, root=clone, auth="custom", custom_auth_header="X-Token")
            probe(root=clone)
    assert seen and set(seen) == {None}


def test_what_a_host_says_gives_no_orders(clone):
    "To the terminal by escapes, or to GitHub by a line that begins with two colons."

    class Orders(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1 << 16)
            self.request.sendall(b"HTTP/1.1 500 ill\r::error::oops\x1b[2J\r\nContent-Length: 9\r\n\r\n\x1b]0;t\x07xyz")

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Orders)) as url:
        configure(f"{url}/store", root=clone)
        answer = failing(clone, "unreachable")
    assert "ill" in answer.message and answer.message.isprintable()
    shown = doctor.report([doctor.Check("data", False, "a\x1b[2Jb\r::error::c")])
    assert shown.replace("\n", "").isprintable() and "a\ufffd[2Jb\ufffd::error::c" in shown


ILL = (b"HTTP/1.1 500 ill\r\nContent-Length: 9999\r\n\r\n", b"a")


@pytest.mark.parametrize("slow", ["interim answers", "a header", ILL], indirect=True)
def test_a_host_that_sends_next_to_nothing(clone, slow):  # noqa: F811
    configure(slow, root=clone)
    code = "from xraypneu.ops.remote import probe; print(probe(timeout=0.3).code)"
    said = run(["timeout", "30", sys.executable, "-c", code], clone, PYTHONPATH=str(ROOT)).out
    assert said.split()[-1] == "unreachable"


def test_a_list_that_unpacks_to_gigabytes(clone, monkeypatch):
    monkeypatch.setattr("xraypneu.ops.remote._LONGEST_LIST", 1 << 20)
    bomb = gzip.compress(bytes(100 << 20))

    class Handler(Answers):
        def do_GET(self):
            there = "/00/" not in self.path
            self.say(200 if there else 404, {"Content-Encoding": "gzip"} if there else None, bomb if there else b"")

        do_HEAD = do_GET

    shutil.rmtree(clone / ".dvc/cache", ignore_errors=True)
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        configure(f"{url}/data", root=clone)
        tracemalloc.start()
        answer = probe(root=clone)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert answer.code == "damaged_files" and most < 40 << 20, (answer, most)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_settings_without_a_password_are_for_the_group_too(project, tmp_path):
    "Two people work in one clone: DVC, which reads them at each command, would stop for the other one."
    before = os.umask(0o002)
    try:
        configure(tmp_path / "store", root=project)
        file = project / ".dvc/config.local"
        assert stat.S_IMODE(file.stat().st_mode) == 0o664
        configure("https://127.0.0.1:9/x", root=project, user="ann", password=SECRET)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(before)


TOKEN_URL = "https://glpat-AbCdEf0123456789xyz@127.0.0.1:9/x"


@pytest.mark.parametrize("url", [TOKEN_URL, "https://127.0.0.1:9/x?token=AbCdEf0123456789"])
def test_a_token_in_an_address_is_for_its_owner_alone(project, url):
    "It is no password by name, but the address lets in whoever reads it."
    configure(url, root=project)
    assert stat.S_IMODE((project / ".dvc/config.local").stat().st_mode) == 0o600


def test_a_token_in_an_address_that_git_publishes(project):
    "The name of a user, long as it may be, is none."
    config = project / ".dvc/config"
    config.write_text(
        f"['remote \"a\"']\n    url = {TOKEN_URL}\n['remote \"b\"']\n    url = ssh://research-data-user@h/x\n"
    )
    assert exposed(project) == ["a token in remote.a.url in .dvc/config"]
    found = doctor.check_secrets(project)
    assert found.ok is False and "glpat" not in doctor.report([found]) and "dvc remote modify a url" in found.fix


def test_a_password_that_all_users_can_read(project, monkeypatch):
    "DVC's own command writes a file that everybody may read."
    monkeypatch.setattr(remote, "others_reach", lambda folder: True)  # pytest's is 0700
    configure("https://127.0.0.1:9/x", root=project, user="ann", password=SECRET)
    assert doctor.check_secrets(project).ok
    file = project / ".dvc/config.local"
    file.chmod(0o644)
    found = doctor.check_secrets(project)
    assert found.ok is False and found.fix == f"chmod o-rwx {file}"


@pytest.mark.parametrize(
    "env", [{"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, {"PATH": "/nowhere"}], ids=["owner", "no git"]
)
def test_git_that_cannot_tell_is_no_published_password(project, monkeypatch, env):
    "A folder that is mounted into a container, or a colleague's: git refuses it, and there may be no git at all."
    configure("https://127.0.0.1:9/x", root=project, user="ann", password=SECRET)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found = doctor.check_secrets(project)
    assert found.ok is None and "not checked" in found.found and "git" in found.found and not found.fix


def test_a_user_without_a_name(project, tmp_path, monkeypatch):
    "A container runs as a bare number, for which DVC finds no name."
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    configure(tmp_path / "store", root=project)
    assert probe(root=project).code == "not_found"
    assert os.environ["LOGNAME"] == str(os.getuid())


def test_a_project_that_this_user_may_not_write_to(project, tmp_path, monkeypatch):
    "A colleague's: nobody is told to take it from him."
    configure(tmp_path / "store", root=project)
    refused = PermissionError(13, "Permission denied", str(project / ".dvc/tmp"))
    monkeypatch.setattr("dvc.repo.Repo.__init__", Mock(side_effect=refused))
    check = doctor.check_remote(project)
    assert check.ok is False and "clone of your own" in check.found
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "sudo chown" in doctor.check_disk(project).fix
    monkeypatch.setattr(os, "getuid", lambda: project.stat().st_uid + 1)
    monkeypatch.setattr(doctor, "_ROOT", -1)  # who may run this
    check = doctor.check_disk(project)
    assert "chown" not in check.fix and check.fix.startswith("git clone") and "another user's" in check.found


def test_settings_of_another_user_are_said_to_be_his(project, tmp_path, monkeypatch):
    "A clone is shared, and a colleague's password is in a file that he alone may read."
    configure("https://127.0.0.1:9/x", root=project, user="ann", password=SECRET)
    file = project / ".dvc/config.local"

    def refused(name, *args, opened=open, **kw):
        if os.fspath(name) == str(file):  # root, who may run this, is never refused
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, *args, **kw)

    monkeypatch.setattr("builtins.open", refused)
    check = doctor.check_remote(project)
    assert check.ok is False and str(file) in check.found and "another user's" in check.found
    assert "clone of your own" in check.fix and f"chmod g+rw {file}" in check.fix
    with pytest.raises(RemoteError, match="clone of your own"):
        configure(tmp_path / "store", root=project)


def test_settings_that_came_with_a_folder_name_no_program(project, tmp_path, monkeypatch):
    "AWS's client would run it for its credentials, and doctor asks the remote."
    from xraypneu.ops.remote import _check_programs, _Refused

    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    program = f"[default]\ncredential_process = touch {tmp_path}/ran\n"
    for file in (project / "aws.ini", home / ".aws/config"):
        file.write_text(program)
    (project / ".dvc/config").write_text(
        f"[core]\n    remote = o\n['remote \"o\"']\n    url = s3://bucket/x\n    configpath = {project}/aws.ini\n"
    )
    answer = probe(root=project)
    assert answer.code == "bad_config" and f"{project}/aws.ini names a program" in answer.message
    assert not (tmp_path / "ran").exists()
    _check_programs({"configpath": str(home / ".aws/config"), "profile": "default"})
    with pytest.raises(_Refused, match="bearer_token_command"):
        _check_programs({"bearer_token_command": "touch ran"})
