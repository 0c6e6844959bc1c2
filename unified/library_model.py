"""What the code of `transformers` expects of a model: saving and loading, weights under the names of an
earlier form, first weights.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from unified.backbone.attention import backend_of
from unified.backbone.extended_tables import saved_state
from unified.backbone.initialise import initialise
from unified.stream.migration import WEIGHTS


class LibraryModel(PreTrainedModel):
    """The part of `UnifiedModel` that others call."""

    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flex_attn = True

    @classmethod
    def from_pretrained(cls, *arguments: Any, **named: Any) -> Any:
        """Weights may have the names of an earlier form; they are saved under those of today."""
        former = {f"^{re.escape(old)}": new for old, new in WEIGHTS.items()}
        named["key_mapping"] = former | (named.get("key_mapping") or {})
        loaded: Any = super().from_pretrained(*arguments, **named)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._weight_conversions = None
        if model.config.base:
            raise ValueError("this folder extends a pretrained model: load it with unified.load")
        return loaded

    def save_pretrained(self, *arguments: Any, **named: Any) -> None:
        """Of a pretrained model that was extended, what it has of its own and what is trained
        (`extended_tables.is_pretrained`)."""
        if self.config.base:
            named["state_dict"] = saved_state(self, named.get("state_dict"))
        super().save_pretrained(*arguments, **named)

    def _check_and_adjust_attn_implementation(
        self,
        attn_implementation: str | None,
        is_init_check: bool = False,
        allow_all_kernels: bool = False,
    ) -> str:
        """In place of the library's check, which asks for kernels of its own."""
        backend_of(attn_implementation)
        return attn_implementation or "sdpa"

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        """As the library's, which takes a module without weights of its own for one that was loaded and would
        never ask it how the weights below it begin."""
        fresh = hasattr(module, "initialise") and not any(
            getattr(weight, "_is_hf_initialized", False) for weight in module.parameters()
        )
        super()._initialize_weights(module, is_custom_code and not fresh)

    def _init_weights(self, module: nn.Module) -> None:
        if not initialise(module, self.config.initializer_range):
            super()._init_weights(module)

    @classmethod
    def can_generate(cls) -> bool:
        """Pipelines ask: `generate` is our own."""
        return True
