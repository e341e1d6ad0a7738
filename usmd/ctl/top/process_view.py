"""All about one process in words and tables: limits, policies, rates, regions, the last evictions and why."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.ctl.evictions_view import show_evictions
from usmd.ctl.lists_view import quotas_of, show_regions
from usmd.ctl.status_view import format_duration, group_counters
from usmd.ctl.tables import in_pages
from usmd.ctl.top.columns import brief_rate, is_frozen
from usmd.ctl.top.rates import Rates, Row
from usmd.ctl.top.reading import Detail
from usmd.sizes import format_size
from usmd.text_output import printable

NONE: Final = "none"


class _Memory(io.StringIO):
    """Text in memory, with the encoding of the terminal for which it is."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def printed(console: Console, width: int, show: Callable[[Console], None]) -> Text:
    """What `show` prints on a terminal like `console`, `width` wide."""
    file = _Memory(console.encoding)
    show(
        Console(
            file=file,
            width=width,
            color_system="standard" if console.color_system else None,
            force_terminal=True,
            no_color=console.no_color,
            highlight=False,
            markup=False,
            emoji=False,
        )
    )
    return Text.from_ansi(file.getvalue())


def show_process(console: Console, row: Row, detail: Detail | None) -> None:
    """Print all about a process. `detail`, which comes with all counters, has regions and evictions."""
    process = row.process
    name = printable(process.name)
    console.print(Text(f"Process {process.process_id} {name}", style="bold"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for fact, text in [*_facts(row), *([] if detail is None else [("So far", _so_far(process))])]:
        facts.add_row(f"  {fact}", text)
    console.print(facts)
    if detail is None:
        return
    console.print(Text("\nRegions", style="bold"))
    show_regions(console, detail.regions, row.page_size, of_one=True)
    console.print(Text("\nLast evictions", style="bold"))
    show_evictions(console, detail.evictions)
    if detail.regions:
        region = printable(detail.regions[0].name) or detail.regions[0].region_id
        console.print(Text(f"\nOne page: usmctl explain {process.process_id} {region}+OFFSET", style="dim"))


def _facts(row: Row) -> list[tuple[str, str]]:
    process = row.process
    uid = str(process.uid) if process.HasField("uid") else "unknown"
    return [
        ("Who", f"pid {process.pid or 'unknown'}, uid {uid}"),
        *([("State", _frozen(row.process))] if is_frozen(row) else []),
        ("Memory", _memory(row)),
        ("Limits", _limits(row)),
        ("Policies", printable(_policies(process))),
        ("A second", _rates(row.rates)),
        ("Pressure", _pressure(process.pressure)),
    ]


def _so_far(process: admin_pb2.Process) -> str:
    """All that was counted of it."""
    counted = [
        f"{printable(counter).replace('_', ' ')} {count:,}"
        for counters in group_counters(process.counters).values()
        for counter, count in counters.items()
        if count
    ]
    return ", ".join(counted) or "nothing"


def _frozen(process: admin_pb2.Process) -> str:
    """How many faults wait for memory, for how long, and by whose patience."""
    faults = f"{process.frozen_faults:,} {'fault waits' if process.frozen_faults == 1 else 'faults wait'}"
    since = format_duration(process.frozen_seconds)
    return f"FROZEN for {since}: {faults} for memory, as its oom policy {printable(process.oom_policy)} has it"


def _memory(row: Row) -> str:
    process = row.process
    counts = (("in memory", process.resident_pages), ("in swap only", process.swapped_pages),
              ("unevictable", process.unevictable_pages), ("pinned", process.pinned_pages))  # fmt: skip
    pages = ", ".join(f"{in_pages(count, row.page_size)} {words}" for words, count in counts)
    return f"{format_size(process.mapped_bytes)} mapped in {process.regions:,} regions; pages: {pages}"


def _limits(row: Row) -> str:
    process = row.process
    swap_max = in_pages(process.swap_max_pages, row.page_size) if process.HasField("swap_max_pages") else NONE
    least, most = (in_pages(count, row.page_size) for count in (process.memory_min_pages, process.memory_max_pages))
    quotas = quotas_of(process)
    return (
        f"memory_min {least if process.memory_min_pages else NONE}, "
        f"memory_max {most if process.memory_max_pages else NONE}, "
        f"memory_weight {process.memory_weight}, swap_max {swap_max}" + (f", {quotas}" if quotas != "-" else "")
    )


def _policies(process: admin_pb2.Process) -> str:
    kinds = (("alloc", process.alloc_policy), ("evict", process.evict_policy), ("oom", process.oom_policy),
             ("cond", process.cond_policy or NONE))  # fmt: skip
    return ", ".join(f"{kind} {policy}" for kind, policy in kinds)


def _pressure(pressure: admin_pb2.Pressure) -> str:
    lines = [("some", pressure.some), *([("full", pressure.full)] if pressure.HasField("full") else [])]
    return "; ".join(
        f"{name} {line.avg10:.1%} of 10 s, {line.avg60:.1%} of 60 s, {line.avg300:.1%} of 300 s" for name, line in lines
    )


def _rates(rates: Rates | None) -> str:
    if rates is None:
        return "known after the next reading"
    return (
        f"{brief_rate(rates.faults)} faults, {brief_rate(rates.major_faults)} of them major, "
        f"{brief_rate(rates.evictions)} evictions, {brief_rate(rates.swap_ins)} pages from swap, "
        f"{brief_rate(rates.swap_outs)} to swap"
    )
