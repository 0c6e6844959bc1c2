"""Files of weights (.safetensors), and weights that must fit a module: short reasons when they do not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unified.finite import check_weights
from unified.text_files import content_of, read_object


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file. ValueError (one line) if it is missing, truncated or malformed."""
    check_file(Path(path))
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({first_line(error)})") from None


def check_file(path: Path) -> None:
    """ValueError for what stands in a file's place where a download failed."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            head = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({first_line(error)})") from None
    if not head:
        raise ValueError(f"{path}: the file is empty")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: a Git LFS pointer, not the weights: fetch them with `git lfs pull`")
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ValueError(f"{path}: a web page, not weights: download the file itself")


def load_weights(
    module: nn.Module,
    path: Path,
    rename: Callable[[str], str] | None = None,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Fill a module (`load_strict`) from a .safetensors file or, where an index stands in its place, from the
    files that the index names. `change` makes the module's state of what was read. ValueError, in one line,
    names the file."""
    index, parts = path.with_name(path.name + ".index.json"), [path]
    if index.is_file() and not path.is_file():
        with content_of(index):
            parts = [path.with_name(name) for name in sorted(set(read_object(index)["weight_map"].values()))]
    state = {name: value for part in parts for name, value in read_safetensors(part).items()}
    state = change(state) if change else state
    try:
        load_strict(module, state, rename)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


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


def first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:120] if text else type(error).__name__
