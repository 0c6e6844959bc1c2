"""The task `world_lookahead`: will this plan reach the marked block? The frames of the plan are imagined
first.

A player on the way to the red and white post is stopped a few steps before it. Half of the plans are his own
next actions, which reach it; the others start from the same place and turn away, or stop too soon. The world
model is the sketchpad: every action is answered by the frame it leads to, the last one by a word as well. The
compositional split has terrain and lengths of plans that no other split shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from unified.tasks.sample import Sample, check_index, check_split, generator
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.worlds.clips import Action, check_seed, draw_terrain_seed, frame_size
from unified.tasks.worlds.scoring import score_frames

if TYPE_CHECKING:
    from unified.envs.voxel import VoxelEnv

QUESTION = "Look ahead. Does this plan reach the red and white post?"
YES, NO = "yes", "no"
MOST_TICKS = 400  # of a walk to the post
MOST_DRAWS = 200
TURN = 10.0  # degrees a tick of a plan that turns away
NEAR_POST = 0.06  # of the pixels of a frame: as much of the post is seen from where it is reached
Content = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class LookaheadConfig:
    """`size`: side of a frame or (height, width); `steps`: lengths of plans in ticks, `unseen_steps` those of
    the compositional split; `goal`: how many cells away the post stands at first."""

    seed: int = 0
    size: int | tuple[int, int] = 64
    steps: tuple[int, ...] = (8, 12)
    unseen_steps: tuple[int, ...] = (16,)
    goal: int = 5
    world_size: tuple[int, int, int] = (32, 32, 32)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        frame_size(self.size)
        for name, numbers in (("steps", self.steps), ("unseen_steps", self.unseen_steps)):
            if not numbers or any(type(number) is not int or not 2 <= number <= 64 for number in numbers):
                raise ValueError(f"{name} must be whole numbers of 2 to 64, got {numbers!r}")
        if both := set(self.steps) & set(self.unseen_steps):
            raise ValueError(f"steps and unseen_steps share {sorted(both)}: unseen must not be trained on")
        self.voxel()

    def voxel(self) -> Any:
        """The settings of the world. Raises ValueError for impossible ones."""
        from unified.envs.voxel.config import VoxelConfig

        height, width = frame_size(self.size)
        shape: dict[str, Any] = {"width": width, "height": height, "world_size": self.world_size}
        return VoxelConfig(**shape, task="reach", goal=self.goal, max_steps=0)


@dataclass(frozen=True)
class Plan:
    """`frames` uint8 [n + 1, H, W, 3] before, between and after n `actions`; whether they reach the post."""

    frames: np.ndarray
    actions: list[Action]
    reaches: bool


class WorldLookahead:
    """A plan in the voxel world, judged after imagining its frames. Implements `unified.tasks.sample.Task`
    and `unified.tasks.causality.SketchTask`."""

    name = "world_lookahead"

    def __init__(self, config: LookaheadConfig | None = None) -> None:
        self.config = config or LookaheadConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        check_split(split)
        check_index(index)
        config = self.config
        rng = generator(config.seed, split, int(index))
        steps = pick(rng, config.unseen_steps if split == "compositional" else config.steps)
        for _ in range(MOST_DRAWS):
            terrain = draw_terrain_seed(rng, split)
            plan = _plan(config, rng, terrain, steps)
            if plan is not None:
                meta = {"category": YES if plan.reaches else NO, "steps": steps, "terrain_seed": terrain}
                return Sample(task=self.name, messages=_messages(plan), meta=meta)
        raise ValueError(f"no walk of {steps} ticks to a post found in {MOST_DRAWS} worlds of this size")

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """`success`: the word is right; `psnr` and `ssim` of the frames, which are compared with the last as
        many of the plan, 0 without any. Raises ValueError for a malformed answer."""
        good = isinstance(answer, list) and all(
            isinstance(item, dict) and isinstance(item.get("type"), str) and item["type"] in item
            for item in answer
        )
        if not good:
            raise ValueError("an answer is a list of text and image items")
        told = "".join(item["text"] for item in answer if item["type"] == "text").strip().lower()
        turns = [message["content"] for message in sample.messages if message["role"] == "assistant"]
        truth = [item["image"] for content in turns for item in content if item["type"] == "image"]
        shown = [item["image"] for item in answer if item["type"] == "image"]
        return {"success": float(told == sample.meta["category"]), **score_frames(shown, truth)}

    def read_sketches(self, sample: Sample, sketches: Sequence[np.ndarray]) -> Content:
        """The answer that follows from these frames alone: whether the post grew large, is still seen at the
        end, and the player was still on the way then."""
        content: Content = [{"type": "image", "image": sketch} for sketch in sketches]
        shares = [post_share(sketch) for sketch in sketches]
        still = len(sketches) > 1 and np.array_equal(sketches[-1], sketches[-2])
        reached = max(shares) >= NEAR_POST and shares[-1] >= NEAR_POST / 2 and not still
        return [*content, {"type": "text", "text": YES if reached else NO}]


def post_share(frame: np.ndarray) -> float:
    """The share of a frame's pixels that are the red of the post: nothing else in the world is as red."""
    red, green, blue = frame.astype(int).transpose(2, 0, 1)
    return float(((red > 2 * green) & (red > 2 * blue) & (red > 60)).mean())


