"""What hostile tests are set up with: a daemon for those of a module, and as the end-to-end tests."""

import pytest

from tests.e2e.conftest import small_disk
from tests.support.real_memory import require_real_memory
from tests.support.shared_daemon import shared_daemon

__all__ = ["daemon", "shared", "small_disk"]


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    """A daemon with a bystander for the tests of a module, of which `OPTIONS` may have options of `real_daemon`."""
    require_real_memory()
    folder = tmp_path_factory.mktemp("usmd")
    options = getattr(request.module, "OPTIONS", None)
    with shared_daemon(folder, **(options(folder) if options else {})) as found:
        yield found


@pytest.fixture
def daemon(shared):
    """The daemon of the module, which the test must leave as it was, while its bystander is served."""
    with shared.unharmed():
        yield shared.daemon
