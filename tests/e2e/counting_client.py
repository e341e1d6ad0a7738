"""A client process for test_lost_updates: threads that count in every page of a region, and a model that counts along.

Run as `counting_client.py ADDRESS NAME SEED SECONDS LEAST PAGES`. Each thread has every second counter of every page
to itself, so that no two add to one counter, and all add to the same pages. It counts for SECONDS, and until it has
made LEAST increments, but ends at the end of a round once a counter is wrong. It prints one JSON line: `increments`
that were made, counters that are `wrong`, increments `lost`, and some that are wrong in words, `shown`.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import numpy as np

import lib_usm

THREADS = 2
ROUND_SECONDS = 0.1
RECENT = 48
"""Pages that a thread returns to; in between they are chosen as victims."""
MOST_SHOWN = 5


class Counter:
    """One thread's counters and what they must hold."""

    def __init__(self, seed: str, counters: np.ndarray, model: np.ndarray) -> None:
        self._source = random.Random(seed)
        self._counters = counters
        self._model = model
        self._recent = [0] * RECENT
        self.increments = 0

    def count(self, seconds: float) -> None:
        """Add one to ranges of counters of random pages, old ones and such as it has just been to."""
        choose, pages, width = self._source.random, len(self._counters), self._counters.shape[1]
        counters, model, recent = self._counters, self._model, self._recent
        end = time.monotonic() + seconds  # waits: it counts for some time, and nothing is asserted of that
        while time.monotonic() < end:  # waits: likewise
            for _ in range(32):
                slot = int(choose() * RECENT)
                if choose() < 0.5:
                    recent[slot] = int(choose() * pages)
                page = recent[slot]
                first = int(choose() * width / 2)
                part = counters[page, first:]
                part += 1
                model[page, first:] += 1
                self.increments += width - first


def main(address: str, name: str, seed: int, seconds: float, least: int, pages: int) -> None:
    """Count, and compare after each round."""
    with lib_usm.connect(address, name=name) as client:
        region = client.mmap(pages * client.page_size)
        counters = region.ndarray(np.uint32, (pages, client.page_size // 4))
        model = np.zeros(counters.shape, np.uint32)
        workers = [Counter(f"{seed}/{n}", counters[:, n::THREADS], model[:, n::THREADS]) for n in range(THREADS)]
        wrong = np.zeros((0, 2), np.intp)
        end = time.monotonic() + seconds  # waits: likewise
        done = 0
        while not len(wrong) and (time.monotonic() < end or done < least):  # waits: likewise
            threads = [threading.Thread(target=each.count, args=(ROUND_SECONDS,)) for each in workers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            done = sum(each.increments for each in workers)
            wrong = np.argwhere(counters != model)
        shown = [f"counter {n} of page {page} is {counters[page, n]}, not {model[page, n]}" for page, n in wrong]
        lost = int(model.sum(dtype=np.int64) - counters.sum(dtype=np.int64))
        result = {"increments": done, "wrong": len(wrong), "lost": lost, "shown": shown[:MOST_SHOWN]}
        sys.stdout.write(json.dumps(result) + "\n")
        del counters, workers


if __name__ == "__main__":
    _, where, called, number, duration, fewest, count = sys.argv
    main(where, called, int(number), float(duration), int(fewest), int(count))
