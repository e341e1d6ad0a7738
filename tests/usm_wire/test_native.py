"""Where libusm is found."""

import sys

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


def test_without_lib_usm_there_is_none(monkeypatch):
    monkeypatch.setattr(native, "find_spec", lambda _: None)
    assert native.library() is None
