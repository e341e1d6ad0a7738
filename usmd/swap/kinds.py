"""Kinds of swap devices by name: the built-in ones, and those of installed packages.

A package adds a kind by an entry point in the group `usmd.swap_kinds`: the name that operators write, and
`module:Class`, a subclass of SwapKind.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Iterable
from typing import Final

from usmd.errors import ConfigError
from usmd.safe_repr import place, safe_repr
from usmd.swap.kind import SwapKind

TABLE: Final[dict[str, str]] = {
    "memory": "usmd.swap.memory:MemoryKind",
    "compressed": "usmd.swap.compressed:CompressedKind",
    "file": "usmd.swap.file:FileKind",
    "redis": "usmd.swap.remote.kind:RedisKind",
    "mirror": "usmd.swap.mirror:MirrorKind",
}
GROUP: Final = "usmd.swap_kinds"
_BUILT_IN: Final = frozenset(TABLE)


def enter_packages(table: dict[str, str], points: Iterable[importlib.metadata.EntryPoint]) -> None:
    """Enter the kinds of installed packages. A name that is in the table already keeps its meaning."""
    for point in points:
        table.setdefault(point.name, point.value.partition("[")[0].strip())


enter_packages(TABLE, importlib.metadata.entry_points(group=GROUP))


def find(name: str) -> type[SwapKind]:
    """The kind of that name.

    Raises ConfigError: if there is no such kind, it lists the kinds; if it cannot be loaded, it says why.
    """
    target = TABLE.get(name)
    if target is None:
        likely = difflib.get_close_matches(name.lower(), TABLE, n=1)
        meant = f"did you mean {likely[0]}? " if likely else ""
        raise ConfigError(f"there is no kind {name!r} of swap devices; {meant}a device is {forms(' or ')}")
    title = f"kind {name} of swap devices ({target})"
    module, _, attribute = target.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:  # the import of a module may raise anything
        raise ConfigError(f"{title} cannot be loaded: {safe_repr(error)}{place(error)}") from error
    if not (isinstance(found, type) and issubclass(found, SwapKind)):
        raise ConfigError(f"{title} cannot be loaded: it is not a subclass of SwapKind")
    kind = getattr(getattr(found, "device", None), "kind", None)
    if kind != name:
        raise ConfigError(f"{title} cannot be used: the kind of its devices is {safe_repr(kind)}, and not {name!r}")
    if found.open is SwapKind.open:
        raise ConfigError(f"{title} cannot be used: it does not define `open`")
    return found


def form(name: str) -> str:
    """How a device of that kind is written on the command line. Raises ConfigError as `find` does."""
    return f"{name}:{find(name).form}"


def forms(separator: str = ", ") -> str:
    """How a device of each kind is written. A package's kind is only named, so that the package is not imported."""
    return separator.join(form(name) if name in _BUILT_IN else f"{name}:..." for name in TABLE)
