"""Where the bytes of a region are: examples, and every sequence of moves against a dict of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.mechanism.address_map import AddressMap, Piece

LENGTH = 24
START = 100
ADDRESSES = 160


def test_at_first_all_is_in_one_piece():
    found = AddressMap(START, LENGTH)
    assert (found.whole, found.pieces) == (START, [Piece(0, LENGTH, START)])
    assert found.locate(5, 7) == [Piece(5, 7, START + 5)]
    assert [found.offset_of(at) for at in (START - 1, START, START + LENGTH - 1, START + LENGTH)] == [
        *(None, 0, LENGTH - 1, None),
    ]


@pytest.mark.parametrize(
    ("address", "length", "taken", "kept"),
    [
        (90, 10, [], [Piece(0, 24, 100)]),
        (124, 10, [], [Piece(0, 24, 100)]),
        (90, 12, [Piece(0, 2, 100)], [Piece(2, 22, 102)]),
        (120, 12, [Piece(20, 4, 120)], [Piece(0, 20, 100)]),
        (104, 8, [Piece(4, 8, 104)], [Piece(0, 4, 100), Piece(12, 12, 112)]),
        (100, 24, [Piece(0, 24, 100)], []),
        (0, 500, [Piece(0, 24, 100)], []),
        (110, 0, [], [Piece(0, 24, 100)]),
    ],
)
def test_what_is_taken_out_is_nowhere_any_more(address, length, taken, kept):
    found = AddressMap(START, LENGTH)
    assert found.take_out(address, length) == taken
    assert found.pieces == kept
    assert found.whole == (START if not taken else None)
    assert found.locate(0, LENGTH) == kept
    for piece in taken:
        assert found.locate(piece.offset, piece.length) == []
        assert found.offset_of(piece.address) is None


def test_a_piece_that_moved_is_found_in_the_order_of_the_bytes():
    found = AddressMap(START, LENGTH)
    found.take_out(104, 8)
    found.put(Piece(4, 8, 10))
    assert found.locate(2, 12) == [Piece(2, 2, 102), Piece(4, 8, 10), Piece(12, 2, 112)]
    assert (found.offset_of(10), found.offset_of(17), found.offset_of(18)) == (4, 11, None)
    assert found.whole is None


def test_a_region_that_moved_as_a_whole_is_whole_elsewhere():
    found = AddressMap(START, LENGTH)
    found.take_out(START, LENGTH)
    found.put(Piece(0, LENGTH, 7))
    assert found.whole == 7
    assert found.locate(3, 2) == [Piece(3, 2, 10)]


def test_a_region_that_lost_its_end_is_not_whole():
    found = AddressMap(START, LENGTH)
    found.take_out(START + 8, LENGTH)
    assert found.whole is None
    assert found.locate(4, 10) == [Piece(4, 4, START + 4)]
    assert found.locate(8, 10) == []


class Model:
    """Address by byte of the region."""

    def __init__(self):
        self.at = {offset: START + offset for offset in range(LENGTH)}

    def take_out(self, address, length):
        taken = {offset: at for offset, at in self.at.items() if address <= at < address + length}
        for offset in taken:
            del self.at[offset]
        return taken


def each_byte(pieces):
    return {offset + n: address + n for offset, length, address in pieces for n in range(length)}


ranges = st.tuples(st.integers(0, ADDRESSES), st.integers(0, LENGTH + 10))
moves = st.lists(st.tuples(ranges, st.one_of(st.none(), st.integers(0, ADDRESSES))), max_size=12)


@given(moves=moves)
def test_any_moves_are_those_of_a_dict(moves):
    """A move takes a range out, and puts what was there to an address, over what is there; None: to nowhere."""
    found, model = AddressMap(START, LENGTH), Model()
    for (address, length), to in moves:
        taken = found.take_out(address, length)
        expected = model.take_out(address, length)
        assert each_byte(taken) == expected
        if to is not None:
            found.take_out(to, length)
            model.take_out(to, length)
            for piece in taken:
                found.put(piece._replace(address=piece.address - address + to))
            model.at |= {offset: at - address + to for offset, at in expected.items()}
        assert each_byte(found.pieces) == model.at
        assert sum(piece.length for piece in found.pieces) == len(model.at)
        offsets = {at: offset for offset, at in model.at.items()}
        assert [found.offset_of(at) for at in range(2 * ADDRESSES)] == [offsets.get(at) for at in range(2 * ADDRESSES)]
        in_one = len(model.at) == LENGTH and {at - offset for offset, at in model.at.items()}
        if found.whole is not None:
            assert in_one == {found.whole}


@given(moves=moves, offset=st.integers(0, LENGTH - 1), length=st.integers(1, LENGTH))
def test_a_range_is_where_its_bytes_are_in_their_order(moves, offset, length):
    length = min(length, LENGTH - offset)
    found = AddressMap(START, LENGTH)
    for (address, count), to in moves:
        taken = found.take_out(address, count)
        if to is not None:
            found.take_out(to, count)
            for piece in taken:
                found.put(piece._replace(address=piece.address - address + to))
    pieces = found.locate(offset, length)
    assert each_byte(pieces) == {
        byte: at for byte, at in each_byte(found.pieces).items() if offset <= byte < offset + length
    }
    assert [piece.offset for piece in pieces] == sorted(piece.offset for piece in pieces)
    assert all(piece.length > 0 for piece in pieces)
