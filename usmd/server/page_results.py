"""What became of the pages of one swap device: counted, timed, filled into memory, tried again, delivered.

Every page that was asked for is delivered once, whatever failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from usmd import log
from usmd.core.commands import SlotPage
from usmd.core.events import Event, SwapInDone, SwapOutDone
from usmd.errors import Refused, SwapIOError, UsmdError
from usmd.mechanism.base import Busy, Mechanism, Stage
from usmd.server.latency import Stopwatch
from usmd.server.retries import Retries, TriedAgain

BUSY_SECONDS: Final = 0.001
_UNDONE: Final = (Busy, TriedAgain)
"""In the place of an error: the page is still on its way."""


class PageResults:
    """Results of one device's pages. `deliver` gets each completion, on the loop; the bytes are those of `memory`.

    A page that the device could not read or write is tried again after each of `pauses` (seconds), and then fails; to
    be read it is tried for `patience` seconds more.
    """

    def __init__(
        self,
        name: str,
        memory: Mechanism,
        deliver: Callable[[Event], object],
        pauses: Sequence[float],
        clock: Callable[[], float] = time.monotonic,
        patience: float = 0.0,
    ) -> None:
        self._clock = clock
        self.pages_written = 0
        self.pages_read = 0
        self.errors = 0
        """Reads and writes of a page that failed, each try counted."""
        self.pages_refused = 0
        """Pages that the device refused, without a failure."""
        self.reads_owed = 0
        """Pages to be read that are not delivered yet."""
        self.writes_owed = 0
        self.reads = Stopwatch(clock)
        """Times of pages that were read, from `read` to their completion; `writes`: of pages that were written."""
        self.writes = Stopwatch(clock)
        self._memory = memory
        self._deliver = deliver
        self._filling: set[asyncio.Task[None]] = set()
        self._read_again = Retries(name, "read", self._start_reads, pauses, patience)
        self._write_again = Retries(name, "write", self._start_writes, pauses)

    @property
    def in_flight(self) -> int:
        """Pages being read or written."""
        return self.reads_owed + self.writes_owed

    def _start_reads(self, pages: Sequence[SlotPage]) -> None:
        """Read pages that are owed."""
        raise NotImplementedError

    def _start_writes(self, pages: Sequence[SlotPage]) -> None:
        """Write pages that are owed."""
        raise NotImplementedError

    def _written(self, pages: Sequence[SlotPage], errors: Sequence[UsmdError | None]) -> None:
        """Deliver writes that have ended; those that failed may be tried again."""
        self.pages_written += self._count(errors)
        self._deliver_written(pages, self._write_again.sift(pages, errors))

    def _not_read(self, pages: Sequence[SlotPage], errors: Sequence[UsmdError | None]) -> None:
        """Deliver reads that have all failed, but for those that are tried again."""
        self._count(errors)
        sifted = self._read_again.sift(pages, errors)
        failed = [index for index, each in enumerate(sifted) if not isinstance(each, TriedAgain)]
        if failed:
            self._deliver_read([pages[index].pfn for index in failed], [sifted[index] for index in failed])

    def _deliver_written(self, pages: Sequence[SlotPage], errors: Sequence[UsmdError | None]) -> None:
        done = [index for index, error in enumerate(errors) if not isinstance(error, TriedAgain)]
        if done:
            slots, outcomes = [pages[index].slot for index in done], [errors[index] for index in done]
            self.writes_owed -= len(done)
            if self.writes.began:
                self.writes.end(slots, outcomes)
            self._deliver(SwapOutDone(slots, outcomes))

    def _read_done(self, stage: Stage, errors: Sequence[UsmdError | None]) -> None:
        """Make the pages of a stage present; a task tries those again that cannot be at once."""
        self.pages_read += self._count(errors)
        errors = self._fill(stage, self._read_again.sift(stage.pages, errors))
        if any(errors) and any(isinstance(error, Busy) for error in errors):
            task = asyncio.get_running_loop().create_task(self._fill_again(stage, errors))
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)

    async def _fill_again(self, stage: Stage, errors: Sequence[UsmdError | None]) -> None:
        """Fill the pages that could not be filled at once."""
        while any(isinstance(error, Busy) for error in errors):
            await asyncio.sleep(BUSY_SECONDS)
            errors = self._fill(stage, errors)

    def _fill(self, stage: Stage, before: Sequence[UsmdError | None]) -> Sequence[UsmdError | None]:
        """Make the pages of a stage present; deliver those that this call has made present or that have failed."""
        errors: Sequence[UsmdError | None]
        try:
            errors = self._memory.fill(stage, before)
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and what is not present has failed
            log.event("fill_failed", exc_info=True, pages=len(stage.pages))
            why = SwapIOError(f"the page cannot be brought in: {type(error).__name__}")
            errors = [why if each is None or isinstance(each, Busy) else each for each in before]
        if not any(errors) and not any(before):  # the usual case
            self._deliver_read([page.pfn for page in stage.pages], errors)
            return errors
        again = any(isinstance(error, Busy) for error in before)
        done = [
            index
            for index, error in enumerate(errors)
            if not isinstance(error, _UNDONE) and (not again or isinstance(before[index], Busy))
        ]
        if done:
            self._deliver_read([stage.pages[index].pfn for index in done], [errors[index] for index in done])
        return errors

    def _deliver_read(self, frames: Sequence[int], errors: Sequence[UsmdError | None]) -> None:
        self.reads_owed -= len(frames)
        if self.reads.began:
            self.reads.end(frames, errors)
        self._deliver(SwapInDone(frames, errors))

    def _count(self, errors: Sequence[UsmdError | None]) -> int:
        """Count failed and refused pages; returns the number of pages that were moved."""
        if not any(errors):
            return len(errors)
        undone = [error for error in errors if error is not None]
        refused = sum(isinstance(error, Refused) for error in undone)
        self.pages_refused += refused
        self.errors += len(undone) - refused
        return len(errors) - len(undone)
