"""LlamaGen's class-conditional transformer: an image's codes row by row, each predicted from the position
before it (arXiv 2406.06525).

Its sequence is the class and all codes but the last; blocks, rotary embedding and names of parameters are
those that NAR took over (`nar_blocks`). Source: FoundationVision/LlamaGen (MIT),
autoregressive/models/gpt.py. Here is the likelihood alone: no generation, no captions. Tests:
tests/unified/checkpoints/test_cca.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unified.backbone.layer_pass import Pass
from unified.checkpoints.nar_blocks import Block, ClassEmbedding, NARConfig, rotary_table
from unified.checkpoints.state_dict import check_fit, unwrap
from unified.layout.attention import Index, Seen, attends
from unified.stream.segments import Kind

_FIELDS = {"dim": "width", "n_layer": "depth", "n_head": "heads", "multiple_of": "multiple"}


class LlamaGen(nn.Module):
    """Teacher forcing. Parameter names are the published ones. `config.shapes`: one map."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_embedding = ClassEmbedding(config)
        self.tok_embeddings = nn.Embedding(config.codes, config.width)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.output = nn.Linear(config.width, config.codes, bias=False)

    def forward(self, labels: Tensor, codes: Tensor) -> Tensor:
        """Logits [B, N, V] of every code. labels [B], the last class being none; codes [B, N] row by row."""
        height, width = self.config.shapes[0]
        if codes.shape != (len(labels), height * width):
            raise ValueError(
                f"this model needs codes [{len(labels)}, {height * width}], got {tuple(codes.shape)}"
            )
        told = self.cls_embedding(labels[:, None])
        hidden = torch.cat([told, self.tok_embeddings(codes[:, :-1])], dim=1)
        run, rotary = self._pass(hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, rotary, run)
        logits: Tensor = self.output(self.norm(hidden))
        return logits

    def _pass(self, device: torch.device) -> tuple[Pass, Tensor]:
        """Causal attention over the class and the codes, with the rotary table of their places."""
        height, width = self.config.shapes[0]
        label = torch.arange(height * width, device=device)[None]
        kind = torch.full_like(label, Kind.WRITE)
        kind[:, 0] = Kind.TEXT
        positions = torch.zeros(3, *label.shape, device=device)
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).T.to(positions)
        positions[1:, 0, 1:] = places[:, :-1]
        index = Index(torch.zeros_like(label), (kind == Kind.WRITE).long(), kind, label)
        run = Pass(index, positions, seen=Seen(attends(index, index)[:, None]))
        return run, rotary_table(self.config, index, positions)


def load(options: Mapping[str, Any], state_dict: Mapping[str, Any], side: int) -> LlamaGen:
    """A published transformer for maps of `side` x `side` from its constructor's options and its state dict,
    in float32 and eval mode. ValueError with a short reason if they do not fit."""
    found = unwrap(state_dict)
    unknown = sorted(set(options) - set(_FIELDS))
    missing = sorted({"dim", "n_layer", "n_head"} - set(options))
    if unknown or missing:
        raise ValueError(f"options of LlamaGen: {[*unknown, *missing][0]!r} is unknown or missing")
    for name in ("tok_embeddings.weight", "cls_embedding.embedding_table.weight"):
        if name not in found or found[name].dim() != 2:
            raise ValueError(f"weights do not fit: {name} is missing or no matrix")
    config = NARConfig(
        codes=len(found["tok_embeddings.weight"]),
        classes=len(found["cls_embedding.embedding_table.weight"]) - 1,
        shapes=((side, side),),
        more=(0,),
        **{ours: options[theirs] for theirs, ours in _FIELDS.items() if theirs in options},
    )
    with torch.device("meta"):
        model = LlamaGen(config)
    check_fit(model.state_dict(), found)
    copies = {name: value.to(torch.float32, copy=True) for name, value in found.items()}
    model.load_state_dict(copies, assign=True)
    return model.eval()
