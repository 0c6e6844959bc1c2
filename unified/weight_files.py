"""Files of weights (.safetensors), and weights that must fit a module: short reasons when they do not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unified.finite import check_weights
from unified.text_files import content_of, read_object
from unified.tokenizers.stand_ins import check_file

Module = TypeVar("Module", bound=nn.Module)
MAKERS = (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand, torch.full)
SPARE = 2**24  # numbers that a module may make beside its weights


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file. ValueError (one line) if it is missing, truncated or malformed."""
    check_file(Path(path))
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({first_line(error)})") from None


def load_weights(
    module: nn.Module,
    path: Path,
    rename: Callable[[str], str] | None = None,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Fill a module (`load_strict`) from a .safetensors file or, where an index stands in its place, from the
    files that the index names. `change` makes the module's state of what was read. ValueError, in one line,
    names the file."""
    state = {name: value for part in _parts(path) for name, value in read_safetensors(part).items()}
    state = change(state) if change else state
    try:
        load_strict(module, state, rename)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def built(
    build: Callable[[], Module],
    path: Path,
    rename: Callable[[str], str] | None = None,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> Module:
    """The module that `build` makes, with the weights of a file (`load_weights`). ValueError, in one line, if
    they do not fit. A spoilt configuration may ask for any number of weights: one that asks for far more than
    the file holds is not built, but told what does not fit (`check_shapes`)."""
    held = sum(math.prod(shape) for part in _parts(path) for shape in _shapes(part).values())
    try:
        with _AtMost(SPARE + 4 * held):
            module = build()
    except _TooManyError:
        check_shapes(build, path, rename, change)
        module = build()
    load_weights(module, path, rename, change)
    return module


class _TooManyError(MemoryError):  # one that `content_of` lets through
    pass


class _AtMost(TorchFunctionMode):
    """Within it tensors of so many numbers in all can be made, then `_TooManyError` is raised, before memory
    is taken."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in MAKERS:
            sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
            self.left -= math.prod(size for size in sizes if isinstance(size, int))
            if self.left < 0:
                raise _TooManyError
        return func(*args, **(kwargs or {}))


def check_shapes(
    build: Callable[[], nn.Module],
    path: Path,
    rename: Callable[[str], str] | None = None,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """ValueError, in one line, unless the module that `build` would make has the names and shapes in the
    headers of the files of `load_weights`. No memory is taken for weights: a spoilt configuration may ask for
    any number of them."""
    with torch.device("meta"):
        module = build()
    found: dict[str, Tensor] = {}
    for part in _parts(path):
        found |= {name: torch.empty(shape, device="meta") for name, shape in _shapes(part).items()}
    found = change(found) if change else found
    try:
        check_fit(_expected(module, found, rename), found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _shapes(part: Path) -> dict[str, list[int]]:
    """The shapes in the header of a file. ValueError, in one line, if it cannot be read."""
    check_file(part)
    try:
        with safe_open(part, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{part}: not a readable safetensors file ({first_line(error)})") from None


def _parts(path: Path) -> list[Path]:
    index = path.with_name(path.name + ".index.json")
    if path.is_file() or not index.is_file():
        return [path]
    with content_of(index):
        return [path.with_name(name) for name in sorted(set(read_object(index)["weight_map"].values()))]


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
    check_fit(_expected(module, official, rename, ignore), official)
    renamed = {rename(name) if rename else name: value for name, value in official.items()}
    module.load_state_dict(renamed, strict=not ignore)


def _expected(
    module: nn.Module,
    official: Collection[str],
    rename: Callable[[str], str] | None,
    ignore: Collection[str] = (),
) -> dict[str, Tensor]:
    """The weights of a module under their official names."""
    skipped = {rename(name) if rename else name for name in ignore}
    back = {rename(name) if rename else name: name for name in official}
    return {back.get(name, name): value for name, value in module.state_dict().items() if name not in skipped}


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
