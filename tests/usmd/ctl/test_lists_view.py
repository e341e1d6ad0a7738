import io
import re

import pytest
from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl import lists_view
from usmd.ctl.console import PIPE_WIDTH


def shown(show, messages, width=PIPE_WIDTH):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False, color_system=None)
    show(console, messages)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def columns(line):
    return re.split(r" {2,}", line.strip())


PROCESS = pb.Process(
    process_id=1, order=3, name="indexer", pid=211, uid=0, alloc_policy="flexible_huge_pages(pages=8)",
    evict_policy="hint_aware", oom_policy="refuse", regions=2, mapped_bytes=8 << 20, resident_pages=1700,
    swapped_pages=900, unevictable_pages=64,
)  # fmt: skip


def test_a_process_is_one_line_behind_a_pipe():
    header, line = shown(lists_view.show_processes, [PROCESS])
    policies = "flexible_huge_pages(pages=8), hint_aware, refuse"
    shown_line = ["1", "indexer", "211", "0", "3", "2", "8 MiB", "1,700", "900", "64", "0", "0.0%", "-", policies]
    assert columns(line) == shown_line
    assert len(columns(header)) == len(columns(line))


def test_the_pressure_on_a_process_is_that_of_10_seconds_and_full_where_it_is_known():
    line = pb.PressureLine(avg10=0.5, avg60=0.1)
    full = pb.Process(name="a", pressure=pb.Pressure(some=line, full=pb.PressureLine(avg10=0.125)))
    some = pb.Process(name="b", pressure=pb.Pressure(some=line))
    header, *lines = shown(lists_view.show_processes, [full, some])
    first = columns(header).index("PRESSURE")
    assert [columns(each)[first : first + 2] for each in lines] == [["50.0%", "12.5%"], ["50.0%", "-"]]


def test_a_process_for_which_nobody_vouched_has_no_pid_and_no_user():
    line = shown(lists_view.show_processes, [pb.Process(process_id=1, name="x", alloc_policy="a")])[1]
    assert columns(line)[:4] == ["1", "x", "-", "-"]


def test_a_frozen_process_has_its_faults_and_for_how_long_and_others_none():
    header, frozen, other = shown(
        lists_view.show_processes, [pb.Process(name="x", frozen_faults=1234, frozen_seconds=61.7), pb.Process(name="y")]
    )
    at = columns(header).index("FROZEN")
    assert [columns(line)[at] for line in (frozen, other)] == ["1,234 for 62 s", "-"]
    assert "FROZEN" not in shown(lists_view.show_processes, [pb.Process(name="y")])[0]


def test_names_cannot_steer_the_terminal_and_are_not_markup():
    line = shown(lists_view.show_processes, [pb.Process(name="[red]\x1b[2J:smile:")])[1]
    assert "[red]\\x1b[2J:smile:" in line


def test_a_region_is_one_line():
    region = pb.RegionInfo(
        region_id=2, process_id=1, address=1 << 63, length=100, resident_pages=1, swapped_pages=2, faults=3,
        major_faults=4, evictions=5000, along_pages=6, along_used_pages=7, along_unused_pages=8,
    )  # fmt: skip
    line = shown(lists_view.show_regions, [region])[1]
    assert columns(line) == ["2", "-", "1", "0x8000000000000000", "100 B", "1", "2", "3", "4", "5,000", "6", "7", "8"]


def test_why_a_swap_device_has_its_way_of_io_is_told_below():
    devices = [pb.SwapDevice(name="disk", io="threads", io_reason="io_uring: no"), pb.SwapDevice(name="a", io="aio")]
    lines = shown(lambda console, each: lists_view.show_swap_devices(console, each, 4096), devices)
    assert lines[3:] == ["disk: threads, because io_uring: no"]


