"""Reads single values of the configuration; errors name the key, the value and what is allowed.

`read_table` converts a TOML table to a struct whose fields are annotated with a `Kind`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from usmd.core.settings import MAX_FAULTS, MAX_HINT_RANGES
from usmd.errors import ConfigError, InvalidSize
from usmd.runtime_paths import parse_address
from usmd.sizes import exact_size, format_size, parse_size

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")
_SHARE = 'a percentage from 0% to 100% of the memory, or a size up to all of it, for example "3%" or "2MiB"'
_SWAP_SHARE = 'a percentage from 0% to 100% of the swap slots, or a size, for example "25%" or "2GiB"'
_MOST_BYTES = 256 << 40


@dataclass(frozen=True)
class Kind:
    """A kind of value: what is allowed, in words, and the function that reads it.

    `read` raises ValueError for a value that is not allowed, or ConfigError or InvalidSize if it has a better message.
    `show` makes of the value what a file would have in its place.
    """

    allowed: str
    read: Callable[[object], object]
    show: Callable[[Any], object] = lambda value: value


def frames_of(text: str, total_frames: int, page_size: int) -> int:
    """Frames in a share of memory: "3%" of `total_frames`, or a size in pages of `page_size` bytes; rounded down.

    Raises ConfigError if the text is neither, or the share is larger than the memory.
    """
    part = _part(text, total_frames, page_size, _SHARE)
    if not 0 <= part <= total_frames:
        raise ConfigError(f"share {text!r} of {format_size(total_frames * page_size)}; allowed is {_SHARE}")
    return int(part)


def slots_of(text: str, total_slots: int, page_size: int) -> int:
    """Slots in a share of swap: "3%" of `total_slots`, or a size over `page_size` bytes, also of more than there are.

    Raises ConfigError for text that is neither.
    """
    part = _part(text, total_slots, page_size, _SWAP_SHARE)
    if part < 0 or (part > total_slots and text.strip().endswith("%")):
        raise ConfigError(f"share {text!r}; allowed is {_SWAP_SHARE}")
    return int(part)


def _part(text: str, total: int, page_size: int, allowed: str) -> Fraction:
    """Pages in a share; negative for text that is none."""
    percent = _PERCENT.fullmatch(text.strip())
    try:
        part = Fraction(percent[1]) * total / 100 if percent else Fraction(parse_size(text), page_size)
    except InvalidSize:
        return Fraction(-1)
    if 0 < part < 1 and not percent:
        raise ConfigError(f"share {text!r} is less than a page of {format_size(page_size)}; allowed is {allowed}")
    return part


def show(hint: object, value: object) -> object:
    """What a file would have in the place of a value, whose field has this annotation; None if it is not set."""
    return None if value is None else _kind(hint).show(value)


def not_allowed(key: str, value: object, allowed: str) -> ConfigError:
    """The error for `value` at `key`."""
    return ConfigError(f"{key} = {value!r} is not allowed; allowed is {allowed}", key)


def _within(table: str, error: ConfigError) -> ConfigError:
    """The error of a key of a table, with the whole key."""
    key, text = f"{table}.{error.key}", str(error)
    return ConfigError(f"{table}.{text}" if text.startswith(error.key) else f"{key}: {text}", key)


class Gathered:
    """Errors of a configuration, so that an operator gets all of them at once."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    @contextmanager
    def attempt(self, table: str = "") -> Iterator[None]:
        """Keep the ConfigError of a block, which ends the block alone.

        `table`: whole key of the table that its keys are in, if they are not whole.
        """
        try:
            yield
        except ConfigError as error:
            self.errors.extend([_within(table, each) for each in error.all] if table else error.all)

    def add(self, message: str, key: str) -> None:
        """Keep an error."""
        self.errors.append(ConfigError(message, key))

    def raise_any(self) -> None:
        """Raise the first error, with the others in it, if there are any."""
        if self.errors:
            first, *others = self.errors
            raise ConfigError(str(first), first.key, others) from first


