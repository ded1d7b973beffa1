"""What OpenAPI cannot read off the code: the bodies that /predict takes and the answers that it gives."""

from __future__ import annotations

from typing import Any

from smidgen.serving.refusals import STATUS_WORDS

_FILE = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {"file": {"type": "array", "items": _FILE}}}
_JSON = {
    "type": "object",
    "properties": {
        "images": {"type": "array", "items": {"type": "string"}, "description": "Base64 of a file, or a data: URL."},
        "urls": {"type": "array", "items": {"type": "string"}, "description": "Addresses; off unless allowed."},
    },
}
PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A picture as it is, a form with files, or JSON.",
        "content": {
            "image/*": {"schema": _FILE},
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": _JSON},
        },
    }
}

_DETECTION = {
    "bbox": [12.0, 34.5, 8.0, 6.5],
    "score": 0.83,
    "category_id": 1,
    "category": "car",
}
_SALIENCE = {"png": "<base64>", "width": 48, "height": 40, "covers": [768.0, 640.0]}
_IMAGE = {"file": "image", "detections": [_DETECTION], "width": 768, "height": 634, "salience": _SALIENCE}
_ERROR = {"application/json": {"example": {"error": "the body is empty", "hint": "send an image"}}}
_ANSWERED: dict[str, Any] = {
    "description": "Boxes [x, y, w, h] in pixels of each image, best first.",
    "content": {"application/json": {"example": {"images": [_IMAGE]}}},
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": _ERROR} for status, words in STATUS_WORDS.items()
}
PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {200: _ANSWERED, **_REFUSED}
