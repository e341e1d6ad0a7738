"""Where the regions of one client are in its address space, gone ones included."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from usmd.mechanism.address_map import AddressMap, Piece


class RegionAddresses:
    """The address maps of regions by number. Searches bisect, so very many regions do not slow them.

    `last` is (first address, end, region) of the last region found that is in one piece, or (0, 0, 0).
    """

    def __init__(self) -> None:
        self.maps: dict[int, AddressMap] = {}
        self.last = (0, 0, 0)
        self.moves = 0
        """Remaps followed so far."""
        self._starts: list[int] = []
        """First addresses of all pieces, ascending. No two pieces have an address in common."""
        self._pieces: list[tuple[int, Piece]] = []
        """Region and piece at each of `_starts`."""

    def put(self, region_id: int, address: int, length: int) -> None:
        """Record that a region was mapped at an address, in place of what was there."""
        if region_id in self.maps:
            self.forget(region_id)
        self.take_out(address, length)
        self.maps[region_id] = AddressMap(address, length)
        self._insert(region_id, Piece(0, length, address))

    def forget(self, region_id: int) -> None:
        """Forget a region."""
        for piece in self.maps.pop(region_id).pieces:
            index = bisect_left(self._starts, piece.address)
            del self._starts[index], self._pieces[index]
        self.last = (0, 0, 0)

    @property
    def piece_count(self) -> int:
        """Pieces of all regions, gone ones included, or the number of regions if that is more.

        Each piece costs time with every remap.
        """
        return max(len(self._pieces), len(self.maps))

    def overlaps(self, address: int, length: int) -> bool:
        """Whether a region is known to be at any of these addresses."""
        return self._first_beyond(address) < bisect_left(self._starts, address + length)

    def take_out(self, address: int, length: int) -> dict[int, list[Piece]]:
        """Remove addresses that something else occupies now; returns the pieces removed, by region.

        A region of which no piece is left stays, although its client cannot touch it.
        """
        self.last = (0, 0, 0)
        first, end = self._first_beyond(address), bisect_left(self._starts, address + length)
        touched = self._pieces[first:end]
        left = [(region_id, part) for region_id, piece in touched for part in piece.without(address, length)]
        self._pieces[first:end] = left
        self._starts[first:end] = [piece.address for _, piece in left]
        regions = dict.fromkeys(region_id for region_id, _ in touched)  # once each, of however many pieces
        return {region_id: self.maps[region_id].take_out(address, length) for region_id in regions}

    def move(self, origin: int, to: int, length: int) -> None:
        """Follow an mremap."""
        self.moves += 1
        taken = self.take_out(origin, length)
        self.take_out(to, length)
        for region_id, pieces in taken.items():
            found = self.maps[region_id]
            for piece in pieces:
                moved = Piece(piece.offset, piece.length, piece.address - origin + to)
                found.put(moved)
                self._insert(region_id, moved)

    def find(self, address: int) -> tuple[int, int | None]:
        """Region and offset at an address; (0, None) if there is no region."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return 0, None
        region_id, piece = self._pieces[index]
        if address >= piece.address + piece.length:
            return 0, None
        found = self.maps[region_id]
        if found.whole is not None:
            self.last = (found.whole, found.whole + found.length, region_id)
        return region_id, piece.offset + address - piece.address

    def _first_beyond(self, address: int) -> int:
        """Index of the first piece that ends after an address."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            _, piece = self._pieces[index]
            if address < piece.address + piece.length:
                return index
        return index + 1

    def _insert(self, region_id: int, piece: Piece) -> None:
        index = bisect_left(self._starts, piece.address)
        self._starts.insert(index, piece.address)
        self._pieces.insert(index, (region_id, piece))
