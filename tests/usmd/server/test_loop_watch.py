import os
import subprocess
import sys
import threading

import pytest

from usmd.mechanism.client_memory import ClientMemory
from usmd.server import loop_watch
from usmd.server.loop_watch import CLIENT_SECONDS, LOOK_SECONDS, TELL_SECONDS, LoopWatch


class Sleeper(ClientMemory):
    """A client in whose memory a system call waits until a pipe is written to."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def call(self):
        os.read(self.reader, 1)

    def wake(self):
        os.write(self.writer, b"x")


class World:
    """A loop's thread with its watch, which a test has look when it likes."""

    def __init__(self):
        self.ended, self.told = [], []
        self.ready = threading.Event()
        self.client = Sleeper()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.ready.wait(60)
        self.now = self.watch._beat

    def _run(self):
        self.watch = LoopWatch(self.ended.append, self.told.append)
        self.ready.set()
        self.client.call()

    def look_for(self, seconds):
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK_SECONDS
            self.watch.look(self.now)


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(LoopWatch, "_state", lambda _: "D")
    yield world
    world.client.wake()
    world.thread.join()
    os.close(world.client.reader)
    os.close(world.client.writer)


def test_a_client_in_whose_memory_the_loop_waits_is_ended(world):
    world.look_for(CLIENT_SECONDS - LOOK_SECONDS)
    assert world.ended == []
    world.look_for(3 * LOOK_SECONDS)
    assert world.ended[0] is world.client


def test_no_client_is_ended_while_the_loop_waits_for_a_cpu_or_the_whole_process_was_stopped(world, monkeypatch):
    world.now += 10
    world.watch.look(world.now)
    assert (world.ended, world.told) == ([], [])
    for state in "RS":
        monkeypatch.setattr(LoopWatch, "_state", lambda _, state=state: state)
        world.look_for(0.5)
    assert world.ended == []


def test_a_loop_that_stands_is_told_of_once_with_its_stack_and_so_is_its_going_on(world, logged):
    world.look_for(TELL_SECONDS + 5 * LOOK_SECONDS)
    (line,) = logged
    assert (line["event"], line["log_level"], line["state"]) == ("loop_stands", "warning", "D")
    assert line["stack"].startswith("Sleeper.call (test_loop_watch.py:")
    world.watch._beat = world.now
    world.look_for(LOOK_SECONDS)
    assert [each.partition(" at ")[0] for each in world.told] == [
        "STATUS=the event loop stands", "STATUS=the event loop goes round again",
    ]  # fmt: skip


def test_a_beat_is_heard_of_and_a_stack_without_python_code_can_be_told(world):
    before = world.watch._beat
    world.watch.beat()
    assert world.watch._beat >= before
    assert loop_watch._stack(None) == "no Python code"


def test_it_looks_on_a_thread_of_its_own_until_its_block_ends(monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr(LoopWatch, "look", lambda *_: looked.set())
    with LoopWatch([].append, [].append):
        assert looked.wait(60)


def test_the_state_is_the_kernels():
    watch = LoopWatch([].append, [].append)
    assert watch._state() == "R"


def test_a_look_at_the_stack_ends_whenever_the_garbage_collector_runs():
    program = """
import gc, threading
from usmd.server.loop_watch import LoopWatch
stop = threading.Event()
for _ in range(8):
    threading.Thread(target=stop.wait).start()
watch = LoopWatch(print, print)
for look in range(300):
    garbage = [threading.local()]  # whose end takes the lock of the list of threads
    garbage.append(garbage)
    del garbage
    gc.set_threshold(gc.get_count()[0] + look % 30)  # so that it is collected somewhere in the look
    watch.look(watch._beat + 100 + look / 10)
    gc.set_threshold(0)
assert gc.isenabled()
stop.set()
"""
    subprocess.run([sys.executable, "-c", program], timeout=30, check=True, stdout=subprocess.DEVNULL)


def test_it_says_whether_its_thread_runs():
    watch = LoopWatch(lambda _: None, lambda _: None)
    assert not watch.watches
    with watch:
        assert watch.watches
    watch._watcher.join()
    assert not watch.watches
