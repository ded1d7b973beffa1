"""The bytes of a request, read within its limits: a body that is too long or too slow is refused, not stored."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from smidgen.serving.capacity import Share
from smidgen.serving.limits import Limits
from smidgen.serving.refusals import Refusal

LINGER_SECONDS = 1.0
"""How long the rest of a refused body is read and thrown away: a client that is still sending sees the answer then."""


async def read_body(request: Request, limits: Limits, share: Share) -> bytes:
    """The whole body, counted against `share` chunk by chunk, whether or not the client declared a length.

    Raises Refusal 413 (too long), 408 (too slow), 429 (no room), 400 (empty, or the client went away).
    """
    try:
        _check_declared(request.headers.get("content-length"), limits)
        async with asyncio.timeout(limits.body_seconds):
            body = bytearray()
            async for chunk in request.stream():
                share.grow(len(chunk))
                body += chunk
                if len(body) > limits.body_bytes:
                    raise too_long(limits)
    except ClientDisconnect:
        raise Refusal(400, "the client went away") from None
    except TimeoutError:
        error = f"the body did not arrive within {limits.body_seconds:g} s"
        raise Refusal(408, error, "send smaller images, or use a faster connection", _CLOSE) from None
    except Refusal as refusal:
        if "expect" not in request.headers:  # a client that asked first has sent nothing yet
            await _linger(request)
        refusal.headers |= _CLOSE
        raise
    if not body:
        raise Refusal(400, "the body is empty", "send an image, a form with files, or JSON with base64 images")
    return bytes(body)


def too_long(limits: Limits) -> Refusal:
    """The answer to a body above the limit."""
    return Refusal(413, f"the body is longer than {limits.body_mib:g} MiB", "send fewer or smaller images")


_CLOSE = {"Connection": "close"}


def _check_declared(length: str | None, limits: Limits) -> None:
    if length is not None and length.isdigit() and int(length) > limits.body_bytes:
        raise too_long(limits)


async def _linger(request: Request) -> None:
    """Throw away what still comes for a while; closing at once would reset the connection before the answer is read."""
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (await request.receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
