"""What a fault brings: frames at once, or a token to wait for. Failures are errors, see lib_usm.errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from lib_usm.pb.usm.v1 import client_pb2


class FrameRun(NamedTuple):
    """Contiguous pages on contiguous frames. Pages are counted from the start of the region."""

    first_page: int
    first_frame: int
    page_count: int


class Allocated:
    """The pages of a fault are resident, perhaps with neighbours that came along (flexible huge pages)."""

    __slots__ = ("_message",)

    def __init__(self, message: client_pb2.Allocated) -> None:
        # The message is kept as it came: most callers never look at the frames.
        self._message = message

    @property
    def runs(self) -> tuple[FrameRun, ...]:
        """Where the pages are: runs of pages on runs of frames."""
        return tuple(FrameRun(run.first_page, run.first_frame, run.page_count) for run in self._message.runs)

    def __repr__(self) -> str:
        return f"Allocated(runs={self.runs!r})"


@dataclass(frozen=True, slots=True)
class Yielded:
    """USM_YIELD: the pages are being fetched. Run something else, then `client.wait(token)`."""

    token: int


Outcome: TypeAlias = Allocated | Yielded
