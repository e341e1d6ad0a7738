"""A hypothesis machine that drives the core by any sequence of events in any order of I/O."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.support.core_model import PATIENCE, CoreModel, OneOf
from tests.support.shell import PAGE
from usmd.core import events
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
OOM = st.sampled_from(["refuse", "refuse", "kill_largest", "kill_lowest_priority", f"freeze(seconds={PATIENCE})"])
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


class CoreMachine(CoreModel):
    """Some processes and regions, and what happens to them."""

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
    def start(self, policies, **settings):
        self.begin(**settings)
        self.attach(*policies, None)
        self.map(0, 9)
        self.churn(0, 0, 9)

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
    @rule(pick=INDEX, offsets=st.lists(INDEX, max_size=6), write=st.booleans())
    def fault_on_pages(self, pick, offsets, write):
        process, region = key = self.some_region(pick)
        pages = [self.some_pages(key, offset, 0)[0] for offset in offsets]
        self.open_faults.update({(process, self.next_fault + index): 0 for index in range(len(pages))})
        self.shell.do(events.PageBatch(process, region, self.next_fault, pages, write))
        self.next_fault += len(pages)

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
