import gzip
import io

import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from usmd.errors import TraceError
from usmd.lab.traces.compression import MAGIC_LENGTH, PIECE, decompressed

PLAIN = b"".join(b"%d\n" % (n * n) for n in range(3000))


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


def pieces(data, size=1 << 16):
    rest = data[MAGIC_LENGTH:]
    return decompressed(data[:MAGIC_LENGTH], (rest[n : n + size] for n in range(0, len(rest), size)), "t")


def plain(data, size=1 << 16):
    return b"".join(pieces(data, size))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd])
@given(data=st.lists(st.binary(max_size=50), min_size=1, max_size=4), size=st.integers(1, 40))
def test_members_cut_anywhere_come_back_joined(compress, data, size):
    whole = b"".join(map(compress, data))
    if compress is bytes:  # what begins like a compressed file is taken for one
        assume(not whole.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) and whole[1:4] != b"\x2a\x4d\x18")
    assert plain(whole, size) == b"".join(data)


def test_frames_without_a_length_and_with_a_checksum_are_read():
    stream = io.BytesIO()
    with zstandard.ZstdCompressor(write_checksum=True).stream_writer(stream, closefd=False) as writer:
        writer.write(PLAIN)
    assert plain(stream.getvalue(), 7) == PLAIN


def test_skippable_frames_as_parallel_compressors_write_are_passed_over():
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    assert plain(skippable + zstd(PLAIN), 5) == PLAIN


def test_zeros_between_and_after_gzip_members_are_padding():
    assert plain(gzip.compress(b"1\n") + bytes(5) + gzip.compress(b"2\n") + bytes(600), 3) == b"1\n2\n"


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
@pytest.mark.parametrize("missing", [1, 5, 100])
def test_a_stream_that_ends_early_is_an_error(compress, missing):
    with pytest.raises(TraceError, match=r"t: the (gzip|zstd) stream ends early"):
        plain(compress(PLAIN)[:-missing])


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_stream_of_its_magic_alone_ends_early(compress):
    with pytest.raises(TraceError, match="ends early"):
        plain(compress(PLAIN)[:4])


def test_a_second_member_that_ends_early_is_an_error():
    for compress in (gzip.compress, zstd):
        with pytest.raises(TraceError, match="ends early"):
            plain(compress(PLAIN) + compress(PLAIN)[:20])


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_damaged_stream_is_an_error(compress):
    data = bytearray(compress(PLAIN))
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    with pytest.raises(TraceError, match=r"t: the (gzip|zstd) stream is damaged"):
        plain(bytes(data))


def test_something_else_after_the_stream_is_an_error():
    for compress in (gzip.compress, zstd):
        with pytest.raises(TraceError, match="is damaged"):
            plain(compress(PLAIN) + b"hello, world")


def test_what_compresses_well_does_not_come_all_at_once():
    zeros = bytes(1 << 26)
    assert max(map(len, pieces(gzip.compress(zeros, 1)))) <= PIECE
    assert max(map(len, pieces(zstd(zeros)))) <= len(zeros) // 2
