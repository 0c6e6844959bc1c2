"""A visual tokenizer of any kind, trained on one's own images: the recipe, and how it runs.

The folder of a run holds `recipe.json`, `log.jsonl`, `checkpoint.pt`, `sheets/`, `report.json` and, when it
is done, the tokenizer itself: `visual_config.json` and `visual.safetensors`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from unified.tokenizers.kinds import kind_of
from unified.tokenizers.losses import Perceptual
from unified.train.lock import alone
from unified.train.own_images import Pictures, Reading, as_floats, feed, prepared
from unified.train.processes import Processes, started
from unified.train.stored import to_json, write_text
from unified.train.teachers import Teacher, teacher_of
from unified.train.tokenizer import Surroundings, TokenizerTrainingConfig, train_tokenizer
from unified.train.tokenizer_sheets import Held, measured
from unified.train.tokenizer_state import Saving

from unified.stream.visual_files import VISUAL_CONFIG, load_visual, save_visual

MOST_HELD = 64  # images that are measured for every record


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """`paths` of images or clips and how they are read; `batch` of all processes together; `flip`: half of
    the images mirrored; `features`: a teacher's name, "" for none; `lpips`: files of a backbone and of linear
    weights, or none."""

    paths: tuple[str, ...]
    reading: Reading = field(default_factory=Reading)
    batch: int = 16
    flip: bool = False
    features: str = ""
    lpips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        if len(self.lpips) not in (0, 2):
            raise ValueError("lpips takes two files: a backbone and linear weights")


@dataclass(frozen=True, kw_only=True)
class OwnTokenizerRecipe:
    """`kind` of `tokenizers.kinds` and its configuration `network`."""

    kind: str
    network: Any
    inputs: Inputs
    training: TokenizerTrainingConfig = field(default_factory=TokenizerTrainingConfig)
    seed: int = 0
    save_every: int = 200
    sheet_every: int = 500

    def __post_init__(self) -> None:
        kind = kind_of(self.kind)
        if not isinstance(self.network, kind.config):
            raise ValueError(f"a {self.kind} tokenizer is configured by {kind.config.__name__}")
        if self.save_every < 1 or self.sheet_every < 0:
            raise ValueError("save_every must be at least 1, and sheet_every not negative")
        if kind.clips and not self.inputs.reading.frames:
            raise ValueError(f"a {self.kind} tokenizer is trained on clips: give frames")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a recipe runs: `workers` read files, `resume` goes on from a checkpoint. `say` prints a line."""

    out: Path
    workers: int = 1
    cpu: bool = False
    resume: bool = True
    say: Callable[[str], None] = print


def train_own(recipe: OwnTokenizerRecipe, place: Place) -> Path:
    """The folder of the trained tokenizer. An interrupted training goes on where it stopped; a finished one
    is left as it is. ValueError for a folder with another recipe."""
    with alone(place.out):
        processes = started(_device(place))
        if processes.rank == 0:
            _same_recipe(recipe, place)
        processes.wait()
        if not (place.out / VISUAL_CONFIG).is_file():
            _train(recipe, place, processes)
        processes.wait()
    return place.out


def _train(recipe: OwnTokenizerRecipe, place: Place, processes: Processes) -> None:
    device = _device(place)
    torch.manual_seed(recipe.seed)
    tokenizer = kind_of(recipe.kind).build(recipe.network).to(device)
    pictures = _pictures(recipe, place, processes)
    held = as_floats(pictures.array[_measured_rows(pictures)])
    given = Surroundings(
        perceptual=_perceptual(recipe, device),
        teacher=_teacher(recipe, tokenizer, device),
        processes=processes,
        measure=_telling(
            Held(held, place.out / "sheets", recipe.sheet_every, recipe.training.steps), recipe, place
        ),
    )
    saving = Saving(place.out / "checkpoint.pt", every=recipe.save_every)
    if processes.rank == 0:
        place.say(_told(tokenizer, recipe, pictures, saving.step()))
    train_tokenizer(
        tokenizer,
        _batches(recipe, pictures, processes, saving.step(), device),
        recipe.training,
        generator=torch.Generator().manual_seed(recipe.seed),
        log=place.out / "log.jsonl",
        saving=saving,
        given=given,
    )
    if processes.rank == 0:
        _finish(tokenizer.cpu(), held, place)


