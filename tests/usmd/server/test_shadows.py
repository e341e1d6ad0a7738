"""The shadow of a process: simulations on the same pages, in turns, and bounded."""

import asyncio
import random

import pytest

from tests.support.waiting import wait_until_async
from tests.usmd.server.test_engine import PAGE, Bench
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings
from usmd.errors import InvalidArgument, LimitExceeded, UnknownPolicy
from usmd.server import shadows
from usmd.server.shadows import MAX_FRAMES, Shadow, check_size, sampled


class Scene(Bench):
    """A process of which every touch is seen, its shadow, and all the simulations' work when it is asked for."""

    def __init__(self, *policies, frames=4, sample=1, live_frames=64, pages=64, **settings):
        # A page is held from its fault to its touch, as in the daemon, so that the two count once.
        super().__init__(live_frames, pages, hold_budget=live_frames, hold_seconds=1000.0, **settings)
        core = self.engine.core.state
        self.owner = core.processes[self.process]
        self.shadow = Shadow(self.owner, policies, frames, sample, core.settings)

    def __enter__(self):
        self.listening = self.engine.taps.listening(self.owner, self.shadow)
        self.shadow.begin(self.engine.now())
        self.listening.__enter__()
        return self

    def __exit__(self, *error):
        self.listening.__exit__(*error)

    def touch_page(self, page, region=None, write=False):
        region = self.region if region is None else region
        access = events.Access(self.process, region, page, 1, write)
        if self.engine.access(access, lambda frames: None).absent:
            self.engine.submit(events.Faults(self.process, [events.FaultRequest(1, region, page, 1, write)]))
            self.engine.access(access, lambda frames: None)

    def misses(self):
        """Of each simulation by its policy, when all is done that waits."""
        while self.shadow._waiting:
            self.shadow.turn(self.engine.now())
        return {each.simulation.specification: each.misses for each in self.shadow.standings(self.engine.now())}


def test_simulations_miss_what_their_policies_miss_and_the_one_in_force_is_among_them():
    with Scene("lru", "lru", frames=4) as scene:
        for page in (0, 1, 2, 3, 0, 4, 0, 5, 0, 6, 0):
            scene.touch_page(page)
        assert scene.misses() == {"fifo": 8, "lru": 7}
        assert [each.specification for each in scene.shadow.simulations] == ["fifo", "lru"]
        assert (scene.shadow.accesses, scene.shadow.looked_at, scene.shadow.live_misses) == (11, 11, 7)


def test_pages_of_several_regions_are_pages_of_their_own():
    with Scene("lru", frames=4) as scene:
        second = scene.engine.map(events.Map(scene.process, 2 * PAGE, "")).region_id
        for _ in range(2):
            for region in (scene.region, second):
                for page in (0, 1):
                    scene.touch_page(page, region)
        assert scene.misses()["lru"] == 4


def test_hints_of_before_and_of_later_hold_on_their_pages_in_every_region():
    with Scene("hint_aware(fallback=fifo)", frames=4, pages=8, deny_budget=32, deny_budget_total=32) as scene:
        second = scene.engine.map(events.Map(scene.process, 4 * PAGE, "")).region_id
        scene.engine.submit(
            events.SetHint(scene.process, second, PAGE, PAGE, parse_hint("EVICTION=DENY; SWAP=memory1"))
        )
        scene.touch_page(1, second)
        for page in (0, 1, 2, 3, 4, 5):
            scene.touch_page(page)
        scene.touch_page(1, second)
        assert scene.misses()["hint_aware(fallback=fifo)"] == 7
        scene.engine.submit(events.SetHint(scene.process, second, 0, None, None))
        for page in (0, 1, 2, 3):
            scene.touch_page(page)
        scene.touch_page(1, second)
        assert scene.misses()["hint_aware(fallback=fifo)"] == 12
        assert not any(each.problem for each in scene.shadow.simulations)


def test_hints_that_were_set_before_the_shadow_hold_from_its_beginning():
    scene = Scene("lru", frames=4, deny_budget=32, deny_budget_total=32)
    scene.engine.submit(events.SetHint(scene.process, scene.region, 0, PAGE, parse_hint("EVICTION=DENY; TTL=1000")))
    with scene:
        for page in (0, 1, 2, 3, 4, 5, 0):
            scene.touch_page(page)
        assert scene.misses()["lru"] == 6


def test_what_is_unmapped_gives_its_frames_and_its_budget_back():
    with Scene("lru", frames=4, deny_budget=64, deny_budget_total=64) as scene:
        first = scene.engine.map(events.Map(scene.process, 4 * PAGE, "")).region_id
        scene.engine.submit(events.SetHint(scene.process, first, 0, None, parse_hint("EVICTION=DENY")))
        for page in range(4):
            scene.touch_page(page, first)
        scene.engine.submit(events.Unmap(scene.process, first))
        for page in (0, 1, 2, 3, 0, 1, 2, 3):
            scene.touch_page(page)
        assert scene.misses()["lru"] == 8


