"""TokenBridge against a golden folder (`python -m unified.checkpoints verify`): quantisers, one training
pass, whole runs. Tolerances are those recommended there; codes are exact."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.mar.network import to_images, to_tokens
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.recorded_noise import RecordedNoise
from unified.checkpoints.tokenbridge.network import TokenBridge, load
from unified.checkpoints.tokenbridge.sampling import sample
from unified.checkpoints.trace import Trace
from unified.checkpoints.transformer_verify import needed
from unified.orders.masked_schedule import first_masked, masked_steps
from unified.text_files import content_of
from unified.tokenizers.scalar_quantiser import ScalarQuantiser

INPUT = re.compile(r"quant\.bits\d+\.x|train\.(latent|labels|orders)|head\.greedy_in|sample\.\w+\.u")
QUANTISED = re.compile(r"quant\.bits(\d+)\.(levels|dequant)")
QUANTISER = re.compile(r"quant\.bits(\d+)\.x")
RUN = re.compile(r"sample\.(\w+)\.ids")


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this model."""
    return config.get("case") == "tokenbridge"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored = read_config(folder), read_io(folder)
    with content_of(folder):
        quantiser, state = quantiser_of(config, config["bits"]), read_state(folder, config)
        model = load(state, config["heads"], config["head_heads"], quantiser)
        computed = {**_quantisers(config, stored), **_training(model, config, stored)}
        with torch.no_grad():
            codes = model.head.sample(needed(stored, "head.greedy_in"), torch.empty(0), 0, shifted=True)[0]
        computed["head.greedy_ids"] = codes
        for match in filter(None, map(RUN.fullmatch, stored)):
            computed |= _run(model, config, stored, match[1])
    yield from compare(stored, computed, lambda name: bool(INPUT.fullmatch(name)), _tolerance)


def _tolerance(name: str) -> Tolerance:
    """Levels are differences of float32 numbers over the share of a bin, which magnifies their rounding."""
    match = QUANTISED.match(name)
    if match:
        return Tolerance(max(1e-6, 1e-7 * 2 ** int(match[1])))
    if name.endswith(".edges"):
        return Tolerance(1e-6)
    return Tolerance(1e-6, 1e-4) if name.startswith("train.grad") else Tolerance(1e-4)


def quantiser_of(config: Mapping[str, Any], bits: int) -> ScalarQuantiser:
    """The quantiser of a folder's options with so many bits."""
    return ScalarQuantiser(bits, config["std_range"], config["quant_min"], config["quant_max"])


def _quantisers(config: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for match in filter(None, map(QUANTISER.fullmatch, stored)):
        quantiser, prefix = quantiser_of(config, int(match[1])), f"quant.bits{match[1]}"
        codes = quantiser.encode(stored[match[0]])
        found[f"{prefix}.edges"], found[f"{prefix}.levels"] = quantiser.edges, quantiser.levels
        found[f"{prefix}.ids"], found[f"{prefix}.dequant"] = codes, quantiser.decode(codes)
    return found


def _training(
    model: TokenBridge, config: Mapping[str, Any], stored: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    codes = model.quantiser.encode(to_tokens(needed(stored, "train.latent"), 1))
    mask = first_masked(needed(stored, "train.orders"), config["masked"])
    head = model.head
    layers = {
        "cond": head.condition_proj,
        "block0_attn": head.channel_blocks[0].attn,
        "block0_out": head.channel_blocks[0],
        "after_norm": head.channel_norm,
        "after_final": head.channel_final,
        "logits": head,
    }
    hidden = model(codes, mask, model.backbone.classes(needed(stored, "train.labels"), len(codes)))
    model.zero_grad()
    with Trace(layers) as trace:  # type: ignore[arg-type]
        loss = model.loss(hidden, codes, mask)
    loss.backward()
    first: Any = head.token_embeddings[0]
    found = {
        "ids": codes,
        "ids_reordered": model.ordered(codes),
        "dequant": model.quantiser.decode(codes),
        "mask": mask.float(),
        "z": hidden,
        "loss": loss,
        "grad_condition_proj": head.condition_proj.weight.grad,
        "grad_embed0": first.weight.grad,
    }
    named = {f"train.{name}": value.detach() for name, value in found.items() if value is not None}
    named |= {f"head.{name}": value.detach() for name, value in trace.found.items()}
    return {**named, "channel_order": model.order, "inv_channel_order": model.order.argsort()}


def _run(
    model: TokenBridge, config: Mapping[str, Any], stored: Mapping[str, Tensor], case: str
) -> dict[str, Tensor]:
    sampled = case.startswith("sampled")
    settings = MaskedDecoding(
        steps=config["num_iter"],
        scale=1.0 if case.endswith("nocfg") else config["cfg"],
        temperature=config["temperature"] if sampled else 0.0,
    )
    orders, channels = needed(stored, "train.orders"), model.head.channels
    if sampled:
        uniform = _by_token(needed(stored, f"sample.{case}.u"), orders, settings, channels)
    else:
        uniform = torch.zeros(orders.numel() * channels)  # not used
    labels = needed(stored, "train.labels")
    codes = sample(model, labels, orders, RecordedNoise(uniform=uniform), settings)
    latent = to_images(model.quantiser.decode(codes), config["grid"], 1)
    return {f"sample.{case}.ids": codes, f"sample.{case}.latent": latent}


def _by_token(uniform: Tensor, orders: Tensor, settings: MaskedDecoding, channels: int) -> Tensor:
    """Uniform numbers stored by step, channel, row of the step -> by step, row, channel."""
    counts = [step.written * len(orders) * channels for step in masked_steps(orders.shape[1], settings.steps)]
    if len(uniform) != sum(counts):
        raise ValueError(f"{len(uniform)} uniform numbers are stored, {sum(counts)} are needed")
    return torch.cat([part.view(channels, -1).T.flatten() for part in uniform.split(counts)])
