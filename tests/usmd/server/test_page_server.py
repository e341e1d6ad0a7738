"""What browsers get, and what other sites, strangers and slow viewers do not."""

import asyncio
import base64
import hashlib
import json
import random
import re

import pytest

from tests.support.asking import Asking, free_port
from tests.support.waiting import wait_until_async
from usmd.http_config import PageConfig
from usmd.server.http_server import MAX_CONNECTIONS, UNIX, serve_all
from usmd.server.page_server import PageServer, page

GET = b"GET / HTTP/1.1\r\nHost: localhost:9843\r\n\r\n"
READ = GET.replace(b"/ ", b"/reading.json ", 1)


class Readings:
    """In the place of readings, of `size` bytes and more."""

    def __init__(self, size=0):
        self.made = 0
        self._more = "x" * size

    async def latest(self):
        self.made += 1
        return json.dumps({"number": self.made, "more": self._more}).encode()


@pytest.fixture
def run(tmp_path):
    """Run `test(asking, readings)` with the page on a Unix socket and, if one is given, on a port."""

    def run_with(test, *, listen=None, size=0):
        async def main():
            readings = Readings(size)
            server = PageServer(readings, tmp_path / "p").http
            serve_all([(server, PageConfig(unix=True, listen=listen))])
            async with Asking(server, tmp_path / "p") as asking:
                await test(asking, readings)

        asyncio.run(main())

    return run_with


def head_and_body(answer):
    head, _, body = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return status.split()[1], dict(line.lower().split(": ", 1) for line in lines), body


async def whole(asking, sent, address=None):
    """The status, the headers and the body of an answer that may come in parts."""
    client = asking.connect(address)
    answer = await asking.answer(client, sent)
    status, headers, body = head_and_body(answer)
    while len(body.encode()) < int(headers["content-length"]):
        body += await asking.answer(client, b"")
    return status, headers, body


def test_a_browser_gets_the_page_and_its_readings(run):
    async def test(asking, readings):
        status, headers, body = await whole(asking, GET)
        assert (status, headers["content-type"]) == ("200", "text/html; charset=utf-8")
        assert body.encode() == page().body
        assert readings.made == 0
        status, headers, body = await whole(asking, READ)
        assert (status, headers["content-type"], json.loads(body)["number"]) == ("200", "application/json", 1)
        assert (headers["cache-control"], readings.made) == ("no-store", 1)
        assert (await whole(asking, GET.replace(b"/ ", b"/metrics ", 1)))[0] == "404"
        assert (await whole(asking, GET.replace(b"/ ", b"/../reading.json ", 1)))[0] == "404"

    run(test)


@pytest.mark.parametrize("sent", [GET, READ, GET.replace(b"/ ", b"/x ", 1)])
def test_every_answer_tells_browsers_to_load_nothing_else_and_to_show_it_in_no_frame(run, sent):
    async def test(asking, readings):
        headers = (await whole(asking, sent))[1]
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == (
            "'none'",
            "'self'",
            "'none'",
        )
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-frame-options"] == "deny"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers

    run(test)


def test_the_page_is_one_document_whose_policy_admits_its_own_script_and_styles_alone():
    text = page().body.decode()
    policy = dict(page().headers)["Content-Security-Policy"]
    for tag in ("script", "style"):
        (found,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert len(found) > 1000
    assert set(re.findall(r"https?://[^\"' )]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, and no address
    assert [each for each in re.findall(r"(?:src|href)=\"([^\"]*)", text) if not each.startswith("data:")] == []
    assert re.findall(r"@import|url\(|\son\w+=|style=", text) == []


def test_text_of_others_is_never_taken_for_markup():
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|srcdoc",
                      page().body.decode()) == []  # fmt: skip


@pytest.mark.parametrize("by_port", [False, True])
def test_a_page_of_another_site_gets_nothing(run, by_port):
    address = ("127.0.0.1", free_port()) if by_port else None

    async def test(asking, readings):
        for sent in (GET, READ):
            for host in (b"evil.example", b"evil.example:9843", b"localhost.evil.example", b"192.0.2.1:9843"):
                status, _, body = await whole(asking, sent.replace(b"localhost:9843", host), address)
                assert (status, "usmd" in body) == ("403", False)
        assert readings.made == 0
        assert (await whole(asking, READ, address))[0] == "200"

    run(test, listen=f"127.0.0.1:{address[1]}" if address else None)


def test_only_reading_is_possible(run):
    async def test(asking, readings):
        for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"x"):
            assert (await whole(asking, READ.replace(b"GET", method)))[0] == "405"
        assert readings.made == 0

    run(test)


PARTS = (
    b"GET ", b"HEAD ", b"/", b"/reading.json", b"?a=%zz", b" HTTP/1.1\r\n", b"Host: localhost\r\n", b"Host: x\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 9999999999\r\n", b"\r\n\r\n", b"\r\n", b"\x00\xff" * 50,
    b"X: " + b"y" * 20000, b"ffffffff\r\n",
)  # fmt: skip


def test_what_is_not_http_harms_nobody(run):
    async def test(asking, readings):
        chance = random.Random(9)
        for _ in range(40):
            client = asking.connect()
            sent = b"".join(chance.choices(PARTS, k=chance.randrange(1, 9)))
            try:
                await asyncio.get_running_loop().sock_sendall(client, sent)
            except OSError:
                continue  # it was refused before all was sent
            finally:
                client.close()
        assert (await whole(asking, READ))[0] == "200"

    run(test)


def test_viewers_that_do_not_read_cost_an_answer_each_and_hold_up_nobody(run):
    async def test(asking, readings):
        silent = [asking.connect() for _ in range(MAX_CONNECTIONS - 1)]
        for client in silent:
            client.send(READ * 20)
        await wait_until_async(lambda: readings.made == len(silent), "each has a reading, and reads nothing of it")
        assert (await whole(asking, READ))[0] == "200"
        assert readings.made == len(silent) + 1

    run(test, size=1 << 19)  # more than a socket's buffer


def test_a_viewer_that_cannot_be_accepted_is_logged(run, logged):
    async def test(asking, readings):
        asking.server._refused(UNIX, "Too many open files")
        assert logged == [
            {"event": "page_socket_refused", "log_level": "error", "socket": "unix", "error": "Too many open files"}
        ]

    run(test)
