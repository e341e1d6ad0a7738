"""A conditional policy that requests what the test says, and remembers what it was told."""

from __future__ import annotations

from usmd.core.policy import ConditionalPolicy, Requests
from usmd.policies import registry


class Requester(ConditionalPolicy):
    """Returns `requests` in the next turn, and None after that."""

    def __init__(self, memory) -> None:
        super().__init__(memory)
        self.requests: object = None
        self.turns: list[float] = []
        """When it had its turns."""
        self.told: list[tuple[str, int, int | None]] = []
        """What it heard of pages: (swapped, page, device) or (returned, page, None)."""
        self.known: dict[int, int] = {}
        """Pages in swap, with their device."""
        self.returned: set[int] = set()
        """Pages of which it last heard that they returned."""

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
    """Requests only pages that it knows to be in swap when its turn comes, which may be later."""

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
    """Makes policies: `policy` for the specification `requester`, noted in `made`, and else those of the registry."""

    def make(kind, specification, memory):
        if (kind, specification) == ("cond", "requester"):
            made.append(policy(memory))
            return made[-1]
        return registry.make(kind, specification, memory)

    return make


def demoting(*pages: int, device: int = 1) -> Requests:
    """The request to have pages on another device."""
    return Requests(demote=[(page, device) for page in pages])
