"""Tiny image-text models with random weights and tokenizers of their own, saved as folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = ["What is in the picture? Two red circles and a blue square are here.", "user assistant system model"]
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
TEMPLATE = (
    "{% for m in messages %}{{ TURN + m['role'] + '\\n' }}{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ END + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ TURN + 'assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """`special`: tokens by the name that the tokenizer knows them under; `image`: what the chat template puts
    in an image's place; `build`: makes processor and model of a tokenizer, whose pieces are byte-level pairs,
    pairs with a metaspace as in SentencePiece, or words and their pieces as in BERT."""

    special: dict[str, str]
    image: str
    build: Callable[[Any], tuple[Any, Any]]
    metaspace: bool = False
    word_piece: bool = False


def tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """That of a family, learned from a few words."""
    special = ["<unk>", "<|end|>", "<|turn|>", *family.special.values()]
    if family.word_piece:
        return _named(word_pieces(special), family)
    core = Tokenizer(models.BPE(byte_fallback=False, unk_token="<unk>" if family.metaspace else None))
    if family.metaspace:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        core.decoder = decoders.Metaspace(prepend_scheme="never")
        alphabet = [chr(n) for n in range(32, 127)] + ["\n", "ä", "▁"]
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    core.train_from_iterator(WORDS, trainer)
    return _named(core, family)


def word_pieces(special: list[str]) -> Tokenizer:
    core = Tokenizer(models.WordPiece(unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    core.train_from_iterator([*WORDS, "alpha beta gamma"], trainers.WordPieceTrainer(special_tokens=special))
    return core


def _named(core: Tokenizer, family: Family) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        eos_token="<|end|>",
        pad_token="<unk>",
        extra_special_tokens=family.special,
    )


def template(family: Family) -> str:
    text = TEMPLATE.replace("IMAGE", family.image)
    return text.replace("TURN", "'<|turn|>'").replace("END", "'<|end|>'")


def save(name: str, folder: Path) -> Path:
    """The family of a name as a folder."""
    family = {**FAMILIES, **OTHERS}[name]
    words = tokenizer(family)
    torch.manual_seed(3)
    parts, model = family.build(words)
    spread(model)
    model.generation_config.eos_token_id = [words.eos_token_id]
    model.generation_config.pad_token_id = words.pad_token_id
    words.chat_template = template(family)
    words.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(template(family), encoding="utf-8")
    model.save_pretrained(folder)
    return folder


def spread(model: torch.nn.Module) -> None:
    """Weights so large that what is read changes what is said."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4 * parameter.shape[-1] ** -0.5 * 2)
            elif parameter.abs().sum() == 0:
                parameter.normal_(std=0.1)


def _token(words: Any, token: str) -> int:
    number: int = words.convert_tokens_to_ids(token)
    return number


VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def qwen2_5_vl(words: Any) -> tuple[Any, Any]:
    ids = {
        name: _token(words, f"<|{name}|>")
        for name in ("image_pad", "video_pad", "vision_start", "vision_end")
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
            "patch_size": 4, "window_size": 16, "fullatt_block_indexes": [1],
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )  # fmt: skip
    return [_qwen_images(4)], transformers.Qwen2_5_VLForConditionalGeneration(config)


def _qwen_images(patch: int) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=patch, merge_size=2, size={"shortest_edge": 64, "longest_edge": 40 * 40}
    )


def qwen3_vl_tied(words: Any) -> tuple[Any, Any]:
    return qwen3_vl(words, tie_word_embeddings=True)


def qwen3_vl(words: Any, **more: Any) -> tuple[Any, Any]:
    ids = {
        name: _token(words, f"<|{name}|>")
        for name in ("image_pad", "video_pad", "vision_start", "vision_end")
    }
    config = transformers.Qwen3VLConfig(
        text_config={
            **TEXT,
            "head_dim": 8,
            "vocab_size": len(words),
            **more,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4},
        },
        vision_config={
            "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
            "patch_size": 4, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        **more,
    )  # fmt: skip
    return [_qwen_images(4)], transformers.Qwen3VLForConditionalGeneration(config)


