import json

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb


def test_limits_of_a_process_by_name_are_sent_as_they_are_written_and_what_was_is_told(daemon):
    code, text, err = daemon.ctl(
        "limit", "cache", "memory_min=16", "memory_weight=50", "swap_max=0%", "memory_max=none"
    )
    assert (code, err) == (0, "")
    asked = next(each for each in daemon.admin.requests if isinstance(each, pb.SetLimitsRequest))
    assert asked == pb.SetLimitsRequest(
        process_id=2, memory_min="16", memory_weight=50, swap_max="0%", memory_max="none"
    )
    assert text.splitlines()[0] == "process 2 (cache)"
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "memory_max", "memory_min", "memory_weight", "swap_max", "deny_budget", "max_faults", "max_hint_ranges",
        "max_regions",
    ]  # fmt: skip
    assert text.splitlines()[2].split() == ["memory_max", "64", "(256", "KiB)", "none"]
    assert text.splitlines()[3].split() == ["memory_min", "none", "16", "(64", "KiB)"]
    assert text.splitlines()[5].split() == ["swap_max", "none", "0", "(0", "B)"]
    assert text.splitlines()[6].split() == ["deny_budget", "none", "8", "(32", "KiB)"]
    assert text.splitlines()[9].split() == ["max_regions", "1,000", "16"]
    document = json.loads(daemon.ctl("limit", "2", "memory_max=1M", "--format", "json")[1])
    assert document["changes"][0]["after"]["memory_min_pages"] == 16


def test_limits_in_numbers_are_sent_as_they_are_written(daemon):
    words = ("max_regions=16", "max_faults=none", "deny_budget=5%", "max_hint_ranges=0")
    assert daemon.ctl("limit", "cache", *words)[0] == 0
    asked = next(each for each in daemon.admin.requests if isinstance(each, pb.SetLimitsRequest))
    assert asked == pb.SetLimitsRequest(
        process_id=2, max_regions="16", max_faults="none", deny_budget="5%", max_hint_ranges="0"
    )


def test_limits_of_all_processes_of_a_user(daemon):
    assert daemon.ctl("limit", "--user", "1000", "memory_max=25%")[0] == 0
    asked = next(each for each in daemon.admin.requests if isinstance(each, pb.SetLimitsRequest))
    assert asked == pb.SetLimitsRequest(uid=1000, memory_max="25%")


def test_limits_of_a_user_for_all_its_sessions_together(daemon):
    code, text, err = daemon.ctl("limit", "--uid", "1000", "max_sessions=3", "memory_max=none", "swap_max=5%")
    assert (code, err) == (0, "")
    asked = next(each for each in daemon.admin.requests if isinstance(each, pb.SetUserLimitsRequest))
    assert asked == pb.SetUserLimitsRequest(uid=1000, max_sessions="3", memory_max="none", swap_max="5%")
    lines = text.splitlines()
    assert lines[0] == "user 1000, all sessions together"
    assert [line.split() for line in lines[2:]] == [
        ["max_sessions", "none", "3"], ["memory_max", "64", "(256", "KiB)", "none"], ["memory_min", "none", "none"],
        ["swap_max", "none", "none"], ["memory_weight", "none", "none"], ["max_faults", "none", "none"],
        ["max_hint_ranges", "none", "5"], ["max_regions", "none", "none"],
    ]  # fmt: skip
    daemon.ctl("limit", "--uid", "1000", "memory_weight=7", "max_regions=none")
    asked = [each for each in daemon.admin.requests if isinstance(each, pb.SetUserLimitsRequest)][-1]
    assert asked == pb.SetUserLimitsRequest(uid=1000, memory_weight="7", max_regions="none")
    document = json.loads(daemon.ctl("limit", "--uid", "1000", "max_sessions=3", "--format", "json")[1])
    assert document["after"]["max_sessions"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--uid", "1", "--user", "1", "memory_max=1M"], "--user and --uid are both given"),
        (["--uid", "1", "deny_budget=3%"], "limit 'deny_budget=3%'; allowed with --uid is KEY=VALUE with one of"),
        (["--uid", "1", "cache", "memory_max=1M"], "limit 'cache'; allowed with --uid"),
        (["--uid", "1", "memory_max=1M", "memory_max=1M"], "memory_max is given twice"),
        (["--uid", "-1", "memory_max=1M"], "--uid -1; allowed is a user's number"),
        (["cache"], "no limit is given"),
        (["cache", "memory=1M"], "limit 'memory=1M'; allowed is KEY=VALUE with one of memory_max, memory_min"),
        (["cache", "memory_max"], "limit 'memory_max'; allowed is KEY=VALUE"),
        (["cache", "memory_weight=heavy"], "memory_weight='heavy'; allowed is a whole number"),
        (["cache", "swap_max=1M", "swap_max=2M"], "swap_max is given twice"),
        (["memory_max=1M"], "no limit is given"),
        ([], ""),
    ],
)
def test_bad_words_are_bad_usage_and_ask_the_daemon_nothing(daemon, words, said):
    code, out, err = daemon.ctl("limit", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert not daemon.admin.requests
