"""`python -m unified.envs.record ENV --players NAME ... --out DIR`: records players in VPT's format.

ENV is an id such as `unified/Luanti-v0` or `unified/Voxel-v0`. Recording k is of the k-th player in turn and
of the world of seed `--seed` + k; it is OUT/NAME-SEED.mp4, .jsonl and .meta.json. What is there already is
left as it is, so that a command that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from unified.envs.registration import LUANTI_ID, VOXEL_IDS

from unified.command import Parser, run

PART = ".part"  # of a recording that is under way


@dataclass(frozen=True, kw_only=True)
class Cast:
    """The players of one environment: their names, and a policy of one with a seed in an environment."""

    names: tuple[str, ...]
    policy: Callable[[gymnasium.Env, str, int], Callable[[dict[str, Any]], Mapping[str, Any]]]


def cast_of(env_id: str) -> Cast:
    """Who plays in an environment. ValueError for one without players."""
    if env_id == LUANTI_ID:
        from unified.envs.luanti.players import PLAYERS, make_player

        def luanti(env: Any, name: str, seed: int) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
            player = make_player(name, seed)
            return lambda _: player.act(env.unwrapped.info())

        return Cast(names=tuple(PLAYERS), policy=luanti)
    if env_id in VOXEL_IDS:
        from unified.envs.voxel.players import PLAYERS as VOXEL_PLAYERS
        from unified.envs.voxel.players import make_player as make_voxel_player

        def voxel(env: Any, name: str, seed: int) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
            scripted = make_voxel_player(name, seed)
            return lambda _: scripted.act(env.unwrapped.simulation, env.unwrapped.task)

        task = VOXEL_IDS[env_id]
        own = ("explore", "roam", "probe") if task == "explore" else (task,)
        return Cast(names=tuple(name for name in own if name in VOXEL_PLAYERS), policy=voxel)
    known = ", ".join((LUANTI_ID, *VOXEL_IDS))
    raise ValueError(f"no players for {env_id!r}: choose from {known}")


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = Parser(prog="python -m unified.envs.record", description="Record scripted and random players.")
    made.add_argument("env", metavar="ENV", help="such as unified/Luanti-v0 or unified/Voxel-v0")
    made.add_argument("--players", nargs="+", metavar="NAME", help="in turn (default: all of this world)")
    made.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    made.add_argument("--count", type=int, default=4, help="recordings (default 4)")
    made.add_argument("--steps", type=int, default=200, help="actions of each at most (default 200)")
    made.add_argument(
        "--size", type=_size, default=(64, 64), metavar="WxH", help="of a frame (default 64x64)"
    )
    made.add_argument("--seed", type=int, default=0, help="of the first world and player (default 0)")
    return made


def record_all(options: argparse.Namespace) -> int:
    """Record what the options ask for. ValueError for bad ones, before anything is started."""
    from unified.envs.recordings import record
    from unified.envs.recordings.writer import part

    cast = cast_of(options.env)
    names = options.players or cast.names
    for name in names:
        if name not in cast.names:
            raise ValueError(f"no player {name!r} in {options.env}: choose from {', '.join(cast.names)}")
    for name, least in (("count", 1), ("steps", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(options, name)}")
    width, height = options.size
    env = gymnasium.make(options.env, width=width, height=height)
    try:
        for number in range(options.count):
            seed = options.seed + number
            name = names[number % len(names)]
            stem = options.out / f"{name}-{seed:05}"
            if part(stem, "jsonl").exists():
                print(f"{stem}: there already")
                continue
            unfinished = options.out / f"{PART}{stem.name}"
            kinds = ("mp4", "meta.json", "jsonl")
            for kind in kinds:
                part(unfinished, kind).unlink(missing_ok=True)
            policy = cast.policy(env, name, seed)
            steps = record(env, policy, unfinished, steps=options.steps, seed=seed)
            for kind in kinds:  # the lines last: a recording that has them is whole
                part(unfinished, kind).rename(part(stem, kind))
            print(f"{stem}: {steps} steps", flush=True)
    finally:
        env.close()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    return run("unified.envs.record", record_all, parser().parse_args(arguments))


def _size(text: str) -> tuple[int, int]:
    width, sign, height = text.lower().partition("x")
    if not sign or not width.isdecimal() or not height.isdecimal():
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT in pixels, got {text!r:.40}")
    return int(width), int(height)


if __name__ == "__main__":
    sys.exit(main())
