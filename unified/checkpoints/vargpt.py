"""VARGPT-v1.1: Qwen2-VL that draws with Infinity's transformer behind it (arXiv 2504.02949).

The language model runs over everything, causally, the slots of an image to be drawn included: they are fed
what the visual decoder would be fed, brought to its width (`image_gen_projector`). Its states at the slots,
brought back (`image_gen_projector_out`), are the visual decoder's inputs, where each map sees itself and the
maps before it; its states of all that was said before are what the decoder's cross-attention reads. The
pooled text, which steers Infinity's modulations, is a learnt vector here: prompts act through memory and
inputs alone. An image to be understood is read by Qwen2-VL's own tower; the source of an edit is, too.

Source: VARGPT-family/VARGPT-v1.1 (Apache-2.0). Different from the published code: drawing is a `Session`'s
(`vargpt_session`), so rows, guidance and noise are those of every other model; the frozen tokenizer is no
sub-module. Tests: tests/unified/checkpoints/test_vargpt.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2VLForConditionalGeneration

from unified.checkpoints.infinity import Infinity
from unified.checkpoints.infinity_layers import TextCondition
from unified.checkpoints.infinity_tokenizer import InfinityTokenizer
from unified.checkpoints.vargpt_config import VARGPTConfig
from unified.orders.shapes import Shapes, area


class Projector(nn.Module):
    """Two linear maps around a GELU, [..., source] -> [..., target]. Checkpoints hold a LayerNorm `ln_q`
    beside them, which the published code never applies."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.ln_q = nn.LayerNorm(source).requires_grad_(False)
        self.mlp = nn.Sequential(nn.Linear(source, source), nn.GELU(), nn.Linear(source, target))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp(x.to(self.ln_q.weight.dtype))
        return y


@dataclass(frozen=True, eq=False)
class Sketch:
    """Images to be drawn in training, for the rows of a batch that have one, in their order: what the second
    map on is fed, `vectors` [N, L - first, S], and their maps `shapes`. `null` [N] bool: whose decoder is
    steered by the learnt vector of no text (classifier-free guidance; None: no one's)."""

    vectors: Tensor
    shapes: Shapes
    null: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """Of drawings in training, in their rows' order: `bits` [N, L, S, 2], logits of every bit; `fed` [N, Lp,
    D], what the language model was fed at their slots; `inputs` [N, L, W], what the decoder was; `condition`,
    what it was steered by."""

    bits: Tensor
    fed: Tensor
    inputs: Tensor
    condition: TextCondition


@dataclass(frozen=True, eq=False)
class Forced:
    """One pass over known ids. `text` [B, T, V]: logits of every id's successor; `states` [B, T, D]: of the
    language model; `drawn`: None where nothing is."""

    text: Tensor
    states: Tensor
    drawn: Drawn | None = None


