import pytest
from rich.cells import cell_len

from tests.usmd.ctl.top.conftest import process, reading
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.tables import in_order
from usmd.ctl.top.columns import (
    COLUMNS,
    FIELDS,
    GAP,
    STATE,
    brief_rate,
    brief_size,
    brief_time,
    cells_of,
    fitting,
    titles_of,
)
from usmd.ctl.top.rates import rows_of

NAME = "日本語サーバー-which-goes-on-and-on"


def rows(*processes):
    return rows_of(reading(2.0, processes), reading(1.0))


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1.0K"), (60_500_000, "57.7M"), (104_752_742, "99.9M"), (104_857_600, "100M"),
     (999 << 20, "999M"), (1023 << 20, "1.0G"), (1 << 50, "1.0P"), ((1 << 64) - 1, "16.0E")],
)  # fmt: skip
def test_a_size_takes_at_most_five_characters(size, text):
    assert brief_size(size) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0"), (0.04, "0"), (0.5, "0.5"), (9.96, "10"), (1234.4, "1,234"), (99_999.4, "99,999"), (123_456.0, "123k"),
     (9_999_400.0, "9,999k"), (1e7, "10M"), (1e12, "1,000G"), (1e20, "lots")],
)  # fmt: skip
def test_a_rate_takes_at_most_six_characters(rate, text):
    assert brief_rate(rate) == text
    assert len(text) <= 6


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140, 300])
def test_the_columns_fill_the_screen_and_do_not_exceed_it(width, states):
    fields = fitting(width, states=states)
    (row,) = rows(process(123456, NAME, 1234, uid=1000, memory_max_pages=64, swap_max_pages=8, evict_policy="lru"))
    for cells in (titles_of(fields), cells_of(fields, row, "…")):
        used = sum(map(cell_len, cells)) + GAP * (len(cells) - 1)
        assert used == width or width < 40
    assert {"id", "name", "res", "faults/s"} <= {each.column.name for each in fields}


def test_a_narrow_screen_omits_what_matters_least_and_a_wide_one_has_all():
    assert [each.column.name for each in fitting(80, states=False)] == [
        "id", "name", "pid", "res", "swap", "faults/s", "major/s", "evict/s", "pressure"
    ]  # fmt: skip
    assert len(fitting(300, states=True)) == len(FIELDS)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (99.4, "99s"), (99.6, "2m"), (5960.0, "99m"), (86_400.0, "24h")]
)
def test_a_time_takes_at_most_three_characters(seconds, text):
    assert brief_time(seconds) == text


def test_a_frozen_process_says_for_how_long_and_the_others_say_nothing():
    found = rows(process(1), process(2, frozen_faults=3, frozen_seconds=12.4))
    fields = fitting(60, states=True)
    place = fields.index(STATE)
    assert [cells_of(fields, row, "…")[place].strip() for row in found] == ["-", "FROZEN 12s"]
    assert [row.process.process_id for row in in_order(COLUMNS, found, "state")] == [2, 1]


def test_text_is_cut_with_a_mark_and_a_number_is_not_cut():
    fields = fitting(60, states=False)
    (row,) = rows(process(12345678, NAME))
    cells = cells_of(fields, row, "…")
    assert cells[0] == "12345678"
    assert cells[1].endswith("…")
    assert cell_len(cells[1]) == fields[1].width


def test_pressure_is_that_of_the_last_ten_seconds_and_full_is_not_always_known():
    pressed, odd = pb.Pressure(), pb.Pressure()
    pressed.some.avg10, pressed.full.avg10 = 0.1471, 1.0
    odd.some.avg10 = 0.0
    fields = fitting(100, states=False)
    names = [each.column.name for each in fields]
    cells = [
        dict(zip(names, cells_of(fields, row, "…"), strict=True))
        for row in rows(process(1, pressure=pressed), process(2, pressure=odd))
    ]
    assert [(each["pressure"].strip(), each["full"].strip()) for each in cells] == [("14.7%", "100.0%"), ("0", "-")]


def test_a_name_cannot_control_the_terminal():
    (row,) = rows(process(1, "\x1b[31mred"))
    assert cells_of(fitting(80, states=False), row, "…")[1].startswith(r"\x1b[31mred")


def test_processes_are_sorted_by_numbers_from_the_largest_and_those_without_rates_last():
    found = rows(process(1, "b", 10), process(2, "a", 30), process(3, "c", 20))
    found += rows_of(reading(1.0, [process(4, "d")]), None)
    assert [row.process.process_id for row in in_order(COLUMNS, found, "faults/s")] == [2, 3, 1, 4]
    assert [row.process.process_id for row in in_order(COLUMNS, found, "name")] == [2, 1, 3, 4]
