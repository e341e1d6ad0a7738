"""From the ids of a trace to page numbers: order, neighbours, and no more numbers than memory has room for."""

import gzip
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.loading import SPARE, gather, load, number
from usmd.lab.traces.reading import open_trace
from usmd.lab.traces.trace import Batch

IDS = st.sets(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 5000), min_size=1, max_size=60)


def trace_of(*batches):
    return gather(batches, "made", lambda: "made")


@given(ids=IDS)
def test_numbers_are_distinct_keep_the_order_and_are_not_much_more_than_the_ids(ids):
    numbering = number(ids)
    pages = [numbering.page_from(identity) for identity in sorted(ids)]
    assert pages == sorted(set(pages))
    assert pages[0] >= 0
    assert [numbering.identity(page) for page in pages] == sorted(ids)
    assert pages[-1] < numbering.pages <= SPARE * len(ids) + 512


@given(ids=IDS, probe=st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-10, 5010))
def test_a_range_of_ids_is_a_range_of_pages(ids, probe):
    numbering = number(ids)
    border = numbering.page_from(probe)
    for identity in ids:
        assert (numbering.page_from(identity) >= border) == (identity >= probe)


def test_neighbours_stay_neighbours_where_ids_are_pages():
    numbering = number(set(range(1000, 1100)))
    first = numbering.page_from(1000)
    assert [numbering.page_from(identity) - first for identity in range(1000, 1100)] == list(range(100))
    assert first % 512 == 1000 % 512, "aligned as before, so that huge pages fall on the same borders"


def test_regions_far_apart_are_kept_together_in_blocks():
    ids = {*range(1 << 36, (1 << 36) + 300), *range(1 << 46, (1 << 46) + 300)}
    numbering = number(ids)
    assert numbering.page_from((1 << 46) + 1) == numbering.page_from(1 << 46) + 1
    assert numbering.pages == 1024


def test_scattered_keys_are_packed():
    ids = {identity * 0x9E3779B97F4A7C15 % (1 << 62) for identity in range(1, 3000)}
    assert number(ids).pages == len(ids)


def test_writes_and_times_of_batches_are_joined():
    found = trace_of(
        Batch(array("q", [7, 9]), times=array("d", [5.0, 6.0])),
        Batch(array("q", [7]), b"\1", array("d", [5.5])),
        Batch(array("q", [9]), b"", array("d", [8.0])),
    )
    assert (len(found), found.distinct, found.writes) == (4, 2, b"\0\0\1\0")
    assert list(found.times) == [0.0, 1.0, 1.0, 3.0], "from 0, and never falling"
    assert found.pages[0] == found.pages[2] != found.pages[1]


def test_a_batch_without_times_leaves_the_trace_without():
    assert trace_of(Batch(array("q", [1]), times=array("d", [1.0])), Batch(array("q", [2]))).times is None


def test_a_file_is_loaded_and_its_progress_told(tmp_path):
    path = tmp_path / "t.gz"
    path.write_bytes(gzip.compress(b"5\n6\n5\n"))
    told = []
    with open_trace(str(path)) as source:
        found = load(source, lambda: told.append(source.accesses))
    assert (found.name, found.format, len(found), told) == ("t.gz", "text", 3, [3])


def test_what_cannot_be_read_is_an_error(tmp_path):
    path = tmp_path / "t"
    path.write_text("1\nx y z w\n")
    with open_trace(str(path), "text") as source, pytest.raises(TraceError, match="line 2"):
        load(source)
