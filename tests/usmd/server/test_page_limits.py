"""Limits in readings of the live page."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.server import page_limits
from usmd.server.page_limits import Limit, limits_of, user_rows


@pytest.fixture
def shell():
    return Shell(make_core(frames=64))


def rows(shell):
    steps = list(user_rows(list(shell.core.state.users.of.values())))
    assert steps[:-1] == [None] * (len(steps) - 1)
    return steps[-1], len(steps) - 1


def test_a_process_has_the_limits_that_are_its_own_with_what_is_used_of_them(shell):
    number = shell.attach()
    process, settings = shell.core.state.processes[number], shell.core.state.settings
    region = shell.map(number, 8)
    assert limits_of(process, settings) == []
    quotas = events.Quotas(max_regions=5, max_hint_ranges=0, max_faults=7, deny_budget=2)
    shell.do(events.SetLimits(number, None, None, 0, 100, quotas))
    shell.put(number, region, 0, b"x" * PAGE)
    shell.do(events.Pin(number, region, 0, 1))
    assert limits_of(process, settings) == [
        Limit("regions", 1, 5), Limit("hint_ranges", 0, 0), Limit("faults", 0, 7), Limit("kept", 1, 2),
    ]  # fmt: skip


def test_users_with_limits_come_by_memory_and_only_so_many_of_them(shell, monkeypatch):
    shell.core.state.users.least = 1
    for uid, pages in ((1, 2), (2, 5), (3, 1)):
        shell.do(events.SetUserLimits(uid, max_sessions=uid))
        process = shell.attach(uid=uid)
        region = shell.map(process, 8)
        for page in range(pages):
            shell.put(process, region, page, b"x" * PAGE)
    assert [(row.uid, row.resident, row.sessions, row.max_sessions) for row in rows(shell)[0]] == [
        (2, 5, 1, 2), (1, 2, 1, 1), (3, 1, 1, 3),
    ]  # fmt: skip
    monkeypatch.setattr(page_limits, "USERS", 1)
    assert [row.uid for row in rows(shell)[0]] == [2]
    monkeypatch.setattr(page_limits, "PROCESSES_A_STEP", 2)
    assert rows(shell)[1] == 3 + 1


def test_a_user_has_bounds_only_where_it_has_limits(shell):
    assert rows(shell) == ([], 0)
    shell.do(events.SetUserLimits(7, max_faults=3))
    shell.map(shell.attach(uid=7), 4)
    (row,) = rows(shell)[0]
    assert (row.max_sessions, row.memory_max, row.swap_max, row.weight, row.memory_min) == (None, None, None, None, 0)
    assert row.limits == [Limit("faults", 0, 3)]
    shell.do(
        events.SetUserLimits(
            7, memory_max=40, swap_max=9, memory_min=2, memory_weight=50, max_regions=4, max_hint_ranges=6
        )
    )
    (row,) = rows(shell)[0]
    assert (row.memory_max, row.swap_max, row.weight, row.memory_min) == (40, 9, 50, 2)
    assert row.limits == [Limit("regions", 1, 4), Limit("hint_ranges", 0, 6)]
