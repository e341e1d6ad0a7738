import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from usmd.ctl.console import can_redraw, has_blocks, is_coloured, is_piped, make_console


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


def test_lines_end_without_blanks_and_keep_their_colours(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    table = Table("a", "b", box=None)
    table.add_row("x", "y")
    table.add_row("x", "longer")
    console = make_console()
    console.print(table)
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == stream.getvalue().splitlines()
    console.file.write("a \x1b[1m b \x1b[0m \n  c  ")
    assert stream.getvalue().endswith("a \x1b[1m b\x1b[0m\n  c  ")


@pytest.mark.parametrize(("term", "redraws"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_terminal_without_a_cursor_is_not_redrawn(monkeypatch, term, redraws):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", term)
    assert can_redraw(make_console()) is redraws
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not can_redraw(make_console())
