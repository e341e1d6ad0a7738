"""A conditional policy that wishes what the test says, and remembers what it was told."""

from __future__ import annotations

from usmd.core.policy import ConditionalPolicy, Wishes
from usmd.policies import registry


class Wisher(ConditionalPolicy):
    """`wishes` is answered to the next turn, and nothing after that."""

    def __init__(self, memory) -> None:
        super().__init__(memory)
        self.wishes: object = None
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
        wishes, self.wishes = self.wishes, None
        return wishes

    def page_swapped(self, page: int, device: int) -> None:
        self.told.append(("swapped", page, device))
        self.known[page] = device
        self.returned.discard(page)

    def page_returned(self, page: int) -> None:
        self.told.append(("returned", page, None))
        self.known.pop(page, None)
        self.returned.add(page)


class FaithfulWisher(Wisher):
    """Wishes of what it was told to only what it knows to be in swap when its turn comes, which may be later."""

    def turn(self):
        wishes = super().turn()
        if wishes is None:
            return None
        return Wishes(
            trim=wishes.trim,
            swap_in=[page for page in wishes.swap_in if page in self.known],
            demote=[(page, device) for page, device in wishes.demote if self.known.get(page, device) != device],
        )


def make_with(made: list, policy=Wisher):
    """What makes policies: `policy` for the specification `wisher`, noted in `made`, and else those of the registry."""

    def make(kind, specification, memory):
        if (kind, specification) == ("cond", "wisher"):
            made.append(policy(memory))
            return made[-1]
        return registry.make(kind, specification, memory)

    return make


def demoting(*pages: int, device: int = 1) -> Wishes:
    """The wish to have pages on another device."""
    return Wishes(demote=[(page, device) for page in pages])
