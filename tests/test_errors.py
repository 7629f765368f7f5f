"""Errors: each has a message, a hint and a code of the table, crosses between processes, and is shown in one way."""

import ast
import copy
import errno
import importlib
import pickle
import socket
import urllib.error
from unittest.mock import Mock

import pytest
from conftest import ROOT, refusal

from xraypneu.errors import CODES, XraypneuError, rendered

TREES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts): ast.parse(p.read_text())
    for p in sorted((ROOT / "xraypneu").rglob("*.py"))
    if p.stem != "_modidx"
}
# class to its module
CLASSES = {
    n.name: module
    for module, tree in TREES.items()
    for n in ast.walk(tree)
    if isinstance(n, ast.ClassDef) and "XraypneuError" in [b.id for b in n.bases if isinstance(b, ast.Name)]
}


def literals(node):
    "Texts that an expression may have as its value, as far as they stand there."
    if isinstance(node, ast.IfExp):
        return literals(node.body) | literals(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def raised(tree):
    "Codes that stand in the calls of our classes."
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        if name not in CLASSES:
            continue
        place = {"_Refused": 0, "FetchError": 3}.get(name, 2)
        found = [k.value for k in call.keywords if k.arg == "code"] or call.args[place : place + 1]
        yield from (code for node in found for code in literals(node))


def test_every_error_of_the_package_has_the_base():
    builtin = {n for n in dir(__builtins__) if n.endswith(("Error", "Exception"))} | {"Exception", "BaseException"}
    for module, tree in TREES.items():
        for n in ast.walk(tree):
            bases = {b.id for b in n.bases if isinstance(b, ast.Name)} if isinstance(n, ast.ClassDef) else set()
            assert not bases & builtin or n.name in {*CLASSES, "XraypneuError"}, f"{module}.{n.name}"


def test_the_table_of_codes_is_that_of_the_package():
    own = {getattr(importlib.import_module(m), c).code for c, m in CLASSES.items() if m not in HEAVY}
    assert len(CLASSES) > 20 and len(own) >= len(CLASSES) - len(HEAVY) - 1  # `_Refused` has a code of each case alone
    unknown = {code for tree in TREES.values() for code in raised(tree)} - CODES.keys()
    assert not unknown and own <= CODES.keys()
    texts = {
        n.value
        for m, tree in TREES.items()
        if m != "xraypneu.errors"
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant)
    }
    assert CODES.keys() - texts - {"error"} == set(), "codes that nothing has"


HEAVY = {"xraypneu.model.network", "xraypneu.model.recipe"}  # modules that import TensorFlow


@pytest.mark.parametrize("name", [c for c, m in CLASSES.items() if m not in HEAVY])
def test_an_error_stays_what_it_is_in_another_process(name):
    kind = getattr(importlib.import_module(CLASSES[name]), name)
    e = {"Busy": lambda: kind("Stage train", 7), "_Refused": lambda: kind("forbidden", "no entry")}.get(
        name, lambda: kind("the film is away", "Bring it back.")
    )()
    e.add_note("seen at noon")
    assert isinstance(e, (ValueError, RuntimeError, OSError, ArithmeticError)) or name == "_Refused"
    for again in (copy.copy(e), copy.deepcopy(e), *(pickle.loads(pickle.dumps(e, p)) for p in (2, 5))):
        assert (type(again), str(again), again.args, vars(again)) == (kind, str(e), e.args, vars(e))


def test_no_decision_by_the_words_of_an_exception():
    "`words in str(e)` and `str(e).startswith(words)` end with the next correction of a text."
    for module, tree in TREES.items():
        caught = {n.name for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name} | {"error", "exc"}

        def of_exception(n, caught=caught):
            words = isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "str" and n.args
            return words and isinstance(n.args[0], ast.Name) and n.args[0].id in caught

        for n in ast.walk(tree):
            where = f"{module}:{getattr(n, 'lineno', '')}"
            if isinstance(n, ast.Compare):
                assert not any(of_exception(x) for c in n.comparators for x in ast.walk(c)), where
            if isinstance(n, ast.Attribute) and n.attr in ("startswith", "endswith", "removesuffix", "find"):
                assert not of_exception(n.value), where


def test_a_secret_is_hidden_before_the_text_is_cut(monkeypatch):
    monkeypatch.setenv("XRAYPNEU_REMOTE_PASSWORD", "correct-horse-battery")
    text = rendered(RuntimeError("sent correct-horse-battery to the host\nand more"), 24)
    assert "correct" not in text and "\n" not in text and text.startswith("RuntimeError: sent")
    assert rendered(XraypneuError("no", "say please"), 100) == "no: say please"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Verbindungsaufbau abgelehnt"), "connection refused"),
        (TimeoutError(errno.ETIMEDOUT, "Wartezeit abgelaufen"), "no answer within 3 s"),
        (OSError(errno.EHOSTUNREACH, "Keine Route zum Zielrechner"), "no route to the host"),
        (socket.gaierror(-2, "Der Name ist unbekannt"), "can't be resolved"),
        (OSError(errno.EIO, "the answer refused to come"), "the connection dropped"),
    ],
)
def test_a_failed_connection_is_known_by_its_type_in_any_language(error, words):
    from xraypneu.data.fetch import _why

    outer = urllib.error.URLError(error)
    assert words in _why(outer, 3)


def test_a_broken_file_of_credentials_is_known_without_its_words(monkeypatch):
    kagglehub = pytest.importorskip("kagglehub.config")
    from xraypneu.data.fetch import FetchError, _kaggle_auth

    monkeypatch.setattr(kagglehub, "get_kaggle_credentials", Mock(side_effect=ValueError("Datei defekt")))
    with refusal(FetchError, "bad_credentials_file"):
        _kaggle_auth()


def test_a_text_that_only_mentions_a_missing_project_is_another_fault(tmp_path):
    from xraypneu.ops import remote

    other = remote._no_config(remote.RemoteError("DVC can't read 'no DVC project'", code="bad_config"))
    none = remote._no_config(remote.RemoteError("hier ist kein Projekt", code="no_project"), tmp_path)
    assert (other.code, none.code, none.fix) == ("bad_config", "no_remote", "xraypneu new FOLDER")
