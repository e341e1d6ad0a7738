"""The event log as data: a header, then a line of JSON for each event that a core handled.

A record holds all that the core reads from outside: the event, its time, and the readings of the clocks that time calls
of policies. It also has digests of the results: the commands of each event, and at intervals a part of the state.
usmd.lab.event_replay handles the events again and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any, Final

import msgspec
import xxhash

from usmd import errors
from usmd.core import commands, events
from usmd.core.machine import Core
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.errors import EventLogError, UsmdError
from usmd.version import VERSION

FORMAT: Final = 2
"""Version of the records; no other version is read."""
MARK: Final = b'{"usmd_events":'
"""First bytes of every event log."""
STATE_EVERY: Final = 1024
"""Number of events between two digests of the state."""
STATE_PART: Final = 1 << 16
"""Number of frames in a digest of the state; the next digest covers the next part."""
_DID_NOT_RETURN: Final = "did not return from a call"
"""The field `did` of a notice about a policy that was replaced because it hung."""
_DIGEST_MASK: Final = (1 << 32) - 1


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. `usmd_events`: FORMAT; `version`: the usmd that wrote it.

    `complete`: the log begins with the first event that the core handled; otherwise it cannot be replayed.
    """

    usmd_events: int
    version: str
    complete: bool
    settings: CoreSettings
    devices: tuple[DeviceInfo, ...]


