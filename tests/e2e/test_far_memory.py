"""A live daemon with swap on a real Redis: what operators see, and what a client feels when the server fails."""

import threading

import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_until
from tests.support.real_memory import require_real_memory
from tests.support.redis_servers import running_redis

PAGE = 4096
FRAMES = 128
CONFIG = """
[[swap]]
kind = "redis"
url = "{url}"
size = "4MiB"
name = "far"
keyspace = "test"
password_file = "{folder}/password"
timeout = {timeout}
lease = 1.0
[[swap]]
kind = "memory"
size = "4MiB"
name = "near"
"""
SECRET = "s3cret-0123"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "password").write_text(f"{SECRET}\n")
    (tmp_path / "password").chmod(0o600)
    with running_redis(tmp_path / "redis", password=SECRET) as server:
        yield server


def serve(folder, server, mechanism, timeout=20.0):
    config = CONFIG.format(url=server.url, folder=folder, timeout=timeout)
    return running_daemon(folder, "--memory", "512KiB", config=config, mechanism=mechanism)


def page(number, turn=0):
    return b"%07d/%07d;" % (number, turn) * (PAGE // 16)


def device(daemon, name="far"):
    return next(each for each in daemon.admin.swap_devices() if each.name == name)


def used(found):
    return found.slots - found.free_slots


@pytest.mark.parametrize("mechanism", ["simulated", "userfaultfd"])
def test_pages_go_to_the_server_and_come_back_and_operators_see_it(tmp_path, server, mechanism):
    if mechanism == "userfaultfd":
        require_real_memory()
    with serve(tmp_path, server, mechanism) as daemon, lib_usm.connect(daemon.address) as client:
        region = client.mmap(2 * FRAMES * PAGE)
        for turn in range(2):
            for number in range(2 * FRAMES):
                region.write(number * PAGE, page(number, turn))
            assert all(region.read(number * PAGE, PAGE) == page(number, turn) for number in range(2 * FRAMES))
        found = device(daemon)
        assert (found.kind, found.path, found.errors) == ("redis", server.url, 0)
        assert found.capacity_bytes == 4 << 20
        assert used(found) * PAGE <= found.held_bytes < 2 * used(found) * PAGE
        assert used(found) > FRAMES // 2
        assert used(device(daemon, "near")) == 0
        region.close()
        wait_until(lambda: device(daemon).held_bytes == 0, "the server has no page any more")
        daemon.never("swap_error")
        assert SECRET not in str(daemon.read_log())
    assert server.names("*") == []


def test_a_page_waits_for_a_server_that_is_stopped_and_one_that_was_killed_costs_only_its_own_pages(tmp_path, server):
    with serve(tmp_path, server, "simulated", timeout=0.5) as daemon, lib_usm.connect(daemon.address) as client:
        near = client.mmap(FRAMES * PAGE)
        client.usm_hint(near, "SWAP=near")
        far = client.mmap(2 * FRAMES * PAGE)
        for region in (near, far):
            for number in range(len(region) // PAGE):
                region.write(number * PAGE, page(number))
        assert min(used(device(daemon)), used(device(daemon, "near"))) > FRAMES // 2
        server.stop()
        waits = threading.Thread(target=lambda: read.append(far.read(0, PAGE)))
        read = []
        waits.start()
        wait_until(lambda: device(daemon).errors > 0, "a page is tried again")
        assert all(near.read(number * PAGE, PAGE) == page(number) for number in range(8))
        assert waits.is_alive()
        server.go_on()
        waits.join(60)
        assert read == [page(0)]
        server.kill()
        server.start()
        for number in (1, 2):  # which were among the first to be evicted
            with pytest.raises(lib_usm.DataLoss):
                far.read(number * PAGE, PAGE)
        assert all(near.read(number * PAGE, PAGE) == page(number) for number in range(FRAMES))
        again = client.mmap(2 * FRAMES * PAGE)
        for number in range(2 * FRAMES):
            again.write(number * PAGE, page(number, 1))
        assert all(again.read(number * PAGE, PAGE) == page(number, 1) for number in range(2 * FRAMES))
        assert used(device(daemon)) > FRAMES // 2
