"""Pictures fetched from addresses that clients name, without lending them the server's place in the network.

A server that fetches what it is told can be sent to its own neighbors (server-side request forgery, OWASP 2021 A10).
So: off unless --allow-urls; http and https at their own ports; no credentials, no redirects; every address that the
name resolves to must be public, and the connection goes to the address that was checked, so that a second look-up
cannot change it.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from smidgen.serving.limits import Limits
from smidgen.serving.refusals import Refusal
from smidgen.serving.request_body import too_long

PORTS = {"http": 80, "https": 443}
SECONDS = 10.0
_CHUNK = 65536
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv6 addresses that stand for IPv4 ones (RFC 6052)


def fetch(url: str, limits: Limits, is_allowed: Callable[[str, int], bool] | None = None) -> bytes:
    """The bytes at `url`. is_allowed: of an IP address and a port (None: public ones at the usual ports).

    Raises Refusal 403 for an address that is not allowed, 422 for one that gives nothing, 413 for more than a body may
    have.
    """
    parts = _split(url)
    port = parts.port or PORTS[parts.scheme]
    address = _allowed_address(str(parts.hostname), port, is_allowed or is_public)
    try:
        return _get(parts, address, port, limits)
    except (OSError, http.client.HTTPException) as error:
        raise Refusal(422, f"{url}: cannot be fetched ({str(error)[:120]})", "send the image itself") from error


def is_public(address: str, port: int) -> bool:
    """Whether this is an address of the open Internet, at the port of http or https."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        disguised = ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in _TRANSLATED
        if disguised:
            return False
    return ip.is_global and not ip.is_multicast and port in PORTS.values()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in PORTS and parts.hostname and not parts.username and parts.port != 0
        usable = usable and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise Refusal(403, f"{url[:200]!r} is not an address that is fetched", "give http(s)://host/path")
    return parts


def _allowed_address(host: str, port: int, is_allowed: Callable[[str, int], bool]) -> str:
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise Refusal(422, f"{host}: there is no such host", "check the address") from error
    if not all(is_allowed(address, port) for address in found):
        raise Refusal(403, f"{host}:{port} is not a public address", "send the image itself")
    return found[0]


def _get(parts: SplitResult, address: str, port: int, limits: Limits) -> bytes:
    until = time.monotonic() + SECONDS
    connection = http.client.HTTPConnection(str(parts.hostname), port, timeout=SECONDS)
    connection.sock = _connected(parts, address, port)
    # The sockets' own timeout is for each byte: a server that sends one now and then would hold the thread for days.
    cutting = threading.Timer(SECONDS, _cut, (connection.sock,))
    cutting.daemon = True
    cutting.start()
    try:
        if isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.do_handshake()
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        if response.status != 200:
            raise http.client.HTTPException(f"status {response.status}; redirects are not followed")
        return _limited(response, until, limits)
    finally:
        cutting.cancel()
        connection.close()


def _connected(parts: SplitResult, address: str, port: int) -> socket.socket:
    plain = socket.create_connection((address, port), timeout=SECONDS)
    if parts.scheme == "http":
        return plain
    try:
        context = ssl.create_default_context()
        return context.wrap_socket(plain, server_hostname=parts.hostname, do_handshake_on_connect=False)
    except OSError:
        plain.close()
        raise


def _cut(connected: socket.socket) -> None:
    """End a connection from another thread: whoever reads from it sees the end."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _limited(response: http.client.HTTPResponse, until: float, limits: Limits) -> bytes:
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > limits.body_bytes:
            raise too_long(limits)
    if time.monotonic() > until:
        raise TimeoutError(f"not complete after {SECONDS:g} s")
    return bytes(content)
