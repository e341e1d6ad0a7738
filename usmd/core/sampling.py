"""Sampled touches: pages leave the client's page table for a while, so that the next touch of each is heard.

On real memory the daemon hears of faults alone, so an evict policy cannot tell a page that is touched all the time from
one that is not. `Sampling` therefore keeps the pages of a process that are in its page table, in the order in which
they were last heard of. When other pages come in and memory is short, `Sampler` takes the oldest out. A page that is
touched then comes back by a MINOR fault, and the policy gets its `page_accessed`. A page that is not touched stays out
until the policy chooses it. This is the segmented FIFO of VMS (Turner and Levy, "Segmented FIFO page replacement",
SIGMETRICS 1981), but the order of victims is the policy's.

Nothing but hearing depends on it: reclaim takes a page with the same steps, in the page table or not.
"""

from __future__ import annotations

from typing import Final

from usmd.core.frame_list import FrameLinks

BATCH: Final = 32
"""Pages taken out at a time, about: in runs of fewer than 16 neighbours a page costs the kernel up to twice as much."""

WINDOW: Final = 512
"""Least number of pages taken out between two looks at how many were touched again."""
IN_VAIN: Final = 32
"""If fewer than one in so many was, as in a scan, only one page in PART is sampled."""
PART: Final = 8


class Sampling:
    """The pages of a process that are in its page table, as far as the core knows, oldest first.

    `active`: whether the shell can take pages out. `since`: pages that came in since the last batch. `in_vain`: only
    pages on one frame in PART are noted. These are sampled as before, so that they tell when touches matter again.
    `noting`: the pages that were in memory when it began are still being noted.
    """

    __slots__ = ("_batch_at", "_rate", "_rescued", "_taken", "active", "in_vain", "mapped", "noting", "since")

    def __init__(self, links: FrameLinks, rate: float) -> None:
        self._rate = rate
        self._batch_at = max(round(BATCH / rate), 1)
        self.active = True
        self.in_vain = self.noting = False
        self.since = 0
        self._taken = 0
        self._rescued = 0
        self.mapped = links.new_list()

    def came(self, pfn: int) -> bool:
        """A page came in; returns whether it is time for a batch."""
        if self.in_vain and pfn % PART:
            return False
        self.mapped.append(pfn)
        self.since += 1
        return self.since == self._batch_at

    def run_came(self, frames: range) -> bool:
        """As `came` for pages on frames that follow each other."""
        before = self.since
        if self.in_vain:
            for pfn in range(-(-frames.start // PART) * PART, frames.stop, PART):
                self.mapped.append(pfn)
                self.since += 1
        elif frames:
            self.mapped.extend(frames)
            self.since += len(frames)
        return before < self._batch_at <= self.since

    def batch(self) -> int:
        """Begin a batch; returns how many pages the pages that came in have earned."""
        earned = int(self.since * self._rate)
        self.since = 0
        return earned

    def took(self, count: int, resident: int) -> None:
        """Pages of `resident` ones were taken out. Once it was all of them, looks whether that told anything."""
        self._taken += count
        window = max(resident, WINDOW)
        if self._taken >= (window // PART // 2 if self.in_vain else window):
            self.in_vain = self._rescued * IN_VAIN < self._taken
            self._taken = self._rescued = 0

    def heard(self, pfn: int) -> bool:
        """A page was touched, and is in the page table again; returns whether it was out."""
        if pfn in self.mapped:
            self.mapped.move_to_end(pfn)
            return False
        self.mapped.append(pfn)
        self._rescued += 1
        return True
