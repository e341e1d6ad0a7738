"""How an operator writes a remote swap file, and how it is opened."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self

import msgspec

from usmd import config_values as values
from usmd.errors import ConfigError, SwapDeviceError
from usmd.sizes import parse_size
from usmd.swap.kind import SwapKind
from usmd.swap.remote import checks, lease
from usmd.swap.remote.address import FORMS, Form, parse_url
from usmd.swap.remote.device import RedisSwapDevice

if TYPE_CHECKING:
    from usmd.swap.remote.requests import Servers

PASSWORD_VARIABLE: Final = "USMD_REDIS_PASSWORD"  # noqa: S105 - the name of a variable
SENTINEL_PASSWORD_VARIABLE: Final = "USMD_SENTINEL_PASSWORD"  # noqa: S105 - likewise
_KEYSPACE = "1 to 64 letters, digits, '_', '.' or '-'"


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - readers refuse with ValueError, whatever the reason
    return parse_url(value).url


def _keyspace(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64 or not set(value) <= _ALLOWED:
        raise ValueError
    return value


def _user(value: object) -> str:
    if not isinstance(value, str) or not value or any(each.isspace() or each == "\0" for each in value):
        raise ValueError
    return value


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)


def _password(key: str, path: Path | None, variable: str) -> str:
    """A password from a file or a variable, or nothing.

    Raises ConfigError for a file that cannot be read, or that all users can read.
    """
    if path is None:
        return os.environ.get(variable, "")
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ConfigError(f"{key} {path}: all users can read it; chmod o-r it", key)
            password = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{key} {path}: cannot be read ({why})", key) from error
    if not password:
        raise ConfigError(f"{key} {path}: its first line is empty; write the password there", key)
    return password


_ALLOWED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
Url = Annotated[str, values.Kind(FORMS, _url)]
Keyspace = Annotated[str, values.Kind(_KEYSPACE, _keyspace)]
User = Annotated[str, values.Kind("the name of a user, without blanks", _user)]


class RedisKind(SwapKind, frozen=True, kw_only=True):
    """`redis:URL:SIZE`; SIZE is that of the pages."""

    device = RedisSwapDevice
    form: ClassVar[str] = "URL:SIZE"

    url: Url
    """Where the servers are, without a password."""

    keyspace: Keyspace | None = None
    """First part of the names of all keys, which one device of one daemon owns; None, until `placed`: the name of the
    machine and the number of the device."""

    password_file: values.AbsolutePath | None = None
    """File whose first line is the password; None: the variable USMD_REDIS_PASSWORD, else no password."""

    sentinel_user: User | None = None
    """User by whom the Sentinels know usmd; None: their default user. That of the URL is the servers'."""

    sentinel_password_file: values.AbsolutePath | None = None
    """File whose first line is the password of the Sentinels; None: the variable USMD_SENTINEL_PASSWORD, else none."""

    ca_file: values.AbsolutePath | None = None
    """Certificates that the servers' certificates are verified with, in PEM format; None: those of the system."""

    certificate_file: values.AbsolutePath | None = None
    """Certificate that the daemon shows to servers that ask for one, in PEM format."""

    key_file: values.AbsolutePath | None = None
    """Its private key; None: it is in `certificate_file`."""

    timeout: values.Seconds = 2.0
    """Seconds after which a server that has not answered is away: far above what a healthy one takes."""

    patience: values.SecondsOrZero = 10.0
    """Seconds for which a page is tried to be read while its server is away: a failover takes about as long."""

    lease: values.Seconds = 30.0
    """Seconds after which another daemon may take the keyspace of one that has gone."""

    expire: values.Seconds = 3600.0
    """Seconds after which the pages of a daemon that has gone are removed by the servers. Those of one that was cut off
    for as long are lost, so it is much."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `URL:SIZE`; the URL may contain colons."""
        url, _, size = text.rpartition(":")
        if not url or "/" in size:
            raise ValueError("it has no URL or no size")
        return cls(url=_url(url), size=parse_size(size))

    def placed(self, folder: Path, number: int) -> Self:
        """The same device with a keyspace, by default one of this machine and the device."""
        del folder
        if self.keyspace is not None:
            return self
        host = "".join(each if each in _ALLOWED else "-" for each in socket.gethostname())
        return msgspec.structs.replace(self, keyspace=f"{host[:60]}-{number}")

    def claim(self) -> str | None:
        """The keyspace; None if there is none."""
        return None if self.keyspace is None else f"the keyspace {self.keyspace} of {self.url}"

    def open(self, number: int, name: str, page_size: int) -> RedisSwapDevice:
        """Connect, check the servers, and take the keyspace.

        Raises ConfigError without the client library, or for a file that cannot be used; SwapDeviceError if the
        servers do not answer, are no place for pages, or the keyspace is another daemon's.
        """
        try:
            from usmd.swap.remote import servers
        except ImportError as error:
            raise ConfigError(
                f"swap device {name}: a redis device needs the Python package redis ({error}); "
                "pip install 'usmd[redis]'"
            ) from error
        keyspace = self.keyspace or str(number)
        address = parse_url(self.url)
        try:
            access = servers.Access(
                password=_password("password_file", self.password_file, PASSWORD_VARIABLE),
                sentinel_user=self.sentinel_user or "",
                sentinel_password=self._sentinel_password(address.form),
                ca_file=_text(self.ca_file),
                certificate_file=_text(self.certificate_file),
                key_file=_text(self.key_file),
                timeout=self.timeout,
            )
            found = servers.connect(address, access)
            try:
                return self._opened(number, name, page_size, keyspace, found)
            except BaseException:
                found.close()
                raise
        except ConfigError as error:
            raise ConfigError(f"swap device {name}: {error}", error.key) from error
        except SwapDeviceError as error:
            raise SwapDeviceError(f"swap device {name}: {error}") from error

    def _sentinel_password(self, form: Form) -> str:
        """The password of the Sentinels, or nothing. Raises ConfigError too if there are none for what is set."""
        if form == "sentinel":
            return _password("sentinel_password_file", self.sentinel_password_file, SENTINEL_PASSWORD_VARIABLE)
        for key in ("sentinel_user", "sentinel_password_file"):
            if getattr(self, key):
                raise ConfigError(f"{key} is for the Sentinels of redis+sentinel://..., and url is {self.url}", key)
        return ""

    def _opened(self, number: int, name: str, page_size: int, keyspace: str, found: Servers) -> RedisSwapDevice:
        replies = found.ask_all("INFO", "memory")
        unsafe = checks.why_unsafe(replies)
        if unsafe:
            raise SwapDeviceError(f"{self.url}: {unsafe}")
        owner = lease.this_process(secrets.token_hex(8))
        fit = checks.best_fit(found, f"usmd:{keyspace}:{{{owner.id}}}:probe", page_size)
        slots = self.size // page_size
        held = lease.Lease(found, keyspace, owner, self.lease, time.monotonic)
        dead = held.take()
        try:
            # What a dead daemon left is deleted, and counts as free.
            checks.check_memory(replies, 0 if dead else -(-slots // fit.slots) * fit.memory)
            return RedisSwapDevice(
                number=number,
                name=name,
                url=self.url,
                slots=slots,
                page_size=page_size,
                servers=found,
                lease=held,
                lease_seconds=self.lease,
                keyspace=keyspace,
                fit=fit,
                expire=self.expire,
                patience=self.patience,
                dead=dead,
            )
        except BaseException:
            held.give_up()
            raise
