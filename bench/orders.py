"""The order of touches that no policy is to follow."""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.typing import NDArray


@functools.cache
def in_no_order(count: int) -> NDArray[np.uint32]:
    """The numbers up to `count` in an order in which no three are equally far apart, which readahead would follow."""
    seeds = itertools.count()
    while True:
        found = np.random.default_rng(next(seeds)).permutation(count)
        in_a_row, by_turns = np.diff(found, 2), found[4:] - 2 * found[2:-2] + found[:-4]
        if np.all(in_a_row) and np.all(by_turns):
            return found.astype(np.uint32)
