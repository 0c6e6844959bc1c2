"""Trains a learned reward and termination read-out on steps of a task of the voxel world.

    python -m unified.train.read_out --task reach --out runs/my_model

It is saved in the folder of a model as `reward_TASK.safetensors`, where `unified/DreamReach-v0` and
`unified/DreamDig-v0` look for it, with its precision and recall on held-out terrain.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from unified.envs.world_model.read_out import EVENTS, ReadOutConfig, RewardReadOut, file_name, save_read_out
from unified.tasks.worlds.rewarded import REWARDED_TASKS, RewardedConfig, Steps, rewarded_steps

from unified.apps.commands.common import count, seed
from unified.command import Parser, run

BRIGHTNESS, NOISE = 12.0, 8.0  # of 255: what imagined frames differ by from true ones
NEAR = {"reach": (3, 12)}  # goals that are learned from: near ones are reached in fewer steps


@dataclass(frozen=True, kw_only=True)
class ReadOutTraining:
    """`steps` of AdamW on `batch` samples, half of them of rare steps, at the largest rate `rate`."""

    steps: int = 1200
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0


def train_read_out(
    data: Steps, config: ReadOutConfig, training: ReadOutTraining | None = None
) -> RewardReadOut:
    """Binary cross-entropy of both events, every sample weighted by how many steps it stands for over how
    often it is drawn, so that probabilities are those of all steps. `config.amount` is set to the mean
    reward of the rewarded steps. ValueError for data without a rewarded step."""
    training = training or ReadOutTraining()
    truth = torch.stack([data.rewards != 0, data.ends], dim=1).float()  # [N, 2]
    rare = truth.any(dim=1)
    if not truth[:, 0].any() or rare.all():
        raise ValueError("needs steps with and without a reward: play more episodes")
    torch.manual_seed(training.seed)
    amount = float(data.rewards[truth[:, 0].bool()].mean())
    model = RewardReadOut(replace(config, amount=amount)).train()
    small = torch.cat([model.averaged(part) for part in data.frames.split(512)]).half()
    groups = [rare.nonzero()[:, 0], (~rare).nonzero()[:, 0]]
    shares = torch.stack([data.weights[group].sum() for group in groups]) / data.weights.sum()
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=training.steps)
    generator = torch.Generator().manual_seed(training.seed)
    for _ in range(training.steps):
        rows = [g[torch.randint(len(g), (training.batch // 2,), generator=generator)] for g in groups]
        logits = model(_disturbed(small[torch.cat(rows)], generator))
        nats = F.binary_cross_entropy_with_logits(logits, truth[torch.cat(rows)], reduction="none")
        loss = (nats.view(2, -1).mean(dim=1) * shares).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def _disturbed(planes: Tensor, generator: torch.Generator) -> Tensor:
    """Averaged frames [B, 6, h, w] mirrored, brighter or darker and noisy: pairs of frames
    [B, 2, h, w, 3]."""
    found = planes.float()
    mirrored = torch.rand(len(found), generator=generator) < 0.5
    found[mirrored] = found[mirrored].flip(-1)
    found += BRIGHTNESS * torch.randn(len(found), 1, 1, 1, generator=generator)
    found += NOISE * torch.randn(found.shape, generator=generator)
    return found.unflatten(1, (2, 3)).permute(0, 1, 3, 4, 2)


@torch.no_grad()
def precision_recall(model: RewardReadOut, data: Steps) -> dict[str, dict[str, float | None]]:
    """Of both events over all steps: the share of right ones among those told, and of told among the
    true; None where there is none."""
    found = torch.cat([model(part) for part in data.frames.split(512)]) >= 0
    truth = torch.stack([data.rewards != 0, data.ends], dim=1)
    weights = data.weights[:, None]
    right, told, true = ((weights * some).sum(0).tolist() for some in (found & truth, found, truth))
    found_of = zip(EVENTS, right, told, true, strict=True)
    return {
        name: {"precision": _ratio(hits, some), "recall": _ratio(hits, every), "true": every}
        for name, hits, some, every in found_of
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="unified.train.read_out", description="Trains a reward and termination read-out.")
    parser.add_argument("--task", choices=REWARDED_TASKS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of a model")
    parser.add_argument("--episodes", type=count, default=1500, help="to learn from (default 1500)")
    parser.add_argument("--test-episodes", type=count, default=200)
    parser.add_argument("--steps", type=count, default=ReadOutTraining.steps)
    parser.add_argument("--seed", type=seed, default=0)
    return run(parser.prog, _work, parser.parse_args(arguments))


def _work(options: argparse.Namespace) -> int:
    if not options.out.is_dir():
        raise ValueError(f"{options.out}: no such folder")
    started = time.monotonic()
    played = RewardedConfig(
        task=options.task, episodes=options.episodes, goals=NEAR.get(options.task), seed=options.seed
    )
    data = rewarded_steps(played, "train")
    print(f"{len(data)} steps, {int((data.rewards != 0).sum())} with a reward", flush=True)
    training = ReadOutTraining(steps=options.steps, seed=options.seed)
    model = train_read_out(data, ReadOutConfig(task=options.task), training)
    scores = precision_recall(model, rewarded_steps(replace(played, episodes=options.test_episodes), "test"))
    notes: dict[str, Any] = {
        "episodes": options.episodes,
        "steps": options.steps,
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        "test": scores,
    }
    path = options.out / file_name(options.task)
    save_read_out(model, path, notes)
    print(json.dumps(notes))
    print(f"Wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
