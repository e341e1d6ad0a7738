"""Everything the core knows, and the commands it has not handed out yet. Covers no decision and no transition."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

import msgspec

from usmd.core import commands
from usmd.core.budgets import Budgets
from usmd.core.counters import Counters
from usmd.core.frame_list import FrameLinks
from usmd.core.frames import FrameTable
from usmd.core.in_flight import Evicting, Filling
from usmd.core.region import Process, Region
from usmd.core.running import Running
from usmd.core.swap_map import DeviceInfo, SwapMap
from usmd.core.work import WorkQueue
from usmd.errors import InvalidArgument, NotFound

CPU_CLOCK_SECONDS: Final = 60.0
"""How long calls of policies are timed in CPU time after one took long by the wall clock."""

MAX_FRAMES: Final = (1 << 31) - 1
MAX_RECENT: Final = 16
"""Frames of real faults that are held: an instruction may need several pages at once, and gets them one by one."""


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers the core works with. Frames unless said otherwise.

    `low`, `high`: watermarks; reclaim begins below `low` free frames and ends at `high`. `deny_budget`: frames that
    EVICTION=DENY may protect per process, and `deny_budget_total` in all. `hold_budget`: frames whose page was faulted
    in and not touched yet may be held, each for `hold_seconds`, so that a fault and the access after it meet. A real
    fault holds its frame until MAX_RECENT others came, without a time. A hold never outweighs a hint. `max_regions`,
    `max_mapped` bytes and `max_hint_ranges` are per process. `max_fault_pages` pages per fault and per FHP.
    `reclaim_batch`: most victims per event, which bounds the time an event takes. `scan_limit`: most frames looked at
    for them. `write_backoff`: seconds without writes on a device after one failed. `reclaim_rest`: seconds that
    background reclaim rests when nothing can be evicted. `policy_slow_seconds`: a policy call that takes more CPU time
    is reported. `policy_errors`: recent errors of one policy after which the default takes its place (0: never).
    `eviction_records`: evictions on record per process, for `explain`. `default_policies`: the alloc, evict and oom
    policy that take the place of one that makes too many errors. `cond_interval`: seconds between two turns of a
    conditional policy, and `cond_batch` pages at most for each kind of request. `interruptible`: Ctrl-C may end
    a call of a policy, as KeyboardInterrupt; where it cannot, that is as much an error of the policy as any exception.
    """

    frames: int
    page_size: int
    low: int = 0
    high: int = 0
    deny_budget: int
    deny_budget_total: int
    hold_budget: int = 0
    hold_seconds: float = 0.25
    max_regions: int = 1024
    max_mapped: int = 1 << 36
    max_hint_ranges: int = 16384
    max_fault_pages: int = 512
    reclaim_batch: int = 64
    scan_limit: int = 4096
    write_backoff: float = 1.0
    reclaim_rest: float = 0.02
    policy_slow_seconds: float = 0.05
    policy_errors: int = 100
    eviction_records: int = 256
    cond_interval: float = 0.1
    cond_batch: int = 256
    interruptible: bool = True
    default_policies: tuple[str, str, str] = ("async_aware", "hint_aware", "refuse")

    def __post_init__(self) -> None:
        if not 0 < self.frames <= MAX_FRAMES:
            raise InvalidArgument(f"{self.frames} frames; allowed are 1 to 2^31 - 1")
        if not 0 <= self.low <= self.high < self.frames:
            raise InvalidArgument(
                f"watermarks low {self.low} and high {self.high}; allowed is 0 <= low <= high < {self.frames} frames"
            )


