"""A request that is not answered, and why: a status code and {"error", "hint"}, the same shape for everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATUS_WORDS: dict[int, str] = {
    400: "The request cannot be understood: empty, broken JSON, base64 or form.",
    403: "Addresses of images are not allowed here, or not this one.",
    408: "The body came too slowly.",
    413: "Too many bytes, parts, images or pixels.",
    415: "Not a content type or a picture format that is accepted.",
    422: "A parameter is out of range, or a picture is damaged.",
    429: "As many requests or images as fit are being answered; Retry-After says when to come back.",
    500: "The detector failed; the server goes on.",
    503: "The server is stopping, or its detector hangs or has no memory left.",
    504: "The answer took too long.",
}


class Refusal(Exception):  # noqa: N818
    """Raised anywhere between a request and its answer. hint: what the client can do."""

    def __init__(self, status: int, error: str, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint
        self.headers = dict(headers or {})

    @property
    def content(self) -> dict[str, Any]:
        return {"error": self.error, "hint": self.hint}
