"""Guarantees, and the reserve that newcomers draw on beside a process that takes all it can."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands
from usmd.core.guarantees import BATCH, MAX_WEIGHT, Guarantees
from usmd.core.region import DEFAULT_WEIGHT, Process
from usmd.core.settings import CoreSettings
from usmd.errors import InvalidArgument, LimitExceeded, OutOfMemory

DATA = b"x" * PAGE


def guarantees(**more):
    return Guarantees(
        CoreSettings(frames=100, page_size=PAGE, low=5, high=10, deny_budget=0, deny_budget_total=0, **more)
    )


class App:
    """A process with one region, whose pages it fills from the first one on."""

    def __init__(self, shell, pages=64, **more):
        self.shell, self.process_id = shell, shell.attach(**more)
        self.region = shell.map(self.process_id, pages)
        self.filled = 0

    @property
    def process(self):
        return self.shell.core.state.processes[self.process_id]

    def fill(self, most=64):
        """Fill up to so many pages more, until one is refused; returns how many."""
        before = self.filled
        while self.filled < before + most:
            try:
                self.shell.put(self.process_id, self.region, self.filled, DATA)
            except OutOfMemory:
                break
            self.filled += 1
        return self.filled - before

    def check(self):
        assert all(self.shell.get(self.process_id, self.region, page) == DATA for page in range(self.filled))


def test_guarantees_have_the_memory_below_the_high_watermark_together():
    found = guarantees()
    first, second = (Process(number, "app", None, None, None) for number in (1, 2))
    found.check(90, DEFAULT_WEIGHT, None)
    found.set(first, 60, DEFAULT_WEIGHT)
    found.check(90, DEFAULT_WEIGHT, None, first.memory_min)  # it takes the place of its own
    found.check(30, DEFAULT_WEIGHT, 30)
    with pytest.raises(
        LimitExceeded,
        match=r"^memory_min of 31 pages .*at most 30 pages .* together may have 90 pages .* 60 pages",
    ):
        found.check(31, DEFAULT_WEIGHT, None)
    found.set(second, 30, 7)
    assert (found.kept, found.few, second.weight) == (90, 90, 7)
    found.end(first)
    found.set(second, 0, 7)
    assert (found.kept, found.few, found.processes) == (0, 1, [])


@pytest.mark.parametrize(
    ("memory_min", "weight", "memory_max", "said"),
    [
        (-1, 100, None, "memory_min of -1 pages; allowed is 0 and more"),
        (5, 100, 4, "memory_min of 5 pages; allowed is at most memory_max, which is 4 pages"),
        (0, 0, None, f"memory_weight of 0; allowed are 1 to {MAX_WEIGHT}"),
        (0, MAX_WEIGHT + 1, None, "memory_weight of 10001"),
    ],
)
def test_an_invalid_guarantee_or_weight_is_refused(memory_min, weight, memory_max, said):
    with pytest.raises(InvalidArgument, match=said):
        guarantees().check(memory_min, weight, memory_max)


@pytest.mark.parametrize("memory_min", [0, 4])
def test_beside_a_guarantee_few_pages_go_in_one_event(memory_min):
    shell = Shell(make_core(frames=100, devices=(("swap0", 400),), low=30, high=70))
    greedy = App(shell, pages=200)
    shell.attach(memory_min=memory_min)
    parts, perform = [], shell._perform

    def performed(command):
        if isinstance(command, commands.Protect):
            parts.append(len(command.frames))
        return perform(command)

    shell._perform = performed
    assert greedy.fill(200) == 200
    greedy.check()
    assert (max(parts) <= BATCH) == bool(memory_min)


def test_the_batch_is_what_is_set_once_no_process_has_a_guarantee_any_more():
    found, process = guarantees(), Process(1, "app", None, None, None)
    found.set(process, 5, DEFAULT_WEIGHT)
    assert found.batch == BATCH
    found.end(process)
    assert found.batch == guarantees().batch > BATCH


def test_a_process_leaves_what_others_lack_and_of_the_reserve_as_much_as_it_holds():
    found = guarantees(reserve=20)
    owner, other = (Process(number, "app", None, None, None) for number in (1, 2))
    found.set(owner, 10, DEFAULT_WEIGHT)
    owner.resident = 4
    assert found.first_in_turn() == [owner]
    assert (found.left_by(owner), found.left_by(other), found.left_by(None)) == (0, 6, 26)
    other.resident = 15
    assert found.left_by(other) == 6 + 15
    other.resident = 50
    assert found.left_by(other) == 6 + 20
    owner.resident = 12
    assert (found.left_by(owner), found.left_by(other), found.first_in_turn()) == (12, 20, [])


def test_a_process_at_its_guarantee_gives_no_page_to_another():
    shell = Shell(make_core(frames=16, low=2, high=4))
    owner = App(shell, memory_min=6)
    assert owner.fill(6) == 6
    hog = App(shell)
    assert hog.fill(40) == 40
    assert (owner.process.counters.evictions, owner.process.resident) == (0, 6)
    owner.fill(10)
    assert hog.process.counters.evictions > 30
    hog.check()
    owner.check()
    assert owner.process.resident >= 6


def test_frames_that_a_guarantee_keeps_are_not_looked_at_one_by_one_when_a_fault_finds_no_memory():
    shell = Shell(make_core(frames=32, devices=(("swap0", 8),), scan_limit=1))
    owner, hog = App(shell, memory_min=8), App(shell)
    owner.fill(8)
    shell.evict(owner.process_id, owner.region, 0, 8)
    owner.check()
    hog.fill()
    assert shell.core.state.swap.free == 0
    for _ in range(3):
        shell.core.reclaim._sweep._hand = 0
        assert hog.fill(1) == 0
        assert shell.core.reclaim._sweep._hand < 8, "the sweep went over all frames of the owner"
    owner.check()
    hog.check()


def test_faults_of_a_process_that_is_given_a_guarantee_in_full_memory_take_from_others():
    shell = Shell(make_core(frames=16))
    hog = App(shell)
    hog.fill(40)
    owner = App(shell, memory_min=6)
    evicted = hog.process.counters.evictions
    assert owner.fill(6) == 6
    assert (owner.process.resident, owner.process.counters.evictions) == (6, 0)
    assert hog.process.counters.evictions >= evicted + 6


def test_a_process_gives_its_own_guaranteed_pages_if_no_other_can_give():
    shell = Shell(make_core(frames=12))
    keeper = App(shell)
    shell.hint(keeper.process_id, keeper.region, "EVICTION=DENY")
    keeper.fill(7)
    owner = App(shell, memory_min=8)
    assert owner.fill(20) == 20
    owner.check()
    assert keeper.process.counters.evictions == 0


def test_its_faults_go_before_those_that_wait_already():
    shell = Shell(make_core(frames=8), auto_io=False)
    hog = App(shell)
    for page in range(8):
        shell.put(hog.process_id, hog.region, page, DATA)
    for page in range(8, 11):
        shell.fault(hog.process_id, hog.region, page, fault_id=page)
    owner = App(shell, memory_min=2)
    shell.fault(owner.process_id, owner.region, 0, fault_id=1)
    assert shell.core.waiting
    shell.complete_io()
    assert [type(each) for each in shell.outcomes[owner.process_id]] == [commands.Allocated]
    assert [each for each in shell.outcomes[hog.process_id] if each.fault_id >= 8] == []


def test_a_guarantee_holds_against_one_that_would_fill_memory_and_swap():
    shell = Shell(make_core(frames=16, devices=(("swap0", 16),)))
    owner = App(shell, memory_min=6)
    hog = App(shell)
    assert hog.fill() == 32 - 6 - 1  # one frame is for pages from swap
    assert owner.fill() == 6
    hog.check()
    owner.check()


def test_without_swap_frames_are_kept_for_a_guarantee():
    shell = Shell(make_core(frames=16, devices=()))
    owner = App(shell, memory_min=6)
    hog = App(shell)
    assert hog.fill() == 10
    assert owner.fill() == 6
    assert owner.process.counters.oom_refusals == 1


@pytest.mark.parametrize("slots", [0, 4, 16, 64])
def test_newcomers_get_their_first_pages_beside_one_that_takes_all_it_can(slots):
    shell = Shell(make_core(frames=16, devices=(("swap0", slots),) if slots else (), reserve=8))
    hog = App(shell, pages=128)
    assert 16 + slots - 9 <= hog.fill(128) <= 16 + slots - 8
    assert hog.process.counters.oom_refusals == 1
    first, second, third = App(shell), App(shell), App(shell)
    got = first.fill(), second.fill(), third.fill()
    assert got[0] >= 4 > got[1] >= 2 > got[2] >= 1
    for each in (hog, first, second, third):
        each.check()
    for page in range(hog.filled):  # it can read and write all that it has, though others took what was kept
        shell.put(hog.process_id, hog.region, page, DATA)
    assert hog.fill() == 0
    hog.check()
    first.check()


def test_a_process_that_holds_much_in_swap_is_no_newcomer():
    shell = Shell(make_core(frames=16, devices=(("swap0", 24),), reserve=8))
    hog = App(shell)
    hog.fill(20)
    shell.evict(hog.process_id, hog.region, 0, 20)
    assert hog.process.resident < 8
    assert 11 <= hog.fill() <= 12


def test_however_many_pages_are_wanted_a_guarantee_stays_whole():
    shell = Shell(make_core(frames=64))
    owner, hog = App(shell, memory_min=20), App(shell)
    owner.fill(30)
    hog.fill(20)
    assert shell.core.reclaim.evict(60) == 30
    assert (owner.process.resident - owner.process.leaving, hog.process.resident - hog.process.leaving) == (20, 0)
