"""Steps of transitions: what is out of date, and what threads may do; the transitions are in test_page_life.py."""

from tests.support.shell import PAGE, Shell, make_core
from usmd.core.frames import DIRTY, NO_SLOT
from usmd.errors import SwapIOError


def clean_page():
    """A shell with a page that is in memory and in a slot, and its frame."""
    shell = Shell(make_core())
    process = shell.attach()
    region = shell.map(process, 1)
    shell.put(process, region, 0, b"x" * PAGE)
    shell.evict(process, region)
    shell.get(process, region, 0)
    return shell, shell.core.state.regions[region], shell.core.state.regions[region].table[0] - 1


def test_a_page_that_is_written_to_needs_its_slot_no_more():
    shell, _, pfn = clean_page()
    frames, swap = shell.core.state.frames, shell.core.state.swap
    assert swap.free == swap.slots - 1
    for _ in range(2):
        shell.core.life.dirty(pfn)
        assert frames.flags[pfn] & DIRTY
        assert (frames.slot[pfn], swap.free) == (NO_SLOT, swap.slots)


def test_only_to_a_dirty_page_may_a_thread_write_at_once():
    shell, region, pfn = clean_page()
    life, state = shell.core.life, shell.core.state
    life.restore(pfn)
    assert state.restores == {region.first_key: False}
    life.dirty(pfn)
    life.restore(pfn)
    assert state.restores == {region.first_key: True}


def test_a_device_that_fails_rests_and_is_reported_once_a_rest():
    shell, _, _ = clean_page()
    (device,) = shell.core.state.swap.devices
    for failures, seconds in ((1, 0.0), (1, 0.5), (2, 1.0)):
        shell.tick(seconds)
        shell.core.life._write_failed(device, SwapIOError("the device said no"))
        shell.tick()
        assert device.failures == failures
    assert [each.fields["failures"] for each in shell.notices if each.kind == "swap_error"] == ["1", "2"]
