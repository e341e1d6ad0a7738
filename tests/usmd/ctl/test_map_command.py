import os
import pty
import re
import select
import signal

import grpc


def test_the_map_by_owner_names_the_processes(daemon):
    text = daemon.ctl("map", "--by", "owner", "--cells", "14")[1]
    assert "a indexer (process 1, 6 cells)   b cache (process 2, 6 cells)" in text
    assert re.search(r"^ +0  \.aaaaaa\.bbbbbb$", text, re.MULTILINE)


def test_the_map_without_a_size_fits_a_pipe(daemon):
    rows = [line for line in daemon.ctl("map")[1].splitlines() if re.match(r" *[\d,]+  ", line)]
    assert len(rows) == 16
    assert {len(row) for row in rows} == {len("1,024") + 2 + 64}


def test_in_a_terminal_the_map_is_drawn_again_in_colour_until_ctrl_c(daemon, start):
    leader, follower = pty.openpty()
    process = start("map", "--watch", "--interval", "0.05", "--cells", "8", given={1: follower})
    os.close(follower)
    seen = b""
    while seen.count(b"1,024 frames") < 3:
        assert select.select([leader], [], [], 90)[0], seen
        seen += os.read(leader, 65536)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    os.close(leader)
    assert (process.returncode, err) == (0, "")
    assert "\x1b[33m\u2588".encode() in seen


def test_a_watched_map_ends_with_an_error_when_the_daemon_does(daemon):
    daemon.admin.answers_before_failure = 4
    daemon.admin.failure = (grpc.StatusCode.UNAVAILABLE, "usmd is draining")
    code, text, err = daemon.ctl("map", "--watch", "--interval", "0.05")
    assert (code, err) == (1, "usmctl: usmd is draining\n")
    assert text.count("1,024 frames") == 2
