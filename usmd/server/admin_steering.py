"""What an operator may change of a running process: its policies and its hints."""

from __future__ import annotations

from contextlib import suppress

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.core import commands, events, report
from usmd.core.mapping import KINDS
from usmd.errors import InvalidArgument, OutOfRange, UsmdError
from usmd.server.engine import Engine
from usmd.server.policy_changes import PolicyChange
from usmd.server.policy_check import check_policy


class Steering:
    """Changes, each whole or not at all."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set_policies(self, process_id: int, wanted: dict[str, str]) -> list[PolicyChange]:
        """Replace policies of a process, by kind; returns the changes.

        All are tried first. Raises NotFound, UnknownPolicy or InvalidArgument, and has then changed nothing.
        """
        state = self._engine.core.state
        process = state.process(process_id)
        if not wanted:
            raise InvalidArgument(f"no policy is given; give at least one of {', '.join(KINDS)}")
        for kind, specification in wanted.items():
            check_policy(kind, specification, state.running)
        done: list[PolicyChange] = []
        for kind, specification in wanted.items():
            before = process.policies.specifications[kind]
            try:
                self._engine.submit(events.SetPolicy(process_id, kind, specification))
            except UsmdError:
                for change in reversed(done):
                    with suppress(UsmdError):  # one that had misbehaved cannot come back
                        self._engine.submit(events.SetPolicy(process_id, change.kind, change.before))
                raise
            done.append(PolicyChange(kind, before, specification, self._engine.now()))
        return done

    def clear_hints(
        self, process_id: int, start: admin_pb2.RegionOffset, length: int | None
    ) -> admin_pb2.ClearHintsResponse:
        """Remove the hints of a range of bytes; raises NotFound or OutOfRange, and has then changed nothing."""
        process = self._engine.core.state.process(process_id)
        region = report.find_region(process, start.region_id, start.region_name)
        if start.offset >= region.length:
            raise OutOfRange(f"offset {start.offset} of region {region.region_id}, which has {region.length} bytes")
        page_size = self._engine.core.state.settings.page_size
        end = region.length if length is None else start.offset + length
        first, last = start.offset // page_size, -(-end // page_size)
        met = sum(1 for each in region.hints if each.first < last and each.end > first)
        answer = self._engine.submit(events.SetHint(process_id, region.region_id, start.offset, length, None))
        if not isinstance(answer, commands.HintSet):
            raise TypeError(f"the core answered {answer!r} to SetHint")
        self._engine.on_notice(
            commands.Notice(
                "hints_cleared",
                process_id,
                f"an operator removed {met} hint ranges of pages {first} to {last - 1} of region {region.region_id}",
                {"region_id": str(region.region_id), "hint_ranges": str(met)},
            )
        )
        return admin_pb2.ClearHintsResponse(
            region_id=region.region_id, first_page=answer.first_page, page_count=answer.page_count, hint_ranges=met
        )
