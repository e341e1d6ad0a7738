"""Where tables and pictures are written: the terminal as it is, or a pipe wide enough that nothing is cut.

Covers colour, width, and text from elsewhere that could upset a terminal. JSON does not pass through here.
"""

from __future__ import annotations

import sys

from rich.console import Console

PIPE_WIDTH = 10_000  # columns; wider than any line, so that tools behind the pipe see whole values


def make_console() -> Console:
    """Console on standard output: no colour behind a pipe or with NO_COLOR, no guesses about what text means."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def is_piped(console: Console) -> bool:
    """Whether another program reads the output."""
    return console.width >= PIPE_WIDTH


def is_coloured(console: Console) -> bool:
    """Whether colour reaches the reader; without it, glyphs alone must tell things apart."""
    return console.color_system is not None and not console.no_color


def has_blocks(console: Console) -> bool:
    """Whether the output's encoding knows block and line characters."""
    return not console.options.ascii_only


def printable(text: str) -> str:
    """`text` with characters that would steer a terminal written as escapes; names and hints come from applications."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
