"""Infinity's published tokenizer against a golden folder (`python -m unified.checkpoints verify`): bits and
images, what the transformer is fed and learns with self-correction and without, entropies.

Tolerances are those recommended in `infinity_bsq/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints import infinity_tokenizer
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare, input_image
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.infinity_bits import BitGrid, areas
from unified.checkpoints.infinity_correction import SelfCorrection, drawn, example
from unified.checkpoints.infinity_spherical import entropies, quantise, unit
from unified.checkpoints.infinity_tokenizer import InfinityTokenizer, InfinityTokenizerConfig
from unified.heads.bitwise import codes_of
from unified.orders.shapes import Shapes, as_shapes
from unified.tokenizers.feeds import Carry

FIELDS = {
    "codebook_dim": "bits",
    "patch_size": "patch",
    "base_ch": "width",
    "num_res_blocks": "blocks",
    "encoder_ch_mult": "encoder",
    "decoder_ch_mult": "decoder",
}
NEEDED = (*FIELDS, "schedule", "seed", "noise_apply_layers", "noise_apply_strength")
SEED = 7  # added to the seed of the folder before flips are drawn


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer (and no transformer)."""
    return {"codebook_dim", "encoder_ch_mult"} <= set(config)


def load(folder: Path) -> InfinityTokenizer:
    """The tokenizer of a golden folder. ValueError with a short reason if anything does not fit."""
    config = read_config(folder)
    missing = [name for name in NEEDED if name not in config]
    if missing:
        raise ValueError(f"{folder}: config.json lacks {', '.join(missing)}")
    fields: dict[str, Any] = {ours: config[theirs] for theirs, ours in FIELDS.items()}
    fields |= {name: tuple(fields[name]) for name in ("encoder", "decoder")}
    return infinity_tokenizer.load(InfinityTokenizerConfig(**fields), read_state(folder, config))


@torch.no_grad()
def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored, tokenizer = read_config(folder), read_io(folder), load(folder)
    shapes = _maps(config["schedule"])
    latent = tokenizer.latent(input_image(stored, "image"))
    computed = {"latent": latent, **_coded(tokenizer, latent, shapes), **_spherical(latent)}
    computed |= _examples(tokenizer.grid, latent, shapes, config)
    if "patchify_schedule" in config:
        made = example(BitGrid(tokenizer.config.bits, 2), latent, _maps(config["patchify_schedule"]))
        computed |= {"patchify.labels": made.labels, "patchify.transformer_input": made.vectors}
    yield from compare(stored, computed, lambda name: name == "image", lambda name: Tolerance(1e-4))


def _maps(schedule: list[list[int]]) -> Shapes:
    """Published schedules are of frames, height and width."""
    return as_shapes([shape[1:] for shape in schedule])


def _coded(tokenizer: InfinityTokenizer, latent: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Bits of all maps, their sum, and the image of it."""
    grid, (height, width) = tokenizer.grid, shapes[-1]
    bits = grid.labels(latent, shapes)
    parts = bits.split(areas(shapes), dim=1)
    found: dict[str, Tensor] = {}
    feed, carry = grid.feed(shapes), Carry()
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        own = part.unflatten(1, (1, *shape))  # [B, 1, h, w, d]
        found |= {f"bits.{number}": own, f"int_index.{number}": codes_of(own)}
        found[f"codes.{number}"] = grid.to_map(grid.vectors(part), shape).unsqueeze(2)
    vectors = grid.vectors(bits)
    for number, shape in enumerate(shapes[1:]):
        total = feed.total(vectors, number + 1, carry).mT.unflatten(2, (height, width))
        found[f"var_input_area.{number}"] = F.adaptive_avg_pool2d(total, shape).unsqueeze(2)
    summed = grid.summed(vectors, shapes)
    return {
        **found,
        "quantized_sum": summed,
        "summed_codes": summed.unsqueeze(2),
        "decoded_from_quantized_sum": tokenizer.decode_vectors(summed),
        "decoded_from_bits": tokenizer.decode_bits(bits, shapes),
    }


def _spherical(latent: Tensor) -> dict[str, Tensor]:
    """One quantisation of the whole latent, and the entropies of its bits."""
    vectors = unit(latent).permute(0, 2, 3, 1)
    measured = entropies(vectors)
    return {
        "single_scale.quantized": quantise(latent).unsqueeze(2),
        "latent_l2_normalised": vectors,
        "entropy.per_sample": measured.each,
        "entropy.codebook": measured.mean,
        "entropy.avg_prob": measured.used,
        "aux_loss": torch.zeros(1),  # in the published code the sum of no terms
    }


def _examples(grid: BitGrid, latent: Tensor, shapes: Shapes, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the transformer is trained on: `clean`, with self-correction (`bsc`), and with flips that are not
    quantised again (`norequant`), which change nothing."""
    option = SelfCorrection(maps=config["noise_apply_layers"], strength=config["noise_apply_strength"])
    seed = config["seed"] + SEED
    count = min(option.maps, len(shapes))
    rng = np.random.RandomState(seed)
    percents = [int(rng.randint(0, option.choices)) for _ in range(count)]
    flips = drawn(grid, shapes, percents, len(latent), torch.Generator().manual_seed(seed))
    found: dict[str, Tensor] = {}
    for name, flipped in (("clean", None), ("bsc", flips), ("norequant", None)):
        made = example(grid, latent, shapes, flipped)
        found |= {f"{name}.labels": made.labels, f"{name}.transformer_input": made.vectors}
    for name in ("bsc", "norequant"):
        found[f"{name}.flip_percent"] = torch.tensor(percents)
        for number, part in enumerate(flips.split(areas(shapes), dim=1)):
            found[f"{name}.flip_mask.{number}"] = part.unflatten(1, (1, *shapes[number]))
    return found
