"""Orthus (arXiv 2412.00127): does a discrete model that reads patches as soft mixtures of its codes and draws
them by a small diffusion head keep what it learnt, and lose less of a picture?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from unified.eval.lab.arms import SEED_STRIDE
from unified.eval.lab.experiment import (
    Criterion,
    Experiment,
    Numbers,
    Results,
    Trial,
    at_least,
    not_applicable,
)
from unified.eval.lab.ground.latents import drawn, in_blocks
from unified.eval.lab.ground.measures import FRECHET, pixel_psnr, scores
from unified.eval.lab.ground.scenes import WORDS, caption, pictures
from unified.eval.lab.ground.tokenizers import DIM, SCHEDULE, as_images, as_pictures
from unified.eval.lab.ground.training import Course, Trained, train
from unified.tasks.scenes.scene import Scene

from unified.checkpoints.orthus.generation import PatchDecoding, image
from unified.checkpoints.orthus.network import (
    LATENT_SCALE,
    Orthus,
    OrthusConfig,
    OrthusIds,
    before_patches,
    patch_loss,
)
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.heads.denoiser import Denoiser
from unified.readers.soft_codes import soft_embedding, soft_weights

FIRST, SHARE, RATE, REPEATS = 0.8, 0.3, 3e-3, 4  # shares of the base models' steps: discrete, and afterwards
IMAGE, BEGIN, END, SEPARATOR = range(len(WORDS), len(WORDS) + 4)
FIRST_CODE = len(WORDS) + 4
SIDE = SCHEDULE[-1]
PATCHES = SIDE * SIDE
HEAD = 48  # channels of the head
SOFTNESS = 1.0  # in squares of the latents' spread
LEAST = 0.3  # accuracy of the discrete model below which it has nothing to keep
SAMPLER = Sampler(top_k=64)


class Reading(Orthus):
    """How patches are read: "soft" as published, "hard" by the nearest code alone, "linear" by a map of its
    own. Latents have a spread of 10, so that the head, which divides by that, sees one of 1."""

    way = "soft"

    def embeds(self, ids: Tensor, latents: Tensor | None = None) -> Tensor:
        found: Tensor = self.model.embed_tokens(ids)
        if latents is None:
            return found
        place = ids == self.config.ids.image
        vectors = latents[place.any(dim=1)].flatten(0, 1)
        codes = torch.arange(self.config.codes)
        book, table = (
            self.model.codebook_in(codes),
            self.model.embed_tokens(codes + self.config.ids.first_code),
        )
        if self.way == "linear":
            read: Tensor = self.linear(LATENT_SCALE * vectors)  # type: ignore[operator]
        elif self.way == "hard":
            read = table[torch.cdist(vectors, book).argmin(dim=-1)]
        else:
            read = soft_embedding(vectors, book, table, SOFTNESS / LATENT_SCALE**2)
        return found.masked_scatter(place[..., None], read.to(found.dtype))


class Patches:
    """Latents of pictures before quantisation [N, 64, C], of spread 10, and their codes [N, 64]."""

    def __init__(self, trial: Trial) -> None:
        self.coder = trial.ground.tokenizer("vq")
        first = self._latents(trial.ground.pictures()[:512])
        self.scale = float(1 / (LATENT_SCALE * first.std()))

    @torch.no_grad()
    def _latents(self, shown: np.ndarray) -> Tensor:
        return torch.cat([self.coder.latent(part).float() for part in as_images(shown).split(256)])

    @torch.no_grad()
    def of(self, shown: np.ndarray) -> tuple[Tensor, Tensor]:
        maps = self._latents(shown)
        ids = torch.cat([self.coder.quantise(part).ids for part in maps.split(256)])
        return self.scale * maps.flatten(2).mT, ids

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> np.ndarray:
        maps = (latents / self.scale).mT.unflatten(2, (SIDE, SIDE))
        return as_pictures(torch.cat([self.coder.decode_vectors(part) for part in maps.split(64)]))

    def book(self) -> Tensor:
        found: Tensor = self.scale * self.coder.codebook().detach().float()
        return found


def new_model(trial: Trial, book: Tensor) -> Reading:
    sizes = trial.ground.sizes
    size = sizes.model.part(0.5, 0.5)
    ids = OrthusIds(image=IMAGE, begin=BEGIN, end=END, separator=SEPARATOR, first_code=FIRST_CODE)
    config = OrthusConfig(
        ids=ids,
        vocabulary=FIRST_CODE + len(book),
        codes=len(book),
        channels=DIM,
        width=size.width,
        layers=size.layers,
        heads=size.heads,
        hidden=2 * size.width,
    )
    torch.manual_seed(trial.seed)
    model = Reading(config, Denoiser(size.width, DIM, HEAD, 3, outputs=DIM))
    for table in (model.model.embed_tokens, model.lm_head):
        nn.init.normal_(table.weight, std=0.02)
    with torch.no_grad():
        model.model.codebook_in.weight.copy_(book)
    model.linear = nn.Linear(DIM, size.width)
    return model


def lines(captions: Tensor, body: Tensor | None = None) -> Tensor:
    """[B, 9 + 1 + 64 + 1]: caption, begin, codes or placeholders of patches, end."""
    count = len(captions)
    marks = [torch.full((count, 1), mark) for mark in (BEGIN, END)]
    inner = torch.full((count, PATCHES), IMAGE) if body is None else body + FIRST_CODE
    return torch.cat([captions, marks[0], inner, marks[1]], dim=1)


# Training ---------------------------------------------------------------------------------------------------


class Lessons:
    def __init__(self, trial: Trial) -> None:
        self.trial, self.captions, self.patches = trial, trial.ground.captions(), Patches(trial)
        self.latents, self.codes = self.patches.of(trial.ground.pictures())

    def chosen(self, step: int) -> Tensor:
        rng = np.random.default_rng([59, self.trial.seed, step])
        return torch.from_numpy(rng.integers(len(self.codes), size=self.trial.ground.sizes.batch))

    def discrete(self, model: Reading, step: int) -> Tensor:
        chosen = self.chosen(step)
        ids = lines(self.captions[chosen], self.codes[chosen])
        hidden = model(ids).hidden[:, ids.shape[1] - PATCHES - 2 : -2]
        logits = model.lm_head(hidden)
        return nn.functional.cross_entropy(logits.flatten(0, 1), (self.codes[chosen] + FIRST_CODE).flatten())

    def continuous(self, model: Reading, step: int) -> Tensor:
        chosen, generator = (
            self.chosen(step),
            torch.Generator().manual_seed(1_000_000 * self.trial.seed + step),
        )
        return self.patch_loss(model, self.captions[chosen], self.latents[chosen], generator)

    def patch_loss(self, model: Reading, told: Tensor, latents: Tensor, generator: torch.Generator) -> Tensor:
        ids = lines(told)
        hidden = model(ids, latents).hidden[before_patches(ids, model.config.ids, PATCHES)]
        count = REPEATS * len(hidden)
        steps = torch.randint(1000, (count,), generator=generator)
        noise = torch.randn(count, DIM, generator=generator)
        return patch_loss(model.mlp_head, hidden, latents.flatten(0, 1), steps, noise).loss

    def taught(
        self, model: Reading, loss: Callable[[Reading, int], Tensor], share: float, what: str
    ) -> Trained:
        steps = self.trial.ground.sizes.steps(share)
        course = Course(steps=steps, rate=RATE, what=f"{what}, seed {self.trial.seed}")
        offset = self.trial.ground.sizes.steps(FIRST) if share != FIRST else 0
        return train(
            model, lambda step: loss(model, step + offset), course, self.trial.work / what, in_blocks
        )


def new_parts(model: Reading) -> float:
    """Leave the head and what reads patches to be trained; their share of what is used."""
    model.requires_grad_(False)
    chosen: list[Any] = [model.mlp_head]
    chosen += [model.linear] if model.way == "linear" else [model.model.codebook_in, model.model.embed_tokens]
    for part in chosen:
        part.requires_grad_(True)
    if model.way != "linear":  # of the table, codes alone
        words = torch.arange(model.config.vocabulary)[:, None] < FIRST_CODE
        model.model.embed_tokens.weight.register_hook(lambda grad: grad.masked_fill(words, 0.0))
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, free in counts if free) / sum(n for n, _ in counts)


# What it does -----------------------------------------------------------------------------------------------


@torch.no_grad()
def drawn_by_codes(trial: Trial, model: Reading, patches: Patches, scenes: list[Scene]) -> np.ndarray:
    """Code by code, as the discrete model."""
    found = []
    for start in range(0, len(scenes), trial.ground.sizes.rows):
        told = torch.tensor([caption(one) for one in scenes[start : start + trial.ground.sizes.rows]])
        rng = torch.Generator().manual_seed(trial.seed * SEED_STRIDE + start)
        stores, ids = model.stores(told.shape[1] + 1 + PATCHES), list[Tensor]()
        now = torch.cat([told, torch.full((len(told), 1), BEGIN)], dim=1)
        mask = torch.ones_like(now, dtype=torch.bool)
        for _ in range(PATCHES):
            hidden = model.read(model.embeds(now), mask, stores).hidden[:, -1]
            logits = model.lm_head(hidden)[:, FIRST_CODE:]
            least = logits.topk(min(SAMPLER.top_k, logits.shape[1])).values[:, -1:]
            shares = logits.masked_fill(logits < least, float("-inf")).softmax(dim=-1)
            ids.append(torch.multinomial(shares, 1, generator=rng))
            now = ids[-1] + FIRST_CODE
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        codes = torch.cat(ids, dim=1)
        found.append(as_pictures(patches.coder.decode(codes, (SIDE, SIDE))))
    return np.concatenate(found)


def drawn_by_patches(trial: Trial, model: Reading, patches: Patches, scenes: list[Scene]) -> np.ndarray:
    settings = PatchDecoding(patches=PATCHES, steps=10)

    def made_by(told: Tensor, noise: PositionNoise) -> Tensor:
        return image(model, told, torch.ones_like(told, dtype=torch.bool), noise, settings)

    return patches.pictures(drawn(trial, scenes, made_by))


WAYS = {  # how patches are read, and whether new parts alone are trained
    "soft, new parts": ("soft", True),
    "hard, new parts": ("hard", True),
    "linear, new parts": ("linear", True),
    "soft, all": ("soft", False),
}


def everything(trial: Trial) -> Numbers:
    """One discrete model, continued as it is and turned into a continuous one in four ways."""
    lessons = Lessons(trial)
    patches, scenes = lessons.patches, trial.ground.prompts(trial.seed)
    model = new_model(trial, patches.book())
    lessons.taught(model, lessons.discrete, FIRST, "discrete")
    true = pictures(scenes)
    latents, codes = patches.of(true)
    coded = np.concatenate(
        [as_pictures(patches.coder.decode(part, (SIDE, SIDE))) for part in codes.split(64)]
    )
    found: Numbers = {
        "kept by codes": pixel_psnr(coded, true),
        "kept by latents": pixel_psnr(patches.pictures(latents), true),
    }
    more = copy.deepcopy(model)
    done = lessons.taught(more, lessons.discrete, SHARE, "continued")
    found["discrete"] = scores(scenes, drawn_by_codes(trial, more.eval(), patches, scenes))
    found["discrete"]["training"] = done.seconds
    told = torch.tensor([caption(one) for one in scenes])
    for name, (way, parts_alone) in WAYS.items():
        own = copy.deepcopy(model)
        own.way = way
        share = new_parts(own) if parts_alone else 1.0
        done = lessons.taught(own, lessons.continuous, SHARE, name)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(trial.seed)
            error = float(lessons.patch_loss(own.eval(), told[:64], latents[:64], generator))
        made = drawn_by_patches(trial, own, patches, scenes)
        found[name] = {**scores(scenes, made), "error": error, "share": share, "training": done.seconds}
        found[name]["entropy"] = entropy_of(own, latents)
    return found


@torch.no_grad()
def entropy_of(model: Reading, latents: Tensor) -> float:
    """Mean entropy in nats of the weights of codes in patches."""
    weights = soft_weights(
        latents[:16].flatten(0, 1), model.model.codebook_in.weight, SOFTNESS / LATENT_SCALE**2
    )
    return float(-(weights * weights.clamp(min=1e-12).log()).sum(dim=-1).mean())


def judge(results: Results) -> list[Criterion]:
    def values(way: str, name: str = "attributes") -> list[float]:
        return results.values("all", f"{way}/{name}")

    own, base = values("soft, new parts"), values("discrete")
    what = "(a) new parts alone keep the discrete model's accuracy, %"
    if sum(base) / len(base) < LEAST:
        why = f"the discrete model's drawings have an accuracy of {sum(base) / len(base):.2f}"
        return [not_applicable(what, why, central=True)]
    found = [at_least(what, [100 * a / max(b, 1e-9) for a, b in zip(own, base, strict=True)], 90.0)]
    for other in ("hard", "linear"):
        points = [100 * (a - b) for a, b in zip(own, values(f"{other}, new parts"), strict=True)]
        errors = zip(values("soft, new parts", "error"), values(f"{other}, new parts", "error"), strict=True)
        less = [100 * (1 - a / b) for a, b in errors]
        either = [max(p / 2, e / 10) for p, e in zip(points, less, strict=True)]
        name = f"(b) soft against {other}: of two points, or of a tenth of the error, the larger share"
        found.append(at_least(name, either, 1.0))
    finer = [
        100 * (a - b) for a, b in zip(values("soft, all", "shape"), values("discrete", "shape"), strict=True)
    ]
    return [
        *found,
        at_least("(c) shapes, the finest detail here, all tuned against discrete, points", finer, 10.0),
    ]


EXPERIMENT = Experiment(
    name="orthus",
    what="a discrete raster model turned into one of continuous patches in four ways",
    arms={"all": everything},
    judge=judge,
    minutes=20,
    scaled="Orthus' own network at an eighth of a base model's inner size, told captions of nine words; 480 "
    "discrete steps, then 180 of each way; ten denoising steps; the head and the table of codes are a "
    "larger share of so small a model than a tenth, which is shown and not judged; shapes stand for fine "
    "stripes, and it reads no pictures, so that questions are not asked; one softness",
    shown=("attributes", "shape", FRECHET, "error", "share"),
)
