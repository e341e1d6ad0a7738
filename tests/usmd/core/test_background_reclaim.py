"""Background reclaim: when policies have their turns, what is done of their requests, and what comes in between."""

import itertools

import pytest

from tests.support.requests import Requester, demoting, make_with
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.policy import ConditionalPolicy, Requests
from usmd.core.region import page_key
from usmd.core.swap_map import SLOT_BITS
from usmd.core.work import PAGES_AN_EVENT
from usmd.errors import DataLoss, NoRoom, Refused, SwapIOError, UnknownPolicy

INTERVAL = 0.1


def data(page):
    return bytes([page + 1]) * PAGE


class App:
    """A process with a conditional policy, and a region whose pages are all stored; some of them are in swap."""

    def __init__(self, pages=4, swapped=(), *, frames=8, slots=(16, 16), policy=Requester, **settings):
        made = []
        devices = (("fast", slots[0]), ("slow", slots[1]))
        self.shell = Shell(make_core(frames=frames, devices=devices, make_policy=make_with(made, policy), **settings))
        self.process = self.shell.attach(cond="requester", swap_device="fast")
        self.policy = made[0]
        self.region = self.shell.map(self.process, pages)
        for page in range(pages):
            self.shell.put(self.process, self.region, page, data(page))
        for page in swapped:
            self.shell.evict(self.process, self.region, page, 1)
        self.policy.told.clear()

    @property
    def state(self):
        return self.shell.core.state

    @property
    def errors(self):
        return self.state.processes[self.process].policies.errors["cond"]

    def key(self, page):
        return page_key(self.region, page)

    def turn(self, requests=None):
        """The next turn has come, and the policy requests this."""
        self.policy.requests = requests
        self.shell.tick(INTERVAL)

    def demote(self, *pages, device=1):
        self.turn(demoting(*(self.key(page) for page in pages), device=device))

    def states(self):
        return [self.shell.state_of(self.region, page) for page in range(len(self.pages()))]

    def pages(self):
        return range(self.state.regions[self.region].page_count)

    def device(self, page):
        """The device that a page in swap is on."""
        entry = self.state.regions[self.region].table[page]
        assert entry < 0
        return (-entry - 1) >> SLOT_BITS

    def used(self):
        return [device.slots - device.free for device in self.state.swap.devices]

    def is_right(self):
        self.shell.auto_io = True
        while self.shell.pending:
            self.shell.complete_io()
        for page in self.pages():
            assert self.shell.get(self.process, self.region, page) == data(page)

    def counted(self, *names):
        return [self.shell.counters()[name] for name in names]


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
    with pytest.raises(UnknownPolicy, match="there are all_of, demote, none, swap_back, trim"):
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


# Demotion


def test_a_demoted_page_is_on_the_other_device_with_its_bytes():
    app = App(4, [0, 1], low=1, high=2)
    before = app.counted("evictions", "clean_drops", "faults", "read_ahead")
    app.demote(1)
    assert app.states() == ["SWAPPED", "SWAPPED", "PRESENT", "PRESENT"]
    assert [app.device(0), app.device(1)] == [0, 1]
    assert app.used() == [1, 1]
    assert app.policy.told == [("swapped", app.key(1), 1)]
    assert app.counted("demotions", "swap_ins", "swap_outs") == [1, 1, 3]
    assert app.counted("evictions", "clean_drops", "faults", "read_ahead") == before
    assert app.state.regions[app.region].evictions == 2
    record = app.state.processes[app.process].evictions[-1]
    assert (record.page, record.policy, record.reason, record.result) == (
        app.key(1), "requester", "demoted to swap device slow", "demoted",
    )  # fmt: skip
    app.is_right()
    assert app.errors == 0


