"""Byte strings in chunks: every byte comes back, the accounting is exact, and the waste is bounded."""

from __future__ import annotations

import itertools
import mmap
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.errors import SwapDeviceError
from usmd.swap.chunks import Chunks

SLAB, SMALLEST, LARGEST = 1024, 32, 96
SLABS = 6
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 191), st.integers(1, LARGEST)),
        st.tuples(st.just("remove"), st.integers(0, 191), st.just(0)),
    ),
    max_size=300,
)


def make(slabs=SLABS, slab=SLAB):
    return Chunks(size=slabs * slab + slab // 2, slab=slab, smallest=slab // 32, largest=slab // 10)


def taken(chunks):
    """Bytes of the chunks that hold something, by what the sizes of the classes say."""
    return sum(len(each.owners) * each.size for each in chunks._classes)


def check(chunks, model):
    assert chunks.stored == sum(map(len, model.values()))
    assert chunks.held <= chunks.capacity == SLABS * SLAB
    for key in range(chunks.keys):
        assert chunks.get(key) == model.get(key, b"")
    waste_of_slabs = sum(len(each.slabs) > 0 for each in chunks._classes) * SLAB
    assert chunks.stored <= taken(chunks) <= chunks.held < taken(chunks) + waste_of_slabs + 1


@examples(70)
@given(steps=STEPS, seed=st.integers(0, 9))
def test_any_sequence_agrees_with_a_dict_and_is_counted_to_the_byte(steps, seed):
    chunks = make()
    generator = random.Random(seed)
    model = {}
    for what, key, length in steps:
        if what == "remove":
            chunks.remove(key)
            model.pop(key, None)
        elif key not in model:
            data = generator.randbytes(length)
            before = chunks.held, chunks.stored
            if chunks.put(key, data):
                model[key] = data
            else:
                assert (chunks.held, chunks.stored) == before
                assert chunks.held == chunks.capacity, "there was room"
    check(chunks, model)
    for key in list(model):
        chunks.remove(key)
        del model[key]
    check(chunks, model)
    assert (chunks.stored, chunks.held) == (0, 0)
    chunks.close()


def test_as_many_fit_as_are_promised_if_each_is_as_short_as_can_be():
    chunks = make()
    assert chunks.keys == SLABS * 32
    assert all(chunks.put(key, b"x") for key in range(chunks.keys))
    assert (chunks.stored, chunks.held) == (chunks.keys, SLABS * SLAB)
    chunks.remove(7)
    assert chunks.put(7, b"y" * SMALLEST)
    assert chunks.get(7) == b"y" * SMALLEST


def test_a_chunk_of_a_larger_class_is_taken_when_no_slab_is_left():
    chunks = make(slabs=1)
    assert chunks.put(0, b"a" * LARGEST)
    assert chunks.put(1, b"b")
    assert (chunks.get(0), chunks.get(1)) == (b"a" * LARGEST, b"b")
    assert chunks.held == SLAB


def test_without_room_nothing_changes():
    chunks = make(slabs=1)
    for key in range(32):
        assert chunks.put(key, b"x")
    assert not chunks.put(0, b"y" * LARGEST)
    assert (chunks.stored, chunks.held, chunks.get(0)) == (32, SLAB, b"x")


def test_the_waste_in_a_chunk_is_what_the_step_between_classes_is():
    sizes = [each.size for each in Chunks(size=1 << 20, slab=32768, smallest=256, largest=3072)._classes]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (256, 3276)
    assert max(larger / smaller for smaller, larger in itertools.pairwise(sizes)) < 1.11
    assert len(sizes) < 64


def test_the_memory_of_an_empty_slab_goes_back_to_the_kernel():
    slab = 16 * mmap.PAGESIZE
    chunks = make(slab=slab)
    chunks.put(0, b"x" * 100)
    chunks.remove(0)
    assert chunks._memory[:100] == bytes(100)


def test_memory_that_the_kernel_does_not_grant_is_a_typed_error():
    with pytest.raises(SwapDeviceError, match="the kernel grants no"):
        Chunks(size=1 << 60, slab=32768, smallest=256, largest=3072)
