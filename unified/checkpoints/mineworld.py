"""MineWorld: a causal transformer over frames and actions in turn (arXiv 2504.08388).

    frame 0 (14 x 24 codes, row by row), action 0 (11 ids), frame 1, action 1, ...

The layers are those of `transformers` (Llama); a code is predicted at the id before it. Parameter names are
the published ones. Source: microsoft/mineworld (MIT). `mineworld_session.Played` steps it in a `Session`,
`mineworld_schedule` repeats the published loops. Tests: tests/unified/checkpoints/test_mineworld.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from unified.backbone.decoder import LibraryLayers, run_layers
from unified.backbone.layer_pass import Pass
from unified.backbone.library import build
from unified.checkpoints.mineworld_config import MineWorldConfig
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.heads.distribution import Categorical
from unified.layout.attention import Index, Seen, attends


class LanguageModel(nn.Module):
    """Embedding, layers and head under their published names."""

    def __init__(self, config: MineWorldConfig) -> None:
        super().__init__()
        library = LlamaConfig(
            vocab_size=config.ids,
            hidden_size=config.sizes.width,
            intermediate_size=config.sizes.inner,
            num_hidden_layers=config.sizes.layers,
            num_attention_heads=config.sizes.heads,
            num_key_value_heads=config.sizes.kv_heads,
            max_position_embeddings=config.context,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
        )
        self.model = build(library, pretrained=False)
        self.lm_head = nn.Linear(config.sizes.width, config.ids, bias=False)


class CodeHead:
    """The part of the head that predicts codes, as `unified.heads.Head` has it: ids of actions are never
    drawn."""

    symbols = 1

    def __init__(self, head: nn.Linear, codes: int) -> None:
        self.head, self.values = head, codes

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., 1, V], float32."""
        return nn.functional.linear(hidden, self.head.weight[: self.values]).float().unsqueeze(-2)

    def distribution(self, hidden: Tensor) -> Categorical:
        return Categorical(self.logits(hidden))

    def to_symbols(self, codes: Tensor) -> Tensor:
        return codes.unsqueeze(-1)

    def to_codes(self, symbols: Tensor) -> Tensor:
        return symbols.squeeze(-1)


class MineWorldTransformer(nn.Module):
    """Likelihood of whole sequences, and hidden states under a pass."""

    def __init__(self, config: MineWorldConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = LanguageModel(config)
        self.head = CodeHead(self.transformer.lm_head, config.codes)

    @property
    def layers(self) -> LibraryLayers:
        return LibraryLayers(self.transformer.model)

    def embed(self, ids: Tensor) -> Tensor:
        """Ids of the checkpoint [...], codes first and then actions -> [..., D]."""
        embedded: Tensor = self.transformer.model.embed_tokens(ids)
        return embedded

    def hidden(self, embeds: Tensor, run: Pass) -> Tensor:
        """Embeddings [R, n, D] under a pass -> states [R, n, D] after the last norm."""
        return run_layers([self.layers], embeds, run)[0]

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of the checkpoint [B, T] from the first frame on -> logits [B, T, ids] of each one's
        successor."""
        rows, count = ids.shape
        index, positions = causal(torch.arange(count, device=ids.device), rows)
        run = Pass(index, positions, seen=Seen(attends(index, index)[:, None]))
        logits: Tensor = self.transformer.lm_head(self.hidden(self.embed(ids), run))
        return logits


def causal(places: Tensor, rows: int = 1) -> tuple[Index, Tensor]:
    """Index [B, n] and positions [3, B, n] of ids at places [n] of a sequence in which each sees those up to
    itself."""
    label = places.expand(rows, -1)
    zero = torch.zeros_like(label)
    return Index(zero, zero, zero, label), label.float().expand(3, -1, -1)


def load(config: MineWorldConfig, state_dict: Mapping[str, Any]) -> MineWorldTransformer:
    """A published transformer, in float32 and eval mode. An outer `state_dict` is followed, and the image
    tokenizer beside the transformer left out. If the weights do not fit, ValueError with a short reason."""
    found = unwrap(state_dict)
    found = {name: value for name, value in found.items() if not name.startswith("tokenizer.")}
    with torch.device("meta"):
        model = MineWorldTransformer(config)
    check_fit(model.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    model.load_state_dict(copies, assign=True)
    decoder = model.transformer.model
    decoder.rotary_emb = LlamaRotaryEmbedding(decoder.config)  # its table is no weight: not loaded above
    return model.eval()
