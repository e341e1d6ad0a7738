"""A conditional policy that makes the test's requests, and records its notifications."""

from __future__ import annotations

from usmd.core.policy import ConditionalPolicy, Requests
from usmd.policies import registry


class Requester(ConditionalPolicy):
    """Returns `requests` in the next turn, and None after that."""

    def __init__(self, memory) -> None:
        super().__init__(memory)
        self.requests: object = None
        self.turns: list[float] = []
        """Times of its turns."""
        self.told: list[tuple[str, int, int | None]] = []
        """Its notifications: ("swapped", page, device) or ("returned", page, None)."""
        self.known: dict[int, int] = {}
        """Pages in swap, with their device."""
        self.returned: set[int] = set()
        """Pages whose last notification is that they returned."""

    def turn(self):
        self.turns.append(self.memory.now)
        requests, self.requests = self.requests, None
        return requests

    def page_swapped(self, page: int, device: int) -> None:
        self.told.append(("swapped", page, device))
        self.known[page] = device
        self.returned.discard(page)

    def page_returned(self, page: int) -> None:
        self.told.append(("returned", page, None))
        self.known.pop(page, None)
        self.returned.add(page)


class FaithfulRequester(Requester):
    """Requests only pages that are in swap at the time of its turn."""

    def turn(self):
        requests = super().turn()
        if requests is None:
            return None
        return Requests(
            trim=requests.trim,
            swap_in=[page for page in requests.swap_in if page in self.known],
            demote=[(page, device) for page, device in requests.demote if self.known.get(page, device) != device],
        )


def make_with(made: list, policy=Requester):
    """A MakePolicy: for `requester` it makes `policy` and appends it to `made`; else it uses the registry."""

    def make(kind, specification, memory):
        if (kind, specification) == ("cond", "requester"):
            made.append(policy(memory))
            return made[-1]
        return registry.make(kind, specification, memory)

    return make


def demoting(*pages: int, device: int = 1) -> Requests:
    """A request to move pages to another device."""
    return Requests(demote=[(page, device) for page in pages])
