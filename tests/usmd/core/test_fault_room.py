"""Which processes of a user hear that they may have more faults, and how many in one event."""

import pytest

from tests.usmd.core.test_users import Bench
from usmd.core import commands, events
from usmd.core.fault_room import AT_ONCE

MANY = 3 * AT_ONCE + 5


class Waiting(Bench):
    """A user with many processes, at its limit of faults: those of the first one wait for 3 pages."""

    def __init__(self, processes=MANY):
        super().__init__()
        first = self.begin(4)
        self.numbers = [first.process_id, *(self.begin().process_id for _ in range(processes - 1))]
        self.shell.evict(first.process_id, self.regions[first.process_id], 0, 4)
        self.shell.auto_io = False
        self.user = self.limit(max_faults=3)
        for page in range(3):
            self.shell.fault(first.process_id, self.regions[first.process_id], page)
        assert self.user.missing == 3
        self.goes_on = False

    def handle(self, event):
        """Handle an event; returns which processes hear of room by it."""
        happened = self.shell.core.handle(event, self.shell.now)
        asks = any(isinstance(each, commands.GoOn) for each in happened)
        self.goes_on = asks or (self.goes_on and not isinstance(event, events.GoOn))
        return [each.process_id for each in happened if isinstance(each, commands.FaultsFit)]

    def read_ends(self):
        return self.handle(self.shell._completion())


def test_all_of_very_many_hear_of_it_but_few_in_one_event():
    bench = Waiting()
    heard = [bench.read_ends()]
    while bench.goes_on:
        heard.append(bench.handle(events.GoOn()))
    assert max(map(len, heard)) == AT_ONCE
    assert {number for part in heard for number in part} == set(bench.numbers)
    assert not bench.state.work.queue


def test_those_of_few_hear_of_it_at_once():
    bench = Waiting(AT_ONCE)
    assert sorted(bench.read_ends()) == bench.numbers
    assert not bench.goes_on


def test_without_room_no_more_hear_of_it_until_there_is_room_again_and_then_others_come_first():
    bench = Waiting()
    heard = bench.read_ends()
    bench.user.missing += 1  # as if one of them had a fault by now
    while bench.goes_on:
        assert bench.handle(events.GoOn()) == []
    bench.user.missing -= 1
    more = bench.read_ends()
    assert more == []  # no limit was passed: 2 of 3 pages were waited for before
    bench.user.missing += 2
    more = bench.read_ends()
    assert len(more) == AT_ONCE
    assert not set(more) & set(heard)


def test_none_is_missed_if_some_end_or_faults_fit_again_meanwhile():
    bench = Waiting()
    heard = set(bench.read_ends())
    unheard = [number for number in bench.numbers if number not in heard]
    heard.update(bench.handle(events.Detach(unheard[-1], "over")))
    heard.update(bench.handle(events.Detach(min(heard), "over")))
    bench.state.fault_room.fits(bench.user)
    assert sum(each.kind.value == "tell" for each in bench.state.work.queue) == 1
    while bench.goes_on:
        heard.update(bench.handle(events.GoOn()))
    assert set(unheard[:-1]) <= heard


def test_a_user_without_processes_has_none_to_tell():
    bench = Bench()
    user = bench.limit(max_faults=3)
    bench.state.fault_room.fits(user)
    assert bench.state.take_commands() == []
    assert not bench.state.work.queue


@pytest.mark.parametrize("count", [3, AT_ONCE + 3])
def test_of_processes_with_equally_many_faults_each_goes_first_in_its_turn(count):
    bench = Bench()
    processes = [bench.begin() for _ in range(count)]
    user = bench.limit(max_faults=1)
    firsts = set()
    for _ in range(count * AT_ONCE):
        bench.state.fault_room.fits(user)
        firsts.add(bench.state.take_commands()[0].process_id)
    assert firsts == {each.process_id for each in processes}
