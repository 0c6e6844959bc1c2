"""The default decoder: Qwen3's layers with three-dimensional rotary positions, as in the text model of
Qwen3-VL (arXiv 2511.21631).

What `transformers` computes under the same names, from the same seed (`tests/unified/backbone/
test_qwen3_decoder.py`), without importing it: its model classes take longer to import than torch. Other
decoders, and this one with options that the default does not have, are the library's (`backbone.library`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unified.backbone.initialise import initialise_fresh
from unified.backbone.layer_pass import Pass
from unified.backbone.qwen3_config import KIND, is_default

Angles = tuple[Tensor, Tensor]  # cosines and sines [R, n, head]


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis, computed in float32 (arXiv 1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * wide.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class RotaryPositions(nn.Module):
    """Angles of positions in time, row and column [3, R, n]. Frequency i turns with the axis i mod 3 while
    that axis has frequencies left (`mrope_section`), with time after that."""

    inv_freq: Tensor
    axes: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.count, rope = config.head_dim // 2, config.rope_parameters
        self.theta, self.sections = rope["rope_theta"], rope["mrope_section"]
        frequencies, axes = self._tables()
        self.register_buffer("inv_freq", frequencies, persistent=False)
        self.register_buffer("axes", axes, persistent=False)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Frequencies and the axes that they turn with, [head / 2]."""
        with torch.device("cpu"):  # in any case: arithmetic on the meta device imports torch's compiler
            steps = torch.arange(0, 2 * self.count, 2, dtype=torch.float) / (2 * self.count)
            axes = torch.zeros(self.count, dtype=torch.long)
            for axis in (1, 2):
                axes[axis : 3 * self.sections[axis] : 3] = axis
            return 1.0 / (self.theta**steps), axes

    def initialise(self, std: float) -> None:
        """The tables anew: `from_pretrained` of transformers makes room for them and leaves it empty."""
        for table, values in zip((self.inv_freq, self.axes), self._tables(), strict=True):
            table.copy_(values)

    @torch.no_grad()
    def forward(self, hidden: Tensor, positions: Tensor) -> Angles:
        """Positions [3, R, n] -> cosines and sines [R, n, head] in the dtype of `hidden`."""
        moved = positions.expand(3, -1, -1).float()[self.axes].movedim(0, -1)  # [R, n, head / 2]
        turned = moved * self.inv_freq.float()
        cos, sin = turned.cos(), turned.sin()
        return torch.cat([cos, cos], -1).to(hidden.dtype), torch.cat([sin, sin], -1).to(hidden.dtype)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[R, H, n, head], the two halves of the last axis turned against each other."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys; the pass says what each position sees."""

    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        width, head = config.hidden_size, config.head_dim
        self.layer_idx, self.head_dim, self.scaling = number, head, head**-0.5
        self.q_proj = nn.Linear(width, config.num_attention_heads * head, bias=False)
        self.k_proj = nn.Linear(width, config.num_key_value_heads * head, bias=False)
        self.v_proj = nn.Linear(width, config.num_key_value_heads * head, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * head, width, bias=False)
        self.q_norm = RMSNorm(head, config.rms_norm_eps)
        self.k_norm = RMSNorm(head, config.rms_norm_eps)

    def projected(self, hidden: Tensor, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
        """[R, n, D] -> query, key and value [R, H, n, head], turned by their positions."""
        split = (*hidden.shape[:-1], -1, self.head_dim)
        query = self.q_norm(self.q_proj(hidden).view(split)).transpose(1, 2)
        key = self.k_norm(self.k_proj(hidden).view(split)).transpose(1, 2)
        value = self.v_proj(hidden).view(split).transpose(1, 2)
        cos, sin = (wave.unsqueeze(1) for wave in angles)
        return rotated(query, cos, sin), rotated(key, cos, sin), value

    def forward(self, hidden: Tensor, angles: Angles, run: Pass) -> Tensor:
        """[R, n, D] -> [R, n, D]."""
        query, key, value = self.projected(hidden, angles)
        found = run.attention(self.layer_idx, query, key, value, self.scaling).contiguous()
        out: Tensor = self.o_proj(found.flatten(2))
        return out


class MLP(nn.Module):
    """A gated network with SiLU (SwiGLU, arXiv 2002.05202)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    """Attention and the gated network, each on normalised states and added to them."""

    gradient_checkpointing = False  # set by `gradient_checkpointing_enable` of transformers
    _gradient_checkpointing_func: Any

    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, number)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Tensor, position_embeddings: Angles, run: Pass, **_: object) -> Tensor:
        """[R, n, D] -> [R, n, D]. Under gradient checkpointing it is computed again in the backward pass."""
        if self.gradient_checkpointing and self.training:
            again: Tensor = self._gradient_checkpointing_func(
                self._computed, hidden, position_embeddings, run
            )
            return again
        return self._computed(hidden, position_embeddings, run)

    def _computed(self, hidden: Tensor, angles: Angles, run: Pass) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), angles, run)
        out: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return out


class Qwen3Decoder(nn.Module):
    """Embedding, layers and last norm; the loop over the layers is `backbone.decoder`'s. Weights begin as the
    library's from the same seed. ValueError for a configuration of another decoder (`is_default`)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        if not is_default(config):
            raise ValueError(f"only a plain {KIND} decoder is built here, got {config.model_type}")
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(DecoderLayer(config, n) for n in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = RotaryPositions(config)
        if getattr(config, "write_expert", False):
            from unified.backbone.mixture import WriteExpert  # which is made of these layers

            self.expert = WriteExpert(config)
        if self.norm.weight.device.type != "meta":
            initialise_fresh(self, config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, table: nn.Module) -> None:
        self.embed_tokens = table  # type: ignore[assignment]
