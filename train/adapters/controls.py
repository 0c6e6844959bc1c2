"""Trains a control: a part around frozen layers that has images follow a picture.

ECM (arXiv 2510.05610; `backbone.parts.scale_control`, with early-centric training) or ScaleWeaver (arXiv
2510.14882; `backbone.parts.reference_attention`). What is controlled by is made of the images themselves (the
edges, or a small copy) or lies beside them. Test: tests/train/adapters/test_controls.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from unified.tasks.outside.captions import read_captions
from unified.tasks.outside.images import SUFFIXES, is_foreign, read_image
from unified.tokenizers.images import to_images
from unified.train.adapters.rows import Rows, row_of, scores
from unified.train.adapters.tuning import TuningConfig, tune

from unified.apps.adapters import build_part, write_adapter
from unified.apps.conditions import EDGES, GIVEN, PATCH, SMALL, channels, edges, features, small
from unified.apps.controlled import LARGER
from unified.core_model import CoreModel
from unified.objectives.cross_entropy import CrossEntropy
from unified.objectives.early_centric import EarlyCentric
from unified.objectives.objective import Objective, Progress
from unified.stream.processor import Processor

LARGE = 4  # sides of a training crop that are kept of an image at most


@dataclass(frozen=True)
class Shown:
    """A picture uint8 [H, W, 3], what is said for it, and its condition, None where it is made of it."""

    picture: np.ndarray
    words: str
    condition: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """`kind` of the part, what it reads (`condition`), the `size` of the images, and of small pictures by
    which `factor` they are smaller."""

    kind: str = "scale_control"
    condition: str = EDGES
    size: int = 64
    factor: int = 2
    tuning: TuningConfig = field(default_factory=TuningConfig)

    def __post_init__(self) -> None:
        if self.condition == SMALL and not 2 <= self.factor <= self.size:
            raise ValueError(f"a small picture is smaller by a factor of 2 to {self.size}, got {self.factor}")


def captioned(folders: Sequence[Path], size: int, conditions: Path | None = None) -> list[Shown]:
    """The captioned images of folders as squares of `size` pixels. `conditions`: a folder that has a picture
    of the same name for each. ValueError, in one line, for the first that is missing or damaged."""
    found = []
    for folder in folders:
        for caption in read_captions(folder):
            condition = None
            if conditions is not None:
                condition = read_image(_beside(caption.path.relative_to(folder), conditions), size)
            found.append(Shown(caption.image(size), caption.text, condition))
    return found


def _beside(name: Path, folder: Path) -> Path:
    """The picture of a folder that is called as another, whatever its ending. ValueError without one."""
    paths = [folder / name.with_suffix(ending) for ending in (name.suffix, *SUFFIXES)]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise ValueError(f"{folder}: no picture {name.with_suffix('')}.png (or another ending)")
    return found


def pictures_of(places: Sequence[Path]) -> list[Path]:
    """Picture files, and those in folders. ValueError for a place without any."""
    found: list[Path] = []
    for place in places:
        inside = [place]
        if place.is_dir():
            every = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
            inside = [path for path in every if not is_foreign(path.relative_to(place))]
        elif not place.is_file():
            raise ValueError(f"{place}: no such file or folder")
        if not inside:
            raise ValueError(f"{place}: no pictures in it")
        found.extend(inside)
    return found


def plain_pictures(places: Sequence[Path], size: int) -> list[Shown]:
    """Pictures without words, with sides of at least `size` pixels, to be cropped."""
    found = []
    for path in pictures_of(places):
        picture = Image.fromarray(read_image(path))
        scale = max(size / min(picture.size), min(1.0, LARGE * size / max(picture.size)))
        sides = [max(size, round(side * scale)) for side in picture.size]
        found.append(Shown(np.asarray(picture.resize((sides[0], sides[1]))), LARGER))
    return found


def cropped(picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square of `size` pixels at a random place."""
    top, left = (int(rng.integers(side - size + 1)) for side in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + size, left : left + size])


def part_for(model: CoreModel, kind: str) -> tuple[Any, dict[str, Any]]:
    """A new part of a kind for a model, and its options: scale control before every second layer, reference
    attention before those of the first half."""
    width, layers = model.width, model.layer_count
    options: dict[str, Any] = {"width": width, "control": channels()}
    options["heads"] = next(heads for heads in (8, 6, 4, 3, 2, 1) if width % heads == 0)
    if kind == "scale_control":
        options |= {"inner": width, "layers": list(range(0, layers, 2))}
    else:
        options |= {"rank": min(32, channels()), "layers": list(range(max(1, layers // 2)))}
    return build_part(kind, options).to(model.device), options


def given_steps(shapes: Sequence[tuple[int, int]], factor: int) -> int:
    """How many maps a picture smaller by a factor gives (`controlled.given_maps`): they are not trained."""
    return sum(max(shape) <= max(shapes[-1]) / factor for shape in shapes[:-1])


def train_control(
    model: CoreModel,
    processor: Processor,
    data: Sequence[Shown],
    config: ControlConfig,
    out: Path,
    log: Callable[[str], None] = print,
) -> list[float]:
    """Train a control on pictures and write it to a file; the loss of every step, in nats a code."""
    rng = np.random.default_rng(config.tuning.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.tuning.seed)
        part, options = part_for(model, config.kind)
    objective: Objective = CrossEntropy() if config.condition == SMALL else EarlyCentric()
    frozen = [p for p in model.parameters() if p.requires_grad]
    model.eval().requires_grad_(False)

    def loss_of(step: int) -> Tensor:
        rows, read, first = _batch(model, processor, data, config, rng)
        batch = objective.prepare({"rows": len(rows.ids)}, Progress(step=step, seed=config.tuning.seed))
        found = scores(model, rows, [part.reading(read, rows.plan)], first)
        return objective.loss(found, None, batch).loss

    try:
        losses = tune([list(part.parameters())], loss_of, config.tuning, log)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    told = {"part": options, "condition": config.condition, "patch": PATCH}
    told |= {"factor": config.factor} if config.condition == SMALL else {}
    write_adapter(out, model, config.kind, nn.ModuleDict({"part": part}), told)
    return losses


def _batch(
    model: CoreModel,
    processor: Processor,
    data: Sequence[Shown],
    config: ControlConfig,
    rng: np.random.Generator,
) -> tuple[Rows, Tensor, int]:
    """Rows of a step, the features [B, T, C] of their conditions, and the first step that is trained."""
    chosen = [data[int(n)] for n in rng.integers(len(data), size=config.tuning.rows)]
    pictures = [one.picture for one in chosen]
    if config.condition == SMALL:
        pictures = [cropped(picture, config.size, rng) for picture in pictures]
        shown = [small(picture, config.factor) for picture in pictures]
    elif config.condition == GIVEN:
        shown = [one.condition for one in chosen if one.condition is not None]
    else:
        shown = [edges(picture) for picture in pictures]
    pairs = zip(chosen, pictures, strict=True)
    rows = Rows.of([row_of(processor, one.words, picture) for one, picture in pairs], model)
    read = features(to_images(np.stack(shown)), rows.plan).to(model.device)
    first = given_steps(rows.plan.shapes, config.factor) if config.condition == SMALL else 0
    return rows, read, first
