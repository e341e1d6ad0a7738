"""Hints as typed fields: they say what the text says, both ways."""

import pytest

from usm_wire.pb.usm.v1 import common_pb2
from usmd.core.hint_values import Choice, Name, Seconds, SizeOrAuto, Switch
from usmd.core.hints import KEYS, HintKey, parse_hint
from usmd.errors import InvalidHint
from usmd.server.hint_messages import fields_from_hint, hint_from_fields

Fields = common_pb2.HintFields


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (Fields(priority=Fields.PRIORITY_HIGH), "PRIORITY=HIGH"),
        (Fields(priority=Fields.PRIORITY_LOW, eviction=Fields.EVICTION_DENY), "PRIORITY=LOW; EVICTION=DENY"),
        (Fields(eviction=Fields.EVICTION_ALLOW), "EVICTION=ALLOW"),
        (Fields(access=Fields.ACCESS_SEQUENTIAL, fhp_bytes=65536), "ACCESS=SEQUENTIAL; FHP=64KiB"),
        (Fields(fhp_auto=True, fhp_bytes=7), "FHP=AUTO"),
        (Fields(swap_device="memory1", ttl_seconds=2.5), "SWAP=memory1; TTL=2.5"),
        (Fields(will_need=True), "WILLNEED"),
        (Fields(dont_need=True), "DONTNEED"),
        (Fields(extra={"X_B": "2=3", "x_a": ""}), "X_A=; X_B=2=3"),
    ],
)
def test_fields_say_what_the_text_says(fields, text):
    one, two = hint_from_fields(fields), parse_hint(text)
    for name in one.__struct_fields__:
        if name != "text":
            assert getattr(one, name) == getattr(two, name), name


def test_no_field_says_nothing():
    assert hint_from_fields(Fields()) is None
    assert hint_from_fields(Fields(fhp_auto=False, ttl_seconds=0)) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (Fields(priority=4), "priority 4"),
        (Fields(priority=-1), "priority -1"),
        (Fields(access=99), "access 99"),
        (Fields(eviction=3), "eviction 3"),
        (Fields(ttl_seconds=-1), "TTL=-1"),
        (Fields(ttl_seconds=float("nan")), "TTL"),
        (Fields(ttl_seconds=float("inf")), "TTL"),
        (Fields(fhp_bytes=1 << 63), "FHP"),
        (Fields(swap_device=" "), "SWAP"),
        (Fields(swap_device="0;EVICTION=DENY"), "SWAP=0;EVICTION=DENY is not allowed"),
        (Fields(extra={"PRIORITY": "HIGH"}), "X_"),
        (Fields(extra={" X_A": "1"}), "X_"),
        (Fields(extra={"X_A": "1;EVICTION=DENY"}), "';'"),
        (Fields(extra={"X_A;EVICTION=DENY;X_B": "1"}), "';'"),
        (Fields(extra={"X_A=1": "1"}), "="),
        (Fields(extra={"X_A": "1", "x_a": "2"}), "twice"),
        (Fields(extra={"X_A": "1" * 1021}), "1024"),
    ],
)
def test_fields_that_say_nothing_sensible_are_refused(fields, said):
    with pytest.raises(InvalidHint) as caught:
        hint_from_fields(fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "PRIORITY=LOW; EVICTION=DENY; ACCESS=RANDOM; FHP=8KiB; SWAP=1; TTL=9.5; WILLNEED; X_COLOUR=red",
        "FHP=AUTO; DONTNEED",
        "TTL=0.1",
    ],
)
def test_a_hint_comes_back_from_its_fields(text):
    hint = parse_hint(text)
    again = hint_from_fields(fields_from_hint(hint))
    for name in hint.__struct_fields__:
        if name != "text":
            assert getattr(again, name) == getattr(hint, name), name


def test_a_choice_whose_default_is_no_word_of_it_is_not_set_by_other_hints(monkeypatch):
    monkeypatch.setitem(KEYS, "ACCESS", HintKey("fhp_bytes", Choice(RANDOM=1), "access"))
    assert fields_from_hint(parse_hint("PRIORITY=LOW")).access == Fields.ACCESS_UNSPECIFIED
    assert fields_from_hint(parse_hint("ACCESS=RANDOM")).access == Fields.ACCESS_RANDOM


TYPES = {
    Switch: "TYPE_BOOL",
    SizeOrAuto: "TYPE_UINT64",
    Seconds: "TYPE_DOUBLE",
    Name: "TYPE_STRING",
    Choice: "TYPE_ENUM",
}


@pytest.mark.parametrize("key", KEYS)
def test_each_key_has_a_typed_field_of_its_type_and_choices_have_the_same_words(key):
    kind, typed = KEYS[key].values, KEYS[key].typed
    field = Fields.DESCRIPTOR.fields_by_name[typed]
    assert field.type == getattr(type(field), TYPES[type(kind)])
    if isinstance(kind, SizeOrAuto):
        assert f"{key.lower()}_auto" in Fields.DESCRIPTOR.fields_by_name
    if type(kind) is Choice:
        names = {each.name for each in field.enum_type.values if each.number}
        assert names == {f"{typed.upper()}_{word}" for word in kind.words}


def test_there_is_no_typed_field_without_a_key():
    named = {entry.typed for entry in KEYS.values()} | {f"{key.lower()}_auto" for key in KEYS} | {"extra"}
    assert set(Fields.DESCRIPTOR.fields_by_name) <= named


def test_the_text_of_typed_fields_is_for_people_and_means_the_same():
    hint = hint_from_fields(
        Fields(priority=Fields.PRIORITY_LOW, fhp_auto=True, ttl_seconds=2.5, will_need=True, extra={"x_a": " 1 "})
    )
    assert hint.text == "PRIORITY=LOW; FHP=AUTO; TTL=2.5; WILLNEED=TRUE; X_A=1"
    assert parse_hint(hint.text) == hint
