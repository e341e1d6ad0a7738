"""The read-only view through which a policy sees memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from usmd.core.frame_list import FrameLinks, FrameList
from usmd.core.frames import DIRTY, HELD, KEPT, NO_PAGE, PRESENT, PRIORITY_OF, ZERO
from usmd.core.hints import HintRange, Priority
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.swap_map import GONE
from usmd.errors import InvalidArgument

if TYPE_CHECKING:
    from usmd.core.region import Process
    from usmd.core.state import State
    from usmd.core.swap_map import DeviceMap


class ProcessView:
    """A process, as policies see it. `guaranteed_pages`: its `memory_min`; `weight`: its `memory_weight`.

    `share`: its weight, or if its user has a `memory_weight`, its part of that: processes divide it by their weights.
    """

    __slots__ = ("guaranteed_pages", "name", "process_id", "resident_pages", "share", "weight")

    def __init__(self, process: Process, weights_of_user: int = 0) -> None:
        """`weights_of_user`: the weights of all processes of its user in sum, if that has a weight; else 0."""
        user = process.user
        self.process_id = process.process_id
        self.name = process.name
        self.resident_pages = process.resident
        self.guaranteed_pages = process.memory_min
        self.weight = process.weight
        self.share = process.weight + 0.0
        if user is not None and weights_of_user:
            self.share = user.weight * process.weight / weights_of_user


class TierView:
    """A swap device, as policies see it. `used`: its slots in use; `share`: how full it is, from 0 to 1, by its bytes.

    `takes`: whether it takes a page now.
    """

    __slots__ = ("name", "number", "share", "takes", "used")

    def __init__(self, device: DeviceMap, now: float) -> None:
        self.number = device.number
        self.name = device.name
        self.used = device.slots - device.free
        self.share = device.share
        self.takes = device.takes(now)


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryView:
    """Memory, as the policies of one process see it. Read-only, except for the policy's own lists."""

    __slots__ = ("_elsewhere", "_flags", "_process", "_state", "links")

    def __init__(
        self,
        state: State,
        process: Process,
        links: FrameLinks | None = None,
        elsewhere: Callable[[], int] | None = None,
    ) -> None:
        self._state = state
        self._elsewhere = elsewhere
        """Returns how many of the process's pages other policies have, if several policies divide them."""
        self._process = process
        self.links = state.links if links is None else links
        """The arrays of the policy's lists. A frame is in at most one list of these arrays."""
        self._flags = state.frames.flags

    @property
    def page_size(self) -> int:
        """Bytes in a page."""
        return self._state.settings.page_size

    @property
    def frame_count(self) -> int:
        """Frames in all."""
        return self._state.frames.count

    @property
    def capacity(self) -> int:
        """Frames for the process's evictable pages when memory is short: the size of its cache.

        These are its part, in proportion to its resident pages, of the frames above the high watermark, within its
        `memory_max`. Pages that EVICTION=DENY or pins keep, or that another policy has, are subtracted, because this
        policy does not know them. Pages that are dirty while the process is at its `swap_max` are known, and count.
        """
        state, process = self._state, self._process
        frames = state.frames.count - state.settings.high
        if len(state.processes) > 1:
            resident = sum(each.resident for each in state.processes.values())
            if resident > 0:
                frames = frames * process.resident // resident
        if frames > process.memory_max:  # without `min` and `max`: policies ask at each miss
            frames = process.memory_max
        if process.unevictable or process.pinned:
            frames -= max(process.unevictable, process.pinned)
        if self._elsewhere is not None:
            frames -= self._elsewhere()
        return frames if frames > 1 else 1

    @property
    def free_frames(self) -> int:
        """Free frames."""
        return self._state.frames.free

    @property
    def spare_frames(self) -> int:
        """Free frames above half the low watermark, which migrations may take."""
        return max(self._state.frames.free - self._state.settings.low // 2, 0)

    @property
    def movable_pages(self) -> int:
        """Pages that may be moved to other swap devices now: as many as there are spare frames, within the rate."""
        return min(self.spare_frames, self._state.moves.room(self._state.now))

    def swap_tiers(self) -> list[TierView]:
        """The swap devices in their order, the first of which takes what is evicted."""
        state = self._state
        return [TierView(device, state.now) for device in state.swap.devices if device.status != GONE]

    def stored_since(self, page: int) -> float | None:
        """When a page of the process was stored where it is in swap, in seconds as `now`; None: it is not in swap.

        Times are kept for each device from the first call on; what was there before counts as of then.
        """
        region = self._process.regions.get(page >> PAGE_BITS)
        number = page & PAGE_MASK
        if region is None or number >= region.page_count:
            return None
        entry = region.table[number]
        return self._state.swap.stored_at(-entry - 1, self._state.now) if entry < 0 else None

    @property
    def ample_frames(self) -> int:
        """Free frames above the high watermark and those kept free for windows, within `memory_max` of the process."""
        state, process = self._state, self._process
        free = state.frames.free - state.settings.high - state.ahead
        return max(min(free, process.absent_max - process.resident), 0)

    def came_along(self, region_id: int) -> tuple[int, int]:
        """Pages of a region that came in with faults on others: those known to be used, and those evicted unused."""
        region = self._process.regions.get(region_id)
        return (0, 0) if region is None else (region.along_used, region.along_unused)

    def missing_pages(self, region_id: int) -> int:
        """Pages of a region of the process that have no frame."""
        region = self._process.regions.get(region_id)
        return 0 if region is None else region.page_count - region.resident

    @property
    def leaving_frames(self) -> int:
        """Frames whose page is on its way out."""
        return len(self._state.evicting)

    @property
    def resident_pages(self) -> int:
        """Pages of the process that have a frame."""
        return self._process.resident

    @property
    def now(self) -> float:
        """Time of the event being handled, in seconds."""
        return self._state.now

    def evictable(self, pfn: int) -> bool:
        """Whether the core would accept this frame as a victim of the process now."""
        frames = self._state.frames
        if frames.state[pfn] != PRESENT or self._flags[pfn] & (KEPT | HELD) or pfn in self._state.recent:
            return False
        if self._flags[pfn] & DIRTY and self._state.budgets.swap_room(self._process) <= 0:
            return False
        region = self._state.regions.get(frames.page[pfn] >> PAGE_BITS)
        return region is not None and region.process is self._process

    def dirty(self, pfn: int) -> bool:
        """Whether evicting the page needs a write. The eviction may still find that it is all zero."""
        return self._flags[pfn] & (DIRTY | ZERO) == DIRTY

    def priority(self, pfn: int) -> int:
        """Priority of the page in a frame: 0 LOW, 1 NORMAL, 2 HIGH."""
        return PRIORITY_OF[self._flags[pfn]]

    def priority_name(self, pfn: int) -> str:
        """Priority of the page in a frame, by name."""
        return Priority(self.priority(pfn)).name

    def page(self, pfn: int) -> int:
        """The key of the page in a frame. A page keeps its key in any frame, as long as its region exists."""
        return self._state.frames.page[pfn]

    def frame(self, region_id: int, page: int) -> int | None:
        """The frame of a page of a region of the process, or None."""
        region = self._process.regions.get(region_id)
        if region is None or not 0 <= page < region.page_count:
            return None
        entry = region.table[page]
        return entry - 1 if entry > 0 else None

    def hint(self, pfn: int) -> HintRange | None:
        """The hint in force on the page in a frame, or None; None also if its region is gone."""
        key = self._state.frames.page[pfn]
        region = self._state.regions.get(key >> PAGE_BITS)
        return None if region is None or region.gone is not None else region.hints.find(key & PAGE_MASK)

    def processes(self) -> list[ProcessView]:
        """The processes that have a session, for oom policies."""
        weights = {
            uid: sum([each.weight for each in user.processes])
            for uid, user in self._state.users.of.items()
            if user.weight
        }
        return [
            ProcessView(process, 0 if process.user is None else weights.get(process.user.uid, 0))
            for process in self._state.processes.values()
        ]

    def identity(self, page: int) -> int:
        """The number to hash for a page, by its key: in a replay the trace's id of the page, else the key.

        So a policy that hashes gives the same result as another program on the same trace.
        """
        identity = self._state.identity
        return page if identity is None else identity(page)

    def next_use(self, page: int) -> int:
        """Number of the next access to the page that was missed or accessed last; for replays only.

        For a page that is never used again, a number beyond all accesses. Raises InvalidArgument outside of a replay.
        """
        future = self._state.future
        if future is None:
            raise InvalidArgument("a live memory has no known future: this policy is for `usmctl replay`")
        return future(page)

    def give_up(self, pfn: object) -> None:
        """Evict the page in a frame of the process before the next event, though no fault needs the frame yet.

        Raises TypeError if `pfn` is not an int.
        """
        if type(pfn) is not int:
            raise TypeError(f"a frame is an int, not a {type(pfn).__name__}")
        state, frames = self._state, self._state.frames
        state.more_to_do = True
        state.forced_victims.append((self._process, pfn, frames.page[pfn] if 0 <= pfn < frames.count else NO_PAGE))

    def new_list(self) -> FrameList:
        """An empty list of frames; a frame is in at most one list at a time."""
        return self.links.new_list()

    def make(self, kind: str, specification: str, elsewhere: Callable[[], int] | None = None) -> object:
        """Another policy for the same process; `alloc_policy` and the like in `usmd.core.policy` check its type.

        `elsewhere` returns how many pages of the process other policies have, if several policies divide them.
        """
        view = MemoryView(self._state, self._process, self.links, elsewhere or self._elsewhere)
        return self._state.make_policy(kind, specification, view)


MakePolicy = Callable[[str, str, MemoryView], object]
"""Makes a policy from (kind, specification, view); raises UsmdError for an unknown name or parameter."""
