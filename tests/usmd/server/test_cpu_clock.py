import gc
import threading
import time

from usmd.server import cpu_clock as module
from usmd.server.cpu_clock import CpuClock, spent


def compute(seconds):
    end = time.thread_time() + seconds  # waits: CPU time is what the clock under test counts
    while time.thread_time() < end:  # waits: likewise
        pass


def test_computing_counts_and_what_another_thread_computes_does_not():
    with CpuClock() as clock:
        began = clock()
        other = threading.Thread(target=compute, args=(0.05,))
        other.start()
        other.join()
        waited = clock() - began
        compute(0.05)
        assert waited < 0.05 <= clock() - began - waited


def test_full_garbage_collections_do_not_count_and_small_ones_do(monkeypatch):
    now = [0.0]

    def thread_time():
        now[0] += 1.0
        return now[0]

    with CpuClock() as clock:
        gc.disable()
        try:
            monkeypatch.setattr(module.time, "thread_time", thread_time)
            began = clock()
            gc.collect()
            assert clock() - began == 2.0  # of the four readings, two were at the ends of the collection
            began = clock()
            gc.collect(0)
            assert clock() - began == 1.0
        finally:
            gc.enable()
    callbacks = list(gc.callbacks)
    assert clock._collects not in callbacks


def test_a_collection_on_another_thread_takes_nothing_off():
    with CpuClock() as clock:
        other = threading.Thread(target=gc.collect)
        other.start()
        other.join()
        assert clock._collecting == 0.0


def test_time_passes_is_computed_and_is_waited_for_a_cpu():
    before = spent()
    compute(0.02)
    after = spent()
    assert after.passed - before.passed >= after.ran - before.ran >= 0.02
    assert after.waited >= before.waited >= 0.0


def test_a_kernel_that_does_not_tell_of_waits_is_survived(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_SCHEDSTAT", tmp_path / "absent")
    assert spent().waited == 0.0
