"""Bridge (arXiv 2510.01546): can a model that reads pictures learn to draw by layers of its own without
losing a bit of what it says, and does a line of semantic codes before the pixels' help it draw?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
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
    holds,
    not_applicable,
)
from unified.eval.lab.ground import reading
from unified.eval.lab.ground.bases import MOST_SIDE, rows
from unified.eval.lab.ground.codecs import Data, passed, quality, teach, wanted
from unified.eval.lab.ground.drawing import How, draw
from unified.eval.lab.ground.measures import FRECHET, scores
from unified.eval.lab.ground.scenes import WORDS, caption
from unified.eval.lab.ground.teacher import FEATURES, taught
from unified.eval.lab.ground.training import Course, train
from unified.tokenizers.composite import CompositeTokenizer
from unified.tokenizers.kinds import kind_of
from unified.train.stored import write_text
from unified.train.tokenizer import LossConfig, RestartConfig, TokenizerTrainingConfig

from unified.config import UnifiedConfig, text_decoder
from unified.growth import grow_expert
from unified.model import UnifiedModel
from unified.orders.shapes import as_shapes
from unified.stream.vocabulary import CONTINUOUS, Vocabulary

CODER, READS, DRAWS, RATE = 0.5, 0.8, 0.5, 3e-3  # shares of the base models' steps
SOONER = 0.75  # of the steps, after which semantic codes may have paid already
LEAST, TOLD = 0.3, 0.4  # of drawings' attributes and of words read, below which nothing is compared


def coder_of(trial: Trial) -> CompositeTokenizer:
    """16 semantic codes, drawn to the teacher's features, and 64 pixel codes."""
    teacher = taught(trial, trial.work / "teacher")
    config = kind_of("composite").small(wanted(trial, features=FEATURES))
    torch.manual_seed(trial.seed)
    steps = trial.ground.sizes.steps(CODER)
    training = TokenizerTrainingConfig(
        steps=steps,
        learning_rate=1e-3,
        log_every=steps,
        losses=LossConfig(pixels="l2"),
        restarts=RestartConfig(first=8),
    )
    found: CompositeTokenizer = teach(trial, CompositeTokenizer(config), training, teacher=teacher)
    return found


def reader_of(trial: Trial, codes: int, length: int) -> UnifiedModel:
    """A model that says captions of pictures, with room for codes to draw with."""
    sizes = trial.ground.sizes
    size = sizes.model.part(0.5, 0.5)
    words = Vocabulary(
        text=len(WORDS),
        visual=codes,
        action=0,
        max_side=max(MOST_SIDE, length),
        orders=("raster",),
        appended=(CONTINUOUS,),
    )
    torch.manual_seed(trial.seed)
    backbone = text_decoder(width=size.width, layers=size.layers, heads=size.heads, kv_heads=size.heads)
    readers = {CONTINUOUS: {"kind": "linear", "width": reading.CHANNELS}}
    model = UnifiedModel(UnifiedConfig(vocabulary=words.to_dict(), backbone=backbone, readers=readers))
    data = trial.ground.captions(), reading.patches(trial.ground.pictures())
    course = Course(steps=sizes.steps(READS), rate=RATE, what="reader")
    reading.train_reader(model, data, course, trial.work / "reader", batch=sizes.batch, seed=trial.seed)
    return model.eval()


@torch.no_grad()
def answers(model: UnifiedModel, vectors: Tensor, captions: Tensor) -> Tensor:
    """Logits [N, 9, words] of captions, after pictures as patches [N, 64, 49]."""
    told = reading.told(model.vocabulary, captions, vectors)
    start = int((told.labels[0] >= 0).nonzero()[0])
    states = model.states(told.ids, told.layout, told.values)[0]
    return model.text_logits(states[:, start - 1 : start - 1 + captions.shape[1]])


class Drawing:
    """What models of one trial learn to draw: lines of `codes` [N, n], those of the pixels alone or of
    both."""

    def __init__(self, trial: Trial, coder: CompositeTokenizer) -> None:
        self.trial, self.coder = trial, coder
        self.data = Data.of(trial)
        self.codes = passed(coder, self.data.pictures).codes

    def taught(self, model: UnifiedModel, plan: bool, what: str) -> Numbers:
        """Train what is free of a model; what it then draws. With a `plan` also the accuracy `sooner`."""
        trial, sizes = self.trial, self.trial.ground.sizes
        codes = self.codes if plan else self.codes[:, self.coder.plan :]
        shapes = as_shapes([(1, codes.shape[1])])

        def loss(step: int) -> Tensor:
            rng = np.random.default_rng([53, trial.seed, step])
            chosen = torch.from_numpy(rng.integers(len(codes), size=sizes.batch))
            batch = rows(model.vocabulary, self.data.captions[chosen], codes[chosen], "raster", shapes)
            found = output(model, batch).loss
            assert found is not None
            return found

        def seen() -> dict[str, float]:
            coder, how = self.coder if plan else Pixels(self.coder), How(order="raster", shapes=shapes)
            seed = trial.seed * SEED_STRIDE
            drawn = draw(model, coder, self.data.scenes, how, seed=seed, rows=sizes.rows)
            return scores(self.data.scenes, drawn.pictures)

        course = Course(steps=sizes.steps(DRAWS), rate=RATE, what=what)
        found: Numbers = {}
        if plan:
            told = trial.work / what / "sooner.json"  # an interrupted run may be past it
            if not told.is_file():
                early = replace(course, stop=max(1, round(SOONER * course.steps)))
                train(model, loss, early, trial.work / what)
                write_text(told, json.dumps(seen()["attributes"]))
            found["sooner"] = json.loads(told.read_text())
        done = train(model, loss, course, trial.work / what)
        return {**found, **seen(), "training": done.seconds, "loss": done.losses[-1]}


