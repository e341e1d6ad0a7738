"""A daemon of one's own: what it says before it is ready is told, and what it says later holds it up nowhere."""

import sys

import pytest

from tests.support.waiting import wait_until
from tools.own_daemon import started

SAYS_MUCH = """
import signal, sys, pathlib
print("ready", file=sys.stderr, flush=True)
sys.stderr.write("said\\n" * 100_000)
sys.stderr.flush()
pathlib.Path(sys.argv[1]).touch()
signal.pause()
"""


def test_a_process_that_says_more_than_a_pipe_holds_goes_on(tmp_path):
    done = tmp_path / "done"
    with started([sys.executable, "-S", "-c", SAYS_MUCH, str(done)]):
        wait_until(done.exists, "it has said all")


def test_one_that_ends_before_it_is_ready_is_an_error_with_what_it_said():
    with (
        pytest.raises(RuntimeError, match="ended before it was ready: no memory"),
        started([sys.executable, "-S", "-c", "import sys; sys.exit('no memory')"]),
    ):
        pass
