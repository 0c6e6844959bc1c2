"""What every visual tokenizer offers: pixels to codes on any list of grids, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .resize import Shape


class VisualTokenizer(Protocol):
    """Images are [B, 3, H, W] in [-1, 1] with H and W multiples of `stride`; ids int64 in [0, codes)."""

    codes: int
    dim: int
    stride: int

    def encode(self, images: Tensor, shapes: Sequence[Shape] | None = None) -> list[Tensor]:
        """Ids [B, h * w] per map, coarse to fine."""
        ...

    def decode_maps(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """Images from the ids of the maps that `read_shapes` names, or of the whole schedule."""
        ...

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """Images [B, 3, h * stride, w * stride] from a map of code vectors, or of their sum, [B, dim,
        h, w]."""
        ...

    def vectors(self, ids: Tensor) -> Tensor:
        """Code vectors [..., dim] of ids [...]."""
        ...

    def codebook(self) -> Tensor:
        """The table [codes, dim] that `vectors` reads."""
        ...

    def transformer_inputs(self, ids: Sequence[Tensor], shapes: Sequence[Shape]) -> Tensor:
        """What next-scale prediction is fed: [B, tokens after the first map, dim]."""
        ...

    def read_shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """The maps of a schedule that an image is read from."""
        ...


def alone(values: Tensor) -> Tensor:
    """What one process gathers: its own values."""
    return values


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where training stands: `step` of `steps`, from 0; `features` [B, C, h, w] of a teacher, if there is
    one; `noise` for draws of this process, `shared` for draws that all processes make alike (both on the CPU,
    new at every step); `gather` concatenates the values [N, ...] of all processes."""

    step: int = 0
    steps: int = 1
    features: Tensor | None = None
    noise: torch.Generator | None = None
    shared: torch.Generator | None = None
    gather: Callable[[Tensor], Tensor] = alone

    @property
    def progress(self) -> float:
        """In [0, 1)."""
        return self.step / self.steps


START = Moment()


@dataclass(frozen=True, eq=False)
class Book:
    """A table of codes whose rows can be moved: its parameter [codes, dim], the only map of a training pass
    that holds its codes (None: all do), the id of its first row there, and whether rows are used with length
    1."""

    weight: Tensor
    only: int | None = None
    first: int = 0
    unit: bool = True


class TrainableTokenizer(VisualTokenizer, Protocol):
    """What training asks beyond that: an `nn.Module` whose `table` is the codebook's (see `codebook.py`)."""

    table: Any

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...

    def train(self) -> Any: ...

    def eval(self) -> Any: ...

    def training_shapes(self, images: Tensor, count: int, generator: torch.Generator) -> list[Shape]:
        """The maps to train on in one step; `count` is how many may be drawn at random."""
        ...

    def training_pass(
        self, images: Tensor, shapes: Sequence[Shape], entropy: float = 0.0, moment: Moment = START
    ) -> TrainingPass:
        """One pass with gradient; `entropy` weighs the term that evens the use of codes."""
        ...


@dataclass(frozen=True)
class TrainingPass:
    """One pass of a tokenizer in training, with gradient.

    `images` are reconstructions, one per entry (each at its own size); `ids` [B, h * w] and the vectors that
    were quantised `candidates` [B * h * w, dim] (detached) go by scale; `loss` ties vectors and codes
    together, with whatever else a kind of tokenizer is trained by, whose parts are logged as `terms`. Without
    `images` the pass compares nothing with pixels: `loss` is all there is.
    """

    images: list[Tensor]
    ids: list[Tensor]
    candidates: list[Tensor]
    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


def check_images(images: Tensor, stride: int, channels: int = 3) -> None:
    """ValueError unless `images` is float [B, channels, H, W] with H and W multiples of `stride`."""
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"images must be [B, {channels}, H, W], got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be float in [-1, 1], got {images.dtype}: convert them with to_images")
    if images.shape[2] % stride or images.shape[3] % stride or 0 in images.shape:
        found = f"{images.shape[2]} x {images.shape[3]}"
        raise ValueError(f"height and width must be positive multiples of {stride}, got {found}")


def check_ids(ids: Tensor, codes: int) -> None:
    """ValueError unless `ids` are integers in [0, codes). Values are not read on a GPU, where that would wait
    for it."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"ids must be int64, got {ids.dtype}")
    if not ids.is_cuda and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < codes:
        raise ValueError(f"ids must lie in [0, {codes}), got {int(ids.min())} to {int(ids.max())}")


def check_maps(ids: Sequence[Tensor], shapes: Sequence[Shape]) -> None:
    """ValueError unless there is one id map of the right length for every shape."""
    found, expected = [item.shape[-1] for item in ids], [h * w for h, w in shapes]
    if found != expected:
        raise ValueError(f"the schedule needs maps of {expected} ids, got {found}")
