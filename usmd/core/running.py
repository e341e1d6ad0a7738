"""The mark of the policy call under way, for a watch that interrupts a call that does not return."""

from __future__ import annotations

from typing import NamedTuple

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class PolicyHung(BaseException):
    """Raised by the watch within a policy call that does not return; its text says where the call was.

    Not an Exception, because the policy may catch those.
    """


class Call(NamedTuple):
    """The mark of a policy call: the process and the kind of the policy, and the exception that ends the call."""

    process_id: int
    """0: a policy without a process, made for a check or a simulation."""
    kind: str
    hung: type[BaseException] = PolicyHung
    """The exception that a watch raises within the call to end it."""


class Running:
    """`call`: mark of the policy call that began last in the event being handled; None between events.

    The call may have ended: clearing the mark after each call would double the cost, and no event takes long without a
    call that does not return. Each call sets its mark when it begins. So a watch puts a mark of its own there, and if
    it finds that again, no other call has begun.
    """

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Call | None = None
