"""The connection to the daemon's admin socket: one method per call, with all pages of a list joined.

Errors of gRPC become messages for the operator.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar, cast
from urllib.parse import quote

import grpc

from usm_wire.conventions import REFUSAL
from usm_wire.pb.usm.v1 import admin_pb2, admin_pb2_grpc
from usmd.ctl import off_main
from usmd.ctl.off_main import Messages
from usmd.ctl.targets import LAST_ORDER, Address, Place, find_process, from_argument, in_order, parse_process
from usmd.errors import UsmdError

ANSWER_SECONDS = (
    10.0  # an inspection takes milliseconds; a daemon that takes longer is stuck, and the operator must know
)

PROBE_SECONDS = 1.0
MOST_SAID = 4096
"""Bytes that are read of a refusal."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Item = TypeVar("_Item")


class AdminError(UsmdError):
    """The daemon cannot be reached, or refuses; the message is for the operator."""


class _Page(Protocol):
    next_page_token: str


_PageT = TypeVar("_PageT", bound=_Page)


_Item_co = TypeVar("_Item_co", covariant=True)


class _Call(Protocol[_Item_co]):
    """A call that returns several messages."""

    def __iter__(self) -> Iterator[_Item_co]: ...
    def cancel(self) -> object: ...


_Explained = Callable[[Callable[[], bool]], AbstractContextManager[None]]


class Stream(Generic[_Item]):
    """Messages as they arrive, until the daemon ends the stream, perhaps with AdminError, or `cancel` is called."""

    def __init__(self, call: _Call[_Item], explained: _Explained) -> None:
        self._call = call
        self._explained = explained
        self._cancelled = False

    def __iter__(self) -> Iterator[_Item]:
        seen = False
        messages = Messages(self._call)
        try:
            with self._explained(lambda: seen):
                for message in messages:
                    seen = True
                    yield message
        except AdminError:
            if not self._cancelled:
                raise
        finally:
            self._call.cancel()
            messages.close()

    def cancel(self) -> None:
        """End the stream without an error, from any thread or signal handler."""
        self._cancelled = True
        self._call.cancel()


