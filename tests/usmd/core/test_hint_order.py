"""The order of hints: no hold, sweep or refusal of the core's own evicts a page before one of a lower priority."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.real_shell import DONE, RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands
from usmd.core.frames import KEPT, PRESENT, PRIORITY_OF
from usmd.core.hints import Priority
from usmd.core.policy import EvictPolicy
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.state import MAX_RECENT
from usmd.policies import registry

DATA = b"x" * PAGE
FALLBACKS = [name for name in sorted(registry.TABLES["evict"]) if name not in ("belady", "hint_aware")]


class NamesNone(EvictPolicy):
    """Hears of pages and names none of them, so that the default policy's sweep chooses."""

    def page_filled(self, pfn):
        """Nothing."""

    def page_left(self, pfn):
        """Nothing."""

    def choose_victims(self):
        """No frame."""
        return ()


def make(kind, specification, memory):
    return NamesNone(memory) if specification == "names_none" else registry.make(kind, specification, memory)


def watch_order(core, inversions):
    """Add a line to `inversions` whenever a page is evicted while its process has one of less priority that may go.

    It may go now if it is PRESENT, and in a moment if it is on its way in or out.
    """
    state, evict = core.state, core.life.evict

    def coming(region, page):
        """The priority of a page on its way in."""
        found = region.hints.find(page)
        if found is None:
            return Priority.NORMAL
        return Priority.HIGH if found.hint.deny else found.hint.priority

    def checked(pfn, policy, reason):
        frames = state.frames
        owner = state.regions[frames.page[pfn] >> PAGE_BITS].process
        mine = [
            each
            for each in range(frames.count)
            if frames.state[each] == PRESENT
            and not frames.flags[each] & KEPT
            and state.regions[frames.page[each] >> PAGE_BITS].process is owner
        ]
        lowest = min(
            *(PRIORITY_OF[frames.flags[each]] for each in mine),
            *(
                PRIORITY_OF[frames.flags[each]]
                for each in state.evicting
                if state.evicting[each].region.process is owner
            ),
            *(coming(each.region, frames.page[at] & PAGE_MASK) for at, each in state.filling.items()),
            Priority.HIGH,
        )
        if policy != "hint" and PRIORITY_OF[frames.flags[pfn]] > lowest:
            name = Priority(PRIORITY_OF[frames.flags[pfn]]).name
            inversions.append(f"{policy} evicts a {name} page while a {Priority(lowest).name} one may go: {reason}")
        evict(pfn, policy, reason)

    core.life.evict = checked


STEP = st.tuples(
    st.sampled_from(["read", "write", "message", "load", "hint", "hint", "tick"]),
    st.integers(0, 2),
    st.integers(0, 11),
    st.sampled_from(["PRIORITY=LOW", "PRIORITY=HIGH", "", "DONTNEED", "PRIORITY=LOW; EVICTION=DENY"]),
)


@given(
    evict=st.sampled_from([*(f"hint_aware(fallback={name})" for name in FALLBACKS), "names_none"]),
    frames=st.sampled_from([5, 8, 20]),
    hold=st.sampled_from([0, 1, 3, 20]),
    marks=st.sampled_from([(0, 0), (1, 3), (2, 2)]),
    steps=st.lists(STEP, min_size=10, max_size=60),
)
@example(  # a LOW and a NORMAL page are held, and both are wanted
    evict="hint_aware(fallback=arc)",
    frames=8,
    hold=3,
    marks=(1, 3),
    steps=[
        *[("read", 0, page, "") for page in range(8)], ("hint", 0, 0, "PRIORITY=HIGH"), ("hint", 1, 0, "PRIORITY=LOW"),
        ("read", 0, 0, ""), ("read", 1, 0, ""), ("read", 2, 0, ""), ("tick", 0, 0, ""),
    ],
)  # fmt: skip
def test_no_page_is_evicted_before_one_of_a_lower_priority(evict, frames, hold, marks, steps):
    core = make_core(
        frames=frames, low=marks[0], high=marks[1], hold_budget=hold, hold_seconds=1.0, make_policy=make, deny_budget=2
    )
    shell = RealShell(core)
    inversions = []
    watch_order(core, inversions)
    process = shell.attach(evict=evict)
    regions = [shell.map(process, 12) for _ in range(3)]
    for what, pick, page, text in steps:
        region = regions[pick]
        if what in ("read", "write"):
            assert shell.touch(process, region, page, DATA if what == "write" else None).state == DONE
        elif what == "message":
            assert isinstance(shell.fault(process, region, page)[-1], commands.Allocated)
        elif what == "load":
            shell.load(process, region, page)
        elif what == "hint":
            shell.hint(process, region, text, page, 12 - page)
        else:
            shell.tick(0.4)
    assert inversions == []


