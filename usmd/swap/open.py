"""From what an operator writes to open swap devices.

Covers the text forms, names and numbers, and opening all or none. Does not cover where the text comes from (config).
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

import msgspec

from usmd.errors import ConfigError, InvalidSize
from usmd.sizes import format_size, parse_size
from usmd.swap.base import MAX_DEVICES, SwapDevice
from usmd.swap.file import FileSwapDevice
from usmd.swap.memory import MemorySwapDevice

_FORMS = (
    "memory:SIZE (memory:64MiB) or file:PATH:SIZE (file:/var/lib/usmd/swap:1GiB; with :direct behind it, past the "
    "page cache)"
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class SwapSpec(msgspec.Struct, frozen=True):
    """A swap device to open: its kind, size in bytes, path (for a file), and name (None: its kind and number).

    `direct`: the file is read and written past the page cache.
    """

    kind: Literal["memory", "file"]
    size: int
    path: str | None = None
    name: str | None = None
    direct: bool = False


def parse_swap_spec(text: str) -> SwapSpec:
    """Read `memory:SIZE`, `file:PATH:SIZE` or `file:PATH:SIZE:direct`; the path may contain colons.

    Raises ConfigError listing the forms.
    """
    kind, _, rest = text.partition(":")
    plain = rest.removesuffix(":direct")
    direct = kind == "file" and plain != rest
    path, _, size_text = (plain if direct else rest).rpartition(":")
    try:
        if kind == "memory" and not path:
            return SwapSpec(kind="memory", size=parse_size(size_text))
        if kind == "file" and path:
            return SwapSpec(kind="file", size=parse_size(size_text), path=path, direct=direct)
    except InvalidSize as error:
        raise ConfigError(f"swap device {text!r}: {error}; a device is {_FORMS}") from error
    raise ConfigError(f"swap device {text!r} cannot be read; a device is {_FORMS}")


def open_devices(specs: Sequence[SwapSpec], page_size: int) -> list[SwapDevice]:
    """Open the devices, numbered from 0 in order; sizes are rounded down to whole pages of `page_size` bytes.

    Raises ConfigError for specs that do not go together and SwapDeviceError for a device that does not open; either
    way, none is left open.
    """
    if len(specs) > MAX_DEVICES:
        raise ConfigError(f"{len(specs)} swap devices; at most {MAX_DEVICES} are allowed, so merge some")
    names: set[str] = set()
    paths: set[str] = set()
    with ExitStack() as opened:
        devices: list[SwapDevice] = []
        for number, spec in enumerate(specs):
            name = _name(number, spec)
            _claim(names, name, f"swap device {number}: the name {name!r} is taken by an earlier device; rename one")
            if spec.path is not None:
                if "\0" in spec.path:
                    raise ConfigError(f"swap device {name}: the path {spec.path!r} has a NUL; take it out")
                message = f"swap device {name}: the path {spec.path} is taken by an earlier device; change one"
                _claim(paths, os.path.realpath(spec.path), message)
            device = _open(number, name, spec, page_size)
            opened.callback(device.close)
            devices.append(device)
        opened.pop_all()
    return devices


def _name(number: int, spec: SwapSpec) -> str:
    if spec.name is None:
        return f"{spec.kind}{number}"
    # A hint says SWAP=<number or name> among pairs that ';' separates, so a name can be neither number nor pair.
    if not _NAME.fullmatch(spec.name):
        raise ConfigError(
            f"swap device {number}: the name {spec.name!r} is not allowed; a name is a letter and then up to 63 "
            "letters, digits, '_', '.' or '-'"
        )
    return spec.name


def _claim(taken: set[str], value: str, message: str) -> None:
    if value in taken:
        raise ConfigError(message)
    taken.add(value)


def _open(number: int, name: str, spec: SwapSpec, page_size: int) -> SwapDevice:
    slots = spec.size // page_size
    if slots < 1:
        raise ConfigError(
            f"swap device {name}: {format_size(spec.size)} is smaller than one page of {format_size(page_size)}; "
            "give at least one page"
        )
    match spec.kind, spec.path:
        case "memory", None if not spec.direct:
            return MemorySwapDevice(number=number, name=name, slots=slots, page_size=page_size)
        case "file", str(path):
            return FileSwapDevice(
                number=number, name=name, path=path, slots=slots, page_size=page_size, direct=spec.direct
            )
    direct = ", direct" if spec.direct else ""
    raise ConfigError(f"swap device {name}: kind {spec.kind!r} with path {spec.path!r}{direct}; a device is {_FORMS}")
