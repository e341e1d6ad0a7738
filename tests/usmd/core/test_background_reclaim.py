"""Background reclaim: when policies have their turns, what they hear, and what they trim and bring back."""

import pytest

from tests.support.conditional_app import INTERVAL, App, data
from tests.support.requests import make_with
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.policy import Requests
from usmd.core.work import PAGES_AN_EVENT
from usmd.errors import SwapIOError, UnknownPolicy

# When


def test_a_turn_comes_with_the_first_event_after_each_interval():
    app = App()
    assert app.policy.turns == []
    for seconds in (0.05, 0.05, 0.01, 0.08, 0.02, 0.5):
        app.shell.tick(seconds)
    assert app.policy.turns == pytest.approx([0.1, 0.21, 0.71])
    app.shell.now += 1
    app.shell.fault(app.process, app.region, 0)
    assert len(app.policy.turns) == 4


def test_without_a_conditional_policy_no_time_is_waited_for():
    shell = Shell(make_core())
    shell.attach()
    shell.tick(1)
    assert shell.core.state.background_at == float("inf")


def test_turns_end_with_the_last_process_that_has_a_policy():
    app = App()
    app.shell.do(events.Detach(app.process, "bye"))
    app.shell.tick(1)
    assert app.policy.turns == []
    assert app.state.background_at == float("inf")


def test_a_round_is_done_in_parts_so_that_no_event_takes_long():
    made = []
    core = make_core(make_policy=make_with(made))
    for number in range(600):
        core.handle(events.Attach(f"app{number}", "first_fit", "fifo", "refuse", cond="requester"), 0.0)
    core.handle(events.Attach("other", "first_fit", "fifo", "refuse"), 0.0)
    had = []
    event = events.Tick()
    for _ in range(6):
        happened = core.handle(event, INTERVAL)
        had.append(sum(1 for each in made if each.turns))
        event = events.GoOn()
        if commands.GoOn() not in happened:
            break
    assert had == [128, 256, 384, 512, 600]
    core.handle(events.Tick(), INTERVAL)
    assert all(len(each.turns) == 1 for each in made)


def test_a_round_goes_on_when_processes_come_and_go_in_between():
    made = []
    core = make_core(make_policy=make_with(made))
    for _ in range(1000):
        core.handle(events.Attach("app", "first_fit", "fifo", "refuse", cond="requester"), 0.0)
    core.handle(events.Tick(), INTERVAL)
    core.handle(events.Detach(1000, "bye"), INTERVAL)
    core.handle(events.GoOn(), INTERVAL)
    core.handle(events.Attach("late", "first_fit", "fifo", "refuse", cond="requester"), INTERVAL)
    core.handle(events.GoOn(), INTERVAL)
    assert sum(1 for each in made if each.turns) == 3 * PAGES_AN_EVENT
    for _ in range(5):
        core.handle(events.GoOn(), 10 * INTERVAL)
    core.handle(events.Tick(), 10 * INTERVAL)  # which is when the one that came late would have its turn
    assert [len(each.turns) for each in made] == [1] * 999 + [0, 0]
    core.handle(events.Tick(), 12 * INTERVAL)
    for _ in range(8):
        core.handle(events.GoOn(), 12 * INTERVAL)
    assert [len(each.turns) for each in made] == [2] * 999 + [0, 1]


# What it hears


def test_it_hears_of_pages_that_go_and_come():
    app = App(3, [1])
    app.shell.evict(app.process, app.region, 2, 1)
    assert app.shell.get(app.process, app.region, 1) == data(1)
    app.shell.evict(app.process, app.region, 1, 1)
    key = app.key
    assert app.policy.told == [("swapped", key(2), 0), ("returned", key(1), None), ("swapped", key(1), 0)]


def test_it_does_not_hear_of_pages_of_zeros_or_retaken_ones():
    app = App(2)
    app.shell.put(app.process, app.region, 0, bytes(PAGE))
    app.shell.evict(app.process, app.region, 0, 1)
    app.shell.auto_io = False
    app.shell.hint(app.process, app.region, "DONTNEED", 1, 1)
    app.shell.fault(app.process, app.region, 1)
    assert app.states() == ["ABSENT", "PRESENT"]
    assert app.policy.told == []


def test_a_region_that_goes_takes_its_pages_along():
    app = App(4, [0, 2])
    app.shell.do(events.Unmap(app.process, app.region))
    assert sorted(app.policy.told) == [("returned", app.key(0), None), ("returned", app.key(2), None)]


