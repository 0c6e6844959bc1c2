"""Messages -> ids and pixels, by a model's own chat template, tokenizer and image processor.

Where torchvision is missing, `transformers` cannot build the processors whose class has a video half
(Qwen-VL, LLaVA-OneVision, InternVL, SmolVLM). Then the class is built without that half: image processor in
its Pillow form, tokenizer, placeholders expanded by the class itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.utils import is_torchvision_available

from unified.stream.message_forms import plain_messages
from unified.tokenizers.images import to_images, to_uint8
from unified.weight_files import first_line

LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
NO_IMAGES = "this model reads text only: it cannot be asked about an image"
VIDEO = "video_processor"
SETTINGS = "tokenizer_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True)
class Prompt:
    """`ids` of a conversation, and what its image processor returned ({} without images)."""

    ids: list[int]
    inputs: Mapping[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """What a model of `transformers` is called with: a batch of one row."""
        found = {name: value for name, value in self.inputs.items() if isinstance(value, Tensor)}
        return found or {"input_ids": torch.tensor([self.ids])}


class PretrainedProcessor:
    """`processor`: of `transformers`, or a tokenizer for a model of text alone (`sees` False). Texts that
    spell special ids are encoded as they are written in the model's own template: they are not escaped."""

    def __init__(self, processor: Any, *, sees: bool) -> None:
        self.processor, self.sees = processor, sees
        self.tokenizer: Any = processor.tokenizer if sees else processor
        if not getattr(processor, "chat_template", None):  # older folders keep it with the tokenizer
            processor.chat_template = getattr(self.tokenizer, "chat_template", None)

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> Prompt:
        """Ids of a conversation, the turn of the assistant opened. Content is text, or a list of `{"type":
        "text", "text": ...}` and `{"type": "image", "image": picture}`. ValueError, in one line, for images
        that the model cannot see, and where it has no chat template."""
        options: dict[str, Any] = {"tokenize": True, "return_dict": True}
        options |= {"processor_kwargs": {"return_tensors": "pt"}} if self.sees else {}
        out = self._templated(messages, **options)
        ids = out["input_ids"]
        return Prompt(list(ids) if isinstance(ids[0], int) else ids[0].tolist(), out)

    def rendered(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """What the chat template writes of a conversation, as `prompt` before it is tokenized."""
        text: str = self._templated(messages, tokenize=False)
        return text

    def _templated(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        found = [self._message(message) for message in plain_messages(messages)]
        if not found:
            raise ValueError("the conversation is empty: give it at least one message")
        if not getattr(self.processor, "chat_template", None):
            raise ValueError("this model has no chat template: it continues texts and holds no conversation")
        try:
            return self.processor.apply_chat_template(found, add_generation_prompt=True, **options)
        except TemplateError as error:
            raise ValueError(f"the model's chat template refuses this: {first_line(error)}") from None
        except Exception as error:  # image processors and tokenizers raise whatever their parts raise
            raise ValueError(f"the model's processor refuses this: {first_line(error)}") from None

    def pixels(self, pictures: Sequence[np.ndarray]) -> Mapping[str, Any]:
        """What the image processor makes of pictures, uint8 [H, W, 3] each, {} of none."""
        if not pictures:
            return {}
        images = [Image.fromarray(picture) for picture in pictures]
        found: Mapping[str, Any] = self.processor.image_processor(images=images, return_tensors="pt")
        return found

    def text(self, ids: Sequence[int]) -> str:
        """Ids as text, without special ids."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message["content"]
        items = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if not self.sees:
            if any(item["type"] != "text" for item in items):
                raise ValueError(NO_IMAGES)
            return {"role": message["role"], "content": "".join(item["text"] for item in items)}
        return {"role": message["role"], "content": [_item(item) for item in items]}


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    if item.get("type") == "image":
        return {"type": "image", "image": Image.fromarray(to_uint8(to_images(item["image"]))[0])}
    if item.get("type") != "text":
        raise ValueError(f"this model reads text and images, got an item of type {item.get('type')!r}")
    return {"type": "text", "text": item["text"]}


# Loading ----------------------------------------------------------------------------------------------------


def load_processor(folder: Path, model_type: str, *, sees: bool) -> PretrainedProcessor:
    """The processor in a folder. ValueError, in one line, if a file is missing or damaged."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ValueError(f"{folder} has no tokenizer: one of {', '.join(TOKENIZERS)} is missing")
    try:
        if not sees:
            return PretrainedProcessor(AutoTokenizer.from_pretrained(folder, **LOCAL), sees=False)
        found = _without_video(folder, model_type) if not is_torchvision_available() else None
        return PretrainedProcessor(found or AutoProcessor.from_pretrained(folder, **LOCAL), sees=True)
    except Exception as error:  # the library raises whatever its parts raise
        lacks = "" if (folder / SETTINGS).is_file() else f" ({SETTINGS} is missing)"
        raise ValueError(f"{folder}: its processor does not load: {first_line(error)}{lacks}") from None


def load_image_half(folder: Path, model_type: str, images: type) -> PretrainedProcessor:
    """The same of a class with a video half, without that, for a folder whose own classes `transformers` does
    not know: that of `model_type`, with an image processor of the class `images`."""
    try:
        return PretrainedProcessor(_half(folder, _class_of(model_type), images), sees=True)
    except Exception as error:
        raise ValueError(f"{folder}: its processor does not load: {first_line(error)}") from None


def _without_video(folder: Path, model_type: str) -> Any:
    """The processor of a class with a video half, without that; None for other classes."""
    whole = _class_of(model_type)
    return None if whole is None or VIDEO not in whole.get_attributes() else _half(folder, whole)


def _class_of(model_type: str) -> Any:
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    return None if name is None else getattr(importlib.import_module("transformers"), name)


def _half(folder: Path, whole: Any, images: Any = None) -> Any:
    """`images`: the class of the image processor, None for the folder's own."""
    half: Any = type(whole.__name__, (_ImageHalf, whole), {"__init__": whole.__init__})
    options: dict[str, Any] = LOCAL if images is not None else {"backend": "pil", **LOCAL}
    parts = {
        "image_processor": (images or AutoImageProcessor).from_pretrained(folder, **options),
        "tokenizer": AutoTokenizer.from_pretrained(folder, **LOCAL),
    }
    settings, _ = whole.get_processor_dict(folder, **LOCAL)
    arguments = [parts.get(attribute) for attribute in whole.get_attributes()]
    return half.from_args_and_dict(arguments, settings)


class _ImageHalf:
    """A processor that takes None for its video half."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == VIDEO and argument is None:
            return None
        return super().check_argument_for_proper_class(argument_name, argument)  # type: ignore[misc]
