import io
import re

from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.console import PIPE_WIDTH
from usmd.ctl.hints_view import COLUMNS, show_cleared, show_hints
from usmd.ctl.tables import in_order


def shown(show, message, width=PIPE_WIDTH):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False, color_system=None)
    show(console, message)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def columns(line):
    return re.split(r" {2,}", line.strip())


def answer(*hints, **more):
    return pb.ListHintsResponse(hint_ranges=hints, **more)


def test_a_hint_tells_its_range_what_happened_under_it_and_its_end():
    hint = pb.HintRange(
        hint_id=7, process_id=1, process_name="app", region_id=2, first_page=8, page_count=8, text="TTL=30", faults=12,
        evictions=3,
    )  # fmt: skip
    expected = ["7", "1 app", "2", "8-15", "0", "0", "12", "3", "-", "TTL=30"]
    assert columns(shown(show_hints, answer(hint))[1]) == expected
    hint.expires_in_seconds = 12.5
    hint.page_count = 1
    hint.region_name = "index"
    expected = ["7", "1 app", "2 index", "8", "0", "0", "12", "3", "12.5 s", "TTL=30"]
    assert columns(shown(show_hints, answer(hint))[1]) == expected


def test_keys_that_no_policy_acts_on_are_named_below_the_table():
    hint = pb.HintRange(hint_id=7, process_id=1, process_name="app", text="FHP=1MiB; X_A", unheeded_keys=["FHP", "X_A"])
    other = pb.HintRange(hint_id=8, process_id=2, text="TTL=30")
    lines = shown(show_hints, answer(hint, other))
    assert lines[3:] == ["hint 7: no policy of process 1 app acts on FHP, X_A"]


def test_no_hints_at_all_are_said_to_be_none():
    assert shown(show_hints, answer()) == ["no hints in force"]


def test_what_is_kept_is_shown_against_the_budget_of_each_and_of_all():
    kept = [
        pb.KeptPages(
            process_id=1,
            process_name="app",
            unevictable_pages=100,
            pinned_pages=28,
            over_budget=5,
            hint_ranges=2,
            deny_budget=256,
        ),
        pb.KeptPages(process_id=2, process_name="b"),
    ]
    lines = shown(show_hints, answer(kept_pages=kept, deny_budget=512, deny_budget_total=768, kept_total=128))
    assert columns(lines[2]) == ["PROCESS", "RANGES", "UNEVICTABLE", "PINNED", "OF ITS BUDGET", "OVER BUDGET"]
    assert columns(lines[3]) == ["1 app", "2", "100", "28", "128 of 256 (50.0%)", "5"]
    assert lines[5] == ("all processes keep 128 of 768 frames (deny_budget_total); each may keep 512 (deny_budget)")
    assert "0 of 0" in shown(show_hints, answer(kept_pages=kept[1:]))[3]


def test_what_was_cleared_is_told():
    cleared = pb.ClearHintsResponse(region_id=3, first_page=16, page_count=8, hint_ranges=2)
    assert shown(show_cleared, cleared) == ["region 3, pages 16-23: the hints of 2 ranges were removed"]
    cleared.hint_ranges = 1
    assert "of 1 range were" in shown(show_cleared, cleared)[0]
    cleared.hint_ranges = 0
    assert shown(show_cleared, cleared) == ["region 3, pages 16-23: no hint was in force"]


def test_hints_without_an_end_are_the_last_to_end():
    hints = [pb.HintRange(hint_id=n, expires_in_seconds=seconds) for n, seconds in ((1, 5), (2, None), (3, 9))]
    assert [hint.hint_id for hint in in_order(COLUMNS, hints, "ends-in")] == [2, 3, 1]
