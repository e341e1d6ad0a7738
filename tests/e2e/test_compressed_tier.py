"""A compressed swap device in the live daemon, before a file: what it takes, what it refuses, and where that goes."""

import random

import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_until
from tests.support.real_memory import require_real_memory

PAGE = 4096
FRAMES = 128
PAGES = 2 * FRAMES
TIERS = """
[[swap]]
kind = "compressed"
size = "{size}"
name = "zip"
[[swap]]
kind = "file"
size = "4MiB"
path = "{folder}/swap"
name = "disk"
"""


def page(seed, noise):
    """A page of which `noise` bytes cannot be compressed."""
    return random.Random(seed).randbytes(noise) + bytes([seed % 255 + 1]) * (PAGE - noise)


def devices(daemon):
    return {each.name: each for each in daemon.admin.swap_devices()}


def used(device):
    return device.slots - device.free_slots


@pytest.fixture(params=["simulated", "userfaultfd"])
def serve(request, tmp_path):
    if request.param == "userfaultfd":
        require_real_memory()

    def run(size, *flags):
        config = TIERS.format(size=size, folder=tmp_path)
        return running_daemon(tmp_path, "--memory", "512KiB", *flags, config=config, mechanism=request.param)

    return run


def test_what_compresses_is_compressed_what_does_not_goes_to_the_file_and_every_byte_comes_back(serve):
    with serve("256KiB") as daemon, lib_usm.connect(daemon.address) as client:
        region = client.mmap(PAGES * PAGE)
        generator = random.Random(3)
        model = {}
        for turn in range(2):
            for number in range(PAGES):
                model[number] = page(turn * PAGES + number, generator.choice([100, 1500, 2900, PAGE]))
                region.write(number * PAGE, model[number])
            for number in generator.sample(range(PAGES), PAGES // 2):
                assert region.read(number * PAGE, PAGE) == model[number]
        found = devices(daemon)
        assert found["zip"].pages_refused > 0
        assert min(used(found["zip"]), used(found["disk"])) > 0
        assert found["zip"].held_bytes <= found["zip"].capacity_bytes == 256 << 10
        assert found["zip"].stored_bytes <= found["zip"].held_bytes < used(found["zip"]) * PAGE
        assert [each.errors for each in found.values()] == [0, 0]
        assert all(region.read(number * PAGE, PAGE) == model[number] for number in range(PAGES))
        daemon.never("swap_error")
        region.close()
        wait_until(lambda: devices(daemon)["zip"].held_bytes == 0, "the compressed device is empty")


def test_pages_that_have_been_compressed_for_a_while_are_demoted_to_the_file(serve):
    with serve("1MiB", "--cond", "demote(after=0.1)") as daemon, lib_usm.connect(daemon.address) as client:
        region = client.mmap(PAGES * PAGE)
        data = b"".join(page(number, 1000) for number in range(PAGES))
        region.write(0, data)
        wait_until(lambda: used(devices(daemon)["zip"]) == 0, "all pages in swap are on the file")
        assert devices(daemon)["zip"].held_bytes == 0
        assert daemon.counters()["demotions"] > 0
        assert region.read(0, len(data)) == data


def test_pages_that_nothing_takes_end_in_a_typed_error_and_lose_nothing(tmp_path):
    with (
        running_daemon(tmp_path, "--memory", "512KiB", "--swap", "compressed:1MiB", mechanism="simulated") as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = client.mmap(2 * FRAMES * PAGE)
        data = random.Random(1).randbytes(FRAMES // 2 * PAGE)
        region.write(0, data)
        with pytest.raises(lib_usm.OutOfMemory):
            region.write(len(data), random.Random(2).randbytes(FRAMES * PAGE))
        assert region.read(0, len(data)) == data
        assert devices(daemon)["compressed0"].pages_refused > 0
