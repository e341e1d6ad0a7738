"""Messages made from the descriptors of the proto, so they cover new methods and fields without a change here."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from usm_wire.pb.usm import v1

Value = Any
_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (1 << 31) - 1,
    FieldDescriptor.CPPTYPE_INT64: (1 << 63) - 1,
    FieldDescriptor.CPPTYPE_UINT32: (1 << 32) - 1,
    FieldDescriptor.CPPTYPE_UINT64: (1 << 64) - 1,
}
"""Largest value of each type."""
HINTS: Final = (
    "PRIORITY=HIGH", "priority = low ; EVICTION=DENY", "EVICTION=ALLOW", "FHP=8192", "FHP=AUTO", "ACCESS=SEQUENTIAL",
    "WILLNEED", "DONTNEED", "SWAP=0", "SWAP=memory0", "TTL=0.001", "X_own=1", "TTL=-1", "NO=1", "PRIORITY", ";;", "=",
)  # fmt: skip


def services() -> list[ServiceDescriptor]:
    """All services of the package, by name."""
    modules = [importlib.import_module(f"{v1.__name__}.{each.name}") for each in pkgutil.iter_modules(v1.__path__)]
    found = {
        service.full_name: service
        for module in modules
        if hasattr(module, "DESCRIPTOR")
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    return [found[name] for name in sorted(found)]


def path(method: MethodDescriptor) -> str:
    """The name of a method on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def fields(descriptor: Descriptor) -> Iterator[FieldDescriptor]:
    """All fields of a message type and of the message types in it, each type once."""
    seen = {descriptor.full_name}
    waiting = [descriptor]
    while waiting:
        for field in waiting.pop().fields:
            yield field
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                waiting.append(field.message_type)


def variants(descriptor: Descriptor, values: Mapping[str, Value]) -> list[Message]:
    """A message for each choice of each oneof, with every other field set.

    `values`: values of fields by name; without one an integer is 1, a text "x".
    """
    cases = [{}]
    for oneof in descriptor.oneofs:
        if len(oneof.fields) > 1:
            cases = [{**case, oneof.name: field.name} for case in cases for field in oneof.fields]
    return [message for case in cases for message in _filled(descriptor, case, values)]


def _filled(descriptor: Descriptor, case: Mapping[str, str], values: Mapping[str, Value]) -> list[Message]:
    made = [message_factory.GetMessageClass(descriptor)()]
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if oneof is not None and case.get(oneof.name, field.name) != field.name:
            continue
        if field.message_type is None:
            for message in made:
                _set(message, field, values.get(field.name, _plain(field)))
            continue
        if field.message_type.GetOptions().map_entry:
            continue
        inner = variants(field.message_type, values)
        if field.is_repeated:
            for message in made:
                getattr(message, field.name).extend(inner)
        else:
            copies = []
            for message in made:
                for each in inner:
                    copy = type(message)()
                    copy.CopyFrom(message)
                    getattr(copy, field.name).CopyFrom(each)
                    copies.append(copy)
            made = copies
    return made


def _set(message: Message, field: FieldDescriptor, value: Value) -> None:
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _plain(field: FieldDescriptor) -> Value:
    return {FieldDescriptor.CPPTYPE_STRING: b"x" if field.type == FieldDescriptor.TYPE_BYTES else "x"}.get(
        field.cpp_type, 1
    )


class Grammar:
    """Random valid messages, with numbers near existing ones and near the limits of their types.

    `known`: returns likely values for a field, by its name.
    """

    def __init__(self, source: random.Random, known: Callable[[str], list[Value]]) -> None:
        self._source = source
        self._known = known

    def message(self, descriptor: Descriptor, depth: int = 3) -> Message:
        """A message of this type."""
        source = self._source
        message = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if source.random() < 0.15:
                continue
            count = source.choice((0, 1, 1, 2, 7)) if field.is_repeated else 1
            if field.message_type is not None:
                if depth == 0 or field.message_type.GetOptions().map_entry:
                    continue
                for _ in range(count):
                    inner = self.message(field.message_type, depth - 1)
                    if field.is_repeated:
                        getattr(message, field.name).append(inner)
                    else:
                        getattr(message, field.name).CopyFrom(inner)
                continue
            for _ in range(count):
                _set(message, field, self._value(field))
        return message

    def _value(self, field: FieldDescriptor) -> Value:
        source = self._source
        known = self._known(field.name)
        if known and source.random() < 0.8:
            return source.choice(known)
        if field.cpp_type in _INTEGERS:
            most = _INTEGERS[field.cpp_type]
            return min(source.choice((0, 1, 2, 3, 63, 64, 4095, 4096, 4097, 1 << 20, most - 1, most)), most)
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_BOOL:
                return source.random() < 0.5
            case FieldDescriptor.CPPTYPE_ENUM:
                return source.choice([*(each.number for each in field.enum_type.values), 99])
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                return source.choice((0.0, 1.5, -1.0, float("nan"), float("inf"), 1e300))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return source.randbytes(source.choice((0, 1, 4096, 5000)))
        return source.choice((*HINTS, "", "x", "é" * 40, "\0", "a" * 5000))
