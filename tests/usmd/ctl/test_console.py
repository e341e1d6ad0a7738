import io
import sys

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from usmd.ctl.console import has_blocks, is_coloured, is_piped, make_console, printable


def test_a_pipe_gets_whole_lines_without_colour(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    console = make_console()
    assert is_piped(console)
    assert not is_coloured(console)
    console.print("[red]" + "x" * 5000)
    assert capsys.readouterr().out == "[red]" + "x" * 5000 + "\n"


def test_a_terminal_has_its_own_width(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert make_console().width == 90
    assert not is_piped(make_console())
    assert is_coloured(make_console())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_coloured(make_console())


def test_blocks_need_an_encoding_that_has_them():
    assert has_blocks(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8")))
    assert not has_blocks(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")))


@given(st.text())
def test_no_text_from_elsewhere_can_steer_the_terminal(text):
    assert printable(text).isprintable()


def test_printable_text_is_left_alone():
    assert printable("caf\u00e9 [x] a+b") == "caf\u00e9 [x] a+b"
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