class Admin:
    """A connection to one daemon. Every call raises AdminError with a message for the operator."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.address = f"unix:{path}"
        self._channel = grpc.insecure_channel("unix:" + quote(os.fsencode(path)))  # gRPC decodes %XX in the path
        self._stub = admin_pb2_grpc.AdminServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        off_main.call(self._channel.close)

    def status(self) -> admin_pb2.GetStatusResponse:
        """The state of the daemon."""
        return self._call(self._stub.GetStatus, admin_pb2.GetStatusRequest())

    def processes(self, counters: Sequence[str] = ()) -> list[admin_pb2.Process]:
        """All processes, with these counters of each; none given: with all."""

        def fetch(token: str) -> admin_pb2.ListProcessesResponse:
            request = admin_pb2.ListProcessesRequest(page_token=token, counters=counters)
            return self._call(self._stub.ListProcesses, request)

        return _all_pages(fetch, lambda page: page.processes)

    def process_id(self, process: str | None) -> int:
        """The number of a process given by number, order or name; 0, which means all, for None.

        Raises InvalidArgument if the text is neither, and NotFound if no process, or several, have the name.
        """
        if process is None:
            return 0
        parsed = parse_process(process)
        if isinstance(parsed, str):
            return find_process(parsed, self.processes())
        return parsed if parsed > LAST_ORDER else in_order(parsed, self.processes())

    def process_ids(self, texts: Sequence[str]) -> list[int]:
        """The numbers of processes given by number or name; a text may have several separated by commas.

        Raises what `process_id` raises. A name may contain a comma.
        """
        names = {process.name for process in self.processes()} if texts else set()
        parts = [part for text in texts for part in ([text] if from_argument(text) in names else text.split(","))]
        return [self.process_id(part.strip()) for part in parts]

    def regions(self, process_id: int) -> list[admin_pb2.RegionInfo]:
        """All regions of a process; for 0, of all processes."""

        def fetch(token: str) -> admin_pb2.ListRegionsResponse:
            request = admin_pb2.ListRegionsRequest(process_id=process_id, page_token=token)
            return self._call(self._stub.ListRegions, request)

        return _all_pages(fetch, lambda page: page.regions)

    def policies(self) -> admin_pb2.ListPoliciesResponse:
        """All policies, and those in force for each process."""
        return self._call(self._stub.ListPolicies, admin_pb2.ListPoliciesRequest())

    def set_policy(self, process_id: int, policies: Mapping[str, str]) -> admin_pb2.SetPolicyResponse:
        """Replace policies of a process; `policies` are specifications by kind."""
        return self._call(self._stub.SetPolicy, admin_pb2.SetPolicyRequest(process_id=process_id, **policies))

    def set_limits(self, request: admin_pb2.SetLimitsRequest) -> admin_pb2.SetLimitsResponse:
        """Give live processes other limits."""
        return self._call(self._stub.SetLimits, request)

    def set_user_limits(self, request: admin_pb2.SetUserLimitsRequest) -> admin_pb2.SetUserLimitsResponse:
        """Give a user other limits."""
        return self._call(self._stub.SetUserLimits, request)

    def users(self) -> list[admin_pb2.UserInfo]:
        """Users with limits."""
        return list(self._call(self._stub.ListUsers, admin_pb2.ListUsersRequest()).users)

    def swap_devices(self) -> list[admin_pb2.SwapDevice]:
        """All swap devices."""
        return list(self._call(self._stub.ListSwapDevices, admin_pb2.ListSwapDevicesRequest()).swap_devices)

    def add_swap_device(self, device: str, name: str) -> admin_pb2.AddSwapDeviceResponse:
        """Add a swap device; waits as long as its opening takes."""
        with self._explained():
            request = admin_pb2.AddSwapDeviceRequest(device=device, name=name)
            return off_main.call(lambda: self._stub.AddSwapDevice(request))

    def retire_swap_device(self, device: str) -> Stream[admin_pb2.SwapRetirement]:
        """Retire a swap device: how far that is, until its end."""
        request = admin_pb2.RetireSwapDeviceRequest(device=device)
        return Stream(off_main.call(lambda: self._stub.RetireSwapDevice(request)), self._explained)

    def cancel_swap_retirement(self, device: str) -> admin_pb2.CancelSwapRetirementResponse:
        """Cancel a retirement."""
        return self._call(self._stub.CancelSwapRetirement, admin_pb2.CancelSwapRetirementRequest(device=device))

    def hints(self, process_id: int) -> admin_pb2.ListHintsResponse:
        """All ranges of a process with a hint in force, and the pages that it keeps; for 0, of all processes."""
        pages: list[admin_pb2.ListHintsResponse] = []

        def fetch(token: str) -> admin_pb2.ListHintsResponse:
            request = admin_pb2.ListHintsRequest(process_id=process_id, page_token=token)
            pages.append(self._call(self._stub.ListHints, request))
            return pages[-1]

        ranges = _all_pages(fetch, lambda page: page.hint_ranges)
        answer = pages[-1]
        answer.ClearField("hint_ranges")
        answer.hint_ranges.extend(ranges)
        return answer

    def clear_hints(self, process_id: int, place: Place, length: int | None) -> admin_pb2.ClearHintsResponse:
        """Remove the hints of `length` bytes (None: to the end of the region) from a place on."""
        request = admin_pb2.ClearHintsRequest(process_id=process_id, start=_region_offset(place), length=length)
        return self._call(self._stub.ClearHints, request)

    def memory_map(self, cells: int) -> admin_pb2.GetMemoryMapResponse:
        """The memory map in at most `cells` cells."""
        return self._call(self._stub.GetMemoryMap, admin_pb2.GetMemoryMapRequest(cells=cells))

    def explain(self, process_id: int, page: Address | Place) -> admin_pb2.ExplainPageResponse:
        """All that the daemon knows about one page."""
        request = admin_pb2.ExplainPageRequest(process_id=process_id)
        if isinstance(page, Address):
            request.address = page.address
        else:
            request.region_offset.CopyFrom(_region_offset(page))
        return self._call(self._stub.ExplainPage, request)

    def evictions(self, process_id: int, page: Address | Place | None, limit: int) -> admin_pb2.ListEvictionsResponse:
        """The last `limit` evictions of a process, or of one page; 0: all on record."""
        request = admin_pb2.ListEvictionsRequest(process_id=process_id, limit=limit)
        if isinstance(page, Address):
            request.address = page.address
        elif page is not None:
            request.region_offset.CopyFrom(_region_offset(page))
        return self._call(self._stub.ListEvictions, request)

    def events(self, kinds: Sequence[str] = (), process_ids: Sequence[int] = ()) -> Iterator[admin_pb2.Event]:
        """Events as they happen, of these kinds and processes (empty: of all), until the daemon ends the stream."""
        request = admin_pb2.WatchEventsRequest(kinds=kinds, process_ids=process_ids)
        return iter(Stream(off_main.call(lambda: self._stub.WatchEvents(request)), self._explained))

    def record(self, process_id: int) -> Stream[admin_pb2.RecordedAccesses]:
        """The accesses of a process, until it ends."""
        request = admin_pb2.RecordAccessesRequest(process_id=process_id)
        return Stream(off_main.call(lambda: self._stub.RecordAccesses(request)), self._explained)

    def shadow(self, request: admin_pb2.ShadowPoliciesRequest) -> Stream[admin_pb2.ShadowReport]:
        """The results of other policies on the accesses of a process, until it ends."""
        return Stream(off_main.call(lambda: self._stub.ShadowPolicies(request)), self._explained)

    def validate(self) -> admin_pb2.ValidateResponse:
        """Have the daemon check its state; waits as long as that takes."""
        with self._explained():
            return off_main.call(lambda: self._stub.Validate(admin_pb2.ValidateRequest()))

    def reload(self) -> admin_pb2.ReloadResponse:
        """Have the daemon read its configuration again; waits as long as that takes, for it may open swap devices."""
        with self._explained():
            return off_main.call(lambda: self._stub.Reload(admin_pb2.ReloadRequest()))

    def drain(
        self, grace_seconds: float, notice_seconds: float = 0.0, *, dry_run: bool = False
    ) -> admin_pb2.DrainResponse:
        """Drain the daemon, or give notice of it. 0 seconds: the daemon's setting of the grace, and no notice."""
        with self._explained():
            request = admin_pb2.DrainRequest(
                grace_seconds=grace_seconds, notice_seconds=notice_seconds, dry_run=dry_run
            )
            return off_main.call(lambda: self._stub.Drain(request))

    def _call(self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request) -> _Response:
        with self._explained():
            return off_main.call(lambda: method(request, timeout=ANSWER_SECONDS))

    @contextmanager
    def _explained(self, was_connected: Callable[[], bool] = lambda: False) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            call = cast("grpc.Call", error)  # an error raised by a stub is also a Call
            raise AdminError(self._explain(call, was_connected())) from error

    def _explain(self, error: grpc.Call, was_connected: bool) -> str:
        status = _status_message(error)
        if status:
            return status
        match error.code():
            case grpc.StatusCode.UNAVAILABLE if was_connected:
                return f"the connection to usmd at {self.address} was lost"
            case grpc.StatusCode.UNAVAILABLE:
                return self._why_unreachable()
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"usmd at {self.address} did not answer within {ANSWER_SECONDS:g} s; its log may say why"
            case grpc.StatusCode.UNIMPLEMENTED:
                return f"{self.address} is not the admin socket of this version of usmd; name that one with --address"
            case code:
                return error.details() or f"usmd at {self.address} answered {code.name}"

    def _why_unreachable(self) -> str:
        """Ask the kernel, whose error is exact; gRPC's is prose."""
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with probe:
            try:
                probe.connect(os.fspath(self._path))
            except PermissionError:
                return f"permission denied at {self.address}: run usmctl as a user whom the socket's mode admits"
            except OSError:
                return f"no usmd at {self.address}: start it with 'usmd serve', or name it with --address"
            probe.settimeout(PROBE_SECONDS)
            with suppress(OSError):  # what listens there says nothing
                said = probe.recv(MOST_SAID).decode(errors="replace")
                if said.startswith(REFUSAL):
                    return f"usmd at {self.address} takes no connection: {said.removeprefix(REFUSAL).strip()}"
        return f"something listens at {self.address}, but it does not answer as usmd does; name usmd with --address"


def _region_offset(place: Place) -> admin_pb2.RegionOffset:
    return admin_pb2.RegionOffset(region_id=place.region_id, region_name=place.region_name, offset=place.offset)


def _status_message(call: grpc.Call) -> str:
    """The message of the google.rpc.Status that usmd sends with its errors; empty if there is none."""
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(call)
    except ValueError:  # the trailer contradicts the call, so it is not usmd's
        return ""
    return status.message if status is not None else ""


def _all_pages(fetch: Callable[[str], _PageT], items: Callable[[_PageT], Iterable[_Item]]) -> list[_Item]:
    page = fetch("")
    found = list(items(page))
    while page.next_page_token:
        page = fetch(page.next_page_token)
        found.extend(items(page))
    return found
