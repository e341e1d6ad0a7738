"""A remote swap file: requests, and what becomes of pages when servers fail. What all devices share is in
tests/contracts."""

import threading

import pytest

from tests.support.redis_servers import PAGE, into, out, read_back, types_of
from tests.support.waiting import wait_equal, wait_until
from usmd.errors import DataLoss, NoRoom, SwapDeviceError, SwapIOError
from usmd.swap.base import Usage
from usmd.swap.remote.checks import Fit
from usmd.swap.remote.requests import Failure

EXTENT = 63


def entries(count, generation=1):
    return [out(slot, generation) for slot in range(count)]


def recorded(device, monkeypatch):
    """The requests of the device from now on, as lists of (command, length or last argument)."""
    found = []
    run = device._servers.run

    def record(requests, into=()):
        found.append([each[0] for each in requests])
        return run(requests, into)

    monkeypatch.setattr(device._servers, "run", record)
    return found


def test_neighbours_are_one_request_and_runs_go_together(open_device, monkeypatch):
    device = open_device(slots=4 * EXTENT, lease=60)
    device.write(entries(4 * EXTENT))
    requests = recorded(device, monkeypatch)
    slots = [*range(10, 26), 40, *range(EXTENT - 2, EXTENT + 2)]
    assert read_back(device, [out(slot) for slot in slots]) == [None] * len(slots)
    assert requests == [["GETRANGE"] * 4]
    requests.clear()
    assert device.write([out(slot, 2) for slot in slots]) == [None] * len(slots)
    assert requests == [["SETRANGE"] * 4]


def test_strings_are_made_once_in_full_length_and_expire(server, open_device):
    device = open_device(expire=300)
    device.write([out(3), out(EXTENT + 1)])
    keys = [key for key in server.names() if not key.endswith(b":owner")]
    assert [server.client.strlen(key) for key in keys] == [EXTENT * PAGE + 1] * 2
    assert all(200 < server.client.ttl(key) <= 300 for key in keys)
    assert device.usage(2) == Usage(256 * PAGE, 2 * device._fit.memory, 2 * PAGE)
    assert device.path == server.url
    device.close()
    assert server.names() == []


def test_a_stranger_who_flushes_all_loses_pages_and_nothing_written_later(server, open_device):
    device = open_device()
    old = entries(2 * EXTENT)
    device.write(old)
    server.client.flushall()
    assert read_back(device, old) == [DataLoss] * len(old)
    new = [out(slot, 2) for slot in (0, 5, EXTENT - 1, EXTENT, 2 * EXTENT)]
    assert device.write(new) == [None] * len(new)
    assert read_back(device, new) == [None] * len(new)
    assert read_back(device, [out(1)]) == [DataLoss]
    wait_equal(lambda: len(server.names()), 4, "what is left is three extents and the owner's key")


@pytest.mark.parametrize("slot", [0, EXTENT - 1])
def test_a_string_that_is_gone_is_made_anew_by_the_next_write(server, open_device, slot):
    device = open_device()
    device.write([out(slot)])
    server.client.delete(*[key for key in server.names() if not key.endswith(b":owner")])
    assert device.write([out(slot, 2)]) == [None]
    assert read_back(device, [out(slot, 2)]) == [None]


def test_bytes_that_a_stranger_changes_are_lost(server, open_device):
    device = open_device()
    device.write(entries(3))
    (key,) = [each for each in server.names() if not each.endswith(b":owner")]
    server.client.setrange(key, PAGE + 7, b"!")
    assert read_back(device, entries(3)) == [None, DataLoss, None]
    server.client.delete(key)
    server.client.hset(key, "not", "a string")
    assert read_back(device, entries(3)) == [SwapIOError] * 3
    assert types_of(device.write([out(0, 2)])) == [SwapIOError]


def test_a_killed_server_loses_its_pages_and_is_used_again_once_it_runs(server, open_device):
    device = open_device()
    device.write(entries(10))
    server.kill()
    assert read_back(device, entries(10)) == [SwapIOError] * 10
    assert types_of(device.write([out(20)])) == [SwapIOError]
    server.start()
    wait_equal(lambda: read_back(device, entries(10)), [DataLoss] * 10, "the server is asked again")
    wait_equal(lambda: types_of(device.write(entries(10, 2))), [None] * 10, "pages are written again")
    assert read_back(device, entries(10, 2)) == [None] * 10


def test_a_stopped_server_holds_up_a_job_for_the_timeout_and_then_none(server, open_device):
    device = open_device(timeout=0.4)
    device.write(entries(10))
    server.stop()
    try:
        assert read_back(device, entries(10)) == [SwapIOError] * 10
        for _ in range(3):
            device.write([out(0, 2)])
        (error,) = device.read([into(out(1))])
        assert "it is asked again in a moment" in str(error)
    finally:
        server.go_on()
    wait_equal(lambda: read_back(device, entries(10)[1:]), [None] * 9, "the server is asked again")


def test_a_write_that_comes_late_does_not_overwrite_the_page_that_has_its_slot_now(server, open_device):
    device = open_device(timeout=0.4)
    device.write(entries(5))
    (before,) = [key for key in server.names() if not key.endswith(b":owner")]
    server.stop()
    try:
        assert types_of(device.write([out(2, 2)])) == [SwapIOError]  # the server has it, and will perform it
    finally:
        server.go_on()
    wait_equal(lambda: types_of(device.write([out(2, 3)])), [None], "the server is asked again")
    assert before not in [key for key in server.names() if server.client.strlen(key) == EXTENT * PAGE + 1]
    server.client.setrange(before, 2 * PAGE, bytes(out(2, 2).buffer))  # as late as can be
    assert read_back(device, [out(0), out(1), out(2, 3), out(3)]) == [None] * 4
    device._keeper.delete()
    wait_until(lambda: before not in server.names(), "what late writes made is deleted")


