"""What agents earn in tasks of the voxel world, as a table in Markdown.

    python -m unified.eval.rewards --tasks reach dig_down --agents random player planner scripted

`random` presses one of the planner's actions, `player` is the model that is told the task, `planner` plans in
the model's dream with the learned reward, `scripted` reads the true state. All play the same episodes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from unified.eval.agents import AGENTS, NEED_A_MODEL, Outcome, Play, play_episodes
from unified.eval.measurement import Table
from unified.eval.report import table_lines
from unified.tasks.worlds.rewarded import REWARDED_TASKS

from unified.apps.commands.common import add_model_options, assistant, count, show
from unified.command import Parser, run

if TYPE_CHECKING:
    from unified.apps.assistant import Assistant

Outcomes = dict[str, dict[str, Outcome]]  # by task, by agent


def measured(
    tasks: Sequence[str],
    agents: Sequence[str],
    settings: argparse.Namespace,
    model: Assistant | None,
    told: Callable[[str], None] = lambda line: None,
) -> Outcomes:
    """Every agent in every task. `settings`: those of the command line. `told` is given a line about each
    as it is done."""
    from unified.envs.voxel import VoxelEnv
    from unified.envs.world_model.planning import PlannerConfig

    planner = PlannerConfig(horizon=settings.horizon, candidates=settings.candidates, rounds=settings.rounds,
                            elites=min(4, settings.candidates))  # fmt: skip
    side = model.side if model else 64
    found: Outcomes = {}
    for task in tasks:
        for name in agents:
            started = time.monotonic()
            shape = {"width": side, "height": side, "max_steps": settings.steps, "goal": settings.goal}
            envs = [VoxelEnv(task=task, **shape) for _ in range(settings.episodes)]
            play = Play(envs=envs, task=task, assistant=model, seed=settings.seed, planner=planner,
                        commit=settings.commit)  # fmt: skip
            seeds = [settings.seed + number for number in range(settings.episodes)]
            found.setdefault(task, {})[name] = play_episodes(AGENTS[name], play, seeds)
            told(f"{task}, {name}: {_cell(found[task][name])}, {time.monotonic() - started:.0f} s")
    return found


def table(found: Mapping[str, Mapping[str, Outcome]]) -> Table:
    """Mean rewards with their standard errors, and the share of successes."""
    agents = list(next(iter(found.values())))
    rows = [[task, *(_cell(outcomes[name]) for name in agents)] for task, outcomes in found.items()]
    return Table("Rewards", ["task", *agents], rows)


def _cell(outcome: Outcome) -> str:
    number = len(outcome.rewards)
    error = outcome.rewards.std(ddof=1) / np.sqrt(number) if number > 1 else np.nan
    return f"{outcome.rewards.mean():.2f} ± {error:.2f} ({int(outcome.successes.sum())}/{number})"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="unified.eval.rewards", description="What agents earn in tasks of the voxel world.")
    add_model_options(parser)
    known = ("reach", "dig_down")
    parser.add_argument("--tasks", nargs="+", choices=REWARDED_TASKS, default=known)
    parser.add_argument("--agents", nargs="+", choices=list(AGENTS), default=list(AGENTS))
    parser.add_argument("--episodes", type=count, default=50, help="of each task (default 50)")
    parser.add_argument("--steps", type=count, default=200, help="longest episode (default 200)")
    parser.add_argument("--goal", type=count, help="size of the task (default: its own)")
    parser.add_argument("--horizon", type=count, default=8, help="actions of a plan (default 8)")
    parser.add_argument("--candidates", type=count, default=16, help="plans tried at once (default 16)")
    parser.add_argument(
        "--rounds", type=count, default=1, help="1 is random shooting, more the cross-entropy method"
    )
    parser.add_argument("--commit", type=count, default=4, help="actions taken of each plan (default 4)")
    return run(parser.prog, _work, parser.parse_args(arguments))


def _work(options: argparse.Namespace) -> int:
    model = assistant(options) if set(options.agents) & set(NEED_A_MODEL) else None

    def told(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = measured(options.tasks, options.agents, options, model, told)
    data = {
        task: {
            name: {key: value.tolist() for key, value in asdict(outcome).items()}
            for name, outcome in row.items()
        }
        for task, row in found.items()
    }
    size = f"{options.episodes} episodes of at most {options.steps} steps"
    note = f"Mean reward ± standard error (successes) of {size}."
    show(options, [*table_lines(table(found)), "", note], {"steps": options.steps, "rewards": data})
    return 0


if __name__ == "__main__":
    sys.exit(main())