def test_the_evict_policy_hears_of_a_demoted_page_when_it_is_retaken_only():
    app = App(4, [0])
    evict = app.state.processes[app.process].policies
    app.shell.auto_io = False
    app.demote(0)
    app.shell.complete_io()  # the read; the write is under way
    assert (app.states()[0], len(list(evict.candidates(9)))) == ("EVICTING", 3)
    app.shell.fault(app.process, app.region, 0)
    assert (app.states()[0], len(list(evict.candidates(9)))) == ("PRESENT", 4)


def test_a_fault_during_the_read_ends_the_demotion():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    assert app.states()[0] == "FILLING"
    assert app.shell.fault(app.process, app.region, 0, fault_id=5) == []
    app.shell.complete_io()
    assert app.shell.outcomes[app.process][-1] == commands.Allocated(5, ((0, 0, 1),))
    assert app.states()[0] == "PRESENT"
    assert app.policy.told == [("returned", app.key(0), None)]
    assert (app.used(), list(app.shell.pending)) == ([1, 0], [])
    app.is_right()
    assert app.counted("demotions") == [0]


def test_a_fault_during_the_write_retakes_the_page():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    app.shell.complete_io()
    assert (app.states()[0], app.used()) == ("EVICTING", [1, 1])
    app.turn(Requests(swap_in=[app.key(0)], demote=[(app.key(0), 1)]))
    assert app.errors == 0
    (outcome,) = app.shell.fault(app.process, app.region, 0, fault_id=5, write=True)
    assert isinstance(outcome, commands.Allocated)
    assert app.shell.store(app.process, app.region, 0, b"new " * 4)
    assert app.policy.told == [("returned", app.key(0), None)]
    app.shell.complete_io()
    assert app.used() == [0, 0]
    app.shell.auto_io = True
    app.shell.evict(app.process, app.region, 0, 1)
    assert app.shell.get(app.process, app.region, 0) == b"new " * 4
    assert app.counted("demotions") == [0]


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("end", ["unmap", "detach"])
def test_a_region_that_goes_during_a_demotion_leaves_nothing(steps, end):
    app = App(4, [0, 1])
    app.shell.auto_io = False
    app.demote(0, 1)
    for _ in range(2 * steps):
        app.shell.complete_io()
    assert app.states()[:2] == [["FILLING"] * 2, ["EVICTING"] * 2][steps]
    event = events.Unmap(app.process, app.region) if end == "unmap" else events.Detach(app.process, "bye")
    app.shell.do(event)
    while app.shell.pending:
        app.shell.complete_io()
    assert (app.used(), app.state.frames.free, app.shell.slots) == ([0, 0], 8, {})
    if end == "unmap":
        assert app.policy.known == {}
        app.turn()
        assert app.errors == 0


def test_a_device_without_room_is_not_read_for():
    app = App(4, [0, 1, 2], slots=(16, 1))
    app.demote(0, 1, 2)
    assert [app.device(page) for page in range(3)] == [1, 0, 0]
    app.demote(1, 2)
    assert app.counted("demotions", "swap_ins") == [1, 1]
    assert app.errors == 0
    app.is_right()


def test_a_device_that_became_full_meanwhile_leaves_the_page_where_it_was():
    app = App(4, [0], slots=(16, 1))
    app.shell.auto_io = False
    app.demote(0)
    app.shell.hint(app.process, app.region, "SWAP=slow; DONTNEED", 3, 1)
    assert app.used() == [1, 1]
    app.shell.complete_io()
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [1, 1])
    assert app.policy.told == [("swapped", app.key(0), 0)]
    assert app.state.processes[app.process].evictions[-1].result == "no swap slot"
    app.is_right()
    assert app.counted("demotions") == [0]


def test_a_write_that_fails_leaves_the_page_where_it_was_and_the_device_rests():
    app = App(4, [0, 1])
    app.shell.fail_write = SwapIOError("the disk is full")
    app.demote(0)
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [2, 0])
    assert app.policy.told == [("swapped", app.key(0), 0)]
    assert app.counted("demotions", "swap_write_errors", "swap_ins") == [0, 1, 1]
    app.shell.fail_write = None
    app.demote(0, 1)
    assert app.counted("demotions", "swap_ins") == [0, 1]
    app.shell.tick(2)
    app.demote(0, 1)
    assert ([app.device(0), app.device(1)], app.used()) == ([1, 1], [0, 2])
    app.is_right()
    assert app.errors == 0


