"""What a third party's code gave is shown in a few words, at once, and without running any of it."""

import pytest

from usmd.errors import InvalidArgument
from usmd.safe_repr import MAX_MESSAGE, MAX_SHOWN, contexts, cut, message_of, place, safe_repr, traceback_of, type_name

HUGE = "é\0" * (25 << 20)


class Trap:
    """Runs code of its own wherever it is looked at."""

    def _sprung(self, *_):
        raise AssertionError("its code was run")

    __repr__ = __str__ = __format__ = __len__ = __bool__ = __iter__ = __getattr__ = __hash__ = __eq__ = _sprung


class TrappedError(Trap, Exception):
    """Likewise."""


class Meta(type):
    """Of a class."""

    def __repr__(cls):
        raise AssertionError("its code was run")

    __name__ = property(__repr__)


LongName = Meta("L" * 5000, (), {})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"), (True, "True"), (-3, "-3"), (2.5, "2.5"), ("it's", '"it\'s"'), (b"\0", "b'\\x00'"),
        ((1,), "(1,)"), ([1, "a"], "[1, 'a']"), ({1: 2}, "a dict of 1 items"), (1 << 100_000, "an int of 100001 bits"),
        (((((1,),),),), "(((…,),),)"), (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, …]"),
        (KeyError(0), "KeyError(0)"), (ValueError("no", 7), "ValueError('no', 7)"), (SystemExit, "class SystemExit"),
        (Trap(), "a Trap"), ([Trap()], "[a Trap]"), (TrappedError(Trap(), "x"), "TrappedError(a Trap, 'x')"),
        (LongName, "class " + "L" * 80 + "…"), (LongName(), "a " + "L" * 80 + "…"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_values_are_shown_as_python_writes_them_if_they_are_pythons_own(value, text):
    assert safe_repr(value) == text


@pytest.mark.parametrize(
    "value",
    [HUGE, ValueError(HUGE), [HUGE] * 1000, ((HUGE,),), bytearray(50 << 20)],
    ids=lambda value: type(value).__name__
)  # fmt: skip
def test_what_is_huge_is_cut_before_it_is_formatted(value):
    assert MAX_SHOWN < len(safe_repr(value)) <= MAX_SHOWN + 10
    assert safe_repr(value).endswith("…")


def test_an_errors_message_is_its_text_without_its_code():
    assert message_of(InvalidArgument("use 1 or 2")) == "use 1 or 2"
    assert message_of(ImportError("No module named 'x'")) == "No module named 'x'"
    assert message_of(InvalidArgument(HUGE)) == HUGE[:MAX_MESSAGE] + "…"
    assert message_of(TrappedError(Trap())) == "TrappedError(a Trap)"
    assert message_of(OSError(2, "no")) == "FileNotFoundError(2, 'no')"


def raised(error, filename="<policy>"):
    try:
        exec(compile("raise error", filename, "exec"), {"error": error})
    except type(error) as caught:
        return caught


def test_the_place_is_the_end_of_the_files_path():
    assert place(raised(KeyError(1))) == " (<policy>:1)"
    assert place(KeyError(1)) == ""
    long = place(raised(KeyError(1), "/" + "d" * 10_000 + "/policy.py"))
    assert long.endswith("d/policy.py:1)")
    assert len(long) < MAX_SHOWN + 10


def test_a_ring_of_exceptions_has_an_end():
    first, second = KeyError(1), KeyError(2)
    first.__context__, second.__context__ = second, first
    assert contexts(first)[:3] == [first, second, first]
    assert len(contexts(first)) == 64
    assert contexts(None) == []


def test_a_traceback_ends_in_what_is_shown_of_its_exception():
    text = traceback_of(raised(TrappedError(HUGE, 1)))
    assert text.startswith("Traceback (most recent call last):\n")
    assert '  File "<policy>", line 1, in <module>\n' in text
    assert text.splitlines()[-1].startswith("TrappedError('é\\x00é")
    assert len(text) < 2000
    assert traceback_of(raised(ValueError("broken"))).endswith("\nValueError: broken")


def test_names_and_texts_are_cut():
    assert type_name(LongName()) == "L" * 80 + "…"
    assert cut("short") == "short"
    assert cut("long", 2) == "lo…"
