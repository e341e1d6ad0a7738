"""Metrics of the core: frames, sessions, faults, evictions, and what else it counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from usmd.core.counters import Counters
from usmd.core.pressure import WINDOWS, Pressure
from usmd.core.state import State
from usmd.core.victims import Victims
from usmd.server.metric_families import counter, gauge

COUNTED: Final = (
    ("accesses", "accesses", "Page touches by load and store."),
    ("zero_fills", "zero_fills", "Pages that came in as zeros."),
    ("swap_ins", "swap_ins", "Pages that came in from swap."),
    ("swap_outs", "swap_outs", "Pages that were written to swap."),
    ("yields", "yields", "Faults that were answered USM_YIELD, and completed later."),
    ("read_ahead", "read_ahead_pages", "Pages that came in without a fault on them."),
    ("read_ahead_used", "read_ahead_used_pages", "Pages of these of which a touch is known."),
    ("read_ahead_unused", "read_ahead_unused_pages", "Pages of these that were evicted before a touch was known."),
    ("swapped_back", "swapped_back_pages", "Pages that a conditional policy brought in again."),
    ("demotions", "demoted_pages", "Pages that a conditional policy moved to another swap device."),
    ("sampled", "sampled_pages", "Pages that were taken out of a client's page table, to hear of their next touch."),
    ("refused_victims", "refused_victims", "Victims that were passed over: held, or without a slot to go to."),
    ("deny_over_budget", "deny_over_budget_pages", "Pages that asked for EVICTION=DENY beyond the budget."),
    ("oom_kills", "oom_kills", "Sessions that an oom policy ended."),
    ("oom_freezes", "oom_freezes", "Faults that an oom policy had wait for memory."),
    ("policy_errors", "policy_errors", "Answers of policies that were not used."),
    ("policy_slow_calls", "policy_slow_calls", "Calls of policies that took more than 50 ms of CPU time."),
)  # fmt: skip
"""Counter of the core, name of the metric without prefix and suffix, and help."""


def frames(state: State, most_sessions: int) -> Iterator[Metric]:
    """Frames, watermarks and sessions."""
    table, filling, evicting = state.frames, len(state.filling), len(state.evicting)
    yield gauge(
        "usmd_page_size_bytes", "Bytes in a page, which is what a frame and a slot hold.", state.settings.page_size
    )
    by_state = GaugeMetricFamily("usmd_frames", "Frames by state; their sum is all memory.", labels=["state"])
    by_state.add_metric(["free"], table.free)
    by_state.add_metric(["filling"], filling)
    by_state.add_metric(["present"], table.count - table.free - filling - evicting)
    by_state.add_metric(["evicting"], evicting)
    yield by_state
    kept = GaugeMetricFamily(
        "usmd_kept_frames", "Present frames that stay, and why: EVICTION=DENY, a pin, or a fault.", labels=["why"]
    )
    kept.add_metric(["deny"], state.unevictable)
    kept.add_metric(["pin"], state.pinned)
    kept.add_metric(["hold"], len(state.holds))
    yield kept
    marks = GaugeMetricFamily(
        "usmd_watermark_frames",
        "Free frames below which reclaim begins (low) and at which it ends (high).",
        labels=["mark"],
    )
    marks.add_metric(["low"], state.settings.low)
    marks.add_metric(["high"], state.settings.high)
    yield marks
    yield gauge("usmd_processes", "Client sessions.", len(state.processes))
    yield gauge("usmd_max_processes", "Most client sessions (server.max_sessions).", most_sessions)
    yield gauge("usmd_regions", "Regions.", state.region_count)


def pressure(found: Pressure) -> Iterator[Metric]:
    """Pressure on all processes together."""
    lines = {"some": found.some} | ({} if found.full is None else {"full": found.full})
    seconds = CounterMetricFamily(
        "usmd_pressure_seconds",
        "Time in which faults waited. some: at least one did; full: one did, and no thread of any process ran.",
        labels=["kind"],
    )
    shares = GaugeMetricFamily(
        "usmd_pressure_ratio",
        "Share of the last 10, 60 and 300 s in which faults waited, as averages that decay.",
        labels=["kind", "window"],
    )
    for kind, line in lines.items():
        seconds.add_metric([kind], line.seconds)
        for window, share in zip(WINDOWS, line.averages, strict=True):
            shares.add_metric([kind, f"{window}s"], share)
    yield seconds
    yield shares


def counts(totals: Counters) -> Iterator[Metric]:
    """What the core counts."""
    for field, name, text in COUNTED:
        yield counter(f"usmd_{name}", text, getattr(totals, field))
    faults = CounterMetricFamily(
        "usmd_faults",
        "Faults by kind. minor: without I/O; major: with; parked: on a page that was on its way in already; protect: a "
        "first write to a clean page; sampled: a touch of a page that was taken out to hear of it.",
        labels=["kind"],
    )
    faults.add_metric(["minor"], totals.minor_faults)
    faults.add_metric(["major"], totals.major_faults - totals.parked_faults)
    faults.add_metric(["parked"], totals.parked_faults)
    faults.add_metric(["protect"], totals.protect_faults)
    faults.add_metric(["sampled"], totals.minor_faults_sampled)
    yield faults
    outcomes = CounterMetricFamily(
        "usmd_failed_faults",
        "Faults that failed: for want of memory, at the budget of their process, or because a page cannot be read.",
        labels=["outcome"],
    )
    outcomes.add_metric(["out_of_memory"], totals.oom_refusals - totals.budget_refusals)
    outcomes.add_metric(["over_budget"], totals.budget_refusals)
    outcomes.add_metric(["unreadable"], totals.swap_read_errors)
    yield outcomes
    yield counter("usmd_poisoned_faults", "Real faults, of those that failed, that ended in SIGBUS.", totals.poisoned)


def evictions(victims: Victims, totals: Counters) -> Iterator[Metric]:
    """Who chose pages and why, and what became of them."""
    chosen = CounterMetricFamily(
        "usmd_evictions",
        "Pages chosen for eviction, by the policy that chose them (default: the core's sweep; hint: DONTNEED), and "
        "by why one had to go.",
        labels=["policy", "reason"],
    )
    for (policy, reason), count in sorted(victims.counts.items()):
        chosen.add_metric([policy, reason], count)
    yield chosen
    ends = CounterMetricFamily(
        "usmd_eviction_ends",
        "Evictions by how they ended: written to swap, dropped (clean: a slot had the bytes; zero: none is needed), "
        "or retaken by a fault.",
        labels=["end"],
    )
    # What was written for a demotion is no eviction.
    ends.add_metric(["written"], totals.swap_outs - totals.demotions)
    ends.add_metric(["clean"], totals.clean_drops)
    ends.add_metric(["zero"], totals.zero_drops)
    ends.add_metric(["retaken"], totals.retaken)
    yield ends