@pytest.mark.parametrize("error", [Refused("it does not compress"), NoRoom("it is full")])
def test_a_write_that_is_refused_leaves_the_page_where_it_was_and_the_device_does_not_rest(error):
    app = App(4, [0, 1])
    app.shell.refuses = {1: error}
    app.demote(0)
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [2, 0])
    assert app.policy.told == [("swapped", app.key(0), 0)]
    assert app.counted("demotions", "swap_write_errors", "swap_ins") == [0, 0, 1]
    assert app.state.processes[app.process].evictions[-1].result == "refused"
    app.shell.refuses = {}
    app.demote(0)
    assert app.device(0) == (0 if isinstance(error, NoRoom) else 1)
    app.is_right()
    assert app.errors == 0


@pytest.mark.parametrize("error", [SwapIOError("the disk said no"), DataLoss("the checksum is wrong")])
def test_a_read_that_fails_leaves_the_page_where_it_was(error):
    app = App(4, [0])
    app.shell.fail_read = error
    app.demote(0)
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [1, 0])
    assert app.state.frames.free == 5
    assert app.policy.told == [("returned", app.key(0), None)]
    assert app.counted("demotions", "swap_read_errors") == [0, 1]
    app.shell.fail_read = None
    app.is_right()


def test_hints_say_where_a_page_goes_and_whether():
    app = App(4, [0, 1, 2, 3])
    for page, hint in enumerate(["EVICTION=DENY", "SWAP=fast", "SWAP=1", "PRIORITY=LOW"]):
        app.shell.hint(app.process, app.region, hint, page, 1)
    app.demote(0, 1, 2, 3)
    assert [app.device(page) for page in range(4)] == [0, 0, 1, 1]
    assert app.errors == 0
    app.is_right()


def test_a_page_that_shall_stay_by_now_stays_in_memory():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    app.shell.hint(app.process, app.region, "EVICTION=DENY", 0, 1)
    app.shell.complete_io()
    assert (app.states()[0], app.state.unevictable) == ("PRESENT", 1)
    assert app.policy.told == [("returned", app.key(0), None)]


def test_a_page_on_its_way_to_another_device_stays_when_that_is_unevictable():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    app.shell.complete_io()
    app.shell.hint(app.process, app.region, "EVICTION=DENY; PRIORITY=HIGH", 0, 1)
    assert (app.states()[0], app.state.unevictable) == ("PRESENT", 1)
    assert app.policy.told == [("returned", app.key(0), None)]
    app.is_right()
    assert app.used() == [1, 0]


def test_a_page_that_cannot_be_protected_stays_in_memory():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    happened = app.shell.core.handle(app.shell._completion(), app.shell.now)
    (protect,) = [each for each in happened if isinstance(each, commands.Protect)]
    app.shell.do(events.Protected(protect.ticket, protect.frames, [None]))
    assert app.states()[0] == "PRESENT"
    assert app.policy.told == [("returned", app.key(0), None)]
    app.is_right()


def test_demotion_takes_frames_above_half_the_low_mark_only_and_nothing_is_evicted_for_it():
    app = App(8, [0, 1, 2, 3], frames=8, low=2, high=3)
    app.shell.auto_io = False
    assert app.state.frames.free == 4
    app.demote(0, 1, 2, 3)
    assert app.states() == ["FILLING"] * 3 + ["SWAPPED"] + ["PRESENT"] * 4
    while app.shell.pending:
        app.shell.complete_io()
    assert app.states() == ["SWAPPED"] * 4 + ["PRESENT"] * 4
    app.is_right()


