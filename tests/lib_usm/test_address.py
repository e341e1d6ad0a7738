"""Addresses: what is given, the environment, the defaults."""

import os
from pathlib import Path

import pytest

import lib_usm
import lib_usm.address
from lib_usm.address import SocketAddress, default_socket, resolve_address


def test_the_given_address_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("USM_ADDRESS", "unix:/run/other.sock")
    assert str(resolve_address("unix:/run/mine.sock")) == "unix:/run/mine.sock"
    assert str(resolve_address(None)) == "unix:/run/other.sock"


@pytest.mark.parametrize("text", ["", "unix:", "tcp:localhost:1", "http://localhost", "unix:/a\0b"])
def test_other_than_unix_path_is_refused_with_what_is_allowed(text):
    with pytest.raises(lib_usm.InvalidArgument, match="allowed is unix:PATH"):
        SocketAddress(text)


def test_a_path_too_long_for_a_socket_is_refused_with_its_size():
    with pytest.raises(lib_usm.InvalidArgument, match="has 151 bytes; at most 98"):
        SocketAddress("unix:/" + "a" * 150)


def test_uri_spelling_and_relative_paths_name_the_same_socket(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert SocketAddress("unix:///run/u.sock").path == SocketAddress("unix:/run/u.sock").path
    assert SocketAddress("unix:u.sock").path == tmp_path / "u.sock"


@pytest.mark.parametrize("address", ["unix:/run/a:b", "/run/a:b", Path("/run/a:b"), Path("unix:/run/a:b")])
def test_a_path_may_stand_alone_and_be_a_path_object(address):
    assert str(resolve_address(address)) == "unix:/run/a:b"


def test_a_path_object_is_a_path_whatever_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolve_address(Path("tcp:1")).path == tmp_path / "tcp:1"


def test_the_identity_socket_lies_beside():
    assert str(SocketAddress("unix:/run/u.sock").identity_path) == "/run/u.sock.identity"


def test_a_path_with_special_characters_reaches_its_daemon(make_daemon, tmp_path):
    odd = tmp_path / "a b%20#c"
    odd.mkdir()
    daemon = make_daemon()
    os.symlink(daemon.path, odd / "u?.sock")
    with lib_usm.connect(f"unix:{odd}/u?.sock") as client:
        assert client.process_id == 7


@pytest.mark.parametrize(
    ("uid", "runtime", "expected"),
    [
        (1000, "/absent/user/1000", "/absent/user/1000/usmd/usmd.sock"),
        (1000, None, "/tmp/usmd-1000/usmd.sock"),
        (0, None, "system"),
        (0, "/absent/user/0", "/absent/user/0/usmd/usmd.sock"),
    ],
)
def test_the_default_socket_is_the_daemons(monkeypatch, tmp_path, uid, runtime, expected):
    system = tmp_path / "usmd.sock"
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    if runtime is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert str(default_socket(system)) == (str(system) if expected == "system" else expected)


@pytest.fixture
def user(monkeypatch):
    """A user that is not root, and how a folder becomes theirs."""
    real = os.geteuid()
    number = real or 1000
    monkeypatch.setattr(os, "geteuid", lambda: number)

    def owned(folder, mode=0o700):
        folder.mkdir(exist_ok=True)
        if real == 0:
            os.chown(folder, number, -1)
        folder.chmod(mode)
        return folder

    return owned


def test_a_user_without_a_daemon_of_their_own_uses_the_systems(monkeypatch, tmp_path, user):
    system = tmp_path / "usmd.sock"
    system.touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(user(tmp_path)))
    assert default_socket(system) == system
    own = user(tmp_path / "usmd") / "usmd.sock"
    own.touch()
    assert default_socket(system) == own


@pytest.mark.parametrize("kind", ["of another", "writable", "link"])
def test_no_socket_is_taken_from_a_folder_that_another_user_may_have_made(monkeypatch, tmp_path, user, kind):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(user(tmp_path)))
    folder = tmp_path / "usmd"
    if kind == "link":
        folder.symlink_to(user(tmp_path / "elsewhere"))
    else:
        user(folder, 0o770 if kind == "writable" else 0o700)
    (folder / "usmd.sock").touch()
    if kind == "of another":
        owner = os.geteuid()
        monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        monkeypatch.setattr(lib_usm.address, "runtime_folder", lambda: folder)
    with pytest.raises(lib_usm.InvalidArgument, match="USM_ADDRESS"):
        default_socket(tmp_path / "absent")
    system = tmp_path / "system.sock"
    system.touch()
    assert default_socket(system) == system
