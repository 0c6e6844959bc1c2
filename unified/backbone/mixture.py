"""A mixture of transformers: images are written by layers of their own, everything else runs the decoder's.

Every position uses the norms, projections and networks of its expert, by the kind of its segment: WRITE
positions those of the generation expert, text, actions and images that are read those of the decoder
itself. Attention is joint, over the keys and values of both. Nothing outside a WRITE segment sees it, so
with a frozen decoder every other position is bit for bit what it was, whatever the expert learns. Source:
Bridge (arXiv 2510.01546), whose routing is the same and which lets later text see the written tokens.
Simplified: where a pass has positions of both kinds, both experts run over all of them.
Tests: tests/unified/backbone/test_mixture.py."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unified.backbone.layer_pass import Pass
from unified.backbone.qwen3_decoder import Angles, DecoderLayer, RMSNorm
from unified.stream.segments import Kind


class WriteExpert(nn.Module):
    """Layers and last norm of the same shape as the decoder's."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config, n) for n in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def follow(self, decoder: Any) -> None:
        """The weights of the decoder: where an expert begins."""
        self.layers.load_state_dict(copy.deepcopy(decoder.layers.state_dict()))
        self.norm.load_state_dict(decoder.norm.state_dict())


class _Shared(NamedTuple):
    """Of a pass: rotary angles; `written` [R, n, 1] bool, None where all positions are of one kind, which
    `alone` then says."""

    angles: Angles
    written: Tensor | None
    alone: bool


class MixtureLayers:
    """The layers of a default decoder and of its expert (`decoder.expert`)."""

    after = 0
    spatial = True

    def __init__(self, decoder: Any) -> None:
        self.decoder, self.layers, self.expert = decoder, decoder.layers, decoder.expert

    def __len__(self) -> int:
        return len(self.layers)

    def begin(self, hidden: Tensor, run: Pass) -> _Shared:
        written = (run.index.kind == Kind.WRITE)[..., None]
        angles = self.decoder.rotary_emb(hidden, run.positions)
        alone = bool(written.all())
        return _Shared(angles, None if alone or not bool(written.any()) else written, alone)

    def layer(self, number: int, hidden: Tensor, shared: _Shared, run: Pass) -> Tensor:
        base, expert = self.layers[number], self.expert.layers[number]
        if shared.written is None:
            out: Tensor = (expert if shared.alone else base)(hidden, shared.angles, run)
            return out
        return _both(base, expert, hidden, shared.written, shared.angles, run)

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        written = (run.index.kind == Kind.WRITE)[..., None]
        return torch.where(written, self.expert.norm(hidden), self.decoder.norm(hidden))


def _both(
    base: DecoderLayer, expert: DecoderLayer, hidden: Tensor, written: Tensor, angles: Angles, run: Pass
) -> Tensor:
    """A layer of a pass with positions of both kinds; attention is over all of them."""
    parts = [
        layer.self_attn.projected(layer.input_layernorm(hidden), angles) for layer in (base, expert)
    ]  # [R, H, n, head]
    by_head = written[:, None]
    query, key, value = (torch.where(by_head, ours, its) for its, ours in zip(*parts, strict=True))
    attention = base.self_attn
    found = run.attention(attention.layer_idx, query, key, value, attention.scaling).contiguous().flatten(2)
    hidden = hidden + torch.where(written, expert.self_attn.o_proj(found), attention.o_proj(found))
    normed = [layer.mlp(layer.post_attention_layernorm(hidden)) for layer in (base, expert)]
    return hidden + torch.where(written, normed[1], normed[0])
