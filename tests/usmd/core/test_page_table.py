"""Page tables, against a plain dict."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.core.page_table import CHUNK, PageTable

PAGES = 3 * CHUNK + 7
PAGE = st.integers(0, PAGES - 1) | st.sampled_from([0, CHUNK - 1, CHUNK, 2 * CHUNK, PAGES - 1])


@examples(60)
@given(
    writes=st.lists(st.tuples(PAGE, st.sampled_from([0, 1, -1, 1 << 40, -(1 << 45)])), max_size=20),
    first=PAGE,
    count=st.none() | st.integers(0, PAGES + 9),
)
def test_entries_are_those_of_a_dict(writes, first, count):
    table, model = PageTable(PAGES), {}
    for page, entry in writes:
        table[page] = entry
        model[page] = entry
    assert all(table[page] == entry for page, entry in model.items())
    end = PAGES if count is None else min(first + count, PAGES)
    expected = [(page, entry) for page, entry in sorted(model.items()) if entry and first <= page < end]
    assert list(table.entries(first, count)) == expected


def test_an_untouched_chunk_takes_no_memory():
    table = PageTable(4 * CHUNK)
    table[CHUNK + 1] = 5
    table[3 * CHUNK] = 0
    assert [chunk is not None for chunk in table.chunks] == [False, True, False, False]


def test_an_entry_may_become_absent_while_entries_are_read():
    table = PageTable(8)
    for page in range(8):
        table[page] = page + 1
    for page, _ in table.entries():
        table[page] = 0
    assert list(table.entries()) == []


def test_a_copy_has_the_same_entries_and_its_own():
    table = PageTable(1000)
    table[3], table[900] = 7, -2
    copy = table.copy()
    table[3] = 8
    assert list(copy.entries()) == [(3, 7), (900, -2)]


def test_pages_in_no_order_get_consecutive_entries():
    table = PageTable(PAGES)
    pages = [2 * CHUNK, 5, CHUNK - 1, CHUNK, 7]
    table.set_pages(pages, 40)
    assert dict(table.entries()) == {page: 40 + index for index, page in enumerate(pages)}
    assert table.chunks[3] is None


def test_pages_with_a_frame_are_looked_at_up_to_the_end_of_a_chunk():
    table = PageTable(3 * CHUNK)
    assert table.framed(5, 9) == 5
    for page in (4, 5, 6, 8, CHUNK - 1, CHUNK):
        table[page] = 1 + page
    table[7] = -1
    assert [table.framed(page, 3 * CHUNK) for page in (3, 4, 7, 8, CHUNK - 1)] == [3, 7, 7, 9, CHUNK]
    assert table.framed(4, 6) == 6
