"""A page moves from one swap device to another; requests of conditional policies are in test_background_reclaim.py."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core.in_flight import ANYWHERE
from usmd.core.swap_map import RETIRING, SLOT_BITS
from usmd.errors import DataLoss, Refused, SwapIOError

DATA = b"x" * PAGE


class App:
    """A page that has begun to move from device 0 to device 1."""

    def __init__(self, slots=4):
        self.shell = Shell(make_core(frames=4, devices=(("fast", 4), ("slow", slots))), auto_io=False)
        self.process = self.shell.attach(swap_device="0")
        self.number = self.shell.map(self.process, 1)
        self.shell.put(self.process, self.number, 0, DATA)
        self.shell.evict(self.process, self.number)
        self.finish()
        core = self.shell.core
        self.region, self.migration = core.state.regions[self.number], core._migration
        self.migration.begin(self.region, 0, 1)
        self.shell.tick()

    def finish(self):
        while self.shell.pending:
            self.shell.complete_io()

    def where(self):
        """The state of the page, and the device that has it."""
        entry = self.region.table[0]
        return self.shell.state_of(self.number, 0), None if entry >= 0 else (-entry - 1) >> SLOT_BITS

    def used(self):
        return [device.slots - device.free for device in self.shell.core.state.swap.devices]


def test_a_page_comes_in_and_goes_to_the_other_device():
    app = App()
    assert (app.where(), app.migration.arriving) == (("FILLING", None), {0: 1})
    assert app.migration.under_way(0)
    app.shell.complete_io()
    assert (app.where(), app.migration.arriving, app.used()) == (("EVICTING", None), {}, [1, 1])
    assert app.migration.under_way(0)
    app.shell.complete_io()
    assert (app.where(), app.used()) == (("SWAPPED", 1), [0, 1])
    assert app.shell.counters()["demotions"] == 1
    assert app.shell.bytes_of(app.number, 0) == DATA


@pytest.mark.parametrize("step", [0, 1])
def test_a_fault_has_it_stay_in_memory_with_the_slot_that_it_had(step):
    app = App()
    for _ in range(step):
        app.shell.complete_io()
    app.shell.fault(app.process, app.number, 0)
    app.finish()
    assert (app.where(), app.used()) == (("PRESENT", None), [1, 0])
    assert not app.migration.under_way(0)
    assert app.shell.load(app.process, app.number, 0) == DATA


@pytest.mark.parametrize(
    ("step", "error"), [(0, DataLoss("the checksum is wrong")), (1, SwapIOError("the device said no"))]
)
def test_what_fails_leaves_it_where_it_was(step, error):
    app = App()
    for _ in range(step):
        app.shell.complete_io()
    app.shell.fail_read = app.shell.fail_write = error
    app.shell.complete_io()
    assert (app.where(), app.used()) == (("SWAPPED", 0), [1, 0])


def test_without_room_it_stays_where_it_was():
    app = App(slots=0)
    app.shell.complete_io()
    assert (app.where(), app.used()) == (("SWAPPED", 0), [1, 0])


def test_a_hint_that_denies_its_eviction_meanwhile_has_it_stay_in_memory():
    app = App()
    app.shell.hint(app.process, app.number, "EVICTION=DENY")
    app.shell.complete_io()
    assert (app.where(), app.used()) == (("PRESENT", None), [1, 0])


def anywhere(*, full=False, refuses=None):
    """A page that moves because its device is retiring."""
    app = App()
    app.finish()
    app.shell.check, app.shell.refuses = False, refuses or {}
    first, second = app.shell.core.state.swap.devices
    first.full, second.status = full, RETIRING
    app.migration.begin(app.region, 0, ANYWHERE)
    app.shell.tick()
    app.finish()
    return app


def test_one_whose_device_retires_goes_anywhere_else():
    app = anywhere()
    assert (app.where(), app.used()) == (("SWAPPED", 0), [1, 0])
    assert app.shell.counters()["demotions"] == 1  # it is not counted as one; this is that of the start
    (record,) = [each for each in app.region.process.evictions if each.result == "moved"]
    assert (record.policy, record.reason) == ("retirement", "its swap device is being retired")


@pytest.mark.parametrize(("full", "refuses"), [(True, None), (False, {0: Refused("it does not compress")})])
def test_or_stays_in_memory_and_its_slot_is_free(full, refuses):
    app = anywhere(full=full, refuses=refuses)
    assert app.where() == ("PRESENT", None)
    assert app.shell.core.state.swap.devices[1].free == 4
    assert app.shell.load(app.process, app.number, 0) == DATA


def test_why_it_could_not_be_read_is_kept_for_the_retirement():
    app = App()
    app.finish()
    app.migration.begin(app.region, 0, ANYWHERE)
    app.shell.tick()
    app.shell.fail_read = DataLoss("the checksum is wrong")
    app.shell.complete_io()
    device = app.shell.core.state.swap.devices[1]
    assert (device.unread, device.error, app.where()) == (1, "the checksum is wrong", ("SWAPPED", 1))
