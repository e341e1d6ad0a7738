import errno
import mmap
import os
import threading

import pytest

from tests.support.waiting import SECONDS, wait_until
from usmd.mechanism import off_loop
from usmd.mechanism.off_loop import Account, Aftercare, Punching, punch

PAGE = mmap.PAGESIZE


@pytest.fixture
def pipe():
    """Reads of it wait until it is written to."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_punch_gives_back_the_pages_of_its_runs_alone():
    memfd = os.memfd_create("test")
    try:
        os.write(memfd, b"x" * 4 * PAGE)
        punch(memfd, [(0, PAGE), (2 * PAGE, PAGE)])
        assert [os.pread(memfd, 1, page * PAGE) for page in range(4)] == [b"\0", b"x", b"\0", b"x"]
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            punch(memfd, [(0, -PAGE)])
    finally:
        os.close(memfd)


def test_a_job_that_is_done_soon_is_waited_for_and_raises_what_it_raises():
    punching = Punching()
    done = []
    assert punching.run(lambda: done.append(1), 1, Account()) is None
    assert done == [1]
    with pytest.raises(FileNotFoundError):
        punching.run(lambda: os.stat("/nowhere"), 1, Account())
    assert punching.run(lambda: done.append(2), 1, Account()) is None


def test_a_job_that_waits_for_a_lock_is_left_behind_and_the_next_has_another_thread(pipe, monkeypatch):
    monkeypatch.setattr(off_loop._Thread, "waits_for_a_lock", lambda _: True)
    punching = Punching()
    threads = []
    held = punching.run(lambda: threads.append(threading.get_ident()) or os.read(pipe[0], 1), 1, Account())
    assert held is not None
    assert "it held its memfd" in held.why
    assert punching.run(lambda: threads.append(threading.get_ident()), 1, Account()) is None
    assert len(set(threads)) == 2
    os.write(pipe[1], b"x")
    held.wait_done()


def test_a_job_that_waits_for_pythons_lock_or_a_cpu_is_waited_for(pipe, monkeypatch):
    looked = []

    def look(thread):
        looked.append(_waits(thread))
        if len(looked) == 20:
            os.write(pipe[1], b"x")
        return looked[-1]

    _waits = off_loop._Thread.waits_for_a_lock
    monkeypatch.setattr(off_loop._Thread, "waits_for_a_lock", look)
    assert Punching().run(lambda: os.read(pipe[0], 1), 1, Account()) is None
    assert not any(looked)


@pytest.mark.parametrize("numbers", [30_000_000, 600_000])
def test_jobs_that_compute_too_long_use_their_account_up(numbers, monkeypatch):
    monkeypatch.setattr(off_loop, "MINUTE", SECONDS * 100)
    punching, account = Punching(), Account()
    held = wait_until(lambda: punching.run(lambda: sum(range(numbers)), 1, account), "the account is used up")
    assert "may be mapped once" in held.why
    assert punching.run(lambda: sum(range(numbers // 100)), 100_000, Account()) is None
    held.wait_done()


def test_a_thread_that_is_left_ends_with_its_job_also_if_that_is_done_by_then(pipe):
    early, late = off_loop._Thread(), off_loop._Thread()
    early.give(lambda: None)
    wait_until(lambda: early.done, "the job is done")
    early.leave()
    late.give(lambda: os.read(pipe[0], 1))
    late.leave()
    os.write(pipe[1], b"x")
    for thread in (early, late):
        wait_until(lambda thread=thread: not thread._thread.is_alive(), "it ends")
        assert thread.done


def test_an_account_is_of_a_minute(monkeypatch):
    account = Account()
    assert [account.charge(0.02) for _ in range(3)] == [False, False, True]
    monkeypatch.setattr(off_loop, "MINUTE", -1.0)
    account = Account()
    assert [account.charge(0.04) for _ in range(3)] == [False, False, False]


def test_late_jobs_are_told_once_and_hold_up_no_others(pipe, monkeypatch):
    told = []
    aftercare = Aftercare(told.append)
    for number in range(off_loop.THREADS):
        aftercare.put(f"job {number}", lambda: os.read(pipe[0], 1))
    done = threading.Event()
    aftercare.put("last", done.set)
    aftercare.tick()
    assert (told, aftercare.behind, done.is_set()) == ([], 0, False)
    monkeypatch.setattr(off_loop, "LATE_SECONDS", -1.0)
    wait_until(lambda: aftercare.tick() or len(told) >= off_loop.THREADS, "the jobs are late")
    assert done.wait(SECONDS)
    assert sorted(aftercare.finish(0.0))[:1] == ["job 0"]
    os.write(pipe[1], b"x" * off_loop.THREADS)
    assert aftercare.finish(SECONDS) == []
    assert sorted(each for each in told if each != "last") == [f"job {n}" for n in range(off_loop.THREADS)]


def test_a_job_that_fails_is_logged_and_the_next_is_done(monkeypatch):
    logged = []
    monkeypatch.setattr(off_loop.log, "event", lambda kind, **fields: logged.append((kind, fields)))
    aftercare = Aftercare()
    aftercare.put("this", lambda: os.stat("/nowhere"))
    done = threading.Event()
    aftercare.put("that", done.set)
    assert aftercare.finish(SECONDS) == []
    assert done.is_set()
    assert logged == [("aftercare_failed", {"what": "this", "error": "No such file or directory"})]


def test_jobs_one_after_another_have_one_thread_which_ends_when_none_has_come_for_a_while(monkeypatch):
    monkeypatch.setattr(off_loop, "IDLE_SECONDS", 0.05)
    aftercare, threads = Aftercare(), []
    for _ in range(8):
        done = threading.Event()
        aftercare.put("a job", lambda done=done: (threads.append(threading.get_ident()), done.set()))
        assert done.wait(SECONDS)
        assert aftercare.finish(SECONDS) == []
    assert len(set(threads)) == 1
    wait_until(lambda: aftercare._threads == 0, "the thread has ended")
