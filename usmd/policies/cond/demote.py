"""Swaps to memory first and to a file later, after USM's tmpfs swap device, whose pages are demoted after 3 s."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Demote(ConditionalPolicy):
    """A page that has been on swap device `fast` for `after` seconds is moved to device `slow`, the oldest one first.

    So a page that is needed again soon is read quickly, and the fast device has room for the next pages. Each turn (0.1
    s) moves at most `batch` pages. The policy remembers each page on the fast device, in about 200 bytes. `swap` or a
    hint decides whether pages are written to the fast device first.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, fast: int = 0, slow: int = 1, after: float = 3.0, batch: int = 64) -> None:
        if fast < 0 or slow < 0 or fast == slow or after < 0 or batch < 1:
            raise InvalidArgument(
                f"demote(fast={fast},slow={slow},after={after:g},batch={batch}); allowed are two numbers of swap "
                "devices that differ, after from 0, and batch from 1"
            )
        super().__init__(memory)
        self.fast = fast
        self.slow = slow
        self.after = after
        self.batch = batch
        self.since: OrderedDict[int, float] = OrderedDict()
        """Pages on the fast device, and since when, in seconds; the oldest is first."""

    def page_swapped(self, page: int, device: int) -> None:
        """Record when the page was written to the fast device."""
        self.since.pop(page, None)
        if device == self.fast:
            self.since[page] = self.memory.now

    def page_returned(self, page: int) -> None:
        """Forget the page."""
        self.since.pop(page, None)

    def turn(self) -> Requests | None:
        """The pages whose time is over, as far as they can be moved now; a page that stays is named again later."""
        now = self.memory.now
        first = list(islice(self.since.items(), min(self.batch, self.memory.movable_pages)))
        due = [page for page, since in first if now - since >= self.after]
        for page in due:
            self.since[page] = now
            self.since.move_to_end(page)
        return Requests(demote=[(page, self.slow) for page in due]) if due else None
