"""Where the bytes of one region are in its client's address space: one piece, unless mremap moved or covered a part."""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """`length` bytes of the region from `offset` on are at `address`."""

    offset: int
    length: int
    address: int

    def without(self, address: int, length: int) -> list[Piece]:
        """What is left of it where something else is at `length` addresses from `address` on."""
        end, end_out = self.address + self.length, address + length
        left = []
        if self.address < address:
            left.append(Piece(self.offset, min(address, end) - self.address, self.address))
        if end_out < end:
            start = max(end_out, self.address)
            left.append(Piece(self.offset + start - self.address, end - start, start))
        return left


class AddressMap:
    """Pieces of a region by offset; bytes that no piece covers are nowhere in the client any more."""

    __slots__ = ("length", "pieces", "whole")

    def __init__(self, address: int, length: int) -> None:
        self.length = length
        self.pieces = [Piece(0, length, address)]
        self.whole: int | None = address
        """Where the region begins, if all of it is in one piece, as usual."""

    def offset_of(self, address: int) -> int | None:
        """The byte of the region that is at an address, or None."""
        for offset, length, start in self.pieces:
            if start <= address < start + length:
                return offset + address - start
        return None

    def locate(self, offset: int, length: int) -> list[Piece]:
        """Where `length` bytes from `offset` on are, in their order; what is nowhere is left out."""
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
        """Forget the addresses from `address` on, for something else is there now; returns what was there."""
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
        """Have a piece be where it says; its offsets are nowhere else."""
        self._set(sorted([*self.pieces, piece]))

    def _set(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        only = pieces[0] if len(pieces) == 1 else None
        self.whole = only.address if only is not None and only.length == self.length else None
