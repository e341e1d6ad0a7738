"""The queue of fault batches: what is merged, what is kept apart, how it ends."""

import pytest

from lib_usm.pb.usm.v1 import client_pb2
from lib_usm.requests import RequestQueue


def request(*fault_ids):
    return client_pb2.StreamFaultsRequest(faults=[client_pb2.Fault(fault_id=number) for number in fault_ids])


def ids(message):
    return [fault.fault_id for fault in message.faults]


def test_what_piled_up_goes_in_one_message_in_order():
    requests = RequestQueue(8)
    for number in (1, 2, 3):
        requests.put(request(number))
    assert ids(next(requests)) == [1, 2, 3]


def test_no_message_holds_more_than_the_limit_and_nothing_is_lost():
    requests = RequestQueue(3)
    requests.put(request(1, 2))
    requests.put(request(3, 4))
    requests.put(request(5))
    requests.close()
    assert [ids(message) for message in requests] == [[1, 2], [3, 4, 5]]


def test_close_ends_the_iteration_for_good_after_what_was_put():
    requests = RequestQueue(8)
    requests.put(request(1))
    requests.close()
    requests.close()
    assert ids(next(requests)) == [1]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(requests)
