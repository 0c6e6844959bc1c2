"""Adapters of a loaded model: small files that are put beside it and taken away again.

A file (`unified.adapter_files`) has one of these kinds:

    scale_control, reference_attention   a control by a picture (`apps.controlled`): ECM, ScaleWeaver
    subject                              a word for what a few pictures show: low-rank changes (ARBooth)
    style                                memories of a style and of a content (CSD-VAR)

Several may be loaded at once: changes of weights add up, memories and controls stand one after the other. A
model without adapters, or after the last was removed, computes the same bits as before the first. Tests:
tests/unified/apps/test_adapters.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unified.adapter_files import AdapterFile, AdapterSet, base_hash, read_adapter, save_adapter
from unified.apps.conditions import CONDITIONS, channels
from unified.backbone.layer_pass import LayerPart
from unified.backbone.parts import CONTROLS, PARTS
from unified.core_model import CoreModel
from unified.finite import check_count
from unified.low_rank import LowRank, LowRankConfig, changes_of
from unified.text_files import content_of
from unified.weight_files import check_fit

SUBJECT, STYLE = "subject", "style"
MEMORIES = ("style", "content")  # the parts of a style's file, in the order of its maps
KINDS = (*CONTROLS, SUBJECT, STYLE)


@dataclass(frozen=True)
class Adapter:
    """A loaded adapter: its kind, what its file says besides, and its `modules` by name."""

    kind: str
    options: Mapping[str, Any]
    modules: Mapping[str, nn.Module] = field(default_factory=dict)


class Adapters:
    """The adapters of one model by name, in the order in which they were loaded. To be made before the
    weights are changed: the hash by which files know the base is taken here."""

    def __init__(self, model: CoreModel, name: str = "this model") -> None:
        self.model, self.base, self.name = model, base_hash(model), name
        self._changes = AdapterSet(model, self.base)
        self._loaded: dict[str, Adapter] = {}

    @property
    def names(self) -> list[str]:
        return list(self._loaded)

    def __getitem__(self, name: str) -> Adapter:
        return self._loaded[name]

    def load(self, path: str | Path, name: str | None = None, only: str | None = None) -> str:
        """Put the adapter of a file beside the model; the name that it has from now on, by default the
        file's. `only`: of a style's file, "style" or "content". ValueError, in one line, and nothing is
        changed, for what is no adapter of this base, a damaged file, or a name that is taken."""
        path = Path(path)
        name = path.stem if name is None else name
        if name in self._loaded:
            raise ValueError(f"an adapter called {name!r} is loaded: remove it or choose another name")
        found = read_adapter(path, self.base, self.name)
        if found.kind not in KINDS:
            raise ValueError(f"{path}: unknown kind of adapter {found.kind!r}: known are {', '.join(KINDS)}")
        if only is not None and (found.kind != STYLE or only not in MEMORIES):
            raise ValueError(f"{path}: a {found.kind} adapter has no part {only!r}")
        with content_of(path):
            if found.kind == SUBJECT:
                config = LowRankConfig(rank=found.options["rank"], alpha=found.options["alpha"])
                self._changes.add(name, changes_of(found.tensors, config.scale))
                self._fuse()
                self._loaded[name] = Adapter(found.kind, found.options)
            else:
                modules = self._modules(found)
                kept = {key: modules[key] for key in modules if only in (None, key)}
                self._loaded[name] = Adapter(found.kind, found.options, kept)
        return name

    def remove(self, name: str) -> None:
        """Take an adapter away. ValueError if there is none of this name."""
        if name not in self._loaded:
            there = ", ".join(self.names) or "none"
            raise ValueError(f"no adapter called {name!r} is loaded: loaded are {there}")
        if self._loaded.pop(name).kind == SUBJECT:
            self._changes.remove(name)
            self._fuse()

    @property
    def parts(self) -> list[LayerPart]:
        """What every image is drawn with: the memories that are loaded."""
        styles = [adapter for adapter in self._loaded.values() if adapter.kind == STYLE]
        return [module for adapter in styles for module in adapter.modules.values()]  # type: ignore[misc]

    def control(self, *conditions: str) -> Adapter:
        """The control that was loaded last, of those that read one of these conditions. ValueError if there
        is none."""
        controls = [adapter for adapter in self._loaded.values() if adapter.kind in CONTROLS]
        fitting = [adapter for adapter in controls if adapter.options.get("condition") in conditions]
        if fitting:
            return fitting[-1]
        if controls:
            read = controls[-1].options.get("condition")
            raise ValueError(f"the adapter reads the condition {read!r}, not {' or '.join(conditions)}")
        raise ValueError(
            "no adapter is loaded that reads a picture: name one (--adapter FILE), as "
            f"`python -m unified.train {'upscale' if 'small' in conditions else 'control'}` trains it"
        )

    def _modules(self, found: AdapterFile) -> dict[str, nn.Module]:
        """The parts of a file, filled, on the model's device and in its type."""
        if found.kind == STYLE:
            configs = {name: ("scale_memory", found.options[name]) for name in MEMORIES}
        else:
            check_condition(found.options)
            configs = {"part": (found.kind, found.options["part"])}
        with torch.device("meta"):  # a spoilt file may ask for any number of weights
            made = nn.ModuleDict({name: build_part(*config) for name, config in configs.items()})
        check_fit(made.state_dict(), found.tensors)
        made.load_state_dict(dict(found.tensors), assign=True)
        for module in made.values():
            check_part(module, self.model)
            module.to(device=self.model.device, dtype=self.model.dtype).eval().requires_grad_(False)
        return dict(made.items())

    def _fuse(self) -> None:
        """Copies of weights, which a fused model runs, are made anew."""
        if self.model.fused is not None:
            self.model.fuse()


def build_part(kind: str, options: Mapping[str, Any]) -> nn.Module:
    """A part of `PARTS` or `CONTROLS` of options as a file holds them."""
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    return {**PARTS, **CONTROLS}[kind](**told)


def check_condition(options: Mapping[str, Any]) -> None:
    """ValueError unless the options of a control say what it reads, and in how many features a slot."""
    if options["condition"] not in CONDITIONS:
        raise ValueError(
            f"condition must be one of {', '.join(CONDITIONS)}, got {options['condition']!r:.60}"
        )
    check_count("patch", options["patch"], 1)
    if options["part"]["control"] != channels(options["patch"]):
        raise ValueError(f"a patch of {options['patch']} has {channels(options['patch'])} features")


def check_part(part: nn.Module, model: CoreModel) -> None:
    """ValueError for layers that the model does not have, or another width."""
    config: Any = part.config
    config = getattr(config, "memory", config)
    if max(config.layers, default=0) >= model.layer_count or min(config.layers, default=0) < 0:
        raise ValueError(f"it stands in layers {config.layers}, the model has {model.layer_count}")
    if getattr(config, "width", model.width) != model.width:
        raise ValueError(f"it is for hidden states of width {config.width}, the model's is {model.width}")


def write_adapter(
    path: Path, model: CoreModel, kind: str, made: nn.ModuleDict | LowRank, options: Mapping[str, Any]
) -> None:
    """Write what was trained beside a model, which must have its own weights, to a file."""
    tensors = made.tensors() if isinstance(made, LowRank) else made.state_dict()
    name = Path(model.name_or_path or "").name or type(model).__name__
    save_adapter(path, AdapterFile(kind, tensors, base_hash(model), name, options))
