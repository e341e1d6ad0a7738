"""Reads the configuration again while the daemon runs: applies what can change, and names what needs a restart.

All or nothing: a configuration that cannot be used leaves the one in force, and nothing of it has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from usmd import log
from usmd.config import Config, frames_of
from usmd.config_source import SECTIONS, Source, values_of
from usmd.core import events
from usmd.errors import ConfigError, LimitExceeded, SwapDeviceError
from usmd.policy_reading import check_rules
from usmd.server import own_facts, user_limits
from usmd.server.core_settings import core_settings
from usmd.server.endpoints import Endpoints
from usmd.server.engine import Engine
from usmd.server.metrics import Metrics
from usmd.server.policy_check import check_policies
from usmd.server.pressure_watch import PressureWatch
from usmd.server.sessions import Sessions
from usmd.server.swap_changes import SwapChanges, changes_of
from usmd.server.swap_devices import Opened, SwapDevices
from usmd.swap.kind import SwapKind

LIVE: Final = frozenset((
    "server.max_sessions", "server.max_user_sessions", "server.drain_grace", "server.drain_notice", "server.log_format",
    "server.log_level", "server.pressure_threshold",
    "memory.low_watermark", "memory.high_watermark", "memory.deny_budget", "memory.deny_budget_total",
    "memory.max_regions", "memory.max_mapped", "memory.sampling_cpu",
    "metrics.unix", "metrics.socket_mode", "metrics.listen", "metrics.processes",
    "page.unix", "page.socket_mode", "page.listen",
    "policy.alloc", "policy.evict", "policy.oom", "policy.cond", "policy.swap", "policy.max_errors", "policy.choices",
    "policy.rules", "policy.users",
))  # fmt: skip
"""Keys that change while the daemon runs, beside SWAP. Policies, budgets and limits of a session are those of its
beginning."""
GROWING: Final = ("memory.deny_budget", "memory.deny_budget_total")
"""Of these, those that may only grow: what is within such a budget is kept whatever comes."""
SWAP: Final = "swap"
"""The list of swap devices: those that are new are opened, and those that are left out retire."""


class Change(NamedTuple):
    """A key whose value differs, with its values as a file has them."""

    key: str
    before: object
    after: object


class Reloaded(NamedTuple):
    """What a reload did: `applied` is in force, `needs_restart` is not."""

    applied: list[Change]
    needs_restart: list[Change]


class Parts(NamedTuple):
    """The parts of a daemon that have settings which change.

    `set_drain` takes the grace and the notice in seconds, `defaults` policies by kind.
    """

    engine: Engine
    sessions: Sessions
    metrics: Metrics
    endpoints: Endpoints
    set_drain: Callable[[float, float], object]
    defaults: dict[str, str]
    made: Callable[[], object]
    """Called when sockets may have been bound."""
    pressure: PressureWatch
    swap: SwapDevices


class Reload:
    """Reloads of one daemon. `config`: what is in force. `tell` gets lines for the service manager."""

    def __init__(self, config: Config, source: Source, parts: Parts, tell: Callable[[str], object]) -> None:
        self.config = config
        self._source = source
        self._parts = parts
        self._tell = tell
        self._turn = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """Read the configuration, and apply it. Raises ConfigError, with all mistakes; the one in force stays then."""
        async with self._turn:
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(self._parts.engine.now() * 1e6)}")
            metrics = self._parts.metrics
            try:
                done = await self._reload(await self._read())
            except ConfigError as error:
                metrics.reloads["failure"] += 1
                metrics.reloaded = 0.0
                problems = [str(each) for each in error.all]
                log.event("config_refused", file=str(self._source.path or ""), problems=problems)
                self._tell(f"READY=1\nSTATUS=the configuration is as before: {problems[0]}")
                raise
            metrics.reloads["success"] += 1
            metrics.reloaded, metrics.reloaded_at = 1.0, own_facts.now()
            log.event(
                "config_reloaded",
                file=str(self._source.path or ""),
                applied=[each.key for each in done.applied],
                needs_restart=[each.key for each in done.needs_restart],
            )
            self._tell("READY=1\nSTATUS=")
            return done

    async def _read(self) -> Config:
        """The configuration as it is now; off the loop, because a disk may be slow."""
        read: Awaitable[Config] = asyncio.to_thread(self._source.load)
        try:
            return await read
        except RuntimeError as error:  # no thread can be started
            raise ConfigError(f"the configuration cannot be read now: {error}; try again") from error

    async def _reload(self, new: Config) -> Reloaded:
        """Open the swap devices that are new, which may take its time, and apply the configuration."""
        swap = self._parts.swap
        changes = changes_of(self.config.swap, new.swap, swap.specs)
        try:
            opened = await swap.open(changes.added)
        except SwapDeviceError as error:
            raise ConfigError(str(error), "swap") from error
        try:
            return self._apply(new, changes, opened, await swap.in_memory(changes.retired))
        except BaseException:  # raised again
            await swap.drop([each for each in opened if each[0].number not in swap.numbers()])
            raise

    def _apply(self, new: Config, swap: SwapChanges, opened: list[Opened], in_memory: int) -> Reloaded:
        applied, needs_restart = self._differences(new, swap.in_force)
        wanted = _merged(self.config, new, [each.key for each in applied if each.key != SWAP])
        wanted = msgspec.structs.replace(wanted, swap=swap.in_force)
        parts, state = self._parts, self._parts.engine.core.state
        settings = core_settings(wanted.memory, wanted.policy, state.swap.slots)
        try:
            state.guarantees.check_settings(settings)
        except LimitExceeded as error:
            raise ConfigError(f"memory.high_watermark: {error}", "memory.high_watermark") from error
        check_rules(wanted.policy, wanted.memory)
        retired = [number for number in swap.retired if parts.swap.is_active(number)]
        check_policies(wanted.policy, parts.swap.names(without=retired, more=opened), state.running)
        try:
            parts.engine.core.retirement.check(retired, in_memory, sum(device.slots for device, _ in opened))
        except LimitExceeded as error:
            raise ConfigError(str(error), SWAP) from error
        limits = user_limits.changes(self.config.policy.users, wanted.policy.users, state)
        user_limits.check(limits, state)
        parts.endpoints.apply(wanted.metrics, wanted.page)  # the last that may fail
        parts.made()
        parts.swap.use(opened)
        for number in retired:
            parts.swap.begin(number)
        names = events.Configure.__struct_fields__
        parts.engine.submit(events.Configure(**{name: getattr(settings, name) for name in names}))
        for each in limits:
            parts.engine.submit(each)
        if parts.engine.sampling_cost is not None:
            parts.engine.sampling_cost.most = wanted.memory.sampling_cpu
        parts.sessions.rules = wanted.policy
        parts.sessions.max_sessions = wanted.server.max_sessions
        parts.sessions.of_user = wanted.server.max_user_sessions
        parts.set_drain(wanted.server.drain_grace, wanted.server.drain_notice)
        parts.pressure.threshold = wanted.server.pressure_threshold
        parts.defaults.update({kind: getattr(wanted.policy, kind) for kind in parts.defaults})
        log.configure(wanted.server.log_format, level=wanted.server.log_level)
        self.config = wanted
        return Reloaded(applied, needs_restart)

    def _differences(self, new: Config, swap: tuple[SwapKind, ...]) -> tuple[list[Change], list[Change]]:
        """What differs from the configuration in force: what can be applied, and what cannot.

        `swap`: the devices that will be in force.
        """
        before, after = values_of(self.config), values_of(new)
        changes = [Change(key, before[key], after[key]) for key in after if before[key] != after[key] and key != SWAP]
        live = [each for each in changes if each.key in LIVE and not self._shrinks(each)]
        others = [each for each in changes if each not in live]
        between = values_of(msgspec.structs.replace(new, swap=swap))[SWAP]
        if before[SWAP] != between:
            live.append(Change(SWAP, before[SWAP], between))
        if between != after[SWAP]:
            others.append(Change(SWAP, between, after[SWAP]))
        return live, others

    def _shrinks(self, change: Change) -> bool:
        """Whether a budget that may only grow would be less. Both are shares of the memory in force."""
        if change.key not in GROWING:
            return False
        memory = self.config.memory
        before, after = (frames_of(str(each), memory.frames, memory.page_size) for each in change[1:])
        return after < before


def _merged(old: Config, new: Config, keys: list[str]) -> Config:
    """The old configuration with these keys of the new one."""
    sections: dict[str, object] = {}
    for section in SECTIONS:
        names = [name for each, _, name in (key.partition(".") for key in keys) if each == section]
        values: Mapping[str, object] = {name: getattr(getattr(new, section), name) for name in names}
        sections[section] = msgspec.structs.replace(getattr(old, section), **values)
    return msgspec.structs.replace(old, **sections)
