"""The loop over the layers is ours, the layers are the library's, except those of the default decoder
(`qwen3_decoder`).

Attention of `transformers` is looked up by name; the name "unified" leads to the `Pass` that every layer is
handed, so that caches, masks, memories and back-ends are its business and no layer is written anew. On causal
text qwen3_vl_text, qwen2_5_vl_text, qwen2, qwen3, llama and gemma3_text give the same bits as when the
library runs them (tried with transformers 5.0 and 5.23). Layers of a sliding window see what the attention
rule says, however far away it is."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unified.backbone.layer_pass import Pass


class Layers(Protocol):
    """Layers that the loop can run: those of `transformers`, the default decoder's in fewer operations, or a
    published model's own. `after`: how many layers come before them."""

    after: int

    def __len__(self) -> int: ...

    def begin(self, hidden: Tensor, run: Pass) -> Any:
        """What these layers share in a pass, such as rotary angles."""
        ...

    def layer(self, number: int, hidden: Tensor, shared: Any, run: Pass) -> Tensor:
        """Hidden states [R, n, D] through the layer of this number, counted from the first of all."""
        ...

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        """The last norm."""
        ...


def run_layers(groups: Sequence[Layers], hidden: Tensor, run: Pass) -> list[Tensor]:
    """Embeddings [R, n, D] through all layers that the pass runs -> hidden states [R, n, D] after the last
    norm of each group: the backbone, and layers behind it that read its states before that norm. A depth
    policy is asked for the backbone's alone."""
    depth, found = len(groups[0]), []
    for layers in groups:
        shared = layers.begin(hidden, run)
        for number in range(layers.after, layers.after + len(layers)):
            if not run.skips(number, depth):
                hidden = one_layer(layers, number, hidden, shared, run)
        found.append(layers.end(hidden, run))
    return found


def one_layer(layers: Layers, number: int, hidden: Tensor, shared: Any, run: Pass) -> Tensor:
    """One layer, what is plugged in around it, and the positions that pass by it."""
    before = hidden
    for part in run.parts:
        hidden = part.enter(number, hidden, run)
    hidden = layers.layer(number, hidden, shared, run)
    for part in run.parts:
        hidden = part.leave(number, hidden, run)
    if number in run.runs:
        hidden = torch.where(run.runs[number][..., None], hidden, before)
    return hidden


def is_spatial(config: Any) -> bool:
    """Whether the rotary embedding of a decoder of this configuration has axes for time, row and column."""
    return "mrope_section" in (getattr(config, "rope_parameters", None) or {})


class LibraryLayers:
    """The layers of a text decoder of `transformers`. Its parameters stay where they are."""

    after = 0

    def __init__(self, decoder: Any) -> None:
        if not hasattr(decoder, "layers") or not hasattr(decoder, "rotary_emb"):
            raise ValueError(
                f"{type(decoder).__name__} has no `layers` with rotary positions: use one like qwen3"
            )
        self.decoder, self.layers = decoder, decoder.layers
        self.types: list[str] | None = getattr(decoder.config, "layer_types", None)
        self.spatial = is_spatial(decoder.config)
        self.by_type = "layer_type" in inspect.signature(decoder.rotary_emb.forward).parameters

    def __len__(self) -> int:
        return len(self.layers)

    def begin(self, hidden: Tensor, run: Pass) -> Any:
        """Rotary angles, by type of layer where they differ."""
        positions = run.positions if self.spatial else run.positions[0].long()
        rotary = self.decoder.rotary_emb
        kinds = list(dict.fromkeys(self.types or [""]))
        if self.by_type:
            return {kind: rotary(hidden, positions, kind) for kind in kinds}
        return dict.fromkeys(kinds, rotary(hidden, positions))

    def layer(self, number: int, hidden: Tensor, shared: Any, run: Pass) -> Tensor:
        return self._through(self.layers[number], number, hidden, shared, run)

    def _through(self, layer: nn.Module, number: int, hidden: Tensor, shared: Any, run: Pass) -> Tensor:
        kind = self.types[number] if self.types else ""
        out = layer(
            hidden,
            position_embeddings=shared[kind],
            attention_mask=None,
            position_ids=None,
            past_key_values=None,
            run=run,
        )
        return out if isinstance(out, Tensor) else out[0]

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        normed: Tensor = self.decoder.norm(hidden)
        return normed


ALONE = (
    "the decoder is run by UnifiedModel, not by itself: use log_probs of UnifiedModel.forward, which belong "
    "to the tokens themselves (no shift); in place of TRL's trainers use PreferenceTrainer (DPO) and "
    "StreamGRPOTrainer of unified.train.preference, for supervised tuning a stage of unified.train"
)


def refuse_alone(decoder: nn.Module) -> None:
    """From now on calling the decoder by itself raises ValueError: it embeds codes as text and knows neither
    the attention rule nor what written codes are fed, so log-probabilities made of its states would be wrong
    (TRL's trainers call `base_model` so)."""
    decoder.register_forward_pre_hook(_refuse)


def _refuse(*_: object) -> None:
    raise ValueError(ALONE)
