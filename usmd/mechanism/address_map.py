"""Where the bytes of one region are in its client's address space: in one piece, unless mremap moved or hid a part."""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """`length` bytes of the region from `offset` on are at `address`."""

    offset: int
    length: int
    address: int

    def without(self, address: int, length: int) -> list[Piece]:
        """The parts of this piece outside `length` addresses from `address` on."""
        end, end_out = self.address + self.length, address + length
        left = []
        if self.address < address:
            left.append(Piece(self.offset, min(address, end) - self.address, self.address))
        if end_out < end:
            start = max(end_out, self.address)
            left.append(Piece(self.offset + start - self.address, end - start, start))
        return left


class AddressMap:
    """The pieces of a region, by offset. The client no longer maps bytes that no piece covers."""

    __slots__ = ("length", "pieces", "whole")

    def __init__(self, address: int, length: int) -> None:
        self.length = length
        self.pieces = [Piece(0, length, address)]
        self.whole: int | None = address
        """Address of a region in one piece, which is the usual case; else None."""

    def offset_of(self, address: int) -> int | None:
        """Offset in the region of the byte at an address, or None."""
        for offset, length, start in self.pieces:
            if start <= address < start + length:
                return offset + address - start
        return None

    def locate(self, offset: int, length: int) -> list[Piece]:
        """Pieces that hold `length` bytes from `offset` on, in order of offset; unmapped bytes are left out."""
        if self.whole is not None:
            return [Piece(offset, length, self.whole + offset)]
        found = []
        for piece in self.pieces:
            start = max(offset, piece.offset)
            end = min(offset + length, piece.offset + piece.length)
            if start < end:
                found.append(Piece(start, end - start, piece.address + start - piece.offset))
        return found

    def take_out(self, address: int, length: int) -> list[Piece]:
        """Remove `length` addresses from `address` on, which something else occupies; returns the pieces removed."""
        taken: list[Piece] = []
        kept: list[Piece] = []
        for piece in self.pieces:
            start = max(address, piece.address)
            end = min(address + length, piece.address + piece.length)
            if start >= end:
                kept.append(piece)
                continue
            taken.append(Piece(piece.offset + start - piece.address, end - start, start))
            kept += piece.without(address, length)
        self._set(kept)
        return taken

    def put(self, piece: Piece) -> None:
        """Add a piece. No other piece may cover its offsets."""
        self._set(sorted([*self.pieces, piece]))

    def _set(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        only = pieces[0] if len(pieces) == 1 else None
        self.whole = only.address if only is not None and only.length == self.length else None
