"""A daemon made of a few dicts, whose residency, yields and failures a test controls. It serves on a real socket."""

import contextlib
import itertools
import queue
import re
import threading
from collections import Counter, deque, namedtuple
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import lib_usm
from tests.support.waiting import wait_until
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import client_pb2_grpc, common_pb2


def rich_status(code, reason, text):
    """The grpc.Status with ErrorInfo that usmd sends for a failure."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="usmd"))
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=text, details=[detail]))


def allocated(fault, token=0):
    run = pb.FrameRun(first_page=fault.first_page, first_frame=100 + fault.first_page, page_count=fault.page_count)
    return pb.Outcome(fault_id=fault.fault_id, allocated=pb.Allocated(runs=[run], yield_token=token))


def failed(fault, reason, text="it failed", token=0):
    value = common_pb2.FailureReason.Value(f"FAILURE_REASON_{reason}")
    failure = pb.Failure(reason=value, message=text, page=fault.first_page, yield_token=token)
    return pb.Outcome(fault_id=fault.fault_id, failure=failure)


def yielded(fault, token):
    return pb.Outcome(fault_id=fault.fault_id, yielded=pb.Yield(yield_token=token))


def faults_of(request):
    """All faults of a message, those of its batches too."""
    packed = [
        pb.Fault(fault_id=number, region_id=batch.region_id, first_page=page, page_count=1, write=batch.write)
        for batch in request.page_batches
        for number, page in enumerate(batch.pages, batch.first_fault_id)
    ]
    return [*request.faults, *packed]


class FakeDaemon(client_pb2_grpc.ClientServiceServicer):
    """One session's worth of daemon. `frames` is the number of pages that fit; the first in go out first."""

    page_size = 16

    def __init__(
        self, path, frames=None, max_transfer_bytes=64, max_fault_pages=4, max_batch_faults=8, capacity_bytes=0
    ):
        self.path = path
        self.address = f"unix:{path}"
        self.frames = frames
        self.limits = {
            "page_size": self.page_size,
            "max_transfer_bytes": max_transfer_bytes,
            "max_fault_pages": max_fault_pages,
            "max_batch_faults": max_batch_faults,
            "capacity_bytes": capacity_bytes,
        }
        self.changed = threading.Condition(threading.RLock())
        self.calls = []  # (method name, request), in order of arrival; fault batches too
        self.refusals = {}  # method name -> grpc.Status
        self.over_budget = 0
        """Pages beyond the budget of EVICTION=DENY of which the next answer tells: to GetKept, or on a stream."""
        self.gates = {}  # method name -> threading.Event that its calls wait for before they go on
        self.answers = None  # fault -> outcome, instead of making its pages resident
        self.regions = {}
        self.resident = deque()  # (region_id, page)
        self.pins = Counter()  # (region_id, page)
        self.attached = None
        self.metadata = None
        self.outbox = queue.SimpleQueue()  # of the session's own stream: None to end it, a grpc.Status to break it
        self.outboxes = []  # of the other streams, the newest last; responses too
        self.hearing = []  # those of streams that hear of the session
        self.streams = self.streams_ended = 0
        self._ids = itertools.count(1)
        self._server = grpc.server(ThreadPoolExecutor(16), options=(("grpc.so_reuseport", 0),))
        client_pb2_grpc.add_ClientServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        self._server.start()

    def stop(self):
        self.outbox.put(None)
        self._server.stop(0).wait()

    def until(self, condition):
        """Waits for `condition()`, which something the daemon received makes true."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout=60)

    def requests(self, method):
        with self.changed:
            return [request for name, request in self.calls if name == method]

    def faults(self):
        return [fault for request in self.requests("StreamFaults") for fault in faults_of(request)]

    def unmapped(self):
        """Numbers of the regions that were given back without a call."""
        return [number for batch in self.requests("StreamFaults") for number in batch.unmapped_region_ids]

    def send(self, *outcomes, accessed=(), outbox=None):
        """On a stream of faults; by default on that which began last."""
        message = pb.StreamFaultsResponse(outcomes=outcomes, accessed=accessed, over_budget_pages=self.over_budget)
        self.over_budget = 0
        (self.outboxes[-1] if outbox is None else outbox).put(message)

    def evict(self, region, *pages):
        for page in pages:
            self.resident.remove((region.region_id, page))

    def make_resident(self, fault):
        for page in range(fault.first_page, fault.first_page + fault.page_count):
            if (fault.region_id, page) not in self.resident:
                self.resident.append((fault.region_id, page))
            while self.frames is not None and len(self.resident) > self.frames:
                self.resident.popleft()

    def serve_fault(self, fault):
        self.make_resident(fault)
        return allocated(fault)

    def _enter(self, method, request, context=None):
        with self.changed:
            self.calls.append((method, request))
            if context is not None:
                self.metadata = dict(context.invocation_metadata())
            self.changed.notify_all()
            refusal = self.refusals.get(method)
            gate = self.gates.get(method)
        if gate is not None:
            gate.wait(60)
        if refusal is not None and context is not None:
            context.abort_with_status(refusal)

    def Attach(self, request, context):  # noqa: N802
        self._enter("Attach", request, context)
        self.attached = request
        return pb.AttachResponse(session_token="secret", process_id=7, **self.limits)

    def Detach(self, request, context):  # noqa: N802
        self._enter("Detach", request, context)
        return pb.DetachResponse()

    def MapRegion(self, request, context):  # noqa: N802
        self._enter("MapRegion", request, context)
        number = next(self._ids)
        pages = -(-request.length // self.page_size)
        self.regions[number] = bytearray(pages * self.page_size) if request.length < 1 << 20 else None
        return pb.Region(
            region_id=number, address=number << 32, length=request.length, page_count=pages, name=request.name
        )

    def UnmapRegion(self, request, context):  # noqa: N802
        self._enter("UnmapRegion", request, context)
        return pb.UnmapRegionResponse()

    def HintRegion(self, request, context):  # noqa: N802
        self._enter("HintRegion", request, context)
        return pb.HintRegionResponse(
            hint_id=3,
            first_page=1,
            page_count=2,
            over_budget_pages=request.text.count("DENY"),
            unheeded_keys=re.findall(r"X_\w+", request.text),
        )

    def GetKept(self, request, context):  # noqa: N802
        self._enter("GetKept", request, context)
        if self.over_budget:
            context.set_trailing_metadata((("usm-over-budget", str(self.over_budget)), ("other", "1")))
            self.over_budget = 0
        return pb.GetKeptResponse(unevictable_pages=1, pinned_pages=2, budget_pages=10, room_pages=7, refused_pages=5)

    def PinRegion(self, request, context):  # noqa: N802
        self._enter("PinRegion", request, context)
        pages = [(request.region_id, request.first_page + index) for index in range(request.page_count)]
        with self.changed:
            absent = [page for region_id, page in pages if (region_id, page) not in self.resident]
            if not absent:
                self.pins.update(pages)
        return pb.PinRegionResponse(absent_pages=absent)

    def UnpinRegion(self, request, context):  # noqa: N802
        self._enter("UnpinRegion", request, context)
        with self.changed:
            self.pins.subtract((request.region_id, request.first_page + index) for index in range(request.page_count))
        return pb.UnpinRegionResponse()

    def _prefix(self, region_id, offset, length):
        """Bytes up to the first absent page, and the absent pages."""
        first, end = offset // self.page_size, -(-(offset + length) // self.page_size)
        absent = [page for page in range(first, end) if (region_id, page) not in self.resident]
        stop = min(offset + length, absent[0] * self.page_size) if absent else offset + length
        return max(0, stop - offset), absent

    def load(self, request):
        self._enter("Load", request)
        with self.changed:
            n, absent = self._prefix(request.region_id, request.offset, request.length)
            data = bytes(self.regions[request.region_id][request.offset : request.offset + n])
        return pb.LoadResponse(data=data, absent_pages=absent)

    def store(self, request):
        self._enter("Store", request)
        with self.changed:
            n, absent = self._prefix(request.region_id, request.offset, len(request.data))
            self.regions[request.region_id][request.offset : request.offset + n] = request.data[:n]
        return pb.StoreResponse(stored=n, absent_pages=absent)

    def access(self, access):
        if access.HasField("load"):
            return pb.AccessOutcome(access_id=access.access_id, loaded=self.load(access.load))
        return pb.AccessOutcome(access_id=access.access_id, stored=self.store(access.store))

    def StreamFaults(self, request_iterator, context):  # noqa: N802
        with self.changed:
            own = not self.streams
            self.streams += 1
            outbox = self.outbox if own else queue.SimpleQueue()
            if not own:
                self.outboxes.append(outbox)
            self.changed.notify_all()
        reader = threading.Thread(target=self._read_faults, args=(request_iterator, context, outbox))
        reader.start()
        if not context.add_callback(lambda: outbox.put(None)):
            outbox.put(None)  # it has ended already
        try:
            while (item := outbox.get()) is not None:
                if not isinstance(item, pb.StreamFaultsResponse):
                    self._end_others(item if own else None)
                    context.abort_with_status(item)
                yield item
        finally:
            if own:
                self._end_others(None)
            with self.changed:
                self.streams_ended += 1
                self.changed.notify_all()

    def _end_others(self, item):
        """All streams end with the session's own."""
        for outbox in self.outboxes:
            outbox.put(item)

    def _read_faults(self, request_iterator, context, outbox):
        # Answers go to the stream that asked: one that was cancelled at once may begin after its successor.
        # The iterator raises when the call is cancelled.
        with contextlib.suppress(grpc.RpcError):
            for request in request_iterator:
                if request.hear_session:
                    self.hearing.append(outbox)
                self._enter("StreamFaults", request, context)
                with self.changed:
                    outcomes = [(self.answers or self.serve_fault)(fault) for fault in faults_of(request)]
                accessed = [self.access(access) for access in request.accesses]
                outcomes = [outcome for outcome in outcomes if outcome is not None]
                if outcomes or accessed:
                    self.send(*outcomes, accessed=accessed, outbox=outbox)


