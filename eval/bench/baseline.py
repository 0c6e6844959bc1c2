"""VAR as its published code generates and trains, step by step, as the yardstick of a run.

The same weights as ours, the habits of the published code (FoundationVision/VAR, models/var.py, basic_vae.py,
helpers.py, trainer.py): both guidance branches at every step, AdaLN modulations computed anew for every map
and applied in place, a cache that grows by concatenation, a full sort of the vocabulary, a decoder with SiLU
in place, a training mask of floats that is made once and held, bfloat16 by autocast of float32 weights. It
gives the ids of our own generation from the same generator, and the loss of our own training, which
`tests/eval/bench/test_baseline.py` checks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from unified.tokenizers.networks import Decoder
from unified.tokenizers.resize import flatten, unflatten
from unified.tokenizers.vqgan_blocks import EPSILON

from unified.checkpoints.adaln import LARGEST_LOG_SCALE, Block
from unified.checkpoints.next_scale import block_causal
from unified.checkpoints.var import VAR
from unified.layout.attention import attends

Past = tuple[Tensor, Tensor] | None


class PublishedVAR:
    """Generation and training with the weights of a `VAR` whose blocks are not shared-modulation."""

    def __init__(self, model: VAR, *, autocast: bool = False) -> None:
        self.model, self.tokenizer = model, model.needed_tokenizer()
        self.positions = model.positions(model.config.shapes)
        index = block_causal(model.config.shapes)
        seen = attends(index, index)[:, None]
        self.mask = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)  # [1, 1, L, L]
        self.autocast = autocast

    def _casting(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.autocast)

    @torch.no_grad()
    def generate(
        self, labels: Tensor, scale: float, top_k: int, top_p: float, generator: torch.Generator
    ) -> tuple[list[Tensor], Tensor]:
        """Codes per map and the finished latent of labels [B]."""
        with self._casting():
            return self._generated(labels, scale, top_k, top_p, generator)

    def _generated(
        self, labels: Tensor, scale: float, top_k: int, top_p: float, generator: torch.Generator
    ) -> tuple[list[Tensor], Tensor]:
        model, shapes = self.model, self.model.config.shapes
        classes = model.class_emb(torch.cat([labels, torch.full_like(labels, model.null_label)]))
        x = classes[:, None] + model.pos_start + self.positions[:, :1]
        cache: list[Past] = [None] * model.config.depth
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
                x = self._inputs(flatten(fed)) + self.positions[:, place : place + count]
                x, place = x.repeat(2, 1, 1), place + count
        return codes, total

    def loss(self, labels: Tensor, vectors: Tensor, codes: Tensor) -> Tensor:
        """Mean cross-entropy of codes [B, L]. labels [B]; vectors [B, L - 1, C]: what the maps after the
        first are fed."""
        model = self.model
        with self._casting():
            classes = model.class_emb(labels)
            x = torch.cat([classes[:, None] + model.pos_start, self._inputs(vectors).float()], dim=1)
            x = x + model.positions(model.config.shapes)
            for block in model.layers():
                x, _ = _block(block, x, classes, None, model.config.norm_eps, self.mask)
            logits = self._logits(x, classes)
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    def _inputs(self, vectors: Tensor) -> Tensor:
        embed = self.model.word_embed
        return F.linear(vectors, embed.weight, embed.bias)

    def _logits(self, x: Tensor, classes: Tensor) -> Tensor:
        modulation = self.model.head_nm.ada_lin[1]
        scale, shift = _linear(F.silu(classes), modulation)[:, None].chunk(2, dim=-1)
        h = _norm(x.float(), self.model.config.norm_eps).mul(scale.add(1)).add_(shift)
        return _linear(h.float(), self.model.head).float()

    @torch.no_grad()
    def decode(self, total: Tensor) -> Tensor:
        """Images [B, 3, H, W] by the decoder as it was released."""
        with self._casting():
            found = _decoded(self.tokenizer.decoder, self.tokenizer.post_quant_conv(total))
            return found.clamp_(-1, 1).add_(1).mul_(0.5)


def _block(
    block: Block, x: Tensor, classes: Tensor, past: Past, eps: float, mask: Tensor | None = None
) -> tuple[Tensor, Past]:
    modulations = _linear(F.silu(classes), block.ada_lin[1]).view(len(classes), 1, 6, -1)
    gamma1, gamma2, scale1, scale2, shift1, shift2 = modulations.unbind(2)
    attention = block.attn
    rows, count, width = x.shape
    h = _norm(x, eps).mul(scale1.add(1)).add_(shift1)
    bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
    qkv = F.linear(h, attention.mat_qkv.weight, bias).view(rows, count, 3, attention.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    if attention.unit:
        q = F.normalize(q, dim=-1).mul(attention.scale_mul_1H11.clamp_max(LARGEST_LOG_SCALE).exp())
        k = F.normalize(k, dim=-1)
    if past is not None:
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    if mask is not None:
        mask = mask.to(q.dtype)
    out = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), mask, scale=attention.scale)
    out = out.transpose(1, 2).reshape(rows, count, width)
    x = x + _linear(out, attention.proj).mul_(gamma1)
    h = _norm(x, eps).mul(scale2.add(1)).add_(shift2)
    h = F.gelu(_linear(h, block.ffn.fc1), approximate="tanh")
    return x + _linear(h, block.ffn.fc2).mul(gamma2), (k, v)


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


def _decoded(decoder: Decoder, x: Tensor) -> Tensor:
    """Every layer of the decoder [B, C, h, w] -> [B, 3, H, W], contiguous, the doubled maps made."""
    middle = decoder.mid
    x = _conv(x, decoder.conv_in)
    x = _residual(_attended(_residual(x, middle.block_1), middle.attn_1), middle.block_2)
    level: Any
    for level in decoder.up:
        for number, block in enumerate(level.block):
            x = _residual(x, block)
            if len(level.attn):
                x = _attended(x, level.attn[number])
        if level.resize:
            x = _conv(F.interpolate(x, scale_factor=2.0, mode="nearest"), level.upsample.conv)
    return _conv(F.silu(_group_norm(x, decoder.norm_out), inplace=True), decoder.conv_out)


def _residual(x: Tensor, block: Any) -> Tensor:
    h = _conv(F.silu(_group_norm(x, block.norm1), inplace=True), block.conv1)
    h = _conv(F.silu(_group_norm(h, block.norm2), inplace=True), block.conv2)
    return (_conv(x, block.nin_shortcut) if block.resized else x) + h


def _attended(x: Tensor, layer: Any) -> Tensor:
    normed = _group_norm(x, layer.norm)
    query, key, value = (_conv(normed, part).flatten(2) for part in (layer.q, layer.k, layer.v))
    scores = torch.bmm(query.transpose(1, 2).contiguous(), key).mul_(x.shape[1] ** -0.5)
    found = torch.bmm(value, F.softmax(scores, dim=2).transpose(1, 2).contiguous())
    return x + _conv(found.view_as(x), layer.proj_out)


def _conv(x: Tensor, layer: Any) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, padding=layer.padding)


def _group_norm(x: Tensor, layer: Any) -> Tensor:
    return F.group_norm(x, layer.num_groups, layer.weight, layer.bias, EPSILON)
