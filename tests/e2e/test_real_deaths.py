"""Ends with real memory: of clients at every stage, of usmd, of sessions, of regions in use. No byte becomes a zero.

A client that has lost its memory waits, or dies by SIGBUS, or is told; what it never sees is a page that is not there.
"""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.attaching_client import STAGES
from tests.support.clients import start_client
from tests.support.daemon import wait_until
from tests.support.real_daemon import FRAMES, Bystander, real_daemon, resident_pages, to_swap
from tests.support.real_memory import require_real_memory
from tests.support.swap_faults import daemon_with_faults
from tests.support.told_client import Refused, told_clients

ROOT = Path(__file__).parents[2]
ATTACHING = Path(__file__).with_name("attaching_client.py")
CALLS = ("read", "write", "buffer", "ensure", "evict", "resident", "fault", "hint", "mmap")


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def touches_end_in_sigbus(client, name, page):
    """Whether a touch of a page ends the client, with nothing read."""
    touch = client.begin("peek", name=name, page=page)
    return client.ends_with() == -signal.SIGBUS and touch.answer is None


def wait_over(client):
    """Wait until a client knows that its session is over; a touch before that would be SIGBUS."""

    def knows():
        try:
            client.do("call", what="resident", name="data")
        except Refused:
            return True
        return False

    wait_until(knows, f"{client.name} knows that its session is over")


def on_their_way(daemon):
    """Pages that the swap device has not finished with."""
    return sum(each.in_flight for each in daemon.admin.swap_devices())


# Clients


def fault_without_pause(daemon, victim):
    for seed in range(3):
        victim.begin("churn", name="data", seed=seed, pages=4 * FRAMES)
    start = daemon.counters()["faults"]
    wait_until(lambda: daemon.counters()["faults"] > start + 2 * FRAMES, "it faults")


