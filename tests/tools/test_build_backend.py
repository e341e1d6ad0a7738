"""What is compiled, where that is possible, and what a build needs for it."""

import ast
import functools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

from tools import build_backend

ROOT = Path(__file__).resolve().parents[2]
OF_C = ["lib_usm._sigbus", "lib_usm._taking_out", "lib_usm.native.libusm"]
"""What is compiled wherever there is a compiler, and is no module."""
STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("CC", build_backend.VARIABLE):
        monkeypatch.delenv(name, raising=False)


@functools.cache
def classes():
    """Each class of usmd, with its file. A class is a statement, and so is what it is in."""
    found = []
    for path in Path("usmd").rglob("*.py"):
        left = [ast.parse(path.read_text(encoding="utf-8"))]
        while left:
            node = left.pop()
            if isinstance(node, ast.ClassDef):
                found.append((str(path), node))
            left += [each for each in ast.iter_child_nodes(node) if isinstance(each, STATEMENTS)]
    return found


def names(arguments):
    return [each.name for each in build_backend.settings(arguments)["ext_modules"]]


def reason_of(arguments):
    return build_backend.settings(arguments)["cmdclass"]["build_ext"].reason


def test_each_module_that_is_left_out_is_there():
    assert [each for each in build_backend.INTERPRETED if not Path(each).is_file()] == []
    assert "usmd/core/machine.py" in build_backend.sources()
    assert set(build_backend.sources()).isdisjoint(build_backend.INTERPRETED)


def test_no_compiled_module_has_a_class_of_msgspec():
    """mypyc would make it without its options, such as `frozen`."""
    compiled = set(build_backend.sources())
    for source, node in classes():
        bases = [ast.unparse(base) for base in node.bases] if source in compiled else []
        assert not {"msgspec.Struct", "Event", "Command", "events.Event"}.intersection(bases), source


def test_a_compiled_class_that_has_subclasses_in_python_allows_them():
    """Else `isinstance` in compiled code says no to an object of such a subclass."""
    compiled, closed = set(build_backend.sources()), set()
    for file, node in classes():
        if file in compiled and not any("interpreted_subclasses" in ast.unparse(each) for each in node.decorator_list):
            closed.add(node.name)
    for file, node in classes():
        if file not in compiled:
            assert closed.isdisjoint(ast.unparse(base).rpartition(".")[2] for base in node.bases), (file, node.name)


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("no-such-compiler -O2", "there is no C compiler no-such-compiler"),
        ("false", "the C compiler false cannot compile with Python.h: exit status 1"),
    ],
)
def test_without_a_compiler_a_wheel_needs_no_mypy_and_has_the_reason_for_no_compiled_modules(
    monkeypatch, compiler, said
):
    monkeypatch.setenv("CC", compiler)
    assert build_backend.why_not().startswith(said)
    assert not set(build_backend.NEEDS).intersection(build_backend.get_requires_for_build_wheel())
    assert names(["bdist_wheel"]) == OF_C
    assert reason_of(["bdist_wheel"]).startswith(said)
    with pytest.raises(SystemExit, match=f"cannot be compiled: {said}"):
        build_backend.settings(["build_ext", "--inplace"])


def test_a_wheel_is_pure_if_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("USMD_PURE", "1")
    assert not set(build_backend.NEEDS).intersection(build_backend.get_requires_for_build_wheel())
    assert names(["bdist_wheel"]) == OF_C
    assert reason_of(["bdist_wheel"]) == "USMD_PURE=1 when it was installed"


def test_a_wheel_that_must_be_compiled_fails_where_it_cannot_be(monkeypatch):
    monkeypatch.setenv("USMD_PURE", "0")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SystemExit, match="usmd cannot be compiled: there is no C compiler no-such-compiler"):
        build_backend.settings(["bdist_wheel"])


