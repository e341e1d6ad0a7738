"""Calls of the admin service with a deadline, and a client with a region that they tell of."""

import pytest

from tests.support.raw_client import admin_stub, open_channel
from usm_wire.pb.usm.v1 import admin_pb2 as pb

PAGE = 4096
TOP = (1 << 64) - 1
INVALID = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
NOT_FOUND = ("NOT_FOUND", "NOT_FOUND")


@pytest.fixture
def admin(daemon):
    channel = open_channel(daemon.admin_address)
    stub = admin_stub(channel)
    methods = {
        method.name: getattr(stub, method.name) for method in pb.DESCRIPTOR.services_by_name["AdminService"].methods
    }
    yield type("Calls", (), {name: staticmethod(_with_deadline(call)) for name, call in methods.items()})
    channel.close()


def _with_deadline(call):
    return lambda request: call(request, timeout=90)


@pytest.fixture
def region(client):
    """Four pages, of which 0 and 2 hold bytes."""
    region = client.map(4 * PAGE, "index")
    client.put(region, 0, b"zero")
    client.put(region, 2, b"two")
    return region


def process_of(client):
    return client.attached.process_id
