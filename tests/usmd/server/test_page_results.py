"""Results of pages: counted, delivered once, and tried again; test_device_queue.py has them with devices."""

import asyncio

from usmd.core.commands import SlotPage
from usmd.core.events import SwapInDone, SwapOutDone
from usmd.errors import Refused, SwapIOError
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.page_results import PageResults

PAGE = 16
PAGES = [SlotPage(slot, slot + 10, 1, slot, 1) for slot in range(3)]


class Results(PageResults):
    """`again`: the pages of each further try."""

    def __init__(self, pauses=()):
        self.events = []
        self.again = []
        super().__init__("disk", SimulatedMemory(16, PAGE), self.events.append, pauses)

    def _start_reads(self, pages):
        self.again.append(pages)

    def _start_writes(self, pages):
        self.again.append(pages)


def test_writes_are_counted_by_what_became_of_them():
    results = Results()
    results.writes_owed = 3
    results._written(PAGES, [None, SwapIOError("broken"), Refused("full")])
    assert (results.pages_written, results.errors, results.pages_refused, results.in_flight) == (1, 1, 1, 0)
    (event,) = results.events
    assert isinstance(event, SwapOutDone)
    assert event.slots == [0, 1, 2]


def test_a_failed_read_is_delivered_after_its_last_try():
    async def main():
        results = Results(pauses=(0.0,))
        results.reads_owed = 3
        results._not_read(PAGES, [SwapIOError("broken")] * 3)
        assert results.events == []
        await asyncio.gather(*results._read_again.tasks)
        assert results.again == [PAGES]
        results._not_read(PAGES, [SwapIOError("broken")] * 3)
        (event,) = results.events
        assert isinstance(event, SwapInDone)
        assert event.frames == [10, 11, 12]
        assert (results.errors, results.in_flight) == (6, 0)

    asyncio.run(main())


def test_pages_that_were_read_are_in_their_frames():
    results = Results()
    results.reads_owed = 3
    stage = results._memory.stage(PAGES)
    for buffer in stage.buffers:
        buffer[:] = b"r" * PAGE
    results._read_done(stage, [None] * 3)
    assert results.pages_read == 3
    assert results._memory.load([12], 0, 0, PAGE) == b"r" * PAGE