class End(msgspec.Struct, frozen=True):
    """The last line of a log that stopped before its daemon, with the reason."""

    stopped: str


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An event that was handled at `now`, and its results.

    `digest`: of its commands, or of the type of the error that it raised; None: not taken. `readings`: of the clocks
    that time calls of policies, in seconds, in the order of their use. `state`: a digest of part of the state after the
    event; None: not taken. `hung`: a call of a policy was ended from outside, which cannot be replayed.
    """

    now: float
    event: events.Event
    digest: int | None = None
    readings: Sequence[float] = ()
    state: int | None = None
    hung: bool = False


def _types(module: object, base: type) -> dict[str, type]:
    """The subclasses of `base` that a module defines, by name."""
    return {name: each for name, each in vars(module).items() if isinstance(each, type) and issubclass(each, base)}


_ERRORS: Final = _types(errors, UsmdError)


def _plain(value: object) -> object:
    """The form of an error, or of a sequence that is not a list. Raises NotImplementedError for anything else."""
    if isinstance(value, UsmdError):
        name = next(each.__name__ for each in type(value).__mro__ if each.__name__ in _ERRORS)
        return [name, str(value)]
    if isinstance(value, Iterable):
        return list(value)
    raise NotImplementedError(f"an event log has no form for {type(value).__name__}")


def _unplain(kind: type, value: object) -> object:
    """Read an error back. Raises ValueError for anything else."""
    if kind is UsmdError and isinstance(value, list) and len(value) == 2 and value[0] in _ERRORS:
        return _ERRORS[value[0]](value[1])
    raise ValueError(f"{value!r} is not an error of usmd")


_event: Any = reduce(or_, (each for each in _types(events, events.Event).values() if each is not events.Event))
_record: Any = msgspec.defstruct("_TypedRecord", [("event", _event)], bases=(Record,), frozen=True, array_like=True)
_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)
_digester: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_record_decoder: Final = msgspec.json.Decoder(_record, dec_hook=_unplain)
_header_decoder: Final = msgspec.json.Decoder(Header)
_end_decoder: Final = msgspec.json.Decoder(End)


def header_line(settings: CoreSettings, devices: Sequence[DeviceInfo], *, complete: bool) -> bytes:
    """The first line of the log of a core with these settings and devices."""
    header = Header(
        usmd_events=FORMAT, version=VERSION, complete=complete, settings=settings, devices=tuple(devices)
    )  # fmt: skip
    return _encoder.encode(header) + b"\n"


def end_line(why: str) -> bytes:
    """The last line of a log that stops early."""
    return _encoder.encode(End(why)) + b"\n"


def record_line(record: Record) -> bytes:
    """The line of an event. Raises NotImplementedError or a msgspec error if a value of the event has no form."""
    return _encoder.encode(record) + b"\n"


def read_header(line: bytes) -> Header:
    """Read the first line. Raises EventLogError."""
    if not line.startswith(MARK):
        raise EventLogError(f"line 1 is {line[:40]!r}; allowed is a file that usmd serve --trace-events wrote")
    try:
        header = _header_decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise EventLogError(f"line 1 is not the header of an event log: {error}") from error
    if header.usmd_events != FORMAT:
        raise EventLogError(
            f"line 1: an event log of version {header.usmd_events}, by usmd {header.version}; this is usmd {VERSION}, "
            f"which reads version {FORMAT}"
        )
    return header


def read_record(line: bytes) -> Record | End:
    """Read a record, or the end of the log. Raises EventLogError."""
    try:
        found: Record | End = (_end_decoder if line.startswith(b"{") else _record_decoder).decode(line)
    except msgspec.MsgspecError as error:
        raise EventLogError(f"{line[:60]!r} is not an event of usmd {VERSION}: {error}") from error
    return found


def digest_of(todo: Sequence[commands.Command]) -> int:
    """32 bits of the commands of an event.

    Of a notice only kind and process: its text may contain an object's address.
    """
    if todo and type(todo[-1]) is commands.Notice:
        told = [(each.kind, each.process_id) if isinstance(each, commands.Notice) else each for each in todo]
        return xxhash.xxh3_64_intdigest(_digester.encode(told)) & _DIGEST_MASK
    return xxhash.xxh3_64_intdigest(_digester.encode(todo)) & _DIGEST_MASK


def digest_of_error(error: Exception) -> int:
    """32 bits of the error that an event raised."""
    return xxhash.xxh3_64_intdigest(type(error).__name__.encode()) & _DIGEST_MASK


def digest_of_state(core: Core, number: int) -> int:
    """32 bits of the state after event `number`: one part of the frames in turn, and all counts.

    A part is bounded, because the daemon waits for the digest: about 0.1 ms.
    """
    state, frames = core.state, core.state.frames
    parts = -(-frames.count // STATE_PART)
    start = number // STATE_EVERY % parts * STATE_PART
    digest = xxhash.xxh3_64()
    for table in (frames.state, frames.flags, frames.page, frames.slot):
        digest.update(memoryview(table)[start : start + STATE_PART])
    resident = sum(each.resident for each in state.processes.values())
    swapped = sum(each.swapped for each in state.regions.values())
    numbers = [frames.free, resident, swapped, len(state.processes), len(state.regions)]
    numbers += [each.free for each in state.swap.devices]
    digest.update(_digester.encode([numbers, state.totals().as_dict()]))
    return digest.intdigest() & _DIGEST_MASK


class Recorder:
    """Passes events to a core, and appends a line for each to `out`.

    `failure`: why a handled event has no line in `out`; the log is useless from there on.
    """

    def __init__(self, out: bytearray) -> None:
        self.out = out
        self.handled = 0
        self.failure: Exception | None = None
        self._readings: list[float] = []

    def clock(self, clock: Callable[[], float]) -> Callable[[], float]:
        """A clock for policy calls that returns and records the readings of `clock`."""
        readings = self._readings

        def read() -> float:
            reading = clock()
            readings.append(reading)
            return reading

        return read

    def handle(self, core: Core, event: events.Event, now: float) -> list[commands.Command]:
        """The commands of an event. Raises what the core raises."""
        readings = self._readings
        if readings:  # from calls between two events
            del readings[:]
        try:
            todo = core.handle(event, now)
        except Exception as error:
            self._record(core, event, now, [], error)
            raise
        self._record(core, event, now, todo, None)
        return todo

    def _record(
        self, core: Core, event: events.Event, now: float, todo: list[commands.Command], error: Exception | None
    ) -> None:
        self.handled += 1
        try:
            digest = digest_of(todo) if error is None else digest_of_error(error)
            state = digest_of_state(core, self.handled) if self.handled % STATE_EVERY == 0 else None
            record = Record(now, event, digest, self._readings, state, _hung(core, todo))
            _encoder.encode_into(record, self.out, -1)
        except Exception as failure:  # noqa: BLE001 - the owner of the log stops it; the event is not affected
            self.failure = failure
            return
        self.out += b"\n"


def _hung(core: Core, todo: Sequence[commands.Command]) -> bool:
    """True if in this event a policy's call was ended from outside, so that the policy is or will be replaced."""
    if any(process.policies.blame.hung for process in core.state.misbehaving):
        return True
    if not todo or type(todo[-1]) is not commands.Notice:
        return False
    return any(isinstance(each, commands.Notice) and each.fields.get("did") == _DID_NOT_RETURN for each in todo)
