"""What an application may say of a range: grammar, keys, values. Ranges and their order are in `hint_ranges`.

Grammar: `KEY=VALUE` pairs separated by `;`, blanks ignored, keys case-insensitive, at most 1 KiB. WILLNEED and DONTNEED
need no value, and exclude each other. Keys that begin with `X_` are free-form and reach the policy untouched. Only the
daemon parses hints.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final

import msgspec

from usmd.errors import InvalidHint, InvalidSize
from usmd.sizes import parse_size

MAX_HINT_BYTES: Final = 1024
MAX_EXTRA_KEYS: Final = 16


class Priority(IntEnum):
    """Order of eviction between pages of one process: LOW goes first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Access(IntEnum):
    """Expected order of accesses."""

    NORMAL = 0
    SEQUENTIAL = 1
    RANDOM = 2


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """A hint, typed.

    `deny`: EVICTION=DENY. `fhp_bytes`: flexible huge page size, None is not said, 0 is AUTO. `swap_device`: number or
    name as given, None is not said. `ttl_seconds`: None is forever. `extra`: the X_ keys. `text`: the hint as given.
    `lasting`: it says more than WILLNEED or DONTNEED, which are done once and leave other hints in force.
    """

    text: str
    priority: Priority = Priority.NORMAL
    deny: bool = False
    access: Access = Access.NORMAL
    fhp_bytes: int | None = None
    swap_device: str | None = None
    ttl_seconds: float | None = None
    will_need: bool = False
    dont_need: bool = False
    lasting: bool = True
    extra: dict[str, str] = {}


def parse_hint(text: str) -> Hint | None:
    """The hint that `text` says, or None when it says nothing (which removes hints).

    Raises InvalidHint, which names the key, the value and what is allowed.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_HINT_BYTES:
        raise InvalidHint(f"the hint has {size} bytes; allowed are {MAX_HINT_BYTES}")
    fields: dict[str, object] = {}
    extra: dict[str, str] = {}
    seen: set[str] = set()
    for part in text.split(";"):
        if not part.strip():
            continue
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = key.upper()
        _check_separators(part.strip(), key, value)
        if key in seen:
            raise InvalidHint(f"hint key {key} is given twice; give it once")
        seen.add(key)
        if key.startswith("X_"):
            if key == "X_":
                raise InvalidHint(f"hint key X_ in {part.strip()!r} has no name; allowed is X_NAME={value or 'value'}")
            extra[key] = value
            if len(extra) > MAX_EXTRA_KEYS:
                raise InvalidHint(f"the hint has more than {MAX_EXTRA_KEYS} keys that begin with X_; {key} is too many")
            continue
        if key not in _KEYS:
            raise InvalidHint(
                f"{f'hint key {key!r} is unknown' if key else f'hint {part.strip()!r} has no key'}; "
                f"{_pair_meant(key, value)}allowed are {', '.join(_KEYS)}, and free-form keys that begin with X_"
            )
        if not equals and key not in _FLAGS:
            raise InvalidHint(f"hint key {key} needs a value: {key}={_KEYS[key][1]}")
        name, allowed, convert = _KEYS[key]
        try:
            fields[name] = convert(value.upper() if key != "SWAP" else value)
        except (ValueError, KeyError, InvalidSize):
            meant = _meant(value.upper(), allowed.split("|")) if allowed.replace("|", "").isalpha() else ""
            raise InvalidHint(f"hint {key}={value} is not allowed; {meant}allowed is {key}={allowed}") from None
    if fields.get("will_need") and fields.get("dont_need"):
        raise InvalidHint("hint keys WILLNEED and DONTNEED contradict each other; allowed is one of them at a time")
    if not fields and not extra:
        return None
    lasting = bool(extra or fields.keys() - {"will_need", "dont_need"})
    return msgspec.convert({"text": text.strip(), **fields, "lasting": lasting, "extra": extra}, Hint)


def policy_keys(hint: Hint) -> list[str]:
    """The keys of a hint that only a policy can act on, where they ask for something."""
    keys = [
        ("PRIORITY", hint.priority is not Priority.NORMAL),
        ("FHP", hint.fhp_bytes is not None),
        ("ACCESS", hint.access is not Access.NORMAL),
    ]
    return [key for key, said in keys if said] + sorted(hint.extra)


def _check_separators(part: str, key: str, value: str) -> None:
    """Raise InvalidHint for several pairs with something else than `;` between them, or `:` in place of `=`.

    The value of a free-form key may be any text.
    """
    digits = value.replace(",", "").isdecimal()  # a number such as 2,097,152 is no list of pairs
    if _SEPARATED.search(key) or (not key.startswith("X_") and not digits and _SEPARATED.search(value)):
        pairs = "; ".join(each for each in _SEPARATED.split(part) if each)
        raise InvalidHint(f"hint {part!r} is more than one KEY=VALUE pair; pairs are separated by ';', as in {pairs!r}")
    name, colon, rest = (piece.strip() for piece in key.partition(":"))
    if colon and name in _KEYS:
        raise InvalidHint(f"hint {part!r} has a colon; allowed is {name}={rest}")


def _meant(text: str, allowed: Iterable[str]) -> str:
    """The question whether the most similar of `allowed` was meant; nothing when none is similar."""
    names = list(allowed)
    likely = difflib.get_close_matches(text, names, n=1) or [name for name in names if text and name.startswith(text)]
    return f"did you mean {likely[0]}? " if likely else ""


def _pair_meant(key: str, value: str) -> str:
    """The question what was meant by an unknown key; a value that stands in the key's place belongs to one key."""
    said = key or value.upper()
    for name, (_, allowed, _) in _KEYS.items():
        if name not in _FLAGS and said in allowed.split("|") and said != "NORMAL":
            return f"did you mean {name}={said}? "
    return _meant(key, _KEYS)


