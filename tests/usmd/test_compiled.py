"""Compiled modules are used all or none, and never with other sources than theirs."""

import hashlib
import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import usmd
from usmd.compiled import LIBRARY, MANIFEST, SourcesOnly, decide
from usmd.core import machine


@pytest.fixture
def package(tmp_path):
    """A package with one compiled module, as far as `decide` looks."""
    folder = tmp_path / "usmd"
    folder.mkdir()
    (folder / "one.py").write_text("ONE = 1\n")
    (folder / f"{LIBRARY}{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    digest = hashlib.sha256((folder / "one.py").read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({"sources": {"usmd/one.py": digest}}))
    return folder


def test_what_was_compiled_from_these_sources_is_used(package):
    for environment in ({}, {"USMD_PURE": ""}, {"USMD_PURE": "0"}):
        assert decide(package, environment) == (True, "")
        assert decide(package, environment).text == "compiled"


def test_a_changed_source_is_enough_for_all_to_be_python(package):
    (package / "one.py").write_text("ONE = 2\n")
    assert decide(package, {}) == (False, "it was compiled from other sources: usmd/one.py has changed")
    (package / "one.py").unlink()
    assert decide(package, {}) == (False, "it was compiled from other sources: usmd/one.py is gone")


def test_what_was_compiled_for_another_python_is_not_used(package):
    (package / f"{LIBRARY}{EXTENSION_SUFFIXES[0]}").rename(package / f"{LIBRARY}.cpython-20-other.so")
    assert decide(package, {}) == (False, "it was compiled for another Python")


def test_without_a_manifest_nothing_was_compiled(tmp_path):
    assert decide(tmp_path, {}).text == "pure Python: it was not compiled"


def test_a_wheel_without_compiled_modules_has_the_reason(package):
    (package / MANIFEST).write_text(json.dumps({"reason": "there is no C compiler cc"}))
    assert decide(package, {}).text == "pure Python: it was not compiled: there is no C compiler cc"
    (package / MANIFEST).write_text(json.dumps({"usmd/one.py": "of an older usmd"}))
    assert decide(package, {}).text == "pure Python: it was not compiled: what was compiled is of another usmd"


def test_the_environment_decides(package, tmp_path):
    assert decide(package, {"USMD_PURE": "1"}) == (False, "USMD_PURE=1")
    with pytest.raises(ImportError, match="cannot be used compiled: it was not compiled"):
        decide(tmp_path, {"USMD_PURE": "0"})
    with pytest.raises(ImportError, match="USMD_PURE=yes; allowed are 1 for pure Python, 0 for compiled modules"):
        decide(package, {"USMD_PURE": "yes"})


def test_the_finder_takes_sources_where_compiled_modules_are_beside_them(tmp_path):
    (tmp_path / "one.py").write_text("ONE = 1\n")
    (tmp_path / f"one{EXTENSION_SUFFIXES[0]}").write_bytes(b"not to be loaded")
    finder = SourcesOnly("usmd")
    assert finder.find_spec("usmd.one", ["/nowhere", str(tmp_path)]).origin == str(tmp_path / "one.py")
    assert finder.find_spec("other.one", [str(tmp_path)]) is None
    assert finder.find_spec("usmd.two", [str(tmp_path)]) is None
    assert finder.find_spec("usmd") is None
    (tmp_path / "two.py").write_text("")
    finder.invalidate_caches()
    assert finder.find_spec("usmd.two", [str(tmp_path)]) is not None


def test_pure_python_is_what_a_process_runs_that_asks_for_it():
    code = "import usmd, usmd.core.machine as machine; print(usmd.BUILD.text, machine.__file__)"
    environment = {**os.environ, "USMD_PURE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("pure Python: USMD_PURE=1 ")
    assert ran.stdout.strip().endswith("/usmd/core/machine.py")


def test_this_process_runs_what_it_says():
    assert machine.__file__.endswith(".py") is not usmd.BUILD.compiled


def test_in_a_process_that_runs_compiled_all_that_was_compiled_is():
    folder = Path(usmd.__file__).parent
    named = json.loads((folder / MANIFEST).read_text())["sources"] if usmd.BUILD.compiled else {}
    modules = [import_module(each.removesuffix(".py").replace("/", ".")) for each in named]
    assert [each.__name__ for each in modules if not each.__file__.endswith(tuple(EXTENSION_SUFFIXES))] == []
