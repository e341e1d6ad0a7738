"""Metrics of users with limits: those with most memory, and the rest as one."""

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.server import user_metrics as module
from usmd.server.user_metrics import user_metrics


def shell_with(*pages):
    """A shell with a user for each number, which has so many pages in memory."""
    shell = Shell(make_core(frames=64))
    shell.core.state.users.least = 1
    for uid, count in enumerate(pages):
        shell.do(events.SetUserLimits(uid, memory_max=16, memory_min=uid, swap_max=8 if uid else None))
        process = shell.attach(uid=uid)
        region = shell.map(process, 16)
        for page in range(count):
            shell.put(process, region, page, b"x" * PAGE)
    return shell


def metrics(shell, most):
    steps = list(user_metrics(list(shell.core.state.users.of.values()), PAGE, most))
    found = {family.name: {each.labels["uid"]: each.value for each in family.samples} for family in steps if family}
    return found, steps.count(None)


def test_those_with_most_memory_have_a_line_and_the_rest_one():
    found, _ = metrics(shell_with(3, 5, 4, 1), 2)
    assert found["usmd_user_resident_bytes"] == {"1": 5 * PAGE, "2": 4 * PAGE, "other": 4 * PAGE}
    assert found["usmd_user_sessions"] == {"1": 1, "2": 1, "other": 2}
    assert found["usmd_user_memory_max_bytes"] == {"1": 16 * PAGE, "2": 16 * PAGE}
    assert found["usmd_user_memory_min_bytes"] == {"1": PAGE, "2": 2 * PAGE}
    assert found["usmd_user_refused_faults"] == {"1": 0, "2": 0, "other": 0}


def test_without_a_rest_there_is_no_line_for_it_and_what_is_not_limited_has_none(monkeypatch):
    monkeypatch.setattr(module, "PROCESSES_A_STEP", 2)
    found, steps = metrics(shell_with(2, 1), 9)
    assert steps == 2
    assert found["usmd_user_stored_bytes"] == {"0": 0, "1": 0}
    assert found["usmd_user_swap_max_bytes"] == {"1": 8 * PAGE}
    assert "0" not in found["usmd_user_memory_min_bytes"]


def test_limits_in_numbers_have_a_line_where_they_are_set_and_what_they_bound_is_a_sum():
    shell = shell_with(2, 1)
    shell.do(events.SetUserLimits(0, max_sessions=3, max_regions=4, max_hint_ranges=0, max_faults=6, memory_weight=7))
    shell.map(shell.attach(uid=0), 4)
    region = shell.map(shell.attach(uid=1), 4)
    shell.hint(shell.core.state.regions[region].process.process_id, region, "PRIORITY=LOW", 0, 1)
    found, _ = metrics(shell, 9)
    assert found["usmd_user_regions"] == {"0": 2, "1": 2}
    assert found["usmd_user_hint_ranges"] == {"0": 0, "1": 1}
    assert found["usmd_user_waiting_pages"] == {"0": 0, "1": 0}
    names = ("max_sessions", "max_regions", "max_hint_ranges", "max_faults", "memory_weight")
    assert [found[f"usmd_user_{name}"] for name in names] == [{"0": 3}, {"0": 4}, {"0": 0}, {"0": 6}, {"0": 7}]
