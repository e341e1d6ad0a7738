"""The screens that open over the list: all about one process, and help."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from usmd.ctl.top.process_view import printed, show_process
from usmd.ctl.top.rates import Row
from usmd.ctl.top.reading import Detail

KEYS: Final = (
    ("q, F10, Ctrl-C", "quit"),
    ("up, down, PgUp, PgDn, Home, End", "move the mark; it stays on its process, or on the first line after Home"),
    ("Enter", "all about the marked process: limits, policies, regions, last evictions and why"),
    ("/, F4", "filter: part of a name, or a process number, PID or UID; Enter keeps it, Esc ends it"),
    ("<, >, F6", "sort by the column at the left, or at the right; a click on a title does so, too"),
    ("F, M, S, E, P, N", "sort by faults, memory (RES), swap, evictions a second, pressure, or name"),
    ("I", "the other way round"),
    ("m", "memory map: by state, by owner, none"),
    ("d", "swap devices: shown, or not"),
    ("p", "pause: nothing is read until p again"),
    ("space", "read now"),
    ("+, -", "read twice, or half, as often"),
    ("Ctrl-Z", "suspend, as any program"),
    ("?, h, F1", "this help"),
)
COLUMNS: Final = (
    ("STATE", "FROZEN, and for how long: faults wait for memory (oom policy freeze); there once a process has been"),
    ("RES, SWAP", "memory in frames, and in swap only"),
    ("FAULTS/S, MAJOR/S", "faults a second, and those of them that needed I/O"),
    ("PRESSURE, FULL", "share of the last 10 s in which faults waited, and no thread of the process ran meanwhile"),
    ("EVICT/S, IN/S, OUT/S", "pages evicted, read from swap, and written to it, a second"),
    ("MIN, MAX, WEIGHT, SWAPMAX", "limits, as of `usmctl limit`"),
    ("UNEVICT, PINNED", "memory that EVICTION=DENY keeps, and that the process pinned"),
    ("EVICT BY", "the evict policy"),
)


class _Reader(Screen[None]):
    """A text that can be scrolled, until a key closes it."""

    CSS = """
    VerticalScroll { scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Back", key_display="Esc"),
        Binding("up", "scroll('up')", show=False),
        Binding("down", "scroll('down')", show=False),
        Binding("pageup", "scroll('page_up')", show=False),
        Binding("pagedown", "scroll('page_down')", show=False),
        Binding("home", "scroll('home')", show=False),
        Binding("end", "scroll('end')", show=False),
    ]

    def compose(self) -> ComposeResult:
        """The text, and the keys."""
        with VerticalScroll(can_focus=False):
            yield Static()
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Write the text."""
        self.redraw()

    def on_resize(self) -> None:
        """Write the text for the new width."""
        self.redraw()

    def action_scroll(self, where: str) -> None:
        """Scroll."""
        getattr(self.query_one(VerticalScroll), f"scroll_{where}")(animate=False)

    def redraw(self) -> None:
        """Write the text as it is now."""
        self.query_one(Static).update(self.text(max(self.size.width - 1, 1)))

    def text(self, width: int) -> Text:
        """The text for a screen so wide."""
        raise NotImplementedError


class ProcessScreen(_Reader):
    """All about one process, as long as it lives, and then as it was last."""

    def __init__(self, console: Console, row: Row) -> None:
        super().__init__()
        self._plain = console
        self._row = row
        self._detail: Detail | None = None
        self._note = ""

    @property
    def process_id(self) -> int:
        """Number of the process."""
        return self._row.process.process_id

    def show(self, row: Row | None, detail: Detail | None, note: str) -> None:
        """Show what was read. `row` None: the process is gone."""
        if row is not None:
            self._row = row
        if detail is not None and detail.process_id == self.process_id:
            self._detail = detail
        self._note = note if row is not None or note else "The process has ended; this is what was read of it last."
        if self.is_mounted:
            self.redraw()

    def text(self, width: int) -> Text:
        """The note, if there is one, and all about the process."""
        body = printed(self._plain, width, lambda console: show_process(console, self._row, self._detail))
        return Text.assemble((f"{self._note}\n", "bold reverse"), body) if self._note else body


class HelpScreen(_Reader):
    """Keys and columns."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._plain = console

    def text(self, width: int) -> Text:
        """Keys and columns, each with what it is."""

        def show(console: Console) -> None:
            for title, lines in (("Keys", KEYS), ("Columns", COLUMNS)):
                console.print(Text(title, style="bold"))
                table = Table.grid(padding=(0, 2))
                table.add_column(style="bold", max_width=max(width // 4, 10))
                table.add_column()
                for key, words in lines:
                    table.add_row(key, words)
                console.print(table)
                console.print()
            console.print(
                "A narrow screen omits columns: those at the right of this list first. usmctl processes has all."
            )

        return printed(self._plain, width, show)
