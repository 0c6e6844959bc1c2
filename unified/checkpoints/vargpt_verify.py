"""Golden folders of VARGPT-v1.1: pictures that are read, drawings in training with all that lies between the
two transformers, preference log-probabilities, and the published runs of generation.

Tolerances are those recommended in the folder's description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified.checkpoints.check import Check, close
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import is_vargpt, read_config, read_io
from unified.checkpoints.generation import GREEDY
from unified.checkpoints.infinity_correction import Example, SelfCorrection, drawn, example
from unified.checkpoints.infinity_decoder import to_bytes
from unified.checkpoints.infinity_generation import Habits
from unified.checkpoints.transformer_verify import needed
from unified.checkpoints.vargpt import VARGPT, Forced, Sketch
from unified.checkpoints.vargpt_generation import SAMPLER, generate
from unified.checkpoints.vargpt_published import (
    bit_loss,
    image_log_probs,
    load_folder,
    loss,
    published_labels,
    text_loss,
)
from unified.checkpoints.vargpt_session import DrawingReader
from unified.decoding.guidance import Constant, Guidance
from unified.decoding.noise import GeneratorNoise
from unified.layout.layout import Cursor
from unified.orders.shapes import Shapes
from unified.readers.vision_tower import GRID, features_of
from unified.stream.base_words import PLACES

LIMIT = Tolerance(2e-4)
SUMS = Tolerance(2e-4, 1e-6)  # of thousands of log-probabilities
SEED = 9  # added to the seed of the folder before bits are flipped
HEAD, STATES, EDGE = 24, 34, 8  # rows stored of the slots, of the language model's states, of its logits
SAMPLED_SEED = 77
INPUTS = ("und.input_ids", "und.labels", "und.pixel_values", "und.image_grid_thw", "gen.input_ids",
          "gen.pixel_gen_values_x16_int8", "inf.prompt_ids")  # fmt: skip


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return is_vargpt(config)


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored, model = read_config(folder), read_io(folder), load_folder(folder)
    reader = DrawingReader(model, [config.get("token_ids", config)["eos_token_id"]])
    computed: dict[str, Tensor] = {}
    with torch.no_grad():
        if "und.input_ids" in stored:
            computed |= _understood(reader, stored)
        if "gen.input_ids" in stored:
            computed |= _forced(model, stored, int(config.get("seed", 0)))
        if "inf.prompt_ids" in stored:
            computed |= _inferred(reader, stored)
    pictures = {name for name in stored if name.endswith(".image_uint8_bgr") and name in computed}
    others = {name: value for name, value in stored.items() if name not in pictures}
    yield from compare(others, computed, INPUTS.__contains__, _tolerance)
    for name in sorted(pictures):  # truncation turns the smallest errors into a whole level
        yield close(name, computed[name], stored[name], atol=1)


def _tolerance(name: str) -> Tolerance:
    return SUMS if name == "gen.dpo_logps" else LIMIT


# Understanding ----------------------------------------------------------------------------------------------


def _understood(reader: DrawingReader, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inputs = {"pixel_values": needed(stored, "und.pixel_values"), GRID: needed(stored, "und.image_grid_thw")}
    ids, values = needed(stored, "und.input_ids"), reader.values(inputs)
    layout = reader.lay_out(ids, [Cursor()] * len(ids), values)
    logits = reader.logits(ids.tolist(), values)
    moved = torch.tensor([[round(cursor.position)] for cursor in layout.cursors])
    assert PLACES in values
    return {
        "und.image_embeds": torch.cat(features_of(reader.pretrained, inputs)),
        "und.position_ids": layout.positions.long(),
        "und.rope_deltas": moved - ids.shape[1],
        "und.logits": logits,
        "und.loss": text_loss(logits, needed(stored, "und.labels")),
    }


# Training ---------------------------------------------------------------------------------------------------


def _forced(model: VARGPT, stored: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    ids, images = needed(stored, "gen.input_ids"), needed(stored, "gen.pixel_gen_values_x16_int8") / 16
    shapes = model.sizes.shapes(images.shape[2] / images.shape[3])
    made = _example(model, images, shapes, seed + SEED)
    sketch = Sketch(vectors=made.vectors, shapes=shapes)
    hidden: dict[str, Tensor] = {}
    blocks = model.decoder.layers()
    handles = [
        blocks[0].register_forward_pre_hook(lambda _, given: hidden.update(first=given[0])),
        blocks[-1].register_forward_hook(lambda _, given, output: hidden.update(last=output)),
    ]
    forced = model(ids, sketch)
    for handle in handles:
        handle.remove()
    return _named(model, forced, ids, made, hidden)


def _named(
    model: VARGPT, forced: Forced, ids: Tensor, made: Example, hidden: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    image = forced.drawn
    assert image is not None
    labels = published_labels(model, ids)
    starts = (ids == model.sizes.ids.pad).int().argmax(dim=1)
    pooled = model.pooled(torch.zeros(len(ids), dtype=torch.bool))
    prompts = [state[: int(start) - 1] for state, start in zip(forced.states, starts, strict=True)]
    found = {
        "x_BLC_wo_prefix": made.vectors,
        "image_labels": made.labels.to(torch.uint8),
        "cond_BD": pooled,
        "gss": model.decoder.shared_ada_lin(pooled).view(len(pooled), 1, 6, -1),
        "image_gen_projector_output_head": image.fed[:, :HEAD],
        "llm_hidden_head": forced.states[:, :STATES],
        "decoder_in_head": image.inputs[:, :HEAD],
        "block0_in_head": hidden["first"][:, :HEAD],
        "last_block_out_head": hidden["last"][:, :HEAD],
        "cross_attention_kv": torch.cat([model.image_gen_projector_out(prompt) for prompt in prompts]),
        "image_logits": image.bits.flatten(-2),
        "logits_head": forced.text[:, :EDGE],
        "logits_tail": forced.text[:, -EDGE:],
        "loss": loss(forced, labels, made.labels),
        "text_loss": text_loss(forced.text, labels),
        "bit_loss": bit_loss(image.bits, made.labels),
        "dpo_logps": image_log_probs(image.bits, made.labels),
    }
    return {f"gen.{name}": value for name, value in found.items()}


def _example(model: VARGPT, images: Tensor, shapes: Shapes, seed: int) -> Example:
    """With the bits flipped that the published code flips after both of its generators were seeded."""
    grid, latent = model.decoder.grid, model.tokenizer.latent(images)
    option, rng = SelfCorrection(), np.random.RandomState(seed)
    percents = [int(rng.randint(0, option.choices)) for _ in range(min(option.maps, len(shapes)))]
    flips = drawn(grid, shapes, percents, len(latent), torch.Generator().manual_seed(seed))
    return example(grid, latent, shapes, flips)


# Generation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """How one image was drawn; `tau` divides the logits that are stored."""

    guidance: Guidance | None
    habits: Habits
    tau: float


def _runs() -> dict[str, Run]:
    noise = GeneratorNoise(torch.Generator().manual_seed(SAMPLED_SEED))
    tau = SAMPLER.temperature
    return {
        "greedy_cfg": Run(Constant(3.0), Habits(sampler=GREEDY), tau),
        "sampled_official": Run(Constant(3.0), Habits(sampler=SAMPLER, noise=noise), tau),
        "greedy_nocfg": Run(None, Habits(sampler=GREEDY), 1.0),
    }


def _inferred(reader: DrawingReader, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ids, model = needed(stored, "inf.prompt_ids"), reader.vargpt
    prompts = ids[:, :-1].tolist()  # the start token is the session's to write
    states = model.run_language(model.language.get_input_embeddings()(ids))
    found = {
        "inf.past_hidden_states": states,
        "inf.prefill_last_logits": model.language.lm_head(states[:, -1]),
    }
    shapes = model.sizes.shapes()
    for name, run in _runs().items():
        if f"inf.{name}.bits" in stored:
            found |= _drawn(reader, prompts, shapes, f"inf.{name}", run, stored)
    return found


def _drawn(
    reader: DrawingReader,
    prompts: list[list[int]],
    shapes: Shapes,
    name: str,
    run: Run,
    stored: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    made = generate(reader, prompts, shapes, run.guidance, habits=run.habits)
    summed = reader.visual.grid.summed(torch.cat(made.vectors, dim=1), shapes)
    logits = torch.cat(made.logits, dim=1) / run.tau
    kept = stored.get(f"{name}.logits_after_cfg_tau", logits).shape[1]
    return {
        f"{name}.bits": reader.head.to_symbols(torch.cat(made.codes, dim=1)).to(torch.uint8),
        f"{name}.logits_after_cfg_tau": logits[:, :kept],
        f"{name}.image_uint8_bgr": to_bytes(reader.vargpt.tokenizer.decode_vectors(summed)),
    }
