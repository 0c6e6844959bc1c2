"""What a stage trains, by name: the rest of the model is frozen (arXiv 2504.02949 trains projectors, then the
visual side, then everything).

| name | parameters | |---|---| | all | everything | | backbone | the decoder without its table of
embeddings | | heads | what reads hidden states: the heads of text, actions and codes, the splitting of
merged codes | | visual | all that is made of codes: embedding and head, patch merging, slots, extras | |
tables | the embedding of text, special and action ids | | new | what an extended pretrained model has of
its own: `visual`, and rows of new ids (`unified extend`) | | expert | what writes images: the expert's
layers (`unified/growth.py`) and `visual`; words stay what they are | | lora | low-rank adapters beside the
decoder's matrices (peft), which stay as they are |

A pretrained vision tower is never trained: its features come without gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from unified.adapters import WEIGHTS
from unified.file_names import SHIPPED, SHIPPED_NAME
from unified.pretrained import find

PREFIXES: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "backbone": ("backbone.",),
    "heads": ("text_head.", "head.", "merging.splitter."),
    "visual": ("head.", "slots.", "extras.", "merging."),
    "tables": ("backbone.embed_tokens.",),
    "new": (
        *("head.", "slots.", "extras.", "merging.", "read_outs."),
        *("backbone.embed_tokens.new.", "text_head.new."),
    ),
    "expert": ("backbone.expert.", "head.", "slots.", "extras.", "merging.", "read_outs."),
    "lora": (),
}
FROZEN = ("readers.image.tower.",)


def check_selection(names: Sequence[str]) -> None:
    """ValueError for an unknown name or none."""
    for name in names:
        if name not in PREFIXES:
            raise ValueError(f"trains names {name!r}: choose from {', '.join(PREFIXES)}")
    if not names:
        raise ValueError("trains is empty: nothing would be trained")


def select(model: nn.Module, names: Sequence[str], *, rank: int = 8) -> int:
    """Freeze all but the named parts, in place; returns the number of trainable parameters. `lora` adds
    adapters of this rank: call `merge_adapters` to merge them again."""
    check_selection(names)
    prefixes = tuple(prefix for name in names for prefix in PREFIXES[name])
    if "lora" in names:
        add_adapters(model, rank)
    for name, parameter in model.named_parameters():
        chosen = bool(prefixes) and name.startswith(prefixes)
        if chosen and "backbone" in names and not {"all", "tables"} & set(names):
            chosen = not name.startswith(PREFIXES["tables"]) or ("new" in names and ".new." in name)
        chosen = chosen and not name.startswith(FROZEN)
        parameter.requires_grad = chosen or ("lora" in names and "lora_" in name)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def add_adapters(model: nn.Module, rank: int) -> None:
    """Low-rank adapters on every matrix of the decoder's layers."""
    from peft import inject_adapter_in_model

    config = adapter_config(model, rank)
    inject_adapter_in_model(config, model)
    model.adapter_config = config  # type: ignore[assignment]  # what `save_adapters` writes


def adapter_config(model: nn.Module, rank: int) -> Any:
    """PEFT's configuration of these adapters."""
    from peft import LoraConfig

    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("backbone.")
    ]
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)


def adapter_base(start: str | Path | None, number: int) -> str:
    """The model that the adapters of stage `number` of a recipe belong to; "" if that is no folder on its
    own: only the first stage starts from one."""
    if number or not start:
        return ""
    found = find(start)
    return SHIPPED_NAME if found == SHIPPED else str(found.resolve())


def save_adapters(folder: Path, config: Any, weights: Mapping[str, Tensor], base: str) -> None:
    """The adapters among `weights` as a folder that `peft` reads. `config`: the `LoraConfig` they were made
    with; `base`: the model that they belong to, "" if that is no folder on its own."""
    config = copy.deepcopy(config)
    config.base_model_name_or_path, config.inference_mode = base, True
    found = {
        f"base_model.model.{name.replace('.default.', '.')}": value.detach().cpu().contiguous()
        for name, value in weights.items()
        if "lora_" in name
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(found, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def merge_adapters(model: nn.Module) -> nn.Module:
    """Adapters added into their matrices and taken out, in place; a model without any stays as it is."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    model.requires_grad_(True)
    return model
