"""TokenBridge: MAR's masked autoencoder on quantised latents, with a head that predicts their channels one
by one.

Source: Wang et al., arXiv 2503.16430 (YuqingWang1029/TokenBridge, MIT). Parameter names are the published
ones behind `backbone.` and `head.`. Test: tests/unified/checkpoints/tokenbridge/test_tokenbridge.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.checkpoints.mar.head import matrix
from unified.checkpoints.mar.network import MAR, config_of
from unified.checkpoints.state_dict import load_strict
from unified.heads.channel_codes import ChannelPredictor
from unified.heads.transformer_layers import count_blocks
from unified.tokenizers.scalar_quantiser import ScalarQuantiser

ORDER = (8, 1, 10, 9, 6, 12, 4, 0, 3, 11, 7, 14, 2, 15, 13, 5)  # of the channels of the released autoencoder
OUTPUT = "output_pos_embed"
BUFFERS = ("boundaries", "reconstruction_values", "channel_mask")  # tables that are computed here
OF_HEAD = ("condition_proj.", "token_embeddings.", "timesteps_embeddings", "channel_")


class TokenBridge(nn.Module):
    """`order`: the channels in the order in which they are predicted."""

    def __init__(
        self,
        backbone: MAR,
        head: ChannelPredictor,
        quantiser: ScalarQuantiser,
        order: tuple[int, ...] = ORDER,
    ) -> None:
        super().__init__()
        if sorted(order) != list(range(head.channels)):
            raise ValueError(f"the order of {head.channels} channels must name each once, got {order}")
        self.backbone, self.head, self.quantiser = backbone, head, quantiser
        self.order = torch.tensor(order)

    def ordered(self, codes: Tensor) -> Tensor:
        """Codes [..., C] with their channels in the order of prediction."""
        return codes[..., self.order.to(codes.device)]

    def unordered(self, codes: Tensor) -> Tensor:
        """The inverse of `ordered`."""
        return codes[..., self.order.argsort().to(codes.device)]

    def forward(self, codes: Tensor, mask: Tensor, told: Tensor) -> Tensor:
        """codes [B, L, C], mask [B, L] bool (true: unknown), told [B, D] -> conditions [B, L, D]."""
        found: Tensor = self.backbone(self.quantiser.decode(codes), mask, told)
        return found

    def loss(self, hidden: Tensor, codes: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy over masked tokens and their channels: hidden [B, L, D], codes [B, L, C]."""
        wanted = self.ordered(codes)[mask]
        return F.cross_entropy(self.head(hidden[mask], wanted).flatten(0, 1), wanted.flatten())


def load(state: Mapping[str, Tensor], heads: int, head_heads: int, quantiser: ScalarQuantiser) -> TokenBridge:
    """The published model. `heads` of the backbone and of the head. ValueError with a short reason if
    weights do not fit."""
    levels = state.get("reconstruction_values", quantiser.levels)
    state = {name: value for name, value in state.items() if name not in BUFFERS}
    inner, width = matrix(state, "condition_proj.weight")
    head = ChannelPredictor(
        width,
        count_blocks(state, "channel_heads"),
        matrix(state, "channel_heads.0.weight")[0],
        inner,
        count_blocks(state, "channel_blocks"),
        head_heads,
        matrix(state, "channel_blocks.0.mlp.fc1.weight")[0],
    )
    if (
        quantiser.levels.shape != levels.shape
        or quantiser.codes != matrix(state, "channel_heads.0.weight")[0]
    ):
        raise ValueError(f"weights do not fit: a quantiser of {quantiser.codes} codes")
    quantiser.levels = levels.float()  # as they were rounded where the weights were made
    order = ORDER if head.channels == len(ORDER) else tuple(range(head.channels))
    model = TokenBridge(MAR(config_of(state, heads, OUTPUT)), head, quantiser, order)
    load_strict(model, state, our_names)
    return model.eval()


def our_names(name: str) -> str:
    """The name of a published weight in `TokenBridge`."""
    if name.startswith(OF_HEAD):
        return f"head.{name}"
    return f"backbone.{name.replace(OUTPUT, 'diffusion_pos_embed_learned')}"
