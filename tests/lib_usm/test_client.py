"""What a client says of itself, and the regions that it makes."""

import grpc
import pytest

import lib_usm


def test_the_session_is_told(daemon, client):
    assert client.process_id == 7
    assert client.page_size == 16
    assert client.max_fault_pages == 4
    assert client.address == daemon.address
    assert repr(client) == f"<Client 7 of {daemon.address}>"


@pytest.mark.parametrize("length", [0, -1, 1 << 63, 1 << 80])
def test_impossible_lengths_are_refused_before_anything_is_sent(daemon, client, length):
    with pytest.raises(lib_usm.InvalidArgument, match=f"region of {length} bytes"):
        client.mmap(length)
    assert not daemon.requests("MapRegion")


def test_a_region_gets_its_name(daemon, client):
    client.mmap(5, name="index")
    client.mmap(6)
    assert [(r.length, r.name) for r in daemon.requests("MapRegion")] == [(5, "index"), (6, "")]


def test_a_region_may_be_made_with_a_size_of_huge_pages(daemon, client, wire):
    kept = client.mmap(64, fhp="128K")
    assert [(r.offset, r.length, r.text) for r in daemon.requests("HintRegion")] == [(0, 64, "FHP=128K")]
    text = "hint FHP=banana is not allowed"
    daemon.refusals["HintRegion"] = wire.rich_status(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_HINT", text)
    with pytest.raises(lib_usm.InvalidHint, match="banana"):
        client.mmap(64, fhp="banana")
    assert [r.region_id for r in daemon.requests("UnmapRegion")] == [kept.region_id + 1]


@pytest.mark.parametrize("fhp", ["64K; EVICTION=DENY", 64, "\ud800"])
def test_a_size_of_huge_pages_that_is_no_size_is_refused_before_a_region_is_made(daemon, client, fhp):
    with pytest.raises(lib_usm.InvalidHint, match="fhp"):
        client.mmap(64, fhp=fhp)
    assert not daemon.requests("MapRegion")


def test_text_that_is_no_text_is_refused(client):
    region = client.mmap(5)
    with pytest.raises(lib_usm.InvalidArgument, match="region name"):
        client.mmap(5, name="\ud800")
    with pytest.raises(lib_usm.InvalidHint, match="hint"):
        client.usm_hint(region, "X_A=\ud800")


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, 0), (64, None), (65, None), (60, 5), (0, -1)])
def test_ranges_outside_are_refused_for_hints_and_faults(daemon, client, offset, length):
    region = client.mmap(64)
    with pytest.raises(lib_usm.OutOfRange):
        client.usm_hint(region, "PRIORITY=LOW", offset, length)
    with pytest.raises(lib_usm.OutOfRange):
        client.fault(region, offset, 0 if length is None else length)
    assert len(daemon.calls) == 2  # Attach, MapRegion


# More than there is


def test_more_than_memory_and_swap_is_a_warning_and_with_reserve_an_error_before_anything_is_made(make_daemon):
    daemon = make_daemon(capacity_bytes=10 * 16)
    with lib_usm.connect(daemon.address) as client:
        first = client.mmap(100, reserve=True)  # 7 pages
        with pytest.raises(
            lib_usm.LimitExceeded, match=r"49 bytes this session maps 176 bytes.* for 160 bytes, which all"
        ):
            client.mmap(49, reserve=True)
        assert len(daemon.requests("MapRegion")) == 1
        kept = client.mmap(48, reserve=True)
        with pytest.warns(UserWarning, match="maps 176 bytes") as caught:
            client.mmap(1)
        assert caught[0].filename == __file__
        first.close()
        assert len(client.mmap(96, reserve=True)) == 2 * len(kept)


def test_a_daemon_that_does_not_tell_what_it_has_is_not_asked_for_it(client):
    client.mmap(1 << 40, reserve=True)