@pytest.fixture
def make_daemon(tmp_path):
    daemons = []

    def make(**settings):
        daemon = FakeDaemon(tmp_path / f"usm{len(daemons)}.sock", **settings)
        daemons.append(daemon)
        return daemon

    yield make
    for daemon in daemons:
        daemon.stop()


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture
def client(daemon):
    with lib_usm.connect(daemon.address, name="tests") as client:
        yield client


@pytest.fixture
def in_thread():
    """Runs calls in threads; each returns a future. A thread that still runs at the end fails the test."""
    threads = []

    def start(function, *arguments):
        future = Future()

        def run():
            try:
                future.set_result(function(*arguments))
            except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
                future.set_exception(error)

        # As a daemon thread it cannot hang the test run when it does hang.
        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return future

    yield start
    for thread in threads:
        thread.join(60)
    assert not [thread for thread in threads if thread.is_alive()]


@pytest.fixture
def poll():
    """Waits for something that nothing announces."""
    return lambda condition: wait_until(condition, "what the test waits for")


class PlainStatus(namedtuple("PlainStatus", "code details trailing_metadata"), grpc.Status):
    """A status as gRPC itself makes it, without ErrorInfo."""


def plain_status(code, text):
    return PlainStatus(code, text, ())


def contradicting_status(code, text):
    """A plain status whose rich part says something else."""
    return PlainStatus(code, text, rich_status(grpc.StatusCode.ABORTED, "UNMAPPED", "else").trailing_metadata)


class Wire:
    """What a test says in the daemon's name."""

    allocated = staticmethod(allocated)
    failed = staticmethod(failed)
    yielded = staticmethod(yielded)
    rich_status = staticmethod(rich_status)
    plain_status = staticmethod(plain_status)
    contradicting_status = staticmethod(contradicting_status)


@pytest.fixture
def wire():
    return Wire
