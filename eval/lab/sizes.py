"""How much of everything: the sizes of the common ground and of experiments."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Of a base model. The defaults have two million parameters and as many layers as VARiant's nested depths
    9, 5, 3 ask for."""

    width: int = 128
    layers: int = 9
    heads: int = 4

    def part(self, width: float, layers: float) -> ModelSize:
        """A smaller model: shares of its width, by whole heads of the same width, and of its layers."""
        heads = max(1, round(self.heads * width))
        return ModelSize(
            width=self.width // self.heads * heads, layers=max(2, round(self.layers * layers)), heads=heads
        )


@dataclass(frozen=True, kw_only=True)
class TokenizerSize:
    """`width` of a tokenizer's network, `codes` of a codebook, and `bits` of a binary code."""

    width: int = 64
    codes: int = 512
    bits: int = 9


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """`scenes` of the training split; `tokenizer_steps` and `base_steps` of `batch` pictures; `prompts` that
    an arm of an experiment draws, `rows` of them at once. `rate`: the largest learning rate of base models.
    `share` scales the training steps of experiments."""

    model: ModelSize = field(default_factory=ModelSize)
    tokenizer: TokenizerSize = field(default_factory=TokenizerSize)
    scenes: int = 8000
    tokenizer_steps: int = 1600
    base_steps: int = 600
    batch: int = 32
    prompts: int = 128
    share: float = 1.0

    @property
    def rows(self) -> int:
        return min(32, self.prompts)

    def steps(self, share: float) -> int:
        """Training steps of an experiment that asks for this share of the base models' own."""
        return max(2, round(share * self.share * self.base_steps))


FULL = Sizes()
TOY = Sizes(
    model=ModelSize(width=32, layers=3, heads=2),
    tokenizer=TokenizerSize(width=32, codes=32, bits=5),
    scenes=16,
    tokenizer_steps=3,
    base_steps=4,
    batch=4,
    prompts=2,
)
