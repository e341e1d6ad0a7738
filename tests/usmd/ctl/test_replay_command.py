"""`usmctl replay` as it is typed: its options, files and pipes, and what is wrong with them."""

import gzip
import json
import shlex
import subprocess

import pytest

from tests.support.replays import TRACE, USMCTL, replay, written
from usmd.ctl.cli import main


@pytest.fixture
def trace(tmp_path):
    return written(tmp_path)


def test_format_may_stand_before_the_command(capsys, trace):
    assert main(["--format", "json", "replay", str(trace), "--evict", "fifo"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["evict"] == "fifo"


def test_a_pipe_is_read_and_compression_found_out():
    answer = subprocess.run(
        [*USMCTL, "replay", "-", "--frames", "10", "--evict", "lru", "--format", "json"],
        input=gzip.compress(TRACE.encode()),
        capture_output=True,
        timeout=60,
        check=True,
    )
    document = json.loads(answer.stdout)
    assert (document["trace"], document["accesses"]) == ("stdin", 2000)
    assert answer.stderr == b""


def test_csv_columns_and_page_size(capsys, tmp_path):
    path = tmp_path / "io.csv"
    path.write_text("when,verb,where\n1,read,0\n2,write,8192\n3,read,65536\n")
    code, out, _ = replay(
        capsys, path, "--columns", "time=when,op=verb,address=where", "--page-size", "64KiB", "--frames", "2",
        "--evict", "lru", "--format", "json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["distinct_pages"] == 2
    assert json.loads(out)["writes"] == 1


def test_lists_are_the_same_given_at_once_or_by_repeating_the_option(capsys, trace):
    together = ["--frames", "8,50%", "--evict", "lru,arc", "--alloc", "first_fit,pte_magnet"]
    apart = ["--frames", "8", "--evict", "lru", "--alloc", "first_fit", "--frames", "50%", "--evict", "arc",
             "--alloc", "pte_magnet"]  # fmt: skip
    twice = ["--frames", "8,50%", "--evict", "lru,arc,lru", "--alloc", "first_fit,pte_magnet,pte_magnet"]
    rows = []
    for arguments in (together, apart, twice):
        code, out, _ = replay(capsys, trace, "--format", "json", *arguments)
        assert code == 0
        rows.append([(row["frames"], row["evict"], row["alloc"]) for row in json.loads(out)["rows"]])
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0]) == 8


@pytest.mark.parametrize(
    ("text", "page_size", "frames"),
    [
        ("64K", "4KiB", [16]),
        ("64KiB,1M", "4K", [16, 256]),
        ("7", "4KiB", [7]),
        ("64K", "64KB", [1]),
        ("4097B", "4K", [1]),
    ],
)
def test_memory_may_be_a_size(capsys, trace, text, page_size, frames):
    _, out, _ = replay(capsys, trace, "--frames", text, "--page-size", page_size, "--evict", "lru", "--format", "json")
    assert [row["frames"] for row in json.loads(out)["rows"]] == frames


@pytest.mark.parametrize(
    "columns",
    [
        ["--columns", "time=when,id=a key"],
        ["--columns", "TIME=when", "--columns", "id=a key"],
        ["--columns", " id = a key, time=1"],
        ["--columns", '"id=a key",time=when'],
    ],
)
def test_columns_may_be_named_in_many_ways(capsys, tmp_path, columns):
    path = tmp_path / "t.csv"
    path.write_text("when;a key;op\n1;x;get\n2;y;delete\n3;x;cas\n")
    code, out, err = replay(capsys, path, "--frames", "2", "--evict", "lru", "--format", "json", *columns)
    document = json.loads(out)
    assert (code, document["accesses"], document["distinct_pages"], document["writes"]) == (0, 2, 1, 1)
    assert err == "usmctl: lines of t.csv without an access, skipped: 1\n"


@pytest.mark.parametrize(("unit", "misses"), [("s", 3), ("ms", 4)])
def test_the_unit_of_times_may_be_given(capsys, tmp_path, unit, misses):
    """A hint at 2 s comes before the third access, or never."""
    (tmp_path / "t.csv").write_text("time,id\n0,1\n1,2\n3,3\n4,1\n")
    (tmp_path / "hints").write_text("@2 1 EVICTION=DENY\n")
    _, out, _ = replay(
        capsys, tmp_path / "t.csv", "--frames", "2", "--evict", "fifo", "--time-unit", unit, "--format", "json",
        "--hints", tmp_path / "hints",
    )  # fmt: skip
    assert json.loads(out)["rows"][0]["misses"] == misses


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--frames", "many"], 2, "--frames many"),
        (["--frames", "0"], 2, "--frames 0; allowed are numbers of frames without commas"),
        (["--frames", "1,000"], 2, "--frames 1,000; allowed are numbers of frames without commas"),
        (["--frames=-5%"], 2, "--frames -5%"),
        (["--frames", "0%"], 2, "--frames 0%"),
        (["--frames", ""], 2, "--frames ; allowed"),
        (["--points", "4", "-o", "x"], 2, "--points and -o without --mrc"),
        (["--mrc", "-o", "."], 2, "-o . names no file"),
        (["--evict", "lru,,lruu"], 2, "evict policy 'lruu' does not exist; did you mean lru? there are arc, belady"),
        (["--evict", "clock(bits=0)"], 2, "clock(bits=0)"),
        (["--evict", " "], 2, "names no policy"),
        (["--alloc", "best_fit"], 2, "alloc policy 'best_fit'"),
        (["--page-size", "many"], 2, "--page-size many"),
        (["--page-size", "0"], 2, "--page-size 0"),
        (["--columns", "id"], 2, "what=name"),
        (["--columns", "id=a,id=b"], 2, "id is named twice"),
        (["--columns", "id=a", "--columns", "ID=b"], 2, "id is named twice"),
        (["--columns", "id="], 1, "column id= has no name"),
        (["--columns", "id=nope"], 1, "columns are named, but"),
        (["--time-unit", "days"], 1, "'days' is unknown; allowed are auto, s, ms, us, ns"),
        (["--frames", "1B"], 2, "--frames 1B"),
        (["--frames", "10", "--frames", "x"], 2, "--frames 10,x"),
        (["--trace-format", "tape"], 1, "'tape' is unknown"),
        (["--hints", "/nonexistent"], 1, "/nonexistent"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(capsys, trace, arguments, code, told):
    found, out, err = replay(capsys, trace, *arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert err.startswith("usmctl: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("output", "to", "code", "told"),
    [
        ("table", "> /dev/full", 1, "usmctl: the output cannot be written: No space left on device\n"),
        ("json", "> /dev/full", 1, "usmctl: the output cannot be written: No space left on device\n"),
        ("table", ">&-", 0, ""),
    ],
)
def test_a_full_disk_is_told_in_a_line_and_a_closed_output_is_as_dev_null(trace, output, to, code, told):
    command = [*USMCTL, "replay", str(trace), "--evict", "lru", "--format", output]
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(command)} {to}"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, told)


def test_a_trace_that_is_not_there_is_told(capsys, tmp_path):
    code, _, err = replay(capsys, tmp_path / "none")
    assert code == 1
    assert str(tmp_path / "none") in err
