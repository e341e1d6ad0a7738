"""Converts the daemon's answers to JSON documents with the field names of the wire.

64-bit integers stay numbers (protobuf's own JSON writes them as text), default values are included, unset optional
fields are null, and enum values are names without their prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TextIO

from google.protobuf.message import Message

from usmd.text_output import encoding_of, to_json


def plain(message: Message) -> dict[str, object]:
    """Every field of `message` by its name on the wire, as JSON values."""
    document: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            document[field.name] = None
            continue
        enum = field.enum_type
        names = {} if enum is None else {v.number: without_prefix(v.name, enum.name) for v in enum.values}
        document[field.name] = _plain(getattr(message, field.name), names)
    return document


def write_document(document: object, file: TextIO) -> None:
    """Write one indented document and a line end."""
    file.write(to_json(document, encoding_of(file), indent=2) + "\n")
    file.flush()


def write_line(document: object, file: TextIO) -> None:
    """Write one document on one line and flush, so that a reader of the pipe sees it at once."""
    file.write(to_json(document, encoding_of(file)) + "\n")
    file.flush()


def _plain(value: object, enum_names: Mapping[int, str]) -> object:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key], enum_names) for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item, enum_names) for item in value]
    if isinstance(value, int):
        return enum_names.get(value, value)  # an enum value unknown to this version stays a number
    return value


def without_prefix(value_name: str, enum_name: str) -> str:
    """The name of an enum's value as documents have it."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum_name).upper() + "_"
    return value_name.removeprefix(prefix)
