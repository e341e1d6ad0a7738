"""A shell for tests: performs the core's commands on real bytes, and completes I/O when the test says so.

Only calls access its memory; in tests.support.real_shell threads do as well.
"""

from __future__ import annotations

from collections import deque

from tests.support.watched_life import WatchedLife, WatchedMigration
from usmd.core import commands, events
from usmd.core.frames import STATE_NAMES
from usmd.core.hints import parse_hint
from usmd.core.machine import Core
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.swap_map import SLOT_BITS
from usmd.core.validate import violations
from usmd.errors import Refused, UsmdError
from usmd.policies import registry

PAGE = 16
_TRIES = 100
EVERY_EVENT = 25
THEN_EACH = 7
"""Invariants are checked after each of EVERY_EVENT events, then after each THEN_EACH-th, and when the test ends."""
ANSWERS = (commands.Attached, commands.Mapped, commands.HintSet, commands.Pinned, commands.Accessed)


def make_core(
    frames=8,
    devices=(("swap0", 64),),
    make_policy=registry.make,
    page_size=PAGE,
    stopwatch=float,
    cpu_clock=None,
    running=None,
    **settings,
) -> Core:
    settings.setdefault("deny_budget", frames)
    settings.setdefault("deny_budget_total", frames)
    return Core(
        CoreSettings(frames=frames, page_size=page_size, **settings),
        [DeviceInfo(name, slots) for name, slots in devices],
        make_policy,
        stopwatch,
        life=WatchedLife,
        cpu_clock=cpu_clock,
        running=running,
        migration=WatchedMigration,
    )


_shells: list[Shell] = []
"""Those of this test that check invariants."""


def check_at_the_end() -> None:
    """Check the invariants of the test's cores, unless that was done after their last events."""
    for shell in _shells:
        if shell.check and shell._unchecked:
            assert violations(shell.core) == []


def forget() -> None:
    """The test has ended."""
    _shells.clear()


