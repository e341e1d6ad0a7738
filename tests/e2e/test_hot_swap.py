"""Policies of a live process, set again and again while it works: every byte stays right; and one that misbehaves."""

import json
import os
import random
import threading
from pathlib import Path

import pytest

import lib_usm
from tests.support.clients import start_client
from tests.support.daemon import running_daemon, wait_until
from tests.support.policy_files import write_policies
from tests.support.real_memory import require_real_memory

PAGE = 4096
MEMORY = ("--memory", "512KiB", "--swap", "memory:8MiB")
CLIENT = Path(__file__).with_name("random_client.py")
ROUNDS = 1
FAULTS = 20
"""Of the client under each policy, so that it has chosen victims."""
EVICT = (
    "lru",
    "arc",
    "s3_fifo",
    "lirs",
    "w_tinylfu",
    "clock",
    "hint_aware(fallback=sieve)",
    "two_q",
    "slru",
    "hint_aware",
)
ALLOC = ("first_fit", "flexible_huge_pages(pages=4)", "async_aware", "async_aware(regular=flexible_huge_pages)")


@pytest.mark.parametrize("mechanism", ["simulated", "userfaultfd"])
def test_policies_change_under_a_client_that_works_and_every_byte_stays_right(tmp_path, mechanism):
    if mechanism == "userfaultfd":
        require_real_memory()
    source = random.Random(7)
    with (
        running_daemon(tmp_path, *MEMORY, mechanism=mechanism) as daemon,
        start_client(CLIENT, daemon.address, "worker", 11, 0, 512 * PAGE, stdin=True) as client,
    ):
        wait_until(lambda: daemon.admin.processes() or client.poll() is not None, "the client is attached")
        process = daemon.admin.processes()[0].process_id
        before, count = "hint_aware", 0
        for evict in ROUNDS * EVICT:
            changes = daemon.admin.set_policy(process, {"evict": evict, "alloc": source.choice(ALLOC)}).changes
            assert (changes[1].before, changes[1].after) == (before, evict)
            before = evict
            count += 1
            enough = daemon.counters()["faults"] + FAULTS
            wait_until(lambda enough=enough: daemon.counters()["faults"] > enough, "the client faults under the policy")
        out, complaint = client.communicate(timeout=300)  # the end of its stdin ends it
        assert client.returncode == 0, complaint
        done = json.loads(out)
        assert done["writes"] + done["reads"] > 100
        daemon.never("policy_error")
        daemon.never("policy_replaced")
        assert len(daemon.events("policy_set")) == 2 * count
        daemon.never("swap_error")


FAILS = '''
from usmd.policies.evict.lru import Lru


class Fails(Lru):
    """It works until somebody needs it."""

    def choose_victims(self):
        raise RuntimeError("not today")
'''


@pytest.fixture
def fails(tmp_path):
    return f"{write_policies(tmp_path, FAILS, 'fails.py')}:Fails"


def in_force(daemon, process):
    """The policies of a process by kind, as `usmctl policies` has them."""
    (found,) = [each for each in daemon.usmctl("policies")["processes"] if each["process_id"] == process]
    return {each["kind"]: each for each in found["policies"]}


def test_a_policy_that_always_fails_is_replaced_by_the_default_and_everybody_is_told(tmp_path, fails):
    config = '[policy]\nevict = "lru"\nmax_errors = 5\n'
    with running_daemon(tmp_path, *MEMORY, config=config) as daemon, lib_usm.connect(daemon.address, name="app") as app:
        region = app.mmap(512 * PAGE, name="data")
        data = os.urandom(len(region))
        region.write(0, data)
        with daemon.start_usmctl("watch", "--format", "json") as watch:
            seen = []
            reader = threading.Thread(target=lambda: seen.extend(map(json.loads, watch.stdout)))
            reader.start()
            try:
                # The watch says nothing when it begins, so visits go on until one is seen.
                wait_until(lambda: lib_usm.connect(daemon.address).close() or seen, "a visit is seen")
                (change,) = daemon.usmctl("policy", "set", "app", "--evict", fails)["changes"]
                assert (change["kind"], change["before"], change["after"]) == ("evict", "lru", fails)
                region.write(0, data)
                wait_until(lambda: [each for each in seen if each["kind"] == "policy_replaced"], "it is told")
            finally:
                watch.kill()
                reader.join()
        assert {"policy_set", "policy_error", "policy_replaced"} <= {each["kind"] for each in seen}
        told = daemon.expect("policy_replaced")
        assert (told["level"], told["policy"], told["replaced_by"], told["errors"]) == ("warning", fails, "lru", "6")
        now = in_force(daemon, app.process_id)["evict"]
        assert now["policy"] == "lru"
        assert now["errors"] <= 1  # the old one was asked for its order once more, and failed once more
        change = now["change"]
        assert (change["before"], change["misbehaved"], change["errors"]) == (fails, True, 6)
        table = daemon.run_usmctl("policies").stdout
        assert f"took the place of {fails}, which made 6 errors" in table
        assert region.read(0, len(region)) == data


def test_a_default_that_always_fails_leaves_the_core_to_itself(tmp_path, fails):
    config = f'[policy]\nmax_errors = 3\n[[policy.rules]]\nname = "app"\nevict = "{fails}"\n'
    with running_daemon(tmp_path, *MEMORY, config=config) as daemon, lib_usm.connect(daemon.address, name="app") as app:
        region = app.mmap(512 * PAGE, name="data")
        data = os.urandom(len(region))
        region.write(0, data)
        assert region.read(0, len(region)) == data
        daemon.wait_for("policy_replaced")
        assert in_force(daemon, app.process_id)["evict"]["policy"] == "hint_aware"


def test_a_mistake_in_one_policy_changes_none(tmp_path):
    with running_daemon(tmp_path, *MEMORY) as daemon, lib_usm.connect(daemon.address, name="app") as app:
        done = daemon.run_usmctl("policy", "set", "app", "--evict", "arc", "--oom", "kill_smallest")
        assert done.returncode == 1
        assert "oom policy 'kill_smallest' does not exist; there are freeze, kill_largest, " in done.stderr
        assert in_force(daemon, app.process_id)["evict"]["policy"] == "hint_aware"
        daemon.never("policy_set")
        assert (
            daemon.usmctl("policy", "set", "app", "--evict", "arc", "--cond", "none")["changes"][1]["after"] == "none"
        )
