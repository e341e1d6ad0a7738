"""Where regions are, what takes their place, and which region an address is in."""

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


def test_a_region_that_is_forgotten_is_nowhere():
    at = two()
    at.find(16 * PAGE)
    at.forget(ONE)
    assert (at.find(16 * PAGE), at.last) == ((0, None), (0, 0, 0))


def test_addresses_overlap_regions_or_not():
    at = two()
    assert at.overlaps(0, 17 * PAGE)
    assert at.overlaps(23 * PAGE, 100 * PAGE)
    assert not at.overlaps(0, 16 * PAGE)
    assert not at.overlaps(24 * PAGE, PAGE)
