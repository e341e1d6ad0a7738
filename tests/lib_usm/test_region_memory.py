"""Regions as memory: the buffer, arrays in it, why there is none, and system calls that touch it."""

import os

import numpy as np
import pytest

import lib_usm
from lib_usm.mapping import Mapping
from tests.support.real_and_simulated import (
    FRAMES,
    LENGTH,
    PAGE,
    client,
    daemon,
    evict,
    in_swap,
    left_empty,
    mappings,
    real,
    real_client,
    region,
    simulated,
)
from usm_wire.userfaultfd import open_userfaultfd

__all__ = ["client", "daemon", "real", "real_client", "region", "simulated"]


# Buffer


def test_the_buffer_is_the_bytes_of_the_region(region):
    buffer = region.buffer
    assert (len(buffer), buffer.readonly, buffer.format, buffer.contiguous) == (LENGTH, False, "B", True)
    buffer[:5] = b"hello"
    assert region[:5] == b"hello"
    region[PAGE : PAGE + 3] = b"abc"
    region.write(PAGE + 3, b"def")
    assert buffer[PAGE : PAGE + 6] == b"abcdef"
    buffer[-1] = 255
    assert region[LENGTH - 1] == 255
    with pytest.raises(IndexError):
        buffer[LENGTH]


def test_what_was_never_touched_is_zero_and_stays_what_it_is_written_to(real_client):
    region = real_client.mmap(LENGTH)
    assert bytes(region.buffer) == bytes(LENGTH)
    region.buffer[3 * PAGE] = 3
    assert region.read(3 * PAGE - 1, 3) == b"\0\3\0"


def test_a_buffer_that_its_user_releases_is_the_users_alone(region):
    with region.buffer as view:
        view[0] = 1
    assert region[0] == 1
    assert region.buffer[0] == 1
    assert region.read(0, 1) == b"\1"


def test_a_buffer_in_use_keeps_the_region_open_and_usable(region):
    buffer = region.buffer
    part = buffer[10:20]
    for _ in range(2):
        with pytest.raises(lib_usm.InUse, match=r"memory.*arrays or memoryviews in use"):
            region.close()
    assert not region.closed
    buffer[10] = 7
    assert (part[0], region[10]) == (7, 7)
    part.release()
    with pytest.raises(lib_usm.InUse):
        region.close()
    buffer.release()
    region.close()
    assert region.closed
    with pytest.raises(lib_usm.ClosedError):
        region.buffer  # noqa: B018 - the access is what is refused


def test_data_larger_than_memory_comes_back_as_it_was_written(real_client, real):
    region = real_client.mmap(3 * FRAMES * PAGE)
    array = region.ndarray(np.uint64)
    array[:] = np.arange(len(array), dtype=np.uint64)
    assert in_swap(real) > 0
    assert not region.resident()
    assert np.array_equal(array, np.arange(len(array), dtype=np.uint64))
    del array


# Arrays


