"""`UnifiedModel`: the model as a `PreTrainedModel` of `transformers`, for its trainers, its hub and its Auto
classes. What it computes is `unified.core_model`'s.
"""

from __future__ import annotations

from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig

from unified.backbone import library  # noqa: F401  (transformers learns the names of our back-ends)
from unified.config import UnifiedConfig
from unified.core_model import CoreModel, Kind, UnifiedOutput, Writer
from unified.library_model import LibraryModel


class UnifiedModel(CoreModel, LibraryModel):  # type: ignore[misc]  # `config` is narrower in the former
    """One decoder over text, special, visual and action ids."""

    config_class = UnifiedConfig

    def _begin(self, config: UnifiedConfig) -> None:
        LibraryModel.__init__(self, config)

    def _finish(self) -> None:
        words = self.vocabulary
        self.generation_config = GenerationConfig(pad_token_id=words.pad, eos_token_id=words.end)
        self.post_init()

    def library_model(self) -> UnifiedModel:
        return self

    def save_pretrained(self, *arguments: object, **named: object) -> None:
        LibraryModel.save_pretrained(self, *arguments, **named)


AutoModel.register(UnifiedConfig, UnifiedModel)
AutoModelForCausalLM.register(UnifiedConfig, UnifiedModel)
AutoModelForImageTextToText.register(UnifiedConfig, UnifiedModel)

__all__ = ["Kind", "UnifiedConfig", "UnifiedModel", "UnifiedOutput", "Writer"]
