"""The pressure on a session, and who is to be told when it passes which threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from lib_usm.errors import LimitExceeded
from usm_wire.conventions import MAX_PRESSURE_THRESHOLDS
from usm_wire.pb.usm.v1 import client_pb2


class Pressure(NamedTuple):
    """How much of the last 10 seconds faults of the session waited, as an average that decays.

    `above`: that has risen to the threshold; False: it has fallen below three quarters of it. `some`: the share of
    time, from 0 to 1, in which at least one fault waited. `full`: in which one waited, and no thread of the program
    ran; None if usmd does not know.
    """

    above: bool
    some: float
    full: float | None


class _Mark:
    """The callbacks of a threshold, and what they were told last."""

    __slots__ = ("callbacks", "last")

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Pressure], object]] = []
        self.last: Pressure | None = None


class Thresholds:
    """The callbacks of a session by their thresholds. Its methods return the calls to be made."""

    def __init__(self) -> None:
        self._marks: dict[float, _Mark] = {}

    def __iter__(self) -> Iterator[float]:
        return iter(self._marks)

    def is_new(self, threshold: float) -> bool:
        """Whether a threshold is not there yet; raises LimitExceeded if there is no room for it."""
        if threshold in self._marks:
            return False
        if len(self._marks) >= MAX_PRESSURE_THRESHOLDS:
            raise LimitExceeded(
                f"the client has {len(self._marks)} thresholds of pressure, and {threshold:g} would be another one; "
                f"allowed are {MAX_PRESSURE_THRESHOLDS}, each with any number of callbacks"
            )
        return True

    def add(self, threshold: float, callback: Callable[[Pressure], object]) -> list[Callable[[], object]]:
        """Add a callback, which is called at once if the pressure is above the threshold already."""
        mark = self._marks.setdefault(threshold, _Mark())
        mark.callbacks.append(callback)
        return [partial(callback, mark.last)] if mark.last is not None and mark.last.above else []

    def told(self, notice: client_pb2.PressureNotice) -> list[Callable[[], object]]:
        """The daemon tells of a threshold: of each change once, even if a stream that was opened again repeats it."""
        mark = self._marks.get(notice.threshold)
        if mark is None or notice.above == (mark.last is not None and mark.last.above):
            return []
        full = notice.full_avg10 if notice.HasField("full_avg10") else None
        mark.last = Pressure(notice.above, notice.some_avg10, full)
        return [partial(callback, mark.last) for callback in mark.callbacks]
