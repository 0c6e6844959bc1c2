"""/v1/chat/completions: messages with pictures in, text and drawn pictures out."""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from unified.apps.answering import NUCLEUS, GenerationSettings
from unified.apps.conversation import Conversation
from unified.apps.inner_speech import Outspoken
from unified.apps.settings import CHATTING
from unified.command import told
from unified.decoding.sampling import Sampler
from unified.server.errors import ApiError, AsciiJSON
from unified.server.job import Drew, Ended, Event, Extras, Prompt, Said, Scored
from unified.server.schema import ChatMessage, ChatRequest, TextPart
from unified.server.service import Answers, Service, Stream, until_left
from unified.server.sizes import size_of
from unified.server.uploads import data_url, picture_of_url
from unified.stream.messages import Message

SYSTEM = {"developer": "system"}


async def complete(service: Service, body: ChatRequest, request: Request) -> Response:
    """The answer, whole or streamed. `ApiError` for what cannot be answered."""
    service.check_model(body.model)
    settings = settings_of(service, body)
    messages = await asyncio.to_thread(messages_of, service, body)
    size = size_of(body.image_size, "image_size") or _latest_size(messages)
    shapes = service.shapes(size or (service.assistant.side,) * 2, "image_size")
    client = request.state.client
    answers = service.ask(Prompt(messages), settings, shapes, body.seed, client, extras_of(body))
    answer = ChatAnswer(service, body, len(settings))
    if not body.stream:
        return await until_left(request, answer.whole(answers), answers.cancel)
    events = answers.events()
    first = await _first(request, events, answers)
    return Stream(request, answer.lines(first, events), answers.cancel)


async def _first(request: Request, events: AsyncIterator[Any], answers: Answers) -> tuple[int, Event] | None:
    """The first event: a failure before it is an error of HTTP and not of the stream."""
    found: list[tuple[int, Event]] = []

    async def wait() -> Response:
        found.append(await anext(events))
        return Response()

    try:
        await until_left(request, wait(), lambda: None)
    except BaseException:
        answers.cancel()
        raise
    if not found:
        answers.cancel()
    return found[0] if found else None


def settings_of(service: Service, body: ChatRequest) -> list[GenerationSettings]:
    """Those of every choice: without a temperature the first is greedy, the others are sampled as a chat's
    second attempt is."""
    limits = service.limits.request
    count = service.check_most("n", body.n, limits.choices)
    asked = body.max_completion_tokens or body.max_tokens or min(CHATTING.max_tokens, limits.tokens)
    images = limits.images if body.max_images is None else body.max_images
    settings = replace(
        CHATTING,
        max_tokens=service.check_most("max_tokens", asked, limits.tokens),
        max_images=service.check_most("max_images", images, limits.images),
        allow_images=body.modalities is None or "image" in body.modalities,
    )
    if body.temperature is None and body.top_p is None:
        return [settings, *[replace(settings, **Conversation.warm)] * (count - 1)]
    temperature = 1.0 if body.temperature is None else body.temperature
    sampler = Sampler(temperature=temperature, top_p=body.top_p or 0.0)
    image = NUCLEUS if sampler.temperature else settings.image_sampler
    return [replace(settings, text_sampler=sampler, image_sampler=image)] * count


def extras_of(body: ChatRequest) -> Extras:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if any(not text or len(text) > 256 for text in stop):
        raise ApiError(400, "stop strings have 1 to 256 letters", param="stop")
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    top = (body.top_logprobs or 0) if body.logprobs else None
    return Extras(stop=tuple(stop), top=top, asked=body.modalities is None)


def messages_of(service: Service, body: ChatRequest) -> list[Message]:
    """The conversation with pixels in place of data URLs. `ApiError` for a picture that is refused, and for a
    conversation that does not end with the user."""
    if body.messages[-1].role != "user":
        raise ApiError(400, "the last message must be the user's", param="messages")
    return [_message(service, message, number) for number, message in enumerate(body.messages)]


def _message(service: Service, message: ChatMessage, number: int) -> Message:
    role = SYSTEM.get(message.role, message.role)
    if isinstance(message.content, str):
        return {"role": role, "content": message.content}
    content: list[dict[str, Any]] = []
    for place, part in enumerate(message.content):
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
            continue
        try:
            picture = picture_of_url(part.image_url.url, service.limits.request.pixels)
            content.append({"type": "image", "image": service.assistant.picture(picture)})
        except ValueError as error:
            param = f"messages.{number}.content.{place}.image_url"
            raise ApiError(400, told(error), param=param, code="invalid_image") from None
    return {"role": role, "content": content}


def _latest_size(messages: list[Message]) -> tuple[int, int] | None:
    """Of the latest picture in the conversation: drawn ones have its size."""
    content = [item for message in messages for item in message["content"] if isinstance(item, dict)]
    images = [item["image"] for item in content if item["type"] == "image"]
    return images[-1].shape[:2] if images else None


