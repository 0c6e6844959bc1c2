"""Folders of published visual tokenizers (config.json and weights, as `verify` reads them) behind the
interface of all visual tokenizers.

LlamaGen, VAR, FlexVAR, Infinity, GigaTok, Hita and LARP. FVQ's is a codebook without networks of pixels, and
Selftok's works on the latents of another autoencoder: both are refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from unified.checkpoints.folder import read_config, read_state

Config = Mapping[str, Any]


def load_published(folder: Path) -> Any:
    """In eval mode, frozen. ValueError, in one line, for a folder of no known tokenizer."""
    config = read_config(folder)
    for name, load in LOADERS.items():
        if import_module(f"unified.checkpoints.{name}").matches(config, folder):
            return load(folder, config).eval().requires_grad_(False)
    raise ValueError(f"{folder}: config.json is of no published tokenizer that is known here")


def _var(folder: Path, config: Config) -> Any:
    from unified.checkpoints.var_tokenizer import load

    return load(config, read_state(folder, config))


def _flexvar(folder: Path, config: Config) -> Any:
    from unified.checkpoints.flexvar_tokenizer import load

    return load(config, read_state(folder, config))


def _llamagen(folder: Path, config: Config) -> Any:
    from unified.checkpoints.llamagen_tokenizer_verify import load

    return load(folder)


def _infinity(folder: Path, config: Config) -> Any:
    from unified.checkpoints.infinity_tokenizer_verify import load

    return load(folder)


def _gigatok(folder: Path, config: Config) -> Any:
    from unified.checkpoints.gigatok.tokenizer import of_network
    from unified.checkpoints.gigatok.verify import config_of, load

    return of_network(load(folder), config_of(config, read_state(folder, config)))


def _hita(folder: Path, config: Config) -> Any:
    from unified.checkpoints.hita.tokenizer import of_network
    from unified.checkpoints.hita.verify import config_of, load

    return of_network(load(folder), config_of(config, read_state(folder, config)))


def _larp(folder: Path, config: Config) -> Any:
    from unified.checkpoints.larp.tokenizer import of_network
    from unified.checkpoints.larp.verify import load

    return of_network(load(folder))


def _refused(reason: str) -> Callable[[Path, Config], Any]:
    def refuse(folder: Path, config: Config) -> Any:
        raise ValueError(f"{folder}: {reason}")

    return refuse


LOADERS: dict[str, Callable[[Path, Config], Any]] = {
    "llamagen_tokenizer_verify": _llamagen,
    "var_tokenizer": _var,
    "flexvar_tokenizer": _flexvar,
    "infinity_tokenizer_verify": _infinity,
    "gigatok.verify": _gigatok,
    "hita.verify": _hita,
    "larp.verify": _larp,
    "fvq.verify": _refused("FVQ's published folder is a codebook, without networks that read images"),
    "selftok.verify": _refused("Selftok's published networks read the latents of another autoencoder"),
}
