"""The kinds of visual tokenizers that can be trained and loaded by name.

A kind is a module with a `KIND`, and its line in `KINDS`; modules are named as text and imported when they
are asked for. A saved tokenizer names its kind (`unified/stream/visual_files.py`); training
(`python -m unified.train tokenizer --kind NAME`), the conformance suite and the tests take every line by
themselves. A tokenizer of one's own: `KINDS["mine"] = "my_package.my_tokenizer"`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from .networks import NetworkConfig

KINDS: dict[str, str] = {
    "vq": "unified.tokenizers.vq",
    "residual": "unified.tokenizers.residual_vq",
    "bsq": "unified.tokenizers.bsq",
    "kl": "unified.tokenizers.kl",
    "composite": "unified.tokenizers.composite",
    "fvq": "unified.checkpoints.fvq.tokenizer",
    "gigatok": "unified.checkpoints.gigatok.tokenizer",
    "hita": "unified.checkpoints.hita.tokenizer",
    "larp": "unified.checkpoints.larp.tokenizer",
    "selftok": "unified.checkpoints.selftok.tokenizer",
}
LOADED: dict[str, str] = {"latents": "unified.checkpoints.latent_tokenizer"}  # made of others, not trained
FORMER = {"residual_vq": "residual"}  # names in files of earlier versions


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a small configuration is made for: images of `size` x `size` pixels; `codes` of `dim` channels;
    `stride`: pixels of a cell of the grid; `tokens` of an image without a grid; `width` of the narrowest
    layer; `frames` of a clip; `features`: channels of a teacher, 0 without one."""

    size: int = 64
    codes: int = 1024
    dim: int = 16
    stride: int = 8
    tokens: int = 64
    width: int = 32
    frames: int = 8
    features: int = 0

    def __post_init__(self) -> None:
        if min(self.size, self.codes, self.dim, self.stride, self.tokens, self.width, self.frames) < 1:
            raise ValueError("size, codes, dim, stride, tokens, width and frames must be at least 1")
        if self.size % self.stride or self.stride & (self.stride - 1):
            raise ValueError(
                f"stride must be a power of two that divides the size {self.size}, got {self.stride}"
            )
        if self.features < 0:
            raise ValueError(f"features must not be negative, got {self.features}")

    @property
    def cells(self) -> int:
        """A side of the grid."""
        return self.size // self.stride

    def network(self, latent: int = 0) -> NetworkConfig:
        """Convolutions on folded pixels and at the stride, without attention."""
        levels = (1, 1) if self.stride > 1 else (1,)
        return NetworkConfig(
            latent=latent or self.dim,
            width=self.width,
            multipliers=levels,
            patch=max(1, self.stride // 2),
            groups=8,
            attention=False,
            middle_attention=False,
        )

    def sides(self) -> tuple[int, ...]:
        """Of maps from one cell to the grid, doubling."""
        return (*(2**n for n in range(self.cells.bit_length()) if 2**n < self.cells), self.cells)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`config`: the class of its configuration; `build` makes the tokenizer of one; `small` makes one that
    trains on a laptop. `pixels`: what reconstructions are compared by; `restarts`: whether unused codes can
    be moved; `clips`: it reads clips, not images; `quantiser`: what its own loss counts beside pixels;
    `change`: makes its state of one that an earlier version saved."""

    config: type
    build: Callable[[Any], Any]
    small: Callable[[Wanted], Any]
    pixels: Literal["l1", "l2"] = "l2"
    restarts: bool = False
    clips: bool = False
    quantiser: float = 1.0
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None


def kind_of(name: str) -> Kind:
    """A registered kind. ValueError, in one line, for an unknown name."""
    name = FORMER.get(name, name)
    every = {**KINDS, **LOADED}
    if not isinstance(name, str) or name not in every:
        raise ValueError(f"unknown kind {name!r:.60}: choose one of {', '.join(KINDS)}")
    kind: Kind = import_module(every[name]).KIND
    return kind


def kind_name(tokenizer: Any) -> str:
    """The kind whose module the configuration of a tokenizer comes from. ValueError without one."""
    modules = {module: name for name, module in {**KINDS, **LOADED}.items()}
    module = type(getattr(tokenizer, "config", None)).__module__
    if module not in modules:
        raise ValueError(f"no file format for a visual tokenizer {type(tokenizer).__name__}")
    return modules[module]