def _flag(value: str) -> bool:
    if value not in _NO and value not in _YES:
        raise ValueError(value)
    return value in _YES


def _fhp(value: str) -> int:
    size = 0 if value == "AUTO" else parse_size(value)
    if value != "AUTO" and not 0 < size < 1 << 62:
        raise ValueError(value)
    return size


def _seconds(value: str) -> float:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(value)
    seconds = float(match[1]) * _UNITS_OF_TIME[match[2]]
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(value)
    return seconds


def _device(value: str) -> str:
    if not value:
        raise ValueError(value)
    return value


_DURATION: Final = re.compile(r"([0-9.]+(?:E[+-]?[0-9]+)?)\s*([A-Z]*)")
_UNITS_OF_TIME: Final = {
    **dict.fromkeys(("", "S", "SEC", "SECS", "SECOND", "SECONDS"), 1.0),
    "MS": 1e-3,
    **dict.fromkeys(("M", "MIN", "MINS", "MINUTE", "MINUTES"), 60.0),
    **dict.fromkeys(("H", "HOUR", "HOURS"), 3600.0),
    **dict.fromkeys(("D", "DAY", "DAYS"), 86400.0),
}
_YES: Final = ("", "TRUE", "1", "YES", "ON")
_NO: Final = ("FALSE", "0", "NO", "OFF")
_FLAGS: Final = frozenset({"WILLNEED", "DONTNEED"})
_KEYS: Final[dict[str, tuple[str, str, Callable[[str], object]]]] = {
    "PRIORITY": ("priority", "LOW|NORMAL|HIGH", lambda value: Priority[value]),
    "EVICTION": ("deny", "ALLOW|DENY", lambda value: {"ALLOW": False, "DENY": True}[value]),
    "ACCESS": ("access", "NORMAL|SEQUENTIAL|RANDOM", lambda value: Access[value]),
    "FHP": ("fhp_bytes", "<size, such as 64KiB>|AUTO", _fhp),
    "SWAP": ("swap_device", "<device number or name>", _device),
    "TTL": ("ttl_seconds", "<seconds above 0, or with a unit: 500ms, 10s, 5min, 1d>", _seconds),
    "WILLNEED": ("will_need", "TRUE|FALSE", _flag),
    "DONTNEED": ("dont_need", "TRUE|FALSE", _flag),
}
_SEPARATED: Final = re.compile(rf"\s*[,&\n]\s*|(?<=[^\s=])\s+(?=[A-Z]\w*\s*=|(?:{'|'.join(_KEYS)})\s*$)", re.IGNORECASE)
"""What people write between pairs where `;` is meant: a comma, or blanks before another key."""
