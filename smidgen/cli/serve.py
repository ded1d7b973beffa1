"""`smidgen serve`: a trained model behind HTTP, with a page to try it."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from smidgen.cli.detector import Optimized, bundle_of, load_detector
from smidgen.cli.failures import usage_error
from smidgen.cli.options import AsJson, Device, Run, chosen_device
from smidgen.cli.output import Result, say

LEAST_SCORE = 0.3
NEEDED = ("fastapi", "uvicorn", "python_multipart")


def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 = reachable from other machines.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 = one that is free.")] = 8000,
    score: Annotated[
        float | None,
        typer.Option(help="Lowest score where a request names none.", show_default="0.3; an exported file's own"),
    ] = None,
    device: Device = "auto",
    optimized: Optimized = None,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Fetch images from public addresses.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Most images of one pass through the network.")] = 8,
    wait_ms: Annotated[float, typer.Option(min=0, help="How long the first image waits for others.")] = 5.0,
    body_mib: Annotated[float, typer.Option(help="Largest body of a request (else 413).")] = 32.0,
    megapixels: Annotated[float, typer.Option(help="Largest image (else 413).")] = 50.0,
    parts: Annotated[int, typer.Option(min=1, help="Most images of one request (else 413).")] = 16,
    requests: Annotated[int, typer.Option(min=1, help="Most requests at once (else 429).")] = 128,
    images: Annotated[int, typer.Option(min=1, help="Most images accepted and not yet answered (else 429).")] = 64,
    body_seconds: Annotated[float, typer.Option(help="Time for a body to arrive (else 408).")] = 20.0,
    answer_seconds: Annotated[float, typer.Option(help="Time for its answer (else 504).")] = 30.0,
    as_json: AsJson = False,
) -> Result:
    """Answer over HTTP until interrupted: /predict, /health, /metrics, /docs, and a page at / to try it."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise usage_error(f"serving needs an extra ({', '.join(missing)})", "pip install 'smidgen[serve]'")
    from smidgen.serving import Limits, create_app
    from smidgen.serving import serve as answer

    limits = Limits(
        body_mib=body_mib,
        megapixels=megapixels,
        parts=parts,
        requests=requests,
        images=images,
        body_seconds=body_seconds,
        answer_seconds=answer_seconds,
        batch=batch,
        wait_ms=wait_ms,
    )
    bundle, where = bundle_of(run), chosen_device(device)
    if score is None:
        score = LEAST_SCORE if bundle is None else bundle.score
    model = load_detector(run, where, optimized)
    app = create_app(model, device=where, limits=limits, score=score, allow_urls=allow_urls)
    began = time.monotonic()
    answer(app, host=host, port=port, started=lambda url: say(f"serving {_name(run)} at {url} (Ctrl-C ends it)"))
    answered = int(app.state.answering.books.images.values[()])
    seconds = round(time.monotonic() - began, 1)
    words = f"stopped after {seconds:g} s; images answered: {answered}"
    return Result({"images": answered, "seconds": seconds}, lambda console: console.print(words))


def _name(run: Path) -> str:
    from smidgen.data.image_files import shown

    return shown(run)
