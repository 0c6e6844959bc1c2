"""The bodies of requests, as OpenAI's interface has them. Unknown fields are refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_SEED = 2**40  # larger seeds are taken modulo this
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Zero = Annotated[float, Field(ge=0, le=0)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class TextPart(Body):
    type: Literal["text"]
    text: str


class ImageURL(Body):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Body):
    type: Literal["image_url"]
    image_url: ImageURL


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(Body):
    """A turn; `refusal` and the like of answers that are sent back are passed over."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(Body):
    type: Literal["text"]


class ChatRequest(Body):
    """Fields after `image_size` change nothing: they are taken where they ask for nothing that is not
    there."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    n: Annotated[int, Field(ge=1)] = 1
    seed: Seed | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    modalities: list[Literal["text", "image"]] | None = None
    max_images: Annotated[int, Field(ge=0)] | None = None
    image_size: str | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    store: Literal[False] | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None


class ImageRequest(Body):
    """`guidance`: scale of classifier-free guidance. Pictures are answered as base64 alone."""

    prompt: Annotated[str, Field(min_length=1)]
    model: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    size: str | None = None
    seed: Seed | None = None
    guidance: Annotated[float, Field(ge=-1e3, le=1e3)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    quality: Literal["auto", "standard"] | None = None
    style: None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = None
    stream: Literal[False] | None = None
    user: str | None = None


class WorldRequest(Body):
    """`image`: a data URL of the first frame, or `words` after which it is drawn. `seed`: of frames that are
    sampled, and of that drawing."""

    image: str | None = None
    words: Annotated[str, Field(min_length=1)] | None = None
    seed: Seed = 0
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0


class StepRequest(Body):
    """Actions in MineRL's form: buttons that are pressed, and `camera` [pitch, yaw] in degrees."""

    actions: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=64)]


class StepsRequest(Body):
    """One action in MineRL's form for each of some worlds, by their id."""

    actions: Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=64)]


class ForkRequest(Body):
    seed: Seed | None = None
