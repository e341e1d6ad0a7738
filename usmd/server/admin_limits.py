"""Limits of live processes, as an operator sets them: shares become pages, and a change is whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Literal

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.core import events
from usmd.core.region import NO_MAX, Process
from usmd.errors import ConfigError, InvalidArgument, NotFound, UsmdError
from usmd.policy_rules import PolicyNames
from usmd.server.engine import Engine

NONE = "none"
"""Text that removes a limit."""
Limit = Literal["memory_max", "memory_min", "memory_weight", "swap_max"]
LIMITS: Final[tuple[Limit, ...]] = ("memory_max", "memory_min", "memory_weight", "swap_max")


def limits_of(process: Process) -> events.SetLimits:
    """The event that would give a process the limits that it has."""
    return events.SetLimits(
        process.process_id,
        None if process.memory_max == NO_MAX else process.memory_max,
        None if process.swap_max == NO_MAX else process.swap_max,
        process.memory_min,
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
        state = self._engine.core.state
        frames, size = state.settings.frames, state.settings.page_size

        def text(name: str) -> str | None:
            given: str = getattr(request, name)
            return None if given == NONE else given

        memory_max, swap_max, memory_min = now.memory_max, now.swap_max, now.memory_min
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
        weight = request.memory_weight if request.HasField("memory_weight") else now.memory_weight
        return events.SetLimits(now.process_id, memory_max, swap_max, memory_min, weight)
