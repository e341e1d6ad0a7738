"""How operators write the device, and what is refused when it is opened."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.redis_servers import out, read_back
from tests.support.waiting import wait_equal
from usmd.config_values import read_table
from usmd.errors import ConfigError, InvalidSize, SwapDeviceError, SwapIOError
from usmd.swap import remote
from usmd.swap.open import parse_swap_spec
from usmd.swap.remote.kind import PASSWORD_VARIABLE, RedisKind

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_password(monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("text", "url", "size"),
    [
        ("redis:redis://far:7000/1:8GiB", "redis://far:7000/1", 8 << 30),
        ("redis:unix:///run/redis.sock:64MiB", "unix:///run/redis.sock", 64 * MIB),
        ("redis:rediss+cluster://a:1,b:2:4096", "rediss+cluster://a:1,b:2", 4096),
    ],
)
def test_the_command_line(text, url, size):
    assert parse_swap_spec(text) == RedisKind(url=url, size=size)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("redis:64MiB", "it has no URL or no size"),
        ("redis:redis://far", "it has no URL or no size"),
        ("redis:http://far:64MiB", "there is no scheme 'http'"),
    ],
)
def test_what_is_no_device_is_refused_with_its_form(text, why):
    with pytest.raises(ConfigError) as caught:
        parse_swap_spec(text)
    assert why in str(caught.value)
    assert "a redis device is redis:URL:SIZE" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "redis:redis://swap:s3cret@far:64MiB",
        "redis:redis://swap:s3cret@far",
        "redis://:s3cret@far:64MiB",
        "file:redis://swap:s3cret@far",
        "redis:unix:///run/redis.sock?password=s3cret:64MiB",
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_shown(text):
    with pytest.raises(ConfigError) as caught:
        parse_swap_spec(text)
    assert "password_file of [[swap]]" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_password_in_the_url_of_the_configuration_is_refused_and_not_shown():
    with pytest.raises(ConfigError) as caught:
        read_table(RedisKind, {"size": MIB, "url": "redis://:s3cret@far"}, "swap[3]")
    assert caught.value.key == "swap[3].url"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", 7),
        ("keyspace", "a:b"),
        ("keyspace", ""),
        ("keyspace", "x" * 65),
        ("timeout", 0),
        ("password_file", "x"),
        ("sentinel_user", ""),
        ("sentinel_user", "a b"),
        ("sentinel_user", 7),
        ("sentinel_password_file", "x"),
    ],
)
def test_values_that_are_not_allowed_are_named(key, value):
    with pytest.raises(ConfigError, match=rf"swap\[0\]\.{key}") as caught:
        read_table(RedisKind, {"size": MIB, "url": "redis://far", key: value}, "swap[0]")
    assert "allowed is" in str(caught.value)


def test_the_keyspace_is_by_default_that_of_the_machine_and_the_device(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "höst.example")
    spec = RedisKind(url="redis://far", size=MIB)
    assert spec.claim() is None
    placed = spec.placed(Path("/"), 3)
    assert placed.keyspace == "h-st.example-3"
    assert placed.claim() == "the keyspace h-st.example-3 of redis://far"
    assert placed.placed(Path("/"), 4) == placed


def test_without_the_client_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delattr(remote, "servers", raising=False)
    monkeypatch.setitem(sys.modules, "usmd.swap.remote.servers", None)
    with pytest.raises(ConfigError, match=r"swap device far: .*pip install 'usmd\[redis\]'"):
        RedisKind(url="redis://far", size=MIB).open(0, "far", 4096)


def test_a_server_that_evicts_is_refused(server, open_device):
    server.client.config_set("maxmemory-policy", "volatile-lru")
    with pytest.raises(SwapDeviceError, match=r"^swap device redis0: unix:.* is volatile-lru, which may remove pages"):
        open_device()


def test_a_server_with_too_little_memory_is_refused_and_keeps_nothing(server, open_device):
    server.client.config_set("maxmemory", "4mb")
    with pytest.raises(SwapDeviceError, match=r"of 4 MiB free, and .* are needed"):
        open_device(slots=1024)
    assert server.names() == []


@pytest.fixture
def secured(server):
    server.client.config_set("requirepass", "s3cret")
    server.client.execute_command("AUTH", "s3cret")
    yield server
    server.client.config_set("requirepass", "")


def password_file(folder, text="s3cret\nnot this\n", mode=0o640):
    path = folder / "password"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_password_comes_from_a_file_or_the_environment(secured, open_device, tmp_path, monkeypatch):
    device = open_device(password_file=password_file(tmp_path))
    device.write([out(0)])
    assert read_back(device, [out(0)]) == [None]
    device.close()
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    assert open_device().write([out(0)]) == [None]


@pytest.mark.parametrize("password", ["", "wr0ng"])
def test_a_wrong_password_is_refused_and_not_shown(secured, open_device, monkeypatch, password):
    monkeypatch.setenv(PASSWORD_VARIABLE, password)
    with pytest.raises(SwapDeviceError, match=r"Authentication|NOAUTH|WRONGPASS|invalid username") as caught:
        open_device()
    assert "wr0ng" not in str(caught.value)


def test_a_password_that_changes_while_usmd_runs_is_an_error_until_it_is_the_old_one(secured, open_device, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    device = open_device()
    device.write([out(0)])
    secured.client.config_set("requirepass", "another")
    secured.client.client_kill_filter(_type="normal", skipme=True)
    assert read_back(device, [out(0)]) == [SwapIOError]
    secured.client.config_set("requirepass", "s3cret")
    wait_equal(lambda: read_back(device, [out(0)]), [None], "the server is asked again")


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [("s3cret", 0o644, "all users can read it"), ("\n", 0o600, "its first line is empty"), (None, 0, "cannot be read")],
)
def test_a_file_of_a_password_that_cannot_be_used_is_refused(open_device, tmp_path, text, mode, why):
    path = password_file(tmp_path, text, mode) if text is not None else str(tmp_path / "absent")
    with pytest.raises(ConfigError, match=rf"swap device redis0: password_file {path}: {why}") as caught:
        open_device(password_file=path)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("key", ["sentinel_user", "sentinel_password_file"])
def test_what_is_for_sentinels_is_refused_where_there_are_none(open_device, server, tmp_path, key):
    with pytest.raises(
        ConfigError, match=f"swap device redis0: {key} is for the Sentinels of redis.*, and url is unix:"
    ):
        open_device(**{key: password_file(tmp_path).replace(" ", "")})


def test_a_server_that_does_not_answer_is_named(open_device, tmp_path):
    with pytest.raises(SwapDeviceError, match=rf"swap device redis0: unix://{tmp_path}/none: .*"):
        open_device(url=f"unix://{tmp_path}/none")
    assert os.listdir(tmp_path) == []


def test_a_size_that_is_none_is_refused():
    with pytest.raises(InvalidSize):
        RedisKind.parse("redis://far:many")
