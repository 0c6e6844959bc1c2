"""FutureSightDrive (arXiv 2505.17685): does a plan gain by a future picture that was drawn before it, and is
it the picture that helps, or the length of the thought?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
from unified.eval.lab.ground.scenes import SIDE
from unified.eval.lab.ground.streams import Parts, Piece
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.tasks.roads.render import draw
from unified.tasks.roads.road_task import RoadConfig, drive, score_plan
from unified.tasks.roads.traffic import STEP, TURNS, WAYPOINTS, Traffic

from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.decoding.visual_thought import THOUGHTS, draw_ahead, filler, think
from unified.model import UnifiedModel
from unified.stream.vocabulary import Vocabulary

AHEAD = 1.5  # seconds to the picture that is drawn
SHARE = 0.6  # of the base models' steps, for each of the three models
TRAINED = {"plain": "none", "frame": "own", "filler": "filler"}  # how each model's rows think
ARMS = {  # model and thought at inference
    "no frame": ("plain", "none"),
    "own frame": ("frame", "own"),
    "foreign frame": ("frame", "foreign"),
    "true frame": ("frame", "true"),
    "filler": ("filler", "filler"),
}
BIN = 0.5  # metres
SIDEWAYS, FORWARD = (-24.0, 24.0), (-3.0, 28.0)  # metres that waypoints lie in
GREEDY, DRAWN = Sampler(temperature=0), Sampler(temperature=0.1, top_k=10)
SCORES = ("l2_1s", "l2_2s", "l2_3s", "l2", "l2_until", "collision")


# Drives as ids ----------------------------------------------------------------------------------------------


def counts() -> tuple[int, int]:
    """Bins sideways and forward."""
    return tuple(round((high - low) / BIN) + 1 for low, high in (SIDEWAYS, FORWARD))  # type: ignore[return-value]


def to_bins(plans: np.ndarray) -> Tensor:
    """Plans [N, 6, 2] in metres -> action ids [N, 12] from 0."""
    found = []
    for axis, (low, high) in enumerate((SIDEWAYS, FORWARD)):
        bins = np.rint((plans[..., axis].clip(low, high) - low) / BIN).astype(np.int64)
        found.append(bins + axis * counts()[0])
    return torch.from_numpy(np.stack(found, axis=-1).reshape(len(plans), 2 * WAYPOINTS))


def to_metres(actions: Tensor) -> np.ndarray:
    """The inverse, [N, 6, 2]."""
    found = actions.numpy().reshape(len(actions), WAYPOINTS, 2) - np.array([0, counts()[0]])
    return found * BIN + np.array([SIDEWAYS[0], FORWARD[0]])


def choices(slot: int) -> range:
    """The ids of a slot: sideways in even ones, forward in odd ones."""
    first, second = counts()
    return range(first, first + second) if slot % 2 else range(first)


@dataclass(frozen=True)
class Drives:
    """`pictures` uint8 [N, 3, 32, 32, 3]: half a second ago, now, AHEAD; `plans` [N, 6, 2] in metres; `goals`
    [N, 1]; `traffic` of each."""

    pictures: np.ndarray
    plans: np.ndarray
    goals: Tensor
    traffic: list[Traffic]


def drives(split: str, first: int, count: int, cache: Path) -> Drives:
    """Drives number `first` and on; pictures are kept in the folder `cache`."""
    config = RoadConfig(size=SIDE)
    found = [drive(config, first + n, split) for n in range(count)]
    path = cache / f"road-{split}-{first}-{count}.npy"
    if not path.is_file():
        times = (-STEP, 0.0, AHEAD)
        pictures = np.stack([[draw(one.traffic, one.rate, t, SIDE) for t in times] for one in found])
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npy")
        np.save(unfinished, pictures)
        unfinished.replace(path)
    goals = torch.tensor([[TURNS.index(one.traffic.own.turn)] for one in found])
    plans = np.stack([one.plan for one in found])
    return Drives(np.load(path), plans, goals, [one.traffic for one in found])


def vocabulary(sizes: Sizes) -> Vocabulary:
    return Vocabulary(
        text=len(TURNS),
        visual=sizes.tokenizer.codes,
        action=sum(counts()),
        action_slots=2 * WAYPOINTS,
        max_side=MOST_SIDE,
        orders=(streams.ORDER,),
        appended=(),
    )


def asked(codes: Tensor, goals: Tensor) -> Parts:
    """The prompt: pictures [B, 3, 64], of which the first two are shown, and the goal."""
    shown = (Piece("read", codes[:, 0]), Piece("read", codes[:, 1]))
    return ("ask", *shown, Piece("text", goals), "answer")


def answered(thought: str, codes: Tensor, actions: Tensor, visual: int) -> Parts:
    """The answer of a training row: what is thought, then the plan."""
    plan = Piece("action", actions, scored=True)
    if thought == "none":
        return (plan,)
    seen = codes[:, 2] if thought == "own" else filler(len(codes), SQUARE, visual)
    return (Piece("write", seen, scored=True), Piece("read", seen), plan)


# Training and planning --------------------------------------------------------------------------------------


def taught(trial: Trial, name: str, codes: Tensor, data: Drives) -> tuple[UnifiedModel, float]:
    sizes, words = trial.ground.sizes, vocabulary(trial.ground.sizes)
    model, actions = streams.small_model(sizes, words, trial.seed), to_bins(data.plans)
    batch = max(2, sizes.batch // 2)

    def loss(step: int) -> Tensor:
        chosen = streams.drawn_rows(trial.seed, step, len(codes), batch)
        answer = answered(TRAINED[name], codes[chosen], actions[chosen], words.visual)
        rows = streams.joined(words, (*asked(codes[chosen], data.goals[chosen]), *answer))
        found = output(model, rows).loss
        assert found is not None
        return found

    course = Course(steps=sizes.steps(SHARE), what=f"{name}, seed {trial.seed}")
    seconds = train(model, loss, course, trial.work / name).seconds
    return model.eval(), seconds


@torch.no_grad()
def planned(trial: Trial, model: UnifiedModel, thought: str, codes: Tensor, data: Drives) -> np.ndarray:
    """Plans [N, 6, 2] after a thought of this name."""
    words, found = model.vocabulary, []
    most = trial.ground.sizes.rows
    for start in range(0, len(codes), most):
        part = slice(start, start + most)
        lines = streams.prompts(words, asked(codes[part], data.goals[part]))
        drawn, seed = codes[part, 2], trial.seed * SEED_STRIDE + start
        kind = THOUGHTS["own" if thought == "true" else thought]
        if kind.draws and thought != "true":
            drawn = draw_ahead(model, lines, SQUARE, seed=seed, order=streams.ORDER, sampler=DRAWN)
        session = Session(model, rows=len(lines), seed=seed)
        session.feed(lines)
        think(session, kind, drawn, SQUARE)
        found.append(session.action(sampler=GREEDY, choices=choices))
    return to_metres(torch.cat(found))


def scores(plans: np.ndarray, data: Drives) -> Numbers:
    """Means of `road_task.score_plan`."""
    found = [score_plan(*one) for one in zip(data.traffic, plans, data.plans, strict=True)]
    return {name: float(np.mean([one[name] for one in found])) for name in SCORES}


def everything(trial: Trial) -> Numbers:
    """A tokenizer and three models for a seed; five ways to plan, and plans without a model."""
    sizes, cache = trial.ground.sizes, trial.ground.cache
    data = drives("train", 0, max(4, sizes.scenes // 8), cache)
    count = max(2, sizes.prompts)
    test = drives("test", trial.seed * count, count, cache)
    coder = streams.picture_tokenizer(data.pictures.reshape(-1, SIDE, SIDE, 3), sizes, trial.work / "vq")
    encoded, encoded_test = (
        streams.codes_of(coder, one.pictures.reshape(-1, SIDE, SIDE, 3)).unflatten(0, (-1, 3))
        for one in (data, test)
    )
    models: dict[str, UnifiedModel] = {}
    found: Numbers = {}
    for name in TRAINED:
        models[name], found[f"training, {name}"] = taught(trial, name, encoded, data)
    for arm, (name, thought) in ARMS.items():
        found[arm] = scores(planned(trial, models[name], thought, encoded_test, test), test)
    still = np.zeros_like(test.plans)
    found["standing still"] = scores(still, test)
    found["mean plan"] = scores(still + data.plans.mean(axis=0), test)
    return found


def judge(results: Results) -> list[Criterion]:
    def lost(arm: str, name: str = "l2") -> list[float]:
        """Per cent that an arm is worse than the own frame."""
        pairs = zip(
            results.values("all", f"{arm}/{name}"), results.values("all", f"own frame/{name}"), strict=True
        )
        return [100 * (other / max(own, 1e-9) - 1) for other, own in pairs]

    learnt = [
        100 * (1 - a / b)
        for a, b in zip(
            results.values("all", "no frame/l2"), results.values("all", "mean plan/l2"), strict=True
        )
    ]
    what = "(1) L2 without a frame, % above that with an own one"
    if sum(learnt) / len(learnt) < 20:
        why = f"a model without frames is {sum(learnt) / len(learnt):.0f} % better than one plan for all"
        return [not_applicable(what, why, central=True)]
    gains = [
        100 * (a / max(b, 1e-9) - 1)
        for a, b in zip(
            results.values("all", "no frame/l2"), results.values("all", "true frame/l2"), strict=True
        )
    ]
    if sum(gains) / len(gains) <= 0:
        mean = sum(gains) / len(gains)
        why = f"true future frames make plans {mean:.0f} % better: drawn ones have nothing to give"
        return [not_applicable(what, why, central=True)]
    collisions = results.values("all", "no frame/collision"), results.values("all", "own frame/collision")
    return [
        at_least(what, lost("no frame"), 1.0),
        at_least(
            "(2) L2 with the frame of another drive, % above that with an own one", lost("foreign frame"), 5.0
        ),
        at_least(
            "(3) L2 with as many ids without meaning, % above that with an own frame", lost("filler"), 1.0
        ),
        at_least(
            "(4) collisions without a frame less those with one, points",
            [100 * (a - b) for a, b in zip(*collisions, strict=True)],
            0.0,
        ),
    ]


EXPERIMENT = Experiment(
    name="future_sight_drive",
    what="a plan of three seconds after a drawn future picture, its own or another's, filler, or nothing",
    arms={"all": everything},
    judge=judge,
    minutes=24,
    scaled="a junction from above at 32 x 32 with two or three other boxes; waypoints in bins of half a "
    "metre; the picture is 1.5 s ahead (published 0.5 s) and shows lanes and boxes as they are, so there is "
    "no overlay of its own; no thought in words; a model of an eighth of a base model's inner size for each "
    "of plain, frame and filler, 360 steps each",
    shown=SCORES,
)
