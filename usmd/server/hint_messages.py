"""Converts hints between the wire's typed fields and the core's, by the core's table of keys (usmd.core.hints)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.descriptor import EnumDescriptor

from usm_wire.pb.usm.v1 import common_pb2
from usmd.core.hint_values import Choice, SizeOrAuto
from usmd.core.hints import KEYS, Hint, typed_hint
from usmd.errors import InvalidHint

_ENUMS: Final[Mapping[str, EnumDescriptor]] = {
    field.name: field.enum_type for field in common_pb2.HintFields.DESCRIPTOR.fields if field.enum_type is not None
}
"""The enums of typed fields. Their values are named after field and word, such as PRIORITY_LOW; 0 is unset."""


def hint_from_fields(fields: common_pb2.HintFields) -> Hint | None:
    """The hint of typed fields, the same as that of the equal text; raises InvalidHint.

    A field that is 0, false or empty is unset.
    """
    values: dict[str, object] = {}
    for key, (_, kind, typed, _, _) in KEYS.items():
        said = getattr(fields, typed)
        if typed in _ENUMS and said:
            values[key] = _chosen(typed, said, kind)
        elif isinstance(kind, SizeOrAuto) and getattr(fields, f"{key.lower()}_auto"):
            values[key] = 0
        elif said:
            values[key] = said
    return typed_hint(values, fields.extra)


def _chosen(typed: str, number: int, kind: object) -> object:
    """The value of an enum's number."""
    named = _ENUMS[typed].values_by_number.get(number)
    if named is None or not isinstance(kind, Choice):
        raise InvalidHint(f"hint {typed} {number} is not a value of its enum")
    return kind.choices[named.name.removeprefix(f"{typed.upper()}_")]


def fields_from_hint(hint: Hint) -> common_pb2.HintFields:
    """What a hint says, as typed fields. Of keys that it lacks, only choices with a default are set."""
    fields = common_pb2.HintFields(extra=hint.extra)
    for key, (field, kind, typed, _, _) in KEYS.items():
        value = getattr(hint, field)
        if value is None:
            continue
        if typed in _ENUMS:
            setattr(fields, typed, _ENUMS[typed].values_by_name[f"{typed.upper()}_{kind.write(value)}"].number)
        elif isinstance(kind, SizeOrAuto) and value == 0:
            setattr(fields, f"{key.lower()}_auto", True)
        elif value:
            setattr(fields, typed, value)
    return fields
