"""Where tables and pictures are written: the terminal as it is, or a pipe wide enough that nothing is cut.

Covers colour, width and blanks at the ends of lines. Names that could upset a terminal are text_output's; JSON does not
pass through here.
"""

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
    """A text stream whose lines end without blanks: rich fills the last column of a table with them."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's, from which rich tells whether there are line characters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """As the stream says."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Descriptor of the stream, from which rich knows the size of the terminal."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write `text`, in which each line that ends here ends without blanks."""
        self._stream.write(_LINE_END.sub(lambda match: match[0].replace(_BLANK, ""), text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def make_console() -> Console:
    """Console on standard output: no colour behind a pipe or with NO_COLOR, no guesses about what text means."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    file = cast(IO[str], _Trimmed(sys.stdout))
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def is_piped(console: Console) -> bool:
    """Whether another program reads the output."""
    return console.width >= PIPE_WIDTH


def can_redraw(console: Console) -> bool:
    """Whether what is shown can be drawn again in its place; a pipe and TERM=dumb get one picture after another."""
    return not is_piped(console) and not console.is_dumb_terminal


def is_coloured(console: Console) -> bool:
    """Whether colour reaches the reader; without it, glyphs alone must tell things apart."""
    return console.color_system is not None and not console.no_color


def has_blocks(console: Console) -> bool:
    """Whether the output's encoding knows block and line characters."""
    return not console.options.ascii_only
