"""Settings of the core that cannot be are refused."""

import pytest

from usmd.core import events
from usmd.core.settings import CoreSettings, changed
from usmd.errors import InvalidArgument


@pytest.mark.parametrize("frames", [0, -1, 1 << 31])
def test_a_number_of_frames_that_cannot_be_is_refused(frames):
    with pytest.raises(InvalidArgument, match=f"{frames} frames; allowed are 1 to"):
        CoreSettings(frames=frames, page_size=16, deny_budget=1, deny_budget_total=1)


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 1), (1, 8), (8, 8)])
def test_watermarks_are_in_order_and_below_the_number_of_frames(low, high):
    with pytest.raises(InvalidArgument, match=f"low {low} and high {high}; allowed is"):
        CoreSettings(frames=8, page_size=16, low=low, high=high, deny_budget=1, deny_budget_total=1)


def configure(**values):
    before = {
        "low": 1, "high": 2, "deny_budget": 3, "deny_budget_total": 4, "max_regions": 5, "max_mapped": 6,
        "policy_errors": 7, "default_policies": ("first_fit", "lru", "refuse"),
    }  # fmt: skip
    return events.Configure(**before | values)


def test_settings_that_an_operator_changes_are_new_and_the_others_stay():
    before = CoreSettings(frames=8, page_size=16, deny_budget=1, deny_budget_total=1, hold_budget=2)
    after = changed(before, configure())
    assert (after.low, after.high, after.deny_budget, after.max_mapped) == (1, 2, 3, 6)
    assert (after.frames, after.hold_budget, before.low) == (8, 2, 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"low": 3}, "low 3 and high 2"), ({"deny_budget": 0}, "deny_budget of 0 frames is less than the 1 in force")],
)
def test_a_change_to_what_cannot_be_is_refused(values, said):
    before = CoreSettings(frames=8, page_size=16, deny_budget=1, deny_budget_total=1)
    with pytest.raises(InvalidArgument, match=said):
        changed(before, configure(**values))
