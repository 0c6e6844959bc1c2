"""A trained model that grows: ids at the end of its vocabulary, for example those of a new order; an expert
that writes images."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from unified.backbone.qwen3_decoder import Qwen3Decoder
from unified.model import UnifiedModel
from unified.stream.vocabulary import Vocabulary


@torch.no_grad()
def grow_vocabulary(model: UnifiedModel, vocabulary: Vocabulary) -> UnifiedModel:
    """The model itself, with rows for the appended ids of `vocabulary` (`Vocabulary.extended`), each the mean
    of the table; whatever it had already stays, and the likelihoods of old streams stay bit for bit. A
    session of before knows the old ids alone. ValueError if an old id would mean something else."""
    if not vocabulary.extends(model.vocabulary):
        raise ValueError("a vocabulary grows at its end only: use model.vocabulary.extended(...)")
    old: Any = model.get_input_embeddings()
    more = vocabulary.embedding_size - len(old.weight)
    weight = torch.cat([old.weight, old.weight.float().mean(dim=0).to(old.weight).expand(more, -1)])
    table = nn.Embedding.from_pretrained(weight, freeze=False, padding_idx=old.padding_idx)
    table.weight.requires_grad_(old.weight.requires_grad)
    model.backbone.set_input_embeddings(table)
    model.vocabulary = vocabulary
    config: Any = model.config
    config.vocabulary = vocabulary.to_dict()
    config.backbone["vocab_size"] = model.backbone.config.vocab_size = vocabulary.embedding_size
    return model


@torch.no_grad()
def grow_expert(model: UnifiedModel) -> UnifiedModel:
    """A new model with the weights of a trained one and an expert for written images that begins as a copy of
    its layers (`backbone.mixture`), so that all likelihoods are the same at first. Frozen but for the expert
    (`train.select`: "expert"), it keeps every answer in words bit for bit. ValueError for a decoder that is
    not the default one, or that has an expert."""
    if not isinstance(model.backbone, Qwen3Decoder) or hasattr(model.backbone, "expert"):
        raise ValueError("an expert is added to the default decoder, once")
    config: Any = copy.deepcopy(model.config)
    config.backbone = {**config.backbone, "write_expert": True}
    grown = UnifiedModel(config)
    grown.load_state_dict(model.state_dict(), strict=False)
    grown.backbone.expert.follow(grown.backbone)
    moved: Any = grown
    moved.to(device=model.device, dtype=model.dtype)
    return grown.train(model.training)
