"""Reading published weights: files, wrappers, and short reasons when they do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPERS = ("model", "state_dict", "trainer", "vae_local")
PREFIXES = ("module.", "_orig_mod.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors, .pt, .pth or .bin file, outer wrappers removed.

    Raises ValueError (one line) if the file is missing, truncated or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix not in (".pt", ".pth", ".bin"):
        raise ValueError(f"{path}: weights end in .safetensors, .pt, .pth or .bin")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names a dozen types for broken and for unsafe pickles
        raise ValueError(f"{path}: not a readable torch file ({_first_line(error)})") from None
    return unwrap(loaded)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file. ValueError (one line) if it is missing, truncated or malformed."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({_first_line(error)})") from None


def unwrap(loaded: object, wrappers: Collection[str] = WRAPPERS) -> dict[str, Tensor]:
    """The state dict inside a training checkpoint: `wrappers` are followed inwards, common prefixes
    stripped."""
    while isinstance(loaded, Mapping):
        inner = next((key for key in wrappers if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = loaded[inner]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ValueError(f"expected a state dict, found {type(loaded).__name__}")
    wrong = next((name for name, value in loaded.items() if not isinstance(value, Tensor)), None)
    if wrong is not None:
        raise ValueError(
            f"expected a state dict of tensors, found {type(loaded[wrong]).__name__} under {str(wrong)!r}"
        )
    return _strip({str(name): value for name, value in loaded.items()})


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
    """ValueError, in one line, unless both have the same names and shapes."""
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
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state_dict):
            state_dict = {name.removeprefix(prefix): value for name, value in state_dict.items()}
    return state_dict


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:120] if text else type(error).__name__
