"""Reading published weights: files, wrappers, and short reasons when they do not fit."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified.weight_files import check_file, check_fit, first_line, load_strict, read_safetensors

# Names under which training checkpoints hold a state dict, in the order of preference: weights that were
# averaged are those to infer with (timm, LlamaGen).
AVERAGED = ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "params_ema")
PLAIN = ("model", "module", "state_dict", "model_state_dict", "params", "trainer")
PARTS = {  # trainers of VAR, FlexVAR and Infinity hold a transformer and a tokenizer
    "transformer": ("gpt_ema_fsdp", "var_wo_ddp", "gpt_wo_ddp", "gpt_fsdp", "var", "gpt"),
    "tokenizer": ("vae_ema", "vae_wo_ddp", "vae_local", "vae"),
}
PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.")
ENDINGS = (".pt", ".pth", ".bin", ".ckpt")


# Files ------------------------------------------------------------------------------------------------------


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors of a .safetensors, .pt, .pth, .bin or .ckpt file, outer wrappers removed. A training checkpoint
    with several models: {"transformer": tensors, "tokenizer": tensors}, of which loaders take their own.

    Raises ValueError (one line) if the file is missing, empty, truncated or holds something else. Pickled
    code is never run.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    if path.is_file() and path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path}: weights end in .safetensors, .pt, .pth, .bin or .ckpt")
    check_file(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options beside the weights: plain data
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names a dozen types for broken and for unsafe pickles
        reason = first_line(error)
        if reason.startswith("Weights only load failed"):  # a page of advice, on loading it all the same too
            found = re.search(r"GLOBAL (\S+)", str(error))
            reason = f"{f'it names {found[1]}' if found else 'not plain tensors'}; pickled code is not run"
        raise ValueError(f"{path}: not a readable torch file ({reason})") from None
    try:
        parts = {part: unwrap(loaded, part) for part in PARTS if _holds(loaded, part)}
        return parts if len(parts) > 1 else unwrap(loaded)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


# State dicts ------------------------------------------------------------------------------------------------


def unwrap(loaded: object, part: str = "") -> dict[str, Tensor]:
    """The state dict inside a training checkpoint: wrappers are followed inwards, common prefixes stripped.
    `part`: "transformer" or "tokenizer", which of a checkpoint with both. ValueError if there is none, or if
    a checkpoint with several models is read without a part."""
    node = loaded
    while isinstance(node, Mapping) and (names := _inside(node)):
        own = [name for name in names if not part or name in (part, *PARTS[part], *AVERAGED, *PLAIN)]
        if not own:
            raise ValueError(f"expected the weights of a {part}, found {', '.join(names)}")
        if not part and _holds(node, "transformer") and _holds(node, "tokenizer"):
            raise ValueError(f"several models ({', '.join(names)}): say which part is wanted")
        node = node[own[0]]
    if not isinstance(node, Mapping) or not node:
        raise ValueError(f"expected a state dict, found {type(node).__name__}")
    wrong = next((name for name, value in node.items() if not isinstance(value, Tensor)), None)
    if wrong is not None:
        raise ValueError(
            f"expected a state dict of tensors, found {type(node[wrong]).__name__} under {str(wrong)!r}"
        )
    return _strip({str(name): value for name, value in node.items()})


def _inside(node: Mapping[Any, Any]) -> list[str]:
    """The wrappers of a mapping that hold another one, those to be followed first in front. An average that
    is kept in another form than a state dict (a list of parameters beside its decay) is passed over."""
    parts = (name for names in PARTS.values() for name in names)
    found = [name for name in (*PARTS, *parts, *AVERAGED, *PLAIN) if isinstance(node.get(name), Mapping)]
    return [name for name in found if node[name] and (name not in AVERAGED or _is_state(node[name]))]


def _is_state(node: Mapping[Any, Any]) -> bool:
    return bool(_inside(node)) or all(isinstance(value, Tensor) for value in node.values())


def _holds(node: object, part: str) -> bool:
    """Whether a checkpoint has a model under one of the names of a part."""
    return isinstance(node, Mapping) and any(
        name in (part, *PARTS[part]) or _holds(node[name], part) for name in _inside(node)
    )


def _strip(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that all names have, in whatever order they were put around one another."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state_dict):
            return _strip({name.removeprefix(prefix): value for name, value in state_dict.items()})
    return state_dict


__all__ = ["check_fit", "load_strict", "read_safetensors", "read_weights", "unwrap"]
