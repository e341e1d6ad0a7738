"""Regions as a bytearray of fixed length."""

import array

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import lib_usm
from lib_usm.arguments import counted
from tests.support.examples import examples

LENGTH = 70
bounds = st.one_of(st.none(), st.integers(-LENGTH - 5, LENGTH + 5))
indexes = st.integers(-LENGTH - 3, LENGTH + 3)
relaxed = examples(80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def region(client):
    return client.mmap(LENGTH, name="seventy")


@relaxed
@given(start=bounds, stop=bounds, step=st.sampled_from([None, 1, 2, 7, 30, -1, -2, -30]), data=st.data())
def test_slices_are_those_of_a_bytearray(region, start, stop, step, data):
    truth = bytearray(region[:])
    key = slice(start, stop, step)
    new = data.draw(st.binary(min_size=len(truth[key]), max_size=len(truth[key])))
    truth[key] = new
    region[key] = new
    assert region[key] == new
    assert region[:] == bytes(truth)
    assert type(region[key]) is bytes


@relaxed
@given(index=indexes, value=st.integers(-2, 258))
def test_indexes_are_those_of_a_bytearray(region, index, value):
    truth = bytearray(region[:])

    def outcome(target):
        try:
            target[index] = value
            return target[index]
        except (IndexError, ValueError) as error:
            return IndexError if isinstance(error, IndexError) else ValueError

    # A bytearray looks at the value first in one version and at the index first in another.
    expected = outcome(truth)
    assert outcome(region) == expected or (not 0 <= value <= 255 and not -LENGTH <= index < LENGTH)
    assert region[:] == bytes(truth)


def test_len_and_what_an_operator_sees(region):
    assert len(region) == LENGTH
    assert region.page_count == 5
    assert region.name == "seventy"
    assert region.address == region.region_id << 32
    assert repr(region) == f"<Region {region.region_id} 'seventy', 70 bytes>"


def test_a_slice_without_a_step_is_refused(region):
    with pytest.raises(lib_usm.InvalidArgument, match="step cannot be zero"):
        region[::0]
    with pytest.raises(lib_usm.InvalidArgument, match="step cannot be zero"):
        region[::0] = b""


def test_what_lies_between_the_bytes_of_a_slice_is_neither_read_nor_written(daemon, region):
    region[1::30] = b"abc"
    assert [(request.offset, request.data) for request in daemon.requests("Store")] == [
        (1, b"a"),
        (31, b"b"),
        (61, b"c"),
    ]
    assert not daemon.requests("Load")
    assert region[61::-30] == b"cba"


def test_a_slice_of_another_length_is_refused_and_nothing_is_stored(daemon, region):
    for data in (b"", b"abc"):
        with pytest.raises(lib_usm.InvalidArgument, match=f"{len(data)} bytes cannot replace the 2 bytes at 4"):
            region[4:6] = data
    assert not daemon.requests("Store")


def test_numbers_and_bytes_are_not_confused(region):
    with pytest.raises(lib_usm.InvalidArgument, match="takes bytes"):
        region[0:3] = 3
    with pytest.raises(lib_usm.InvalidArgument, match="takes a number"):
        region[0] = b"x"


@pytest.mark.parametrize(
    ("offset", "n"), [(-1, 1), (0, -1), (0, 71), (70, 1), (71, 0), (1 << 64, 1), (1, 1 << 64), (-(1 << 70), 1 << 71)]
)
def test_ranges_outside_are_refused_with_values_before_anything_is_sent(daemon, region, offset, n):
    calls = len(daemon.calls)
    with pytest.raises(lib_usm.OutOfRange, match=rf"{counted(n, 'byte')} at offset {offset} .* 70 bytes"):
        region.read(offset, n)
    if 0 <= n < 1000:
        with pytest.raises(lib_usm.OutOfRange, match=rf"{counted(n, 'byte')} at offset {offset} .* 70 bytes"):
            region.write(offset, bytes(n))
    assert len(daemon.calls) == calls


def test_nothing_is_read_and_written_without_a_call(daemon, region):
    calls = len(daemon.calls)
    assert region.read(70, 0) == b"" == region[5:5] == region[9:3]
    region.write(70, b"")
    region[5:5] = b""
    assert len(daemon.calls) == calls


def test_any_contiguous_buffer_can_be_written(region):
    region.write(0, array.array("I", [1, 2]))
    region[8:12] = memoryview(bytearray(b"abcd"))
    assert region[:12] == array.array("I", [1, 2]).tobytes() + b"abcd"
    with pytest.raises(TypeError):
        region.write(0, "text")
    with pytest.raises(TypeError):
        region.read(0.5, 1)


def test_iteration_yields_each_byte_in_few_calls(daemon, region):
    region[:] = bytes(range(LENGTH))
    calls = len(daemon.requests("StreamFaults"))
    assert list(region) == list(range(LENGTH))
    assert len(daemon.requests("StreamFaults")) - calls <= 3
    assert 69 in region


def test_close_unmaps_once_and_later_uses_are_refused(daemon, client, region):
    with region:
        region.write(0, b"x")
    region.close()
    assert [request.region_id for request in daemon.requests("UnmapRegion")] == [region.region_id]
    assert region.closed
    uses = (
        lambda: region.read(0, 1),
        lambda: region.write(0, b"x"),
        lambda: client.fault(region, 0, 1),
        lambda: client.fault_many([(region, 0, 1)]),
        lambda: client.usm_hint(region, "PRIORITY=LOW"),
    )
    for use in uses:
        with pytest.raises(lib_usm.ClosedError, match=f"region {region.region_id} was closed"):
            use()


def test_a_region_of_a_closed_client_is_closed_with_it(daemon, client, region):
    client.close()
    region.close()
    assert not daemon.requests("UnmapRegion")
    with pytest.raises(lib_usm.ClosedError, match="client of unix:"):
        client.mmap(5)[0]
