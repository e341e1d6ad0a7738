import io
import json

from hypothesis import given
from hypothesis import strategies as st

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.ctl.as_json import plain, write_document, write_line


def test_defaults_are_present_and_unset_optional_fields_are_null():
    document = plain(pb.Process())
    assert set(document) == {field.name for field in pb.Process.DESCRIPTOR.fields}
    assert document["process_id"] == 0
    assert document["name"] == ""
    assert document["counters"] == {}
    assert document["uid"] is None


def test_an_optional_field_that_is_set_to_zero_is_zero():
    assert plain(pb.Process(uid=0))["uid"] == 0


@given(st.integers(0, (1 << 64) - 1))
def test_64_bit_numbers_are_json_numbers(number):
    out = io.StringIO()
    write_document(plain(pb.GetStatusResponse(frames=number, counters={"faults": number})), out)
    document = json.loads(out.getvalue())
    assert document["frames"] == number
    assert document["counters"] == {"faults": number}


def test_enums_go_by_name_without_their_prefix():
    fields = common_pb2.HintFields(
        priority=common_pb2.HintFields.PRIORITY_HIGH, eviction=common_pb2.HintFields.EVICTION_DENY
    )
    document = plain(pb.HintRange(fields=fields))["fields"]
    assert document["priority"] == "HIGH"
    assert document["eviction"] == "DENY"
    assert document["access"] == "UNSPECIFIED"
    assert document["will_need"] is False


def test_an_enum_value_of_a_newer_daemon_stays_a_number():
    assert plain(common_pb2.HintFields.FromString(b"\x08\x63"))["priority"] == 99


def test_messages_and_lists_nest():
    document = plain(
        pb.ExplainPageResponse(
            slot=pb.SlotInfo(slot=4), policies=["a", "b"], last_eviction=pb.Eviction(seconds_ago=0.5)
        )
    )
    assert document["slot"] == {"device": 0, "device_name": "", "slot": 4, "generation": 0}
    assert document["policies"] == ["a", "b"]
    assert document["last_eviction"]["seconds_ago"] == 0.5
    assert document["hint"] is None
    assert plain(pb.ListPoliciesResponse(policies=[pb.Policy(process_ids=[1, 2])]))["policies"][0]["process_ids"] == [
        1,
        2,
    ]


def test_a_line_is_one_line_even_when_a_message_has_several():
    out = io.StringIO()
    write_line(plain(pb.Event(message="one\ntwo")), out)
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue())["message"] == "one\ntwo"
