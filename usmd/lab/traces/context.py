"""What a format's reader is told about its trace, what it tells besides accesses, and how it says what is wrong."""

from __future__ import annotations

import msgspec

from usmd.errors import TraceError
from usmd.lab.traces.records import Header

SHOWN = 80
"""Most characters of a bad value that an error shows."""


class Context(msgspec.Struct):
    """Shared by the readers of one trace and whoever opened it."""

    path: str
    """The file as errors name it."""
    page_size: int = 4096
    """Bytes in a page, for formats whose accesses are byte addresses."""
    columns: dict[str, str] = {}
    """Names or numbers of a table's columns where they are not the usual ones, by what they mean; empty: left out."""
    time_unit: str = "auto"
    """The unit of a table's times: a name in time_units.UNITS, or auto to find out."""
    skipped: int = 0
    """Lines so far that tell of no access, where the format has such lines."""
    truncated: bool = False
    """Whether the last record was cut off and dropped."""
    header: Header | None = None
    """What a recording says about itself; None for other formats."""

    def bad_line(self, line: int, value: str, problem: str, allowed: str) -> TraceError:
        """The error for `value` in line number `line`, counted from 1."""
        return TraceError(f"{self.path}, line {line}: {shown(value)} {problem}; allowed is {allowed}")

    def bad_byte(self, offset: int, value: str, problem: str, allowed: str) -> TraceError:
        """The error for `value` at `offset` bytes, counted from 0 in the decompressed file."""
        return TraceError(f"{self.path}, byte {offset}: {shown(value)} {problem}; allowed is {allowed}")


def shown(value: str) -> str:
    """`value` in quotes, safe to print, cut to SHOWN characters."""
    return repr(value if len(value) <= SHOWN else value[: SHOWN - 3] + "...")
