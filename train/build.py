"""The model of a recipe: its configuration from the tokenizers' vocabulary, its first weights from a seed or
from a pretrained decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from unified.train.recipe import DecoderShape, ModelShape
from unified.train.select import add_adapters, merge_adapters
from unified.train.stage_files import WEIGHTS

from unified.backbone.attention import of_session
from unified.checkpoints.state_dict import read_safetensors
from unified.config import text_decoder
from unified.model import UnifiedConfig, UnifiedModel
from unified.pretrained import load_model
from unified.pretrained_backbone import from_backbone
from unified.stream.migration import weight_name
from unified.stream.vocabulary import Vocabulary


def first_model(
    shape: ModelShape,
    vocabulary: Vocabulary,
    seed: int,
    codes: Tensor | None = None,
    *,
    device: str = "cpu",
) -> UnifiedModel:
    """A model at the start of training, on the CPU, to be trained on `device`. A pretrained decoder brings
    its own sizes. `codes` [codes, dim], of length 1, tell a head that takes them which codes are alike."""
    decoder = replace(shape.decoder, attention=attention_for(shape.decoder, device))
    model = _first_model(replace(shape, decoder=decoder), vocabulary, seed)
    if codes is not None and hasattr(model.head, "start_from"):
        model.head.start_from(codes, model.config.initializer_range)
    return model


def attention_for(decoder: DecoderShape, device: str) -> str:
    """The back-end of attention that a decoder trains with on `device`."""
    if decoder.attention != "auto":
        return decoder.attention
    own = "by_block" if device == "cuda" else "by_sample"
    return "sdpa" if decoder.pretrained else own


def _first_model(shape: ModelShape, vocabulary: Vocabulary, seed: int) -> UnifiedModel:
    torch.manual_seed(seed)
    decoder = shape.decoder
    options: dict[str, Any] = {
        "head": shape.head,
        "head_options": dict(shape.head_options) or None,
        "attn_implementation": decoder.attention,
        "extras": shape.chosen_extras(vocabulary.merge > 0),
    }
    with whole():
        if decoder.pretrained:
            return from_backbone(decoder.pretrained, vocabulary, **options).float()
        sizes = {name: getattr(decoder, name) for name in ("width", "layers", "heads", "kv_heads")}
        backbone = text_decoder(**sizes, mlp=decoder.mlp or None)
        words = vocabulary.to_dict()
        return UnifiedModel(UnifiedConfig(vocabulary=words, backbone=backbone, **options))


def start_model(folder: str | Path, *, device: str = "cpu") -> UnifiedModel:
    """A saved model as it is, on the CPU in float32, to be trained on further on `device`."""
    with whole():
        model, _ = load_model(folder)
    model.attention = own_attention(model.config, device)
    model.attend = of_session(model.attention)
    model.config._attn_implementation = model.attention
    return model.train()


def own_attention(config: Any, device: str) -> str:
    """The back-end of attention that a saved model trains with on `device`."""
    own = config.backbone["model_type"] == "qwen3_vl_text" and not config.base
    return attention_for(DecoderShape(pretrained="" if own else "other"), device)


def check_start(shape: ModelShape, vocabulary: Vocabulary, folder: str | Path) -> None:
    """ValueError, in one line, if a saved model's weights do not fit a model of this shape."""
    with torch.device("meta"):
        model = first_model(shape, vocabulary, 0)
    _fitting_state(model, folder)


def take_over(model: UnifiedModel, folder: str | Path) -> None:
    """The weights of a saved model, which may lack parts but has no others. ValueError in one line if it
    does not fit."""
    own = model.state_dict()  # the weights themselves
    for name, value in _fitting_state(model, folder).items():
        own[name].copy_(value)


def _fitting_state(model: UnifiedModel, folder: str | Path) -> dict[str, Tensor]:
    saved = read_safetensors(Path(folder) / "model.safetensors")
    state = {weight_name(name): value for name, value in saved.items()}
    own = model.state_dict()
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        remedy = "with tokenizers=null model=null the recipe takes both from there"
        raise ValueError(f"{folder}: {wrong[0]} does not fit the recipe's model: {remedy}")
    return state


@contextmanager
def whole() -> Iterator[None]:
    """Build models in full even where ZeRO 3 will shard them: transformers would create them in shards, into
    which weights could not be copied."""
    from transformers.integrations import deepspeed

    reference = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = reference


def stage_model(folder: Path) -> UnifiedModel:
    """The model that a stage has left in its folder."""
    config: Any = UnifiedConfig.from_pretrained(folder)
    return loaded(config, load_file(folder / WEIGHTS))


def loaded(config: UnifiedConfig, weights: dict[str, Tensor], *, adapter: int = 0) -> UnifiedModel:
    """A model with these weights, adapters of rank `adapter` (0: none) merged, ready to answer."""
    with whole():
        model = UnifiedModel(config)
    if adapter:
        add_adapters(model, adapter)
    model.load_state_dict(weights)
    return merge_adapters(model).eval()  # type: ignore[return-value]
