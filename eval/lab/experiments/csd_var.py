"""CSD-VAR (arXiv 2507.13984): which maps hold style and which content, and do handles learnt from their own
maps, without the content's directions and with memories, come apart?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    at_most,
    not_applicable,
)
from unified.eval.lab.experiments.ear import found_scenes
from unified.eval.lab.ground.bases import rows
from unified.eval.lab.ground.drawing import decode
from unified.eval.lab.ground.scenes import CAPTION, NUMBER, SIZES, caption, pictures
from unified.eval.lab.ground.steering import (
    BASE,
    PLAN,
    SoftWords,
    codes_of,
    drawn_under,
    frozen,
    scores_of,
    teach_part,
    word_vectors,
)
from unified.tasks.scenes.parser import parse
from unified.tasks.scenes.relations import CELL_NAMES, cell
from unified.tasks.scenes.scene import BACKGROUNDS, COLOURS, SHAPES, Scene

from unified.backbone.layer_pass import LayerPart, Pass
from unified.backbone.parts.rows import of_pass
from unified.backbone.parts.steps import steps_of
from unified.model import UnifiedModel
from unified.objectives.content_style import STYLE, ContentStyle, ContentStyleConfig
from unified.objectives.objective import Progress

SHARE, RATE = 0.08, 2e-2  # of the base models' steps
STYLED, CONTENT = (0, 2), (1, 3, 4)  # places of a caption's words: ground, colour; size, shape, cell
KINDS = {0: tuple(BACKGROUNDS), 1: SIZES, 2: tuple(COLOURS), 3: SHAPES, 4: CELL_NAMES}
DIRECTIONS, KEYS = 3, 8  # of the shapes' words that are taken out of a style; of a memory
APART = 0.1  # by which style must follow some map more than content does, and the other way round
LEAK = 0.05  # of drawings of another shape show the picture's own, beyond chance, or there is nothing to cut


# Which maps hold what ---------------------------------------------------------------------------------------


def followed(trial: Trial, scenes: Sequence[Scene]) -> list[tuple[float, float]]:
    """By map: how often ground and colour, and how often shape and cell, become the next picture's with that
    map's codes, of pairs that differ in them."""
    codes = codes_of(trial, pictures(scenes))
    own = looks(decode(trial.ground.tokenizer(BASE.tokenizer), codes, BASE.shapes))
    others = own[1:] + own[:1]
    found = []
    for slots in PLAN.map_slices:
        mixed = codes.clone()
        mixed[:, slots] = codes.roll(-1, 0)[:, slots]
        now = looks(decode(trial.ground.tokenizer(BASE.tokenizer), mixed, BASE.shapes))
        shares = []
        for places in (STYLED, (3, 4)):
            told = [
                (a.get(place) == c.get(place))
                for a, b, c in zip(now, own, others, strict=True)
                for place in places
                if b.get(place) != c.get(place)
            ]
            shares.append(float(np.mean(told)) if told else 0.0)
        found.append((shares[0], shares[1]))
    return found


def looks(drawn: np.ndarray) -> list[dict[int, str]]:
    """Of pictures, by place in a caption, the words for the ground and the first object."""
    found = []
    for picture in drawn:
        scene = parse(picture)
        told = {0: scene.background}
        if scene.objects:
            item = scene.objects[0]
            told |= {1: item.size, 2: item.colour, 3: item.shape, 4: cell(item)}
        found.append(told)
    return found


# Handles ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """`scales`: handles are learnt in turns from their own maps; `project`: a style has no directions of the
    shapes' words; `memory`: learned keys for the maps of each."""

    scales: bool = False
    project: bool = False
    memory: bool = False


METHODS = {
    "inversion": Method(),
    "scales": Method(True),
    "scales, projection": Method(True, True),
    "scales, memories": Method(True, memory=True),
    "full": Method(True, True, True),
    "full without scales": Method(False, True, True),
}


class Projected(SoftWords):
    """Vectors without their part in some directions [r, D] of length 1."""

    def __init__(self, start: Tensor, places: Sequence[int], directions: Tensor) -> None:
        super().__init__(start, places)
        self.directions = directions

    def values(self) -> Tensor:
        return self.vectors - self.vectors @ self.directions.mT @ self.directions


