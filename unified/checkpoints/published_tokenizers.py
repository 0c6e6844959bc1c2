"""Folders of published visual tokenizers (config.json and weights, as `verify` reads them) behind the
interface of all visual tokenizers.

LlamaGen, VAR, FlexVAR, Infinity, GigaTok, Hita, LARP, FVQ and Selftok. Selftok works on the latents of
another autoencoder, whose folder (as diffusers saves it) must lie beside its weights as `vae`; a codebook of
FVQ without networks of pixels is refused in one line."""

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


def _fvq(folder: Path, config: Config) -> Any:
    from unified.checkpoints.fvq.published import load

    return load(folder, config)


def _selftok(folder: Path, config: Config) -> Any:
    from unified.checkpoints.selftok.published import load

    return load(folder, config)


LOADERS: dict[str, Callable[[Path, Config], Any]] = {
    "fvq.published": _fvq,  # before LlamaGen's, whose options it has too
    "llamagen_tokenizer_verify": _llamagen,
    "var_tokenizer": _var,
    "flexvar_tokenizer": _flexvar,
    "infinity_tokenizer_verify": _infinity,
    "gigatok.verify": _gigatok,
    "hita.verify": _hita,
    "larp.verify": _larp,
    "selftok.verify": _selftok,
}
