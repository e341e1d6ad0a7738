"""Section `[policy]`: the policies and budgets that processes get, the rules that choose them, and limits of users.

Covers no name of a policy or a device: those are checked when there are devices (usmd/server/policy_check.py).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final, NamedTuple

import msgspec

from usmd import config_values as values
from usmd.config_values import Gathered, frames_of, not_allowed, slots_of
from usmd.core.events import Quotas
from usmd.errors import ConfigError, InvalidArgument
from usmd.sizes import format_size

LEAST_FRAMES: Final = 32
"""Least frames of a process: one instruction may need several pages at once."""


class Choice(NamedTuple):
    """What a client chooses for itself: policies (empty: none of that kind), and a bound of its memory."""

    alloc: str = ""
    evict: str = ""
    memory_max: int = 0
    """Bytes; 0: none but what its rule says."""

    def bound(self, frames: int | None, page_size: int) -> int | None:
        """Most frames of the process, where its rule says `frames`. Raises InvalidArgument."""
        if not self.memory_max:
            return frames
        wanted = self.memory_max // page_size
        if wanted < LEAST_FRAMES:
            raise InvalidArgument(
                f"a memory limit of {format_size(self.memory_max)}; allowed are {LEAST_FRAMES} pages "
                f"({format_size(LEAST_FRAMES * page_size)}) and more"
            )
        return wanted if frames is None else min(wanted, frames)


NO_CHOICE: Final = Choice()


class PolicyNames(msgspec.Struct, frozen=True, kw_only=True):
    """The policies of one process, by name, and its preferred swap device (None: the first with room)."""

    alloc: str
    evict: str
    oom: str
    cond: str = "none"
    swap: str | None = None
    memory_max: str | None = None
    swap_max: str | None = None
    memory_min: str | None = None
    memory_weight: int | None = None
    max_regions: int | None = None
    max_hint_ranges: int | None = None
    max_faults: int | None = None
    deny_budget: str | None = None

    def quotas(self, frames: int, page_size: int) -> Quotas:
        """Limits in numbers; `frames`: in all. Raises ConfigError."""
        try:
            budget = None if self.deny_budget is None else frames_of(self.deny_budget, frames, page_size)
        except ConfigError as error:
            raise ConfigError(f"deny_budget: {error}", "deny_budget") from error
        return Quotas(self.max_regions, self.max_hint_ranges, self.max_faults, budget)

    def guaranteed_frames(self, frames: int, page_size: int) -> int:
        """Frames, of `frames` in all, that the process is guaranteed. Raises ConfigError."""
        try:
            return 0 if self.memory_min is None else frames_of(self.memory_min, frames, page_size)
        except ConfigError as error:
            raise ConfigError(str(error), "memory_min") from error

    def memory_frames(self, frames: int, page_size: int) -> int | None:
        """Most frames of the process, of `frames` in all; None: all. Raises ConfigError."""
        if self.memory_max is None:
            return None
        try:
            most = frames_of(self.memory_max, frames, page_size)
        except ConfigError as error:
            raise ConfigError(str(error), "memory_max") from error
        if most < LEAST_FRAMES:
            raise not_allowed("memory_max", self.memory_max, f"{LEAST_FRAMES} pages and more")
        return most

    def swap_pages(self, slots: int, page_size: int) -> int | None:
        """Most pages of the process in swap, of `slots` in all; None: no limit. Raises ConfigError."""
        try:
            return None if self.swap_max is None else slots_of(self.swap_max, slots, page_size)
        except ConfigError as error:
            raise ConfigError(f"swap_max: {error}", "swap_max") from error


class PolicyRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[policy.rules]]`: selects processes by exactly one of name, glob and uid."""

    name: values.Word | None = None
    """Exact name that the process gave; None: the rule does not select by name."""

    glob: values.Word | None = None
    """Shell pattern for the name, case-sensitive; None: the rule does not select by pattern."""

    uid: values.Uid | None = None
    """User of the process, as the kernel reports it; None: the rule does not select by user."""

    alloc: values.Word | None = None
    """Name of the alloc policy; None: the default of `[policy]`."""

    evict: values.Word | None = None
    """Name of the evict policy; None: the default of `[policy]`."""

    oom: values.Word | None = None
    """Name of the oom policy; None: the default of `[policy]`."""

    cond: values.Word | None = None
    """Name of the conditional policy; None: the default of `[policy]`."""

    swap: values.Word | None = None
    """Number or name of the swap device for its pages; None: the default of `[policy]`."""

    memory_max: values.Share | None = None
    """Most memory of a process, a share as in `[memory]`, at least 32 pages. A process with that much evicts one of its
    own pages for each that is brought in. None: no limit."""

    memory_min: values.Share | None = None
    """Guaranteed memory of a process, a share as in `[memory]`. While it has at most that much, it loses no page to
    another process, and others leave it room in memory and swap. All guarantees together may have the memory below the
    high watermark; a process whose guarantee would exceed that is refused. None: no guarantee."""

    memory_weight: values.Weight | None = None
    """Share of a process under pressure, 1 to 10,000, compared with the weights of others: the process that has most
    above its guarantee, divided by its weight, gives first. None: 100, the same for all."""

    max_regions: values.Count | None = None
    """Most regions of a process, at most `memory.max_regions`, which is the limit where this is None."""

    max_hint_ranges: values.HintRanges | None = None
    """Most ranges of a process with a hint. None: 16,384."""

    max_faults: values.Faults | None = None
    """Most pages that faults of a process wait for at a time; further faults are taken when fewer wait. None: 4,096."""

    deny_budget: values.Share | None = None
    """Memory that a process may keep with EVICTION=DENY and pins, a share as in `[memory]`, at most
    `memory.deny_budget`, which is the limit where this is None."""

    swap_max: values.SwapShare | None = None
    """Most swap of a process, a share of all slots or a size in pages; needs `memory_max`, because what may not go to
    swap stays in memory. In a process with that much in swap and no room in memory, a fault on a new page fails. None:
    no limit."""


class UserRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[policy.users]]`: limits of one user, for all its processes together. None: no limit."""

    uid: values.Uid
    """The user, as the kernel reports it."""

    max_sessions: values.Count | None = None
    """Most sessions of the user at a time."""

    memory_max: values.Share | None = None
    """Most memory of the user, a share as in `[memory]`, at least 32 pages for each session. When it is reached, the
    process of the user that is furthest above its share gives pages for those that come in."""

    swap_max: values.SwapShare | None = None
    """Most swap of the user, as that of a rule; needs `memory_max`."""

    memory_min: values.Share | None = None
    """Guaranteed memory of the user: while its processes have at most that much in sum, they lose no page to those of
    others. It counts with the guarantees of processes, and beside them."""

    memory_weight: values.Weight | None = None
    """Share of the user under pressure: its processes stand as one with this weight and all their pages, and give in
    the order of their own weights. None: each stands for itself."""

    max_regions: values.Count | None = None
    """Most regions of the user."""

    max_hint_ranges: values.CountOrZero | None = None
    """Most ranges of the user with a hint."""

    max_faults: values.Count | None = None
    """Most pages that faults of the user wait for at a time; further faults are taken when fewer wait."""

    @property
    def names(self) -> PolicyNames:
        """Its limits, as those of a process."""
        return PolicyNames(
            alloc="", evict="", oom="", memory_max=self.memory_max, swap_max=self.swap_max, memory_min=self.memory_min
        )


CHANGES: Final = tuple(key for key in PolicyRule.__struct_fields__ if key not in ("name", "glob", "uid"))
"""Keys of a rule that are not its selector."""


class PolicyRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[policy]`: the default policies, and rules that override them. Names are not checked here."""

    alloc: values.Word = "async_aware"
    """Name of the alloc policy. The default yields on swap faults, so that a fault need not block its thread."""

    evict: values.Word = "hint_aware"
    """Name of the evict policy. The default follows hints, and without hints acts as its fallback."""

    oom: values.Word = "refuse"
    """Name of the oom policy. The default affects only the faulting process."""

    cond: values.Word = "none"
    """Name of the conditional policy: what is done without a fault. By default nothing."""

    swap: values.Word | None = None
    """Number or name of the swap device for evicted pages; None: the first that has room. A hint `SWAP=` on a page
    takes precedence, and a device that is full or failing is skipped."""

    max_errors: values.CountOrZero = 100
    """Errors of one policy of one process after which the default replaces it for a while; each error counts half after
    ten minutes; 0: never. The default is far above the errors of a policy that is wrong once in a while; one that is
    always wrong reaches it at once."""

    call_timeout: values.SecondsOrZero = 10.0
    """Seconds of CPU time after which a policy's call that has not returned is ended, and the policy replaced; 0:
    never. A call that sleeps has five times as many. The default is above the longest call of usmd's own policies, a
    pass over tens of GiB. No client is served meanwhile."""

    choices: values.Words | None = None
    """Names of the alloc and evict policies that a client may choose for itself when it connects, unless a rule sets
    that kind for it. None: all that come with usmd; an empty list: none."""

    rules: tuple[PolicyRule, ...] = ()
    """Rules in the order of the file; none: every process gets the defaults."""

    users: tuple[UserRule, ...] = ()
    """Limits of users; a user without a rule has none."""

    def check(self) -> None:
        """Raise ConfigError for rules that select nothing, or change nothing, or contradict each other or themselves.

        It has all such errors.
        """
        gathered = Gathered()
        for number, rule in enumerate(self.rules):
            key = f"policy.rules[{number}]"
            given = [each for each in ("name", "glob", "uid") if getattr(rule, each) is not None]
            if len(given) != 1:
                found = " and ".join(given) or "none of them"
                gathered.add(f"{key} has {found}; allowed is exactly one of name, glob, uid", key)
            if all(getattr(rule, each) is None for each in CHANGES):
                gathered.add(f"{key} changes nothing; give it at least one of {', '.join(CHANGES)}", key)
            _check_swap_max(key, rule, gathered)
        seen: set[int] = set()
        limits = [name for name in UserRule.__struct_fields__ if name != "uid"]
        for number, user in enumerate(self.users):
            key = f"policy.users[{number}]"
            if user.uid in seen:
                gathered.add(f"{key}.uid = {user.uid}: the user has a rule already", f"{key}.uid")
            seen.add(user.uid)
            if all(getattr(user, name) is None for name in limits):
                gathered.add(f"{key} changes nothing; give it at least one of {', '.join(limits)}", key)
            _check_swap_max(key, user, gathered)
        gathered.raise_any()

    def choose(self, name: str, uid: int | None, choice: Choice = NO_CHOICE) -> PolicyNames:
        """The policies of a process called `name` of user `uid` (None: unknown; no uid rule matches).

        One rule decides: the first with the exact name, else the first whose glob matches, else the first with the uid.
        What the client chooses takes precedence over the defaults. Raises InvalidArgument if the rule sets that too.
        """
        ordered = (
            *(rule for rule in self.rules if rule.name == name),
            *(rule for rule in self.rules if rule.glob is not None and fnmatchcase(name, rule.glob)),
            *(rule for rule in self.rules if rule.uid is not None and rule.uid == uid),
        )
        rule = ordered[0] if ordered else PolicyRule(name=name)
        for kind, chosen, fixed in (("alloc", choice.alloc, rule.alloc), ("evict", choice.evict, rule.evict)):
            if chosen and fixed:
                raise InvalidArgument(
                    f"{kind} policy {chosen!r} cannot be chosen: a rule of usmd's configuration gives this process "
                    f"{fixed}; leave {kind} out"
                )
        return self.names_of(rule, choice)

    def names_of(self, rule: PolicyRule, choice: Choice = NO_CHOICE) -> PolicyNames:
        """The policies of a process that a rule selects, and whose client makes a choice."""
        return PolicyNames(
            alloc=rule.alloc or choice.alloc or self.alloc,
            evict=rule.evict or choice.evict or self.evict,
            oom=rule.oom or self.oom,
            cond=rule.cond or self.cond,
            swap=rule.swap or self.swap,
            memory_max=rule.memory_max,
            swap_max=rule.swap_max,
            memory_min=rule.memory_min,
            memory_weight=rule.memory_weight,
            max_regions=rule.max_regions,
            max_hint_ranges=rule.max_hint_ranges,
            max_faults=rule.max_faults,
            deny_budget=rule.deny_budget,
        )

    def check_guarantees(self, frames: int, page_size: int, high: int) -> None:
        """Raise ConfigError if a `memory_min` exceeds its `memory_max`, or all together what there is for guarantees.

        It has all such errors, and those of shares that cannot be. `high`: frames of the high watermark.
        """
        most, total = frames - max(high, 1), 0
        gathered = Gathered()
        for key, names in self.named():
            where, guaranteed, bound = f"{key}.memory_min", 0, None
            with gathered.attempt(key):
                bound = names.memory_frames(frames, page_size)
            with gathered.attempt(key):
                guaranteed = names.guaranteed_frames(frames, page_size)
            if bound is not None and guaranteed > bound:
                allowed = f"at most memory_max, which is {names.memory_max!r}"
                gathered.errors.append(not_allowed(where, names.memory_min, allowed))
            before, total = total, total + guaranteed
            if before <= most < total:
                allowed = (
                    f"at most {format_size((most - before) * page_size)}, because the guarantees of all rules together "
                    f"may have the memory below the high watermark, {format_size(most * page_size)}"
                )
                gathered.errors.append(not_allowed(where, names.memory_min, allowed))
        gathered.raise_any()

    def named(self) -> list[tuple[str, PolicyNames]]:
        """The key of each rule, and what it gives."""
        named = [(f"policy.rules[{number}]", self.names_of(rule)) for number, rule in enumerate(self.rules)]
        return named + [(f"policy.users[{number}]", user.names) for number, user in enumerate(self.users)]


def _check_swap_max(key: str, rule: PolicyRule | UserRule, gathered: Gathered) -> None:
    """Add the error of a `swap_max` without a `memory_max`."""
    if rule.swap_max is not None and rule.memory_max is None:
        gathered.add(
            f"{key} has swap_max = {rule.swap_max!r} without memory_max: pages that may not go to swap would "
            "stay in memory without a bound; give memory_max as well",
            f"{key}.swap_max",
        )
