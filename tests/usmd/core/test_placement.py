"""Which pages come in with a fault, and on which frames."""

from tests.support.in_swap import complete_all, resident, swapped
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.commands import Allocated
from usmd.core.placement import MAX_GUESSES


def test_fhp_brings_neighbours_on_neighbouring_frames():
    shell, process, region = swapped(8, alloc="flexible_huge_pages(pages=4)")
    before = shell.counters()["read_ahead"]
    shell.fault(process, region, 5)
    complete_all(shell)
    assert [shell.state_of(region, page) for page in range(8)] == ["SWAPPED"] * 4 + ["PRESENT"] * 4
    assert shell.core.faults.runs(shell.core.state.regions[region], 0, 8) == ((4, 0, 4),)
    assert shell.counters()["read_ahead"] == before + 3


def test_fhp_ends_at_the_region_the_hint_and_the_limit():
    shell = Shell(make_core(frames=32, max_fault_pages=6))
    process = shell.attach(alloc="flexible_huge_pages(pages=4)")
    region = shell.map(process, 6)
    assert shell.fault(process, region, 5) == [Allocated(1, ((4, 0, 2),))]
    shell.hint(process, region, f"FHP={4 * PAGE}B", 1, 2)
    assert shell.fault(process, region, 2) == [Allocated(1, ((1, 2, 2),))]
    wide = shell.map(process, 40)
    shell.hint(process, wide, f"FHP={32 * PAGE}B")
    ((first, _, count),) = shell.fault(process, wide, 20)[0].runs
    assert count == 6
    assert first <= 20 < first + 6


def test_guesses_take_frames_above_the_low_mark_only_and_evict_nothing():
    shell = Shell(make_core(frames=8, low=2, high=2))
    process = shell.attach(alloc="flexible_huge_pages(pages=8)")
    resident(shell, process, 3)
    region = shell.map(process, 8)
    shell.fault(process, region, 0)
    assert shell.core.state.frames.free == 2
    assert shell.counters()["evictions"] == 0
    assert shell.core.state.regions[region].resident == 3


def test_guesses_of_one_batch_are_bounded():
    shell = Shell(make_core(frames=3 * MAX_GUESSES, page_size=1), check=False)
    process = shell.attach(alloc="flexible_huge_pages(pages=256)")
    region = shell.map(process, 3 * MAX_GUESSES)
    shell.do(events.Faults(process, [events.FaultRequest(n, region, n * 256, 1, False) for n in range(10)]))
    assert shell.core.state.regions[region].resident == 10 + MAX_GUESSES


def test_while_frames_are_on_their_way_out_guesses_take_half_of_those_below_the_low_mark():
    shell = Shell(make_core(frames=64, low=32, high=48, devices=(("swap0", 256),)), auto_io=False)
    process = shell.attach(alloc="flexible_huge_pages(pages=16)")
    region = shell.map(process, 256)
    for page in range(32):
        while not shell.store(process, region, page, b"0123456789abcdef"):
            shell.fault(process, region, page)
    assert shell.core.life.evicting
    for page in (64, 96):
        free, before = shell.core.state.frames.free, shell.counters()["read_ahead"]
        assert free <= 32
        shell.fault(process, region, page)
        reserved = 1  # for pages from swap
        assert shell.counters()["read_ahead"] == before + (free - 1) // 2 - reserved
