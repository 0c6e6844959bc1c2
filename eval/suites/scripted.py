"""What a world model must do that clips of players rarely ask: stand still, and look away and back.

Standing still, nothing moves: what changes is drift. A camera that turns away and back must end on what it
began with; a model that has forgotten it shows another place. Both are played in the voxel world with the
same actions, so the truth is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from unified.eval.measurement import DATA_SEED, Cell, Result, Run, Table
from unified.eval.metrics.images import squared_error
from unified.eval.suites.imagining import Frames, appearance, psnr_curves, table, ways
from unified.tasks.sample import generator
from unified.tasks.worlds.clips import Action, Clip, WorldConfig, draw_terrain_seed
from unified.tokenizers.environment_action import complete

if TYPE_CHECKING:
    from unified.envs.voxel import VoxelEnv

MOST_CLIPS = 32
SETTLE = 8  # ticks without a key before a script, so that who jumps has landed
TURN, TURNS = 10.0, 8  # degrees a step, and steps in either direction


def standing_still(steps: int) -> list[Action]:
    return [complete({}) for _ in range(steps)]


def away_and_back() -> list[Action]:
    """Yaw to the right, then as far to the left."""
    return [complete({"camera": [0.0, side * TURN]}) for side in (1, -1) for _ in range(TURNS)]


def scripted_clips(
    count: int, split: str, size: int, script: Callable[[], Sequence[dict[str, Any]]]
) -> list[Clip]:
    """Clips in which a wanderer is stopped at a random moment and then does what the script says."""
    return [clip for (clip,) in branched_clips(count, split, size, [script()])]


def branched_clips(
    count: int, split: str, size: int, scripts: Sequence[Sequence[dict[str, Any]]]
) -> Iterator[list[Clip]]:
    """For each of `count` wanderers who are stopped at a random moment, one clip of every script, all from
    that moment on."""
    from unified.envs.voxel import VoxelEnv
    from unified.envs.voxel.players import make_player

    config = WorldConfig(size=size, seed=DATA_SEED)
    env = VoxelEnv(config.voxel("explore"))
    for index in range(count):
        rng = generator(config.seed, split, index)
        terrain = draw_terrain_seed(rng, split)
        env.reset(seed=int(rng.integers(2**31)), options={"terrain_seed": terrain})
        player = make_player("explore", int(rng.integers(2**31)))
        for _ in range(int(rng.integers(config.start + 1))):
            env.step(complete(player.act(env.simulation, env.task)))
        for _ in range(SETTLE):
            env.step(complete({}))
        state = env.get_state()
        yield [_played(env, state, script) for script in scripts]


def _played(env: VoxelEnv, state: dict[str, Any], script: Sequence[dict[str, Any]]) -> Clip:
    """The clip of a script from a state on."""
    first, _ = env.reset(options={"state": state})
    frames = [first["pov"], *(env.step(action)[0]["pov"] for action in script)]
    return Clip(frames=np.stack(frames), actions=list(script), text=env.task.text)


def clip_count(run: Run) -> int:
    """Clips of every script."""
    return min(run.count, MOST_CLIPS)


def add_scripts(run: Run, result: Result, horizons: Sequence[int]) -> None:
    """Both scripts on at most `MOST_CLIPS` clips, as tables and numbers of a result."""
    count, side = clip_count(run), run.assistant.side
    still = scripted_clips(count, run.split, side, lambda: standing_still(horizons[-1]))
    found = ways(run, still, horizons[-1])
    curves = psnr_curves(found, still)
    sharp = appearance(found, still, horizons)["sharpness"]
    result.tables.append(table("Standing still, PSNR", curves, horizons))
    result.tables.append(table("Standing still, edge energy beside the true", sharp, horizons, every=False))
    turned = scripted_clips(count, run.split, side, away_and_back)
    found = ways(run, turned, 2 * TURNS)
    back = psnr_curves(found, turned)
    own = {name: own_place(frames, turned) for name, frames in found.items()}
    rows: list[list[Cell]] = [[name, back[name][TURNS - 1], back[name][-1], own[name]] for name in found]
    degrees = f"{TURN * TURNS:g} degrees"
    header = ["", f"PSNR, {degrees} away", "PSNR, back", "back at its own place"]
    result.tables.append(Table("Look away and back", header, rows))
    result.numbers["standing_still"] = {"clips": count, "psnr": curves, "sharpness": sharp}
    result.numbers["away_and_back"] = {"clips": count, "psnr": back, "own_place": own}


def own_place(frames: Frames, clips: Sequence[Clip]) -> float:
    """Share of clips whose last frame is nearer to their own first frame than to that of any other clip; by
    chance 1 / number of clips."""
    firsts = [clip.frames[0] for clip in clips]
    hits = [
        int(np.argmin([squared_error(made[-1], first) for first in firsts])) == number
        for number, made in enumerate(frames)
    ]
    return float(np.mean(hits))
