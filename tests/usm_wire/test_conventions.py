import re
import string

import pytest

from usm_wire.conventions import OVER_BUDGET_KEY, REASON_PREFIX, REFUSAL, TICKET_KEY, TOKEN_KEY
from usm_wire.pb.usm.v1 import common_pb2


@pytest.mark.parametrize("key", [TOKEN_KEY, TICKET_KEY, OVER_BUDGET_KEY])
def test_a_key_is_one_that_grpc_carries_as_text(key):
    assert re.fullmatch(r"[0-9a-z_.-]+", key)
    assert not key.startswith("grpc-")
    assert not key.endswith("-bin")


def test_every_failure_reason_has_the_prefix_and_fits_into_a_byte_of_a_residency_map():
    for name, number in common_pb2.FailureReason.items():
        assert name.startswith(REASON_PREFIX)
        assert 0 <= number < 256


def test_no_ticket_begins_as_a_refusal_does():
    assert REFUSAL not in string.ascii_letters + string.digits + "-_"  # what a ticket is made of
