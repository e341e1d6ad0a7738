"""Time in the core alone: a minor fault, a resident access, and a fault that evicts. No wire, no bytes, no devices.

The times are CPU time, with the daemon's default policies, and include what follows from each event.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from bench import as_program
from bench.orders import in_no_order
from usmd.compiled import BUILD
from usmd.core import commands, events
from usmd.core.hint_ranges import HintRanges
from usmd.core.hints import parse_hint
from usmd.core.machine import Core
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.policies import registry

FRAMES: Final = 65536
ROUNDS: Final = 7
EVENTS: Final = 20000
HINTS: Final = 10_000
ALLOC: Final = "async_aware"
EVICT: Final = "hint_aware"


def make_core(frames: int, overcommit: int = 8) -> tuple[Core, int, int]:
    """A core with the daemon's defaults, and a process with a region of `overcommit` times the frames.

    Returns (core, process, region). There are as many swap slots as pages in the region.
    """
    settings = CoreSettings(
        frames=frames,
        page_size=4096,
        low=frames * 3 // 100,
        high=frames * 6 // 100,
        deny_budget=frames // 2,
        deny_budget_total=frames * 3 // 4,
        reserve=frames * (1 + overcommit) // 50,
        hold_budget=min(frames // 4, 1024),
    )
    core = Core(settings, [DeviceInfo("memory0", frames * overcommit)], registry.make, time.perf_counter)
    process = answer(core, events.Attach("bench", ALLOC, EVICT, "refuse"), commands.Attached).process_id
    region = answer(core, events.Map(process, frames * overcommit * 4096, ""), commands.Mapped).region_id
    return core, process, region


_T = TypeVar("_T")


def answer(core: Core, event: events.Event, kind: type[_T]) -> _T:
    """The answer of one type to an event."""
    return next(command for command in core.handle(event, 0.0) if isinstance(command, kind))


def settle(core: Core, todo: list[commands.Command]) -> None:
    """Complete the commands: no page is all zero, and every write and read succeeds."""
    while todo:
        follow: list[commands.Command] = []
        for command in todo:
            if isinstance(command, commands.Protect):
                follow += core.handle(
                    events.Protected(command.ticket, command.frames, [False] * len(command.frames)), 0.0
                )
            elif isinstance(command, commands.WriteSlots):
                slots = [page.slot for page in command.pages]
                follow += core.handle(events.SwapOutDone(slots, [None] * len(slots)), 0.0)
            elif isinstance(command, commands.GoOn):
                follow += core.handle(events.GoOn(), 0.0)
            elif isinstance(command, commands.ReadSlots):
                frames = [page.pfn for page in command.pages]
                follow += core.handle(events.SwapInDone(frames, [None] * len(frames)), 0.0)
        todo = follow


def fault(process: int, region: int, page: int, count: int = 1) -> events.Faults:
    """A fault on `count` pages."""
    return events.Faults(process, [events.FaultRequest(1, region, page, count, False)])


def minor_faults() -> float:
    """Microseconds of a minor fault on an untouched page, with free frames."""
    core, process, region = make_core(FRAMES)
    todo = [fault(process, region, page) for page in in_no_order(EVENTS).tolist()]
    return per_event(core, todo, EVENTS)


def batched_faults() -> float:
    """Microseconds per minor fault in a batch of 64."""
    core, process, region = make_core(FRAMES)
    pages = in_no_order(EVENTS).tolist()
    todo = [
        events.Faults(process, [events.FaultRequest(1, region, page, 1, False) for page in pages[first : first + 64]])
        for first in range(0, EVENTS, 64)
    ]
    return per_event(core, todo, EVENTS)


def resident_accesses() -> float:
    """Microseconds of an access to one resident page, reads and writes in turn, in an order that moves list entries."""
    core, process, region = make_core(FRAMES)
    pages = EVENTS // 4
    for page in range(pages):
        core.handle(fault(process, region, page), 0.0)
    order = [page % pages for page in in_no_order(EVENTS).tolist()]
    todo = [events.Access(process, region, page, 1, number % 2 == 0) for number, page in enumerate(order)]
    return per_event(core, todo, EVENTS)


def evicting_faults() -> float:
    """Microseconds of a fault in full memory: its own work, and a write-back and a swap-in for every page."""
    frames = 4096
    core, process, region = make_core(frames)
    pages = frames * 4
    for page in range(pages):
        settle(core, core.handle(fault(process, region, page), 0.0))
        settle(core, core.handle(events.Access(process, region, page, 1, True), 0.0))

    order = [page % pages for page in in_no_order(EVENTS // 2).tolist()]
    start = time.process_time()
    for page in order:
        settle(core, core.handle(fault(process, region, page), 0.0))
    return (time.process_time() - start) / (EVENTS // 2) * 1e6


def hint_lookups() -> float:
    """Microseconds to find the hint in force on a page, among 10,000 ranges of one region."""
    ranges = HintRanges()
    hint = parse_hint("PRIORITY=LOW")
    for number in range(HINTS):
        ranges.set(number * 8, number * 8 + 6, number, hint, None)
    pages = [number * 7919 % (HINTS * 8) for number in range(EVENTS)]
    find = ranges.find
    start = time.process_time()
    for page in pages:
        find(page)
    return (time.process_time() - start) / EVENTS * 1e6


def hand_over() -> float:
    """Microseconds per resident page for a change of the evict policy, from the default to s3_fifo."""
    core, process, region = make_core(FRAMES)
    pages = FRAMES // 2
    for first in range(0, pages, 256):
        core.handle(fault(process, region, first, 256), 0.0)
    start = time.process_time()
    settle(core, core.handle(events.SetPolicy(process, "evict", "s3_fifo"), 0.0))
    return (time.process_time() - start) / pages * 1e6


def per_event(core: Core, todo: Sequence[events.Event], count: int) -> float:
    """Microseconds per item, for events that stand for `count` items; the commands are dropped."""
    start = time.process_time()
    for event in todo:
        core.handle(event, 0.0)
    return (time.process_time() - start) / count * 1e6


MEASURES: Final[tuple[tuple[str, Callable[[], float], str], ...]] = (
    ("minor fault, one a batch", minor_faults, "aim 8"),
    ("minor fault, 64 a batch", batched_faults, "aim 8"),
    ("resident access", resident_accesses, "aim 0.8"),
    ("fault in full memory, clean victim, swap-in", evicting_faults, "no aim"),
    ("hint lookup among 10,000 ranges", hint_lookups, "aim 1"),
    ("change of the evict policy, a page", hand_over, "no aim"),
)


def main() -> None:
    """Print a line for each measure."""
    print(
        f"CPU time in the core ({BUILD.text}; alloc {ALLOC}, evict {EVICT}, {FRAMES} frames, median of {ROUNDS} rounds)"
    )
    for name, measure, aim in MEASURES:
        times = [measure() for _ in range(ROUNDS)]
        print(f"  {name:45} {statistics.median(times):6.2f} us   (best {min(times):.2f}, {aim})")


if __name__ == "__main__":
    as_program(main, __doc__)
