"""The list of processes: a line each, one of them marked.

Only the lines on the screen are drawn, so a thousand processes cost as little as twenty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from usmd.ctl.top.columns import GAP, STATE, Field, cells_of, fitting, is_frozen, titles_of
from usmd.ctl.top.overview import cut_mark
from usmd.ctl.top.rates import Row

_HEADER = Style(bold=True, underline=True)
_SORTED = Style(bold=True, reverse=True)
_MARKED = Style(reverse=True)
_PLAIN = Style()
_DIM = Style(dim=True)
_FROZEN = Style(bold=True, color="red")
_DIMMED = ("0", "-")
"""Texts of cells that say nothing of note."""


class ProcessList(Widget, can_focus=True):
    """The list. The mark stays on its process when the order changes, or on the first line until it is moved."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "end(-1)", show=False),
        Binding("end", "end(1)", show=False),
    ]

    class SortWanted(Message):
        """A title was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class ProcessWanted(Message):
        """A line was clicked that was marked already."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._mark = cut_mark(console)
        self._rows: Sequence[Row] = ()
        self._fields: list[Field] = []
        self._states = False
        """Whether a process was frozen: from then on the column STATE stays, so that the others do."""
        self._sort = ""
        self._empty = ""
        self._first = 0
        self._marked = 0
        self._follows = 0

    @property
    def marked(self) -> Row | None:
        """The process of the marked line; None if there is no line."""
        return self._rows[self._marked] if self._rows else None

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are shown."""
        return [field.column.name for field in self._fields]

    def show(self, rows: Sequence[Row], sort: str, empty: str) -> None:
        """Show these processes in this order. `empty` stands there if there are none."""
        self._rows, self._sort, self._empty = rows, sort.removeprefix("-"), empty
        if not self._states and any(map(is_frozen, rows)):
            self._states = True
            self._fields = fitting(self.size.width, states=True)
        place = next((n for n, row in enumerate(rows) if row.process.process_id == self._follows), None)
        self._put(self._marked if place is None and self._follows else place or 0)

    def on_resize(self, event: events.Resize) -> None:
        """Choose the columns that fit."""
        self._fields = fitting(event.size.width, states=self._states)
        self._put(self._marked)

    def action_move(self, lines: int) -> None:
        """Move the mark by so many lines."""
        self._mark_line(self._marked + lines)

    def action_page(self, pages: int) -> None:
        """Move the mark by so many screens."""
        self._mark_line(self._marked + pages * max(self._room - 1, 1))

    def action_end(self, side: int) -> None:
        """Move the mark to the first line (-1), where it stays, or to the last one (1)."""
        self._mark_line(0 if side < 0 else len(self._rows) - 1)
        if side < 0:
            self._follows = 0

    def on_mouse_scroll_down(self) -> None:
        """Move the mark down."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """Move the mark up."""
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        """Sort by a title, mark a line, or ask for the process of the marked line."""
        if event.y == 0:
            right = 0
            for field in self._fields:
                right += field.width + GAP
                if event.x < right:
                    self.post_message(self.SortWanted(field.column.name))
                    return
            return
        line = self._first + event.y - 1
        if line == self._marked and self._rows:
            self.post_message(self.ProcessWanted())
        elif line < len(self._rows):
            self._mark_line(line)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are processes, and the titles."""
        del container, viewport, width
        return len(self._rows) + 1

    def render_line(self, y: int) -> Strip:
        """The titles, a process, or what stands there if there is none."""
        if y == 0:
            return self._titles()
        line = self._first + y - 1
        if line < len(self._rows):
            return self._line(self._rows[line], marked=line == self._marked)
        text = self._empty if y == 1 and not self._rows else ""
        return self._strip([Segment(text, _DIM)], _PLAIN)

    @property
    def _room(self) -> int:
        return max(self.size.height - 1, 1)

    def _mark_line(self, line: int) -> None:
        self._put(line)
        self._follows = self._rows[self._marked].process.process_id if self._rows else 0

    def _put(self, line: int) -> None:
        """Mark a line, and scroll so that it is on the screen."""
        self._marked = min(max(line, 0), max(len(self._rows) - 1, 0))
        last_first = max(len(self._rows) - self._room, 0)
        self._first = min(max(self._first, self._marked - self._room + 1), self._marked, last_first)
        self.refresh()

    def _titles(self) -> Strip:
        segments = []
        for number, (field, title) in enumerate(zip(self._fields, titles_of(self._fields), strict=True)):
            segments.append(Segment(" " * GAP if number else "", _HEADER))
            segments.append(Segment(title, _SORTED if field.column.name == self._sort else _HEADER))
        return self._strip(segments, _HEADER)

    def _line(self, row: Row, *, marked: bool) -> Strip:
        segments = []
        for number, cell in enumerate(cells_of(self._fields, row, self._mark)):
            says_frozen = self._fields[number] is STATE and is_frozen(row)
            plain = _FROZEN if says_frozen else _DIM if cell.strip() in _DIMMED else _PLAIN
            style = _MARKED if marked else plain
            segments.append(Segment((" " * GAP if number else "") + cell, style))
        return self._strip(segments, _MARKED if marked else _PLAIN)

    def _strip(self, segments: Sequence[Segment], rest: Style) -> Strip:
        return Strip(segments).adjust_cell_length(self.size.width, rest)
