"""The grammar of hints: each error names the key, the value and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.core.hints import KEYS, MAX_HINT_BYTES, Access, Hint, Priority, parse_hint, policy_keys, typed_hint
from usmd.errors import InvalidHint


def test_all_keys_at_once():
    text = (
        "PRIORITY=HIGH;EVICTION=DENY;ACCESS=SEQUENTIAL;FHP=64KiB;SWAP=Far;TTL=1.5;WILLNEED;DONTNEED=false;X_Mine=As Is"
    )
    assert parse_hint(text) == Hint(
        text=text,
        priority=Priority.HIGH,
        deny=True,
        access=Access.SEQUENTIAL,
        fhp_bytes=65536,
        swap_device="Far",
        ttl_seconds=1.5,
        will_need=True,
        dont_need=False,
        extra={"X_MINE": "As Is"},
    )


def test_blanks_and_case_do_not_matter():
    assert parse_hint("  priority = low ;; eviction=Allow ; ").priority is Priority.LOW


@pytest.mark.parametrize("text", ["", "  ", ";", " ; ; "])
def test_a_hint_that_says_nothing_is_none(text):
    assert parse_hint(text) is None


def test_what_is_not_said_has_the_base_value():
    assert parse_hint("X_ONLY=1") == Hint(text="X_ONLY=1", extra={"X_ONLY": "1"})


def test_fhp_auto_is_zero():
    assert parse_hint("FHP=auto").fhp_bytes == 0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("PRIORITY=URGENT", ["PRIORITY=URGENT", "LOW|NORMAL|HIGH"]),
        ("EVICTION=NEVER", ["EVICTION=NEVER", "ALLOW|DENY"]),
        ("ACCESS=SLOW", ["ACCESS=SLOW", "NORMAL|SEQUENTIAL|RANDOM"]),
        ("FHP=0", ["FHP=0", "<size up to 1GiB, such as 64KiB; units are powers of 1,024>|AUTO"]),
        ("FHP=-1", ["FHP=-1", "<size up to 1GiB, such as 64KiB; units are powers of 1,024>|AUTO"]),
        ("FHP=12parsecs", ["FHP=12parsecs", "<size up to 1GiB, such as 64KiB; units are powers of 1,024>|AUTO"]),
        ("FHP=999999999TiB", ["FHP=999999999TiB", "<size up to 1GiB, such as 64KiB; units are powers of 1,024>|AUTO"]),
        ("SWAP=", ["SWAP=", "<device number or name>"]),
        ("TTL=0", ["TTL=0", "<seconds above 0"]),
        ("TTL=-3", ["TTL=-3", "<seconds above 0"]),
        ("TTL=nan", ["TTL=nan", "<seconds above 0"]),
        ("TTL=inf", ["TTL=inf", "<seconds above 0"]),
        ("TTL=soon", ["TTL=soon", "<seconds above 0"]),
        ("WILLNEED=MAYBE", ["WILLNEED=MAYBE", "TRUE|FALSE"]),
        ("DONTNEED=2", ["DONTNEED=2", "TRUE|FALSE"]),
        ("PRIORTY=HIGH", ["'PRIORTY'", "did you mean PRIORITY?"]),
        ("WILL_NEED", ["'WILL_NEED'", "did you mean WILLNEED?"]),
        ("PRIORITY HIGH", ["'PRIORITY HIGH'", "did you mean PRIORITY?"]),
        ("PRIORITY=HIHG", ["PRIORITY=HIHG", "did you mean HIGH?", "LOW|NORMAL|HIGH"]),
        ("EVICTION=denny", ["EVICTION=denny", "did you mean DENY?"]),
        ("ACCESS=SEQUENCIAL", ["did you mean SEQUENTIAL?"]),
        ("DONTNEED=FLASE", ["did you mean FALSE?"]),
        ("ACCESS=SEQ", ["did you mean SEQUENTIAL?"]),
        ("DENY", ["'DENY'", "did you mean EVICTION=DENY?"]),
        ("high", ["'HIGH'", "did you mean PRIORITY=HIGH?"]),
        ("AUTO", ["did you mean FHP=AUTO?"]),
        ("=RANDOM", ["'=RANDOM' has no key", "did you mean ACCESS=RANDOM?"]),
        ("=", ["'=' has no key"]),
        (
            "FHP=2,097,152",
            ["FHP=2,097,152 is not allowed", "<size up to 1GiB, such as 64KiB; units are powers of 1,024>"],
        ),
        ("PRIORITY==HIGH", ["PRIORITY==HIGH"]),
        ("TTL=10x", ["TTL=10x", "500ms, 10s, 5min, 1d"]),
        ("TTL=1e400", ["TTL=1e400"]),
        ("TTL=1.2.3", ["TTL=1.2.3"]),
        ("TTL=0s", ["TTL=0s"]),
        ("FHP=64Q", ["FHP=64Q"]),
        ("X_=", ["X_ ", "no name", "X_NAME"]),
        ("X_", ["X_ ", "no name"]),
        ("PRIORITY=LOW; x_=5", ["X_ ", "X_NAME=5"]),
        ("WILLNEED; DONTNEED", ["WILLNEED and DONTNEED", "one of them"]),
        ("DONTNEED=YES; PRIORITY=LOW; WILLNEED=1", ["WILLNEED and DONTNEED"]),
        ("PRIORITY", ["PRIORITY", "LOW|NORMAL|HIGH"]),
        ("PRIORITY=", ["PRIORITY=", "LOW|NORMAL|HIGH"]),
        ("COLOUR=RED", ["'COLOUR'", "PRIORITY, EVICTION", "X_"]),
        ("=RED", ["'=RED' has no key"]),
        ("PRIORITY=LOW;priority=LOW", ["PRIORITY", "twice"]),
        ("X_A=1;x_a=2", ["X_A", "twice"]),
    ],
)
def test_an_error_names_key_value_and_what_is_allowed(text, names):
    with pytest.raises(InvalidHint) as caught:
        parse_hint(text)
    assert all(name in str(caught.value) for name in names), str(caught.value)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("A=1, B=2", "A=1; B=2"),
        ("PRIORITY=HIGH, EVICTION=DENY", "PRIORITY=HIGH; EVICTION=DENY"),
        ("PRIORITY=HIGH,EVICTION=DENY,TTL=3", "PRIORITY=HIGH; EVICTION=DENY; TTL=3"),
        ("PRIORITY=HIGH EVICTION=DENY", "PRIORITY=HIGH; EVICTION=DENY"),
        ("PRIORITY=HIGH & EVICTION=DENY", "PRIORITY=HIGH; EVICTION=DENY"),
        ("PRIORITY=HIGH\nEVICTION=DENY", "PRIORITY=HIGH; EVICTION=DENY"),
        ("PRIORITY=HIGH WILLNEED", "PRIORITY=HIGH; WILLNEED"),
        ("WILLNEED, PRIORITY=HIGH", "WILLNEED; PRIORITY=HIGH"),
        ("SWAP=disk, TTL=5", "SWAP=disk; TTL=5"),
        ("X_A, PRIORITY=HIGH", "X_A; PRIORITY=HIGH"),
    ],
)
def test_other_separators_are_told_of_the_semicolon(text, right):
    with pytest.raises(InvalidHint) as caught:
        parse_hint(text)
    assert f"separated by ';', as in {right!r}" in str(caught.value)


@pytest.mark.parametrize("text", ["PRIORITY:HIGH", "priority : high"])
def test_a_colon_is_told_of_the_equals_sign(text):
    with pytest.raises(InvalidHint, match="allowed is PRIORITY=HIGH"):
        parse_hint(text)


def test_the_value_of_a_free_form_key_may_have_any_separators():
    assert parse_hint("X_A=1, b=2 PRIORITY=3; TTL=5").extra == {"X_A": "1, b=2 PRIORITY=3"}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("10", 10), ("10s", 10), ("10 sec", 10), ("1.5S", 1.5), ("500ms", 0.5), ("2min", 120), ("5 m", 300), ("1h", 3600),
     ("1d", 86400), ("1e3", 1000)],
)  # fmt: skip
def test_a_time_may_have_a_unit(value, seconds):
    assert parse_hint(f"TTL={value}").ttl_seconds == seconds


@pytest.mark.parametrize(
    ("value", "size"), [("64K", 1 << 16), ("64KB", 1 << 16), ("64 KiB", 1 << 16), ("2M", 2 << 20), ("1g", 1 << 30)]
)
def test_a_size_may_be_written_as_people_do(value, size):
    assert parse_hint(f"FHP={value}").fhp_bytes == size


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("", True), ("=1", True), ("=yes", True), ("=On", True), ("=true", True), ("=0", False), ("=no", False)],
)
def test_a_switch_may_be_written_as_people_do(value, wanted):
    assert parse_hint(f"WILLNEED{value}").will_need is wanted
    assert parse_hint(f"DONTNEED{value}; WILLNEED=off").dont_need is wanted


def test_a_kib_of_bytes_is_the_most():
    fits = "X_A=" + "b" * (MAX_HINT_BYTES - 4)
    assert parse_hint(fits).extra == {"X_A": "b" * 1020}
    with pytest.raises(InvalidHint, match="1025 bytes; allowed are 1024"):
        parse_hint(fits + "b")
    with pytest.raises(InvalidHint, match="allowed are 1024"):
        parse_hint("X_A=" + "\N{SNOWMAN}" * 400)


@given(st.text(alphabet=st.sampled_from("PRIOTYLWX_=; 1aN\x00\N{SNOWMAN}"), max_size=40) | st.text(max_size=40))
def test_any_text_is_a_hint_or_an_invalid_hint(text):
    try:
        hint = parse_hint(text)
    except InvalidHint:
        return
    assert hint is None or isinstance(hint, Hint)


def test_every_field_of_a_hint_is_of_a_key_or_of_the_hint_as_a_whole():
    assert {key.field for key in KEYS.values()} | {"text", "lasting", "extra"} == set(Hint.__struct_fields__)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("PRIORITY=NORMAL; ACCESS=NORMAL; EVICTION=DENY; TTL=5", []),
        ("FHP=AUTO; PRIORITY=LOW; X_B; X_A; SWAP=0", ["PRIORITY", "FHP", "X_A", "X_B"]),
        ("ACCESS=RANDOM; WILLNEED", ["ACCESS"]),
    ],
)
def test_keys_that_ask_a_policy_for_something_are_told(text, keys):
    assert policy_keys(parse_hint(text)) == keys


@pytest.mark.parametrize(("text", "lasting"), [("WILLNEED", False), ("DONTNEED; TTL=1", True), ("WILLNEED; X_A", True)])
def test_what_is_done_once_does_not_last(text, lasting):
    assert parse_hint(text).lasting is lasting


def test_typed_values_are_checked_and_not_parsed():
    hint = typed_hint({"PRIORITY": Priority.HIGH, "EVICTION": True, "FHP": 4096}, {"x_a": "1"})
    assert hint == parse_hint("PRIORITY=HIGH; EVICTION=DENY; FHP=4096; X_A=1")
    assert typed_hint({}, {}) is None
    with pytest.raises(
        InvalidHint, match="hint FHP=-1 is not allowed; allowed is FHP=<size up to 1GiB, such as 64KiB;"
    ):
        typed_hint({"FHP": -1}, {})
    with pytest.raises(InvalidHint, match="X_16 is too many"):
        typed_hint({}, {f"X_{number:02}": "" for number in range(17)})
    with pytest.raises(InvalidHint, match="WILLNEED and DONTNEED contradict"):
        typed_hint({"WILLNEED": True, "DONTNEED": True}, {})
