"""Regions and clients that are gone: what is done for them, in which order, and whom it does not touch."""

import threading

import pytest
from structlog.testing import capture_logs

from tests.usmd.mechanism.mapped import HARDWARE_PAGE, Client, map_memory
from tests.usmd.mechanism.memory_world import OTHER, PAGES, REGION, key, world
from usmd.mechanism.base import Busy
from usmd.mechanism.departures import AT_A_STRETCH, PAGES_AT_A_STRETCH, Departures
from usmd.mechanism.real_region import RealRegion

__all__ = ["world"]


def test_a_client_is_let_go_after_its_regions_were_emptied(world, monkeypatch):
    """Else a page that goes after that would be one of zeros to it, and not an error."""
    order, may_empty = [], threading.Event()
    empty = world.region.empty

    def emptied():
        may_empty.wait()
        order.append("emptied")
        empty()

    monkeypatch.setattr(RealRegion, "empty", lambda _: emptied())
    monkeypatch.setattr(world.client.memory, "poison_all", lambda: order.append("poisoned"))
    monkeypatch.setattr(world.client.memory, "close", lambda: order.append("closed"))
    world.memory.drop_regions([REGION], ended=True)
    world.memory.disconnect(world.client.memory)
    world.memory.farewell(world.client.memory, poison=True)
    assert not world.memory.is_emptied(REGION)
    may_empty.set()
    world.memory.finish()
    assert world.memory.is_emptied(REGION)
    assert order == ["emptied", "poisoned", "closed"]


def test_a_client_whose_regions_go_later_is_let_go_after_the_last_of_them(world, monkeypatch):
    """Its session has ended, and the core names its regions in parts."""
    order = []
    monkeypatch.setattr(world.client.memory, "poison_all", lambda: order.append("poisoned"))
    monkeypatch.setattr(world.client.memory, "close", lambda: order.append("closed"))
    world.memory.add_region(OTHER, 1, PAGES)
    other = world.memory.region(OTHER)
    world.memory.connect(other, world.client.memory, map_memory(PAGES * world.page_size, other.memfd))
    world.memory.farewell(world.client.memory, poison=True)
    world.memory.drop_regions([REGION], ended=True)
    world.memory.finish()
    assert (order, world.client.memory.serves, other.client) == ([], True, world.client.memory)
    world.memory.drop_regions([OTHER], ended=True)
    world.memory.finish()
    assert order == ["poisoned", "closed"]


@pytest.fixture
def second(world):
    """Another session of the process, with a region; `place` maps that at the address of the first one's."""
    world.memory.add_region(OTHER, 2, PAGES)
    region = world.memory.region(OTHER)
    client = Client(world.page_size)

    class Second:
        memory = client.memory

        @staticmethod
        def place():
            map_memory(PAGES * world.page_size, region.memfd, world.address)

        @staticmethod
        def connect():
            world.memory.connect(region, client.memory, world.address)

        @staticmethod
        def is_poisoned(page):
            return client.is_poisoned(world.at(page))

    yield Second
    client.close()


def test_the_farewell_of_a_session_touches_no_page_of_the_next_one_of_its_process(world, second, monkeypatch):
    """The kernel lets the userfaultfd of the one poison pages of the other, where that is mapped at its addresses."""
    may_empty = threading.Event()
    monkeypatch.setattr(RealRegion, "empty", lambda _: may_empty.wait())
    world.memory.drop_regions([REGION], ended=True)
    world.memory.disconnect(world.client.memory)
    world.client.is_closed_elsewhere()
    world.memory.farewell(world.client.memory, poison=True)
    second.place()
    with pytest.raises(Busy, match="is still being closed"):
        second.connect()
    may_empty.set()
    world.memory.finish()
    second.connect()
    assert not any(map(second.is_poisoned, range(PAGES)))


def test_a_live_session_touches_no_page_of_another_one_of_its_process_that_is_mapped_where_it_was(world, second):
    world.memory.poison([key(1)], [0])  # is made good again by the region that comes in its place
    second.place()
    second.connect()
    world.memory.poison([key(2)], [0])
    world.memory.drop_regions([REGION], ended=True)
    world.client.memory.poison_all()
    assert not any(map(second.is_poisoned, range(PAGES)))


def test_where_no_region_is_gone_there_is_nothing_to_do(world):
    world.memory.drop_regions([77], ended=True)
    world.memory.drop_regions([REGION], ended=True)
    world.memory.finish()
    assert world.memory.is_emptied(REGION)


def test_many_regions_that_go_at_once_are_all_emptied(world):
    ids = range(100, 130)
    for region_id in ids:
        world.memory.add_region(region_id, 1, PAGES)
    world.memory.drop_regions([*ids, REGION], ended=True)
    world.memory.finish()
    assert all(map(world.memory.is_emptied, [*ids, REGION]))
    assert world.client.memory.served() == set()


def test_few_jobs_empty_very_many_small_regions_and_each_large_one_has_its_own(monkeypatch):
    departures = Departures()
    jobs, put = [], departures._of_regions.put
    monkeypatch.setattr(departures._of_regions, "put", lambda name, job: (jobs.append(name), put(name, job)))
    small = {number: RealRegion(number, 1, HARDWARE_PAGE) for number in range(1, 2 * AT_A_STRETCH + 2)}
    large = {number: RealRegion(number, PAGES_AT_A_STRETCH, HARDWARE_PAGE) for number in (100, 101)}
    departures.empty(small)
    departures.empty(large)
    departures.finish()
    assert [name.count(",") + 1 for name in jobs] == [AT_A_STRETCH, AT_A_STRETCH, 1, 1, 1]
    assert all(departures.is_emptied(number) for number in (*small, *large))
    assert all(region.emptied.is_set() for region in (*small.values(), *large.values()))


def test_a_region_that_cannot_be_emptied_keeps_none_of_the_others(monkeypatch):
    departures, empty = Departures(), RealRegion.empty
    regions = {number: RealRegion(number, 1, HARDWARE_PAGE) for number in (1, 2, 3)}

    def fails_for_one(region):
        empty(region)
        if region.region_id == 2:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(RealRegion, "empty", fails_for_one)
    with capture_logs() as logged:
        departures.empty(regions)
        departures.finish()
    assert all(map(departures.is_emptied, regions))
    assert [(line["event"], line["what"]) for line in logged] == [("aftercare_failed", "the end of region 1, 2, 3")]
