"""Each invariant is broken on purpose, and the checker says so."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.frames import DIRTY, EVICTING, FREE, HELD, PINNED, PRESENT, PRIORITY_MASK, UNEVICTABLE
from usmd.core.region import Region
from usmd.core.validate import violations
from usmd.errors import Unmapped


@pytest.fixture
def shell():
    """Frame 0: present, dirty. 1: clean, with a slot. 2: filling. 3: being written. 4: free. Page 4: swapped."""
    shell = Shell(make_core(frames=5, deny_budget=2, deny_budget_total=2), auto_io=False)
    process = shell.attach(memory_max=8, swap_max=4)
    region = shell.map(process, 8)
    for page in range(5):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for page in (1, 2, 4):
        shell.evict(process, region, page, 1)
        shell.complete_io()
    shell.fault(process, region, 1)
    shell.complete_io()
    shell.fault(process, region, 2)
    shell.evict(process, region, 3, 1)
    assert [kind for kind, _ in shell.pending] == ["read", "write"]
    assert violations(shell.core) == []
    return shell


def set_frame(name, pfn, value):
    def corrupt(core):
        getattr(core.state.frames, name)[pfn] = value

    return corrupt


def set_attribute(find, name, value):
    def corrupt(core):
        setattr(find(core), name, value)

    return corrupt


def set_entry(page, entry):
    def corrupt(core):
        core.state.regions[1].table[page] = entry

    return corrupt


def waits_for_nothing(core):
    process = core.state.processes[1]
    core.state.stalls.served(process, False, 0, 0.0, 0.0)
    process.missing = 0


def gone_region(core):
    region = Region(2, core.state.processes[1], 1 << 40, PAGE, PAGE, "")
    region.unmapped = Unmapped("it was unmapped")
    return region


CORRUPTIONS = {
    "free count": (set_attribute(lambda core: core.state.frames, "free", 3), "free is 3, but 1 frames are"),
    "no state": (set_frame("state", 0, 9), "an invalid state"),
    "page of a free frame": (set_frame("page", 4, 77), "frame 4 in state 0 has page 77"),
    "present without a page": (set_frame("page", 0, -1), "frame 0 in state 2 has page -1"),
    "flags of a free frame": (set_frame("flags", 4, DIRTY), "free frame 4 has flags 1"),
    "slot of a free frame": (set_frame("slot", 4, 60), "free frame 4 has flags 0 or slot 60"),
    "unevictable victim": (set_frame("flags", 3, DIRTY | UNEVICTABLE), "frame 3 is being evicted with flags 3"),
    "pinned victim": (set_frame("flags", 3, DIRTY | HELD), "frame 3 is being evicted with flags 5"),
    "filling unknown": (lambda core: core.life.filling.clear(), "frame 2 in state 1 disagrees"),
    "evicting unknown": (set_frame("state", 0, EVICTING), "frame 0 in state 3 disagrees"),
    "evicting forgotten": (set_frame("state", 3, PRESENT), "frame 3 in state 2 disagrees"),
    "pin without a time": (set_frame("flags", 0, DIRTY | HELD), "frame 0 disagrees with the holds"),
    "pin without a flag": (lambda core: core.state.holds.update({0: 1.0}), "frame 0 disagrees with the holds"),
    "clean without a slot": (set_frame("flags", 0, 0), "frame 0 is clean with slot -1"),
    "dirty with a slot": (set_frame("flags", 1, DIRTY), "frame 1 is dirty with slot"),
    "wrong frame": (set_entry(0, 2), "page 0 of region 1 is not in its frame 1"),
    "resident count": (set_attribute(lambda core: core.state.regions[1], "resident", 9), "region 1 counts 9 resident"),
    "orphan region": (lambda core: core.state.processes.clear(), "region 1 has no process"),
    "frame without an entry": (set_entry(0, 0), "3 pages are mapped to frames that hold another number"),
    "slot used twice": (set_entry(7, -1), "has 2 users"),
    "slot not marked": (set_entry(7, -60), "device swap0: slots [59] are used or marked, but not both"),
    "slot without a page": (set_entry(4, 0), "are used or marked, but not both"),
    "free slots": (set_attribute(lambda core: core.state.swap.devices[0], "free", 1), "swap0 counts 1 free slots"),
    "pages against a swap_max": (
        set_attribute(lambda core: core.state.processes[1], "stored", 2),
        "process 1 counts 2 pages against its swap_max of 4, there are 4",
    ),
    "region's pages against a swap_max": (
        set_attribute(lambda core: core.state.regions[1], "stored", 5),
        "region 1 counts 5 pages in swap, there are 4",
    ),
    "swap_max": (
        set_attribute(lambda core: core.state.processes[1], "swap_max", 3),
        "process 1 counts 4 pages against its swap_max of 3, there are 4",
    ),
    "processes with a swap_max": (
        set_attribute(lambda core: core.state.budgets, "limited", 2),
        "2 processes with a swap_max are counted, 1 of them at it; there are 1 and 1",
    ),
    "processes at their swap_max": (
        set_attribute(lambda core: core.state.budgets, "full", 0),
        "1 processes with a swap_max are counted, 0 of them at it; there are 1 and 1",
    ),
    "frame for pages from swap": (
        set_attribute(lambda core: core.state.processes[1], "absent_max", 8),
        "process 1 keeps 0 frames for swap",
    ),
    "unevictable count": (
        set_attribute(lambda core: core.state, "unevictable", 1),
        "1 unevictable frames are counted, 0 for",
    ),
    "process's unevictable": (
        set_attribute(lambda core: core.state.processes[1], "unevictable", 3),
        "process 1 keeps more frames than its budget",
    ),
    "locked victim": (set_frame("flags", 3, DIRTY | PINNED), "frame 3 is being evicted with flags 33"),
    "pinned count": (
        set_attribute(lambda core: core.state, "pinned", 1),
        "1 pinned frames are counted, 0 for",
    ),
    "lock that no count knows": (
        set_frame("flags", 1, PINNED),
        "are gone 0, and 1 have the flag",
    ),
    "processes that wait": (
        set_attribute(lambda core: core.state.stalls, "waiting", 2),
        "2 processes are counted as waiting, 0 do; without a fault []",
    ),
    "process that waits": (
        waits_for_nothing,
        "1 processes are counted as waiting, 1 do; without a fault [1]",
    ),
    "process's pinned": (
        set_attribute(lambda core: core.state.processes[1], "pinned", 1),
        "0 pinned frames are counted, 1 for processes",
    ),
    "region's unevictable": (
        set_attribute(lambda core: core.state.regions[1], "unevictable", 1),
        "0 unevictable frames are counted, 0 for processes and 1 for regions",
    ),
    "priority that no hint gives": (
        set_frame("flags", 0, DIRTY | PRIORITY_MASK),
        "page 0 of region 1 has flags 25, which are not those of its hint",
    ),
    "frames of regions that are gone": (
        set_attribute(lambda core: core.state, "dying_frames", 1),
        "1 frames are counted for regions that are gone",
    ),
    "region that nothing releases": (
        lambda core: core.state.dying.update({2: gone_region(core)}),
        "1 regions are gone, and 0 pieces of work release them",
    ),
    "hint that nothing brings to its pages": (
        set_attribute(lambda core: core.state, "refreshing", 1),
        "1 hints are being brought to pages, and 0 pieces of work do it",
    ),
    "waiters that nothing notifies": (
        lambda core: core.state.waits.late.append((object(), None)),
        "waiters are to be notified, and 0 pieces do it",
    ),
    "page that waits for memory": (
        lambda core: core.waiting_of.update({1: {object(): None}}),
        "0 pages wait for memory, and processes have 1 such pages",
    ),
    "victim that nothing evicts": (
        lambda core: core.state.forced_victims.append((core.state.processes[1], 0, 0)),
        "there is more to do after an event than after most, and no mark says so",
    ),
    "pin of a page that is not locked": (
        lambda core: core.state.regions[1].pins.add(0),
        "those of regions that are gone 1, and 0 have the flag",
    ),
    "process's resident": (
        set_attribute(lambda core: core.state.processes[1], "resident", 1),
        "process 1 counts 1 resident pages wrongly",
    ),
    "process's hints": (
        set_attribute(lambda core: core.state.processes[1], "hint_ranges", 1),
        "process 1 counts 1 ranges with a hint wrongly",
    ),
    "swapped count": (set_attribute(lambda core: core.state.regions[1], "swapped", 5), "region 1 counts 5 swapped"),
    "unwritten count": (
        set_attribute(lambda core: core.life, "unwritten", 1),
        "1 evictions without a slot are counted, there are 0",
    ),
    "write from nowhere": (
        lambda core: core.life.writing.update({next(iter(core.life.writing)): 0}),
        "is being written from frame 0, which is not being evicted",
    ),
}


@pytest.mark.parametrize(("corrupt", "says"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_what_does_not_hold_is_found(shell, corrupt, says):
    corrupt(shell.core)
    assert any(says in each for each in violations(shell.core)), violations(shell.core)


@pytest.mark.parametrize("flags", [(UNEVICTABLE,) * 3, (PINNED,) * 3, (UNEVICTABLE, PINNED, UNEVICTABLE)])
def test_unevictable_and_pinned_frames_beyond_the_budget_of_all_are_found(shell, flags):
    for pfn in (0, 1, 2):
        shell.core.state.frames.flags[pfn] |= flags[pfn]
    assert any("3 kept frames exceed the budget of 2" in each for each in violations(shell.core))


def test_a_fill_whose_region_has_gone_is_no_violation(shell):
    shell.do(events.Unmap(1, 1))
    assert shell.core.state.frames.count_state(FREE) == 4
    assert violations(shell.core) == []