def test_a_memory_that_rests_at_the_low_mark_demotes_all_the_same():
    app = App(6, [0, 1], frames=8, low=2, high=4)
    region = app.shell.map(app.process, 2)
    for page in range(2):
        app.shell.put(app.process, region, page, b"o" * PAGE)
    assert app.state.frames.free == 2
    for _ in range(2):
        app.demote(*(page for page in (0, 1) if app.device(page) == 0))
    assert [app.device(0), app.device(1)] == [1, 1]
    assert app.state.frames.free == 2
    app.is_right()


def test_reclaim_goes_before_demotion():
    app = App(8, [0, 1, 2, 3], frames=8, low=2, high=6)
    app.shell.auto_io = False
    app.shell.core.reclaim.reclaiming = True  # on the way from below the low mark
    app.demote(0)
    assert app.states()[0] == "SWAPPED"
    app.is_right()


def test_pages_go_by_way_of_the_last_free_frame_when_memory_is_full_of_unevictable_ones():
    app = App(7, [0, 1, 2], frames=8, slots=(3, 3))
    app.shell.hint(app.process, app.region, "EVICTION=DENY", 3, 4)
    other = app.shell.attach()
    region = app.shell.map(other, 3)
    for page in range(3):
        app.shell.put(other, region, page, b"o" * PAGE)
    assert app.state.frames.free == 1
    for page in range(3):
        app.demote(page)
        assert app.device(page) == 1
    assert app.errors == 0
    app.is_right()


# Nonsense


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


class Raises:
    def __iter__(self):
        raise ValueError("no pages today")


