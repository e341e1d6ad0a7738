"""Changes of the policies of live processes since their sessions began, taken from the core's notices."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from usmd.core.commands import Notice

CAME_BACK = "came back"
"""`did` of a policy that is in force again after another took its place."""


class PolicyChange(msgspec.Struct, frozen=True):
    """At `time`, `after` took the place of `before`; `misbehaved`: because of what `before` `did`.

    Without `misbehaved` an operator set it, or it came back: then `did` is CAME_BACK.
    """

    kind: str
    before: str
    after: str
    time: float
    misbehaved: bool = False
    errors: int = 0
    did: str = ""


class PolicyChanges:
    """The last change of each kind of policy of each process that lives. `clock`: seconds, of the engine."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changes: dict[int, dict[str, PolicyChange]] = {}

    def hear(self, notice: Notice) -> None:
        """Record a notice, if it is about a change."""
        fields = notice.fields
        if notice.kind == "policy_set":
            kind, after = fields["policy_kind"], fields["policy"]
            change = PolicyChange(kind, fields["before"], after, self._clock())
        elif notice.kind == "policy_restored":
            kind, after = fields["policy_kind"], fields["policy"]
            change = PolicyChange(kind, fields["before"], after, self._clock(), did=CAME_BACK)
        elif notice.kind == "policy_replaced":
            errors, did = int(fields["errors"]), fields["did"]
            kind, after = fields["policy_kind"], fields["replaced_by"]
            change = PolicyChange(kind, fields["policy"], after, self._clock(), True, errors, did)
        else:
            if notice.kind in ("process_detached", "process_killed"):
                self._changes.pop(notice.process_id, None)
            return
        self._changes.setdefault(notice.process_id, {})[change.kind] = change

    def last(self, process_id: int, kind: str) -> PolicyChange | None:
        """The last change of a process's policy of a kind; None if it has its first one."""
        return self._changes.get(process_id, {}).get(kind)
