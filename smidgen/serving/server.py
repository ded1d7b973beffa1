"""The application behind a socket, until a signal ends it: what was accepted is answered first."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from fastapi import FastAPI

STOPPING_SECONDS = 10
MOST_CONNECTIONS = 1000
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000, started: Callable[[str], object] = print) -> None:
    """Answer at `host` and `port` (0: one that is free) until SIGINT or SIGTERM; returns then.

    One gray image is looked at before. started: told the address as soon as it can be asked. Raises ValueError where
    the address cannot be had.
    """
    shown_host = f"[{host}]" if ":" in host else host
    with listening_socket(host, port) as listening:
        app.state.answering.warm_up()  # a signal that comes meanwhile ends the process as it would any other
        with _signals_for_uvicorn():
            started(f"http://{shown_host}:{listening.getsockname()[1]}")
            http_server(app).run(sockets=[listening])


@contextmanager
def _signals_for_uvicorn() -> Iterator[None]:
    """uvicorn raises a signal again once it has stopped; the caller has an answer to give and an exit code."""
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def http_server(app: FastAPI) -> uvicorn.Server:
    """uvicorn's server, which says nothing unless something is wrong."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOPPING_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
    )
    return uvicorn.Server(config)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that has the address. Raises ValueError where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen at {host}:{port} ({_reason(error)}); change --host or --port") from error
    with suppress(OSError):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _reason(error: OSError | OverflowError) -> str:
    """In the system's words, without what Python adds to them."""
    if isinstance(error, OverflowError):
        return str(error)
    if error.errno is None or isinstance(error, socket.gaierror):  # whose numbers are its own
        return error.strerror or str(error)
    return os.strerror(error.errno)
