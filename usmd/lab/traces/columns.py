"""Which column of a table means what: the header line of a csv trace.

Covers names, aliases and the delimiter. Does not cover the rows (csv_table).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping

import msgspec

from usmd.errors import TraceError
from usmd.lab.traces.context import Context

DELIMITERS = ",;\t|"
NAMES = {
    "time": ("time", "timestamp", "ts"),
    "id": ("id", "key", "obj_id", "object", "page"),
    "address": ("address", "addr"),
    "size": ("size", "length", "obj_size"),
    "op": ("op", "operation", "type", "rw"),
}
"""Column names by what they mean, the first that a header has wins; case does not matter."""


class Columns(msgspec.Struct, frozen=True):
    """Where to find what, as indexes into a row; None for what the table does not have."""

    delimiter: str
    count: int
    """Columns in a row."""
    key: int
    """The column with the id or address."""
    is_address: bool
    """Whether `key` is a byte address rather than an id."""
    time: int | None
    size: int | None
    op: int | None


def recognised(header: str, overrides: Mapping[str, str]) -> bool:
    """Whether `header` is a line of column names, among them one for ids or addresses."""
    return _key_name(_split(header, _delimiter(header, overrides)), overrides) is not None


def find_columns(header: str, line: int, context: Context) -> Columns:
    """The columns that line number `line` names, where `context.columns` may name them otherwise.

    Raises TraceError when there is none for ids, or one that was asked for is missing or there twice.
    """
    overrides = context.columns
    check_overrides(overrides)
    delimiter = _delimiter(header, overrides)
    names = _split(header, delimiter)
    key = _key_name(names, overrides)
    found = {meaning: _find(names, meaning, overrides, header, line, context) for meaning in NAMES}
    where = found[key] if key else None
    if key is None or where is None:
        usual = ", ".join(NAMES["id"] + NAMES["address"])
        raise context.bad_line(line, header, "has no column for ids", f"one of {usual}, or one that you name as id")
    return Columns(
        delimiter, len(names), where, key == "address", time=found["time"], size=found["size"], op=found["op"]
    )


def check_overrides(overrides: Mapping[str, str]) -> None:
    """Raise TraceError unless `overrides` names columns only for what a column can mean, and one kind of id."""
    for meaning in overrides:
        if meaning not in NAMES:
            raise TraceError(f"a column cannot mean {meaning!r}; allowed is {', '.join(NAMES)}")
    if "id" in overrides and "address" in overrides:
        raise TraceError("columns are named for id and for address; allowed is one of the two")


def _key_name(names: list[str], overrides: Mapping[str, str]) -> str | None:
    """Whether ids or addresses are there: "id", "address" or None; what was asked for goes first, then ids."""
    order = sorted(("id", "address"), key=lambda meaning: meaning not in overrides)
    return next((meaning for meaning in order if set(_wanted(meaning, overrides)) & set(names)), None)


def _find(
    names: list[str], meaning: str, overrides: Mapping[str, str], header: str, line: int, context: Context
) -> int | None:
    wanted = next((name for name in _wanted(meaning, overrides) if name in names), None)
    if wanted is None and meaning in overrides:
        raise context.bad_line(line, header, f"has no column {overrides[meaning]!r}", "a column that is there")
    if wanted is not None and names.count(wanted) > 1:
        raise context.bad_line(line, header, f"has the column {wanted!r} twice", "one column of a name")
    return None if wanted is None else names.index(wanted)


def _wanted(meaning: str, overrides: Mapping[str, str]) -> tuple[str, ...]:
    return (_plain(overrides[meaning]),) if meaning in overrides else NAMES[meaning]


def _delimiter(header: str, overrides: Mapping[str, str]) -> str:
    """The delimiter that yields a column for ids, then the one that yields most columns."""

    def worth(delimiter: str) -> tuple[bool, int]:
        names = _split(header, delimiter)
        return _key_name(names, overrides) is not None, len(names)

    return max(DELIMITERS, key=worth)


def _split(header: str, delimiter: str) -> list[str]:
    try:
        return [_plain(name) for name in next(csv.reader([header], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


def _plain(name: str) -> str:
    return name.strip().casefold()