class Shell:
    """`do(event)` performs the commands that follow.

    `auto_io`: I/O completes at once, else by `complete_io()`. `check`: check the core's invariants. Commands are
    performed in order, so the bytes of a load or store move at Accessed: a later Protect may take the same frame. A
    write reads its bytes when it completes, which reveals a core that frees the frame too early.
    """

    def __init__(self, core: Core, *, auto_io=True, check=True):
        self.core = core
        self.auto_io = auto_io
        self.hold_go_on = False
        """Deferred work waits for `do_work`."""
        self.asked = False
        """Whether such work waits."""
        self.check = check
        self.every_event = EVERY_EVENT
        self._handled = 0
        self._unchecked = 0
        if check:
            _shells.append(self)
        self.on_store = lambda key, data: None
        """Called after a call has stored to a page."""
        self._touch = None
        self.now = 0.0
        self.page_size = core.state.settings.page_size
        self.pool = [bytes(self.page_size)] * core.state.settings.frames
        self.slots: dict[int, tuple[tuple[int, int, int], bytes]] = {}
        self.pending: deque[tuple[str, commands.SlotPage]] = deque()
        self.outcomes: dict[int, list[commands.Outcome]] = {}
        self.ended: dict[int, commands.Ended] = {}
        self.notices: list[commands.Notice] = []
        self.retired: dict[int, UsmdError | None] = {}
        """Device number → how its last retirement ended."""
        self.discarded: list[int] = []
        """`reply_to` of the discards that are done."""
        self.fail_write: UsmdError | None = None
        self.fail_read: UsmdError | None = None
        self.refuses: dict[int, Refused] = {}
        """Device number → its answer to every write."""

    def do(self, event):
        answer, queue = self._handle(event)
        while queue:
            _, following = self._handle(queue.popleft())
            queue.extend(following)
        return answer

    def _handle(self, event):
        """Handle one event; returns its answer, if any, and the events that follow from its commands."""
        answer = None
        following = deque()
        happened = self.core.handle(event, self.now)
        self._handled += 1
        self._unchecked += 1
        if self.check and (self._handled <= self.every_event or self._handled % THEN_EACH == 0):
            self._unchecked = 0
            assert violations(self.core) == []
        for command in happened:
            if isinstance(command, ANSWERS):
                answer = command
            following.extend(self._perform(command))
        self._performed(following)
        return answer, following

    def _performed(self, following):
        """Called after all commands of an event, before the events that follow from them."""

    def _peek(self, pfn: int, key: int) -> bytes:
        """The bytes of a page on a frame."""
        del key
        return self.pool[pfn]

    def _poke(self, pfn: int, key: int, data: bytes) -> None:
        """Set the bytes of a page on a frame."""
        del key
        self.pool[pfn] = data

    def _perform(self, command):
        match command:
            case commands.Accessed():
                if self._touch is not None:
                    self._touch(command)
            case commands.DiscardSlots():
                for reference in command.slots:
                    self.slots.pop(reference, None)
            case commands.ZeroFill():
                for pfn, key in zip(command.frames, command.pages, strict=True):
                    self._poke(pfn, key, bytes(self.page_size))
            case commands.Protect():
                pages = zip(command.frames, command.pages, strict=True)
                zero = [not any(self._peek(pfn, key)) for pfn, key in pages]
                yield events.Protected(command.ticket, command.frames, zero)
            case commands.WriteSlots():
                self.pending.extend(("write", page) for page in command.pages)
                if self.auto_io:
                    yield from self._complete_all()
            case commands.ReadSlots():
                self.pending.extend(("read", page) for page in command.pages)
                if self.auto_io:
                    yield from self._complete_all()
            case commands.GoOn():
                self.asked = self.hold_go_on
                if not self.asked:
                    yield events.GoOn()
            case commands.Outcomes():
                self.outcomes.setdefault(command.process_id, []).extend(command.outcomes)
            case commands.Discarded():
                self.discarded.append(command.reply_to)
            case commands.Ended():
                self.ended[command.process_id] = command
            case commands.RetirementEnded():
                self.retired[command.number] = command.error
                if command.error is None:
                    assert not [slot for slot in self.slots if slot >> SLOT_BITS == command.number]
                    yield events.DeviceClosed(command.number)
            case commands.Notice():
                self.notices.append(command)

    def _complete_all(self):
        while self.pending:
            yield self._completion()

    def _completion(self, index=0):
        kind, page = self.pending[index]
        del self.pending[index]
        key = (page.process_id, page.page, page.generation)
        if kind == "write":
            error = self.fail_write or self.refuses.get(page.slot >> SLOT_BITS)
            if error is None:
                self.slots[page.slot] = (key, self._peek(page.pfn, page.page))
            return events.SwapOutDone([page.slot], [error])
        if self.fail_read is None:
            stored_key, stored = self.slots[page.slot]
            assert stored_key == key, "a slot was read under another key than it was written"
            self._poke(page.pfn, page.page, stored)
        return events.SwapInDone([page.pfn], [self.fail_read])

    def do_work(self):
        """Do the next part of the deferred work that `hold_go_on` holds back."""
        self.asked = False
        self.do(events.GoOn())

    def complete_io(self, index=0):
        """Complete one operation under way, by its position in `pending`."""
        self.do(self._completion(index))

    # Conversation helpers

    def attach(self, name="app", alloc="first_fit", evict="fifo", oom="refuse", **more) -> int:
        return self.do(events.Attach(name, alloc, evict, oom, **more)).process_id

    def map(self, process, pages, name="") -> int:
        return self.do(events.Map(process, pages * self.page_size, name)).region_id

    def fault(self, process, region, page, count=1, *, write=False, fault_id=1):
        """Fault on pages; returns the outcomes that this process gets at once."""
        before = len(self.outcomes.get(process, []))
        self.do(events.Faults(process, [events.FaultRequest(fault_id, region, page, count, write)]))
        return self.outcomes.get(process, [])[before:]

    def access(self, process, region, page, count=1, *, write=False, touch=None):
        """Access pages; returns the answer. `touch` is called with it when the command is performed."""
        self._touch = touch
        try:
            return self.do(events.Access(process, region, page, count, write))
        finally:
            self._touch = None

    def store(self, process, region, page, data: bytes) -> bool:
        """Try once to store to a whole page; False if the page is absent."""

        def write(accessed):
            for pfn in accessed.frames:
                self._poke(pfn, page_key(region, page), data)
                self.on_store(page_key(region, page), data)

        return not self.access(process, region, page, write=True, touch=write).absent

    def load(self, process, region, page) -> bytes | None:
        """Try once to load a whole page; None if the page is absent."""
        loaded = []

        def read(accessed):
            loaded.extend(self._peek(pfn, page_key(region, page)) for pfn in accessed.frames)

        self.access(process, region, page, touch=read)
        return loaded[0] if loaded else None

    def hint(self, process, region, text, page=0, count=None):
        """Set a hint on a range of pages, or clear it by an empty text; returns the answer."""
        length = None if count is None else count * self.page_size
        return self.do(events.SetHint(process, region, page * self.page_size, length, parse_hint(text)))

    def tick(self, seconds=0.0) -> None:
        """Let time pass."""
        self.now += seconds
        self.do(events.Tick())

    def evict(self, process, region, page=0, count=None) -> None:
        """Evict pages (DONTNEED), and clear their hints."""
        self.hint(process, region, "DONTNEED", page, count)
        self.hint(process, region, "", page, count)

    def state_of(self, region, page) -> str:
        """ABSENT, SWAPPED, or the state of the page's frame."""
        entry = self.core.state.regions[region].table[page]
        if entry > 0:
            return STATE_NAMES[self.core.state.frames.state[entry - 1]]
        return "SWAPPED" if entry else "ABSENT"

    def bytes_of(self, region, page) -> bytes:
        """The bytes of a page, in memory or in swap, without touching it."""
        entry = self.core.state.regions[region].table[page]
        if entry == 0:
            return bytes(self.page_size)
        if entry > 0 and entry - 1 not in self.core.life.filling:
            return self._peek(entry - 1, page_key(region, page))
        reference = self.core.life.filling[entry - 1].reference if entry > 0 else -entry - 1
        return self.slots[reference][1]

    def counters(self) -> dict[str, int]:
        """Counters of the daemon."""
        return self.core.state.totals().as_dict()

    def put(self, process, region, page, data: bytes) -> None:
        """Store, faulting as often as needed; with auto_io."""
        for _ in range(_TRIES):
            if self.store(process, region, page, data):
                return
            self._must_allocate(self.fault(process, region, page, write=True))
        raise AssertionError(f"page {page} of region {region} never stays")

    def get(self, process, region, page) -> bytes:
        """Load, faulting as often as needed; with auto_io."""
        for _ in range(_TRIES):
            data = self.load(process, region, page)
            if data is not None:
                return data
            self._must_allocate(self.fault(process, region, page))
        raise AssertionError(f"page {page} of region {region} never stays")

    @staticmethod
    def _must_allocate(outcomes):
        last = outcomes[-1]
        if isinstance(last, commands.Failed):
            raise last.error
