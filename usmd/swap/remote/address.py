"""Where a Redis is: the URLs that operators write.

A URL never has a password: it is shown by `usmctl swap`, `usmd config show`, errors and the log.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from usmd.errors import ConfigError

Form = Literal["one", "sentinel", "cluster"]

FORMS: Final = (
    "redis://[USER@]HOST[:PORT][/DB], rediss://... for TLS, unix://[USER@]/PATH[?db=DB], "
    "redis+sentinel://HOST[:PORT],.../SERVICE[/DB], redis+cluster://HOST[:PORT],...; valkey for redis is the same"
)
"""What is allowed, for errors."""
WHERE_PASSWORDS_BELONG: Final = (
    "a URL has no password, because others can read it; put it into a file that password_file of [[swap]] names, or "
    "into the variable USMD_REDIS_PASSWORD of usmd's environment"
)
PORT: Final = 6379
SENTINEL_PORT: Final = 26_379
_SECRET_KEY: Final = re.compile(r"([?&](?:username|password)=)[^&\s]*", re.IGNORECASE)
_FORMS: Final[dict[str, Form]] = {"": "one", "sentinel": "sentinel", "cluster": "cluster"}
_TLS: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}


class Address(NamedTuple):
    """A parsed URL. `hosts`: those to begin with; empty for a Unix socket, whose path is `socket`."""

    url: str
    form: Form
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    socket: str
    user: str
    database: int
    service: str
    """Name of the primary that Sentinel watches; empty for the other forms."""


def hide_passwords(text: str) -> str:
    """The text with `...` for what is before the @ of a URL that has a password, and for a password in its query."""
    text = _SECRET_KEY.sub(r"\1...", text)
    rest = text.partition("://")[2]
    user, colon, _ = rest.partition(":")
    end = text.rfind("@")
    if not colon or "/" in user or "@" in user or end < len(text) - len(rest):
        return text
    return f"{text[: len(text) - len(rest)]}...{text[end:]}"


def parse_url(url: str) -> Address:
    """Read a URL. Raises ConfigError, which shows no password, for one that is not allowed."""
    if hide_passwords(url) != url:
        raise ConfigError(f"{hide_passwords(url)!r}: {WHERE_PASSWORDS_BELONG}")
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return _unix(url, parts)
        return _network(url, parts)
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        raise ConfigError(f"{url!r} is not the URL of a Redis{why}; allowed is {FORMS}") from None


def _unix(url: str, parts: SplitResult) -> Address:
    _refuse(parts.fragment, "#")
    user, at, rest = _user(parts)
    path = unquote(parts.path)
    if rest or (at and not user) or not path.startswith("/") or "\0" in path:
        raise ValueError("the path is not absolute")
    database = 0
    if parts.query:
        key, _, value = parts.query.partition("=")
        if key != "db":
            raise ValueError(f"there is no option {key!r}")
        database = _database(value)
    return Address(url, "one", False, (), path, unquote(user), database, "")


def _network(url: str, parts: SplitResult) -> Address:
    _refuse(parts.query, "?")
    _refuse(parts.fragment, "#")
    base, _, suffix = parts.scheme.partition("+")
    if base not in _TLS or suffix not in _FORMS or parts.scheme.endswith("+"):
        raise ValueError(f"there is no scheme {parts.scheme!r}")
    form = _FORMS[suffix]
    user, at, listed = _user(parts)
    if at and not user:
        raise ValueError("the user is empty")
    hosts = tuple(_host(each, SENTINEL_PORT if form == "sentinel" else PORT) for each in listed.split(","))
    if form == "one" and len(hosts) > 1:
        raise ValueError("several hosts are for +sentinel and +cluster")
    path = parts.path.removeprefix("/")
    service = ""
    if form == "sentinel":
        service, _, path = path.partition("/")
        service = unquote(service)
        if not service:
            raise ValueError("it names no service")
    database = _database(path) if path else 0
    if form == "cluster" and database:
        raise ValueError("a cluster has database 0 alone")
    return Address(url, form, _TLS[base], hosts, "", unquote(user), database, service)


def _user(parts: SplitResult) -> tuple[str, str, str]:
    """The user, @ if there is one, and the rest."""
    user, at, rest = parts.netloc.rpartition("@")
    if set(user) & {"@", ":"}:
        raise ConfigError(WHERE_PASSWORDS_BELONG)
    return user, at, rest


def _refuse(part: str, mark: str) -> None:
    if part:
        raise ValueError(f"nothing may stand behind {mark!r}")


def _host(text: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]+)(?::(\d{1,5}))?", text)
    if found is None or not 1 <= int(found[2] or port) <= 65_535:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    return found[1].strip("[]"), int(found[2] or port)


def _database(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text):
        raise ValueError(f"{text!r} is not the number of a database")
    return int(text)
