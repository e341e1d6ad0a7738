"""Addresses: what is given, the environment, the defaults."""

import os

import pytest

import lib_usm
from lib_usm.address import SocketAddress, default_socket, resolve_address


def test_the_given_address_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("USM_ADDRESS", "unix:/run/other.sock")
    assert str(resolve_address("unix:/run/mine.sock")) == "unix:/run/mine.sock"
    assert str(resolve_address(None)) == "unix:/run/other.sock"


@pytest.mark.parametrize("text", ["", "unix:", "/run/usmd.sock", "tcp:localhost:1", "unix:/a\0b"])
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
        (1000, "/run/user/1000", "/run/user/1000/usmd/usmd.sock"),
        (1000, None, "/tmp/usmd-1000/usmd.sock"),
        (0, None, "system"),
        (0, "/run/user/0", "/run/user/0/usmd/usmd.sock"),
    ],
)
def test_the_default_socket_is_the_daemons(monkeypatch, tmp_path, uid, runtime, expected):
    system = tmp_path / "usmd.sock"
    monkeypatch.setattr(os, "getuid", lambda: uid)
    if runtime is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    assert str(default_socket(system)) == (str(system) if expected == "system" else expected)


def test_a_user_without_a_daemon_of_their_own_uses_the_systems(monkeypatch, tmp_path):
    system = tmp_path / "usmd.sock"
    system.touch()
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_socket(system) == system
    own = tmp_path / "usmd" / "usmd.sock"
    own.parent.mkdir()
    own.touch()
    assert default_socket(system) == own
