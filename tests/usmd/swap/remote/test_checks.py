"""What servers are refused, and how large extents are."""

import pytest

from usmd.errors import SwapDeviceError
from usmd.swap.remote import checks
from usmd.swap.remote.checks import Fit, best_fit, check_memory, why_unsafe
from usmd.swap.remote.requests import Failure
from usmd.swap.remote.servers import OneServer

MIB = 1 << 20


@pytest.fixture
def servers(server):
    return OneServer(server.client, float)


@pytest.mark.parametrize(("page_size", "slots"), [(4096, 63), (512, 511)])
def test_the_smallest_extent_that_wastes_little_is_chosen(server, servers, page_size, slots):
    fit = best_fit(servers, "usmd:probe", page_size)
    assert fit.slots == slots
    assert fit.slots * page_size < fit.memory <= fit.slots * page_size / (1 - checks.TIGHT)
    assert server.names("*") == []


def test_a_larger_page_has_larger_extents(servers):
    fit = best_fit(servers, "usmd:probe", 64 << 10)
    assert 1 - fit.slots * (64 << 10) / fit.memory <= checks.TIGHT


class Answering:
    """Servers that answer as told."""

    def __init__(self, *replies):
        self.replies = replies

    def run(self, requests, into=()):
        return list(self.replies)


def test_a_server_that_does_not_tell_what_a_string_takes_is_believed_to_waste_nothing_more():
    length = 63 * 4096 + 1
    answering = Answering(length, True, Failure("unknown command"), 1)
    assert best_fit(answering, "probe", 4096) == Fit(63, length + checks.HEADER_BYTES)


@pytest.mark.parametrize(
    ("reply", "why"), [(Failure("OOM command not allowed"), "OOM"), (b"?", "the server answered bytes")]
)
def test_a_server_that_takes_no_string_is_refused(reply, why):
    with pytest.raises(SwapDeviceError, match=why):
        best_fit(Answering(reply, False, None, 0), "probe", 4096)


def test_a_policy_that_evicts_is_unsafe_whichever_server_has_it():
    good = {"maxmemory_policy": "noeviction"}
    assert why_unsafe([good, Failure("away"), good]) == ""
    assert "maxmemory-policy is allkeys-lru" in why_unsafe([good, {"maxmemory_policy": "allkeys-lru"}])
    assert "maxmemory-policy is volatile-ttl" in why_unsafe([{"maxmemory_policy": "volatile-ttl"}])
    assert "maxmemory-policy is unknown" in why_unsafe([{}])


def test_each_server_must_have_memory_for_its_share():
    small = {"maxmemory": 100 * MIB, "used_memory": 90 * MIB}
    large = {"maxmemory": 0, "total_system_memory": 1000 * MIB, "used_memory": 10 * MIB}
    check_memory([small, large], 20 * MIB)
    with pytest.raises(SwapDeviceError, match=r"10 MiB of 100 MiB free, and 10\.5 MiB are needed"):
        check_memory([large, small], 21 * MIB)
    with pytest.raises(SwapDeviceError, match="INFO memory: no permission"):
        check_memory([Failure("no permission")], 1)
    check_memory([{"maxmemory": 0, "used_memory": 5}], MIB)  # a server that knows no limit
