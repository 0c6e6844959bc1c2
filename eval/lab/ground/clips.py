"""Clips of the voxel world at 32 x 32, and small models of their frames: what the world experiments share.

A step is four ticks with one action held: a move (none, forward, back, left, right) and a turn (none, left,
right), two ids. A row is `begin READ ACTION READ ACTION WRITE`: a frame is written from the two before it and
their actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.eval.lab.ground.bases import MOST_SIDE, SQUARE, Rows, layout_of
from unified.eval.lab.ground.scenes import SIDE
from unified.eval.lab.ground.tokenizers import as_images, train_one
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import Sizes
from unified.eval.metrics.following import macro_f1

from unified.config import UnifiedConfig, text_decoder
from unified.layout.layout import IGNORED
from unified.model import UnifiedModel
from unified.orders.shapes import Shapes, area
from unified.stream.vocabulary import Vocabulary

MOVES, TURNS = ("", "forward", "back", "left", "right"), (0.0, -8.0, 8.0)  # degrees a tick
TICKS, HELD = 4, 2  # of a step; steps that a move goes on at least
KINDS = {"move": len(MOVES), "turn": len(TURNS)}
PAST = 2  # frames that a frame is written from
WORLD = (48, 32, 48)


@dataclass(frozen=True)
class Clips:
    """`frames` uint8 [N, T, 32, 32, 3]; `actions` [N, T - 1, 2]: move and turn between frames."""

    frames: np.ndarray
    actions: Tensor

    def codes(self, coder: Any, shapes: Shapes) -> Tensor:
        """[N, T, L] of all frames."""
        flat = as_images(self.frames.reshape(-1, SIDE, SIDE, 3))
        with torch.no_grad():
            found = [torch.cat(coder.encode(part, shapes), dim=1) for part in flat.split(256)]
        return torch.cat(found).unflatten(0, self.frames.shape[:2])


def clips(count: int, length: int, first: int, cache: Path) -> Clips:
    """Clips number `first` and on; each has a world of its own. Kept in the folder `cache`."""
    path = cache / f"clips-{count}-{length}-{first}.npz"
    if not path.is_file():
        frames, actions = zip(*(_clip(first + n, length) for n in range(count)), strict=True)
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npz")
        np.savez_compressed(partial, frames=np.stack(frames), actions=np.stack(actions))
        partial.replace(path)
    with np.load(path) as found:
        return Clips(found["frames"], torch.from_numpy(found["actions"]))


def _clip(number: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    from unified.envs.voxel.env import VoxelEnv

    env = VoxelEnv(width=SIDE, height=SIDE, world_size=WORLD, max_steps=0)
    rng = np.random.default_rng([11, number])
    frames = [env.reset(seed=number)[0]["pov"]]
    actions = []
    for step in range(length - 1):
        if step % HELD == 0:
            move, turn = int(rng.integers(len(MOVES))), int(rng.integers(len(TURNS)))
        action: dict[str, Any] = {"camera": np.array([0.0, TURNS[turn]])}
        if MOVES[move]:
            action[MOVES[move]] = 1
        for _ in range(TICKS):
            seen = env.step(action)[0]["pov"]
        frames.append(seen)
        actions.append((move, turn))
    env.close()
    return np.stack(frames), np.array(actions)


# Models of frames -------------------------------------------------------------------------------------------


def frame_tokenizer(clips_: Clips, sizes: Sizes, work: Path) -> Any:
    """A VQ codebook for these frames."""
    return train_one("vq", clips_.frames.reshape(-1, SIDE, SIDE, 3), sizes, work)


def new_world(sizes: Sizes, orders: tuple[str, ...], seed: int) -> UnifiedModel:
    """A model of an eighth of a base model's inner size."""
    size = sizes.model.part(0.5, 0.5)
    words = Vocabulary(
        text=1,
        visual=sizes.tokenizer.codes,
        action=len(MOVES) + len(TURNS),
        action_slots=2,
        max_side=MOST_SIDE,
        orders=orders,
        appended=(),
    )
    torch.manual_seed(seed)
    backbone = text_decoder(width=size.width, layers=size.layers, heads=size.heads, kv_heads=size.heads)
    return UnifiedModel(UnifiedConfig(vocabulary=words.to_dict(), backbone=backbone))