def read_table(struct: type[_Struct], table: object, key: str) -> _Struct:
    """Read a TOML table into `struct`; `key` is the table's own, "" for the document.

    Raises ConfigError, which names the whole key, for an unknown or missing key and for a value that is not allowed. It
    has all such errors of the table.
    """
    if not isinstance(table, dict):
        raise not_allowed(key, table, f"a table with the keys {', '.join(struct.__struct_fields__)}")
    gathered = Gathered()
    with gathered.attempt():
        check_keys(table, struct.__struct_fields__, key)
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        if field.required and field.name not in table:
            whole = _join(key, field.name)
            missing = ConfigError(f"{whole} is missing; allowed is {_kind(hints[field.name]).allowed}", whole)
            gathered.errors.append(missing)
    found: dict[str, object] = {}
    for name, value in table.items():
        if name in hints:
            with gathered.attempt():
                found[name] = _read(hints[name], value, _join(key, name))
    gathered.raise_any()
    try:
        return struct(**found)
    except ConfigError as error:
        raise ConfigError(str(error), error.key or key, error.others) from error


def readable(struct: type[msgspec.Struct], table: dict[str, object]) -> dict[str, object]:
    """Of a TOML table the keys and values that `read_table` accepts."""
    hints = get_type_hints(struct, include_extras=True)
    found = {}
    for name, value in table.items():
        if name in hints:
            with suppress(ConfigError):
                _read(hints[name], value, name)
                found[name] = value
    return found


def check_keys(table: dict[str, object], allowed: Sequence[str], key: str) -> None:
    """Raise ConfigError for the keys of `table` that are not `allowed`; it names the most similar allowed key."""
    gathered = Gathered()
    for name in table:
        if name not in allowed:
            likely = difflib.get_close_matches(name, allowed, n=1)
            meant = f"did you mean {_join(key, likely[0])}? " if likely else ""
            whole = _join(key, name)
            gathered.add(f"{whole} is not a key; {meant}allowed are {', '.join(allowed)}", whole)
    gathered.raise_any()


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _kind(hint: object) -> Kind:
    """The Kind in an annotation, also inside `| None`."""
    if get_origin(hint) is not Annotated:
        hint = next(part for part in get_args(hint) if part is not NoneType)
    return cast(Kind, get_args(hint)[1])


def _read(hint: object, value: object, key: str) -> object:
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise not_allowed(key, value, f"an array of tables: [[{key}]]")
        gathered, tables = Gathered(), []
        for index, table in enumerate(value):
            with gathered.attempt():
                tables.append(read_table(get_args(hint)[0], table, f"{key}[{index}]"))
        gathered.raise_any()
        return tuple(tables)
    kind = _kind(hint)
    try:
        return kind.read(value)
    except ConfigError as error:
        first, *others = (
            ConfigError(f"{key}: {each}", _join(key, each.key) if each.key else key) for each in error.all
        )
        raise ConfigError(str(first), first.key, others) from error
    except InvalidSize as error:
        raise ConfigError(f"{key}: {error}", key) from error
    except ValueError:
        raise not_allowed(key, value, kind.allowed) from None


def _whole(low: int, high: int) -> Kind:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a whole number from {low} to {high}", read)


def _seconds(allowed: str, low: float) -> Kind:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 86_400:
            raise ValueError
        return float(value)

    return Kind(allowed, read)


def _one_of(*names: str) -> Kind:
    def read(value: object) -> object:
        if value not in names:
            raise ValueError
        return value

    return Kind(f"one of {', '.join(names)}" if len(names) > 1 else f"{names[0]}, the only one there is", read)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - readers refuse with ValueError, whatever the reason
    return tuple(map(_text, value))


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - readers refuse with ValueError, whatever the reason
    return value