class VARGPT(nn.Module):
    """Likelihood of texts and drawings. Parameters keep their published names but for those in
    `vargpt_published`. (`sizes`: a `config` would be taken for one of `transformers` by its trainer.)"""

    tokenizer: InfinityTokenizer

    def __init__(self, config: VARGPTConfig) -> None:
        super().__init__()
        self.sizes = config
        language: Any = config.of_language()
        width, own = config.decoder.width, language.text_config.hidden_size
        self.language = Qwen2VLForConditionalGeneration(language)
        self.decoder = Infinity(config.decoder)
        self.image_gen_projector = Projector(width, own)
        self.image_gen_projector_out = Projector(own, width)
        self.sos_embedding = nn.Embedding(config.ids.start + 1, width)

    def join(self, tokenizer: InfinityTokenizer) -> None:
        """Make images with this tokenizer, which stays frozen and outside the module."""
        self.decoder.join(tokenizer)
        object.__setattr__(self, "tokenizer", tokenizer)

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Activations of the language model and the vision tower are computed twice to save memory; those of
        the decoder are kept. `options`: of the same method of `transformers`."""
        self.language.activation_checkpointing_enable(**options)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Its name before transformers 5.23."""
        self.language.gradient_checkpointing_enable(**options)

    @property
    def device(self) -> torch.device:
        return self.sos_embedding.weight.device

    # Conditions ---------------------------------------------------------------------------------------------

    def pooled(self, null: Tensor) -> Tensor:
        """[N, W]: what steers the modulations of N drawings, the learnt vector of no text where `null` [N]
        bool says so."""
        token = torch.tensor([self.sizes.ids.start], device=self.device)
        texts = [self.sos_embedding(token), self.decoder.text.cfg_uncond[:1]]
        both, _, _ = self.decoder.text(texts)
        return both[null.to(self.device).long()]

    def first_inputs(self, pooled: Tensor) -> Tensor:
        """[N, 1, W]: the decoder's input at the first slot, before the language model has seen it."""
        return (pooled + self.decoder.pos_start[0]).unsqueeze(1)

    # Likelihood ---------------------------------------------------------------------------------------------

    def forward(
        self,
        ids: Tensor,
        sketch: Sketch | None = None,
        *,
        pictures: Mapping[str, Tensor] | None = None,
        positions: Tensor | None = None,
    ) -> Forced:
        """Teacher forcing. ids [B, T], padded at their ends; `pictures`: what the image processor makes of
        those to be looked at (`pixel_values`, `image_grid_thw`), of all rows in their order. `positions`
        [3, B, T]: time, row and column; by default 0, 1, 2, ... on all three, as in the published training
        even with images. ValueError for a drawing without its ids, or with another number of them."""
        embeds = self.language.get_input_embeddings()(ids)
        if pictures:
            features = torch.cat(self.language.get_image_features(**pictures, return_dict=True).pooler_output)
            image = ids == self.language.config.image_token_id
            _check_count("image", int(image.sum()), len(features))
            embeds = embeds.masked_scatter(image[..., None], features.to(embeds))
        fed = None if sketch is None else self.slots(sketch)
        slot = ids == self.sizes.ids.pad
        counts = slot.sum(dim=1)
        _check_count("drawing", int(counts.sum()), 0 if fed is None else fed.shape[0] * fed.shape[1])
        if fed is not None:
            if not bool(((counts == 0) | (counts == fed.shape[1])).all()):
                raise ValueError(f"a drawing takes {fed.shape[1]} ids of a row, got {counts.tolist()}")
            embeds = embeds.masked_scatter(slot[..., None], fed.to(embeds))
        states = self.run_language(embeds, positions)
        text = self.language.lm_head(states)
        if fed is None or sketch is None:
            return Forced(text=text, states=states)
        inputs, condition = self._behind(states, slot, sketch)
        bits = self.decoder.logits(inputs, condition, sketch.shapes)
        drawn = Drawn(bits=bits, fed=fed, inputs=inputs, condition=condition)
        return Forced(text=text, states=states, drawn=drawn)

    def slots(self, sketch: Sketch) -> Tensor:
        """[N, Lp, D]: what the language model is fed at the slots of drawings, filled up with what the
        projector makes of zeros."""
        inputs = self.decoder.later_inputs(sketch.vectors)
        first = self.first_inputs(self.pooled(_null(sketch)))
        missing = self.sizes.padded(area(sketch.shapes)) - area(sketch.shapes)
        filled = inputs.new_zeros(len(inputs), missing, inputs.shape[-1])
        return self.image_gen_projector(torch.cat([first.to(inputs), inputs, filled], dim=1))

    def run_language(self, embeds: Tensor, positions: Tensor | None = None) -> Tensor:
        """Embeddings [B, T, D] -> states [B, T, D] after the last norm, causally."""
        if positions is None:
            places = torch.arange(embeds.shape[1], device=embeds.device)
            positions = places.expand(3, len(embeds), -1)
        run = self.language.model.language_model(
            inputs_embeds=embeds, position_ids=positions, use_cache=False
        )
        states: Tensor = run.last_hidden_state
        return states

    def _behind(self, states: Tensor, slot: Tensor, sketch: Sketch) -> tuple[Tensor, TextCondition]:
        """The decoder's inputs [N, L, W] and condition, of states [B, T, D] and where drawings stand, `slot`
        [B, T] bool. A prompt ends one id before the start token."""
        rows = slot.any(dim=1)
        count = int(slot.sum()) // max(int(rows.sum()), 1)
        places = slot[rows].int().argmax(dim=1)
        own = states[rows]
        taken = places[:, None] + torch.arange(count, device=places.device)
        at_slots = own.gather(1, taken[..., None].expand(-1, -1, own.shape[-1]))
        inputs = self.image_gen_projector_out(at_slots)[:, : area(sketch.shapes)].float()
        prompts = [state[: int(place) - 1] for state, place in zip(own, places, strict=True)]
        return inputs, self.condition(self.pooled(_null(sketch)), prompts)

    def condition(self, pooled: Tensor, prompts: Sequence[Tensor]) -> TextCondition:
        """What the decoder is told of N drawings: `pooled` [N, W] and the language model's states [n, D] of
        the prompt of each. ValueError for an empty prompt."""
        if not all(len(prompt) for prompt in prompts):
            raise ValueError("a drawing needs a prompt: nothing stands before its start token")
        memory = [self.image_gen_projector_out(prompt) for prompt in prompts]
        return self.steered(pooled, memory)

    def steered(self, pooled: Tensor, memory: Sequence[Tensor]) -> TextCondition:
        """The same of what cross-attention reads, [n, W] for each of the drawings."""
        padded = pad_sequence(list(memory), batch_first=True)
        lengths = torch.tensor([len(part) for part in memory], device=padded.device)
        own = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        mask = None if bool(own.all()) else own[:, None, None]
        return self.decoder.conditioned(pooled, padded, mask)


def _null(sketch: Sketch) -> Tensor:
    none = torch.zeros(len(sketch.vectors), dtype=torch.bool)
    return none if sketch.null is None else sketch.null


def _check_count(what: str, ids: int, given: int) -> None:
    if ids != given:
        raise ValueError(f"the ids have {ids} places of a {what}, there is something for {given}")