@pytest.mark.parametrize("failure", [SystemExit(1), ValueError("it is odd")])
def test_where_mypyc_fails_the_wheel_is_pure_and_says_so(monkeypatch, failure):
    def fails(*arguments, **more):
        raise failure

    monkeypatch.setattr(build_backend, "why_not", str)
    monkeypatch.setitem(sys.modules, "mypyc.build", SimpleNamespace(mypycify=fails))
    assert names(["bdist_wheel"]) == OF_C
    assert reason_of(["bdist_wheel"]).startswith("mypyc failed")


def test_a_build_that_fails_leaves_no_compiled_module_and_says_why(monkeypatch, tmp_path, capsys):
    """The modules are built all or none."""

    def run(command):
        if any(not each.optional for each in command.extensions):
            (tmp_path / "native.so").write_bytes(b"half of it")
            raise CompileError("the compiler was killed")

    monkeypatch.setattr(build_ext, "run", run)
    monkeypatch.setattr(build_ext, "get_ext_fullpath", lambda self, name: str(tmp_path / "native.so"))
    command = build_backend.BuildExtensions(Distribution())
    command.inplace, command.build_lib = False, str(tmp_path)
    command.extensions = [Extension("native", ["native.c"]), Extension("handler", ["handler.c"], optional=True)]
    command.run()
    assert [each.name for each in command.extensions] == ["handler"]
    assert not (tmp_path / "native.so").exists()
    assert json.loads((tmp_path / build_backend.MANIFEST).read_text()) == {"reason": "the compiler was killed"}
    assert capsys.readouterr().err == "usmd is not compiled: the compiler was killed\n"
    command.must = True
    command.extensions = [Extension("native", ["native.c"])]
    with pytest.raises(CompileError):
        command.run()


def test_what_was_compiled_before_is_gone_but_for_the_libraries_in_c(monkeypatch, tmp_path):
    """Else a module that is not compiled any more could not be imported."""
    for name in ("usmd/swap/old.so", "usmd/native__mypyc.so", "lib_usm/_sigbus.so"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(build_ext, "run", lambda self: (tmp_path / "usmd/native__mypyc.so").write_bytes(b"new"))
    command = build_backend.BuildExtensions(Distribution())
    command.inplace, command.build_lib = False, str(tmp_path)
    command.extensions = [Extension("native", ["native.c"])]
    command.run()
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.so")) == [
        "lib_usm/_sigbus.so", "usmd/native__mypyc.so",
    ]  # fmt: skip


def test_an_editable_installation_compiles_nothing_but_the_libraries_in_c():
    assert names(["editable_wheel"]) == OF_C
    assert reason_of(["editable_wheel"]) == ""


def test_libusm_has_the_name_that_linkers_look_for():
    command = build_backend.BuildExtensions(Distribution())
    assert command.get_ext_filename("libusm") == "libusm.so"
    assert command.get_ext_filename("lib_usm.native.libusm") == "lib_usm/native/libusm.so"
    sources = next(each for each in build_backend.settings([])["ext_modules"] if each.name == OF_C[-1]).sources
    assert "lib_usm/native/preload.c" in sources


def test_no_generator_of_a_compiled_policy_has_to_be_closed():
    """What refers to a compiled generator no more does not close it, so its `finally` would not be reached."""
    for source in build_backend.sources():
        if source.startswith("usmd/policies/"):
            tree = ast.parse(Path(source).read_text(encoding="utf-8"))
            for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
                kinds = {type(node) for node in ast.walk(function)}
                assert not kinds & {ast.Yield, ast.YieldFrom} or not kinds & {ast.Try, ast.With}, (
                    source,
                    function.name,
                )


def test_no_compiled_loop_over_a_range_changes_its_bound():
    """Python reads the bound once, and mypyc before each turn, if it is a variable."""
    found = []
    for path in build_backend.sources():
        for loop in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if not isinstance(loop, ast.For) or not isinstance(loop.iter, ast.Call):
                continue
            bounds = {each.id for each in loop.iter.args if isinstance(each, ast.Name)}
            inside = (each for part in loop.body for each in ast.walk(part))
            changed = {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
            if ast.unparse(loop.iter.func) == "range" and bounds & changed:
                found.append(f"{path}:{loop.lineno}")
    assert found == []