def test_a_string_is_found_again_when_the_answer_to_its_new_name_is_lost(server, open_device, monkeypatch):
    device = open_device(lease=60)
    device.write(entries(5))
    run = device._servers.run

    def lose_answers(requests, into=()):
        replies = run(requests, into)
        names = {each[0] for each in requests}
        return [Failure("no answer", unknown=True)] * len(requests) if names & lost else replies

    monkeypatch.setattr(device._servers, "run", lose_answers)
    lost = {"SETRANGE"}
    assert types_of(device.write([out(2, 2)])) == [SwapIOError]
    lost = {"RENAMENX"}
    assert types_of(device.write([out(2, 3)])) == [SwapIOError]
    lost = set()
    assert device.write([out(2, 4)]) == [None]
    assert read_back(device, [out(0), out(1), out(2, 4), out(3)]) == [None] * 4


def test_a_read_follows_an_extent_that_gets_another_name_meanwhile(open_device, monkeypatch):
    device = open_device(lease=60)
    device.write(entries(5))
    run = device._servers.run

    def rename_first(requests, into=()):
        monkeypatch.setattr(device._servers, "run", run)
        device._extents.doubt(0)
        assert device._prepare([0]) == {}
        return run(requests, into)

    monkeypatch.setattr(device._servers, "run", rename_first)
    assert read_back(device, entries(5)) == [None] * 5


def test_a_server_without_memory_has_no_room_and_keeps_what_it_has(server, open_device):
    device = open_device(slots=8 * EXTENT)
    device.write(entries(EXTENT))
    server.client.config_set("maxmemory", server.client.info("memory")["used_memory"])
    assert types_of(device.write([out(EXTENT), out(0, 2)])) == [NoRoom] * 2
    assert read_back(device, [out(1), out(2)]) == [None] * 2
    server.client.config_set("maxmemory", 0)
    assert device.write([out(EXTENT), out(0, 2)]) == [None] * 2
    assert read_back(device, [out(EXTENT), out(0, 2), out(1)]) == [None] * 3


def test_nothing_is_written_while_the_server_may_evict(server, open_device):
    device = open_device(lease=0.1)
    device.write(entries(3))
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    wait_equal(lambda: types_of(device.write([out(9)])), [SwapIOError], "the policy is noticed")
    (error,) = device.write([out(9)])
    assert "maxmemory-policy is allkeys-lru" in str(error)
    assert read_back(device, entries(3)) == [None] * 3
    server.client.config_set("maxmemory-policy", "noeviction")
    wait_equal(lambda: device.write([out(9)]), [None], "it is safe again")


def test_a_second_daemon_on_the_keyspace_is_refused_and_the_first_goes_on(server, open_device):
    device = open_device(lease=2.0)
    device.write(entries(3))
    with pytest.raises(SwapDeviceError, match="the keyspace test is owned by usmd with process number"):
        open_device(lease=2.0)
    assert read_back(device, entries(3)) == [None] * 3
    assert device.write([out(3)]) == [None]


def test_a_daemon_that_was_away_too_long_writes_nothing_that_its_successor_reads(server, open_device):
    device = open_device(lease=0.1)
    device.write(entries(3))
    device._keeper.close()  # as if the process were stopped
    server.client.delete("usmd:test:owner")  # as if its lease had run out
    successor = open_device(lease=30)
    successor.write(entries(5, 9))
    wait_equal(lambda: types_of(device.write([out(1, 2)])), [SwapIOError], "the loss is noticed")
    (error,) = device.write([out(1, 2)])
    assert "was taken over by usmd with process number" in str(error)
    assert read_back(successor, entries(5, 9)) == [None] * 5
    assert read_back(device, [out(0)]) == [None]  # its pages are there until they expire
    successor.close()
    assert device._lease.renew().ours  # as the keeper does
    assert device.write([out(1, 2)]) == [None]


def test_an_extent_that_is_emptied_and_filled_again_and_again_keeps_every_page(open_device):
    device = open_device()
    failures = []

    def fill(first):
        for generation in range(1, 30):
            batch = [out(slot, generation) for slot in range(first, first + 3)]
            failures.extend(filter(None, device.write(batch)))
            failures.extend(filter(None, read_back(device, batch)))
            device.discard([entry.slot for entry in batch])

    threads = [threading.Thread(target=fill, args=(first,)) for first in (0, 10, EXTENT, 2 * EXTENT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_a_close_whose_server_is_away_says_that_pages_stay_for_a_while(server, open_device):
    device = open_device()
    device.write(entries(3))
    server.kill()
    with pytest.raises(SwapIOError, match=r"pages cannot be removed from unix:.*; they expire"):
        device.close()
    server.start()


class Odd:
    """Servers that answer what no server should."""

    def __init__(self, servers):
        self._servers = servers

    def run(self, requests, into=()):
        return ["?" if each[0] == "SETRANGE" else reply
                for each, reply in zip(requests, self._servers.run(requests, into), strict=True)]  # fmt: skip

    def __getattr__(self, name):
        return getattr(self._servers, name)


def test_an_answer_that_cannot_be_is_an_error_of_its_pages(open_device, monkeypatch):
    device = open_device(lease=60)
    assert device._fit == Fit(EXTENT, device._fit.memory)
    monkeypatch.setattr(device, "_servers", Odd(device._servers))
    (error,) = device.write([out(0)])
    assert isinstance(error, SwapIOError)
    assert "SETRANGE answered '?'" in str(error)
