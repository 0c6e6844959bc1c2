"""Start from the weights of a published language model, for example the text decoder of Qwen3-VL."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from unified.config import UnifiedConfig
from unified.model import UnifiedModel
from unified.stream.vocabulary import Vocabulary


def from_backbone(
    source: str | Path | PreTrainedModel, vocabulary: Vocabulary, **config: Any
) -> UnifiedModel:
    """A `UnifiedModel` whose decoder, text embeddings and text head are those of a pretrained model (a
    folder, a hub name or a model). `vocabulary.text` ids must be the pretrained model's own (its table may be
    longer); special ids, visual codes and actions start from fresh weights. A warning if its vision tower is
    left out (`unified.load` of the same folder reads images with it). ValueError if it has fewer ids."""
    pretrained = source if isinstance(source, PreTrainedModel) else _load(source)
    if hasattr(pretrained, "get_image_features"):
        warnings.warn(
            f"the vision tower of {type(pretrained).__name__} is left out: images are read as codes",
            stacklevel=2,
        )
    decoder, head = pretrained.get_decoder(), pretrained.get_output_embeddings()
    words: Tensor = decoder.get_input_embeddings().weight
    if len(words) < vocabulary.text:
        raise ValueError(
            f"the pretrained model has {len(words)} ids, the vocabulary {vocabulary.text} of text"
        )
    backbone = {**decoder.config.to_dict(), "pad_token_id": None}
    settings = UnifiedConfig(backbone=backbone, vocabulary=vocabulary.to_dict(), **config)
    model = UnifiedModel(settings)
    nn.Module.to(model, words.dtype)
    table: Any = model.get_input_embeddings().weight
    skipped = {name for name, tensor in decoder.named_parameters() if tensor is words}
    state = {name: tensor for name, tensor in decoder.state_dict().items() if name not in skipped}
    model.backbone.load_state_dict(state, strict=False)
    with torch.no_grad():
        table[: vocabulary.text] = words[: vocabulary.text]
        if head is not None:
            model.text_head.weight[: vocabulary.text] = head.weight[: vocabulary.text]
    return model


def _load(source: str | Path) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(source)
    name = (config.architectures or [""])[0]
    architecture = getattr(transformers, name, None)
    if architecture is None:
        raise ValueError(f"{source}: transformers {transformers.__version__} has no architecture {name!r}")
    return architecture.from_pretrained(source)
