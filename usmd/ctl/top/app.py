"""The live screen: what it shows and where, its keys, and when it reads.

It reads once an interval, and less often if a reading takes long, so that it costs the daemon a tenth of its time at
most. It survives the daemon's end: what was read last stays, and it tries again each interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.console import Console
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from usmd.ctl.connect import AdminError
from usmd.ctl.memory_map import By
from usmd.ctl.tables import in_order
from usmd.ctl.top import overview
from usmd.ctl.top.columns import BUSIEST, COLUMNS
from usmd.ctl.top.process_list import ProcessList
from usmd.ctl.top.rates import COUNTED, LEAST_INTERVAL, MOST_INTERVAL, Row, matches, rates_of, rows_of
from usmd.ctl.top.reading import Reading, Source, Wanted
from usmd.ctl.top.screens import HelpScreen, ProcessScreen
from usmd.text_output import printable

REST: Final = 9
"""A reading rests so many times as long as it took."""
SMALL: Final = 18
"""Lines of a screen below which there is no room for the map and devices."""
ANYWHERE: Final = ("quit", "pause", "read", "suspend_process", "end_filter")
"""Actions that are not of the list alone."""
_MAPS: Final = (By.STATE, By.OWNER, None)


def pause_after(seconds: float, interval: float) -> float:
    """Seconds from the end of a reading that took so long to the next one."""
    return max(interval, REST * seconds)


@dataclass
class Settings:
    """What the screen begins with. `sort` is as of --sort."""

    interval: float = 1.0
    sort: str = BUSIEST
    filter: str = ""


class FilterLine(Input):
    """The line in which a filter is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep the filter", key_display="Enter"),
        Binding("escape", "app.end_filter", "Show all", key_display="Esc"),
    ]


