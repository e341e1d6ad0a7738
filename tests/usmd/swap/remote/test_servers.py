"""Connections: TLS and Sentinel. Clusters are in test_cluster.py."""

import contextlib
import subprocess

import pytest

from tests.support.redis_servers import RedisServer, free_port, open_redis, out, read_back, require_redis, types_of
from tests.support.waiting import wait_equal, wait_until
from usmd.errors import ConfigError, DataLoss, SwapDeviceError
from usmd.swap.remote.kind import SENTINEL_PASSWORD_VARIABLE
from usmd.swap.remote.servers import OneServer


def test_an_error_of_one_request_is_no_error_of_the_others(server):
    servers = OneServer(server.client, float)
    server.client.set("text", "abc")
    requests = [("STRLEN", "text"), ("HLEN", "text"), ("GETRANGE", "text", 1, 1)]
    replies = servers.run(requests)
    assert replies[::2] == [3, b"b"]
    assert "WRONGTYPE" in replies[1].why
    assert "WRONGTYPE" in servers.run([("HLEN", "text")])[0].why
    assert servers.away() == []


def test_keys_are_found_by_a_pattern(server):
    server.client.mset({f"some:{number}": "x" for number in range(2500)} | {"other": "x"})
    keys, failures = OneServer(server.client, float).scan("some:*")
    assert (len(set(keys)), failures) == (2500, [])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate for localhost of an authority, one that is not, and one for another host; the folder."""
    folder = tmp_path_factory.mktemp("certificates")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")

    def make(name, host, *signed):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        names = ("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}")
        subprocess.run(
            ["openssl", "req", "-x509", *new, *files, *names, *signed], cwd=folder, check=True, capture_output=True
        )

    make("ca", "authority")
    make("stranger", "authority")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE")
    make("server", "localhost", *signed)
    make("elsewhere", "far.example", *signed)
    return folder


@pytest.fixture
def secure(certificates, tmp_path):
    """Starts a server with a certificate, which asks clients for one."""
    require_redis()
    with contextlib.ExitStack() as stack:

        def build(name, *flags):
            tls_port = free_port()
            server = RedisServer(
                tmp_path / name, "--tls-port", str(tls_port), "--tls-cert-file", str(certificates / f"{name}.pem"),
                "--tls-key-file", str(certificates / f"{name}.key"), "--tls-ca-cert-file", str(certificates / "ca.pem"),
                *flags,
            )  # fmt: skip
            stack.callback(server.close)
            return f"rediss://localhost:{tls_port}"

        yield build


def files(certificates, ca="ca"):
    return {
        "ca_file": str(certificates / f"{ca}.pem"),
        "certificate_file": str(certificates / "server.pem"),
        "key_file": str(certificates / "server.key"),
    }


def test_pages_go_through_tls_in_which_both_sides_show_certificates(secure, certificates):
    device = open_redis(secure("server"), **files(certificates))
    try:
        entries = [out(slot) for slot in range(70)]
        assert device.write(entries) == [None] * 70
        assert read_back(device, entries) == [None] * 70
    finally:
        device.close()


def test_a_certificate_of_another_authority_or_host_is_refused(secure, certificates):
    url = secure("server", "--tls-auth-clients", "no")
    with pytest.raises(SwapDeviceError, match="CERTIFICATE_VERIFY_FAILED"):
        open_redis(url, ca_file=str(certificates / "stranger.pem"))
    with pytest.raises(SwapDeviceError, match="CERTIFICATE_VERIFY_FAILED"):
        open_redis(url)  # that of the system does not know it
    with pytest.raises(SwapDeviceError, match=r"CERTIFICATE_VERIFY_FAILED.*Hostname mismatch"):
        open_redis(secure("elsewhere"), **files(certificates))


@pytest.mark.parametrize("key", ["ca_file", "certificate_file"])
@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_that_is_no_certificate_is_named(certificates, tmp_path, key, text):
    path = tmp_path / "some.pem"
    if text:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"swap device redis0: {key} {path}: .*PEM"):
        open_redis("rediss://localhost:1", **{**files(certificates), key: str(path)})


@pytest.fixture
def guarded(tmp_path):
    """A primary that asks for one password, a Sentinel that asks for another, and the files with both."""
    require_redis()
    with contextlib.ExitStack() as stack:
        primary = RedisServer(tmp_path / "primary", port=free_port(), password="of-the-server")
        stack.callback(primary.close)
        settings = tmp_path / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor far 127.0.0.1 {primary.port} 1\n"
            "sentinel auth-pass far of-the-server\nrequirepass of-the-sentinels\n"
            "user watcher on >of-the-watcher allcommands\n"
        )
        sentinel = RedisServer(tmp_path / "sentinel", config=settings, port=free_port(), password="of-the-sentinels")
        stack.callback(sentinel.close)
        for name in ("of-the-server", "of-the-sentinels", "of-the-watcher"):
            (tmp_path / name).write_text(f"{name}\n")
            (tmp_path / name).chmod(0o600)
        files = {"password_file": str(tmp_path / "of-the-server"), "timeout": 5.0}
        yield tmp_path, f"redis+sentinel://127.0.0.1:{sentinel.port}/far", files


def test_sentinels_have_a_password_of_their_own_from_a_file_or_the_environment(guarded, monkeypatch):
    folder, url, files = guarded
    monkeypatch.setenv(SENTINEL_PASSWORD_VARIABLE, "of-the-sentinels")
    for settings in (
        {},
        {"sentinel_password_file": str(folder / "of-the-sentinels")},
        {"sentinel_password_file": str(folder / "of-the-watcher"), "sentinel_user": "watcher"},
    ):
        device = open_redis(url, **files, **settings)
        try:
            assert device.write([out(0)]) == [None]
            assert read_back(device, [out(0)]) == [None]
        finally:
            device.close()
        monkeypatch.delenv(SENTINEL_PASSWORD_VARIABLE, raising=False)


@pytest.mark.parametrize("password", [None, "of-the-server"])
def test_sentinels_that_refuse_the_password_are_an_error_that_shows_none(guarded, password):
    folder, url, files = guarded
    settings = {"sentinel_password_file": str(folder / password)} if password else {}
    with pytest.raises(SwapDeviceError, match=r"swap device redis0: redis[+]sentinel://.*uthentication") as caught:
        open_redis(url, **files, **settings)
    assert "of-the" not in str(caught.value)


@pytest.fixture
def watched(tmp_path):
    """A primary, its replica, and a Sentinel that watches them."""
    require_redis()
    with contextlib.ExitStack() as stack:
        at_once = ("--repl-diskless-sync-delay", "0")
        primary = RedisServer(tmp_path / "primary", *at_once, port=free_port())
        stack.callback(primary.close)
        replica = RedisServer(
            tmp_path / "replica", *at_once, "--replicaof", "127.0.0.1", str(primary.port), port=free_port()
        )  # fmt: skip
        stack.callback(replica.close)
        wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up", "the replica is in step")
        settings = tmp_path / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor far 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds far 1000\nsentinel failover-timeout far 3000\n"
        )
        sentinel = RedisServer(tmp_path / "sentinel", config=settings, port=free_port())
        stack.callback(sentinel.close)
        yield primary, replica, sentinel


def test_a_failover_by_sentinel_keeps_what_the_replica_has_and_no_byte_is_wrong(watched):
    primary, replica, sentinel = watched
    wait_until(lambda: sentinel.client.execute_command("SENTINEL", "REPLICAS", "far"), "the replica is known")
    device = open_redis(f"redis+sentinel://127.0.0.1:{sentinel.port}/far", timeout=1.0)
    try:
        kept, lost = [out(slot) for slot in range(5)], [out(slot, 2) for slot in range(5, 8)]
        assert device.write(kept) == [None] * 5
        primary.client.set("a write of this connection", "for WAIT, which waits for all before it too")
        wait_until(lambda: primary.client.wait(1, 1000), "the replica has it all")
        replica.stop()
        assert device.write(lost) == [None] * 3
        primary.kill()
        replica.go_on()
        wait_equal(lambda: read_back(device, kept), [None] * 5, "the replica has taken over")
        assert set(read_back(device, lost)) <= {None, DataLoss}  # what the kernel had sent before it stopped arrives
        wait_equal(lambda: types_of(device.write(lost)), [None] * 3, "pages are written again")
        assert read_back(device, lost) == [None] * 3
    finally:
        device.close()
