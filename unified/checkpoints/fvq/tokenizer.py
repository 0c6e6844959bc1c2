"""A VQ tokenizer whose codebook FVQ's bridge generates, to be trained.

Every gradient to one code moves all of them through the bridge. Codes are not normalised, and start as
published: all zero. Saved, it is a plain VQ tokenizer (`tokenizers.codebook.export`): the bridge costs
nothing afterwards. Source: arXiv 2509.10140. `tests/tokenizers/test_kinds.py` holds that an exported
codebook gives the same ids."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from unified.checkpoints.fvq.network import Bridge, BridgeConfig, ModulatedBridge, initialise
from unified.tokenizers.kinds import Kind, Wanted
from unified.tokenizers.networks import NetworkConfig
from unified.tokenizers.vq import VQConfig, VQTokenizer


@dataclass(frozen=True, kw_only=True)
class FVQConfig:
    """`bridge.codes` of `bridge.dim` channels; `modulated`: the form of the published training scripts, not
    that of the paper."""

    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    modulated: bool = False
    commitment: float = 0.25


class GeneratedCodebook(nn.Module):
    """`forward` gives the table [codes, dim] that the bridge makes of a learned one."""

    def __init__(self, config: FVQConfig) -> None:
        super().__init__()
        self.raw = nn.Embedding(config.bridge.codes, config.bridge.dim)
        form = ModulatedBridge if config.modulated else Bridge
        self.bridge: nn.Module = form(config.bridge)
        initialise(self.raw, self.bridge)  # type: ignore[arg-type]

    def forward(self) -> Tensor:
        table: Tensor = self.bridge(self.raw.weight)
        return table


def build(config: FVQConfig) -> VQTokenizer:
    """The VQ tokenizer with the generated codebook in place of a plain one."""
    tokenizer = VQTokenizer(
        VQConfig(
            codes=config.bridge.codes,
            dim=config.bridge.dim,
            encoder=config.network,
            normalised=False,
            commitment=config.commitment,
        )
    )
    tokenizer.table = GeneratedCodebook(config)
    return tokenizer


def _small(wanted: Wanted) -> FVQConfig:
    """A bridge of twice the width; ValueError unless `codes` is a square that patches of 4 x 4 divide."""
    heads = max(1, wanted.width // 16)
    bridge = BridgeConfig(codes=wanted.codes, dim=wanted.dim, patch=4, head_width=32, heads=heads)
    return FVQConfig(bridge=bridge, network=wanted.network())


KIND = Kind(config=FVQConfig, build=build, small=_small)
