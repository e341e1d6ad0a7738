"""Shares of the configuration become frames, within what the core takes."""

from usmd.config import MemoryConfig
from usmd.policy_rules import PolicyRules
from usmd.server.core_settings import MAX_HOLD, core_settings

PAGE = 4096


def test_shares_become_frames():
    settings = core_settings(
        MemoryConfig(size=1000 * PAGE, low_watermark="1%", high_watermark="80KiB", deny_budget="10%", hold_budget="0%"),
        PolicyRules(),
    )
    assert (settings.frames, settings.page_size, settings.low, settings.high) == (1000, PAGE, 10, 20)
    assert (settings.deny_budget, settings.deny_budget_total, settings.hold_budget) == (100, 750, 1)


def test_watermarks_leave_a_frame_and_holding_has_an_upper_bound():
    one = core_settings(MemoryConfig(size=PAGE, low_watermark="100%", high_watermark="100%"), PolicyRules())
    assert (one.frames, one.low, one.high) == (1, 0, 0)
    large = core_settings(MemoryConfig(size=1 << 30, hold_budget="100%"), PolicyRules())
    assert large.hold_budget == MAX_HOLD


def test_what_takes_the_place_of_a_misbehaving_policy_and_when_is_the_configurations():
    rules = PolicyRules(evict="lru", max_errors=7)
    settings = core_settings(MemoryConfig(), rules)
    assert (settings.policy_errors, settings.default_policies) == (7, ("async_aware", "lru", "refuse"))
