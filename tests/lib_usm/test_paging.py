"""Which faults are refused before anything is sent."""

import pytest

import lib_usm
from lib_usm.arguments import counted


@pytest.mark.parametrize(("first_page", "page_count"), [(-1, 1), (0, 0), (0, -1), (3, 2), (4, 1), (1 << 70, 1)])
def test_pages_outside_are_refused(client, first_page, page_count):
    with pytest.raises(lib_usm.OutOfRange, match=f"{counted(page_count, 'page')} from page {first_page} on .* 4 pages"):
        client.fault_many([(client.mmap(64), first_page, page_count)])


def test_a_fault_of_too_many_pages_is_refused_with_the_limit(daemon, client):
    region = client.mmap(16 * 10)
    for use in (lambda: client.fault(region, 15, 16 * 4), lambda: client.fault_many([(region, 0, 5)])):
        with pytest.raises(lib_usm.InvalidArgument, match="5 pages is too large; at most 4"):
            use()
    assert isinstance(client.fault(region, 15, 16 * 3 + 1), lib_usm.Allocated)
    assert [(fault.first_page, fault.page_count) for fault in daemon.faults()] == [(0, 4)]


def test_a_region_of_another_client_is_refused(daemon, make_daemon, client):
    with lib_usm.connect(make_daemon().address) as other:
        region = other.mmap(5)
        for use in (lambda: client.fault(region, 0, 1), lambda: client.usm_hint(region, "PRIORITY=LOW")):
            with pytest.raises(lib_usm.InvalidArgument, match="belongs to another client"):
                use()
