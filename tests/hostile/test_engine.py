"""What fails within the daemon harms the client it was for, at most: no thread waits for good, no neighbour notices."""

import signal

import pytest

from tests.support.daemon import environment, wait_until
from tests.support.policy_files import write_policies
from tests.support.real_daemon import Bystander, in_use, real_daemon, to_swap
from tests.support.real_memory import require_real_memory
from tests.support.swap_faults import daemon_with_faults
from tests.support.told_client import Refused, told_clients

PAGES = 64


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def test_a_daemon_without_memory_to_read_to_gives_an_error_and_serves_again_when_it_has_some(tmp_path):
    full = tmp_path / "full"
    options = {"changes": ("tests.support.no_memory_daemon:run_out",), "environ": environment(USMD_TEST_FULL=str(full))}
    with (
        real_daemon(tmp_path, **options) as daemon,
        told_clients(daemon.address, "other", "app") as (other, client),
    ):
        bystander = Bystander(daemon, other)
        client.map("data", PAGES)
        client.do("fill", name="data", seed=1, first=0, pages=PAGES)
        to_swap(daemon, client, "data", 0, PAGES)
        with bystander.watching():
            full.touch()
            with pytest.raises(Refused, match="usmd has no memory to move the page: OSError Cannot allocate memory"):
                client.do("ensure", name="data", first=0, pages=1)
            daemon.expect("swap_tried_again", operation="read", count=1)
            reading = client.begin("wrong", name="data", seed=1, first=0, pages=PAGES)
            wait_until(reading.waits_for_its_page, "a thread waits while usmd tries again")
            full.unlink()
            assert reading.result() == []
        bystander.check()
        client.kill()
        bystander.wait_alone()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """A daemon, and the faults of its swap file, which a test ends."""
    require_real_memory()
    with daemon_with_faults(tmp_path_factory.mktemp("faulty")) as (daemon, faults):
        yield daemon, faults


def test_a_device_that_often_fails_ends_no_client_and_loses_no_byte(faulty):
    daemon, faults = faulty
    poisoned = daemon.counters()["poisoned"]
    with told_clients(daemon.address, "other", "app") as (other, client):
        bystander = Bystander(daemon, other)
        client.map("data", 2 * PAGES)
        with bystander.watching():
            faults.fail("write", "sometimes")
            faults.fail("read", "sometimes")
            for seed in (1, 2):
                client.do("fill", name="data", seed=seed, first=0, pages=2 * PAGES)
                to_swap(daemon, client, "data", 0, 2 * PAGES)
                assert client.do("wrong", name="data", seed=seed, first=0, pages=2 * PAGES) == []
        bystander.check()
        for operation in ("read", "write"):
            assert daemon.wait_for("swap_tried_again", operation=operation)["device"] == "file0"
        faults.end()
        assert daemon.counters()["poisoned"] == poisoned


def test_a_device_that_fails_for_good_ends_the_thread_that_needs_it_after_some_tries(faulty):
    daemon, faults = faulty
    with told_clients(daemon.address, "other", "app") as (other, client):
        bystander = Bystander(daemon, other)
        client.map("data", PAGES)
        client.do("fill", name="data", seed=1, first=0, pages=PAGES)
        to_swap(daemon, client, "data", 0, PAGES)
        with bystander.watching():
            faults.fail("read", "EIO")
            number = next(each.process_id for each in daemon.admin.processes() if each.name == "app")
            client.begin("wrong", name="data", seed=1, first=0, pages=1)
            assert client.ends_with() == -signal.SIGBUS
            daemon.expect("swap_error", operation="read", process_id=number)
            faults.end()
        bystander.check()
        bystander.wait_alone()


POLICIES = """
    from usmd.policies.evict.lru import Lru
    from usmd.errors import InvalidArgument

    TEXT = "\\u00e9" * (50 << 20)


    class Object:
        def __repr__(self):
            return TEXT

        __str__ = __repr__


    class Raises(Lru):
        def page_filled(self, pfn):
            super().page_filled(pfn)
            raise ValueError(TEXT)


    class Answers(Lru):
        def choose_victims(self):
            yield Object()
            yield TEXT
            yield from super().choose_victims()

        def reason(self, pfn):
            return TEXT


    class Refuses(Lru):
        def __init__(self, memory):
            raise InvalidArgument(TEXT)
"""


@pytest.mark.parametrize("name", ["Raises", "Answers", "Refuses"])
def test_what_a_policy_says_at_length_is_cut_before_it_costs_anybody_anything(daemon, tmp_path, name):
    policies = write_policies(tmp_path, POLICIES)
    with told_clients(daemon.address, "app") as (client,):
        client.map("data", PAGES)
        done = daemon.run_usmctl("policy", "set", "app", "--evict", f"{policies}:{name}")
        client.do("fill", name="data", seed=1, first=0, pages=8)
        client.do("evict", name="data", first=0, pages=8)
        assert client.do("wrong", name="data", seed=1, first=0, pages=8) == []
        said = {"Raises": "policy_error", "Answers": "policy_set", "Refuses": ""}[name]
        if said:
            wait_until(lambda: [each for each in daemon.events(said) if name in str(each)], "it is logged")
        else:
            assert done.returncode == 1
            assert "ééé" in done.stderr
        assert max(len(str(line)) for line in daemon.read_log()) < 10_000
        assert len(done.stderr) + len(done.stdout) < 10_000
        assert in_use(daemon)[0] == 2
