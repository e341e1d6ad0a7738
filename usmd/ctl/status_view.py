"""The daemon's state at a glance: the memory bar, watermarks, swap, sessions and counters.

Counters are grouped by words in their names, so that a counter unknown to this version has a place too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from usmd.ctl.console import is_piped
from usmd.ctl.memory_map import CLEAN, DIRTY, EVICTING, FILLING, FREE, State, state_glyph
from usmd.sizes import format_size
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2

MAX_BAR = 72
COUNTER_GROUPS = (
    ("Policies", ("policy", "policies", "suggest")),
    ("Hints", ("hint", "deny", "unevictable")),
    ("Swap", ("swap", "slot", "demot")),
    ("Eviction", ("evict", "reclaim", "victim", "retaken", "drop", "oom", "budget")),
    ("Faults", ("fault", "yield", "fill", "access", "read_ahead", "poison", "sampled", "rescued")),
    ("Sessions", ("session", "process", "region", "attach")),
)
OTHER_COUNTERS = "Other"
_GROUP_NAMES = tuple(name for name, _ in COUNTER_GROUPS)


def show_status(console: Console, status: admin_pb2.GetStatusResponse) -> None:
    """Print everything of `status`."""
    heading = Text(f"usmd {printable(status.version)}", style="bold")
    heading.append(f"  pid {status.pid}, up {format_duration(status.uptime_seconds)}, ", style="not bold")
    heading.append(f"mechanism {printable(status.mechanism)}, pages of {format_size(status.page_size)}", "not bold")
    if status.build:
        heading.append(f", {printable(status.build)}", "not bold")
    if status.draining:
        left = f", sessions end in {status.drain_seconds_left:.0f} s" if status.HasField("drain_seconds_left") else ""
        heading.append(f"  DRAINING: no new session is taken{left}", style="bold red")
    console.print(heading)
    console.print()
    console.print(_bar(console, status))
    console.print()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("Memory", _memory(status))
    facts.add_row("Watermarks", _watermarks(status))
    facts.add_row("Swap", _swap(status))
    facts.add_row("Sessions", _sessions(status))
    if status.sampling:
        facts.add_row("Touches", Text(_touches(status)))
    if status.counters["read_ahead"]:
        facts.add_row("Along", _along(status))
    if any(each.count for each in status.latencies):
        facts.add_row("Latency", _latencies(status))
    facts.add_row("Pressure", _pressure(status.pressure))
    for group, counters in group_counters(status.counters).items():
        facts.add_row(group, _counters(console, counters))
    console.print(facts)


def _touches(status: admin_pb2.GetStatusResponse) -> str:
    """How touches are heard of that are no faults, and what that costs."""
    why_not = status.sampling.removeprefix("off: ")
    if why_not != status.sampling:
        return f"faults alone: {printable(why_not)}"
    said = f"sampled, by {printable(status.sampling)}"
    if status.sampling_cpu_max:
        said += f"; {status.sampling_cpu:.1%} of the daemon's CPU of late, of {status.sampling_cpu_max:.0%} at most"
    faults, touches = status.counters["faults"], status.counters["minor_faults_sampled"]
    if touches:
        said += f"; {touches / (faults + touches):.0%} of all faults"
    return said + ("; at rest until it is less" if status.sampling_rests else "")


def _along(status: admin_pb2.GetStatusResponse) -> str:
    """What came in without a fault on it, and what of that was used."""
    names = ("read_ahead", "read_ahead_used", "read_ahead_unused")
    brought, used, unused = (format_size(status.counters[name] * status.page_size) for name in names)
    return f"{brought} came in along with faults; {used} known to be used, {unused} evicted unused"


def format_latency(seconds: float) -> str:
    """A latency as text, with at most three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def format_duration(seconds: float) -> str:
    """A duration as text, in its two largest units."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {whole % 60} s"
    return f"{seconds:.1f} s"


def group_counters(counters: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Counters by subject, each group sorted by name; empty groups are omitted."""
    groups: dict[str, dict[str, int]] = {name: {} for name in (*_GROUP_NAMES, OTHER_COUNTERS)}
    for name in sorted(counters):
        group = next((g for g, words in COUNTER_GROUPS if any(word in name for word in words)), OTHER_COUNTERS)
        groups[group][name] = counters[name]
    return {name: groups[name] for name in (*reversed(_GROUP_NAMES), OTHER_COUNTERS) if groups[name]}


