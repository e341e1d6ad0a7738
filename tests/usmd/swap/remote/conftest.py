"""One server for all tests of a process that need no particular one."""

import pytest
from structlog.testing import capture_logs

from tests.support.redis_servers import open_redis, running_redis


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(shared_server):
    """A server that runs, is empty and has its default settings, whatever the test before did."""
    if shared_server.process.poll() is not None:
        shared_server.start()
    shared_server.client.flushall()
    shared_server.client.config_set("maxmemory", 0)
    shared_server.client.config_set("maxmemory-policy", "noeviction")
    return shared_server


@pytest.fixture
def logged():
    """What this process logs meanwhile: a dict a line, with event, log_level and the fields."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def open_device(server):
    """Opens devices, and closes them at the end."""
    devices = []

    def build(**settings):
        devices.append(open_redis(**{"url": server.url, **settings}))
        return devices[-1]

    yield build
    for device in devices:
        device.close()
