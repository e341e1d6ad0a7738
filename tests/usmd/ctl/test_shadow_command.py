import json
import os
import pty
import signal

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.shadow_command import parse_sample
from usmd.errors import InvalidArgument


def test_what_is_asked_for_is_what_was_typed(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    specifications = "arc, hint_aware(fallback=slru(share=0.5)),./x.py:Y"
    code, _, err = daemon.ctl(
        "shadow", "indexer", "--evict", specifications, "--frames", "100", "--sample", "1/4", "--interval", "0.5"
    )
    assert (code, err) == (0, "")
    assert daemon.admin.requests[-1] == pb.ShadowPoliciesRequest(
        process_id=1,
        evict_policies=["arc", "hint_aware(fallback=slru(share=0.5))", f"{tmp_path}/x.py:Y"],
        frames=100,
        sample=4,
        interval_seconds=0.5,
    )


def test_a_list_may_be_repeated_and_memory_may_be_a_size(daemon):
    page_size = daemon.admin.status.page_size
    code, _, err = daemon.ctl("shadow", "1", "--evict", "arc", "--evict", "lru,fifo", "--frames", "64K")
    assert (code, err) == (0, "")
    assert daemon.admin.requests[-1].evict_policies == ["arc", "lru", "fifo"]
    assert daemon.admin.requests[-1].frames == (64 << 10) // page_size


def test_a_pipe_gets_the_heading_once_and_then_lines(daemon):
    text = daemon.ctl("shadow", "1", "--evict", "arc")[1].splitlines()
    assert text[0] == "shadow of process 1 indexer, policy lru; each simulation has 960 frames"
    assert [line.split()[2] for line in text[1:]] == ["the", "lru", "arc", "1.0", "the", "lru", "arc", "2.0"]


def test_programs_get_a_report_a_line(daemon):
    lines = daemon.ctl("shadow", "1", "--evict", "arc", "--format", "json")[1].splitlines()
    assert [json.loads(line)["seconds"] for line in lines] == [0.0, 1.0, 2.0]
    assert [simulation["policy"] for simulation in json.loads(lines[0])["simulations"]] == ["lru", "arc"]


def test_on_a_terminal_the_table_is_drawn_again_until_ctrl_c(daemon, start):
    daemon.admin.hold_events.clear()
    leader, follower = pty.openpty()
    process = start("shadow", "1", "--evict", "arc", given={1: follower})
    os.close(follower)
    seen = b""
    while seen.count(b"MISS RATIO") < 3:
        seen += os.read(leader, 65536)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    os.close(leader)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--evict", ""], "names no policy"),
        (["--evict", " , "], "names no policy"),
        (["--evict", "lru("], "parentheses"),
        (["--evict", "lru", "--sample", "2"], "--sample 2; allowed is 1/K"),
        (["--evict", "lru", "--frames", "0"], "--frames 0; allowed are 1 to"),
        (["--evict", "lru", "--frames", "many"], "size 'many' cannot be read"),
        (["--evict", "lru", "--frames", "-1"], "size '-1' cannot be read"),
        (["--evict", "lru", "--interval", "0"], "than or equal to"),
        ([], "--evict"),
    ],
)
def test_what_cannot_be_is_bad_usage_and_asks_the_daemon_nothing(daemon, arguments, said):
    code, out, err = daemon.ctl("shadow", "1", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not daemon.admin.requests


@pytest.mark.parametrize(("text", "k"), [("1/1", 1), ("1/64", 64)])
def test_a_sample_is_one_in_k(text, k):
    assert parse_sample(text) == k


@pytest.mark.parametrize("text", ["", "1", "2/3", "1/0", "1/-1", "1/1.5", "0.1", "1/9999999999"])
def test_no_other_sample_is_one(text):
    with pytest.raises(InvalidArgument):
        parse_sample(text)
