"""What events take of a turn of the loop."""

import pytest

from usmd.core import events
from usmd.server.completions import weight


@pytest.mark.parametrize(
    ("event", "weighs"),
    [
        (events.Protected(1, [4, 5, 6], [True, False, None]), 4),
        (events.SwapInDone([4, 5], [None, None]), 3),
        (events.SwapOutDone([7], [None]), 2),
        (events.Punched([1, 2, 3, 4]), 5),
        (events.Tick(), 1),
        (events.GoOn(), 1),
        (events.Broken([1, 2], "no"), 1),
    ],
)
def test_a_completion_weighs_as_much_as_its_pages_and_any_other_event_little(event, weighs):
    assert weight(event) == weighs
