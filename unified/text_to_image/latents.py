"""MAR, xAR and TokenBridge as a folder: a class -> latents -> an image of one size.

config.json: "transformer": a released size, or {"num_heads": N} (xAR: and "units"; TokenBridge: and
"head_heads", "bits"); the rest is read off the weights. "tokenizer": "kl16", or {"scale": the factor on
latents}: the autoencoder under its first names in tokenizer.*, or a folder of diffusers named "tokenizer".
"steps": how many the decoding has. With a file classes.txt, a name a line, classes are drawn by name.
Sources: arXiv 2406.11838, 2502.20388, 2503.16430. Tests: tests/unified/text_to_image/test_latents.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.checkpoints import autoencoder_kl, latent_autoencoder
from unified.checkpoints.mar import network as mar
from unified.checkpoints.mar.network import to_images
from unified.checkpoints.mar.sampling import MaskedDecoding
from unified.checkpoints.mar.sampling import sample as sample_mar
from unified.checkpoints.tokenbridge import network as tokenbridge
from unified.checkpoints.tokenbridge.sampling import sample as sample_tokenbridge
from unified.checkpoints.xar import network as xar
from unified.checkpoints.xar.sampling import UnitDecoding
from unified.checkpoints.xar.sampling import sample as sample_xar
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.finite import check_count, check_number
from unified.orders import Plan, plan_for
from unified.orders.masked_schedule import shuffled_orders
from unified.text_files import content_of
from unified.text_to_image.classes import class_names, class_number
from unified.text_to_image.folder import CONFIG, PublishedFolder
from unified.text_to_image.settings import DrawSettings, check_size
from unified.tokenizers.scalar_quantiser import ScalarQuantiser

HEADS = {"base": {"num_heads": 12}, "large": {"num_heads": 16}, "huge": {"num_heads": 16}}
TOKENIZERS = {"kl16": {"scale": 0.2325}}
OPTIONS = ("num_heads", "units", "head_heads", "bits")  # that the weights do not tell


@dataclass(frozen=True)
class Family:
    """`load`: options and weights -> a model; `latents`: of a model, a class, settings and steps, the tokens
    [1, L, C p p]; `body`: its part that knows sizes; `steps` and `defaults` as published."""

    load: Callable[[Mapping[str, Any], Mapping[str, Tensor]], Any]
    latents: Callable[[Any, int, DrawSettings, int], Tensor]
    body: Callable[[Any], Any]
    steps: int
    defaults: DrawSettings


def _masked(
    sample: Callable[..., Tensor], model: Any, tokens: int, label: int, settings: DrawSettings, steps: int
) -> Tensor:
    """What a masked decoding writes at so many places, in an order drawn from the seed."""
    how = MaskedDecoding(
        steps=min(steps, tokens), scale=settings.guidance, temperature=settings.sampler.temperature
    )
    labels = torch.tensor([label], device=_device(model))
    orders = shuffled_orders(1, (tokens,), settings.seed).to(labels.device)
    return sample(model, labels, orders, PositionNoise([settings.seed]), how)


def _mar_latents(model: mar.MAR, label: int, settings: DrawSettings, steps: int) -> Tensor:
    return _masked(sample_mar, model, model.config.tokens, label, settings, steps)


def _tokenbridge_latents(
    model: tokenbridge.TokenBridge, label: int, settings: DrawSettings, steps: int
) -> Tensor:
    tokens = model.backbone.config.tokens
    return model.quantiser.decode(_masked(sample_tokenbridge, model, tokens, label, settings, steps))


def _xar_latents(model: xar.XAR, label: int, settings: DrawSettings, steps: int) -> Tensor:
    how = UnitDecoding(steps=steps, scale=settings.guidance)
    labels = torch.tensor([label], device=_device(model))
    return sample_xar(model, labels, PositionNoise([settings.seed]), how)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _load_mar(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> mar.MAR:
    return mar.load(state, options["num_heads"])


def _load_xar(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> xar.XAR:
    return xar.load(state, options["num_heads"], options.get("units", 4))


def _load_tokenbridge(options: Mapping[str, Any], state: Mapping[str, Tensor]) -> tokenbridge.TokenBridge:
    quantiser = ScalarQuantiser(options.get("bits", 6))
    return tokenbridge.load(state, options["num_heads"], options.get("head_heads", 16), quantiser)


FAMILIES = {
    "mar": Family(_load_mar, _mar_latents, lambda model: model, 64, DrawSettings(guidance=2.9)),
    "xar": Family(_load_xar, _xar_latents, lambda model: model, 50, DrawSettings(guidance=2.7)),
    "tokenbridge": Family(
        _load_tokenbridge,
        _tokenbridge_latents,
        lambda model: model.backbone,
        256,
        DrawSettings(guidance=3.1, sampler=Sampler(temperature=0.96)),
    ),
}


class LatentDrawer:
    """A model of classes and the autoencoder whose latents, times `scale`, it writes."""

    def __init__(
        self, family: str, model: Any, autoencoder: Any, scale: float, steps: int, names: list[str]
    ) -> None:
        self.family, self.model, self.autoencoder = family, model, autoencoder
        self.scale, self.steps, self.names = scale, steps, names
        self.how, self.config = FAMILIES[family], FAMILIES[family].body(model).config
        self.defaults = self.how.defaults
        tokens = getattr(self.config, "tokens", None) or self.config.side**2
        self.side = math.isqrt(tokens)
        self.patch = math.isqrt(self.config.channels // autoencoder.channels)
        if self.side**2 != tokens or self.patch**2 * autoencoder.channels != self.config.channels:
            raise ValueError(
                f"the transformer writes {tokens} tokens of {self.config.channels} values, which are no "
                f"square of latents of {autoencoder.channels} channels"
            )

    @property
    def layer_count(self) -> int:
        return int(sum(self.config.depth))

    def plan(self, size: tuple[int, int] | None = None) -> Plan:
        """Of the one size it draws. ValueError for another."""
        pixels = self.side * self.patch * self.autoencoder.stride
        check_size(size, (pixels, pixels))
        return plan_for("raster", ((self.side, self.side),))

    @torch.no_grad()
    def draw(self, prompt: str, settings: DrawSettings) -> Tensor:
        """[3, H, W]. `prompt`: the number or the name of a class."""
        self.plan(settings.size)
        label = class_number(prompt, self.config.classes, self.names)
        tokens = self.how.latents(self.model, label, settings, self.steps)
        latent = to_images(tokens.float(), self.side, self.patch) / self.scale
        found: Tensor = self.autoencoder.decode(latent)[0].float()
        return found

    def describe(self) -> dict[str, Any]:
        sizes = {"width": self.config.width, "layers": self.layer_count, "classes": self.config.classes}
        return {**sizes, "latent_channels": self.autoencoder.channels, "stride": self.autoencoder.stride}


def load(folder: PublishedFolder, *, device: Any = "cpu", dtype: Any = torch.float32) -> LatentDrawer:
    """ValueError, in one line, for what is missing or does not fit. The autoencoder stays in float32, and so
    do the models whose heads solve an equation: `dtype` is not used."""
    folder.check_keys("steps")
    family = str(folder.config["model_type"])
    with content_of(folder.path / CONFIG):
        options = _options(folder)
        told = folder.options("tokenizer", TOKENIZERS)
        scale = told.get("scale", 0.2325)
        check_number("scale", scale)
        if not scale:
            raise ValueError("scale must not be 0")
        steps = folder.config.get("steps", FAMILIES[family].steps)
        check_count("steps", steps, 1)
    with content_of(folder.path):
        model = FAMILIES[family].load(options, folder.weights("transformer"))
        autoencoder = load_autoencoder(folder)
        drawer = LatentDrawer(
            family, model.to(device), autoencoder.to(device), scale, steps, class_names(folder.path)
        )
    return drawer


def _options(folder: PublishedFolder) -> dict[str, Any]:
    options = folder.options("transformer", HEADS)
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise ValueError(f"transformer: unknown key {unknown[0]!r}: known are {', '.join(OPTIONS)}")
    if "num_heads" not in options:
        raise ValueError("transformer: num_heads is missing")
    for name, value in options.items():
        check_count(name, value, 1)
    return options


def load_autoencoder(folder: PublishedFolder) -> Any:
    """Under its first names in tokenizer.*, or a folder of diffusers named "tokenizer"."""
    own = folder.path / "tokenizer"
    if own.is_dir():
        return autoencoder_kl.load(own)
    return latent_autoencoder.load(folder.weights("tokenizer"))
