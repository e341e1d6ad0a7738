"""Where regions are, what takes their place, and which region an address is in."""

from hypothesis import given
from hypothesis import strategies as st

from usmd.mechanism.address_map import AddressMap
from usmd.mechanism.region_addresses import RegionAddresses

ONE, TWO = 3, 4
PAGE = 4096


def two():
    """Two regions of four pages, side by side."""
    at = RegionAddresses()
    at.put(ONE, 16 * PAGE, 4 * PAGE)
    at.put(TWO, 20 * PAGE, 4 * PAGE)
    return at


def test_an_address_is_in_a_region_or_in_none():
    at = two()
    assert at.find(17 * PAGE) == (ONE, PAGE)
    assert at.find(20 * PAGE) == (TWO, 0)
    assert at.find(24 * PAGE) == (0, None)
    assert at.last == (20 * PAGE, 24 * PAGE, TWO)


def test_a_region_that_is_mapped_takes_the_place_of_what_was_there():
    at = two()
    at.find(16 * PAGE)
    at.put(5, 18 * PAGE, 4 * PAGE)
    assert at.last == (0, 0, 0)
    assert [at.find(page * PAGE)[0] for page in range(16, 25)] == [ONE] * 2 + [5] * 4 + [TWO] * 2 + [0]
    assert at.piece_count == 3


def test_an_mremap_is_followed_over_another_region():
    at = two()
    at.move(16 * PAGE, 22 * PAGE, 2 * PAGE)
    assert at.find(22 * PAGE) == (ONE, 0)
    assert at.find(16 * PAGE) == (0, None)
    assert at.find(18 * PAGE) == (ONE, 2 * PAGE)
    assert at.find(21 * PAGE) == (TWO, PAGE)
    assert at.moves == 1


def test_an_mremap_is_followed_of_pages_that_had_come_to_each_other_by_an_mremap():
    at = two()
    at.move(17 * PAGE, 40 * PAGE, PAGE)
    at.move(40 * PAGE, 17 * PAGE, PAGE)  # so they are several pieces here, and one mapping of the kernel
    at.move(16 * PAGE, 30 * PAGE, 6 * PAGE)
    assert [at.find(page * PAGE) for page in range(30, 36)] == [
        *((ONE, page * PAGE) for page in range(4)), (TWO, 0), (TWO, PAGE),
    ]  # fmt: skip
    assert at.find(17 * PAGE) == (0, None)
    assert at.find(22 * PAGE) == (TWO, 2 * PAGE)


def test_a_region_that_is_forgotten_is_nowhere():
    at = two()
    at.find(16 * PAGE)
    at.forget(ONE)
    assert (at.find(16 * PAGE), at.last) == ((0, None), (0, 0, 0))


def test_a_region_that_is_in_no_piece_counts_all_the_same():
    at = two()
    at.put(5, 16 * PAGE, 8 * PAGE)
    assert at.piece_count == 3
    at.take_out(18 * PAGE, PAGE)
    at.take_out(20 * PAGE, PAGE)
    at.take_out(22 * PAGE, PAGE)
    assert at.piece_count == 4


def test_addresses_overlap_regions_or_not():
    at = two()
    assert at.overlaps(0, 17 * PAGE)
    assert at.overlaps(23 * PAGE, 100 * PAGE)
    assert not at.overlaps(0, 16 * PAGE)
    assert not at.overlaps(24 * PAGE, PAGE)


class Slow:
    """The same by looking at each page: where each is, by address."""

    def __init__(self):
        self.at = {}

    def put(self, region, page, count):
        self.at.update((page + each, (region, each * PAGE)) for each in range(count))

    def move(self, origin, to, count):
        taken = [self.at.pop(origin + each, None) for each in range(count)]
        for each, found in enumerate(taken):
            self.at.pop(to + each, None)
            if found is not None:
                self.at[to + each] = found

    def forget(self, region):
        self.at = {page: found for page, found in self.at.items() if found[0] != region}


PLACE, COUNT = st.integers(0, 20), st.integers(1, 6)
STEP = st.one_of(
    st.tuples(st.just("put"), PLACE, COUNT), st.tuples(st.just("move"), PLACE, PLACE, COUNT),
    st.tuples(st.just("take out"), PLACE, COUNT), st.tuples(st.just("forget"), PLACE),
)  # fmt: skip


@given(st.lists(STEP, max_size=20))
def test_whatever_is_mapped_moved_and_given_back_each_address_is_found_in_its_region(steps):
    at, slow = RegionAddresses(), Slow()
    for number, (what, *arguments) in enumerate(steps, 1):
        if what == "put":
            page, count = arguments
            at.put(number, page * PAGE, count * PAGE)
            slow.put(number, page, count)
        elif what == "move":
            at.move(*(each * PAGE for each in arguments))
            slow.move(*arguments)
        elif what == "take out":
            page, count = arguments
            at.take_out(page * PAGE, count * PAGE)
            for each in range(count):
                slow.at.pop(page + each, None)
        elif arguments[0] in at.maps:
            at.forget(arguments[0])
            slow.forget(arguments[0])
        assert [at.find(page * PAGE) for page in range(30)] == [slow.at.get(page, (0, None)) for page in range(30)]
        pieces = [piece for found in at.maps.values() for piece in found.pieces]
        assert sorted(piece.address for piece in pieces) == at._starts


def test_a_fault_and_a_mapping_look_at_few_of_very_many_regions(monkeypatch):
    at, looked = RegionAddresses(), []
    for number in range(1, 2001):
        at.put(number, 2 * number * PAGE, PAGE)
    for method in ("offset_of", "take_out"):
        monkeypatch.setattr(AddressMap, method, lambda *arguments: looked.append(arguments) or [])
    assert at.find(2 * 1500 * PAGE) == (1500, 0)
    at.put(5000, 2 * 1500 * PAGE, PAGE)
    assert len(looked) == 1, "what was there"