def test_a_sample_has_the_miss_ratio_of_the_whole():
    source = random.Random(5)
    pages = [int(4096 * source.random() ** 3) for _ in range(24_000)]
    ratios = {}
    for sample in (1, 4):
        scene = Scene("lru", frames=512, sample=sample, live_frames=4096, pages=4096)
        with scene:
            for page in pages:
                scene.touch_page(page)
            scene.misses()
            (_, lru) = scene.shadow.standings(scene.engine.now())
        assert lru.accesses == 24_000
        ratios[sample] = lru.miss_ratio
    assert 0.05 < ratios[1] < 0.9
    assert abs(ratios[4] - ratios[1]) < 0.03


def test_a_sample_takes_one_page_in_k_whatever_its_neighbours():
    for step in (1, 2, 64, 512):
        keys = [page_key(3, page * step) for page in range(20_000)]
        share = sum(sampled(key, (1 << 64) // 8) for key in keys) / len(keys)
        assert abs(share - 1 / 8) < 0.01
    assert all(sampled(key, 1 << 64) for key in keys)


def test_the_miss_ratio_of_late_is_since_the_last_look():
    with Scene("lru") as scene:
        for page in (0, 1):
            scene.touch_page(page)
        scene.misses()
        for page in (0, 1, 0, 2):
            scene.touch_page(page)
        while scene.shadow._waiting:
            scene.shadow.turn(scene.engine.now())
        standing = scene.shadow.standings(scene.engine.now())[1]
        assert (standing.miss_ratio, standing.recent_miss_ratio) == (3 / 6, 1 / 4)
        assert scene.shadow.standings(scene.engine.now())[1].recent_miss_ratio == 0


def test_what_there_is_no_time_for_is_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(shadows, "MAX_WAITING", 10)
    with Scene("lru") as scene:
        for page in range(13):
            scene.touch_page(page)
        assert (scene.shadow.accesses, scene.shadow.dropped) == (13, 3)
        assert scene.misses()["lru"] == scene.shadow.looked_at == 10
        scene.touch_page(20)
        assert scene.misses()["lru"] == 11


def test_a_turn_is_short_whatever_waits():
    with Scene("lru", live_frames=2048, pages=2048) as scene:
        for page in range(2000):
            scene.touch_page(page)
        scene.shadow.turn(scene.engine.now())
        assert scene.shadow.looked_at <= 64
        scene.misses()
        assert scene.shadow.looked_at == 2000


def test_the_work_goes_on_beside_everything_else(monkeypatch):
    monkeypatch.setattr(shadows, "MOST_REST_SECONDS", 0.01)

    async def main():
        with Scene("lru") as scene:
            worker = asyncio.create_task(scene.shadow.work())
            for page in range(8):
                scene.touch_page(page)
            await wait_until_async(lambda: scene.shadow.looked_at == 8, "its first turns")
            assert scene.shadow.seconds > 0
            scene.touch_page(9)
            await wait_until_async(lambda: scene.shadow.looked_at == 9, "its next turn")
            worker.cancel()

    asyncio.run(main())


def test_the_end_of_the_process_is_the_end_of_its_shadow():
    with Scene("lru") as scene:
        scene.engine.submit(events.Detach(scene.process, "detached"))
    assert (scene.shadow.over.is_set(), scene.shadow.reason) == (True, "detached")


def test_a_process_that_maps_without_end_ends_its_shadow():
    with Scene("lru", max_mapped=64 * PAGE, max_regions=1000, pages=8) as scene:
        for _ in range(300):
            region = scene.engine.map(events.Map(scene.process, 4 * PAGE, "")).region_id
            scene.touch_page(0, region)
            scene.engine.submit(events.Unmap(scene.process, region))
        assert scene.shadow.over.is_set()
        assert "start again" in scene.shadow.reason
        assert scene.misses()["lru"] <= scene.shadow.looked_at


@pytest.mark.parametrize(
    ("simulations", "frames", "sample", "each"),
    [(9, 4096, 1, 4096), (2, 1000, 8, 125), (1, 1, 1, 1), (9, 1 << 24, 1024, 16384)],
)
def test_a_simulation_has_its_share_of_the_frames(simulations, frames, sample, each):
    assert check_size(simulations, frames, sample) == each


@pytest.mark.parametrize(
    ("simulations", "frames", "sample", "error", "said"),
    [
        (2, 0, 1, InvalidArgument, "0 frames"),
        (2, 100, 0, InvalidArgument, "1/0"),
        (2, 256, 32, InvalidArgument, "allowed is 1/1 to 1/16"),
        (9, MAX_FRAMES, 1, LimitExceeded, "take a sample of 1/9"),
    ],
)
def test_a_shadow_that_is_too_small_or_too_large_is_refused(simulations, frames, sample, error, said):
    with pytest.raises(error, match=said):
        check_size(simulations, frames, sample)


def test_a_policy_that_does_not_exist_is_no_shadow():
    bench = Bench()
    owner = bench.engine.core.state.processes[bench.process]
    with pytest.raises(UnknownPolicy):
        Shadow(owner, ["nothing"], 4, 1, CoreSettings(frames=4, page_size=PAGE, deny_budget=0, deny_budget_total=0))
