"""One daemon for the wire tests of a module, and clients that may send anything."""

import pytest
from structlog.testing import capture_logs

from tests.support.daemon import running_daemon
from tests.support.raw_client import RawClient, admin_stub, open_channel
from usm_wire.pb.usm.v1 import client_pb2 as pb


@pytest.fixture
def logged():
    """What this process logs meanwhile: a dict a line, with event, log_level and the fields."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """64 frames of 4 KiB with two swap devices; it must have had no defect and exit with 0."""
    flags = ("--memory", "256KiB", "--swap", "memory:2MiB", "--swap", "memory:1MiB")
    with running_daemon(tmp_path_factory.mktemp("usmd"), *flags) as running:
        yield running
        running.never("defect")
    assert running.stray == []  # waits: it has ended


@pytest.fixture
def client(daemon):
    with RawClient(daemon.address, "first") as session:
        yield session


@pytest.fixture
def first(client):
    """The first stream of the client, which answers."""
    client.stream().send_accesses(pb.Access())
    client.stream().answers(1)
    return client.stream()


@pytest.fixture
def other(daemon):
    with RawClient(daemon.address, "second") as session:
        yield session


@pytest.fixture
def admin(daemon):
    channel = open_channel(daemon.admin_address)
    yield admin_stub(channel)
    channel.close()
