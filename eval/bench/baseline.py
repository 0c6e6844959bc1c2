"""The published way to generate with VAR, step by step, as the yardstick of a run.

It uses the same weights as ours and the habits of the published code (FoundationVision/VAR, models/var.py and
helpers.py): both guidance branches at every step, AdaLN modulations computed anew for every map, a cache that
grows by concatenation, a full sort of the vocabulary, plain linear layers, the library's decoder. It gives
the ids of our own generation from the same generator, which `tests/eval/test_bench.py` checks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.janus.configuration_janus import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAEDecoder
from unified.tokenizers.networks import Decoder, NetworkConfig
from unified.tokenizers.resize import flatten, unflatten

from unified.checkpoints.adaln import LARGEST_LOG_SCALE, Block
from unified.checkpoints.var import VAR


class PublishedVAR:
    """Generation with the weights of a `VAR` whose blocks are not shared-modulation."""

    def __init__(self, model: VAR) -> None:
        self.model, self.tokenizer = model, model.needed_tokenizer()
        self.positions = model.positions(model.config.shapes)
        self.decoder = library_decoder(self.tokenizer.decoder, self.tokenizer.config.network)

    @torch.no_grad()
    def generate(
        self, labels: Tensor, scale: float, top_k: int, top_p: float, generator: torch.Generator
    ) -> tuple[list[Tensor], Tensor]:
        """Codes per map and the finished latent of labels [B]."""
        model, shapes = self.model, self.model.config.shapes
        classes = model.class_emb(torch.cat([labels, torch.full_like(labels, model.null_label)]))
        x = classes[:, None] + model.pos_start + self.positions[:, :1]
        cache: list[tuple[Tensor, Tensor] | None] = [None] * model.config.depth
        total = torch.zeros(len(labels), self.tokenizer.dim, *shapes[-1])
        codes, place = [], 1
        for step, (height, width) in enumerate(shapes):
            for layer, block in enumerate(model.layers()):
                x, cache[layer] = _block(block, x, classes, cache[layer], model.config.norm_eps)
            logits = self._logits(x, classes)
            t = scale * step / (len(shapes) - 1)
            conditional, null = logits.chunk(2)
            codes.append(_sample((1 + t) * conditional - t * null, top_k, top_p, generator))
            following = shapes[step + 1] if step + 1 < len(shapes) else None
            vectors = unflatten(self.tokenizer.vectors(codes[-1]), (height, width))
            total, fed = self.tokenizer.accumulate(total, vectors, step, len(shapes), following)
            if following is not None:
                count = following[0] * following[1]
                embed = model.word_embed
                x = (
                    F.linear(flatten(fed), embed.weight, embed.bias)
                    + self.positions[:, place : place + count]
                )
                x, place = x.repeat(2, 1, 1), place + count
        return codes, total

    def _logits(self, x: Tensor, classes: Tensor) -> Tensor:
        modulation = self.model.head_nm.ada_lin[1]
        scale, shift = _linear(F.silu(classes), modulation)[:, None].chunk(2, dim=-1)
        return _linear(_norm(x, self.model.config.norm_eps) * (1 + scale) + shift, self.model.head)

    @torch.no_grad()
    def decode(self, total: Tensor) -> Tensor:
        """Images [B, 3, H, W] with the library's own decoder."""
        return (self.decoder(self.tokenizer.post_quant_conv(total)).clamp(-1, 1) + 1) / 2


def _block(
    block: Block, x: Tensor, classes: Tensor, past: tuple[Tensor, Tensor] | None, eps: float
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    modulations = _linear(F.silu(classes), block.ada_lin[1]).view(len(classes), 1, 6, -1)
    gamma1, gamma2, scale1, scale2, shift1, shift2 = modulations.unbind(2)
    attention = block.attn
    rows, count, width = x.shape
    h = _norm(x, eps) * (scale1 + 1) + shift1
    bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
    qkv = F.linear(h, attention.mat_qkv.weight, bias).view(rows, count, 3, attention.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    q = F.normalize(q, dim=-1) * attention.scale_mul_1H11.clamp_max(LARGEST_LOG_SCALE).exp()
    k = F.normalize(k, dim=-1)
    if past is not None:
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).reshape(rows, count, width)
    x = x + _linear(out, attention.proj) * gamma1
    h = _norm(x, eps) * (scale2 + 1) + shift2
    h = F.gelu(_linear(h, block.ffn.fc1), approximate="tanh")
    return x + _linear(h, block.ffn.fc2) * gamma2, (k, v)


def _linear(x: Tensor, layer: Any) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _norm(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def _sample(logits: Tensor, top_k: int, top_p: float, generator: torch.Generator) -> Tensor:
    below = logits < logits.topk(top_k, sorted=False).values.amin(dim=-1, keepdim=True)
    logits = logits.masked_fill(below, float("-inf"))
    values, order = logits.sort(dim=-1)
    drop = values.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    drop[..., -1] = False
    logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    flat = logits.softmax(dim=-1).view(-1, logits.shape[-1])
    return torch.multinomial(flat, 1, replacement=True, generator=generator).view(logits.shape[:2])


def library_decoder(decoder: Decoder, config: NetworkConfig) -> JanusVQVAEDecoder:
    """The same weights in the library's decoder."""
    library = JanusVQVAEDecoder(
        JanusVQVAEConfig(
            latent_channels=config.latent,
            base_channels=config.width,
            channel_multiplier=list(config.multipliers),
            num_res_blocks=config.blocks,
            out_channels=config.channels,
        )
    )
    library.load_state_dict(decoder.state_dict())
    return library.eval()