@given(
    evict=st.sampled_from([*(f"hint_aware(fallback={name})" for name in FALLBACKS), "names_none"]),
    alloc=st.sampled_from(["first_fit", "readahead(pages=8)"]),
    frames=st.sampled_from([8, 20]),
    marks=st.sampled_from([(0, 0), (1, 3)]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["fault", "fault", "load", "hint", "io", "io", "tick"]),
            st.integers(0, 1),
            st.integers(0, 15),
            st.integers(1, 16),
            st.sampled_from(["PRIORITY=LOW", "PRIORITY=HIGH", "", "PRIORITY=LOW; EVICTION=DENY"]),
        ),
        min_size=10,
        max_size=60,
    ),
)
@example(  # slru gives up NORMAL pages as another is touched
    evict="hint_aware(fallback=slru)",
    alloc="first_fit",
    frames=20,
    marks=(0, 0),
    steps=[
        ("hint", 0, 12, 5, "PRIORITY=LOW; EVICTION=DENY"), ("fault", 0, 15, 11, ""), ("fault", 0, 11, 2, ""),
        ("fault", 0, 12, 8, ""), ("fault", 0, 0, 1, ""), ("fault", 0, 0, 4, ""), ("fault", 0, 0, 16, ""),
        ("fault", 0, 2, 4, ""), ("fault", 0, 0, 14, ""), ("load", 0, 7, 4, ""), ("io", 0, 8, 10, ""),
        ("load", 1, 14, 10, ""), ("io", 0, 13, 10, ""), ("fault", 1, 6, 1, ""), ("fault", 0, 14, 16, ""),
        ("fault", 0, 13, 10, ""), ("hint", 0, 4, 12, ""), ("fault", 0, 14, 9, ""), ("tick", 0, 15, 11, ""),
        ("io", 1, 7, 6, ""), ("io", 0, 15, 6, ""), ("fault", 1, 13, 11, ""), ("io", 0, 11, 13, ""),
        ("io", 0, 2, 4, ""), ("io", 0, 15, 13, ""), ("io", 1, 10, 1, ""), ("fault", 1, 9, 1, ""),
        ("io", 0, 11, 6, ""), ("fault", 0, 15, 12, ""),
    ],
)  # fmt: skip
def test_no_page_is_evicted_while_one_of_a_lower_priority_is_on_its_way_in_or_out(evict, alloc, frames, marks, steps):
    core = make_core(frames=frames, low=marks[0], high=marks[1], hold_budget=2, make_policy=make, deny_budget=2)
    shell = Shell(core)
    process = shell.attach(alloc=alloc, evict=evict)
    regions = [shell.map(process, 16) for _ in range(2)]
    for region in regions:
        for page in range(16):
            shell.put(process, region, page, DATA)
    inversions = []
    watch_order(core, inversions)
    shell.auto_io = False
    asked = 0
    for what, pick, page, count, text in steps:
        count = min(count, 16 - page)
        if what == "fault":
            asked += 1
            shell.fault(process, regions[pick], page, count, write=count % 2 == 0, fault_id=asked)
        elif what == "load":
            shell.load(process, regions[pick], page)
        elif what == "hint":
            shell.hint(process, regions[pick], text, page, count)
        elif what == "tick":
            shell.tick(0.4)
        elif shell.pending:
            shell.complete_io(page % len(shell.pending))
    while shell.pending:
        shell.complete_io()
        shell.tick(0.4)
    assert inversions == []
    assert len(shell.outcomes.get(process, ())) >= asked, "every fault has its answer once the devices have theirs"


