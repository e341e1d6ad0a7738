"""Short text for values and exceptions of third-party code, without running any of that code.

A policy may raise an exception with 50 MiB of text, or one whose `__str__` sleeps, and return objects of any kind.
Values of built-in types are written as Python writes them, cut to a length. Of any other value the name of its type is
shown, and of an exception its arguments.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Final, cast

from usmd.errors import UsmdError

MAX_SHOWN: Final = 200
"""Most characters of a value, of an exception's text, and of the path of a file."""
MAX_MESSAGE: Final = 1000
"""Most characters of a message."""
_MAX_ITEMS: Final = 8
_MAX_BITS: Final = 512
_MAX_DEPTH: Final = 2
_MAX_FRAMES: Final = 20
_type_name: Any = type.__dict__["__name__"].__get__
_args: Any = BaseException.__dict__["args"].__get__
_context: Any = BaseException.__dict__["__context__"].__get__
_traceback: Any = BaseException.__dict__["__traceback__"].__get__


def type_name(value: object) -> str:
    """The name of a value's type, cut to 80 characters."""
    name: str = _type_name(type(value))
    return cut(name, 80)


def cut(text: str, most: int = MAX_SHOWN) -> str:
    """A text, or its first `most` characters and an ellipsis."""
    return text if len(text) <= most else f"{text[:most]}…"


def safe_repr(value: object) -> str:
    """A value as Python writes it, in about MAX_SHOWN characters at most."""
    return cut(_shown(value, _MAX_DEPTH))


def _shown(value: object, depth: int) -> str:
    kind = type(value)
    if issubclass(kind, BaseException):
        return f"{type_name(value)}({_items(_args(value), depth)})"
    if kind is str or kind is bytes or kind is bytearray:
        return repr(value[:MAX_SHOWN])  # type: ignore[index]
    if kind is int:
        return repr(value) if value.bit_length() <= _MAX_BITS else f"an int of {value.bit_length()} bits"  # type: ignore[attr-defined]
    if value is None or kind is bool or kind is float or kind is complex:
        return repr(value)
    if kind is tuple:
        one = "," if len(value) == 1 else ""  # type: ignore[arg-type]
        return f"({_items(cast('Sequence[object]', value), depth)}{one})"
    if kind is list:
        return f"[{_items(cast('Sequence[object]', value), depth)}]"
    if kind is set or kind is frozenset or kind is dict:
        return f"a {kind.__name__} of {len(value)} items"  # type: ignore[arg-type]
    if _is_class(value):
        return f"class {cut(_type_name(value), 80)}"
    return f"a {type_name(value)}"


def _is_class(value: object) -> bool:
    """True if a value is a class, whatever its `__class__` says."""
    return issubclass(type(value), type)


def _items(values: Sequence[object], depth: int) -> str:
    if depth == 0 and len(values):
        return "…"
    shown_items = ", ".join(_shown(each, depth - 1) for each in islice(values, _MAX_ITEMS))
    return f"{shown_items}, …" if len(values) > _MAX_ITEMS else shown_items


def message_of(error: BaseException) -> str:
    """The message of an error: its own text if it is usmd's or has one text; else as `safe_repr`."""
    arguments = _args(error)
    if arguments and type(arguments[0]) is str and (len(arguments) == 1 or isinstance(error, UsmdError)):
        return cut(arguments[0], MAX_MESSAGE)
    return safe_repr(error)


def place(error: BaseException) -> str:
    """Where an exception was raised, for a message: ` (file:line)`, or empty if unknown."""
    trace: TracebackType | None = _traceback(error)
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename[-MAX_SHOWN:]}:{trace.tb_lineno})"


def contexts(error: BaseException | None) -> list[BaseException]:
    """An exception and its chain of contexts, at most 64: the chain may be circular."""
    found: list[BaseException] = []
    while error is not None and len(found) < 64:
        found.append(error)
        error = _context(error)
    return found


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception: its last frames, without its causes."""
    frames = traceback.extract_tb(_traceback(error), limit=-_MAX_FRAMES)
    arguments = _args(error)
    text = arguments[0] if len(arguments) == 1 and type(arguments[0]) is str else None
    what = safe_repr(error) if text is None else f"{type_name(error)}: {cut(text, MAX_MESSAGE)}"
    return f"Traceback (most recent call last):\n{''.join(traceback.format_list(frames))}{what}"
