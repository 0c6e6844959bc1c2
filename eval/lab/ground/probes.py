"""What frozen features of codes tell of a picture, by linear probes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from unified.eval.lab.ground.bases import Rows, layout_of, prompt
from unified.eval.lab.ground.ground import Ground
from unified.eval.lab.ground.scenes import NUMBER
from unified.tasks.scenes.relations import cell
from unified.tasks.scenes.scene import Scene

from unified.layout.layout import IGNORED, Layout
from unified.model import UnifiedModel
from unified.orders.shapes import Shapes
from unified.stream.vocabulary import Vocabulary

RIDGE = 1e-2
PROBED = ("shape", "colour", "cell")


@torch.no_grad()
def read_features(model: UnifiedModel, codes: Tensor, shapes: Shapes) -> Tensor:
    """Hidden states [N, T, D] of a picture's codes [N, T] where they are read, each of which sees all."""
    words, found = model.vocabulary, []
    line = [words.begin, words.user, *words.read_segment([0] * codes.shape[1], shapes), words.end]
    places = words.is_visual(torch.tensor(line))
    for part in codes.split(64):
        ids = torch.tensor(line).repeat(len(part), 1)
        ids[:, places] = part + words.visual_start
        found.append(model.states(ids, layout_of(words, tuple(line), len(part)))[0][:, places])
    return torch.cat(found)


def accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Share of test features [N, D] whose class [N] is the largest output of a ridge regression onto the
    classes of training ones."""
    (x, y), (other, true) = train, test
    mean, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    design, asked = (
        torch.cat([(part - mean) / spread, torch.ones(len(part), 1)], dim=1).double() for part in (x, other)
    )
    targets = torch.zeros(len(y), int(max(y.max(), true.max())) + 1, dtype=torch.float64)
    targets[torch.arange(len(y)), y] = 1
    gram = design.T @ design + RIDGE * len(design) * torch.eye(design.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, design.T @ targets)
    return float(((asked @ weights).argmax(dim=1) == true).float().mean())


def attributes(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Of the first object of every scene, the number of the word for each of PROBED."""
    firsts = [one.objects[0] for one in scenes]
    named = {
        "shape": [item.shape for item in firsts],
        "colour": [item.colour for item in firsts],
        "cell": [cell(item) for item in firsts],
    }
    return {name: torch.tensor([NUMBER[word] for word in words]) for name, words in named.items()}


def probed(ground: Ground, model: UnifiedModel, tokenizer: str, shapes: Shapes) -> dict[str, float]:
    """By attribute, and their mean, how often a linear probe of mean-pooled features is right."""
    sets = []
    for split, most in (("train", 2048), ("validation", 512)):
        codes = ground.codes(tokenizer, shapes, split)[:most]
        scenes = ground.scenes(split, len(ground.pictures(split)))[: len(codes)]
        sets.append((read_features(model, codes, shapes).mean(dim=1), attributes(scenes)))
    (x, y), (other, true) = sets
    found = {name: accuracy((x, y[name]), (other, true[name])) for name in PROBED}
    return {**found, "probe": sum(found.values()) / len(found)}


def rows_of_each(
    words: Vocabulary, codes: Tensor, order: str, shapes: Shapes, data: Sequence[tuple[int, ...]]
) -> Rows:
    """Rows of codes [B, T] without captions, each with order data of its own."""
    head = prompt(words, None)
    lines = []
    for row, own in zip(codes.tolist(), data, strict=True):
        lines.append(
            [*head, *words.open_write(order, shapes, own), *words.visual_ids(row), words.close, words.end]
        )
    ids = torch.tensor(lines)
    start = ids.shape[1] - 2 - codes.shape[1]
    labels = torch.full_like(ids, IGNORED)
    labels[:, start:-2] = ids[:, start:-2]
    return Rows(ids, Layout.of(ids, words), labels)
