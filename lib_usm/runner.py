"""What runs steps: a runner waits where they wait, each in its own way, and files what they ask for on its stream.

There are three ways. A thread that waits is kept (lib_usm.blocking_runner); a greenlet lets other uThreads run
(lib_usm.kthread); a coroutine lets its loop go on (lib_usm.asyncio_runner, and lib_usm.kthread for uThreads).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from lib_usm.steps import Place, Steps

_T = TypeVar("_T")


class Runner(Protocol):
    """Runs the steps that `make` returns for the place where they file what they wait for."""

    def run(self, make: Callable[[Place], Steps[_T]]) -> _T | Awaitable[_T]:
        """Return the result of the steps, or what is awaited for it. Raises what they raise."""


class WaitingRunner(Protocol):
    """A Runner that has the result when `run` returns."""

    def run(self, make: Callable[[Place], Steps[_T]]) -> _T:
        """Return the result of the steps. Raises what they raise."""


class AwaitedRunner(Protocol):
    """A Runner that is awaited."""

    def run(self, make: Callable[[Place], Steps[_T]]) -> Coroutine[Any, Any, _T]:
        """Return what gives the result of the steps, or raises what they raise, when it is awaited."""
