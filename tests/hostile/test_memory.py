"""Clients that make the kernel wait, or work long, for what the daemon does to their memory: neighbours do not wait.

The clients are bench/hostile_client.py; `python -m bench hostile` prints the waits. `LONGEST` is generous, for machines
that are busy; what is seen is 0.1 s.
"""

import signal

import pytest

from bench import hostile_client
from tests.support import loop_stretches
from tests.support.daemon import environment
from tests.support.forked import ForkedProcess, run_script
from tests.support.real_daemon import Bystander, real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients

LONGEST = 2.0
"""Seconds that a neighbour may wait."""
STRETCH = 0.03
"""CPU seconds that the event loop may take for one callback: 0.005 is seen, and 0.2 where 8 GiB go at once."""
SECONDS = 90.0
HELD = "a memfd may be mapped, not written to"
OFTEN = "a memfd may be mapped once"
ENDED_BY_USMD = {
    "hold_by_a_page_that_nothing_serves": HELD,
    "hold_by_a_page_of_another_region": HELD,
    "hold_by_an_accomplice": HELD,
    "map_it_often": OFTEN,
}


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def hostile(daemon, way):
    """Start a client that does as the method of that name."""
    arguments = [daemon.address, way]
    return ForkedProcess(run_script, hostile_client.__file__, arguments, environ=environment(), stdin=True)


@pytest.mark.parametrize(("way", "reason"), ENDED_BY_USMD.items())
def test_a_client_that_makes_usmd_wait_for_its_memory_is_ended_and_no_neighbour_waits(tmp_path, way, reason):
    with real_daemon(tmp_path) as daemon, told_clients(daemon.address, "other") as (other,):
        bystander = Bystander(daemon, other)
        with bystander.watching(LONGEST):
            client = hostile(daemon, way)
            try:
                assert client.wait(SECONDS) == -signal.SIGKILL
                line = daemon.expect("client_ended", level="warning", killed=True)
                assert line["reason"].endswith(reason)
                assert daemon.admin.status().processes == 1
            finally:
                client.close()  # the accomplice ends with its stdin
        bystander.wait_alone()
        bystander.check()


@pytest.mark.parametrize("way", ["leave_much_unserved", "map_other_things"])
def test_the_end_of_a_session_holds_up_no_neighbour_however_much_its_process_has_mapped(tmp_path, way):
    stretches = tmp_path / "stretches"
    options = {
        "changes": ("tests.support.loop_stretches:write_down",),
        "environ": environment(**{loop_stretches.VARIABLE: str(stretches)}),
    }
    with real_daemon(tmp_path, "--no-uvloop", **options) as daemon, told_clients(daemon.address, "other") as (other,):
        bystander = Bystander(daemon, other)
        with bystander.watching(LONGEST):
            client = hostile(daemon, way)
            try:
                assert client.wait(SECONDS) == -signal.SIGBUS, client.stderr.read()
                bystander.wait_alone()
            finally:
                client.close()
        bystander.check()
    took, what = loop_stretches.longest(stretches)
    assert took < STRETCH, what
