import bz2
import gzip
import io
import lzma

import lz4.frame
import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces import compression
from usmd.lab.traces.compression import MAGIC_LENGTH, PIECE, decompressed

PLAIN = b"".join(b"%d\n" % (n * n) for n in range(3000))


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


WAYS = [gzip.compress, zstd, lzma.compress, bz2.compress, lz4.frame.compress]
KINDS = "(gzip|zstd|xz|bzip2|lz4)"


def pieces(data, size=1 << 16):
    rest = data[MAGIC_LENGTH:]
    return decompressed(data[:MAGIC_LENGTH], (rest[n : n + size] for n in range(0, len(rest), size)), "t")


def plain(data, size=1 << 16):
    return b"".join(pieces(data, size))


@pytest.mark.parametrize("compress", [bytes, *WAYS])
@given(data=st.lists(st.binary(max_size=50), min_size=1, max_size=4), size=st.integers(1, 40))
def test_members_cut_anywhere_come_back_joined(compress, data, size):
    whole = b"".join(map(compress, data))
    if compress is bytes:  # what begins like a packed file is taken for one
        assume(not whole.startswith((b"\x1f", b"\x28\xb5\x2f\xfd", b"\x04\x22", b"\x02\x21", *compression._UNREADABLE)))
        assume(whole[1:4] != b"\x2a\x4d\x18")
    assert plain(whole, size) == b"".join(data)


def test_frames_without_a_length_and_with_a_checksum_are_read():
    stream = io.BytesIO()
    with zstandard.ZstdCompressor(write_checksum=True).stream_writer(stream, closefd=False) as writer:
        writer.write(PLAIN)
    assert plain(stream.getvalue(), 7) == PLAIN


def test_skippable_frames_as_parallel_compressors_write_are_passed_over():
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    assert plain(skippable + zstd(PLAIN), 5) == PLAIN


@pytest.mark.parametrize("window", [27, 28, 31])
def test_zstd_windows_of_any_size_are_read(window):
    parameters = zstandard.ZstdCompressionParameters(compression_level=1, window_log=window, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert plain(stream.compress(PLAIN) + stream.flush(), 1000) == PLAIN


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Frame requires too much memory for decoding", "too little memory .*without --long"),
        ("Allocation error : not enough memory", "too little memory"),
        ("Dictionary mismatch", "needs a dictionary"),
        ("Data corruption detected", "is damaged"),
    ],
)
def test_what_zstd_cannot_do_is_told_apart_from_damage(monkeypatch, reason, said):
    class Fails:
        def __init__(self, **_):
            pass

        def decompressobj(self):
            return self

        def decompress(self, _):
            raise zstandard.ZstdError(reason)

    monkeypatch.setattr(zstandard, "ZstdDecompressor", Fails)
    with pytest.raises(TraceError, match=f"t: the zstd stream .*{said}"):
        plain(zstd(PLAIN))


def test_a_dictionary_is_told():
    dictionary = zstandard.train_dictionary(1024, [b"%d,%d\n" % (n, n * n) for n in range(5000)])
    data = zstandard.ZstdCompressor(dict_data=dictionary).compress(PLAIN)
    with pytest.raises(TraceError, match="needs a dictionary"):
        plain(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"PK\x03\x04\x14\0\0\0\x08\0", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c\0\x04\0\0", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0\0\0", "a rar archive"),
        (b"\x1f\x9d\x90\0\0\0\0\0\0\0", "compressed by compress"),
        (b"\x89LZO\0\r\n\x1a\n\0", "compressed by lzop"),
        (b"LZIP\x01\0\0\0\0\0", "compressed by lzip"),
        (b"\x02\x21\x4c\x18\0\0\0\0\0\0", "legacy"),
        (b"\xff\x06\0\0sNaPpY", "snappy"),
    ],
)
def test_what_is_packed_in_another_way_is_named(data, name):
    with pytest.raises(TraceError, match=f"t is .*{name}.*; unpack it"):
        plain(data)


def test_padding_between_streams_of_xz_is_passed_over():
    assert plain(lzma.compress(b"1\n") + bytes(8) + lzma.compress(b"2\n") + bytes(4), 3) == b"1\n2\n"


def test_zeros_between_and_after_gzip_members_are_padding():
    assert plain(gzip.compress(b"1\n") + bytes(5) + gzip.compress(b"2\n") + bytes(600), 3) == b"1\n2\n"


@pytest.mark.parametrize("compress", WAYS)
@pytest.mark.parametrize("missing", [1, 5, 100])
def test_a_stream_that_ends_early_is_an_error(compress, missing):
    with pytest.raises(TraceError, match=rf"t: the {KINDS} stream ends early"):
        plain(compress(PLAIN)[:-missing])


@pytest.mark.parametrize("compress", WAYS)
def test_a_stream_of_its_magic_alone_ends_early(compress):
    with pytest.raises(TraceError, match="ends early"):
        plain(compress(PLAIN)[:MAGIC_LENGTH])


def test_a_second_member_that_ends_early_is_an_error():
    for compress in WAYS:
        with pytest.raises(TraceError, match="ends early"):
            plain(compress(PLAIN) + compress(PLAIN)[:20])


@pytest.mark.parametrize("compress", WAYS)
def test_a_damaged_stream_is_an_error(compress):
    data = bytearray(compress(PLAIN))
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    with pytest.raises(TraceError, match=rf"t: the {KINDS} stream is damaged"):
        plain(bytes(data))


def test_something_else_after_the_stream_is_an_error():
    for compress in WAYS:
        with pytest.raises(TraceError, match="is damaged"):
            plain(compress(PLAIN) + b"hello, world")


def test_what_compresses_well_does_not_come_all_at_once():
    zeros = bytes(1 << 26)
    for compress in (lambda data: gzip.compress(data, 1), lambda data: lzma.compress(data, preset=0), bz2.compress,
                     lz4.frame.compress):  # fmt: skip
        assert max(map(len, pieces(compress(zeros)))) <= PIECE
    assert max(map(len, pieces(zstd(zeros)))) <= len(zeros) // 2
