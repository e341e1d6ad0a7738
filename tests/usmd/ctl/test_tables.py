import io
import re

import pytest
from rich.console import Console

from lib_usm.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl import tables
from usmd.ctl.console import PIPE_WIDTH


def shown(show, messages, width=PIPE_WIDTH):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False, color_system=None)
    show(console, messages)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def columns(line):
    return re.split(r" {2,}", line.strip())


PROCESS = pb.Process(
    process_id=1, name="indexer", pid=211, uid=0, alloc_policy="flexible_huge_pages(pages=8)",
    evict_policy="hint_aware", oom_policy="refuse", regions=2, mapped_bytes=8 << 20, resident_pages=1700,
    swapped_pages=900, denied_pages=64,
)  # fmt: skip


def test_a_process_is_one_line_behind_a_pipe():
    header, line = shown(tables.show_processes, [PROCESS])
    policies = "flexible_huge_pages(pages=8), hint_aware, refuse"
    assert columns(line) == ["1", "indexer", "211", "0", "2", "8 MiB", "1,700", "900", "64", policies]
    assert len(columns(header)) == len(columns(line))


def test_a_process_for_which_nobody_vouched_has_no_pid_and_no_user():
    line = shown(tables.show_processes, [pb.Process(process_id=1, name="x", alloc_policy="a")])[1]
    assert columns(line)[:4] == ["1", "x", "-", "-"]


@pytest.mark.parametrize("width", [10, 40, 80, 120])
def test_no_number_and_no_name_is_cut_in_a_narrow_terminal(width):
    text = "\n".join(shown(tables.show_processes, [PROCESS], width))
    assert "\u2026" not in text
    assert all(word in text for word in ("indexer", "8 MiB", "1,700"))


def test_names_cannot_steer_the_terminal_and_are_not_markup():
    line = shown(tables.show_processes, [pb.Process(name="[red]\x1b[2J:smile:")])[1]
    assert "[red]\\x1b[2J:smile:" in line


def test_a_region_is_one_line():
    region = pb.RegionInfo(
        region_id=2, process_id=1, address=1 << 63, length=100, resident_pages=1, swapped_pages=2, faults=3,
        major_faults=4, evictions=5000,
    )  # fmt: skip
    line = shown(tables.show_regions, [region])[1]
    assert columns(line) == ["2", "-", "1", "0x8000000000000000", "100 B", "1", "2", "3", "4", "5,000"]


def test_a_policy_tells_whether_it_is_the_default_and_who_uses_it():
    lru = pb.Policy(kind="evict", name="lru", summary="longest unused first", process_ids=[2, 3], errors=7)
    first_fit = pb.Policy(kind="alloc", name="first_fit", summary="lowest free", is_default=True)
    _, one, two = shown(tables.show_policies, [lru, first_fit])
    assert columns(one) == ["evict", "lru", "-", "2, 3", "7", "longest unused first"]
    assert columns(two) == ["alloc", "first_fit", "yes", "-", "0", "lowest free"]


def test_a_swap_device_tells_its_share_in_use():
    device = pb.SwapDevice(number=3, name="file0", kind="file", path="/s", slots=1000, free_slots=750, errors=1)
    assert columns(shown(tables.show_swap_devices, [device])[1]) == [
        "3", "file0", "file", "1,000", "250", "25.0%", "0", "0", "0", "1", "/s",
    ]  # fmt: skip


def test_a_hint_tells_its_range_and_its_end():
    hint = pb.HintRange(hint_id=7, process_id=1, region_id=2, first_page=8, page_count=8, text="TTL=30")
    assert columns(shown(tables.show_hints, [hint])[1]) == ["7", "1", "2", "8-15", "0", "0", "-", "TTL=30"]
    hint.expires_in_seconds = 12.5
    hint.page_count = 1
    assert columns(shown(tables.show_hints, [hint])[1]) == ["7", "1", "2", "8", "0", "0", "12.5 s", "TTL=30"]


@pytest.mark.parametrize(
    "show",
    [
        tables.show_processes,
        tables.show_regions,
        tables.show_policies,
        tables.show_swap_devices,
        tables.show_hints,
    ],
)
def test_an_empty_list_says_so(show):
    (line,) = shown(show, [])
    assert line.startswith("no ")


def test_an_event_is_one_line_with_its_details():
    event = pb.Event(
        time_seconds=1.7e9, kind="swap_error", process_id=4, message="read\nfailed", fields={"b": "2", "a": "1"}
    )
    line = tables.event_line(event)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.000  swap_error          process 4     read\\nfailed  a=1  b=2", line.plain
    )
    assert any("red" in str(span.style) for span in line.spans)
    assert not any("red" in str(span.style) for span in tables.event_line(pb.Event(kind="process_attached")).spans)


HINT = pb.HintRange(
    hint_id=5, process_id=2, region_id=3, page_count=6144, text="PRIORITY=LOW; SWAP=ssd; TTL=600; X_NOTE=a long one",
    expires_in_seconds=593.7, resident_pages=1_234,
)  # fmt: skip
REGION = pb.RegionInfo(
    region_id=1, process_id=2, name="index of everything", address=0x1000000000, length=24 << 20, resident_pages=1_024,
    swapped_pages=3_712, faults=4_736, major_faults=12, evictions=900,
)  # fmt: skip


@pytest.mark.parametrize("width", range(60, 131))
def test_no_character_is_lost_at_any_width(width):
    for show, message, cells in (
        (tables.show_hints, HINT, [HINT.text, "593.7 s", "1,234", "0-6143"]),
        (tables.show_regions, REGION, [REGION.name, "24 MiB", "0x1000000000", "1,024", "3,712", "4,736", "900"]),
    ):
        lines = shown(show, [message], width)
        assert "\u2026" not in "".join(lines)
        text = "".join("".join(lines[1:]).split())
        for cell in cells[1:]:
            assert "".join(cell.split()) in text
        column = lines[0].index("TEXT") if message is HINT else lines[0].index("NAME")
        if message is HINT:  # the only cell that wraps stands alone in the last column
            text = "".join("".join(line[column:].split()) for line in lines[1:])
        assert "".join(cells[0].split()) in text
