"""`usmctl swap`, with a daemon that answers what a test says."""

import json
import signal

import grpc
import pytest

from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.ctl import progress


def asked(daemon, kind):
    return [each for each in daemon.admin.requests if isinstance(each, kind)]


def test_without_a_command_the_devices_are_listed_and_one_that_is_retiring_says_how_far_it_is(daemon):
    daemon.admin.swap_devices[0].state = "active"
    assert "STATE" not in daemon.ctl("swap")[1]
    daemon.admin.swap_devices[0].state = "retiring"
    daemon.admin.swap_devices[0].retiring_pages = 4096
    titles, device = daemon.ctl("swap")[1].splitlines()[:2]
    assert ("STATE" in titles, "retiring 75%" in device) == (True, True)
    daemon.admin.swap_devices[0].state = "closing"
    assert "closing" in daemon.ctl("swap")[1]


def test_a_device_is_added_as_it_is_written(daemon):
    code, out, err = daemon.ctl("swap", "add", "file:/var/more:4MiB", "--name", "more")
    assert (code, err) == (0, "")
    assert out == "swap device 1 (more) in /var/more:4MiB takes pages, up to 4 MiB\n"
    assert asked(daemon, pb.AddSwapDeviceRequest) == [
        pb.AddSwapDeviceRequest(device="file:/var/more:4MiB", name="more")
    ]
    document = json.loads(daemon.ctl("swap", "add", "memory:4MiB", "--format", "json")[1])
    assert document["swap_device"]["name"] == "memory1"
    assert json.loads(daemon.ctl("swap", "--format", "json", "add", "memory:4MiB")[1]) == document


def test_a_retirement_is_shown_until_its_end(daemon):
    assert daemon.ctl("swap", "retire", "file0") == (
        0,
        "swap device 0 (file0) is closed: 1,024 of 1,024 pages moved\n",
        "",
    )
    assert asked(daemon, pb.RetireSwapDeviceRequest) == [pb.RetireSwapDeviceRequest(device="file0")]
    document = json.loads(daemon.ctl("swap", "retire", "0", "--format", "json")[1])
    assert (document["end"], document["pages"], document["pages_left"]) == ("CLOSED", 1024, 0)


@pytest.mark.parametrize(
    ("end", "message", "said", "code"),
    [
        (
            pb.SwapRetirement.END_NOT_REMOVED,
            "its file stays",
            "is closed: 1,024 of 1,024 pages moved; but its file stays",
            0,
        ),
        (pb.SwapRetirement.END_CANCELLED, "", "takes pages again, because its retirement was cancelled: 1,024 of", 1),
    ],
)
def test_another_end_is_told(daemon, end, message, said, code):
    daemon.admin.retirement[-1].end = end
    daemon.admin.retirement[-1].message = message
    got, out, _ = daemon.ctl("swap", "retire", "file0")
    assert (got, said in out) == (code, True)


def test_one_need_not_wait_for_it(daemon):
    daemon.admin.hold_events.clear()
    code, out, err = daemon.ctl("swap", "retire", "file0", "--no-wait")
    assert (code, out, err) == (0, "swap device 0 (file0) is being retired: 0 of 1,024 pages moved\n", "")


def test_it_is_cancelled_by_call_or_by_ctrl_c(daemon, monkeypatch):
    kept = "swap device 0 (file0) keeps 1,024 pages, and takes pages again\n"
    assert daemon.ctl("swap", "retire", "file0", "--cancel") == (0, kept, "")

    class Bar:
        def __enter__(self):
            signal.raise_signal(signal.SIGINT)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(progress, "progress_bar", lambda *_: Bar())
    assert daemon.ctl("swap", "retire", "file0") == (130, "", f"usmctl: cancelled: {kept}")
    assert len(asked(daemon, pb.CancelSwapRetirementRequest)) == 2


def test_a_refusal_is_told(daemon):
    daemon.admin.failure = grpc.StatusCode.RESOURCE_EXHAUSTED, "3 pages (12 KiB) are lacking"
    assert daemon.ctl("swap", "retire", "file0") == (1, "", "usmctl: 3 pages (12 KiB) are lacking\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["retire", "file0", "--cancel", "--no-wait"], "--cancel and --no-wait are given; give one of them"),
        (["--sort", "share", "retire", "file0"], "--sort is for the list; leave it out with `swap retire`"),
        (["empty"], "No such command 'empty'"),
        (["retire"], "Missing argument 'DEVICE'"),
    ],
)
def test_bad_words_are_bad_usage(daemon, words, said):
    code, out, err = daemon.ctl("swap", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert not daemon.admin.requests
