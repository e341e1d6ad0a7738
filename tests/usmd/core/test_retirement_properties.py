"""The core's state machine while swap devices come and go at any time: all bytes and counts are right, no fault hangs.

As in test_machine_properties, of which this is the same machine. What retires without a check whether there is room may
have to stay; what is checked and left alone goes.
"""

from contextlib import suppress

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.support.core_machine import INDEX, CoreMachine
from tests.support.examples import steps
from tests.support.real_core_machine import RealMachine
from usmd.core import events
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.swap_map import ACTIVE, GONE, RETIRING, SLOT_BITS
from usmd.errors import InvalidHint, LimitExceeded

NAMES = ("fast", "slow", "third")


class Changing:
    """For a machine: devices are added and retired."""

    def make_shell(self, core):
        shell = super().make_shell(core)
        hint, attach = shell.hint, shell.attach

        def hinting(*arguments):
            with suppress(InvalidHint):  # it names a device that is gone
                hint(*arguments)

        def attaching(*arguments, swap_device=None, **more):
            gone = swap_device is not None and core.state.swap.number_of(swap_device) is None
            return attach(*arguments, swap_device=None if gone else swap_device, **more)

        shell.hint, shell.attach = hinting, attaching
        return shell

    @property
    def devices(self):
        return self.shell.core.state.swap.devices

    def of(self, status):
        return [device.number for device in self.devices if device.status == status]

    @precondition(lambda self: self.of(ACTIVE))
    @rule(pick=INDEX, heeds=st.booleans())
    def retire(self, pick, heeds):
        number = self.of(ACTIVE)[pick % len(self.of(ACTIVE))]
        if heeds:
            with suppress(LimitExceeded):
                self.shell.core.retirement.check([number], 0)
                self.shell.do(events.RetireDevice(number))
        else:
            self.shell.do(events.RetireDevice(number))

    @precondition(lambda self: self.of(RETIRING))
    @rule(pick=INDEX)
    def cancel(self, pick):
        self.shell.do(events.CancelRetirement(self.of(RETIRING)[pick % len(self.of(RETIRING))]))

    @precondition(lambda self: len(self.of(GONE)) > len(self.devices) - 3 or len(self.devices) < 3)
    @rule(slots=st.sampled_from([1, 4, 40]))
    def add(self, slots):
        free = self.of(GONE)[:1] or [len(self.devices)]
        names = {device.name for device in self.devices if device.status != GONE}
        name = next(each for each in NAMES if each not in names)
        self.shell.do(events.AddDevice(free[0], name, slots))

    @precondition(lambda self: self.of(RETIRING))
    @rule(count=st.integers(1, 6), seconds=st.sampled_from([0.1, 0.5]))
    def let_them_go(self, count, seconds):
        """Some I/O ends in order, and time passes."""
        for _ in range(count):
            if not self.go_on():
                self.shell.tick(seconds)
            self.hear()

    @precondition(lambda self: self.model and self.of(ACTIVE))
    @rule(pick=INDEX, count=st.integers(0, 4), keeps=st.booleans())
    def retire_with_frames_to_spare(self, pick, count, keeps):
        """So that pages are on their way from the device, some steps of it, and what comes next meets them."""
        self.settle()
        for key in list(self.model)[keeps:]:
            self.shell.hint(*key, "DONTNEED")
        self.settle()
        for key in list(self.model):
            self.shell.hint(*key, "")
        self.settle()
        if active := [number for number in self.of(ACTIVE) if self.devices[number].free < self.devices[number].slots]:
            self.shell.do(events.RetireDevice(active[pick % len(active)]))
        for _ in range(count):
            self.go_on()
        self.hear()

    def settle(self):
        """What is under way ends."""
        while self.go_on():
            self.hear()

    @precondition(lambda self: self.shell.core.life.filling and self.model)
    @rule(pick=INDEX, byte=st.integers(0, 255))
    def fault_on_a_page_that_comes(self, pick, byte):
        keys = self.in_flight(self.shell.core.life.filling)
        if keys:
            key = keys[pick % len(keys)]
            number = next(at for at, (_, region) in enumerate(sorted(self.model)) if region == key >> PAGE_BITS)
            self.fault_and_store(number, key & PAGE_MASK, byte)

    @invariant()
    def nothing_is_written_to_them(self):
        """What is under way to a device that retires was begun before, and a device that is gone has nothing."""
        if hasattr(self, "shell"):
            for kind, page in self.shell.pending:
                assert self.devices[page.slot >> SLOT_BITS].status in (ACTIVE, RETIRING), kind
            assert not [slot for slot in self.shell.slots if self.devices[slot >> SLOT_BITS].status == GONE]

    def end(self):
        """Without sessions each device that retires is empty."""
        super().end()
        self.shell.tick(10)
        assert self.of(RETIRING) == []


class ChangingMachine(Changing, CoreMachine):
    """Memory of calls."""


class ChangingRealMachine(Changing, RealMachine):
    """Memory that threads touch."""


for machine in (ChangingMachine, ChangingRealMachine):
    machine.TestCase.settings = steps(9, 50)


class TestCore(ChangingMachine.TestCase):
    """Run by pytest."""


class TestCoreWithRealMemory(ChangingRealMachine.TestCase):
    """Run by pytest."""