def _messages(plan: Plan) -> list[dict[str, Any]]:
    """user [question, frame 0, action 0] -> assistant [frame 1], user [action 1] -> ..., the last answer with
    the word."""
    found: list[dict[str, Any]] = []
    for number, action in enumerate(plan.actions):
        asked: Content = [{"type": "action", "action": action}]
        if not number:
            asked = [{"type": "text", "text": QUESTION}, _image(plan.frames[0]), *asked]
        answered: Content = [_image(plan.frames[number + 1])]
        if number == len(plan.actions) - 1:
            answered.append({"type": "text", "text": YES if plan.reaches else NO})
        found += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return found


def _image(frame: np.ndarray) -> dict[str, Any]:
    return {"type": "image", "image": frame}


def _plan(config: LookaheadConfig, rng: np.random.Generator, terrain: int, steps: int) -> Plan | None:
    """A plan of so many ticks from a place near the post; None if this terrain has none."""
    from unified.envs.voxel import VoxelEnv

    env = VoxelEnv(config.voxel())
    walk_seed, player_seed = (int(number) for number in rng.integers(2**31, size=2))
    wanted = chance(rng, 0.5)
    try:
        env.reset(seed=walk_seed, options={"terrain_seed": terrain})
    except ValueError:
        return None  # no room for the task on this island
    states, actions = _walk(env, player_seed)
    if len(actions) < steps:
        return None
    own = actions[-steps:]
    chosen = own if wanted else _strayed(rng, own)
    plan = _played(env, states[-steps], chosen)
    return plan if plan.reaches == wanted and len(plan.actions) == steps else None


def _walk(env: VoxelEnv, seed: int) -> tuple[list[dict[str, Any]], list[Action]]:
    """The states before each action of a walk that reaches the post, and the actions; none if it does
    not."""
    from unified.envs.voxel.players import make_player
    from unified.tokenizers.action import complete

    player = make_player("reach", seed)
    states, actions = [], []
    for _ in range(MOST_TICKS):
        states.append(env.get_state())
        actions.append(complete(player.act(env.simulation, env.task)))
        if env.step(actions[-1])[2]:
            return states, actions
    return [], []


def _strayed(rng: np.random.Generator, actions: list[Action]) -> list[Action]:
    """The plan with another end: it turns away from the first tick on, or lets go of all keys early."""
    if chance(rng, 0.5):
        side = TURN if chance(rng, 0.5) else -TURN
        ticks = min(len(actions), 9)
        turned = [{**action, "camera": np.array([0.0, side], np.float32)} for action in actions[:ticks]]
        return [*turned, *actions[ticks:]]
    kept = int(rng.integers(0, max(1, len(actions) // 3)))
    still = {**dict.fromkeys(actions[0], 0), "camera": np.zeros(2, np.float32)}
    return [*actions[:kept], *([still] * (len(actions) - kept))]


def _played(env: VoxelEnv, state: dict[str, Any], actions: Sequence[Action]) -> Plan:
    """What the actions lead to from a state; they end where the post is reached."""
    first, _ = env.reset(options={"state": state})
    frames, done, reached = [first["pov"]], [], False
    for action in actions:
        observation, _, reached, _, _ = env.step(action)
        frames.append(observation["pov"])
        done.append(action)
        if reached:
            break
    return Plan(np.stack(frames), done, bool(reached))
