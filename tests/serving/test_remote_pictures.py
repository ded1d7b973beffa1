"""Pictures are fetched from public addresses only, and only as far as a body may go."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("fastapi")

from smidgen.serving import remote_pictures
from smidgen.serving.limits import Limits
from smidgen.serving.refusals import Refusal
from smidgen.serving.remote_pictures import fetch, is_public

LIMITS = Limits(body_mib=0.001)


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/drip"):
            self.drip(b"HTTP/1.0 200 OK\r\n" + (b"\r\n" if self.path == "/drip-body" else b"X-Slow: "))
            return
        status = {"/picture?size=1": 200, "/long": 200, "/away": 302}.get(self.path, 404)
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1/")
        self.end_headers()
        self.wfile.write(b"picture" if self.path != "/long" else bytes(5000))

    def drip(self, beginning: bytes) -> None:
        """A byte now and then, for two seconds at most."""
        self.wfile.write(beginning)
        with contextlib.suppress(OSError):
            for _ in range(40):
                self.wfile.write(b"a")
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "::", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_private_addresses_are_not_public(ip: str) -> None:
    assert not is_public(ip, 80)


def test_public_addresses_at_usual_ports() -> None:
    assert is_public("8.8.8.8", 443)
    assert is_public("2606:4700::1", 80)
    assert not is_public("8.8.8.8", 22)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "file:///etc/passwd", "ftp://example.org/a", "http://",
        "http://user:word@example.org/", "http://2130706433/", "http://0x7f.1/", "http://a b/", "http://[", "x" * 9000,
        "http://example.org:99999/", "http://127.0.0.1\r\nHost: x/",
    ],
)  # fmt: skip
def test_forbidden_addresses(url: str) -> None:
    with pytest.raises(Refusal) as caught:
        fetch(url, LIMITS)
    assert caught.value.status in (403, 422)


def test_allowed_address_is_read_whole(address: str) -> None:
    assert fetch(f"{address}/picture?size=1", LIMITS, is_allowed=lambda ip, port: True) == b"picture"


@pytest.mark.parametrize(("path", "status"), [("/away", 422), ("/missing", 422), ("/long", 413)])
def test_what_is_no_answer(address: str, path: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        fetch(address + path, LIMITS, is_allowed=lambda ip, port: True)
    assert caught.value.status == status


@pytest.mark.parametrize("path", ["/drip-headers", "/drip-body"])
def test_who_sends_a_byte_now_and_then_is_not_waited_for(
    address: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_pictures, "SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(Refusal, match="cannot be fetched"):
        fetch(address + path, LIMITS, is_allowed=lambda ip, port: True)
    assert time.monotonic() - began < 1.5


def test_nobody_there() -> None:
    with pytest.raises(Refusal, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/", LIMITS, is_allowed=lambda ip, port: True)