class State:
    """Frames, processes, regions, slots and the commands gathered while an event is handled."""

    __slots__ = (
        "_cheap_stopwatch",
        "_cpu_clock",
        "_cpu_clock_until",
        "_notices",
        "_outcomes",
        "arriving",
        "background_at",
        "budgets",
        "discards",
        "dying",
        "dying_frames",
        "ended_counters",
        "evicting",
        "filling",
        "first",
        "forced_victims",
        "frames",
        "future",
        "hint_expiry",
        "holds",
        "identity",
        "links",
        "make_policy",
        "misbehaving",
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
        "settings",
        "stopwatch",
        "swap",
        "touch",
        "unevictable",
        "wakes",
        "work",
        "writes",
        "zero_fills",
        "zero_pages",
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
        """Seconds from any start: what calls of policies are timed by at the moment. A constant sees no slow ones."""
        self._cheap_stopwatch = stopwatch
        self._cpu_clock = stopwatch if cpu_clock is None else cpu_clock
        self._cpu_clock_until = -inf
        self.frames = FrameTable(settings.frames)
        self.links = FrameLinks(settings.frames)
        self.swap = SwapMap(devices)
        self.budgets = Budgets()
        self.processes: dict[int, Process] = {}
        self.regions: dict[int, Region] = {}
        self.holds: OrderedDict[int, float] = OrderedDict()
        """Frame → time at which its pin ends by itself; oldest first."""
        self.recent: deque[int] = deque(maxlen=min(MAX_RECENT, settings.hold_budget))
        """Frames that real faults were about last; their threads may not have touched them yet."""
        self.work = WorkQueue()
        self.dying: dict[int, Region] = {}
        """Regions that are gone but for frames and slots that are still to become free."""
        self.dying_frames = 0
        """Frames that those have, which are not counted for any process."""
        self.refreshing = 0
        """Pieces of work that bring pages in line with the hints in force."""
        self.future: Callable[[int], int] | None = None
        """In a replay: when a page is used next, see `MemoryView.next_use`."""
        self.policy_returns = inf
        """Time at which a policy that was replaced comes back, or earlier."""
        self.misbehaving: list[Process] = []
        """Processes of which a policy is to be replaced by the default."""
        self.identity: Callable[[int], int] | None = None
        """In a replay: what the trace calls a page, by its key, see `MemoryView.identity`."""
        self.touch = 0
        """In a replay: number of the access that is being handled."""
        self.forced_victims: list[tuple[Process, int]] = []
        """Frames that a policy wants evicted, see `MemoryView.give_up`."""
        self.filling: dict[int, Filling] = {}
        """Frame → the swap-in under way."""
        self.evicting: dict[int, Evicting] = {}
        """Frame → the eviction under way."""
        self.arriving: dict[int, int] = {}
        """Frame → swap device to which its page migrates, while it comes in; so the frame will be free again."""
        self.background_at = inf
        """Time of the next turns of conditional policies; never, where there is none."""
        self.unevictable = 0
        self.pinned = 0
        self.ended_counters = Counters()
        self.now = 0.0
        self.next_process = 1
        self.next_region = 1
        self.next_ticket = 1
        self.hint_expiry = inf
        """Time of the next hint that ends by itself, or earlier."""
        self.first: list[commands.Command] = []
        """Commands that go out before the batches below: answers to a request, ended sessions."""
        self.discards: list[int] = []
        self.releases: list[int] = []
        """Keys of pages that have left their frames."""
        self.restores: dict[int, bool] = {}
        """Page key → writable."""
        self.wakes: list[int] = []
        self.zero_fills: list[int] = []
        self.zero_pages: list[int] = []
        """Keys of the pages on the frames of `zero_fills`, and below of those of `protects`."""
        self.poisons: dict[int, str] = {}
        """Page key → reason of the error; empty: its region or session went."""
        self.protects: list[int] = []
        self.protect_pages: list[int] = []
        self.writes: list[commands.SlotPage] = []
        self.reads: list[commands.SlotPage] = []
        self._outcomes: dict[tuple[int, int], list[commands.Outcome]] = {}
        """By process and by `reply_to` of their faults."""
        self._notices: list[commands.Notice] = []

    def tells_slowness(self, stopwatch: Callable[[], float]) -> bool:
        """Whether a call that took long by this stopwatch was slow itself.

        By the wall clock it may have waited for a CPU; then calls are timed in CPU time for a while, which costs more.
        """
        self._cpu_clock_until = self.now + CPU_CLOCK_SECONDS
        self.stopwatch = self._cpu_clock
        return stopwatch is self._cpu_clock

    def choose_stopwatch(self) -> None:
        """Time calls cheaply again if none took long for a while."""
        if self.now >= self._cpu_clock_until:
            self.stopwatch = self._cheap_stopwatch

    def process(self, process_id: int) -> Process:
        """A process by number; raises NotFound."""
        process = self.processes.get(process_id)
        if process is None:
            raise NotFound(f"no process {process_id}; `usmctl processes` lists those there are")
        return process

    def region(self, process_id: int, region_id: int) -> Region:
        """A region of a process; raises NotFound, also when it is another's."""
        region = self.regions.get(region_id)
        if region is None or region.process.process_id != process_id:
            raise NotFound(f"no region {region_id} in this session")
        return region

    def outcome(self, process_id: int, outcome: commands.Outcome, reply_to: int = 0) -> None:
        """Queue an outcome for a stream of a process; one that has ended hears nothing."""
        if process_id in self.processes:
            self._outcomes.setdefault((process_id, reply_to), []).append(outcome)

    def notice(self, kind: str, process_id: int, message: str, fields: dict[str, str] | None = None) -> None:
        """Queue something of note."""
        self._notices.append(commands.Notice(kind, process_id, message, fields or {}))

    def take_commands(self) -> list[commands.Command]:
        """The gathered commands in the order in which they must be performed; nothing remains.

        Slots are discarded before anything is written to them again; pages leave their frames before others come into
        them; what is restored or zeroed is so before it is protected; an outcome comes after everything that makes it
        true.
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
                if process_id in self.processes:
                    out.append(commands.Outcomes(process_id, outcomes, reply_to))
            self._outcomes = {}
        if self._notices:
            out.extend(self._notices)
            self._notices = []
        return out

    def totals(self) -> Counters:
        """Counters of the daemon: all processes, ended ones included."""
        total = Counters()
        total.add(self.ended_counters)
        for process in self.processes.values():
            total.add(process.counters)
        return total
