import json

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb


def test_a_page_is_explained(daemon):
    code, text, _ = daemon.ctl("explain", "indexer", "index+64KiB")
    assert code == 0
    assert "SWAPPED" in text
    assert daemon.admin.explained == pb.ExplainPageRequest(
        process_id=1, region_offset=pb.RegionOffset(region_name="index", offset=65536)
    )


def test_the_last_evictions_are_listed_of_all_pages_or_of_one(daemon):
    code, text, _ = daemon.ctl("explain", "indexer", "--evictions", "20")
    assert code == 0
    assert "longest unused" in text
    assert daemon.admin.requests[-1] == pb.ListEvictionsRequest(process_id=1, limit=20)
    document = json.loads(daemon.ctl("explain", "1", "0x10", "--evictions", "0", "--format", "json")[1])
    assert daemon.admin.requests[-1] == pb.ListEvictionsRequest(process_id=1, address=16)
    assert document["evictions"][0]["eviction"]["reason"] == "longest unused"


@pytest.mark.parametrize("arguments", [[], ["index"], ["--evictions", "-1"], ["x", "--evictions", "1"]])
def test_neither_page_nor_evictions_is_bad_usage(daemon, arguments):
    code, out, err = daemon.ctl("explain", "1", *arguments)
    assert (code, out) == (2, "")
    assert err
    assert not daemon.admin.requests
