"""Policies by name: which exist, and how a specification such as `hint_aware(fallback=lru)` becomes a policy.

A specification is a name, optionally followed by parameters: `name(parameter=value, …)`. A value is a whole number, a
decimal number, or text, which may itself be a specification. Adding a policy is a file and a line in a table below.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Final

from usmd.core.policy import AllocPolicy, EvictPolicy, OomPolicy, Policy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument, UnknownPolicy

TABLES: Final[dict[str, dict[str, str]]] = {
    "alloc": {
        "async_aware": "usmd.policies.alloc.async_aware:AsyncAware",
        "first_fit": "usmd.policies.alloc.first_fit:FirstFit",
        "flexible_huge_pages": "usmd.policies.alloc.flexible_huge_pages:FlexibleHugePages",
    },
    "evict": {
        "fifo": "usmd.policies.evict.fifo:Fifo",
        "hint_aware": "usmd.policies.evict.hint_aware:HintAware",
        "lru": "usmd.policies.evict.lru:Lru",
    },
    "oom": {
        "kill_largest": "usmd.policies.oom.kill_largest:KillLargest",
        "refuse": "usmd.policies.oom.refuse:Refuse",
    },
}

_BASES: Final[dict[str, type[Policy]]] = {"alloc": AllocPolicy, "evict": EvictPolicy, "oom": OomPolicy}
_SPECIFICATION: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_PARAMETER: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)

Value = int | float | str


def parse(specification: str) -> tuple[str, dict[str, Value]]:
    """Name and parameters of a specification; raises InvalidArgument when it cannot be read."""
    match = _SPECIFICATION.fullmatch(specification)
    if match is None:
        raise InvalidArgument(f"policy {specification!r} cannot be read; write name or name(parameter=value, …)")
    parameters: dict[str, Value] = {}
    for part in _split(match[2] or "", specification):
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None or parameter[1] in parameters:
            raise InvalidArgument(
                f"policy {specification!r}: {part.strip()!r} is no parameter=value, or is given twice"
            )
        parameters[parameter[1]] = _value(parameter[2].strip())
    return match[1], parameters


def _split(text: str, whole: str) -> list[str]:
    """Split at the commas outside parentheses."""
    parts: list[str] = [""]
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth != 0:
        raise InvalidArgument(f"policy {whole!r}: its parentheses do not match")
    return parts if text.strip() else []


def _value(text: str) -> Value:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text.strip("\"'")


def find(kind: str, specification: str) -> tuple[type[Policy], dict[str, Value]]:
    """Class and checked parameters, nested specifications included.

    Raises UnknownPolicy or InvalidArgument, which list what is allowed.
    """
    name, parameters = parse(specification)
    table = TABLES[kind]
    if name not in table:
        raise UnknownPolicy(f"{kind} policy {name!r} does not exist; there are {', '.join(sorted(table))}")
    found = _load(kind, name, table[name])
    allowed = list(inspect.signature(found).parameters.values())[1:]
    names = {parameter.name: parameter for parameter in allowed}
    for key, value in parameters.items():
        if key not in names:
            raise InvalidArgument(f"{kind} policy {name} has no parameter {key!r}; it has {', '.join(names) or 'none'}")
        default = names[key].default
        fits = isinstance(value, (int, float)) if isinstance(default, float) else isinstance(value, type(default))
        if not fits:
            raise InvalidArgument(
                f"{kind} policy {name}: {key}={value!r} is no {type(default).__name__}; its default is {default!r}"
            )
        if key in found.builds_on:
            find(kind, str(value))
    return found, parameters


def _load(kind: str, name: str, target: str) -> type[Policy]:
    """The class that a table names as `module:Class`; raises InvalidArgument when it cannot be loaded or is none."""
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, SyntaxError, AttributeError) as error:
        raise InvalidArgument(f"{kind} policy {name} ({target}) cannot be loaded: {error}") from error
    base = _BASES[kind]
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InvalidArgument(f"{kind} policy {name} ({target}) is no subclass of {base.__name__}")
    missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
    if missing:
        raise InvalidArgument(f"{kind} policy {name} ({target}) does not define {missing}")
    return found


def make(kind: str, specification: str, memory: MemoryView) -> Policy:
    """A policy for one process; raises UnknownPolicy or InvalidArgument."""
    found, parameters = find(kind, specification)
    return found(memory, **parameters)


def summary(kind: str, name: str) -> str:
    """What a policy does, in one line: the first line of its docstring, or why it cannot be loaded."""
    try:
        found, _ = find(kind, name)
    except InvalidArgument as error:
        return f"unusable: {error}"
    return (inspect.getdoc(found) or "").partition("\n")[0]
