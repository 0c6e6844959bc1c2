"""Small adapters as files: what was learnt beside a frozen base (a control, a subject, a style), without the
base.

A file is one .safetensors with a kind, its options and the hash of the base's weights in its header, so that
it is not used with another base. `AdapterSet` adds changes of weights to a base (ARBooth, arXiv 2504.02612,
tunes some of them), several at once, and takes them away again: the weights are then the same bits as before.
Parts around layers (`backbone.parts`) need no taking away: a pass that is not handed one runs without it.
Adapters in the form of `peft`: `unified.adapters`. Test: tests/unified/test_adapter_files.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unified.backbone.parts import CONTROLS, PARTS
from unified.text_files import content_of
from unified.weight_files import check_file, check_fit, load_strict, read_safetensors

SHOWN = 12  # digits of a hash in messages
KINDS = {**PARTS, **CONTROLS}  # of parts around layers


@dataclass(frozen=True)
class AdapterFile:
    """`kind` and `options` say what the `tensors` are for; `base`: the hash of the weights that they were
    learnt beside (`fingerprint`), and `base_name`, what those are called."""

    kind: str
    tensors: Mapping[str, Tensor]
    base: str
    base_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights and buffers of a module, in hexadecimal."""
    found = sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def base_hash(module: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all weights and buffers, the values rounded to bfloat16, in
    hexadecimal: a base that is loaded in float32 and in bfloat16 has the same. ValueError for weights in
    float16, whose rounding is another."""
    found = sha256()
    for name, value in sorted(module.state_dict().items()):
        if value.dtype == torch.float16:
            raise ValueError("adapters are for models in float32 or bfloat16, not in float16: choose --dtype")
        held = value.detach().cpu().contiguous().view(-1)
        held = held.to(torch.bfloat16).view(torch.int16) if held.is_floating_point() else held.long()
        found.update(f"{name}|{tuple(value.shape)}|".encode())
        found.update(held.numpy().tobytes())
    return found.hexdigest()


def save_adapter(path: Path, adapter: AdapterFile) -> None:
    """Write an adapter to a .safetensors file."""
    header = {
        "kind": adapter.kind,
        "options": json.dumps(dict(adapter.options)),
        "base": adapter.base,
        "base_name": adapter.base_name,
    }
    save_file({name: value.detach().contiguous() for name, value in adapter.tensors.items()}, path, header)


def read_adapter(path: Path, base: str | None = None, base_name: str = "this model") -> AdapterFile:
    """An adapter of a file. ValueError, in one line, if the file holds none, or if it belongs to a base of
    another hash than `base` (None: any)."""
    tensors = read_safetensors(Path(path))
    check_file(Path(path))
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
    missing = [name for name in ("kind", "options", "base") if name not in header]
    if missing:
        raise ValueError(f"{path}: not an adapter: its header lacks {', '.join(missing)}")
    if base is not None and header["base"] != base:
        made = header.get("base_name") or "a model"
        raise ValueError(
            f"{path}: made for {made} ({header['base'][:SHOWN]}), but {base_name} is {base[:SHOWN]}"
        )
    with content_of(path):
        options = json.loads(header["options"])
    return AdapterFile(header["kind"], tensors, header["base"], header.get("base_name", ""), options)


# Parts around layers ----------------------------------------------------------------------------------------


def save_part(path: Path, kind: str, part: nn.Module, base: nn.Module, **options: Any) -> None:
    """Write a part of `PARTS` or `CONTROLS` that was built with these options beside a base."""
    if kind not in KINDS:
        raise ValueError(f"unknown part {kind!r}: registered are {', '.join(KINDS)}")
    save_adapter(path, AdapterFile(kind, part.state_dict(), fingerprint(base), type(base).__name__, options))


def load_part(path: Path, base: nn.Module) -> nn.Module:
    """The part of a file. ValueError if it is of another base, or of no registered kind."""
    found = read_adapter(path, fingerprint(base), f"this {type(base).__name__}")
    if found.kind not in KINDS:
        raise ValueError(f"{path}: a part of unknown kind {found.kind!r}: registered are {', '.join(KINDS)}")
    with content_of(path):
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in found.options.items()}
        part = KINDS[found.kind](**options)
        load_strict(part, found.tensors)
    return part


# Changes of weights -----------------------------------------------------------------------------------------


def difference(tuned: nn.Module, base: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """What tuning added to these weights, in float32."""
    mine, other = tuned.state_dict(), base.state_dict()
    return {name: mine[name].float() - other[name].float() for name in names}


class AdapterSet:
    """Named changes that are added to the weights of a base, which stays the same module. The sum, in float32
    at least, is over those in the set, in the order in which they came. Weights that are not changed are
    never touched. `digest`: the hash of the base by which its files know it (default: `fingerprint`)."""

    def __init__(self, base: nn.Module, digest: str | None = None) -> None:
        self.base, self.hash = base, digest or fingerprint(base)
        self._originals: dict[str, Tensor] = {}
        self._changes: dict[str, Mapping[str, Tensor]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._changes)

    def add(self, name: str, changes: Mapping[str, Tensor]) -> None:
        """Add changes by the names of weights. ValueError, and nothing is changed, for a name that is taken,
        unknown weights or other shapes."""
        weights = self.base.state_dict()
        if name in self._changes:
            raise ValueError(f"an adapter called {name!r} is in the set: remove it first")
        unknown = [key for key in changes if key not in weights]
        if unknown:
            raise ValueError(f"the adapter {name!r} changes {unknown[0]}, which the base does not have")
        check_fit({key: weights[key] for key in changes}, changes)
        for key in changes:
            self._originals.setdefault(key, weights[key].detach().clone())
        self._changes[name] = dict(changes)
        self._write(changes)

    def load(self, name: str, path: Path) -> AdapterFile:
        """Add the changes of a file; tensors that its option `beside` names are no changes of weights but for
        the caller. ValueError if it belongs to another base."""
        found = read_adapter(path, self.hash, f"this {type(self.base).__name__}")
        beside = found.options.get("beside", [])
        self.add(name, {key: value for key, value in found.tensors.items() if key not in beside})
        return found

    def remove(self, name: str) -> None:
        """Take an adapter away. Weights that no other one changes are what they were, bit for bit."""
        if name not in self._changes:
            raise ValueError(f"no adapter called {name!r} is in the set: it has {', '.join(self.names)}")
        changes = self._changes.pop(name)
        self._write(changes)
        for key in changes:
            if not any(key in other for other in self._changes.values()):
                del self._originals[key]

    @torch.no_grad()
    def _write(self, keys: Mapping[str, Tensor]) -> None:
        weights = self.base.state_dict()
        for key in keys:
            total = self._originals[key]
            for changes in self._changes.values():
                if key in changes:
                    exact = torch.promote_types(total.dtype, torch.float32)
                    total = total.to(exact) + changes[key].to(total.device, exact)
            weights[key].copy_(total)
