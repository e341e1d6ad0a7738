"""Which clients have their touches sampled, and why the others have not. The core decides which pages are taken out."""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from usmd import log
from usmd.core import events
from usmd.mechanism import sampler, uffd
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.userfaultfd import UserfaultfdMemory
from usmd.server.engine import Engine
from usmd.server.sampling_cost import SamplingCost

OLD_CLIENT: Final = "it does not take its own pages out (lib_usm without a compiler, or an older one), and "
TOLD_A_TICK: Final = 256
"""Clients for which sampling begins or ceases in a tick, because there may be very many."""


class _Sampled(NamedTuple):
    """A process that can be sampled, and by which way."""

    process_id: int
    way: str


class TouchSampling:
    """Begins, suspends and ends the sampling of clients.

    A client that offers to take its own pages out does that; of another one usmd does, if it may. `why_not`: why no
    client is sampled now; empty if clients are. `kernel_swap` says why the kernel's own swap is in the way, or nothing,
    and `why_not_permitted` why usmd may take out no page of others.
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
        self._clients: dict[ClientMemory, _Sampled] = {}
        """Clients that can be sampled."""
        self._untold: deque[ClientMemory] = deque()
        """Those for which it is still to begin or to cease."""
        self._refused: dict[ClientMemory, str] = {}
        """Clients of which no page can be taken out, and why."""
        self._never = "" if engine.core.state.settings.sampling else 'memory.sampling = "off"'
        self._never = self._never or sampler.why_no_features(features)
        self._why_not_permitted = "" if self._never else why_not_permitted()
        self._ways: Counter[str] = Counter()
        """How many clients are sampled by each way."""
        self.why_not = "not looked yet"
        memory.on_unsampled = self._cannot
        engine.sampling_cost = self.cost
        self.look()

    @property
    def features(self) -> uffd.Feature:
        """The features that a client's userfaultfd needs for this beside the others."""
        return uffd.Feature(0) if self._never else uffd.HEARS_TOUCHES

    def begin(
        self, client: ClientMemory, process_id: int, pidfd: int, *, takes_out: bool = False
    ) -> socket.socket | None:
        """Sample a client, if its userfaultfd can hear of touches. `pidfd`: of its process, open until `end`.

        `takes_out`: it offers to take its own pages out. Returns the socket that it needs for that, or None. The socket
        is to be closed when the client has it.
        """
        if self._never or uffd.HEARS_TOUCHES not in client.features:
            return None
        way, why_not = self._way_for(pidfd, takes_out=takes_out)
        if way is None:
            self._refuse(client, process_id, why_not)
            return None
        client.sampled.sampler = way
        self._clients[client] = _Sampled(process_id, way.name)
        self._ways[way.name] += 1
        self._tell()
        self._engine.submit(events.SetSampling(process_id, on=self._on))
        return way.theirs if isinstance(way, sampler.ByClient) else None

    def _way_for(self, pidfd: int, *, takes_out: bool) -> tuple[sampler.ReferenceSampler | None, str]:
        """The way to sample a client; None, and why there is none."""
        why_not = OLD_CLIENT
        if takes_out:
            try:
                return sampler.ByClient(), ""
            except OSError as error:
                why_not = f"there is no socket by which it can be asked ({error.strerror}), and "
        if self._why_not_permitted:
            return None, why_not + self._why_not_permitted
        return sampler.Pageout(pidfd), ""

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
            found = self._clients.get(self._untold.popleft())
            if found is not None:  # else it is gone, or can be sampled no more
                self._engine.submit(events.SetSampling(found.process_id, on=self._on))

    def end(self, client: ClientMemory) -> None:
        """A client is no longer served."""
        client.sampled.stop()
        self._forget(client)
        self._refused.pop(client, None)
        self._tell()

    def _forget(self, client: ClientMemory) -> _Sampled | None:
        found = self._clients.pop(client, None)
        if found is not None:
            self._ways[found.way] -= 1
        return found

    def _tell(self) -> None:
        """Say how touches are heard of, for operators."""
        ways = " and ".join(sorted(name for name, count in self._ways.items() if count)) or sampler.ByClient.name
        said = f"off: {self.why_not}" if self.why_not else ways
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
        """No page of a client can be taken out any more."""
        found = self._forget(client)
        if found is not None:
            self._refuse(client, found.process_id, why)
            self._engine.submit(events.SetSampling(found.process_id, on=False))

    def _refuse(self, client: ClientMemory, process_id: int, why: str) -> None:
        self._refused[client] = why
        self._tell()
        log.event("sampling_ended", process_id=process_id, why=why)
