"""A change to a daemon: it writes every token and ticket that it makes into a file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

VARIABLE = "USMD_TEST_TOKENS"
"""Names the file."""


def record() -> None:
    """Write down what is made from now on."""
    path = Path(os.environ[VARIABLE])
    make = secrets.token_urlsafe

    def recorded(size: int | None = None) -> str:
        token = make(size)
        with path.open("a") as file:
            file.write(f"{token}\n")
        return token

    secrets.token_urlsafe = recorded
