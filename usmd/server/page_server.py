"""Serves the live page to browsers: one document without outside resources, and the readings that it asks for.

The page is made of the three files in `live_page`, once it is asked for. Its policy admits the script and the styles in
it by their hashes, and connections to this server; a browser loads nothing else for it, and shows it in no frame.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from usmd import log
from usmd.server.http import Answer, Request
from usmd.server.http_server import PORT, UNIX, HttpServer
from usmd.server.page_reading import PageReading

PATH: Final = "/"
READING: Final = "/reading.json"
_STYLES: Final = "/* styles */"
_SCRIPT: Final = "/* script */"


class Page(NamedTuple):
    """The document, and the headers of all answers."""

    body: bytes
    headers: tuple[tuple[str, str], ...]


class PageServer:
    """Answers browsers, on the sockets of `http`. Each request must name this machine as its host.

    That holds for the Unix socket too: `ssh -L` brings browsers there.
    """

    def __init__(self, reading: PageReading, place: Path) -> None:
        """`place`: path of the Unix socket."""
        self.http = HttpServer("page", place, PATH, self._answer, _refused, checks_host=(UNIX, PORT))
        self._reading = reading

    async def _answer(self, request: Request) -> Answer:
        made = page()
        if request.path == PATH:
            return Answer(200, made.body, "text/html; charset=utf-8", made.headers)
        if request.path == READING:
            return Answer(200, await self._reading.latest(), "application/json", made.headers)
        return Answer(404, f"the page of usmd is at {PATH}\n".encode(), headers=made.headers)


@cache
def page() -> Page:
    """The page, made of its files."""
    files = resources.files("usmd.server") / "live_page"
    markup, styles, script = ((files / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js"))
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(styles),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Page(
        markup.replace(_STYLES, styles).replace(_SCRIPT, script).encode(),
        (
            ("Content-Security-Policy", "; ".join(f"{name} {value}" for name, value in policy.items())),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _refused(name: str, error: str) -> None:
    log.event("page_socket_refused", socket=name, error=error)
