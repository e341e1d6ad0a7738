"""Which mechanism a configuration gets, for every offer of a kernel."""

import mmap

import pytest

from tests.support.real_memory import require_real_memory
from usmd import config_values
from usmd.errors import ConfigError
from usmd.mechanism import choose, uffd
from usmd.mechanism.simulated import SimulatedMemory
from usmd.mechanism.uffd import Feature, Offer
from usmd.mechanism.userfaultfd import UserfaultfdMemory

ALL = Offer("device", uffd.REQUIRED | uffd.WANTED, "")
LEAST = Offer("user-mode", uffd.REQUIRED, "")
NONE = Offer("", Feature(0), "no userfaultfd: Operation not permitted")
OLD = Offer("syscall", uffd.REQUIRED & ~Feature.WP_HUGETLBFS_SHMEM, "")
PAGE = mmap.PAGESIZE
HALF = PAGE // 2


def made(*arguments):
    memory, why_not = choose.make(*arguments)
    memory.close()
    return type(memory), why_not


@pytest.mark.parametrize("wanted", ["auto", "userfaultfd"])
@pytest.mark.parametrize("offer", [ALL, LEAST])
@pytest.mark.parametrize("page_size", [PAGE, 16 * PAGE])
def test_real_memory_where_it_can_be(wanted, offer, page_size):
    assert choose.why_not_real(offer, page_size) == ""
    assert made(wanted, 4, page_size, offer) == (UserfaultfdMemory, "")


@pytest.mark.parametrize(
    ("offer", "page_size", "why_not"),
    [
        (NONE, PAGE, "no userfaultfd: Operation not permitted"),
        (OLD, PAGE, "lacks UFFD_FEATURE_WP_HUGETLBFS_SHMEM; Linux 5.19 has them all"),
        (ALL, HALF, f"memory.page_size = {HALF // 1024} KiB is not a multiple of the hardware's {PAGE // 1024} KiB"),
        (ALL, 512, "memory.page_size = 512 B is not a multiple of the hardware's"),
        (NONE, 512, "memory.page_size = 512 B is not a multiple of the hardware's"),
    ],
)
def test_where_it_cannot_be_auto_does_without_and_says_why_and_userfaultfd_does_not_start(offer, page_size, why_not):
    kind, said = made("auto", 4, page_size, offer)
    assert kind is SimulatedMemory
    assert why_not in said
    assert "\n" not in said
    with pytest.raises(ConfigError) as caught:
        choose.make("userfaultfd", 4, page_size, offer)
    message = str(caught.value)
    assert message.startswith(f'memory.mechanism = "userfaultfd" cannot be used: {said}; `usmctl doctor`')
    assert '"auto" and "simulated" work without it' in message


@pytest.mark.parametrize("offer", [ALL, NONE])
def test_simulated_is_had_whatever_the_machine_offers(offer):
    assert made("simulated", 4, PAGE, offer) == (SimulatedMemory, "")
    assert made("simulated", 4, 512, offer) == (SimulatedMemory, "")


@pytest.mark.parametrize("wanted", ["auto", "simulated"])
def test_simulated_memory_that_cannot_be_had_is_a_configuration_error(wanted):
    with pytest.raises(ConfigError, match=r"memory\.size = .* cannot be allocated"):
        choose.make(wanted, 1 << 45, PAGE, NONE)


def test_the_names_are_those_of_the_configuration():
    assert sorted(choose.MECHANISMS) == ["auto", "simulated", "userfaultfd"]
    (allowed,) = (kind.allowed for kind in config_values.Mechanism.__metadata__)
    assert allowed == f"one of {', '.join(sorted(choose.MECHANISMS))}"


def test_auto_is_real_memory_on_a_machine_that_can():
    require_real_memory()
    assert made("auto", 4, PAGE, uffd.probe()) == (UserfaultfdMemory, "")
