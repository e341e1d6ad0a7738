"""uThreads over a stream whose completions the test controls: without a daemon and time, with one order of events.

A `ControlledStream` keeps the messages sent. The test answers them, from within a uThread or when one is sent.
"""

import contextlib
import socket
from collections import deque

from lib_usm import steps
from lib_usm.errors import again
from lib_usm.local_manager import LocalManager
from lib_usm.page_table import PageTable
from lib_usm.pager import Pager
from lib_usm.transfer import Limits, Window
from lib_usm.uthread import running
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2


class ControlledStream:
    """Stands for MessageStream. `sent`: the requests; `when_sent` is called with each."""

    def __init__(self):
        self.end = None
        self.wants_to_send = False
        self.sent = []
        self.when_sent = lambda _request: None
        self.open_faults = {}  # page → fault_id, of those in flight
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._answers = deque()

    def fileno(self):
        return self._near.fileno()

    def send(self, message):
        request = pb.StreamFaultsRequest.FromString(message)
        self.sent.append(request)
        self.open_faults.update({fault.first_page: fault.fault_id for fault in request.faults})
        self.when_sent(request)

    def receive(self):
        with contextlib.suppress(BlockingIOError):
            self._near.recv(4096)
        answers = list(self._answers)
        self._answers.clear()
        return answers

    def answer(self, *outcomes, accessed=()):
        """Make a message with these outcomes arrive."""
        self.answer_bytes(pb.StreamFaultsResponse(outcomes=outcomes, accessed=accessed).SerializeToString())

    def answer_bytes(self, message):
        """Make a message of these bytes arrive."""
        self._answers.append(message)
        self._wake()

    def complete(self, *pages):
        """Answer the faults on these pages."""
        self.answer(*(allocated(self.open_faults.pop(page), page) for page in pages))

    def fail(self, page, reason="SWAP_IO"):
        self.answer(failed(self.open_faults.pop(page), page, reason))

    def complete_when_sent(self):
        """Answer each fault when it is sent."""
        self.when_sent = lambda request: self.complete(*(fault.first_page for fault in request.faults))

    def break_off(self, error):
        """End the stream, as if the daemon were gone."""
        self.end = error
        self._wake()

    def _wake(self):
        with contextlib.suppress(OSError):  # a reader that was awake has seen it, and closed the stream
            self._far.send(b"x")

    def close(self, error=None):
        self.end = self.end or error
        self._near.close()
        self._far.close()

    @property
    def batches(self):
        """The pages of each message sent."""
        return [[fault.first_page for fault in request.faults] for request in self.sent]


def allocated(fault_id, page, token=0):
    run = pb.FrameRun(first_page=page, first_frame=page, page_count=1)
    return pb.Outcome(fault_id=fault_id, allocated=pb.Allocated(runs=[run], yield_token=token))


def yielded(fault_id, token=1):
    return pb.Outcome(fault_id=fault_id, yielded=pb.Yield(yield_token=token))


def failed(fault_id, page, reason="SWAP_IO"):
    value = common_pb2.FailureReason.Value(f"FAILURE_REASON_{reason}")
    return pb.Outcome(fault_id=fault_id, failure=pb.Failure(reason=value, message="it failed", page=page))


class FakeRegion:
    """Pages of explicit memory, resident once their faults were answered."""

    mapping = None
    region_id = 7

    def __init__(self, client, pages=1 << 16):
        self.client = self.session = client
        self.table = PageTable(pages)

    def absent_runs(self, first_page, page_count, longest):
        return self.table.absent_runs(first_page, first_page + page_count, longest)

    def why(self, error):
        return again(error)


class FakeClient:
    """A client whose `streams`, in the order of the kThreads, the test controls."""

    def __init__(self, max_batch_faults=4096):
        self.limits = Limits(page_size=16, max_transfer_bytes=64, max_fault_pages=4, max_batch_faults=max_batch_faults)
        self.window = Window(self.limits)
        self.streams = []
        self.prepare = lambda _stream: None
        self.region = FakeRegion(self)
        self._max_batch_faults = max_batch_faults

    @property
    def stream(self):
        return self.streams[-1]

    def open_pager(self):
        stream = ControlledStream()
        self.streams.append(stream)
        self.prepare(stream)
        return stream, Pager(stream, self._max_batch_faults)


class Scene:
    """A LocalManager on a FakeClient, and a `log` for uThreads to write to."""

    def __init__(self, kthreads=1, *, asynchronous=True, max_batch_faults=4096):
        self.client = FakeClient(max_batch_faults)
        self.lm = LocalManager(self.client, kthreads, asynchronous=asynchronous)
        self.log = []

    @property
    def stream(self):
        return self.client.stream

    def touch(self, page, count=1):
        """Make pages resident, as a greenlet does when it slices a region."""
        kthread = running.kthread
        kthread.greenlets.run(lambda place: steps.ensure(place, self.client.region, page, count))

    async def touch_async(self, page, count=1):
        await steps.ensure(running.kthread.place(), self.client.region, page, count)

    def compute(self, name, slices):
        """Make a uThread that computes for some slices."""

        def run():
            for number in range(slices):
                self.log.append(f"{name}{number}")
                self.lm.yield_now()

        return self.lm.spawn(run, name=name)
