"""One training loop for base models and experiments: resumable, and a function of its seed alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm
from unified.train.optimiser import is_inner, muon

WARMUP = 20
FINAL = 0.05  # of the learning rate
DECAY = 0.01


@dataclass(frozen=True, kw_only=True)
class Course:
    """`every`: steps between checkpoints, about the work that an interruption costs. `stop`: after how many
    of its steps training rests (0: at its end), to be gone on with by a course that stops later. `warmup`:
    steps over which the rate rises; 0 for courses that are hardly longer."""

    steps: int
    stop: int = 0
    rate: float = 3e-3
    every: int = 50
    clip: float = 1.0
    what: str = ""
    warmup: int = WARMUP

    def rate_at(self, step: int) -> float:
        return self.rate * min(1.0, (step + 1) / max(self.warmup, 1)) * max(FINAL, 1 - step / self.steps)


def rate_of(mean: float, steps: int) -> float:
    """The rate of a course whose mean over its steps is this: a short one hardly leaves its warm-up."""
    course = Course(steps=steps, rate=1.0)
    return mean * steps / sum(map(course.rate_at, range(steps)))


@dataclass(frozen=True)
class Trained:
    """`losses` of all steps, and the seconds that they took in all runs together."""

    losses: list[float]
    seconds: float


def train(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    course: Course,
    folder: Path,
    inner: Callable[[str], bool] = is_inner,
) -> Trained:
    """Steps of `loss(step)`, which must depend on the step (and the model) alone. A checkpoint in `folder`,
    if there is one, is where it goes on, so that an interrupted training ends with the same weights. Muon
    trains the matrices whose name is `inner`."""
    optimiser = muon(model.named_parameters(), inner, course.rate, DECAY)
    losses, seconds = _restored(model, optimiser, folder)
    weights = [p for p in model.parameters() if p.requires_grad]
    began = time.monotonic()
    model.train()
    stop = course.stop or course.steps
    steps = range(len(losses), stop)
    bar = tqdm(steps, course.what, stop, initial=len(losses), file=sys.stderr, disable=None)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = course.rate_at(step)
        found = loss(step)
        optimiser.zero_grad()
        found.backward()
        nn.utils.clip_grad_norm_(weights, course.clip)
        optimiser.step()
        losses.append(float(found.detach()))
        if (step + 1) % course.every == 0 or step + 1 == stop:
            _save(model, optimiser, losses, seconds + time.monotonic() - began, folder)
    model.eval()
    return Trained(losses, seconds + time.monotonic() - began)


def _save(
    model: nn.Module, optimiser: torch.optim.Optimizer, losses: list[float], seconds: float, folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save({**state, "losses": losses, "seconds": seconds}, folder / "checkpoint.part")
    (folder / "checkpoint.part").replace(folder / "checkpoint.pt")


def _restored(model: nn.Module, optimiser: torch.optim.Optimizer, folder: Path) -> tuple[list[float], float]:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return [], 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["losses"], state["seconds"]