def split_bar(width: int, counts: list[int]) -> list[int]:
    """`width` cells divided in proportion to `counts`: each nonzero count gets at least one, the largest the remainder.

    `width` is at least the number of counts.
    """
    total = sum(counts)
    if not total:
        return [0] * len(counts)
    to_share = width - sum(count > 0 for count in counts)
    cells = [1 + count * to_share // total if count else 0 for count in counts]
    largest = max(range(len(counts)), key=counts.__getitem__)
    cells[largest] += width - sum(cells)
    return cells


def memory_parts(status: admin_pb2.GetStatusResponse) -> list[tuple[State, int]]:
    """All frames by state, as a bar shows them."""
    return [
        (CLEAN, max(status.present_frames - status.dirty_frames, 0)),
        (DIRTY, status.dirty_frames),
        (FILLING, status.filling_frames),
        (EVICTING, status.evicting_frames),
        (FREE, status.free_frames),
    ]


def draw_bar(console: Console, parts: Sequence[tuple[State, int]], width: int) -> Text:
    """A bar of `width` characters between brackets, divided in proportion to the counts."""
    bar = Text("[")
    for (state, _), cells in zip(parts, split_bar(width, [count for _, count in parts]), strict=True):
        bar.append(state_glyph(state, 1.0, console) * cells, style=state.colour)
    return bar.append("]")


def _bar(console: Console, status: admin_pb2.GetStatusResponse) -> Text:
    parts = memory_parts(status)
    bar = draw_bar(console, parts, MAX_BAR if is_piped(console) else max(min(console.width - 2, MAX_BAR), len(parts)))
    room = 0
    for state, count in parts:
        words = f" {state.name} {_share(count, status.frames)}"
        if len(words) + 3 > room:
            bar.append("\n ")
            room = console.width - 1
        room -= len(words) + 3
        bar.append(state_glyph(state, 1.0, console), style=state.colour)
        bar.append(f"{words}  ")
    return bar


def _memory(status: admin_pb2.GetStatusResponse) -> Table:
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "right"):
        table.add_column(justify="right" if justify == "right" else "left", no_wrap=True)
    rows = (
        ("frames", status.frames),
        ("free", status.free_frames),
        ("filling", status.filling_frames),
        ("present", status.present_frames),
        ("  dirty", status.dirty_frames),
        ("  unevictable", status.unevictable_frames),
        ("  pinned", status.pinned_frames),
        ("  held", status.held_frames),
        ("evicting", status.evicting_frames),
    )
    for name, count in rows:
        table.add_row(name, f"{count:,}", format_size(count * status.page_size), _share(count, status.frames))
    return table


def _latencies(status: admin_pb2.GetStatusResponse) -> Table:
    """Median and 99th percentile of each operation that was timed."""
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "right"):
        table.add_column(justify="right" if justify == "right" else "left", no_wrap=True)
    for each in status.latencies:
        if each.count:
            name = f"{each.operation.replace('_', ' ')} {printable(each.device)}".rstrip()
            p50, p99 = format_latency(each.p50_seconds), format_latency(each.p99_seconds)
            table.add_row(name, f"p50 {p50}", f"p99 {p99}", f"of {each.count:,}")
    return table


def _pressure(pressure: admin_pb2.Pressure) -> Table:
    """A line for `some`, and one for `full` where it is known, as in the kernel's files."""
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "right", "right"):
        table.add_column(justify="right" if justify == "right" else "left", no_wrap=True)
    for name, line in (("some", pressure.some), *([("full", pressure.full)] if pressure.HasField("full") else [])):
        averages = ((10, line.avg10), (60, line.avg60), (300, line.avg300))
        shares = [f"{100 * share:.2f}% of {window} s" for window, share in averages]
        table.add_row(name, *shares, f"total {line.total_us:,} µs")
    return table


def _watermarks(status: admin_pb2.GetStatusResponse) -> str:
    low, high, free = status.low_watermark_frames, status.high_watermark_frames, status.free_frames
    if free < low:
        state = "free memory is below low, and pages are evicted where possible"
    elif free < high:
        state = "free memory is between low and high"
    else:
        state = "free memory is at or above high"
    sizes = [f"{count:,} frames ({format_size(count * status.page_size)})" for count in (low, high)]
    return f"low {sizes[0]}, high {sizes[1]}: {state}"


def _sessions(status: admin_pb2.GetStatusResponse) -> str:
    text = f"{status.processes:,} with {status.regions:,} regions"
    budgets = (("memory_max", status.processes_at_memory_max), ("swap_max", status.processes_at_swap_max))
    users = status.users_at_limits
    at_limits = [f"{users:,} {'user' if users == 1 else 'users'} at a limit"] if users else []
    frozen = [f"{status.frozen_processes:,} frozen"] if status.frozen_processes else []
    return "; ".join([text, *(f"{count:,} at their {name}" for name, count in budgets if count), *at_limits, *frozen])


def _swap(status: admin_pb2.GetStatusResponse) -> str:
    if not status.swap_slots:
        return "none"
    used = status.swap_slots - status.free_swap_slots
    held, size = format_size(status.swap_held_bytes), format_size(status.swap_capacity_bytes)
    share = _share(status.swap_held_bytes, status.swap_capacity_bytes)
    retiring = f"; {status.retiring_swap_devices} retiring" if status.retiring_swap_devices else ""
    return f"{used:,} slots used, {held} of {size} ({share}){retiring}"


def _counters(console: Console, counters: Mapping[str, int]) -> Columns | Text:
    """Counters side by side: in columns on a terminal; on one line in a pipe, whose width columns would fill."""
    pairs = [Text(f"{count:,} {printable(name).replace('_', ' ')}", no_wrap=True) for name, count in counters.items()]
    return Text("   ").join(pairs) if is_piped(console) else Columns(pairs, padding=(0, 3))


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
