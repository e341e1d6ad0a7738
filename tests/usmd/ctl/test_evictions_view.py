import io
import re

from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.console import PIPE_WIDTH
from usmd.ctl.evictions_view import show_evictions


def shown(message):
    console = Console(file=io.StringIO(), width=PIPE_WIDTH, highlight=False, markup=False, color_system=None)
    show_evictions(console, message)
    return [re.split(r" {2,}", line.strip()) for line in console.file.getvalue().splitlines()]


EVICTION = pb.Eviction(seconds_ago=1.25, policy="lru", reason="longest unused", result="swapped")


def test_an_eviction_is_one_line_with_who_chose_it_and_why():
    here = pb.EvictedPage(region_id=2, region_name="index", page=1500, address=0x1000, eviction=EVICTION)
    gone = pb.EvictedPage(region_id=3, page=1, eviction=pb.Eviction(result="unmapped", policy="hint"))
    nameless = pb.EvictedPage(region_id=4, region_name="", page=1, address=0x2000, eviction=EVICTION)
    lines = shown(pb.ListEvictionsResponse(evictions=[here, gone, nameless], records=256, total=5000))
    assert lines[1] == ["1.250 s", "2 index", "1,500", "0x1000", "swapped", "lru", "longest unused"]
    assert lines[2] == ["0.000 s", "3 (gone)", "1", "-", "unmapped", "hint", "no reason given"]
    assert lines[3][1] == "4"
    assert lines[4] == ["3 of 5,000 evictions; the last 256 are on record"]


def test_no_evictions_are_said_to_be_none():
    assert shown(pb.ListEvictionsResponse(records=256)) == [["no evictions on record"]]
