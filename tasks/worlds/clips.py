"""Clips of the voxel world: a scripted player is watched for some frames, from a random moment on.

Terrain seeds decide the split by hash, so no two splits ever see the same island. The compositional split
has players that no other split shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from unified.tasks.sample import generator, split_of

if TYPE_CHECKING:
    from unified.envs.voxel import VoxelEnv

Action = dict[str, Any]
MOST_DRAWS = 10_000
SHORTEST, LONGEST = 2, 512
PLAYERS = ("explore", "explore", "reach", "collect_logs", "dig_down")
EVERY_KEY = (*PLAYERS, "roam", "roam", "roam")  # to learn from: no key is rare
PROBED = (*EVERY_KEY, *["probe"] * 8)  # and every second clip of fast turns, menus, standing still


@dataclass(frozen=True, kw_only=True)
class Clip:
    """frames uint8 [F, H, W, 3]; F - 1 complete actions, action k leading from frame k to frame k + 1;
    `text`: what the player was asked to do; `source`: where the clip comes from, as plain JSON."""

    frames: np.ndarray
    actions: list[Action]
    text: str
    source: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """`size`: side of a frame or (height, width); `frames` per clip; `players`: names from
    `envs.voxel.players`, a name given twice is watched twice as often; `unseen_players`: those of the
    compositional split; `start`: a clip begins at most so many ticks into the episode."""

    seed: int = 0
    size: int | tuple[int, int] = 64
    frames: int = 8
    players: tuple[str, ...] = PLAYERS
    unseen_players: tuple[str, ...] = ("follow_path",)
    world_size: tuple[int, int, int] = (32, 32, 32)
    start: int = 60

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_frames(self.frames)
        if type(self.start) is not int or not 0 <= self.start <= 10_000:
            raise ValueError(f"start must be a whole number of 0 to 10000 ticks, got {self.start!r}")
        if not self.players or not self.unseen_players:
            raise ValueError("players and unseen_players each need at least one name")
        if both := set(self.players) & set(self.unseen_players):
            raise ValueError(f"players and unseen_players share {sorted(both)[0]!r}: unseen must stay unseen")
        for name in self.players + self.unseen_players:
            self.voxel(name)

    def voxel(self, player: str) -> Any:
        """The settings of the world that this player plays in. Raises ValueError for an unknown player."""
        from unified.envs.voxel.config import VoxelConfig
        from unified.envs.voxel.players import task_of

        height, width = frame_size(self.size)
        return VoxelConfig(
            width=width, height=height, world_size=self.world_size, task=task_of(player), max_steps=0
        )


def watch(config: WorldConfig, index: int, split: str) -> Clip:
    """The clip of this index. Episodes that end too soon for a clip are replaced by others."""
    rng = generator(config.seed, split, index)
    players = config.unseen_players if split == "compositional" else config.players
    for _ in range(100):
        player = players[int(rng.integers(len(players)))]
        terrain_seed = draw_terrain_seed(rng, split)
        clip = _episode(config, player, terrain_seed, rng)
        if clip is not None:
            return clip
    raise ValueError(f"no episode of {', '.join(players)} lasts {config.frames} frames in this world")


def terrain_split(terrain_seed: int) -> str:
    """The one split that may show this terrain."""
    if split_of(f"unseen terrain {terrain_seed}", validation=0.0, test=0.1) == "test":
        return "compositional"
    return split_of(f"terrain {terrain_seed}")


def draw_terrain_seed(rng: np.random.Generator, split: str) -> int:
    for _ in range(MOST_DRAWS):
        terrain_seed = int(rng.integers(2**31))
        if terrain_split(terrain_seed) == split:
            return terrain_seed
    raise ValueError(f"no terrain found for the split {split}")


def _episode(config: WorldConfig, player: str, terrain_seed: int, rng: np.random.Generator) -> Clip | None:
    """The end of an episode of random length, or None if it is over too soon or this terrain has no room."""
    from unified.envs.voxel import VoxelEnv

    env = VoxelEnv(config.voxel(player))
    episode_seed, player_seed = (int(number) for number in rng.integers(2**31, size=2))
    length = int(rng.integers(config.start + 1)) + config.frames - 1
    try:
        first, _ = env.reset(seed=episode_seed, options={"terrain_seed": terrain_seed})
    except ValueError:
        return None  # nothing to walk on, dig or chop here: an island that does not suit the player
    frames, actions = _play(env, player, player_seed, length)
    frames = [first["pov"], *frames]
    if len(frames) < config.frames:
        return None
    source = {
        "player": player,
        "terrain_seed": terrain_seed,
        "episode_seed": episode_seed,
        "player_seed": player_seed,
        "start": len(frames) - config.frames,
    }
    return Clip(
        frames=np.stack(frames[-config.frames :]),
        actions=actions[1 - config.frames :],
        text=env.task.text,
        source=source,
    )


def _play(env: VoxelEnv, player: str, seed: int, length: int) -> tuple[list[np.ndarray], list[Action]]:
    """Frames after each action, and the actions, until the episode ends."""
    from unified.envs.voxel.players import make_player
    from unified.tokenizers.environment_action import complete

    scripted = make_player(player, seed)
    frames: list[np.ndarray] = []
    actions: list[Action] = []
    for _ in range(length):
        action = complete(scripted.act(env.simulation, env.task))
        observation, _, terminated, truncated, _ = env.step(action)
        frames.append(observation["pov"])
        actions.append(action)
        if terminated or truncated:
            break
    return frames, actions


def frame_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a side or a pair. Raises ValueError for anything else."""
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(pair) != 2 or any(type(side) is not int or not 8 <= side <= 4096 for side in pair):
        raise ValueError(f"size must be a side or (height, width) of 8 to 4096 pixels, got {size!r}")
    return pair[0], pair[1]


def check_seed(seed: int) -> None:
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")


def check_frames(frames: int) -> None:
    if type(frames) is not int or not SHORTEST <= frames <= LONGEST:
        raise ValueError(f"frames must be a whole number of {SHORTEST} to {LONGEST}, got {frames!r}")
