"""VARGPT-v1.1's sizes: our config, and the published configuration of a folder (arXiv 2504.02949).

The released `config.json` is that of Qwen2-VL with three more special tokens; sizes of the visual decoder and
of its tokenizer are fixed in the published code: Infinity's 2B transformer and its tokenizer of 32 bits.
Folders with sizes of their own name them in `visual_decoder` and `vae`, as the published constructors do.
Source: VARGPT-family/VARGPT-v1.1 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from transformers import Qwen2VLConfig

from unified.checkpoints import infinity_config, infinity_tokenizer
from unified.checkpoints.infinity_config import InfinityConfig, config_from
from unified.checkpoints.infinity_schedules import RESOLUTIONS, schedule
from unified.checkpoints.infinity_tokenizer import InfinityTokenizerConfig
from unified.orders.shapes import Shapes
from unified.weight_files import first_line

MODEL_TYPE = "vargpt_qwen2_vl"
TOKENS = ("image_gen_start", "image_gen_end", "image_gen_pad")
_TEXT = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "use_sliding_window", "sliding_window", "max_window_layers", "tie_word_embeddings", "hidden_act",
)  # fmt: skip
_IDS = ("bos_token_id", "eos_token_id", "vision_start_token_id", "vision_end_token_id", "image_token_id",
        "video_token_id")  # fmt: skip
_VISION = ("depth", "embed_dim", "hidden_size", "mlp_ratio", "num_heads", "in_channels", "patch_size",
           "spatial_merge_size", "temporal_patch_size")  # fmt: skip
_VAE = {
    "codebook_dim": "bits",
    "patch_size": "patch",
    "base_ch": "width",
    "num_res_blocks": "blocks",
    "encoder_ch_mult": "encoder",
    "decoder_ch_mult": "decoder",
}


@dataclass(frozen=True, kw_only=True)
class GenerationIds:
    """Ids around an image to be drawn: `start`, `end`, and `pad` in place of each of its slots."""

    start: int
    end: int
    pad: int


@dataclass(frozen=True, kw_only=True)
class VARGPTConfig:
    """`language`: sizes of Qwen2-VL, as `Qwen2VLConfig` takes them. `decoder`, `tokenizer`: of the visual
    decoder and its tokenizer. In training an image takes a multiple of `multiple` ids. `resolution`: pixels
    of a drawing (`infinity_schedules`)."""

    language: Mapping[str, Any]
    ids: GenerationIds
    decoder: InfinityConfig = field(default_factory=lambda: infinity_config.released("2b"))
    tokenizer: InfinityTokenizerConfig = field(default_factory=lambda: infinity_tokenizer.released(32))
    multiple: int = 128
    resolution: str = "0.25M"

    def __post_init__(self) -> None:
        if self.decoder.text_width != self.decoder.width:
            raise ValueError(
                f"the decoder reads memory of its own width: text_channels must be {self.decoder.width}, got "
                f"{self.decoder.text_width}"
            )
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"unknown resolution {self.resolution!r}: use one of {', '.join(RESOLUTIONS)}")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, got {self.multiple}")
        if self.decoder.grid.bits != self.tokenizer.bits:
            raise ValueError(
                f"the decoder writes {self.decoder.grid.bits} bits, the tokenizer has {self.tokenizer.bits}"
            )

    def of_language(self) -> Qwen2VLConfig:
        """The configuration that `transformers` builds Qwen2-VL from. ValueError, in one line, for sizes that
        it refuses."""
        try:
            return Qwen2VLConfig(**{name: _copied(value) for name, value in self.language.items()})
        except Exception as error:  # it checks types and sizes with errors of several kinds
            raise ValueError(f"the language model's sizes: {first_line(error)}") from None

    def shapes(self, ratio: float = 1.0) -> Shapes:
        """The maps of an image of this height over width."""
        return schedule(ratio, self.resolution)

    def padded(self, slots: int) -> int:
        """How many ids stand for an image of so many slots in training."""
        return -(-slots // self.multiple) * self.multiple


def read(config: Mapping[str, Any]) -> VARGPTConfig:
    """Our config of a published one: sizes of the language model at its top level or in `llm`, special ids
    there or in `token_ids`. ValueError, in one line, for what is missing."""
    text, ids = config.get("llm", config), config.get("token_ids", config)
    for name, group in (("llm", text), ("token_ids", ids), ("special_tokens", config.get("special_tokens"))):
        if not isinstance(group, Mapping):
            raise ValueError(f"{name} must be an object")
    language = {name: text[name] for name in _TEXT if name in text}
    language |= {name: ids[name] for name in _IDS if name in ids}
    vision = text.get("vision_config") or {}
    language["vision_config"] = {name: vision[name] for name in _VISION if name in vision}
    missing = [name for name in (*_TEXT[:6], "eos_token_id", "image_token_id") if name not in language]
    if missing:
        raise ValueError(f"config.json lacks {', '.join(missing)}")
    parts: dict[str, Any] = {}
    tokenizer = config.get("vae")
    if tokenizer is not None:
        parts["tokenizer"] = _tokenizer(tokenizer)
    if "visual_decoder" in config:
        options = dict(config["visual_decoder"])
        parts["multiple"] = options.get("pad_to_multiplier", 128)
        bits = parts["tokenizer"].bits if tokenizer is not None else 32
        parts["decoder"] = config_from(options, bits)
    return VARGPTConfig(
        language=language, ids=_ids(config["special_tokens"]), resolution=config.get("pn", "0.25M"), **parts
    )


def written(config: VARGPTConfig) -> dict[str, Any]:
    """The inverse of `read`: plain data for config.json."""
    decoder = config.decoder
    names = {ours: theirs for theirs, ours in infinity_config.FIELDS.items()}
    options = {names[name]: value for name, value in asdict(decoder).items() if name in names}
    vae = {theirs: getattr(config.tokenizer, ours) for theirs, ours in _VAE.items()}
    language = {name: value for name, value in config.language.items() if name not in _IDS}
    tokens = {name: f"<|{name}|>" for name in TOKENS}
    found = {name.removeprefix("image_gen_"): name for name in TOKENS}
    chunks = decoder.depth // decoder.level_every if decoder.level_every else 1
    options |= {"block_chunks": chunks, "add_lvl_embeding_only_first_block": int(not decoder.level_every)}
    tokens |= {f"{name}_token_id": getattr(config.ids, ours) for ours, name in found.items()}
    return {
        "model_type": MODEL_TYPE,
        "pn": config.resolution,
        "llm": language,
        "token_ids": {name: config.language[name] for name in _IDS if name in config.language},
        "special_tokens": tokens,
        "visual_decoder": {**options, "pad_to_multiplier": config.multiple},
        "vae": {name: list(value) if isinstance(value, tuple) else value for name, value in vae.items()},
    }


def _tokenizer(options: Any) -> InfinityTokenizerConfig:
    missing = [name for name in _VAE if not isinstance(options, Mapping) or name not in options]
    if missing:
        raise ValueError(f"the vae of config.json lacks {', '.join(missing)}")
    fields: dict[str, Any] = {ours: options[theirs] for theirs, ours in _VAE.items()}
    fields |= {name: tuple(fields[name]) for name in ("encoder", "decoder")}
    return InfinityTokenizerConfig(**fields)


def _ids(tokens: Mapping[str, Any]) -> GenerationIds:
    missing = [f"{name}_token_id" for name in TOKENS if f"{name}_token_id" not in tokens]
    if missing:
        raise ValueError(f"special_tokens of config.json lacks {', '.join(missing)}")
    start, end, pad = (tokens[f"{name}_token_id"] for name in TOKENS)
    return GenerationIds(start=start, end=end, pad=pad)


def _copied(value: Any) -> Any:
    """`transformers` changes what it is given."""
    return {name: _copied(part) for name, part in value.items()} if isinstance(value, Mapping) else value
