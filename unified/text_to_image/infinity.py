"""Infinity as a folder: texts -> images of any of its published sizes.

Further keys of config.json: "resolution", the pixels of an image for which no size is asked ("0.06M",
"0.25M", "0.60M" or "1M", the default). Of "transformer" the released names are those of `RELEASED`, the
options those of the published constructor; of "tokenizer" the bits of a cell, or {"codebook_dim",
"patch_size", "base_ch", "num_res_blocks", "encoder_ch_mult", "decoder_ch_mult"}.
"""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints import infinity_tokenizer
from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_config import RELEASED
from unified.checkpoints.infinity_generation import feed
from unified.checkpoints.infinity_published import load as load_transformer
from unified.checkpoints.infinity_schedules import RESOLUTIONS, schedule, schedules
from unified.checkpoints.infinity_tokenizer import InfinityTokenizerConfig
from unified.decoding.guidance import Constant
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.orders import Plan, plan_for
from unified.orders.shapes import Shapes
from unified.text_files import content_of
from unified.text_to_image.folder import CONFIG, PublishedFolder
from unified.text_to_image.settings import DrawSettings
from unified.text_to_image.text_encoder import TextEncoder, load_text_encoder

CHUNKS = {"2b": 8, "8b": 8}  # groups of blocks in the names of the weights; 4 of the ablations
TRANSFORMERS = {
    name: {
        "text_channels": 2048,
        "text_maxlen": 512,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "block_chunks": CHUNKS.get(name, 4),
        "apply_spatial_patchify": name == "8b",
    }
    for name, (depth, width, heads) in RELEASED.items()
}
TOKENIZER = {  # published options of the tokenizer -> ours
    "codebook_dim": "bits",
    "patch_size": "patch",
    "base_ch": "width",
    "num_res_blocks": "blocks",
    "encoder_ch_mult": "encoder",
    "decoder_ch_mult": "decoder",
}


class InfinityDrawer:
    """A transformer, its tokenizer (joined to it) and a text encoder."""

    family = "infinity"
    defaults = DrawSettings(guidance=3.0, sampler=Sampler(temperature=0.5, top_p=0.97))

    def __init__(self, model: Infinity, text: TextEncoder, *, resolution: str = "1M") -> None:
        self.model, self.text, self.resolution = model, text, resolution
        self.stride = model.needed_tokenizer().stride

    @property
    def layer_count(self) -> int:
        return self.model.layer_count

    def plan(self, size: tuple[int, int] | None = None) -> Plan:
        """Of an image of (height, width) pixels. ValueError, which names the nearest, for a size without a
        published schedule."""
        return plan_for(self.model.order, self.shapes(size))

    def shapes(self, size: tuple[int, int] | None = None) -> Shapes:
        """The maps of such an image."""
        if size is None:
            return schedule(1.0, self.resolution)
        every = sizes(self.stride)
        if size not in every:
            if min(size) < 1:
                raise ValueError(f"an image needs at least one pixel, got {size[0]}x{size[1]}")
            near = sorted(every, key=lambda own: _distance(own, size))[:4]
            raise ValueError(
                f"no published schedule has {size[0]}x{size[1]} pixels; near are "
                f"{', '.join(f'{height}x{width}' for height, width in near)}"
            )
        return every[size]

    @torch.no_grad()
    def draw(self, prompt: str, settings: DrawSettings) -> Tensor:
        """[3, H, W] in [-1, 1]."""
        shapes = self.shapes(settings.size)
        session = Session(self.model, seed=settings.seed, policy=settings.policy)
        feed(session, self.model, self.text.features([prompt]))
        drawing = session.draw(
            shapes,
            order=self.model.order,
            sampler=settings.sampler,
            guidance=Constant(settings.guidance),
        )
        return self.model.image(drawing.maps(), shapes)[0] * 2 - 1

    def describe(self) -> dict[str, Any]:
        config = self.model.config
        return {
            "width": config.width,
            "layers": config.depth,
            "bits_of_a_code": config.grid.token_bits,
            "stride": self.stride,
            "text_channels": config.text_width,
            "text_length": config.text_length,
        }


def sizes(stride: int) -> dict[tuple[int, int], Shapes]:
    """The maps by (height, width) in pixels, of every aspect ratio and resolution."""
    found: dict[tuple[int, int], Shapes] = {}
    for ratio in schedules():
        for name in RESOLUTIONS:
            shapes = schedule(ratio, name)
            found[shapes[-1][0] * stride, shapes[-1][1] * stride] = shapes
    return found


def _distance(own: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float]:
    """How far a size is from another: its aspect ratio first, then its area."""
    ratios = log(own[0] / own[1]), log(wanted[0] / wanted[1])
    areas = log(own[0] * own[1]), log(wanted[0] * wanted[1])
    return abs(ratios[0] - ratios[1]), abs(areas[0] - areas[1])


def load(folder: PublishedFolder, *, device: Any = "cpu", dtype: Any = torch.float32) -> InfinityDrawer:
    """ValueError, in one line, for what is missing or does not fit. The tokenizer stays in float32."""
    folder.check_keys("resolution")
    resolution = folder.config.get("resolution", "1M")
    with content_of(folder.path / CONFIG):
        schedule(1.0, resolution)
        options = folder.options("transformer", TRANSFORMERS)
        tokens = tokenizer_config(folder, bool(options.get("apply_spatial_patchify")))
    with content_of(folder.path):
        model = load_transformer(options, folder.weights("transformer"), tokens.bits)
        tokenizer = infinity_tokenizer.load(tokens, folder.weights("tokenizer"))
    model.join(tokenizer.to(device))
    sizes_of_text = {"channels": model.config.text_width, "longest": model.config.text_length}
    text = load_text_encoder(folder, **sizes_of_text, device=device, dtype=dtype)
    return InfinityDrawer(model.to(device=device, dtype=dtype), text, resolution=resolution)


def tokenizer_config(folder: PublishedFolder, patchify: bool) -> InfinityTokenizerConfig:
    """What "tokenizer" of config.json says. ValueError for options that are missing or unknown."""
    given = folder.config["tokenizer"]
    if not isinstance(given, dict):
        return infinity_tokenizer.released(given)
    missing = sorted(set(TOKENIZER) - set(given))
    unknown = sorted(set(given) - set(TOKENIZER))
    if missing or unknown:
        reason = f"lack {missing[0]}" if missing else f"have an unknown option {unknown[0]!r}"
        raise folder.error(f"the options of the tokenizer {reason}")
    values = {name: tuple(x) if isinstance(x, list) else x for name, x in given.items()}
    fields: dict[str, Any] = {TOKENIZER[name]: value for name, value in values.items()}
    return InfinityTokenizerConfig(**fields, patchify=patchify)
