"""The read-only view through which a policy sees memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from usmd.core.frame_list import FrameLinks, FrameList
from usmd.core.frames import DIRTY, HELD, KEPT, PRESENT, PRIORITY_OF, ZERO
from usmd.core.hint_ranges import HintRange
from usmd.core.hints import Priority
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.errors import InvalidArgument

if TYPE_CHECKING:
    from usmd.core.region import Process
    from usmd.core.state import State


class ProcessView:
    """A process as a policy may see it."""

    __slots__ = ("name", "process_id", "resident_pages")

    def __init__(self, process: Process) -> None:
        self.process_id = process.process_id
        self.name = process.name
        self.resident_pages = process.resident


class MemoryView:
    """Memory for the policies of one process. Everything here only reads, but for the lists, which are the policy's."""

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
        """How many of the process's pages another policy has, where several divide them."""
        self._process = process
        self.links = state.links if links is None else links
        """The arrays of its lists. A frame is in at most one list of the same arrays."""
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
        """Frames that the process's evictable pages may be in when memory is short: the size of its cache.

        All but those below the high watermark, shared with other processes in proportion to what each has, less those
        whose pages EVICTION=DENY or pins keep, or another policy has, so that this one does not know them. Pages that
        are dirty while the process is at its `swap_max` are known, and count.
        """
        state, process = self._state, self._process
        frames = state.frames.count - state.settings.high
        if len(state.processes) > 1:
            resident = sum(each.resident for each in state.processes.values())
            if resident > 0:
                frames = frames * process.resident // resident
        frames = min(frames, process.memory_max) - max(process.unevictable, process.pinned)
        if self._elsewhere is not None:
            frames -= self._elsewhere()
        return max(frames, 1)

    @property
    def free_frames(self) -> int:
        """Free frames."""
        return self._state.frames.free

    @property
    def spare_frames(self) -> int:
        """Free frames above half the low watermark: so many pages may pass through memory to another swap device."""
        return max(self._state.frames.free - self._state.settings.low // 2, 0)

    @property
    def leaving_frames(self) -> int:
        """Frames whose page is on its way out, so that they will be free."""
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
        """Whether the core would take this frame as a victim of the process now."""
        frames = self._state.frames
        if frames.state[pfn] != PRESENT or self._flags[pfn] & (KEPT | HELD) or pfn in self._state.recent:
            return False
        if self._flags[pfn] & DIRTY and self._state.budgets.swap_room(self._process) <= 0:
            return False
        region = self._state.regions.get(frames.page[pfn] >> PAGE_BITS)
        return region is not None and region.process is self._process

    def dirty(self, pfn: int) -> bool:
        """Whether evicting the page needs a write, as far as is known: only then is looked whether it is all zero."""
        return self._flags[pfn] & (DIRTY | ZERO) == DIRTY

    def priority(self, pfn: int) -> int:
        """Priority of the page in a frame: 0 LOW, 1 NORMAL, 2 HIGH."""
        return PRIORITY_OF[self._flags[pfn]]

    def priority_name(self, pfn: int) -> str:
        """Priority of the page in a frame, by name."""
        return Priority(self.priority(pfn)).name

    def page(self, pfn: int) -> int:
        """A number that names the page in a frame for as long as its region lives, whatever frame it is in."""
        return self._state.frames.page[pfn]

    def frame(self, region_id: int, page: int) -> int | None:
        """The frame of a page of a region of the process, or None."""
        region = self._process.regions.get(region_id)
        if region is None or not 0 <= page < region.page_count:
            return None
        entry = region.table[page]
        return entry - 1 if entry > 0 else None

    def hint(self, pfn: int) -> HintRange | None:
        """The hint in force on the page in a frame; None where its region is gone, and the page is about to leave."""
        key = self._state.frames.page[pfn]
        region = self._state.regions.get(key >> PAGE_BITS)
        return None if region is None else region.hints.find(key & PAGE_MASK)

    def processes(self) -> list[ProcessView]:
        """The processes that have a session, for oom policies."""
        return [ProcessView(process) for process in self._state.processes.values()]

    def identity(self, page: int) -> int:
        """What to hash for a page, by its number: in a replay the id that the trace has for it, else its number.

        So a policy that hashes does the same as another program's on the same trace.
        """
        identity = self._state.identity
        return page if identity is None else identity(page)

    def next_use(self, page: int) -> int:
        """When the page missed or accessed last will be used next, as the number of the access; for replays only.

        A page that is never used again has a number beyond all. Raises InvalidArgument where nobody knows the future.
        """
        future = self._state.future
        if future is None:
            raise InvalidArgument("a live memory has no known future: this policy is for `usmctl replay`")
        return future(page)

    def give_up(self, pfn: int) -> None:
        """Have a page of the process evicted before the next event, though nobody needs its frame yet.

        Raises TypeError for what is no int.
        """
        if type(pfn) is not int:
            raise TypeError(f"a frame is an int, and no {type(pfn).__name__}")
        self._state.forced_victims.append((self._process, pfn))

    def new_list(self) -> FrameList:
        """An empty list of frames; a frame is in at most one list at a time."""
        return self.links.new_list()

    def make(self, kind: str, specification: str, elsewhere: Callable[[], int] | None = None) -> object:
        """Another policy for the same process; `alloc_policy` and the like in `usmd.core.policy` check what it is.

        `elsewhere` says how many pages of the process it will not hear of, where several share them.
        """
        view = MemoryView(self._state, self._process, self.links, elsewhere or self._elsewhere)
        return self._state.make_policy(kind, specification, view)


MakePolicy = Callable[[str, str, MemoryView], object]
"""Makes a policy from (kind, specification, view); raises UsmdError for a name or parameter that does not exist."""
