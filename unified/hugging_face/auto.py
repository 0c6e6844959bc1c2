"""What the Auto classes find for the `model_type` "unified". Importing this module registers it; the models
themselves are registered by `unified.model`."""

from __future__ import annotations

from transformers import AutoConfig, AutoProcessor, AutoTokenizer

from unified.config import UnifiedConfig
from unified.hugging_face.processor import UnifiedProcessor
from unified.hugging_face.tokenizer import UnifiedTokenizer
from unified.model import UnifiedModel

AutoConfig.register(UnifiedConfig.model_type, UnifiedConfig)
AutoProcessor.register(UnifiedConfig, UnifiedProcessor)
AutoTokenizer.register(UnifiedConfig, fast_tokenizer_class=UnifiedTokenizer)

__all__ = ["UnifiedConfig", "UnifiedModel", "UnifiedProcessor", "UnifiedTokenizer"]
