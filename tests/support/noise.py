"""Bytes that are nearly HTTP/2, or nearly HTTP/1, determined by a source of randomness."""

from __future__ import annotations

import random
import struct
from typing import Final

from tests.support.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    frame,
    literal,
)

_KINDS: Final = (*range(10), 12, 255)
"""All that RFC 9113 has, and some that it does not."""
_STREAMS: Final = (0, 1, 1, 1, 3, 5, 2, 0x7FFFFFFF, 0xFFFFFFFF)
_PARTS: Final = (
    b"GET ", b"HEAD ", b"POST ", b"/metrics", b"/", b"?a=%zz", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"Accept: application/openmetrics-text;version=9.a\r\n", b"Content-Length: 99999999999\r\n",
    b"Expect: 100-continue\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n",
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", PREFACE, b"5\r\nabcde\r\n", b"x" * 20_000, b"\xff" * 100,
)  # fmt: skip


def http2(source: random.Random, path: str) -> bytes:
    """A preface, mostly, and frames of all kinds, of which some are valid calls of `path`."""
    begun = PREFACE + frame(SETTINGS, 0, 0) if source.random() < 0.9 else b""
    return begun + b"".join(_frame(source, path) for _ in range(source.choice((1, 3, 20))))


def _frame(source: random.Random, path: str) -> bytes:
    kind, stream = source.choice(_KINDS), source.choice(_STREAMS)
    made = frame(kind, source.choice((0, 0, 1, END_HEADERS, 5, 8, 0x20, 0xFF)), stream, _content(source, kind, path))
    match source.randrange(12):
        case 0:  # its length is another
            return struct.pack(">I", source.choice((0, 1, 5, 9, 0xFFFF, 0xFFFFFF)))[1:] + made[3:]
        case 1:
            return made[: source.randrange(len(made))]
    return made


def _content(source: random.Random, kind: int, path: str) -> bytes:
    noise = source.randbytes(source.choice((0, 1, 4, 8, 100, 3000)))
    if kind in (HEADERS, CONTINUATION):
        return source.choice((call_headers(path), literal("usm-session-token", "x"), literal("K", "v"), b"")) + noise
    if kind == DATA:
        return b"\0" + struct.pack(">I", source.choice((0, len(noise), 1 << 20, 0xFFFFFFFF))) + noise
    if kind == SETTINGS:
        pairs = ((source.randrange(8), source.choice((0, 1, 16384, 0x7FFFFFFF, 0xFFFFFFFF))) for _ in range(3))
        return b"".join(struct.pack(">HI", *pair) for pair in pairs)
    if kind == WINDOW_UPDATE:
        return struct.pack(">I", source.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF)))
    return noise[:8].ljust(8, b"\0") if kind == PING else noise


def http1(source: random.Random) -> bytes:
    """Some requests, some halves of one, some of neither."""
    return b"".join(source.choices(_PARTS, k=source.randint(0, 12)))