def _mode(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch("0?[0-7]{3}", value):
        raise ValueError
    return int(value, 8)


def _size(value: object) -> int:
    size = parse_size(cast(str, value))  # raises InvalidSize if the value is neither text nor a number
    if not 0 < size <= _MOST_BYTES:
        raise ValueError
    return size


def _page_size(value: object) -> int:
    size = _size(value)
    if not 512 <= size <= 2 << 20 or size & (size - 1):
        raise ValueError
    return size


def _share(value: object) -> str:
    text = _text(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    try:
        frames_of(text, _MOST_BYTES, 1)  # only the section knows the size of the memory
    except ConfigError as error:
        raise ValueError from error
    return text


def _swap_share(value: object) -> str:
    text = _text(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    try:
        slots_of(text, 1 << 40, 1)  # how many slots there are, only the devices know
    except ConfigError as error:
        raise ValueError from error
    return text


def _absolute(value: object) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError
    return path


def _fault_wakeup(value: object) -> str:
    text = _text(value)
    match = re.fullmatch(r"auto|sleep|follow|spin:(\d{1,5})", text)
    if match is None or (match[1] is not None and not 1 <= int(match[1]) <= 10_000):
        raise ValueError
    return text


def _sampling(value: object) -> str | float:
    if value in ("auto", "off"):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 16:
        raise ValueError
    return float(value)


def _cpu_share(value: object) -> float:
    text = _text(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?)\s*%", text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError
    return float(match[1]) / 100


def _percent(value: object) -> float:
    text = _text(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)
    match = _PERCENT.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise ValueError
    return float(match[1]) / 100


def _loopback_port(value: object) -> str:
    text = _text(value)
    host, port = host_and_port(text)
    if not ip_address(host).is_loopback or not 1 <= port <= 65_535:
        raise ValueError
    return text


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of `127.0.0.1:9842`, or of `[::1]:9842`. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"\[[^\[\]]+\]|[^:\[\]]+", host) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError
    return host.strip("[]"), int(port)


_ADDRESS = "the absolute path of a Unix socket"

Count = Annotated[int, _whole(1, 1_000_000)]
CountOrZero = Annotated[int, _whole(0, 1_000_000)]
HintRanges = Annotated[int, _whole(0, MAX_HINT_RANGES)]
Faults = Annotated[int, _whole(1, MAX_FAULTS)]
MetricProcesses = Annotated[int, _whole(0, 1000)]
Uid = Annotated[int, _whole(0, 2**32 - 2)]
Seconds = Annotated[float, _seconds("a number of seconds from 0.001 to 86400", 0.001)]
SecondsOrZero = Annotated[float, _seconds("a number of seconds from 0 to 86400", 0)]
Switch = Annotated[bool, Kind("true or false", _switch)]
Mode = Annotated[int, Kind('an octal file mode as text, for example "0660"', _mode, "{:04o}".format)]
Size = Annotated[int, Kind('a size from 1B to 256TiB, for example "64MiB"', _size, exact_size)]
PageSize = Annotated[int, Kind("a power of two from 512B to 2MiB", _page_size, exact_size)]
Share = Annotated[str, Kind(_SHARE, _share)]
Weight = Annotated[int, _whole(1, 10_000)]
SwapShare = Annotated[str, Kind(_SWAP_SHARE, _swap_share)]
Word = Annotated[str, Kind("printable text, not empty", _text)]
Words = Annotated[tuple[str, ...], Kind('a list of printable texts, for example ["lru", "arc"]', _words, list)]
AbsolutePath = Annotated[Path, Kind("an absolute path", _absolute, str)]
ClientSocket = Annotated[Path, Kind(_ADDRESS, lambda value: parse_address(_text(value)), str)]
AdminSocket = Annotated[Path, Kind(_ADDRESS, lambda value: parse_address(_text(value), identity=False), str)]
LoopbackPort = Annotated[
    str, Kind('an address of this machine alone, with a port, for example "127.0.0.1:9842"', _loopback_port)
]
LogFormat = Annotated[str, _one_of("auto", "human", "json")]
LogLevel = Annotated[str, _one_of("info", "warning", "error")]
IoWay = Annotated[str, _one_of("auto", "io_uring", "aio", "threads")]
Mechanism = Annotated[str, _one_of("auto", "simulated", "userfaultfd")]
Sampling = Annotated[str | float, Kind('"auto", "off", or a number above 0 and up to 16', _sampling)]
CpuShare = Annotated[
    float, Kind('a share of CPU above "0%" and up to "100%"', _cpu_share, lambda share: f"{100 * share:g}%")
]
Percent = Annotated[float, Kind('a percentage from "0%" to "100%"', _percent, lambda share: f"{100 * share:g}%")]
FaultWakeup = Annotated[
    str, Kind('"auto", "sleep", "follow", or "spin:US" with 1 to 10000 microseconds', _fault_wakeup)
]
