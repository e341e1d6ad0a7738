import io
import re
import sys
from unittest.mock import patch

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl import evictions_view, hints_view, lists_view, policies_view
from usmd.ctl.console import PIPE_WIDTH
from usmd.ctl.tables import Column, in_order, in_pages, page_range, show_list, show_table, width_of
from usmd.errors import InvalidArgument

BIG = 10**12


def shown(show, *messages, width=PIPE_WIDTH, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False, color_system=None)
    with patch.object(sys, "stdout", file):
        show(console, *messages)
    file.flush()
    return [line.rstrip() for line in file.buffer.getvalue().decode(encoding).splitlines()]


def big(text, count=BIG):
    eviction = pb.Eviction(seconds_ago=123_456.789, policy=text, reason=text, result="no swap slot")
    process = pb.Process(
        process_id=count, name=text, pid=4_000_000, uid=4_000_000_000, regions=65_536, mapped_bytes=count * 4096,
        resident_pages=count, swapped_pages=count, unevictable_pages=count, pinned_pages=count, alloc_policy=text,
        evict_policy=text, oom_policy=text, cond_policy=text,
    )  # fmt: skip
    region = pb.RegionInfo(
        region_id=count, process_id=count, name=text, address=1 << 63, length=count, resident_pages=count,
        swapped_pages=count, faults=count, major_faults=count, evictions=count,
    )  # fmt: skip
    device = pb.SwapDevice(
        number=7, name=text, kind="compressed", path="/" + text, slots=count, free_slots=7, pages_written=count,
        pages_read=count, in_flight=count, errors=count,
    )  # fmt: skip
    hint = pb.HintRange(
        hint_id=count, process_id=count, process_name=text, region_id=count, region_name=text, first_page=count,
        page_count=BIG, text=text, resident_pages=count, unevictable_pages=count, faults=count, evictions=count,
        expires_in_seconds=1e9,
    )  # fmt: skip
    kept = pb.KeptPages(
        process_id=count, process_name=text, unevictable_pages=count, pinned_pages=count, over_budget=count
    )
    policy = pb.Policy(kind="evict", name=text, summary=text, process_ids=list(range(20)), errors=count)
    change = pb.PolicyChange(seconds_ago=1e6, before=text, after=text, misbehaved=True, did=text)
    force = pb.ProcessPolicies(
        process_id=count, process_name=text, policies=[pb.PolicyInForce(kind="evict", policy=text, change=change)]
    )
    evicted = pb.EvictedPage(region_id=count, region_name=text, page=count, address=1 << 63, eviction=eviction)
    return {
        "processes": (lists_view.show_processes, [process], 4096),
        "regions": (lists_view.show_regions, [region], 4096),
        "swap": (lists_view.show_swap_devices, [device], 4096),
        "hints": (
            hints_view.show_hints,
            pb.ListHintsResponse(hint_ranges=[hint], kept_pages=[kept], deny_budget=count, deny_budget_total=count),
        ),
        "policies": (policies_view.show_policies, pb.ListPoliciesResponse(policies=[policy], processes=[force])),
        "evictions": (
            evictions_view.show_evictions,
            pb.ListEvictionsResponse(evictions=[evicted], records=256, total=count),
        ),
    }


TEXTS = ["x", "a name of quite some length, with blanks", "n" * 300, "日本語の長い名前" * 9, "é☃" * 40]


@pytest.mark.parametrize("name", big(""))
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_cell_wraps_and_no_number_is_cut_at_any_width(name, text, encoding):
    def tables(width):
        lines = shown(*big(text)[name], width=width, encoding=encoding)
        rows = [line for line in lines if "  " in line and not line.startswith("not shown")]
        if name == "policies":  # its sentences are wrapped
            rows = [line for line in rows if not line.startswith(" ")]
        return rows, "\n".join(lines)

    least = max(map(cell_len, tables(1)[0]))
    count = len(tables(PIPE_WIDTH)[0])
    for width in [40, 47, 60, 72, 80, 93, 120, 200]:
        lines, whole = tables(width)
        assert len(lines) == count
        assert max(map(cell_len, lines)) <= max(width, least)
        for number in re.findall(r"1,\d[\d,]*", whole):
            assert number.rstrip(",") == f"{BIG:,}"


@pytest.mark.parametrize("width", range(40, 201, 5))
def test_usual_numbers_and_names_fit_into_any_width(width):
    for name, (show, *messages) in big("a name of some length", 123_456).items():
        lines = [line for line in shown(show, *messages, width=width) if "  " in line]
        assert max(map(cell_len, lines)) <= max(width, 50 if name in ("hints", "evictions") else 0), name


