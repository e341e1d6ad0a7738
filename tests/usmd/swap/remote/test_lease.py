"""The ownership of a keyspace: taken by one daemon, kept, lost, and taken from the dead."""

import os
import subprocess

import msgspec
import pytest

from tests.support.waiting import wait_until
from usmd.errors import SwapDeviceError
from usmd.swap.remote import lease
from usmd.swap.remote.lease import Lease, is_dead, this_process
from usmd.swap.remote.requests import Failure
from usmd.swap.remote.servers import OneServer

KEY = "usmd:test:owner"
ELSEWHERE = {"boot": "another machine's"}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def no_wait(seconds):
    raise AssertionError(f"waited {seconds} s")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(server, clock):
    def build(key_id, seconds=30.0, **changes):
        owner = msgspec.structs.replace(this_process(key_id), **changes)
        return Lease(OneServer(server.client, clock), "test", owner, seconds, clock)

    return build


def test_a_keyspace_is_taken_renewed_and_given_up(server, make):
    held = make("a")
    assert held.take(no_wait) == ""
    assert 29_000 < server.client.pttl(KEY) <= 30_000
    server.client.pexpire(KEY, 5000)
    taken = held.renew()
    assert (taken.ours, taken.was_there) == (True, True)
    assert server.client.pttl(KEY) > 29_000
    assert held.why_not() == ""
    held.give_up()
    assert not server.client.exists(KEY)


def test_a_living_daemon_is_not_displaced_and_named(server, make):
    make("a", **ELSEWHERE).take(no_wait)
    waits = []

    def renewed(seconds):
        waits.append(seconds)
        server.client.pexpire(KEY, 30_000)

    with pytest.raises(SwapDeviceError) as caught:
        make("b").take(renewed)
    assert len(waits) == 1
    assert f"owned by usmd with process number {os.getpid()} on " in str(caught.value)
    assert "keyspace of its own" in str(caught.value)


def test_a_lease_that_is_not_renewed_is_waited_for(server, make):
    make("a", 0.05, **ELSEWHERE).take(no_wait)
    held = make("b", 0.05)
    assert held.take() == ""
    assert held.renew().ours


@pytest.mark.parametrize("expires", [None, 3600_000])
def test_a_key_that_does_not_expire_in_time_is_not_waited_for(server, make, expires):
    server.client.set(KEY, "stranger", px=expires)
    with pytest.raises(SwapDeviceError, match="owned by another program"):
        make("a").take(no_wait)


def test_a_process_of_this_machine_that_has_ended_is_not_waited_for(server, make):
    ended = subprocess.Popen(["true"])
    ended.wait()
    make("gone", pid=ended.pid).take(no_wait)
    held = make("b")
    assert held.take(no_wait) == "gone"
    assert held.renew().was_there


def test_who_is_dead():
    here = this_process("here")

    def dead(**changes):
        return is_dead(msgspec.json.encode(msgspec.structs.replace(here, **changes)), here)

    assert not dead()
    assert dead(started=here.started + 1)  # another process has its number
    assert dead(pid=2**22 + 1)
    assert not dead(pid=2**22 + 1, **ELSEWHERE)
    assert not dead(pid=2**22 + 1, namespace="pid:[1]")
    assert not is_dead(b"no owner", here)


def test_a_process_that_nobody_waited_for_has_ended():
    with subprocess.Popen(["true"]) as process:
        wait_until(lambda: lease._started(lease._PROC, process.pid) is None, "the process has ended")


def test_a_daemon_whose_keyspace_was_taken_over_writes_nothing_until_it_is_free(server, make, clock):
    held = make("a")
    held.take(no_wait)
    server.client.delete(KEY)
    make("b", **ELSEWHERE).take(no_wait)
    assert held.why_not() == ""  # it is believed for as long as the lease: the names of its keys are its own
    clock.now += 30
    assert "was taken over by usmd with process number" in held.why_not()
    assert "was taken over by" in held.why_not()
    server.client.delete(KEY)
    taken = held.renew()
    assert (taken.ours, taken.was_there) == (True, False)
    assert held.why_not() == ""


def test_a_lease_that_cannot_be_renewed_lets_nothing_be_written(make, clock, monkeypatch):
    held = make("a")
    held.take(no_wait)
    monkeypatch.setattr(held._servers, "run", lambda requests: [Failure("no answer")])
    clock.now += 29
    assert held.why_not() == ""
    clock.now += 1
    assert held.why_not() == "the keyspace test may have another owner by now: no answer"
    assert held.renew() == Failure("no answer")


def test_an_owner_leaves_the_key_of_another_one(server, make):
    held = make("a")
    held.take(no_wait)
    server.client.set(KEY, "stranger")
    held.give_up()
    assert server.client.get(KEY) == b"stranger"
    server.client.delete(KEY)
    server.client.hset(KEY, "what", "not a string")
    assert "WRONGTYPE" in held.renew().why
    with pytest.raises(SwapDeviceError, match=r"cannot be taken: .*WRONGTYPE"):
        held.take(no_wait)
