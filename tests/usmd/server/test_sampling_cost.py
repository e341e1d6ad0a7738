"""What sampling costs is measured by a clock of CPU time, and bounded by rests."""

import pytest

from usmd.server.sampling_cost import CREDIT_SECONDS, MEASURED, SamplingCost


class Cpu:
    """CPU seconds of the daemon, of which calls take what they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def taking(self, seconds):
        def call():
            self.now += seconds

        return call


@pytest.fixture
def cpu():
    return Cpu()


def test_it_rests_while_it_has_taken_more_than_its_share(cpu):
    cost = SamplingCost(0.25, cpu)
    cost.take_out(cpu.taking(1.0))
    assert (cost.tick(), cost.rests, cost.share) == (True, True, 1.0)
    cpu.now += 2.5  # 0.25 of 3.5 s is less than 1 s
    assert (cost.tick(), cost.rests) == (False, True)
    cpu.now += 1.0
    assert (cost.tick(), cost.rests) == (True, False)
    assert 0.2 < cost.share < 0.25


def test_it_may_go_on_for_ever_within_its_share(cpu):
    cost = SamplingCost(0.25, cpu)
    for _ in range(100):
        cost.take_out(cpu.taking(0.02))
        cpu.now += 0.08
        assert not cost.tick()
    assert cost.share == pytest.approx(0.2)


def test_what_was_not_used_may_be_made_up_for_within_a_bound(cpu):
    cost = SamplingCost(0.5, cpu)
    cpu.now += 1000.0
    cost.tick()
    cost.take_out(cpu.taking(2 * CREDIT_SECONDS * 0.5 - 0.01))
    assert not cost.tick()
    cost.take_out(cpu.taking(0.1))
    assert cost.tick()


def test_the_whole_cpu_is_no_bound(cpu):
    cost = SamplingCost(1.0, cpu)
    for _ in range(3):
        for _ in range(2 * MEASURED):
            cost.touched(cpu.taking(0.1))
        cpu.now -= 1.0  # a measurement that counts for many may be above all there was
        assert not cost.tick()
    assert cost.share <= 1.0


def test_one_of_many_touches_is_measured_and_counts_for_all(cpu):
    cost = SamplingCost(0.25, cpu)
    for number in range(MEASURED):
        cost.touched(cpu.taking(0.001 * (number == MEASURED - 1)))
    cpu.now += 1.0
    cost.tick()
    assert cost.share == pytest.approx(0.001 * MEASURED / 1.001)


def test_a_call_that_fails_has_cost_what_it_took(cpu):
    def fails():
        cpu.now += 1.0
        raise OSError(1, "refused")

    cost = SamplingCost(0.25, cpu)
    with pytest.raises(OSError, match="refused"):
        cost.take_out(fails)
    cost.tick()
    assert cost.share == 1.0


def test_before_the_first_tick_no_share_is_known(cpu):
    assert SamplingCost(0.25, cpu).share == 0.0
