"""Rows beside those of a pretrained model's tables: of its embedding, and of its language-modelling head.

The model's own tables are modules that stay as they are (frozen, tied to one another or not), so what they
compute stays bit for bit; rows of new ids are modules beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

TIED = "text_head.base.weight"  # the weight of the embedding, too, where both are tied
PRETRAINED = ("backbone.", "text_head.base.", "readers.image.tower.")
NEW = ("backbone.embed_tokens.new.",)


def is_pretrained(name: str) -> bool:
    """Whether a weight of an extended `UnifiedModel` is one of the pretrained model, not of what was added or
    of adapters."""
    return name.startswith(PRETRAINED) and not name.startswith(NEW) and ".lora_" not in name


class ExtendedEmbedding(nn.Module):
    """A pretrained embedding of N ids, which may scale what it finds, and `more` rows behind it, which are
    not scaled."""

    def __init__(self, base: nn.Embedding, more: int) -> None:
        super().__init__()
        self.base, self.new = base, nn.Embedding(more, base.embedding_dim)

    @property
    def num_embeddings(self) -> int:
        return self.base.num_embeddings + self.new.num_embeddings

    def forward(self, rows: Tensor) -> Tensor:
        """Rows [...] -> [..., D]."""
        border = self.base.num_embeddings
        old = self.base(rows.clamp(max=border - 1))
        new = self.new((rows - border).clamp(min=0))
        return torch.where((rows < border)[..., None], old, new.to(old.dtype))


class ExtendedHead(nn.Module):
    """A pretrained head of N ids, and `more` rows behind it."""

    def __init__(self, base: nn.Linear, more: int) -> None:
        super().__init__()
        self.base, self.new = base, nn.Linear(base.in_features, more, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., N + more]."""
        return torch.cat([self.base(hidden), self.new(hidden)], dim=-1)


def extend_tables(decoder: Any, embedded: int, said: int, *, tied: bool) -> ExtendedHead:
    """Put rows behind the embedding of a decoder, in place, up to `embedded` in all, and make its head of
    `said` rows; `tied`: the pretrained halves share their weight."""
    table = decoder.get_input_embeddings()
    rows, width = table.num_embeddings, table.embedding_dim
    decoder.set_input_embeddings(ExtendedEmbedding(table, embedded - rows))
    head = ExtendedHead(nn.Linear(width, rows, bias=False), said - rows)
    if tied:
        tie(decoder, head)
    return head


def tie(decoder: Any, head: ExtendedHead) -> None:
    """Let the pretrained halves of embedding and head share their weight, in place."""
    head.base.weight = decoder.get_input_embeddings().base.weight


def saved_state(model: Any, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Of an extended model's weights, or of a `state` of it, those that a checkpoint needs: what is new, and
    what of the pretrained part is trained."""
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    frozen |= {TIED} if model.config.base["tied"] else set()
    state = model.state_dict() if state is None else state
    return {name: value for name, value in state.items() if not (is_pretrained(name) and name in frozen)}