HUGE = 10**5000
NONSENSE = {
    "no requests": lambda app: 7,
    "unshowable": lambda app: Unshowable(),
    "trim nothing": lambda app: Requests(trim=None),
    "trim less": lambda app: Requests(trim=-1),
    "trim true": lambda app: Requests(trim=True),
    "trim a bit": lambda app: Requests(trim=0.5),
    "no pages": lambda app: Requests(swap_in=None),
    "raising pages": lambda app: Requests(swap_in=Raises(), demote=Raises()),
    "text": lambda app: Requests(swap_in="all"),
    "pages of nobody": lambda app: Requests(swap_in=[0, -1, HUGE, -HUGE, page_key(99, 0)]),
    "a page beyond the region": lambda app: Requests(swap_in=[app.key(4)]),
    "for ever": lambda app: Requests(swap_in=itertools.count(), demote=itertools.repeat(None)),
    "for ever the same": lambda app: Requests(swap_in=itertools.repeat(app.key(1))),
    "in memory": lambda app: Requests(swap_in=[app.key(1)]),
    "in memory, demoted": lambda app: Requests(demote=[(app.key(1), 1)]),
    "no pairs": lambda app: Requests(demote=[app.key(0), (), (app.key(0),), [app.key(0), 1], (app.key(0), 1, 2)]),
    "no device": lambda app: Requests(demote=[(app.key(0), each) for each in (-1, 2, HUGE, None, "slow", True)]),
    "the device it is on": lambda app: Requests(demote=[(app.key(0), 0)]),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_counted_reported_and_not_done(nonsense):
    app = App(4, [0])
    other = app.shell.attach()
    region = app.shell.map(other, 1)
    app.shell.put(other, region, 0, b"o" * PAGE)
    app.shell.evict(other, region)
    app.turn(nonsense(app))
    assert app.errors > 0
    assert app.counted("policy_errors") == [app.errors]
    told = [each for each in app.shell.notices if each.kind == "policy_error"]
    assert told
    assert all(each.fields["policy_kind"] == "cond" and len(each.message) < 500 for each in told)
    assert app.states() == ["SWAPPED", "PRESENT", "PRESENT", "PRESENT"]
    assert app.device(0) == 0
    app.is_right()
    app.turn()
    assert len(app.policy.turns) == (1 if app.state.processes[app.process].policies.conditional is False else 2)


def test_a_page_of_another_process_is_left_alone():
    app = App(4)
    other = app.shell.attach()
    region = app.shell.map(other, 1)
    app.shell.put(other, region, 0, b"o" * PAGE)
    app.shell.evict(other, region)
    app.turn(Requests(swap_in=[page_key(region, 0)], demote=[(page_key(region, 0), 0)]))
    assert app.shell.state_of(region, 0) == "SWAPPED"
    assert app.errors == 2
    assert "which is not the process's" in app.shell.notices[-1].message


def test_pages_of_a_region_that_is_going_are_no_error_before_the_policy_has_heard():
    app = App(4, [0])
    app.shell.check = False
    region = app.state.regions[app.region]
    app.shell.do(events.Unmap(app.process, app.region))
    app.state.dying[app.region] = region  # as while its slots are still to be freed, and it hears of each
    app.turn(Requests(swap_in=[app.key(0)], demote=[(app.key(0), 1)]))
    assert app.errors == 0
    del app.state.dying[app.region]
    app.turn(Requests(swap_in=[app.key(0)]))
    assert app.errors == 1


def test_too_many_errors_switch_it_off():
    app = App(4, [0], policy_errors=3)
    for _ in range(4):
        app.turn(Requests(trim=-1))
    app.shell.tick()
    (notice,) = [each for each in app.shell.notices if each.kind == "policy_replaced"]
    assert notice.fields == {
        "policy_kind": "cond", "policy": "requester", "errors": "4", "did": "made 4 errors", "replaced_by": "none",
        "returns_in": "60",
    }  # fmt: skip
    assert app.state.processes[app.process].policies.specifications["cond"] == "none"
    app.policy.told.clear()
    app.turn()
    app.shell.evict(app.process, app.region)
    assert (len(app.policy.turns), app.policy.told, app.state.background_at) == (4, [], float("inf"))


@pytest.mark.parametrize("hook", ["turn", "page_swapped", "page_returned"])
@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), RecursionError()])
def test_hooks_that_raise_are_survived(hook, error):
    def broken(self, *args):
        raise error.with_traceback(None)

    app = App(4, [0], policy=type("Broken", (Requester,), {hook: broken}))
    app.shell.evict(app.process, app.region, 1, 1)
    app.turn()
    app.is_right()
    assert app.errors > 0
    assert f"{hook} raised" in next(each.message for each in app.shell.notices if each.kind == "policy_error")


def test_a_slow_turn_is_reported_and_its_requests_are_done():
    clock = [0.0]

    class Slow(Requester):
        def turn(self):
            clock[0] += 0.2
            return super().turn()

    app = App(4, policy=Slow, stopwatch=lambda: clock[0])
    app.turn(Requests(trim=1))
    assert app.states()[0] == "SWAPPED"
    (notice,) = [each for each in app.shell.notices if each.kind == "policy_slow"]
    assert "200 ms" in notice.message


def test_a_constructor_that_fails_leaves_none():
    def broken(memory):
        raise ValueError("no")

    made = []
    shell = Shell(make_core(make_policy=make_with(made, broken)))
    process = shell.attach(cond="requester")
    shell.tick(1)
    assert shell.core.state.processes[process].policies.errors["cond"] == 1
    shell = Shell(make_core(make_policy=make_with(made, lambda memory: None)))
    shell.attach(cond="requester")
    assert "it is a NoneType, not a ConditionalPolicy" in next(
        each.message for each in shell.notices if each.kind == "policy_error"
    )


def test_a_policy_without_hooks_costs_no_call():
    class Deaf(ConditionalPolicy):
        def turn(self):
            return None

    made = []
    shell = Shell(make_core(make_policy=make_with(made, Deaf)))
    policies = shell.core.state.processes[shell.attach(cond="requester")].policies
    assert (policies.on_swapped, policies.on_returned) == (None, None)