@pytest.mark.parametrize(
    ("dtype", "shape", "offset", "expected"),
    [
        (np.uint8, None, 0, (LENGTH,)),
        (np.float64, None, 0, (LENGTH // 8,)),
        (np.float64, None, PAGE + 4, ((LENGTH - PAGE - 4) // 8,)),
        ("<i4", 10, 0, (10,)),
        ("<i4", (), 8, ()),
        ("<i4", (3, 5), 8, (3, 5)),
        ("<i4", [2, 0], LENGTH, (2, 0)),
        (np.dtype([("a", "u1"), ("b", "<f4")]), (7,), 1, (7,)),
        (np.complex128, (LENGTH // 16,), 0, (LENGTH // 16,)),
        (np.uint8, None, LENGTH, (0,)),
        (np.uint8, np.int64(5), 0, (5,)),
        (np.uint8, (np.int64(5), np.uint8(2)), 0, (5, 2)),
        (np.uint8, np.array([2, 3]), np.int8(5), (2, 3)),
        (np.uint8, -1, 0, (LENGTH,)),
        ("<u4", (-1, 10), 0, (LENGTH // 40, 10)),
        ("<u4", (3, np.int8(-1)), LENGTH - 50, (3, 4)),
        ("u1", (5, -1), LENGTH, (5, 0)),
    ],
    ids=str,
)
def test_an_array_has_its_type_and_its_shape_at_its_offset(region, dtype, shape, offset, expected):
    array = region.ndarray(dtype, shape, offset)
    assert (array.dtype, array.shape, array.flags.writeable) == (np.dtype(dtype), expected, True)
    if array.size:
        array.reshape(-1)[:] = np.ones(1, np.uint8).astype(dtype)
        end = int(offset) + array.nbytes
        assert region[offset:end] == array.tobytes()
        assert region[end:] == bytes(LENGTH - end)


@pytest.mark.parametrize(
    ("dtype", "shape", "offset"),
    [
        (np.uint8, LENGTH + 1, 0),
        (np.uint8, LENGTH, 1),
        (np.uint8, None, LENGTH + 1),
        (np.uint8, None, -1),
        (np.uint8, 1, -1),
        (np.uint64, LENGTH, 0),
        (np.uint8, (LENGTH, 2), 0),
        (np.uint8, (1 << 40, 1 << 40), 0),
        (np.uint8, -1, LENGTH + 1),
        (np.uint8, 0, 1 << 70),
    ],
    ids=str,
)
def test_an_array_that_would_not_lie_in_the_region_is_refused(region, dtype, shape, offset):
    with pytest.raises(lib_usm.OutOfRange, match=f"{LENGTH} bytes"):
        region.ndarray(dtype, shape, offset)
    region.close()  # nothing is left of what was refused


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (np.uint8, -2, "at least 0"),
        (np.uint8, (-1, -1), "one -1"),
        (np.uint8, (0, -1), "another length is 0"),
        (np.uint8, (1,) * 65, "cannot be made"),
        (np.uint8, 1.5, "integer"),
        (np.uint8, (1, 2.0), "integer"),
        (np.uint8, "12", "integer"),
        (object, None, "Python objects"),
        ("S0", None, "no bytes"),
        ("nonsense", None, "is not a type"),
    ],
    ids=str,
)
def test_an_array_that_cannot_be_is_refused(region, dtype, shape, message):
    with pytest.raises(lib_usm.InvalidArgument, match=message):
        region.ndarray(dtype, shape)
    region.close()


def test_what_numpy_makes_of_a_region_is_its_memory_and_not_a_copy(region):
    array = np.asarray(region)
    assert (array.dtype, array.shape) == (np.uint8, (LENGTH,))
    array[3] = 9
    assert region[3] == 9
    assert np.shares_memory(np.array(region, copy=False), array)
    assert np.shares_memory(region.ndarray(), array)
    for copy in (np.array(region), np.asarray(region, dtype=np.int16)):
        copy[3] = 1
        assert (region[3], len(copy)) == (9, LENGTH)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(region, dtype=np.int16, copy=False)


def test_what_numpy_makes_of_a_region_without_a_buffer_is_a_copy_that_was_asked_for(simulated):
    with lib_usm.connect(simulated.address) as client:
        region = client.mmap(LENGTH)
        region[:3] = b"abc"
        with pytest.raises(lib_usm.NoBuffer, match="simulated memory"):
            np.asarray(region)
        copy = np.array(region)
        assert (copy.dtype, bytes(copy)) == (np.uint8, region[:])
        copy[0] = 0
        assert region[0] == ord("a")


def test_two_arrays_and_the_buffer_share_the_bytes(region):
    one, other = region.ndarray(np.uint8), region.ndarray(np.uint16, 4, 2)
    other[0] = 0x0201
    assert (list(one[2:4]), bytes(region.buffer[2:4])) == ([1, 2], b"\1\2")


def test_an_array_in_use_keeps_the_region_open(region):
    array = region.ndarray(np.uint8)
    part = array[5:]
    with pytest.raises(lib_usm.InUse):
        region.close()
    del array
    with pytest.raises(lib_usm.InUse):
        region.close()
    part[0] = 9
    assert region[5] == 9
    del part
    region.close()


# Without a buffer


def test_simulated_memory_has_no_buffer_and_says_why(simulated):
    with lib_usm.connect(simulated.address) as client:
        region = client.mmap(LENGTH, name="nowhere")
        assert "has simulated memory; run it with real memory" in client.why_no_buffer
        assert not client.faults_of_system_calls
        for use in (lambda: region.buffer, lambda: region.ndarray(np.uint8)):
            with pytest.raises(lib_usm.NoBuffer, match=r"'nowhere'.* has no buffer: .*simulated memory"):
                use()
        region[:4] = b"call"
        assert region[:4] == b"call"


def test_a_process_that_gets_no_userfaultfd_says_why_and_loads_and_stores(real, monkeypatch):
    def refuse():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("lib_usm.memory.open_userfaultfd", refuse)
    with lib_usm.connect(real.address) as client:
        why = client.why_no_buffer
        assert "cannot have its page faults served" in why
        assert "Operation not permitted" in why
        assert "usmctl doctor" in why
        assert not client.faults_of_system_calls
        region = client.mmap(LENGTH)
        with pytest.raises(lib_usm.NoBuffer, match="Operation not permitted"):
            region.buffer  # noqa: B018 - the access is what is refused
        region.ensure()
        with region.pin(0, PAGE):
            region[PAGE - 2 : PAGE + 2] = b"call"
        evict(real, region, 2)
        assert region[PAGE - 2 : PAGE + 2] == b"call"
    left_empty(real)


def test_a_region_that_cannot_be_mapped_is_a_limit_and_is_given_back(real_client, real, monkeypatch):
    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("lib_usm.memory.Mapping", refuse)
        with pytest.raises(lib_usm.LimitExceeded, match=rf"{LENGTH} bytes cannot be mapped.*vm.overcommit_memory"):
            real_client.mmap(LENGTH)
    assert list(real.admin.regions(0)) == []
    real_client.mmap(LENGTH).buffer[0] = 1


def test_a_region_whose_mapping_the_daemon_refuses_is_given_back(real_client, real, monkeypatch):
    before = mappings()

    def told(self, *arguments):
        real_init(self, *arguments)
        self.address += 8

    real_init = Mapping.__init__
    with monkeypatch.context() as patch:
        patch.setattr(Mapping, "__init__", told)
        with pytest.raises(lib_usm.InvalidArgument, match="allowed is a multiple of 4096"):
            real_client.mmap(LENGTH)
    assert list(real.admin.regions(0)) == []
    assert mappings() == before


def test_a_client_is_told_what_memory_and_swap_there_is(client):
    capacity = FRAMES * PAGE + (1 << 20)
    with pytest.raises(lib_usm.LimitExceeded, match=f"for {capacity / (1 << 20):,.1f} MiB, which all sessions"):
        client.mmap(capacity + 1, reserve=True)
    client.mmap(capacity, reserve=True)


# System calls


def test_system_calls_wait_for_pages_where_the_client_says_so(real_client, in_thread, tmp_path):
    if not real_client.faults_of_system_calls:
        pytest.skip("this process may have faults of user mode only")
    region = real_client.mmap(LENGTH)
    data = os.urandom(LENGTH)
    (tmp_path / "data").write_bytes(data)
    with (tmp_path / "data").open("rb", buffering=0) as file:
        assert in_thread(file.readinto, region.buffer).result(10) == LENGTH
    assert region[:] == data
    other = real_client.mmap(LENGTH)
    with (tmp_path / "zeros").open("wb", buffering=0) as file:
        assert in_thread(file.write, other.buffer).result(10) == LENGTH
    assert (tmp_path / "zeros").read_bytes() == bytes(LENGTH)


@pytest.mark.parametrize(("way", "answer"), [("device", True), ("syscall", True), ("user-mode", False)])
def test_the_way_to_the_userfaultfd_decides_on_faults_of_system_calls(real, monkeypatch, way, answer):
    monkeypatch.setattr("lib_usm.memory.open_userfaultfd", lambda: (open_userfaultfd()[0], way))
    with lib_usm.connect(real.address) as client:
        assert client.faults_of_system_calls is answer
    left_empty(real)
