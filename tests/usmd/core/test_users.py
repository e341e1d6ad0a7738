"""Limits of users: grants, who gives pages, and what is refused. Any sequence of events: test_user_properties."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.region import NO_MAX
from usmd.core.users import MAX_USERS
from usmd.errors import InvalidArgument, LimitExceeded, OutOfMemory


def of_page(number):
    return bytes([number % 251 + 1]) * PAGE


class Bench:
    """A memory of 64 frames, with a user 7 whose limits a test sets."""

    def __init__(self, slots=128, frames=64, **more):
        self.shell = Shell(make_core(frames=frames, devices=(("swap0", slots),), reclaim_batch=16, **more))
        self.state = self.shell.core.state
        self.state.users.least = 2
        self.regions = {}
        self.filled = {}

    def limit(self, uid=7, **fields):
        self.shell.do(events.SetUserLimits(uid, **fields))
        return self.state.users.of.get(uid)

    def begin(self, pages=0, uid=7, **more):
        process = self.shell.attach(uid=uid, **more)
        self.regions[process] = self.shell.map(process, 64)
        self.filled[process] = 0
        self.fill(process, pages)
        return self.state.processes[process]

    def fill(self, process, pages):
        number = process if isinstance(process, int) else process.process_id
        for _ in range(pages):
            page = self.filled[number]
            self.shell.put(number, self.regions[number], page, of_page(page))
            self.filled[number] += 1

    def check(self):
        for number, pages in self.filled.items():
            for page in range(pages if number in self.state.processes else 0):
                assert self.shell.get(number, self.regions[number], page) == of_page(page)


def test_a_process_alone_may_have_it_all_and_others_get_what_it_does_not_use():
    bench = Bench()
    user = bench.limit(memory_max=20)
    first = bench.begin(6)
    assert first.memory_max == 20
    second = bench.begin(10)
    assert first.memory_max + second.memory_max == 20
    bench.fill(first, 4)
    assert (user.resident, first.counters.evictions, second.counters.evictions) == (20, 0, 0)
    bench.check()


def test_the_process_of_the_user_furthest_above_its_share_gives_and_no_other_one():
    bench = Bench()
    bench.limit(memory_max=20)
    other = bench.begin(20, uid=8)
    large = bench.begin(16)
    small = bench.begin(8)
    assert (large.resident, small.resident) == (12, 8)
    assert (large.counters.evictions, small.counters.evictions, other.counters.evictions) == (4, 0, 0)
    bench.fill(large, 10)
    assert (large.resident, small.resident) == (12, 8)
    assert bench.state.victims.counts[("fifo", "user_memory_max")] >= 4
    bench.check()
    assert other.counters.evictions == 0


def test_weights_divide_what_a_user_may_have():
    bench = Bench()
    bench.limit(memory_max=24)
    light, heavy = bench.begin(memory_weight=100), bench.begin(memory_weight=300)
    for _ in range(30):
        bench.fill(light, 1)
        bench.fill(heavy, 1)
    assert heavy.resident > 2 * light.resident
    assert light.resident + heavy.resident == 24
    bench.check()


def test_a_fault_at_the_limit_fails_by_its_name_if_no_page_of_the_user_can_go():
    bench = Bench(slots=0)
    user = bench.limit(memory_max=10)
    bench.begin(4, uid=8)
    first = bench.begin(7)
    second = bench.begin(3)
    with pytest.raises(
        OutOfMemory,
        match=r"the 2 sessions of user 7 have 10 pages in memory, its memory_max is 10 .* memory_max of user 7",
    ):
        bench.fill(second, 1)
    assert (user.refusals, second.counters.budget_refusals, first.counters.budget_refusals) == (1, 1, 0)
    bench.fill(next(iter(bench.filled)), 3)  # of another user
    assert user.is_at_limit
    bench.shell.do(events.Detach(first.process_id, "bye"))
    bench.fill(second, 1)
    assert not user.is_at_limit


def test_sessions_are_refused_by_number_and_where_each_would_have_too_little():
    bench = Bench()
    user = bench.limit(max_sessions=2, memory_max=5)
    first = bench.begin(4)
    bench.begin()
    with pytest.raises(LimitExceeded, match="user 7 has 2 sessions; its max_sessions is 2"):
        bench.begin()
    bench.limit(memory_max=5)
    with pytest.raises(
        LimitExceeded, match=r"user 7 has 2 sessions; its memory_max of 5 pages .* each session needs 2"
    ):
        bench.begin()
    bench.begin(uid=8)
    bench.shell.do(events.Detach(first.process_id, "bye"))
    assert bench.begin(3).user is user


def test_swap_is_bounded_in_sum_and_what_is_there_can_be_read():
    bench = Bench()
    user = bench.limit(memory_max=8, swap_max=6)
    first = bench.begin(7)
    second = bench.begin(5)
    with pytest.raises(
        OutOfMemory, match=r"6 pages count against the swap_max of user 7, 6 .* raise swap_max of user 7"
    ):
        bench.fill(first, 3)
    assert user.stored == 6
    assert bench.begin(20, uid=8).counters.evictions == 0
    for _ in range(3):
        bench.check()
    assert user.stored <= 6
    bench.shell.do(events.Detach(second.process_id, "bye"))
    bench.fill(first, 2)
    bench.check()


def test_a_lower_swap_max_takes_no_more_and_shrinks_with_what_leaves():
    bench = Bench()
    bench.limit(memory_max=4, swap_max=40)
    first = bench.begin(12)
    user = bench.limit(memory_max=4, swap_max=3)
    assert (user.stored, user.swap_excess) == (8, 5)
    with pytest.raises(OutOfMemory):
        bench.fill(first, 8)
    bench.check()
    bench.shell.do(events.Discard(first.process_id, bench.regions[first.process_id], 0, 10, 1))
    bench.shell.tick()
    assert user.stored <= 3
    assert user.swap_excess == 0


def test_a_lower_memory_max_takes_from_the_largest_and_none_gives_it_all_back():
    bench = Bench()
    large, small = bench.begin(30), bench.begin(6)
    assert (large.user, large.memory_max) == (None, NO_MAX)
    user = bench.limit(memory_max=16)
    bench.shell.tick()
    assert (large.resident, small.resident, user.resident) == (10, 6, 16)
    bench.check()
    assert user.resident <= 16
    assert bench.limit() is None
    assert (large.user, large.memory_max, small.absent_max, large.swap_max) == (None, NO_MAX, NO_MAX, NO_MAX)
    bench.fill(small, 10)
    assert small.resident >= 10


def test_a_process_has_what_its_own_limits_and_its_users_allow():
    bench = Bench()
    bench.limit(memory_max=20, swap_max=30)
    tight, wide = bench.begin(12, memory_max=4, swap_max=10), bench.begin(18)
    assert (tight.resident, tight.own_memory_max, tight.own_swap_max) == (4, 4, 10)
    assert wide.resident == 16
    bench.shell.do(events.SetLimits(tight.process_id, None, None, 0, 100))
    bench.fill(tight, 4)
    assert tight.resident > 4
    bench.shell.do(events.SetLimits(wide.process_id, 6, 20, 0, 100))
    assert (wide.resident, wide.memory_max) == (6, 6)
    assert tight.resident + wide.resident <= 20
    bench.check()


def test_a_guarantee_is_for_the_sum_and_others_give_before():
    bench = Bench(frames=32, high=2, low=1)
    user = bench.limit(memory_min=12)
    first, second = bench.begin(10), bench.begin(2)
    hog = bench.begin(40, uid=8)
    assert (user.resident, first.counters.evictions, second.counters.evictions) == (12, 0, 0)
    bench.fill(second, 10)
    assert hog.counters.evictions >= 20
    bench.fill(hog, 20)
    assert user.resident >= 12
    bench.limit(memory_min=4)
    bench.fill(hog, 4)
    bench.shell.do(events.Detach(hog.process_id, "bye"))
    bench.check()
    assert bench.state.guarantees.kept == 4


def test_within_its_guarantee_a_user_gives_to_itself():
    bench = Bench(frames=16, high=1)
    bench.limit(memory_min=14)
    first = bench.begin(14)
    second = bench.begin(6)
    assert first.counters.evictions
    assert second.resident
    bench.check()


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"memory_max": 1}, InvalidArgument, "memory_max of 1 pages for user 7; allowed is 2 and more"),
        ({"swap_max": 3}, InvalidArgument, "without memory_max"),
        ({"memory_max": 3, "memory_min": 4}, InvalidArgument, "at most memory_max, which is 3 pages"),
        ({"memory_min": 99}, LimitExceeded, "together may have 63 pages"),
        ({"max_sessions": -1}, InvalidArgument, "max_sessions of -1; allowed is 0 and more"),
    ],
)
def test_limits_that_a_user_cannot_have_change_nothing(fields, error, said):
    bench = Bench()
    user = bench.limit(memory_max=10, memory_min=3)
    with pytest.raises(error, match=said):
        bench.limit(**fields)
    assert (user.memory_max, user.memory_min, user.swap_max, user.max_sessions) == (10, 3, NO_MAX, NO_MAX)


def test_limits_leave_something_to_each_session_that_runs_and_are_told():
    bench = Bench()
    for _ in range(3):
        bench.begin()
    with pytest.raises(InvalidArgument, match="allowed is 6 and more, which is 2 for each of its 3 sessions"):
        bench.limit(memory_max=5)
    bench.limit(memory_max=6)
    (told,) = [each for each in bench.shell.notices if each.kind == "user_limits_set"]
    assert told.fields == {
        "uid": "7", "max_sessions": "none", "memory_max": "6", "memory_min": "0", "swap_max": "none"
    }  # fmt: skip


def test_so_many_users_have_limits_and_no_more():
    bench = Bench()
    for uid in range(MAX_USERS):
        bench.limit(uid, max_sessions=1)
    with pytest.raises(LimitExceeded, match="1024 users have limits; allowed are 1024"):
        bench.limit(MAX_USERS, max_sessions=1)
    assert bench.limit(MAX_USERS) is None
    bench.limit(0)
    bench.limit(MAX_USERS, max_sessions=1)


def test_regions_and_hint_ranges_of_a_user_are_those_of_all_its_processes():
    bench = Bench()
    bench.limit(max_regions=3, max_hint_ranges=2)
    first, second, other = bench.begin(), bench.begin(), bench.begin(uid=8)
    shell = bench.shell
    shell.map(first.process_id, 1)
    with pytest.raises(LimitExceeded, match=r"^user 7 has 3 regions; its max_regions is 3$"):
        shell.map(second.process_id, 1)
    shell.map(other.process_id, 1)
    for process in (first, second):
        shell.hint(process.process_id, bench.regions[process.process_id], "PRIORITY=HIGH", 0, 1)
    with pytest.raises(LimitExceeded, match=r"^2 ranges of user 7 have a hint, .* and its max_hint_ranges is 2"):
        shell.hint(second.process_id, bench.regions[second.process_id], "PRIORITY=HIGH", 4, 1)
    shell.do(events.Detach(first.process_id, "over"))
    shell.hint(second.process_id, bench.regions[second.process_id], "PRIORITY=HIGH", 4, 1)
    shell.map(second.process_id, 1)


def test_faults_of_a_user_are_those_of_all_its_processes_and_who_has_fewest_goes_first():
    bench = Bench()
    processes = [bench.begin(4), bench.begin(4), bench.begin(4)]
    shell = bench.shell
    for each in processes:
        shell.evict(each.process_id, bench.regions[each.process_id], 0, 4)
    shell.auto_io = False
    first, second, third = processes

    def fault(process, page):
        shell.fault(process.process_id, bench.regions[process.process_id], page)

    def told(event):
        happened = shell.core.handle(event, shell.now)
        return [each.process_id for each in happened if isinstance(each, commands.FaultsFit)]

    fault(first, 0)
    user = bench.limit(max_faults=3)
    assert (user.missing, first.fault_room) == (1, 2)
    fault(second, 0)
    fault(second, 1)
    assert [each.fault_room for each in processes] == [0, 0, 0]
    assert (third.missing, user.missing) == (0, 3)
    assert told(shell._completion()) == [third.process_id, first.process_id, second.process_id]
    assert (user.missing, third.fault_room) == (2, 1)
    fault(third, 0)
    assert sorted(told(events.SetUserLimits(7, max_faults=4))) == sorted(each.process_id for each in processes)
    shell.do(events.Detach(second.process_id, "over"))
    assert user.missing == sum(each.missing for each in processes)
    while shell.pending:
        shell.complete_io()
    assert (user.missing, third.fault_room) == (0, 4)
    assert all(each.faults_limited for each in (third, bench.begin()))


@pytest.mark.parametrize("other", [{}, {"max_regions": 9}], ids=("without limits", "with another limit"))
def test_once_the_limit_of_faults_is_lifted_those_of_its_processes_are_bounded_by_their_own_alone(other):
    bench = Bench()
    first, second = bench.begin(), bench.begin()
    bench.limit(max_faults=3, **other)
    bench.shell.do(events.SetLimits(second.process_id, None, None, 0, 100, events.Quotas(max_faults=5)))
    assert first.faults_limited
    assert second.faults_limited
    bench.limit(**other)
    assert not first.faults_limited
    assert second.faults_limited
    bench.shell.do(events.SetLimits(second.process_id, None, None, 0, 100))
    assert not second.faults_limited