def test_a_policy_that_comes_later_hears_of_what_is_in_swap():
    app = App(4, [0, 2])
    app.shell.do(events.SetPolicy(app.process, "cond", "none"))
    assert app.state.processes[app.process].policies.specifications["cond"] == "none"
    app.shell.evict(app.process, app.region, 3, 1)
    assert app.policy.told == []
    made = []
    app.state.make_policy = make_with(made)
    app.shell.do(events.SetPolicy(app.process, "cond", "requester"))
    assert made[0].known == {app.key(page): 0 for page in (0, 2, 3)}
    app.shell.tick(INTERVAL)
    assert len(made[0].turns) == 1
    assert app.policy.turns == []


def test_a_cond_policy_that_does_not_exist_changes_nothing():
    app = App()
    with pytest.raises(UnknownPolicy, match="there are all_of, demote, none, swap_back, tiers, trim"):
        app.shell.do(events.SetPolicy(app.process, "cond", "nothing"))
    with pytest.raises(UnknownPolicy):
        app.shell.attach(cond="nothing")
    app.turn()
    assert len(app.policy.turns) == 1


# Trim


def test_trim_evicts_what_the_evict_policy_names():
    app = App(4)
    app.turn(Requests(trim=2))
    assert app.states() == ["SWAPPED", "SWAPPED", "PRESENT", "PRESENT"]
    assert app.counted("evictions", "swap_outs") == [2, 2]
    record = app.state.processes[app.process].evictions[-1]
    assert (record.policy, record.result) == ("fifo", "swapped")
    app.is_right()


def test_trim_takes_pages_of_this_process_only_and_at_most_the_batch():
    app = App(4, cond_batch=3, reclaim_batch=2)
    other = app.shell.attach()
    region = app.shell.map(other, 2)
    app.shell.put(other, region, 0, b"o" * PAGE)
    app.turn(Requests(trim=10**5000))
    assert app.states() == ["SWAPPED"] * 3 + ["PRESENT"]
    app.turn(Requests(trim=99))
    app.turn(Requests(trim=99))
    assert app.states() == ["SWAPPED"] * 4
    assert app.shell.state_of(region, 0) == "PRESENT"
    assert app.errors == 0


def test_trim_leaves_what_is_unevictable_and_what_has_no_slot():
    app = App(4, slots=(1, 0))
    app.shell.hint(app.process, app.region, "EVICTION=DENY", 0, 2)
    app.turn(Requests(trim=4))
    assert app.states() == ["PRESENT", "PRESENT", "SWAPPED", "PRESENT"]
    app.turn(Requests(trim=4))
    app.shell.hint(app.process, app.region, "EVICTION=DENY")
    app.turn(Requests(trim=4))
    assert app.states() == ["PRESENT", "PRESENT", "SWAPPED", "PRESENT"]
    assert app.errors == 0


# Back


def test_pages_come_back_for_nobody_while_more_than_the_high_mark_is_free():
    app = App(6, range(6), low=2, high=5)
    app.turn(Requests(swap_in=[app.key(page) for page in (5, 4, 3, 2)]))
    assert app.states() == ["SWAPPED"] * 3 + ["PRESENT"] * 3
    assert app.counted("swapped_back", "swap_ins", "read_ahead", "faults") == [3, 3, 0, 6]
    assert app.policy.told == [("returned", app.key(page), None) for page in (5, 4, 3)]
    app.is_right()


def test_nothing_comes_back_while_others_wait_for_memory():
    app = App(4, [0, 1], frames=4)
    other = app.shell.attach()
    region = app.shell.map(other, 4)
    app.shell.auto_io = False
    for page in range(4):
        app.shell.fault(other, region, page, fault_id=page)
    assert len(app.shell.core.waiting) > 0
    app.turn(Requests(swap_in=[app.key(0)], demote=[(app.key(1), 1)]))
    assert len(app.policy.turns) == 1
    assert app.states()[:2] == ["SWAPPED", "SWAPPED"]
    assert app.errors == 0
    app.is_right()


def test_a_page_that_comes_back_is_found_by_a_fault_in_between():
    app = App(4, [0])
    app.shell.auto_io = False
    app.turn(Requests(swap_in=[app.key(0), app.key(0)]))
    assert app.states()[0] == "FILLING"
    app.turn(Requests(swap_in=[app.key(0)], demote=[(app.key(0), 1)]))
    assert app.shell.fault(app.process, app.region, 0, fault_id=9) == []
    app.shell.complete_io()
    assert app.shell.outcomes[app.process][-1].fault_id == 9
    assert app.errors == 0
    app.is_right()


def test_a_page_that_cannot_be_read_stays_in_swap_and_is_not_to_be_requested():
    app = App(4, [0])
    app.shell.fail_read = SwapIOError("the disk said no")
    app.turn(Requests(swap_in=[app.key(0)]))
    assert app.states()[0] == "SWAPPED"
    assert app.policy.told == [("returned", app.key(0), None)]
    app.shell.fail_read = None
    app.is_right()
