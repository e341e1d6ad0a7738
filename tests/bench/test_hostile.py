"""The benchmark of hostile clients; no time is asserted."""

from bench import hostile


def test_it_says_how_each_client_ended_and_what_its_neighbour_waited(programs, monkeypatch, capsys):
    monkeypatch.setattr(hostile, "ALONE_SECONDS", 0.0)
    ways = {"hold_by_a_page_that_nothing_serves": "SIGKILL", "leave_much_unserved": "SIGBUS"}
    monkeypatch.setattr(hostile, "WAYS", {way: way for way in ways})
    hostile.run(1)
    _, alone, *lines = capsys.readouterr().out.splitlines()
    assert "nothing" in alone
    for line, (way, signal) in zip(lines, ways.items(), strict=True):
        assert way in line
        assert line.endswith(f"it ended by {signal}")
