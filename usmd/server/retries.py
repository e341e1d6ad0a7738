"""Tries again to read or write pages that a swap device could not, some times with a pause, before they have failed.

Between two tries a page is not queued, so that neither the loop nor a worker waits for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from usmd import log
from usmd.core.commands import SlotPage
from usmd.core.region import PAGE_BITS
from usmd.errors import DataLoss, Refused, SwapIOError, UsmdError
from usmd.server.device_jobs import DeviceHangs

PAUSES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds before each further try: 0.4 s in all. An error after that is no accident."""
LONGEST: Final = 0.5
"""Seconds before each try beyond these, of a device for which pages wait longer."""


class TriedAgain(SwapIOError):
    """Stands in place of a page's error: the page is tried again. No client sees this error."""


class Retries:
    """The tries of one operation of one device, by slot. `again` queues pages once more, on the loop.

    `pauses`: seconds before each further try. A page whose device does not answer is then tried for `patience` seconds
    more; one whose bytes are wrong is not.
    """

    def __init__(
        self,
        device: str,
        operation: str,
        again: Callable[[list[SlotPage]], None],
        pauses: Sequence[float],
        patience: float = 0.0,
    ) -> None:
        self._usual = len(pauses)
        self._pauses = (*pauses, *[LONGEST] * math.ceil(patience / LONGEST))
        self._device = device
        self._operation = operation
        self._again = again
        self._tries: dict[int, int] = {}
        """Tries that have failed, by slot."""
        self._pausing: dict[int, SlotPage] = {}
        """Pages between two tries, by slot."""
        self._count = 0
        self.tasks: set[asyncio.Task[None]] = set()
        """Pauses under way."""

    def sift(self, pages: Sequence[SlotPage], errors: Sequence[UsmdError | None]) -> Sequence[UsmdError | None]:
        """The errors, with TriedAgain for each page that is tried again; the others are final."""
        tries = self._tries
        if not tries and not any(errors):
            return errors
        sifted: list[UsmdError | None] = []
        by_pause: dict[float, list[SlotPage]] = {}
        for page, error in zip(pages, errors, strict=True):
            final = error is None or isinstance(error, (Refused, DeviceHangs))
            failed = 0 if final else tries.get(page.slot, 0) + 1
            if final or failed > (self._usual if isinstance(error, DataLoss) else len(self._pauses)):
                tries.pop(page.slot, None)
                sifted.append(error)
            else:
                tries[page.slot] = failed
                by_pause.setdefault(self._pauses[failed - 1], []).append(page)
                sifted.append(TriedAgain(str(error)))
        if by_pause:
            failures = (each for each in errors if each is not None and not isinstance(each, (Refused, DeviceHangs)))
            self._tell(sum(map(len, by_pause.values())), next(failures))
        for pause, waiting in by_pause.items():
            self._pausing.update({page.slot: page for page in waiting})
            task = asyncio.get_running_loop().create_task(self._pause(pause, waiting))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return sifted

    def _tell(self, pages: int, error: UsmdError) -> None:
        self._count += 1
        if self._count & (self._count - 1) == 0:  # the 1st, 2nd, 4th, 8th … time
            log.event(
                "swap_tried_again", device=self._device, operation=self._operation, pages=pages, error=str(error),
                count=self._count,
            )  # fmt: skip

    async def _pause(self, seconds: float, pages: Sequence[SlotPage]) -> None:
        await asyncio.sleep(seconds)
        still = [page for page in pages if self._pausing.get(page.slot) is page]
        for page in still:
            del self._pausing[page.slot]
        if still:
            self._again(still)

    def forget(self, region_ids: Iterable[int]) -> list[SlotPage]:
        """Take out and return the pages of some regions that are between two tries."""
        if not self._pausing:
            return []
        wanted = set(region_ids)
        gone = [page for page in self._pausing.values() if page.page >> PAGE_BITS in wanted]
        for page in gone:
            del self._pausing[page.slot], self._tries[page.slot]
        return gone
