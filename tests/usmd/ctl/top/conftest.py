"""Readings of a daemon that is not there, and the live screen over them."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager

from rich.console import Console
from textual import events
from textual.geometry import Size

from tests.support.waiting import wait_until_async
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.connect import AdminError
from usmd.ctl.top.app import Settings, TopApp
from usmd.ctl.top.reading import Detail, Reading, Wanted

COUNTERS = ("faults", "major_faults", "evictions", "swap_ins", "swap_outs")
NEVER = 3600.0
"""An interval that does not end within a test."""


def terminal(width=80, *, colour=True, encoding="utf-8"):
    """A terminal as rich sees it."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    colours = "standard" if colour else None
    return Console(file=file, width=width, force_terminal=True, color_system=colours, highlight=False, markup=False)


def counters(*counts):
    return dict(zip(COUNTERS, counts, strict=False))


def process(number, name="", *counts, **fields):
    fields = {"memory_weight": 100, "pid": 1000 + number, "resident_pages": number} | fields
    return pb.Process(process_id=number, name=name or f"p{number}", counters=counters(*counts), **fields)


def reading(seconds=1.0, processes=(), *, cells=0, devices=(), detail=None, **fields):
    """A reading `seconds` after the daemon's start; its counters are the sums of its processes'."""
    sums = [sum(each.counters.get(name, 0) for each in processes) for name in COUNTERS]
    status = {
        "version": "0.1.0", "pid": 4711, "uptime_seconds": seconds, "mechanism": "simulated", "page_size": 4096,
        "frames": 1024, "free_frames": 256, "present_frames": 752, "filling_frames": 8, "evicting_frames": 8,
        "dirty_frames": 300, "low_watermark_frames": 64, "processes": len(processes), "swap_slots": 4096,
        "swap_capacity_bytes": 16 << 20, "swap_held_bytes": 4 << 20, "counters": counters(*sums),
    }  # fmt: skip
    memory = None
    if cells:
        owners = [each.process_id for each in processes] or [0]
        memory = pb.GetMemoryMapResponse(
            frames=1024,
            cells=[
                pb.MemoryMapCell(
                    first_frame=number, frames=2, present=2, dirty=number % 2, process_id=owners[number % len(owners)]
                )
                for number in range(cells)
            ],
        )
    return Reading(pb.GetStatusResponse(**status | fields), list(processes), list(devices), memory, detail)


class FakeSource:
    """Answers each time with the next second of `processes`, which fault as often as their number says."""

    def __init__(self, processes=(), devices=()):
        self.processes = list(processes)
        self.devices = list(devices)
        self.wanted: list[Wanted] = []
        self.failure = ""
        self.pid = 4711
        self.closed = False
        self.seconds = 0

    def make(self, wanted):
        self.seconds += 1
        for each in self.processes:
            each.counters["faults"] += each.process_id
        detail = None
        if any(each.process_id == wanted.process_id for each in self.processes):
            region = pb.RegionInfo(region_id=7, process_id=wanted.process_id, name="index", length=4096)
            detail = Detail(wanted.process_id, [region], pb.ListEvictionsResponse(records=256))
        copies = [pb.Process.FromString(each.SerializeToString()) for each in self.processes]
        return reading(self.seconds, copies, cells=wanted.cells, devices=self.devices, detail=detail, pid=self.pid)

    async def read(self, wanted):
        self.wanted.append(wanted)
        if self.failure:
            raise AdminError(self.failure)
        return self.make(wanted)

    def close(self):
        self.closed = True


class Live:
    """The live screen, and what can be done with it."""

    def __init__(self, app, pilot, source):
        self.app = app
        self.pilot = pilot
        self.source = source

    async def press(self, *keys):
        """Press keys, each after what the one before did."""
        for key in keys:
            self.app.simulate_key(key)
            await self.settle()

    async def settle(self):
        """Wait until the screen and what has the focus have handled their messages, and those that came of them."""
        for _ in range(3):
            for part in (self.app, self.app.screen, self.app.focused):
                if part is not None and part.is_running:
                    await self._handled(part)

    async def _handled(self, part):
        handled = asyncio.Event()
        if part.call_later(handled.set):
            await wait_until_async(lambda: handled.is_set() or not part.is_running, "messages are handled")

    async def read(self):
        """Have it read once."""
        before = len(self.source.wanted)
        await self.press("space")
        await wait_until_async(lambda: len(self.source.wanted) > before, "it reads")
        await self.settle()

    async def resize(self, width, height):
        self.app._driver._size = Size(width, height)
        self.app.post_message(events.Resize(Size(width, height), Size(width, height)))
        await self.settle()

    async def until(self, condition):
        """Wait until the screen is as `condition` says. It is drawn a moment after a key was handled."""
        try:
            await wait_until_async(condition, "the screen is as wanted")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text}") from None

    async def shows(self, text):
        await self.until(lambda: text in self.text)

    async def lists(self, *names):
        """Wait until these processes are shown, in this order."""
        await self.until(lambda: self.names == list(names))

    @property
    def lines(self):
        """What is on the screen."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self):
        return "\n".join(self.lines)

    @property
    def names(self):
        """Names of the processes, from the top."""
        lines = self.lines
        start = next((number for number, line in enumerate(lines) if line.split()[:2] == ["ID", "NAME"]), len(lines))
        return [line.split()[1] for line in lines[start + 1 : -1] if line and line.split()[0].isdecimal()]


@asynccontextmanager
async def live(source, *, size=(80, 24), console=None, **settings):
    """The live screen over `source`, after its first two readings."""
    app = TopApp(source, source.make(Wanted()), console or terminal(), Settings(**{"interval": NEVER} | settings))
    async with app.run_test(size=size) as pilot:
        screen = Live(app, pilot, source)
        await wait_until_async(lambda: source.wanted, "the second reading")
        await screen.settle()
        yield screen


def run(test):
    """A test that is a coroutine, as a test."""

    def started():
        asyncio.run(test())

    started.__name__ = test.__name__
    return started
