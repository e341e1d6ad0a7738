import json

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb


def test_hints_come_with_the_budget(daemon):
    code, text, _ = daemon.ctl("hints", "indexer")
    assert code == 0
    assert "64 of 512 (12.5%)" in text
    document = json.loads(daemon.ctl("hints", "--format", "json")[1])
    assert (len(document["hint_ranges"]), document["kept_pages"][0]["unevictable_pages"]) == (2, 64)


@pytest.mark.parametrize(
    ("text", "start", "length"),
    [
        ("index", pb.RegionOffset(region_name="index"), None),
        ("7", pb.RegionOffset(region_id=7), None),
        ("index+64KiB", pb.RegionOffset(region_name="index", offset=65536), None),
        ("7+0x1000:1MiB", pb.RegionOffset(region_id=7, offset=4096), 1 << 20),
    ],
)
def test_the_hints_of_a_range_are_removed(daemon, text, start, length):
    code, out, err = daemon.ctl("hints", "indexer", "--clear", text)
    assert (code, out, err) == (0, "region 1, pages 16-23: the hints of 2 ranges were removed\n", "")
    assert daemon.admin.requests[-1] == pb.ClearHintsRequest(process_id=1, start=start, length=length)


@pytest.mark.parametrize("arguments", [["--clear", "index"], ["1", "--clear", "+4"], ["1", "--clear", "index+0:x"]])
def test_a_range_of_nothing_is_bad_usage(daemon, arguments):
    code, out, err = daemon.ctl("hints", *arguments)
    assert (code, out) == (2, "")
    assert err
    assert not daemon.admin.requests
