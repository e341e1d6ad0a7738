"""Pins pages: a call pins a range if all its pages are resident; otherwise they are faulted in, and it tries again."""

from __future__ import annotations

from lib_usm.errors import Thrashing, UsmError
from lib_usm.region import RegionBytes
from usm_wire.pb.usm.v1 import client_pb2

_MAX_ROUNDS = 1000
"""Rounds after which Thrashing is raised: some page is always evicted before the pin."""


def pin(region: RegionBytes, first_page: int, page_count: int) -> None:
    """Keep pages in memory. Raises LimitExceeded beyond the budget, Thrashing, and the errors of faults."""
    region.session.call(lambda: _pin(region, first_page, page_count), lambda _: unpin(region, first_page, page_count))


def _pin(region: RegionBytes, page: int, n: int) -> None:
    for first, count in _parts(region, page, n):
        try:
            _pin_part(region, first, count, page + n - first)
        except BaseException:
            unpin(region, page, first - page)
            raise


async def pin_async(region: RegionBytes, page: int, n: int) -> None:
    """As `pin`, while other tasks run."""
    for first, count in _parts(region, page, n):
        try:
            await _pin_part_async(region, first, count, page + n - first)
        except BaseException:
            unpin(region, page, first - page)
            raise


def _pin_part(region: RegionBytes, first: int, count: int, planned: int) -> None:
    for _ in range(_MAX_ROUNDS):
        if _pin_resident(region, first, count, planned):
            return
        region.session.ensure(region, first, count)
    if not _pin_resident(region, first, count, planned):
        raise _not_together(region, first, count)


async def _pin_part_async(region: RegionBytes, first: int, count: int, planned: int) -> None:
    for _ in range(_MAX_ROUNDS):
        if _pin_resident(region, first, count, planned):
            return
        await region.ensure_pages_async(first, count)
    if not _pin_resident(region, first, count, planned):
        raise _not_together(region, first, count)


def _pin_resident(region: RegionBytes, first: int, count: int, planned: int) -> bool:
    """Pin the pages if all are resident; else return False, with nothing pinned.

    Raises LimitExceeded if the budget has no room for `planned` pages from `first`, before any page is brought in.
    """
    region.check_open()
    request = client_pb2.PinRegionRequest(
        region_id=region.region_id, first_page=first, page_count=count, planned_page_count=planned
    )
    channel = region.session.channel
    try:
        absent = channel.call(channel.stub.PinRegion, request).absent_pages
    except UsmError as error:
        raise region.why(error) from None
    for page in absent:
        region.table.clear(page)
    return not absent


def unpin(region: RegionBytes, first_page: int, page_count: int) -> None:
    """End a pin. Does nothing if the session has ended or the region is closed."""
    region.session.call(lambda: _unpin(region, first_page, page_count))


def _unpin(region: RegionBytes, first_page: int, page_count: int) -> None:
    channel = region.session.channel
    for first, count in _parts(region, first_page, page_count):
        if region.session.ended or region.closed:
            return
        request = client_pb2.UnpinRegionRequest(region_id=region.region_id, first_page=first, page_count=count)
        channel.call(channel.stub.UnpinRegion, request)


def _parts(region: RegionBytes, first_page: int, page_count: int) -> list[tuple[int, int]]:
    """Split a range of pages into parts for one call each."""
    longest, end = region.session.max_fault_pages, first_page + page_count
    return [(page, min(longest, end - page)) for page in range(first_page, end, longest)]


def _not_together(region: RegionBytes, first: int, count: int) -> Thrashing:
    return Thrashing(
        f"pages {first} to {first + count - 1} of {region!r} are not in memory together, {_MAX_ROUNDS} times "
        "tried; the daemon needs more memory, or pin less"
    )
