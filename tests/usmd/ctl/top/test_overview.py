import pytest

from tests.usmd.ctl.top.conftest import process, reading, terminal
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.memory_map import By
from usmd.ctl.top.overview import device_lines, heading, memory_map, meters
from usmd.ctl.top.rates import Rates

RATES = Rates(68_801.0, 20_634.0, 17_196.0, 20_634.0, 13_756.0)
WIDTHS = [20, 40, 60, 80, 200]


def device(number, **fields):
    return pb.SwapDevice(
        **{"number": number, "name": f"file{number}", "capacity_bytes": 128 << 20, "held_bytes": 32 << 20} | fields
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(width):
    now = reading(100.0, [process(1, "日本語" * 9)], cells=90, devices=[device(1, name="日本語" * 9)], draining=True)
    for text in (
        heading(now, ["PAUSED"], width),
        meters(terminal(), now, RATES, width),
        memory_map(terminal(), now, By.STATE, width, 3),
        memory_map(terminal(), now, By.OWNER, width, 3),
        device_lines(terminal(), now, None, width, 3),
    ):
        assert all(line.cell_len <= width for line in text.split("\n")), text.plain


def test_the_heading_has_as_many_facts_as_there_is_room_for():
    now = reading(62.0, [process(1)])
    assert heading(now, ["every 1 s"], 80).plain.split("  ")[0] == "usmd 0.1.0"
    wide, narrow = (heading(now, ["every 1 s"], width).plain for width in (80, 40))
    assert wide.endswith("every 1 s")
    assert "up 1 min 2 s, 1 process, simulated, pid 4711 " in wide
    assert "up 1 min 2 s " in narrow
    assert "process" not in narrow
    assert "DRAINING" in heading(reading(1.0, draining=True), [], 80).plain


def test_the_heading_says_when_sessions_end_and_how_many_processes_are_frozen():
    now = reading(1.0, draining=True, drain_seconds_left=28.4, frozen_processes=2)
    assert "usmd 0.1.0  DRAINS in 28.4 s  2 FROZEN  up" in heading(now, [], 80).plain


def test_a_device_that_retires_says_how_far_that_is_and_the_swap_meter_that_there_is_one():
    half = device(1, state="retiring", retiring_pages=100, slots=1000, free_slots=950)
    for width in (80, 200):
        line = device_lines(terminal(), reading(1.0, devices=[half]), None, width, 2).plain
        assert line.startswith("file1 [")
        assert line.endswith("retiring 50%")
    half.errors = 2
    assert "retiring 50% 2 errors" in device_lines(terminal(), reading(1.0, devices=[half]), None, 80, 2).plain
    now = reading(1.0, retiring_swap_devices=1)
    assert meters(terminal(), now, None, 80).plain.splitlines()[1].endswith("25.0% used, 1 retiring")


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        (pb.Mirror(in_step=True), "0 errors"),
        (pb.Mirror(away=True, pages_to_repair=896), "far away, 896 to repair"),
        (pb.Mirror(away=True), "far away"),
        (pb.Mirror(pages_to_repair=23_456), "23,456 to repair"),
    ],
)
def test_a_mirror_whose_parts_are_not_in_step_says_what_is_wrong(mirror, words):
    pair = device(1, state="active", mirror=mirror)
    for width in (80, 200):
        assert device_lines(terminal(), reading(1.0, devices=[pair]), None, width, 2).plain.endswith(words)


def test_the_meters_show_memory_swap_pressure_and_rates():
    pressure = pb.Pressure(some=pb.PressureLine(avg10=0.147), full=pb.PressureLine(avg10=0.131))
    lines = meters(terminal(), reading(1.0, pressure=pressure), RATES, 80).plain.splitlines()
    assert [len(line) for line in lines[:3]] == [80, 80, 80]
    assert lines[0].endswith("] 4 MiB, 25.0% free")
    assert lines[1].endswith("] 16 MiB, 25.0% used")
    assert lines[2].endswith("] some 14.7%, full 13.1%")
    assert lines[3] == "A second 68,801 faults  20,634 major  17,196 evicted  20,634 in  13,756 out  "
    assert meters(terminal(), reading(1.0), None, 80).plain.count("- ") == 5
    assert "(below low)" in meters(terminal(), reading(1.0, free_frames=63), None, 80).plain
    assert "none" in meters(terminal(), reading(1.0, swap_slots=0), None, 80).plain


def test_without_colour_or_blocks_the_bars_and_the_map_are_letters():
    plain = terminal(colour=False, encoding="ascii")
    now = reading(1.0, [process(1)], cells=80, devices=[device(0)])
    for text in (
        meters(plain, now, RATES, 80), memory_map(plain, now, By.STATE, 80, 1), device_lines(plain, now, None, 80, 1)
    ):  # fmt: skip
        assert text.plain.isascii()


def test_the_map_has_lines_of_the_screens_width_and_a_legend():
    now = reading(1.0, [process(1, "web"), process(2, "db")], cells=120)
    lines = memory_map(terminal(), now, By.STATE, 40, 3).plain.splitlines()
    assert [len(line) for line in lines[:3]] == [40, 40, 40]
    assert memory_map(terminal(), now, By.STATE, 80, 1).plain.endswith("a cell: 8.0K")
    owners = memory_map(terminal(), now, By.OWNER, 80, 1).plain.splitlines()
    assert owners[0] == "ab" * 40
    assert owners[1].startswith("a web  b db  ")
    assert memory_map(terminal(), reading(1.0), By.STATE, 80, 3).plain == ""


def test_of_many_owners_those_that_fit_are_named_and_the_others_counted():
    now = reading(1.0, [process(n, f"process-{n}") for n in range(1, 61)], cells=120)
    legend = memory_map(terminal(), now, By.OWNER, 80, 2).plain.splitlines()[-1]
    assert legend.startswith("a process-1  b process-2  c process-3")
    assert "+56 more" in legend
    gone = memory_map(terminal(), reading(1.0, cells=4), By.OWNER, 80, 1)
    assert "free" not in gone.plain


def test_a_device_has_a_line_with_rates_and_errors():
    before = reading(1.0, devices=[device(1, pages_written=100)])
    now = reading(3.0, devices=[device(1, pages_written=300, errors=1)])
    (line,) = device_lines(terminal(), now, before, 80, 2).plain.splitlines()
    assert line.startswith("file1 [")
    assert line.endswith("32.0M of 128M   out 100/s    in 0/s     1 error")
    assert "out -/s" in device_lines(terminal(), now, None, 80, 2).plain


def test_of_many_devices_the_last_line_says_how_many_more_there_are():
    now = reading(1.0, devices=[device(n) for n in range(6)])
    lines = device_lines(terminal(), now, None, 80, 3).plain.splitlines()
    assert [line.split()[0] for line in lines] == ["file0", "file1", "and"]
    assert lines[-1] == "and 4 more: usmctl swap"
    assert len(device_lines(terminal(), now, None, 80, 6).plain.splitlines()) == 6
