"""Decompresses gzip, zstd, xz, bzip2 and lz4 while reading; recognises them by their first bytes.

A file may have several members or frames, as parallel compressors write them. A stream that ends early is an error,
never a shorter trace. Errors name archives and other compressions.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import lz4.frame
import zstandard

from usmd.errors import TraceError

MAGIC_LENGTH = 10
PIECE = 1 << 18
"""Most bytes that a decompressor yields at a time, except zstd's."""

_GZIP = b"\x1f\x8b"
_GZIP_CONTAINER = 31
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
_ZSTD_SLICE = 1 << 10  # the length of a slice bounds what it can expand to: 32 MiB here
_ZSTD_WINDOW = 1 << zstandard.WINDOWLOG_MAX
"""Largest window of zstd --long; it takes memory only as far as the stream is long."""
_XZ = b"\xfd7zXZ\0"
_BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)", re.DOTALL)
_LZ4 = b"\x04\x22\x4d\x18"
_UNREADABLE = {
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x1f\x9d": "compressed by compress",
    b"\x89LZO\0": "compressed by lzop",
    b"LZIP": "compressed by lzip",
    b"\x02\x21\x4c\x18": "in lz4's legacy format",
    b"\xff\x06\0\0sNaPpY": "compressed by snappy",
}


class _Member(Protocol):
    """A decompressor of one member, with the interface of the standard library's."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompressed(head: bytes, rest: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The plain bytes of `head` and `rest`; `head` is the first MAGIC_LENGTH bytes, or all if there are fewer.

    Raises TraceError for a file in another compression, and, while iterating, for a damaged or truncated stream.
    """
    raw = _joined(head, rest)
    if head.startswith(_GZIP):
        return _gzip(raw, path)
    if head.startswith(_ZSTD) or _SKIPPABLE.match(head):
        return _zstd(raw, path)
    if head.startswith(_XZ):
        return _members(raw, path, "xz", lzma.LZMADecompressor)
    if _BZIP2.match(head):
        return _members(raw, path, "bzip2", bz2.BZ2Decompressor)
    if head.startswith(_LZ4):
        return _members(raw, path, "lz4", lz4.frame.LZ4FrameDecompressor)
    for magic, name in _UNREADABLE.items():
        if head.startswith(magic):
            raise TraceError(f"{path} is {name}; unpack it, or compress it by gzip, zstd, xz, bzip2 or lz4")
    return raw


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


def _members(raw: Iterator[bytes], path: str, kind: str, make: Callable[[], _Member]) -> Iterator[bytes]:
    member = make()
    for data in raw:
        while data:
            if member.eof:
                data = data.lstrip(b"\0")  # padding between streams of xz
                if not data:
                    break
                member = make()
            try:
                yield from filter(None, _decompress(member, data))
            except (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError) as error:  # varies by library
                raise TraceError(f"{path}: the {kind} stream is damaged ({error}); compress the trace again") from None
            data = (member.unused_data or b"") if member.eof else b""
    if not member.eof:
        raise _truncated(path, kind)


def _decompress(member: _Member, data: bytes) -> Iterator[bytes]:
    yield member.decompress(data, PIECE)
    while not member.eof and not member.needs_input:
        yield member.decompress(b"", PIECE)


def _zstd(raw: Iterator[bytes], path: str) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = None
    for data in raw:
        for start in range(0, len(data), _ZSTD_SLICE):
            some = data[start : start + _ZSTD_SLICE]
            while some:
                frame = frame or decompressor.decompressobj()
                try:
                    piece = frame.decompress(some)
                except zstandard.ZstdError as error:
                    raise _zstd_error(path, str(error)) from None
                some = b""
                if frame.eof:
                    some = frame.unused_data
                    frame = None
                if piece:
                    yield piece
    if frame is not None:
        raise _truncated(path, "zstd")


def _zstd_error(path: str, reason: str) -> TraceError:
    if "memory" in reason.lower():
        return TraceError(
            f"{path}: the zstd stream has a window for which there is too little memory ({reason}); compress the trace "
            "again with a smaller one, without --long"
        )
    if "dictionary" in reason.lower():
        return TraceError(f"{path}: the zstd stream needs a dictionary ({reason}); compress the trace again without")
    return TraceError(f"{path}: the zstd stream is damaged ({reason}); compress the trace again")


def _truncated(path: str, kind: str) -> TraceError:
    return TraceError(f"{path}: the {kind} stream ends early; copy the file again, or recover what it has beforehand")