class Pixels:
    """Lines of a composite tokenizer's pixel codes alone, decoded."""

    def __init__(self, coder: CompositeTokenizer) -> None:
        self.coder = coder

    def read_shapes(self, shapes: Any) -> Any:
        return shapes

    def decode_maps(self, ids: Sequence[Tensor], shapes: Any) -> Tensor:
        plan = torch.zeros(len(ids[0]), self.coder.plan, dtype=torch.long)  # decoding does not read it
        line = torch.cat([plan, ids[0].clamp(min=self.coder.first)], dim=1)
        return self.coder.decode_maps([line], [(1, self.coder.line)])


def everything(trial: Trial) -> Numbers:
    """One reader, grown in three ways."""
    coder = coder_of(trial)
    model = reader_of(trial, coder.codes, coder.line)
    scenes, true = Data.of(trial).scenes, Data.of(trial).held
    vectors, told = reading.patches(true), torch.tensor([caption(one) for one in scenes])
    before = answers(model, vectors, told)
    drawing = Drawing(trial, coder)
    found: Numbers = {"coder": quality(coder, true), "reader": _read(model, vectors, told)}
    for name, plan in (("expert, pixels", False), ("expert, semantic first", True)):
        grown = grow_expert(model)
        grown.requires_grad_(False)
        for part in (grown.backbone.expert, grown.head, grown.slots):
            part.requires_grad_(True)
        found[name] = drawing.taught(grown, plan, name)
        found[name] |= {"same": torch.equal(answers(grown.eval(), vectors, told), before)}
        found[name] |= _read(grown, vectors, told)
    whole = model.train().requires_grad_(True)
    found["one trunk, semantic first"] = drawing.taught(whole, True, "trunk") | _read(
        whole.eval(), vectors, told
    )
    return found


def _read(model: UnifiedModel, vectors: Tensor, captions: Tensor) -> Numbers:
    return {"words": reading.words_right(reading.said(model, vectors), captions)["words"]}


def judge(results: Results) -> list[Criterion]:
    def values(way: str, name: str) -> list[float]:
        return results.values("all", f"{way}/{name}")

    ways = ("expert, pixels", "expert, semantic first")
    same = [all(results.of("all", seed, f"{way}/same") for way in ways) for seed in results.seeds]
    found = [holds("(a) words are the same bit by bit with an expert that draws", same)]
    words = values("reader", "words")
    what = "(b) a trunk that learns to draw says fewer words right, points"
    if sum(words) / len(words) < TOLD:
        why = f"the reader has {100 * sum(words) / len(words):.0f} % of words right: nothing to forget"
        found.append(not_applicable(what, why))
    else:
        lost = zip(words, values("one trunk, semantic first", "words"), strict=True)
        found.append(at_least(what, [100 * (a - b) for a, b in lost], 2.0))
    what = "(c) semantic codes first add to the accuracy of drawings, points"
    best = max(sum(values(way, "attributes")) / len(results.seeds) for way in ways)
    if best < LEAST:
        return [
            *found,
            not_applicable(what, f"neither expert passes an accuracy of {best:.2f}", central=True),
        ]
    plain = values(ways[0], "attributes")

    def more(name: str) -> list[float]:
        return [100 * (a - b) for a, b in zip(values(ways[1], name), plain, strict=True)]

    better = at_least(what, more("attributes"), 4.0)
    what = "(c) after 75 % of the steps semantic codes first do as well as pixels alone at the end, points"
    sooner = at_least(what, more("sooner"), 0.0)
    return [*found, sooner if sooner.met and not better.met else better]


EXPERIMENT = Experiment(
    name="bridge",
    what="a small reader grown to draw by an expert or in its own trunk, with and without semantic codes",
    arms={"all": everything},
    judge=judge,
    minutes=26,
    scaled="a reader of an eighth of a base model's inner size, 480 steps, grown for 300; 16 semantic "
    "codes, drawn to a teacher that knows the words of captions, before 64 pixel codes, a longer plan than "
    "the paper's; later text does not see drawn codes; semantic codes alone with a decoder, and pixels by "
    "scales, are not built",
    shown=("attributes", "all", FRECHET, "words", "same"),
)
