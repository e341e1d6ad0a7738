"""A swap device of two others: a far one, which is read, and a local one, which has all pages whatever that does.

A page is written once the local part has it; the far part gets it a moment later (usmd.swap.far_writer). A page is read
from the far part, and from the local one if the far one lacks it, fails, is late, or returns other bytes. What one part
lacks is repaired from the other in the background (the local one by usmd.swap.local_repair). Both parts keep
the number of the write as the generation of the bytes (usmd.swap.copies), so neither returns older ones, and the
checksum of the whole page is verified here once more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, ClassVar, Final, NamedTuple, Self

import msgspec

from usmd import config_values as values
from usmd.errors import ConfigError, DataLoss, SwapIOError, UsmdError
from usmd.sizes import format_size
from usmd.swap import kinds
from usmd.swap.base import Results, SlotIO, SwapDevice, Usage
from usmd.swap.copies import ALONE, BEHIND, BOTH, COMING, FAR, Copies
from usmd.swap.far_writer import FarWriter, fresh_entries, part_entry
from usmd.swap.in_time import InTime, Late
from usmd.swap.kind import SwapKind
from usmd.swap.local_repair import LocalRepair
from usmd.swap.open import parse_swap_spec
from usmd.swap.part_thread import Parts
from usmd.swap.reachable import Reachable
from usmd.swap.tables import read_device, show_device

LATE_SECONDS: Final = 0.1
REPAIR_RATE: Final = 32 << 20
CLOSE_SECONDS: Final = 1.0
"""How long a far part with a late call may take to close."""


class MirrorStatus(NamedTuple):
    """How the parts of a mirror stand. Pages are counted."""

    parts: tuple[str, str]
    """The kinds of the far and of the local part."""
    away: bool
    """The far part does not answer."""
    coming: int
    """Copies of these pages wait in memory to be written to the far part."""
    to_repair: int
    """One of the parts lacks these pages, and gets them from the other."""
    local_only: int
    """It lacks these and does not get them, because it refused them, or the local part cannot read them."""
    fallbacks: int
    """Reads of a page since the start that the far part was to answer, and the local one did."""
    repaired: int
    """Pages that were repaired since the start."""
    why: str
    """Why it is away; empty: it is not."""

    @property
    def in_step(self) -> bool:
        """Whether the far part answers, and both have all that they take, as far as is known."""
        return not self.away and not self.to_repair


class MirrorSwapDevice(SwapDevice):
    """As many slots as both parts have, whose pages are as large. The mirror closes its parts.

    `late`: seconds after which a read of the far part counts as failed, and a write tells that it is away.
    `repair_rate`: bytes of repairs a second.
    """

    kind: ClassVar[str] = "mirror"
    read_jobs: ClassVar[int] = 4

    def __init__(
        self,
        *,
        number: int,
        name: str,
        far: SwapDevice,
        local: SwapDevice,
        late: float = LATE_SECONDS,
        repair_rate: int = REPAIR_RATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        slots = min(far.slots, local.slots)
        super().__init__(number=number, name=name, path=local.path, slots=slots, page_size=local.page_size)
        self.patience = max(far.patience, local.patience)
        self._far = far
        self._local = local
        self._late = late
        self._clock = clock
        self._copies = Copies(slots)
        self._reachable = Reachable()
        self._fallbacks = 0
        self._calls: InTime[tuple[Results, list[SlotIO]]] = InTime(f"usmd-{far.name}", self.read_jobs)
        parts = Parts(far, local, self._copies, self._reachable, repair_rate, clock)
        self._writer = FarWriter(parts)
        self._repair = LocalRepair(parts)

    def status(self) -> MirrorStatus:
        """How the parts stand; never waits."""
        away = self._is_away()
        copies = self._copies
        return MirrorStatus(
            parts=(self._far.kind, self._local.kind),
            away=away,
            coming=copies.count(COMING),
            to_repair=copies.count(BEHIND) + copies.count(FAR) + (copies.count(COMING) if away else 0),
            local_only=copies.count(ALONE),
            fallbacks=self._fallbacks,
            repaired=self._writer.repaired + self._repair.repaired,
            why=self._reachable.why,
        )

    def usage(self, pages: int) -> Usage:
        """What the local part holds, of as much as both parts take."""
        usage = self._local.usage(pages)
        return usage._replace(capacity=min(usage.capacity, self.slots * self.page_size))

    def _is_away(self) -> bool:
        """Whether the far part does not answer."""
        if not self._reachable.away and self._writer.late(self._late):
            self._reachable.failed(self._clock(), self._not_in_time("write"))
        return self._reachable.away

    def _store(self, batch: Sequence[SlotIO]) -> Results:
        numbers = self._copies.begin([entry.slot for entry in batch])
        entries = [part_entry(entry.slot, number, entry.buffer) for entry, number in zip(batch, numbers, strict=True)]
        results = self._repair.write(entries)
        self._is_away()
        self._writer.offer([entry for entry, error in zip(entries, results, strict=True) if error is None])
        return results

    def _fetch(self, batch: Sequence[SlotIO]) -> Results:
        results: Results = [None] * len(batch)
        entries = [self._of_part(entry) for entry in batch]
        states = [self._copies.state(entry.slot) for entry in entries]
        in_both = [index for index, state in enumerate(states) if state in (BOTH, FAR)]
        away = self._is_away()
        far = {} if away else self._read_far(entries, in_both)
        good = set() if away else set(in_both) - far.keys()
        local = self._read_local(entries, [index for index in range(len(entries)) if index not in good])
        if away:  # what the local part has lost, the far one is asked for all the same
            asked = [index for index in in_both if index in local]
            far = self._read_far(entries, asked)
            for index in asked:
                if index not in far:
                    self._repair.lost(entries[index].slot, entries[index].generation)
            local = {index: error for index, error in local.items() if index in far or index not in in_both}
        for index, error in local.items():
            slot = batch[index].slot
            if index in far:
                repairing = FAR in (states[index], self._copies.state(slot))
                results[index] = self._neither(slot, far[index], error, repairing=repairing)
            else:
                results[index] = self._only(slot, error)
        for index in far.keys() - local.keys():
            self._fallbacks += 1
            if not isinstance(far[index], _LateRead):
                self._writer.behind(entries[index].slot, entries[index].generation)
        return results

    def _fetch_now(self, batch: Sequence[SlotIO]) -> Results | None:
        """Each page from the part that is to be read, if none need be waited for; a thread sees to failures."""
        far: list[SlotIO] = []
        local: list[SlotIO] = []
        for entry in batch:
            is_far = self._copies.state(entry.slot) in (BOTH, FAR) and not self._reachable.away
            (far if is_far else local).append(self._of_part(entry))
        for part, entries in ((self._far, far), (self._local, local)):
            if entries:
                results = part.read_now(entries)
                if results is None or any(results):
                    return None
        return [None] * len(batch)

    def _of_part(self, entry: SlotIO) -> SlotIO:
        """The entry of a part for an entry that is to be read."""
        return part_entry(entry.slot, self._copies.number(entry.slot), entry.buffer)

    def _read_far(self, entries: Sequence[SlotIO], wanted: Sequence[int]) -> dict[int, UsmdError]:
        """Read entries by index from the far part, through memory of the call's own; the errors by index."""
        if not wanted:
            return {}
        found = [(entries[index].slot, entries[index].generation) for index in wanted]

        def read() -> tuple[Results, list[SlotIO]]:
            fresh = fresh_entries(found, self.page_size)
            return self._far.read(fresh), fresh

        try:
            results, fresh = self._calls.call(read, self._late)
        except Late:
            why = self._not_in_time("read")
            self._writer.failed_to_read(why)
            return dict.fromkeys(wanted, _LateRead(why))
        failures: dict[int, UsmdError] = {}
        for index, error, entry in zip(wanted, results, fresh, strict=True):
            if error is None:
                entries[index].buffer[:] = entry.buffer
            else:
                failures[index] = error
        if len(failures) == len(wanted) and not any(isinstance(error, DataLoss) for error in failures.values()):
            self._writer.failed_to_read(str(next(iter(failures.values()))))
        return failures

    def _read_local(self, entries: Sequence[SlotIO], wanted: Sequence[int]) -> dict[int, UsmdError]:
        """Read entries by index from the local part; the errors by index."""
        if not wanted:
            return {}
        results = self._local.read([entries[index] for index in wanted])
        return {index: error for index, error in zip(wanted, results, strict=True) if error is not None}

    def _neither(self, slot: int, far: UsmdError, local: UsmdError, *, repairing: bool) -> UsmdError:
        """The error of a page that neither part returns: lost only if both have lost it, and no repair may write it."""
        if isinstance(far, DataLoss) and isinstance(local, DataLoss) and not repairing:
            return self._lost(slot, f"neither part of the mirror has it ({far}; {local})")
        return SwapIOError(f"{self._at(slot)}: neither part of the mirror returns it ({far}; {local})")

    def _only(self, slot: int, error: UsmdError) -> UsmdError:
        """The error of a page that the local part alone has."""
        if not isinstance(error, DataLoss):
            return error
        if self._copies.state(slot) in (COMING, BOTH):  # the next try may find it in the far part
            return SwapIOError(f"{self._at(slot)}: the far part does not have it yet, and the local one has lost it")
        return self._lost(slot, f"the far part does not have it, and the local one has lost it ({error})")

    def _not_in_time(self, operation: str) -> str:
        return f"swap device {self._far.name}: a {operation} has not returned for {self._late:g} s"

    def _release(self, slots: Sequence[int]) -> None:
        self._copies.discard(slots)
        self._repair.discard(slots)
        self._writer.discard(slots)

    def _close(self) -> None:
        """Close both parts. Raises SwapIOError if a call of the far one hangs; the rest is closed all the same."""
        self._calls.close()
        ended = all([self._writer.close(CLOSE_SECONDS), self._repair.close(CLOSE_SECONDS)])
        closing = threading.Thread(target=self._far.close, name=f"usmd-{self._far.name}-close", daemon=True)
        closing.start()
        try:
            self._local.close()
        finally:
            closing.join(CLOSE_SECONDS)
        if closing.is_alive() or not ended:
            raise SwapIOError(f"swap device {self._far.name} is not closed, because a call of it has not returned")
        self._copies.close()


