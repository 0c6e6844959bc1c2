"""ASVR (arXiv 2506.09040): does a model read pictures better if it must also tell their semantic codes, and
is it the meaning of the codes that helps?"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.eval.lab.experiment import Criterion, Experiment, Numbers, Results, Trial, at_least, at_most
from unified.eval.lab.ground import reading
from unified.eval.lab.ground.scenes import NUMBER, WORDS
from unified.eval.lab.ground.tokenizers import as_images
from unified.eval.lab.ground.training import Course, train

from unified.heads.depth import DepthHead, DepthHeadConfig
from unified.objectives.visual_reconstruction import VisualReconstruction, VisualReconstructionConfig

SHARE = 0.5
DEPTH, CODES = 2, 32  # codes of a patch, and values of a code: of all targets
ENCODER = 32  # channels of the semantic encoder
ROUNDS = 10  # of k-means
TARGETS = ("semantic", "appearance", "random")


# Targets ----------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Pictures [N, 3, 32, 32] -> features [N, 64, C] and logits of all words [N, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, ENCODER, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(ENCODER, ENCODER, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(ENCODER, ENCODER, 3, padding=1),
        )
        self.head = nn.Linear(2 * ENCODER, len(WORDS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(images)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return features.flatten(2).transpose(1, 2), self.head(pooled)


def semantic_features(trial: Trial) -> Tensor:
    """[N, 64, C] of training pictures, by an encoder that was taught which words a caption holds."""
    images, captions = as_images(trial.ground.pictures()), trial.ground.captions()
    named = torch.zeros(len(captions), len(WORDS)).scatter_(1, captions, 1.0)
    named[:, NUMBER["nothing"]] = 0
    torch.manual_seed(trial.seed)
    encoder = Encoder()

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_000 * trial.seed + step)
        chosen = torch.randint(len(images), (2 * trial.ground.sizes.batch,), generator=generator)
        return F.binary_cross_entropy_with_logits(encoder(images[chosen])[1], named[chosen])

    steps = trial.ground.sizes.steps(SHARE)
    train(encoder, loss, Course(steps=steps, what="semantic encoder"), trial.work / "encoder")
    with torch.no_grad():
        return torch.cat([encoder(part)[0] for part in images.split(256)])


def quantised(features: Tensor, seed: int) -> Tensor:
    """[N, 64, C] -> codes [N, 64, DEPTH]: residual k-means, its clusters found on a part."""
    generator = torch.Generator().manual_seed(seed)
    rest, codes = features.flatten(0, 1).clone(), []
    rest = (rest - rest.mean(dim=0)) / rest.std(dim=0).clamp(min=1e-6)
    for _ in range(DEPTH):
        some = rest[torch.randperm(len(rest), generator=generator)[: 400 * CODES]]
        centres = clusters(some, generator)
        nearest = torch.cat([torch.cdist(part, centres).argmin(dim=1) for part in rest.split(65536)])
        codes.append(nearest)
        rest = rest - centres[nearest]
    return torch.stack(codes, dim=1).view(*features.shape[:2], DEPTH)


def clusters(points: Tensor, generator: torch.Generator) -> Tensor:
    """Centres [CODES, C] of points [P, C] by Lloyd's algorithm; one that has lost all points stays."""
    chosen = torch.randint(len(points), (CODES,), generator=generator)
    centres = points[chosen].clone()
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        counts = nearest.bincount(minlength=CODES)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres)
    return centres


def targets(kind: str, trial: Trial) -> Tensor:
    """Codes [N, 64, DEPTH] of training pictures; random ones are fixed, and mean nothing."""
    if kind == "random":
        count = len(trial.ground.pictures())
        generator = torch.Generator().manual_seed(trial.seed)
        return torch.randint(CODES, (count, reading.CELLS**2, DEPTH), generator=generator)
    features = (
        semantic_features(trial)
        if kind == "semantic"
        else reading.patches(trial.ground.pictures())[..., :-1]  # the last is a constant
    )
    return quantised(features, trial.seed)


# Arms -------------------------------------------------------------------------------------------------------


def taught(kind: str, shift: int, trial: Trial) -> Numbers:
    """A captioner, with a further target unless `kind` is "none", read without its head."""
    sizes, ground = trial.ground.sizes, trial.ground
    model = reading.new_reader(sizes, trial.seed)
    data = ground.captions(), reading.patches(ground.pictures())
    course = Course(steps=sizes.steps(SHARE), what=f"{kind} targets, seed {trial.seed}")
    options: dict[str, Any] = {"batch": sizes.batch, "seed": trial.seed}
    found: Numbers = {}
    if kind == "none":
        done = reading.train_reader(model, data, course, trial.work, **options)
    else:
        codes = targets(kind, trial)
        heads = sizes.model.part(0.5, 0.5).heads
        config = DepthHeadConfig(
            hidden=model.width, width=model.width, heads=heads, layers=1, depth=DEPTH, codes=CODES
        )
        model.auxiliary = DepthHead(config)  # trained and kept with the model, and not asked when it reads
        term = VisualReconstruction(model.auxiliary, VisualReconstructionConfig(shift=shift))
        accuracy: list[list[float]] = []

        def further(chosen: Tensor, states: Tensor) -> Tensor:
            places = reading.image_places(model.vocabulary, len(states))
            out = term(states, places, codes[chosen].flatten(0, 1))
            accuracy.append(out.accuracy.tolist())
            return out.loss

        done = reading.train_reader(model, data, course, trial.work, **options, further=further)
        found["code_accuracy"] = accuracy[-1] if accuracy else None
    true = ground.captions("validation")
    lines = reading.said(model, reading.patches(ground.pictures("validation")), rows=sizes.rows)
    return {**found, **reading.words_right(lines, true), "training": done.seconds, "loss": done.losses[-1]}


def judge(results: Results) -> list[Criterion]:
    def points(one: str, other: str) -> list[float]:
        return [100 * x for x in results.difference(one, other, "words")]

    return [
        at_least(
            "(a) semantic codes raise the share of right words, points", points("semantic", "none"), 2.0
        ),
        at_least("(b) more than appearance codes do, points", points("semantic", "appearance"), 0.0),
        at_most("(c) appearance codes do not help, points", points("appearance", "none"), 1.0),
        at_least("(d) more than codes without meaning do, points", points("semantic", "random"), 1.0),
    ]


EXPERIMENT = Experiment(
    name="asvr",
    what="captions read from pictures by models that also tell semantic, appearance or random codes",
    arms={
        "none": partial(taught, "none", 0),
        **{kind: partial(taught, kind, 0) for kind in TARGETS},
        "shifted": partial(taught, "semantic", 1),
    },
    judge=judge,
    minutes=18,
    scaled="captions of nine words in place of questions; the semantic tokenizer is residual k-means of "
    "two times 32 codes on an encoder that was taught the words of captions; a picture is read in "
    "one piece, so its positions see all of it; a captioner of an eighth of a base model's inner "
    "size, 300 steps",
    shown=("words", "shape", "colour", "size", "cell", "background"),
)
