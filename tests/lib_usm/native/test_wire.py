"""The messages of the library in C against those of protobuf, and bytes that are no message."""

import ctypes
import functools
import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.native import compiled
from usm_wire.local_stream import MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2 as pb

SOURCES = Path(__file__).parents[3] / "lib_usm" / "native"
PACKET = 4096
TEXT = 1025
U64 = st.integers(0, (1 << 64) - 1)
SAFE = st.text(st.characters(codec="utf-8", min_codepoint=1), max_size=100)


class Message(ctypes.Structure):
    _fields_ = (("length", ctypes.c_size_t), ("too_long", ctypes.c_bool), ("bytes", ctypes.c_ubyte * PACKET))


class Reply(ctypes.Structure):
    _fields_ = (
        ("reason", ctypes.c_uint64), ("message", ctypes.c_char * TEXT), ("process_id", ctypes.c_uint64),
        ("page_size", ctypes.c_uint64), ("capacity", ctypes.c_uint64), ("region_id", ctypes.c_uint64),
        ("region_length", ctypes.c_uint64), ("unheeded", ctypes.c_char * TEXT),
    )  # fmt: skip


class Outcome(ctypes.Structure):
    _fields_ = (
        ("fault_id", ctypes.c_uint64), ("ended", ctypes.c_bool), ("reason", ctypes.c_uint64),
        ("message", ctypes.c_char * TEXT),
    )  # fmt: skip


@pytest.fixture(scope="module")
def wire(tmp_path_factory):
    """The code alone."""
    library = compiled(tmp_path_factory.mktemp("wire"), SOURCES / "wire.c", options=("-shared", "-fPIC"))
    return ctypes.CDLL(str(library))


def encoded(wire, name, *arguments):
    message = Message()
    getattr(wire, f"usm_encode_{name}")(
        ctypes.byref(message),
        *(each.encode() if isinstance(each, str) else ctypes.c_uint64(each) for each in arguments),
    )
    assert not message.too_long
    return bytes(message.bytes[: message.length])


@given(name=SAFE, alloc=SAFE, evict=SAFE, number=U64, offset=U64, length=U64)
def test_requests_are_those_of_the_proto(wire, name, alloc, evict, number, offset, length):
    for kind, arguments, expected in (
        ("begin", (name, alloc, evict, number, number & 1),
         {"begin": pb.MemoryBegin(name=name, alloc=alloc, evict=evict, system_calls_fault=True, memory_max=number,
                                  takes_pages_out=bool(number & 1))}),
        ("map", (length, name), {"map": pb.MapRegionRequest(length=length, name=name)}),
        ("mapped", (number, offset), {"mapped": pb.MemoryMapped(region_id=number, address=offset)}),
        ("hint", (number, offset, length, name),
         {"hint": pb.HintRegionRequest(region_id=number, offset=offset, length=length, text=name)}),
        ("discard", (number, offset, length),
         {"discard": pb.MemoryDiscard(region_id=number, offset=offset, length=length)}),
        ("stream", (), {"stream": pb.MemoryStream()}),
    ):  # fmt: skip
        assert pb.MemoryRequest.FromString(encoded(wire, kind, *arguments)) == pb.MemoryRequest(**expected)
    data = encoded(wire, "fault", number, offset, length, number & 0xFFFF)
    assert PREFIX.unpack_from(data) == (MESSAGE, len(data) - PREFIX.size)
    fault = pb.Fault(fault_id=number, region_id=offset, first_page=length, page_count=number & 0xFFFF)
    assert pb.StreamFaultsRequest.FromString(data[PREFIX.size :]) == pb.StreamFaultsRequest(faults=[fault])


def test_a_request_that_does_not_fit_is_not_sent(wire):
    message = Message()
    wire.usm_encode_hint(
        ctypes.byref(message), ctypes.c_uint64(1), ctypes.c_uint64(0), ctypes.c_uint64(0), b"x" * PACKET
    )
    assert message.too_long


