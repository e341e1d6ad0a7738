"""What the keeper's thread does: renews, deletes, tidies up, and reports troubles when they begin and end."""

import pytest

from tests.support.redis_servers import out, read_back
from tests.support.waiting import wait_equal, wait_until
from usmd.swap.remote import keeper


def events(logged):
    return [line["event"] for line in logged]


def extents(server):
    return [key for key in server.names() if not key.endswith(b":owner")]


@pytest.mark.parametrize("slots", [[0], range(256)])
def test_an_extent_without_pages_is_deleted(server, open_device, slots):
    device = open_device()
    device.write([out(slot) for slot in slots])
    assert len(extents(server)) == -(-len(slots) // 63)
    device.discard(slots)
    wait_equal(lambda: extents(server), [], "extents are deleted")
    assert device.usage(0).held == 0


def long_ago(device):
    """Have the keeper renew the extents when it is next awake."""
    device._keeper._renewed = float("-inf")


def test_keys_live_on_while_the_daemon_does(server, open_device):
    device = open_device(lease=0.1, expire=60)
    device.write([out(0), out(200)])
    assert len(extents(server)) == 2
    for key in extents(server):
        server.client.expire(key, 30)
    long_ago(device)
    wait_until(lambda: min(map(server.client.ttl, extents(server))) > 30, "all extents are renewed")
    assert read_back(device, [out(0), out(200)]) == [None, None]


def test_extents_that_are_gone_are_reported(server, open_device, logged):
    device = open_device(lease=0.1)
    device.write([out(0), out(100), out(200)])
    server.client.delete(*extents(server)[:2])
    long_ago(device)
    line = wait_until(lambda: [each for each in logged if each["event"] == "swap_extents_gone"], "it is reported")[0]
    assert line["extents"] == 2


def test_what_a_dead_daemon_left_is_deleted_and_nothing_else(server, open_device):
    left = [f"usmd:test:{{gone.{extent}}}:0" for extent in range(300)]
    others = ["usmd:test:{gone2.1}:0", "usmd:other:{gone.1}:0", "gone.1"]
    server.client.mset(dict.fromkeys([*left, *others], "pages"))
    device = open_device(lease=0.1)
    device._keeper._leftovers = "gone"
    wait_equal(lambda: server.client.exists(*left), 0, "the leftovers are deleted")
    assert server.client.exists(*others) == 3


def test_an_evicting_policy_is_reported_when_it_comes_and_when_it_goes(server, open_device, logged):
    open_device(lease=0.1)
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    wait_until(lambda: "swap_server_unsafe" in events(logged), "it is reported")
    server.client.config_set("maxmemory-policy", "noeviction")
    wait_until(lambda: "swap_server_safe" in events(logged), "its end is reported")
    assert events(logged).count("swap_server_unsafe") == 1


def test_a_server_that_goes_and_returns_is_reported(server, open_device, logged):
    open_device(lease=0.1)
    server.kill()
    wait_until(lambda: "swap_server_away" in events(logged), "it is reported")
    server.start()
    wait_until(lambda: "swap_server_returned" in events(logged), "its end is reported")
    wait_until(lambda: "swap_keyspace_was_free" in events(logged), "the keyspace is taken again")
    assert server.client.exists("usmd:test:owner")


def test_a_keyspace_that_another_daemon_takes_is_reported(server, open_device, logged):
    open_device(lease=0.1)
    server.client.set("usmd:test:owner", "another's")
    line = wait_until(lambda: [each for each in logged if each["event"] == "swap_keyspace_lost"], "it is reported")[0]
    assert line["owner"] == "another program"
    server.client.delete("usmd:test:owner")
    wait_until(lambda: "swap_keyspace_regained" in events(logged), "its end is reported")


def test_a_defect_is_logged_and_the_keeper_goes_on(server, open_device, logged, monkeypatch):
    monkeypatch.setattr(keeper, "why_unsafe", lambda replies: 1 / 0)
    device = open_device(lease=0.1)
    wait_until(lambda: events(logged).count("swap_device_defect") > 1, "it is logged, again and again")
    device.write([out(0)])
    device.discard([0])
    wait_equal(lambda: extents(server), [], "extents are deleted")
