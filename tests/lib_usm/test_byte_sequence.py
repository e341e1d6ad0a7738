"""What a region has of a bytearray, compared with one: the same value, or the same kind of error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lib_usm
from lib_usm import byte_sequence
from lib_usm.byte_sequence import ByteSequence
from tests.support.arguments import label
from tests.support.examples import examples

LENGTH = 40


class Sequence(ByteSequence):
    """Bytes in this process; the least that a region is."""

    def __init__(self, data):
        self.data = bytearray(data)
        self.closed_by_now = False

    @property
    def closed(self):
        return self.closed_by_now

    def __len__(self):
        return len(self.data)

    def read(self, offset, n):
        assert 0 <= offset <= offset + n <= len(self.data)
        return bytes(self.data[offset : offset + n])

    def write(self, offset, data):
        assert 0 <= offset <= offset + len(data) <= len(self.data)
        self.data[offset : offset + len(data)] = data

    def _write_strided(self, place, data):
        assert len(data) == place.n
        self.data[place.start : place.stop : place.step] = data


@pytest.fixture(autouse=True, params=[3, 1 << 18], ids=["parts of 3 bytes", "one part"])
def part_bytes(request):
    # Not by monkeypatch, which hypothesis does not like to see shared by its examples.
    before = byte_sequence._PART_BYTES
    byte_sequence._PART_BYTES = request.param
    yield
    byte_sequence._PART_BYTES = before


def outcome(function, target):
    """What an operation returns, or the kind of its error; one of a region's is a UsmError."""
    try:
        return function(target)
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(target, ByteSequence) and not isinstance(error, lib_usm.UsmError):
            raise
        return next(kind for kind in (IndexError, TypeError, ValueError) if isinstance(error, kind))


def same(data, function):
    """Both have the same outcome, and hold the same afterwards."""
    truth, tried = bytearray(data), Sequence(data)
    expected = outcome(function, truth)
    assert outcome(function, tried) == expected
    assert tried.data == truth
    return expected


steps = st.sampled_from([None, 1, 2, 3, 5, 50, -1, -2, -7, 0])
letters = st.binary(max_size=LENGTH).map(lambda data: bytes(each % 3 for each in data))
needles = st.one_of(
    st.binary(max_size=5).map(lambda data: bytes(each % 3 for each in data)),
    st.sampled_from([0, 1, 255, 256, -1, True, np.uint8(1), bytearray(b"\1"), memoryview(b"\0\1\2")[1:]]),
    st.sampled_from([1.5, "x", None, [1]]),
)
bounds = st.one_of(
    st.none(), st.integers(-LENGTH - 3, LENGTH + 3), st.sampled_from([np.int8(-3), np.uint8(200), 10**30])
)


@examples(60)
@given(data=letters, sub=needles, start=bounds, end=bounds)
@pytest.mark.parametrize("method", ["find", "rfind", "index", "rindex", "count"])
def test_search_is_that_of_a_bytearray(method, data, sub, start, end):
    same(data, lambda target: getattr(target, method)(sub, start, end))


@examples(40)
@given(
    data=letters,
    affix=st.one_of(needles.filter(lambda each: type(each) is not np.uint8), st.tuples(letters, letters)),
    start=bounds,
    end=bounds,
)
@pytest.mark.parametrize("method", ["startswith", "endswith"])
def test_prefixes_and_suffixes_are_those_of_a_bytearray(method, data, affix, start, end):
    same(data, lambda target: getattr(target, method)(affix, start, end))


@examples(40)
@given(data=letters, item=needles)
def test_what_is_in_it_is_in_a_bytearray(data, item):
    same(data, lambda target: item in target)


@examples(60)
@given(
    data=letters,
    start=bounds,
    stop=bounds,
    step=st.sampled_from([None, 1, 2, 3, 5, 50, -1, -2, -7, 0]),
    extra=st.data(),
)
def test_slices_are_those_of_a_bytearray(data, start, stop, step, extra):
    key = slice(start, stop, step)
    part = same(data, lambda target: bytes(target[key]))
    if isinstance(part, bytes):
        new = extra.draw(st.binary(min_size=len(part), max_size=len(part)))
        for value in (new, bytearray(new), memoryview(new), list(new)):
            same(data, lambda target, value=value: target.__setitem__(key, value))


