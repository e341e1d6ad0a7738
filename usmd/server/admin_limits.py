"""Limits of live processes and of users, as an operator sets them: shares become pages, and a change is whole."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Literal

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.core import events
from usmd.core.region import NO_MAX, Process
from usmd.errors import ConfigError, InvalidArgument, NotFound, UsmdError
from usmd.policy_rules import PolicyNames
from usmd.server.admission import Context
from usmd.server.engine import Engine
from usmd.server.user_limits import limits_of_user

NONE = "none"
"""Text that removes a limit."""
Limit = Literal["memory_max", "memory_min", "memory_weight", "swap_max"]
LIMITS: Final[tuple[Limit, ...]] = ("memory_max", "memory_min", "memory_weight", "swap_max")
UserLimit = Literal["max_sessions", "memory_max", "memory_min", "swap_max"]
USER_LIMITS: Final[tuple[UserLimit, ...]] = ("max_sessions", "memory_max", "memory_min", "swap_max")
MOST_SESSIONS: Final = 1_000_000
Request = admin_pb2.SetLimitsRequest | admin_pb2.SetUserLimitsRequest
Pages = tuple[int | None, int | None, int]


def limits_of(process: Process) -> events.SetLimits:
    """The event that would give a process the limits that it has."""
    return events.SetLimits(
        process.process_id,
        None if process.own_memory_max == NO_MAX else process.own_memory_max,
        None if process.own_swap_max == NO_MAX else process.own_swap_max,
        process.own_memory_min,
        process.weight,
    )


def _message(limits: events.SetLimits) -> admin_pb2.ProcessLimits:
    return admin_pb2.ProcessLimits(
        memory_max_pages=limits.memory_max,
        memory_min_pages=limits.memory_min,
        memory_weight=limits.memory_weight,
        swap_max_pages=limits.swap_max,
    )


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
        before = [limits_of(process) for process in processes]
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
        return events.SetLimits(now.process_id, *pages, weight)

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
        sessions = before.max_sessions
        if request.HasField("max_sessions"):
            text = request.max_sessions
            if text != NONE and not (text.isascii() and text.isdigit() and int(text) <= MOST_SESSIONS):
                raise InvalidArgument(
                    f"max_sessions = {text!r}; allowed is a whole number from 0 to {MOST_SESSIONS}, or {NONE}"
                )
            sessions = None if text == NONE else int(text)
        pages = self._pages(request, (before.memory_max, before.swap_max, before.memory_min))
        after = events.SetUserLimits(request.uid, sessions, *pages)
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
