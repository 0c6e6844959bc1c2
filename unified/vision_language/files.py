"""A model of `transformers` in a folder: its weights, its processor, its generation settings.

Nothing of a folder is run: `trust_remote_code` is always off. Whatever is missing or damaged raises
ValueError in one line.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from unified.backbone.attention import backend_of, of_session
from unified.decoding.sampling import Sampler
from unified.text_files import read_object
from unified.vision_language.agreement import COVERED, check_agreement
from unified.vision_language.model import PretrainedReader
from unified.vision_language.processor import LOCAL, PretrainedProcessor, load_processor
from unified.weight_files import check_file, first_line

CONFIG, SETTINGS = "config.json", "generation_config.json"
INDEX = "model.safetensors.index.json"


def load_pretrained(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    device_map: Any = None,
    load_in_4bit: bool = False,
    attn_implementation: str = "sdpa",
) -> tuple[PretrainedReader, PretrainedProcessor]:
    """The model in evaluation mode, and its processor. `device_map`: as in `transformers`, in place of
    `device`; `load_in_4bit`: weights in 4 bits (QLoRA's NF4, arXiv 2305.14314) by bitsandbytes;
    `attn_implementation`: "sdpa" or "flash_attention_2", of the vision tower and in sessions. A family that
    the tests do not cover is compared with `transformers` once (`agreement`)."""
    kind = _session_backend(attn_implementation)
    config = _config(folder)
    sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    processor = load_processor(folder, config.model_type, sees=sees)
    _check_shards(folder)
    if (folder / SETTINGS).is_file():
        read_object(folder / SETTINGS)  # the library passes over a damaged one
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": attn_implementation, **LOCAL}
    options |= {"device_map": device_map} if device_map is not None else {}
    options |= {"quantization_config": four_bits(dtype)} if load_in_4bit else {}
    family: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    try:
        model, found = family.from_pretrained(folder, config=config, output_loading_info=True, **options)
    except Exception as error:  # the library raises whatever its parts raise
        raise ValueError(f"{folder}: its weights do not load: {first_line(error)}") from None
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{folder}: {len(missing)} of its weights are missing (first: {missing[0]})")
    if device_map is None and not load_in_4bit:
        model = model.to(device)
    reader = PretrainedReader(model.eval(), ends_of(model, processor))
    reader.attention, reader.attend = kind, of_session(kind)
    if reader.sees != sees:
        raise ValueError(f"{folder}: {config.model_type} has no get_image_features: it is not read here")
    if config.model_type not in COVERED:
        check_agreement(reader, processor)
    return reader, processor


def _session_backend(name: str) -> str:
    """The back-end of sessions. ValueError, in one line, for another than the two, or where flash-attn is not
    installed."""
    if name not in ("sdpa", "flash_attention_2"):
        raise ValueError(f"attn_implementation of a session is sdpa or flash_attention_2, got {name!r}")
    kind = backend_of(name)
    of_session(kind)  # is the package there?
    return kind


def four_bits(dtype: torch.dtype) -> Any:
    """The configuration of 4-bit weights. ValueError where bitsandbytes is not installed."""
    if find_spec("bitsandbytes") is None:
        raise ValueError("load_in_4bit needs the package bitsandbytes: pip install bitsandbytes")
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def ends_of(model: PreTrainedModel, processor: PretrainedProcessor) -> list[int]:
    """The ids that end an answer: those of the generation settings, otherwise the tokenizer's."""
    settings: Any = model.generation_config
    found = getattr(settings, "eos_token_id", None)
    found = processor.tokenizer.eos_token_id if found is None else found
    return [] if found is None else list(found) if isinstance(found, (list, tuple)) else [found]


def sampler_of(settings: GenerationConfig | None) -> Sampler:
    """How a model's own generation settings choose among ids: greedily unless they say `do_sample`. A warning
    for a repetition penalty, which is not applied."""
    if settings is not None and settings.repetition_penalty not in (None, 1.0):
        penalty = settings.repetition_penalty
        warnings.warn(f"the model's repetition_penalty of {penalty} is not applied", stacklevel=2)
    if settings is None or not settings.do_sample:
        return Sampler(temperature=0)
    temperature, top_k, top_p = settings.temperature, settings.top_k, settings.top_p
    return Sampler(
        temperature=1.0 if temperature is None else temperature, top_k=top_k or 0, top_p=top_p or 0.0
    )


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, **LOCAL)
    except Exception as error:
        raise ValueError(f"{folder / CONFIG}: {first_line(error)}") from None


def _check_shards(folder: Path) -> None:
    """ValueError for the first file of weights that an index names and the folder lacks."""
    if not (folder / INDEX).is_file():
        if not any(folder.glob("*.safetensors")):
            raise ValueError(f"{folder}: no weights (model.safetensors)")
        return
    weights = read_object(folder / INDEX).get("weight_map")
    if not isinstance(weights, dict):
        raise ValueError(f"{folder / INDEX}: has no weight_map")
    for name in sorted(set(weights.values())):
        check_file(folder / name)
