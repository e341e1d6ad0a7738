import zlib

from examples.word_index import MAX_POSTINGS, Scan, WordIndex, word_hash


class FakeClient:
    """Regions that are plain memory."""

    def mmap(self, length, *, name=None):
        return bytearray(length)


def built(files):
    scan, offset = Scan(), 0
    for text in files:
        scan.add(text, offset)
        offset += len(text)
    packed = scan.packed()
    index = WordIndex(FakeClient(), offset, len(packed))
    offset = 0
    for text in files:
        index.store_text(offset, text)
        offset += len(text)
    stored = []
    index.store_index(packed, stored.append)
    assert sum(stored) == len(packed)
    return index, scan


def test_a_word_is_found_with_the_line_from_it_on_once_a_file():
    index, _ = built([b"def alpha(x):\n  alpha beta\n", b"beta = alpha\n"])
    assert index.find(b"alpha") == [b"alpha(x):", b"alpha"]
    assert index.find(b"beta") == [b"beta", b"beta = alpha"]


def test_a_word_that_is_nowhere_is_not_found():
    index, _ = built([b"something here"])
    assert index.find(b"nothing") == []


def test_no_more_postings_are_kept_than_the_limit():
    index, _ = built([b"common word%d\n" % number for number in range(MAX_POSTINGS + 5)])
    assert len(index.find(b"common")) == MAX_POSTINGS


def test_every_word_of_many_is_found():
    words = [b"w%05d" % number for number in range(3000)]
    index, scan = built([b" ".join(words)])
    assert len(scan.words) == 3000
    assert all(index.find(word)[0].startswith(word) for word in words)


def test_a_hash_is_never_the_mark_of_an_empty_entry(monkeypatch):
    monkeypatch.setattr(zlib, "crc32", lambda word: 0)
    assert word_hash(b"any") == 1
