"""Metrics of the core: each is the counter that it says, and sums agree."""

from tests.support.shell import PAGE, Shell, make_core
from usmd.core.counters import Counters
from usmd.core.pressure import Pressure
from usmd.server.core_metrics import COUNTED, counts, evictions, frames, pressure


def samples(families):
    return {family.name: {tuple(each.labels.values()): each.value for each in family.samples} for family in families}


def busy():
    """More pages than frames, read twice."""
    shell = Shell(make_core(frames=4, low=1, high=2))
    process = shell.attach(evict="lru")
    region = shell.map(process, 6)
    for page in range(6):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for page in range(6):
        assert shell.get(process, region, page)
    return shell


def test_frames_by_state_are_all_frames():
    shell = busy()
    found = samples(frames(shell.core.state, 7))
    assert sum(found["usmd_frames"].values()) == 4
    assert found["usmd_frames"][("free",)] == shell.core.state.frames.free
    assert found["usmd_watermark_frames"] == {("low",): 1, ("high",): 2}
    assert (found["usmd_processes"], found["usmd_max_processes"], found["usmd_regions"]) == ({(): 1}, {(): 7}, {(): 1})


def test_pressure_is_a_total_and_a_share_of_each_window_and_full_only_where_it_is_known():
    found = Pressure()
    found.advance(0.0, 0.0, None)
    found.advance(10.0, 10.0, None)
    families = samples(pressure(found))
    assert families["usmd_pressure_seconds"] == {("some",): 10.0}
    shares = families["usmd_pressure_ratio"]
    assert list(shares) == [("some", "10s"), ("some", "60s"), ("some", "300s")]
    assert 0.7 > shares["some", "10s"] > shares["some", "60s"] > shares["some", "300s"] > 0.0
    found.advance(11.0, 10.0, 5.0)
    assert samples(pressure(found))["usmd_pressure_seconds"] == {("some",): 10.0, ("full",): 0.0}


def test_faults_by_kind_are_all_faults_and_each_counter_has_its_metric():
    totals = busy().core.state.totals()
    found = samples(counts(totals))
    kinds = found["usmd_faults"]
    assert kinds[("minor",)] + kinds[("major",)] + kinds[("parked",)] == totals.faults > 6
    assert found["usmd_swap_ins"] == {(): totals.swap_ins}
    totals.oom_refusals, totals.budget_refusals, totals.swap_read_errors = 5, 2, 1
    failed = samples(counts(totals))["usmd_failed_faults"]
    assert failed == {("out_of_memory",): 3, ("over_budget",): 2, ("unreadable",): 1}


def test_every_counter_of_the_core_is_in_a_metric():
    seen = set()

    class Watched:
        """Notes which counters are read."""

        def __getattr__(self, name):
            seen.add(name)
            return 0

    list(counts(Watched()))
    list(evictions(busy().core.state.victims, Watched()))
    assert {field for field, _, _ in COUNTED} < seen
    # Their sum is that of minor and major faults; the others are in the metrics of devices, or a part of others.
    assert set(Counters().as_dict()) - seen == {"faults", "evictions", "swap_write_errors", "rescued"}


def test_evictions_are_told_by_policy_and_reason_and_by_their_ends():
    shell = busy()
    totals = shell.core.state.totals()
    found = samples(evictions(shell.core.state.victims, totals))
    assert sum(found["usmd_evictions"].values()) == totals.evictions + totals.retaken
    assert {policy for policy, _ in found["usmd_evictions"]} == {"lru"}
    ends = found["usmd_eviction_ends"]
    assert ends[("written",)] + ends[("clean",)] + ends[("zero",)] == totals.evictions
