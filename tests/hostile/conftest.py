"""What hostile tests are set up with: as the end-to-end tests."""

from tests.e2e.conftest import small_disk

__all__ = ["small_disk"]
