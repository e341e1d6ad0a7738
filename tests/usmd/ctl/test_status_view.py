import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.console import PIPE_WIDTH
from usmd.ctl.status_view import format_duration, format_latency, group_counters, show_status, split_bar


def shown(status, width=PIPE_WIDTH):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False, color_system=None)
    show_status(console, status)
    return console.file.getvalue()


def a_status(**fields):
    base = {
        "version": "0.1.0", "pid": 7, "uptime_seconds": 61, "mechanism": "simulated", "page_size": 4096, "frames": 1000,
        "free_frames": 500, "present_frames": 480, "filling_frames": 10, "evicting_frames": 10, "dirty_frames": 240,
        "unevictable_frames": 100, "pinned_frames": 1, "low_watermark_frames": 50, "high_watermark_frames": 100,
        "processes": 2, "regions": 3, "swap_slots": 2048, "free_swap_slots": 1024,
        "swap_capacity_bytes": 8 << 20, "swap_held_bytes": 3 << 20,
    }  # fmt: skip
    return pb.GetStatusResponse(**{**base, **fields})


def row(text, name):
    return next(line.split() for line in text.splitlines() if line.removeprefix("Memory").strip().startswith(name))


def test_every_state_of_frames_is_told_in_frames_bytes_and_share():
    text = shown(a_status())
    assert row(text, "free")[-4:] == ["500", "2.0", "MiB", "50.0%"]
    assert row(text, "dirty")[-4:] == ["240", "960", "KiB", "24.0%"]
    assert row(text, "unevictable")[-4:] == ["100", "400", "KiB", "10.0%"]
    for name, count in (
        ("filling", "10"),
        ("present", "480"),
        ("pinned", "1"),
        ("evicting", "10"),
        ("frames", "1,000"),
    ):
        assert count in row(text, name)


def test_the_bar_shows_the_shares():
    bar = next(line for line in shown(a_status()).splitlines() if line.startswith("["))
    assert [bar.count(letter) for letter in "CDFE."] == [17, 17, 1, 1, 36]
    assert len(bar) == 74


@pytest.mark.parametrize(
    ("free", "words"),
    [(49, "pages are evicted where possible"), (50, "between low and high"), (100, "at or above high")],
)
def test_watermarks_tell_where_free_memory_stands(free, words):
    assert words in shown(a_status(free_frames=free))


def test_swap_sessions_and_draining_are_told():
    text = shown(a_status(draining=True))
    assert "1,024 slots used, 3 MiB of 8 MiB (37.5%)" in text
    assert "2 with 3 regions" in text
    assert "swap_max" not in text
    budgets = shown(a_status(processes_at_memory_max=2, processes_at_swap_max=1))
    assert "2 with 3 regions; 2 at their memory_max; 1 at their swap_max" in budgets
    assert "2 with 3 regions; 1 frozen" in shown(a_status(frozen_processes=1))
    assert "DRAINING" in text
    assert "DRAINING: no new session is taken, sessions end in 12 s" in shown(
        a_status(draining=True, drain_seconds_left=12.3)
    )
    assert "DRAINING" not in shown(a_status())
    assert "%); 1 retiring" in shown(a_status(retiring_swap_devices=1))
    assert "Swap        none" in shown(a_status(swap_slots=0, free_swap_slots=0))


def test_pressure_is_told_as_the_kernel_tells_it():
    some = pb.PressureLine(avg10=0.12345, avg60=0.05, avg300=1.0, total_us=1_234_567)
    text = shown(a_status(pressure=pb.Pressure(some=some)))
    line = "some  12.35% of 10 s  5.00% of 60 s  100.00% of 300 s  total 1,234,567 µs"
    assert f"Pressure    {line}" in text
    assert "full" not in text
    both = shown(a_status(pressure=pb.Pressure(some=some, full=pb.PressureLine())))
    assert "            full   0.00% of 10 s" in both


def test_a_daemon_without_frames_is_no_division_by_zero():
    assert "0.1.0" in shown(pb.GetStatusResponse(version="0.1.0"))


def test_a_pipe_gets_no_padding_to_its_width():
    text = shown(a_status(counters={"faults": 5, "evictions": 2}))
    assert max(len(line) for line in text.splitlines()) < 200


