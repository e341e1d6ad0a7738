"""Lists as tables: processes, regions, swap devices, and the events of `watch`; and how any list becomes a table.

Covers columns and wording. RES, SWAP and DENIED are pages; bytes have a unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lib_usm.pb.usm.v1 import admin_pb2
from usmd.sizes import format_size
from usmd.text_output import printable

GAP = 2
"""Characters between two columns."""
LAST_COLUMN = 24  # characters below which the last column, which alone may wrap, is hard to read


def show_processes(console: Console, processes: Sequence[admin_pb2.Process]) -> None:
    """One line per session."""
    rows = (
        (
            str(process.process_id),
            printable(process.name),
            str(process.pid) if process.pid else "-",
            str(process.uid) if process.HasField("uid") else "-",
            f"{process.regions:,}",
            format_size(process.mapped_bytes),
            f"{process.resident_pages:,}",
            f"{process.swapped_pages:,}",
            f"{process.denied_pages:,}",
            printable(_policies(process)),
        )
        for process in processes
    )
    columns = (
        ">ID",
        "NAME",
        ">PID",
        ">UID",
        ">REGIONS",
        ">MAPPED",
        ">RES",
        ">SWAP",
        ">DENIED",
        "ALLOC, EVICT, OOM, COND",
    )
    show_table(console, columns, rows, "no processes: no application is attached")


def _policies(process: admin_pb2.Process) -> str:
    found = [process.alloc_policy, process.evict_policy, process.oom_policy]
    if process.cond_policy not in ("", "none"):
        found.append(process.cond_policy)
    return ", ".join(found)


def show_regions(console: Console, regions: Sequence[admin_pb2.RegionInfo]) -> None:
    """One line per region."""
    rows = (
        (
            str(region.region_id),
            printable(region.name) or "-",
            str(region.process_id),
            f"{region.address:#x}",
            format_size(region.length),
            f"{region.resident_pages:,}",
            f"{region.swapped_pages:,}",
            f"{region.faults:,}",
            f"{region.major_faults:,}",
            f"{region.evictions:,}",
        )
        for region in regions
    )
    columns = (">ID", "NAME", ">PROC", ">ADDRESS", ">LENGTH", ">RES", ">SWAP", ">FAULTS", ">MAJOR", ">EVICTED")
    show_table(console, columns, rows, "no regions")


def show_swap_devices(console: Console, devices: Sequence[admin_pb2.SwapDevice]) -> None:
    """One line per swap device."""
    rows = (
        (
            str(device.number),
            printable(device.name),
            device.kind,
            f"{device.slots:,}",
            f"{device.slots - device.free_slots:,}",
            f"{(device.slots - device.free_slots) / device.slots:.1%}" if device.slots else "-",
            f"{device.pages_written:,}",
            f"{device.pages_read:,}",
            f"{device.in_flight:,}",
            f"{device.errors:,}",
            printable(device.path) or "-",
        )
        for device in devices
    )
    columns = (">NO", "NAME", "KIND", ">SLOTS", ">USED", ">SHARE", ">WRITTEN", ">READ", ">IN FLIGHT", ">ERRORS", "PATH")
    show_table(
        console, columns, rows, "no swap devices: a page that is evicted has nowhere to go; see `usmd serve --swap`"
    )


def page_range(hint: admin_pb2.HintRange) -> str:
    """First and last page of a hint's range."""
    last = hint.first_page + max(hint.page_count, 1) - 1
    return f"{hint.first_page}-{last}" if last > hint.first_page else str(last)


def event_line(event: admin_pb2.Event) -> Text:
    """Event on one line: local time, kind, process, message, details."""
    time = datetime.fromtimestamp(event.time_seconds).astimezone()
    bad = any(word in event.kind for word in ("error", "failed", "killed", "loss", "poisoned", "blocked", "replaced"))
    line = Text(time.strftime("%Y-%m-%d %H:%M:%S.") + f"{time.microsecond // 1000:03d}", style="dim")
    line.append(f"  {printable(event.kind):<18}", style="bold red" if bad else "bold")
    line.append(f"  {f'process {event.process_id}' if event.process_id else '-':<12}")
    line.append(f"  {printable(event.message)}")
    for name in sorted(event.fields):
        line.append(f"  {printable(name)}={printable(event.fields[name])}", style="dim")
    return line


def show_table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str | Text]], when_empty: str) -> None:
    """Print the rows; a column whose title begins with `>` is of numbers and stands to the right.

    The last column alone wraps, if it is of text.
    """
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in columns:
        if column.startswith(">"):
            table.add_column(column[1:], justify="right", no_wrap=True)
        elif column == columns[-1]:
            table.add_column(column, overflow="fold", min_width=LAST_COLUMN)
        else:
            table.add_column(column, no_wrap=True)
    cells = [[column.removeprefix(">") for column in columns]]
    for row in rows:
        table.add_row(*row)
        cells.append([str(cell) for cell in row])
    if not table.row_count:
        console.print(when_empty, soft_wrap=True)
        return
    # A terminal that is too narrow wraps the lines by itself; a number cut short would be a wrong number.
    by_column = list(zip(*cells, strict=True))
    padded = width_of(by_column)
    wrapped = 0 if columns[-1].startswith(">") else max(max(map(cell_len, by_column[-1])) - LAST_COLUMN, 0)
    if padded - wrapped > console.width:
        console.width = padded
    console.print(table)


def width_of(columns: Iterable[Sequence[str | Text]]) -> int:
    """Characters in a line of a table with these cells, of which the first is the title."""
    return sum(max(cell_len(str(cell).removeprefix(">")) for cell in column) + GAP for column in columns)
