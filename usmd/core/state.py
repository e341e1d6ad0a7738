"""The state of the core, and the commands gathered while an event is handled."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from usmd.core import commands
from usmd.core.counters import Counters
from usmd.core.fault_room import FaultRoom
from usmd.core.frame_list import FrameLinks
from usmd.core.frames import FrameTable
from usmd.core.guarantees import Guarantees
from usmd.core.hint_ends import HintEnds
from usmd.core.in_flight import Evicting, Filling
from usmd.core.move_rate import MoveRate
from usmd.core.region import Process, Region
from usmd.core.running import Running
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.stalls import Stalls
from usmd.core.swap_map import SwapMap
from usmd.core.users import Users
from usmd.core.victims import Victims
from usmd.core.waits import Waits
from usmd.core.work import WorkQueue
from usmd.errors import NotFound

if TYPE_CHECKING:
    from usmd.core.waiters import WaitingPage

CPU_CLOCK_SECONDS: Final = 60.0
"""After a policy call took long by the wall clock, calls are timed in CPU time for this long."""

MAX_RECENT: Final = 16
"""Frames held for real faults: an instruction may need several pages at once, and gets them one by one."""


class State:
    """Frames, processes, regions, slots and the commands gathered while an event is handled."""

    __slots__ = (
        "_cheap_stopwatch",
        "_cpu_clock",
        "_cpu_clock_until",
        "_outcomes",
        "ahead",
        "arriving",
        "attached",
        "background_at",
        "begin_sampling_below",
        "budgets",
        "discards",
        "dying",
        "dying_frames",
        "ended_counters",
        "ending",
        "evicting",
        "fault_room",
        "filling",
        "first",
        "forced_victims",
        "frames",
        "future",
        "guarantees",
        "hint_ends",
        "holds",
        "identity",
        "last",
        "links",
        "make_policy",
        "maps_again",
        "misbehaving",
        "more_to_do",
        "moves",
        "next_process",
        "next_region",
        "next_ticket",
        "now",
        "pinned",
        "poisons",
        "policy_returns",
        "processes",
        "protect_pages",
        "protects",
        "reads",
        "recent",
        "refreshing",
        "regions",
        "releases",
        "restores",
        "running",
        "sampling_links",
        "sampling_wanted",
        "settings",
        "stalls",
        "stopwatch",
        "swap",
        "touch",
        "unevictable",
        "unsampled",
        "users",
        "victims",
        "waiting_of",
        "waits",
        "wakes",
        "work",
        "writes",
        "zero_fills",
        "zero_pages",
        "zero_runs",
    )  # fmt: skip

    def __init__(
        self,
        settings: CoreSettings,
        devices: Sequence[DeviceInfo],
        make_policy: Callable[..., object],
        stopwatch: Callable[[], float],
        cpu_clock: Callable[[], float] | None = None,
        running: Running | None = None,
    ) -> None:
        self.settings = settings
        self.running = Running() if running is None else running
        """Marks calls of policies."""
        self.make_policy = make_policy
        """See `view.MakePolicy`."""
        self.stopwatch = stopwatch
        """Seconds from any start: times calls of policies now. A constant finds no slow calls."""
        self._cheap_stopwatch = stopwatch
        self._cpu_clock = stopwatch if cpu_clock is None else cpu_clock
        self._cpu_clock_until = -inf
        self.frames = FrameTable(settings.frames)
        self.links = FrameLinks(settings.frames)
        self.swap = SwapMap(devices)
        self.moves = MoveRate(settings.demotion_rate / settings.page_size)
        self.guarantees = Guarantees(settings)
        self.waiting_of: dict[int, dict[WaitingPage, None]] = {}
        """Process number → its pages that wait for a free frame."""
        self.users = Users(self.guarantees, settings, self.waiting_of)
        self.budgets = self.users.budgets
        self.processes: dict[int, Process] = {}
        self.regions: dict[int, Region] = {}
        """All but those of `dying`; those of `ending` are gone nevertheless."""
        self.holds: OrderedDict[int, float] = OrderedDict()
        """Frame → time at which its hold ends by itself; oldest first."""
        self.recent: deque[int] = deque(maxlen=min(MAX_RECENT, settings.hold_budget))
        """Frames of the latest real faults; their threads may not have touched them yet."""
        self.work = WorkQueue()
        self.waits = Waits(self.work)
        self.fault_room = FaultRoom(self.work, self.faults_fit)
        self.stalls = Stalls()
        self.dying: dict[int, Region] = {}
        """Regions that are gone, with frames and slots that are still to become free."""
        self.ending: deque[dict[int, Region]] = deque()
        """By session that has ended: regions that are still in `regions`, and become `dying` one by one."""
        self.dying_frames = 0
        """Frames of `dying` and `ending` regions; no process counts them."""
        self.refreshing = 0
        """Pieces of work that bring pages in line with the hints in force."""
        self.future: Callable[[int], int] | None = None
        """In a replay: the next use of a page, see `MemoryView.next_use`."""
        self.policy_returns = inf
        """Time at which the next replaced policy returns, or earlier."""
        self.more_to_do = False
        """Whether there is more to do after an event than after most: set by what adds a page that waits, a round of
        background reclaim, or to `misbehaving`, `forced_victims` or `sampling_wanted`; see `Core.has_more_to_do`."""
        self.misbehaving: list[Process] = []
        """Processes with a policy that the default is to replace."""
        self.identity: Callable[[int], int] | None = None
        """In a replay: page key → the trace's id of the page, see `MemoryView.identity`."""
        self.touch = 0
        """In a replay: number of the access being handled."""
        self.forced_victims: list[tuple[Process, int, int]] = []
        """Frames that a policy wants evicted, with the keys of their pages then, see `MemoryView.give_up`."""
        self.filling: dict[int, Filling] = {}
        """Frame → the swap-in under way."""
        self.evicting: dict[int, Evicting] = {}
        """Frame → the eviction under way."""
        self.arriving: dict[int, int] = {}
        """Frame → swap device to which its page migrates, during the read. The frame will be free again."""
        self.ahead = 0
        """Frames that reclaim keeps free above the watermarks, for the next window of pages that faults bring in."""
        self.background_at = inf
        """Time of the next round of background reclaim; infinity without conditional policies."""
        self.unevictable = 0
        self.pinned = 0
        self.ended_counters = Counters()
        self.victims = Victims()
        self.now = 0.0
        self.next_process = 1
        self.attached = 0
        """Processes that have ever attached."""
        self.next_region = 1
        self.next_ticket = 1
        self.hint_ends = HintEnds()
        self.first: list[commands.Command] = []
        """Commands before the batches below, such as answers and ended sessions."""
        self.discards: list[int] = []
        self.releases: list[int] = []
        """Keys of pages that have left their frames."""
        self.restores: dict[int, bool] = {}
        """Page key → writable."""
        self.maps_again: dict[int, bool] = {}
        """Page key → writable, of pages to be put back into their clients' page tables."""
        self.wakes: list[int] = []
        self.zero_fills: list[int] = []
        self.zero_pages: list[int] = []
        """Keys of the pages on the frames of `zero_fills`, and below of those of `protects`."""
        self.zero_runs: list[tuple[range, Sequence[int]]] = []
        """More of both, on runs of frames."""
        self.poisons: dict[int, str] = {}
        """Page key → reason of the error; empty: its region or session is gone."""
        self.protects: list[int] = []
        self.protect_pages: list[int] = []
        self.writes: list[commands.SlotPage] = []
        self.reads: list[commands.SlotPage] = []
        self.sampling_links: FrameLinks | None = None
        """Arrays of the lists of `Sampling`; None until a process has one."""
        self.sampling_wanted: list[Process] = []
        """Processes whose pages have earned enough samples for a batch."""
        self.unsampled: dict[Process, None] = {}
        """Processes to be sampled once memory is short."""
        self.begin_sampling_below = 0
        """Memory is short for them if fewer frames are free; 0 if there are none."""
        self._outcomes: dict[tuple[int, int], list[commands.Outcome]] = {}
        """(process number, `reply_to` of the faults) → outcomes."""
        self.last: list[commands.Command] = []
        """Commands after all others."""

    def tells_slowness(self, stopwatch: Callable[[], float]) -> bool:
        """Whether a call that took long by this stopwatch was slow itself.

        By the wall clock it may have waited for a CPU. So calls are then timed in CPU time for a while, which costs
        more.
        """
        self._cpu_clock_until = self.now + CPU_CLOCK_SECONDS
        self.stopwatch = self._cpu_clock
        return stopwatch is self._cpu_clock

    def choose_stopwatch(self) -> None:
        """Time calls by the cheap stopwatch again if none took long for a while."""
        if self.now >= self._cpu_clock_until:
            self.stopwatch = self._cheap_stopwatch

    def process(self, process_id: int) -> Process:
        """A process by number; raises NotFound."""
        process = self.processes.get(process_id)
        if process is None:
            raise NotFound(f"no process {process_id}; `usmctl processes` lists those there are")
        return process

    def region(self, process_id: int, region_id: int) -> Region:
        """A region of a process; raises NotFound, also for a region of another process."""
        region = self.regions.get(region_id)
        if region is None or region.process.process_id != process_id or region.gone is not None:
            raise NotFound(f"no region {region_id} in this session")
        return region

    @property
    def region_count(self) -> int:
        """Regions that are not gone."""
        return len(self.regions) - sum(map(len, self.ending))

    @property
    def releasing(self) -> bool:
        """Whether regions that are gone still have frames or slots, or may have some."""
        return bool(self.dying or self.ending)

    def outcome(self, process_id: int, outcome: commands.Outcome, reply_to: int = 0) -> None:
        """Queue an outcome for a stream of a process, unless the process has ended."""
        if process_id in self.processes:
            self.outcomes(process_id, reply_to).append(outcome)

    def outcomes(self, process_id: int, reply_to: int) -> list[commands.Outcome]:
        """The queue of outcomes for a stream of a process, until the event has been handled."""
        return self._outcomes.setdefault((process_id, reply_to), [])

    def waits_less(self, process: Process, pages: int) -> None:
        """Faults of a process wait for so many pages fewer."""
        before = process.missing
        process.missing = left = before - pages
        if not left and process.stall.waits:
            self.stalls.end(process.stall, self.now)
        if left < process.max_faults <= before:
            self.faults_fit(process)
        user = process.user
        if user is not None:
            before = user.missing
            user.missing = left = before - pages
            if left < user.max_faults <= before:
                self.fault_room.fits(user)

    def faults_fit(self, process: Process) -> None:
        """The faults of a process, which were as many as are allowed, are fewer."""
        self.first.append(commands.FaultsFit(process.process_id))

    def wants_samples(self, process: Process) -> None:
        """Pages of a process have earned enough samples for a batch."""
        self.sampling_wanted.append(process)
        self.more_to_do = True

    def notice(self, kind: str, process_id: int, message: str, fields: dict[str, str] | None = None) -> None:
        """Queue a message for operators, see `commands.Notice`."""
        self.last.append(commands.Notice(kind, process_id, message, fields or {}))

    def take_commands(self) -> list[commands.Command]:
        """Take the gathered commands, in the order in which they must be performed.

        Slots are discarded before they are written again. Pages leave their frames before other pages come into them.
        Frames are restored or zeroed before they are protected. An outcome follows everything that makes it true.
        """
        out = self.first
        self.first = []
        if self.discards:
            out.append(commands.DiscardSlots(self.discards))
            self.discards = []
        if self.releases:
            out.append(commands.Release(self.releases))
            self.releases = []
        if self.zero_fills:
            out.append(commands.ZeroFill(self.zero_fills, self.zero_pages))
            self.zero_fills, self.zero_pages = [], []
        if self.zero_runs:
            out.extend([commands.ZeroFill(frames, pages) for frames, pages in self.zero_runs])
            self.zero_runs = []
        if self.maps_again:
            out.append(commands.MapAgain(list(self.maps_again), list(self.maps_again.values())))
            self.maps_again = {}
        if self.restores:
            out.append(commands.Restore(list(self.restores), list(self.restores.values())))
            self.restores = {}
        if self.wakes:
            out.append(commands.Wake(self.wakes))
            self.wakes = []
        if self.poisons:
            out.append(commands.Poison(list(self.poisons), list(self.poisons.values())))
            self.poisons = {}
        if self.protects:
            out.append(commands.Protect(self.next_ticket, self.protects, self.protect_pages))
            self.next_ticket += 1
            self.protects, self.protect_pages = [], []
        if self.writes:
            out.append(commands.WriteSlots(self.writes))
            self.writes = []
        if self.reads:
            out.append(commands.ReadSlots(self.reads))
            self.reads = []
        if self._outcomes:
            for (process_id, reply_to), outcomes in self._outcomes.items():
                if outcomes and process_id in self.processes:
                    out.append(commands.Outcomes(process_id, outcomes, reply_to))
            self._outcomes = {}
        if self.last:
            out.extend(self.last)
            self.last = []
        return out

    def totals(self) -> Counters:
        """Counters of the daemon: all processes, ended ones included."""
        total = Counters()
        total.add(self.ended_counters)
        for process in self.processes.values():
            total.add(process.counters)
        return total
