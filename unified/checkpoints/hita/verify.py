"""Hita's tokenizer against a golden folder (`python -m unified.checkpoints verify`)."""

from __future__ import annotations

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
from unified.checkpoints.hita import network
from unified.checkpoints.image_networks import ImageConfig, levels_of
from unified.checkpoints.llamagen_losses import RECENT, record_ids, usage
from unified.checkpoints.state_dict import load_strict
from unified.checkpoints.unit_codebook import UnitCodebook

INPUTS = ("image", "other.image", "vfm_feat_u", "vfm_feat_v", "changed.ids_z")
ENDS = 4  # rows at either end that are stored of reconstructed vision features
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer."""
    return config.get("case") == "hita"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def load(folder: Path) -> network.Hita:
    """The tokenizer of a golden folder, in eval mode."""
    config = read_config(folder)
    state = read_state(folder, config)
    tokenizer = network.Hita(config_of(config, state))
    if config["enable_vfm_recon"]:
        _fit_vision(tokenizer.decode_transformer, state)
    load_strict(tokenizer, state)
    return tokenizer.eval()


def _fit_vision(fusion: network.Fusion, state: Stored) -> None:
    """The form of the layers that reconstruct vision features, as the weights have it."""
    part = "decode_transformer."
    fusion.mask_embedding = torch.nn.Parameter(torch.empty_like(state[f"{part}mask_embedding"]))
    width = fusion.mask_embedding.shape[-1]
    if f"{part}proj.mlp.3.weight" in state:
        fusion.proj = network.Projection(width, len(state[f"{part}proj.mlp.3.weight"]))
    else:
        weight, bias = state[f"{part}proj.weight"], f"{part}proj.bias" in state
        fusion.proj = torch.nn.Linear(width, len(weight), bias=bias)


def config_of(config: Mapping[str, Any], state: Stored) -> network.HitaConfig:
    """Sizes come from the weights; heads, the shift and weights of losses from the options."""
    names = set(state)
    first = "encode_transformer.transformer1.layers.0."
    heads = config["num_head"]
    return network.HitaConfig(
        image=ImageConfig(
            latent=state["post_quant_conv.weight"].shape[0],
            width=config["ch"],
            multipliers=tuple(config["ch_mult"]),
            blocks=config["num_res_blocks"],
        ),
        codebooks=tuple(
            tuple(state[f"{part}.embedding.weight"].shape) for part in ("quantize", "slot_quantize")
        ),  # type: ignore[arg-type]
        holistic=state["encode_transformer.carrier_tokens"].shape[1],
        layers=(
            levels_of(names, "encode_transformer.transformer1.layers."),
            levels_of(names, "encode_transformer.transformer2.layers."),
            levels_of(names, "decode_transformer.transformer.layers."),
        ),
        sizes=(
            heads,
            state[f"{first}attn1.to_q.weight"].shape[0] // heads,
            state[f"{first}ffnet.w3.weight"].shape[1],
        ),
        shift=config["shift_k"],
        grid=int(state["encode_transformer.pos_embed"].shape[1] ** 0.5),
        vision=(
            state["encode_transformer.proj.mlp.0.weight"].shape[1],
            config["enable_vfm_recon"],
            config["beta"],
            config["entropy_loss_ratio"],
        ),
    )


def _checks(folder: Path) -> Iterator[Check]:
    stored, tokenizer = read_io(folder), load(folder)
    features = stored["vfm_feat_u"] @ stored["vfm_feat_v"]
    computed = {
        **_coded(tokenizer, stored, features),
        **_other(tokenizer, stored, features),
        **_trained(tokenizer, stored, features),
    }
    detached = {name: value.detach() for name, value in computed.items()}
    yield from compare(stored, detached, INPUTS.__contains__, _tolerance)


def _tolerance(name: str) -> Tolerance:
    if ".grad." in name:
        return Tolerance(1e-5, 1e-3)
    return Tolerance(1e-12 if name == "train.usage_sum" else 1e-4)


@torch.no_grad()
def _coded(tokenizer: network.Hita, stored: Stored, features: Tensor) -> dict[str, Tensor]:
    grid = tokenizer.encoder(stored["image"])
    slots, patches = tokenizer.encode_transformer(grid, features)
    local, holistic = tokenizer.latents(stored["image"], features)
    found = tokenizer.quantise(local, holistic)
    vectors = (found.local.output, found.holistic.output, found.shape)
    made = {
        "cnn_grid": grid,
        "pos_embed_used": network.resized(tokenizer.encode_transformer.pos_embed, found.shape),
        "enc_slots_out": slots,
        "enc_patch_out": patches,
        "latent_z": local,
        "latent_slots": holistic,
        "ids_z": found.local.ids,
        "ids_slots": found.holistic.ids,
        "quant_z": found.local.output.transpose(1, 2).unflatten(2, found.shape),
        "quant_slots": found.holistic.output,
        "dec_grid": tokenizer.grid(*vectors),
        "dec": tokenizer.decode_vectors(*vectors),
        "dec_from_ids": tokenizer.decode(found.local.ids, found.holistic.ids, found.shape),
        "changed.dec": tokenizer.decode(stored["changed.ids_z"], found.holistic.ids, found.shape),
    }
    if hasattr(tokenizer.decode_transformer, "mask_embedding"):
        entries = tokenizer.slot_quantize.entries(found.holistic.ids)
        vision = tokenizer.decode_transformer.vision(tokenizer.post_slots_quant(entries))
        made |= {"vfm_recon_first4": vision[:, :ENDS], "vfm_recon_last4": vision[:, -ENDS:]}
    return made


@torch.no_grad()
def _other(tokenizer: network.Hita, stored: Stored, features: Tensor) -> dict[str, Tensor]:
    """An image of another size than the position tables are for."""
    found = tokenizer.quantise(*tokenizer.latents(stored["other.image"], features))
    made = {
        "pos_embed": network.resized(tokenizer.encode_transformer.pos_embed, found.shape),
        "ids_z": found.local.ids,
        "ids_slots": found.holistic.ids,
        "dec": tokenizer.decode(found.local.ids, found.holistic.ids, found.shape),
    }
    return {f"other.{name}": value for name, value in made.items()}


def _usage(codebook: UnitCodebook, ids: Tensor) -> float:
    return usage(record_ids(torch.zeros(RECENT), ids), codebook.embedding.num_embeddings)


def _trained(tokenizer: network.Hita, stored: Stored, features: Tensor) -> dict[str, Tensor]:
    images = stored["image"]
    tokenizer.train().zero_grad()
    found = tokenizer.quantise(*tokenizer.latents(images, features))
    made = tokenizer.decode_vectors(found.local.output, found.holistic.output, found.shape)
    reconstruction = 2 * F.mse_loss(
        made, images
    )  # the chosen loss and the mean square, which is the same one
    total = reconstruction + found.loss
    extra = {}
    if hasattr(tokenizer.decode_transformer, "mask_embedding"):
        vision = tokenizer.decode_transformer.vision(tokenizer.post_slots_quant(found.holistic.output))
        extra["vfm_loss"] = network.vision_loss(vision, features)
        total = total + extra["vfm_loss"]
    total.backward()
    shares = _usage(tokenizer.quantize, found.local.ids) + _usage(tokenizer.slot_quantize, found.holistic.ids)
    gradients = {name: value.grad for name, value in tokenizer.named_parameters() if value.grad is not None}
    losses = {
        name: getattr(found.local, name) + getattr(found.holistic, name)
        for name in ("vq_loss", "commit_loss", "entropy_loss")
    }
    return {
        f"train.{name}": value
        for name, value in {
            "rec": made,
            "rec_loss_l2_twice": reconstruction,
            "total": total,
            "usage_sum": torch.tensor(shares, dtype=torch.float64),
            **losses,
            **extra,
            **{f"grad.{name}": value for name, value in gradients.items()},
        }.items()
    }
