"""Learning in the dream: PPO that has seen imagined frames alone, tested in the real world.

    python -m unified.train.experiments.dream_ppo --out docs/worlds/dream_ppo.json

Three agents play the same test episodes of `unified/VoxelDigDown-v0`: Stable-Baselines3's PPO trained in its
dream (`unified/DreamDig-v0`: frames and rewards are the model's), the same PPO trained in the real world with
equally many steps, and one that acts at random. That a policy can be learned from a world model alone is the
claim of "World Models" (arXiv 1803.10122); PPO is arXiv 1707.06347.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv
from unified.envs.voxel import VoxelVectorEnv
from unified.envs.world_model.dream_tasks import make_dream_rows
from unified.envs.wrappers import DiscreteActions, PixelsOnly

from unified.apps.commands.common import check_folder, count, seed
from unified.command import Parser, run

if TYPE_CHECKING:
    from stable_baselines3 import PPO

    from unified.apps.assistant import Assistant

TASK = "dig_down"
ACTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"attack": 1},
    {"attack": 1, "camera": (10.0, 0.0)},
    {"attack": 1, "camera": (-10.0, 0.0)},
    {"attack": 1, "camera": (0.0, 10.0)},
    {"attack": 1, "camera": (0.0, -10.0)},
)
"""Who digs has to look down and to keep on hitting: a block breaks after a dozen ticks."""
TEST_SEED = 1_000_000  # of the test episodes; those of training have smaller seeds
Policy = Callable[[np.ndarray], np.ndarray]  # frames uint8 [n, H, W, 3] -> numbers of `ACTIONS` [n]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """`steps` of training in `rows` rows, `rollout` steps of each between updates; episodes of `episode`
    steps; `tested` episodes. The rest are PPO's own settings."""

    steps: int = 6144
    rows: int = 16
    rollout: int = 32
    episode: int = 64
    tested: int = 50
    batch: int = 128
    epochs: int = 6
    rate: float = 5e-4


TOY = Sizes(steps=8, rows=2, rollout=4, episode=3, tested=2, batch=4, epochs=1)


def dreams(sizes: Sizes, model: Assistant) -> VectorEnv:
    """The task in the model's dream."""
    return make_dream_rows(
        sizes.rows, TASK, model, max_steps=sizes.episode, undo=0, autoreset_mode="SameStep"
    )


def worlds(sizes: Sizes, side: int, rows: int | None = None) -> VectorEnv:
    """The task in the real world, in frames of `side` pixels a side."""
    return VoxelVectorEnv(
        rows or sizes.rows,
        task=TASK,
        width=side,
        height=side,
        max_steps=sizes.episode,
        autoreset_mode="SameStep",
    )


