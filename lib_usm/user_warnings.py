"""Warnings for users: they name the line of the application's code that called the library."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from lib_usm.arguments import counted
from lib_usm.calls import current_call

_PACKAGE = str(Path(__file__).parent) + "/"


def warn(text: str) -> None:
    """Issue a UserWarning at the line of the application that called."""
    call = current_call()
    if call is not None:
        call.texts.append(text)  # the caller's thread issues it
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)


def warn_over_budget(pages: int) -> None:
    """Warn of pages that EVICTION=DENY does not keep, because they exceed the budget."""
    warn(
        f"{counted(pages, 'page')} asked for EVICTION=DENY beyond the budget of this session, or that of all sessions, "
        "and may be evicted; `client.kept()` says what is kept (the daemon's memory.deny_budget and deny_budget_total)"
    )
