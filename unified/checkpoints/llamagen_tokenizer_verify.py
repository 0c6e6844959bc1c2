"""The published LlamaGen tokenizer and its training losses against a golden folder (`python -m
unified.checkpoints verify`).

Tolerances are those recommended in `llamagen_tokenizer/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unified.checkpoints import llamagen_losses as losses
from unified.checkpoints import llamagen_tokenizer
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare, input_image
from unified.checkpoints.flexvar_tokenizer import to_official
from unified.checkpoints.folder import read_config, read_io, read_state
from unified.checkpoints.state_dict import check_fit
from unified.checkpoints.transformer_verify import needed
from unified.tokenizers.quantise import affinity_entropy
from unified.tokenizers.resize import unflatten
from unified.tokenizers.vq import VQTokenizer

INPUTS = ("image", "nonsquare.image", "patchgan.in", "gan.logits_real", "gan.logits_fake",
          "adaptive.w", "adaptive.x", "adaptive.y", "entropy_fn.affinity")  # fmt: skip
DISCRIMINATOR = "discriminator."
TEMPERATURES = {"entropy_fn.out": 0.01, "entropy_fn.out_T0.1": 0.1}
Stored = Mapping[str, Tensor]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds this tokenizer."""
    own = {"codebook_size", "codebook_embed_dim", "z_channels"} <= set(config)
    return own and config.get("case", "llamagen_tokenizer") == "llamagen_tokenizer"


def load(folder: Path) -> VQTokenizer:
    """The tokenizer of a golden folder. ValueError with a short reason if anything does not fit."""
    config = read_config(folder)
    options = {name: value for name, value in config.items() if name in llamagen_tokenizer.DEFAULTS}
    return llamagen_tokenizer.load(llamagen_tokenizer.config_from(options), read_state(folder, config))


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every output of a golden folder; one check per stored tensor. ValueError for an unusable
    folder."""
    config, stored, tokenizer = read_config(folder), read_io(folder), load(folder)
    computed = {**_coded(tokenizer, stored), **_of_losses(stored)}
    if any(name.startswith("train.") for name in stored):
        computed |= _trained(tokenizer, stored, config.get("entropy_loss_ratio", 0.0))
    if "patchgan.in" in stored:
        computed |= _judged(read_state(folder, config), stored["patchgan.in"])
    yield from compare(stored, computed, lambda name: name in INPUTS, _tolerance)


def _tolerance(name: str) -> Tolerance:
    if name.startswith("train.grad."):
        return Tolerance(1e-5, 1e-3)
    if name == "train.codebook_usage":
        return Tolerance(1e-12)  # a count
    if name.startswith(("gan.", "adaptive.", "entropy_fn.")):
        return Tolerance(1e-5, 1e-5)
    return Tolerance(1e-4)


@torch.no_grad()
def _coded(tokenizer: VQTokenizer, stored: Stored) -> dict[str, Tensor]:
    """`image` to ids and back, and another one that is no square."""
    image = input_image(stored, "image")
    latent = tokenizer.latent(image)
    quantised, shape = tokenizer.quantise(latent), (latent.shape[2], latent.shape[3])
    found = {
        "encoder_out": tokenizer.encoder(image),
        "latent_z": latent,
        "quant": quantised.output,
        "ids": quantised.ids,
        "code_entry": unflatten(tokenizer.vectors(quantised.ids), shape),
        "dec": tokenizer.decode_vectors(quantised.output),
        "dec_from_ids": tokenizer.decode(quantised.ids, shape),
    }
    if "nonsquare.image" in stored:
        other = tokenizer.quantise(tokenizer.latent(stored["nonsquare.image"]))
        found |= {"nonsquare.ids": other.ids, "nonsquare.dec": tokenizer.decode_vectors(other.output)}
    return found


def _trained(tokenizer: VQTokenizer, stored: Stored, ratio: float) -> dict[str, Tensor]:
    """One pass with the terms of the loss, gradients of their sum by official names, and what is in use
    after it."""
    image = input_image(stored, "image")
    tokenizer.zero_grad()
    latent = tokenizer.latent(image)
    latent.retain_grad()
    quantised = tokenizer.quantise(latent)
    images = tokenizer.decode_vectors(quantised.output)
    terms = {
        "vq_loss": quantised.codebook_loss,
        "commit_loss": quantised.commitment_loss,
        "entropy_loss": ratio * tokenizer.entropy(latent),
        "rec_l2": F.mse_loss(image, images),
    }
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    gradients = {name: p.grad for name, p in tokenizer.named_parameters() if p.grad is not None}
    recent = losses.record_ids(torch.zeros(losses.RECENT), quantised.ids)
    found = {
        **terms,
        "total": total,
        "rec": images,
        "quant_ste": quantised.output,
        "codebook_usage": torch.tensor(losses.usage(recent, tokenizer.codes), dtype=torch.float64),
        **{f"grad.{name}": value for name, value in to_official(gradients).items()},
        **({} if latent.grad is None else {"grad.latent_z": latent.grad}),
    }
    return {f"train.{name}": value.detach() for name, value in found.items()}


def _of_losses(stored: Stored) -> dict[str, Tensor]:
    """The parts of the training loss on the values that the folder gives."""
    found: dict[str, Tensor] = {}
    if "entropy_fn.affinity" in stored:
        affinity = stored["entropy_fn.affinity"]
        found |= {name: affinity_entropy(affinity, degree) for name, degree in TEMPERATURES.items()}
    if "gan.logits_real" in stored:
        real, fake = stored["gan.logits_real"], needed(stored, "gan.logits_fake")
        found |= {
            "gan.hinge_d_loss": losses.hinge_discriminator(real, fake),
            "gan.hinge_gen_loss": losses.hinge_generator(fake),
            "gan.vanilla_d_loss": losses.vanilla_discriminator(real, fake),
            "gan.non_saturating_d_loss": losses.non_saturating_discriminator(real, fake),
            "gan.non_saturating_gen_loss": losses.non_saturating_generator(fake),
        }
    if "adaptive.w" in stored:
        last = stored["adaptive.w"].clone().requires_grad_()
        out = last @ needed(stored, "adaptive.x")
        error = (out - needed(stored, "adaptive.y")).square().mean()
        found["adaptive.weight"] = losses.adaptive_weight(error, -out.tanh().mean(), last)
    return found


@torch.no_grad()
def _judged(state_dict: Stored, images: Tensor) -> dict[str, Tensor]:
    """Scores of the discriminator in training mode, and in eval mode after that pass."""
    own = {
        name.removeprefix(DISCRIMINATOR): value.clone()
        for name, value in state_dict.items()
        if name.startswith(DISCRIMINATOR)
    }
    first = own.get("main.0.weight")
    critic = losses.PatchGAN(width=64 if first is None else len(first))
    check_fit(critic.state_dict(), own)
    critic.load_state_dict(own)
    trained = critic.train()(images)
    return {
        "patchgan.out_train": trained,
        "patchgan.out_eval_after_one_train_step": critic.eval()(images),
    }
