"""`python -m lib_usm.native`, and the pkg-config file that it leads to."""

from pathlib import Path

from lib_usm import native
from lib_usm.native import __main__ as program
from usmd.version import VERSION

FOLDER = Path(native.__file__).parent


def test_it_prints_the_folder_or_why_there_is_none(monkeypatch, capsys):
    monkeypatch.setattr(program, "library", lambda: FOLDER / "libusm.so")
    assert program.main() == 0
    assert capsys.readouterr().out == f"{FOLDER}\n"
    monkeypatch.setattr(program, "library", lambda: None)
    assert program.main() == 1
    assert "there was no C compiler when usmd was installed" in capsys.readouterr().err


def test_pkg_config_finds_what_is_there():
    text = (FOLDER / "usm.pc").read_text()
    assert "prefix=${pcfiledir}" in text
    assert f"Version: {VERSION}" in text
    assert (FOLDER / "usm.h").is_file()