def scanned(evict, *, devices_wait):
    """A HIGH index of 8 pages in memory, and faults on a LOW cache, which has the other 24 frames, for 40 pages."""
    shell = Shell(make_core(frames=32, devices=(("swap0", 256),), low=1, high=2, make_policy=make))
    process = shell.attach(alloc="readahead", evict=evict)
    index, cache = shell.map(process, 8), shell.map(process, 64)
    shell.hint(process, index, "PRIORITY=HIGH")
    shell.hint(process, cache, "PRIORITY=LOW")
    for region, pages in ((cache, 64), (index, 8)):
        for page in range(pages):
            shell.put(process, region, page, DATA)
    inversions = []
    watch_order(shell.core, inversions)
    shell.auto_io = not devices_wait
    shell.fault(process, cache, 0, 40)
    return shell, process, index, inversions


@pytest.mark.parametrize("evict", ["hint_aware(fallback=fifo)", "hint_aware", "names_none"])
def test_faults_wait_for_low_pages_in_flight_rather_than_take_high_ones(evict):
    shell, process, index, inversions = scanned(evict, devices_wait=True)
    assert shell.core.waiting, "more pages are wanted than LOW ones can go at once"
    while shell.pending:
        shell.complete_io()
        assert {shell.state_of(index, page) for page in range(8)} == {"PRESENT"}
    assert inversions == []
    assert not shell.core.waiting, "no time has passed: reclaim did not rest while frames came free"
    [outcome] = shell.outcomes[process][-1:]
    assert isinstance(outcome, commands.Allocated)


def test_a_policy_that_heeds_no_hint_keeps_its_own_order():
    shell, process, index, _ = scanned("fifo", devices_wait=False)
    for page in range(8):
        shell.put(process, index, page, DATA)
    shell.auto_io = False
    cache = max(shell.core.state.regions)
    shell.fault(process, cache, 0, 64)
    assert "EVICTING" in {shell.state_of(index, page) for page in range(8)}


def test_high_pages_go_once_no_lower_one_is_left_or_in_flight():
    shell = Shell(make_core(frames=4))
    process = shell.attach(evict="hint_aware")
    region = shell.map(process, 8)
    shell.hint(process, region, "PRIORITY=HIGH", 1, 7)
    for page in range(4):
        shell.put(process, region, page, DATA)
    shell.auto_io = False
    shell.fault(process, region, 4, 3)
    assert [shell.state_of(region, page) for page in range(4)] == ["EVICTING", *["PRESENT"] * 3]
    while shell.pending:
        shell.complete_io()
    assert [shell.state_of(region, page) for page in range(7)] == ["SWAPPED"] * 3 + ["PRESENT"] * 4


def test_fresh_pages_of_low_priority_leave_a_hot_region_of_high_priority_alone():
    core = make_core(frames=64, devices=(("swap0", 256),), low=4, high=8, hold_budget=16)
    shell = RealShell(core)
    process = shell.attach(evict="hint_aware")
    index, cache = shell.map(process, 50), shell.map(process, 64)
    shell.hint(process, index, "PRIORITY=HIGH")
    shell.hint(process, cache, "PRIORITY=LOW")
    for region, pages in ((index, 50), (cache, 64)):
        for page in range(pages):
            shell.touch(process, region, page, DATA)
    assert {shell.state_of(index, page) for page in range(50)} == {"PRESENT"}


def held_low_and_free_high(evict):
    """A memory of four frames: LOW pages 0 and 1, held by messages, then HIGH pages 2 and 3, touched."""
    shell = Shell(make_core(frames=4, hold_budget=4, hold_seconds=100.0))
    process = shell.attach(evict=evict)
    region = shell.map(process, 8)
    shell.hint(process, region, "PRIORITY=LOW", 0, 2)
    shell.hint(process, region, "PRIORITY=HIGH", 2, 6)
    for page in range(2):
        shell.fault(process, region, page)
    for page in range(2, 4):
        shell.put(process, region, page, DATA)
    return shell, process, region


@pytest.mark.parametrize("evict", ["hint_aware", "lru"])
def test_a_held_page_goes_before_one_of_higher_priority_that_its_policy_names_later(evict):
    shell, process, region = held_low_and_free_high(evict)
    shell.fault(process, region, 4)
    assert [shell.state_of(region, page) for page in range(5)] == ["ABSENT", *["PRESENT"] * 4]


def test_a_held_page_stays_before_one_of_its_own_priority():
    shell, process, region = held_low_and_free_high("hint_aware")
    shell.hint(process, region, "PRIORITY=LOW", 3, 1)
    shell.fault(process, region, 4)
    assert [shell.state_of(region, page) for page in range(5)] == [*["PRESENT"] * 3, "SWAPPED", "PRESENT"]


