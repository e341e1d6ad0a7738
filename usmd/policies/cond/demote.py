"""Swap to memory first and to a file later, after USM's swap devices: tmpfs, demoted after three seconds."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


class Demote(ConditionalPolicy):
    """A page that has been on swap device `fast` for `after` seconds is moved to device `slow`, the oldest one first.

    So what is needed again soon comes back quickly, and the fast device has room for what goes next. `batch` pages in a
    turn, a tenth of a second. It remembers each page on the fast device, at about 200 bytes. Whether pages go to the
    fast device first is up to `swap`, or to hints.
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
        """Pages on the fast device, and since when; the first one is the oldest."""

    def page_swapped(self, page: int, device: int) -> None:
        """Its time begins when it comes to the fast device."""
        self.since.pop(page, None)
        if device == self.fast:
            self.since[page] = self.memory.now

    def page_returned(self, page: int) -> None:
        """No more of it."""
        self.since.pop(page, None)

    def turn(self) -> Requests | None:
        """The pages whose time is over, as many as there are frames for; what does not go is named again later."""
        now = self.memory.now
        first = list(islice(self.since.items(), min(self.batch, self.memory.spare_frames)))
        due = [page for page, since in first if now - since >= self.after]
        for page in due:
            self.since[page] = now
            self.since.move_to_end(page)
        return Requests(demote=[(page, self.slow) for page in due]) if due else None
