"""What counts against a swap_max, transition by transition, and what room is left."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.budgets import Budgets
from usmd.core.hints import parse_hint
from usmd.core.instant import InstantCore
from usmd.core.region import NO_MAX, Process, Region
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.touches import Touches
from usmd.core.validate import violations
from usmd.core.view import MemoryView
from usmd.errors import DataLoss, NoRoom
from usmd.policies import registry

DATA = b"x" * PAGE


class App:
    """A process with a `swap_max` of 3, and one page of its region dirty in memory."""

    def __init__(self, memory_max=4, **more):
        self.shell = Shell(make_core(frames=8, devices=(("fast", 8), ("slow", 8)), **more), auto_io=False)
        self.process_id = self.shell.attach(swap_device="0", memory_max=memory_max, swap_max=3)
        self.number = self.shell.map(self.process_id, 8)
        self.put(0)

    @property
    def process(self):
        return self.shell.core.state.processes[self.process_id]

    @property
    def region(self):
        return self.shell.core.state.regions[self.number]

    def put(self, *pages):
        for page in pages:
            self.shell.put(self.process_id, self.number, page, DATA)

    def out(self, *pages):
        for page in pages:
            self.shell.evict(self.process_id, self.number, page, 1)

    def finish(self):
        while self.shell.pending:
            self.shell.complete_io()


def test_a_page_counts_from_the_begin_of_its_eviction_until_it_is_written_to_again():
    app = App()
    assert app.process.stored == 0
    app.out(0)
    assert (app.shell.state_of(app.number, 0), app.process.stored) == ("EVICTING", 1)
    app.finish()
    assert (app.shell.state_of(app.number, 0), app.process.stored) == ("SWAPPED", 1)
    app.shell.fault(app.process_id, app.number, 0)
    assert (app.shell.state_of(app.number, 0), app.process.stored) == ("FILLING", 1)
    app.finish()
    assert (app.shell.load(app.process_id, app.number, 0), app.process.stored) == (DATA, 1)
    app.out(0)
    assert (app.shell.state_of(app.number, 0), app.process.stored) == ("SWAPPED", 1)
    app.shell.fault(app.process_id, app.number, 0)
    app.finish()
    app.put(0)
    assert (app.process.stored, app.region.stored) == (0, 0)


def test_a_page_of_zeros_a_refused_one_and_one_that_cannot_be_protected_count_no_more():
    app = App()
    app.shell.put(app.process_id, app.number, 1, bytes(PAGE))
    app.out(1)
    assert (app.shell.state_of(app.number, 1), app.process.stored) == ("ABSENT", 0)
    app.shell.refuses = {0: NoRoom("it is full"), 1: NoRoom("it is full")}
    app.out(0)
    app.finish()
    assert (app.shell.state_of(app.number, 0), app.process.stored) == ("PRESENT", 0)


def test_a_page_that_cannot_be_read_counts_as_before():
    app = App()
    app.out(0)
    app.finish()
    app.shell.fail_read = DataLoss("the checksum is wrong")
    app.shell.fault(app.process_id, app.number, 0)
    app.finish()
    assert (app.shell.state_of(app.number, 0), app.process.stored) == ("SWAPPED", 1)


def test_a_page_that_moves_to_another_device_counts_once_at_the_limit_too():
    app = App()
    app.put(1, 2)
    app.out(0, 1, 2)
    app.finish()
    assert app.process.stored == app.process.swap_max
    app.shell.core._migration.begin(app.region, 0, 1)
    app.shell.tick()
    seen = [app.process.stored]
    while app.shell.pending:
        app.shell.complete_io()
        seen.append(app.process.stored)
    assert set(seen) == {3}
    assert [8 - device.free for device in app.shell.core.state.swap.devices] == [2, 1]


@pytest.mark.parametrize("under_way", [False, True])
def test_what_goes_with_its_region_or_its_process_counts_no_more(under_way):
    app = App()
    second = app.shell.map(app.process_id, 2)
    app.shell.put(app.process_id, second, 0, DATA)
    app.out(0)
    app.shell.evict(app.process_id, second, 0, 1)
    if not under_way:
        app.finish()
    app.shell.do(events.Unmap(app.process_id, app.number))
    assert app.process.stored == 1
    app.finish()
    assert app.process.stored == 1
    app.shell.do(events.Detach(app.process_id, "bye"))
    app.finish()
    budgets = app.shell.core.state.budgets
    assert (budgets.limited, budgets.full, app.shell.core.state.swap.free) == (0, 0, 16)


def test_a_process_at_its_swap_max_keeps_a_frame_for_pages_from_swap():
    app = App()
    budgets = app.shell.core.state.budgets
    app.put(1, 2)
    app.out(0, 1)
    app.finish()
    assert (budgets.full, budgets.room(app.process, swap=False), budgets.room(app.process, swap=True)) == (0, 3, 3)
    app.out(2)
    app.finish()
    assert (budgets.full, budgets.room(app.process, swap=False), budgets.room(app.process, swap=True)) == (1, 3, 4)
    assert app.shell.core._placement._reserve() == 1
    app.shell.fault(app.process_id, app.number, 0)
    app.finish()
    app.put(0)
    assert (budgets.full, budgets.swap_room(app.process)) == (0, 1)
    assert app.shell.core._placement._reserve() == 0


def test_what_can_go_of_a_process_at_its_swap_max_is_clean():
    app = App(memory_max=8)
    budgets, view = app.shell.core.state.budgets, MemoryView(app.shell.core.state, app.process)
    app.put(1, 2, 3, 4)
    app.out(0, 1, 2)
    app.finish()
    assert budgets.gives_nothing(app.process)
    assert budgets.stuck(app.process) == 2
    assert [view.evictable(app.region.table[page] - 1) for page in (3, 4)] == [False, False]
    app.shell.fault(app.process_id, app.number, 0)
    app.finish()
    app.shell.load(app.process_id, app.number, 0)
    assert not budgets.gives_nothing(app.process)
    assert budgets.stuck(app.process) == 2
    assert view.evictable(app.region.table[0] - 1)


def test_without_a_swap_max_pages_are_counted_and_nothing_is_full():
    budgets, process = Budgets(), Process(1, "app", None, None, None)
    budgets.begin(process, 3, None)
    region = Region(1, process, 0, PAGE, PAGE, "")
    budgets.charge(region, 2)
    assert (process.stored, region.stored, budgets.limited, budgets.full) == (2, 2, 0, 0)
    budgets.gone(process, region.stored)
    budgets.end(process)
    assert (process.stored, budgets.limited, budgets.full) == (0, 0, 0)
    assert (process.memory_max, process.absent_max, process.swap_max) == (3, 3, NO_MAX)
    assert not budgets.gives_nothing(process)
    assert budgets.stuck(process) == 0
    assert budgets.swap_in_words(process, PAGE) == ""


@pytest.mark.parametrize("evict", ["lru", "arc", "hint_aware"])
@pytest.mark.parametrize("hint", [False, True])
def test_the_core_without_bytes_keeps_to_it_as_well(evict, hint):
    settings = CoreSettings(frames=8, page_size=PAGE, deny_budget=8, deny_budget_total=8, eviction_records=0)
    core = InstantCore(settings, [DeviceInfo("swap0", 64)], registry.make)
    core.handle(events.Attach("app", "first_fit", evict, "refuse", memory_max=8, swap_max=4), 0.0)
    core.handle(events.Map(1, 20 * PAGE, ""), 0.0)
    process = core.state.processes[1]
    pages = [number * 7 % 20 for number in range(200)]
    for start in range(0, 200, 20):
        core.handle(Touches(1, 1, pages[start : start + 20], bytes([start // 20 % 2]) * 20), 1.0 + start)
        if hint:
            core.handle(
                events.SetHint(1, 1, 0, 4 * PAGE, parse_hint(["DONTNEED", "WILLNEED"][start // 20 % 2])), 1.5 + start
            )
        assert violations(core) == []
    assert process.counters.oom_refusals > 0
    assert 64 - core.state.swap.free == process.stored == 4
