"""Heads: from a hidden state to a distribution over codes or vectors. To add one, write a module with the
methods of `TableHead` or `ContinuousHead` and give it a line in `HEADS` or `CONTINUOUS_HEADS`.
Imports types of `decoding`, and `tokenizers`."""

from collections.abc import Mapping
from typing import Any

from unified.heads.bitwise import BitwiseHead
from unified.heads.categorical import CategoricalHead
from unified.heads.channel_codes import ChannelHead
from unified.heads.diffusion import DiffusionHead
from unified.heads.distribution import Categorical, Distribution, Drawn, Gaussian, log_prob
from unified.heads.flow import FlowHead
from unified.heads.latent_codes import LATENT_HEADS, LatentHead, LatentHeadConfig
from unified.heads.numbers import NumberHead
from unified.heads.regression import RegressionHead
from unified.heads.symbols import ContinuousHead, Head, TableHead

HEADS: dict[str, type] = {"categorical": CategoricalHead, "bitwise": BitwiseHead}

# Apart, because these take channels where those take codes. `LATENT_HEADS` write codes that spell vectors.
CONTINUOUS_HEADS: dict[str, type] = {
    "regression": RegressionHead,
    "diffusion": DiffusionHead,
    "flow": FlowHead,
    "channels": ChannelHead,
    "numbers": NumberHead,
}


def build_head(
    name: str, width: int, codes: int, options: Mapping[str, Any] | None = None, *, embeds: bool = True
) -> Any:
    """The head of a model's configuration: one of `HEADS`, which take no options, or of `LATENT_HEADS`."""
    if name in HEADS:
        return HEADS[name](width, codes, embeds=embeds)
    return LatentHead(name, width, codes, embeds=embeds, options=options or {})


def check_head_name(name: str, options: Mapping[str, Any] | None = None) -> LatentHeadConfig | None:
    """ValueError, in one line, for an unknown head or options that it does not take; the configuration of a
    continuous one."""
    known = (*HEADS, *LATENT_HEADS)
    if name not in known:
        raise ValueError(f"unknown head {name!r}: choose one of {', '.join(known)}")
    if name in HEADS:
        if options:
            raise ValueError(f"the head {name!r} takes no head_options, got {dict(options)!r:.60}")
        return None
    try:
        return LatentHeadConfig(**(options or {}))
    except TypeError as error:
        raise ValueError(f"head_options of {name!r}: {error}") from None


def check_head(name: str, codes: int, options: Mapping[str, Any] | None, read_outs: int = 1) -> None:
    """`check_head_name`, and ValueError for codes that the options do not spell, or more read-outs than the
    head can combine."""
    config = check_head_name(name, options)
    if config is None:
        return
    grid = config.grid
    if grid.codes != codes:
        raise ValueError(
            f"the head {name!r} writes latents of {grid.channels} channels of {grid.bits} bits, which are "
            f"{grid.codes} codes, and the vocabulary has {codes}: it needs a tokenizer of latents (a KL-VAE)"
        )
    if read_outs > 1:
        raise ValueError(
            f"the head {name!r} cannot be read out at several places: denoising losses of read-outs do not "
            "combine to one (read_outs=1)"
        )


__all__ = [
    "CONTINUOUS_HEADS",
    "HEADS",
    "LATENT_HEADS",
    "Categorical",
    "ContinuousHead",
    "Distribution",
    "Drawn",
    "Gaussian",
    "Head",
    "LatentHead",
    "LatentHeadConfig",
    "NumberHead",
    "TableHead",
    "build_head",
    "check_head",
    "check_head_name",
    "log_prob",
]
