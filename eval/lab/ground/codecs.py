"""Tokenizers that an experiment trains, what they keep of pictures, and small generators of their codes.

A tokenizer of any kind (`tokenizers.kinds`) is trained on the ground's scenes, or on clips, by the one loop
for all kinds. Its codes are then judged by a generator (GigaTok, arXiv 2504.08736, calls it AR probing): a
raster model of an eighth of a base model's inner size, of the one map of codes, told captions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE, output
from unified.eval.lab.experiment import Numbers, Trial
from unified.eval.lab.ground.bases import MOST_SIDE, Base, new_model, rows, vocabulary
from unified.eval.lab.ground.drawing import How, draw
from unified.eval.lab.ground.measures import likelihood, pixel_psnr
from unified.eval.lab.ground.scenes import SIDE, caption
from unified.eval.lab.ground.scenes import pictures as drawn_pictures
from unified.eval.lab.ground.tokenizers import DIM, STRIDE
from unified.eval.lab.ground.training import Course, train
from unified.eval.metrics.codebook import CodeCount
from unified.tasks.scenes.scene import Scene
from unified.tokenizers.kinds import Wanted, kind_of
from unified.tokenizers.reconstruction import reconstruct
from unified.train.stored import write_text
from unified.train.tokenizer import Surroundings, TokenizerTrainingConfig, train_tokenizer
from unified.train.tokenizer_state import Saving

from unified.model import UnifiedModel
from unified.orders.shapes import Shapes, as_shapes

ROWS = 64  # pictures at once
RASTER = Base(tokenizer="vq", order="raster")


def wanted(trial: Trial, **changed: Any) -> Wanted:
    """What a small tokenizer of the ground is made for: 64 codes an image, as its own tokenizers have."""
    size = trial.ground.sizes.tokenizer
    told = {
        "size": SIDE,
        "codes": size.codes,
        "dim": DIM,
        "stride": STRIDE,
        "width": max(32, size.width // 2),
    }
    return Wanted(**{**told, **changed})


def new(trial: Trial, kind: str, what: Wanted) -> Any:
    """A tokenizer with random weights of the trial's seed."""
    torch.manual_seed(trial.seed)
    return kind_of(kind).build(kind_of(kind).small(what))


def pixels(pictures: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3], or clips [N, T, H, W, 3] -> float32 [N, 3, (T,) H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).movedim(-1, 1).float() / 127.5 - 1


