"""Runners run steps: a runner files their requests on its stream, and waits where the steps wait.

There are three ways to wait. The thread blocks (lib_usm.blocking_runner); a greenlet lets other uThreads run
(lib_usm.kthread); a coroutine returns to its loop (lib_usm.asyncio_runner, and lib_usm.kthread for uThreads).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from lib_usm.steps import Place, Steps

_T = TypeVar("_T")


class Runner(Protocol):
    """Runs the steps that `make` returns for the place where they file their requests."""

    def run(self, make: Callable[[Place], Steps[_T]]) -> _T | Awaitable[_T]:
        """Return the result of the steps, or an awaitable of it. Raises what they raise."""


class WaitingRunner(Protocol):
    """A Runner whose `run` returns the result."""

    def run(self, make: Callable[[Place], Steps[_T]]) -> _T:
        """Return the result of the steps. Raises what they raise."""


class AwaitedRunner(Protocol):
    """A Runner whose `run` is awaited."""

    def run(self, make: Callable[[Place], Steps[_T]]) -> Coroutine[Any, Any, _T]:
        """Return a coroutine that returns the result of the steps, or raises what they raise."""
