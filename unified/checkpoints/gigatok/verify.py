"""GigaTok's tokenizer against a golden folder (`python -m unified.checkpoints verify`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints.cases import checked
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.gigatok import network
from unified.checkpoints.image_networks import ImageConfig, depth_to_space, levels_of
from unified.checkpoints.llamagen_losses import RECENT, record_ids, usage
from unified.checkpoints.state_dict import load_strict

INPUTS = ("image", "d2s.in", "sem_feat", "rot.z", "rot.upstream")
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer."""
    return config.get("case") == "gigatok"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def load(folder: Path) -> network.GigaTok:
    """The tokenizer of a golden folder, in eval mode."""
    config = read_config(folder)
    state = read_state(folder, config)
    tokenizer = network.GigaTok(config_of(config, state))
    load_strict(tokenizer, state)
    return tokenizer.eval()


def config_of(config: Mapping[str, Any], state: Stored) -> network.GigaTokConfig:
    """Sizes come from the weights; heads, the distilled layer and weights of losses from the options."""
    codes, dim = state["quantize.embedding.weight"].shape

    def reader(part: str, heads: int) -> network.ReaderConfig:
        tokens, _, width = state[f"{part}.latent_token_positional_embedding"].shape
        return network.ReaderConfig(
            width=width,
            layers=levels_of(set(state), f"{part}.transformer."),
            heads=heads,
            tokens=tokens,
            side=network.side_of(state[f"{part}.positional_embedding"]),
        )

    return network.GigaTokConfig(
        image=ImageConfig(
            latent=state["post_quant_conv.weight"].shape[0],
            width=config["ch"],
            multipliers=tuple(config["ch_mult"]),
            blocks=config["num_res_blocks"],
            attention=False,
            modulated=True,
        ),
        codes=codes,
        dim=dim,
        encoder=reader("s2to1encoder", config["heads"]),
        decoder=reader("s1to2decoder", config.get("dec_heads", config["heads"])),
        distill=config["distill_depth"],
        teacher=state["s1to2decoder.distill_mlp.4.weight"].shape[0],
        losses=(config["beta"], config["entropy_loss_ratio"]),
    )


def _checks(folder: Path) -> Iterator[Check]:
    config, stored, tokenizer = read_config(folder), read_io(folder), load(folder)
    computed = {
        **_coded(tokenizer, stored["image"]),
        **_causal(tokenizer, config, stored),
        **_parts(tokenizer, stored),
        **_trained(tokenizer, stored),
    }
    detached = {name: value.detach() for name, value in computed.items()}
    yield from compare(stored, detached, INPUTS.__contains__, _tolerance)


def _tolerance(name: str) -> Tolerance:
    if ".grad." in name or name == "rot.grad_z":
        return Tolerance(1e-5, 1e-3)
    return Tolerance(1e-12 if name == "train.codebook_usage" else 1e-4)


@torch.no_grad()
def _coded(tokenizer: network.GigaTok, images: Tensor) -> dict[str, Tensor]:
    grid = tokenizer.encoder(images)
    tokens = tokenizer.s2to1encoder(grid)
    latent = tokenizer.latent(images)
    quantised = tokenizer.quantise(latent)
    decoded = tokenizer.decode_vectors(quantised.output)
    return {
        "cnn_grid": grid,
        "query_pooled": tokenizer.s2to1encoder.queries(grid)[1],
        "tokens_1d": tokens,
        "latent_z": latent,
        "ids": quantised.ids,
        "quant_eval": quantised.output.transpose(1, 2)[:, :, None],
        "rec_spatial": decoded.spatial,
        "dec": decoded.images,
        "inner_feat": decoded.features,
        "dec_from_ids": tokenizer.decode(quantised.ids),
    }


@torch.no_grad()
def _causal(tokenizer: network.GigaTok, config: Mapping[str, Any], stored: Stored) -> dict[str, Tensor]:
    grid = tokenizer.encoder(stored["image"])
    found: dict[str, Tensor] = {}
    causal: network.Causal
    for causal in ("per-token", "per-level"):
        found[f"mask.{causal}"] = network.blocked(tokenizer.s2to1encoder.tokens, causal)
        level = config[f"num_q_level.{causal}"]
        found[f"causal.{causal}"] = tokenizer.s2to1encoder(grid, causal, level)
    return found


def _parts(tokenizer: network.GigaTok, stored: Stored) -> dict[str, Tensor]:
    """Depth-to-space, pooled cells of a map of numbers, the rotation trick."""
    found = {"d2s.out": depth_to_space(stored["d2s.in"])}
    numbers = torch.arange(64.0).view(1, 1, 8, 8)
    for name in stored:
        if match := re.fullmatch(r"pool\.(\d+)", name):
            found[name] = network.pooled(numbers, 2 ** int(match[1])).flatten()
    z = stored["rot.z"].clone().requires_grad_()
    quantised = tokenizer.quantise(z)
    output = quantised.output.transpose(1, 2)[:, :, None]
    (gradient,) = torch.autograd.grad((output * stored["rot.upstream"]).sum(), z)
    return found | {"rot.ids": quantised.ids, "rot.quant": output, "rot.grad_z": gradient}


def _trained(tokenizer: network.GigaTok, stored: Stored) -> dict[str, Tensor]:
    """One training step with gradients of its total while the auxiliary terms count."""
    images = stored["image"]
    tokenizer.train().zero_grad()
    grid = tokenizer.encoder(images)
    latent = tokenizer.quant_conv(tokenizer.s2to1encoder(grid))
    latent.retain_grad()
    quantised = tokenizer.quantise(latent)
    decoded = tokenizer.decode_vectors(quantised.output)
    direct = tokenizer.decoder(grid)
    losses = network.Losses(
        reconstruction=F.mse_loss(decoded.images, images),
        direct=F.mse_loss(direct, images),
        feature=F.mse_loss(grid.detach(), decoded.spatial),
        quantised=quantised,
        semantic=network.semantic_loss(decoded.features, stored["sem_feat"]),
    )
    total = losses.total(5)
    total.backward()
    recent = record_ids(torch.zeros(RECENT), quantised.ids)
    share = usage(recent, tokenizer.quantize.embedding.num_embeddings)
    gradients = {name: value.grad for name, value in tokenizer.named_parameters() if value.grad is not None}
    found = {
        "rec": decoded.images,
        "direct_rec": direct,
        "feature_rec_loss": losses.feature,
        "vq_loss": quantised.vq_loss,
        "commit_loss": quantised.commit_loss,
        "entropy_loss": quantised.entropy_loss,
        "inner_feat": decoded.features,
        "quant_conv_out": latent,
        "codebook_usage": torch.tensor(share, dtype=torch.float64),
        "total_step5": total,
        "total_step16000": losses.total(16000),
        "grad.latent_z": latent.grad,
        **{f"grad.{name}": value for name, value in gradients.items()},
    }
    return {f"train.{name}": value for name, value in found.items()}
