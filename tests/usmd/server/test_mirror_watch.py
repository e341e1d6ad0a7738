"""What the log hears of a mirror whose parts are not in step."""

import structlog.testing

from tests.support.mirrors import mirror, out
from tests.support.waiting import wait_until
from usmd.server.mirror_watch import PATIENCE, MirrorWatch


def test_the_log_hears_once_that_the_far_part_is_away_and_once_that_it_is_back(monkeypatch):
    with mirror(monkeypatch) as one, structlog.testing.capture_logs() as logged:
        watch = MirrorWatch(one.device)
        watch.look(1.0)
        one.far.fail("write", "io")
        one.write(out(1, 65), out(2, 65))
        one.degraded(2)
        for now in (2.0, 2.1, 9.0):
            watch.look(now)
        one.far.mend()
        one.settled()
        watch.look(10.0)
        watch.look(10.1)
    assert [(line["event"], line["log_level"]) for line in logged] == [
        ("mirror_degraded", "warning"),
        ("mirror_in_step", "info"),
    ]
    assert (logged[0]["device"], logged[0]["pages"], logged[0]["reason"]) == ("m", 2, "write fails")
    assert (logged[1]["seconds"], logged[1]["repaired"]) == (8.0, 2)


def test_pages_that_an_answering_far_part_lacks_are_news_after_a_while(monkeypatch):
    with mirror(monkeypatch) as one, structlog.testing.capture_logs() as logged:
        watch = MirrorWatch(one.device)
        one.far.fail("write", "full")
        one.write(out(1, 65))
        wait_until(lambda: one.status.to_repair == 1, "the page has found no room")
        watch.look(1.0)
        watch.look(1.0 + PATIENCE / 2)
        assert logged == []
        watch.look(1.0 + PATIENCE)
        one.write(out(1, 66))
    assert [line["event"] for line in logged] == ["mirror_degraded"]
    assert "slower than the writes" in logged[0]["reason"]
