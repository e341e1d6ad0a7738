"""Schemas admit every document that is made from their types, and no other."""

from typing import TypedDict

import pytest
from jsonschema import Draft202012Validator

from tests.support.grammar import variants
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.as_json import plain
from usmd.ctl.json_schema import Fields, ListOf, schema_of

NO_JSON = ("RecordedAccesses",)
"""What no command writes: it has bytes."""
ANSWERS = [
    message
    for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    if not name.endswith("Request") and name not in NO_JSON
]


def admits(schema, document):
    return not list(Draft202012Validator(schema).iter_errors(document))


@pytest.mark.parametrize("descriptor", ANSWERS, ids=lambda each: each.name)
def test_every_message_is_admitted_empty_and_full_but_not_with_a_field_less_or_more(descriptor):
    full = variants(descriptor, {})
    kind = type(full[0])
    schema = schema_of("t", [kind])
    Draft202012Validator.check_schema(schema)
    document = plain(kind())
    assert [each for each in (document, *map(plain, full)) if not admits(schema, each)] == []
    assert not admits(schema, document | {"more": 1})
    for name in document:
        assert not admits(schema, {key: value for key, value in document.items() if key != name})


def test_fields_have_their_types():
    schema = schema_of("t", [pb.Process])
    good = plain(pb.Process(process_id=1, name="a", counters={"faults": 3}))
    assert admits(schema, good)
    for name, wrong in (
        ("process_id", "1"),
        ("process_id", -1),
        ("name", None),
        ("pid", 1.5),
        ("counters", {"a": "x"}),
    ):
        assert not admits(schema, good | {name: wrong}), name
    assert admits(schema, good | {"uid": None})
    assert admits(schema, good | {"uid": 0})


def test_an_enum_is_one_of_its_names():
    schema = schema_of("t", [pb.HintRange])
    document = plain(pb.HintRange(fields={"priority": "PRIORITY_HIGH"}))
    assert document["fields"]["priority"] == "HIGH"
    assert admits(schema, document)
    document["fields"]["priority"] = "PRIORITY_HIGH"
    assert not admits(schema, document)


def test_a_list_and_one_of_several_documents():
    listed = schema_of("t", [Fields(regions=ListOf(pb.RegionInfo))])
    assert admits(listed, {"regions": [plain(pb.RegionInfo())] * 2})
    assert not admits(listed, {"regions": [{}]})
    assert not admits(listed, {"processes": []})
    more = schema_of("t", [Fields(pb.DrainResponse, number=int | None)])
    assert admits(more, plain(pb.DrainResponse()) | {"number": None})
    assert not admits(more, plain(pb.DrainResponse()))
    either = schema_of("t", [pb.DrainResponse, pb.ClearHintsResponse])
    assert [admits(either, plain(each())) for each in (pb.DrainResponse, pb.ClearHintsResponse, pb.Process)] == [
        True,
        True,
        False,
    ]


class Inner(TypedDict):
    number: int


class Outer(TypedDict):
    inner: list[Inner]
    text: str | None


def test_a_typed_dict_is_admitted_without_other_fields():
    schema = schema_of("t", [Outer])
    assert admits(schema, {"inner": [{"number": 1}], "text": None})
    assert not admits(schema, {"inner": [{"number": 1, "more": 2}], "text": None})
    assert not admits(schema, {"inner": []})
