"""Shares of the descriptors, and the limit that is raised."""

import resource
from types import SimpleNamespace

import pytest

from usmd.errors import LimitExceeded
from usmd.server import descriptors
from usmd.server.descriptors import (
    KEPT,
    MOST,
    OF_A_REGION,
    OF_MEMORY,
    OF_OPERATOR,
    Shares,
    raise_limit,
)


@pytest.mark.parametrize(
    ("limit", "kept", "operators"),
    [(64, 16, 2), (1024, KEPT, 42), (4096, KEPT, 42), (8000, 500, 83), (262144, 1024, 170)],
)
def test_the_shares_leave_some_over(limit, kept, operators):
    shares = Shares.of(limit)
    taken = shares.regions + 2 * shares.connections + OF_MEMORY * shares.memory_connections
    assert taken <= limit - kept
    assert min(shares.regions, shares.connections, shares.memory_connections) > 0
    assert shares.operators == operators
    assert OF_OPERATOR * operators <= kept // 2


def processes(*owners):
    """Processes of (uid, regions)."""
    made = (SimpleNamespace(uid=uid, regions=dict.fromkeys(range(count))) for uid, count in owners)
    return dict(enumerate(made))


@pytest.mark.parametrize(
    ("owners", "whose"),
    [
        (((7, 50), (7, 10)), "its session would be 102; allowed are 100"),
        (((7, 49), (7, 26)), "user 7 would be 152; allowed are 150"),
        (((7, 30), (8, 40), (9, 30)), "all users would be 202; allowed are 200"),
        (((None, 30), (None, 45)), "unknown users would be 152; allowed are 150"),
    ],
)
def test_a_region_beyond_a_share_is_refused_with_its_number(owners, whose):
    there = processes(*owners)
    with pytest.raises(LimitExceeded, match=f"takes {OF_A_REGION} descriptors.*{whose}"):
        Shares(200, 1, 1, 1).check_region(there[0], there)
    there[0].regions.popitem()
    Shares(200, 1, 1, 1).check_region(there[0], there)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [
        (1024, 4096, 4096),
        (4096, 4096, 4096),
        (1024, resource.RLIM_INFINITY, MOST),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, MOST),
    ],
)
def test_the_soft_limit_becomes_the_hard_one(monkeypatch, soft, hard, wanted):
    given = []
    fake = SimpleNamespace(
        RLIMIT_NOFILE=resource.RLIMIT_NOFILE,
        RLIM_INFINITY=resource.RLIM_INFINITY,
        getrlimit=lambda _: (soft, hard),
        setrlimit=lambda _, limits: given.append(limits),
    )
    monkeypatch.setattr(descriptors, "resource", fake)
    assert raise_limit() == Shares.of(wanted)
    assert given == ([] if soft in (wanted, resource.RLIM_INFINITY) else [(wanted, hard)])
