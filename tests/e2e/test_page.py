"""The live page in a browser beside a real daemon: what a viewer sees, up to the next daemon.

Chromium has no window. Without it the test is skipped with the reason, and fails where $CI is set.
"""

import os

import pytest

import lib_usm
from tests.support.asking import free_port
from tests.support.daemon import running_daemon
from tools.chromium import Chromium, NoChromiumError, program

PAGE = 4096
FRAMES = 64
NAME = "<img src=x onerror=alert(1)> & \"b\" 'c'"


@pytest.fixture
def browser():
    try:
        program()
    except NoChromiumError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    with Chromium() as found:
        yield found


def shown(browser, node):
    return browser.value(f"document.getElementById('{node}').innerText")


def cut(browser):
    """Tables whose text does not fit their place."""
    return browser.value(
        "[...document.querySelectorAll('.table')].filter((place) => place.scrollWidth > place.clientWidth)"
        ".map((place) => place.firstElementChild.id)"
    )


def says(browser, words):
    """Wait for what the line at the top says."""
    browser.until(f"return document.getElementById('said').textContent.startsWith('{words}')")


def test_a_viewer_sees_processes_evictions_a_drain_the_end_and_the_next_daemon(tmp_path, browser):
    flags = ("--memory", f"{FRAMES * PAGE}B", "--swap", "memory:4MiB", "--evict", "lru")
    flags += ("--page-listen", f"127.0.0.1:{free_port()}")
    config = f"[[policy.rules]]\nuid = {os.getuid()}\nmax_regions = 7\nmax_hint_ranges = 90\nmemory_weight = 250\n"
    config += f'[[policy.users]]\nuid = {os.getuid()}\nmax_sessions = 3\nmemory_max = "100%"\nmax_faults = 60\n'
    with running_daemon(tmp_path, *flags, config=config) as daemon:
        browser.show(1600, 1000)
        browser.open(daemon.wait_for("ready")["page"])
        says(browser, "live")
        assert shown(browser, "no-processes").startswith("No process is attached.")
        with (
            lib_usm.connect(daemon.address, name=NAME) as client,
            client.mmap(2 * FRAMES * PAGE, name="index") as region,
        ):
            region.write(0, os.urandom(len(region)))
            why = "document.getElementById('causes').innerText.includes('a fault waits for a frame')"
            browser.until(f"return {why} && last.evictions.length > 0 && last.processes.length > 0")

            # Names are text, whatever they contain, and numbers have their units.
            assert NAME in shown(browser, "processes")
            assert browser.value("document.images.length") == 0
            assert shown(browser, "of").startswith("of 256.0 KiB")
            assert "index" in shown(browser, "evictions")
            assert "regions 1 of 7, hint ranges 0 of 90, weight 250" in shown(browser, "processes")
            assert f"{os.getuid()}\t1 / 3\t" in shown(browser, "users")
            assert browser.value("getComputedStyle(document.getElementById('no-evictions')).display") == "none"

            # The map can be walked through by keys, which say what is in a cell; here with one reading, by the button.
            browser.value("document.getElementById('pause').click()")
            says(browser, "paused")
            browser.value("document.getElementById('cells').focus()")
            used = browser.value("last.map.used.indexOf('8')")
            for _ in range(used + 1):
                browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
            assert shown(browser, "cell").startswith(f"Frame {used}: full, mostly ")
            assert NAME in shown(browser, "cell")
            browser.value("document.getElementById('pause').click()")
            says(browser, "live")

            # No screen needs scrolling sideways, and dark is dark.
            ground = "getComputedStyle(document.body).backgroundColor"
            light = browser.value(ground)
            for width in (1600, 1400, 1241, 1240, 761, 760, 360):
                browser.show(width, 800, dark=width == 360)
                # The map is drawn anew with the event of the browser, a moment after the screen is narrow.
                browser.until(
                    "const { clientWidth, scrollWidth } = document.documentElement; "
                    f"return clientWidth === {width} && scrollWidth === {width}"
                )
                assert cut(browser) == [], width
            assert browser.value(ground) != light
            assert browser.complaints == []  # neither its policy nor its script

            daemon.admin.drain(0.0, 3600.0)
            browser.until("return last.seconds_left > 3000 && !document.getElementById('notice').hidden")
            assert "takes no new one" in shown(browser, "notice")
    says(browser, "usmd does not answer")
    assert NAME in shown(browser, "processes")  # what was read last
    with running_daemon(tmp_path, *flags):
        says(browser, "live")
        browser.until("return document.getElementById('notice').hidden")
        assert shown(browser, "no-processes").startswith("No process is attached.")
