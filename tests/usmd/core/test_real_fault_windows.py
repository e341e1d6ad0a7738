"""Pages that come along with a real fault, and regions that threads read and write in order."""

import pytest

from tests.support.real_app import DATA, App
from tests.support.real_shell import DONE
from tests.support.shell import PAGE


def test_pages_that_come_along_with_a_real_fault_fault_no_more():
    app = App(8, frames=16, alloc="flexible_huge_pages(pages=4)")
    app.touch(1, DATA)
    assert [app.touch(page).state for page in range(4)] == [DONE] * 4
    assert app.counters("faults", "read_ahead", "zero_fills") == (1, 3, 4)


@pytest.mark.parametrize("data", [DATA, None])
def test_pages_from_swap_that_come_along_with_a_write_are_writable_and_with_a_read_they_are_not(data):
    app = App(8, frames=16, alloc="flexible_huge_pages(pages=4)").swapped(4)
    app.touch(1, data)
    assert [app.is_dirty(page) for page in range(4)] == [data is not None] * 4
    assert app.slots_used() == (0 if data else 4)
    for page in (0, 2, 3):
        app.touch(page, DATA[:1] * PAGE if data else None)
    assert app.counters("protect_faults") == (0,)


def test_the_window_of_a_write_that_waits_for_memory_comes_in_writable_too():
    app = App(8, frames=6, alloc="flexible_huge_pages(pages=4)", auto_io=False)
    app.shell.auto_io = True
    app.swapped(8)
    for page in range(4, 6):
        app.touch(page)
    app.shell.auto_io = False
    app.touch(0, DATA)
    while app.shell.pending:
        app.shell.complete_io()
    assert app.is_dirty(0)
    present = [page for page in range(4) if app.state_of(page) == "PRESENT"]
    assert all(app.is_dirty(page) for page in present)


def sequential(app, pages, touch):
    """Touch pages in order; the protect faults and the faults in all that this takes."""
    before = app.counters("protect_faults", "faults")
    for page in pages:
        touch(page)
    after = app.counters("protect_faults", "faults")
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.parametrize("pages", [1, 4, 16])
def test_a_region_that_is_read_and_written_in_order_costs_few_protect_faults(pages):
    app = App(240, frames=100, devices=(("swap0", 300),), low=2, high=40, alloc=f"flexible_huge_pages(pages={pages})")
    app.swapped(240)

    def add(page):
        assert app.touch(page).read[0] == page % 255 + 1
        assert app.touch(page, bytes([(page + 2) % 256]) * PAGE).state == DONE

    protect, faults = sequential(app, range(240), add)
    assert protect <= 240 / 4
    assert faults <= 2 * 240 / pages + protect
    assert [app.touch(page).read[0] for page in range(240)] == [(page + 2) % 256 for page in range(240)]


@pytest.mark.parametrize("pages", [1, 16])
def test_a_region_that_is_read_in_order_after_it_was_written_in_order_is_clean_again(pages):
    app = App(400, frames=100, devices=(("swap0", 500),), low=2, high=40, alloc=f"flexible_huge_pages(pages={pages})")
    app.swapped(400)
    sequential(app, range(200), lambda page: (app.touch(page), app.touch(page, DATA)))
    before = app.counters("swap_outs")[0]
    sequential(app, range(200, 400), app.touch)
    app.shell.evict(app.process, app.region, 200, 200)
    written = app.counters("swap_outs")[0] - before
    assert written <= 100 + 16 * pages, "what was foreseen wrongly, beside what was written"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 12, 13, 20, 40])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("hinted", [False, True])
def test_a_window_larger_than_one_event_may_bring_in_comes_in_whole_with_one_fault(size, order, hinted):
    alloc = "flexible_huge_pages" if hinted else f"flexible_huge_pages(pages={size})"
    app = App(40, frames=128, max_fault_pages=6, alloc=alloc)
    if hinted:
        app.shell.hint(app.process, app.region, f"FHP={size * PAGE}B")
    for page in range(40)[::order]:
        app.touch(page)
    assert app.counters("faults", "zero_fills") == (-(-40 // size), 40)


def test_threads_of_several_processes_share_memory_smaller_than_theirs():
    app = App(6, frames=3)
    other = app.shell.attach("other")
    theirs = app.shell.map(other, 6)
    for round_ in range(3):
        for page in range(6):
            assert app.touch(page, bytes([round_ * 6 + page]) * PAGE).state == DONE
            assert app.shell.touch(other, theirs, page, bytes([100 + round_ * 6 + page]) * PAGE).state == DONE
    assert [app.touch(page).read[0] for page in range(6)] == [12 + page for page in range(6)]
    assert [app.shell.touch(other, theirs, page).read[0] for page in range(6)] == [112 + page for page in range(6)]


def test_of_pages_that_came_along_those_are_used_that_are_written_to_or_have_new_bytes_when_they_are_evicted():
    app = App(8, frames=16, alloc="flexible_huge_pages(pages=8)")
    app.touch(0, DATA)
    for page in (1, 2, 3):
        app.touch(page, DATA)  # unheard: the page is writable
    found = app.shell.core.state.regions[app.region]
    assert (found.along, found.along_used, found.along_unused) == (7, 0, 0)
    app.shell.evict(app.process, app.region)
    assert (found.along, found.along_used, found.along_unused) == (7, 3, 4)
    app.touch(2)
    assert (found.along, found.along_used, found.along_unused) == (14, 3, 4)
    app.touch(1, DATA)  # the first write to a clean page
    assert found.along_used == 4
