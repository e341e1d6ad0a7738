"""What a client does to its own mappings costs it nothing but what it gave away, and costs nobody else anything.

The clients are remapping_client.py and forking_client.py.
"""

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.remapping_client import SCENARIOS
from tests.support.daemon import environment
from tests.support.forked import run_forked, run_script
from tests.support.real_daemon import Bystander, real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients

REMAPPING = Path(__file__).with_name("remapping_client.py")
FORKING = Path(__file__).with_name("forking_client.py")


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def run(program, *arguments):
    """Run a client to its end."""
    return run_forked(run_script, str(program), list(arguments), environ=environment(), seconds=120)


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    """A daemon that samples touches by one way or not, and its bystander."""
    require_real_memory()
    folder = tmp_path_factory.mktemp("usmd")
    rate = "16" if request.param else '"off"'
    config = f"[memory]\nsampling = {rate}\n"
    changes = (f"tests.support.unsampled_daemon:{request.param}",) if request.param else ()
    with (
        real_daemon(folder, swap=f"file:{folder / 'swap'}:8MiB", config=config, changes=changes) as daemon,
        told_clients(daemon.address, "other") as (other,),
    ):
        yield daemon, Bystander(daemon, other)


@pytest.mark.parametrize(
    ("served", "scenario"),
    [*(("without_rights", each) for each in SCENARIOS), ("by_pageout", "everything"), ("", "everything")],
    indirect=["served"],
)
def test_what_a_client_did_not_give_away_keeps_its_bytes_and_usmd_and_others_go_on(served, scenario):
    daemon, bystander = served
    before = daemon.counters()
    done = run(REMAPPING, daemon.address, scenario, "1")
    assert (done.returncode, done.stdout) == (0, "done\n"), (done.stderr, daemon.events("swap_error"))
    bystander.wait_alone()
    bystander.check()
    counters = daemon.counters()
    assert min(counters[key] - before[key] for key in ("swap_outs", "swap_ins", "protect_faults")) > 0
    assert [counters[key] for key in ("swap_read_errors", "swap_write_errors")] == [0, 0]
    daemon.never("userfaultfd_refused")
    daemon.validate()


def test_a_forked_child_is_refused_ends_cleanly_and_costs_its_parent_no_byte(tmp_path):
    with real_daemon(tmp_path) as daemon, told_clients(daemon.address, "other") as (other,):
        bystander = Bystander(daemon, other)
        done = run(FORKING, daemon.address)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)  # which is all, so that the last child has read nothing
        assert said["children"] == [0, 0, 0, 0, -signal.SIGSEGV], done.stderr
        assert said["wrong"] == []
        bystander.wait_alone()
        bystander.check()
