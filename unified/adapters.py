"""Low-rank adapters (LoRA, arXiv 2106.09685) as `peft` makes and stores them.

`get_peft_model(model, LoraConfig(task_type="CAUSAL_LM"))` puts them beside every matrix of the decoder's
layers. A folder with `adapter_config.json` and `adapter_model.safetensors` is a model once it is merged into
the one that it names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unified.finite import check_number
from unified.text_files import content_of, read_object
from unified.weight_files import read_safetensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAMES = (  # of the matrices in layers of the decoders of transformers
    *(
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "qkv_proj",
        "gate_up_proj",
    ),
    *("c_attn", "c_fc", "c_proj", "fc1", "fc2"),
    *("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
)
TARGETS = rf"backbone\..*\.({'|'.join(NAMES)})"
BASE, FIRST, SECOND = ".base_layer.weight", ".lora_A.default.weight", ".lora_B.default.weight"


def register_targets() -> None:
    """Tell `peft`, if it has been imported, which matrices get adapters where `target_modules` is not
    given."""
    constants = sys.modules.get("peft.utils.constants")
    if constants is not None:
        targets: Any = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        targets.setdefault("unified", TARGETS)


def base_of(folder: Path) -> str:
    """The model that the adapters of a folder belong to. ValueError if they do not name any."""
    base = _config(folder).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{folder / CONFIG}: base_model_name_or_path does not say what the adapters belong to"
        )
    return str(base)


def merge_folder(model: nn.Module, folder: Path) -> None:
    """Add the adapters of a folder into the matrices of a model, in place. ValueError if they do not fit."""
    from peft import PeftModel

    try:
        PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{folder}: these adapters do not fit: {str(error).splitlines()[0]}") from None


def changes(folder: Path, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """What the adapters of a folder add to each matrix, by the name of its weight: (alpha / rank) B A, in
    float32. `state`: weights among which they are, in place of the folder's own file."""
    scale, found = _scale(_config(folder), folder), {}
    state = read_safetensors(folder / WEIGHTS) if state is None else state
    for name, first in state.items():
        stem, adapter, _ = name.rpartition(".lora_A.")
        if adapter:
            second = state.get(name.replace(".lora_A.", ".lora_B."))
            if second is None:
                raise ValueError(f"{folder}: the adapter of {stem} has no second matrix")
            target = f"{stem.removeprefix('base_model.model.')}.weight"
            found[target] = scale * (second.float() @ first.float())
    return found


def merged(state: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The weights of a model whose adapters were saved beside their matrices, as in a checkpoint of a stage
    of LoRA: W + (alpha / rank) B A under the matrix's own name. Other states come back as they are."""
    if not any(name.endswith(BASE) for name in state):
        return dict(state)
    config = _config(folder)
    scale = _scale(config, folder)
    found = {}
    for name, value in state.items():
        stem = name.removesuffix(BASE)
        if stem != name:
            change = state[stem + SECOND].float() @ state[stem + FIRST].float()
            found[f"{stem}.weight"] = (value.float() + scale * change).to(value.dtype)
        elif not name.endswith((FIRST, SECOND)):
            found[name.replace(".base_layer.", ".")] = value
    return found


def _config(folder: Path) -> dict[str, Any]:
    return read_object(folder / CONFIG)


def _scale(config: Mapping[str, Any], folder: Path) -> float:
    with content_of(folder / CONFIG):
        scale = float(config["lora_alpha"]) / int(config["r"])
        check_number("lora_alpha / r", scale)
    return scale
