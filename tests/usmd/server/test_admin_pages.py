"""What the admin service tells on the wire of one page, and of the last evictions."""

import pytest

from tests.support.raw_client import refused
from tests.usmd.server.admin_calls import INVALID, NOT_FOUND, PAGE, TOP, admin, process_of, region
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usm_wire.pb.usm.v1 import client_pb2

__all__ = ["admin", "region"]


# A page


def explain(admin, process, **where):
    return admin.ExplainPage(pb.ExplainPageRequest(process_id=process, **where))


def test_a_page_is_explained_by_address_by_region_number_and_by_region_name(admin, client, region):
    client.hint(region, "PRIORITY=HIGH")
    process = process_of(client)
    address = admin.ListRegions(pb.ListRegionsRequest(process_id=process)).regions[0].address
    answers = [
        explain(admin, process, address=address + 2 * PAGE + 17),
        explain(admin, process, region_offset=pb.RegionOffset(region_id=region, offset=3 * PAGE - 1)),
        explain(admin, process, region_offset=pb.RegionOffset(region_name="index", offset=2 * PAGE)),
    ]
    assert answers[0] == answers[1] == answers[2]
    page = answers[0]
    assert (page.region_id, page.region_name, page.page, page.address) == (region, "index", 2, address + 2 * PAGE)
    assert (page.state, page.HasField("frame"), page.dirty, page.hint.text) == ("PRESENT", True, True, "PRIORITY=HIGH")
    assert list(page.policies) == ["async_aware", "hint_aware", "refuse"]
    assert not page.HasField("slot")


def test_a_page_in_swap_has_its_slot_and_last_eviction(daemon, admin, client, region):
    client.evict(daemon, region, 0, text="SWAP=memory1; DONTNEED")
    assert client.get(region, 0, 4) == b"zero"
    page = explain(admin, process_of(client), region_offset=pb.RegionOffset(region_id=region))
    assert (page.state, page.dirty) == ("PRESENT", False)
    assert (page.slot.device, page.slot.device_name, page.slot.generation) == (1, "memory1", page.slot.generation)
    eviction = page.last_eviction
    assert (eviction.policy, eviction.reason, eviction.result) == ("hint", "DONTNEED", "swapped")
    assert 0 <= eviction.seconds_ago < 20


@pytest.mark.parametrize(
    "where",
    [
        {"address": 0},
        {"address": TOP},
        {"region_offset": pb.RegionOffset(region_name="nowhere")},
        {"region_offset": pb.RegionOffset(region_name="n" * (1 << 15))},
        {"region_offset": pb.RegionOffset(region_id=TOP)},
        {"region_offset": pb.RegionOffset(region_name="index", offset=4 * PAGE)},
        {"region_offset": pb.RegionOffset(region_name="index", offset=TOP)},
    ],
)
def test_a_page_that_does_not_exist_is_not_found(admin, client, region, where):
    request = pb.ExplainPageRequest(process_id=process_of(client), **where)
    assert refused(admin.ExplainPage, request)[:2] == NOT_FOUND


def test_a_region_of_another_process_is_not_found(admin, client, other, region):
    request = pb.ExplainPageRequest(process_id=process_of(other), region_offset=pb.RegionOffset(region_id=region))
    assert refused(admin.ExplainPage, request)[:2] == NOT_FOUND


def test_no_page_at_all_is_refused(admin, client):
    answer = refused(admin.ExplainPage, pb.ExplainPageRequest(process_id=process_of(client)))
    assert answer[:2] == INVALID


def test_the_last_evictions_are_listed_newest_first(daemon, admin, client, region):
    process = process_of(client)
    for page in (0, 2):
        client.evict(daemon, region, page)
    answer = admin.ListEvictions(pb.ListEvictionsRequest(process_id=process))
    assert [(each.region_id, each.region_name, each.page) for each in answer.evictions] == [
        (region, "index", 2),
        (region, "index", 0),
    ]
    assert (answer.records, answer.total) == (256, 2)
    eviction = answer.evictions[0].eviction
    assert (eviction.policy, eviction.reason, eviction.result) == ("hint", "DONTNEED", "swapped")
    (last,) = admin.ListEvictions(pb.ListEvictionsRequest(process_id=process, limit=1)).evictions
    assert last.page == 2
    place = pb.RegionOffset(region_name="index", offset=5)
    (first,) = admin.ListEvictions(pb.ListEvictionsRequest(process_id=process, region_offset=place)).evictions
    assert first.page == 0
    client.call("UnmapRegion", client_pb2.UnmapRegionRequest(region_id=region))
    gone = admin.ListEvictions(pb.ListEvictionsRequest(process_id=process)).evictions
    assert [(each.HasField("region_name"), each.address) for each in gone] == [(False, 0)] * 2
    assert refused(admin.ListEvictions, pb.ListEvictionsRequest(process_id=process, address=1))[:2] == NOT_FOUND
