"""Checks the live daemon on request: the core's invariants, and that the shell owes the core nothing.

The state is copied at one moment, and the copy is checked in parts, between which the loop serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from usm_wire.pb.usm.v1 import admin_pb2
from usmd import log
from usmd.core import events
from usmd.core.frames import NO_SLOT
from usmd.core.validate import Snapshot, Step, check
from usmd.server.engine import LAST_EVENTS, Engine
from usmd.server.event_log import write_last_events

MAX_TOLD: Final = 100
"""Violations in an answer, which counts the others."""
PART_SECONDS: Final = 0.002
"""How long a part holds the loop, about."""
_STEPS_A_LOOK: Final = 64
"""Steps between two looks at the clock."""


def owed(engine: Engine) -> list[str]:
    """Differences between the completions that the core waits for and those that are under way."""
    life = engine.core.life
    reads = sum(each.reads_owed for each in engine.queues)
    writes = sum(each.writes_owed for each in engine.queues)
    protects = 0
    for event in engine.pending:
        if isinstance(event, events.SwapInDone):
            reads += len(event.frames)
        elif isinstance(event, events.SwapOutDone):
            writes += len(event.slots)
        elif isinstance(event, events.Protected):
            protects += len(event.frames)
    unprotected = sum(1 for each in life.evicting.values() if each.reference == NO_SLOT)
    found = []
    for what, waiting, under_way in (
        ("reads", len(life.filling), reads),
        ("writes", len(life.writing), writes),
        ("evictions to be protected", unprotected, protects),
    ):
        if waiting != under_way:
            found.append(f"the core waits for {waiting} {what}, but {under_way} are under way")
    return found


async def validate(engine: Engine, folder: Path | None = None) -> admin_pb2.ValidateResponse:
    """Check the state of this moment; takes about 3 microseconds a frame, page and used slot.

    If an invariant does not hold, the last events before it are written to a file in `folder`, which the log names.
    """
    started = engine.now()
    found = owed(engine)
    last = list(engine.last_events)
    copy = Snapshot(engine.core)
    longest = engine.now() - started
    answer = admin_pb2.ValidateResponse(
        frames=len(copy.states), regions=len(copy.regions), swap_slots=sum(each.slots for each in copy.devices)
    )
    count = len(found)
    steps = check(copy)
    more = True
    while more:
        await asyncio.sleep(0)
        begun = engine.now()
        while True:
            more, failed = _part(steps)
            count += len(failed)
            found += failed[: max(MAX_TOLD - len(found), 0)]
            if not more or engine.now() - begun >= PART_SECONDS:
                break
        longest = max(longest, engine.now() - begun)
    if found and folder is not None:
        await _write_last(engine, folder, last, found[0], count)
    answer.violations.extend(found[:MAX_TOLD])
    answer.violation_count = count
    answer.seconds = engine.now() - started
    answer.longest_pause_seconds = longest
    return answer


async def _write_last(
    engine: Engine, folder: Path, last: list[tuple[float, events.Event]], first: str, count: int
) -> None:
    """Write the last events off the loop, and log where they are."""
    settings, devices = engine.core.state.settings, engine.device_infos
    complete = len(last) < LAST_EVENTS
    try:
        written = await asyncio.to_thread(write_last_events, folder, settings, devices, last, complete=complete)
        where = str(written)
    except Exception as error:  # noqa: BLE001 - logged; what the check found is returned all the same
        where = f"not written: {error}"
    log.event("check_failed", violations=count, first=first, last_events=where)


def _part(steps: Iterator[Step]) -> tuple[bool, list[str]]:
    """Do some steps; returns whether there are more, and the violations that they found."""
    failed: list[str] = []
    for _ in range(_STEPS_A_LOOK):
        try:
            step = next(steps)
        except StopIteration:
            return False, failed
        if step is not None:
            failed.append(step)
    return True, failed
