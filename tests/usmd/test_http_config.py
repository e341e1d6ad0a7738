"""The sections of what is served over HTTP."""

import pytest

from usmd.config import load
from usmd.errors import ConfigError
from usmd.http_config import HttpConfig, MetricsConfig, PageConfig


@pytest.mark.parametrize("struct", [HttpConfig, MetricsConfig, PageConfig])
def test_sections_cannot_be_changed_and_take_no_unknown_field(struct):
    assert struct.__struct_config__.frozen
    assert struct.__struct_config__.forbid_unknown_fields


def test_the_page_is_off_unless_it_is_given_a_place(tmp_path):
    assert (PageConfig().unix, PageConfig().address) == (False, None)
    path = tmp_path / "usmd.toml"
    path.write_text('[page]\nunix = true\nsocket_mode = "0660"\nlisten = "[::1]:9843"\n')
    page = load(path).page
    assert page == PageConfig(unix=True, socket_mode=0o660, listen="[::1]:9843")
    assert page.address == ("::1", 9843)


@pytest.mark.parametrize("address", ["0.0.0.0:9843", "192.0.2.1:9843", "localhost:9843", "127.0.0.1:0", "9843", ""])
def test_the_page_is_refused_at_any_address_but_one_of_this_machine(tmp_path, address):
    path = tmp_path / "usmd.toml"
    path.write_text(f'[page]\nlisten = "{address}"\n')
    with pytest.raises(ConfigError, match=r"page\.listen = .* is not allowed; allowed is an address of this machine"):
        load(path)


def test_the_port_of_metrics_is_refused(tmp_path):
    path = tmp_path / "usmd.toml"
    path.write_text('[metrics]\nlisten = "127.0.0.1:9842"\n[page]\nlisten = "127.0.0.1:9842"\n')
    with pytest.raises(ConfigError, match=r"page\.listen = .* allowed is any port but that of metrics\.listen"):
        load(path)
