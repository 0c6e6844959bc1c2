"""GoViG (arXiv 2508.09547): are instructions from a first view and that of the goal better where the views
between are imagined first, and is it what these show?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE, output
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    not_applicable,
)
from unified.eval.lab.ground import streams
from unified.eval.lab.ground.bases import MOST_SIDE, SQUARE
from unified.eval.lab.ground.drawing import decode
from unified.eval.lab.ground.scenes import SIDE
from unified.eval.lab.ground.streams import Parts, Piece
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.tasks.walks import town as towns
from unified.tasks.walks.town import COLOURS, Route, Stand
from unified.tasks.walks.walk_task import WalkConfig, score_words, town_of, walk
from unified.tasks.worlds.scoring import ssim

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.visual_thought import THOUGHTS, draw_ahead, filler
from unified.model import UnifiedModel
from unified.objectives.codebook_distance import CodebookDistance, CodebookDistanceConfig
from unified.stream.vocabulary import Vocabulary

SHARE = 0.5  # of the base models' steps, of each model
CONFIG = WalkConfig(size=SIDE, towns=2)
MOST_TURNS = max(CONFIG.turns)
WORDS = ("nothing", *COLOURS, *towns.TURNS, "imagine", "tell")
NOTHING, IMAGINE, TELL = 0, WORDS.index("imagine"), WORDS.index("tell")
SAID = 2 * MOST_TURNS + 1  # words of an instruction: a turn and its colour each, and where to stop
KEPT = 0.5  # of the words of an earlier instruction that a training row shows; half of the rows show none
STEPS, ARRIVED = 5, 0.7  # views that are imagined at most; SSIM from which one is the goal
GREEDY = Sampler(temperature=0)
STANDS = [Stand((x, z), h) for x in range(towns.SIDE) for z in range(towns.SIDE) for h in range(4)]
NUMBER = {stand: n for n, stand in enumerate(STANDS)}
MODELS = {"direct": "none", "filler": "filler", "imagine": "own", "imagine, no distance": "own"}


# Walks as ids -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """`views`: numbers of the views of all towns on the way; `route`; `town`: its place among the towns."""

    views: list[int]
    route: Route
    town: int


def walks(split: str, first: int, count: int) -> list[Walk]:
    found = []
    for n in range(count):
        town, route = walk(CONFIG, first + n, split)
        start = town.number * len(STANDS)
        found.append(Walk([start + NUMBER[stand] for stand in route.stands], route, town.number))
    return found


def all_views() -> np.ndarray:
    """uint8 [V, 32, 32, 3]: of every stand of every town."""
    return np.stack([town_of(n).view(stand, SIDE) for n in range(CONFIG.towns) for stand in STANDS])


def as_words(route: Route) -> list[int]:
    """[SAID]: turn and colour of each order, nothing for turns that are not there, and the last colour."""
    *turns, (_, last) = route.orders
    found = [WORDS.index(word) for order in turns for word in order]
    return [*found, *[NOTHING] * (SAID - 1 - len(found)), WORDS.index(last)]


def as_text(said: Sequence[int]) -> str:
    """The instruction that words are; what is no order is left out."""
    names = [WORDS[n] for n in said]
    orders = [
        (turn, colour)
        for turn, colour in zip(names[:-1:2], names[1:-1:2], strict=True)
        if turn in towns.TURNS and colour in COLOURS
    ]
    return Route((), (*orders, ("stop", names[-1]))).text


def middle(count: int) -> tuple[int, int]:
    """The two of `count` views between start and goal that stand for all, their numbers from 0."""
    return (count - 1) // 3, (2 * count) // 3 if count > 1 else 0


def vocabulary(sizes: Sizes) -> Vocabulary:
    return Vocabulary(
        text=len(WORDS),
        visual=sizes.tokenizer.codes,
        action=0,
        max_side=MOST_SIDE,
        orders=(streams.ORDER,),
        appended=(),
    )


def telling(first: Tensor, between: tuple[Tensor, Tensor] | None, goal: Tensor, earlier: Tensor) -> Parts:
    """The prompt of an instruction: views [B, 64] and an earlier instruction [B, SAID], nothing for none."""
    shown = [Piece("read", view) for view in (first, *(between or ()), goal)]
    mark = torch.full((len(first), 1), TELL)
    return ("ask", *shown, Piece("text", mark), Piece("text", earlier), "answer")


def imagining(before: Tensor, now: Tensor, goal: Tensor) -> Parts:
    """The prompt of the next view."""
    shown = [Piece("read", view) for view in (before, now, goal)]
    return ("ask", *shown, Piece("text", torch.full((len(now), 1), IMAGINE)), "answer")


# Training ---------------------------------------------------------------------------------------------------


class Lessons:
    """Rows for training steps from walks and the codes [V, 64] of all views."""

    def __init__(self, words: Vocabulary, data: list[Walk], codes: Tensor, thought: str, batch: int) -> None:
        self.words, self.data, self.codes = words, data, codes
        self.thought, self.batch = thought, batch

    def at(self, seed: int, step: int) -> Parts:
        """Of models that imagine every second step is about views."""
        rng = np.random.default_rng([seed, step])
        chosen = [self.data[n] for n in rng.integers(len(self.data), size=self.batch)]
        return self._view(chosen, rng) if self.thought == "own" and step % 2 else self._told(chosen, rng)

    def _view(self, chosen: list[Walk], rng: np.random.Generator) -> Parts:
        places = [int(rng.integers(len(one.views) - 1)) for one in chosen]
        before, now, later, goal = (
            self.codes[[one.views[pick(one, n)] for one, n in zip(chosen, places, strict=True)]]
            for pick in (
                lambda one, n: max(0, n - 1),
                lambda one, n: n,
                lambda one, n: n + 1,
                lambda one, n: -1,
            )
        )
        return (*imagining(before, now, goal), Piece("write", later, scored=True), "close")

    def _told(self, chosen: list[Walk], rng: np.random.Generator) -> Parts:
        true = torch.tensor([as_words(one.route) for one in chosen])
        keep = torch.from_numpy(rng.random(true.shape) < KEPT) & torch.from_numpy(
            rng.random((len(true), 1)) < 0.5
        )
        first, goal = (self.codes[[one.views[n] for one in chosen]] for n in (0, -1))
        prompt = telling(first, self.between(chosen), goal, true.where(keep, torch.tensor(NOTHING)))
        return (*prompt, Piece("text", true, scored=True), "close")

    def between(self, chosen: list[Walk]) -> tuple[Tensor, Tensor] | None:
        if self.thought == "none":
            return None
        if self.thought == "filler":
            found = filler(len(chosen), SQUARE, self.words.visual)
            return found, found
        return true_between(chosen, self.codes)


def true_between(chosen: list[Walk], codes: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of the two views that stand for the way."""
    numbers = [[one.views[1:-1][n] for n in middle(len(one.views) - 2)] for one in chosen]
    one, other = (codes[list(column)] for column in zip(*numbers, strict=True))
    return one, other


