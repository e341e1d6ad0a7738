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


def test_a_swap_device_tells_its_share_in_use():
    device = pb.SwapDevice(number=3, name="file0", kind="file", path="/s", slots=1000, free_slots=750, errors=1)
    assert columns(shown(tables.show_swap_devices, [device])[1]) == [
        "3", "file0", "file", "1,000", "250", "25.0%", "0", "0", "0", "1", "/s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "show",
    [
        tables.show_processes,
        tables.show_regions,
        tables.show_swap_devices,
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


REGION = pb.RegionInfo(
    region_id=1, process_id=2, name="index of everything", address=0x1000000000, length=24 << 20, resident_pages=1_024,
    swapped_pages=3_712, faults=4_736, major_faults=12, evictions=900,
)  # fmt: skip


@pytest.mark.parametrize("width", range(60, 131))
def test_no_character_is_lost_at_any_width(width):
    lines = shown(tables.show_regions, [REGION], width)
    assert "\u2026" not in "".join(lines)
    text = "".join("".join(lines[1:]).split())
    for cell in (REGION.name, "24 MiB", "0x1000000000", "1,024", "3,712", "4,736", "900"):
        assert "".join(cell.split()) in text


@pytest.mark.parametrize(("first", "count", "text"), [(8, 8, "8-15"), (8, 1, "8"), (0, 0, "0")])
def test_a_range_is_its_first_and_last_page(first, count, text):
    assert tables.page_range(pb.HintRange(first_page=first, page_count=count)) == text


@pytest.mark.parametrize(
    ("kind", "bad"),
    [("policy_replaced", True), ("policy_set", False), ("page_poisoned", True), ("thread_blocked", True)],
)
def test_an_event_that_asks_for_action_is_red(kind, bad):
    assert any("red" in str(span.style) for span in tables.event_line(pb.Event(kind=kind)).spans) is bad
