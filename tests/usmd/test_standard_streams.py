"""Standard descriptors that are missing, and output that never waits for its reader."""

import fcntl
import itertools
import os
import subprocess
import sys
import threading

import pytest

from usmd.aside import Aside
from usmd.standard_streams import AsideStream, Descriptor

OPEN_MISSING = """
import os, sys
sys.path[:0] = {path!r}
from usmd.standard_streams import open_missing
open_missing()
for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
    assert stream is not None, number
    os.fstat(number)
    assert os.get_inheritable(number)
new = os.open("/", os.O_RDONLY)
assert new > 2, new
assert sys.stdin.read() == ""
print("out \\u2192")
print("err \\ud800", file=sys.stderr)
sys.stdout.flush()
"""
NEVER_BLOCK = """
import sys, threading
sys.path[:0] = {path!r}
from usmd.standard_streams import never_block
never_block()
"""


def script(text):
    return text.format(path=sys.path)


@pytest.mark.parametrize("missing", [each for n in range(4) for each in itertools.combinations((0, 1, 2), n)], ids=str)
def test_missing_descriptors_are_opened_before_a_file_takes_their_place(missing, tmp_path):
    closed = " ".join(f"{number}>&-" for number in missing)
    (tmp_path / "script.py").write_text(script(OPEN_MISSING))
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -S script.py {closed}', sys.executable],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == ("" if 1 in missing else "out \u2192\n")
    assert done.stderr.decode() == ("" if 2 in missing else "err \\ud800\n")


