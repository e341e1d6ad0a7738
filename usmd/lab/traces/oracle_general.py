"""The oracleGeneral binary format of libCacheSim: 24 bytes a request, without a header.

Little endian, packed: uint32 time in seconds, uint64 object id, uint32 object size in bytes, int64 number of the next
request for the object (negative or the largest int64: none). Sizes and next requests are not used. All requests are
reads.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator

from usmd.lab.traces.context import Context
from usmd.lab.traces.records import numbers, whole_records
from usmd.lab.traces.trace import Batch

RECORD = struct.Struct("<IQIq")

_NEVER = (-2, -1, (1 << 63) - 1)
_LARGEST_TRACE = 1 << 48


def read_oracle_general(chunks: Iterable[bytes], context: Context) -> Iterator[Batch]:
    """The accesses of an oracleGeneral trace. Raises TraceError if its length is not a multiple of 24 bytes."""
    length = RECORD.size
    for offset, records in whole_records(chunks, length):
        if len(records) % length:
            problem = f"is {len(records)} bytes of a record that is cut off"
            raise context.bad_byte(offset, records.hex(), problem, f"a length that is a multiple of {length} bytes")
        keys = numbers(records, length, 4, "q")
        yield Batch(keys, times=array("d", numbers(records, length, 0, "I")))


def plausible(sample: bytes) -> bool:
    """True if the beginning of a binary file may have this format: times ascend, and next requests are possible."""
    records = list(RECORD.iter_unpack(sample[: len(sample) // RECORD.size * RECORD.size]))
    times = [time for time, _, _, _ in records]
    possible = all(0 <= following < _LARGEST_TRACE or following in _NEVER for _, _, _, following in records)
    return bool(records) and possible and times == sorted(times)
