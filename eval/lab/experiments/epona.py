"""Epona (arXiv 2506.24113): do rollouts drift less where training chains passes over the model's own
estimates, and are drawn trajectories better than going straight on?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unified.eval.lab.arms import SEED_STRIDE
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
from unified.eval.lab.ground import streams
from unified.eval.lab.ground.latents import CHANNELS, TOKENS, in_blocks
from unified.eval.lab.ground.latents import SIDE as GRID
from unified.eval.lab.ground.scenes import SIDE
from unified.eval.lab.ground.tokenizers import as_images, as_pictures, train_one
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.tasks.roads.render import OTHERS, OWN, draw
from unified.tasks.roads.road_task import RoadConfig, drive
from unified.tasks.roads.traffic import AREA, own_pose

from unified.checkpoints.epona.flow_transformer import FlowConfig, FlowTransformer
from unified.checkpoints.epona.geometry import MotionScales, motions
from unified.checkpoints.epona.network import Epona, EponaSizes, frame_positions, point_positions
from unified.checkpoints.epona.sampling import StepNoise, next_frame, plan
from unified.checkpoints.epona.training import PassDraws, PassResult, Window, chained, losses, window_of
from unified.checkpoints.epona.transformer import ContextTransformer
from unified.decoding.noise import PositionNoise

SHARE = 0.5  # of the base models' steps, of each of three trainings
FRAMES, POINTS = 3, 6  # of the context; of a trajectory
DT, FIRST, LENGTH = 0.25, -0.75, 16  # seconds between frames, of the first frame, and frames of a clip
CHAIN, EVERY = 3, 10  # passes of a chain, and steps of training of which the last are one
NOISE = 0.3  # spread of what the control adds to its context
ROLLED, SOLVER = 10, 8  # frames of a rollout, Euler steps of each
METRES = 10.0  # in a unit of poses, so that published scales of motion hold
LOST, NEAR = 5.0, 70.0  # metres that a box which is not found is off; distance of a colour that is its
TRAININGS = ("teacher forcing", "chain of forward", "noisy context")
SCALES = MotionScales(bounds=(3.0, 3.0, 12.0))
LEAST = 0.3  # metres that boxes drift with teacher forcing, below which there is nothing to mend


@dataclass(frozen=True)
class Clips:
    """`frames` uint8 [N, T, 32, 32, 3]; `poses` [N, T, 4, 4]: where the own box is, in units of METRES, the
    first axis pointing up and the second to the left; `turns`: which way it goes."""

    frames: np.ndarray
    poses: Tensor
    turns: list[str]


def clips(split: str, first: int, count: int, cache: Path) -> Clips:
    """Clips of drives number `first` and on; pictures are kept in the folder `cache`."""
    drives = [drive(RoadConfig(size=SIDE), first + n, split) for n in range(count)]
    times = [FIRST + DT * n for n in range(LENGTH)]
    path = cache / f"road-clips-{split}-{first}-{count}.npy"
    if not path.is_file():
        frames = np.stack([[draw(one.traffic, one.rate, t, SIDE) for t in times] for one in drives])
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npy")
        np.save(unfinished, frames)
        unfinished.replace(path)
    places = np.array([[own_pose(one.traffic, one.rate, t)[:2] for t in times] for one in drives])
    poses = torch.eye(4).repeat(count, LENGTH, 1, 1)
    poses[..., 0, 3] = torch.from_numpy(-places[..., 1] / METRES)
    poses[..., 1, 3] = torch.from_numpy(-places[..., 0] / METRES)
    return Clips(np.load(path), poses, [one.traffic.own.turn for one in drives])


# Latents ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coder:
    """A KL-VAE, and the `mean` and `spread` [C] of its latents of training frames."""

    network: Any
    mean: Tensor
    spread: Tensor

    @staticmethod
    def of(frames: np.ndarray, sizes: Sizes, work: Path) -> Coder:
        network = train_one("kl_vae", frames.reshape(-1, SIDE, SIDE, 3), streams.small(sizes), work)
        flat = _latents(network, frames.reshape(-1, SIDE, SIDE, 3)[::7]).flatten(0, 1)
        return Coder(network, flat.mean(dim=0), flat.std(dim=0).clamp(min=1e-4))

    def latents(self, frames: np.ndarray) -> Tensor:
        """[N, T, 64, C] of frames [N, T, 32, 32, 3]."""
        flat = _latents(self.network, frames.reshape(-1, SIDE, SIDE, 3))
        return ((flat - self.mean) / self.spread).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> np.ndarray:
        """uint8 [N, 32, 32, 3] of [N, 64, C]."""
        vectors = (latents * self.spread + self.mean).transpose(1, 2).unflatten(2, (GRID, GRID))
        return as_pictures(torch.cat([self.network.decode_vectors(part) for part in vectors.split(64)]))


@torch.no_grad()
def _latents(network: Any, frames: np.ndarray) -> Tensor:
    parts = as_images(frames).split(256)
    return torch.cat([network.latent(part).flatten(2).transpose(1, 2) for part in parts])


# The model --------------------------------------------------------------------------------------------------


def new_model(sizes: Sizes, seed: int) -> Epona:
    """About an eighth of a base model's inner size in each network."""
    torch.manual_seed(seed)
    size = sizes.model.part(0.5, 0.5)
    own = EponaSizes(grid=(GRID, GRID), frames=FRAMES, points=POINTS, scales=SCALES)
    width, heads = size.width, size.heads
    channels = width // heads
    axes = (channels // 2, channels // 4, channels // 4)
    context = ContextTransformer(
        CHANNELS, width, max(2, size.layers // 2), heads, 32, own.grid, FRAMES, SCALES
    )
    shared: dict[str, Any] = {"condition": width, "width": width, "heads": heads, "axes": axes}
    frame = FlowConfig(channels=CHANNELS, vector=3 * width, depth=(1, 2), **shared)
    path = FlowConfig(channels=3, depth=(1, 1), **shared)
    return Epona(
        own,
        context,
        FlowTransformer(frame, frame_positions(own.grid)),
        FlowTransformer(path, point_positions(POINTS)),
    )


def draws(rows: int, generator: torch.Generator) -> PassDraws:
    def normal(count: int, channels: int) -> Tensor:
        return torch.randn(rows * FRAMES, count, channels, generator=generator)

    def times() -> Tensor:
        return torch.rand(rows * FRAMES, 1, 1, generator=generator)

    return PassDraws(times(), normal(POINTS, 3), times(), normal(TOKENS, CHANNELS))


class Chain:
    """Passes of training: true windows, and with chain of forward the last CHAIN of every EVERY steps are a
    chain whose window moves on. No checkpoint lies inside a chain, so that training may go on from any."""

    def __init__(self, latents: Tensor, poses: Tensor, kind: str, seed: int, batch: int) -> None:
        self.latents, self.poses, self.kind, self.seed, self.batch = latents, poses, kind, seed, batch
        self.before: PassResult | None = None

    def loss(self, model: Epona, step: int) -> Tensor:
        number = max(0, step % EVERY - EVERY + CHAIN) if self.kind == "chain of forward" else 0
        begun = step - number  # all passes of a chain are of the same clips
        chosen = streams.drawn_rows(self.seed, begun, len(self.latents), self.batch)
        generator = torch.Generator().manual_seed(self.seed * SEED_STRIDE + step)
        last = LENGTH - FRAMES - POINTS - CHAIN
        start = int(np.random.default_rng([self.seed, begun, 1]).integers(last + 1)) + number
        true = window_of(model, self.latents[chosen], self.poses[chosen], start)
        window = (
            true if not number or self.before is None else chained(model, true, self.before, rescaled=True)
        )
        if self.kind == "noisy context":
            noise = torch.randn(window.frames.shape, generator=generator)
            window = Window(window.frames + NOISE * noise, window.motion, window.following, window.trajectory)
        found = losses(model, window, draws(self.batch, generator))
        self.before = found
        return found.total


# Rollouts ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def rolled_out(model: Epona, latents: Tensor, poses: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Frames [N, ROLLED, 64, C] after the first three, told the true motion; and the trajectory [N, POINTS,
    3] that is drawn after these three, in units of METRES."""
    noise = PositionNoise([seed + row for row in range(len(latents))])
    frames, found, first = latents[:, :FRAMES], list[Tensor](), torch.empty(0)
    for step in range(ROLLED):
        motion = true_motion(poses, step)
        features = model.model(frames, motion[:, :FRAMES])[:, -1]
        own = StepNoise(noise, step)
        if not step:
            first = plan(model, features, own, SOLVER)
        found.append(next_frame(model, features, motion[:, FRAMES], own, SOLVER))
        frames = torch.cat([frames[:, 1:], found[-1][:, None]], dim=1)
    return torch.stack(found, dim=1), first


def true_motion(poses: Tensor, start: int) -> Tensor:
    """[N, FRAMES + 1, 3] of the window that begins there, as `geometry.motions` has it."""
    return motions(poses[:, start:], FRAMES)


def places(picture: np.ndarray) -> np.ndarray:
    """[6, 2]: where in metres the own box and the others are in uint8 [32, 32, 3], by colour; NaN for those
    that are not there."""
    found = np.full((1 + len(OTHERS), 2), np.nan)
    palette = np.array([OWN, *OTHERS], float)
    apart = np.linalg.norm(picture[:, :, None].astype(float) - palette, axis=-1)  # [32, 32, 6]
    nearest = apart.argmin(axis=-1)
    for number in range(len(palette)):
        rows, columns = np.nonzero((nearest == number) & (apart[..., number] < NEAR))
        if len(rows):
            found[number] = (np.array([columns.mean(), rows.mean()]) + 0.5) * AREA / len(picture)
    return found


def drift(drawn: np.ndarray, true: np.ndarray) -> float:
    """Root mean square in metres of how far boxes of pictures [N, 32, 32, 3] are from where they are in true
    ones; one that is not found is LOST metres off."""
    errors = []
    for one, other in zip(drawn, true, strict=True):
        wanted, found = places(other), places(one)
        there = ~np.isnan(wanted[:, 0])
        off = np.hypot(*(found[there] - wanted[there]).T)
        errors.append(np.minimum(np.nan_to_num(off, nan=LOST), LOST))
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def straight_on(poses: Tensor) -> Tensor:
    """[N, POINTS, 3]: the latest motion of the context, over and over."""
    motion = true_motion(poses, 0)[:, FRAMES - 1]
    return motion[:, None] * torch.arange(1, POINTS + 1)[:, None]


def displacement(found: Tensor, true: Tensor) -> Tensor:
    """[N]: mean distance in metres of way points [N, POINTS, 3]."""
    return METRES * (found - true)[..., :2].norm(dim=-1).mean(dim=1)


def everything(trial: Trial) -> Numbers:
    """A KL-VAE and three trainings of as many updates for a seed; rollouts and trajectories of each."""
    sizes, cache = trial.ground.sizes, trial.ground.cache
    data = clips("train", 0, max(4, sizes.scenes // 20), cache)
    count = max(2, sizes.prompts // 2)
    test = clips("test", trial.seed * count, count, cache)
    coder = Coder.of(data.frames, sizes, trial.work / "kl")
    latents, own = coder.latents(data.frames), coder.latents(test.frames)
    after = slice(FRAMES, FRAMES + ROLLED)
    true = coder.pictures(own[:, after].flatten(0, 1)).reshape(count, ROLLED, SIDE, SIDE, 3)
    curved = torch.tensor([turn != "straight" for turn in test.turns])
    way = torch.stack([true_motion(test.poses, n)[:, FRAMES] for n in range(POINTS)], dim=1).cumsum(dim=1)
    found: Numbers = {"straight on": split(displacement(straight_on(test.poses), way), curved)}
    for kind in TRAININGS:
        model = new_model(sizes, trial.seed)
        chain = Chain(latents, data.poses, kind, trial.seed, max(2, sizes.batch // 2))
        course = Course(steps=sizes.steps(SHARE), what=f"{kind}, seed {trial.seed}")
        done = train(model, partial(chain.loss, model), course, trial.work / kind, in_blocks)
        drawn, path = rolled_out(model.eval(), own, test.poses, trial.seed * SEED_STRIDE)
        shown = coder.pictures(drawn.flatten(0, 1)).reshape(true.shape)
        error = (drawn - own[:, after]).square().mean(dim=(0, 2, 3)).sqrt()
        found[kind] = {
            "first": drift(shown[:, 0], true[:, 0]),
            "last": drift(shown[:, -1], true[:, -1]),
            "latent": error.tolist(),
            "planned": split(displacement(path, way), curved),
            "training": done.seconds,
        }
    copied = np.repeat(coder.pictures(own[:, FRAMES - 1])[:, None], ROLLED, axis=1)
    found["copied"] = {"first": drift(copied[:, 0], true[:, 0]), "last": drift(copied[:, -1], true[:, -1])}
    return found


def split(error: Tensor, curved: Tensor) -> dict[str, float]:
    """Means over turns and over ways straight on; 0 where there is none."""
    parts = {"turns": error[curved], "straight": error[~curved]}
    return {name: float(part.mean()) if len(part) else 0.0 for name, part in parts.items()}


def judge(results: Results) -> list[Criterion]:
    def less(name: str, other: str) -> list[float]:
        """Per cent by which chain of forward drifts less than another training."""
        both = (results.values("all", f"{arm}/{name}") for arm in (other, "chain of forward"))
        return [100 * (1 - b / max(a, 1e-9)) for a, b in zip(*both, strict=True)]

    ways = zip(
        results.values("all", "chain of forward/planned/turns"),
        results.values("all", "straight on/turns"),
        strict=True,
    )
    planned = at_most(
        "(2) displacement of drawn trajectories beside going straight on, in turns",
        [a / max(b, 1e-9) for a, b in ways],
        0.5,
    )
    what = "(1) drift at the end of a rollout, % less than with teacher forcing"
    forced = results.values("all", "teacher forcing/last")
    copied = results.values("all", "copied/last")
    mean = sum(forced) / len(forced)
    if mean < LEAST:
        return [planned, not_applicable(what, f"boxes drift by {mean:.2f} m alone: nothing to mend")]
    if sum(forced) > sum(copied):
        why = f"boxes of rollouts are {mean:.2f} m off, those of a frame that stands still less"
        return [planned, not_applicable(what, why, central=True)]
    first = less("first", "teacher forcing")
    return [
        at_least(what, less("last", "teacher forcing"), 25.0),
        at_least("(1) % less than with noise in the context", less("last", "noisy context"), 5.0),
        at_least("(1) of the first frame, % less than with teacher forcing", first, -3.0),
        planned,
    ]


EXPERIMENT = Experiment(
    name="epona",
    what="frames and trajectories by flow matching: teacher forcing, chain of forward, noise in the context",
    arms={"all": everything},
    judge=judge,
    minutes=28,
    scaled="a junction from above at 32 x 32, a frame every quarter of a second, rollouts of 10 frames told "
    "the true motion; motion along the picture's axes, without yaw; 400 clips; three small networks, 300 "
    "updates for every training, three in ten of them in chains; boxes are found by colour; joint against "
    "separate training and the share of branches at a fork are not measured",
    shown=("first", "last", "turns", "straight"),
)