@pytest.fixture
def pipe():
    """A pipe of one page: its reading end, and its writing end."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    ends = {reader, writer}

    def close(end):
        ends.discard(end)
        os.close(end)

    yield reader, writer, close
    for end in ends:
        os.close(end)


def run(text, stderr, **environ):
    """Run a script that writes to its standard error; its end is not waited for."""
    return subprocess.Popen(
        [sys.executable, "-c", script(NEVER_BLOCK) + text],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **environ},
    )  # fmt: skip


def read_all(end):
    found = b""
    while more := os.read(end, 65536):
        found += more
    return found.decode()


def test_all_lines_come_in_order_at_the_end_with_the_traceback_of_what_ended_it(pipe):
    reader, writer, close = pipe
    process = run("for n in range(3000): print(n, file=sys.stderr)\nprint('begun', end='')\n1 / 0", writer)
    close(writer)
    lines = read_all(reader).splitlines()
    assert lines[:3000] == [str(n) for n in range(3000)]
    assert lines[3000].startswith("Traceback")
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert process.communicate(timeout=90)[0] == b"begun"
    assert process.returncode == 1


def test_a_reader_that_sleeps_delays_neither_the_writer_nor_the_end(pipe):
    reader, writer, close = pipe
    process = run(
        "for n in range(20_000): print(n, 'x' * 100, file=sys.stderr)\nprint('done', flush=True)\n1 / 0", writer
    )
    close(writer)
    assert process.communicate(timeout=90) == (b"done\n", None)
    assert process.returncode == 1
    assert len(read_all(reader)) <= 4096


def test_a_reader_that_wakes_is_told_how_many_lines_it_lost(pipe):
    reader, writer, close = pipe
    text = "for n in range(20_000): print(n, file=sys.stderr)\nprint('full', flush=True)\nsys.stdin.read()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script(NEVER_BLOCK) + text + "print('last', file=sys.stderr)"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer,
    )  # fmt: skip
    close(writer)
    assert process.stdout.readline() == b"full\n"
    lines = ""
    while "lost" not in lines:
        lines += os.read(reader, 4096).decode()
    process.communicate(timeout=90)
    lines = (lines + read_all(reader)).splitlines()
    (told,) = [line for line in lines if "lost" in line]
    count = int(told.split()[0])
    assert told == f"{count} lines lost, because they could not be written in time"
    assert lines == [*(str(n) for n in range(20_000 - count)), told, "last"]


def test_standard_output_and_error_of_one_file_keep_the_order_between_them(tmp_path):
    with (tmp_path / "both").open("wb") as both:
        text = "for n in range(500): print(n); print(n, file=sys.stderr)"
        subprocess.run(
            [sys.executable, "-c", script(NEVER_BLOCK) + text], stdout=both, stderr=both, timeout=90, check=True
        )
    assert (tmp_path / "both").read_text().split() == [str(n) for n in range(500) for _ in (1, 2)]


def test_what_native_code_writes_at_the_users_wish_goes_the_same_way(pipe):
    reader, writer, close = pipe
    text = "import os\nprint('ours', file=sys.stderr)\nos.write(2, b'native\\n' * 3)\nprint(sys.stderr.isatty())"
    process = run(text, writer, GRPC_VERBOSITY="DEBUG")
    close(writer)
    assert sorted(read_all(reader).split()) == ["native"] * 3 + ["ours"]
    assert process.communicate(timeout=90)[0] == b"False\n"
    reader, writer = os.pipe()
    process = run(
        "import os\nfor _ in range(20_000): os.write(2, b'x' * 99 + b'\\n')\nprint('done')",
        writer,
        GRPC_VERBOSITY="info",
    )
    os.close(writer)
    assert process.communicate(timeout=90)[0] == b"done\n"
    os.close(reader)


def test_a_line_is_not_torn_by_other_threads_and_one_without_end_waits_for_a_flush():
    written = []
    writer = Aside("test", lambda data: written.append(data) or True, limit=10_000)
    stream = AsideStream(2, "<stderr>", "ascii", writer)

    def work(letter):
        for _ in range(500):
            print(letter, letter, letter, file=stream)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.finish()
    assert sorted(written) == sorted(f"{letter} {letter} {letter}\n".encode() for letter in "abc" for _ in range(500))
    written.clear()
    stream.write("one\ntwo\nbegun")
    stream.write(" and \u2192 ended")
    assert writer.finish()
    assert written == [b"one\ntwo\n"]
    stream.flush()
    stream.flush()
    assert writer.finish()
    assert written[1:] == [b"begun and \\u2192 ended"]
    assert (stream.fileno(), stream.writable(), stream.encoding, stream.errors) == (
        2,
        True,
        "ascii",
        "backslashreplace",
    )


def test_a_descriptor_that_another_program_made_non_blocking_is_waited_for(pipe):
    reader, writer, _ = pipe
    os.set_blocking(writer, False)
    data = b"x" * 20_000
    done = []
    thread = threading.Thread(target=lambda: done.append(Descriptor(writer).write(data)))
    thread.start()
    found = b""
    while len(found) < len(data):
        found += os.read(reader, 4096)
    thread.join()
    assert (done, found) == ([True], data)


def test_a_full_disk_loses_lines_and_the_next_one_begins_on_a_line_of_its_own(tmp_path, monkeypatch):
    with (tmp_path / "log").open("wb", buffering=0) as file:
        full = Descriptor(file.fileno())
        write = os.write
        monkeypatch.setattr(os, "write", failing(write, [3, OSError(28, "full"), OSError(28, "full")]))
        assert not full.write(b"first\n")
        assert not full.write(b"second\n")
        assert full.write(b"third\n")
        assert full.write(b"fourth\n")
    assert (tmp_path / "log").read_bytes() == b"fir\nthird\nfourth\n"


def failing(write, ends):
    """os.write that writes so many bytes, or raises, as long as there is something in `ends`."""

    def limited(number, data):
        end = ends.pop(0) if ends else len(data)
        if isinstance(end, OSError):
            raise end
        return write(number, data[:end])

    return limited


def test_a_terminal_that_was_stopped_delays_nothing():
    leader, follower = os.openpty()
    process = run(
        "for n in range(2000): print(n, 'x' * 100, file=sys.stderr)\nprint(sys.stderr.isatty(), flush=True)", follower
    )
    os.close(follower)
    assert process.communicate(timeout=90)[0] == b"True\n"
    assert process.returncode == 0
    os.close(leader)


def test_a_reader_that_left_is_no_error(pipe):
    reader, writer, close = pipe
    close(reader)
    process = run("for n in range(100): print(n, file=sys.stderr)", writer)
    assert process.communicate(timeout=90)[0] == b""
    assert process.returncode == 0
