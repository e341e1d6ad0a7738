"""What `usmctl replay` writes: tables, JSON, curves and pictures, a terminal's bar, and what an interrupt leaves."""

import json
import os
import pty
import select
import signal
import subprocess

import pytest

from tests.support.replays import TRACE, USMCTL, replay, written


@pytest.fixture
def trace(tmp_path):
    return written(tmp_path)


def test_json_has_a_row_for_each_size_and_policy(capsys, trace):
    code, out, err = replay(
        capsys, trace, "--frames", "8,50%", "--evict", "lru, s3_fifo(small=0.2, ghost=1.0)", "--format", "json"
    )
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["trace"], document["accesses"], document["distinct_pages"]) == ("squares.txt", 2000, 31)
    assert [(row["frames"], row["evict"]) for row in document["rows"]] == [
        (8, "lru"),
        (8, "s3_fifo(small=0.2, ghost=1.0)"),
        (16, "lru"),
        (16, "s3_fifo(small=0.2, ghost=1.0)"),
    ]
    for row in document["rows"]:
        assert row["hits"] + row["misses"] == row["accesses"] == 2000
        assert row["miss_ratio"] == row["misses"] / 2000
        assert row["alloc"] == "first_fit"
        assert row["accesses_per_s"] > 0
        assert {"trace", "evictions", "writebacks"} <= row.keys()


def test_the_table_says_what_the_trace_is_and_compares(capsys, trace):
    code, out, _ = replay(capsys, trace, "--frames", "10", "--evict", "lru,belady", "--alloc", "first_fit,pte_magnet")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "squares.txt (text): 2,000 accesses, 0% writes, to 31 pages (124 KiB at 4 KiB a page)"
    assert lines[1].split()[:4] == ["FRAMES", "OF", "PAGES", "EVICT"]
    assert [line.split()[2:4] for line in lines[2:]] == [
        ["lru", "first_fit"],
        ["belady", "first_fit"],
        ["lru", "pte_magnet"],
        ["belady", "pte_magnet"],
    ]


def test_rows_of_several_processes_are_those_of_one_in_the_same_order(capsys, trace):
    arguments = ["--frames", "8,4", "--evict", "lru,belady", "--format", "json"]
    documents = [json.loads(replay(capsys, trace, *arguments, "--jobs", jobs)[1]) for jobs in ("1", "2")]
    for document in documents:
        for row in document["rows"]:
            del row["seconds"], row["accesses_per_s"]
    assert documents[0] == documents[1]
    assert [(row["frames"], row["evict"]) for row in documents[1]["rows"]] == [
        (8, "lru"), (8, "belady"), (4, "lru"), (4, "belady"),
    ]  # fmt: skip


def test_hints_bind(capsys, trace, tmp_path):
    hints = tmp_path / "hints"
    hints.write_text("0-3 EVICTION=DENY\n")
    rows = []
    for extra in ([], ["--hints", hints]):
        _, out, _ = replay(capsys, trace, "--frames", "8", "--evict", "fifo", "--format", "json", *extra)
        rows.append(json.loads(out)["rows"][0]["misses"])
    assert rows[0] != rows[1]


def test_keys_of_hints_that_have_no_effect_are_named(capsys, trace, tmp_path):
    hints = tmp_path / "hints"
    hints.write_text("* PRIORITY=LOW; EVICTION=DENY\n0-3 PRIORITY=HIGH; X_tag=5\n4 -\n5 PRIORITY=NORMAL\n")
    code, _, err = replay(capsys, trace, "--evict", "lru,hint_aware,arc", "--hints", hints)
    assert code == 0
    assert err.splitlines() == [
        "usmctl: no policy acts on PRIORITY, X_TAG of the hints where --alloc is first_fit and --evict lru or arc",
        "usmctl: no policy acts on X_TAG of the hints where --alloc is first_fit and --evict hint_aware",
    ]


@pytest.mark.parametrize("extra", [[], ["--force"]])
def test_a_folder_for_pictures_that_is_absent_is_told_before_the_work(capsys, trace, tmp_path, extra):
    code, out, err = replay(capsys, trace, "--mrc", "-o", tmp_path / "absent" / "curve", *extra)
    assert (code, out) == (2, "")
    folder = tmp_path / "absent"
    assert err == f"usmctl: pictures cannot be written to {folder}, which is not a folder; give another -o\n"


def test_a_curve_is_printed_and_drawn(capsys, trace, tmp_path):
    code, out, err = replay(
        capsys, trace, "--mrc", "--points", "4", "--evict", "lru,belady", "--jobs", "2", "-o", tmp_path / "curve"
    )
    assert code == 0
    table = [line.split() for line in out.splitlines()[2:]]
    assert [int(line[0]) for line in table] == [1, 3, 10, 31]
    assert all(float(line[2]) <= float(line[3]) for line in table), "the optimum is the least"
    assert table[-1][2] == table[-1][3] == f"{31 / 2000:.4f}", "all that is missed then is each page's first access"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "curve.svg").read_bytes()
    assert f"{tmp_path / 'curve.png'} and {tmp_path / 'curve.svg'}" in err


def test_the_name_of_a_trace_is_no_formula_and_the_ending_of_a_picture_is_not_doubled(capsys, trace, tmp_path):
    odd = tmp_path / "$x_^2$.txt"
    odd.write_text(TRACE)
    code, _, err = replay(
        capsys, odd, "--mrc", "--frames", "10,50", "--evict", "lru", "--jobs", "1", "-o", tmp_path / "a.png"
    )
    assert (code, err) == (0, f"usmctl: drawn to {tmp_path / 'a.png'} and {tmp_path / 'a.svg'}\n")


def test_a_picture_that_is_no_curve_stays_unless_that_is_asked_for(capsys, trace, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"\x89PNG a photo")
    arguments = [trace, "--mrc", "--frames", "10", "--evict", "lru", "--jobs", "1", "-o", tmp_path / "photo"]
    code, out, err = replay(capsys, *arguments)
    assert (code, out) == (2, "")
    assert f"{photo} exists and is not usmctl's curve" in err
    assert photo.read_bytes() == b"\x89PNG a photo"
    assert replay(capsys, *arguments, "--force")[0] == 0
    assert replay(capsys, *arguments)[0] == 0


def read_until(descriptor, wanted, seen=b""):
    while wanted not in seen:
        ready, _, _ = select.select([descriptor], [], [], 60)
        assert ready, seen[-500:]
        seen += os.read(descriptor, 65536)
    return seen


def test_on_a_terminal_there_is_a_bar_and_an_interrupt_leaves_what_is_known(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text(TRACE * 1000)
    master, terminal = pty.openpty()
    command = [*USMCTL, "replay", str(path), "--frames", "10", "--evict", "fifo,w_tinylfu", "--format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal) as process:
        try:
            os.close(terminal)
            seen = read_until(master, b"replaying")
            process.send_signal(signal.SIGTERM)  # to which usmctl listens as to Ctrl-C
            out, _ = process.communicate(timeout=60)
            read_until(master, b"interrupted after", seen)
        finally:
            process.kill()
            os.close(master)
    document = json.loads(out)
    assert process.returncode == 130
    assert document["complete"] is False
    assert all(row["complete"] == (row["accesses"] == 2_000_000) for row in document["rows"])
