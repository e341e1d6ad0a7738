import io

import pytest
from rich.console import Console

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.shadow_view import heading, lines, picture


@pytest.fixture
def report():
    return pb.ShadowReport(
        process_id=3, process_name="app", seconds=65.0, accesses=2000, looked_at=2000, frames=240, sample=1,
        live_policy="lru", live_misses=150, live_miss_ratio=0.075,
        simulations=[
            pb.ShadowSimulation(policy="lru", accesses=2000, misses=200, miss_ratio=0.1, recent_miss_ratio=0.08,
                     microseconds_an_access=0.7),
            pb.ShadowSimulation(policy="arc", accesses=2000, misses=180, miss_ratio=0.09, recent_miss_ratio=0.07,
                     difference=-0.01, microseconds_an_access=0.9),
            pb.ShadowSimulation(policy="/x.py:Y", accesses=500, misses=20, miss_ratio=0.04, difference=-0.06,
                     stopped=True, problem="stopped: more than 100 errors", policy_errors=101),
        ],
        microseconds_an_access=1.75, wall_share=0.042,
    )  # fmt: skip


def shown(report, width=120):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, color_system=None)
    console.print(picture(console, report))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_picture_has_a_row_for_the_process_and_one_for_each_simulation(report):
    text = shown(report)
    assert text[0] == "shadow of process 3 app, policy lru; each simulation has 240 frames"
    rows = [line.split() for line in text[2:7]]
    assert rows[0] == ["POLICY", "ACCESSES", "MISSES", "MISS", "RATIO", "LAST", "VS", "LIVE", "µs/ACCESS"]
    assert rows[1] == ["the", "process", "itself", "2,000", "150", "0.0750"]
    assert rows[2] == ["lru", "(in", "force)", "2,000", "200", "0.1000", "0.0800", "0.70"]
    assert rows[3] == ["arc", "2,000", "180", "0.0900", "0.0700", "-0.0100", "0.90"]
    assert "1 min 5 s; cost: 1.75 µs an access, 4.2% of the daemon's time" in text
    assert "/x.py:Y: stopped: more than 100 errors" in text


def test_the_best_that_still_runs_stands_out(report):
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
    console.print(picture(console, report))
    lines_of = {line.split()[0].split("m")[-1]: line for line in console.file.getvalue().splitlines() if line.strip()}
    assert "\x1b[1;32m" in lines_of["arc"]
    assert not any("\x1b[1;32m" in line for name, line in lines_of.items() if name != "arc")


def test_lines_for_a_pipe_tell_the_same(report):
    text = [line.plain for line in lines(report)]
    assert len(text) == 5
    assert "    65.0 s  the process itself" in text[0]
    assert text[2].split() == [
        "65.0", "s", "arc", "2,000", "accesses", "180", "misses", "0.0900", "last", "0.0700", "-0.0100",
    ]  # fmt: skip
    assert text[3].endswith("stopped: more than 100 errors")


def test_what_must_be_known_is_said(report):
    report.dropped = 1000
    report.live_policy = "s3_fifo"
    report.sample = 8
    report.faults_only = True
    report.ended = "detached"
    text = "\n".join(shown(report))
    assert "240 frames, one page in 8" in text
    assert "their numbers do not tell how they would do" in text.replace("\n", " ")
    assert "1,000 of 2,000 accesses were lost for want of time" in text
    assert "the process has s3_fifo by now" in text
    assert "the process ended: detached" in text
    assert len(heading(report)) == 2


def test_what_costs_much_is_said_to_be_had_for_less(report):
    assert "--sample" not in "\n".join(shown(report))
    report.wall_share = 0.3
    assert "30.0% of the daemon's time; --sample 1/8 costs less" in "\n".join(shown(report))
    report.sample = 16
    assert "--sample" not in "\n".join(shown(report))


def test_a_report_of_nothing_yet_can_be_drawn():
    assert shown(pb.ShadowReport(simulations=[pb.ShadowSimulation(policy="lru")]))


def test_a_narrow_terminal_leaves_columns_out_and_cuts_no_number(report):
    text = shown(report, width=40)
    assert max(map(len, text)) <= 40
    rows = [line.split() for line in text if line.startswith(("POLICY", "lru", "arc"))]
    assert rows == [
        ["POLICY", "MISS", "RATIO", "VS", "LIVE"],
        ["lru", "(in", "force)", "0.1000"],
        ["arc", "0.0900", "-0.0100"],
    ]
    assert "not shown: µs/ACCESS, ACCESSES, MISSES" in "\n".join(text)


@pytest.mark.parametrize(
    ("sampling", "says"), [("pageout", "a sample of the other touches"), ("off: no right", "no other touches")]
)
def test_a_shadow_of_real_memory_says_which_touches_it_gets(report, sampling, says):
    report.faults_only = True
    report.sampling = sampling
    assert says in heading(report)[1].plain
