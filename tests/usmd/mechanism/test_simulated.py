"""The simulated memory: bytes in frames. What every mechanism must do is in tests/contracts/test_mechanisms.py."""

import pytest

from usmd.errors import ConfigError
from usmd.mechanism.simulated import NAME, SimulatedMemory


def test_its_name_is_that_of_the_configuration():
    memory = SimulatedMemory(1, 512)
    assert memory.name == NAME == "simulated"
    memory.close()


@pytest.mark.parametrize("frames", [1 << 45, 1 << 70])
def test_memory_that_the_machine_does_not_have_is_a_configuration_error(frames):
    with pytest.raises(ConfigError, match=r"memory\.size = .* cannot be had"):
        SimulatedMemory(frames, 4096)


def test_a_buffer_that_is_still_held_when_the_pool_closes_is_not_left_dangling():
    memory = SimulatedMemory(2, 512)
    held = memory.buffer(1)
    with pytest.raises(BufferError):
        memory.close()
    held[:3] = b"abc"
    assert bytes(held[:3]) == b"abc"
    held.release()
