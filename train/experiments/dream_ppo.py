"""Learning in the dream: PPO that has seen imagined frames alone, tested in the real world.

    python -m unified.train.experiments.dream_ppo --out docs/worlds/dream_ppo.json

Three agents play the same test episodes of the real world: Stable-Baselines3's PPO trained in the model's
dream of it (every frame but the first of an episode is imagined), the same PPO trained in the real world
with equally many steps, and one that acts at random. That a policy can be learned from a world model alone
is the claim of "World Models" (arXiv 1803.10122); PPO is arXiv 1707.06347.

Tasks: "sky" pays at each step the share of the frame that is sky, read from the pixels in both worlds; a
thousand steps are enough to learn it. "dig_down" is `unified/DreamDig-v0` with `unified/VoxelDigDown-v0`:
their rewards are so rare that it takes many more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from unified.envs.voxel import VoxelVectorEnv
from unified.envs.world_model import WorldModelVectorEnv
from unified.envs.world_model.dream_tasks import make_dream_rows
from unified.envs.wrappers import DiscreteActions, PixelsOnly

from unified.apps.commands.common import check_folder, count, seed
from unified.command import Parser, run
from unified.text_files import read_json

if TYPE_CHECKING:
    from stable_baselines3 import PPO

    from unified.apps.assistant import Assistant

Action = dict[str, Any]
TURNS = tuple({"camera": turn} for turn in ((10.0, 0.0), (-10.0, 0.0), (0.0, 10.0), (0.0, -10.0)))
LOOKING: tuple[Action, ...] = ({}, *TURNS)
DIGGING: tuple[Action, ...] = ({}, {"attack": 1}, *({"attack": 1, **turn} for turn in TURNS))
TEST_SEED = 1_000_000  # of the test episodes; those of training have smaller seeds
Policy = Callable[[np.ndarray], np.ndarray]  # frames uint8 [n, H, W, 3] -> numbers of actions [n]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """`steps` of training in `rows` rows, `rollout` steps of each between updates; episodes of `episode`
    steps; `tests` episodes. The rest are PPO's own settings."""

    steps: int = 1024
    rows: int = 16
    rollout: int = 8
    episode: int = 16
    tests: int = 50
    batch: int = 32
    epochs: int = 10
    rate: float = 5e-4


TOY = Sizes(steps=8, rows=2, rollout=4, episode=3, tests=2, batch=4, epochs=1)


