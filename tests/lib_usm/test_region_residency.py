"""Regions on real and on simulated memory: pages are ensured, pinned, evicted, and resident or not."""

import threading

import numpy as np
import pytest

import lib_usm
from tests.support.real_and_simulated import (
    BUDGET,
    LENGTH,
    PAGE,
    PAGES,
    are_pinned,
    client,
    daemon,
    evict,
    real,
    real_client,
    simulated,
)

__all__ = ["client", "daemon", "real", "real_client", "simulated"]


# Ensure, pin, evict, resident


@pytest.mark.parametrize(
    ("offset", "n", "pages"),
    [
        (0, None, range(PAGES)),
        (0, 1, [0]),
        (PAGE - 1, 2, [0, 1]),
        (3 * PAGE, PAGE, [3]),
        (LENGTH - 1, None, [PAGES - 1]),
        (LENGTH, None, []),
        (5, 0, []),
    ],
)
def test_ensure_makes_the_pages_of_a_range_resident(client, offset, n, pages):
    region = client.mmap(LENGTH)
    assert not region.resident()
    region.ensure(offset, n)
    assert [page for page in pages if not region.resident(page * PAGE, 1)] == []
    assert region.resident(offset, n)
    region.ensure(offset, n)


@pytest.mark.parametrize(
    ("offset", "n"), [(-1, 1), (0, LENGTH + 1), (LENGTH, 1), (LENGTH + 1, None), (1, LENGTH), (0, -1)]
)
def test_ranges_outside_are_refused_everywhere(client, offset, n):
    region = client.mmap(LENGTH)

    def pin():
        with region.pin(offset, n):
            pytest.fail("pinned")

    for use in (region.ensure, region.evict, region.resident, lambda *_: pin()):
        with pytest.raises(lib_usm.OutOfRange):
            use(offset, n)


def test_nothing_is_resident_and_evicted_and_pinned_at_once(client):
    region = client.mmap(LENGTH)
    assert region.resident(LENGTH)
    assert region.resident(7, 0)
    region.evict(LENGTH)
    with region.pin(LENGTH):
        pass


def test_what_was_evicted_comes_back_as_it_was(client, daemon):
    region = client.mmap(LENGTH)
    data = bytes(page for page in range(PAGES) for _ in range(PAGE))[:LENGTH]
    region[:] = bytes(255 - each for each in data)
    evict(daemon, region, 2, PAGE)
    region.ensure(0, 3 * PAGE)
    assert region.resident(0, 3 * PAGE)
    assert region[:] == bytes(255 - each for each in data)


def test_resident_is_what_the_daemon_has_done(real_client, real):
    region = real_client.mmap(LENGTH)
    region.ensure()
    region[0:4] = b"data"
    assert region.resident()
    evict(real, region, 1)
    assert [region.resident(page * PAGE, 1) for page in (0, 1)] == [False, True]
    assert not region.resident()
    region.ensure()
    assert region.resident()
    assert region[0:4] == b"data"


def test_pinned_pages_stay_and_go_again_after_the_block(client, daemon):
    region = client.mmap(LENGTH)
    region[:] = b"p" * LENGTH
    with region.pin(PAGE, 2 * PAGE) as pin:
        assert (pin.first_page, pin.page_count, pin.released) == (1, 2, False)
        are_pinned(daemon, 2)
        region.evict()
        evict(daemon, region, PAGES - 3, 3 * PAGE)
        assert region.resident(PAGE, 2 * PAGE)
    are_pinned(daemon, 0)
    evict(daemon, region, PAGES - 1)
    assert region[:] == b"p" * LENGTH


def test_pins_nest_and_a_page_goes_when_the_last_one_ends(client, daemon):
    region = client.mmap(LENGTH)
    with region.pin(0, 2 * PAGE):
        with region.pin(PAGE, 2 * PAGE), region.pin(PAGE, 1):
            are_pinned(daemon, 3)
        are_pinned(daemon, 2)
        with region.pin(0, 1):
            are_pinned(daemon, 2)
        are_pinned(daemon, 2)
    are_pinned(daemon, 0)


def test_an_exception_ends_the_pin_and_passes(client, daemon):
    region = client.mmap(LENGTH)

    def fail():
        with region.pin(0, PAGE):
            are_pinned(daemon, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    are_pinned(daemon, 0)


def test_pins_beyond_the_budget_are_refused_whole_and_what_was_pinned_stays_so(client, daemon):
    before = daemon.admin.status().counters["faults"]
    region = client.mmap(2 * BUDGET * PAGE)
    with pytest.raises(
        lib_usm.LimitExceeded, match=rf"a pin of {2 * BUDGET} pages .*memory.deny_budget is {BUDGET} pages"
    ):
        region.pin()
    assert daemon.admin.status().counters["faults"] == before  # it was refused before anything came in
    with region.pin(0, 4 * PAGE):
        with pytest.raises(lib_usm.LimitExceeded), region.pin(4 * PAGE, (BUDGET - 3) * PAGE):
            pytest.fail("pinned")
        are_pinned(daemon, 4)
        with region.pin(4 * PAGE, (BUDGET - 4) * PAGE):
            are_pinned(daemon, BUDGET)
            with region.pin(0, BUDGET * PAGE):  # again, which takes nothing of the budget
                are_pinned(daemon, BUDGET)
    are_pinned(daemon, 0)


def test_a_region_may_be_closed_while_it_is_pinned(client, daemon):
    region = client.mmap(BUDGET * PAGE)
    with region.pin():
        region.close()
    are_pinned(daemon, 0)
    with client.mmap(BUDGET * PAGE) as following, following.pin():
        are_pinned(daemon, BUDGET)


def test_a_client_may_be_closed_while_it_has_pinned(daemon):
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(LENGTH)
        with region.pin():
            client.close()
    are_pinned(daemon, 0)


def test_a_closed_region_is_refused_everywhere(client):
    region = client.mmap(LENGTH)
    region.close()

    def pin():
        with region.pin():
            pytest.fail("pinned")

    for use in (region.ensure, region.evict, region.resident, pin, lambda: region.ndarray(np.uint8)):
        with pytest.raises(lib_usm.ClosedError):
            use()


def test_threads_may_ensure_the_same_pages(client, in_thread):
    region = client.mmap(LENGTH)
    begin = threading.Barrier(4)

    def ensure():
        begin.wait(90)
        region.ensure()

    for each in [in_thread(ensure) for _ in range(4)]:
        each.result(90)
    assert region.resident()
