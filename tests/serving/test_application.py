"""Every way to send a picture is answered, everything else gets its documented status, and the server lives on."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

from served_detector import ServedDetector, client_of, picture

import smidgen
from smidgen.serving import Limits, create_app
from smidgen.serving.refusals import STATUS_WORDS

LIMITS = Limits(body_mib=0.5, parts=3, megapixels=1.0, body_seconds=0.3, answer_seconds=2.0, images=4, requests=8)
SPOT = {"bbox": [16.0, 8.0, 16.0, 8.0], "score": 0.9, "category_id": 7, "category": "spot"}
PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def asked(*requests: dict[str, Any], limits: Limits = LIMITS, model: Any = None, **settings: Any) -> list[Any]:
    """Responses of one server, request after request."""

    async def scene() -> list[Any]:
        async with client_of(create_app(model or ServedDetector(), limits=limits, **settings)) as client:
            return [await client.request(**({"method": "POST", "url": "/predict"} | request)) for request in requests]

    return asyncio.run(scene())


def test_picture_in_every_way() -> None:
    jpeg = picture(kind="JPEG", size_wh=(640, 320))
    as_json = json.dumps({"images": [encoded(picture()), "data:image/png;base64," + encoded(picture())]})
    raw, unnamed, form, packed, other = asked(
        {"content": picture(), "headers": PNG},
        {"content": picture()},
        {"files": [("file", ("ä.png", picture(), "image/png")), ("x", ("b.bmp", picture(kind="BMP"), "image/bmp"))]},
        {"content": as_json, "headers": JSON},
        {"content": jpeg, "headers": {"Content-Type": "image/jpeg"}},
    )
    assert raw.json() == {"images": [{"file": "image", "detections": [SPOT], "width": 64, "height": 32}]}
    assert unnamed.json() == raw.json()
    assert [image["file"] for image in form.json()["images"]] == ["ä.png", "b.bmp"]
    assert all(image["detections"] == [SPOT] for image in form.json()["images"] + packed.json()["images"])
    assert (other.json()["images"][0]["width"], len(packed.json()["images"])) == (640, 2)


def test_score_and_number_of_detections() -> None:
    high, low = asked(
        {"content": picture(), "params": {"score": 0.95}}, {"content": picture(), "params": {"max_detections": 1}}
    )
    assert high.json()["images"][0]["detections"] == []
    assert len(low.json()["images"][0]["detections"]) == 1
    with pytest.raises(ValueError, match=r"threshold in \[0, 1\]"):
        create_app(ServedDetector(), score=float("nan"))


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few hundred bytes whose header says side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def as_text_chunk_bomb() -> bytes:
    """A small PNG with a text chunk that would unpack to 64 MiB."""
    data = b"comment\x00\x00" + zlib.compress(bytes(64 * 2**20))
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    plain = picture()
    return plain[:33] + chunk + plain[33:]


def gif() -> bytes:
    stored = io.BytesIO()
    Image.new("L", (8, 8)).save(stored, format="GIF")
    return stored.getvalue()


async def slow_body() -> AsyncIterator[bytes]:
    yield picture()[:20]
    await asyncio.sleep(5)


async def endless_body() -> AsyncIterator[bytes]:
    for _ in range(1000):
        yield bytes(2**16)


def form(parts: int, broken: bool = False) -> dict[str, Any]:
    lines = [
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture() + b"\r\n"
        for _ in range(parts)
    ]
    body = b"".join(lines) + (b"" if broken else b"--x--\r\n")
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


def with_json(document: object) -> dict[str, Any]:
    return {"content": json.dumps(document), "headers": JSON}


BAD: dict[str, tuple[dict[str, Any], int]] = {
    "empty": ({"content": b""}, 400),
    "bomb": ({"content": bomb()}, 413),
    "bomb beyond Pillow's own bound": ({"content": bomb(2_000_000_000)}, 413),
    "more megapixels than allowed": ({"content": bomb(1001)}, 413),
    "text bomb": ({"content": as_text_chunk_bomb()}, 422),
    "truncated": ({"content": picture((600, 300))[:-200]}, 422),
    "header only": ({"content": picture()[:20]}, 422),
    "no pixels": ({"content": bomb(0)}, 415),
    "text": ({"content": b"hello", "headers": PNG}, 415),
    "zeros": ({"content": bytes(1000)}, 415),
    "format that is not accepted": ({"content": gif()}, 415),
    "content type": ({"content": picture(), "headers": {"Content-Type": "text/html"}}, 415),
    "too long": ({"content": bytes(600_000)}, 413),
    "too long, length not declared": ({"content": endless_body}, 413),
    "slow": ({"content": slow_body}, 408),
    "many parts": (form(4), 413),
    "broken form": (form(1, broken=True), 400),
    "form without boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
    "form without files": (
        {"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        400,
    ),
    "form with an empty file": ({"files": {"file": ("a.png", b"")}}, 400),
    "no JSON": ({"content": "{", "headers": JSON}, 400),
    "JSON list": (with_json([1]), 400),
    "deep JSON": ({"content": "[" * 200_000, "headers": JSON}, 400),
    "no UTF-8": ({"content": b'{"images": ["\xff"]}', "headers": JSON}, 400),
    "unknown key": (with_json({"image": "x"}), 400),
    "no strings": (with_json({"images": [1]}), 400),
    "nothing in it": (with_json({"images": []}), 400),
    "no base64": (with_json({"images": ["!!!"]}), 400),
    "base64 outside ASCII": (with_json({"images": ["ä"]}), 400),
    "empty base64": (with_json({"images": [""]}), 400),
    "many images": (with_json({"images": [encoded(picture())] * 4}), 413),
    "addresses while they are off": (with_json({"urls": ["http://example.org/a.png"]}), 403),
    "NaN": ({"content": picture(), "params": {"score": "nan"}}, 422),
    "infinite": ({"content": picture(), "params": {"score": "inf"}}, 422),
    "score above 1": ({"content": picture(), "params": {"score": 1.5}}, 422),
    "no number": ({"content": picture(), "params": {"max_detections": "many"}}, 422),
    "no detections": ({"content": picture(), "params": {"max_detections": 0}}, 422),
    "unknown path": ({"url": "/nothing"}, 404),
    "path outside": ({"url": "/../../secret", "method": "GET"}, 404),
    "method": ({"method": "GET"}, 405),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request_gets_its_status_and_the_server_lives(case: str) -> None:
    request, status = BAD[case]
    content = request.get("content")
    request = request | {"content": content()} if callable(content) else request
    refused, health, after = asked(request, {"method": "GET", "url": "/health"}, {"content": picture()})
    assert refused.status_code == status, refused.text
    assert set(refused.json()) == {"error", "hint"}
    assert refused.json()["error"]
    assert status in STATUS_WORDS or status in (404, 405)
    assert health.json()["status"] == "ok"
    assert after.json()["images"][0]["detections"] == [SPOT]


def at_once(count: int, model: ServedDetector, limits: Limits) -> list[Any]:
    async def scene() -> list[Any]:
        async with client_of(create_app(model, limits=limits)) as client:
            return await asyncio.gather(*(client.post("/predict", content=picture(shift=n % 9)) for n in range(count)))

    return asyncio.run(scene())


def test_requests_at_once_share_batches_and_get_their_own_answers() -> None:
    model = ServedDetector(seconds=0.05)
    responses = at_once(24, model, Limits(batch=8, wait_ms=20))
    lefts = [response.json()["images"][0]["detections"][0]["bbox"][0] for response in responses]
    assert lefts == [16.0 + number % 9 for number in range(24)]
    assert max(model.batches) > 1
    assert sum(model.batches) == 24


@pytest.mark.parametrize("full", ["images", "requests", "bodies_mib"])
def test_who_does_not_fit_is_told_to_come_back(full: str) -> None:
    room = {"images": 3, "requests": 3, "bodies_mib": 3.5 * len(picture()) / 2**20}[full]
    responses = at_once(8, ServedDetector(seconds=0.1), Limits(**{full: room, "parts": 3, "batch": 1}))
    assert {response.status_code for response in responses} == {200, 429}
    busy = [response for response in responses if response.status_code == 429]
    assert all(response.headers["Retry-After"] == "1" for response in busy)
    assert len(responses) - len(busy) >= 3


def test_who_would_wait_too_long_is_told_at_once() -> None:
    model, limits = ServedDetector(seconds=0.3), Limits(answer_seconds=1.0, batch=1)

    async def scene() -> list[int]:
        app = create_app(model, limits=limits)
        app.state.answering.warm_up()  # the server learns its pace before the first request
        async with client_of(app) as client:
            responses = await asyncio.gather(*(client.post("/predict", content=picture()) for _ in range(12)))
            return [response.status_code for response in responses]

    statuses = asyncio.run(scene())
    assert statuses.count(429) >= 12 - 4
    assert statuses.count(200) >= 1


def test_what_was_held_is_given_back() -> None:
    async def scene() -> str:
        async with client_of(create_app(ServedDetector(), limits=LIMITS)) as client:
            for content in (picture(), bomb(), b"", bytes(600_000)):
                await client.post("/predict", content=content)
            return (await client.get("/metrics")).text

    text = asyncio.run(scene())
    for name in ("smidgen_body_bytes", "smidgen_requests_in_progress", "smidgen_images_in_progress"):
        assert f"\n{name} 0\n" in text


def test_answer_that_takes_too_long() -> None:
    health = {"method": "GET", "url": "/health"}
    slow = {"content": picture()}
    responses = asked(slow, slow, slow, health, model=ServedDetector(seconds=1.5), limits=Limits(answer_seconds=0.1))
    assert [response.status_code for response in responses] == [504, 504, 504, 503]
    assert responses[-1].json()["status"] == "hangs"


@pytest.mark.parametrize(
    ("failure", "status"),
    [(ArithmeticError("no"), 500), (MemoryError(), 503), (torch.OutOfMemoryError("CUDA out of memory"), 503)],
)
def test_failing_detector(failure: Exception, status: int) -> None:
    failures = [failure]

    def fail_once(images: Any) -> None:
        if failures:
            raise failures.pop()

    failed, after = asked({"content": picture()}, {"content": picture()}, model=ServedDetector(before=fail_once))
    assert failed.status_code == status
    assert set(failed.json()) == {"error", "hint"}
    assert after.status_code == 200


def test_health_metrics_and_description() -> None:
    get = {"method": "GET"}
    _, health, metrics, schema = asked(
        {"content": picture()}, get | {"url": "/health"}, get | {"url": "/metrics"}, get | {"url": "/openapi.json"}
    )
    assert health.json() | {"seconds": 0} == {
        "status": "ok",
        "model": "served",
        "device": "cpu",
        "queue": 0,
        "seconds": 0,
    }
    lines = metrics.text.splitlines()
    assert 'smidgen_requests_total{path="/predict",status="200"} 1' in lines
    assert 'smidgen_batch_images_bucket{le="1"} 1' in lines
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    described = schema.json()["paths"]["/predict"]["post"]
    assert {str(status) for status in STATUS_WORDS} <= set(described["responses"])
    assert set(described["requestBody"]["content"]) == {"image/*", "multipart/form-data", "application/json"}


def test_pages_load_nothing_foreign() -> None:
    paths = ("/", "/page.js", "/page.css", "/docs", "/docs.js")
    for page in asked(*({"method": "GET", "url": path} for path in paths)):
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "://" not in page.text


@pytest.mark.parametrize("name", ["salience_detr_nano", "query_det_nano", "dino_nano"])
def test_salience_of_systems_that_have_it(name: str) -> None:
    model = smidgen.create_model(name, num_classes=2).eval()
    (response,) = asked({"content": picture((96, 60)), "params": {"salience": 1}}, model=model, limits=Limits())
    found = response.json()["images"][0]["salience"]
    if name == "dino_nano":
        assert found is None
        return
    with Image.open(io.BytesIO(base64.b64decode(found["png"]))) as stored:
        assert (stored.mode, stored.size) == ("L", (found["width"], found["height"]))
    cell_w, cell_h = found["covers"][0] / found["width"], found["covers"][1] / found["height"]
    assert 96 <= found["covers"][0] < 96 + cell_w
    assert 60 <= found["covers"][1] < 60 + cell_h
