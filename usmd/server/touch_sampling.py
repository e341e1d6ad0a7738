"""Which clients have their touches sampled, and why the others have not. The core decides which pages are taken out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from usmd import log
from usmd.core import events
from usmd.mechanism import sampler, uffd
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.userfaultfd import UserfaultfdMemory
from usmd.server.engine import Engine
from usmd.server.sampling_cost import SamplingCost

WAY = sampler.Pageout
TOLD_A_TICK: Final = 256
"""Clients for which sampling begins or ceases in a tick, because there may be very many."""


class TouchSampling:
    """Begins, suspends and ends the sampling of clients.

    `why_not`: why no client is sampled now; empty if clients are. `kernel_swap` says why the kernel's own swap is in
    the way, or nothing, and `why_not_permitted` why usmd has no right to it.
    """

    def __init__(
        self,
        engine: Engine,
        memory: UserfaultfdMemory,
        features: uffd.Feature,
        kernel_swap: Callable[[], str] = sampler.kernel_swap,
        cost: SamplingCost | None = None,
        why_not_permitted: Callable[[], str] = sampler.why_not_permitted,
    ) -> None:
        """`features`: what the kernel offers. `cost`: what it may cost; None: any."""
        self._engine = engine
        self.cost = SamplingCost(1.0) if cost is None else cost
        self._memory = memory
        self._kernel_swap = kernel_swap
        self._clients: dict[ClientMemory, int] = {}
        """Clients that can be sampled, with their process."""
        self._untold: deque[ClientMemory] = deque()
        """Those for which it is still to begin or to cease."""
        self._refused: dict[ClientMemory, str] = {}
        """Clients of which no page can be taken out, and why."""
        self._never = "" if engine.core.state.settings.sampling else 'memory.sampling = "off"'
        self._never = self._never or sampler.why_no_features(features) or why_not_permitted()
        self.why_not = "not looked yet"
        memory.on_unsampled = self._cannot
        engine.sampling_cost = self.cost
        self.look()

    @property
    def features(self) -> uffd.Feature:
        """The features that a client's userfaultfd needs for this beside the others."""
        return uffd.Feature(0) if self._never else uffd.HEARS_TOUCHES

    def begin(self, client: ClientMemory, process_id: int, pidfd: int) -> None:
        """Sample a client, if its userfaultfd can hear of touches. `pidfd`: of its process, open until `end`."""
        if uffd.HEARS_TOUCHES not in client.features:
            return
        client.sampled.sampler = WAY(pidfd)
        self._clients[client] = process_id
        self._engine.submit(events.SetSampling(process_id, on=self._on))

    @property
    def _on(self) -> bool:
        """Whether clients are sampled now."""
        return not self.why_not and not self.cost.rests

    def touched(self, process_id: int, faults: Sequence[events.PageFault]) -> None:
        """Hand faults of a client, of which the first told of a touch, to the engine."""
        event = events.PageFaults(process_id, faults)
        self.cost.touched(lambda: self._engine.submit(event))

    def tick(self) -> None:
        """Rest if sampling has taken more than its share of CPU, and go on if it has not. Called every 0.1 s."""
        if self.cost.tick() and not self.why_not:
            self._untold = deque(self._clients)
        self._set_some()

    def _set_some(self) -> None:
        for _ in range(min(len(self._untold), TOLD_A_TICK)):
            process_id = self._clients.get(self._untold.popleft())
            if process_id is not None:  # else it is gone, or can be sampled no more
                self._engine.submit(events.SetSampling(process_id, on=self._on))

    def end(self, client: ClientMemory) -> None:
        """A client is no longer served."""
        client.sampled.sampler = None
        self._clients.pop(client, None)
        if self._refused.pop(client, None) is not None:
            self._tell()

    def _tell(self) -> None:
        """Say how touches are heard of, for operators."""
        said = f"off: {self.why_not}" if self.why_not else WAY.name
        if self._refused and not self.why_not:
            processes = "1 process" if len(self._refused) == 1 else f"{len(self._refused)} processes"
            said += f", but not of {processes}: {next(iter(self._refused.values()))}"
        self._memory.sampling = said

    def look(self) -> None:
        """Look whether the kernel's swap has come or gone. Called about once a second."""
        why_not = self._never or self._kernel_swap()
        if why_not == self.why_not:
            return
        changed = bool(why_not) != bool(self.why_not)
        self.why_not = why_not
        self._tell()
        if not changed:
            return
        if self._clients:
            log.event("sampling_suspended" if why_not else "sampling_resumed", **({"why": why_not} if why_not else {}))
        self._untold = deque(self._clients)
        self._set_some()

    def _cannot(self, client: ClientMemory, why: str) -> None:
        """No page of a client can be taken out."""
        process_id = self._clients.pop(client, None)
        if process_id is not None:
            self._refused[client] = why
            self._tell()
            log.event("sampling_ended", process_id=process_id, why=why)
            self._engine.submit(events.SetSampling(process_id, on=False))