def be_evicted(daemon, victim):
    victim.do("fill", name="data", seed=2, first=0, pages=FRAMES // 2)
    start = daemon.counters()["evictions"]
    victim.begin("evict", name="data", first=0, pages=4 * FRAMES)
    wait_until(lambda: daemon.counters()["evictions"] > start, "its pages go")


@pytest.mark.parametrize("busy", [fault_without_pause, be_evicted], ids=["while_it_faults", "while_it_is_evicted"])
def test_a_killed_client_gives_all_back_and_another_keeps_every_byte(tmp_path, busy):
    with real_daemon(tmp_path) as daemon, told_clients(daemon.address, "other") as (other,):
        bystander = Bystander(daemon, other)
        for _ in range(4):
            with told_clients(daemon.address, "victim") as (victim,):
                victim.map("data", 4 * FRAMES)
                busy(daemon, victim)
                victim.kill()
            bystander.wait_alone()
            bystander.check()


def test_a_client_killed_while_its_pages_are_written_gives_them_back_and_another_keeps_every_byte(tmp_path):
    with daemon_with_faults(tmp_path) as (daemon, faults), told_clients(daemon.address, "other", "victim") as clients:
        other, victim = clients
        bystander = Bystander(daemon, other)
        victim.map("data", 64)
        victim.do("fill", name="data", seed=2, first=0, pages=64)
        faults.hold_up("write")

        def written():
            victim.do("evict", name="data", first=0, pages=64)
            return on_their_way(daemon)

        wait_until(written, "its pages are being written")
        victim.kill()
        wait_until(lambda: resident_pages(daemon, "victim") == 0, "its frames are free")
        bystander.check()
        faults.end()
        wait_until(lambda: not on_their_way(daemon), "the writes end")
        bystander.check()


def test_a_killed_client_gives_all_back_although_a_child_that_it_forked_lives_on(tmp_path):
    with real_daemon(tmp_path) as daemon, told_clients(daemon.address, "other", "victim") as (other, victim):
        bystander = Bystander(daemon, other)
        victim.map("data", 64)
        victim.do("fill", name="data", seed=2, first=0, pages=64)
        child = victim.do("fork")
        try:
            victim.process.kill()
            bystander.wait_alone()
        finally:
            os.kill(child, signal.SIGKILL)
        bystander.check()


def test_a_client_killed_half_way_through_attaching_leaves_nothing(tmp_path):
    with real_daemon(tmp_path) as daemon, told_clients(daemon.address, "other") as (other,):
        bystander = Bystander(daemon, other)
        for stage in STAGES:
            with start_client(ATTACHING, daemon.address, stage) as client:
                try:
                    assert client.stdout.readline() == "there\n", stage
                finally:
                    client.kill()
            bystander.wait_alone()
            bystander.check()


# usmd


def test_when_usmd_is_killed_clients_wait_and_never_read_zeros_and_what_they_have_goes_on_working(tmp_path):
    single = ("--alloc", "first_fit")  # else pages beside those that are read come back, too
    with real_daemon(tmp_path, *single, exit_code=None) as daemon, told_clients(daemon.address, "a", "b") as clients:
        for client in clients:
            client.map("data", 32)
            client.do("fill", name="data", seed=3, first=0, pages=16)
            to_swap(daemon, client, "data", 0, 16)
            # Pages 0 to 3 come back to be read, and are clean; 4 to 7 come back by a write, and are dirty.
            assert client.do("wrong", name="data", seed=3, first=0, pages=4) == []
            client.do("fill", name="data", seed=4, first=4, pages=4)
        daemon.signal(signal.SIGKILL)
        assert daemon.wait_exit() == -signal.SIGKILL
        for client in clients:
            waiting = [
                client.begin("peek", name="data", page=10),  # in swap
                client.begin("peek", name="data", page=20),  # never touched
                client.begin("fill", name="data", seed=5, first=21, pages=1),
                client.begin("fill", name="data", seed=5, first=2, pages=1),  # clean: its first write is waited for
            ]
            wait_until(lambda those=waiting: all(each.waits_for_its_page() for each in those), "touches wait")
            for seed in range(6, 9):
                assert client.do("wrong", name="data", seed=3, first=0, pages=4) == []
                client.do("fill", name="data", seed=seed, first=4, pages=4)
                assert client.do("wrong", name="data", seed=seed, first=4, pages=4) == []
            with pytest.raises(Refused, match="ConnectionLost"):
                client.do("ensure", name="data", first=10, pages=1)
            assert all(each.waits_for_its_page() for each in waiting)
            client.kill()
            assert client.process.returncode == -signal.SIGKILL
            assert [each.answer for each in waiting] == [None] * 4


def test_after_a_drain_a_touch_is_sigbus_and_calls_say_that_the_daemon_drained(tmp_path):
    with real_daemon(tmp_path, exit_code=None) as daemon, told_clients(daemon.address, "a", "b", "c", "d") as clients:
        for client in clients:
            client.map("data", 32)
            client.do("fill", name="data", seed=3, first=0, pages=24)
            to_swap(daemon, client, "data", 0, 8)
        daemon.signal()
        assert daemon.wait_exit() == 0
        daemon.never("defect")
        assert not daemon.stray  # waits: it has ended
        for client in clients:
            with pytest.raises(Refused, match="Draining"):
                client.do("load", name="data", first=0, pages=32)
            wait_over(client)
            for call in CALLS:
                with pytest.raises(Refused, match="Draining"):
                    client.do("call", what=call, name="data")
        # A page that was in swap, one that was in memory, one never touched.
        assert [
            touches_end_in_sigbus(each, "data", page) for each, page in zip(clients[:3], (0, 20, 30), strict=True)
        ] == [True] * 3
        clients[3].begin("fill", name="data", seed=3, first=0, pages=1)
        assert clients[3].ends_with() == -signal.SIGBUS


def test_a_drain_under_clients_that_fault_without_pause_ends_them_by_sigbus(tmp_path):
    single = ("--alloc", "first_fit")  # else pages beside those that are read come back, too
    with real_daemon(tmp_path, *single, exit_code=None) as daemon, told_clients(daemon.address, "a", "b") as clients:
        for client in clients:
            client.map("data", 4 * FRAMES)
            fault_without_pause(daemon, client)
        daemon.signal()
        assert daemon.wait_exit() == 0
        assert [client.ends_with() for client in clients] == [-signal.SIGBUS] * 2
        daemon.never("defect")
        assert not daemon.stray  # waits: it has ended


# Sessions and regions


def test_kill_largest_makes_touches_sigbus_and_calls_session_killed_and_another_keeps_every_byte(tmp_path):
    flags = ("--oom", "kill_largest")
    with (
        real_daemon(tmp_path, *flags, swap="memory:256KiB") as daemon,
        told_clients(daemon.address, "other", "largest") as (other, largest),
    ):
        bystander = Bystander(daemon, other)
        largest.map("data", 2 * FRAMES)
        waiting = largest.begin("fill", name="data", seed=1, first=0, pages=2 * FRAMES)
        assert daemon.wait_for("process_killed")["name"] == "largest"
        assert largest.ends_with() == -signal.SIGBUS
        assert waiting.answer is None
        assert re.search(r"SIGBUS at page \d+ .* 'data', .*: the session has ended", largest.last_words())
        bystander.wait_alone()
        bystander.check()
        assert daemon.counters()["oom_kills"] == 1


def test_a_session_that_the_daemon_killed_says_so_in_each_call_and_its_next_touch_is_sigbus(tmp_path):
    flags = ("--oom", "kill_largest")
    with (
        real_daemon(tmp_path, *flags, swap="memory:256KiB") as daemon,
        told_clients(daemon.address, "small", "largest") as (small, largest),
    ):
        largest.map("data", FRAMES)
        largest.do("fill", name="data", seed=1, first=0, pages=FRAMES * 3 // 4)
        small.map("data", FRAMES)
        # The small one's fault ends the large one, which touches nothing meanwhile.
        small.do("fill", name="data", seed=2, first=0, pages=FRAMES * 5 // 8)
        assert daemon.wait_for("process_killed")["name"] == "largest"
        wait_over(largest)
        for call in CALLS:
            with pytest.raises(Refused, match="SessionKilled: out of memory"):
                largest.do("call", what=call, name="data")
        assert touches_end_in_sigbus(largest, "data", 0)
        assert small.do("wrong", name="data", seed=2, first=0, pages=FRAMES * 5 // 8) == []
        assert daemon.counters()["oom_kills"] == 1


def test_a_region_whose_bytes_are_in_use_cannot_be_closed_and_nothing_has_changed(tmp_path):
    with real_daemon(tmp_path) as daemon, told_clients(daemon.address, "app") as (client,):
        client.map("data", 16)
        client.do("fill", name="data", seed=1, first=0, pages=16)
        client.do("hold", name="data")
        for _ in range(2):
            with pytest.raises(Refused, match=r"InUse: .*'data'.* has arrays or memoryviews in use"):
                client.do("close_region", name="data")
        to_swap(daemon, client, "data", 0, 16)
        assert client.do("wrong", name="data", seed=1, first=0, pages=16) == []
        client.do("fill", name="data", seed=2, first=0, pages=16)
        assert client.do("wrong", name="data", seed=2, first=0, pages=16) == []
        client.do("let_go")
        client.do("close_region", name="data")
        with pytest.raises(Refused, match="ClosedError"):
            client.do("call", what="read", name="data")
        wait_until(lambda: resident_pages(daemon, "app") == 0, "its frames are free")


def test_a_client_that_is_closed_with_bytes_in_use_warns_and_their_touch_is_sigbus_and_no_zero(tmp_path):
    with real_daemon(tmp_path) as daemon, told_clients(daemon.address, "other", "app") as (other, client):
        bystander = Bystander(daemon, other)
        client.map("held", 16)
        client.map("free", 16)
        for name in ("held", "free"):
            client.do("fill", name=name, seed=1, first=0, pages=16)
        client.do("hold", name="held")
        (warning,) = client.do("close_client")
        assert warning.startswith("UserWarning: arrays or memoryviews of <Region ")
        assert "'held'" in warning
        assert "'free'" not in warning
        assert touches_end_in_sigbus(client, "held", 3)
        client.kill()
        bystander.wait_alone()
        bystander.check()
