"""Hints between the wire's typed fields and the core's; the text form is parsed by `usmd.core.hints`."""

from __future__ import annotations

from typing import Final

from lib_usm.pb.usm.v1 import common_pb2
from usmd.core.hints import Access, Hint, Priority, parse_hint
from usmd.errors import InvalidHint

_PRIORITY: Final = {
    common_pb2.HintFields.PRIORITY_LOW: Priority.LOW,
    common_pb2.HintFields.PRIORITY_NORMAL: Priority.NORMAL,
    common_pb2.HintFields.PRIORITY_HIGH: Priority.HIGH,
}
_ACCESS: Final = {
    common_pb2.HintFields.ACCESS_NORMAL: Access.NORMAL,
    common_pb2.HintFields.ACCESS_SEQUENTIAL: Access.SEQUENTIAL,
    common_pb2.HintFields.ACCESS_RANDOM: Access.RANDOM,
}


def hint_from_fields(fields: common_pb2.HintFields) -> Hint | None:
    """The hint that typed fields say: what the same text would say, with the same errors (InvalidHint)."""
    parts: list[str] = []
    if fields.priority:
        if fields.priority not in _PRIORITY:
            raise InvalidHint(f"hint priority {fields.priority} is no value of its enum")
        parts.append(f"PRIORITY={_PRIORITY[fields.priority].name}")
    if fields.access:
        if fields.access not in _ACCESS:
            raise InvalidHint(f"hint access {fields.access} is no value of its enum")
        parts.append(f"ACCESS={_ACCESS[fields.access].name}")
    if fields.eviction not in (0, common_pb2.HintFields.EVICTION_ALLOW, common_pb2.HintFields.EVICTION_DENY):
        raise InvalidHint(f"hint eviction {fields.eviction} is no value of its enum")
    if fields.eviction:
        parts.append(f"EVICTION={'DENY' if fields.eviction == common_pb2.HintFields.EVICTION_DENY else 'ALLOW'}")
    if fields.fhp_auto or fields.fhp_bytes:
        parts.append(f"FHP={'AUTO' if fields.fhp_auto else fields.fhp_bytes}")
    if fields.swap_device:
        parts.append(f"SWAP={_plain('swap_device', fields.swap_device)}")
    if fields.ttl_seconds:
        parts.append(f"TTL={fields.ttl_seconds}")
    if fields.will_need:
        parts.append("WILLNEED")
    if fields.dont_need:
        parts.append("DONTNEED")
    for key, value in sorted(fields.extra.items()):
        if not key.upper().startswith("X_"):
            raise InvalidHint(f"hint key {key!r} is not free-form; allowed are keys that begin with X_")
        parts.append(f"{_plain('key', key)}={_plain(key, value)}")
    return parse_hint("; ".join(parts))


def _plain(name: str, value: str) -> str:
    """A value that stays one value in a hint's text."""
    if ";" in value or (name == "key" and "=" in value):
        raise InvalidHint(f"hint {name} {value!r} holds a ';' or '='; allowed is text without it")
    return value


def fields_from_hint(hint: Hint) -> common_pb2.HintFields:
    """What a hint says, as typed fields; what it does not say is not set, but for the three that always hold."""
    return common_pb2.HintFields(
        priority={value: key for key, value in _PRIORITY.items()}[hint.priority],
        eviction=common_pb2.HintFields.EVICTION_DENY if hint.deny else common_pb2.HintFields.EVICTION_ALLOW,
        access={value: key for key, value in _ACCESS.items()}[hint.access],
        fhp_bytes=hint.fhp_bytes or 0,
        fhp_auto=hint.fhp_bytes == 0,
        swap_device=hint.swap_device or "",
        ttl_seconds=hint.ttl_seconds or 0.0,
        will_need=hint.will_need,
        dont_need=hint.dont_need,
        extra=hint.extra,
    )
