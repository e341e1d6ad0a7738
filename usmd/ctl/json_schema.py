"""JSON schemas of the documents of `--format json`, from the types that the documents are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from usmd.ctl.as_json import without_prefix

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = "#/$defs/{name}"
_UNSIGNED: Final = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
_KINDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: "integer",
    FieldDescriptor.CPPTYPE_INT64: "integer",
    FieldDescriptor.CPPTYPE_UINT32: "integer",
    FieldDescriptor.CPPTYPE_UINT64: "integer",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_BOOL: "boolean",
    FieldDescriptor.CPPTYPE_STRING: "string",
}
Schema = dict[str, Any]


Document = Any
"""What a document, or a part, is made from: a message, by `plain`; Fields; ListOf; any type that msgspec knows."""


class ListOf:
    """A list."""

    def __init__(self, item: Document) -> None:
        self.item = item


class Fields:
    """An object with these fields, after those of a message if there is one."""

    def __init__(self, message: type[Message] | None = None, /, **fields: Document) -> None:
        self.message = message
        self.fields = fields


def schema_of(title: str, documents: Sequence[Document]) -> Schema:
    """The schema of a document that is made from one of these. Every field is there, and no other one."""
    definitions: Schema = {}
    found = [_document(each, definitions) for each in documents]
    made: Schema = {"$schema": DIALECT, "title": title, **(found[0] if len(found) == 1 else {"anyOf": found})}
    if definitions:
        made["$defs"] = dict(sorted(definitions.items()))
    return made


def _document(document: Document, definitions: Schema) -> Schema:
    if isinstance(document, ListOf):
        return {"type": "array", "items": _document(document.item, definitions)}
    if isinstance(document, Fields):
        message = document.message
        before = {} if message is None else _fields(cast(Descriptor, message.DESCRIPTOR), definitions)
        return _object(before | {name: _document(each, definitions) for name, each in document.fields.items()})
    if isinstance(document, type) and issubclass(document, Message):
        return _message(cast(Descriptor, document.DESCRIPTOR), definitions)
    (schema,), found = msgspec.json.schema_components([document], ref_template=_REFERENCE)
    definitions |= {name: _closed(each) for name, each in found.items()}
    return schema


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _closed(schema: Schema) -> Schema:
    """A schema of msgspec without fields beside its own."""
    return schema | {"additionalProperties": False} if "properties" in schema else schema


def _message(descriptor: Descriptor, definitions: Schema) -> Schema:
    """A reference to a message, which is defined."""
    if descriptor.name not in definitions:
        definitions[descriptor.name] = {}  # so that a message within itself ends
        definitions[descriptor.name] = _object(_fields(descriptor, definitions))
    return {"$ref": _REFERENCE.format(name=descriptor.name)}


def _fields(descriptor: Descriptor, definitions: Schema) -> Schema:
    return {field.name: _field(field, definitions) for field in descriptor.fields}


def _field(field: FieldDescriptor, definitions: Schema) -> Schema:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {
            "type": "object",
            "additionalProperties": _value(field.message_type.fields_by_name["value"], definitions),
        }
    if field.is_repeated:
        return {"type": "array", "items": _value(field, definitions)}
    value = _value(field, definitions)
    return {"anyOf": [value, {"type": "null"}]} if field.has_presence else value


def _value(field: FieldDescriptor, definitions: Schema) -> Schema:
    if field.message_type is not None:
        return _message(field.message_type, definitions)
    if field.enum_type is not None:
        return {"enum": _names(field.enum_type)}
    least = {"minimum": 0} if field.cpp_type in _UNSIGNED else {}
    return {"type": _KINDS[field.cpp_type], **least}


def _names(enum: EnumDescriptor) -> list[str]:
    return [without_prefix(each.name, enum.name) for each in enum.values]
