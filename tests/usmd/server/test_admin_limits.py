"""Limits as an operator sets them: of one process or of a user, whole or not at all."""

import pytest

from tests.usmd.server.test_engine import Bench
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.core import events
from usmd.errors import InvalidArgument, LimitExceeded, NotFound
from usmd.server.admin_limits import LimitSetting, limits_of


class Users(Bench):
    """A bench whose first process is of no user, and which has two of user 7."""

    def __init__(self):
        super().__init__(frames=64)
        for name in ("one", "two"):
            self.engine.submit(events.Attach(name, "first_fit", "fifo", "refuse", uid=7))
        self.state = self.engine.core.state

    def set(self, **fields):
        return LimitSetting(self.engine).set(pb.SetLimitsRequest(**fields)).changes

    def limits(self):
        return [limits_of(each, self.state.settings) for each in self.state.processes.values()]


def test_shares_become_pages_and_what_is_not_given_stays():
    bench = Users()
    frames, size = bench.state.settings.frames, bench.state.settings.page_size
    (change,) = bench.set(process_id=bench.process, memory_max=f"{40 * size}B", memory_weight=7)
    assert (change.before.HasField("memory_max_pages"), change.before.memory_weight) == (False, 100)
    assert (change.after.memory_max_pages, change.after.memory_min_pages, change.after.memory_weight) == (40, 0, 7)
    bench.set(process_id=bench.process, swap_max="50%", memory_min="25%")
    assert bench.limits()[0] == events.SetLimits(bench.process, 40, bench.state.swap.slots // 2, frames // 4, 7)
    (change,) = bench.set(process_id=bench.process, memory_max="none", swap_max="none", memory_min="none")
    assert change.after == pb.ProcessLimits(memory_weight=7)


def test_limits_in_numbers_are_set_and_removed_beside_the_others():
    bench = Users()
    (change,) = bench.set(process_id=bench.process, max_regions="3", max_hint_ranges="0", deny_budget="25%")
    quarter = bench.state.settings.frames // 4
    wanted = {"max_regions": 3, "max_hint_ranges": 0, "deny_budget_pages": quarter}
    assert change.after == pb.ProcessLimits(memory_weight=100, **wanted)
    (change,) = bench.set(process_id=bench.process, max_faults="9", max_regions="none", memory_weight=7)
    assert change.before == pb.ProcessLimits(memory_weight=100, **wanted)
    assert bench.limits()[0].quotas == events.Quotas(None, 0, 9, quarter)
    bench.set(process_id=bench.process, max_faults="none", max_hint_ranges="none", deny_budget="none")
    assert bench.limits()[0].quotas == events.Quotas()


def test_limits_of_a_user_are_those_of_its_processes():
    bench = Users()
    assert [each.name for each in bench.set(uid=7, memory_weight=50)] == ["one", "two"]
    assert [each.memory_weight for each in bench.limits()] == [100, 50, 50]


def test_one_that_cannot_have_it_leaves_all_as_they_were():
    bench = Users()
    before = bench.limits()
    with pytest.raises(LimitExceeded, match="together may have"):
        bench.set(uid=7, memory_min="60%")
    assert bench.limits() == before


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"process_id": 1}, InvalidArgument, "no limit is given"),
        ({"memory_max": "1M"}, InvalidArgument, "no process is given"),
        ({"process_id": 99, "memory_max": "1M"}, NotFound, "no process 99"),
        ({"uid": 8, "memory_max": "1M"}, NotFound, "user 8 has no process"),
        (
            {"process_id": 1, "memory_max": "much"},
            InvalidArgument,
            "memory_max = 'much': share 'much' of .*; allowed is",
        ),
        ({"process_id": 1, "memory_max": "0%"}, InvalidArgument, "memory_max = '0%': .*32 pages and more"),
        ({"process_id": 1, "memory_min": "101%"}, InvalidArgument, "memory_min = '101%'"),
        ({"process_id": 1, "swap_max": "1%"}, InvalidArgument, "without memory_max"),
        ({"process_id": 1, "memory_weight": 0}, InvalidArgument, "memory_weight of 0; allowed are 1 to 10000"),
        ({"process_id": 1, "max_regions": "-1"}, InvalidArgument, "max_regions = '-1'; allowed is a whole number"),
        ({"process_id": 1, "max_faults": "9999"}, InvalidArgument, "max_faults of 9999; allowed are 1 to 4096"),
        ({"process_id": 1, "deny_budget": "much"}, InvalidArgument, "deny_budget = 'much': share 'much' of"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(fields, error, said):
    bench = Users()
    before = bench.limits()
    with pytest.raises(error, match=said):
        bench.set(**fields)
    assert bench.limits() == before


def test_limits_of_a_user_in_sum_are_set_kept_and_listed():
    bench = Users()
    setting = LimitSetting(bench.engine)
    size = bench.state.settings.page_size
    done = setting.set_user(pb.SetUserLimitsRequest(uid=7, max_sessions="5", memory_max=f"{64 * size}B"))
    assert done.before == pb.UserLimits()
    assert done.after == pb.UserLimits(max_sessions=5, memory_max_pages=64)
    done = setting.set_user(pb.SetUserLimitsRequest(uid=7, swap_max="50%", max_sessions="none"))
    assert done.after == pb.UserLimits(memory_max_pages=64, swap_max_pages=bench.state.swap.slots // 2)
    (user,) = setting.users().users
    assert (user.uid, user.sessions, user.resident_pages, user.limits) == (7, 2, 0, done.after)
    numbers = {"memory_weight": 50, "max_regions": 9, "max_hint_ranges": 0, "max_faults": 8}
    texts = {name: str(number) for name, number in numbers.items()}
    done = setting.set_user(pb.SetUserLimitsRequest(uid=7, **texts))
    assert done.after == pb.UserLimits(memory_max_pages=64, swap_max_pages=user.limits.swap_max_pages, **numbers)
    nothing = dict.fromkeys((*numbers, "memory_max", "swap_max"), "none")
    assert setting.set_user(pb.SetUserLimitsRequest(uid=7, **nothing)).after == pb.UserLimits()
    assert not setting.users().users


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({}, InvalidArgument, "no limit is given; give at least one of memory_max"),
        ({"max_sessions": "many"}, InvalidArgument, "max_sessions = 'many'; allowed is a whole number from 0 to"),
        ({"memory_max": "much"}, InvalidArgument, "memory_max = 'much'"),
        ({"memory_weight": "0"}, InvalidArgument, "memory_weight of 0; allowed are 1 to 10000"),
        ({"max_faults": "0"}, InvalidArgument, "max_faults of 0 for user 7; allowed is 1 and more"),
        ({"memory_max": "100%"}, InvalidArgument, "which is 33 for each of its 2 sessions"),
        ({"memory_min": "100%"}, LimitExceeded, "together may have"),
    ],
)
def test_what_a_user_cannot_have_is_refused_by_name(fields, error, said):
    bench = Users()
    bench.state.users.least = 33
    with pytest.raises(error, match=said):
        LimitSetting(bench.engine).set_user(pb.SetUserLimitsRequest(uid=7, **fields))
    assert bench.state.users.of == {}
