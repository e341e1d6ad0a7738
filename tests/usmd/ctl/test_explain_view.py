import io

import pytest
from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.ctl.console import PIPE_WIDTH
from usmd.ctl.explain_view import show_page


def facts(width=PIPE_WIDTH, **fields):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False, color_system=None)
    show_page(console, pb.ExplainPageResponse(process_id=1, region_id=2, page=16, address=0x10010, **fields))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return lines[0], {line[2:15].strip(): line[17:] for line in lines[1:]}


SLOT = pb.SlotInfo(device=1, device_name="file0", slot=42, generation=3)
DENY = pb.HintRange(
    hint_id=7, first_page=0, page_count=64, text="EVICTION=DENY",
    fields=common_pb2.HintFields(eviction=common_pb2.HintFields.EVICTION_DENY),
)  # fmt: skip


def test_the_heading_names_the_page():
    heading, _ = facts(state="ABSENT", region_name="index")
    assert heading == "Page 16 of region 2 'index' of process 1, at 0x10010"


def test_a_page_that_was_never_touched_has_nothing():
    _, told = facts(state="ABSENT")
    assert told["State"].startswith("ABSENT: it was never touched")
    assert told["Frame"] == told["Slot"] == "none"
    assert told["Hint"] == "none in force"
    assert told["Waiting"] == "no fault waits for it"
    assert facts(state="ABSENT", evictions_on_record=5, eviction_records=256)[1]["Last eviction"] == (
        "none: the page was never evicted"
    )


def test_frame_zero_is_a_frame():
    _, told = facts(state="PRESENT", frame=0)
    assert told["Frame"] == "0"
    assert told["Slot"] == "none: its bytes are in the frame only"


@pytest.mark.parametrize(("dirty", "words"), [(True, "newer (dirty)"), (False, "the same (clean)")])
def test_frame_and_slot_are_compared(dirty, words):
    _, told = facts(state="PRESENT", frame=5, slot=SLOT, dirty=dirty)
    assert told["Slot"] == f"42 on device 1 (file0), generation 3; the frame is {words}"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": "PRESENT", "pinned": True, "unevictable": True}, "not allowed: its process pinned it"),
        ({"state": "PRESENT", "held": True}, "not now: the page is held"),
        ({"state": "PRESENT", "dirty": True, "at_swap_max": True}, "not now: the page is dirty, and its process is at"),
        ({"state": "PRESENT", "at_swap_max": True}, "allowed: the page is clean"),
        ({"state": "PRESENT", "unevictable": True, "hint": DENY}, "not allowed: EVICTION=DENY protects it"),
        ({"state": "PRESENT", "hint": DENY}, "but the budget for that is spent"),
        (
            {"state": "PRESENT", "dirty": True, "at_memory_min": True},
            "only for its own process, which has no more than",
        ),
        ({"state": "PRESENT", "dirty": True}, "the page is dirty"),
        ({"state": "PRESENT"}, "the page is clean"),
        ({"state": "SWAPPED", "slot": SLOT}, "not in memory"),
    ],
)
def test_whether_the_page_may_go_is_told_with_the_cause(fields, words):
    assert words in facts(**fields)[1]["Eviction"]


def test_the_hint_in_force_is_told_with_its_range_and_end():
    assert facts(state="PRESENT", hint=DENY)[1]["Hint"] == "EVICTION=DENY (hint 7, pages 0-63, without end)"
    ending = pb.HintRange(hint_id=7, page_count=1, text="TTL=9", expires_in_seconds=8.5)
    assert facts(state="PRESENT", hint=ending)[1]["Hint"] == "TTL=9 (hint 7, pages 0, ends in 8.5 s)"
    without_effect = pb.HintRange(hint_id=7, page_count=1, text="FHP=64KiB", unheeded_keys=["FHP", "X_A"])
    assert facts(state="PRESENT", hint=without_effect)[1]["Hint"].endswith(
        "; no policy of the process acts on FHP, X_A"
    )


@pytest.mark.parametrize(("count", "words"), [(1, "1 fault waits for it"), (2, "2 faults wait for it")])
def test_waiting_faults_are_counted(count, words):
    assert facts(state="FILLING", waiting_faults=count)[1]["Waiting"] == words


def test_the_last_eviction_tells_when_by_whom_why_and_what_came_of_it():
    eviction = pb.Eviction(seconds_ago=3.2, policy="lru", reason="longest unused", result="zero")
    told = facts(state="SWAPPED", last_eviction=eviction)[1]["Last eviction"]
    assert told == "3.2 s ago by lru: longest unused; zero (it held only zeros, so it took no slot)"


def test_words_of_a_newer_daemon_are_passed_on():
    _, told = facts(state="DREAMING", last_eviction=pb.Eviction(policy="p", result="sold"))
    assert told["State"] == "DREAMING"
    assert told["Last eviction"].endswith("by p: no reason given; sold")


def test_policies_of_the_process_are_listed():
    assert facts(state="ABSENT", policies=["first_fit", "lru", "refuse"])[1]["Policies"] == "first_fit, lru, refuse"


def test_an_eviction_longer_ago_than_the_record_reaches_is_not_called_none():
    told = facts(state="SWAPPED", evictions_on_record=256, eviction_records=256)[1]["Last eviction"]
    assert told == "not among the last 256 of its process; earlier ones are not on record"
