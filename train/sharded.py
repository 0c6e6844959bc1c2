"""Models that no process holds whole (ZeRO 3, FSDP2).

Where a stage begins, its weights are a file: the first process makes them in files that are mapped into
memory, every process builds the model without weights and takes its share of one tensor after the other. A
share is a run of a tensor's elements in order, so shares of ZeRO 3 and FSDP2 are saved alike, by every
process its own and without communication, and merged by copying bytes. No process ever holds more than its
share and one tensor.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from unified.train.average import local, rank
from unified.train.build import whole
from unified.train.tensor_file import Entry, as_bytes, write_tensors

PART = "part-{rank}-of-{count}.safetensors"
ADAPTER_SCALE = 2.0  # of `select.add_adapters`: alpha / rank


# First weights ----------------------------------------------------------------------------------------------


@contextmanager
def in_files(folder: Path) -> Iterator[None]:
    """Parameters that are made inside lie in files of `folder`, mapped into memory: the system may write them
    out and take the memory back."""
    register, count = nn.Module.register_parameter, 0

    def mapped(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        if parameter is not None and parameter.numel() and parameter.device.type == "cpu":
            path, count = folder / f"{count}.bin", count + 1
            size, dtype = parameter.numel(), parameter.dtype
            place = torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(parameter.shape)
            parameter.data = place.copy_(parameter.data)
        register(module, name, parameter)

    folder.mkdir(parents=True, exist_ok=True)
    nn.Module.register_parameter = mapped  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def write_first(make: Callable[[], nn.Module], path: Path) -> None:
    """The weights of `make()` in a file, without the model ever lying whole in the process's own memory."""
    scratch = path.with_suffix(".scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    with in_files(scratch):
        state = make().state_dict()
    write_tensors(path, {name: Entry.of(value) for name, value in state.items()})
    del state
    shutil.rmtree(scratch)


def without_weights(make: Callable[[], nn.Module]) -> nn.Module:
    """`make()` with parameters that take no memory, and with its buffers."""
    from accelerate import init_empty_weights

    with whole(), init_empty_weights(include_buffers=False):
        return make()


# Shares -----------------------------------------------------------------------------------------------------


def share_zero3(model: nn.Module, path: Path, config: Mapping[str, Any], *, bf16: bool) -> None:
    """Weights of a file into a model without weights, in place: each parameter is cut to pieces as soon as it
    is there. `config`: of DeepSpeed."""
    import deepspeed

    given = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": dict(config["zero_optimization"])}
    cutter = deepspeed.zero.Init(config_dict_or_path=given | {"bf16": {"enabled": bf16}})
    dtype = torch.bfloat16 if bf16 else torch.float32
    with safe_open(path, framework="pt") as file:
        for module, name, full in _parameters(model):
            old = getattr(module, name)
            value = file.get_tensor(full).to(dtype, copy=True)
            parameter = nn.Parameter(value, requires_grad=old.requires_grad)
            module.register_parameter(name, parameter)
            cutter._convert_to_zero_parameters([parameter])
        _fill_buffers(model, file)


def share_fsdp(model: nn.Module, path: Path, device: torch.device) -> None:
    """Weights of a file into a model without weights, in place, which FSDP2 manages from now on: every layer
    of the decoder is gathered when it runs, the rest for the whole pass."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    layers = getattr(model.backbone, "layers", None)
    for layer in layers or ():  # type: ignore[union-attr]
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    with safe_open(path, framework="pt") as file:
        state = {}
        named: Any = model.named_parameters()
        for name, parameter in named:
            rows = math.ceil(parameter.shape[0] / mesh.size())
            first = min(rank() * rows, parameter.shape[0])
            piece = file.get_slice(name)[first : first + rows].to(device, copy=True)
            state[name] = DTensor.from_local(
                piece, mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
            )
        model.load_state_dict(state, assign=True, strict=False)
        _fill_buffers(model, file)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    model._is_distributed_loading_by_transformers = True  # type: ignore[assignment]  # wrap it in no more
    model._is_fsdp_managed_module = True  # type: ignore[assignment]


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(module, name in it, name in the model) of every parameter."""
    for prefix, module in model.named_modules():
        for name in list(module._parameters):
            if module._parameters[name] is not None:
                yield module, name, f"{prefix}.{name}" if prefix else name


@torch.no_grad()
def _fill_buffers(model: nn.Module, file: Any) -> None:
    names = set(file.keys())
    for name, buffer in model.named_buffers():
        if name in names:
            buffer.copy_(file.get_tensor(name))


# Saving and merging -----------------------------------------------------------------------------------------


def save_shares(folder: Path, model: nn.Module, mean: Mapping[str, Tensor]) -> None:
    """What this process holds of every tensor, `mean` in place of the latest values where it has any, as flat
    pieces; shapes lie beside them. Of tensors that all processes hold, the first one writes all."""
    pieces, shapes = {}, {}
    for name, parameter in model.named_parameters():
        piece = mean.get(name, local(parameter)).detach().cpu().flatten()
        pieces[name] = piece.clone()
        shapes[name] = ",".join(map(str, getattr(parameter, "ds_shape", parameter.shape)))
    kept = model.state_dict(keep_vars=True).keys() - pieces.keys()
    for name, buffer in model.named_buffers():
        if name in kept and rank() == 0:
            pieces[name], shapes[name] = (
                buffer.detach().cpu().flatten().clone(),
                ",".join(map(str, buffer.shape)),
            )
    count = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pieces, folder / PART.format(rank=rank(), count=count), metadata=shapes)