class _LateRead(SwapIOError):
    """The far part did not answer in time; it may have the page all the same."""


def _read_part(value: object) -> SwapKind:
    """Read the table of a part. Raises ConfigError, or ValueError if it is no table."""
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - readers refuse with ValueError, whatever the reason
    return read_device(value, "")


Part = Annotated[
    SwapKind,
    values.Kind(
        'a table with the keys kind, size, and those of its kind, for example {kind = "memory", size = "1GiB"}',
        _read_part,
        show_device,
    ),
]
"""How an operator writes a part of a mirror in the configuration."""


class MirrorKind(SwapKind, frozen=True, kw_only=True):
    """`mirror:FAR,LOCAL`, two devices as on the command line; a comma that the name of a kind follows divides them."""

    device = MirrorSwapDevice
    form: ClassVar[str] = "FAR,LOCAL"

    far: Part
    """The device that is read."""

    local: Part
    """The device that has every page."""

    size: values.Size = 0
    """Bytes of the larger part. It need not be said: there are as many slots as both parts have."""

    late: values.Seconds = LATE_SECONDS
    """Seconds after which a read of the far part counts as failed, and the local one is read. A network answers within
    milliseconds, so it is away by then; and a thread that waits for its page waits so long once."""

    repair_rate: values.Size = REPAIR_RATE
    """Bytes that are copied from one part to the other in a second, to repair it. The default leaves a network
    of 1 Gbit/s most of its bandwidth."""

    def __post_init__(self) -> None:
        for name, part in (("far", self.far), ("local", self.local)):
            if isinstance(part, MirrorKind):
                raise ConfigError(f"the part {name} of a mirror is a mirror; name two other devices")
            if part.name is not None:
                raise ConfigError(f"the part {name} of a mirror has a name, {part.name!r}; give the mirror one")
        larger = max(self.far.size, self.local.size)
        if self.size not in (0, larger):
            raise ConfigError(f"a mirror is as large as its parts, and not {format_size(self.size)}; leave out `size`")
        msgspec.structs.force_setattr(self, "size", larger)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `FAR,LOCAL`; what is behind the comma begins with the name of a kind and a colon."""
        commas = [
            index
            for index, each in enumerate(text)
            if each == "," and text[index + 1 :].partition(":")[0] in kinds.TABLE
        ]
        if len(commas) != 1:
            raise ValueError("it has no second device" if not commas else "it has more than two devices")
        return cls(far=parse_swap_spec(text[: commas[0]]), local=parse_swap_spec(text[commas[0] + 1 :]))

    def placed(self, folder: Path, number: int) -> Self:
        """The same mirror with the relative paths of its parts in `folder`."""
        far, local = (part.placed(folder, number) for part in self.parts())
        return msgspec.structs.replace(self, far=far, local=local)

    def parts(self) -> tuple[SwapKind, ...]:
        """The far and the local part."""
        return self.far, self.local

    def open(self, number: int, name: str, page_size: int) -> MirrorSwapDevice:
        """Open both parts. Raises ConfigError or SwapDeviceError, as they do; then neither is open."""
        with ExitStack() as opened:
            parts: list[SwapDevice] = []
            for part, role in zip(self.parts(), ("far", "local"), strict=True):
                parts.append(part.in_threads().open(number, f"{name}.{role}", page_size))
                opened.callback(parts[-1].close)
            device = MirrorSwapDevice(
                number=number, name=name, far=parts[0], local=parts[1], late=self.late, repair_rate=self.repair_rate
            )
            opened.pop_all()
        return device
