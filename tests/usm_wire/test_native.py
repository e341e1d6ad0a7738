"""Where the libraries in C are found."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES

from usm_wire import native


def test_it_is_beside_lib_usm_if_it_was_compiled(tmp_path, monkeypatch):
    package = tmp_path / "lib_usm"
    (package / "native").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if "editable" not in repr(each).lower()])
    monkeypatch.delitem(sys.modules, "lib_usm", raising=False)
    assert native.library() is None
    (package / "native" / "libusm.so").touch()
    assert native.library() == package / "native" / "libusm.so"
    assert native.taking_out() is None
    taking_out = package / f"_taking_out{EXTENSION_SUFFIXES[0]}"
    taking_out.touch()
    for machine, found in (("x86_64", taking_out), ("aarch64", taking_out), ("riscv64", None)):
        monkeypatch.setattr(native.platform, "machine", lambda machine=machine: machine)
        assert native.taking_out() == found


def test_without_lib_usm_there_is_none(monkeypatch):
    monkeypatch.setattr(native, "find_spec", lambda _: None)
    assert native.library() is None