class Shares:
    """The shares in a folder, read as whole tensors by name. ValueError if one is missing."""

    def __init__(self, folder: Path) -> None:
        found = sorted(
            folder.glob(PART.format(rank="*", count="*")), key=lambda part: int(part.name.split("-")[1])
        )
        count = int(found[0].stem.split("-")[-1]) if found else 0
        if not found or len(found) != count:
            raise ValueError(f"{folder}: {len(found)} of {count or 'all'} shares of the weights are there")
        files = [safe_open(part, framework="pt") for part in found]
        self.shapes = {name: _shape(text) for name, text in files[0].metadata().items()}
        self.holders = [(file, set(file.keys())) for file in files]

    def __call__(self, name: str) -> Tensor:
        pieces = [file.get_tensor(name) for file, names in self.holders if name in names]
        return torch.cat(pieces)[: math.prod(self.shapes[name])].view(self.shapes[name])

    def dtype(self, name: str) -> torch.dtype:
        file, _ = self.holders[0]
        found: torch.dtype = file.get_tensor(name).dtype
        return found

    def adapters(self) -> dict[str, Tensor]:
        """The tensors of LoRA alone."""
        return {name: self(name) for name in self.shapes if ".lora_" in name}


def merge(folder: Path, path: Path) -> None:
    """One file of whole tensors from the shares in `folder`, adapters added into their matrices. ValueError
    if a share is missing."""
    tensor = Shares(folder)
    entries = {}
    for name, shape in tensor.shapes.items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        adapted = None if plain == name else name.removesuffix("base_layer.weight")
        entries[plain] = Entry(tensor.dtype(name), shape, partial(_parts, tensor, name, adapted))
    write_tensors(path, entries)


def _parts(tensor: Callable[[str], Tensor], name: str, adapted: str | None) -> list[memoryview]:
    return [as_bytes(_merged(tensor, name, adapted))]


def _merged(tensor: Callable[[str], Tensor], name: str, adapted: str | None) -> Tensor:
    """A tensor, with the product of its adapters if it has any."""
    value = tensor(name)
    if adapted is None or not name.endswith(".weight"):
        return value
    down, up = (tensor(f"{adapted}lora_{side}.default.weight").float() for side in "AB")
    return (value.float() + ADAPTER_SCALE * (up @ down)).to(value.dtype)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)
