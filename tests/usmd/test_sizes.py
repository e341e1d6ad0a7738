import pytest

from usmd.errors import InvalidSize
from usmd.sizes import exact_size, format_size, parse_frames, parse_size


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
        *[
            (f"{n}{letter}{end}", n << 10 * power)
            for power, letter in enumerate("KMGT", 1)
            for end in ("", "B", "i", "iB")
            for n in (1, 64)
        ],
        ("64k", 64 << 10),
        ("64 kb", 64 << 10),
        ("007", 7),
    ],
)
def test_a_size_is_a_number_of_bytes_or_of_a_binary_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MiB",
        "64MQ",
        "64BB",
        "64KBi",
        "\u0661\u0662",
        "-1",
        -1,
        "1.5GiB",
        "1e3",
        "0x10",
        "4KiB4",
        "9" * 19,
        True,
        None,
        1.0,
        b"1",
    ],
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


@pytest.mark.parametrize(
    ("text", "frames"),
    [("4096", 4096), (" 7 ", 7), ("0", 0), ("64KiB", 16), ("64K", 16), ("4097B", 1), ("1G", 1 << 18)],
)
def test_frames_are_a_bare_number_or_a_size_of_memory(text, frames):
    assert parse_frames(text, 4096) == frames


@pytest.mark.parametrize("text", ["4095B", "0B", "1B", "many", "-1", "", "1.5", "\u0661"])
def test_less_than_a_page_and_other_text_is_no_number_of_frames(text):
    with pytest.raises(InvalidSize) as caught:
        parse_frames(text, 4096)
    assert repr(text.strip()) in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1536B"), (64 << 20, "64MiB"), (3 << 40, "3TiB")],
)
def test_an_exact_size_is_read_back_as_it_was(size, text):
    assert exact_size(size) == text
    assert parse_size(text) == size