def trained(env: VectorEnv, sizes: Sizes, number: int) -> PPO:
    """PPO after `sizes.steps` steps in `env`, with a seed."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor
    from unified.envs.sb3 import SB3VecEnv

    rows = SB3VecEnv(DiscreteActions.of_rows(PixelsOnly.of_rows(env), ACTIONS))
    agent = PPO(
        "CnnPolicy",
        VecMonitor(rows),
        learning_rate=sizes.rate,
        n_steps=sizes.rollout,
        batch_size=sizes.batch,
        n_epochs=sizes.epochs,
        ent_coef=0.01,
        seed=1000 * number,
        device="cpu",
        stats_window_size=max(1, sizes.steps),
    )
    agent.learn(sizes.steps)
    return agent


def tested(policy: Policy, sizes: Sizes, side: int) -> np.ndarray:
    """What `sizes.tested` episodes of the real world earn [n]; they are the same for every policy."""
    env = worlds(sizes, side, rows=sizes.tested)
    env = DiscreteActions.of_rows(PixelsOnly.of_rows(env), ACTIONS)
    frames, _ = env.reset(seed=TEST_SEED)
    total, running = np.zeros(sizes.tested), np.ones(sizes.tested, dtype=bool)
    while running.any():
        frames, rewards, terminated, truncated, _ = env.step(policy(frames))
        total += rewards * running
        running &= ~(terminated | truncated)  # a row that has ended starts anew, and counts no more
    env.close()
    return total


def learned(env: VectorEnv, sizes: Sizes, side: int, number: int) -> dict[str, Any]:
    """One agent trained in `env`: mean rewards of a quarter of the episodes of training, the first and the
    last, by that world's own rewards, and of the test."""
    agent = trained(env, sizes, number)
    seen = [float(episode["r"]) for episode in agent.ep_info_buffer or ()]
    env.close()
    quarter = max(1, len(seen) // 4)
    rewards = tested(lambda frames: agent.predict(frames)[0], sizes, side)
    return {
        "first": float(np.mean(seen[:quarter])),
        "last": float(np.mean(seen[-quarter:])),
        **_result(rewards),
    }


def at_random(sizes: Sizes, side: int, number: int) -> dict[str, Any]:
    """One agent that draws actions from all of `ACTIONS` alike."""
    rng = np.random.default_rng(number)
    return _result(tested(lambda frames: rng.integers(len(ACTIONS), size=len(frames)), sizes, side))


def _result(rewards: np.ndarray) -> dict[str, Any]:
    return {"test": float(rewards.mean()), "none": float((rewards == 0).mean())}


ARMS: dict[str, Callable[[Sizes, Assistant, int], dict[str, Any]]] = {
    "dream": lambda sizes, model, number: learned(dreams(sizes, model), sizes, model.side, number),
    "real": lambda sizes, model, number: learned(worlds(sizes, model.side), sizes, model.side, number),
    "random": lambda sizes, model, number: at_random(sizes, model.side, number),
}
TITLES = {"dream": "PPO, dream alone", "real": "PPO, real world", "random": "random"}


def table(arms: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The results in Markdown: means over seeds, and every seed's test."""
    lines = [
        "| agent | own rewards in training, first to last quarter | test | by seed | without reward |",
        "|---|---|---|---|---|",
    ]
    for name, seeds in arms.items():
        mean = {key: float(np.mean([one[key] for one in seeds])) for key in seeds[0] if key != "seconds"}
        own = f"{mean['first']:.3f} to {mean['last']:.3f}" if "first" in mean else ""
        by_seed = ", ".join(f"{one['test']:.3f}" for one in seeds)
        lines.append(f"| {TITLES[name]} | {own} | {mean['test']:.3f} | {by_seed} | {mean['none']:.0%} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="unified.train.experiments.dream_ppo", description="PPO trained in the dream alone.")
    parser.add_argument("--model", metavar="FOLDER", help="a folder or hub name (default: the shipped model)")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=seed, default=[0, 1, 2])
    parser.add_argument("--steps", type=count, help=f"of training (default {Sizes.steps})")
    parser.add_argument("--toy", action="store_true", help="a few steps, to see that everything works")
    parser.add_argument("--out", type=Path, help="file of the results, written after every agent")
    return run(parser.prog, _work, parser.parse_args(arguments))


def _work(options: argparse.Namespace) -> int:
    from unified.envs import sb3  # noqa: F401 - says what to install

    from unified.apps.assistant import load

    if options.out is not None:
        check_folder(options.out.parent).mkdir(parents=True, exist_ok=True)
    sizes = TOY if options.toy else Sizes(**({"steps": options.steps} if options.steps else {}))
    model = load(options.model)
    arms: dict[str, list[dict[str, Any]]] = {}
    for name in options.arms:
        for number in options.seeds:
            began = time.monotonic()
            found = ARMS[name](sizes, model, number)
            arms.setdefault(name, []).append({**found, "seconds": round(time.monotonic() - began, 1)})
            print(f"{name}, seed {number}: {arms[name][-1]}", file=sys.stderr, flush=True)
            data = {"task": TASK, "sizes": asdict(sizes), "seeds": options.seeds, "arms": arms}
            if options.out is not None:
                options.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(arms)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
