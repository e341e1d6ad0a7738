"""`usmctl replay` as it is typed: options, files and pipes, JSON, a terminal's progress bar, and an interrupt."""

import gzip
import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys

import pytest

from usmd.ctl.cli import main

TRACE = "".join(f"{number * number % 61}\n" for number in range(2000))
USMCTL = [sys.executable, "-c", "import sys; from usmd.ctl.cli import main; sys.exit(main())"]


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "squares.txt"
    path.write_text(TRACE)
    return path


def replay(capsys, *arguments):
    code = main(["replay", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


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


def test_format_may_stand_before_the_command(capsys, trace):
    assert main(["--format", "json", "replay", str(trace), "--evict", "fifo"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["evict"] == "fifo"


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


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_full_disk_is_told_in_a_line_and_a_closed_output_is_as_dev_null(trace, output):
    for to, code, told in (
        ("> /dev/full", 1, "usmctl: the output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
    ):
        command = [*USMCTL, "replay", str(trace), "--evict", "lru", "--format", output]
        done = subprocess.run(
            ["bash", "-c", f"{shlex.join(command)} {to}"],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (code, told)


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


def test_a_trace_that_is_not_there_is_told(capsys, tmp_path):
    code, _, err = replay(capsys, tmp_path / "none")
    assert code == 1
    assert str(tmp_path / "none") in err


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
