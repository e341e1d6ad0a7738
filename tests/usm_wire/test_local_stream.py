from usm_wire.local_stream import END, MAX_REQUEST_BYTES, MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usmd.server.fault_stream import MAX_BATCH_FAULTS


def test_a_prefix_is_a_byte_and_four_with_the_highest_first():
    assert PREFIX.pack(MESSAGE, 0x01020304) == b"\0\1\2\3\4"
    assert PREFIX.pack(END, 5) == b"\1\0\0\0\5"


def test_the_longest_batch_of_faults_is_no_longer_than_a_message_may_be():
    longest = pb.Fault(fault_id=2**63, region_id=2**63, first_page=2**63, page_count=2**31, write=True)
    request = pb.StreamFaultsRequest(faults=[longest] * MAX_BATCH_FAULTS)
    assert request.ByteSize() <= MAX_REQUEST_BYTES
