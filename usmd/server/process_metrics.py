"""Metrics of processes: a line for each of those with most memory, and one for all others.

So the number of lines has a bound, however many clients there are. They are gauges, because the line of a process comes
and goes with its memory. A limit has a line where a process has one of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from usmd.core.pressure import WINDOWS
from usmd.core.quotas import quotas_of
from usmd.core.region import DEFAULT_WEIGHT, NO_MAX, Process
from usmd.core.settings import CoreSettings
from usmd.server.metric_families import in_bytes

REGIONS_A_STEP: Final = 2048
A_PROCESS: Final = 16
"""What a process without regions counts, in regions."""
REST: Final = "other"
"""Label `process` of the line for all others."""
_LABELS: Final = ("process", "name", "uid")
_OF_60: Final = WINDOWS.index(60)
_AMOUNTS: Final = (
    ("usmd_process_resident_bytes", "Memory of a process."),
    ("usmd_process_swapped_bytes", "Pages of a process that are in swap only."),
    ("usmd_process_stored_bytes", "Pages of a process that count against its swap_max, or would."),
    ("usmd_process_mapped_bytes", "What a process has mapped."),
    ("usmd_process_kept_bytes", "Memory that a process keeps by EVICTION=DENY or by pins."),
    ("usmd_process_regions", "Regions of a process."),
    ("usmd_process_hint_ranges", "Ranges of a process with a hint."),
    ("usmd_process_waiting_pages", "Pages that faults of a process wait for."),
    (
        "usmd_process_faults_limited",
        "Whether no more faults of a process are taken until fewer wait; of all others how many.",
    ),
    ("usmd_process_frozen", "Whether faults of a process wait because memory is used up; of all others how many."),
)
_LIMITS: Final = (
    ("usmd_process_memory_max_bytes", "Most memory of a process, if it has a limit."),
    ("usmd_process_memory_min_bytes", "Memory that is guaranteed to a process, if any is."),
    ("usmd_process_swap_max_bytes", "Most swap of a process, if it has a limit."),
    ("usmd_process_deny_budget_bytes", "Memory that EVICTION=DENY and pins of a process may keep, if it has a limit."),
    ("usmd_process_memory_weight", "Share of memory under pressure, if it is not that of every process."),
    ("usmd_process_max_regions", "Most regions of a process, if it has a limit."),
    ("usmd_process_max_hint_ranges", "Most ranges of a process with a hint, if it has a limit."),
    ("usmd_process_max_faults", "Most pages that faults of a process wait for at a time, if it has a limit."),
)


def process_metrics(
    processes: Sequence[Process], settings: CoreSettings, most: int, frozen: Container[int] = ()
) -> Iterator[Metric | None]:
    """Families for `most` processes and the rest; None after a step. Leaves out processes that end meanwhile.

    `frozen`: numbers of the processes that wait for memory, see `freezing`.
    """
    families = [GaugeMetricFamily(name, text, labels=_LABELS) for name, text in _AMOUNTS]
    limits = [GaugeMetricFamily(name, text, labels=_LABELS) for name, text in _LIMITS]
    pressure = GaugeMetricFamily(
        "usmd_process_pressure_ratio",
        "Share of the last 60 s in which faults of a process waited; of all others the highest.",
        labels=[*_LABELS, "kind"],
    )
    largest = {each.process_id for each in heapq.nlargest(most, processes, key=lambda each: each.resident)}
    rest = [0] * len(families)
    rest_waits = 0.0
    counted = 0
    for process in processes:
        if process.ended is not None:
            continue
        found = _amounts(process, settings.page_size, process.process_id in frozen)
        if process.process_id in largest:
            labels = [str(process.process_id), process.name, "" if process.uid is None else str(process.uid)]
            for family, value in zip(families, found, strict=True):
                family.add_metric(labels, value)
            for family, limit in zip(limits, _limits(process, settings), strict=True):
                if limit is not None:
                    family.add_metric(labels, limit)
            pressure.add_metric([*labels, "some"], process.pressure.some.averages[_OF_60])
            if process.pressure.full is not None:
                pressure.add_metric([*labels, "full"], process.pressure.full.averages[_OF_60])
        else:
            rest = [each + more for each, more in zip(rest, found, strict=True)]
            rest_waits = max(rest_waits, process.pressure.some.averages[_OF_60])
        counted += A_PROCESS + len(process.regions)
        if counted >= REGIONS_A_STEP:
            counted = 0
            yield None
    if len(processes) > len(largest):
        for family, value in zip(families, rest, strict=True):
            family.add_metric([REST, "", ""], value)
        pressure.add_metric([REST, "", "", "some"], rest_waits)
    yield from families
    yield from limits
    yield pressure


def _amounts(process: Process, page_size: int, frozen: bool) -> tuple[int, ...]:
    """Values of a process in the order of `_AMOUNTS`."""
    return (
        process.resident * page_size,
        process.swapped * page_size,
        process.stored * page_size,
        process.mapped,
        max(process.unevictable, process.pinned) * page_size,
        len(process.regions),
        process.hint_ranges,
        process.missing,
        process.fault_room <= 0,
        frozen,
    )


def _limits(process: Process, settings: CoreSettings) -> tuple[int | None, ...]:
    """The limits that a process has of its own, in the order of `_LIMITS`; None: it has none."""
    own, size = quotas_of(process, settings), settings.page_size
    return (
        in_bytes(process.own_memory_max, size),
        in_bytes(process.own_memory_min or NO_MAX, size),
        in_bytes(process.own_swap_max, size),
        in_bytes(process.deny_budget, size),
        None if process.weight == DEFAULT_WEIGHT else process.weight,
        own.max_regions,
        own.max_hint_ranges,
        own.max_faults,
    )
