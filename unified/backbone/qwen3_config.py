"""Configuration of the default decoder: that of Qwen3-VL's text model, whose own class takes longer to import
than all of this package."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

KIND = "qwen3_vl_text"


@strict
class Qwen3Config(PreTrainedConfig):
    """The fields and defaults of `Qwen3VLTextConfig` of `transformers`. With one more, `write_expert`, images
    are written by layers of their own (`backbone.mixture`)."""

    model_type = KIND
    default_theta = 500000.0
    ignore_keys_at_rope_validation = {"mrope_section", "mrope_interleaved"}  # noqa: RUF012

    vocab_size: int = 151936
    hidden_size: int = 4096
    intermediate_size: int = 22016
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 32
    head_dim: int = 128
    hidden_act: str = "silu"
    max_position_embeddings: int = 128000
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: float | int = 0.0
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        super().__post_init__(**kwargs)


def is_default(config: Any) -> bool:
    """Whether a decoder of this configuration is the one of `qwen3_decoder`: no biases, no dropout, SiLU,
    plain rotary frequencies."""
    plain = config.model_type == KIND and config.hidden_act == "silu"
    if not plain or config.attention_bias or config.attention_dropout:
        return False
    rope = config.rope_parameters or {}
    return rope.get("rope_type", "default") == "default" and "mrope_section" in rope