class RowMemory(nn.Module, LayerPart):
    """Learned keys and values of the first layer, other ones for each row, for the slots of some steps; a
    softmax of their own behind a gate that is zero at the start, as `ScaleMemory`."""

    by_step = True

    def __init__(self, rows_: int, heads: int, width: int, steps: tuple[int, ...]) -> None:
        super().__init__()
        self.steps, self.rows = steps, slice(None)
        self.pairs = nn.Parameter(torch.randn(2, rows_, heads, KEYS, width))
        self.gates = nn.Parameter(torch.zeros(rows_, heads))

    def attended(self, layer: int, query: Tensor, found: Tensor, run: Pass) -> Tensor:
        if layer or not self.steps:
            return found
        steps = steps_of(run)
        sees = torch.stack([steps == step for step in self.steps]).any(dim=0)
        if not bool(sees.any()):
            return found
        key, value = (of_pass(x[self.rows], len(query), run) for x in self.pairs)
        more = scaled_dot_product_attention(query, key, value).transpose(1, 2)
        gates = of_pass(self.gates[self.rows], len(query), run).tanh()[:, None, :, None]
        return torch.where(sees[..., None, None], found + gates * more, found)


class Handles(nn.Module):
    """Of some pictures, a style and a content each."""

    def __init__(self, model: UnifiedModel, count: int, method: Method, style: tuple[int, ...]) -> None:
        super().__init__()
        starts = [
            torch.stack(
                [word_vectors(model, [NUMBER[x] for x in KINDS[place]]).mean(dim=0) for place in places]
            )
            for places in (STYLED, CONTENT)
        ]
        begun = [start.expand(count, -1, -1) for start in starts]
        self.content = SoftWords(begun[1], CONTENT)
        if method.project:
            words = word_vectors(model, [NUMBER[shape] for shape in SHAPES])
            directions = torch.linalg.svd(words, full_matrices=False).Vh[:DIRECTIONS]
            self.style: SoftWords = Projected(begun[0], STYLED, directions)
        else:
            self.style = SoftWords(begun[0], STYLED)
        text = model.backbone.config.get_text_config()
        heads = text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // heads
        rest = tuple(step for step in range(PLAN.count) if step not in style)
        self.memories = nn.ModuleList(
            RowMemory(count, heads, width, steps) for steps in (style, rest) if method.memory
        )

    def parts(self, numbers: slice, style: bool = True, content: bool = True) -> list[LayerPart]:
        """Around the layers, for some pictures, with one handle or both."""
        found: list[LayerPart] = []
        for handle, wanted in ((self.style, style), (self.content, content)):
            found += [handle.at(numbers)] if wanted else []
        for memory, wanted in zip(self.memories, (style, content), strict=False):
            memory.rows = numbers  # type: ignore[assignment]
            found += [memory] if wanted else []  # type: ignore[list-item]
        return found


