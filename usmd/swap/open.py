"""Opens the swap devices that an operator specified: names, numbers, and all or none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack

from usmd.config_values import Gathered
from usmd.errors import ConfigError, InvalidSize
from usmd.sizes import format_size
from usmd.swap import kinds
from usmd.swap.base import MAX_DEVICES, SwapDevice
from usmd.swap.kind import SwapKind
from usmd.swap.remote.address import WHERE_PASSWORDS_BELONG, hide_passwords

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def parse_swap_spec(text: str) -> SwapKind:
    """Read `KIND:...`, for example `memory:64MiB`.

    Raises ConfigError, which names the form of the kind, and shows no password.
    """
    shown = hide_passwords(text)
    if shown != text:
        raise ConfigError(f"swap device {shown!r}: {WHERE_PASSWORDS_BELONG}")
    kind, _, rest = text.partition(":")
    try:
        found = kinds.find(kind)
    except ConfigError as error:
        raise ConfigError(f"swap device {text!r}: {error}") from error
    try:
        return found.parse(rest)
    except (ConfigError, InvalidSize, ValueError) as error:
        raise ConfigError(f"swap device {text!r}: {error}; a {kind} device is {kinds.form(kind)}") from error


def open_devices(specs: Sequence[SwapKind], page_size: int) -> list[SwapDevice]:
    """Open the devices, numbered from 0 in order; sizes are rounded down to whole pages of `page_size` bytes.

    Raises ConfigError for specs that conflict, and SwapDeviceError for a device that cannot be opened. Either way no
    device is left open.
    """
    names = check_specs(specs, page_size)
    with ExitStack() as opened:
        devices: list[SwapDevice] = []
        for number, (name, spec) in enumerate(zip(names, specs, strict=True)):
            device = spec.open(number, name, page_size)
            opened.callback(device.close)
            devices.append(device)
        opened.pop_all()
    return devices


def check_specs(specs: Sequence[SwapKind], page_size: int) -> list[str]:
    """The names of the devices, by number; opens nothing. Raises ConfigError for specs that conflict."""
    if len(specs) > MAX_DEVICES:
        raise ConfigError(f"{len(specs)} swap devices; at most {MAX_DEVICES} are allowed, so merge some", "swap")
    names: dict[str, None] = {}
    claims: dict[str, None] = {}
    gathered = Gathered()
    for number, spec in enumerate(specs):
        with gathered.attempt():
            check_beside(number, spec, page_size, names, claims)
    gathered.raise_any()
    return list(names)


def check_beside(number: int, spec: SwapKind, page_size: int, names: dict[str, None], claims: dict[str, None]) -> str:
    """The name of a device beside others, whose names and claims it joins. Raises ConfigError if it conflicts."""
    key = f"swap[{number}]"
    name = name_of(number, spec)
    taken = f"swap device {number}: the name {name!r} is taken by an earlier device; rename one"
    _take(names, name, ConfigError(taken, f"{key}.name"))
    for claim in claims_of(spec):
        _take(
            claims,
            claim,
            ConfigError(f"swap device {name}: {claim} is taken by an earlier device; change one", key),
        )
    for each in (spec, *spec.parts()):
        if each.size < page_size:
            raise ConfigError(
                f"swap device {name}: {format_size(each.size)} is smaller than one page of "
                f"{format_size(page_size)}; give at least one page",
                f"{key}.size",
            )
    return name


def claims_of(spec: SwapKind) -> list[str]:
    """What a device and its parts claim."""
    return [claim for each in (spec, *spec.parts()) if (claim := each.claim()) is not None]


def name_of(number: int, spec: SwapKind) -> str:
    """The name of a device. Raises ConfigError if it is not allowed."""
    if spec.name is None:
        return f"{spec.device.kind}{number}"
    # The hint is SWAP=<number or name>, in pairs separated by ';': so a name must be neither a number nor a pair.
    if not _NAME.fullmatch(spec.name):
        raise ConfigError(
            f"swap device {number}: the name {spec.name!r} is not allowed; a name is a letter and then up to 63 "
            "letters, digits, '_', '.' or '-'",
            f"swap[{number}].name",
        )
    return spec.name


def _take(taken: dict[str, None], value: str, error: ConfigError) -> None:
    if value in taken:
        raise error
    taken[value] = None
