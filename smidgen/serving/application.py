"""The web application: detections, health, metrics, a page to try it, and its description (OpenAPI)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from torch import nn

from smidgen.serving.answering import Answering
from smidgen.serving.gatekeeping import Gatekeeping
from smidgen.serving.limits import Limits
from smidgen.serving.metrics import CONTENT_TYPE, exposition
from smidgen.serving.openapi import PREDICT_BODY, PREDICT_RESPONSES
from smidgen.serving.refusals import Refusal

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css", "/docs": "docs.html"}
PAGE_FILES |= {"/docs.js": "docs.js"}
MOST_DETECTIONS = 10_000


def create_app(
    model: nn.Module,
    *,
    device: str = "cpu",
    limits: Limits | None = None,
    score: float = 0.3,
    allow_urls: bool = False,
) -> FastAPI:
    """An ASGI application that answers with `model`. score: the threshold where a request names none.

    Raises ValueError for a score out of [0, 1].
    """
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"expected a score threshold in [0, 1], got {score}; change --score")
    answering = Answering(model, device, limits or Limits(), allow_urls=allow_urls)
    app = FastAPI(
        title="Smidgen", version=version("smidgen"), lifespan=_lifespan(answering), docs_url=None, redoc_url=None
    )
    _add_predict(app, answering, score)
    _add_state(app, answering)
    _add_pages(app)
    _add_error_answers(app)
    known = {str(getattr(route, "path", "")) for route in app.routes}
    app.add_middleware(
        Gatekeeping,
        observe=lambda path, *rest: answering.books.request_done(path if path in known else "other", *rest),
    )
    app.state.answering = answering
    return app


def _lifespan(answering: Answering) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        answering.start()
        try:
            yield
        finally:
            await answering.stop()

    return lifespan


def _add_predict(app: FastAPI, answering: Answering, default_score: float) -> None:
    @app.post("/predict", openapi_extra=PREDICT_BODY, responses=PREDICT_RESPONSES, summary="Detect objects in images")
    async def predict(
        request: Request,
        score: Annotated[float, Query(ge=0, le=1, description="Lowest score to keep.")] = default_score,
        max_detections: Annotated[int, Query(ge=1, le=MOST_DETECTIONS, description="Most per image.")] = 300,
        salience: Annotated[bool, Query(description="Add where the detector looked, if it knows.")] = False,
    ) -> JSONResponse:
        return JSONResponse(await answering.answer(request, score, max_detections, salience))


def _add_state(app: FastAPI, answering: Answering) -> None:
    @app.get("/health", summary="Whether the server answers", responses={503: {"description": "The detector hangs."}})
    async def health() -> JSONResponse:
        state = answering.health()
        return JSONResponse(state, 200 if state["status"] == "ok" else 503)

    @app.get("/metrics", summary="Counts and durations for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(exposition(answering.metrics()), media_type=CONTENT_TYPE)


def _add_pages(app: FastAPI) -> None:
    for path, name in PAGE_FILES.items():
        app.add_api_route(path, _sender(PAGE / name), include_in_schema=False)


def _sender(file: Path) -> Any:
    async def send() -> FileResponse:
        return FileResponse(file)

    return send


def _add_error_answers(app: FastAPI) -> None:
    """Every error in one shape."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse(refusal.content, refusal.status, refusal.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        text = f"{first['loc'][-1]}: {first['msg']}"
        return JSONResponse({"error": text, "hint": "see /docs for the parameters"}, 422)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        content = {
            "error": f"{error.detail}: {request.method} {request.url.path}",
            "hint": "see /docs for the addresses",
        }
        return JSONResponse(content, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        content = {"error": f"the detector failed ({type(error).__name__})", "hint": "the server's log says where"}
        return JSONResponse(content, 500)