def test_a_pipe_gets_every_column_and_every_character():
    for name, (show, *messages) in big("n" * 300).items():
        text = "\n".join(shown(show, *messages))
        assert "not shown" not in text, name
        assert "…" not in text
        assert "n" * 300 in text


def test_what_is_left_out_is_named_and_the_least_missed_goes_first():
    columns = [
        Column("NAME", str),
        Column(">FIRST", lambda _: "1" * 10, spare=2),
        Column(">LAST", lambda _: "2" * 10, spare=1),
        Column(">ALWAYS", lambda _: "3" * 10),
    ]

    def titles(width):
        lines = shown(lambda console: show_list(console, columns, ["x"], "none"), width=width)
        return lines[0].split(), " ".join(lines[2:])

    assert titles(40) == (["NAME", "FIRST", "LAST", "ALWAYS"], "")
    found, note = titles(39)
    assert found == ["NAME", "LAST", "ALWAYS"]
    assert "not shown: FIRST (" in note
    found, note = titles(20)
    assert found == ["NAME", "ALWAYS"]
    assert "not shown: FIRST, LAST (" in note
    assert titles(5)[0] == ["NAME", "ALWAYS"]  # the terminal wraps such a line; a number is never cut


def test_text_is_cut_with_a_mark_that_the_encoding_has():
    def show(console):
        show_table(console, ["TEXT", ">N"], [["abcdefghijklmnopqrst", "5"], [Text("日本日本日本日本日本"), "6"]], "")

    assert shown(show, width=13)[:3] == ["TEXT        N", "abcdefghi…  5", "日本日本 …  6"]
    assert " ".join(shown(show, width=13)[3:]) == "not shown: text at … (pipes and json have all)"
    assert (
        shown(lambda console: show_table(console, ["T"], [["a" * 30]], ""), width=10, encoding="ascii")[1]
        == "aaaaaaa..."
    )


def test_an_empty_list_says_so_and_takes_no_table():
    assert shown(lambda console: show_list(console, [Column("A", str)], [], "nothing")) == ["nothing"]


PROCESSES = [
    pb.Process(process_id=1, name="b", resident_pages=5, pid=9),
    pb.Process(process_id=2, name="A", resident_pages=1_000),
    pb.Process(process_id=3, name="c", resident_pages=70, pid=10),
]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (None, [1, 2, 3]), ("res", [2, 3, 1]), ("RES", [2, 3, 1]), ("-res", [1, 3, 2]), ("name", [2, 1, 3]),
        ("-name", [3, 1, 2]), ("pid", [3, 1, 2]), ("id", [3, 2, 1]),
    ],
)  # fmt: skip
def test_rows_are_in_the_order_of_a_column(sort, order):
    found = in_order(lists_view.process_columns(), PROCESSES, sort)
    assert [process.process_id for process in found] == order


def test_a_column_that_there_is_not_is_refused_with_those_there_are():
    with pytest.raises(InvalidArgument, match=r"--sort 'size' names no column; allowed are no, name, .*in-flight"):
        in_order(lists_view.device_columns(), [], "size")


@pytest.mark.parametrize(
    "columns",
    [
        lists_view.process_columns(), lists_view.region_columns(), lists_view.device_columns(), hints_view.COLUMNS,
        policies_view.COLUMNS, evictions_view.COLUMNS,
    ],
    ids=range(6),
)  # fmt: skip
def test_each_column_has_a_name_of_its_own_and_sorts(columns):
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    ranks = [column.spare for column in columns if column.spare]
    assert sorted(ranks) == sorted(set(ranks))
    for column in columns:
        assert column.key is not None or not column.title.startswith(">"), column.title


def test_pages_have_their_size_beside_them():
    assert in_pages(1_700, 4096) == "1,700 (6.6 MiB)"
    assert in_pages(0, 4096) == "0"
    assert in_pages(5, 0) == "5"


def test_the_width_of_a_line():
    assert width_of([("A", "xxxx"), (">N", "10")]) == 4 + 2 + 2
    assert width_of([("A", "x" * 50), (">N", "1" * 50)], 24) == 24 + 2 + 50


@pytest.mark.parametrize(("first", "count", "text"), [(8, 8, "8-15"), (8, 1, "8"), (0, 0, "0")])
def test_a_range_is_its_first_and_last_page(first, count, text):
    assert page_range(pb.HintRange(first_page=first, page_count=count)) == text
