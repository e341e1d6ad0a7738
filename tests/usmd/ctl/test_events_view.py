import re

import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.events_view import event_line


def test_an_event_is_one_line_with_its_details():
    event = pb.Event(
        time_seconds=1.7e9, kind="swap_error", process_id=4, message="read\nfailed", fields={"b": "2", "a": "1"}
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.000  swap_error          process 4     read\\nfailed  a=1  b=2",
        event_line(event).plain,
    )


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("policy_replaced", True), ("policy_set", False), ("page_poisoned", True), ("thread_blocked", True),
        ("swap_error", True), ("process_attached", False),
    ],
)  # fmt: skip
def test_an_event_that_asks_for_action_is_red(kind, bad):
    assert any("red" in str(span.style) for span in event_line(pb.Event(kind=kind)).spans) is bad
