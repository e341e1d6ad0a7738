"""Keys and grammar of hints. Only the daemon parses them.

Grammar: `KEY=VALUE` pairs separated by `;`, blanks ignored, keys case-insensitive, at most 1 KiB. WILLNEED and DONTNEED
need no value, and exclude each other. Keys that begin with `X_` are free-form and reach the policy unchanged. Hints in
typed fields (`typed_hint`) are checked by the same table, KEYS.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

from usmd.core.hint_values import Choice, Name, Seconds, SizeOrAuto, Switch, Values
from usmd.errors import InvalidHint
from usmd.safe_repr import safe_repr

MAX_HINT_BYTES: Final = 1024
MAX_EXTRA_KEYS: Final = 16


class Priority(IntEnum):
    """Order of eviction among the pages of one process: LOW goes first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Access(IntEnum):
    """Expected order of accesses."""

    NORMAL = 0
    SEQUENTIAL = 1
    RANDOM = 2


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """A hint.

    `text`: the hint as given. `deny`: EVICTION=DENY. `fhp_bytes`: size of a flexible huge page; None: not given; 0:
    AUTO. `swap_device`: number or name as given, or None. `ttl_seconds`: None: for ever. `extra`: the X_ keys.
    `lasting`: it has keys other than WILLNEED and DONTNEED, which are done once and leave other hints in force.
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


class HintEffects:
    """Counts since a hint was set: faults that brought its pages in, and evictions of its pages."""

    __slots__ = ("evictions", "faults")

    def __init__(self) -> None:
        self.faults = 0
        self.evictions = 0


class HintRange(msgspec.Struct, frozen=True, eq=False):
    """A hint in force on pages `first` to `end` - 1.

    `expires`: the time in seconds at which it ends, or None. `effects`: shared by all ranges that later hints left of
    this hint.
    """

    first: int
    end: int
    number: int
    hint: Hint
    expires: float | None
    effects: HintEffects = msgspec.field(default_factory=HintEffects)

    def cut(self, first: int, end: int) -> HintRange:
        """The same hint on a part of its pages."""
        return HintRange(first, end, self.number, self.hint, self.expires, self.effects)


class HintKey(NamedTuple):
    """A key of hints."""

    field: str
    """Field of Hint that has its value."""
    values: Values
    """Its allowed values."""
    typed: str
    """Field of the message HintFields with its value. A size that may be AUTO has a second field, `KEY_auto`."""
    for_policy: bool = False
    """Only a policy can act on it, and not the core."""
    once: bool = False
    """It is done once, when the hint is set, and leaves other hints in force."""


KEYS: Final[dict[str, HintKey]] = {
    "PRIORITY": HintKey("priority", Choice(**Priority.__members__), "priority", for_policy=True),
    "EVICTION": HintKey("deny", Choice(ALLOW=False, DENY=True), "eviction"),
    "ACCESS": HintKey("access", Choice(**Access.__members__), "access", for_policy=True),
    "FHP": HintKey("fhp_bytes", SizeOrAuto(), "fhp_bytes", for_policy=True),
    "SWAP": HintKey("swap_device", Name("<device number or name>"), "swap_device"),
    "TTL": HintKey("ttl_seconds", Seconds(), "ttl_seconds"),
    "WILLNEED": HintKey("will_need", Switch(), "will_need", once=True),
    "DONTNEED": HintKey("dont_need", Switch(), "dont_need", once=True),
}
"""All keys except the free-form ones, in the order in which errors list them."""


def parse_hint(text: str) -> Hint | None:
    """Parse a hint; None if the text is empty, which removes hints.

    Raises InvalidHint, which names the key, the value and the allowed values.
    """
    _check_length(text)
    values: dict[str, object] = {}
    extra: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = key.upper()
        _check_separators(part.strip(), key, value)
        if key in values or key in extra:
            raise InvalidHint(f"hint key {key} is given twice; give it once")
        if key.startswith("X_"):
            _check_extra(part.strip(), key, value, extra)
            extra[key] = value
            continue
        if key not in KEYS:
            raise InvalidHint(
                f"{f'hint key {key!r} is unknown' if key else f'hint {part.strip()!r} has no key'}; "
                f"{_pair_meant(key, value)}allowed are {', '.join(KEYS)}, and free-form keys that begin with X_"
            )
        kind = KEYS[key].values
        if not equals and not kind.bare:
            raise InvalidHint(f"hint key {key} needs a value: {key}={kind.allowed}")
        try:
            values[key] = kind.read(value)
        except ValueError:
            raise _not_allowed(key, value) from None
    return _hint(text.strip(), values, extra)


def typed_hint(values: Mapping[str, object], extra: Mapping[str, str]) -> Hint | None:
    """Make a hint from checked values by key and from free-form keys; None if there are none. Its text is for people.

    Raises InvalidHint as `parse_hint` does.
    """
    checked: dict[str, object] = {}
    for key, value in values.items():
        try:
            checked[key] = KEYS[key].values.check(value)
        except ValueError:
            raise _not_allowed(key, str(value)) from None
    free: dict[str, str] = {}
    for name, value in sorted(extra.items()):
        key, part = name.upper(), f"{name}={value}"
        if not key.startswith("X_"):
            raise InvalidHint(f"hint key {safe_repr(name)} is not free-form; allowed are keys that begin with X_")
        if "=" in key or ";" in part:
            raise InvalidHint(f"hint key {safe_repr(name)} or its value has a ';' or '='; allowed is text without it")
        _check_separators(part, key, value)
        if key in free:
            raise InvalidHint(f"hint key {key} is given twice; give it once")
        _check_extra(part, key.strip(), value, free)
        free[key.strip()] = value.strip()
    pairs = {key: KEYS[key].values.write(value) for key, value in checked.items()} | free
    text = "; ".join(f"{key}={value}" for key, value in pairs.items())
    _check_length(text)
    return _hint(text, checked, free)


def _hint(text: str, values: Mapping[str, object], extra: dict[str, str]) -> Hint | None:
    if values.get("WILLNEED") and values.get("DONTNEED"):
        raise InvalidHint("hint keys WILLNEED and DONTNEED contradict each other; allowed is one of them at a time")
    if not values and not extra:
        return None
    lasting = bool(extra) or any(not KEYS[key].once for key in values)
    fields: dict[str, Any] = {KEYS[key].field: value for key, value in values.items()}
    return Hint(text=text, lasting=lasting, extra=extra, **fields)


def policy_keys(hint: Hint) -> list[str]:
    """The keys of a hint that only a policy can act on and that differ from the default."""
    said = [name for name, key in KEYS.items() if key.for_policy and getattr(hint, key.field) != _DEFAULTS[key.field]]
    return said + sorted(hint.extra)


def _check_length(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_HINT_BYTES:
        raise InvalidHint(f"the hint has {size} bytes; allowed are {MAX_HINT_BYTES}")


def _check_extra(part: str, key: str, value: str, extra: Mapping[str, str]) -> None:
    """Raise InvalidHint for a free-form key without a name, or one too many in addition to `extra`."""
    if key == "X_":
        raise InvalidHint(f"hint key X_ in {part!r} has no name; allowed is X_NAME={value or 'value'}")
    if len(extra) >= MAX_EXTRA_KEYS:
        raise InvalidHint(f"the hint has more than {MAX_EXTRA_KEYS} keys that begin with X_; {key} is too many")


def _not_allowed(key: str, value: str) -> InvalidHint:
    kind = KEYS[key].values
    meant = _meant(value.upper(), kind.words) if kind.words else ""
    return InvalidHint(f"hint {key}={value} is not allowed; {meant}allowed is {key}={kind.allowed}")


def _check_separators(part: str, key: str, value: str) -> None:
    """Raise InvalidHint if pairs are separated by something other than `;`, or `:` stands in place of `=`.

    The value of a free-form key may be any text.
    """
    digits = value.replace(",", "").isdecimal()  # 2,097,152 is a number, not a list of pairs
    if _SEPARATED.search(key) or (not key.startswith("X_") and not digits and _SEPARATED.search(value)):
        pairs = "; ".join(each for each in _SEPARATED.split(part) if each)
        raise InvalidHint(f"hint {part!r} is more than one KEY=VALUE pair; pairs are separated by ';', as in {pairs!r}")
    name, colon, rest = (piece.strip() for piece in key.partition(":"))
    if colon and name in KEYS:
        raise InvalidHint(f"hint {part!r} has a colon; allowed is {name}={rest}")


def _meant(text: str, allowed: Iterable[str]) -> str:
    """A question that suggests the most similar word of `allowed`; empty if none is similar."""
    names = list(allowed)
    likely = difflib.get_close_matches(text, names, n=1) or [name for name in names if text and name.startswith(text)]
    return f"did you mean {likely[0]}? " if likely else ""


def _pair_meant(key: str, value: str) -> str:
    """A question that suggests a key in place of an unknown one, or the key that a value without one belongs to."""
    said = key or value.upper()
    for name, entry in KEYS.items():
        if not entry.values.bare and said in entry.values.allowed.split("|") and said != "NORMAL":
            return f"did you mean {name}={said}? "
    return _meant(key, KEYS)


_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Hint)}
_SEPARATED: Final = re.compile(rf"\s*[,&\n]\s*|(?<=[^\s=])\s+(?=[A-Z]\w*\s*=|(?:{'|'.join(KEYS)})\s*$)", re.IGNORECASE)
"""Separators that people write in place of `;`: a comma, `&`, a new line, or blanks before another key."""
