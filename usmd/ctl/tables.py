"""Fits a list into its terminal as a table, and sorts its rows.

If the terminal is too narrow, first the least important columns are omitted, then text is cut. Numbers are never cut,
and only sentences are wrapped. A line below the table names what is missing. A pipe gets everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from usmd.ctl.console import has_blocks
from usmd.errors import InvalidArgument
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

GAP = 2
"""Characters between two columns."""
ENOUGH: Final = 24
"""Columns are omitted to show this many characters of a text column."""
PROSE: Final = 40
"""The same for a column of sentences."""
LEAST: Final = 8
"""Text columns are not cut below this many characters."""
Cell = str | Text
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Column(Generic[_Item]):
    """A column: its title (with `>` before it: numbers, right-aligned), the text of a cell, and the sort key.

    `spare`: a narrow terminal omits the column, those with the highest number first; 0: never. `brief`: a shorter text
    for a terminal that is still too narrow. `prose`: sentences, which are wrapped and not cut.
    """

    title: str
    text: Callable[[_Item], Cell]
    key: Callable[[_Item], float | str] | None = None
    spare: int = 0
    brief: Callable[[_Item], Cell] | None = None
    prose: bool = False

    @property
    def name(self) -> str:
        """The name for options: `--sort in-flight`."""
        return self.title.removeprefix(">").lower().replace(", ", ",").replace(" ", "-")


def in_order(columns: Sequence[Column[_Item]], items: Iterable[_Item], sort: str | None) -> list[_Item]:
    """`items` sorted by a column: numbers from the largest, text from A; `-` before the name reverses the order.

    Raises InvalidArgument, which names the columns, for an unknown name.
    """
    found = list(items)
    if sort is None:
        return found
    name = sort.removeprefix("-").lower()
    column = next((each for each in columns if each.name == name), None)
    if column is None:
        raise InvalidArgument(
            f"--sort {sort!r} names no column; allowed are {', '.join(each.name for each in columns)}"
        )
    key = column.key or (lambda item: str(column.text(item)).casefold())
    descending = column.title.startswith(">") != sort.startswith("-")
    return sorted(found, key=key, reverse=descending)


def show_list(
    console: Console,
    columns: Sequence[Column[_Item]],
    items: Sequence[_Item],
    when_empty: str,
    *,
    enough: int = ENOUGH,
) -> None:
    """Print one line per item; `enough` as for `show_table`."""
    spare = sorted((column for column in columns if column.spare), key=lambda column: -column.spare)
    rows = [[column.text(item) for column in columns] for item in items]
    kept = [number for number, column in enumerate(columns) if not column.spare]
    if rows and width_of([(columns[n].title, *(row[n] for row in rows)) for n in kept], LEAST) > console.width:
        rows = [[(column.brief or column.text)(item) for column in columns] for item in items]
    titles = [column.title for column in columns]
    prose = [column.title for column in columns if column.prose]
    show_table(console, titles, rows, when_empty, [column.title for column in spare], prose, enough=enough)


def show_table(
    console: Console,
    titles: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    when_empty: str,
    left_out: Sequence[str] = (),
    prose: Sequence[str] = (),
    *,
    enough: int = ENOUGH,
) -> None:
    """Print rows of cells as `fitted` arranges them, or `when_empty`."""
    cells = list(rows)
    if not cells:
        console.print(when_empty)
        return
    table, needed, missing = fitted(console, titles, cells, left_out, prose, enough=enough)
    # A terminal that is narrower still wraps the lines itself; a number that is cut would be wrong.
    room = console.width
    console.width = max(room, needed)
    console.print(table)
    console.width = room
    if missing.plain:
        console.print(missing)


def fitted(
    console: Console,
    titles: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    left_out: Sequence[str] = (),
    prose: Sequence[str] = (),
    *,
    enough: int = ENOUGH,
) -> tuple[Table, int, Text]:
    """Return a table of at least one row that fits `console`, its width in characters, and a line on what is missing.

    A title that begins with `>` is of numbers. `left_out`: columns that a narrow terminal omits, the least important
    first. `prose`: columns of sentences, which are wrapped. `enough`: columns are omitted to show this many characters
    of a text column.
    """
    columns = dict(zip(titles, zip(*rows, strict=True), strict=True))
    missing = []
    for title in left_out:
        if width_of([(each, *cells) for each, cells in columns.items()], enough) <= console.width:
            break
        del columns[title]
        missing.append(title.removeprefix(">").strip())
    widths = dict(zip(columns, _widths(columns, console.width), strict=True))
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for title in columns:
        table.add_column(
            title.removeprefix(">"),
            justify="right" if title.startswith(">") else "left",
            no_wrap=title not in prose,
            overflow="fold",
        )
    mark = "…" if has_blocks(console) else "..."
    for row in zip(*columns.values(), strict=True):
        named = zip(columns, row, strict=True)
        table.add_row(*(cell if title in prose else _cut(cell, widths[title], mark) for title, cell in named))
    if any(
        cell_len(str(cell)) > widths[title] for title, cells in columns.items() if title not in prose for cell in cells
    ):
        missing.append(f"text at {mark}")
    lacking = ", ".join(each for each in missing if each)
    needed = sum(widths.values()) + GAP * (len(widths) - 1)
    return table, needed, Text(f"not shown: {lacking} (pipes and json have all)" if lacking else "", "dim")


def width_of(columns: Iterable[Sequence[Cell]], enough: int | None = None) -> int:
    """Width of a table with these columns, in characters; the first cell of a column is its title.

    `enough`: most characters that a text column counts.
    """
    total = 0
    for title, *cells in columns:
        widest = max(cell_len(str(cell).removeprefix(">")) for cell in (title, *cells))
        total += GAP + (widest if enough is None or str(title).startswith(">") else min(widest, enough))
    return total - GAP


def pages_column(title: str, count: Callable[[_Item], int], page_size: int, spare: int = 0) -> Column[_Item]:
    """A column of numbers of pages, with their sizes if there is room."""
    return Column(title, lambda it: in_pages(count(it), page_size), count, spare, lambda it: f"{count(it):,}")


def in_pages(count: int, page_size: int) -> str:
    """A number of pages, and their size."""
    return f"{count:,} ({format_size(count * page_size)})" if count and page_size else f"{count:,}"


def page_range(hint: admin_pb2.HintRange) -> str:
    """First and last page of a hint's range."""
    last = hint.first_page + max(hint.page_count, 1) - 1
    return f"{hint.first_page}-{last}" if last > hint.first_page else str(last)


def _widths(columns: dict[str, tuple[Cell, ...]], room: int) -> list[int]:
    """Width of each column: that of its widest cell; then the widest text columns shrink until all fit, or none can."""
    titles = list(columns)
    widths = [max(cell_len(str(cell)) for cell in (title.removeprefix(">"), *columns[title])) for title in titles]
    least = [
        width if title.startswith(">") else min(width, max(LEAST, cell_len(title)))
        for title, width in zip(titles, widths, strict=True)
    ]
    over = sum(widths) + GAP * (len(widths) - 1) - room
    while over > 0 and widths != least:
        widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=widths.__getitem__)
        widths[widest] -= 1
        over -= 1
    return widths


def _cut(cell: Cell, width: int, mark: str) -> Cell:
    """`cell` cut to at most `width` characters."""
    if cell_len(str(cell)) <= width:
        return cell
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    text.truncate(width - cell_len(mark), overflow="crop")
    return text.append(mark)
