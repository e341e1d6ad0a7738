"""Swap devices as the configuration has them: tables with a kind, a size, and the keys of the kind."""

from __future__ import annotations

from typing import get_type_hints

import msgspec

from usmd.config_values import check_keys, not_allowed, read_table, show
from usmd.errors import ConfigError
from usmd.swap import kinds
from usmd.swap.kind import SwapKind


def read_device(raw: object, key: str) -> SwapKind:
    """Read the table of a device; `key` is the table's own, empty if the caller adds it to errors.

    Raises ConfigError, which names the key.
    """
    if not isinstance(raw, dict):
        raise not_allowed(key, raw, "a table with the keys kind, size, and those of its kind")
    place = f"{key}.kind" if key else "kind"
    allowed = f"one of {', '.join(kinds.TABLE)}"
    if "kind" not in raw:
        raise ConfigError(f"{place} is missing; allowed is {allowed}", place)
    name = raw["kind"]
    if not isinstance(name, str) or name not in kinds.TABLE:
        raise not_allowed(place, name, allowed)
    try:
        kind = kinds.find(name)
    except ConfigError as error:
        raise ConfigError(f"{place} = {name!r}: {error}", place) from error
    try:
        check_keys(raw, ("kind", *kind.__struct_fields__), key)
    except ConfigError as error:
        raise ConfigError(f"{error} for kind = {name!r}", error.key, error.others) from error
    return read_table(kind, {each: value for each, value in raw.items() if each != "kind"}, key)


def show_device(spec: SwapKind) -> dict[str, object]:
    """The table of a device as a file would have it."""
    hints = get_type_hints(type(spec), include_extras=True)
    shown = {field.name: show(hints[field.name], getattr(spec, field.name)) for field in msgspec.structs.fields(spec)}
    return {"kind": spec.device.kind, **{name: value for name, value in shown.items() if value is not None}}
