"""Reading published weights: files, wrappers, and short reasons when they do not fit."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unified.finite import check_weights

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
    _check_file(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options beside the weights: plain data
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names a dozen types for broken and for unsafe pickles
        reason = _first_line(error)
        if reason.startswith("Weights only load failed"):  # a page of advice, on loading it all the same too
            found = re.search(r"GLOBAL (\S+)", str(error))
            reason = f"{f'it names {found[1]}' if found else 'not plain tensors'}; pickled code is not run"
        raise ValueError(f"{path}: not a readable torch file ({reason})") from None
    try:
        parts = {part: unwrap(loaded, part) for part in PARTS if _holds(loaded, part)}
        return parts if len(parts) > 1 else unwrap(loaded)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file. ValueError (one line) if it is missing, truncated or malformed."""
    _check_file(Path(path))
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({_first_line(error)})") from None


def _check_file(path: Path) -> None:
    """ValueError for what stands in a file's place where a download failed."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            head = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({_first_line(error)})") from None
    if not head:
        raise ValueError(f"{path}: the file is empty")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: a Git LFS pointer, not the weights: fetch them with `git lfs pull`")
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ValueError(f"{path}: a web page, not weights: download the file itself")


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


def load_strict(
    module: nn.Module,
    state_dict: Mapping[str, Tensor],
    rename: Callable[[str], str] | None = None,
    ignore: Collection[str] = (),
) -> None:
    """Copy a state dict into a module. `rename` maps an official name to the module's; `ignore` are official
    names.

    Raises ValueError with a short reason, and changes nothing, unless names and shapes agree exactly.
    """
    official = {name: value for name, value in state_dict.items() if name not in ignore}
    renamed = {name: rename(name) if rename else name for name in official}
    ours = module.state_dict()
    skipped = {rename(name) if rename else name for name in ignore}
    back = {new: old for old, new in renamed.items()}
    expected = {back.get(name, name): value for name, value in ours.items() if name not in skipped}
    check_fit(expected, official)
    module.load_state_dict({renamed[name]: value for name, value in official.items()}, strict=not skipped)


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """ValueError, in one line, unless both have the same names and shapes and all weights are finite."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if missing or unexpected:
        reasons = []
        if missing:
            reasons.append(f"{len(missing)} of {len(expected)} weights are missing (first: {missing[0]})")
        if unexpected:
            reasons.append(f"{len(unexpected)} are unexpected (first: {unexpected[0]})")
        hint = _depth_hint(expected, found)
        raise ValueError("weights do not fit: " + ", ".join(reasons) + (f"; {hint}" if hint else ""))
    for name, value in expected.items():
        if value.shape != found[name].shape:
            shapes = f"expected {tuple(value.shape)}, found {tuple(found[name].shape)}"
            raise ValueError(f"weights do not fit: {name}: {shapes}; is this another width?")
    check_weights(found)


def _depth_hint(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """The outermost numbered list of modules that differs in length."""
    wanted, got = _lengths(expected), _lengths(found)
    for prefix in sorted(wanted, key=lambda text: (text.count("."), text)):
        if prefix in got and got[prefix] != wanted[prefix]:
            return f"found {got[prefix]} of {prefix}.*, expected {wanted[prefix]}"
    return ""


def _lengths(names: Collection[str]) -> dict[str, int]:
    members: dict[str, set[str]] = {}
    for name in names:
        for match in re.finditer(r"\.(\d+)(?=\.)", name):
            members.setdefault(name[: match.start()], set()).add(match[1])
    return {prefix: len(indices) for prefix, indices in members.items()}


def _strip(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that all names have, in whatever order they were put around one another."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state_dict):
            return _strip({name.removeprefix(prefix): value for name, value in state_dict.items()})
    return state_dict


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:120] if text else type(error).__name__
