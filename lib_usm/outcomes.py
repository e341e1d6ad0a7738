"""The outcome of a fault: frames at once, a token to wait for, or an error of lib_usm.errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from lib_usm.errors import InternalError, UsmError, again, error_of_failure
from usm_wire.pb.usm.v1 import client_pb2


class FrameRun(NamedTuple):
    """Contiguous pages on contiguous frames. Pages are counted from the start of the region."""

    first_page: int
    first_frame: int
    page_count: int


class Allocated:
    """The pages of a fault are resident, perhaps with neighbours that flexible huge pages brought in."""

    __slots__ = ("_found",)

    def __init__(self, found: client_pb2.Allocated | tuple[int, int]) -> None:
        """`found`: the daemon's message, or a page and its frame."""
        # It is not converted yet: most callers never look at the frames.
        self._found = found

    @property
    def runs(self) -> tuple[FrameRun, ...]:
        """Where the pages are: each run is pages on frames."""
        if isinstance(self._found, tuple):
            return (FrameRun(*self._found, 1),)
        return tuple(FrameRun(run.first_page, run.first_frame, run.page_count) for run in self._found.runs)

    def __repr__(self) -> str:
        return f"Allocated(runs={self.runs!r})"


@dataclass(frozen=True, slots=True)
class Yielded:
    """USM_YIELD: the pages are being fetched. Run something else, then `client.wait(token)`."""

    token: int


Outcome: TypeAlias = Allocated | Yielded
Answer: TypeAlias = Allocated | Yielded | UsmError
"""An outcome, or the error of the fault."""


def decoded(outcome: client_pb2.Outcome) -> Answer:
    """Convert the daemon's outcome of a fault."""
    if outcome.HasField("allocated"):
        return Allocated(outcome.allocated)
    if outcome.HasField("yielded"):
        return Yielded(outcome.yielded.yield_token)
    if outcome.HasField("failure"):
        return error_of_failure(outcome.failure)
    return InternalError("a fault was answered without an outcome; use a lib_usm of usmd's version")


def allocated(answer: Answer) -> Allocated:
    """The Allocated of a fault whose yields were waited for. Raises its error, or InternalError for a yield."""
    if isinstance(answer, Allocated):
        return answer
    if isinstance(answer, UsmError):
        raise again(answer)
    raise InternalError(f"{answer} is not an answer to a fault that waits")
