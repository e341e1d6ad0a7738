"""The mark of the policy call that is under way, for a watch that interrupts the thread which calls policies."""

from __future__ import annotations

from typing import NamedTuple


class PolicyHung(BaseException):
    """Raised within a call of a policy that does not return, by the watch; it says where the call was.

    No Exception, because the policy may catch those.
    """


class Call(NamedTuple):
    """A call of a policy: whose it is, and what ends it."""

    process_id: int
    """0: a policy of no process, made to check it, or of a simulation."""
    kind: str
    hung: type[BaseException] = PolicyHung
    """What a watch raises within the call to end it."""


class Running:
    """`call` is the call that began last while the core handles an event, which may have ended; None between events.

    Each call puts its mark there as it begins. So a mark that the watch itself puts there is found again as long as no
    other call begins, and calls need no numbers. None at the end of each call would double the cost, and no event lasts
    long without a call that does not return.
    """

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Call | None = None
