"""Values of options, and errors that name them."""

from array import array

import pytest

from usmd.ctl.replay_arguments import columns_of, frames_of, page_size_of, specifications_of
from usmd.errors import InvalidArgument
from usmd.lab.loading import gather
from usmd.lab.traces.trace import cut

TRACE = gather(cut(array("q", range(1000))), "made", lambda: "made")


@pytest.mark.parametrize(
    ("texts", "columns"),
    [
        ([], {}),
        (["id=a,op=b"], {"id": "a", "op": "b"}),
        (["id=a", "op=b"], {"id": "a", "op": "b"}),
        ([" ID = a b , op="], {"id": "a b", "op": ""}),
        (['"id=a,b",op=c'], {"id": "a,b", "op": "c"}),
        (["id=a=b"], {"id": "a=b"}),
        (["id=2,,"], {"id": "2"}),
        ([""], {}),
    ],
)
def test_columns_are_named_by_what_they_mean(texts, columns):
    assert columns_of(texts) == columns


@pytest.mark.parametrize("texts", [["id"], ["=a"], ["id=a,id=b"], ["id=a", "Id=b"]])
def test_a_column_without_a_meaning_or_named_twice_is_refused(texts):
    with pytest.raises(InvalidArgument, match="--columns"):
        columns_of(texts)


@pytest.mark.parametrize(
    ("given", "frames"),
    [
        (None, [100]),
        (["10"], [10]),
        (["10,5%", "64K"], [10, 50, 16]),
        ([" 1 , 0.01% "], [1, 1]),
        (["1MiB,1M,1MB"], [256, 256, 256]),
    ],
)
def test_memory_is_frames_shares_or_sizes(given, frames):
    assert frames_of(given, TRACE, 4096, 16, mrc=False) == frames


def test_a_curve_has_sizes_of_its_own():
    assert frames_of(None, TRACE, 4096, 3, mrc=True) == [1, 32, 1000]


@pytest.mark.parametrize("given", ["", ",", "x", "10,x", "-5%", "0%", "nan%", "inf%", "1.5", "4095B", "1e3"])
def test_other_memory_is_refused(given):
    with pytest.raises(InvalidArgument, match=r"--frames .*allowed are"):
        frames_of([given], TRACE, 4096, 16, mrc=False)


@pytest.mark.parametrize(("text", "size"), [("4KiB", 4096), ("64K", 65536), ("2M", 2 << 20), ("512", 512)])
def test_a_page_has_a_size(text, size):
    assert page_size_of(text) == size


@pytest.mark.parametrize("text", ["0", "", "4 pages", "-1"])
def test_other_sizes_of_a_page_are_refused(text):
    with pytest.raises(InvalidArgument, match="--page-size"):
        page_size_of(text)


def test_policies_are_checked():
    assert specifications_of("evict", "lru, s3_fifo(small=0.2, ghost=1.0)") == ["lru", "s3_fifo(small=0.2, ghost=1.0)"]
    for text in ("", " , ", "lruu", "lru("):
        with pytest.raises(InvalidArgument):
            specifications_of("evict", text)
