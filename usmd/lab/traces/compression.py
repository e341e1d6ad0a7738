"""gzip and zstd, undone while reading and recognised by their first bytes.

Covers files of several members or frames, as parallel compressors write them. A stream that ends early is an error,
never a shorter trace. Does not cover where the bytes come from (source).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import zstandard

from usmd.errors import TraceError

MAGIC_LENGTH = 4
PIECE = 1 << 18
"""Most bytes that gzip yields at a time."""

_GZIP = b"\x1f\x8b"
_GZIP_CONTAINER = 31
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
_ZSTD_SLICE = 1 << 10  # what one slice can grow to is bounded by its length: 32 MiB here


def decompressed(head: bytes, rest: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The plain bytes of `head`, the first MAGIC_LENGTH bytes or all there are, and `rest`.

    Raises TraceError, while iterating, for a damaged or truncated stream of `path`.
    """
    if head.startswith(_GZIP):
        return _gzip(_joined(head, rest), path)
    if head == _ZSTD or (head[1:] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5):
        return _zstd(_joined(head, rest), path)
    return _joined(head, rest)


def _joined(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _gzip(raw: Iterator[bytes], path: str) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_CONTAINER)
    for data in raw:
        while data:
            if member.eof:
                data = data.lstrip(b"\0")  # padding between members and at the end, as on tapes
                if not data:
                    break
                member = zlib.decompressobj(_GZIP_CONTAINER)
            try:
                piece = member.decompress(data, PIECE)
            except zlib.error as error:
                raise TraceError(f"{path}: the gzip stream is damaged ({error}); compress the trace again") from None
            data = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece
    if not member.eof:
        raise _truncated(path, "gzip")


def _zstd(raw: Iterator[bytes], path: str) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor()
    frame = None
    for data in raw:
        for start in range(0, len(data), _ZSTD_SLICE):
            some = data[start : start + _ZSTD_SLICE]
            while some:
                frame = frame or decompressor.decompressobj()
                try:
                    piece = frame.decompress(some)
                except zstandard.ZstdError as error:
                    raise TraceError(f"{path}: the zstd stream is damaged ({error}); compress it again") from None
                some = b""
                if frame.eof:
                    some = frame.unused_data
                    frame = None
                if piece:
                    yield piece
    if frame is not None:
        raise _truncated(path, "zstd")


def _truncated(path: str, kind: str) -> TraceError:
    return TraceError(f"{path}: the {kind} stream ends early; copy the file again, or recover what it has beforehand")
