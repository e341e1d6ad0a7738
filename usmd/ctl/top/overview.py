"""The part of the screen above the processes: the daemon, its memory and swap, rates, the map, and the devices.

Each function makes text of a given width. Nothing here knows of the screen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from string import ascii_letters
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from usmd.ctl.console import has_blocks
from usmd.ctl.lists_view import device_state
from usmd.ctl.memory_map import FREE, STATES, By, State, draw_cells, owner_letters, owner_style, state_glyph
from usmd.ctl.status_view import draw_bar, format_duration, memory_parts
from usmd.ctl.top.columns import UNKNOWN, brief_rate, brief_size
from usmd.ctl.top.rates import Rates
from usmd.sizes import format_size
from usmd.text_output import printable

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2
    from usmd.ctl.top.reading import Reading

LABEL: Final = 9
"""Characters of the labels at the left."""
LEAST_BAR: Final = 10
USED: Final = State("used", "#", "magenta")
SOME: Final = State("some", "s", "yellow")
FULL: Final = State("full", "f", "red")
_LOW: Final = "bold red"
_RATES: Final[tuple[tuple[str, Callable[[Rates], float]], ...]] = (
    ("faults", lambda it: it.faults),
    ("major", lambda it: it.major_faults),
    ("evicted", lambda it: it.evictions),
    ("in", lambda it: it.swap_ins),
    ("out", lambda it: it.swap_outs),
)


def heading(reading: Reading, notes: Sequence[str], width: int) -> Text:
    """The daemon at the left, with as many facts as there is room for, and `notes` at the right."""
    status = reading.status
    right = "  ".join(notes)
    line = Text(f"usmd {printable(status.version)}", style="bold", no_wrap=True)
    if status.HasField("drain_seconds_left"):
        line.append(f"  DRAINS in {format_duration(status.drain_seconds_left)}", style=_LOW)
    elif status.draining:
        line.append("  DRAINING", style=_LOW)
    if status.frozen_processes:
        line.append(f"  {status.frozen_processes:,} FROZEN", style=_LOW)
    facts = [
        f"  up {format_duration(status.uptime_seconds)}",
        f", {_count(status.processes, 'process')}",
        f", {printable(status.mechanism)}",
        f", pid {status.pid}",
    ]
    _append_what_fits(line, [Text(fact, style="not bold") for fact in facts], width - cell_len(right) - 2)
    line.truncate(max(width - cell_len(right) - 2, 0), pad=True)
    line.append(f"  {right}")
    line.truncate(width)
    return line


def meters(console: Console, reading: Reading, rates: Rates | None, width: int) -> Text:
    """Memory, swap and pressure as bars, and what happens each second."""
    status = reading.status
    lines = [
        _meter(console, "Memory", memory_parts(status), _memory_words(status), width),
        _swap(console, status, width),
        _pressure(console, status.pressure, width),
        _activity(rates, width),
    ]
    return Text("\n").join(lines)


def memory_map(console: Console, reading: Reading, by: By, width: int, rows: int) -> Text:
    """`rows` lines of cells, each `width` wide, and a legend; empty if no map was read."""
    memory = reading.memory
    if memory is None or not memory.cells:
        return Text()
    letters = owner_letters(memory.cells) if by is By.OWNER else None
    picture = Text(no_wrap=True)
    for start in range(0, min(len(memory.cells), rows * width), width):
        draw_cells(picture, console, memory.cells[start : start + width], letters)
        picture.append("\n")
    largest = max(cell.frames for cell in memory.cells)
    scale = f"a cell: {brief_size(largest * reading.status.page_size)}"
    if letters is None:
        return picture.append_text(_state_legend(console, scale, width))
    return picture.append_text(_owner_legend(reading, memory, letters, scale, width))


def device_lines(console: Console, reading: Reading, before: Reading | None, width: int, most: int) -> Text:
    """A line per swap device; the last of `most` says how many more there are."""
    seconds = 0.0 if before is None else reading.seconds_since(before)
    old = {} if before is None else {device.number: device for device in before.devices}
    shown = reading.devices if len(reading.devices) <= most else reading.devices[: most - 1]
    names = max((min(cell_len(printable(device.name)), LABEL + 4) for device in shown), default=0) + 1
    lines = [
        _meter(console, printable(device.name), *_device(device, old.get(device.number), seconds), width, names)
        for device in shown
    ]
    more = len(reading.devices) - len(shown)
    if more:
        lines.append(Text(f"and {more} more: usmctl swap", style="dim", no_wrap=True))
    return Text("\n").join(lines)


def _meter(
    console: Console, label: str, parts: Sequence[tuple[State, int]], words: Text, width: int, names: int = LABEL
) -> Text:
    """A label, a bar that takes the room there is, and words; the bar is omitted if there is too little."""
    line = Text(label, style="bold", no_wrap=True)
    line.truncate(names - 1)
    line.pad_right(names - cell_len(line.plain))
    room = width - names - words.cell_len - 3
    body = Text(style="not bold")
    if room >= LEAST_BAR and any(count for _, count in parts):
        body.append_text(draw_bar(console, parts, room)).append(" ")
    line.append_text(body.append_text(words))
    line.truncate(width)
    return line


def _memory_words(status: admin_pb2.GetStatusResponse) -> Text:
    free = status.free_frames
    share = free / status.frames if status.frames else 0.0
    words = Text(f"{format_size(status.frames * status.page_size)}, {share:.1%} free")
    if free < status.low_watermark_frames:
        words.append(" (below low)", style=_LOW)
    return words


def _swap(console: Console, status: admin_pb2.GetStatusResponse, width: int) -> Text:
    if not status.swap_slots:
        return _meter(console, "Swap", [], Text("none"), width)
    held, size = status.swap_held_bytes, status.swap_capacity_bytes
    share = held / size if size else 0.0
    words = Text(f"{format_size(size)}, {share:.1%} used")
    if status.retiring_swap_devices:
        words.append(", ").append(f"{status.retiring_swap_devices} retiring", style="bold")
    return _meter(console, "Swap", [(USED, held), (FREE, max(size - held, 0))], words, width)


def _pressure(console: Console, pressure: admin_pb2.Pressure, width: int) -> Text:
    """The share of the last 10 s in which faults waited (some), and no client ran (full)."""
    some, full = pressure.some.avg10, pressure.full.avg10
    parts = [(FULL, full), (SOME, max(some - full, 0.0)), (FREE, max(1.0 - some, 0.0))]
    words = Text(f"some {some:.1%}")
    if pressure.HasField("full"):
        words.append(f", full {full:.1%}")
    return _meter(console, "Pressure", [(state, round(share * 1000)) for state, share in parts], words, width)


def _activity(rates: Rates | None, width: int) -> Text:
    """Rates of the daemon, as many as there is room for."""
    line = Text("A second".ljust(LABEL), style="bold", no_wrap=True)
    parts = [
        Text.assemble((UNKNOWN if rates is None else brief_rate(of(rates)), "bold"), (f" {words}  ", "not bold"))
        for words, of in _RATES
    ]
    _append_what_fits(line, parts, width)
    return line


def _state_legend(console: Console, scale: str, width: int) -> Text:
    legend = Text(no_wrap=True)
    for state in STATES:
        legend.append(state_glyph(state, 1.0, console), style=state.colour)
        legend.append(f" {state.name}  ")
    return _with_scale(legend, scale, width)


def _owner_legend(
    reading: Reading, memory: admin_pb2.GetMemoryMapResponse, letters: dict[int, str], scale: str, width: int
) -> Text:
    """The owners of most cells first, as many as there is room for."""
    legend = Text(no_wrap=True)
    counts = Counter(cell.process_id for cell in memory.cells if cell.process_id)
    room, left = width - cell_len(scale) - len(" +99 more "), len(counts)
    names = reading.names
    for number, _ in counts.most_common(len(ascii_letters)):
        name = printable(names.get(number, "(gone)"))
        if legend.cell_len + cell_len(name) + 4 > room:
            break
        letter = letters[number]
        legend.append(letter, style=owner_style(letter, full=True)).append(f" {name}  ")
        left -= 1
    if left:
        legend.append(f"+{left} more", style="dim")
    return _with_scale(legend, scale, width)


def _with_scale(legend: Text, scale: str, width: int) -> Text:
    """A legend with the size of a cell at its right, if there is room."""
    room = width - cell_len(scale)
    if legend.cell_len <= room:
        legend.pad_right(room - legend.cell_len)
        legend.append(scale, style="dim")
    legend.truncate(width)
    return legend


def _device(
    device: admin_pb2.SwapDevice, before: admin_pb2.SwapDevice | None, seconds: float
) -> tuple[list[tuple[State, int]], Text]:
    held, size = device.held_bytes, device.capacity_bytes
    words = Text(f"{brief_size(held):>5} of {brief_size(size):<5}")
    for name, done, then in (
        ("out", device.pages_written, before.pages_written if before else 0),
        ("in", device.pages_read, before.pages_read if before else 0),
    ):
        rate = brief_rate(max(done - then, 0) / seconds) if seconds else UNKNOWN
        words.append(f"  {name} {rate + '/s':<7}")
    is_retiring = device.state not in ("", "active")
    is_degraded = device.HasField("mirror") and not device.mirror.in_step
    if is_retiring:
        words.append(f" {device_state(device)}", style="bold")
    if is_degraded:
        words.append(f" {mirror_words(device.mirror)}", style=_LOW)
    if device.errors or not (is_retiring or is_degraded):
        words.append(f" {_count(device.errors, 'error')}", style=_LOW if device.errors else "")
    return [(USED, held), (FREE, max(size - held, 0))], words


def mirror_words(mirror: admin_pb2.Mirror) -> str:
    """What is wrong with a mirror, in short."""
    words = ["far away"] if mirror.away else []
    if mirror.pages_to_repair:
        words.append(f"{mirror.pages_to_repair:,} to repair")
    return ", ".join(words)


def _append_what_fits(line: Text, parts: Sequence[Text], width: int) -> None:
    """Append whole parts, up to the first for which there is no room."""
    for part in parts:
        if line.cell_len + cell_len(part.plain.rstrip()) > width:
            return
        line.append_text(part)


def _count(count: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def cut_mark(console: Console) -> str:
    """What stands where text was cut."""
    return "…" if has_blocks(console) else "~"
