"""A client whose wait an interrupt ends, at whatever moment it comes: session and data are there."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest

import lib_usm
from tests.support.signals import interrupt, on_signal, send_signal

__all__ = ["on_signal"]


# Clients


def interrupted(client, use):
    """Interrupts `use` of a client whose faults the daemon does not answer, once it waits for them."""
    watcher = threading.Thread(target=lambda: (wait_parked(client), interrupt()))
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        use()
    watcher.join(10)


def test_an_interrupt_of_any_wait_for_pages_leaves_session_and_data(daemon, client, wire):
    region = client.mmap(16 * 64)
    region[:32] = b"every byte is there afterwards.."
    uses = [
        lambda: client.fault(region, 16 * 40, 16),
        lambda: client.fault_many([(region, 41, 1), (region, 42, 1)]),
        lambda: region.ensure(16 * 43, 16),
        lambda: region.read(16 * 44, 3),
        lambda: region.write(16 * 45, b"never"),
        lambda: region.pin(16 * 46, 16),
    ]
    daemon.answers = lambda fault: wire.yielded(fault, 1000 + fault.fault_id)
    before = len(daemon.faults())
    for use in uses:
        for _ in range(2):
            interrupted(client, use)
            assert region[:32] == b"every byte is there afterwards.."
    daemon.answers = None
    daemon.send(*(daemon.serve_fault(fault) for fault in daemon.faults()[before:]))
    assert isinstance(client.fault(region, 16 * 40, 16), lib_usm.Allocated)
    assert region[16 * 45 : 16 * 45 + 5] == bytes(5)
    region[16 * 44] = 7
    assert region[16 * 44] == 7
    assert not +daemon.pins
    with region.pin(16 * 46, 16):
        assert +daemon.pins == {(region.region_id, 46): 1}
    assert not +daemon.pins
    assert daemon.streams_ended == 0


def test_an_interrupted_wait_for_a_yield_may_be_waited_for_again(daemon, client, wire):
    region = client.mmap(64)
    daemon.answers = lambda fault: wire.yielded(fault, 1000 + fault.fault_id)
    token = client.fault(region, 0, 16, wait=False).token
    for _ in range(3):

        def watch():
            wait_parked(client)
            interrupt()

        watcher = threading.Thread(target=watch)
        watcher.start()
        with pytest.raises(KeyboardInterrupt):
            client.wait(token)
        watcher.join(10)
    daemon.send(wire.allocated(daemon.faults()[0], token=token))
    assert isinstance(client.wait(token), lib_usm.Allocated)
    with pytest.raises(lib_usm.UnknownToken):
        client.wait(token)


def wait_parked(client):
    """Until the main thread's call waits, for the second time if it was abandoned before."""
    from tests.support.waiting import wait_until

    def parked():
        calls = [runner.last for runner in client._calls._runners]
        return any(call is not None and call.parked is not None and not call.abandoned for call in calls)

    wait_until(parked, "the call waits")


def test_a_signal_handler_may_close_the_client_whose_wait_it_came_into(daemon, client, on_signal):
    region = client.mmap(64)
    daemon.answers = lambda fault: None
    on_signal(client.close)
    watcher = threading.Thread(target=lambda: (daemon.until(daemon.faults), send_signal()))
    watcher.start()
    with pytest.raises(lib_usm.ClosedError):
        client.fault(region, 0, 16)
    watcher.join(10)


def test_an_interrupted_mmap_leaves_no_region(daemon, client):
    gate = daemon.gates["MapRegion"] = threading.Event()
    watcher = threading.Thread(target=lambda: (daemon.until(lambda: daemon.requests("MapRegion")), interrupt()))
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        client.mmap(64)
    watcher.join(10)
    gate.set()
    daemon.gates.clear()
    client.mmap(64)[0] = 1  # which is behind it
    daemon.until(lambda: daemon.requests("UnmapRegion") or daemon.unmapped())


@pytest.mark.parametrize("what", ["hint", "close"])
def test_an_interrupted_call_of_the_daemon_ends_and_the_next_is_answered(daemon, client, what):
    region, other = client.mmap(64), client.mmap(64)
    method = {"hint": "HintRegion", "close": "UnmapRegion"}[what]
    gate = daemon.gates[method] = threading.Event()
    watcher = threading.Thread(target=lambda: (daemon.until(lambda: daemon.requests(method)), interrupt()))
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        client.usm_hint(region, "PRIORITY=HIGH") if what == "hint" else region.close()
    watcher.join(10)
    gate.set()
    other[0] = 1
    assert other[0] == 1
    assert region.closed is (what == "close")
    assert len(daemon.requests(method)) == 1


def run_program(text, daemon):
    """Run a program of its own with the address of the daemon."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), daemon.address],
        env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PROGRAM = """
    import os, signal, sys, threading
    import lib_usm

    # Signals at moments that nobody chose, as many as there are in a second of Ctrl-C on end.
    with lib_usm.connect(sys.argv[1]) as client:
        data = client.mmap(16 * 64)
        data[:] = content = os.urandom(len(data))
        stop, interrupts = threading.Event(), 0

        def send():
            while not stop.wait(0.002):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        sender = threading.Thread(target=send)
        region = None  # on a busy machine each interrupt may come before one is made
        begun = False
        while interrupts < 60:
            try:
                if not begun:
                    begun = True
                    sender.start()
                while True:
                    region = client.mmap(64)
                    region[:5] = b"hello"
                    client.usm_hint(region, "PRIORITY=HIGH")
                    assert bytes(region[:5]) == b"hello"
                    assert data[:] == content
                    client.fault(data, 0, 16)
                    region.close()
            except KeyboardInterrupt:
                interrupts += 1
        while sender.is_alive():
            try:
                stop.set()
                sender.join()
            except KeyboardInterrupt:
                pass
        assert data[:] == content
        del region
        print("as it was")
"""


def test_interrupts_at_any_moment_harm_nothing(daemon):
    done = run_program(PROGRAM, daemon)
    assert (done.returncode, done.stdout, done.stderr) == (0, "as it was\n", "")
    assert len(daemon.requests("Attach")) == len(daemon.requests("Detach")) == 1


AT_THE_END = """
    import sys
    import lib_usm

    class Last:
        def __init__(self, client):
            self.client = client
            self.region = client.mmap(16 * 64)
            self.region[:5] = b"hello"

        def __del__(self):
            assert sys.is_finalizing()
            print(self.region[:5])
            print(self.region[500])
            self.region.close()
            self.client.close()
            print(self.client.closed)

    last = Last(lib_usm.connect(sys.argv[1]))
"""


def test_nothing_hangs_that_a_finalizer_does_when_the_interpreter_ends(daemon):
    done = run_program(AT_THE_END, daemon)
    assert done.stdout.splitlines() == [
        "b'hello'",
        "0",
        "True",
    ]
    assert done.returncode == 0, done.stderr
    daemon.until(lambda: daemon.streams_ended)
