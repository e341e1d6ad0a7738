"""Types and shapes of arrays; what they show of a region is in test_region_memory."""

import numpy as np
import pytest

import lib_usm
from lib_usm import arrays
from tests.support.arguments import label


@pytest.mark.parametrize(
    ("shape", "room", "dimensions"),
    [
        (None, 41, (10,)),
        (-1, 41, (10,)),
        ((-1, 3), 41, (3, 3)),
        ((2, -1, 2), 41, (2, 2, 2)),
        ((), 41, ()),
        ([2, np.int8(3)], 0, (2, 3)),
        (np.array([1, 2]), 41, (1, 2)),
        (np.array(3), 41, (3,)),
        (True, 41, (1,)),
        ((n for n in (1, 2)), 41, (1, 2)),
        (-1, -5, (0,)),
    ],
    ids=label,
)
def test_a_shape_is_filled_in(shape, room, dimensions):
    item, found = arrays.layout("<u4", shape, room)
    assert (found, arrays.size(item, found)) == (dimensions, 4 * int(np.prod(dimensions)))
    assert [type(each) for each in found] == [int] * len(found)


def test_a_type_of_ones_own_is_made_of_copied_bytes():
    assert arrays.copied(b"\1\2", None).tolist() == [1, 2]
    assert arrays.copied(b"\1\2", np.float32).dtype == np.float32
    assert arrays.copied(b"\1\2", None).flags.writeable


def test_a_conversion_copies_only_where_it_must():
    array = np.zeros(3, np.uint8)
    assert arrays.converted(array, None, copy=None) is array
    assert arrays.converted(array, "u1", copy=False) is array
    assert not np.shares_memory(arrays.converted(array, None, copy=True), array)
    assert arrays.converted(array, "f8", copy=None).dtype == np.float64


def test_an_array_with_more_dimensions_than_numpy_has_is_refused():
    with pytest.raises(lib_usm.InvalidArgument, match="cannot be made"):
        arrays.over(memoryview(bytes(1)), np.dtype("u1"), (1,) * 65, 0)
