"""Heads: from a hidden state to a distribution over codes or vectors. To add one, write a module with the
methods of `TableHead` or `ContinuousHead` and give it a line in `HEADS` or `CONTINUOUS_HEADS`.
Imports types of `decoding`, and `tokenizers`."""

from unified.heads.bitwise import BitwiseHead
from unified.heads.categorical import CategoricalHead
from unified.heads.channel_codes import ChannelHead
from unified.heads.diffusion import DiffusionHead
from unified.heads.distribution import Categorical, Distribution, Drawn, Gaussian, log_prob
from unified.heads.flow import FlowHead
from unified.heads.numbers import NumberHead
from unified.heads.regression import RegressionHead
from unified.heads.symbols import ContinuousHead, Head, TableHead

HEADS: dict[str, type] = {"categorical": CategoricalHead, "bitwise": BitwiseHead}

# Apart, because the head of a model's configuration writes codes: these take channels where those take codes,
# and vectors have no ids.
CONTINUOUS_HEADS: dict[str, type] = {
    "regression": RegressionHead,
    "diffusion": DiffusionHead,
    "flow": FlowHead,
    "channels": ChannelHead,
    "numbers": NumberHead,
}

__all__ = [
    "CONTINUOUS_HEADS",
    "HEADS",
    "Categorical",
    "ContinuousHead",
    "Distribution",
    "Drawn",
    "Gaussian",
    "Head",
    "NumberHead",
    "TableHead",
    "log_prob",
]
