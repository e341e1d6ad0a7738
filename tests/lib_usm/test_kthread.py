"""In which order a kThread runs its uThreads, and what it sends and hears meanwhile."""

import threading

from tests.support.uthreads import Scene, allocated, yielded


def test_uthreads_that_compute_take_turns_in_the_order_of_their_birth():
    scene = Scene()
    scene.compute("a", 3)
    scene.compute("b", 2)
    scene.compute("c", 1)
    scene.lm.run()
    assert scene.log == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_a_uthread_that_faults_is_passed_over_until_its_page_is_there():
    scene = Scene()

    def reader():
        scene.log.append("fault")
        scene.touch(5)
        scene.log.append("there")

    def worker():
        for number in range(4):
            scene.log.append(f"w{number}")
            if number == 2:
                scene.stream.complete(5)
            scene.lm.yield_now()

    scene.lm.spawn(reader)
    scene.lm.spawn(worker)
    scene.lm.run()
    assert scene.log == ["fault", "w0", "w1", "w2", "w3", "there"]


def test_faults_of_all_uthreads_of_a_turn_travel_in_one_message():
    scene = Scene()
    scene.client.prepare = lambda stream: stream.complete_when_sent()
    for page in range(64):
        scene.lm.spawn(scene.touch, page)
    scene.lm.run()
    assert scene.stream.batches == [list(range(64))]
    assert scene.lm.stats().batches == 1


def test_a_fault_is_sent_before_a_uthread_that_computes_goes_on():
    scene = Scene()
    scene.client.prepare = lambda stream: stream.complete_when_sent()

    def reader():
        scene.lm.yield_now()
        scene.lm.yield_now()
        scene.touch(1)

    def worker():
        scene.lm.yield_now()
        scene.lm.yield_now()
        scene.log.extend(scene.stream.batches)

    scene.lm.spawn(reader)
    scene.lm.spawn(worker)
    scene.lm.run()
    assert scene.log == [[1]]


def test_faults_of_uthreads_that_yield_between_them_travel_together_all_the_same():
    scene = Scene()
    scene.client.prepare = lambda stream: stream.complete_when_sent()

    def reader(number):
        for page in range(3):
            scene.touch(3 * number + page)
            scene.lm.yield_now()

    for number in range(10):
        scene.lm.spawn(reader, number)
    scene.lm.run()
    assert [len(batch) for batch in scene.stream.batches] == [10, 10, 10]


def test_a_message_holds_no_more_faults_than_the_daemon_takes():
    scene = Scene(max_batch_faults=10)
    scene.client.prepare = lambda stream: stream.complete_when_sent()
    for page in range(25):
        scene.lm.spawn(scene.touch, page)
    scene.lm.run()
    assert [len(batch) for batch in scene.stream.batches] == [10, 10, 5]


def test_completions_make_ready_in_the_order_in_which_they_come():
    scene = Scene()

    def answer(request):
        pages = [fault.first_page for fault in request.faults]
        scene.stream.complete(*reversed(pages))

    scene.client.prepare = lambda stream: setattr(stream, "when_sent", answer)

    def reader(page):
        scene.touch(page)
        scene.log.append(page)

    for page in range(5):
        scene.lm.spawn(reader, page)
    scene.lm.run()
    assert scene.log == [4, 3, 2, 1, 0]


def test_the_highest_priority_that_is_ready_runs_first_and_the_rest_waits():
    scene = Scene()

    def worker(name, slices):
        for number in range(slices):
            scene.log.append(f"{name}{number}")
            scene.lm.yield_now()

    scene.lm.spawn(worker, "low", 2, priority=-1)
    scene.lm.spawn(worker, "high", 3, priority=5)
    scene.lm.spawn(worker, "also", 2, priority=5)
    scene.lm.spawn(worker, "usual", 1)
    scene.lm.run()
    assert scene.log == ["high0", "also0", "high1", "also1", "high2", "usual0", "low0", "low1"]