@functools.cache
def guarded():
    """Addresses of a page, and of its end, behind which nothing can be read."""
    libc = ctypes.CDLL(None, use_errno=True)
    pages = mmap.mmap(-1, 2 * PACKET)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert libc.mprotect(ctypes.c_void_p(start + PACKET), ctypes.c_size_t(PACKET), 0) == 0
    return pages, start + PACKET


def at_the_end(data):
    """The address of data that ends where nothing can be read any more: what is read beyond it ends the test."""
    _, end = guarded()
    ctypes.memmove(end - len(data), data, len(data))
    return ctypes.c_void_p(end - len(data))


def decoded(wire, data):
    reply = Reply()
    wire.usm_decode_reply.restype = ctypes.c_bool
    good = wire.usm_decode_reply(at_the_end(data), ctypes.c_size_t(len(data)), ctypes.byref(reply))
    return reply if good else None


@given(
    reason=st.integers(0, 13), numbers=st.lists(U64, min_size=5, max_size=5), text=SAFE, keys=st.lists(SAFE, max_size=3)
)
def test_replies_are_those_of_the_proto(wire, reason, numbers, text, keys):
    process, capacity, region, length, pages = numbers
    begun = pb.MemoryBegun(process_id=process, page_size=4096, capacity_bytes=capacity)
    reply = decoded(wire, pb.MemoryReply(reason=reason, message=text, begun=begun).SerializeToString())
    assert (reply.reason, reply.process_id, reply.page_size, reply.capacity) == (reason, process, 4096, capacity)
    shown = bytes(each if each >= 32 and each != 127 else ord("?") for each in text.encode())
    assert reply.message == shown
    made = pb.Region(region_id=region, address=1, length=length, page_count=pages, name=text)
    reply = decoded(wire, pb.MemoryReply(region=made).SerializeToString())
    assert (reply.region_id, reply.region_length, reply.page_size) == (region, length, 0)
    reply = decoded(wire, pb.MemoryReply(hint=pb.HintRegionResponse(unheeded_keys=keys)).SerializeToString())
    assert reply.unheeded.count(b", ") >= sum(1 for each in keys if each) - 1


@given(st.binary(max_size=300))
def test_bytes_that_are_no_reply_are_refused_and_read_within_their_bounds(wire, data):
    for cut in range(0, len(data), 7):
        decoded(wire, data[cut:])


@given(st.data())
def test_a_reply_that_was_changed_on_its_way_is_read_within_its_bounds(wire, data):
    good = pb.MemoryReply(reason=3, message="m" * 50, begun=pb.MemoryBegun(process_id=1 << 60, page_size=4096))
    changed = bytearray(good.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    decoded(wire, bytes(changed))


def outcomes(wire, data):
    wire.usm_decode_outcome.restype = ctypes.c_bool
    at, found, outcome, all_of_them = ctypes.c_size_t(0), ctypes.c_bool(True), Outcome(), []
    while found:
        if not wire.usm_decode_outcome(
            at_the_end(data), ctypes.c_size_t(len(data)), ctypes.byref(at), ctypes.byref(outcome), ctypes.byref(found)
        ):
            return None
        if found:
            all_of_them.append((outcome.fault_id, outcome.ended, outcome.reason, outcome.message))
    return all_of_them


def test_outcomes_are_those_of_the_proto(wire):
    runs = [pb.FrameRun(first_page=1, first_frame=2, page_count=3)]
    response = pb.StreamFaultsResponse(
        outcomes=[
            pb.Outcome(fault_id=5, yielded=pb.Yield(yield_token=9)),
            pb.Outcome(fault_id=5, allocated=pb.Allocated(runs=runs, yield_token=9)),
            pb.Outcome(fault_id=6, failure=pb.Failure(reason=7, message="no frame", page=3)),
        ],
        over_budget_pages=4,
    )
    expected = [(5, False, 0, b""), (5, True, 0, b""), (6, True, 7, b"no frame")]
    assert outcomes(wire, response.SerializeToString()) == expected
    assert outcomes(wire, b"") == []
    assert outcomes(wire, b"\x0a\x7f\x00") is None


@given(st.binary(max_size=300))
def test_bytes_that_are_no_outcomes_are_refused_and_read_within_their_bounds(wire, data):
    outcomes(wire, data)
