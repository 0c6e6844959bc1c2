"""What the code of `transformers` expects of a model: saving and loading, weights under the names of an
earlier form, the choice of an attention back-end, first weights, and `generate`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from unified.backbone.attention import backend_of, of_session
from unified.backbone.extended_tables import saved_state
from unified.backbone.fused import FusedLayers
from unified.backbone.initialise import initialise
from unified.stream.migration import WEIGHTS, weight_name


class LibraryModel(PreTrainedModel):
    """The part of `UnifiedModel` that others call."""

    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flex_attn = True
    fused: FusedLayers | None

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **named: Any) -> Any:
        """Weights may have the names of an earlier form."""
        self.fused = None
        renamed = {weight_name(name): value for name, value in state_dict.items()}
        return super().load_state_dict(renamed, *arguments, **named)

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

    def set_attn_implementation(self, attn_implementation: Any, allow_all_kernels: bool = False) -> None:
        """Another back-end, by one of our names or of the library's (`backbone.attention`). ValueError, and
        nothing is changed, for an unknown one or a package that is not installed."""
        kind = backend_of(attn_implementation)
        self.attend = of_session(kind)
        self.attention = kind
        self.config._attn_implementation_internal = attn_implementation

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

    def generate(self, input_ids: Tensor | None = None, **options: Any) -> Tensor:
        """Text after prompts, through a `Session`: `decoding.generate.generate`, where the options are."""
        from unified.decoding.generate import generate

        model: Any = self
        return generate(model, input_ids, **options)

    def prepare_inputs_for_generation(self, *_: object, **__: object) -> dict[str, Any]:
        """peft's `PeftModelForCausalLM` wants the method; ValueError if it is called: the library's own loop
        knows tokens alone, so a `Session` generates."""
        raise ValueError("generate cannot write images: use unified.decoding.session.Session")

    @classmethod
    def can_generate(cls) -> bool:
        """Pipelines ask: `generate` is our own."""
        return True


def summary(model: PreTrainedModel) -> str:
    """ "23.1M parameters, bfloat16 on cpu"."""
    weights = list(model.parameters())
    if not weights:
        return "no parameters"
    dtype = str(weights[0].dtype).removeprefix("torch.")
    return f"{short(sum(weight.numel() for weight in weights))} parameters, {dtype} on {weights[0].device}"


def short(count: int) -> str:
    """ "950", "23.1M": three digits at most, and a letter."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
