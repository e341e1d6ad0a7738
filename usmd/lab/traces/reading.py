"""Opens a trace of any format, and iterates over its accesses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from usmd.errors import TraceError
from usmd.lab.traces.columns import check_overrides
from usmd.lab.traces.context import Context
from usmd.lab.traces.csv_table import read_csv
from usmd.lab.traces.detecting import detect
from usmd.lab.traces.formats import AUTO, FORMATS
from usmd.lab.traces.lackey import read_lackey
from usmd.lab.traces.oracle_general import read_oracle_general
from usmd.lab.traces.perf import read_perf
from usmd.lab.traces.recording import read_recording
from usmd.lab.traces.records import Header
from usmd.lab.traces.source import Source
from usmd.lab.traces.text import read_text
from usmd.lab.traces.time_units import UNITS
from usmd.lab.traces.trace import Batch

READERS: dict[str, Callable[[Iterable[bytes], Context], Iterator[Batch]]] = {
    "csv": read_csv,
    "lackey": read_lackey,
    "oracle_general": read_oracle_general,
    "perf": read_perf,
    "text": read_text,
    "usm": read_recording,
}
"""Readers by the name of their format."""

_ADVICE = {"perf": "record addresses of data with perf record -d, and let perf script print them with -F +addr"}
"""Advice if a trace has no access, by format."""


class OpenTrace:
    """A trace being read: a context manager, and an iterator of its accesses in batches.

    Iterating raises TraceError if the trace cannot be read, and at the end if there was no access.
    """

    name: str
    """Name of the file in tables: without its folder, or "stdin"."""
    format: str
    """Name of the format."""
    accesses: int
    """Number of accesses read so far."""

    def __init__(self, source: Source, format: str, context: Context) -> None:  # noqa: A002 - the word for it
        self.name = source.name
        self.format = format
        self.accesses = 0
        self._source = source
        self._context = context
        self._closed = False
        self._batches = READERS[format](source.chunks(), context)

    @property
    def size(self) -> int | None:
        """Compressed bytes in the file; None if unknown, as for a pipe."""
        return self._source.size

    @property
    def position(self) -> int:
        """Compressed bytes read so far."""
        return self._source.position

    @property
    def skipped(self) -> int:
        """Lines so far without an access, in formats that have such lines (csv, perf)."""
        return self._context.skipped

    @property
    def truncated(self) -> bool:
        """True if the last record of a recording was cut off and dropped; known at the end."""
        return self._context.truncated

    @property
    def header(self) -> Header | None:
        """The header of a recording; None for other formats."""
        return self._context.header

    def close(self) -> None:
        """Close the file; standard input stays open. May be called again."""
        self._closed = True
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise TraceError(f"{self._context.path} is closed; open it again to read it")
        batch = next(self._batches, None)
        if batch is None:
            self._check_for_accesses()
            raise StopIteration
        self.accesses += len(batch.keys)
        return batch

    def _check_for_accesses(self) -> None:
        if not self.accesses:
            without = f" in {self.skipped:,} lines" if self.skipped else ""
            advice = _ADVICE.get(self.format, "give a trace with at least one")
            raise TraceError(f"{self._context.path} has no access{without}; {advice}")


def open_trace(
    path: str,
    format: str = AUTO,  # noqa: A002 - the word for it
    page_size: int = 4096,
    columns: dict[str, str] | None = None,
    time_unit: str = AUTO,
) -> OpenTrace:
    """Open the trace at `path`, "-" for standard input; it may be compressed, whatever its name.

    `format` is one of FORMATS, or AUTO to detect it. `page_size` in bytes turns addresses into pages. `columns` gives
    names or numbers of a csv trace's columns by meaning: time, id, address, size, op. `time_unit` is the unit of its
    times, one of UNITS, or AUTO to guess it. Raises TraceError for an invalid argument or file.
    """
    columns = columns or {}
    if format != AUTO and format not in FORMATS:
        raise TraceError(f"format {format!r} is unknown; allowed are {', '.join((AUTO, *FORMATS))}")
    if page_size < 1:
        raise TraceError(f"page size {page_size} is invalid; allowed is a number of bytes from 1 on")
    check_overrides(columns)
    if time_unit != AUTO and time_unit not in UNITS:
        raise TraceError(f"time unit {time_unit!r} is unknown; allowed are {', '.join((AUTO, *UNITS))}")
    source = Source(path)
    try:
        found = _format(source, format, columns)
        return OpenTrace(source, found, Context(source.path, page_size, columns, time_unit))
    except BaseException:
        source.close()
        raise


def _format(source: Source, given: str, columns: dict[str, str]) -> str:
    """The format of `source`, given or detected.

    Raises TraceError for an empty trace, or columns for another format.
    """
    if not source.peek(1):
        raise TraceError(f"{source.path} is empty; give a trace with at least one access")
    found = detect(source.peek, source.path, columns) if given == AUTO else given
    if columns and found != "csv":
        raise TraceError(f"columns are named, but {source.path} is read as {found}; allowed is that for csv only")
    return found
