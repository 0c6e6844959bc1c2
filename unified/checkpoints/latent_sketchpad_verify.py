"""The published Context-Aware Vision Head and Sketch Decoder against a golden folder (`python -m
unified.checkpoints verify`): the groups `gemma`, `qwen` and `aligner`, as many as it holds, of any sizes.

Tolerances are those recommended in `latent_sketchpad/README.md`. `metrics.json` is the business of
`unified.tasks.mazes` and not read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Gemma3Config
from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger

from unified.checkpoints import sketch_decoder
from unified.checkpoints.autoencoder_kl import config_of
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.sketch_losses import sketch_losses, target_of
from unified.checkpoints.transformer_verify import needed
from unified.heads.latents import (
    LATENT_LOSSES,
    Connector,
    Latents,
    gemma_connector,
    gemma_pooled,
    latent_loss,
    local_rows,
    prefix_rows,
    qwen_connector,
)
from unified.heads.vision_head import VisionHead, VisionHeadConfig
from unified.weight_files import load_strict

GROUPS = {"gemma": "image_seq_len", "qwen": "image_seq_len", "aligner": "input_dim"}  # an option each has
PREFIXES = ("gemma.", "qwen.", "aligner.", "vae.")
INPUTS = (
    *("input_ids", "prompt_image_mask", "label_image_mask", "inputs_embeds", "last_hidden"),
    *("infer.step", "infer.local_hidden", "vision_tower_out"),
    *("vit_features", "train.eps_pred", "train.eps_target", "train.foreground", "train.pixels"),
)
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds any of the groups."""
    return bool(groups_of(config))


