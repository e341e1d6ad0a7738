"""Clients that make the kernel wait, or work long, for what the daemon does to their memory: neighbours do not wait.

The clients are bench/hostile_client.py; `python -m bench hostile` prints the waits.
"""

import signal

import pytest

from bench import hostile_client
from tests.support import off_the_loop
from tests.support.daemon import environment, wait_until
from tests.support.forked import ForkedProcess, run_script

SECONDS = 90.0
HELD = "a memfd may be mapped, not written to"
OFTEN = "a memfd may be mapped once"
ENDED_BY_USMD = {
    "hold_by_a_page_that_nothing_serves": HELD,
    "hold_by_a_page_of_another_region": HELD,
    "hold_by_an_accomplice": HELD,
    "map_it_often": OFTEN,
}
THREADS = "threads"


def OPTIONS(folder):  # noqa: N802 - of the fixture `shared`
    return {
        "changes": ("tests.support.off_the_loop:write_down",),
        "environ": environment(**{off_the_loop.VARIABLE: str(folder / THREADS)}),
    }


def hostile(daemon, way):
    """Start a client that does as the method of that name."""
    arguments = [daemon.address, way]
    return ForkedProcess(run_script, hostile_client.__file__, arguments, environ=environment(), stdin=True)


@pytest.mark.parametrize(("way", "reason"), ENDED_BY_USMD.items())
def test_a_client_that_makes_usmd_wait_for_its_memory_is_ended_and_no_neighbour_waits(daemon, way, reason):
    before = len(daemon.events("client_ended"))
    client = hostile(daemon, way)
    try:
        assert client.wait(SECONDS) == -signal.SIGKILL
        (line,) = wait_until(lambda: daemon.events("client_ended", level="warning", killed=True)[before:], "a line")
        assert line["reason"].endswith(reason)
        assert daemon.admin.status().processes == 1
    finally:
        client.close()  # the accomplice ends with its stdin


@pytest.mark.parametrize("way", ["leave_much_unserved", "map_other_things"])
def test_the_end_of_a_session_holds_up_no_neighbour_however_much_its_process_has_mapped(shared, daemon, way):
    threads = shared.folder / THREADS
    threads.write_text("")  # not what the daemon tried out at its start
    client = hostile(daemon, way)
    try:
        assert client.wait(SECONDS) == -signal.SIGBUS, client.stderr.read()
        shared.bystander.wait_alone()
    finally:
        client.close()
    assert off_the_loop.seen(threads) == {(name, off_the_loop.ASIDE) for _, name in off_the_loop.WORK}
