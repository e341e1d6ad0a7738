"""Values of hint keys: what is read is written as text that is read again, and what is not allowed is a ValueError."""

import pytest

from usmd.core.hint_values import MAX_SIZE, Choice, Name, Seconds, SizeOrAuto, Switch

COLOUR = Choice(RED=1, BLUE=2)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (COLOUR, "red", 1),
        (COLOUR, "BLUE", 2),
        (Switch(), "", True),
        (Switch(), "yes", True),
        (Switch(), "off", False),
        (Switch(), "False", False),
        (SizeOrAuto(), "auto", 0),
        (SizeOrAuto(), "64k", 65536),
        (SizeOrAuto(), "1", 1),
        *((SizeOrAuto(), text, 65536) for text in ("64K", "64KB", "64 kib", "65536")),
        (SizeOrAuto(), "1G", MAX_SIZE),
        (Seconds(), "1.5", 1.5),
        (Seconds(), "500 ms", 0.5),
        (Seconds(), "2min", 120.0),
        (Name("<name>"), "Far", "Far"),
    ],
)
def test_text_is_read_and_what_it_means_is_written_as_text_that_means_the_same(kind, text, value):
    assert kind.read(text) == value
    assert kind.check(value) == value
    assert kind.read(kind.write(value)) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (COLOUR, "GREEN"),
        (COLOUR, ""),
        (Switch(), "2"),
        (SizeOrAuto(), "0"),
        (SizeOrAuto(), "many"),
        (SizeOrAuto(), "-1"),
        (SizeOrAuto(), str(MAX_SIZE + 1)),
        (Seconds(), "0"),
        (Seconds(), "soon"),
        (Seconds(), "1e400"),
        (Seconds(), "5 parsecs"),
        (Name("<name>"), ""),
        (Name("<name>"), "a;b"),
    ],
)
def test_text_that_is_not_allowed_is_a_value_error(kind, text):
    with pytest.raises(ValueError, match=r"^"):
        kind.read(text)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (COLOUR, 3),
        (Switch(), 2),
        (SizeOrAuto(), -1),
        (SizeOrAuto(), MAX_SIZE + 1),
        (SizeOrAuto(), 1.5),
        (Seconds(), 0.0),
        (Seconds(), float("nan")),
        (Seconds(), float("inf")),
        (Seconds(), "1"),
        (Name("<name>"), "  "),
        (Name("<name>"), 5),
    ],
)
def test_a_value_that_is_not_allowed_is_a_value_error(kind, value):
    with pytest.raises(ValueError, match=r"^"):
        kind.check(value)


def test_words_are_those_of_choices_alone():
    assert (COLOUR.allowed, COLOUR.words, COLOUR.bare) == ("RED|BLUE", ("RED", "BLUE"), False)
    assert (Switch().allowed, Switch().bare) == ("TRUE|FALSE", True)
    assert Seconds().words == SizeOrAuto().words == ()