class Choice:
    """One choice as it comes. What the model says to itself is no part of it (`apps.inner_speech`)."""

    def __init__(self, thinks: bool) -> None:
        self.content: list[dict[str, Any]] = []
        self.tokens: list[Scored] = []
        self.finish: str | None = None
        self._outspoken = Outspoken() if thinks else None

    def hear(self, event: Event) -> list[str | np.ndarray]:
        """Pieces of text and images that an event makes sure are part of the answer."""
        said = self._heard(event)
        for piece in said:
            if not isinstance(piece, str):
                self.content.append({"type": "image", "image": piece})
            elif self.content and self.content[-1]["type"] == "text":
                self.content[-1]["text"] += piece
            else:
                self.content.append({"type": "text", "text": piece})
        return said

    def _heard(self, event: Event) -> list[str | np.ndarray]:
        if isinstance(event, Said):
            self.tokens += event.tokens
            text = event.text if self._outspoken is None else self._outspoken.hear(event.text)
            return [text] if text else []
        rest = self._outspoken.flush() if self._outspoken is not None else ""
        found: list[str | np.ndarray] = [rest] if rest else []
        if isinstance(event, Drew):
            found.append(event.image)
        elif isinstance(event, Ended):
            self.finish = event.reason
        return found


class ChatAnswer:
    """The response to a chat request, as one object or as chunks."""

    def __init__(self, service: Service, body: ChatRequest, count: int) -> None:
        self.body, self.name = body, service.name
        self.choices = [Choice(service.assistant.thinks) for _ in range(count)]
        self.number, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        self.prompt = self.said = 0

    async def whole(self, answers: Answers) -> Response:
        async for number, event in answers.events():
            self._hear(number, event)
        choices = [await self._choice(*pair) for pair in enumerate(self.choices)]
        return AsciiJSON({**self._head("chat.completion"), "choices": choices, "usage": self._usage()})

    async def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        drew = any(part["type"] == "image" for part in choice.content)
        text = "".join(part["text"] for part in choice.content if part["type"] == "text")
        parts = [await _part(part) for part in choice.content] if drew else text
        message = {"role": "assistant", "content": parts, "refusal": None}
        scores = _scores(choice.tokens) if self.body.logprobs else None
        return {"index": index, "message": message, "logprobs": scores, "finish_reason": choice.finish}

    async def lines(
        self, first: tuple[int, Event] | None, events: AsyncIterator[tuple[int, Event]]
    ) -> AsyncIterator[str]:
        """Server-sent events, the last one [DONE]. An error in the middle is one of them."""
        for index in range(len(self.choices)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        try:
            if first is not None:
                async for line in self._told(*first):
                    yield line
            async for number, event in events:
                async for line in self._told(number, event):
                    yield line
        except ApiError as error:
            yield _line(error.body())
            return
        if self.body.stream_options is not None and self.body.stream_options.include_usage:
            yield _line({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    async def _told(self, number: int, event: Event) -> AsyncIterator[str]:
        choice = self.choices[number]
        before = len(choice.tokens)
        pieces = self._hear(number, event)
        scored = choice.tokens[before:]
        for piece in pieces:
            content = piece if isinstance(piece, str) else [await _part({"type": "image", "image": piece})]
            yield self._chunk(number, {"content": content}, tokens=scored)
            scored = []
        if scored:
            yield self._chunk(number, {}, tokens=scored)
        if choice.finish is not None:
            yield self._chunk(number, {}, finish=choice.finish)

    def _hear(self, number: int, event: Event) -> list[str | np.ndarray]:
        if isinstance(event, Ended):
            self.prompt, self.said = event.prompt, self.said + event.said
        return self.choices[number].hear(event)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        tokens: list[Scored] | None = None,
        finish: str | None = None,
    ) -> str:
        scores = _scores(tokens) if tokens and self.body.logprobs else None
        choice = {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finish}
        return _line({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.number, "object": kind, "created": self.created, "model": self.name}

    def _usage(self) -> dict[str, int]:
        total = self.prompt + self.said
        return {"prompt_tokens": self.prompt, "completion_tokens": self.said, "total_tokens": total}


async def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of an answer as it is sent."""
    if part["type"] == "text":
        return part
    url = await asyncio.to_thread(data_url, part["image"])
    return {"type": "image_url", "image_url": {"url": url}}


def _scores(tokens: list[Scored]) -> dict[str, Any]:
    def entry(text: str, score: float) -> dict[str, Any]:
        return {"token": text, "logprob": max(score, -9999.0), "bytes": list(text.encode("utf-8", "replace"))}

    return {
        "content": [
            {**entry(one.text, one.log_prob), "top_logprobs": [entry(*other) for other in one.top]}
            for one in tokens
            if not math.isnan(one.log_prob)
        ],
        "refusal": None,
    }


def _line(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n"