@given(data=letters, index=bounds.filter(lambda bound: bound is not None), value=needles)
def test_items_are_those_of_a_bytearray(data, index, value):
    if index == 10**30:
        return  # "cannot fit": IndexError of both, but of ours for more than 128 bits as well
    same(data, lambda target: target[index])
    # With both wrong it is the index in one version of Python and the value in another.
    if -len(data) <= index < len(data) and not isinstance(value, (bytes, bytearray, memoryview)):
        same(data, lambda target: target.__setitem__(index, value))


@pytest.mark.parametrize(
    "value",
    [
        5,
        True,
        1.5,
        None,
        "abc",
        "",
        [1, 2, 256],
        [1, 2, "x"],
        [1, 2, 1.5],
        b"abc",
        [1, 2, 3],
        (1, 2, 3),
        {1: 2, 2: 3, 4: 5},
        range(3),
        np.uint8(5),
        memoryview(b"abcdef")[::2],
    ],
    ids=label,
)
def test_what_a_slice_takes_is_what_a_bytearray_takes(value):
    same(b"0123456", lambda target: target.__setitem__(slice(2, 5), value))
    same(b"0123456", lambda target: target.__setitem__(slice(5, 2, -1), value))


def test_an_iterator_and_an_array_replace_a_slice():
    tried = Sequence(b"0123456")
    tried[1:4] = iter([1, 2, 3])
    tried[4:6] = np.array([[7], [8]], np.uint8)  # which a bytearray takes for a number
    tried[::6] = Sequence(b"ab")
    assert tried.data == b"a\1\2\3\7\x08b"


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(LENGTH))])
@pytest.mark.parametrize(
    "function", [bytes, bytearray, list, len, sum, bool, lambda it: list(reversed(it)), lambda it: it[:]]
)
def test_all_of_it_is_all_of_a_bytearray(data, function):
    expected = same(data, function)
    assert expected == function(data)


@pytest.mark.parametrize(
    "other",
    [b"abc", bytearray(b"abc"), memoryview(b"abc"), b"abd", b"ab", b"", "abc", None, 5, [97, 98, 99]],
    ids=label,
)
def test_equality_is_that_of_a_bytearray(other):
    for function in (lambda it: it == other, lambda it: other == it, lambda it: it != other):
        same(b"abc", function)


def test_two_of_them_are_equal_when_their_bytes_are():
    one, other = Sequence(b"abc"), Sequence(b"abc")
    assert one == other
    other[2] = 0
    assert one != other
    other.closed_by_now = True
    assert (one == other, other == one, other == other) == (False, False, True)


@pytest.mark.parametrize("function", [hash, lambda it: it.__delitem__(0), lambda it: it + b"", lambda it: it < b""])
def test_what_cannot_be_is_a_type_error(function):
    with pytest.raises(TypeError):
        function(Sequence(b"abc"))


@pytest.mark.parametrize("name", ["append", "extend", "insert", "pop", "remove", "clear"])
def test_what_would_change_the_length_says_that_it_cannot(name):
    with pytest.raises(AttributeError, match=f"no attribute '{name}': a region keeps its length"):
        getattr(Sequence(b""), name)
    assert not hasattr(Sequence(b""), name)


def test_what_else_bytes_can_do_says_where_it_is():
    with pytest.raises(AttributeError, match=r"no attribute 'hex': .*region\[:\]\.hex"):
        Sequence(b"").hex()
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        Sequence(b"").nonsense  # noqa: B018 - the access is what is refused


def test_every_method_of_a_bytearray_is_there_or_says_why_not():
    for name in dir(bytearray):
        if not name.startswith("_") and not hasattr(Sequence, name) and name != "reverse" and name != "copy":
            with pytest.raises(AttributeError, match="region"):
                getattr(Sequence(b""), name)
