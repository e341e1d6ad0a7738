import json

import pytest

ONCE = ("top", "--interval", "0.1")


def test_in_a_pipe_what_the_screen_shows_is_printed_once(daemon):
    code, text, err = daemon.ctl(*ONCE, "--sort", "name")
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert lines[0].startswith("usmd 0.1.0  up 1 h 2 min, 2 processes")
    assert lines[1].startswith("Memory   [")
    titles = next(line for line in lines if line.startswith("ID"))
    assert titles.split()[-2:] == ["EVICT", "BY"]
    assert [line.split()[1] for line in lines[lines.index(titles) + 1 :]] == ["cache", "indexer"]
    assert "\x1b" not in text


def test_programs_get_one_document(daemon):
    code, text, err = daemon.ctl(*ONCE, "--format", "json", "--filter", "index")
    assert (code, err) == (0, "")
    document = json.loads(text)
    assert set(document) == {"seconds", "rates", "status", "processes", "swap_devices"}
    assert document["rates"] is None  # the daemon's clock stands
    (process,) = document["processes"]
    assert (process["name"], process["rates"]) == ("indexer", None)


@pytest.mark.parametrize(("output", "has_all"), [("table", False), ("json", True)])
def test_once_reads_twice_and_asks_for_no_map_and_for_all_counters_only_for_programs(daemon, output, has_all):
    assert daemon.ctl(*ONCE, "--once", "--format", output)[0] == 0
    asked = [type(request).__name__ for request in daemon.admin.requests]
    assert asked == ["GetStatusRequest", "ListProcessesRequest", "ListSwapDevicesRequest"] * 2
    assert (not daemon.admin.requests[1].counters) == has_all


def test_a_frozen_process_has_a_state(daemon):
    assert "STATE" not in daemon.ctl(*ONCE)[1]
    daemon.admin.processes[0].frozen_faults = 1
    assert "FROZEN 0s" in daemon.ctl(*ONCE)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sort", "nope"], "names no column; allowed are id, name"),
        (["--interval", "0"], "--interval"),
    ],
)
def test_what_cannot_be_is_bad_usage_and_asks_the_daemon_nothing(daemon, arguments, said):
    code, out, err = daemon.ctl("top", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not daemon.admin.requests
