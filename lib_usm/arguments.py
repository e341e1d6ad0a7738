"""Converts arguments of public calls: each becomes an int, seconds, text or bytes once, or is refused.

Behind this module only plain values are used: a NumPy integer could overflow, wrap around or compare wrongly.
"""

from __future__ import annotations

import inspect
import math
import numbers
import operator
import re
import threading
from typing import TYPE_CHECKING, Final, SupportsFloat, SupportsIndex

from lib_usm.errors import InvalidArgument, OutOfRange, UsmError, WrongType

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MOST_BITS: Final = 128
"""More than any integer of this library needs. Python refuses to print much longer ones."""
_FIELD_NAMES: Final = re.compile(r":[^:]*:")


def shown(value: object) -> str:
    """`value` for a message, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind_of(value: object) -> str:
    """The type of `value` with its article, for a message: `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, for a message: `1 page`, `2 pages`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def whole(value: SupportsIndex, what: str) -> int:
    """Convert any integer to an int; a bool is 0 or 1. Raises WrongType, and OutOfRange over 128 bits."""
    if type(value) is int:
        number = value
    else:
        try:
            number = int(operator.index(value))
        except TypeError:
            raise WrongType(f"{what} {shown(value)} is {kind_of(value)}; an integer is needed") from None
    if number.bit_length() > _MOST_BITS:
        raise OutOfRange(f"{what} is an integer of {number.bit_length()} bits; at most {_MOST_BITS} are allowed")
    return number


def seconds(value: SupportsFloat | SupportsIndex | None, what: str) -> float | None:
    """Convert a timeout to seconds, at least 0.

    None and infinity become None: no limit. Raises WrongType, InvalidArgument.
    """
    if value is None:
        return None
    if isinstance(value, (str, bytes, bytearray)):
        raise WrongType(f"{what} {shown(value)} is {kind_of(value)}; a number of seconds is needed")
    try:
        number = float(value)
    except TypeError:
        raise WrongType(f"{what} {shown(value)} is {kind_of(value)}; a number of seconds is needed") from None
    except OverflowError:
        number = math.inf if whole(value, what) > 0 else 0.0  # type: ignore[arg-type]  # only integers overflow
    if math.isnan(number):
        raise InvalidArgument(f"{what} is not a number; a number of seconds is needed")
    return None if number > threading.TIMEOUT_MAX else max(number, 0.0)


def share(value: SupportsFloat, what: str) -> float:
    """Convert a share, above 0 and up to 1. Raises WrongType and InvalidArgument."""
    if isinstance(value, (str, bytes, bytearray)) or not hasattr(type(value), "__float__"):
        raise WrongType(f"{what} {shown(value)} is {kind_of(value)}; a number is needed")
    number = float(value)
    if not 0.0 < number <= 1.0:
        raise InvalidArgument(f"{what} {shown(value)} is not allowed; allowed is a share above 0, up to 1")
    return number


def check_function(callback: object) -> None:
    """Raise InvalidArgument for a callback that is not a plain function."""
    if not callable(callback) or inspect.iscoroutinefunction(callback):
        raise InvalidArgument(f"{shown(callback)} is not a plain function; give one that can be called")


def byte(value: SupportsIndex) -> int:
    """Convert the value of a byte. Raises WrongType, and InvalidArgument outside of 0 to 255."""
    if isinstance(value, (bytes, bytearray, memoryview, str)):
        raise WrongType(f"one byte of a region takes a number of 0 to 255, not {type(value).__name__}")
    number = whole(value, "byte value")
    if not 0 <= number <= 255:
        raise InvalidArgument(f"byte value {number} cannot be stored; allowed is 0 to 255")
    return number


def content(data: Buffer, what: str = "data") -> memoryview:
    """The bytes of a buffer in C order; copied if the buffer is not contiguous.

    NumPy's numbers are buffers too, but a caller never means their bytes, so numbers are refused. Raises WrongType, and
    InvalidArgument for a buffer of Python objects or one that cannot be read.
    """
    if type(data) is bytes:
        return memoryview(data)
    if isinstance(data, numbers.Number):
        raise WrongType(f"{what} is the number {shown(data)}; bytes or another buffer are needed")
    try:
        view = memoryview(data)
    except TypeError:
        raise WrongType(f"{what} is {kind_of(data)}; bytes or another buffer are needed") from None
    except (ValueError, BufferError) as error:
        raise InvalidArgument(f"{what}, a {type(data).__name__}, cannot be read as a buffer: {error}") from error
    if view.format == "B" and view.ndim == 1 and view.c_contiguous:
        return view
    if view.format == "?" and not view.ndim:
        raise WrongType(f"{what} is the number {shown(data)}; bytes or another buffer are needed")
    if "O" in _FIELD_NAMES.sub("", view.format):
        raise InvalidArgument(f"{what} holds Python objects, which mean nothing as bytes; give it another type")
    if view.c_contiguous and view.nbytes:
        try:
            return view.cast("B")
        except (TypeError, ValueError, NotImplementedError):
            pass  # memoryview cannot cast some formats, e.g. NumPy's records
    return memoryview(view.tobytes())


def encodable(text: str, what: str, error: type[UsmError]) -> str:
    """Return `text` if it can be encoded as UTF-8. Raises `error`."""
    if not isinstance(text, str):
        raise error(f"{what} {text!r} is {kind_of(text)}; a str is needed")
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise error(f"{what} {text!r} cannot be encoded as UTF-8: {cause.reason}") from None
    return text
