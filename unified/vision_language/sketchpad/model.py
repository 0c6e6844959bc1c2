"""An image-text model of `transformers` with a vision head: features of images, whole passes, predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unified.backbone.batch import run_batch
from unified.heads.latents import Latents, local_rows, prefix_rows
from unified.heads.vision_head import VisionHead, VisionHeadConfig
from unified.layout.features import ADVANCE, FIRST
from unified.layout.layout import Cursor
from unified.readers.vision_tower import GRID, image_inputs, places_of
from unified.stream.base_words import FEATURES, PLACES
from unified.vision_language.model import PretrainedReader
from unified.vision_language.sketchpad.families import family_of, frozen_features


@dataclass(frozen=True)
class Images:
    """`features`: for each image what the connector reads [n * merge, V]; `grid` [images, (time, height,
    width)] in patches, of families with multimodal rotary positions."""

    features: list[Tensor]
    grid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def then(self, after: Images) -> Images:
        """These images and further ones."""
        if not len(self) or not len(after):
            return self if len(self) else after
        grids = [images.grid for images in (self, after) if images.grid is not None]
        return Images(self.features + after.features, torch.cat(grids) if grids else None)

    def only(self, numbers: Sequence[int]) -> Images:
        """Some of them, in this order."""
        grid = None if self.grid is None else self.grid[list(numbers)]
        return Images([self.features[number] for number in numbers], grid)


class Sketchpad:
    """`reader`: the base model; `head`: predicts its latents. ValueError for a family without latent
    sketches, and for a head of other sizes than the model."""

    def __init__(self, reader: PretrainedReader, head: VisionHead) -> None:
        self.reader, self.head = reader, head
        self.family = family_of(reader.pretrained)
        self.connector = self.family.connector(reader.pretrained)
        self.begin: int = getattr(reader.config, self.family.begin)
        self.end: int = getattr(reader.config, self.family.end)
        widths = reader.width, reader.config.vision_config.hidden_size, self.connector.merge
        config = head.config
        given = config.text_width, config.vision_width, config.merge
        if given != widths:
            raise ValueError(
                f"the vision head is for widths {given[:2]} and {given[2]} vectors a position, the model "
                f"has {widths[:2]} and {widths[2]}"
            )

    @property
    def tokens(self) -> int:
        """Positions of one sketch."""
        return self.head.config.tokens

    # Images -------------------------------------------------------------------------------------------------

    def encode(self, inputs: Mapping[str, Any]) -> Images:
        """What an image processor returns -> its images, none where it was given none."""
        given = image_inputs(self.reader.pretrained, inputs)
        if not given:
            return Images([])
        return Images(frozen_features(self.reader.pretrained, given), given.get(GRID))

    def latents(self, images: Images) -> list[Latents]:
        """Normalised features [n * merge, V] and inputs of the language model [n, T] of each image."""
        return [self.finished(features) for features in images.features]

    def finished(self, features: Tensor) -> Latents:
        """Features before the norm [..., k * merge, V], of encoder or head, through the connector."""
        return self.connector(features.to(self.reader.dtype))

    def places(self, images: Images) -> Tensor | None:
        """Multimodal rotary positions of the placeholders [N, 5]; None for families without."""
        if not self.reader.layers.spatial or images.grid is None:
            return None
        counts = [len(features) // self.connector.merge for features in images.features]
        return places_of(self.reader.pretrained, counts, {GRID: images.grid})

    def values(self, images: Images, written: Sequence[bool]) -> dict[str, Tensor]:
        """What stands at the placeholders of all images, row by row. `written`: which of them the model draws
        itself, so that their latents see those before them alone."""
        if not len(images):
            return {}
        embeds = [latents.embeds for latents in self.latents(images)]
        places = self.places(images)
        if places is None and any(written):
            counts = map(len, embeds)
            places = torch.cat([in_a_line(*pair) for pair in zip(counts, written, strict=True)])
        found = {FEATURES: torch.cat(embeds)}
        return found if places is None else {**found, PLACES: places}

    # Passes -------------------------------------------------------------------------------------------------

    def states(self, ids: Tensor, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Ids [B, T], padded at their ends, in one pass -> inputs of the language model and its last hidden
        states, each [B, T, D]."""
        reader = self.reader
        layout = reader.lay_out(ids.cpu(), [Cursor()] * len(ids), values)
        embeds = reader.read(ids.to(reader.device), layout, values)
        passed = layout.to(reader.device)
        hidden = run_batch(reader.hidden, embeds, passed, "sdpa", reader.layer_count)[0]
        return embeds, hidden

    def predict(
        self,
        embeds: Tensor,
        hidden: Tensor,
        prefix: Tensor,
        drawn: Tensor,
        generator: torch.Generator | None = None,
    ) -> Latents:
        """Latents of one image of each row, marked `drawn` [B, T], after the finished images, marked `prefix`
        [B, T]. `generator`: of the head's context dropout."""
        own = next(self.head.parameters()).dtype
        rows, real = prefix_rows(embeds.to(own), prefix)
        return self.finished(self.head(rows, real, local_rows(hidden.to(own), drawn), generator))


def in_a_line(count: int, written: bool) -> Tensor:
    """Places [n, 5] (`layout.features`) of an image whose positions are consecutive numbers. The latents of
    one that is `written` each begin an image of their own, since they do not see later ones."""
    places = torch.zeros(count, 5)
    places[:, FIRST] = 1 if written else torch.arange(count) == 0
    places[:, ADVANCE] = 1 if written else count
    if not written:
        places[:, :FIRST] = torch.arange(count)[:, None].float()
    return places


def head_for(
    reader: PretrainedReader,
    *,
    tokens: int,
    images: int,
    depth: tuple[int, int] = (2, 8),
    heads: int | None = None,
) -> VisionHead:
    """A new head for a model. `tokens`: positions of one sketch; `images`: how many images may be finished
    before one. `heads`: of attention, those of the vision encoder if not given."""
    vision: Any = reader.config.vision_config
    found: int = getattr(vision, "num_attention_heads", None) or vision.num_heads
    return VisionHead(
        VisionHeadConfig(
            text_width=reader.width,
            vision_width=vision.hidden_size,
            heads=heads or found,
            tokens=tokens,
            merge=family_of(reader.pretrained).connector(reader.pretrained).merge,
            images=images,
            depth=depth,
        )
    )
