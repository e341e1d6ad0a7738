"""Metrics of processes: a line for each of those with most memory, and one for all others.

So the number of lines has a bound, however many clients there are. They are gauges, because the line of a process comes
and goes with its memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from usmd.core.pressure import WINDOWS
from usmd.core.region import NO_MAX, Process

REGIONS_A_STEP: Final = 2048
A_PROCESS: Final = 16
"""What a process without regions counts, in regions."""
REST: Final = "other"
"""Label `process` of the line for all others."""
_LABELS: Final = ("process", "name", "uid")
_OF_60: Final = WINDOWS.index(60)
_FAMILIES: Final = (
    ("usmd_process_resident_bytes", "Memory of a process."),
    ("usmd_process_swapped_bytes", "Pages of a process that are in swap only."),
    ("usmd_process_mapped_bytes", "What a process has mapped."),
    ("usmd_process_kept_bytes", "Memory that a process keeps by EVICTION=DENY or by pins."),
)


def process_metrics(processes: Sequence[Process], page_size: int, most: int) -> Iterator[Metric | None]:
    """Families for `most` processes and the rest; None after a step. Leaves out processes that end meanwhile."""
    families = [GaugeMetricFamily(name, text, labels=_LABELS) for name, text in _FAMILIES]
    limits = GaugeMetricFamily(
        "usmd_process_memory_max_bytes", "Most memory of a process, if it has a limit.", labels=_LABELS
    )
    guarantees = GaugeMetricFamily(
        "usmd_process_memory_min_bytes", "Memory that is guaranteed to a process, if any is.", labels=_LABELS
    )
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
        found = _bytes_of(process, page_size)
        if process.process_id in largest:
            labels = [str(process.process_id), process.name, "" if process.uid is None else str(process.uid)]
            for family, value in zip(families, found, strict=True):
                family.add_metric(labels, value)
            if process.own_memory_max != NO_MAX:
                limits.add_metric(labels, process.own_memory_max * page_size)
            if process.own_memory_min:
                guarantees.add_metric(labels, process.own_memory_min * page_size)
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
    yield limits
    yield guarantees
    yield pressure


def _bytes_of(process: Process, page_size: int) -> tuple[int, int, int, int]:
    """Values of a process in the order of `_FAMILIES`."""
    return (
        process.resident * page_size,
        process.swapped * page_size,
        process.mapped,
        max(process.unevictable, process.pinned) * page_size,
    )