def taught(trial: Trial, name: str, data: list[Walk], codes: Tensor, codebook: Tensor) -> UnifiedModel:
    sizes, words = trial.ground.sizes, vocabulary(trial.ground.sizes)
    model = streams.small_model(sizes, words, trial.seed)
    lessons = Lessons(words, data, codes, MODELS[name], max(2, sizes.batch // 2))
    distance = CodebookDistance(codebook, CodebookDistanceConfig(weight=float(name == "imagine")))

    def loss(step: int) -> Tensor:
        rows = streams.joined(words, lessons.at(trial.seed, step))
        found = output(model, rows)
        assert found.loss is not None
        assert found.hidden_states is not None
        written = words.is_visual(rows.labels)
        logits = model.head.logits(found.hidden_states[written])[:, 0]
        return found.loss + distance(logits, rows.ids[written] - words.visual_start)

    course = Course(steps=sizes.steps(SHARE), what=f"{name}, seed {trial.seed}")
    train(model, loss, course, trial.work / name)
    return model.eval()


# Imagining and telling --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """`codes` [B, STEPS, 64] of imagined views; `stops` [B]: how many of each row are on the way."""

    codes: Tensor
    stops: list[int]

    def between(self, most: int = STEPS) -> tuple[Tensor, Tensor]:
        """The two views that stand for the way, of the first `most`."""
        numbers = torch.tensor([middle(max(1, min(most, stop))) for stop in self.stops])
        rows = torch.arange(len(numbers))
        return self.codes[rows, numbers[:, 0]], self.codes[rows, numbers[:, 1]]

    def of_others(self) -> Way:
        """Each row's way being that of the row before."""
        codes = THOUGHTS["foreign"].codes(self.codes.flatten(1), SQUARE, 0)
        assert codes is not None
        return Way(codes.view_as(self.codes), [*self.stops[-1:], *self.stops[:-1]])


def imagined(trial: Trial, model: UnifiedModel, coder: Any, first: Tensor, goal: Tensor) -> Way:
    """Views one after the other, each from the two before it and the goal, until one looks like the goal."""
    before, now, views = first, first, list[Tensor]()
    for step in range(STEPS):
        lines = streams.prompts(model.vocabulary, imagining(before, now, goal))
        seed = trial.seed * SEED_STRIDE + step
        drawn = draw_ahead(model, lines, SQUARE, seed=seed, order=streams.ORDER, sampler=GREEDY)
        before, now = now, drawn
        views.append(drawn)
    codes = torch.stack(views, dim=1)
    pictures = decode(coder, codes.flatten(0, 1), SQUARE).reshape(len(codes), STEPS, SIDE, SIDE, 3)
    goals = decode(coder, goal, SQUARE)
    near = [
        [ssim(view, wanted) > ARRIVED for view in row] for row, wanted in zip(pictures, goals, strict=True)
    ]
    return Way(codes, [row.index(True) if True in row else STEPS for row in near])


def told(model: UnifiedModel, parts: Parts) -> Tensor:
    """[B, SAID]: instructions, greedily."""
    lines = streams.prompts(model.vocabulary, parts)
    session = Session(model, rows=len(lines))
    session.feed(lines)
    found = list(session.text(sampler=GREEDY, max_tokens=SAID, draw=False, end=False))
    return torch.tensor(found).T


def scored(said: Tensor, data: list[Walk]) -> Numbers:
    found = [
        score_words(
            town_of(one.town), list(one.route.stands), as_text([min(n, len(WORDS) - 1) for n in line])
        )
        for line, one in zip(said.tolist(), data, strict=True)
    ]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def next_views(model: UnifiedModel, coder: Any, data: list[Walk], codes: Tensor) -> Numbers:
    """The first view on the way: SSIM beside the true one, that of showing the start again, and the share of
    codes that are right."""
    first, goal, true = (codes[[one.views[n] for one in data]] for n in (0, -1, 1))
    lines = streams.prompts(model.vocabulary, imagining(first, first, goal))
    drawn = draw_ahead(model, lines, SQUARE, order=streams.ORDER, sampler=GREEDY)
    shown, wanted, same = (decode(coder, x, SQUARE) for x in (drawn, true, first))
    return {
        "ssim": float(np.mean([ssim(a, b) for a, b in zip(shown, wanted, strict=True)])),
        "copy": float(np.mean([ssim(a, b) for a, b in zip(same, wanted, strict=True)])),
        "codes": float((drawn == true).float().mean()),
    }


@torch.no_grad()
def tested(
    trial: Trial, models: dict[str, UnifiedModel], coder: Any, data: list[Walk], codes: Tensor
) -> Numbers:
    first, goal = (codes[[one.views[n] for one in data]] for n in (0, -1))
    none = torch.full((len(data), SAID), NOTHING)
    empty = filler(len(data), SQUARE, trial.ground.sizes.tokenizer.codes)
    model = models["imagine"]
    way = imagined(trial, model, coder, first, goal)
    latest = none
    for step in range(1, STEPS + 1):
        latest = told(model, telling(first, way.between(step), goal, latest))
    said = {
        "direct": told(models["direct"], telling(first, None, goal, none)),
        "filler": told(models["filler"], telling(first, (empty, empty), goal, none)),
        "one pass": told(model, telling(first, way.between(), goal, none)),
        "interleaved": latest,
        "foreign views": told(model, telling(first, way.of_others().between(), goal, none)),
        "true views": told(model, telling(first, true_between(data, codes), goal, none)),
    }
    found: Numbers = {name: scored(words, data) for name, words in said.items()}
    lengths = [len(one.views) - 2 for one in data]
    early = [stop < length for stop, length in zip(way.stops, lengths, strict=True)]
    return {**found, "false arrivals": float(np.mean(early))}


def everything(trial: Trial) -> Numbers:
    """A tokenizer of views and four models for a seed; six ways to tell the way."""
    sizes = trial.ground.sizes
    data = walks("train", 0, max(8, sizes.scenes // 8))
    count = max(2, sizes.prompts // 2)
    test = walks("test", trial.seed * count, count)
    pictures = all_views()
    coder = streams.picture_tokenizer(pictures, sizes, trial.work / "vq")
    codes = streams.codes_of(coder, pictures)
    codebook = coder.codebook().detach()
    models = {name: taught(trial, name, data, codes, codebook) for name in MODELS}
    found = tested(trial, models, coder, test, codes)
    for name in ("imagine", "imagine, no distance"):
        found[name] = next_views(models[name], coder, test, codes)
    return found


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str) -> list[float]:
        pairs = zip(
            results.values("all", f"{one}/success"), results.values("all", f"{other}/success"), strict=True
        )
        return [100 * (a - b) for a, b in pairs]

    near = [
        a - b
        for a, b in zip(
            results.values("all", "imagine/ssim"),
            results.values("all", "imagine, no distance/ssim"),
            strict=True,
        )
    ]
    distance = at_least("(5) SSIM of next views with the distance loss less that without", near, 0.0)
    what = "(1) success after imagining in one pass less that without views, points"
    oracle = points("true views", "direct")
    if sum(oracle) <= 0:
        why = f"true views give {sum(oracle) / len(oracle):.1f} points: imagined ones have nothing to give"
        return [distance, not_applicable(what, why, central=True)]
    return [
        at_least(what, points("one pass", "direct"), 2.0),
        at_least("(2) what views of another way cost, points", points("one pass", "foreign views"), 5.0),
        at_least("(3) success beside as many ids without meaning, points", points("one pass", "filler"), 2.0),
        at_least("(4) interleaved less one pass, points", points("interleaved", "one pass"), 0.0),
        distance,
    ]


EXPERIMENT = Experiment(
    name="govig",
    what="instructions after imagined views, in one pass or interleaved, foreign, true, filler or no views",
    arms={"all": everything},
    judge=judge,
    minutes=28,
    scaled="two towns of blocks, views of 32 x 32 pixels, ways of one or two turns; success is that of a "
    "scripted follower; models of an eighth of a base model's inner size, 300 steps each, of which those "
    "that imagine spend half on views; two views stand for the way",
    shown=("success", "spl", "exact", "ssim", "codes"),
)
