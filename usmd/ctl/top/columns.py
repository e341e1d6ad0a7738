"""The columns of the list of processes, which of them fit a screen, and the text of a line.

Columns have fixed widths, so that they stay where they are while the numbers change. NAME takes what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len, set_cell_size

from usmd.ctl.tables import Column
from usmd.ctl.top.rates import Rates, Row
from usmd.text_output import printable

GAP: Final = 1
LEAST_NAME: Final = 12
UNKNOWN: Final = "-"
_UNITS: Final = "KMGTPE"


def brief_size(size: float) -> str:
    """A size in at most 5 characters, as `57.7M`."""
    if size < 1024:
        return f"{size:.0f}"
    for unit in _UNITS:
        size /= 1024
        if size < 1000 or unit == _UNITS[-1]:
            break
    return f"{size:.1f}{unit}" if size < 99.95 else f"{size:.0f}{unit}"


def brief_rate(rate: float) -> str:
    """A number a second in at most 6 characters."""
    if rate < 9.95:
        return f"{rate:.1f}".removesuffix(".0")
    for unit, size, most in (("", 1.0, 99_999.5), ("k", 1e3, 9_999.5), ("M", 1e6, 9_999.5), ("G", 1e9, 9_999.5)):
        if rate / size < most:
            return f"{rate / size:,.0f}{unit}"
    return "lots"


def brief_share(share: float) -> str:
    """A share from 0 to 1 in at most 6 characters."""
    return f"{share:.1%}" if share else "0"


@dataclass(frozen=True)
class Field:
    """A column and its width in characters."""

    column: Column[Row]
    width: int


def _pages(title: str, width: int, count: Callable[[Row], int], spare: int = 0, nothing: str = "0") -> Field:
    def text(row: Row) -> str:
        pages = count(row)
        return brief_size(pages * row.page_size) if pages else nothing

    return Field(Column(f">{title}", text, count, spare), width)


def _rate(title: str, of: Callable[[Rates], float], spare: int = 0) -> Field:
    def text(row: Row) -> str:
        return UNKNOWN if row.rates is None else brief_rate(of(row.rates))

    def key(row: Row) -> float:
        return -1.0 if row.rates is None else of(row.rates)

    return Field(Column(f">{title}", text, key, spare), max(len(title), 6))


def _number(title: str, width: int, number: Callable[[Row], int], spare: int) -> Field:
    return Field(Column(f">{title}", lambda row: f"{number(row):,}", number, spare), width)


def _uid(row: Row) -> int:
    return row.process.uid if row.process.HasField("uid") else -1


def _some(row: Row) -> float:
    return row.process.pressure.some.avg10


def _full(row: Row) -> str:
    pressure = row.process.pressure
    return brief_share(pressure.full.avg10) if pressure.HasField("full") else UNKNOWN


def brief_time(seconds: float) -> str:
    """A time in at most 3 characters, up to four days."""
    for unit, size in (("s", 1.0), ("m", 60.0)):
        if seconds < 99.5 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 3600:.0f}h"


def is_frozen(row: Row) -> bool:
    """Whether faults of a process wait for memory, because its oom policy has patience."""
    return row.process.frozen_faults > 0


def _state(row: Row) -> str:
    return f"FROZEN {brief_time(row.process.frozen_seconds)}" if is_frozen(row) else UNKNOWN


def _swap_max(row: Row) -> int:
    return row.process.swap_max_pages if row.process.HasField("swap_max_pages") else 0


STATE: Final = Field(Column(">STATE", _state, lambda it: it.process.frozen_seconds), 10)
"""A column that stands there once a process has been frozen."""
FIELDS: Final = (
    Field(Column(">ID", lambda it: str(it.process.process_id), lambda it: it.process.process_id), 6),
    Field(Column("NAME", lambda it: printable(it.process.name) or UNKNOWN), 0),
    Field(Column(">PID", lambda it: str(it.process.pid or UNKNOWN), lambda it: it.process.pid, 5), 7),
    Field(Column(">UID", lambda it: str(_uid(it)) if _uid(it) >= 0 else UNKNOWN, _uid, 7), 5),
    STATE,
    _pages("RES", 6, lambda it: it.process.resident_pages),
    _pages("SWAP", 6, lambda it: it.process.swapped_pages, 1),
    _rate("FAULTS/S", lambda it: it.faults),
    _rate("MAJOR/S", lambda it: it.major_faults, 4),
    _rate("EVICT/S", lambda it: it.evictions, 3),
    Field(Column(">PRESSURE", lambda it: brief_share(_some(it)), _some, 2), 8),
    Field(Column(">FULL", _full, lambda it: it.process.pressure.full.avg10, 6), 6),
    _rate("IN/S", lambda it: it.swap_ins, 9),
    _rate("OUT/S", lambda it: it.swap_outs, 8),
    _pages("MIN", 6, lambda it: it.process.memory_min_pages, 11, UNKNOWN),
    _pages("MAX", 6, lambda it: it.process.memory_max_pages, 10, UNKNOWN),
    _number("WEIGHT", 6, lambda it: it.process.memory_weight, 14),
    _pages("SWAPMAX", 7, _swap_max, 15, UNKNOWN),
    _pages("UNEVICT", 7, lambda it: it.process.unevictable_pages, 13),
    _pages("PINNED", 6, lambda it: it.process.pinned_pages, 16),
    Field(
        Column(
            ">MAPPED", lambda it: brief_size(it.process.mapped_bytes), lambda it: it.process.mapped_bytes, 17
        ), 6,
    ),
    _number("REGIONS", 7, lambda it: it.process.regions, 18),
    Field(Column("EVICT BY", lambda it: printable(it.process.evict_policy) or UNKNOWN, None, 12), 18),
)  # fmt: skip
COLUMNS: Final = [each.column for each in FIELDS]
BUSIEST: Final = "faults/s"
"""The order at the start."""


def fitting(width: int, *, states: bool) -> list[Field]:
    """The columns that fit `width` characters, with NAME as wide as there is room; STATE only with `states`."""
    fields = [each for each in FIELDS if states or each is not STATE]
    for spare in sorted((each for each in fields if each.column.spare), key=lambda each: -each.column.spare):
        if _needed(fields) <= width:
            break
        fields.remove(spare)
    room = max(width - _needed(fields) + LEAST_NAME, 4)
    return [each if each.width else Field(each.column, room) for each in fields]


def cells_of(fields: Sequence[Field], row: Row, mark: str) -> list[str]:
    """The cells of a line, each as wide as its column; `mark` stands where text was cut."""
    return [_cell(str(each.column.text(row)), each, mark) for each in fields]


def titles_of(fields: Sequence[Field]) -> list[str]:
    """The titles, each as wide as its column."""
    return [_cell(each.column.title.removeprefix(">"), each, "") for each in fields]


def _needed(fields: Sequence[Field]) -> int:
    return sum(each.width or LEAST_NAME for each in fields) + GAP * (len(fields) - 1)


def _cell(text: str, field: Field, mark: str) -> str:
    missing = field.width - cell_len(text)
    if missing >= 0:
        return " " * missing + text if field.column.title.startswith(">") else text + " " * missing
    if field.column.title.startswith(">"):
        return text  # a number that is cut would be wrong
    return set_cell_size(text, max(field.width - cell_len(mark), 0)) + mark
