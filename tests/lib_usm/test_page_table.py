"""The software page table against a plain set."""

from hypothesis import given
from hypothesis import strategies as st

from lib_usm import page_table
from lib_usm.page_table import PageTable

CHUNK = page_table._CHUNK_PAGES
PAGES = 2 * CHUNK + 100
# Most pages near the borders of chunks, where mistakes live.
pages = st.one_of(st.integers(0, PAGES - 1), st.sampled_from([CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, PAGES - 1]))
steps = st.lists(st.one_of(st.tuples(pages, st.integers(1, CHUNK + 50)), pages), max_size=12)


@given(steps, pages, st.integers(0, 2 * CHUNK), st.integers(1, CHUNK))
def test_absent_runs_are_what_a_set_says(steps, first, count, longest):
    table, resident = PageTable(PAGES), set()
    for step in steps:
        if isinstance(step, tuple):
            table.mark(*step)
            resident |= set(range(step[0], min(PAGES, sum(step))))
        else:
            table.clear(step)
            resident.discard(step)
    end = min(PAGES, first + count)
    runs = table.absent_runs(first, end, longest)
    assert [page for start, n in runs for page in range(start, start + n)] == [
        page for page in range(first, end) if page not in resident
    ]
    assert all(1 <= n <= longest for _, n in runs)
    joined = [i for i in range(1, len(runs)) if sum(runs[i - 1]) == runs[i][0]]
    assert all(runs[i - 1][1] == longest for i in joined), "a run was split that need not be"


class Marked(PageTable):
    """A table of which another thread marks all pages as soon as one was looked for."""

    def _next(self, *arguments):
        found = super()._next(*arguments)
        self.mark(0, PAGES)
        return found


def test_no_run_is_empty_though_pages_are_marked_meanwhile():
    assert Marked(PAGES).absent_runs(0, 8, 8) == [(0, 1)]


def test_pages_past_the_end_are_left_out():
    table = PageTable(4)
    table.mark(2, 1000)
    table.clear(1 << 40)
    assert table.absent_runs(0, 4, 100) == [(0, 2)]


def test_a_table_of_a_huge_region_costs_only_what_is_touched():
    table = PageTable(1 << 50)
    table.mark(1 << 49, 1)
    assert table.absent_runs((1 << 49) - 1, (1 << 49) + 2, 10) == [((1 << 49) - 1, 1), ((1 << 49) + 1, 1)]
    assert len(table._chunks) == 1


def test_pages_in_no_order_are_marked():
    table, marked = PageTable(PAGES), [2 * CHUNK, 5, CHUNK, CHUNK - 1, 6]
    table.mark_all(marked)
    assert [page for page in sorted(marked) if table.absent_runs(page, page + 1, 1)] == []
    assert table.absent_runs(4, 8, 9) == [(4, 1), (7, 1)]