def context(words: Vocabulary, past: Tensor, actions: Tensor) -> list[list[int]]:
    """The ids before a frame: codes [B, 2, 64] of the two before it and actions [B, 2, 2]."""
    lines = []
    for codes, acted in zip(past.tolist(), actions.tolist(), strict=True):
        line = [words.begin]
        for frame, (move, turn) in zip(codes, acted, strict=True):
            ids = [words.action_start + move, words.action_start + len(MOVES) + turn]
            line += [*words.read_segment(frame, SQUARE), *ids]
        lines.append(line)
    return lines


def world_rows(
    words: Vocabulary, past: Tensor, actions: Tensor, codes: Tensor, order: str, shapes: Shapes
) -> Rows:
    """Rows with codes [B, T] of the frame that is written, in slot order."""
    opened = words.open_write(order, shapes)
    blank = [words.visual_start] * area(shapes)
    ids = torch.tensor([[*line, *opened, *blank, words.close] for line in context(words, past, actions)])
    start = ids.shape[1] - 1 - len(blank)
    ids[:, start:-1] = codes + words.visual_start
    labels = torch.full_like(ids, IGNORED)
    labels[:, start:-1] = ids[:, start:-1]
    line = ids[0].clone()
    line[words.is_visual(line)] = words.visual_start
    line[words.is_action(line)] = words.action_start
    return Rows(ids, layout_of(words, tuple(line.tolist()), len(ids)), labels)


# The inverse model ------------------------------------------------------------------------------------------


class Inverse(nn.Module):
    """Two frames [B, 6, 32, 32] -> logits of move and turn."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(9, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 128),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(128, count) for name, count in KINDS.items()})

    def forward(self, before: Tensor, after: Tensor) -> dict[str, Tensor]:
        found = self.layers(torch.cat([before, after, after - before], dim=1))
        return {name: head(found) for name, head in self.heads.items()}


def train_inverse(real: Clips, sizes: Sizes, steps: int, seed: int, folder: Path) -> Inverse:
    """On pairs of true frames alone."""
    torch.manual_seed(seed)
    model = Inverse()
    count, length = real.actions.shape[:2]

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        rows, times = rng.integers(count, size=2 * sizes.batch), rng.integers(length, size=2 * sizes.batch)
        before, after = (as_images(real.frames[rows, times + n]) for n in (0, 1))
        wanted = real.actions[rows, times]
        logits = model(before, after)
        parts = [F.cross_entropy(logits[name], wanted[:, n]) for n, name in enumerate(KINDS)]
        return torch.stack(parts).sum()

    train(model, loss, Course(steps=steps, rate=1e-3, what="inverse model"), folder)
    return model.eval()


@torch.no_grad()
def read_actions(model: Inverse, frames: np.ndarray) -> Tensor:
    """Of frames uint8 [N, T, 32, 32, 3] -> [N, T - 1, 2]."""
    pairs = [as_images(frames[:, part].reshape(-1, SIDE, SIDE, 3)) for part in (slice(0, -1), slice(1, None))]
    logits = model(*pairs)
    return torch.stack([x.argmax(dim=-1) for x in logits.values()], dim=-1).unflatten(
        0, (len(frames), frames.shape[1] - 1)
    )


def following(read: Tensor, given: Tensor) -> dict[str, float]:
    """Macro F1 of move and turn, and their mean, of actions [N, T, 2] that were read against those given."""
    found = {
        name: macro_f1(read[..., n].flatten().numpy(), given[..., n].flatten().numpy())
        for n, name in enumerate(KINDS)
    }
    return {**found, "f1": sum(found.values()) / len(found)}


def mean_psnr(one: np.ndarray, other: np.ndarray) -> list[float]:
    """By frame, of clips uint8 [N, T, H, W, 3]."""
    error = ((one.astype(float) - other.astype(float)) ** 2).mean(axis=(0, 2, 3, 4))
    return [float(10 * np.log10(255**2 / max(x, 1e-3))) for x in error]
