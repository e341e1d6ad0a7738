"""Counters of events: one set per process. The daemon's totals are the sum over all processes, ended ones included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from usmd.core.frames import ENDS_CLEAN, ENDS_ZERO

NAMES: Final = (
    "accesses",
    "faults",
    "minor_faults",
    "major_faults",
    "parked_faults",
    "yields",
    "zero_fills",
    "swap_ins",
    "swap_outs",
    "read_ahead",
    "read_ahead_used",
    "read_ahead_unused",
    "evictions",
    "clean_drops",
    "zero_drops",
    "retaken",
    "deny_over_budget",
    "oom_refusals",
    "oom_kills",
    "oom_freezes",
    "budget_refusals",
    "refused_victims",
    "policy_errors",
    "policy_slow_calls",
    "swap_read_errors",
    "swap_write_errors",
    "protect_faults",
    "minor_faults_sampled",
    "rescued",
    "sampled",
    "poisoned",
    "swapped_back",
    "demotions",
)


class Counters:
    """Counts since the start, by name.

    accesses: page touches by load and store. faults: pages faulted on; minor_faults needed no I/O, major_faults
    needed it, and parked_faults waited for a page already in flight. yields: faults answered USM_YIELD. zero_fills,
    swap_ins, swap_outs: pages. read_ahead: pages filled without a fault on them; read_ahead_used: those known to be
    touched, read_ahead_unused: those evicted before one was. evictions: pages evicted; clean_drops and zero_drops
    needed no write. retaken: evictions cancelled by a fault, a pin or EVICTION=DENY. deny_over_budget: pages that
    asked for EVICTION=DENY beyond the budget. oom_refusals: faults that failed for want of memory; oom_kills:
    sessions that the oom policy ended; oom_freezes: faults that it had wait for memory. budget_refusals: the
    refusals of faults of a process at its memory_max, about which no policy is asked. refused_victims: victims
    passed over, which is not an error: they were held, could not be protected, or found no slot. policy_errors:
    answers of a policy that were not used. policy_slow_calls: calls of a policy that took too much CPU time.
    swap_read_errors, swap_write_errors: pages. protect_faults: real first writes to clean pages. sampled: pages
    taken out of the client's page table so that their next touch is heard; minor_faults_sampled: touches heard so,
    which `faults` does not count; rescued: those of pages that were taken out, and not out by the client's own
    doing. poisoned: real faults that ended in SIGBUS, but for regions that were unmapped meanwhile. swapped_back:
    pages brought in for a conditional policy; demotions: pages moved to another swap device for it.
    """

    __slots__ = NAMES

    accesses: int
    faults: int
    minor_faults: int
    major_faults: int
    parked_faults: int
    yields: int
    zero_fills: int
    swap_ins: int
    swap_outs: int
    read_ahead: int
    read_ahead_used: int
    read_ahead_unused: int
    evictions: int
    clean_drops: int
    zero_drops: int
    retaken: int
    deny_over_budget: int
    oom_refusals: int
    oom_kills: int
    oom_freezes: int
    budget_refusals: int
    refused_victims: int
    policy_errors: int
    policy_slow_calls: int
    swap_read_errors: int
    swap_write_errors: int
    protect_faults: int
    minor_faults_sampled: int
    rescued: int
    sampled: int
    poisoned: int
    swapped_back: int
    demotions: int

    def __init__(self) -> None:
        for name in NAMES:
            setattr(self, name, 0)

    def count_end(self, end: int, times: int = 1) -> None:
        """Count `times` evictions with this end, see `frames.END_OF`."""
        if end == ENDS_ZERO:
            self.zero_drops += times
        elif end == ENDS_CLEAN:
            self.clean_drops += times
        else:
            self.swap_outs += times

    def add(self, other: Counters) -> None:
        """Add another set to this one."""
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_dict(self, names: Sequence[str] = NAMES) -> dict[str, int]:
        """The counts by name, of all counters or of some."""
        return {name: getattr(self, name) for name in names}
