"""`usmctl map`: draws memory as a picture, once or again and again."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live

from usmd.command_line import Format
from usmd.ctl import memory_map
from usmd.ctl.as_json import plain, write_document, write_line
from usmd.ctl.command import connected, until_interrupted
from usmd.ctl.console import can_redraw, make_console
from usmd.ctl.options import AddressOption, FormatOption, chosen_format

if TYPE_CHECKING:
    from usmd.ctl.connect import Admin

EPILOG = "Example: usmctl map --by owner --watch"


def map_(
    context: typer.Context,
    by: Annotated[memory_map.By, typer.Option(help="What a cell shows: its state or its owner.")] = memory_map.By.STATE,
    cells: Annotated[
        int | None,
        typer.Option(min=1, max=memory_map.MAX_CELLS, help="Cells of the picture; default: as fits the terminal."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw again until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between pictures of --watch.")] = 1.0,
    address: AddressOption = None,
    output: FormatOption = None,
) -> None:
    """Draw memory as a picture: one cell per group of neighbouring frames."""
    with connected(context, address) as admin:
        if chosen_format(context, output) is Format.JSON:
            _map_as_json(admin, cells, interval if watch else None)
        elif watch:
            _watch_map(admin, by, cells, interval)
        else:
            console = make_console()
            console.print(_picture(console, admin, by, cells))


def _picture(console: Console, admin: Admin, by: memory_map.By, cells: int | None) -> Group:
    status = admin.status()
    layout = memory_map.choose_layout(console, status.frames, cells)
    memory = admin.memory_map(cells or layout.cells)
    owners = {process.process_id: process.name for process in admin.processes()} if by is memory_map.By.OWNER else {}
    return memory_map.draw_map(console, memory, status, owners, layout.columns, by)


def _watch_map(admin: Admin, by: memory_map.By, cells: int | None, interval: float) -> None:
    console = make_console()
    with until_interrupted():
        if not can_redraw(console):
            while True:
                console.print(_picture(console, admin, by, cells))
                sys.stdout.flush()
                time.sleep(interval)
        with Live(_picture(console, admin, by, cells), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(_picture(console, admin, by, cells), refresh=True)


def _map_as_json(admin: Admin, cells: int | None, interval: float | None) -> None:
    """Write one document, or with an interval one a line."""
    if interval is None:
        write_document(plain(admin.memory_map(cells or 0)), sys.stdout)
        return
    with until_interrupted():
        while True:
            write_line(plain(admin.memory_map(cells or 0)), sys.stdout)
            time.sleep(interval)
