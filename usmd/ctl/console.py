"""Where tables and pictures are written: a terminal, or a pipe that is wide enough for all columns."""

from __future__ import annotations

import io
import re
import sys
from typing import IO, Final, cast

from rich.console import Console

PIPE_WIDTH = 10_000  # columns; wider than any line, so that tools behind the pipe see whole values
_LINE_END: Final = re.compile(r"(?: |\x1b\[[0-9;]*m)+(?=\n)")
_BLANK: Final = " "


class _Trimmed(io.TextIOBase):
    """A text stream that strips blanks at line ends, with which rich fills the last column of a table."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding, from which rich decides whether to use line characters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """True if the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor, from which rich reads the size of the terminal."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write `text` without blanks at line ends."""
        self._stream.write(_LINE_END.sub(lambda match: match[0].replace(_BLANK, ""), text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def make_console(stream: IO[str] | None = None) -> Console:
    """A console on a stream, by default standard output.

    No colour in a pipe or with NO_COLOR, and no interpretation of text as markup.
    """
    stream = stream or sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    file = cast(IO[str], _Trimmed(stream))
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def is_piped(console: Console) -> bool:
    """True if another program reads the output."""
    return console.width >= PIPE_WIDTH


def can_redraw(console: Console) -> bool:
    """True if a picture can be redrawn in its place; in a pipe, or with TERM=dumb, pictures follow each other."""
    return not is_piped(console) and not console.is_dumb_terminal


def is_coloured(console: Console) -> bool:
    """True if the output has colour; without it, glyphs alone must distinguish states."""
    return console.color_system is not None and not console.no_color


def has_blocks(console: Console) -> bool:
    """True if the output's encoding has block and line characters."""
    return not console.options.ascii_only
