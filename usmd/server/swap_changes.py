"""What a new configuration changes about the swap devices. Devices are told apart by all that is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from usmd.swap.kind import SwapKind
from usmd.swap.open import claims_of


class SwapChanges(NamedTuple):
    """What can be done while the daemon runs.

    `added`: devices to open. `retired`: numbers of those to retire. `in_force`: the devices of the configuration after
    that. One that only changes, by its name or by what it claims, keeps its form until a restart.
    """

    added: list[SwapKind]
    retired: list[int]
    in_force: tuple[SwapKind, ...]


def changes_of(old: Sequence[SwapKind], new: Sequence[SwapKind], live: Mapping[int, SwapKind]) -> SwapChanges:
    """Compare configurations. `live`: the devices that there are, by number, of which operators made some by call."""
    removed = list(old)
    unmatched = [spec for spec in new if not _take(removed, spec)]
    in_force = list(new)
    added: list[SwapKind] = []
    for spec in unmatched:
        before = next((each for each in removed if _is_changed(each, spec)), None)
        if before is None:
            added.append(spec)
        else:
            removed.remove(before)
            in_force[in_force.index(spec)] = before
    there = dict(live)
    for spec in in_force:
        if spec not in added:
            _taken(there, spec)
    retired = [number for spec in removed if (number := _taken(there, spec)) is not None]
    return SwapChanges([spec for spec in added if _taken(there, spec) is None], retired, tuple(in_force))


def _take(specs: list[SwapKind], spec: SwapKind) -> bool:
    """Take a device out of a list, if it is there."""
    if spec in specs:
        specs.remove(spec)
        return True
    return False


def _taken(live: dict[int, SwapKind], spec: SwapKind) -> int | None:
    """Take out a device that is as specified; its number, or None."""
    number = next((number for number, each in live.items() if each == spec), None)
    if number is not None:
        del live[number]
    return number


def _is_changed(before: SwapKind, after: SwapKind) -> bool:
    """Whether a device of the old configuration is another one in the new: both have its name, or its file."""
    named = before.name is not None and before.name == after.name
    return named or not set(claims_of(before)).isdisjoint(claims_of(after))
