"""Values of hint keys: reads them from text, checks typed ones, and writes them as text."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from typing import Final

from usmd.errors import InvalidSize
from usmd.sizes import parse_size

MAX_SIZE: Final = 1 << 30
"""Sizes in hints are at most this, in bytes."""
_DURATION: Final = re.compile(r"([0-9.]+(?:E[+-]?[0-9]+)?)\s*([A-Z]*)")
_UNITS_OF_TIME: Final = {
    **dict.fromkeys(("", "S", "SEC", "SECS", "SECOND", "SECONDS"), 1.0),
    "MS": 1e-3,
    **dict.fromkeys(("M", "MIN", "MINS", "MINUTE", "MINUTES"), 60.0),
    **dict.fromkeys(("H", "HOUR", "HOURS"), 3600.0),
    **dict.fromkeys(("D", "DAY", "DAYS"), 86400.0),
}


class Values(ABC):
    """The values of a key. `read` and `check` raise ValueError for an invalid one."""

    allowed: str
    """The allowed values, as errors show them after the key."""
    bare = False
    """Whether the key may stand without a value."""

    @property
    def words(self) -> tuple[str, ...]:
        """The allowed words, if only words are allowed."""
        return ()

    @abstractmethod
    def read(self, text: str) -> object:
        """The value of a text, which has no blanks around it."""

    @abstractmethod
    def check(self, value: object) -> object:
        """The value, as `read` would return it."""

    @abstractmethod
    def write(self, value: object) -> str:
        """A text for which `read` returns this value."""


class Choice(Values):
    """One of several words, in upper or lower case, each with its value."""

    def __init__(self, **choices: object) -> None:
        self.choices = choices
        self.allowed = "|".join(choices)

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in order."""
        return tuple(self.choices)

    def read(self, text: str) -> object:
        """The value of a word."""
        if text.upper() not in self.choices:
            raise ValueError(text)
        return self.choices[text.upper()]

    def check(self, value: object) -> object:
        """One of the values."""
        if value not in self.choices.values():
            raise ValueError(value)
        return value

    def write(self, value: object) -> str:
        """The word of a value."""
        return next(word for word, each in self.choices.items() if each == value)


class Switch(Choice):
    """True or false; the key alone means true."""

    bare = True

    def __init__(self) -> None:
        super().__init__(TRUE=True, FALSE=False)

    def read(self, text: str) -> object:
        """True or false; also for yes, no, on, off, 1, 0 and no value."""
        if text.upper() in ("", "1", "YES", "ON"):
            return True
        if text.upper() in ("0", "NO", "OFF"):
            return False
        return super().read(text)


class SizeOrAuto(Values):
    """Bytes, more than 0 and at most MAX_SIZE; or 0, which is AUTO."""

    allowed = "<size up to 1GiB, such as 64KiB; units are powers of 1,024>|AUTO"

    def read(self, text: str) -> object:
        """Bytes in a size, or 0 for AUTO."""
        if text.upper() == "AUTO":
            return 0
        try:
            size = parse_size(text)
        except InvalidSize as error:
            raise ValueError(text) from error
        if size == 0:
            raise ValueError(text)
        return self.check(size)

    def check(self, value: object) -> object:
        """Bytes, or 0."""
        if not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
            raise ValueError(value)
        return value

    def write(self, value: object) -> str:
        """The bytes, or AUTO."""
        return str(value) if value else "AUTO"


class Seconds(Values):
    """A time in seconds, more than 0 and finite."""

    allowed = "<seconds above 0, or with a unit: 500ms, 10s, 5min, 1d>"

    def read(self, text: str) -> object:
        """Seconds in a number with or without a unit."""
        match = _DURATION.fullmatch(text.upper())
        if match is None or match[2] not in _UNITS_OF_TIME:
            raise ValueError(text)
        return self.check(float(match[1]) * _UNITS_OF_TIME[match[2]])

    def check(self, value: object) -> object:
        """Seconds."""
        if not isinstance(value, float) or not (math.isfinite(value) and value > 0):
            raise ValueError(value)
        return value

    def write(self, value: object) -> str:
        """The number."""
        return str(value)


class Name(Values):
    """Text that names something; its case is kept."""

    def __init__(self, allowed: str) -> None:
        self.allowed = allowed

    def read(self, text: str) -> object:
        """The text."""
        return self.check(text)

    def check(self, value: object) -> object:
        """The text without blanks around it. It must not be empty, nor contain `;`, which ends a pair."""
        if not isinstance(value, str) or not value.strip() or ";" in value:
            raise ValueError(value)
        return value.strip()

    def write(self, value: object) -> str:
        """The text."""
        return str(value)
