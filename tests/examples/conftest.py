"""For the examples: memory that a program has anyway, in place of a client's; and their daemons are forked."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from tests.support.own_daemons import forked_daemons

__all__ = ["forked_daemons"]


class OrdinaryRegion:
    """What the examples use of a region, over bytes of this process."""

    def __init__(self, length: int) -> None:
        self.bytes = np.zeros(length, np.uint8)
        self.closed = False

    def ndarray(self, dtype, shape, offset=0):
        return self.bytes[offset : offset + prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)

    def close(self):
        self.closed = True


class OrdinaryClient:
    """Makes such regions."""

    def __init__(self) -> None:
        self.regions: dict[str, OrdinaryRegion] = {}

    def mmap(self, length, *, name):
        self.regions[name] = OrdinaryRegion(length)
        return self.regions[name]


@pytest.fixture
def ordinary():
    return OrdinaryClient()
