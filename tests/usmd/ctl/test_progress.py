"""The progress bar: nothing behind a pipe, a bar on a terminal, and standard output is left alone."""

import errno
import os
import pty

from tests.support.forked import ForkedProcess, run_code
from usmd.ctl.progress import progress_bar

SCRIPT = """
from tests.support.forked import ForkedProcess, run_code
from usmd.ctl.progress import progress_bar
with progress_bar("working [/red]", {total}, of_bytes={of_bytes}) as advance:
    advance(3)
    advance(1)
print("done")
"""


def run_on_a_terminal(total, of_bytes):
    master, terminal = pty.openpty()
    script = SCRIPT.format(total=total, of_bytes=of_bytes)
    process = ForkedProcess(run_code, script, environ=os.environ, stdout=True, given={2: terminal})
    os.close(terminal)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    seen = b"".join(iter(lambda: read(master), b""))
    os.close(master)
    return out, seen.decode()


def read(master):
    """The next part of what was written to a terminal that no process has open any more; b"" at the end."""
    try:
        return os.read(master, 65536)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def test_a_terminal_shows_a_bar_and_standard_output_only_the_answer():
    out, seen = run_on_a_terminal(4, of_bytes=False)
    assert out == "done\n"
    assert "working [/red]" in seen
    assert "4 of 4" in seen


def test_bytes_and_an_unknown_total():
    assert "working [/red]" in run_on_a_terminal(2048, of_bytes=True)[1]
    assert "working [/red]" in run_on_a_terminal(None, of_bytes=True)[1]
    assert "working [/red]" in run_on_a_terminal(None, of_bytes=False)[1]


def test_behind_a_pipe_there_is_nothing(capsys):
    with progress_bar("working [/red]", 4) as advance:
        advance(4)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")
