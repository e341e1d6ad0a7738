"""Limits of live processes and of users, as an operator sets them: shares become pages, and a change is whole."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Literal

import msgspec

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.config_values import frames_of
from usmd.core import events
from usmd.core.quotas import quotas_of
from usmd.core.region import Process, limit_or_none
from usmd.core.settings import CoreSettings
from usmd.errors import ConfigError, InvalidArgument, NotFound, UsmdError
from usmd.policy_rules import PolicyNames
from usmd.server.admission import Context
from usmd.server.engine import Engine
from usmd.server.user_limits import limits_of_user

NONE = "none"
"""Text that removes a limit."""
Quota = Literal["max_faults", "max_hint_ranges", "max_regions"]
QUOTAS: Final[tuple[Quota, ...]] = ("max_faults", "max_hint_ranges", "max_regions")
"""Limits of a process that are numbers."""
Limit = Literal["memory_max", "memory_min", "memory_weight", "swap_max", "deny_budget", Quota]
LIMITS: Final[tuple[Limit, ...]] = ("memory_max", "memory_min", "memory_weight", "swap_max", "deny_budget", *QUOTAS)
UserNumber = Literal["max_sessions", "memory_weight", Quota]
USER_NUMBERS: Final[tuple[UserNumber, ...]] = ("max_sessions", "memory_weight", *QUOTAS)
"""Limits of a user that are numbers."""
UserLimit = Literal["memory_max", "memory_min", "swap_max", UserNumber]
USER_LIMITS: Final[tuple[UserLimit, ...]] = ("memory_max", "memory_min", "swap_max", *USER_NUMBERS)
MOST: Final = 1_000_000
"""Largest number that a limit may be."""
Request = admin_pb2.SetLimitsRequest | admin_pb2.SetUserLimitsRequest
Pages = tuple[int | None, int | None, int]


def limits_of(process: Process, settings: CoreSettings) -> events.SetLimits:
    """The event that would give a process the limits that it has."""
    return events.SetLimits(
        process.process_id,
        limit_or_none(process.own_memory_max),
        limit_or_none(process.own_swap_max),
        process.own_memory_min,
        process.weight,
        quotas_of(process, settings),
    )


def _message(limits: events.SetLimits) -> admin_pb2.ProcessLimits:
    return admin_pb2.ProcessLimits(
        memory_max_pages=limits.memory_max,
        memory_min_pages=limits.memory_min,
        memory_weight=limits.memory_weight,
        swap_max_pages=limits.swap_max,
        max_regions=limits.quotas.max_regions,
        max_hint_ranges=limits.quotas.max_hint_ranges,
        max_faults=limits.quotas.max_faults,
        deny_budget_pages=limits.quotas.deny_budget,
    )


def _number(name: str, text: str) -> int | None:
    """The number in the text of a limit; None: no limit. Raises InvalidArgument."""
    if text == NONE:
        return None
    if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and int(text) <= MOST:
        return int(text)
    raise InvalidArgument(f"{name} = {text!r}; allowed is a whole number from 0 to {MOST}, or {NONE}")


class LimitSetting:
    """Sets limits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set(self, request: admin_pb2.SetLimitsRequest) -> admin_pb2.SetLimitsResponse:
        """Set limits of one process, or of all of a user; returns the changes.

        Raises NotFound, InvalidArgument or LimitExceeded, and has then changed nothing.
        """
        if not any(request.HasField(name) for name in LIMITS):
            raise InvalidArgument(f"no limit is given; give at least one of {', '.join(LIMITS)}")
        processes = self._chosen(request)
        before = [limits_of(process, self._engine.core.state.settings) for process in processes]
        wanted = [self._wanted(request, limits) for limits in before]
        for index, limits in enumerate(wanted):
            try:
                self._engine.submit(limits)
            except UsmdError:
                for old in reversed(before[:index]):
                    with suppress(UsmdError):  # pages may have gone to swap meanwhile, above an old swap_max
                        self._engine.submit(old)
                raise
        return admin_pb2.SetLimitsResponse(
            changes=[
                admin_pb2.LimitsChange(
                    process_id=process.process_id, name=process.name, before=_message(old), after=_message(new)
                )
                for process, old, new in zip(processes, before, wanted, strict=True)
            ]
        )

    def _chosen(self, request: admin_pb2.SetLimitsRequest) -> list[Process]:
        state = self._engine.core.state
        whose = request.WhichOneof("whose")
        if whose is None:
            raise InvalidArgument("no process is given; give the number of one, or a user")
        if whose == "process_id":
            return [state.process(request.process_id)]
        found = [process for process in state.processes.values() if process.uid == request.uid]
        if not found:
            raise NotFound(f"user {request.uid} has no process; `usmctl processes` lists those there are")
        return found

    def _wanted(self, request: admin_pb2.SetLimitsRequest, now: events.SetLimits) -> events.SetLimits:
        pages = self._pages(request, (now.memory_max, now.swap_max, now.memory_min))
        weight = request.memory_weight if request.HasField("memory_weight") else now.memory_weight
        return events.SetLimits(now.process_id, *pages, weight, self._quotas(request, now.quotas))

    def _quotas(self, request: admin_pb2.SetLimitsRequest, now: events.Quotas) -> events.Quotas:
        changed: dict[str, int | None] = {
            name: _number(name, getattr(request, name)) for name in QUOTAS if request.HasField(name)
        }
        if request.HasField("deny_budget"):
            text, settings = request.deny_budget, self._engine.core.state.settings
            try:
                changed["deny_budget"] = None if text == NONE else frames_of(text, settings.frames, settings.page_size)
            except ConfigError as error:
                raise InvalidArgument(f"deny_budget = {text!r}: {error}") from error
        return msgspec.structs.replace(now, **changed)

    def _pages(self, request: Request, now: Pages) -> Pages:
        """`memory_max`, `swap_max` and `memory_min` in pages; those of `now` where a request has none."""
        state = self._engine.core.state
        frames, size = state.settings.frames, state.settings.page_size

        def text(name: str) -> str | None:
            given: str = getattr(request, name)
            return None if given == NONE else given

        memory_max, swap_max, memory_min = now
        names = PolicyNames(
            alloc="", evict="", oom="",
            memory_max=text("memory_max"), swap_max=text("swap_max"), memory_min=text("memory_min"),
        )  # fmt: skip
        name = ""
        try:
            if request.HasField(name := "memory_max"):
                memory_max = names.memory_frames(frames, size)
            if request.HasField(name := "memory_min"):
                memory_min = names.guaranteed_frames(frames, size)
            if request.HasField(name := "swap_max"):
                swap_max = names.swap_pages(state.swap.slots, size)
        except ConfigError as error:
            raise InvalidArgument(f"{name} = {getattr(request, name)!r}: {error}") from error
        return memory_max, swap_max, memory_min

    def set_user(self, request: admin_pb2.SetUserLimitsRequest) -> admin_pb2.SetUserLimitsResponse:
        """Set limits of a user. Raises InvalidArgument or LimitExceeded, and has then changed nothing."""
        if not any(request.HasField(name) for name in USER_LIMITS):
            raise InvalidArgument(f"no limit is given; give at least one of {', '.join(USER_LIMITS)}")
        before = limits_of_user(request.uid, self._engine.core.state)
        numbers = {name: _number(name, getattr(request, name)) for name in USER_NUMBERS if request.HasField(name)}
        pages = self._pages(request, (before.memory_max, before.swap_max, before.memory_min))
        memory_max, swap_max, memory_min = pages
        after = msgspec.structs.replace(
            before, memory_max=memory_max, swap_max=swap_max, memory_min=memory_min, **numbers
        )
        self._engine.submit(after)
        return admin_pb2.SetUserLimitsResponse(uid=request.uid, before=_of_user(before), after=_of_user(after))

    def users(self) -> admin_pb2.ListUsersResponse:
        """Users with limits."""
        state = self._engine.core.state
        return admin_pb2.ListUsersResponse(
            users=[
                admin_pb2.UserInfo(
                    uid=uid,
                    sessions=len(user.processes),
                    resident_pages=user.resident,
                    swap_max_used_pages=user.stored,
                    refused_faults=user.refusals,
                    regions=user.regions,
                    hint_ranges=user.hint_ranges,
                    waiting_pages=user.missing,
                    limits=_of_user(limits_of_user(uid, state)),
                )
                for uid, user in sorted(state.users.of.items())
            ]
        )


