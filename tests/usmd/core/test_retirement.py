"""Swap devices come and go, and no page is lost; any order of events is in test_retirement_properties.py."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events, retirement
from usmd.core.swap_map import ACTIVE, GONE, RETIRING, SLOT_BITS
from usmd.errors import DataLoss, InvalidArgument, LimitExceeded, Refused, SwapIOError


def data(page):
    return bytes([page + 1]) * PAGE


class App:
    """A process whose pages are stored; those of `swapped` are on device 0."""

    def __init__(self, pages=4, swapped=4, *, frames=8, slots=(8, 8), auto_io=True, limits=None, **settings):
        names = ("old", "new")[: len(slots)]
        core = make_core(frames=frames, devices=tuple(zip(names, slots, strict=True)), **settings)
        self.shell = Shell(core)
        self.process = self.shell.attach(swap_device="old", **(limits or {}))
        self.region = self.shell.map(self.process, pages)
        for page in range(pages):
            self.shell.put(self.process, self.region, page, data(page))
        if swapped:
            self.shell.evict(self.process, self.region, 0, swapped)
        self.shell.auto_io = auto_io

    @property
    def devices(self):
        return self.shell.core.state.swap.devices

    def retire(self, number=0):
        self.shell.do(events.RetireDevice(number))

    def wait(self, seconds=0.1, ticks=10):
        for _ in range(ticks):
            self.shell.tick(seconds)

    def on(self):
        """The device of each page; None: it is in memory."""
        table = self.shell.core.state.regions[self.region].table
        return [
            (-table[page] - 1) >> SLOT_BITS if table[page] < 0 else None
            for page in range(self.shell.core.state.regions[self.region].page_count)
        ]

    def all_right(self):
        count = self.shell.core.state.regions[self.region].page_count
        return [self.shell.get(self.process, self.region, page) for page in range(count)] == [*map(data, range(count))]


def test_its_pages_go_to_the_other_device_and_it_is_closed():
    app = App()
    app.retire()
    app.wait()
    assert app.shell.retired == {0: None}
    assert (app.on(), app.devices[0].status, app.devices[0].slots) == ([1] * 4, GONE, 0)
    assert app.all_right()
    assert app.shell.core.state.processes[app.process].swap_device is None


def test_a_device_without_a_page_goes_at_once():
    app = App(swapped=0)
    app.retire(1)
    assert app.shell.retired == {1: None}


def test_without_another_device_they_stay_in_memory():
    app = App(slots=(8,))
    app.retire()
    app.wait()
    assert (app.shell.retired, app.on()) == ({0: None}, [None] * 4)
    assert app.all_right()


def test_a_page_that_every_other_device_refuses_stays_in_memory():
    app = App()
    app.shell.refuses = {1: Refused("it does not compress")}
    app.retire()
    app.wait()
    assert (app.shell.retired, app.on()) == ({0: None}, [None] * 4)
    assert app.all_right()


def test_if_they_are_refused_and_memory_has_no_room_the_device_stays():
    app = App(pages=8, frames=8, low=2, high=5, slots=(12, 12))
    app.shell.refuses = {1: Refused("it does not compress")}
    app.retire()
    app.wait(1.0)
    assert isinstance(app.shell.retired[0], LimitExceeded)
    assert app.devices[0].status == ACTIVE
    assert app.all_right()


def test_pages_in_memory_with_a_slot_give_it_up_and_those_that_a_write_is_under_way_for_move_later():
    app = App(auto_io=False)
    app.shell.fault(app.process, app.region, 0)
    app.shell.complete_io()  # present, with its slot
    app.shell.fault(app.process, app.region, 1)  # coming in
    app.shell.put(app.process, app.shell.map(app.process, 1), 0, data(9))
    written = app.shell.core.state.next_region - 1
    app.shell.evict(app.process, written)  # its write to device 0 is under way
    app.retire()
    app.wait(0.1, 1)
    while app.shell.pending:
        app.shell.complete_io()
        app.shell.tick(0.2)
    assert app.shell.retired == {0: None}
    assert app.shell.bytes_of(written, 0) == data(9)
    app.shell.auto_io = True
    assert app.all_right()


def test_it_takes_no_new_page_meanwhile():
    app = App(pages=6, swapped=2, auto_io=False)
    app.retire()
    app.shell.evict(app.process, app.region, 4, 2)
    writes = [page.slot >> SLOT_BITS for kind, page in app.shell.pending if kind == "write"]
    assert writes == [1, 1]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_cancelled_it_takes_pages_again_and_keeps_what_it_has(step):
    app = App(auto_io=False)
    app.retire()
    for _ in range(step):
        app.shell.complete_io()
    app.shell.do(events.CancelRetirement(0))
    app.shell.auto_io = True
    while app.shell.pending:
        app.shell.complete_io()
    app.wait()
    assert (app.shell.retired, app.devices[0].status) == ({}, ACTIVE)
    assert app.all_right()


def test_after_a_cancel_it_can_be_retired_again():
    app = App(auto_io=False)
    app.retire()
    app.shell.do(events.CancelRetirement(0))
    app.retire()
    app.shell.auto_io = True
    while app.shell.pending:
        app.shell.complete_io()
    app.wait()
    assert app.shell.retired == {0: None}
    assert app.all_right()


def test_what_cannot_be_read_stays_and_the_others_go():
    app = App(auto_io=False)
    lost = app.shell.core.state.regions[app.region].table[2]
    app.retire()
    for _ in range(40):
        while app.shell.pending:
            kind, page = app.shell.pending[0]
            app.shell.fail_read = DataLoss("damaged") if kind == "read" and page.slot == -lost - 1 else None
            app.shell.complete_io()
        app.shell.tick(0.5)
    app.shell.fail_read = None
    assert (str(app.shell.retired[0]), type(app.shell.retired[0])) == ("damaged", SwapIOError)
    assert (app.on(), app.devices[0].status) == ([1, 1, 0, 1], ACTIVE)
    app.shell.auto_io = True
    assert app.all_right()  # the device itself had them all


def test_a_device_of_which_nothing_can_be_read_is_soon_left_alone(monkeypatch):
    monkeypatch.setattr(retirement, "MAX_UNREAD", 2)
    monkeypatch.setattr(retirement, "MOST_MOVING", 1)
    app = App(pages=6, swapped=6)
    app.shell.fail_read = SwapIOError("no such device")
    app.retire()
    app.shell.fail_read = None
    assert str(app.shell.retired[0]) == "2 pages in a row cannot be read: no such device"
    assert app.on() == [0] * 6


def test_while_the_other_device_fails_it_waits():
    app = App(frames=8, low=1, high=4)
    app.shell.fail_write = SwapIOError("the device said no")
    app.retire()
    app.wait(0.1, 5)
    assert (app.shell.retired, app.devices[0].status) == ({}, RETIRING)
    app.shell.fail_write = None
    app.wait(1.0)
    assert app.shell.retired == {0: None}
    assert app.all_right()


def test_a_process_at_its_memory_max_is_lent_a_frame():
    app = App(pages=6, swapped=0, slots=(12, 12), limits={"memory_max": 2})
    assert app.shell.core.state.processes[app.process].resident == 2
    app.retire()
    app.wait()
    assert app.shell.retired == {0: None}
    assert app.all_right()


def test_with_full_memory_a_frame_is_made_free():
    app = App(pages=12, swapped=0, frames=4, slots=(12, 20))
    assert app.shell.core.state.frames.free == 0
    app.retire()
    app.wait(0.3, 20)
    assert app.shell.retired == {0: None}
    assert app.all_right()


def test_sessions_and_regions_that_end_take_their_pages_along():
    app = App(auto_io=False)
    other = app.shell.attach(swap_device="old")
    app.retire()
    app.shell.do(events.Unmap(app.process, app.region))
    app.shell.do(events.Detach(other, "bye"))
    while app.shell.pending:
        app.shell.complete_io()
    app.wait()
    assert app.shell.retired == {0: None}


def test_a_check_says_how_much_room_is_lacking():
    core = App(pages=12, swapped=0, frames=4, slots=(12, 4)).shell.core
    assert core.state.swap.devices[0].free == 4
    core.retirement.check([0], 4, 0)
    with pytest.raises(
        LimitExceeded, match=r"old: 8 pages \(128 B\) are to be .* room for 4 pages .* 4 pages .* lacking"
    ):
        core.retirement.check([0], 0, 0)
    core.retirement.check([0], 0, 4)
    with pytest.raises(LimitExceeded, match="old, new: 8 pages"):
        core.retirement.check([0, 1], 0, 7)


def test_room_that_is_gone_meanwhile_ends_it():
    app = App(pages=4, swapped=4, frames=4, low=1, high=3, slots=(8, 4))
    other = app.shell.attach(swap_device="new")
    region = app.shell.map(other, 4)
    for page in range(4):
        app.shell.put(other, region, page, data(page))
        app.shell.evict(other, region, page, 1)
    app.retire()
    app.wait(1.0)
    assert "are lacking" in str(app.shell.retired[0])
    assert app.all_right()


def test_a_new_device_takes_pages_and_its_number_and_name_must_be_free():
    app = App(swapped=0, slots=(1,), frames=8)
    for number, name in ((0, "more"), (32, "more"), (-1, "more"), (1, "old"), (1, "0")):
        with pytest.raises(InvalidArgument):
            app.shell.do(events.AddDevice(number, name, 4))
    app.shell.do(events.AddDevice(1, "more", 4))
    app.shell.evict(app.process, app.region)
    assert sorted(app.on()) == [0, 1, 1, 1]
    app.retire()
    app.wait()
    assert app.on() == [1] * 4
    app.shell.do(events.AddDevice(0, "old", 4))  # number and name are free again
    app.retire(1)
    app.wait()
    assert app.on() == [0] * 4
    assert app.all_right()


@pytest.mark.parametrize(
    "event", [events.RetireDevice(2), events.RetireDevice(-1), events.CancelRetirement(0), events.DeviceClosed(0)]
)
def test_what_a_device_is_not_in_the_state_for_is_refused(event):
    app = App()
    with pytest.raises(InvalidArgument, match=r"swap device -?\d is not "):
        app.shell.do(event)
