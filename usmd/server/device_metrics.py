"""Metrics of how long things take, and of swap devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from usmd.core.swap_map import RETIRING, SwapMap
from usmd.server.device_queue import DeviceQueue
from usmd.server.fault_times import FaultTimes
from usmd.server.latency import TIMED_A_TICK, Histogram
from usmd.server.metric_families import add_durations


def durations(fault_times: FaultTimes, queues: Sequence[DeviceQueue], lag: Histogram) -> Iterator[Metric]:
    """How long faults, pages of devices and the loop take."""
    faults = HistogramMetricFamily(
        "usmd_fault_duration_seconds",
        f"How long faults took in usmd, of a sample: of each kind {TIMED_A_TICK} in each 0.1 s.",
        labels=["kind"],
    )
    add_durations(faults, ["real"], fault_times.real)
    add_durations(faults, ["explicit"], fault_times.explicit)
    yield faults
    pages = HistogramMetricFamily(
        "usmd_swap_duration_seconds",
        f"How long pages took to be read from and written to swap devices, of a sample: {TIMED_A_TICK} in each 0.1 s.",
        labels=["device", "operation"],
    )
    for queue in queues:
        add_durations(pages, [queue.device.name, "in"], queue.reads.times)
        add_durations(pages, [queue.device.name, "out"], queue.writes.times)
    yield pages
    late = HistogramMetricFamily(
        "usmd_loop_lag_seconds", "How late the event loop was with what is due each 0.1 s.", labels=[]
    )
    add_durations(late, [], lag)
    yield late


def devices(queues: Sequence[DeviceQueue], swap: SwapMap) -> Iterator[Metric]:
    """Slots, bytes and traffic of each swap device."""
    slots = GaugeMetricFamily("usmd_swap_slots", "Slots of swap devices by state.", labels=["device", "state"])
    held = GaugeMetricFamily("usmd_swap_held_bytes", "Bytes that swap devices hold, waste included.", labels=["device"])
    most = GaugeMetricFamily("usmd_swap_capacity_bytes", "Bytes that swap devices may hold.", labels=["device"])
    flight = GaugeMetricFamily("usmd_swap_in_flight_pages", "Pages being read or written.", labels=["device"])
    hangs = GaugeMetricFamily(
        "usmd_swap_hangs", "Whether a read or write is later than server.device_timeout.", labels=["device"]
    )
    retiring = GaugeMetricFamily(
        "usmd_swap_retiring_pages",
        "Pages to be moved away from a swap device that is being retired.",
        labels=["device"],
    )
    repair = GaugeMetricFamily(
        "usmd_swap_repair_pages", "Pages of a mirror that one of its parts lacks, and gets.", labels=["device"]
    )
    away = GaugeMetricFamily("usmd_swap_away", "Whether the far part of a mirror does not answer.", labels=["device"])
    fallbacks = CounterMetricFamily(
        "usmd_swap_fallbacks",
        "Reads of a page that the local part of a mirror answered for the far one.",
        labels=["device"],
    )
    repaired = CounterMetricFamily(
        "usmd_swap_repaired_pages",
        "Pages that were copied from one part of a mirror to the other to repair it.",
        labels=["device"],
    )
    moved = CounterMetricFamily(
        "usmd_swap_pages", "Pages read from and written to devices.", labels=["device", "operation"]
    )
    errors = CounterMetricFamily(
        "usmd_swap_errors", "Reads and writes of a page that failed, tries included.", labels=["device"]
    )
    refused = CounterMetricFamily(
        "usmd_swap_refused_pages", "Pages that a device refused, which is no error.", labels=["device"]
    )
    for queue in queues:
        name = queue.device.name
        known = swap.devices[queue.device.number]
        usage = queue.device.usage(known.slots - known.free)
        slots.add_metric([name, "free"], known.free)
        slots.add_metric([name, "used"], known.slots - known.free)
        held.add_metric([name], usage.held)
        most.add_metric([name], usage.capacity)
        flight.add_metric([name], queue.in_flight)
        hangs.add_metric([name], float(queue.hangs))
        retiring.add_metric([name], known.slots - known.free if known.status == RETIRING else 0)
        mirror = queue.mirror
        repair.add_metric([name], mirror.to_repair if mirror else 0)
        away.add_metric([name], float(mirror.away) if mirror else 0.0)
        fallbacks.add_metric([name], mirror.fallbacks if mirror else 0)
        repaired.add_metric([name], mirror.repaired if mirror else 0)
        moved.add_metric([name, "in"], queue.pages_read)
        moved.add_metric([name, "out"], queue.pages_written)
        errors.add_metric([name], queue.errors)
        refused.add_metric([name], queue.pages_refused)
    yield from (slots, held, most, flight, hangs, retiring, repair, away, fallbacks, repaired, moved, errors, refused)
