"""What is left of regions as memory when a client closes, its process forks, or its program ends."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import lib_usm
from tests.support.clients import run_python
from tests.support.daemon import environment
from tests.support.real_and_simulated import LENGTH, PAGE, left_empty, mappings, real

__all__ = ["real"]


ROOT = Path(__file__).parents[2]


# Ends


def test_closing_a_client_unmaps_its_regions_and_leaves_no_descriptor(real):
    mapped = mappings()
    client = lib_usm.connect(real.address)
    regions = [client.mmap(LENGTH) for _ in range(3)]
    userfaultfd = client._memory.userfaultfd
    regions[0].buffer[0] = 1
    assert mappings() == mapped + 6
    client.close()
    assert mappings() == mapped
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(userfaultfd)
    for region in regions:
        with pytest.raises(lib_usm.ClosedError):
            region.buffer  # noqa: B018 - the access is what is refused
        region.close()
    left_empty(real)


IN_USE = """
    import sys
    import lib_usm
    client = lib_usm.connect(sys.argv[1])
    region, other = client.mmap(8 * 4096, name="kept"), client.mmap(4096, name="other")
    other.buffer[0] = 1
    array = region.ndarray("u1")
    array[0] = 1
    client.close()
    client.close()
    print(client.closed, other.closed, flush=True)
    while sys.argv[2] != "quiet":  # what it holds goes in a moment
        array[int(sys.argv[2])]
"""


@pytest.mark.parametrize("touch", ["quiet", "0", "4096"])
def test_a_client_that_is_closed_with_arrays_in_use_warns_and_a_touch_of_them_is_sigbus(real, touch):
    done = run_python(IN_USE, real.address, touch, filtered="always")
    assert done.returncode == (0 if touch == "quiet" else -signal.SIGBUS), done.stderr
    assert done.stdout == "True True\n"
    assert done.stderr.count("UserWarning") == 1, done.stderr
    if touch != "quiet":
        page = int(touch) // PAGE
        assert re.search(
            rf"lib_usm: SIGBUS at page {page} \(byte {touch}\) of <Region \d+ 'kept', 32768 bytes> of process",
            done.stderr,
        )
        assert "the session has ended" in done.stderr
    assert "arrays or memoryviews of <Region" in done.stderr
    assert "'kept'" in done.stderr
    assert "'other'" not in done.stderr
    left_empty(real)


FORK = """
    import os, sys
    import lib_usm
    with lib_usm.connect(sys.argv[1]) as client:
        region = client.mmap(8 * 4096)
        region.ensure()
        region[:5] = b"hello"
        start = region._mapping.address

        def here():
            with open("/proc/self/maps") as maps:
                for line in maps:
                    first, end = (int(each, 16) for each in line.split()[0].split("-"))
                    if first <= start < end:
                        return (line.split()[1], "memfd" in line, end - start >= 8 * 4096)

        child = os.fork()
        if child == 0:
            seen = 0
            uses = [
                lambda: region[0], lambda: region.buffer, lambda: region.ndarray("u1"), region.ensure, region.evict,
                region.resident, lambda: region.pin().__enter__(), region.close, lambda: client.mmap(5),
            ]
            for use in uses:
                try:
                    use()
                except lib_usm.ForkedChild:
                    seen += 1
            print(here(), seen == len(uses), flush=True)
            client.close()
            os._exit(0)
        os.waitpid(child, 0)
        print(here(), bytes(region.buffer[:5]), region.resident())
        with open("/proc/self/maps") as maps:
            assert "memfd:usmd" in maps.read()
"""


def test_in_a_forked_child_a_region_is_an_error_and_its_addresses_are_kept_and_the_parent_goes_on(real):
    done = run_python(FORK, real.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "('---p', False, True) True",
        "('rw-s', True, True) b'hello' True",
    ]
    left_empty(real)


def test_a_program_that_does_not_close_ends_quietly(real):
    code = """
        import sys
        import lib_usm
        client = lib_usm.connect(sys.argv[1])
        region = client.mmap(8 * 4096)
        array = region.ndarray("u1")
        array[:] = 7
        print(int(array.sum()))
    """
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(code), real.address],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{7 * 8 * PAGE}\n"), done.stderr
    left_empty(real)
