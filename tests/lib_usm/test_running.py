"""Which kThread runs here."""

import threading

from lib_usm.running import running
from tests.support.uthreads import Scene


def test_it_is_the_calling_threads_and_only_while_it_runs():
    scene = Scene()
    seen = []

    def look():
        seen.append(running.kthread)
        thread = threading.Thread(target=lambda: seen.append(running.kthread))
        thread.start()
        thread.join()

    assert running.kthread is None
    handle = scene.lm.spawn(look)
    scene.lm.run()
    assert seen == [handle.kthread, None]
    assert running.kthread is None
