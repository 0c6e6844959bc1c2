"""The application: routes, the layers around them, and the worker's life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from unified import __version__
from unified.apps.assistant import Assistant
from unified.server import chat, images
from unified.server.errors import ApiError, AsciiJSON
from unified.server.guard import Access, Guard
from unified.server.limits import Limits
from unified.server.metrics import Metrics
from unified.server.scheduler import Scheduler
from unified.server.schema import ChatRequest, ImageRequest
from unified.server.service import Service
from unified.server.worker import Worker
from unified.server.world_routes import add_worlds, refuse_worlds
from unified.server.worlds import Worlds

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "prompt"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "mask": {"type": "string", "format": "binary"},
                        "prompt": {"type": "string", "minLength": 1},
                        "n": {"type": "integer", "minimum": 1},
                    },
                }
            }
        },
    }
}


def create_app(
    assistant: Any,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    name: str = "unified",
    page: Callable[[FastAPI, Service], None] | None = None,
    worlds: bool = True,
) -> Guard:
    """The server of one model as an ASGI application. `name`: what clients call the model. `page` adds a page
    for browsers after all other routes. `worlds`: whether it keeps worlds, where the model takes actions.
    ValueError for a model that is none of this project's own form."""
    if type(assistant) is not Assistant:  # an extended one reads values beside the ids
        raise ValueError(f"the server is for models in this project's own form, got {assistant!r:.100}")
    limits = limits or Limits()
    scheduler = Scheduler(assistant.model, assistant.processor, limits)
    kept = Worlds(assistant, limits)
    worker, metrics = Worker(scheduler, kept.end_idle), Metrics(scheduler)
    service = Service(assistant, worker, limits, name)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        worker.stop()

    app = FastAPI(title="unified", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.worker = worker
    _add_errors(app)
    _add_models(app, service)
    _add_answers(app, service)
    if not worlds:
        refuse_worlds(app)
    elif assistant.processor.action is not None:
        add_worlds(app, service, kept)

    @app.get("/health")
    async def health() -> Response:
        """Whether the model's thread runs."""
        status, code = ("ok", 200) if worker.alive else ("stopped", 503)
        return AsciiJSON({"status": status}, code)

    @app.get("/metrics")
    async def numbers() -> Response:
        """In Prometheus's text form."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    if page is not None:
        page(app, service)
    return Guard(app, access or Access(bytes=limits.request.bytes), metrics.seen)


def _add_models(app: FastAPI, service: Service) -> None:
    def described() -> dict[str, Any]:
        return {"id": service.name, "object": "model", "created": service.created, "owned_by": "unified"}

    @app.get("/v1/models")
    async def models() -> Response:
        """The one model that is served."""
        return AsciiJSON({"object": "list", "data": [described()]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        service.check_model(name)
        return AsciiJSON(described())


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions")
    async def completions(body: ChatRequest, request: Request) -> Response:
        """Text, and pictures that the model draws."""
        return await chat.complete(service, body, request)

    @app.post("/v1/images/generations")
    async def generations(body: ImageRequest, request: Request) -> Response:
        """Pictures of what a prompt says."""
        return await images.generate(service, body, request)

    @app.post("/v1/images/edits", openapi_extra=FORM)
    async def edits(request: Request) -> Response:
        """A picture after an instruction, with a mask only where that is transparent."""
        return await images.edit(service, request)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        problems: Sequence[Any] = error.errors()
        return images.invalid(problems[0]).response()

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response()
