from array import array

from usmd.lab.traces.trace import BATCH_LIMIT, cut


def test_accesses_are_cut_into_batches_of_the_limit():
    keys = array("q", range(2 * BATCH_LIMIT + 1))
    batches = list(cut(keys, bytes([1]) * len(keys), array("d", keys)))
    assert [len(batch.keys) for batch in batches] == [BATCH_LIMIT, BATCH_LIMIT, 1]
    assert [len(batch.writes) for batch in batches] == [BATCH_LIMIT, BATCH_LIMIT, 1]
    assert batches[2].times == array("d", [2 * BATCH_LIMIT])


def test_without_accesses_there_is_no_batch():
    assert list(cut(array("q"))) == []


def test_writes_are_empty_where_all_are_reads():
    keys = array("q", range(BATCH_LIMIT + 1))
    first, second = cut(keys, bytes(BATCH_LIMIT) + b"\1")
    assert first.writes == b""
    assert second.writes == b"\1"
    assert first.times is None
