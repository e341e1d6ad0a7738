"""Metrics of processes: those with most memory, and the rest as one."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.server import process_metrics as module
from usmd.server.process_metrics import process_metrics


def shell_with(*pages, **settings):
    """A shell with a process for each number, which has so many pages in memory."""
    shell = Shell(make_core(frames=32, **settings))
    for number, count in enumerate(pages):
        process = shell.attach(
            f"p{number}", uid=1000 + number, memory_max=count + 4 if count > 3 else None, memory_min=2 * (count == 3)
        )
        region = shell.map(process, 8)
        for page in range(count):
            shell.put(process, region, page, b"x" * PAGE)
    return shell


def metrics(shell, most):
    state = shell.core.state
    steps = list(process_metrics(list(state.processes.values()), state.settings, most, shell.core.frozen))
    families = {family.name: family.samples for family in steps if family is not None}
    return families, steps.count(None)


def of(families, name):
    return {sample.labels["name"] or sample.labels["process"]: sample.value for sample in families[name]}


def test_the_largest_have_a_line_each_and_the_rest_one():
    families, _ = metrics(shell_with(1, 4, 2, 3), 2)
    assert of(families, "usmd_process_resident_bytes") == {"p1": 4 * PAGE, "p3": 3 * PAGE, "other": 3 * PAGE}
    assert of(families, "usmd_process_mapped_bytes") == {"p1": 8 * PAGE, "p3": 8 * PAGE, "other": 16 * PAGE}
    assert of(families, "usmd_process_memory_max_bytes") == {"p1": 8 * PAGE}
    assert of(families, "usmd_process_memory_min_bytes") == {"p3": 2 * PAGE}
    assert {sample.labels["uid"] for sample in families["usmd_process_resident_bytes"]} == {"1001", "1003", ""}


def test_without_a_rest_there_is_no_line_for_it_and_with_none_of_their_own_that_line_alone():
    families, _ = metrics(shell_with(1, 2), 2)
    assert set(of(families, "usmd_process_resident_bytes")) == {"p0", "p1"}
    families, _ = metrics(shell_with(1, 2), 0)
    assert of(families, "usmd_process_resident_bytes") == {"other": 3 * PAGE}
    families, _ = metrics(shell_with(), 10)
    assert families["usmd_process_resident_bytes"] == []


def test_pages_in_swap_and_kept_ones_are_told_apart():
    shell = shell_with(4)
    process, region = next(iter(shell.core.state.processes)), next(iter(shell.core.state.regions))
    shell.evict(process, region, 0, 2)
    shell.hint(process, region, "EVICTION=DENY", 2, 1)
    families, _ = metrics(shell, 1)
    assert of(families, "usmd_process_swapped_bytes") == {"p0": 2 * PAGE}
    assert of(families, "usmd_process_kept_bytes") == {"p0": PAGE}


def test_limits_have_a_line_where_a_process_has_its_own_and_what_they_bound_has_one_each():
    shell = shell_with(4, 3, 0)
    first, second = list(shell.core.state.processes)[:2]
    quotas = events.Quotas(max_regions=5, max_hint_ranges=6, max_faults=7, deny_budget=2)
    shell.do(events.SetLimits(first, 8, 9, 0, 250, quotas))
    shell.do(events.SetLimits(second, None, None, 0, 100, events.Quotas(max_hint_ranges=0)))
    shell.hint(first, next(iter(shell.core.state.regions)), "PRIORITY=LOW", 0, 1)
    families, _ = metrics(shell, 2)
    limits = ("memory_max_bytes", "swap_max_bytes", "deny_budget_bytes", "memory_weight", "max_regions", "max_faults")
    found = [of(families, f"usmd_process_{name}") for name in limits]
    assert found == [{"p0": 8 * PAGE}, {"p0": 9 * PAGE}, {"p0": 2 * PAGE}, {"p0": 250}, {"p0": 5}, {"p0": 7}]
    assert of(families, "usmd_process_max_hint_ranges") == {"p0": 6, "p1": 0}
    assert of(families, "usmd_process_regions") == {"p0": 1, "p1": 1, "other": 1}
    assert of(families, "usmd_process_hint_ranges") == {"p0": 1, "p1": 0, "other": 0}


def test_a_process_whose_faults_are_limited_now_or_frozen_is_told_and_of_the_rest_how_many():
    shell = shell_with(4, 3, 2, 1)
    processes = list(shell.core.state.processes.values())
    for process, waiting in zip(processes, (7, 6, 7, 7), strict=True):
        shell.do(events.SetLimits(process.process_id, None, None, 0, 100, events.Quotas(max_faults=7)))
        process.missing = waiting  # as if so many were
    families, _ = metrics(shell, 2)
    assert of(families, "usmd_process_faults_limited") == {"p0": 1, "p1": 0, "other": 2}
    assert of(families, "usmd_process_waiting_pages") == {"p0": 7, "p1": 6, "other": 14}
    assert of(families, "usmd_process_frozen") == {"p0": 0, "p1": 0, "other": 0}
    numbers = [process.process_id for process in processes]
    steps = process_metrics(processes, shell.core.state.settings, 2, {numbers[1], numbers[3]})
    families = {family.name: family.samples for family in steps if family is not None}
    assert of(families, "usmd_process_frozen") == {"p0": 0, "p1": 1, "other": 1}
    for process in processes:
        process.missing = 0


def test_pressure_of_a_process_is_that_of_a_minute_and_of_all_others_the_highest():
    shell = shell_with(4, 3, 2, 1)
    for number, process in enumerate(shell.core.state.processes.values()):
        process.pressure.advance(0.0, 0.0, 0.0 if number == 0 else None)
        process.pressure.advance(60.0, 60.0 / (number + 1), 0.0 if number == 0 else None)
    families, _ = metrics(shell, 2)
    found = {
        (sample.labels["name"] or sample.labels["process"], sample.labels["kind"]): sample.value
        for sample in families["usmd_process_pressure_ratio"]
    }
    assert found.keys() == {("p0", "some"), ("p0", "full"), ("p1", "some"), ("other", "some")}
    assert found["p0", "some"] == found["p0", "full"] == 2 * found["p1", "some"] > 0.6
    assert found["other", "some"] == pytest.approx(found["p0", "some"] / 3)


def test_there_is_a_step_after_so_many_processes_and_regions_and_what_ends_meanwhile_is_left_out(monkeypatch):
    monkeypatch.setattr(module, "REGIONS_A_STEP", 2 * module.A_PROCESS)
    shell = shell_with(1, 1, 1, 1)
    processes = list(shell.core.state.processes.values())
    steps = process_metrics(processes, shell.core.state.settings, 1)
    assert next(steps) is None
    shell.do(events.Detach(processes[3].process_id, "bye"))
    families = {family.name: family.samples for family in steps if family is not None}
    assert of(families, "usmd_process_resident_bytes") == {"p0": PAGE, "other": 2 * PAGE}
