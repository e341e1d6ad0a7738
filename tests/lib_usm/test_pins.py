"""Rounds of pinning: what is absent is faulted in, and what cannot be pinned as a whole is not pinned in part."""

import pytest

import lib_usm
from lib_usm import pins


@pytest.fixture
def region(client):
    return client.mmap(10 * 16)


def pinned(daemon):
    return sorted(page for (_, page), count in daemon.pins.items() if count)


def test_absent_pages_are_faulted_in_and_a_long_range_is_pinned_in_parts(daemon, region):
    pins.pin(region, 1, 6)
    assert pinned(daemon) == [1, 2, 3, 4, 5, 6]
    asked = [(each.first_page, each.page_count, each.planned_page_count) for each in daemon.requests("PinRegion")]
    assert asked == [(1, 4, 6), (1, 4, 6), (5, 2, 2), (5, 2, 2)]
    pins.unpin(region, 1, 6)
    assert pinned(daemon) == []


def test_a_stale_belief_is_corrected_by_the_answer(daemon, region):
    region.read(0, 32)
    daemon.evict(region, 1)
    pins.pin(region, 0, 2)
    assert pinned(daemon) == [0, 1]


def test_pages_that_never_stay_are_an_error_and_nothing_is_pinned(daemon, region, wire, monkeypatch):
    monkeypatch.setattr(pins, "_MAX_ROUNDS", 3)
    region.read(0, 64)
    daemon.answers = wire.allocated  # and none is resident
    with pytest.raises(lib_usm.Thrashing, match="not in memory together, 3 times"):
        pins.pin(region, 0, 8)
    assert pinned(daemon) == []


def test_nothing_is_unpinned_of_a_closed_region(daemon, region):
    pins.pin(region, 0, 1)
    region.close()
    pins.unpin(region, 0, 1)
    assert not daemon.requests("UnpinRegion")
