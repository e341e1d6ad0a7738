from typing import Annotated

import msgspec
import pytest

from usmd.config_values import (
    Count,
    FaultWakeup,
    Kind,
    Mechanism,
    Mode,
    Share,
    Word,
    check_keys,
    frames_of,
    not_allowed,
    read_table,
)
from usmd.errors import ConfigError


def say_more(value):
    raise ConfigError("the moon is full")


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    word: Word | None = None


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    count: Count
    mode: Mode = 0o600
    share: Share = "3%"
    inner: tuple[Inner, ...] = ()


class Real(msgspec.Struct, frozen=True, kw_only=True):
    mechanism: Mechanism = "auto"
    wakeup: FaultWakeup = "sleep"


@pytest.mark.parametrize("text", ["auto", "sleep", "follow", "spin:1", "spin:50", "spin:10000", "spin:00001"])
def test_ways_to_wait_for_faults(text):
    assert read_table(Real, {"wakeup": text}, "real").wakeup == text


@pytest.mark.parametrize(
    "value",
    [
        *("", "Sleep", "spin", "spin:", "spin:0", "spin:10001", "spin:99999", "spin:123456", "spin:-1", "spin:1.5"),
        *("spin:5us", "spin: 5", "spin:5 ", "spin:5\n", "follow:1", "sleep:1", 5, True, None, ["sleep"]),
    ],
)
def test_other_ways_to_wait_for_faults_are_refused(value):
    with pytest.raises(ConfigError) as caught:
        read_table(Real, {"wakeup": value}, "real")
    allowed = '"auto", "sleep", "follow", or "spin:US" with 1 to 10000 microseconds'
    assert str(caught.value) == f"real.wakeup = {value!r} is not allowed; allowed is {allowed}"


@pytest.mark.parametrize("value", ["", "Auto", "uffd", "userfaultfd ", 1, None, ["auto"], {"auto": 1}])
def test_other_mechanisms_are_refused(value):
    with pytest.raises(ConfigError) as caught:
        read_table(Real, {"mechanism": value}, "real")
    assert str(caught.value) == (
        f"real.mechanism = {value!r} is not allowed; allowed is one of auto, simulated, userfaultfd"
    )


def test_a_table_becomes_a_struct_with_its_defaults():
    assert read_table(Outer, {"count": 2, "inner": [{"word": "a"}, {}]}, "outer") == Outer(
        count=2, inner=(Inner(word="a"), Inner())
    )
    assert read_table(Outer, {"count": 1, "mode": "0660", "share": 4096}, "outer") == Outer(
        count=1, mode=0o660, share="4096"
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "outer.count is missing; allowed is a whole number from 1 to 1000000"),
        ({"count": 0}, "outer.count = 0 is not allowed; allowed is a whole number from 1 to 1000000"),
        (
            {"count": 1, "inner": [{}, {"word": ""}]},
            "outer.inner[1].word = '' is not allowed; allowed is printable text, not empty",
        ),
        ({"count": 1, "inner": {}}, "outer.inner = {} is not allowed; allowed is an array of tables: [[outer.inner]]"),
        ([], "outer = [] is not allowed; allowed is a table with the keys count, mode, share, inner"),
        ({"mod": 1}, "outer.mod is not a key; did you mean outer.mode? allowed are count, mode, share, inner"),
    ],
)
def test_errors_name_the_whole_key(table, message):
    with pytest.raises(ConfigError) as caught:
        read_table(Outer, table, "outer")
    assert str(caught.value) == message


def test_a_reader_that_says_more_than_not_allowed_is_quoted_under_its_key():
    class Odd(msgspec.Struct, frozen=True):
        value: Annotated[int, Kind("anything", say_more)]

    with pytest.raises(ConfigError, match=r"^odd\.value: the moon is full$"):
        read_table(Odd, {"value": 1}, "odd")


def test_keys_of_the_document_have_no_prefix():
    with pytest.raises(ConfigError, match=r"^zzz is not a key; allowed are abc$"):
        check_keys({"zzz": 1}, ["abc"], "")
    check_keys({"abc": 1}, ["abc"], "")


def test_the_error_of_a_value_names_it():
    assert str(not_allowed("a.b", "c", "d")) == "a.b = 'c' is not allowed; allowed is d"


@pytest.mark.parametrize(
    ("text", "frames"), [("0%", 0), ("100%", 10), ("1%", 0), ("99.999999%", 9), ("4096", 1), ("40KiB", 10), ("0", 0)]
)
def test_a_share_is_a_whole_number_of_frames_rounded_down(text, frames):
    assert frames_of(text, 10, 4096) == frames


@pytest.mark.parametrize("text", ["101%", "100.1%", "41KiB", "%", "", "many", "-1%", "1e1%"])
def test_a_share_of_more_than_there_is_or_of_no_meaning_is_refused(text):
    with pytest.raises(ConfigError, match="40 KiB; allowed is a percentage"):
        frames_of(text, 10, 4096)


def test_a_size_below_a_page_is_no_share():
    with pytest.raises(ConfigError, match=r"'3' is less than a page of 4 KiB; allowed is a percentage"):
        frames_of("3", 10, 4096)