class PaidByFrames(VectorWrapper):
    """Rewards are `reward(frames)` of what is seen after each step, uint8 [n, H, W, 3] -> [n]."""

    def __init__(self, env: VectorEnv, reward: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(env)
        self.reward = reward

    def step(self, actions: Any) -> Any:
        observations, _, terminated, truncated, infos = self.env.step(actions)
        seen = observations["pov"].copy()
        for row, final in enumerate(infos.get("final_obs", ())):
            if final is not None:  # the row has started anew in this step
                seen[row] = final["pov"]
        return observations, self.reward(seen), terminated, truncated, infos


def sky(frames: np.ndarray) -> np.ndarray:
    """Share of pixels with the colours of the sky, [..., H, W, 3] -> [...]."""
    red, blue = frames[..., 0].astype(np.int64), frames[..., 2].astype(np.int64)
    return ((blue > red + 20) & (blue > 140)).mean(axis=(-2, -1))


class Setting(NamedTuple):
    """A task: its actions, its dream by `Sizes` and a model, and its world by number of rows, side of the
    frames and length of an episode."""

    actions: tuple[Action, ...]
    dream: Callable[[Sizes, Assistant], VectorEnv]
    world: Callable[[int, int, int], VectorEnv]


def _world(task: str, rows: int, side: int, episode: int) -> VectorEnv:
    shape: dict[str, Any] = {"width": side, "height": side, "max_steps": episode}
    return VoxelVectorEnv(rows, task=task, autoreset_mode="SameStep", **shape)


def _sky_dream(sizes: Sizes, model: Assistant) -> VectorEnv:
    return WorldModelVectorEnv(
        sizes.rows,
        model,
        reward_fn=lambda previous, action, frame: float(sky(frame)),
        autoreset_mode="SameStep",
        max_steps=sizes.episode,
        undo=0,
    )


def _dig_dream(sizes: Sizes, model: Assistant) -> VectorEnv:
    settings: dict[str, Any] = {"max_steps": sizes.episode, "undo": 0, "autoreset_mode": "SameStep"}
    return make_dream_rows(sizes.rows, "dig_down", model, **settings)


TASKS: dict[str, Setting] = {
    "sky": Setting(LOOKING, _sky_dream, lambda *shape: PaidByFrames(_world("explore", *shape), sky)),
    "dig_down": Setting(DIGGING, _dig_dream, lambda *shape: _world("dig_down", *shape)),
}


def trained(env: VectorEnv, actions: Sequence[Action], sizes: Sizes, number: int) -> PPO:
    """PPO after `sizes.steps` steps in `env`, with a seed."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor
    from unified.envs.sb3 import SB3VecEnv

    rows = SB3VecEnv(DiscreteActions.of_rows(PixelsOnly.of_rows(env), actions))
    agent = PPO(
        "CnnPolicy",
        VecMonitor(rows),
        learning_rate=sizes.rate,
        n_steps=sizes.rollout,
        batch_size=sizes.batch,
        n_epochs=sizes.epochs,
        gamma=0.95,
        seed=1000 * number,
        device="cpu",
        stats_window_size=sizes.steps,
    )
    agent.learn(sizes.steps)
    return agent


def earned(policy: Policy, setting: Setting, sizes: Sizes, side: int) -> np.ndarray:
    """What `sizes.tests` episodes of the real world earn [n]; they are the same for every policy."""
    env = setting.world(sizes.tests, side, sizes.episode)
    env = DiscreteActions.of_rows(PixelsOnly.of_rows(env), setting.actions)
    frames, _ = env.reset(seed=TEST_SEED)
    total, running = np.zeros(sizes.tests), np.ones(sizes.tests, dtype=bool)
    while running.any():
        frames, rewards, terminated, truncated, _ = env.step(policy(frames))
        total += rewards * running
        running &= ~(terminated | truncated)  # a row that has ended starts anew, and counts no more
    env.close()
    return total


def learned(env: VectorEnv, setting: Setting, sizes: Sizes, side: int, number: int) -> dict[str, Any]:
    """One agent trained in `env`: mean rewards of an episode in the first and the last quarter of training,
    by that world's own rewards, and in the test."""
    agent = trained(env, setting.actions, sizes, number)
    seen = [float(episode["r"]) for episode in agent.ep_info_buffer or ()]
    env.close()
    quarter = max(1, len(seen) // 4)
    rewards = earned(lambda frames: agent.predict(frames)[0], setting, sizes, side)
    return {"first": _mean(seen[:quarter]), "last": _mean(seen[-quarter:]), "test": _mean(rewards)}


def in_the_dream(setting: Setting, sizes: Sizes, model: Assistant, number: int) -> dict[str, Any]:
    return learned(setting.dream(sizes, model), setting, sizes, model.side, number)


def in_the_world(setting: Setting, sizes: Sizes, model: Assistant, number: int) -> dict[str, Any]:
    world = setting.world(sizes.rows, model.side, sizes.episode)
    return learned(world, setting, sizes, model.side, number)


def at_random(setting: Setting, sizes: Sizes, model: Assistant, number: int) -> dict[str, Any]:
    """One agent that draws from all actions alike."""
    rng, count = np.random.default_rng(number), len(setting.actions)
    return {"test": _mean(earned(lambda x: rng.integers(count, size=len(x)), setting, sizes, model.side))}


def _mean(rewards: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(rewards))


ARMS: dict[str, Callable[[Setting, Sizes, Assistant, int], dict[str, Any]]] = {
    "dream": in_the_dream,
    "real": in_the_world,
    "random": at_random,
}
TITLES = {"dream": "PPO, dream alone", "real": "PPO, real world", "random": "random"}


def table(arms: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The results in Markdown: means over seeds, and every seed's test."""
    lines = [
        "| agent | own rewards in training, first to last quarter | test | by seed |",
        "|---|---|---|---|",
    ]
    for name, seeds in arms.items():
        mean = {key: _mean([one[key] for one in seeds]) for key in seeds[0]}
        own = f"{mean['first']:.2f} to {mean['last']:.2f}" if "first" in mean else ""
        by_seed = ", ".join(f"{one['test']:.2f}" for one in seeds)
        lines.append(f"| {TITLES[name]} | {own} | {mean['test']:.2f} | {by_seed} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="unified.train.experiments.dream_ppo", description="PPO trained in the dream alone.")
    parser.add_argument("--model", metavar="FOLDER", help="a folder or hub name (default: the shipped model)")
    parser.add_argument("--task", choices=list(TASKS), default="sky")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=seed, default=[0, 1, 2])
    parser.add_argument("--steps", type=count, help=f"of training (default {Sizes.steps})")
    parser.add_argument("--episode", type=count, help=f"steps of an episode (default {Sizes.episode})")
    parser.add_argument("--toy", action="store_true", help="a few steps, to see that everything works")
    parser.add_argument(
        "--out", type=Path, help="file of the results, written after every agent; those in it stay"
    )
    return run(parser.prog, _work, parser.parse_args(arguments))


def _work(options: argparse.Namespace) -> int:
    from unified.envs import sb3  # noqa: F401 - says what to install

    from unified.apps.loading import load

    given = {name: getattr(options, name) for name in ("steps", "episode") if getattr(options, name)}
    sizes = replace(TOY if options.toy else Sizes(), **given)
    began = {"task": options.task, "sizes": asdict(sizes)}
    arms = _read(options.out, began)
    model = load(options.model)
    for name in options.arms:
        for number in options.seeds:
            if any(one["seed"] == number for one in arms.get(name, ())):
                continue
            start = time.monotonic()
            found = ARMS[name](TASKS[options.task], sizes, model, number)
            seconds = round(time.monotonic() - start, 1)
            arms.setdefault(name, []).append({"seed": number, **found, "seconds": seconds})
            print(f"{name}, seed {number}: {arms[name][-1]}", file=sys.stderr, flush=True)
            if options.out is not None:
                text = json.dumps({**began, "arms": arms}, indent=1)
                options.out.write_text(text + "\n", encoding="utf-8")
    print("\n".join(table({name: arms[name] for name in ARMS if name in arms})))
    return 0


def _read(path: Path | None, began: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The agents that a file of results has already. ValueError for one of another task or other sizes."""
    if path is None:
        return {}
    check_folder(path.parent).mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return {}
    data = read_json(path)
    if not isinstance(data, dict) or {name: data.get(name) for name in began} != began:
        raise ValueError(f"{path}: not results of this task and these sizes: name another file")
    return data["arms"]


if __name__ == "__main__":
    sys.exit(main())
