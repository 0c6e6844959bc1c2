"""/v1/worlds: create, step, fork and close a world, and a WebSocket that answers actions with frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect

from unified.command import told
from unified.server.errors import ApiError, AsciiJSON
from unified.server.images import drawn
from unified.server.schema import ForkRequest, StepRequest, StepsRequest, WorldRequest
from unified.server.service import Service, until_left
from unified.server.uploads import data_url, picture_of_url, png
from unified.server.worlds import World, Worlds


def add_worlds(app: FastAPI, service: Service, worlds: Worlds) -> None:
    @app.post("/v1/worlds")
    async def create(body: WorldRequest, request: Request) -> Response:
        """A world that starts from a picture, or from one that is drawn after words."""
        client, picture = request.state.client, await _start(service, body, request)
        made = await service.call(lambda: worlds.create(client, picture, body.seed, body.temperature))
        return AsciiJSON(await _described(made), 201)

    @app.post("/v1/worlds/step")
    async def steps_of_all(body: StepsRequest, request: Request) -> Response:
        """The frames of several worlds after one action each; worlds of one size and temperature share the
        passes of the model. After an error none has been stepped."""
        client = request.state.client
        stepped = await service.call(lambda: _shown(worlds.step_all(client, body.actions)))
        frames = await asyncio.to_thread(lambda: [data_url(frame) for frame, _ in stepped])
        found = {
            number: {"frame": frame, "steps": steps}
            for number, frame, (_, steps) in zip(body.actions, frames, stepped, strict=True)
        }
        return AsciiJSON({"object": "worlds.frames", "worlds": found})

    @app.get("/v1/worlds/{number}")
    async def show(number: str, request: Request) -> Response:
        """The latest frame."""
        client = request.state.client
        return AsciiJSON(await _described(await service.call(lambda: worlds.find(client, number))))

    @app.post("/v1/worlds/{number}/step")
    async def step(number: str, body: StepRequest, request: Request) -> Response:
        """The frames after some actions, in order. After a malformed action those before it have been
        taken."""
        client = request.state.client

        async def steps() -> Response:
            frames: list[str] = []
            for action in body.actions:
                world = await service.call(partial(worlds.step, client, number, action))
                frames.append(await asyncio.to_thread(data_url, world.frame))
            return AsciiJSON({"id": number, "object": "world.frames", "frames": frames, "steps": world.steps})

        return await until_left(request, steps(), lambda: None)

    @app.post("/v1/worlds/{number}/fork")
    async def fork(number: str, body: ForkRequest, request: Request) -> Response:
        """Another world that goes on from here."""
        client = request.state.client
        made = await service.call(lambda: worlds.fork(client, number, body.seed))
        return AsciiJSON(await _described(made), 201)

    @app.delete("/v1/worlds/{number}")
    async def close(number: str, request: Request) -> Response:
        """End a world."""
        client = request.state.client
        await service.call(lambda: worlds.close(client, number))
        return AsciiJSON({"id": number, "object": "world", "deleted": True})

    @app.websocket("/v1/worlds/{number}/play")
    async def play(number: str, socket: WebSocket) -> None:
        """For each message with an action in JSON, a message with the frame as PNG, or with an error in
        JSON."""
        await socket.accept()
        with suppress(WebSocketDisconnect):
            await _played(service, worlds, number, socket)


def refuse_worlds(app: FastAPI) -> None:
    """Of a server that keeps none: replicas share no state."""

    @app.api_route("/v1/worlds{rest:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
    async def refused(rest: str) -> Response:
        raise ApiError(404, "this server keeps no worlds", code="no_worlds")


def _shown(worlds: Sequence[World]) -> list[tuple[np.ndarray, int]]:
    """What the worlds show now: other requests may step them on."""
    return [(world.frame, world.steps) for world in worlds]


async def _played(service: Service, worlds: Worlds, number: str, socket: WebSocket) -> None:
    client = socket.state.client
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            action = _action(message.get("text") or "")
            world = await service.call(partial(worlds.step, client, number, action))
            await socket.send_bytes(await asyncio.to_thread(png, world.frame))
        except ApiError as error:
            await socket.send_text(json.dumps(error.body()))
            if error.status == 404:
                await socket.close(1008)
                return


def _action(text: str) -> dict[str, Any]:
    try:
        action = json.loads(text)
    except (ValueError, RecursionError):
        raise ApiError(400, "an action is a JSON object in a text message") from None
    if not isinstance(action, dict):
        raise ApiError(400, "an action is a JSON object in a text message")
    return action


async def _start(service: Service, body: WorldRequest, request: Request) -> np.ndarray:
    """The first frame."""
    if (body.image is None) == (body.words is None):
        raise ApiError(400, "a world starts from an image (a data URL) or from words", param="image")
    if body.words is not None:
        return await drawn(service, body.words, body.seed, request)
    try:
        return await asyncio.to_thread(picture_of_url, body.image or "", service.limits.request.pixels)
    except ValueError as error:
        raise ApiError(400, told(error), param="image", code="invalid_image") from None


async def _described(world: World) -> dict[str, Any]:
    frame = await asyncio.to_thread(data_url, world.frame)
    return {"id": world.number, "object": "world", "steps": world.steps, "frame": frame}
