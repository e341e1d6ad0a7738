"""Reads the section `[policy]`, so that no mistake hides others, and compares its limits with those of `[memory]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from usmd.config_values import Gathered, frames_of, not_allowed, read_table, readable
from usmd.errors import ConfigError
from usmd.policy_rules import PolicyNames, PolicyRule, PolicyRules, UserRule

_STAND_INS: Final[dict[str, tuple[type[PolicyRule | UserRule], Callable[[int], dict[str, object]]]]] = {
    "rules": (PolicyRule, lambda number: {"name": f"rule {number}", "memory_weight": 100}),
    "users": (UserRule, lambda number: {"uid": 2**32 - 2 - number, "max_sessions": 1}),
}
"""Of each array: what its tables are, and a table without mistakes in the place of one that cannot be read."""


class Memory(Protocol):
    """What limits of rules depend on; see `MemoryConfig`."""

    @property
    def frames(self) -> int:
        """Number of frames."""

    @property
    def page_size(self) -> int:
        """Bytes."""

    @property
    def max_regions(self) -> int:
        """Most regions of each process."""

    @property
    def deny_budget(self) -> str:
        """Share that each process may keep."""

    @property
    def high_watermark(self) -> str:
        """Share."""


def read_policy(table: object, gathered: Gathered) -> PolicyRules:
    """The section, as far as it can be read. `gathered` gets its mistakes."""
    try:
        policy = read_table(PolicyRules, table, "policy")
    except ConfigError as error:
        gathered.errors.extend(error.all)
        policy = _readable(table)
    with gathered.attempt():
        policy.check()
    return policy


def _readable(table: object) -> PolicyRules:
    if not isinstance(table, dict):
        return PolicyRules()
    found = readable(PolicyRules, table)
    for array, (struct, stand_in) in _STAND_INS.items():
        tables = table.get(array)
        if isinstance(tables, list):
            found[array] = [raw if _can_be_read(struct, raw) else stand_in(number) for number, raw in enumerate(tables)]
    return read_table(PolicyRules, found, "policy")


def _can_be_read(struct: type[PolicyRule | UserRule], raw: object) -> bool:
    try:
        read_table(struct, raw, "")
    except ConfigError:
        return False
    return True


def check_rules(policy: PolicyRules, memory: Memory) -> None:
    """Raise ConfigError for rules whose budgets do not fit the memory, or whose limits exceed those of each process.

    It has all such errors.
    """
    gathered = Gathered()
    frames, size = memory.frames, memory.page_size
    budget = frames_of(memory.deny_budget, frames, size)
    for key, names in policy.named():
        with gathered.attempt(key):
            names.swap_pages(0, size)  # how many slots there are, only the devices know
        with gathered.attempt(key):
            _check_regions(names, memory)
        with gathered.attempt(key):
            kept = names.quotas(frames, size).deny_budget
            if kept is not None and kept > budget:
                allowed = f"at most memory.deny_budget, which is {memory.deny_budget!r}"
                raise not_allowed("deny_budget", names.deny_budget, allowed)
    with gathered.attempt():
        policy.check_guarantees(frames, size, frames_of(memory.high_watermark, frames, size))
    gathered.raise_any()


def _check_regions(names: PolicyNames, memory: Memory) -> None:
    if names.max_regions is not None and names.max_regions > memory.max_regions:
        allowed = f"at most memory.max_regions, which is {memory.max_regions}"
        raise not_allowed("max_regions", names.max_regions, allowed)
