"""The published LlamaGen transformers against a golden folder (`python -m unified.checkpoints verify`): one
told classes, and, with the prefix `t2i_`, one told captions.

Tolerances are those recommended in `llamagen_transformer/README.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints import llamagen
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import prefixes, read_config
from unified.checkpoints.nar import NARTransformer, training_loss
from unified.checkpoints.nar_blocks import rotary_table
from unified.checkpoints.nar_generation import sampler_of
from unified.checkpoints.nar_verify import Recording, generate
from unified.checkpoints.state_dict import read_safetensors, read_weights
from unified.checkpoints.transformer_verify import needed
from unified.decoding.sampling import Sampler
from unified.layout.attention import attends

FILTER = re.compile(r"filter\.(?:k(?P<k>\d+))?(?:p(?P<p>\d+(?:\.\d+)?))?")
INPUTS = (
    "idx",
    "label",
    "caption",
    "emb_masks",
    "filter.in",
    "train.label_drop",
    "train.drop",
    "train.valid",
)
EXCLUDED = -1e9  # how a logit of minus infinity is stored
SCALES = (2.5, 2.0)  # guidance of `greedy_cfg` where the config does not tell: by class, by caption
RUNS = ("greedy_nocfg", "greedy_cfg", "greedy_interval", "sampled")
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds these transformers."""
    return {"n_layer", "block_size", "cls_token_num"} <= set(config)


def load(folder: Path, prefix: str = "") -> NARTransformer:
    """A transformer of a golden folder. ValueError with a short reason if anything does not fit."""
    config = read_config(folder, prefix)
    options = {name: value for name, value in config.items() if name in llamagen.OPTIONS}
    return llamagen.load(options, read_weights(Path(folder) / f"{prefix}weights.safetensors"))


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output, of each config in the folder. ValueError for an unusable folder."""
    for prefix in prefixes(folder):
        model, config = load(folder, prefix), read_config(folder, prefix)
        stored = read_safetensors(Path(folder) / f"{prefix}io.safetensors")
        computed = {**_evaluated(model, stored), **_trained(model, stored), **_filtered(stored)}
        scale = SCALES[bool(model.config.caption_width)]
        for name in RUNS:
            if any(key.startswith(f"{name}.") for key in stored):
                computed |= _generated(model, stored, name, _options(config, name, scale))
        for check in compare(stored, computed, lambda name: name in INPUTS, _tolerance):
            yield Check(f"{prefix}{check.name}", check.ok, check.detail)


def _tolerance(name: str) -> Tolerance:
    if name.startswith("train.grad"):
        return Tolerance(1e-5, 1e-3)
    return Tolerance(1e-5 if name.startswith(("train.loss", "freqs", "filter")) else 1e-4)


def _condition(model: NARTransformer, stored: Stored) -> Tensor:
    """Labels [B], or captions [B, T, C] with zeros for their padding."""
    if not model.config.caption_width:
        return needed(stored, "label")
    mask = stored.get("emb_masks")
    caption = needed(stored, "caption")
    return caption if mask is None else caption * mask[..., None].to(caption)


def _dropped(model: NARTransformer, given: Tensor, dropped: Tensor) -> Tensor:
    """The condition where `dropped` [B] is 1 replaced by that of none."""
    if not model.config.caption_width:
        return torch.where(dropped > 0, model.config.classes, given)
    none = model.get_parameter("cls_embedding.uncond_embedding")
    return torch.where(dropped[:, None, None] > 0, none, given)


# One pass -------------------------------------------------------------------------------------------------


@torch.no_grad()
def _evaluated(model: NARTransformer, stored: Stored) -> dict[str, Tensor]:
    """Logits of all positions, rotary angles, and who sees whom."""
    codes, given = needed(stored, "idx"), _condition(model, stored)
    index, positions = model.sequence()
    found = {"freqs_cis": rotary_table(model.config, index, positions)[0]}
    if not model.config.caption_width:
        return {**found, "eval.logits": model.raw_logits(given, codes)[0]}
    mask = needed(stored, "emb_masks")
    return {
        **found,
        "eval.logits_nomask": model.raw_logits(given, codes)[0],
        "eval.logits_masked": model.raw_logits(given, codes, mask)[0],
        "attn_mask": attends(*[model.sequence(mask)[0]] * 2),
    }


def _trained(model: NARTransformer, stored: Stored) -> dict[str, Tensor]:
    """A teacher-forced pass that drops conditions, with its gradients."""
    if "train.logits" not in stored:
        return {}
    captions = bool(model.config.caption_width)
    codes, mask = needed(stored, "idx"), stored.get("emb_masks") if captions else None
    dropped = needed(stored, "train.drop" if captions else "train.label_drop")
    blocks: dict[str, Tensor] = {}
    handles = [layer.register_forward_hook(_keep(blocks, n)) for n, layer in enumerate(model.layers)]
    model.zero_grad()
    logits = model(_dropped(model, _condition(model, stored), dropped), codes, mask)
    for handle in handles:
        handle.remove()
    loss = training_loss(logits, codes)
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    found = {**blocks, **gradients, "logits": logits.detach(), "loss": loss.detach()}
    if "train.valid" in stored:
        found["loss_valid"] = training_loss(logits.detach(), codes, stored["train.valid"])
    return {f"train.{name}": value for name, value in found.items()}


def _keep(blocks: dict[str, Tensor], number: int) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        blocks[f"block{number}_out"] = output.detach()[:, :-1]  # the published pass ends before the last code

    return hook


# Generation -----------------------------------------------------------------------------------------------


def _filtered(stored: Stored) -> dict[str, Tensor]:
    """`filter.k{K}p{P}`: what top-k and top-p leave in of `filter.in`."""
    found = {}
    for name in stored:
        match = FILTER.fullmatch(name)
        if match and (match["k"] or match["p"]):
            sampler = Sampler(top_k=int(match["k"] or 0), top_p=float(match["p"] or 0))
            found[name] = sampler.filter(needed(stored, "filter.in")).clamp(min=EXCLUDED)
    return found


def _options(config: Mapping[str, Any], name: str, scale: float) -> dict[str, Any]:
    """A run's options as `generate` takes them. ValueError for options that are missing."""
    told = config.get(name, {"cfg_scale": config.get("greedy_cfg_scale", scale)})
    told = {"cfg_scale": 1.0} if name == "greedy_nocfg" else told
    missing = {"cfg_scale", *(["seed"] if name == "sampled" else [])} - set(told)
    if missing:
        raise ValueError(f"{name} of config.json lacks {min(missing)}")
    interval = told.get("cfg_interval", -1)  # counted in steps after the first code
    return {
        **told,
        "sample_logits": name == "sampled",
        "torch_manual_seed": told.get("seed"),
        "cfg_interval": interval + 1 if interval >= 0 else -1,
    }


def _generated(
    model: NARTransformer, stored: Stored, name: str, options: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The tensors of a run by the names they are stored under."""
    if model.config.caption_width:
        told = Recording.by_caption(model, _condition(model, stored), needed(stored, "emb_masks"))
        prompts = list(told.prompts)
    else:
        told = Recording.by_class(model)
        prompts = [told.prompts[label] for label in needed(stored, "label").tolist()]
    made = generate(told, prompts, options)
    found = {"ids": made.codes, "logits": made.guided}
    if options["sample_logits"]:
        given = {key: options[key] for key in ("temperature", "top_k", "top_p") if key in options}
        found["probs"] = sampler_of(**given).filter(made.guided).softmax(dim=-1)
    return {f"{name}.{what}": value for what, value in found.items()}
