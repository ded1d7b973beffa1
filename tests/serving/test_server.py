"""Over real sockets: late and long bodies, a browser, a signal that ends it. Every port is chosen by the system."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")
pytest.importorskip("uvicorn")

from served_detector import ServedDetector, picture

import smidgen
from smidgen.serving import Limits, create_app
from smidgen.serving.server import http_server, listening_socket, serve

LIMITS = Limits(body_mib=0.5, body_seconds=0.3)


def with_server(scene: Callable[[int], Awaitable[Any]], limits: Limits = LIMITS) -> Any:
    """What `scene` returns, given the port of a server that lives for as long."""

    async def run() -> Any:
        server = http_server(create_app(ServedDetector(), limits=limits))
        with listening_socket("127.0.0.1", 0) as listening:
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                return await scene(listening.getsockname()[1])
            finally:
                server.should_exit = True
                await serving

    return asyncio.run(run())


async def exchange(port: int, head: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    """Status and content of the answer to raw bytes; the connection stays open on our side until it has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"POST /predict HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        length = int(re.findall(rb"content-length: (\d+)", answer.lower())[0])
        return int(answer.split()[1]), json.loads(await reader.readexactly(length))
    finally:
        writer.close()


def test_bodies_over_a_socket() -> None:
    chunk = b"%x\r\n%s\r\n" % (len(picture()), picture())

    async def scene(port: int) -> list[int]:
        answers = [
            await exchange(port, f"Content-Length: {len(picture())}", picture()),
            await exchange(port, "Transfer-Encoding: chunked", chunk + b"0\r\n\r\n"),
            await exchange(port, "Content-Length: 1000", picture()[:10]),  # and then silence
            await exchange(port, "Content-Length: 99999999999", picture()),
            await exchange(port, "Transfer-Encoding: chunked", b"100000\r\n" + bytes(2**20) + b"\r\n0\r\n\r\n"),
            await exchange(port, f"Content-Length: {len(picture())}", picture()),
        ]
        return [status for status, _ in answers]

    assert with_server(scene) == [200, 200, 408, 413, 413, 200]


def test_client_that_goes_away_leaves_nothing_behind() -> None:
    async def scene(port: int) -> dict[str, Any]:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n123")
        await writer.drain()
        writer.transport.abort()
        _, answer = await exchange(port, f"Content-Length: {len(picture())}", picture())
        return answer

    assert len(with_server(scene)["images"][0]["detections"]) == 1


def test_port_in_use_is_said() -> None:
    with (
        listening_socket("127.0.0.1", 0) as taken,
        pytest.raises(ValueError, match=r"cannot listen at 127\.0\.0\.1:\d+ .*change --host or --port"),
    ):
        listening_socket("127.0.0.1", taken.getsockname()[1])


def test_a_host_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_server", unknown)
    with pytest.raises(ValueError, match=r"nowhere:8000 \(Name or service not known\)"):
        listening_socket("nowhere", 8000)


def test_interrupted_before_it_listens_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(ServedDetector(), limits=LIMITS)
    monkeypatch.setattr(app.state.answering, "warm_up", lambda: signal.raise_signal(signal.SIGINT))

    def never(url: str) -> None:
        raise AssertionError(f"it answers at {url}")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # programs in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            serve(app, port=0, started=never)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_page_works_in_a_browser(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs a browser: chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=30000", "--dump-dom"]

    async def scene(port: int) -> str:
        process = await asyncio.create_subprocess_exec(
            browser, *options, f"http://127.0.0.1:{port}/#try",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        written, _ = await asyncio.wait_for(process.communicate(), 120)
        return written.decode()

    page = with_server(scene, Limits())
    assert 'data-state="answered"' in page
    assert 'data-boxes="1"' in page
    assert re.search(r"spot 1\s*</li>", page)
    assert "served on cpu" in page


@pytest.mark.slow
def test_verb_answers_until_it_is_told_to_end(tmp_path: Path) -> None:
    smidgen.save(smidgen.create_model("fcos_nano", num_classes=1, width=16, head_layers=1), tmp_path / "run")
    command = [sys.executable, "-m", "smidgen", "serve", str(tmp_path / "run"), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)", line)
        status, answer = asyncio.run(exchange(int(port), f"Content-Length: {len(picture())}", picture()))
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (status, answer["images"][0]["width"]) == (200, 64)
    assert process.returncode == 0
    assert json.loads(printed)["images"] == 1