def groups_of(config: Mapping[str, Any]) -> list[str]:
    """The groups that a configuration has the sizes of."""
    given = {group: config.get(group) for group in GROUPS}
    return [group for group, value in given.items() if isinstance(value, dict) and GROUPS[group] in value]


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of every group. ValueError for an unusable folder."""
    config, stored = read_config(folder), read_io(folder)
    weights = read_state(folder, config)
    strange = [name for name in weights if not name.startswith(PREFIXES)]
    if strange:
        raise ValueError(f"{folder}: weights {strange[0]} belong to no group")
    for group in groups_of(config):
        options = config[group]
        given = {name.removeprefix(f"{group}."): x for name, x in stored.items() if _of(name, group)}
        try:
            computed = _COMPUTED[group](options, weights, given)
        except KeyError as error:
            raise ValueError(f"{folder}: the configuration of {group} lacks {error}") from None
        inputs = (*INPUTS, "target_vit") if "vision_tower_out" not in given else INPUTS
        for check in compare(given, computed, inputs.__contains__, _tolerance):
            yield Check(f"{group}.{check.name}", check.ok, check.detail)


def _of(name: str, group: str) -> bool:
    return name.startswith(f"{group}.")


def _tolerance(name: str) -> Tolerance:
    if name.startswith("loss."):
        return Tolerance(0.0, 1e-5)
    return Tolerance(1e-4 if name in ("out.decoded", "out.image01") else 1e-5)


# Vision heads -----------------------------------------------------------------------------------------------


def head_config(options: Mapping[str, Any]) -> VisionHeadConfig:
    """Of the published names of sizes."""
    return VisionHeadConfig(
        text_width=options["text_hidden"],
        vision_width=options["vision_hidden"],
        heads=options["num_heads"],
        tokens=options["image_seq_len"],
        merge=options.get("spatial_merge", 1) ** 2,
        images=options["max_images"],
        depth=(options["perceive_depth"], options["depth"]),
        position_rows=options["max_seq_len"],
    )


def load_head(options: Mapping[str, Any], weights: Stored, group: str) -> VisionHead:
    """The vision head of a group, in evaluation mode. ValueError if its weights do not fit."""
    head = VisionHead(head_config(options))
    load_strict(head, _part(weights, f"{group}.regression_head."))
    return head.eval()


def _part(weights: Stored, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}


def _gemma_projector(options: Mapping[str, Any], weights: Stored) -> Gemma3MultiModalProjector:
    config = Gemma3Config(
        text_config={"hidden_size": options["text_hidden"], "num_attention_heads": 1},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": options["vision_hidden"],
            "image_size": options["patches_per_side"],
            "patch_size": 1,
            "num_attention_heads": 1,
        },
        mm_tokens_per_image=options["image_seq_len"],
    )
    projector = Gemma3MultiModalProjector(config)
    load_strict(projector, _part(weights, "gemma.multi_modal_projector."))
    return projector


def _qwen_merger(options: Mapping[str, Any], weights: Stored) -> Qwen2_5_VLPatchMerger:
    merge = options["spatial_merge"]
    merger = Qwen2_5_VLPatchMerger(options["text_hidden"], options["vision_hidden"], merge)
    load_strict(merger, _part(weights, "qwen.visual.merger."))
    return merger


@torch.no_grad()
def _gemma(options: Mapping[str, Any], weights: Stored, stored: Stored) -> dict[str, Tensor]:
    projector = _gemma_projector(options, weights)
    connector = gemma_connector(projector)
    head = load_head(options, weights, "gemma")
    if "vision_tower_out" in stored:
        target = connector.norm(gemma_pooled(projector, stored["vision_tower_out"]))
    else:
        target = needed(stored, "target_vit")
    found = _head_outputs(head, connector, stored)
    places = torch.arange(head.config.merge * (head.config.capacity + head.config.tokens))
    found["rotary"] = head.perceiver.rotary_pos_emb(places)
    found["out.llm_embeds"] = found["out.llm_embeds"].flatten(0, 1)  # stored for the whole batch in a row
    return found | {"target_vit": target} | _losses(connector, found, target, stored)


@torch.no_grad()
def _qwen(options: Mapping[str, Any], weights: Stored, stored: Stored) -> dict[str, Tensor]:
    connector = qwen_connector(_qwen_merger(options, weights))
    found = _head_outputs(load_head(options, weights, "qwen"), connector, stored)
    target = needed(stored, "target_vit")
    return found | {"target_embeds": connector.embeds(target)} | _losses(connector, found, target, stored)


def _losses(
    connector: Connector, found: Mapping[str, Tensor], target: Tensor, stored: Stored
) -> dict[str, Tensor]:
    latents = Latents(found["out.vit_features"], found["out.llm_embeds"])
    kinds = [kind for kind in LATENT_LOSSES if f"loss.{kind}" in stored]
    return {f"loss.{kind}": latent_loss(connector, latents, target, kind) for kind in kinds}


def _head_outputs(head: VisionHead, connector: Connector, stored: Stored) -> dict[str, Tensor]:
    """The rows of an image in one pass, and one after another from a cache, as in generation."""
    embeds, prompt = needed(stored, "inputs_embeds"), needed(stored, "prompt_image_mask")
    local = local_rows(needed(stored, "last_hidden"), needed(stored, "label_image_mask"))
    prefix = prefix_rows(embeds, prompt)
    out = connector(head(*prefix, local))
    found = {"out.vit_features": out.vision, "out.llm_embeds": out.embeds}
    if "infer.local_hidden" in stored:
        rows, steps = stored["infer.local_hidden"], int(needed(stored, "infer.step")) + 1
        cache = head.open(*prefix)
        features = [head.extend(cache, rows[:, step : step + 1]) for step in range(steps)]
        out = connector(torch.cat(features, dim=1))
        found |= {"infer.out.vit_features": out.vision, "infer.out.llm_embeds": out.embeds}
    return found


# Sketch decoder ---------------------------------------------------------------------------------------------


def load_decoder(options: Mapping[str, Any], weights: Stored) -> sketch_decoder.SketchDecoder:
    """ValueError if weights do not fit."""
    sizes = {
        "features": options["input_dim"],
        "width": options["vae_channels"][-1],
        "heads": options["heads"],
        "layers": options["layers"],
        "inner": options["ffn"],
        "grid": options["grid"],
        "position_rows": options["pos_rows"],
        "channels": config_of(_part(weights, "vae."), options["vae_groups"]).latent,
    }
    own = {name: value for name, value in weights.items() if name.startswith(("aligner.", "vae."))}
    return sketch_decoder.build(sizes, options["vae_groups"], own)


@torch.no_grad()
def _aligner(options: Mapping[str, Any], weights: Stored, stored: Stored) -> dict[str, Tensor]:
    decoder = load_decoder(options, weights)
    features = needed(stored, "vit_features")
    out = decoder(features)
    decoded = decoder.vae.decode(out.posterior.mean)
    found = {
        "out.dense": out.dense,
        "out.latent_mean": out.posterior.mean,
        "out.latent_std": out.posterior.std,
        "out.decoded": decoded,
        "out.image01": (decoded / 2 + 0.5).clamp(0, 1),
    }
    if "train.pixels" not in stored:
        return found
    pixels, noise = (
        stored["train.pixels"],
        (needed(stored, "train.eps_pred"), needed(stored, "train.eps_target")),
    )
    target = target_of(decoder, pixels)
    losses = sketch_losses(decoder, features, pixels, needed(stored, "train.foreground"), noise)
    found |= {
        "train.target_dense": target.dense,
        "train.target_mean": target.posterior.mean,
        "train.target_std": target.posterior.std,
    }
    names = ("focal", "nll", "std", "embed", "total")
    return found | {f"loss.{name}": getattr(losses, name) for name in names}


_COMPUTED = {"gemma": _gemma, "qwen": _qwen, "aligner": _aligner}
