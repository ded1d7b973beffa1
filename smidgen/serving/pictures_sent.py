"""The pictures of a request: the body itself, the files of a form, or JSON with base64 and addresses.

JSON: {"images": [BASE64 or data: URL, ...], "urls": [ADDRESS, ...]}, either of them or both.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from smidgen.serving.limits import Limits
from smidgen.serving.multipart_form import files_of_form
from smidgen.serving.refusals import Refusal

JSON_EXAMPLE = 'send {"images": ["<base64>", ...]} or {"urls": ["https://...", ...]}'


@dataclass(frozen=True, slots=True)
class Sent:
    """One picture: its bytes, or the address where they are."""

    file: str
    content: bytes = b""
    url: str | None = None


def pictures_sent(body: bytes, content_type: str, limits: Limits) -> list[Sent]:
    """The pictures in their order. Raises Refusal 400, 413 (too many) or 415 (a content type that is not accepted)."""
    kind = content_type.split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        sent = [Sent(name, content) for name, content in files_of_form(body, content_type, limits)]
    elif kind == "application/json":
        sent = _of_json(body, limits)
    elif kind.startswith("image/") or kind in ("", "application/octet-stream"):
        sent = [Sent("image", body)]
    else:
        accepted = "send image/*, application/octet-stream, multipart/form-data or application/json"
        raise Refusal(415, f"the content type {kind[:80]!r} is not accepted", accepted)
    if not sent:
        raise Refusal(400, "there is no image in the request", JSON_EXAMPLE)
    return sent


def _of_json(body: bytes, limits: Limits) -> list[Sent]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON ({str(error)[:120]})", JSON_EXAMPLE) from error
    if not isinstance(document, dict) or not document.keys() <= {"images", "urls"}:
        raise Refusal(400, "expected an object with images, urls or both", JSON_EXAMPLE)
    images, urls = _texts(document, "images"), _texts(document, "urls")
    if len(images) + len(urls) > limits.parts:
        raise too_many(limits)
    return [
        *(Sent(f"image {number}", _decoded(text, number)) for number, text in enumerate(images)),
        *(Sent(url, url=url) for url in urls),
    ]


def _texts(document: dict[str, Any], key: str) -> list[str]:
    values = document.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Refusal(400, f"expected a list of strings as {key!r}", JSON_EXAMPLE)
    return values


def _decoded(text: str, number: int) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"image {number} is not base64 ({error})", "encode the file's bytes as base64") from error


def too_many(limits: Limits) -> Refusal:
    """The answer to more images or parts than one request may have."""
    return Refusal(413, f"more than {limits.parts} images or parts in one request", "send several requests")
