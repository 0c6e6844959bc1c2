"""The start of all arms: a lossless tokenizer of pictures of tiles, one of text, and a small model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from unified.tasks.mazes.maze import ACTIONS
from unified.tasks.mazes.tiles import patches
from unified.tokenizers.images import to_images
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.text import train_text_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

from unified.config import text_decoder
from unified.model import UnifiedConfig, UnifiedModel
from unified.stream.processor import Processor

PATCH = 4  # pixels a code
WHOLE = ("<actions>", "</actions>", *ACTIONS)  # texts of one id: what is read off a sketch is one choice
COPY = 4.0  # how loud a slot's state says what the transition made, beside a state of length one


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Of the decoder, `text` ids, the transition's `channels`, and the `side` of pictures in pixels. The
    defaults have 2.6 million parameters."""

    width: int = 192
    layers: int = 4
    heads: int = 6
    channels: int = 48
    text: int = 320
    side: int = 64


@lru_cache(maxsize=1)
def tile_tokenizer() -> VQTokenizer:
    """One code for each patch that pictures of tiles show, found by its pixels: nothing is trained or lost.
    The network adds nothing to a discrete cosine transform that keeps all of a patch."""
    every = patches(PATCH)
    dim = 3 * PATCH**2
    network = NetworkConfig(
        latent=dim,
        multipliers=(1,),
        blocks=0,
        attention=False,
        middle_attention=False,
        groups=8,
        patch=PATCH,
        shortcut=True,
    )
    visual = VQTokenizer(VQConfig(codes=len(every), dim=dim, encoder=network, normalised=False)).eval()
    line = to_images(every.transpose(1, 0, 2, 3).reshape(1, PATCH, -1, 3))  # all patches side by side
    weight: Any = visual.table.weight
    with torch.no_grad():
        weight.copy_(visual.latent(line)[0, :, 0].T)
    return visual.requires_grad_(False)


@lru_cache(maxsize=1)
def _numbers() -> dict[bytes, int]:
    return {patch.tobytes(): number for number, patch in enumerate(patches(PATCH))}


def codes_of(picture: np.ndarray) -> np.ndarray:
    """The codes of a picture of tiles, uint8 [H, W, 3] -> int64 [H / 4 * W / 4]: as the tokenizer's, without
    a search. ValueError for one that shows another patch."""
    height, width = picture.shape[0] // PATCH, picture.shape[1] // PATCH
    cut = picture.reshape(height, PATCH, width, PATCH, 3).swapaxes(1, 2).reshape(-1, PATCH, PATCH, 3)
    numbers = _numbers()
    try:
        return np.array([numbers[patch.tobytes()] for patch in np.ascontiguousarray(cut)])
    except KeyError:
        raise ValueError("the picture shows something that is no patch of a maze of tiles") from None


def picture_of(codes: np.ndarray) -> np.ndarray:
    """The square picture of codes [R]: uint8 [H, W, 3]."""
    side = round(len(codes) ** 0.5)
    cut = patches(PATCH)[codes].reshape(side, side, PATCH, PATCH, 3)
    return cut.swapaxes(1, 2).reshape(side * PATCH, side * PATCH, 3)


@torch.no_grad()
def _tell_codes_apart(model: UnifiedModel, visual: VQTokenizer) -> None:
    """First embeddings of codes from what distinguishes their patches, and a head that names each."""
    vectors = visual.codebook() - visual.codebook().mean(dim=0)
    model.head.start_from(normalize(vectors, dim=-1), model.config.initializer_range)
    model.head.projection.weight.copy_(model.head.embedding.weight)


def text_tokenizer(texts: Iterable[str], size: int) -> Any:
    """A tokenizer of `size` ids learned from texts, one of them for each of WHOLE."""
    text = train_text_tokenizer(texts, size - len(WHOLE))
    text.add_tokens(list(WHOLE))
    return text


def start(texts: Iterable[str], size: ModelSize, seed: int) -> tuple[UnifiedModel, Processor]:
    """A model with random weights and its processor, whose text tokenizer is learned from `texts`. The
    transition is the identity, and a slot says what it made."""
    text, visual = text_tokenizer(texts, size.text), tile_tokenizer()
    torch.manual_seed(seed)
    side = size.side // PATCH
    vocabulary: dict[str, Any] = {"text": len(text), "visual": visual.codes, "action": 0, "action_slots": 1}
    vocabulary |= {"max_side": side, "merge": side}  # a cell of the maze is one position
    extras: dict[str, Any] = {"transition": {"channels": size.channels, "words": True}}
    extras |= {"reference": {}, "own_state": {}, "copy_gate": {}, "grid": {}}
    backbone = text_decoder(width=size.width, layers=size.layers, heads=size.heads, kv_heads=size.heads)
    model = UnifiedModel(UnifiedConfig(vocabulary=vocabulary, backbone=backbone, extras=extras))
    _tell_codes_apart(model, visual)
    extra: Any = model.extras["copy_gate"]
    torch.nn.init.constant_(extra.gate.bias, COPY)
    return model, Processor(model.vocabulary, text, visual, sides=())
