"""A tiny VARGPT-v1.1 with random weights, and folders of it as the released one: weights under their
published names, tokenizer, image processor, chat template."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from unified.checkpoints.infinity_config import InfinityConfig
from unified.checkpoints.infinity_tokenizer import InfinityTokenizer, InfinityTokenizerConfig
from unified.checkpoints.vargpt import VARGPT
from unified.checkpoints.vargpt_config import TOKENS, GenerationIds, VARGPTConfig
from unified.checkpoints.vargpt_published import save_folder

sys.path.insert(0, str(Path(__file__).parent / "unified" / "vision_language"))
import image_text_families as families

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
FAMILY = families.Family(
    {**families.QWEN, **{name: f"<|{name}|>" for name in TOKENS}}, IMAGE, lambda _: ([], None)
)


def config(words: Any = None, **more: Any) -> VARGPTConfig:
    """Sizes for the tokenizer `words`; `more`: further fields."""
    words = words or families.tokenizer(FAMILY)
    token = words.convert_tokens_to_ids
    language = {
        "vocab_size": len(words) + 3,  # rows without an id, as in the released model
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]},
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": token("<|end|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_config": {
            "depth": 1, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2, "in_channels": 3,
            "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
    }  # fmt: skip
    start, end, pad = (token(f"<|{name}|>") for name in TOKENS)
    given: dict[str, Any] = {
        "language": language,
        "ids": GenerationIds(start=start, end=end, pad=pad),
        "decoder": InfinityConfig(
            cell_bits=4, width=128, heads=4, depth=2, mlp_ratio=2.0, text_width=128, text_length=30
        ),
        "tokenizer": InfinityTokenizerConfig(bits=4, patch=2, width=24, encoder=(1, 1), decoder=(1, 1)),
        "resolution": "0.06M",
    }
    return VARGPTConfig(**{**given, **more})


def model(seed: int = 0, **more: Any) -> VARGPT:
    """In evaluation mode, its tokenizer joined."""
    sizes = config(**more)
    made = VARGPT(sizes)
    tokenizer = InfinityTokenizer(sizes.tokenizer)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (*made.parameters(), *tokenizer.parameters()):
            spread = 0.3 if parameter.dim() < 2 else 1.2 * parameter.shape[-1] ** -0.5
            parameter.copy_(spread * torch.randn(parameter.shape, generator=rng))
        for name, parameter in made.named_parameters():
            if name.endswith(("layernorm.weight", "norm.weight", "norm1.weight", "norm2.weight")):
                parameter.add_(1.0)
    made.join(tokenizer.eval())
    return made.eval()


def save(folder: Path, made: VARGPT | None = None) -> Path:
    """A folder with all that `unified.load` reads."""
    words = families.tokenizer(FAMILY)
    words.chat_template = families.template(FAMILY)
    words.save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 40 * 40}
    )
    images.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(families.template(FAMILY), encoding="utf-8")
    save_folder(folder, made or model())
    return folder


def wider(made: VARGPTConfig) -> dict[str, Any]:
    """Fields of another size in every part."""
    language = {
        **made.language,
        "num_hidden_layers": 3,
        "intermediate_size": 40,
        "vision_config": {**made.language["vision_config"], "depth": 2},
    }
    decoder = replace(made.decoder, width=256, heads=8, depth=3, text_width=256, cell_bits=6)
    tokenizer = replace(made.tokenizer, bits=6, blocks=2)
    return {"language": language, "decoder": decoder, "tokenizer": tokenizer, "multiple": 32}
