"""A daemon with real memory that a test must leave unharmed, and peers of its memory socket."""

import contextlib
import os

import pytest

from tests.support.daemon import running_daemon, wait_until
from tests.support.real_memory import require_real_memory
from tests.usmd.server.raw_memory import (
    PAGE,
    Peer,
    receive,
)
from usm_wire.userfaultfd import open_userfaultfd
from usmd.mechanism import uffd

FRAMES = 2048


@contextlib.contextmanager
def serving(folder, **options):
    require_real_memory()
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:1MiB")
    with running_daemon(folder, *flags, mechanism="userfaultfd", **options) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("usmd")) as daemon:
        with Peer(daemon) as first:  # what it opens once and keeps is open then
            first.works()
        wait_until(lambda: daemon.admin.status().processes == 0, "nobody is there")
        yield daemon


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


@contextlib.contextmanager
def nothing_is_left(daemon):
    """At the end the daemon has as many descriptors as before, and serves the next client and an old one."""
    with Peer(daemon, "bystander") as bystander:
        bystander.works()
        before = descriptors(daemon)
        yield
        wait_until(lambda: descriptors(daemon) <= before, f"no more than the {before} descriptors of before")
        assert daemon.admin.status().processes == 1
        bystander.works()
        with Peer(daemon, "next") as following:
            following.works()


@pytest.fixture(autouse=True)
def unharmed(daemon):
    wait_until(lambda: daemon.admin.status().processes == 0, "the end of earlier sessions")
    with nothing_is_left(daemon):
        yield


@pytest.fixture
def peer(daemon):
    with Peer(daemon) as peer:
        yield peer


@pytest.fixture
def stranger(daemon):
    """A peer that has not attached its memory."""
    with Peer(daemon, "stranger", attach=False) as peer:
        yield peer


def refused(peer, data, passed=()):
    """(reason, message) of a packet that must be refused, with no descriptor."""
    reply = peer.ask(data, passed)
    assert reply is not None
    assert reply.descriptors == []
    assert reply.reason != ""
    return reply.reason, reply.message


def has_ended(daemon, peer, reason, killed=""):
    """The peer's session and connection have ended, for this reason."""
    daemon.wait_for("process_detached", process_id=peer.process_id, reason=reason)
    assert peer.session.stream().ends_with()[1] == killed
    while receive(peer.connection) is not None:
        pass


def used_userfaultfd():
    descriptor, _ = open_userfaultfd()
    uffd.handshake(descriptor, uffd.Feature(0))
    return descriptor
