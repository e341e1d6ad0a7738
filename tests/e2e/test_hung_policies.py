"""Policies that do not return: the daemon ends their call, goes on without them, and every byte stays right."""

import os

import pytest

import lib_usm
from tests.support.daemon import run_usmd, running_daemon
from tests.support.policy_files import write_policies
from tests.support.real_memory import require_real_memory

PAGE = 4096
MEMORY = ("--memory", "256KiB", "--swap", "memory:4MiB", "--evict", "lru")
CONFIG = "[policy]\ncall_timeout = 0.2\n"
HUNG = """
    import re
    import time

    from usmd.core.policy import AllocPolicy, ConditionalPolicy, OomPolicy
    from usmd.policies.evict.lru import Lru


    class Loops(Lru):
        def choose_victims(self):
            while True:
                pass


    class Catches(Lru):
        def page_filled(self, pfn):
            super().page_filled(pfn)
            while True:
                try:
                    time.sleep(1000)
                except Exception:
                    pass


    class Lists(Lru):
        # Most of the time it is in the core's own code.
        def page_accessed(self, pfn, write):
            other = next(iter(self.recency))
            while True:
                self.recency.move_to_end(other)
                self.recency.move_to_end(pfn)


    class Sleeps(AllocPolicy):
        def allocate(self, fault, async_rq):
            time.sleep(1000)


    class Matches(AllocPolicy):
        # All the time it is in C.
        def allocate(self, fault, async_rq):
            re.compile("(a+)+$").match("a" * 80 + "b")


    class Powers(Lru):
        def page_filled(self, pfn):
            3 ** (10 ** 10 + pfn)


    class Turns(ConditionalPolicy):
        def turn(self):
            while True:
                pass


    class Makes(Lru):
        def __init__(self, memory):
            while True:
                pass
"""


@pytest.fixture
def hung(tmp_path):
    return write_policies(tmp_path, HUNG, "hung.py")


@pytest.mark.parametrize(
    ("mechanism", "kind", "name", "after"),
    [
        ("simulated", "evict", "Loops", "lru"),
        ("userfaultfd", "evict", "Loops", "lru"),
        ("simulated", "evict", "Catches", "lru"),
        ("simulated", "evict", "Lists", "lru"),
        ("userfaultfd", "alloc", "Sleeps", "async_aware"),
        ("simulated", "alloc", "Matches", "async_aware"),
        ("simulated", "evict", "Powers", "lru"),
        ("simulated", "cond", "Turns", "none"),
    ],
)
def test_a_call_that_does_not_return_is_ended_and_the_default_takes_the_place(
    tmp_path, hung, mechanism, kind, name, after
):
    if mechanism == "userfaultfd":
        require_real_memory()
    with (
        running_daemon(tmp_path, *MEMORY, config=CONFIG, mechanism=mechanism) as daemon,
        lib_usm.connect(daemon.address, name="app") as app,
    ):
        region = app.mmap(256 * PAGE, name="data")
        data = bytearray(os.urandom(len(region)))
        region.write(0, data)
        daemon.usmctl("policy", "set", "app", f"--{kind}", f"{hung}:{name}")
        data[: len(data) // 2] = os.urandom(len(data) // 2)
        region.write(0, data[: len(data) // 2])
        for _ in range(2):  # hits, for who is told of them
            assert region.read(len(data) // 2 - PAGE, PAGE) == data[len(data) // 2 - PAGE : len(data) // 2]
        told = daemon.wait_for("policy_replaced")
        assert told["message"].startswith(f"app (process {app.process_id}): {kind} policy {hung}:{name} did not return")
        assert told["replaced_by"] == after
        first = daemon.events("policy_error")[0]["message"]
        spent = "1 s, in which it slept or waited" if name in ("Sleeps", "Catches") else "0.2 s of CPU time"
        assert f"PolicyHung('it did not return for {spent}, at " in first
        assert f"{hung}:" in first.split(" at ")[1]
        assert region.read(0, len(region)) == data
        assert len(daemon.events("policy_replaced")) == 1
        assert "which did not return from a call" in daemon.run_usmctl("policies").stdout


def test_a_simulation_that_hangs_is_stopped_and_what_it_shadows_goes_on(tmp_path, hung):
    with running_daemon(tmp_path, *MEMORY, config=CONFIG) as daemon, lib_usm.connect(daemon.address, name="app") as app:
        region = app.mmap(256 * PAGE, name="data")
        data = os.urandom(len(region))
        with daemon.start_usmctl("shadow", "app", "--evict", f"{hung}:Loops", COLUMNS="250") as shadow:
            assert shadow.stdout is not None
            seen = ""
            while "a call of its policy hung" not in seen:
                region.write(0, data)
                seen = shadow.stdout.readline()
                assert seen or shadow.poll() is None, shadow.stderr and shadow.stderr.read()
            assert region.read(0, len(region)) == data
            shadow.kill()
        daemon.never("policy_error")


def test_a_constructor_that_hangs_is_refused_by_name(tmp_path, hung):
    with running_daemon(tmp_path, *MEMORY, config=CONFIG) as daemon, lib_usm.connect(daemon.address, name="app") as app:
        region = app.mmap(PAGE)
        for command in (("policy", "set", "app", "--evict"), ("shadow", "app", "--evict")):
            done = daemon.run_usmctl(*command, f"{hung}:Makes")
            assert done.returncode == 1
            assert f"evict policy {hung}:Makes cannot be made" in done.stderr
            assert "did not return for 0.2 s of CPU time, at " in done.stderr
        region.write(0, b"works")
        assert region.read(0, 5) == b"works"


def test_a_configured_one_whose_constructor_hangs_keeps_usmd_from_starting(tmp_path, hung):
    (tmp_path / "usmd.toml").write_text(CONFIG)
    sockets = (
        "--config",
        str(tmp_path / "usmd.toml"),
        "--socket",
        str(tmp_path / "s"),
        "--admin-socket",
        str(tmp_path / "a"),
    )
    done = run_usmd("serve", *sockets, "--evict", f"{hung}:Makes")
    assert done.returncode != 0
    assert f"policy.evict: evict policy {hung}:Makes cannot be made" in done.stdout + done.stderr
    assert "did not return for 0.2 s of CPU time, at " in done.stdout + done.stderr
