"""What flags say of the configuration; test_cli has what they do to a daemon."""

from pathlib import Path

import pytest

from usmd.cli import app
from usmd.cli_options import source_of
from usmd.config_source import FLAGS
from usmd.errors import ConfigError


def given(**values):
    serve = next(each for each in app.registered_commands if each.callback.__name__ == "serve")
    return dict.fromkeys(serve.callback.__annotations__) | {"no_uvloop": False} | values


def test_a_flag_that_is_not_given_changes_nothing():
    assert {each.origin for each in source_of(given()).settings()} <= {"default", "environment"}


def test_each_flag_sets_the_key_that_is_said_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {
        "socket": "/a/u", "admin_socket": "/a/a", "state_dir": Path("s"), "memory": "1MiB", "page_size": "8KiB",
        "mechanism": "simulated", "fault_wakeup": "sleep", "alloc": "first_fit", "evict": "lru", "oom": "refuse",
        "cond": "none", "no_uvloop": True, "trace_events": Path("t"), "metrics_listen": "127.0.0.1:1",
        "page_listen": "127.0.0.1:2",
        "log_format": "json", "log_level": "error",
    }  # fmt: skip
    settings = source_of(given(**values)).settings()
    assert {each.key: each.place for each in settings if each.origin == "flag"} == FLAGS
    found = {each.key: each.value for each in settings}
    assert (found["server.state_dir"], found["server.uvloop"]) == (f"{tmp_path}/s", False)


def test_a_device_that_cannot_be_read_is_an_error():
    assert source_of(given(swap=["memory:1MiB"])).load().swap[0].size == 1 << 20
    with pytest.raises(ConfigError, match="there is no kind 'tape'"):
        source_of(given(swap=["tape:1MiB"]))
