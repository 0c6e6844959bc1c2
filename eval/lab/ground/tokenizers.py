"""The four tokenizers of the ground: one VQ codebook, residual VQ, binary spherical codes, and a KL-VAE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.sizes import Sizes, TokenizerSize
from unified.tokenizers.bsq import BSQConfig, BSQTokenizer
from unified.tokenizers.kl import KLConfig, KLTokenizer
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.phi import PhiConfig
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer
from unified.train.tokenizer import LossConfig, RestartConfig, TokenizerTrainingConfig, train_tokenizer
from unified.train.tokenizer_state import Saving

STRIDE = 4  # pixels a side of a code
SCHEDULE = (1, 2, 3, 4, 6, 8)
DIM = 16
RATE = 2e-3


def _network(size: TokenizerSize, latent: int, shortcut: bool = True) -> NetworkConfig:
    """`shortcut`: starts as the lowest frequencies of each patch."""
    return NetworkConfig(
        latent=latent,
        width=size.width,
        multipliers=(1,),
        blocks=0,
        attention=False,
        middle_attention=False,
        groups=8,
        patch=STRIDE,
        shortcut=shortcut,
    )


def _vq(size: TokenizerSize) -> VQTokenizer:
    return VQTokenizer(VQConfig(codes=size.codes, dim=DIM, encoder=_network(size, DIM), normalised=False))


def _residual_vq(size: TokenizerSize) -> ResidualVQTokenizer:
    network, phi = _network(size, DIM), PhiConfig(blend=0.0)
    config = ResidualVQConfig(codes=size.codes, network=network, sizes=SCHEDULE, phi=phi, kernel=1)
    tokenizer = ResidualVQTokenizer(config)
    for layer in (tokenizer.quant_conv, tokenizer.post_quant_conv):  # the identity, for a start
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return tokenizer


def _bsq(size: TokenizerSize) -> BSQTokenizer:
    return BSQTokenizer(BSQConfig(network=_network(size, size.bits), sizes=SCHEDULE))


def _kl(size: TokenizerSize) -> KLTokenizer:
    return KLTokenizer(KLConfig(network=_network(size, DIM // 2, shortcut=False)))


TOKENIZERS: dict[str, Any] = {"vq": _vq, "residual_vq": _residual_vq, "bsq": _bsq, "kl_vae": _kl}
CLUSTERED = RestartConfig(first=8, sides=SCHEDULE)  # codes start as clusters of patches
RESTARTS = {"vq": CLUSTERED, "residual_vq": CLUSTERED, "bsq": None, "kl_vae": None}
ENTROPY = {"bsq": 0.05}


def new_tokenizer(name: str, size: TokenizerSize) -> Any:
    """With random weights of seed 0."""
    torch.manual_seed(0)
    return TOKENIZERS[name](size)


def train_one(name: str, pictures: np.ndarray, sizes: Sizes, work: Path) -> Any:
    """Train a tokenizer on pictures uint8 [N, H, W, 3]; an interrupted training goes on from its checkpoint
    in `work`."""
    tokenizer = new_tokenizer(name, sizes.tokenizer)
    saving = Saving(work / f"{name}.checkpoint", every=max(1, sizes.tokenizer_steps // 8))
    config = TokenizerTrainingConfig(
        steps=sizes.tokenizer_steps,
        learning_rate=RATE,
        draws=2,
        log_every=max(1, sizes.tokenizer_steps // 8),
        losses=LossConfig(pixels="l2", entropy=ENTROPY.get(name, 0.0)),
        restarts=RESTARTS[name],
    )
    work.mkdir(parents=True, exist_ok=True)
    batches = _batches(pictures, sizes.batch, saving.step())
    train_tokenizer(tokenizer, batches, config, generator=torch.Generator().manual_seed(0), saving=saving)
    return tokenizer


def _batches(pictures: np.ndarray, batch: int, first: int) -> Iterator[Tensor]:
    """Batch number n is a function of n alone."""
    step = first
    while True:
        chosen = np.random.default_rng([7, step]).integers(len(pictures), size=batch)
        yield as_images(pictures[chosen])
        step += 1


def as_images(pictures: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_pictures(images: Tensor) -> np.ndarray:
    """The inverse, clamped and rounded; clips [N, 3, T, H, W] -> [N, T, H, W, 3] as well."""
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.movedim(1, -1).contiguous().numpy()
