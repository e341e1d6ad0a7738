"""NumPy arrays over a region's bytes. The functions import NumPy themselves, because the library works without it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, cast

from lib_usm.arguments import shown, whole
from lib_usm.errors import InvalidArgument, WrongType

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Shape: TypeAlias = "SupportsIndex | Iterable[SupportsIndex] | None"


def layout(dtype: DTypeLike, shape: Shape, room: int) -> tuple[Any, tuple[int, ...]]:
    """Type and shape of an array in `room` bytes. Shape None is one dimension that takes all the room.

    One dimension may be -1: it takes the room that is left. Whether the array fits is not checked. Raises WrongType,
    InvalidArgument, and ImportError without NumPy.
    """
    import numpy as np

    try:
        item = np.dtype(dtype)
    except TypeError as error:
        raise WrongType(f"{shown(dtype)} is not a type of an array: {error}") from error
    if not item.itemsize or item.hasobject:
        why = "holds Python objects" if item.hasobject else "has no bytes"
        raise InvalidArgument(f"an array over a region cannot have the type {item}, which {why}")
    dimensions = _dimensions(-1 if shape is None else shape)
    known = [each for each in dimensions if each != -1]
    if any(each < 0 for each in known) or len(known) < len(dimensions) - 1:
        raise InvalidArgument(
            f"an array cannot have the shape {shown(dimensions)}; allowed are lengths of at least 0, and one -1"
        )
    if len(known) < len(dimensions):
        others = math.prod(known) * item.itemsize
        if not others:
            raise InvalidArgument(f"the -1 in the shape {shown(dimensions)} cannot be known: another length is 0")
        dimensions = tuple(max(room, 0) // others if each == -1 else each for each in dimensions)
    return item, dimensions


def _dimensions(shape: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, ...]:
    # An array of one element is both iterable and an index. It counts as a list of lengths unless it has no dimension.
    if isinstance(shape, Iterable) and getattr(shape, "ndim", None) != 0:
        return tuple(whole(each, "length in a shape") for each in shape)
    return (whole(cast("SupportsIndex", shape), "shape"),)


def size(item: Any, dimensions: tuple[int, ...]) -> int:  # noqa: ANN401 - NumPy's type, which is not imported here
    """Size of an array in bytes."""
    return math.prod(dimensions) * int(item.itemsize)


def copied(data: bytes, dtype: DTypeLike | None) -> NDArray[Any]:
    """A new array with a copy of these bytes."""
    import numpy as np

    return np.array(np.frombuffer(data, np.uint8), dtype=dtype)


def converted(array: NDArray[Any], dtype: DTypeLike | None, *, copy: bool | None) -> NDArray[Any]:
    """The result of `__array__`: the array, or a copy if `copy` asks for one or the type differs. Raises ValueError."""
    import numpy as np

    if dtype is None or np.dtype(dtype) == array.dtype:
        return array.copy() if copy else array
    if copy is False:
        raise ValueError(f"a region's bytes are uint8: they cannot be {np.dtype(dtype)} without a copy; use ndarray")
    return array.astype(dtype)


def over(view: memoryview, item: Any, dimensions: tuple[int, ...], offset: int) -> NDArray[Any]:  # noqa: ANN401
    """An array over the bytes of `view`, with the type and shape that `layout` returned. Raises InvalidArgument."""
    import numpy as np

    try:
        return np.frombuffer(view, item, math.prod(dimensions), offset).reshape(dimensions)
    except ValueError as error:  # e.g. more dimensions than NumPy allows
        raise InvalidArgument(f"an array of the shape {shown(dimensions)} cannot be made: {error}") from error
