"""usmctl debug validate: what it says, and its exit code."""

import json

WELL = "all holds: 1,024 frames, 3 regions and 4,096 swap slots in 0.012 s\n"


def test_where_all_holds_it_says_what_was_checked_and_exits_with_0(daemon):
    assert daemon.ctl("debug", "validate") == (0, WELL, "")


def test_what_does_not_hold_is_told_line_by_line_and_the_exit_code_is_1(daemon):
    daemon.admin.validation.violations.extend(["frame 3 is [bold]both", "slot 7 has 2 users"])
    daemon.admin.validation.violation_count = 2
    daemon.admin.validation.regions = 1
    code, out, err = daemon.ctl("debug", "validate")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "frame 3 is [bold]both",
        "slot 7 has 2 users",
        "2 do not hold: 1,024 frames, 1 region and 4,096 swap slots in 0.012 s",
    ]


def test_what_is_not_told_of_is_counted(daemon):
    daemon.admin.validation.violations.append("frame 3")
    daemon.admin.validation.violation_count = 1300
    _, out, _ = daemon.ctl("debug", "validate")
    assert out.splitlines()[-1].startswith("1,300 do not hold, of which 1,299 are not shown: 1,024 frames")


def test_programs_get_all_of_it_and_the_same_exit_code(daemon):
    daemon.admin.validation.violations.append("frame 3")
    daemon.admin.validation.violation_count = 1
    code, out, _ = daemon.ctl("debug", "validate", "--format", "json")
    assert code == 1
    assert json.loads(out)["violations"] == ["frame 3"]
