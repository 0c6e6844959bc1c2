"""Features of texts by a T5 encoder of `transformers` (Raffel et al., arXiv 1910.10683).

Infinity and LlamaGen are told a text as the last hidden states of flan-t5-xl, at most 512 and 120 of them,
the end token's included.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, T5EncoderModel

from unified.pretrained import find
from unified.text_to_image.folder import TEXT_ENCODER, PublishedFolder
from unified.weight_files import first_line

LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
FILES = "config.json, model.safetensors, tokenizer.json; the released weights use google/flan-t5-xl"


class TextEncoder:
    """A T5 encoder and its tokenizer. `longest`: ids of a text, beyond which it is cut (a warning)."""

    def __init__(self, model: T5EncoderModel, tokenizer: Any, *, longest: int) -> None:
        self.model, self.tokenizer, self.longest = model.eval(), tokenizer, longest

    @property
    def channels(self) -> int:
        config: Any = self.model.config
        channels: int = config.d_model
        return channels

    def ids(self, text: str) -> list[int]:
        """At most `longest` ids with the end token; ValueError for an empty text."""
        if not text.strip():
            raise ValueError("the prompt is empty")
        whole: list[int] = self.tokenizer(text).input_ids
        if len(whole) > self.longest:
            warnings.warn(
                f"the prompt has {len(whole)} ids, the model is told the first {self.longest}", stacklevel=2
            )
        cut: list[int] = self.tokenizer(text, truncation=True, max_length=self.longest).input_ids
        return cut

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> list[Tensor]:
        """Of each text [n, C] in float32. Texts run one by one: none sees another's padding."""
        found = []
        for text in texts:
            ids = torch.tensor([self.ids(text)], device=self.model.device)
            states: Tensor = self.model(input_ids=ids).last_hidden_state
            found.append(states[0].float())
        return found


def load_text_encoder(
    folder: PublishedFolder, *, channels: int, longest: int, device: Any = "cpu", dtype: Any = torch.float32
) -> TextEncoder:
    """The encoder that a folder holds or names. ValueError, in one line, if it is missing, damaged or of
    another width than `channels`."""
    path = _path(folder)
    try:
        config = AutoConfig.from_pretrained(path, **LOCAL)
        if config.model_type != "t5":
            raise ValueError(f"expected a T5 encoder, found model_type {config.model_type!r}")
        tokenizer = AutoTokenizer.from_pretrained(path, **LOCAL)
        kind: Any = T5EncoderModel
        model, found = kind.from_pretrained(path, dtype=dtype, output_loading_info=True, **LOCAL)
    except Exception as error:  # the library raises whatever its parts raise
        raise ValueError(f"{path}: its text encoder does not load: {first_line(error)}") from None
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{path}: {len(missing)} of its weights are missing (first: {missing[0]})")
    if config.d_model != channels:
        raise ValueError(
            f"{path}: its features have {config.d_model} channels, the transformer is told {channels}"
        )
    return TextEncoder(model.to(device), tokenizer, longest=longest)


def _path(folder: PublishedFolder) -> Path:
    """The folder of the encoder; the hub is asked only for what config.json names."""
    name = folder.config.get(TEXT_ENCODER, TEXT_ENCODER)
    if not isinstance(name, str):
        raise folder.error(f"{TEXT_ENCODER} must name a folder or a model on the hub, got {name!r:.60}")
    if (folder.path / name).is_dir():
        return folder.path / name
    if TEXT_ENCODER in folder.config:
        return find(name)
    raise ValueError(f"{folder.path}: no {TEXT_ENCODER}/: put a T5 encoder there ({FILES})")
