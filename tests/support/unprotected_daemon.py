"""usmd without write-protect, to show that tests/e2e/test_lost_updates.py sees the updates that are lost by that.

Run it like `usmd`. Protecting a page claims success and does nothing, and the page is copied at once, so that its
checksum is that of the copy: a store after the copy is lost, and nothing but a wrong byte tells of it.
"""

from __future__ import annotations

from usmd.cli import main
from usmd.core.commands import SlotPage
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.userfaultfd import UserfaultfdMemory

_source = UserfaultfdMemory.source


def _claim_to_protect(self: ClientMemory, region_id: int, offset: int, length: int) -> bool:
    del self, region_id, offset, length
    return True


def _copy(self: UserfaultfdMemory, page: SlotPage) -> memoryview:
    with _source(self, page) as bytes_of_the_page:
        return memoryview(bytes(bytes_of_the_page))


if __name__ == "__main__":
    ClientMemory.protect = _claim_to_protect  # type: ignore[method-assign]
    UserfaultfdMemory.source = _copy  # type: ignore[method-assign]
    main()
