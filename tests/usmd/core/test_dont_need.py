"""DONTNEED: pages of a range go at once, as far as there are slots."""

from tests.support.shell import PAGE, Shell, make_core

DATA = b"x" * PAGE


def test_dirty_pages_go_while_there_are_slots_and_pages_that_are_kept_stay():
    shell = Shell(make_core(frames=8, devices=(("swap0", 2),)))
    process = shell.attach()
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, DATA)
    shell.hint(process, region, "EVICTION=DENY", 0, 1)
    shell.hint(process, region, "DONTNEED", 1, 3)
    assert [shell.state_of(region, page) for page in range(4)] == ["PRESENT", "SWAPPED", "SWAPPED", "PRESENT"]


def test_slots_that_are_kept_for_newcomers_stay_free():
    shell = Shell(make_core(frames=8, devices=(("swap0", 4),), reserve=3))
    process = shell.attach()
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, DATA)
    shell.evict(process, region)
    assert shell.core.state.swap.free == 3
