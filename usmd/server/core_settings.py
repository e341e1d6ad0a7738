"""The core's settings by the configuration."""

from __future__ import annotations

from typing import Final

from usmd.config import MemoryConfig, frames_of
from usmd.core.settings import CoreSettings
from usmd.policy_rules import PolicyRules
from usmd.server.policy_check import stand_ins

MAX_HOLD: Final = 1024
"""Most frames of the hold budget; more would only make reclaim look at more held frames. The budget is never 0: without
a hold, reclaim could take each page between its fault and its first touch, for ever."""


def core_settings(memory: MemoryConfig, policy: PolicyRules, slots: int = 0) -> CoreSettings:
    """The core's settings by the configuration, whose shares become frames. `slots`: of all swap devices."""
    total = memory.frames

    def frames(share: str) -> int:
        return frames_of(share, total, memory.page_size)

    high = min(frames(memory.high_watermark), total - 1)
    return CoreSettings(
        frames=total,
        page_size=memory.page_size,
        low=min(frames(memory.low_watermark), high),
        high=high,
        deny_budget=frames(memory.deny_budget),
        deny_budget_total=frames(memory.deny_budget_total),
        reserve=frames_of(memory.newcomer_reserve, total + slots, memory.page_size),
        hold_budget=max(1, min(frames(memory.hold_budget), MAX_HOLD)),
        hold_seconds=memory.hold_seconds,
        max_regions=memory.max_regions,
        max_mapped=memory.max_mapped,
        demotion_rate=memory.demotion_rate,
        policy_errors=policy.max_errors,
        default_policies=stand_ins(policy),
        interruptible=False,  # SIGINT drains
        sampling=memory.sampling_rate,
    )
