"""Configuration of the model: a vocabulary, any decoder of `transformers`, a head."""

from __future__ import annotations

import reprlib
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig

from unified.adapters import register_targets
from unified.backbone.decoder import is_spatial
from unified.backbone.qwen3_config import KIND, Qwen3Config
from unified.extras import check_extras
from unified.finite import check_tree
from unified.heads import check_head
from unified.readers import check_readers
from unified.stream.migration import FORMER, migrated
from unified.stream.vocabulary import Vocabulary

MOST_MODULES = 4096  # far more than any model has of any of these
COUNTED = ("layers", "heads", "experts", "labels", "read_outs")


def text_decoder(
    *, width: int = 64, layers: int = 2, heads: int = 4, kv_heads: int = 2, mlp: int | None = None
) -> dict[str, Any]:
    """A small Qwen3-VL text decoder as a config dict. `width` must be a multiple of 8 times the heads."""
    head_dim = width // heads
    if head_dim * heads != width or head_dim % 8:
        raise ValueError(f"width {width} must be {heads} heads times a multiple of 8")
    side = head_dim // 8  # rotary frequencies of rows and of columns; the rest turn with time
    rope = {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [head_dim // 2 - 2 * side, side, side],
        "mrope_interleaved": True,
    }
    return {
        "model_type": "qwen3_vl_text",
        "hidden_size": width,
        "intermediate_size": mlp or 4 * width * 2 // 3 // 8 * 8,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": 32768,
        "rope_parameters": rope,
    }


def check_base(base: Any) -> None:
    """ValueError unless this says which model was extended, or is none."""
    if base is None or base == {}:
        return
    kinds = {"source": str, "fingerprint": str, "tied": bool}
    if not isinstance(base, dict) or any(not isinstance(base.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(
            f"base must have {', '.join(kinds)} of the model that was extended, got {base!r:.60}"
        )


@strict
class UnifiedConfig(PreTrainedConfig):
    """`vocabulary`: fields of `Vocabulary`. `backbone`: config of a `transformers` decoder with its
    `model_type`; its own `vocab_size` is set from the vocabulary. `head`: name in `HEADS` or, for latents,
    in `LATENT_HEADS`, with `head_options` (`LatentHeadConfig`). `extras`: for
    each extra (`EXTRAS`) its options, for example {"reference": {}, "transition": {"channels": 104}}; without
    them `own_state` where the vocabulary merges codes, else none. A decoder whose rotary embedding has no
    axes for row and column gets `grid` in any case. `read_outs`: how many heads codes may be read out by,
    each after the first behind a block of its own (orders such as NAR need more than one). `readers`: for
    each name of continuous values the `kind` of its reader (`READERS`) and its options, for example
    {"latents": {"kind": "linear", "width": 16}}. `base`: of a pretrained model that was extended
    (`vision_language.extension`) its `source`, a folder or hub name, its `fingerprint`, and whether its
    embedding and head are `tied`; then `backbone` is its decoder with its own `vocab_size`. The defaults give
    a tiny working model."""

    model_type = "unified"

    vocabulary: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    head: str = "categorical"
    head_options: dict[str, Any] | None = None
    extras: dict[str, Any] | None = None
    read_outs: int = 1
    readers: dict[str, Any] | None = None
    base: dict[str, Any] | None = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        former = {name: kwargs.pop(name) for name in FORMER if name in kwargs}
        given = migrated({"vocabulary": self.vocabulary or {}, "extras": self.extras, **former})
        self.vocabulary = Vocabulary(**given["vocabulary"]).to_dict()
        self.readers = {name: dict(options) for name, options in (self.readers or {}).items()}
        check_readers(self.readers, self.words)
        self.backbone = dict(self.backbone or text_decoder())
        if "model_type" not in self.backbone:
            raise ValueError("backbone needs a model_type that transformers knows, such as 'qwen3_vl_text'")
        check_tree({"backbone": self.backbone, "initializer_range": self.initializer_range})
        self.extras = self._extras(given["extras"])
        check_extras(self.extras)
        if self.read_outs < 1:
            raise ValueError(f"read_outs must be at least 1, got {self.read_outs}")
        check_head(self.head, self.words.visual, self.head_options, self.read_outs)
        check_base(self.base)
        if not self.base:
            self.backbone["vocab_size"] = self.words.embedding_size
        super().__post_init__(**kwargs)

    def _extras(self, given: dict[str, Any] | None) -> dict[str, Any]:
        """The extras that were chosen, and those that this vocabulary or this backbone asks for."""
        default: dict[str, Any] = {"own_state": {}} if self.words.merge else {}
        chosen = {
            name: dict(options or {}) for name, options in (default if given is None else given).items()
        }
        return chosen if is_spatial(self.backbone_config().get_text_config()) else {"grid": {}, **chosen}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """From the content of a `config.json`, which may be of an earlier form."""
        check_counts(config_dict)
        return super().from_dict(migrated(config_dict), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As plain data. `peft` asks for it just before it looks up which matrices get adapters."""
        register_targets()
        return super().to_dict()

    @property
    def words(self) -> Vocabulary:
        """The vocabulary as an object."""
        return Vocabulary(**(self.vocabulary or {}))

    def backbone_config(self) -> PreTrainedConfig:
        """That of the decoder. ValueError for a `model_type` that is not known."""
        fields = dict(self.backbone or {})
        if fields.get("model_type") == KIND and not self.base:
            return Qwen3Config(**{name: value for name, value in fields.items() if name != "model_type"})
        from transformers import AutoConfig  # with a table of all models: half a second

        return AutoConfig.for_model(**fields)

    @property
    def hidden_size(self) -> int:
        return self.backbone_config().get_text_config().hidden_size

    @property
    def vocab_size(self) -> int:
        return self.words.size


def check_counts(config: Any) -> None:
    """ValueError for a number of layers, heads or read-outs, at any depth of a `config.json`, that no model
    has: they would be made one by one before anything else is looked at."""
    if not isinstance(config, dict):
        return
    for name, value in config.items():
        if str(name).endswith(COUNTED) and isinstance(value, int) and value > MOST_MODULES:
            raise ValueError(f"{name} must be at most {MOST_MODULES}, got {reprlib.repr(value)}")
        check_counts(value)
