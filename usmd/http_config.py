"""The sections of what usmd serves over HTTP: `[metrics]` and `[page]`. Their fields are read as those of `config`."""

from __future__ import annotations

import msgspec

from usmd import config_values as values
from usmd.config_values import host_and_port


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where something is served over HTTP."""

    unix: values.Switch = False
    """Serve it on a Unix socket, at the path of `server.admin_socket` plus a suffix."""

    socket_mode: values.Mode = 0o600
    """Mode of that socket. What is served names processes and users, so the default admits only the owner."""

    listen: values.LoopbackPort | None = None
    """Address and TCP port as well, for clients that open no Unix sockets; of this machine alone, because there is
    neither encryption nor a password. None: no port, because every local user may connect to one."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Address and port of `listen`."""
        return None if self.listen is None else host_and_port(self.listen)


class MetricsConfig(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[metrics]`: where scrapers find metrics, and of how many processes."""

    unix: values.Switch = True
    """At the suffix `.metrics`. On by default: it costs nothing until a scraper asks, opens no port, and admits the
    users that `socket_mode` admits."""

    processes: values.MetricProcesses = 10
    """How many processes have metrics of their own, those with most memory; the others are summed up as one. The
    default keeps a scrape small, however many clients there are."""


class PageConfig(HttpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[page]`: where browsers find the live page; its Unix socket, at the suffix `.page`, is for `ssh -L`."""
