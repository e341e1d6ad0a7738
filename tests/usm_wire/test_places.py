import os
import socket
from pathlib import Path

import pytest

from lib_usm.address import default_socket
from usm_wire.places import MAX_SOCKET_PATH_BYTES, SOCKET_NAME, is_own, runtime_folder


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({"XDG_RUNTIME_DIR": "/absent/user/1000"}, 1000, "/absent/user/1000/usmd"),
        ({"XDG_RUNTIME_DIR": "/absent/user/0"}, 0, "/absent/user/0/usmd"),
        ({}, 0, "/run/usmd"),
        ({}, 1000, "/tmp/usmd-1000"),
        ({"XDG_RUNTIME_DIR": ""}, 1000, "/tmp/usmd-1000"),
        ({"XDG_RUNTIME_DIR": "relative"}, 1000, "/tmp/usmd-1000"),
        ({"XDG_RUNTIME_DIR": "/a\0b"}, 1000, "/tmp/usmd-1000"),
    ],
)
def test_the_runtime_folder_is_the_users_own(environ, uid, expected):
    assert runtime_folder(environ, uid) == Path(expected)


def make_base(tmp_path, kind):
    """A folder that XDG_RUNTIME_DIR names, in each state that one may be in."""
    base = tmp_path / "run"
    match kind:
        case "absent":
            return base
        case "file":
            base.touch()
        case "link":
            (tmp_path / "real").mkdir(mode=0o700)
            base.symlink_to(tmp_path / "real")
        case "dangling":
            base.symlink_to(tmp_path / "nothing")
        case "below a file":
            (tmp_path / "file").touch()
            return tmp_path / "file" / "run"
        case _:
            base.mkdir()
            base.chmod(int(kind, 8))
    return base


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("0700", True), ("0755", True), ("absent", True), ("dangling", True), ("link", True), ("0770", False),
        ("0777", False), ("1777", False), ("0702", False), ("file", False), ("below a file", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("other_user", [False, True])
def test_daemon_and_client_agree_on_a_folder_that_is_used_only_if_it_is_the_users_own(
    tmp_path, monkeypatch, kind, own, other_user
):
    base = make_base(tmp_path, kind)
    user = os.geteuid() + 1 if other_user else os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    fallback = Path("/run/usmd") if user == 0 else Path(f"/tmp/usmd-{user}")
    absent = kind in ("absent", "dangling")
    expected = base / "usmd" if own and (absent or not other_user) else fallback
    assert runtime_folder() == expected
    assert default_socket(tmp_path / "no" / SOCKET_NAME if user else fallback / SOCKET_NAME) == expected / SOCKET_NAME


def test_a_link_to_the_users_own_folder_is_their_own_only_if_links_are_followed(tmp_path):
    base = make_base(tmp_path, "link")
    assert is_own(base, os.geteuid())
    assert not is_own(base, os.geteuid(), link=False)


def test_the_kernel_takes_the_longest_path_and_no_longer_one(tmp_path):
    longest = str(tmp_path / "s").ljust(MAX_SOCKET_PATH_BYTES, "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(longest)
    with socket.socket(socket.AF_UNIX) as listener, pytest.raises(OSError, match="too long"):
        listener.bind(longest + "s")
