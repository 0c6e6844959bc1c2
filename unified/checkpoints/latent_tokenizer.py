"""A KL-VAE as the visual tokenizer of a model with a continuous head: latents, scaled, on the grid that ids
spell.

Folders it is made of (`of_folder`): diffusers' `AutoencoderKL` (its `scaling_factor` and `shift_factor` are
taken), and a tokenizer of the kind `kl` (`python -m unified.train tokenizer --kind kl`, whose training has
measured its latents). It is saved as a tokenizer of its own kind, `latents`. Maps smaller than the latent are
its averages, so orders over growing maps work too. Rombach et al., arXiv 2112.10752. Tests:
tests/unified/checkpoints/test_latent_tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints import autoencoder_kl
from unified.checkpoints.autoencoder_kl import AutoencoderKL
from unified.checkpoints.folder import read_config
from unified.checkpoints.mineworld_networks import MineWorldVQConfig
from unified.finite import check_tree
from unified.tokenizers.kinds import Kind, Wanted
from unified.tokenizers.kl import KLConfig, KLTokenizer
from unified.tokenizers.latent_grid import LatentGrid
from unified.tokenizers.resize import Shape
from unified.tokenizers.visual import TrainingPass, check_images, check_maps

CLASS = "AutoencoderKL"  # what diffusers calls it in config.json
SCALE = 0.18215  # diffusers' default


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """`own` or `diffusers`: the networks. `shift` and `scale`, one for all channels or one each: a latent is
    (z - shift) * scale, with a standard deviation of about 1. `bits` of a channel (0: as many as fit into an
    id), `reach`: see `LatentGrid`."""

    own: KLConfig | None = None
    diffusers: MineWorldVQConfig | None = None
    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    bits: int = 0
    reach: float = 4.0

    def __post_init__(self) -> None:
        check_tree({"shift": self.shift, "scale": self.scale, "reach": self.reach})
        if (self.own is None) == (self.diffusers is None):
            raise ValueError("a tokenizer of latents has one autoencoder: own or diffusers")
        for name in ("shift", "scale"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"{name} must hold 1 or {self.channels} numbers, got {getattr(self, name)}")
        if 0 in self.scale:
            raise ValueError("scale must not be 0")
        _ = self.grid

    @property
    def channels(self) -> int:
        return self.own.network.latent if self.own else self.diffusers.latent  # type: ignore[union-attr]

    @property
    def grid(self) -> LatentGrid:
        return LatentGrid(self.channels, self.bits, self.reach)


class LatentTokenizer(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> codes that spell scaled latents."""

    table = None

    def __init__(self, config: LatentsConfig) -> None:
        super().__init__()
        self.config, self.grid = config, config.grid
        self.codes, self.dim = self.grid.codes, config.channels
        made: Any = KLTokenizer(config.own) if config.own else AutoencoderKL(config.diffusers)  # type: ignore[arg-type]
        self.autoencoder, self.stride = made, made.stride

    @property
    def head_options(self) -> dict[str, Any]:
        """What a head that writes these latents has to be told."""
        return {"channels": self.dim, "bits": self.grid.bits, "reach": self.grid.reach}

    def latent(self, images: Tensor) -> Tensor:
        """The scaled mean [B, C, h, w]."""
        check_images(images, self.stride)
        mean = self.autoencoder.latent(images) if self.config.own else self.autoencoder.encode(images).mean
        return (mean.float() - self._each(self.config.shift)) * self._each(self.config.scale)

    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Codes [B, h * w] of each map; None: the latent's own."""
        latent = self.latent(images)
        own = (latent.shape[-2], latent.shape[-1])
        maps = [(shape[0], shape[1]) for shape in shapes or [own]]
        sized = [latent if shape == own else F.interpolate(latent, shape, mode="area") for shape in maps]
        return [self.grid.to_codes(one.flatten(2).transpose(1, 2)) for one in sized]

    def decode_maps(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Images from the codes of the last map, alone or after the others."""
        kept = list(shapes) if len(ids) == len(shapes) else self.read_shapes(shapes)
        check_maps(ids, kept)
        vectors = self.vectors(ids[-1]).transpose(1, 2)
        return self.decode_vectors(vectors.unflatten(2, tuple(kept[-1])))

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Scaled latents [B, C, h, w] -> images [B, 3, h * stride, w * stride]."""
        latent = vectors / self._each(self.config.scale) + self._each(self.config.shift)
        decode = self.autoencoder.decode_vectors if self.config.own else self.autoencoder.decode
        found: Tensor = decode(latent)
        return found

    def vectors(self, ids: Tensor) -> Tensor:
        """Codes [...] -> scaled latents [..., C]."""
        return self.grid.to_vectors(ids)

    def codebook(self) -> NoReturn:
        """ValueError: there is none."""
        raise ValueError("a tokenizer of latents has no codebook: what compares codes cannot be used with it")

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """[B, tokens after the first map, C]: the latents of each map, resized to the next."""
        parts = [torch.zeros(len(ids[0]), 0, self.dim, device=ids[0].device)]
        for one, shape, following in zip(ids, shapes, shapes[1:], strict=False):
            latent = self.vectors(one).transpose(1, 2).unflatten(2, tuple(shape))
            parts.append(F.interpolate(latent, tuple(following), mode="bilinear").flatten(2).transpose(1, 2))
        return torch.cat(parts, dim=1)

    def read_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The last map."""
        return [tuple(shapes[-1])]  # type: ignore[list-item]

    def training_shapes(self, *_: Any) -> list[Shape]:
        """None: there are no maps of codes in training."""
        return []

    def training_pass(self, *_: Any, **__: Any) -> TrainingPass:
        """ValueError: its autoencoder is trained as the kind `kl`."""
        raise ValueError("a tokenizer of latents is not trained: train its autoencoder (--kind kl)")

    def _each(self, numbers: Sequence[float]) -> Tensor:
        own = next(self.autoencoder.parameters())
        return torch.tensor(numbers, dtype=torch.float32, device=own.device).view(1, -1, 1, 1)


def of_kl(tokenizer: KLTokenizer) -> LatentTokenizer:
    """Of a trained tokenizer of the kind `kl`, scaled by what its training has measured."""
    mean, std = tokenizer.measured()
    scale = tuple((1 / std).tolist())
    made = LatentTokenizer(LatentsConfig(own=tokenizer.config, shift=tuple(mean.tolist()), scale=scale))
    made.autoencoder.load_state_dict(tokenizer.state_dict())
    return made.eval().requires_grad_(False)


def is_diffusers(folder: str | Path) -> bool:
    """Whether a folder holds diffusers' `AutoencoderKL`."""
    path = Path(folder)
    if not (path / autoencoder_kl.WEIGHTS).is_file():
        return False
    return bool(read_config(path).get("_class_name", CLASS) == CLASS)


def of_diffusers(folder: str | Path) -> LatentTokenizer:
    """Of a folder of diffusers. ValueError, in one line, for what is missing or does not fit."""
    told = read_config(Path(folder))
    scale, shift = told.get("scaling_factor", SCALE), told.get("shift_factor") or 0.0
    network = autoencoder_kl.load(Path(folder))
    try:
        config = LatentsConfig(diffusers=network.config, scale=(float(scale),), shift=(float(shift),))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder}: {error}") from None
    made = LatentTokenizer(config)
    made.autoencoder.load_state_dict(network.state_dict())
    return made.eval().requires_grad_(False)


def _small(wanted: Wanted) -> NoReturn:
    raise ValueError("a tokenizer of latents is not trained: train its autoencoder (--kind kl)")


KIND = Kind(config=LatentsConfig, build=LatentTokenizer, small=_small)
