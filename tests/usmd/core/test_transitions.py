"""The table of transitions: docs say the same, each of them happens, and in any test with a shell nothing else does."""

import re
from pathlib import Path

from tests.support.real_shell import RealShell
from tests.support.shell import PAGE, make_core
from tests.support.watched_life import watched
from usmd.core import events
from usmd.core.in_flight import ANYWHERE
from usmd.core.instant import InstantCore, InstantLife
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.touches import Touches
from usmd.core.transitions import INSTANT, TRANSITIONS, Transition
from usmd.errors import Refused, SwapIOError
from usmd.policies import registry

ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"
STATES = ("ABSENT", "SWAPPED", "FILLING", "PRESENT", "EVICTING")
MOVING = "MOVING"
FULL = 2
"""A swap device without a slot."""
DATA = b"x" * PAGE


def documented():
    """The transitions of the table in docs/architecture.md."""
    table = ARCHITECTURE.read_text().split("| From | Method | To |")[1].split("\n\n")[0]
    found = set()
    for row in table.splitlines()[2:]:
        before, methods, after = row.split("|")[1:4]
        for method in re.findall(r"`(\w+)`", methods):
            for one in re.findall(r"[A-Z]{4,}", before):
                found.update(Transition(one, method, other) for other in re.findall(r"[A-Z]{4,}", after))
    return found


def test_the_documentation_has_the_same_table():
    assert documented() == TRANSITIONS
    assert {state for each in TRANSITIONS for state in (each.before, each.after)} == {*STATES, MOVING}


class App:
    """A process in a shell whose page 0 is brought to any state."""

    def __init__(self):
        self.shell = RealShell(make_core(frames=16, devices=(("fast", 64), ("slow", 64), ("full", 0))), auto_io=False)
        self.process = self.shell.attach(alloc="flexible_huge_pages(pages=4)")
        self.seen = self.shell.core.life.seen

    def page(self, state):
        """A new region of a page that is in a state; its number."""
        shell = self.shell
        region = shell.map(self.process, 1)
        if state != "ABSENT":
            shell.put(self.process, region, 0, DATA)
        if state in ("SWAPPED", "FILLING", "EVICTING"):
            shell.evict(self.process, region)
        if state in ("SWAPPED", "FILLING"):
            self.finish()
        if state == "FILLING":
            shell.fault(self.process, region, 0)
        assert shell.state_of(region, 0) == state
        return region

    def finish(self):
        while self.shell.pending:
            self.shell.complete_io()

    def unmap(self, region):
        self.shell.do(events.Unmap(self.process, region))
        self.finish()

    def moving(self, *, to=1):
        """A new region of a page whose read has begun, on its way to another device."""
        region = self.page("SWAPPED")
        core = self.shell.core
        core._migration.begin(core.state.regions[region], 0, to)
        self.shell.tick()
        assert core.life.state_of(core.state.regions[region], 0) == MOVING
        return region


def test_each_transition_of_the_table_happens():
    app = App()
    shell, error = app.shell, SwapIOError("the device said no")
    for state in STATES:
        app.unmap(app.page(state))
    shell.fault(app.process, shell.map(app.process, 4), 0)  # with those beside it
    region = app.page("FILLING")
    app.finish()
    shell.evict(app.process, region)  # clean
    shell.fail_read = error
    shell.fault(app.process, region, 0)
    app.finish()
    app.moving()
    app.finish()
    shell.fail_read = None
    app.moving()
    app.finish()
    region = app.moving()
    shell.fault(app.process, region, 0)  # before it is read
    app.finish()
    region = app.moving()
    shell.complete_io()
    shell.fault(app.process, region, 0)  # before it is written
    app.finish()
    app.moving(to=FULL)
    app.finish()
    app.unmap(app.moving())
    region = app.moving()
    shell.stays.add(page_key(region, 0))
    app.finish()
    region = app.moving()
    shell.complete_io(late=True)
    shell.punch(region, 0)
    shell.tell()
    app.finish()
    app.moving(to=ANYWHERE)
    shell.refuses = dict.fromkeys(range(3), Refused("it does not compress"))
    app.finish()  # it stays in memory
    shell.refuses = {}
    shell.fault(app.process, app.page("EVICTING"), 0)
    app.finish()
    shell.fail_write = error
    app.page("EVICTING")
    app.finish()
    region = shell.map(app.process, 1)
    shell.fault(app.process, region, 0)
    shell.evict(app.process, region)  # all zero
    region = app.page("PRESENT")
    shell.stays.update(shell.memory)
    shell.evict(app.process, region)
    assert app.seen | woken_first() == TRANSITIONS


def woken_first():
    """The transitions of a core in which a clean page goes in the event that wakes a thread for it."""
    shell = RealShell(make_core(frames=1, hold_budget=0, low=0, high=0))
    process = shell.attach()
    region = shell.map(process, 2)
    shell.put(process, region, 0, DATA)
    shell.evict(process, region)
    shell.fault(process, region, 0)
    shell.do(events.PageFaults(process, [events.PageFault(region, page, write=False) for page in (0, 1)]))
    assert shell.state_of(region, 0) == "SWAPPED"
    return shell.core.life.seen


def test_each_transition_of_a_replay_happens():
    settings = CoreSettings(frames=6, page_size=PAGE, deny_budget=6, deny_budget_total=6)
    core = InstantCore(settings, [DeviceInfo("swap0", 64)], registry.make, life=watched(InstantLife, INSTANT))
    core.handle(events.Attach("app", "flexible_huge_pages(pages=2)", "fifo", "refuse"), 0.0)
    core.handle(events.Map(1, 20 * PAGE, ""), 0.0)
    core.handle(Touches(1, 1, range(20), bytes([1] * 10 + [0] * 10)), 0.0)
    core.handle(Touches(1, 1, range(20)), 0.0)
    core.handle(events.SetPolicy(1, "alloc", "first_fit"), 0.0)
    core.handle(events.Map(1, 20 * PAGE, ""), 0.0)
    core.handle(events.Unmap(1, 1), 0.0)
    core.handle(Touches(1, 2, range(20)), 0.0)
    core.handle(events.Unmap(1, 2), 0.0)
    assert core.life.seen == INSTANT