def _finish(tokenizer: Any, held: Tensor, place: Place) -> None:
    """Measured as it will be loaded."""
    teacher = getattr(tokenizer, "teacher", None)
    part = place.out / "finished"
    save_visual(tokenizer, part)
    loaded = load_visual(part)
    if teacher is not None:
        loaded.teacher = teacher
    write_text(place.out / "report.json", json.dumps(measured(loaded, held), indent=2) + "\n")
    for path in sorted(part.iterdir(), reverse=True):  # weights before the configuration
        path.replace(place.out / path.name)
    part.rmdir()


def _batches(
    recipe: OwnTokenizerRecipe, pictures: Pictures, processes: Processes, start: int, device: str
) -> Iterator[Tensor]:
    inputs = recipe.inputs
    for batch in feed(pictures, inputs.batch, recipe.seed, start, inputs.flip):
        yield processes.share(batch).to(device)


def _pictures(recipe: OwnTokenizerRecipe, place: Place, processes: Processes) -> Pictures:
    paths, folder = [Path(path) for path in recipe.inputs.paths], place.out / "data"
    if processes.rank == 0:
        prepared(paths, recipe.inputs.reading, folder, place.workers)
    processes.wait()
    return prepared(paths, recipe.inputs.reading, folder)


def _measured_rows(pictures: Pictures) -> list[int]:
    """Of held-out images, or of those that are trained on where none are held out."""
    rows = pictures.validation if len(pictures.validation) else pictures.train
    return [int(row) for row in rows[:MOST_HELD]]


def _perceptual(recipe: OwnTokenizerRecipe, device: str) -> Perceptual | None:
    if not recipe.inputs.lpips:
        return None
    from unified.checkpoints.lpips import load

    backbone, linear = recipe.inputs.lpips
    return load(Path(backbone), Path(linear)).to(device)


def _teacher(recipe: OwnTokenizerRecipe, tokenizer: Any, device: str) -> Teacher | None:
    """Also given to a tokenizer that reads its features with every image."""
    if not recipe.inputs.features:
        return None
    teacher = teacher_of(recipe.inputs.features, device)
    if hasattr(tokenizer, "teacher"):
        tokenizer.teacher = teacher
    return teacher


def _telling(held: Held, recipe: OwnTokenizerRecipe, place: Place) -> Callable[[Any, int], dict[str, Any]]:
    """Measures, and says how far the training is."""

    def measure(tokenizer: Any, step: int) -> dict[str, Any]:
        found = held(tokenizer, step)
        values = found["validation"]
        used = f", {values['usage']:.1%} of the codes used" if "usage" in values else ""
        place.say(f"step {step} of {recipe.training.steps}: held-out PSNR {values['psnr']:.2f} dB{used}")
        return found

    return measure


def _told(tokenizer: Any, recipe: OwnTokenizerRecipe, pictures: Pictures, step: int) -> str:
    size = sum(parameter.numel() for parameter in tokenizer.parameters())
    what = "clips" if recipe.inputs.reading.frames else "images"
    left = f", {pictures.left_out} files left out" if pictures.left_out else ""
    since = f", going on at step {step}" if step else ""
    counts = f"{len(pictures.train)} {what} to train on, {len(pictures.validation)} held out"
    return f"{recipe.kind}: {size:,} parameters, {counts}{left}{since}"


def _same_recipe(recipe: OwnTokenizerRecipe, place: Place) -> None:
    path, text = place.out / "recipe.json", to_json(recipe)
    if not place.resume:
        for name in ("checkpoint.pt", "checkpoint.pt.before", "log.jsonl", VISUAL_CONFIG):
            (place.out / name).unlink(missing_ok=True)
    elif path.is_file() and path.read_text(encoding="utf-8") != text:
        changed = _changed(json.loads(path.read_text(encoding="utf-8")), json.loads(text))
        raise ValueError(
            f"{place.out} holds a training with another {changed}: give the same options, another --out, or "
            "--resume none"
        )
    write_text(path, text)


def _changed(old: Any, new: Any) -> str:
    """The first place at which two recipes differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            if old.get(name) != new.get(name):
                inner = _changed(old.get(name), new.get(name))
                return f"{name}.{inner}" if inner else name
    return ""


def _device(place: Place) -> str:
    if place.cpu or not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