@pytest.mark.parametrize(
    ("mirror", "state", "words"),
    [
        (pb.Mirror(in_step=True), "in step", "in step"),
        (pb.Mirror(in_step=True, local_only_pages=2), "in step", "in step, 2 pages in the local part alone"),
        (
            pb.Mirror(away=True, pages_to_repair=1234, reason="no [b]answer"),
            "degraded",
            "degraded, 1,234 pages to repair, the far part is away: no [b]answer",
        ),
    ],
)
def test_how_the_parts_of_a_mirror_stand_is_told_in_its_line_and_below(mirror, state, words):
    mirror.far_kind, mirror.local_kind = "memory", "file"
    device = pb.SwapDevice(name="m", kind="mirror", state="active", mirror=mirror)
    lines = shown(lambda console, each: lists_view.show_swap_devices(console, each, 4096), [device])
    assert f" {state} " in lines[1]
    assert lines[2:] == [f"m: mirror of memory (far) and file (local), {words}"]


def test_a_swap_device_tells_what_it_holds_its_share_and_how_well_it_compresses():
    device = pb.SwapDevice(
        number=3, name="zip", kind="compressed", path="/s", slots=1000, free_slots=750, errors=1, pages_refused=7,
        capacity_bytes=2 << 20, held_bytes=512 << 10, stored_bytes=500 << 10, io="threads", read_p50_seconds=8e-6,
        read_p99_seconds=1.25e-3,
    )  # fmt: skip
    line = shown(lambda console, devices: lists_view.show_swap_devices(console, devices, 4096), [device])[1]
    assert " ".join(line.split()) == (
        "3 zip compressed 1,000 (3.9 MiB) 250 (1000 KiB) 512 KiB 25.0% 1.95 0 0 8 µs 1.25 ms 0 7 1 threads /s"
    )
    empty = pb.SwapDevice(number=0, name="m", kind="memory", slots=8, free_slots=8)
    line = shown(lists_view.show_swap_devices, [empty])[1]
    assert " ".join(line.split()) == "0 m memory 8 0 0 B - - 0 0 - - 0 0 0 - -"


@pytest.mark.parametrize(
    "show",
    [
        lists_view.show_processes,
        lists_view.show_regions,
        lists_view.show_swap_devices,
    ],
)
def test_an_empty_list_says_so(show):
    (line,) = shown(show, [])
    assert line.startswith("no ")


def test_a_budget_is_shown_where_there_is_one():
    titles = [[column.title for column in lists_view.process_columns(budgets=budgets)] for budgets in (False, True)]
    assert [title for title in titles[1] if title not in titles[0]] == [">MAX"]


def test_what_counts_against_a_swap_max_is_shown_beside_what_it_allows_where_there_is_one():
    assert "SWAP_MAX" not in shown(lists_view.show_processes, [PROCESS])[0]
    limited = pb.Process(name="hog", memory_max_pages=64, swap_max_pages=1024, swap_max_used_pages=256)
    none = pb.Process(name="none", memory_max_pages=64, swap_max_pages=0)
    header, *lines = shown(lists_view.show_processes, [limited, none, PROCESS])
    assert "OF SWAP_MAX" in columns(header)
    assert [columns(line)[columns(header).index("OF SWAP_MAX")] for line in lines] == [
        "256 of 1,024 (25.0%)", "0 of 0", "-",
    ]  # fmt: skip


def test_limits_in_numbers_are_shown_beside_what_there_is_where_a_process_has_some():
    assert "LIMITS" not in columns(shown(lists_view.show_processes, [PROCESS])[0])
    limited = pb.Process(
        name="hog", regions=3, max_regions=4, waiting_pages=1, max_faults=8, pinned_pages=2, unevictable_pages=5,
        deny_budget_pages=1000, hint_ranges=9, max_hint_ranges=0,
    )  # fmt: skip
    assert lists_view.quotas_of(limited) == "max_regions 3/4, max_hint_ranges 9/0, max_faults 1/8, deny_budget 7/1,000"
    header, line, other = shown(lists_view.show_processes, [limited, PROCESS])
    at = columns(header).index("LIMITS")
    assert columns(other)[at] == "-"
    assert columns(line)[at].startswith("max_regions 3/4, max_h")
