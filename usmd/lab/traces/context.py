"""The settings of a format's reader, what it reports besides accesses, and its errors."""

from __future__ import annotations

import msgspec

from usmd.errors import TraceError
from usmd.lab.traces.records import Header

SHOWN = 80
"""Most characters of an invalid value that an error shows."""


class Context(msgspec.Struct):
    """Shared by the readers of one trace and the code that opened it."""

    path: str
    """Name of the file in errors."""
    page_size: int = 4096
    """Bytes in a page, for formats with byte addresses."""
    columns: dict[str, str] = {}
    """Unusual names, or numbers, of a table's columns by meaning; empty: the column is left out."""
    time_unit: str = "auto"
    """Unit of a table's times: a name in time_units.UNITS, or auto to guess."""
    skipped: int = 0
    """Lines so far without an access, in formats that have such lines."""
    truncated: bool = False
    """True if the last record was cut off and dropped."""
    header: Header | None = None
    """The header of a recording; None for other formats."""

    def bad_line(self, line: int, value: str, problem: str, allowed: str) -> TraceError:
        """The error for `value` in line number `line`, counted from 1."""
        return TraceError(f"{self.path}, line {line}: {shown(value)} {problem}; allowed is {allowed}")

    def bad_byte(self, offset: int, value: str, problem: str, allowed: str) -> TraceError:
        """The error for `value` at `offset` bytes, counted from 0 in the decompressed file."""
        return TraceError(f"{self.path}, byte {offset}: {shown(value)} {problem}; allowed is {allowed}")


def shown(value: str) -> str:
    """`value` in quotes, safe to print, cut to SHOWN characters."""
    return repr(value if len(value) <= SHOWN else value[: SHOWN - 3] + "...")
