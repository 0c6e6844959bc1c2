"""The ids of a pretrained text tokenizer as a vocabulary: all are text, one stands for image features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from unified.stream.vocabulary import Vocabulary

NONE = -1
FEATURES, PLACES = "image", "places"  # values that travel beside image placeholders
WRITTEN = "written"  # 1 for a placeholder of an image that the model itself has drawn, latent by latent


@dataclass(frozen=True, kw_only=True)
class PretrainedVocabulary(Vocabulary):
    """`text` ids of the tokenizer, all with their own meaning; control words other than those `named` stand
    after them and are never said. `image`: the id of the tokenizer whose place a feature of a vision tower
    takes, NONE for a model of text alone. Unlike placeholders of our own streams it needs no frame around
    it."""

    visual: int = 2
    action: int = 0
    max_side: int = 1
    appended: tuple[str, ...] | None = ()
    image: int = NONE

    @cached_property
    def placeholders(self) -> dict[int, str]:
        return {} if self.image == NONE else {self.image: FEATURES}

    def placeholder(self, name: str) -> int:
        """The image id, which stands for FEATURES, their PLACES and WRITTEN. ValueError for other names,
        and for a model of text alone."""
        if self.image == NONE:
            raise ValueError("this model reads text only: it cannot be asked about an image")
        if name not in (FEATURES, PLACES, WRITTEN):
            raise ValueError(f"this model reads {FEATURES} features, not {name}")
        return self.image

    def name(self, token: int) -> str:
        return "<|image|>" if token == self.image else super().name(token)