def learnt(method: Method, trial: Trial) -> Numbers:
    """Handles of some pictures, and what they do."""
    model, sizes = frozen(trial), trial.ground.sizes
    count = max(4, sizes.batch // 2)
    scenes = found_scenes("test", 5000 * trial.seed, count, lambda one: len(one.objects) == 1)
    split = followed(trial, found_scenes("train", 5000 * trial.seed, 2 * sizes.rows, lambda one: True))
    style = tuple(n for n, (one, other) in enumerate(split) if one > other)
    found: Numbers = {"split": split, "style maps": style}
    torch.manual_seed(trial.seed)
    handles = Handles(model, count, method, style)
    told, codes = torch.zeros(count, CAPTION, dtype=torch.long), codes_of(trial, pictures(scenes))
    batch = rows(model.vocabulary, told, codes, BASE.order, BASE.shapes)
    objective = ContentStyle(ContentStyleConfig(steps=style if method.scales else ()))

    def loss(step: int) -> Tensor:
        given = objective.prepare({"rows": count}, Progress(step=step, seed=trial.seed))
        mine = given["learnt"] == STYLE
        if method.scales:
            for handle, wanted in ((handles.style, mine), (handles.content, not mine)):
                handle.vectors.requires_grad_(wanted)
        return objective.loss(scores_of(model, batch, handles.parts(slice(None))), None, given).loss

    done = teach_part(trial, handles, loss, sizes.steps(SHARE), "handles", RATE)
    return {**found, **figures(trial, model, handles, scenes), "training": done.seconds}


def figures(trial: Trial, model: UnifiedModel, handles: Handles, scenes: list[Scene]) -> Numbers:
    """`content`: size, shape and cell under another ground and colour; `style`: ground and colour under
    another shape, size and cell; `leak`: how often the latter show the picture's own shape, and `chance`, how
    often with plain words in the style's place."""
    others = scenes[1:] + scenes[:1]
    mixed = [other_shape(one, other) for one, other in zip(scenes, others, strict=True)]
    true = [dict(enumerate(words_of(one))) for one in scenes]
    drawn = {
        name: looks(drawn_under(trial, model, asked, parts).pictures)
        for name, asked, parts in (
            ("content", others, partial(handles.parts, style=False)),
            ("style", mixed, partial(handles.parts, content=False)),
            ("plain", mixed, None),
        )
    }

    def share(name: str, places: tuple[int, ...]) -> float:
        pairs = zip(drawn[name], true, strict=True)
        return float(np.mean([now.get(x) == own[x] for now, own in pairs for x in places]))

    return {
        "content": share("content", CONTENT),
        "style": share("style", STYLED),
        "leak": share("style", (3,)),
        "chance": share("plain", (3,)),
    }


def other_shape(one: Scene, other: Scene) -> Scene:
    """The other scene with a shape that the one does not have."""
    item = other.objects[0]
    if item.shape == one.objects[0].shape:
        item = replace(item, shape=SHAPES[(SHAPES.index(item.shape) + 1) % len(SHAPES)])
    return replace(other, objects=(item,))


def words_of(one: Scene) -> list[str]:
    item = one.objects[0]
    assert caption(one)[3] == NUMBER[item.shape]
    return [one.background, item.size, item.colour, item.shape, cell(item)]


def judge(results: Results) -> list[Criterion]:
    def score(arm: str) -> list[float]:
        pairs = zip(results.values(arm, "content"), results.values(arm, "style"), strict=True)
        return [50 * (a + b) for a, b in pairs]

    def over(arm: str) -> list[float]:
        """The leak beyond chance."""
        pairs = zip(results.values(arm, "leak"), results.values(arm, "chance"), strict=True)
        return [max(a - b, 0.0) for a, b in pairs]

    what = "(a) content and style against plain inversion, points"
    splits = np.mean([results.of("full", seed, "split") for seed in results.seeds], axis=0)
    gaps = splits[:, 0] - splits[:, 1]
    if gaps.max() < APART or -gaps.min() < APART:
        told = ", ".join(f"{100 * a:.0f} / {100 * b:.0f}" for a, b in splits)
        why = f"no maps for each: style / content follow the maps in {told} %"
        return [not_applicable(what, why, central=True)]
    more = [a - b for a, b in zip(score("full"), score("inversion"), strict=True)]
    scales = [a - b for a, b in zip(score("full"), score("full without scales"), strict=True)]
    cut = "(b) the projection cuts the leak of shapes, %"
    leak, less = over("scales"), over("scales, projection")
    lost = [100 * x for x in results.difference("scales", "scales, projection", "style")]
    if sum(leak) / len(leak) < LEAK:
        why = f"the picture's shape leaks into {100 * sum(leak) / len(leak):.1f} % of drawings beyond chance"
        projected = [not_applicable(cut, why)]
    else:
        shares = [100 * (1 - sum(less) / sum(leak))]
        projected = [at_least(cut, shares, 40.0), at_most("(b) and costs style, points", lost, 3.0)]
    return [at_least(what, more, 10.0), *projected, at_least("(c) own maps add, points", scales, 5.0)]


EXPERIMENT = Experiment(
    name="csd_var",
    what="handles for style (ground, colour) and content (size, shape, cell) of single pictures",
    arms={name: partial(learnt, method) for name, method in METHODS.items()},
    judge=judge,
    minutes=17,
    scaled="16 pictures of one shape in place of 40 pairs, the residual base model, 48 steps; handles stand "
    "in the places of a caption's words, two for style and three for content; fills, which this ground has "
    "not, are no style; three directions of eight shape words; maps are shared out by exchanging their "
    "codes first",
    shown=("content", "style", "leak", "chance"),
)
