"""Where the regions of one client are in its address space, those that are gone included."""

from __future__ import annotations

from usmd.mechanism.address_map import AddressMap, Piece


class RegionAddresses:
    """The address maps of regions by number. `last` is (first address, end, region) of the region found last.

    `last` is (0, 0, 0) if that region is not in one piece.
    """

    def __init__(self) -> None:
        self.maps: dict[int, AddressMap] = {}
        self.last = (0, 0, 0)
        self.moves = 0
        """Remaps that were followed."""

    def put(self, region_id: int, address: int, length: int) -> None:
        """A region was mapped at an address, and whatever was there is no more."""
        self.take_out(address, length)
        self.maps[region_id] = AddressMap(address, length)

    def forget(self, region_id: int) -> None:
        """A region is nowhere any more."""
        del self.maps[region_id]
        self.last = (0, 0, 0)

    @property
    def piece_count(self) -> int:
        """Pieces that its regions are in, those that are gone included; each costs time with every fault and remap."""
        return sum(max(len(found.pieces), 1) for found in self.maps.values())

    def overlaps(self, address: int, length: int) -> bool:
        """Whether a region is, as far as is known here, at some of these addresses."""
        return any(
            piece.address < address + length and address < piece.address + piece.length
            for found in self.maps.values()
            for piece in found.pieces
        )

    def take_out(self, address: int, length: int) -> dict[int, list[Piece]]:
        """Something else is at these addresses now; returns what was there, by region.

        A region of which nothing is left here goes on to be one, that its client cannot touch.
        """
        self.last = (0, 0, 0)
        found = {region_id: each.take_out(address, length) for region_id, each in self.maps.items()}
        return {region_id: taken for region_id, taken in found.items() if taken}

    def move(self, origin: int, to: int, length: int) -> None:
        """Follow an mremap."""
        self.moves += 1
        taken = self.take_out(origin, length)
        self.take_out(to, length)
        for region_id, pieces in taken.items():
            found = self.maps[region_id]
            for piece in pieces:
                found.put(Piece(piece.offset, piece.length, piece.address - origin + to))

    def find(self, address: int) -> tuple[int, int | None]:
        """Region and offset at an address; the offset is None where there is none."""
        for region_id, found in self.maps.items():
            offset = found.offset_of(address)
            if offset is not None:
                if found.whole is not None:
                    self.last = (found.whole, found.whole + found.length, region_id)
                return region_id, offset
        return 0, None