class TopApp(App[None]):
    """The screen. `first`: a reading to begin with."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; overflow: hidden; }
    Static { height: auto; }
    #map, #devices { margin-top: 1; }
    #map.-tight, #devices.-tight { margin-top: 0; }
    ProcessList { height: 1fr; margin-top: 1; }
    ProcessList.-tight { margin-top: 0; }
    FilterLine { display: none; height: 1; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,f10", "leave", "Quit", key_display="q"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("question_mark,h,f1", "help", "Help", key_display="?"),
        Binding("slash,f4", "filter", "Filter", key_display="/"),
        Binding("less_than_sign", "sort_beside(-1)", show=False),
        Binding("greater_than_sign,f6", "sort_beside(1)", "Sort", key_display="<>"),
        Binding("I", "invert", show=False),
        Binding("F", "sort('faults/s')", show=False),
        Binding("M", "sort('res')", show=False),
        Binding("S", "sort('swap')", show=False),
        Binding("E", "sort('evict/s')", show=False),
        Binding("P", "sort('pressure')", show=False),
        Binding("N", "sort('name')", show=False),
        Binding("enter", "explain", "Explain", key_display="Enter"),
        Binding("p", "pause", "Pause"),
        Binding("m", "map", "Map"),
        Binding("d", "devices", show=False),
        Binding("space", "read", show=False),
        Binding("plus", "interval(0.5)", show=False),
        Binding("minus", "interval(2)", show=False),
        Binding("escape", "end_filter", show=False),
        Binding("ctrl+z", "suspend_process", show=False),
    ]

    def __init__(self, source: Source, first: Reading, console: Console, settings: Settings | None = None) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._source = source
        self._plain = console
        self._settings = settings or Settings()
        self._reading = first
        self._mapped = first
        self._asked = Wanted()
        self._shapes: dict[str, tuple[int, int, str]] = {}
        self._before: Reading | None = None
        self._by: By | None = By.STATE
        self._devices = True
        self._paused = False
        self._once = True
        self._lost = ""
        self._wake = asyncio.Event()

    def compose(self) -> ComposeResult:
        """The daemon, the map, the devices, the processes, and the keys."""
        yield Static(id="heading")
        yield Static(id="meters")
        yield Static(id="map")
        yield Static(id="devices")
        yield ProcessList(self._plain)
        yield FilterLine(placeholder="part of a name, or a number", select_on_focus=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to read, and end well on a signal."""
        with contextlib.suppress(RuntimeError, ValueError):  # a loop that is not in the main thread has no signals
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self.query_one(ProcessList).focus()
        self.run_worker(self._read_again_and_again())

    def on_unmount(self) -> None:
        """End the connection."""
        self._source.close()

    def on_resize(self) -> None:
        """Draw for the new size, when Textual knows it."""
        self.call_later(self._resized)

    def _resized(self) -> None:
        """Draw; a map of another size has to be read."""
        self._draw()
        if self._wanted() != self._asked:
            self._wake.set()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something: those of the list do only where the list has the focus."""
        del parameters
        return action in ANYWHERE or isinstance(self.focused, ProcessList)

    async def _read_again_and_again(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._wake.clear()
            began = clock()
            if self._once or not self._paused:
                self._once = False
                await self._read()
            rest = None if self._paused else pause_after(clock() - began, self._settings.interval)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), rest)

    async def _read(self) -> None:
        self._asked = self._wanted()
        try:
            reading = await self._source.read(self._asked)
        except AdminError as error:
            self._lost = str(error)
        else:
            self._lost = ""
            if reading.seconds_since(self._reading) >= LEAST_INTERVAL or self._before is None:
                self._before = self._reading  # else rates would be of too short a time
            self._reading = reading
            self._mapped = reading if reading.memory is not None else self._mapped
        self._draw()

    def _wanted(self) -> Wanted:
        """What the open screen shows of the daemon: of one process all counters."""
        if isinstance(self.screen, ProcessScreen):
            return Wanted(process_id=self.screen.process_id)
        rows = self._map_rows
        cells = min(rows * self.size.width, self._reading.status.frames) if rows and self._by else 0
        return Wanted(cells=cells, counters=COUNTED)

    @property
    def _map_rows(self) -> int:
        """Lines of the memory map: a sixth of the screen; none on a small one."""
        return 0 if self.size.height < SMALL else min(self.size.height // 6 - 1, 8)

    @property
    def _device_rows(self) -> int:
        """Lines for devices: an eighth of the screen; none on a small one."""
        return 0 if self.size.height < SMALL else max(self.size.height // 8, 2)

    def _draw(self) -> None:
        if not self.is_running or not self._main.query(ProcessList) or not self.size.width:
            return
        rows = rows_of(self._reading, self._before)
        self._draw_overview(self.size.width)
        self._draw_processes(in_order(COLUMNS, rows, self._settings.sort))
        if isinstance(self.screen, ProcessScreen):
            number = self.screen.process_id
            row = next((each for each in rows if each.process.process_id == number), None)
            self.screen.show(row, self._reading.detail, self._lost_words())

    def _draw_overview(self, width: int) -> None:
        console, reading, before = self._plain, self._reading, self._before
        head = overview.heading(reading, self._notes(), width)
        if self._lost:
            head = Text.assemble((f"{self._lost_words()}\n", "bold reverse red"), head)
        self._update("#heading", head)
        self._update("#meters", overview.meters(console, reading, rates_of(reading, before), width))
        rows = self._map_rows if self._by else 0
        drawn = overview.memory_map(console, self._mapped, self._by, width, rows) if rows and self._by else Text()
        self._update("#map", drawn)
        most = self._device_rows if self._devices else 0
        self._update("#devices", overview.device_lines(console, reading, before, width, most) if most else Text())

    def _draw_processes(self, rows: list[Row]) -> None:
        shown = [row for row in rows if matches(row, self._settings.filter)]
        processes = self._main.query_one(ProcessList)
        processes.set_class(self.size.height < SMALL, "-tight")
        empty = "no process passes the filter" if rows else "no processes: no application is attached"
        processes.show(shown, self._settings.sort, empty)

    def _update(self, name: str, text: Text) -> None:
        """Show a text, or nothing at all if it is empty."""
        part = self._main.query_one(name, Static)
        part.display = bool(text.plain)
        shape = (self.size.width, text.plain.count("\n"), self._lost)
        part.update(text, layout=self._shapes.get(name) != shape)
        self._shapes[name] = shape

    def _notes(self) -> list[str]:
        notes = [f"filter: {printable(self._settings.filter)}"] if self._settings.filter else []
        return [*notes, "PAUSED" if self._paused else f"every {self._settings.interval:g} s"]

    def _lost_words(self) -> str:
        if not self._lost:
            return ""
        again = "" if self._paused else f"; trying again every {self._settings.interval:g} s"
        return f"No answer: {printable(self._lost)}{again}. What follows is old."

    @property
    def _main(self) -> Screen[object]:
        """The screen with the list, whatever is open over it."""
        return self.screen_stack[0]

    def action_leave(self) -> None:
        """End the program."""
        self.exit()

    def action_help(self) -> None:
        """Open the help."""
        self.push_screen(HelpScreen(self._plain))

    def action_explain(self) -> None:
        """Open all about the marked process."""
        row = self._main.query_one(ProcessList).marked
        if row is not None:
            self.push_screen(ProcessScreen(self._plain, row), lambda _: self._wake.set())
            self._wake.set()

    def action_filter(self) -> None:
        """Open the line in which a filter is typed."""
        line = self._main.query_one(FilterLine)
        line.display = True
        line.value = self._settings.filter
        line.focus()

    def action_end_filter(self) -> None:
        """Show all processes again."""
        self._settings.filter = ""
        self._close_filter()

    def action_sort(self, name: str) -> None:
        """Sort by a column; a second time the other way round."""
        self._settings.sort = f"-{name}" if self._settings.sort == name else name
        self._draw()

    def action_sort_beside(self, step: int) -> None:
        """Sort by the column beside that by which the list is sorted."""
        shown = self._main.query_one(ProcessList).columns
        sorted_by = self._settings.sort.removeprefix("-")
        place = shown.index(sorted_by) + step if sorted_by in shown else 0
        self._settings.sort = shown[place % len(shown)]
        self._draw()

    def action_invert(self) -> None:
        """Sort the other way round."""
        sort = self._settings.sort
        self._settings.sort = sort.removeprefix("-") if sort.startswith("-") else f"-{sort}"
        self._draw()

    def action_pause(self) -> None:
        """Read nothing until the next time."""
        self._paused = not self._paused
        self._wake.set()
        self._draw()

    def action_map(self) -> None:
        """Show memory by state, by owner, or not."""
        self._by = _MAPS[(_MAPS.index(self._by) + 1) % len(_MAPS)]
        self._wake.set()
        self._draw()

    def action_devices(self) -> None:
        """Show the swap devices, or not."""
        self._devices = not self._devices
        self._draw()

    def action_read(self) -> None:
        """Read now, also in a pause."""
        self._once = True
        self._wake.set()

    def action_interval(self, factor: float) -> None:
        """Read more or less often."""
        self._settings.interval = min(max(self._settings.interval * factor, LEAST_INTERVAL), MOST_INTERVAL)
        self._wake.set()
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._settings.filter = event.value.strip()
        self._draw()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self._close_filter()

    def on_process_list_sort_wanted(self, event: ProcessList.SortWanted) -> None:
        """Sort by the title that was clicked."""
        self.action_sort(event.name)

    def on_process_list_process_wanted(self) -> None:
        """Explain the process that was clicked."""
        self.action_explain()

    def _close_filter(self) -> None:
        self._main.query_one(FilterLine).display = False
        self._main.query_one(ProcessList).focus()
        self._draw()
