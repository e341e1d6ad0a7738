"""A 64-bit checksum of a page, seeded with its owner, page number and generation."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from usmd.swap.slot_io import SlotIO

_pack_key = struct.Struct("<QQQ").pack


def checksums(batch: Sequence[SlotIO]) -> list[int]:
    """One checksum per entry over its buffer and its (process, page, generation); never 0, which means "empty".

    The key is hashed into the seed, so that swapped, shifted or neighbouring keys give unrelated checksums.
    """
    return [
        xxh3_64_intdigest(buffer, xxh3_64_intdigest(_pack_key(process, page, generation))) or 1
        for _, process, page, generation, buffer in batch
    ]
