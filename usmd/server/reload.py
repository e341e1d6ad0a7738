"""Reads the configuration again while the daemon runs: applies what can change, and names what needs a restart.

All or nothing: a configuration that cannot be used leaves the one in force, and nothing of it has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from usmd import log
from usmd.config import Config, check_rules, frames_of
from usmd.config_source import SECTIONS, Source, values_of
from usmd.core import events
from usmd.errors import ConfigError, LimitExceeded
from usmd.server import own_facts
from usmd.server.core_settings import core_settings
from usmd.server.engine import Engine
from usmd.server.metrics import Metrics
from usmd.server.metrics_server import MetricsServer
from usmd.server.policy_check import check_policies
from usmd.server.pressure_watch import PressureWatch
from usmd.server.sessions import Sessions

LIVE: Final = frozenset((
    "server.max_sessions", "server.max_user_sessions", "server.drain_grace", "server.drain_notice", "server.log_format",
    "server.log_level", "server.pressure_threshold",
    "memory.low_watermark", "memory.high_watermark", "memory.deny_budget", "memory.deny_budget_total",
    "memory.max_regions", "memory.max_mapped", "memory.sampling_cpu",
    "metrics.unix", "metrics.socket_mode", "metrics.listen", "metrics.processes",
    "policy.alloc", "policy.evict", "policy.oom", "policy.cond", "policy.swap", "policy.max_errors", "policy.choices",
    "policy.rules",
))  # fmt: skip
"""Keys that change while the daemon runs. Policies, budgets and limits of a session are those of its beginning."""
GROWING: Final = ("memory.deny_budget", "memory.deny_budget_total")
"""Of these, those that may only grow: what is within such a budget is kept whatever comes."""


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
    metrics_server: MetricsServer
    set_drain: Callable[[float, float], object]
    defaults: dict[str, str]
    made: Callable[[], object]
    """Called when sockets may have been bound."""
    pressure: PressureWatch


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
                new = await self._read()
                done = self._apply(new)
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

    def _apply(self, new: Config) -> Reloaded:
        applied, needs_restart = self._differences(new)
        wanted = _merged(self.config, new, [each.key for each in applied])
        parts, state = self._parts, self._parts.engine.core.state
        settings = core_settings(wanted.memory, wanted.policy, state.swap.slots)
        try:
            state.guarantees.check_settings(settings)
        except LimitExceeded as error:
            raise ConfigError(f"memory.high_watermark: {error}", "memory.high_watermark") from error
        check_rules(wanted.policy, wanted.memory)
        check_policies(wanted.policy, [each.name for each in parts.engine.device_infos], state.running)
        parts.metrics_server.apply(wanted.metrics)  # the last that may fail
        parts.made()
        names = events.Configure.__struct_fields__
        parts.engine.submit(events.Configure(**{name: getattr(settings, name) for name in names}))
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

    def _differences(self, new: Config) -> tuple[list[Change], list[Change]]:
        """What differs from the configuration in force: what can be applied, and what cannot."""
        before, after = values_of(self.config), values_of(new)
        changes = [Change(key, before[key], after[key]) for key in after if before[key] != after[key]]
        live = [each for each in changes if each.key in LIVE and not self._shrinks(each)]
        return live, [each for each in changes if each not in live]

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