def test_the_frames_of_the_last_real_faults_are_held_without_a_time():
    core = make_core(frames=MAX_RECENT + 2, hold_budget=MAX_RECENT)
    shell = RealShell(core)
    process = shell.attach(evict="lru")
    region = shell.map(process, MAX_RECENT + 4)
    for page in range(MAX_RECENT + 2):
        shell.touch(process, region, page, DATA)
    shell.tick(100.0)
    assert not core.state.holds
    assert set(core.state.recent) == {core.state.regions[region].table[page] - 1 for page in range(2, MAX_RECENT + 2)}


class MostRecent(EvictPolicy):
    """MRU: the page that came in last goes first."""

    def __init__(self, memory):
        super().__init__(memory)
        self.pages: dict[int, None] = {}

    def page_filled(self, pfn):
        """In front."""
        self.pages[pfn] = None

    def page_left(self, pfn):
        """Forgotten."""
        del self.pages[pfn]

    def choose_victims(self):
        """From the newest on."""
        return reversed(list(self.pages))


def test_an_instruction_gets_its_pages_together_under_a_policy_that_evicts_what_came_last():
    """A copy needs a page to read and one to write: each must outlast the fault of the other."""
    core = make_core(
        frames=8,
        hold_budget=2,
        make_policy=lambda kind, name, memory: (
            MostRecent(memory) if name == "mru" else registry.make(kind, name, memory)
        ),
    )
    shell = RealShell(core)
    process = shell.attach(evict="mru")
    region = shell.map(process, 20)
    for page in range(8):
        shell.touch(process, region, page, DATA)
    for source, target in ((10, 11), (15, 12)):
        shell.touch(process, region, source)
        shell.touch(process, region, target, DATA)
        assert [shell.state_of(region, page) for page in (source, target)] == ["PRESENT", "PRESENT"]


@pytest.mark.parametrize("fallback", ["slru", "lirs", "w_tinylfu"])
def test_no_page_is_given_up_while_one_of_lower_priority_could_go(fallback):
    """These policies give pages up when they hold more than the cache that they reckon with."""
    core = make_core(frames=41, devices=(("swap0", 256),), low=1, high=7)
    shell = RealShell(core)
    process = shell.attach(evict=f"hint_aware(fallback={fallback})")
    high, low = shell.map(process, 12), shell.map(process, 28)
    shell.hint(process, high, "PRIORITY=HIGH")
    shell.hint(process, low, "PRIORITY=LOW")
    for region, pages in ((low, 28), (high, 12)):
        for page in range(pages):
            shell.touch(process, region, page, DATA)
    for turn in range(400):
        shell.load(process, high, (turn * 7 + turn // 11) % 12)
    assert {shell.state_of(high, page) for page in range(12)} == {"PRESENT"}


@pytest.mark.parametrize("evict", ["hint_aware", "names_none"])
def test_with_one_watermark_a_held_page_of_low_priority_is_touched_before_background_reclaim_takes_it(evict):
    shell = Shell(make_core(frames=8, low=2, high=2, hold_budget=4, hold_seconds=1.0, make_policy=make))
    process = shell.attach(evict=evict)
    region = shell.map(process, 9)
    shell.hint(process, region, "PRIORITY=LOW", 8, 1)
    for page in range(6):
        shell.put(process, region, page, DATA)
    for _ in range(3):
        shell.fault(process, region, 8)
        assert shell.load(process, region, 8) is not None
        shell.tick(1.0)
        assert shell.state_of(region, 8) == "ABSENT", "it goes first, when it was touched"
        assert [shell.state_of(region, page) for page in range(6)] == ["PRESENT"] * 6


def test_with_one_watermark_a_page_of_low_priority_is_still_there_after_the_event_of_its_real_fault():
    shell = RealShell(make_core(frames=8, low=2, high=2, hold_budget=4, make_policy=make))
    process = shell.attach(evict="hint_aware")
    region = shell.map(process, 9)
    shell.hint(process, region, "PRIORITY=LOW", 8, 1)
    for page in range(6):
        shell.touch(process, region, page, DATA)
    shell.touch(process, region, 8)
    assert shell.state_of(region, 8) == "PRESENT"
    shell.tick(1.0)
    assert shell.state_of(region, 8) != "PRESENT"
    assert [shell.state_of(region, page) for page in range(6)] == ["PRESENT"] * 6