def teach(
    trial: Trial,
    tokenizer: Any,
    config: TokenizerTrainingConfig,
    pictures: np.ndarray | None = None,
    teacher: Callable[[Tensor], Tensor] | None = None,
    share: float = 1.0,
) -> Any:
    """Train it on pictures uint8 [N, ...] (none given: the ground's), a `share` of the ground's batches; an
    interrupted training goes on from its checkpoint in the trial's folder."""
    shown = trial.ground.pictures() if pictures is None else pictures
    saving = Saving(trial.work / "tokenizer.checkpoint", every=max(1, config.steps // 8))
    trial.work.mkdir(parents=True, exist_ok=True)
    batch = max(2, round(share * trial.ground.sizes.batch))

    def batches() -> Iterator[Tensor]:
        step = saving.step()
        while True:
            rng = np.random.default_rng([17, trial.seed, step])
            yield pixels(shown[rng.integers(len(shown), size=batch)])
            step += 1

    generator = torch.Generator().manual_seed(trial.seed)
    given = Surroundings(teacher=teacher)
    train_tokenizer(tokenizer, batches(), config, generator=generator, saving=saving, given=given)
    return tokenizer.eval()


@dataclass(frozen=True)
class Passed:
    """Pictures as they come back, uint8, and their codes [N, T], of all maps in order."""

    pictures: np.ndarray
    codes: Tensor


@torch.no_grad()
def passed(tokenizer: Any, pictures: np.ndarray) -> Passed:
    """Pictures uint8 [N, H, W, 3], or clips [N, T, H, W, 3], encoded and decoded."""
    made, codes = [], []
    for start in range(0, len(pictures), ROWS):
        found = reconstruct(tokenizer, pixels(pictures[start : start + ROWS]))
        made.append(((found.images + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy())
        codes.append(torch.cat(found.ids, dim=1) if found.ids else torch.zeros(len(found.images), 0))
    return Passed(np.concatenate(made), torch.cat(codes))


def held_out(trial: Trial, share: int = 1) -> tuple[list[Scene], np.ndarray]:
    """Test scenes of a seed, `share` times as many as are drawn, and their pictures."""
    count = share * trial.ground.sizes.prompts
    scenes = trial.ground.scenes("test", count, trial.seed * count)
    return scenes, drawn_pictures(scenes)


def quality(tokenizer: Any, pictures: np.ndarray) -> Numbers:
    """PSNR in dB over all pictures, and of the codes the share in use, and their perplexity."""
    found = passed(tokenizer, pictures)
    count = CodeCount(tokenizer.codes)
    count.add(found.codes.numpy())
    flat = [part.reshape(-1, *part.shape[-2:]) for part in (found.pictures, pictures)]
    return {"psnr": pixel_psnr(*flat), "usage": count.usage, "perplexity": count.perplexity}


# Generators of codes ----------------------------------------------------------------------------------------


def one_map(tokenizer: Any, codes: Tensor) -> Shapes:
    """The map sizes of codes [N, T]: a line for a tokenizer without a grid, else a square."""
    if getattr(tokenizer, "line", 0):
        return as_shapes([(1, tokenizer.line)])
    return as_shapes([math.isqrt(codes.shape[1])])


def new_generator(trial: Trial, codes: int, length: int) -> UnifiedModel:
    """A raster model of lines of at most so many codes out of `codes`."""
    sizes = trial.ground.sizes
    words = vocabulary(codes, max_side=max(MOST_SIDE, length))
    return new_model(RASTER, sizes, trial.seed, sizes.model.part(0.5, 0.5), words=words)


@dataclass(frozen=True)
class Data:
    """Pictures (or clips) and captions [N, 9] to train a generator on; held-out ones with their scenes."""

    pictures: np.ndarray
    captions: Tensor
    scenes: Sequence[Scene]
    held: np.ndarray

    @staticmethod
    def of(trial: Trial) -> Data:
        count = 64 * trial.ground.sizes.batch
        return Data(trial.ground.pictures()[:count], trial.ground.captions()[:count], *held_out(trial))


def code_probe(
    trial: Trial, tokenizer: Any, share: float, every: int = 0, data: Data | None = None
) -> tuple[Numbers, np.ndarray]:
    """A generator of a tokenizer's codes, trained for a share of the base models' steps: `bits` of a held-out
    picture, and with `every` the bits after each so many steps (`curve`). And what it draws for the held-out
    captions."""
    sizes, data = trial.ground.sizes, data or Data.of(trial)
    codes, held = (passed(tokenizer, part).codes for part in (data.pictures, data.held))
    shapes, steps = one_map(tokenizer, codes), sizes.steps(share)
    model = new_generator(trial, tokenizer.codes, codes.shape[1])
    told = torch.tensor([caption(one) for one in data.scenes])
    told_curve = trial.work / "codes" / "curve.json"  # an interrupted run has measured some of it
    curve: list[float] = json.loads(told_curve.read_text()) if told_curve.is_file() else []

    def bits() -> float:
        return float(likelihood(model, told, held, "raster", shapes)["nll"]) * held.shape[1] / math.log(2)

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng([19, trial.seed, step])
        chosen = torch.from_numpy(rng.integers(len(codes), size=sizes.batch))
        batch = rows(model.vocabulary, data.captions[chosen], codes[chosen], "raster", shapes)
        found = output(model, batch).loss
        assert found is not None
        return found

    seconds = 0.0
    for number, stop in enumerate([*range(every, steps, every), steps] if every else [steps]):
        course = Course(steps=steps, stop=stop, what="codes")
        seconds = train(model, loss, course, trial.work / "codes").seconds
        if number >= len(curve):
            curve.append(bits())
            write_text(told_curve, json.dumps(curve))
    how = How(order="raster", shapes=shapes)
    made = draw(model, tokenizer, data.scenes, how, seed=trial.seed * SEED_STRIDE, rows=sizes.rows)
    found = {"bits": curve[-1], "curve": curve, "codes": codes.shape[1], "training": seconds}
    return found, made.pictures
