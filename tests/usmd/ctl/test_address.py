"""Where usmctl looks for the daemon."""

from pathlib import Path

import pytest

from usmd.ctl.address import admin_socket
from usmd.errors import ConfigError


def test_the_address_given_comes_before_the_variable_and_the_variable_before_the_default():
    environ = {"USM_ADMIN_ADDRESS": "unix:/variable.sock", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert admin_socket("unix:/given.sock", environ) == Path("/given.sock")
    assert admin_socket(None, environ) == Path("/variable.sock")
    assert admin_socket(None, {**environ, "USM_ADMIN_ADDRESS": ""}) == Path("/run/user/7/usmd/admin.sock")


@pytest.mark.parametrize("address", ["localhost:50051", "unix:relative.sock", "unix:/" + "x" * 200])
def test_an_address_that_is_no_unix_path_is_bad_usage(address):
    with pytest.raises(ConfigError, match="allow"):
        admin_socket(address, {})


def test_a_default_place_that_another_user_may_have_made_is_refused(tmp_path):
    (tmp_path / "usmd").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"symbolic link.*--address"):
        admin_socket(None, {"XDG_RUNTIME_DIR": str(tmp_path)})
