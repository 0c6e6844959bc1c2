"""/v1/images/generations and /v1/images/edits: pictures as base64."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from unified.apps.answering import NUCLEUS, Content, GenerationSettings
from unified.apps.settings import DRAWING, EDITING, another
from unified.command import told
from unified.decoding.drawing import Hook
from unified.decoding.editing import keep
from unified.decoding.guidance import Constant
from unified.orders import Plan
from unified.orders.shapes import Shapes
from unified.server.errors import ApiError, AsciiJSON
from unified.server.job import Drew, Ended, Extras, Prompt
from unified.server.schema import ImageRequest
from unified.server.service import Answers, Service, until_left
from unified.server.sizes import size_of
from unified.server.uploads import base64_png, mask_of_bytes, picture_of_bytes

FILES = ("image", "image[]", "mask")


async def generate(service: Service, body: ImageRequest, request: Request) -> Response:
    """Images of what a prompt says."""
    service.check_model(body.model)
    size = size_of(body.size, "size") or (service.assistant.side, service.assistant.side)
    shapes = service.shapes(size, "size")
    content: Content = [{"type": "text", "text": body.prompt}]
    return await _answered(service, body, request, DRAWING, content, shapes, Extras())


async def edit(service: Service, request: Request) -> Response:
    """An image after an instruction was carried out; with a mask, only where the mask is transparent."""
    async with request.form(max_files=3, max_fields=32) as form:
        body = _form_body(form)
        service.check_model(body.model)
        image, mask = await _files(form)
    picture = await asyncio.to_thread(_picture, service, image)
    shapes = service.shapes(picture.shape[:2], "image")
    extras = Extras() if mask is None else await asyncio.to_thread(_inside, service, picture, mask)
    content: Content = [{"type": "image", "image": picture}, {"type": "text", "text": body.prompt}]
    return await _answered(service, body, request, EDITING, content, shapes, extras)


async def drawn(service: Service, words: str, seed: int, request: Request) -> np.ndarray:
    """One image of what words say, uint8 [H, W, 3]."""
    shapes = service.shapes((service.assistant.side,) * 2)
    prompt = Prompt([{"role": "user", "content": [{"type": "text", "text": words}]}])
    tokens = min(DRAWING.max_tokens, service.limits.request.tokens)
    settings = replace(DRAWING, max_tokens=tokens, max_images=service.limits.request.images)
    answers = service.ask(prompt, [settings], shapes, seed, request.state.client, Extras())
    found: list[np.ndarray] = []

    async def draw() -> Response:
        found.extend((await _drawn(answers)).images.values())
        return Response()

    await until_left(request, draw(), answers.cancel)
    if not found:
        raise ApiError(500, "the model drew no image")
    return found[0]


async def _answered(
    service: Service,
    body: ImageRequest,
    request: Request,
    settings: GenerationSettings,
    content: Content,
    shapes: Shapes,
    extras: Extras,
) -> Response:
    count = service.check_most("n", body.n or 1, service.limits.request.choices)
    every = each_settings(service, settings, count, body.guidance, body.temperature)
    prompt = Prompt([{"role": "user", "content": content}])
    answers = service.ask(prompt, every, shapes, body.seed, request.state.client, extras)
    return await until_left(request, _whole(answers, count), answers.cancel)


def each_settings(
    service: Service,
    settings: GenerationSettings,
    count: int = 1,
    guidance: float | None = None,
    temperature: float | None = None,
) -> list[GenerationSettings]:
    """Those of each of `count` images, within the limits. `guidance`: scale of classifier-free guidance, None
    for that of `settings`. Without a temperature the first image is greedy and the others are sampled."""
    limits = service.limits.request
    if guidance is not None:
        settings = replace(settings, guidance=Constant(guidance))
    tokens = min(settings.max_tokens, limits.tokens)
    settings = replace(settings, max_tokens=tokens, max_images=limits.images)
    if temperature:
        return [replace(settings, image_sampler=replace(NUCLEUS, temperature=temperature))] * count
    return [another(settings, number) for number in range(count)]


async def _whole(answers: Answers, count: int) -> Response:
    """The last image of each answer."""
    found = await _drawn(answers)
    if len(found.images) < count:
        raise ApiError(500, "the model drew no image")
    data = [{"b64_json": await asyncio.to_thread(base64_png, found.images[n])} for n in range(count)]
    usage = {"input_tokens": found.prompt, "output_tokens": found.said}
    usage["total_tokens"] = found.prompt + found.said
    return AsciiJSON({"created": int(time.time()), "data": data, "usage": usage})


@dataclass
class _Drawn:
    """By number of the answer, its last image uint8 [H, W, 3]; ids of the prompt and of all answers."""

    images: dict[int, np.ndarray] = field(default_factory=dict)
    prompt: int = 0
    said: int = 0


async def _drawn(answers: Answers) -> _Drawn:
    found = _Drawn()
    async for number, event in answers.events():
        if isinstance(event, Drew):
            found.images[number] = event.image
        elif isinstance(event, Ended):
            found.prompt, found.said = event.prompt, found.said + event.said
    return found


# Edits ------------------------------------------------------------------------------------------------------


def _form_body(form: FormData) -> ImageRequest:
    """The fields of a form that are no files. `ApiError` for others than those of a generation."""
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name in FILES:
            continue
        if isinstance(value, UploadFile) or name in fields:
            raise ApiError(400, "a form has every field once, and the files image and mask", param=name[:64])
        fields[name] = value
    if fields.pop("input_fidelity", "low") not in ("low", "high"):
        raise ApiError(400, "input_fidelity is low or high", param="input_fidelity")
    if fields.get("stream") == "false":
        del fields["stream"]
    try:
        return ImageRequest.model_validate(fields)
    except ValidationError as error:
        raise invalid(error.errors()[0]) from None


async def _files(form: FormData) -> tuple[bytes, bytes | None]:
    """The content of the picture, and of the mask if there is one."""
    images = [value for name in FILES[:2] for value in form.getlist(name)]
    masks = form.getlist("mask")
    if len(images) != 1 or len(masks) > 1 or not all(isinstance(f, UploadFile) for f in images + masks):
        raise ApiError(400, "an edit takes one image, and one mask at most, as files", param="image")
    held = [await file.read() for file in images + masks if isinstance(file, UploadFile)]
    return held[0], held[1] if masks else None


def _picture(service: Service, held: bytes) -> np.ndarray:
    """A picture at the size in which the model reads it."""
    try:
        picture = picture_of_bytes(held, service.limits.request.pixels)
        found: np.ndarray = service.assistant.picture(picture)
        return found
    except ValueError as error:
        raise ApiError(400, told(error), param="image", code="invalid_image") from None


def _inside(service: Service, picture: np.ndarray, held: bytes) -> Extras:
    """In-painting: the codes of the picture stay where the mask is not transparent."""
    try:
        mask = torch.from_numpy(mask_of_bytes(held, service.limits.request.pixels))
    except ValueError as error:
        raise ApiError(400, told(error), param="mask", code="invalid_image") from None
    if mask.bool().all():
        raise ApiError(400, "the mask has no transparent places", param="mask", code="invalid_image")
    return Extras(hook=kept_outside(service, picture, mask))


def kept_outside(service: Service, picture: np.ndarray, mask: torch.Tensor) -> Callable[[Plan], Hook]:
    """What makes the hook that keeps the codes of a picture uint8 [H, W, 3] where a mask float [h, w] is
    1."""
    processor = service.assistant.processor

    def hook(plan: Plan) -> Hook:
        codes = processor.image_item(picture, drawn=True)["codes"]
        return keep(plan, torch.tensor(codes), mask)

    return hook


def invalid(problem: Mapping[str, Any]) -> ApiError:
    """The error for one finding of the validation, which says where it is and not what was sent."""
    place = [str(part)[:64] for part in problem["loc"] if part != "body"]
    if problem["type"] == "extra_forbidden":
        message, code = "this server has no such parameter", "unknown_parameter"
        return ApiError(400, message, param=".".join(place), code=code)
    return ApiError(400, str(problem["msg"])[:300], param=".".join(place) or None)