def test_a_high_priority_that_waits_for_a_page_lets_the_low_run_and_comes_back_at_once():
    scene = Scene()

    def important():
        scene.touch(1)
        scene.log.append("important")

    def background():
        for number in range(4):
            scene.log.append(f"b{number}")
            if number == 1:
                scene.stream.complete(1)
            scene.lm.yield_now()

    scene.lm.spawn(background, priority=-1)
    scene.lm.spawn(important, priority=1)
    scene.lm.run()
    assert scene.log == ["b0", "b1", "important", "b2", "b3"]


def test_greenlets_and_coroutines_share_the_turn():
    scene = Scene()

    async def coroutine():
        for number in range(3):
            scene.log.append(f"c{number}")
            await scene.lm.yield_now()

    scene.compute("g", 3)
    scene.lm.spawn_async(coroutine)
    scene.lm.run()
    assert scene.log == ["g0", "c0", "g1", "c1", "g2", "c2"]


def test_a_coroutine_that_awaits_a_page_lets_others_run():
    scene = Scene()

    async def reader():
        await scene.touch_async(3)
        scene.log.append("there")

    def worker():
        scene.log.append("worker")
        scene.lm.yield_now()
        scene.stream.complete(3)

    scene.lm.spawn_async(reader)
    scene.lm.spawn(worker)
    scene.lm.run()
    assert scene.log == ["worker", "there"]


def test_a_completion_before_the_yield_of_its_fault_is_a_completion():
    scene = Scene()

    def answer(request):
        fault = request.faults[0]
        scene.stream.answer(allocated(fault.fault_id, fault.first_page, token=9), yielded(fault.fault_id, 9))

    scene.client.prepare = lambda stream: setattr(stream, "when_sent", answer)
    handle = scene.lm.spawn(scene.touch, 1)
    scene.lm.run()
    assert handle.result() is None


def test_a_yield_alone_makes_nobody_ready_and_is_counted():
    scene = Scene()

    def answer(request):
        fault = request.faults[0]
        scene.stream.answer(yielded(fault.fault_id))

    scene.client.prepare = lambda stream: setattr(stream, "when_sent", answer)

    def reader():
        scene.touch(1)
        scene.log.append("there")

    def worker():
        for number in range(3):
            scene.log.append(number)
            scene.lm.yield_now()
        scene.stream.complete(1)

    scene.lm.spawn(reader)
    scene.lm.spawn(worker)
    scene.lm.run()
    assert scene.log == [0, 1, 2, "there"]
    assert scene.lm.stats().yields == 1


def test_two_uthreads_on_one_page_are_one_fault_and_go_on_together():
    scene = Scene()
    scene.client.prepare = lambda stream: stream.complete_when_sent()
    for _ in range(3):
        scene.lm.spawn(scene.touch, 8)
    scene.lm.run()
    assert scene.stream.batches == [[8]]
    stats = scene.lm.stats()
    assert (stats.faults, stats.joined_faults) == (1, 2)


def test_synchronous_faults_keep_the_kthread():
    scene = Scene(asynchronous=False)
    scene.client.prepare = lambda stream: stream.complete_when_sent()

    def reader():
        scene.touch(1)
        scene.log.append("there")

    async def coroutine():
        await scene.touch_async(2)
        scene.log.append("also")

    scene.lm.spawn(reader)
    scene.lm.spawn_async(coroutine)
    scene.compute("w", 2)
    scene.lm.run()
    assert scene.log == ["there", "w0", "also", "w1"] or scene.log == ["there", "also", "w0", "w1"]
    assert scene.stream.batches == [[1], [2]]


def test_a_kthread_that_sleeps_wakes_for_a_completion_and_counts_as_idle():
    scene = Scene()
    timers = []

    def answer(request):
        pages = [fault.first_page for fault in request.faults]
        timers.append(threading.Thread(target=scene.stream.complete, args=pages))
        timers[-1].start()

    scene.client.prepare = lambda stream: setattr(stream, "when_sent", answer)
    scene.lm.spawn(scene.touch, 1)
    scene.lm.run()
    for timer in timers:
        timer.join()
    stats = scene.lm.stats()
    assert 0 < stats.idle_seconds < stats.run_seconds
    assert 0 < stats.idle_share < 1