def _of_user(limits: events.SetUserLimits) -> admin_pb2.UserLimits:
    return admin_pb2.UserLimits(
        max_sessions=limits.max_sessions,
        memory_max_pages=limits.memory_max,
        memory_min_pages=limits.memory_min,
        swap_max_pages=limits.swap_max,
        memory_weight=limits.memory_weight,
        max_regions=limits.max_regions,
        max_hint_ranges=limits.max_hint_ranges,
        max_faults=limits.max_faults,
    )


class LimitCalls:
    """The calls of the admin service about limits."""

    def __init__(self, engine: Engine) -> None:
        self._limits = LimitSetting(engine)

    async def SetLimits(  # noqa: N802
        self, request: admin_pb2.SetLimitsRequest, context: Context
    ) -> admin_pb2.SetLimitsResponse:
        """Give live processes other limits."""
        del context
        return self._limits.set(request)

    async def ListUsers(  # noqa: N802
        self, request: admin_pb2.ListUsersRequest, context: Context
    ) -> admin_pb2.ListUsersResponse:
        """Users with limits."""
        del request, context
        return self._limits.users()

    async def SetUserLimits(  # noqa: N802
        self, request: admin_pb2.SetUserLimitsRequest, context: Context
    ) -> admin_pb2.SetUserLimitsResponse:
        """Give a user other limits."""
        del context
        return self._limits.set_user(request)
