import pytest

from usmd.errors import InvalidSize
from usmd.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        (4096, 4096),
        ("1B", 1),
        ("4KiB", 4096),
        ("64MiB", 64 << 20),
        (" 1 gib ", 1 << 30),
        ("2TIB", 2 << 40),
    ],
)
def test_a_size_is_a_number_of_bytes_or_of_a_binary_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "64MB", "64M", "-1", -1, "1.5GiB", "1e3", "0x10", "4KiB4", "9" * 19, True, None, 1.0, b"1"]
)
def test_other_text_is_refused_with_what_is_allowed(text):
    with pytest.raises(InvalidSize) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert "for example 64MiB" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
        (1 << 30, "1 GiB"),
        (5 << 40, "5 TiB"),
    ],
)
def test_a_size_is_written_in_its_largest_unit(size, text):
    assert format_size(size) == text


@pytest.mark.parametrize("size", [0, 1, 1024, 4096, 3 << 20, 7 << 30, 2 << 40])
def test_a_written_whole_size_reads_back(size):
    assert parse_size(format_size(size)) == size
