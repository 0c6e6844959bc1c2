"""A finished next-scale base model under control: rows of training pictures with parts around the layers,
words that are vectors of their own, and how far drawings follow edges.

The base is the residual one, whose tokenizer keeps shapes best. Its weights are frozen unless an experiment
says otherwise; what is trained is a small module beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.eval.lab.arms import SEED_STRIDE
from unified.eval.lab.experiment import Trial
from unified.eval.lab.ground.bases import BASES, Rows, rows
from unified.eval.lab.ground.drawing import Drawn, How, draw
from unified.eval.lab.ground.training import Course, Trained, train
from unified.tasks.scenes.scene import Scene

from unified.apps.conditions import channels, edges, features
from unified.backbone.layer_pass import LayerPart, Pass
from unified.model import UnifiedModel
from unified.objectives import Scores
from unified.orders import Plan, plan_for
from unified.stream.segments import Kind

NAME = "residual"
BASE = BASES[NAME]
PATCH = 2  # pixels a side of what a slot is told of a control
WIDTH = channels(PATCH)
PLAN: Plan = plan_for(BASE.order, BASE.shapes)
FIRST_WORD = 2  # where a caption begins in a row


def frozen(trial: Trial, name: str = NAME) -> UnifiedModel:
    return trial.ground.base(name).requires_grad_(False)


def chosen(trial: Trial, step: int, count: int, most: int) -> Tensor:
    """Numbers of training pictures of a step, below `most`."""
    rng = np.random.default_rng([31, trial.seed, step])
    return torch.from_numpy(rng.integers(most, size=count))


def rows_of(trial: Trial, model: UnifiedModel, numbers: Tensor) -> Rows:
    """Captions and codes of training pictures."""
    codes = trial.ground.codes(BASE.tokenizer, BASE.shapes)[numbers]
    return rows(model.vocabulary, trial.ground.captions()[numbers], codes, BASE.order, BASE.shapes)


def codes_of(trial: Trial, pictures: np.ndarray) -> Tensor:
    """[N, T] of pictures uint8 [N, 32, 32, 3], in slot order."""
    images = torch.from_numpy(pictures).movedim(-1, 1).float() / 127.5 - 1
    coder = trial.ground.tokenizer(BASE.tokenizer)
    with torch.no_grad():
        return torch.cat(coder.encode(images, BASE.shapes), dim=1)


def scores_of(model: UnifiedModel, batch: Rows, parts: Sequence[LayerPart] = ()) -> Scores:
    out = model(batch.ids, labels=batch.labels, layout=batch.layout, parts=parts, return_logits=False)
    return Scores.of(out, batch.layout, batch.labels)


def nats(model: UnifiedModel, batch: Rows, parts: Sequence[LayerPart] = ()) -> Tensor:
    found = scores_of(model, batch, parts)
    return -found.log_probs.sum() / found.targets.sum()


def teach_part(
    trial: Trial, part: nn.Module, loss: Callable[[int], Tensor], steps: int, what: str, rate: float = 3e-3
) -> Trained:
    """Train a module beside a frozen model, by AdamW alone."""
    course = Course(steps=steps, rate=rate, what=f"{what}, seed {trial.seed}")
    return train(part, loss, course, trial.work / what, lambda name: False)


Parts = Callable[[slice], Sequence[LayerPart]]  # of the pictures with these numbers


def drawn_under(
    trial: Trial, model: UnifiedModel, scenes: Sequence[Scene], parts: Parts | None = None, **changed: Any
) -> Drawn:
    """Pictures for the captions of scenes; `changed`: other fields of how they are drawn."""
    how = How(order=BASE.order, shapes=BASE.shapes).but(parts=parts, **changed)
    coder, sizes = trial.ground.tokenizer(BASE.tokenizer), trial.ground.sizes
    return draw(model, coder, scenes, how, seed=trial.seed * SEED_STRIDE, rows=sizes.rows)


# Edges ------------------------------------------------------------------------------------------------------


def edge_maps(pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3], white on black."""
    return np.stack([edges(picture) for picture in pictures])


def control_of(maps: np.ndarray) -> Tensor:
    """Features [N, T, C] of the slots of the base's plan."""
    images = torch.from_numpy(maps).movedim(-1, 1).float() / 127.5 - 1
    return features(images, PLAN, PATCH)


def edge_f1(drawn: np.ndarray, wanted: np.ndarray) -> float:
    """Of edges of drawings against wanted ones, uint8 [N, H, W, 3] both, a pixel apart at most: the mean of
    F1 over pictures."""
    given, true = ((torch.from_numpy(x[..., 0]) > 127).float()[:, None] for x in (edge_maps(drawn), wanted))
    near = [F.max_pool2d(x, 3, stride=1, padding=1) for x in (true, given)]
    hits = [(a * b).sum(dim=(1, 2, 3)) for a, b in zip((given, true), near, strict=True)]
    precision, recall = (
        hit / x.sum(dim=(1, 2, 3)).clamp(min=1) for hit, x in zip(hits, (given, true), strict=True)
    )
    return float((2 * precision * recall / (precision + recall).clamp(min=1e-9)).mean())


# Words that are vectors of their own ------------------------------------------------------------------------


class SoftWords(nn.Module, LayerPart):
    """Learned vectors [B, n, D] in the place of `n` words of a caption, by their number in it; one row for
    all, or a row for each of a batch."""

    def __init__(self, start: Tensor, places: Sequence[int]) -> None:
        super().__init__()
        self.vectors = nn.Parameter(start.clone())
        self.places = tuple(places)

    def values(self) -> Tensor:
        return self.vectors

    def at(self, numbers: slice) -> LayerPart:
        """For some of its rows."""
        return _Chosen(self.values()[numbers], self.places)

    def enter(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        return _Chosen(self.values(), self.places).enter(layer, hidden, run)


class _Chosen(LayerPart):
    def __init__(self, values: Tensor, places: tuple[int, ...]) -> None:
        self.values, self.places = values, places

    def enter(self, layer: int, hidden: Tensor, run: Pass) -> Tensor:
        if layer:
            return hidden
        text = run.index.kind == int(Kind.TEXT)
        vectors = self.values if len(self.values) == len(hidden) else self.values.expand(len(hidden), -1, -1)
        for number, place in enumerate(self.places):
            here = text & (run.index.label == FIRST_WORD + place)
            hidden = torch.where(here[..., None], vectors[:, number : number + 1].to(hidden.dtype), hidden)
        return hidden


def word_vectors(model: UnifiedModel, words: Sequence[int]) -> Tensor:
    """[n, D]: input embeddings of words."""
    with torch.no_grad():
        return model.embed_ids(torch.tensor(words)).detach().clone()
