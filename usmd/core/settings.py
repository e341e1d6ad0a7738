"""What the core is made with: its settings, and the swap devices."""

from __future__ import annotations

from typing import Final

import msgspec

from usmd.core.events import Configure
from usmd.errors import InvalidArgument

MAX_FRAMES: Final = (1 << 31) - 1
MAX_HINT_RANGES: Final = 16384
MAX_FAULTS: Final = 4096
"""It bounds the time of the event that unmaps a region or ends a session."""


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the core, in frames unless another unit is given.

    `low`, `high`: watermarks; reclaim begins below `low` free frames and ends at `high`. `deny_budget`: pages that
    EVICTION=DENY and pins may keep per process; `deny_budget_total`: in all. `reserve`: pages of memory and swap
    together that are kept for newcomers, see `Guarantees`. `hold_budget`: frames that faults may hold, each for
    `hold_seconds` or until its page is touched; a real fault holds its frame until MAX_RECENT other ones
    have come. A hold never outweighs a hint. `max_regions`, `max_mapped` (bytes), `max_hint_ranges`, `max_faults`
    (pages that faults wait for at a time): per process.
    `sampling`: pages of a process taken out of its page table for each of its pages that comes in, so that touches are
    heard; 0: none. `max_fault_pages`: pages of a fault, and of an FHP at once. `reclaim_batch`: most victims per event,
    which bounds the time an event takes; `scan_limit`: most frames looked at for them. `write_backoff`: seconds without
    writes on a device after a write failed. `reclaim_rest`: seconds that reclaim rests if nothing can be evicted.
    `policy_slow_seconds`: CPU time beyond which a policy call is reported. `policy_errors`: recent errors after which
    the default replaces a policy; 0: never. `eviction_records`: evictions on record per process, for `explain`.
    `default_policies`: the alloc, evict and oom policy that replace others. `cond_interval`: seconds between two turns
    of a conditional policy; `cond_batch`: most pages for each kind of its requests; `demotion_rate`: bytes a second
    that all of them together may move between swap devices, 0: any. `interruptible`: Ctrl-C may end a policy call by
    KeyboardInterrupt; if not, that counts as an error of the policy, like any exception.
    """

    frames: int
    page_size: int
    low: int = 0
    high: int = 0
    deny_budget: int
    deny_budget_total: int
    reserve: int = 0
    hold_budget: int = 0
    hold_seconds: float = 0.25
    max_regions: int = 1024
    max_mapped: int = 1 << 36
    max_hint_ranges: int = MAX_HINT_RANGES
    max_faults: int = MAX_FAULTS
    max_fault_pages: int = 512
    reclaim_batch: int = 64
    scan_limit: int = 4096
    write_backoff: float = 1.0
    reclaim_rest: float = 0.02
    policy_slow_seconds: float = 0.05
    policy_errors: int = 100
    eviction_records: int = 256
    cond_interval: float = 0.1
    cond_batch: int = 256
    demotion_rate: int = 0
    interruptible: bool = True
    sampling: float = 0.0
    default_policies: tuple[str, str, str] = ("async_aware", "hint_aware", "refuse")

    def __post_init__(self) -> None:
        if not 0 < self.frames <= MAX_FRAMES:
            raise InvalidArgument(f"{self.frames} frames; allowed are 1 to 2^31 - 1")
        if not 0 <= self.low <= self.high < self.frames:
            raise InvalidArgument(
                f"watermarks low {self.low} and high {self.high}; allowed is 0 <= low <= high < {self.frames} frames"
            )


def changed(settings: CoreSettings, event: Configure) -> CoreSettings:
    """The settings after an operator's change. Raises InvalidArgument."""
    for name in ("deny_budget", "deny_budget_total"):
        if getattr(event, name) < getattr(settings, name):
            raise InvalidArgument(
                f"{name} of {getattr(event, name)} frames is less than the {getattr(settings, name)} in force; it may "
                "only grow while usmd runs"
            )
    return msgspec.structs.replace(settings, **{name: getattr(event, name) for name in event.__struct_fields__})


class DeviceInfo(msgspec.Struct, frozen=True):
    """A device as the core knows it: its name and how many slots it has."""

    name: str
    slots: int
