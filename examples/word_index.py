"""A word index over text files, with text and index in memory that usmd owns.

This is a small search engine: the text of all files is in one region, the index in another. The index is a hash table
of words (hash, first posting, number of postings) followed by the postings (offsets into the text). A query reads an
entry, its postings, and a line of text at each. The code reads and writes bytes by slicing, and knows nothing of pages,
faults or swap.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import lib_usm

WORD: Final = re.compile(rb"[A-Za-z_]\w{2,}")
MAX_POSTINGS: Final = 16
SNIPPET: Final = 80
_ENTRY: Final = struct.Struct("<III")
_POSTING: Final = struct.Struct("<I")
_CHUNK: Final = 1 << 18

Progress = Callable[[int], None]


class Corpus:
    """The files in order, and their sizes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.sizes = [path.stat().st_size for path in paths]
        self.length = sum(self.sizes)


class Scan:
    """The contents of the index, gathered from the files: up to 16 offsets per word, one per file."""

    def __init__(self) -> None:
        self.words: dict[bytes, list[int]] = {}

    def add(self, text: bytes, offset: int) -> None:
        """Add a file that begins at `offset` of the text."""
        seen: set[bytes] = set()
        for match in WORD.finditer(text):
            word = match.group()
            if word not in seen:
                seen.add(word)
                postings = self.words.setdefault(word, [])
                if len(postings) < MAX_POSTINGS:
                    postings.append(offset + match.start())

    def packed(self) -> bytes:
        """The index as bytes: entries by hash with linear probing, then the postings."""
        slots = len(self.words) * 4 // 3 + 1
        entries = bytearray(slots * _ENTRY.size)
        postings = bytearray()
        for word, offsets in self.words.items():
            hashed = word_hash(word)
            slot = hashed % slots
            while any(entries[slot * _ENTRY.size : (slot + 1) * _ENTRY.size]):
                slot = (slot + 1) % slots
            _ENTRY.pack_into(entries, slot * _ENTRY.size, hashed, len(postings) // _POSTING.size, len(offsets))
            for offset in offsets:
                postings += _POSTING.pack(offset)
        return struct.pack("<Q", slots) + bytes(entries) + bytes(postings)


def word_hash(word: bytes) -> int:
    """A hash of 32 bits, never 0, which marks an empty entry."""
    return zlib.crc32(word) or 1


class WordIndex:
    """Text and index in two regions, filled by `store_text` and `store_index`."""

    def __init__(self, client: lib_usm.Client, text_length: int, index_length: int) -> None:
        self.text = client.mmap(text_length, name="text")
        self.index = client.mmap(index_length, name="index")
        self._slots = 0

    def store_text(self, offset: int, data: bytes) -> None:
        """Store a file in the text."""
        self.text[offset : offset + len(data)] = data

    def store_index(self, packed: bytes, progress: Progress) -> None:
        """Store the packed index in its region."""
        for start in range(0, len(packed), _CHUNK):
            part = packed[start : start + _CHUNK]
            self.index[start : start + len(part)] = part
            progress(len(part))
        (self._slots,) = struct.unpack("<Q", self.index[0:8])

    def find(self, word: bytes) -> list[bytes]:
        """A line of text for each posting of a word; empty if the word is not in the index."""
        hashed = word_hash(word)
        slot = hashed % self._slots
        while True:
            start = 8 + slot * _ENTRY.size
            found, first, count = _ENTRY.unpack(self.index[start : start + _ENTRY.size])
            if not found:
                return []
            if found == hashed:
                break
            slot = (slot + 1) % self._slots
        base = 8 + self._slots * _ENTRY.size + first * _POSTING.size
        postings = self.index[base : base + count * _POSTING.size]
        return [self._snippet(offset) for (offset,) in _POSTING.iter_unpack(postings)]

    def _snippet(self, offset: int) -> bytes:
        return self.text[offset : min(offset + SNIPPET, len(self.text))].partition(b"\n")[0]
