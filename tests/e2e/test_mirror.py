"""A mirror of two files in the live daemon: no fault of the far file costs a byte, and it gets into step by itself."""

import contextlib
import random

import lib_usm
from tests.support.daemon import environment, running_daemon
from tests.support.scraping import ask, families, metrics_of
from tests.support.swap_faults import FAILING, SwapFaults
from tests.support.waiting import wait_until

SIZE = 2 << 20


def mirror_of(daemon):
    (device,) = daemon.admin.swap_devices()
    return device.mirror


def test_a_far_file_that_fails_or_hangs_costs_no_byte_and_is_repaired_without_a_restart(tmp_path):
    faults = SwapFaults(tmp_path / "faults.json")
    environ = environment(USMD_TEST_FAULTS=str(tmp_path / "faults.json"))
    flags = ("--memory", "512KiB", "--swap", f"mirror:file:{tmp_path}/far:8MiB,file:{tmp_path}/near:8MiB")
    with (
        running_daemon(tmp_path, *flags, environ=environ, changes=(FAILING,)) as daemon,
        lib_usm.connect(daemon.address) as client,
    ):
        region = client.mmap(SIZE)

        def write(seed):
            data = random.Random(seed).randbytes(SIZE)
            region.write(0, data)
            return data

        def is_right():
            return region.read(0, SIZE) == data

        data = write(1)
        wait_until(lambda: mirror_of(daemon).in_step, "the far file has all pages")
        faults.fail("write", "EIO", file="far")
        data = write(2)
        assert daemon.wait_for("mirror_degraded")["device"] == "mirror0"
        assert mirror_of(daemon).pages_to_repair > 0
        assert is_right()
        faults.fail("write", "wait", file="far")
        assert (mirror_of(daemon).away, is_right()) == (True, True)
        faults.end()
        assert daemon.wait_for("mirror_in_step")["device"] == "mirror0"
        faults.fail("read", "EIO", file="near")
        assert is_right()
        faults.end()
        with contextlib.closing(metrics_of(daemon.admin_address)) as connection:
            found = families(ask(connection)[2])
        (repaired,) = found["usmd_swap_repaired_pages"].samples
        assert (repaired.labels, repaired.value > 0) == ({"device": "mirror0"}, True)
        daemon.never("swap_error")
