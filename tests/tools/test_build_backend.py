"""What is compiled, where that is possible, and what a build needs for it."""

import ast
from pathlib import Path

import pytest

from tools import build_backend

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("USMD_COMPILE", "1")


def test_each_module_that_is_left_out_is_there():
    assert [each for each in build_backend.INTERPRETED if not Path(each).is_file()] == []
    assert "usmd/core/machine.py" in build_backend.sources()
    assert set(build_backend.sources()).isdisjoint(build_backend.INTERPRETED)


def test_no_compiled_module_has_a_class_of_msgspec():
    """mypyc would make it without its options, such as `frozen`."""
    for source in build_backend.sources():
        tree = ast.parse(Path(source).read_text(encoding="utf-8"))
        bases = [ast.unparse(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
        assert not {"msgspec.Struct", "Event", "Command", "events.Event"}.intersection(bases), source


def test_without_a_compiler_a_wheel_needs_no_mypy_and_has_no_compiled_modules(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    assert build_backend.why_not() == "there is no C compiler no-such-compiler"
    assert [each.name for each in build_backend.settings(["bdist_wheel"])["ext_modules"]] == ["lib_usm._sigbus"]
    with pytest.raises(SystemExit, match="cannot be compiled: there is no C compiler no-such-compiler"):
        build_backend.settings(["build_ext", "--inplace"])


def test_a_wheel_is_compiled_only_if_that_is_asked_for(monkeypatch):
    monkeypatch.delenv("USMD_COMPILE")
    assert not set(build_backend.NEEDS).intersection(build_backend.get_requires_for_build_wheel())
    assert [each.name for each in build_backend.settings(["bdist_wheel"])["ext_modules"]] == ["lib_usm._sigbus"]


def test_an_editable_installation_compiles_nothing_but_the_handler():
    assert [each.name for each in build_backend.settings(["editable_wheel"])["ext_modules"]] == ["lib_usm._sigbus"]
