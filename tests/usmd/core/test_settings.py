"""Settings of the core that cannot be are refused."""

import pytest

from usmd.core.settings import CoreSettings
from usmd.errors import InvalidArgument


@pytest.mark.parametrize("frames", [0, -1, 1 << 31])
def test_a_number_of_frames_that_cannot_be_is_refused(frames):
    with pytest.raises(InvalidArgument, match=f"{frames} frames; allowed are 1 to"):
        CoreSettings(frames=frames, page_size=16, deny_budget=1, deny_budget_total=1)


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 1), (1, 8), (8, 8)])
def test_watermarks_are_in_order_and_below_the_number_of_frames(low, high):
    with pytest.raises(InvalidArgument, match=f"low {low} and high {high}; allowed is"):
        CoreSettings(frames=8, page_size=16, low=low, high=high, deny_budget=1, deny_budget_total=1)
