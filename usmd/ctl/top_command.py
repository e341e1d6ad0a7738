"""`usmctl top`: a live screen of processes, rates, memory map and devices; in a pipe, what it shows once."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from usmd.command_line import Format
from usmd.ctl.address import admin_socket
from usmd.ctl.as_json import plain, write_document
from usmd.ctl.command import FAILED
from usmd.ctl.console import can_redraw, make_console
from usmd.ctl.options import AddressOption, FormatOption, chosen_format, sort_option
from usmd.ctl.status_view import MAX_BAR
from usmd.ctl.tables import in_order, show_list
from usmd.ctl.top.columns import BUSIEST, COLUMNS, STATE, is_frozen
from usmd.ctl.top.rates import COUNTED, LEAST_INTERVAL, MOST_INTERVAL, Row, matches, rates_of, rows_of

if TYPE_CHECKING:
    from usmd.ctl.top.reading import AdminSource, Reading

EPILOG = """Examples:

usmctl top

usmctl top --sort res --interval 5

usmctl top --once --filter web --format json"""


def top(
    context: typer.Context,
    interval: Annotated[
        float, typer.Option(min=LEAST_INTERVAL, max=MOST_INTERVAL, help="Seconds between readings.")
    ] = 1.0,
    sort: Annotated[str, sort_option(COLUMNS)] = BUSIEST,
    filter_: Annotated[
        str,
        typer.Option(
            "--filter",
            metavar="TEXT",
            help="Only processes whose name contains TEXT, or whose number, PID or UID is TEXT.",
            show_default=False,
        ),
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Print what the screen shows, once, after an interval.")] = False,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Watch processes, faults a second, memory map and swap devices live; ? shows the keys, q quits.

    Enter shows all about a process: its limits, policies, regions, and last evictions with their reasons. The screen
    outlasts the daemon: it says that there is no answer, and goes on when usmd is back. It costs the daemon a few
    milliseconds of CPU time a reading, and p pauses it.

    In a pipe, with --format json, or where no live screen is possible, what it shows is printed once, as with --once.
    """
    from usmd.ctl.top.reading import AdminSource, Wanted

    in_order(COLUMNS, [], sort)
    source = AdminSource(admin_socket(address or context.obj.address))
    try:
        console = make_console()
        as_json = chosen_format(context, output) is Format.JSON
        is_live = not as_json and not once and _has_keys() and can_redraw(console)
        wanted = Wanted(counters=() if as_json else COUNTED)
        first = source.read_now(wanted)
        if is_live:
            code = _watch(source, first, console, interval, sort, filter_)
            if code:
                raise typer.Exit(code)
            return
        time.sleep(interval)
        second = source.read_now(wanted)
    finally:
        source.close()
    rows = in_order(COLUMNS, [row for row in rows_of(second, first) if matches(row, filter_)], sort)
    if as_json:
        write_document(_document(second, first, rows), sys.stdout)
    else:
        _print(console, second, first, rows)


def _has_keys() -> bool:
    """Whether keys can be read, and the screen be written: Textual reads standard input and writes standard error."""
    return all(stream is not None and stream.isatty() for stream in (sys.__stdin__, sys.__stderr__))


def _watch(source: AdminSource, first: Reading, console: Console, interval: float, sort: str, filter_: str) -> int:
    """Show the live screen until it is closed; the exit code."""
    from usmd.ctl.top.app import Settings, TopApp  # Textual, for which other commands do not wait

    app = TopApp(source, first, console, Settings(interval, sort, filter_))
    app.run()
    return FAILED if app.return_code else 0


def _document(reading: Reading, before: Reading, rows: list[Row]) -> dict[str, object]:
    rates = rates_of(reading, before)
    return {
        "seconds": reading.seconds_since(before),
        "rates": rates and asdict(rates),
        "status": plain(reading.status),
        "processes": [{**plain(row.process), "rates": row.rates and asdict(row.rates)} for row in rows],
        "swap_devices": [plain(device) for device in reading.devices],
    }


def _print(console: Console, reading: Reading, before: Reading, rows: list[Row]) -> None:
    from usmd.ctl.top import overview

    width = min(console.width, MAX_BAR)
    console.print(overview.heading(reading, [], width))
    console.print(overview.meters(console, reading, rates_of(reading, before), width))
    console.print(overview.device_lines(console, reading, before, width, len(reading.devices)))
    console.print()
    states = any(map(is_frozen, rows))
    show_list(console, [each for each in COLUMNS if states or each is not STATE.column], rows, "no processes")
