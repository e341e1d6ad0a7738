"""The core, driven by any sequence of events in any order of I/O, against a plain dict of what was stored.

Covers safety (invariants, every byte) and liveness (every fault ends), of memory that is loaded and stored by call, and
of memory that threads touch as well. Particular behaviours are in the other files.
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.examples import steps
from tests.support.real_shell import SIGBUS, RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events, release, sampler, sampling, work
from usmd.core.frames import DIRTY, FREE
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.errors import DataLoss, InvalidArgument, LimitExceeded, NoRoom, Refused, SwapIOError

ALLOC = st.sampled_from(
    [
        "first_fit",
        "async_aware",
        "flexible_huge_pages(pages=4)",
        "flexible_huge_pages(pages=4, budget=0.5)",
        "async_aware(regular=flexible_huge_pages(pages=3))",
        "flexible_huge_pages(pages=16)",
    ]
)
EVICT = st.sampled_from(["fifo", "lru", "hint_aware", "hint_aware(fallback=fifo)"])
OOM = st.sampled_from(["refuse", "refuse", "kill_largest"])
HINT = st.sampled_from(
    [
        "EVICTION=DENY",
        "PRIORITY=HIGH; EVICTION=DENY",
        "PRIORITY=LOW",
        "PRIORITY=HIGH",
        "DONTNEED",
        "EVICTION=DENY; DONTNEED",
        "WILLNEED",
        "WILLNEED; TTL=1",
        "DONTNEED; TTL=1",
        "EVICTION=DENY; TTL=1",
        "SWAP=slow",
        "SWAP=0; FHP=48B",
        "ACCESS=SEQUENTIAL; FHP=AUTO",
        "ACCESS=SEQUENTIAL; FHP=64B",
        "PRIORITY=LOW; FHP=32B",
        "ACCESS=RANDOM; X_NOTE=mine",
        "",
    ]
)
INDEX = st.integers(0, 40)
"""Picks one of whatever there is."""


class OneOf:
    """What a page may hold."""

    def __init__(self, *values):
        self.values = values

    def __eq__(self, other):
        return other in self.values

    __hash__ = None


class CoreMachine(RuleBasedStateMachine):
    """Some processes and regions, and what their owners believe."""

    sampling = 0.0
    """Pages taken out of page tables for each that comes in."""

    @initialize(
        frames=st.sampled_from([3, 3, 4, 5, 8, 12]),
        marks=st.sampled_from([(0, 0), (1, 2), (2, 2)]),
        hold_budget=st.sampled_from([0, 0, 1, 3]),
        deny=st.sampled_from([(12, 12), (2, 3), (1, 1)]),
        slots=st.sampled_from([(1, 1), (3, 2), (8, 4), (40, 40), (40, 40)]),
        max_fault_pages=st.sampled_from([2, 6, 6]),
        policies=st.tuples(ALLOC, EVICT, OOM),
        pages_an_event=st.sampled_from([None, 1, 1, 2]),
    )
    def start(self, frames, marks, hold_budget, deny, slots, max_fault_pages, policies, pages_an_event=None):
        self.patched = pytest.MonkeyPatch()
        if pages_an_event is not None:
            self.patched.setattr(work, "PAGES_AN_EVENT", pages_an_event)
            self.patched.setattr(work, "END_COSTS", 1)
            self.patched.setattr(release, "REGION_COSTS", 1)
        self.shell = self.make_shell(
            make_core(
                frames=frames,
                devices=(("fast", slots[0]), ("slow", slots[1])),
                low=marks[0],
                high=marks[1],
                hold_budget=hold_budget,
                deny_budget=deny[0],
                deny_budget_total=deny[1],
                max_fault_pages=max_fault_pages,
                reclaim_batch=3,
                scan_limit=6,
                sampling=self.sampling,
            )
        )
        self.shell.hold_go_on = pages_an_event is not None
        self.shell.on_store = self.stored
        self.model: dict[tuple[int, int], list[bytes]] = {}
        """(process, region) → pages."""
        self.open_faults: dict[tuple[int, int], int] = {}
        """(process, fault) → yield token, 0: none."""
        self.tokens: set[tuple[int, int]] = set()
        """(process, yield token): each process counts its own."""
        self.heard: dict[int, int] = {}
        self.next_fault = 1
        self.discards: dict[int, tuple[tuple[int, int], range, set[int]]] = {}
        """By its `reply_to`, a discard that is not done: (process, region), pages, and those that nothing touched."""
        self.pins: list[tuple[int, int, int, int]] = []
        """Process, region, first page, pages."""
        self.attach(*policies, None)
        self.map(0, 9)
        self.churn(0, 0, 9)

    def make_shell(self, core):
        return Shell(core, auto_io=False)

    def stored(self, key, data):
        """A store has happened."""
        page = key & PAGE_MASK
        owner = next(each for each in self.model if each[1] == key >> PAGE_BITS)
        self.now_has(owner, page, data)

    def now_has(self, owner, page, data):
        """A page has these bytes, or a discard under way makes them zeros."""
        self.model[owner][page] = data
        for its_owner, pages, untouched in self.discards.values():
            if its_owner == owner and page in pages:
                self.model[owner][page] = OneOf(bytes(PAGE), data)
                untouched.discard(page)

    def some_region(self, pick):
        keys = sorted(self.model)
        return keys[pick % len(keys)]

    def some_pages(self, region, first, count):
        pages = len(self.model[region])
        first %= pages
        return first, 1 + count % min(pages - first, self.shell.core.state.settings.max_fault_pages)

    def live(self):
        return [process for process in sorted(self.heard) if process not in self.shell.ended]

    @precondition(lambda self: len(self.live()) < 3)
    @rule(
        alloc=ALLOC,
        evict=EVICT,
        oom=OOM,
        device=st.sampled_from([None, "0", "slow"]),
        budgets=st.sampled_from(
            [(None, None), (1, None), (2, None), (4, None), (1, 2), (2, 1), (3, 4), (4, 0), (9, 3)]
        ),
    )
    def attach(self, alloc, evict, oom, device, budgets=(None, None)):
        memory_max, swap_max = budgets
        process = self.shell.attach(
            "app", alloc, evict, oom, swap_device=device, memory_max=memory_max, swap_max=swap_max
        )
        self.heard[process] = 0
        if self.sampling:
            self.shell.do(events.SetSampling(process, on=True))

    @precondition(lambda self: self.live() and len(self.model) < 5)
    @rule(pick=INDEX, pages=st.integers(1, 9))
    def map(self, pick, pages):
        process = self.live()[pick % len(self.live())]
        self.model[process, self.shell.map(process, pages)] = [bytes(PAGE)] * pages

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=INDEX, write=st.booleans(), times=st.integers(1, 3))
    def fault(self, pick, first, count, write, times):
        process, region = key = self.some_region(pick)
        requests = []
        for step in range(times):
            page, pages = self.some_pages(key, first + 2 * step, count)
            self.open_faults[process, self.next_fault] = 0
            requests.append(events.FaultRequest(self.next_fault, region, page, pages, write))
            self.next_fault += 1
        self.shell.do(events.Faults(process, requests))

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, byte=st.integers(0, 255))
    def fault_and_store(self, pick, first, byte):
        process, region = key = self.some_region(pick)
        page, _ = self.some_pages(key, first, 0)
        self.open_faults[process, self.next_fault] = 0
        self.shell.fault(process, region, page, write=True, fault_id=self.next_fault)
        self.next_fault += 1
        self.hear()
        if key in self.model:
            self.store(pick=sorted(self.model).index(key), first=first, byte=byte)

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=st.integers(2, 9))
    def churn(self, pick, first, count):
        """Store to pages one after the other, so that others must go; what I/O they need ends in order."""
        for step in range(count):
            if not self.model:
                return
            self.fault_and_store(pick, first + step, 1 + step)
            if self.shell.pending and self.model:
                self.shell.complete_io()
                self.hear()

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, byte=st.integers(0, 255))
    def store(self, pick, first, byte):
        key = self.some_region(pick)
        page, _ = self.some_pages(key, first, 0)
        self.shell.store(*key, page, bytes([byte]) * PAGE)

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX)
    def load(self, pick, first):
        key = self.some_region(pick)
        page, _ = self.some_pages(key, first, 0)
        assert self.shell.load(*key, page) in (None, self.model[key][page])

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, text=HINT, first=INDEX, count=INDEX)
    def hint(self, pick, text, first, count):
        key = self.some_region(pick)
        self.shell.hint(*key, text, *self.some_pages(key, first, count))

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=INDEX)
    def pin(self, pick, first, count):
        """All or none; what is pinned stays, whatever the hints say."""
        process, region = key = self.some_region(pick)
        first, count = self.some_pages(key, first, count)
        count = min(count, self.shell.core.state.settings.frames)
        pages = range(first, first + count)
        there = [page for page in pages if self.shell.state_of(region, page) in ("PRESENT", "EVICTING")]
        locked = self.shell.core.state.pinned
        try:
            answer = self.shell.do(events.Pin(process, region, first, count))
        except LimitExceeded:
            assert self.shell.core.state.pinned == locked  # before any of the absent ones is brought in
            return
        self.hear()
        assert answer.absent == [page for page in pages if page not in there]
        if not answer.absent and key in self.model:
            for owner, _, untouched in self.discards.values():
                if owner == key:
                    untouched.difference_update(pages)
            self.pins.append((process, region, first, count))

    @precondition(lambda self: self.pins)
    @rule(pick=INDEX)
    def unpin(self, pick):
        self.shell.do(events.Unpin(*self.pins.pop(pick % len(self.pins))))

    def in_flight(self, *flights):
        """Keys of the pages of living regions that come in or go."""
        keys = [self.shell.core.state.frames.page[pfn] for flight in flights for pfn in sorted(flight)]
        regions = self.shell.core.state.regions
        return [key for key in keys if (region := regions.get(key >> PAGE_BITS)) is not None and region.gone is None]

    @precondition(lambda self: self.in_flight(self.shell.core.life.evicting))
    @rule(pick=INDEX, byte=st.integers(0, 255))
    def fault_on_a_page_that_is_going(self, pick, byte):
        keys = self.in_flight(self.shell.core.life.evicting)
        key = keys[pick % len(keys)]
        regions = sorted(self.model)
        number = next(at for at, (_, region) in enumerate(regions) if region == key >> PAGE_BITS)
        self.fault_and_store(number, key & PAGE_MASK, byte)

    @precondition(lambda self: self.shell.pending)
    @rule(pick=INDEX)
    def complete(self, pick):
        self.shell.complete_io(pick % len(self.shell.pending))

    @precondition(lambda self: self.shell.pending)
    @rule(pick=INDEX, error=st.sampled_from([SwapIOError("the device said no"), DataLoss("the checksum is wrong")]))
    def fail(self, pick, error):
        self.shell.fail_read = self.shell.fail_write = error
        self.shell.complete_io(pick % len(self.shell.pending))
        self.shell.fail_read = self.shell.fail_write = None

    @precondition(lambda self: self.shell.pending)
    @rule(pick=INDEX, error=st.sampled_from([Refused("it does not compress"), NoRoom("it is full")]))
    def refuse(self, pick, error):
        self.shell.refuses = dict.fromkeys(range(len(self.shell.core.state.swap.devices)), error)
        self.shell.complete_io(pick % len(self.shell.pending))
        self.shell.refuses = {}

    @precondition(lambda self: self.model)
    @rule(pick=INDEX)
    def unmap(self, pick):
        process, region = self.some_region(pick)
        self.shell.do(events.Unmap(process, region))
        del self.model[process, region]

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=INDEX)
    def discard(self, pick, first, count):
        """Bytes are given up, and are zeros once that is done."""
        process, region = key = self.some_region(pick)
        first, count = self.some_pages(key, first, count)
        reply_to = self.next_fault
        self.next_fault += 1
        before, pages = list(self.model[key]), range(first, first + count)
        for page in pages:
            self.model[key][page] = OneOf(bytes(PAGE), before[page])
        self.discards[reply_to] = key, pages, set(pages)  # now, because a thread may store before it is done
        try:
            self.shell.do(events.Discard(process, region, first, count, reply_to))
        except InvalidArgument:
            assert any(pin[1] == region and first < pin[2] + pin[3] and pin[2] < first + count for pin in self.pins)
            self.model[key] = before
            del self.discards[reply_to]

    @precondition(lambda self: self.live())
    @rule(pick=INDEX)
    def detach(self, pick):
        self.shell.do(events.Detach(self.live()[pick % len(self.live())], "bye"))

    @precondition(lambda self: self.shell.asked)
    @rule(parts=st.integers(1, 3))
    def do_work(self, parts):
        """Hints are brought to pages, and what regions had that are gone is freed, with other events in between."""
        for _ in range(parts):
            if self.shell.asked:
                self.shell.do_work()

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.3, 1.5]))
    def tick(self, seconds):
        self.shell.tick(seconds)

    def hear(self):
        """Take note of outcomes and ended sessions; each fault yields at most once and ends exactly once."""
        for process in list(self.heard):
            outcomes = self.shell.outcomes.get(process, [])
            for outcome in outcomes[self.heard[process] :]:
                token = self.open_faults[process, outcome.fault_id]
                if isinstance(outcome, commands.Yielded):
                    assert token == 0
                    assert outcome.yield_token != 0
                    assert (process, outcome.yield_token) not in self.tokens
                    self.tokens.add((process, outcome.yield_token))
                    self.open_faults[process, outcome.fault_id] = outcome.yield_token
                else:
                    assert outcome.yield_token == token
                    del self.open_faults[process, outcome.fault_id]
            self.heard[process] = len(outcomes)
            if process in self.shell.ended:
                del self.heard[process]
                self.model = {key: pages for key, pages in self.model.items() if key[0] != process}
                self.open_faults = {key: token for key, token in self.open_faults.items() if key[0] != process}
        self.pins = [pin for pin in self.pins if pin[:2] in self.model]
        for reply_to in self.shell.discarded:
            owner, _, untouched = self.discards.pop(reply_to)
            for page in untouched if owner in self.model else ():
                self.model[owner][page] = bytes(PAGE)
        self.shell.discarded.clear()

    @invariant()
    def all_is_well(self):
        """Nothing waits for nothing, every byte is somewhere, and the built-in policies make no mistake."""
        self.hear()
        if not self.under_way() and not self.recovering():
            assert self.open_faults == {}
            assert self.discards == {}
            assert not self.shell.core.waiting
            assert not self.shell.core.over_budget
        for process in self.shell.core.state.processes.values():
            assert process.resident <= process.memory_max + process.lent
            assert process.stored <= process.swap_max
        for _, region, first, count in self.pins:
            assert {self.shell.state_of(region, page) for page in range(first, first + count)} == {"PRESENT"}
        for (_, region), pages in self.model.items():
            assert [self.shell.bytes_of(region, page) for page in range(len(pages))] == pages
        assert self.mistakes() == 0

    def mistakes(self):
        """Answers of built-in policies that were not used."""
        return self.shell.counters()["policy_errors"]

    def teardown(self):
        if hasattr(self, "shell"):
            try:
                self.end()
            finally:
                self.patched.undo()

    def end(self):
        """All that is under way ends, every byte is read back, and nothing is left of anything."""
        shell = self.shell
        while self.under_way() or self.recovering():
            if not self.go_on():
                shell.tick(1.0)
        self.all_is_well()
        shell.auto_io, shell.hold_go_on = True, False
        shell.tick(10)
        for process, region in self.model:
            if (
                process not in shell.ended
            ):  # a page of PRIORITY=LOW may lose each race where one frame is above the marks
                shell.hint(process, region, "")
        for (process, region), pages in list(self.model.items()):
            for page, expected in enumerate(pages):
                if process not in shell.ended:
                    self.read_back(process, region, page, expected)
        for process in list(shell.core.state.processes):
            shell.do(events.Detach(process, "the end"))
        state = shell.core.state
        assert state.frames.count_state(FREE) == state.frames.count == state.frames.free
        assert state.swap.free == state.swap.slots
        assert shell.slots == {}

    def under_way(self):
        """Whether anything goes on by itself."""
        return bool(self.shell.pending or self.shell.asked)

    def go_on(self):
        """Have something that is under way end; whether there was something."""
        if self.shell.pending:
            self.shell.complete_io()
            return True
        if self.shell.asked:
            self.shell.do_work()
            return True
        return False

    def recovering(self):
        """A device that failed to write rests, or pages that could not be protected do, and faults wait for that."""
        return self.shell.core.state.swap.recovering(self.shell.now) or self.shell.core.reclaim.passed_over.stuck

    def read_back(self, process, region, page, expected):
        """The page can be read, or its owner is told why not; without pins a reader may lose the race for ever."""
        for _ in range(4):
            data = self.shell.load(process, region, page)
            if data is not None:
                assert data == expected
                return
            outcomes = self.shell.fault(process, region, page, fault_id=self.next_fault)
            if process in self.shell.ended or isinstance(outcomes[-1], commands.Failed):
                return
            assert isinstance(outcomes[-1], commands.Allocated)
        assert self.shell.core.state.settings.hold_budget == 0


class RealMachine(CoreMachine):
    """As above, while threads touch the same pages, whose faults are read late; and the core hears late of much."""

    sampling = 3.0

    def make_shell(self, core):
        self.threads = []
        self.patched.setattr(sampling, "BATCH", 2)
        self.patched.setattr(sampler, "LEAST", 1)
        shell = RealShell(core, auto_io=False, auto_read=False, late=True)
        shell.on_touch = self.touched
        return shell

    def touched(self, thread):
        """A thread has read, and perhaps written, a page: it saw what was stored, and nobody else did meanwhile."""
        pages = self.model[thread.process, thread.region]
        assert thread.read == pages[thread.page]
        if thread.data is not None:
            self.now_has((thread.process, thread.region), thread.page, thread.data)

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, byte=st.integers(-90, 255), read=st.booleans())
    def touch(self, pick, first, byte, read):
        process, region = key = self.some_region(pick)
        page, _ = self.some_pages(key, first, 0)
        data = bytes([byte]) * PAGE if byte >= 0 else None
        self.threads.append(self.shell.touch(process, region, page, data))
        if read:
            self.read_faults()

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=st.integers(2, 9), write=st.booleans())
    def sweep(self, pick, first, count, write):
        """Threads touch pages one after the other, so that others must go."""
        for step in range(count):
            if self.model:
                self.touch(pick, first + step, 1 + step if write else -1, True)
                self.hear()
            if self.model:
                self.go_on()
                self.hear()

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX, count=st.integers(3, 20), goes_on=st.integers(0, 3), read_first=st.booleans())
    def update_in_order(self, pick, first, count, goes_on, read_first):
        """A thread writes to page after page, some of which come in writable because that is foreseen."""
        for step in range(count):
            for byte in (-1, 1 + step) if read_first else (1 + step,):
                if self.model:
                    self.touch(pick, first + step, byte, True)
                    self.hear()
                for _ in range(goes_on):
                    if self.model:
                        self.go_on()
                        self.hear()

    @precondition(lambda self: self.shell.core.life.evicting or self.shell.core.life.filling)
    @rule(pick=INDEX, byte=st.integers(-90, 255), read=st.booleans())
    def touch_a_page_in_flight(self, pick, byte, read):
        keys = self.in_flight([*self.shell.core.life.evicting, *self.shell.core.life.filling])
        if keys:
            key = keys[pick % len(keys)]
            number = next(at for at, (_, region) in enumerate(sorted(self.model)) if region == key >> PAGE_BITS)
            self.touch(number, key & PAGE_MASK, byte, read)

    @precondition(lambda self: self.shell.unread)
    @rule(most=st.integers(1, 4))
    def read_faults(self, most=4):
        self.shell.read_faults(most)

    @precondition(lambda self: self.shell.untold)
    @rule()
    def tell(self):
        self.shell.tell()

    @precondition(lambda self: self.shell.pending)
    @rule(pick=INDEX)
    def complete_at_once(self, pick):
        """The client sees the page, and the core hears of it later."""
        self.shell.complete_io(pick % len(self.shell.pending), late=True)

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX)
    def punch(self, pick, first):
        """A client empties a page that is there, by itself."""
        key = self.some_region(pick)
        region = key[1]
        page, _ = self.some_pages(key, first, 0)
        if self.shell.state_of(region, page) == "PRESENT":
            self.shell.punch(region, page)
            state = self.shell.core.state
            dirty = state.frames.flags[state.regions[region].table[page] - 1] & DIRTY
            # One that was not written to since it came from swap may have its old bytes again.
            self.model[key][page] = bytes(PAGE) if dirty else OneOf(bytes(PAGE), self.model[key][page])

    @precondition(lambda self: self.model)
    @rule(pick=INDEX, first=INDEX)
    def zap(self, pick, first):
        """A client takes a page out of its page table, by itself."""
        key = self.some_region(pick)
        self.shell.zap(key[1], self.some_pages(key, first, 0)[0])

    @precondition(lambda self: self.live())
    @rule(pick=INDEX, on=st.booleans())
    def set_sampling(self, pick, on):
        self.shell.do(events.SetSampling(self.live()[pick % len(self.live())], on=on))

    @precondition(lambda self: self.shell.memory and not self.shell.stays)
    @rule(pick=INDEX)
    def some_page_cannot_be_protected(self, pick):
        self.shell.stays.add(sorted(self.shell.memory)[pick % len(self.shell.memory)])

    @precondition(lambda self: self.shell.stays)
    @rule()
    def every_page_can_be_protected(self):
        self.shell.stays.clear()

    def under_way(self):
        return bool(super().under_way() or self.shell.untold or self.shell.unread)

    def go_on(self):
        if self.shell.untold:
            self.shell.tell()
        elif self.shell.unread:
            self.shell.read_faults()
        else:
            return super().go_on()
        return True

    @invariant()
    def no_thread_waits_for_nothing(self):
        """Each thread goes on, or is told by SIGBUS, which an operator can explain."""
        told = {(n.fields["region_id"], n.fields["page"]) for n in self.shell.notices if n.kind == "page_poisoned"}
        for thread in self.threads:
            gone = thread.region in self.shell.gone or thread.process in self.shell.ended
            if thread.state == SIGBUS and not gone:
                assert (str(thread.region), str(thread.page)) in told
        if not self.under_way() and not self.recovering():
            assert self.shell.waiting == []

    def teardown(self):
        if hasattr(self, "shell"):
            while self.under_way() or self.recovering():
                if not self.go_on():
                    self.shell.tick(1.0)
            self.no_thread_waits_for_nothing()
            self.shell.stays.clear()
            self.shell.late, self.shell.auto_read = False, True
        super().teardown()


for machine in (CoreMachine, RealMachine):
    machine.TestCase.settings = steps(22, 50)


class TestCore(CoreMachine.TestCase):
    """Run by pytest."""


class TestCoreWithRealMemory(RealMachine.TestCase):
    """Run by pytest."""