def test_counters_are_shown_in_groups():
    text = shown(a_status(counters={"major_faults": 12345, "evictions": 6}))
    assert "Faults      12,345 major faults" in text
    assert "Eviction    6 evictions" in text


def test_a_counter_goes_where_its_name_says_and_an_unknown_one_is_not_lost():
    groups = group_counters({"policy_errors": 1, "faults": 2, "swap_reads": 3, "unheard_of": 4, "minor_faults": 5})
    assert list(groups) == ["Faults", "Swap", "Policies", "Other"]
    assert groups["Faults"] == {"faults": 2, "minor_faults": 5}
    assert groups["Other"] == {"unheard_of": 4}


@given(st.dictionaries(st.text(), st.integers(0, 9)))
def test_grouping_loses_no_counter(counters):
    merged = {name: count for group in group_counters(counters).values() for name, count in group.items()}
    assert merged == counters


@given(st.integers(5, 200), st.lists(st.integers(0, 10**12), min_size=5, max_size=5))
def test_a_bar_is_full_and_shows_all_that_is_there(width, counts):
    cells = split_bar(width, counts)
    assert sum(cells) == (width if any(counts) else 0)
    assert all((cell > 0) == (count > 0) for cell, count in zip(cells, counts, strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.2 s"), (61, "1 min 1 s"), (3725, "1 h 2 min"), (200_000, "2 d 7 h")]
)
def test_a_duration_has_the_two_units_that_matter(seconds, text):
    assert format_duration(seconds) == text


def test_latencies_of_what_was_timed_are_told_with_their_tail():
    latencies = [
        pb.Latency(operation="real_faults", count=12_345, p50_seconds=23.4e-6, p99_seconds=0.00151),
        pb.Latency(operation="explicit_faults"),
        pb.Latency(operation="swap_in", device="disk", count=7, p50_seconds=0.5, p99_seconds=2.25),
    ]
    lines = [" ".join(line.split()) for line in shown(a_status(latencies=latencies)).splitlines()]
    assert "Latency real faults p50 23.4 µs p99 1.51 ms of 12,345" in lines
    assert "swap in disk p50 500 ms p99 2.25 s of 7" in lines
    assert not any("explicit" in line for line in lines)
    assert "Latency" not in shown(a_status(latencies=latencies[1:2]))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 µs"), (4.2e-7, "0.42 µs"), (1e-3, "1 ms"), (0.0123, "12.3 ms"), (12.0, "12 s")]
)
def test_a_latency_has_the_unit_that_suits_it(seconds, text):
    assert format_latency(seconds) == text


@pytest.mark.parametrize(
    ("sampling", "says"),
    [("pageout", "sampled, by pageout"), ("off: the kernel has swap", "faults alone: the kernel has swap")],
)
def test_a_line_says_how_touches_are_heard_of(sampling, says):
    assert row(shown(a_status(sampling=sampling)), "Touches") == ["Touches", *says.split()]
    assert "Touches" not in shown(a_status())


@pytest.mark.parametrize(
    ("counters", "rests", "says"),
    [
        ({}, False, ""),
        ({"faults": 300, "minor_faults_sampled": 100}, True, "; 25% of all faults; at rest until it is less"),
    ],
)
def test_a_line_says_what_hearing_of_touches_costs(counters, rests, says):
    status = a_status(sampling="pageout", sampling_cpu=0.031, sampling_cpu_max=0.25, sampling_rests=rests)
    status.counters.clear()
    status.counters.update(counters)
    costs = "sampled, by pageout; 3.1% of the daemon's CPU of late, of 25% at most"
    assert row(shown(status), "Touches") == ["Touches", *(costs + says).split()]


def test_what_came_along_with_faults_is_shown_with_its_use():
    counters = {"read_ahead": 512, "read_ahead_used": 256, "read_ahead_unused": 16}
    said = "2 MiB came in along with faults; 1 MiB known to be used, 64 KiB evicted unused"
    assert row(shown(a_status(page_size=4096, counters=counters)), "Along") == ["Along", *said.split()]
    assert "came in along" not in shown(a_status())