def gemma3(words: Any) -> tuple[Any, Any]:
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    config = transformers.Gemma3Config(
        text_config={
            **TEXT,
            "head_dim": 8,
            "vocab_size": len(words),
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        vision_config={"model_type": "siglip_vision_model", **VISION, "image_size": 16, "patch_size": 4},
        mm_tokens_per_image=16,
        image_token_index=_token(words, "<image_soft_token>"),
        boi_token_index=_token(words, "<start_of_image>"),
        eoi_token_index=_token(words, "<end_of_image>"),
    )
    images = Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    processor = transformers.Gemma3Processor(images, words, image_seq_length=16)
    return [processor], transformers.Gemma3ForConditionalGeneration(config)


def idefics3(words: Any) -> tuple[Any, Any]:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    config = transformers.Idefics3Config(
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words), "pad_token_id": 0},
        vision_config={**VISION, "image_size": 16, "patch_size": 4},
        scale_factor=2,
        image_token_id=_token(words, "<image>"),
        pad_token_id=0,
    )
    images = Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    processor = transformers.Idefics3Processor(images, words, image_seq_len=4)
    return [processor], transformers.Idefics3ForConditionalGeneration(config)


def llava_onevision(words: Any) -> tuple[Any, Any]:
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    grid = [[16, 16], [16, 32], [32, 16], [32, 32]]
    config = transformers.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(words)},
        vision_config={
            "model_type": "siglip_vision_model", **VISION, "image_size": 16, "patch_size": 4,
            "vision_use_head": False,
        },
        image_token_index=_token(words, "<image>"),
        video_token_index=_token(words, "<video>"),
        image_grid_pinpoints=grid,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )  # fmt: skip
    images = LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=grid)
    settings = Settings(
        {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": 16,
         "vision_feature_select_strategy": "full"}
    )  # fmt: skip
    return [images, settings], transformers.LlavaOnevisionForConditionalGeneration(config)


def internvl(words: Any) -> tuple[Any, Any]:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(words)},
        vision_config={**VISION, "image_size": [16, 16], "patch_size": [4, 4]},
        image_token_id=_token(words, "<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=3
    )
    settings = Settings({"processor_class": "InternVLProcessor", "image_seq_length": 4})
    return [images, settings], transformers.InternVLForConditionalGeneration(config)


def llava(words: Any) -> tuple[Any, Any]:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": 16, "patch_size": 4},
        image_token_index=_token(words, "<image>"),
        vision_feature_layer=-1,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = transformers.LlavaProcessor(
        images, words, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    return [processor], transformers.LlavaForConditionalGeneration(config)


@dataclass(frozen=True)
class Settings:
    """What `processor_config.json` holds where the class cannot be built without torchvision."""

    found: dict[str, Any]

    def save_pretrained(self, folder: Path) -> None:
        (folder / "processor_config.json").write_text(json.dumps(self.found), encoding="utf-8")


QWEN = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
FAMILIES = {
    "qwen2_5_vl": Family(QWEN, "<|vision_start|><|image_pad|><|vision_end|>", qwen2_5_vl),
    "qwen3_vl": Family(QWEN, "<|vision_start|><|image_pad|><|vision_end|>", qwen3_vl),
    "gemma3": Family(
        {
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        "<start_of_image>",
        gemma3,
        metaspace=True,
    ),
    "idefics3": Family(
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance": "<end_of_utterance>",  # the processor would add it
            "row_col_1": "<row_1_col_1>",
            "row_col_2": "<row_1_col_2>",
            "row_col_3": "<row_2_col_1>",
            "row_col_4": "<row_2_col_2>",
        },
        "<image>",
        idefics3,
    ),
    "llava_onevision": Family(
        {"image_token": "<image>", "video_token": "<video>"}, "<image>\\n", llava_onevision
    ),
    "internvl": Family(
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        "<IMG_CONTEXT>",
        internvl,
    ),
}
OTHERS = {
    "llava": Family({"image_token": "<image>"}, "<image>", llava),  # not in `agreement.COVERED`
    "qwen3_vl_tied": replace(FAMILIES["qwen3_vl"], build=qwen3_vl_tied),
    "word_piece": replace(FAMILIES["idefics3"], word_piece=True),
}
