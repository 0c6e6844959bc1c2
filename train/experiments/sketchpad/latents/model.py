"""The start of the arm: a small random Gemma 3 whose vision tower loses nothing of a tile, and a vision head.

The published method stands on a pretrained model; nothing here is pretrained. The tower is the counterpart
of the lossless codes of the other arms: its patches are the cells of a maze, and it has no layers, so that a
latent is a normalised linear map of one tile and of its place. It is never trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from unified.tasks.mazes.tiles import TILE, patches
from unified.train.experiments.sketchpad.codec import text_tokenizer

from unified.vision_language.files import load_pretrained
from unified.vision_language.model import PretrainedReader
from unified.vision_language.processor import PretrainedProcessor
from unified.vision_language.sketchpad.files import load_head, save_head
from unified.vision_language.sketchpad.model import Images, Sketchpad, head_for

END, TURN, PAD = "<end_of_turn>", "<start_of_turn>", "<pad>"
IMAGE, BEGIN, CLOSE = "<image_soft_token>", "<start_of_image>", "<end_of_image>"
NAMED = {"image_token": IMAGE, "boi_token": BEGIN, "eoi_token": CLOSE}
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}" + BEGIN + "{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}" + TURN + "{% endif %}"
)
THETA = 1e4  # of rotary positions: a context is a few hundred positions
PLACE = 0.3  # deviation of the tower's embeddings of places, beside patches of about one


@dataclass(frozen=True, kw_only=True)
class LatentSize:
    """`width` of the decoder, `vision` that of the vision tower and head, whose `depth` is that of
    `VisionHeadConfig`, `text` ids, and the `side` of pictures in pixels. The defaults have 2.4 million
    parameters."""

    width: int = 192
    layers: int = 4
    heads: int = 6
    vision: int = 96
    depth: tuple[int, int] = (2, 2)
    text: int = 512
    side: int = 64


def start(
    texts: Iterable[str], size: LatentSize, images: int, seed: int
) -> tuple[Sketchpad, PretrainedProcessor]:
    """A model with random weights and its processor, whose text tokenizer is learned from `texts`; the head
    has room for so many finished `images`."""
    words = _tokenizer(texts, size.text)
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration(_config(words, size)).float()
    projector: Any = model.model.multi_modal_projector
    torch.nn.init.normal_(projector.mm_input_projection_weight, std=size.vision**-0.5)
    _centre(model)
    model.generation_config.eos_token_id = [words.eos_token_id]
    model.generation_config.pad_token_id = words.pad_token_id
    reader = PretrainedReader(model, [words.eos_token_id])
    sides = {"height": size.side, "width": size.side}
    pictures = Gemma3ImageProcessorPil(size=sides)
    processor = Gemma3Processor(
        pictures, words, chat_template=TEMPLATE, image_seq_length=(size.side // TILE) ** 2
    )
    head = head_for(
        reader, tokens=(size.side // TILE) ** 2, images=images, depth=size.depth, heads=size.vision // 32
    )
    return Sketchpad(reader, head), PretrainedProcessor(processor, sees=True)


def _tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=text_tokenizer(texts, size).backend_tokenizer,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={**NAMED, "turn_token": TURN},
        clean_up_tokenization_spaces=False,
    )


def _config(words: Any, size: LatentSize) -> Gemma3Config:
    head = size.width // size.heads
    rope = {"rope_type": "default", "rope_theta": THETA}
    text = {
        "hidden_size": size.width,
        "intermediate_size": 8 * size.width // 3,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "head_dim": head,
        "query_pre_attn_scalar": head,
        "vocab_size": len(words),
        "max_position_embeddings": 4096,
        "layer_types": ["full_attention"] * size.layers,
        "rope_parameters": {"full_attention": rope, "sliding_attention": rope},
        "pad_token_id": words.pad_token_id,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": None,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": size.vision,
        "intermediate_size": size.vision,
        "num_hidden_layers": 0,
        "num_attention_heads": size.vision // 32,
        "image_size": size.side,
        "patch_size": TILE,
        "vision_use_head": False,
    }
    numbers = {f"{name}_index": words.convert_tokens_to_ids(token) for name, token in NAMED.items()}
    tokens = (size.side // TILE) ** 2
    return Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=tokens, **numbers)


@torch.no_grad()
def _centre(model: Any) -> None:
    """First features of what distinguishes tiles: their mean becomes nothing, their deviation one."""
    embeddings = model.model.vision_tower.embeddings
    weight, bias = embeddings.patch_embedding.weight, embeddings.patch_embedding.bias
    every = _pixels(patches(TILE)).flatten(1) @ weight.flatten(1).T
    weight /= every.std(dim=0).mean()
    bias.copy_(-every.mean(dim=0) / every.std(dim=0).mean())
    embeddings.position_embedding.weight.normal_(std=PLACE)


def _pixels(pictures: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] -> [N, 3, H, W] from -1 to 1, as the image processor makes them."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def encode(pad: Sketchpad, pictures: Sequence[np.ndarray]) -> Images:
    """Features of pictures of the model's size, uint8 [H, W, 3] each."""
    return pad.encode({"pixel_values": _pixels(np.stack(pictures))})


class Painter:
    """Latents as pictures, for people and scores alone: each is the tile whose latent in that place is
    nearest."""

    def __init__(self, pad: Sketchpad) -> None:
        self.side = round(pad.tokens**0.5)
        self.tiles = patches(TILE)
        sheets = np.tile(self.tiles, (1, self.side, self.side, 1))  # [K, H, W, 3]: one tile all over
        self.latents = torch.stack([one.vision for one in pad.latents(encode(pad, list(sheets)))], dim=1)

    def __call__(self, latents: Tensor) -> np.ndarray:
        """Normalised features [n, V] -> uint8 [H, W, 3]."""
        apart = torch.cdist(latents[:, None].float(), self.latents.float())  # [n, 1, K]
        tiles = self.tiles[apart[:, 0].argmin(dim=1).numpy()]
        cut = tiles.reshape(self.side, self.side, TILE, TILE, 3).swapaxes(1, 2)
        return cut.reshape(self.side * TILE, self.side * TILE, 3)


@lru_cache(maxsize=1)
def painter_of(pad: Sketchpad) -> Painter:
    """The painter of a model, made once."""
    return Painter(pad)


def count_parameters(pad: Sketchpad) -> int:
    """Of model and head together."""
    return sum(p.numel() for part in (pad.reader.pretrained, pad.head) for p in part.parameters())


def save(folder: Path, pad: Sketchpad, processor: PretrainedProcessor) -> None:
    """As `unified.apps.latent_sketchpad` reads it; the model's weights are written last."""
    save_head(folder, pad.head)
    processor.processor.save_pretrained(folder)
    pad.reader.pretrained.save_pretrained(folder)


def load(folder: Path) -> tuple[Sketchpad, PretrainedProcessor]:
    """In evaluation mode."""
    reader, processor = load_pretrained(folder)
    return Sketchpad(reader, load_head(folder)), processor
