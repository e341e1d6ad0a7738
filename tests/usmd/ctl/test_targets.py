from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl.targets import (
    MAX_NUMBER,
    Address,
    Place,
    absolute_files,
    find_process,
    in_order,
    parse_number,
    parse_page,
    parse_process,
    parse_range,
)
from usmd.errors import InvalidArgument, NotFound

numbers = st.integers(0, MAX_NUMBER)


@given(numbers, st.sampled_from(["{}", "{:#x}", "{:#X}"]))
def test_a_number_reads_the_same_in_decimal_and_hex(number, form):
    assert parse_number(form.format(number)) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1_000", " 1", "0x", "0xg", "ff", "\u0663", str(MAX_NUMBER + 1), "9" * 5000]
)
def test_what_is_no_64_bit_number_is_none(text):
    assert parse_number(text) is None


@given(numbers)
def test_an_address_is_decimal_or_hex(number):
    assert parse_page(str(number)) == parse_page(hex(number)) == Address(number)


@given(numbers.filter(bool), numbers)
def test_a_region_number_and_an_offset(region, offset):
    assert parse_page(f"{region}+{offset:#x}") == Place(region, "", offset)


@given(st.text(min_size=1).filter(lambda name: not (name.isascii() and name.isdecimal())), numbers)
def test_a_region_name_may_hold_anything_even_a_plus(name, offset):
    assert parse_page(f"{name}+{offset}") == Place(0, name, offset)


@pytest.mark.parametrize(("text", "offset"), [("64KiB", 65536), ("1 MiB", 1 << 20), ("0x10", 16), ("7", 7), ("2b", 2)])
def test_an_offset_is_a_number_or_a_size(text, offset):
    assert parse_page(f"index+{text}") == Place(0, "index", offset)


@given(st.text())
def test_any_text_is_a_page_or_bad_usage(text):
    with suppress(InvalidArgument):
        assert isinstance(parse_page(text), Address | Place)


@pytest.mark.parametrize("text", ["index", "", "0x10000000000000000", "-5"])
def test_a_page_that_is_no_address_names_the_text(text):
    with pytest.raises(InvalidArgument, match=r"cannot be read; allowed is an address .* or REGION\+OFFSET") as caught:
        parse_page(text)
    assert repr(text) in str(caught.value)


def test_the_example_in_the_error_uses_the_region_that_was_typed():
    with pytest.raises(InvalidArgument, match=r"for example index\+64KiB"):
        parse_page("index")


@pytest.mark.parametrize("offset", ["", "64KX", "-1", "1.5MiB", "17000000TiB", str(MAX_NUMBER + 1)])
def test_a_bad_offset_is_named(offset):
    with pytest.raises(InvalidArgument, match="a size such as 64KiB, within 64 bits") as caught:
        parse_page(f"index+{offset}")
    assert repr(offset) in str(caught.value)


@pytest.mark.parametrize("text", ["+5", "0+5"])
def test_a_place_needs_a_region_that_can_exist(text):
    with pytest.raises(InvalidArgument, match="allowed is"):
        parse_page(text)


def test_a_process_is_a_number_or_a_name():
    assert parse_process("17") == 17
    assert parse_process("indexer-2") == "indexer-2"
    assert parse_process("0x10") == "0x10"


@pytest.mark.parametrize("text", ["", "0", "000", str(MAX_NUMBER + 1), "9" * 5000])
def test_a_process_that_cannot_exist_is_refused_and_never_means_all(text):
    with pytest.raises(InvalidArgument, match="allowed is"):
        parse_process(text)


def test_a_name_that_one_process_has_is_its_number():
    assert find_process("b", [pb.Process(process_id=1, name="a"), pb.Process(process_id=2, name="b")]) == 2


def test_a_name_that_no_process_has_is_not_found():
    with pytest.raises(NotFound, match="no process is named 'c'"):
        find_process("c", [pb.Process(process_id=1, name="a")])


def test_an_ambiguous_name_lists_the_candidates():
    same = [pb.Process(process_id=1, name="a", pid=11), pb.Process(process_id=5, name="a"), pb.Process(name="b")]
    with pytest.raises(NotFound, match=r"2 processes are named 'a': 1 \(pid 11\), 5 \(pid unknown\); name one"):
        find_process("a", same)


@pytest.mark.parametrize(
    ("text", "place", "length"),
    [
        ("index", Place(0, "index", 0), None),
        ("3", Place(3, "", 0), None),
        ("index+0", Place(0, "index", 0), None),
        ("index+64KiB:1MiB", Place(0, "index", 65536), 1 << 20),
        ("a+b+1:2", Place(0, "a+b", 1), 2),
    ],
)
def test_a_range_is_a_region_an_offset_and_a_length(text, place, length):
    assert parse_range(text) == (place, length)


@pytest.mark.parametrize("text", ["", "+1", "0", "index+", "index+1:", "index+x", "index+1:-1"])
def test_text_that_is_no_range_is_named(text):
    with pytest.raises(InvalidArgument):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("lru", "lru"),
        ("mine.py:Mine(a=1)", "{here}/mine.py:Mine(a=1)"),
        ("/etc/usmd/mine.py:Mine", "/etc/usmd/mine.py:Mine"),
        ("hint_aware(fallback=../mine.py:Mine)", "hint_aware(fallback={above}/mine.py:Mine)"),
        ("hint_aware(fallback=lru)", "hint_aware(fallback=lru)"),
        ("mine.py", "mine.py"),
    ],
)
def test_paths_in_a_specification_are_made_absolute(text, absolute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_files(text) == absolute.format(here=tmp_path, above=tmp_path.parent)


def test_a_small_number_is_that_of_the_process_which_has_it_or_was_so_many_th_to_attach():
    processes = [pb.Process(process_id=583_912, order=1), pb.Process(process_id=3, order=2)]
    assert [in_order(number, processes) for number in (1, 2, 3, 4)] == [583_912, 3, 3, 4]
