"""A pretrained image-text model of `transformers` as a session needs it (`decoding.drawing.Generator`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unified.backbone.attention import Attend, sdpa
from unified.backbone.batch import run_batch
from unified.backbone.decoder import LibraryLayers, run_layers
from unified.backbone.layer_pass import Pass
from unified.backbone.parts.deep_stack import split_deeper
from unified.backbone.windows import NAME
from unified.cache.kv_cache import KVCache
from unified.layout.layout import Cursor, Layout
from unified.readers.vision_tower import image_values
from unified.stream.base_words import FEATURES, NONE, BaseWords
from unified.stream.vocabulary import Vocabulary

TOGETHER = ("gemma3",)  # families in which the features of one image see one another
NO_DRAWING = "this model has no visual codes: it reads images and does not draw, edit or imagine them"


class PretrainedReader:
    """An image-text model, or one of text alone. Its parameters stay where they are; `ends`: the ids that end
    an answer. ValueError for a decoder whose layers the loop cannot run."""

    carries = False
    head = None

    def __init__(self, pretrained: PreTrainedModel, ends: Sequence[int]) -> None:
        config: Any = pretrained.config
        self.pretrained, self.config = pretrained, config
        self.generation_config = pretrained.generation_config
        self.decoder: Any = pretrained.get_decoder()
        self.attention, self.attend = "sdpa", cast(Attend, sdpa)
        self.decoder.config._attn_implementation = NAME
        self.layers = LibraryLayers(self.decoder)
        self.embed: Any = pretrained.get_input_embeddings()
        self.width: int = self.decoder.config.hidden_size
        image: Any = getattr(config, "image_token_id", None)
        self.sees = image is not None and hasattr(pretrained, "get_image_features")
        self.image: int = image if self.sees else NONE  # the id whose place a feature takes
        self.ends = frozenset(ends)
        rows: Any = self.embed.num_embeddings
        self.vocabulary = Vocabulary(
            text=max(rows, self.image + 1),
            visual=2,  # the least: they are never said
            action=0,
            max_side=1,
            appended=(),
            named={"end": ends[0]} if ends else {},
            base=BaseWords(image=self.image, together=config.model_type in TOGETHER),
        )

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype

    @property
    def layer_count(self) -> int:
        return len(self.layers)

    @property
    def context_length(self) -> int | None:
        most: int | None = getattr(self.decoder.config, "max_position_embeddings", None)
        return most

    @property
    def deeper(self) -> int:
        """How many of the first layers are given features of their own."""
        vision = getattr(self.config, "vision_config", None)
        return len(getattr(vision, "deepstack_visual_indexes", None) or ())

    # Reading ------------------------------------------------------------------------------------------------

    def values(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """What an image processor returns -> the features of all placeholders [N, D (1 + L)] and, for
        multimodal rotary positions, their places [N, 5]; empty without images."""
        return image_values(self.pretrained, inputs) if self.sees else {}

    def lay_out(
        self, ids: Tensor, cursors: Sequence[Cursor], values: Mapping[str, Tensor] | None = None
    ) -> Layout:
        """Ids [B, T] on the CPU, padded at their ends, after what the cursors say: all is text, special ids
        too."""
        if self.sees and bool((ids == self.image).any()):
            return Layout.of(ids, self.vocabulary, cursors, values)
        return Layout.tokens(cursors, (ids != self.vocabulary.pad).sum(dim=1).tolist())

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> None:
        """The stream alone steers these models."""

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """Embeddings [B, T, D (1 + L)]: those of the first L layers behind the words' own. ValueError for
        another number of placeholders than features."""
        image = ids == self.image
        words: Tensor = self.embed(ids.masked_fill(image | (ids >= self.vocabulary.text), 0))
        if self.deeper:
            words = torch.nn.functional.pad(words, (0, self.deeper * self.width))
        features = (values or {}).get(FEATURES)
        count = 0 if features is None else len(features)
        if int(image.sum()) != count:
            raise ValueError(
                f"the ids have {int(image.sum())} image placeholders, there are {count} features"
            )
        return words if features is None else words.masked_scatter(image[..., None], features.to(words))

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """[B, T, D (1 + L)] -> hidden states [B, T, D]."""
        return run_layers([self.layers], *split_deeper(embeds, self.width, run))

    @torch.no_grad()
    def logits(self, lists: Sequence[Sequence[int]], values: Mapping[str, Tensor] | None = None) -> Tensor:
        """Rows of ids [B][n] in one pass without a cache -> the model's own logits [B, T, V], without meaning
        after a row's end."""
        width = max(map(len, lists))
        ids = torch.tensor([[*row, *[self.vocabulary.pad] * (width - len(row))] for row in lists])
        layout = self.lay_out(ids, [Cursor()] * len(lists), values)
        embeds = self.read(ids.to(self.device), layout, values)
        states = run_batch(self.hidden, embeds, layout.to(self.device), "sdpa", self.layer_count)
        return self.all_logits(states[0])

    def all_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., D] -> the model's own logits, one for each row of its head."""
        logits: Tensor = self.pretrained.get_output_embeddings()(hidden)
        cap = None if self.sees else getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def text_logits(self, hidden: Tensor) -> Tensor:
        """[..., ids]: -inf for control words, which have no row in the model's head."""
        logits = self.all_logits(hidden)
        missing = self.vocabulary.table_size - logits.shape[-1]
        return torch.nn.functional.pad(logits, (0, missing), value=float("-inf"))

    def new_cache(self, rows: int = 1, capacity: int = 256, *, static: bool = False) -> KVCache:
        return KVCache(self.layer_count, rows, capacity, static=static, device=self.device)

    # Drawing ------------------------------------------------------------------------------------------------

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        raise ValueError(NO_DRAWING)

    def write(self, plan: Any, rows: int, condition: object = None) -> Any:
        raise ValueError(NO_DRAWING)
