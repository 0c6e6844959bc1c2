"""A golden folder: `config.json`, `io.safetensors`, and weights that are stored or given by a formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from unified.checkpoints.formula_weights import formula_weights
from unified.checkpoints.state_dict import read_safetensors, read_weights
from unified.text_files import read_object


def prefixes(folder: Path) -> list[str]:
    """What stands before the names of a folder's files, "" first: "full_" where there is full_config.json."""
    found = [path.name.removesuffix("config.json") for path in sorted(Path(folder).glob("*config.json"))]
    return sorted(prefix for prefix in found if not prefix or prefix.endswith("_"))


def read_config(folder: Path, prefix: str = "", needed: Sequence[str] = ()) -> dict[str, Any]:
    """ValueError (one line) if config.json is missing, no JSON object, or has not all that is `needed`.
    `prefix`: see `prefixes`."""
    path = Path(folder) / f"{prefix}config.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    config = read_object(path)
    missing = [name for name in needed if name not in config]
    if missing:
        raise ValueError(f"{folder}: config.json has no {missing[0]}")
    return config


def read_io(folder: Path) -> dict[str, Tensor]:
    """Inputs and outputs by name. ValueError (one line) if io.safetensors is missing or malformed."""
    return read_safetensors(Path(folder) / "io.safetensors")


def read_state(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The stored weights, or those of the formula over `state_dict_manifest` where no file is stored."""
    path = Path(folder) / "weights.safetensors"
    if path.is_file() or not has_formula(folder, config):
        return read_weights(path)
    manifest = config["state_dict_manifest"]
    if not isinstance(manifest, dict) or not all(isinstance(shape, list) for shape in manifest.values()):
        raise ValueError(f"{folder}: state_dict_manifest must map names to shapes")
    return formula_weights(manifest)


def has_formula(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether the weights are computed and not stored."""
    return "state_dict_manifest" in config and not (Path(folder) / "weights.safetensors").is_file()


def is_vargpt(config: Mapping[str, Any]) -> bool:
    """Whether a folder's config.json is that of VARGPT-v1.1."""
    tokens = config.get("special_tokens")
    return isinstance(tokens, dict) and "image_gen_start_token_id" in tokens


def holds_vargpt(folder: Path) -> bool:
    """Whether a folder holds VARGPT-v1.1. It is asked of every model that is loaded, so nothing of that model
    is imported here."""
    return (folder / "config.json").is_file() and is_vargpt(read_config(folder))


def options(config: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The options under `name`, with the published defaults `known`; ValueError for one that is unknown."""
    given = config.get(name, {})
    if not isinstance(given, dict):
        raise ValueError(f"{name} must be an object, found {type(given).__name__}")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{name} has an unknown option {unknown[0]!r}: known are {', '.join(known)}")
    return {**known, **given}


def check_normalisation(config: Mapping[str, Any]) -> None:
    """ValueError unless normalisation is what all published tokenizers use: 32 groups, eps 1e-6."""
    groups, eps = config.get("norm_num_groups", 32), config.get("norm_eps", 1e-6)
    if groups != 32 or eps != 1e-6:
        raise ValueError(f"normalisation must have 32 groups and eps 1e-06, got {groups} and {eps}")
