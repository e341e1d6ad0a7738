"""Two users on one daemon: the sessions of one share its limits, and the other one pays for nothing."""

import contextlib
import os
import tempfile
from pathlib import Path

import pytest

import lib_usm
from lib_usm.errors import LimitExceeded, OutOfMemory
from tests.support.daemon import running_daemon
from tests.support.other_user import UID, OtherUser

PAGE = 4096
MOST = 96
CONFIG = f"""
[server]
socket_mode = "0666"

[[policy.users]]
uid = {UID}
max_sessions = 2
memory_max = "{MOST * PAGE}B"
swap_max = "{MOST * PAGE}B"
"""


@pytest.fixture
def folder():
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a process of another user")
def test_sessions_of_a_user_share_its_limits_and_another_user_pays_for_nothing(folder):
    flags = ("--memory", f"{512 * PAGE}B", "--swap", "memory:4MiB")
    with running_daemon(folder, *flags, config=CONFIG) as daemon, OtherUser(UID) as other:
        socket = daemon.address.removeprefix("unix:")
        address = other.relay(socket, folder / "other")
        other.relay(socket + ".identity", folder / "other.identity")
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(lib_usm.connect(daemon.address, name="ours"))
            kept = ours.mmap(64 * PAGE)
            kept[:] = b"k" * len(kept)
            first, second = (stack.enter_context(lib_usm.connect(address, name=name)) for name in ("first", "second"))
            with pytest.raises(LimitExceeded, match=f"user {UID} has 2 sessions; its max_sessions is 2"):
                lib_usm.connect(address, name="third")
            regions = [each.mmap(72 * PAGE) for each in (first, second)]
            for number, region in enumerate(regions):
                region[:] = bytes([number + 1]) * len(region)
            (user,) = daemon.usmctl("limits")["users"]
            assert (user["uid"], user["sessions"], user["resident_pages"]) == (UID, 2, MOST)
            with pytest.raises(OutOfMemory, match=f"the 2 sessions of user {UID} have"):
                first.mmap(64 * PAGE).write(0, b"x" * 64 * PAGE)
            for number, region in enumerate(regions):
                assert bytes(region[:]) == bytes([number + 1]) * len(region)
            assert next(each for each in daemon.admin.processes() if each.name == "ours").counters["evictions"] == 0
            assert daemon.usmctl("status")["users_at_limits"] == 1
            set_now = daemon.usmctl("limit", "--uid", str(UID), "memory_max=1MiB", "swap_max=none", "max_sessions=9")
            assert set_now["after"]["memory_max_pages"] == 256
            first.mmap(64 * PAGE).write(0, b"x" * 64 * PAGE)
            daemon.expect("user_limits_set", uid=str(UID), memory_max="256", swap_max="none")
