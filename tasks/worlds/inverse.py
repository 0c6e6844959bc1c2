"""An inverse dynamics model: which action lies between two frames. Trained on real frames only.

It reads true frames of a player who uses every key of the voxel world and predicts the classes of
`action_classes`: seven tasks and two camera axes. `unified.eval.inverse` trains one of pixels as a command
and scores it; `unified.train.reader` trains one of a visual tokenizer's vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from unified.tasks.worlds.action_classes import CAMERA_BINS, CLASSES, camera_bins, labels
from unified.tasks.worlds.clips import Clip, WorldConfig, watch

from unified.checkpoints.state_dict import load_strict, read_safetensors
from unified.precision import autocast
from unified.text_files import parse_json

HEADS = {**CLASSES, "pitch": CAMERA_BINS, "yaw": CAMERA_BINS}


@dataclass(frozen=True, kw_only=True)
class InverseConfig:
    """`width` of a frame's features; frames have `size` pixels a side; places of two frames at most `reach`
    cells of four pixels apart are compared; `memory` channels run along a clip in either direction. With
    `channels` it reads vectors of so many numbers, one at every cell, and not pixels."""

    channels: int | None = None
    width: int = 32
    size: int = 64
    reach: int = 4
    memory: int = 96

    def __post_init__(self) -> None:
        if self.memory < 1 or self.reach < 0:
            raise ValueError("memory must be at least 1 and reach not negative")
        if self.channels is not None and self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")
        if self.width < 8 or self.width % 8 or self.size < 16 or self.size % 16:
            raise ValueError(
                f"width must be a multiple of 8 and size one of 16, got {self.width} and {self.size}"
            )


class InverseModel(nn.Module):
    """Clips to logits of every head at every step. What moved is read from how alike the places of a frame
    are to those around them in the next (a cost volume, as in optical flow: arXiv 1504.06852), then along the
    clip in both directions, as VPT's model sees what comes before and after (arXiv 2206.11795)."""

    def __init__(self, config: InverseConfig) -> None:
        super().__init__()
        self.config = config
        width, wide = config.width, 4 * config.width
        stride = 1 if config.channels else 2
        self.frame = nn.Sequential(
            *_convolution(config.channels or 3, width, stride=stride),
            *_convolution(width, width, stride=stride),
            *_convolution(width, width),
        )
        moved = (2 * config.reach + 1) ** 2
        self.pair = nn.Sequential(
            *_convolution(moved + 2 * width, 3 * width),
            *_convolution(3 * width, wide, stride=2),
            *_convolution(wide, wide, stride=2),
        )
        cells = (config.size // 16) ** 2
        self.mix = nn.Sequential(nn.Linear(cells * wide, 2 * config.memory), nn.SiLU())
        self.along = nn.GRU(2 * config.memory, config.memory, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleDict(
            {name.replace("/", "_"): nn.Linear(2 * config.memory, n) for name, n in HEADS.items()}
        )

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """Clips uint8 [B, F, H, W, 3] or float of that range, or vectors [B, F, h, w, C] -> logits
        [B, F - 1, classes] by head."""
        frames = clips.flatten(0, 1).permute(0, 3, 1, 2).float()  # [B * F, 3, H, W]
        if not self.config.channels:
            frames = frames / 127.5 - 1
        features = self.frame(frames.contiguous(memory_format=torch.channels_last))
        features = features.unflatten(0, clips.shape[:2])  # [B, F, C, h, w]
        before, after = features[:, :-1].flatten(0, 1), features[:, 1:].flatten(0, 1)
        pairs = torch.cat([cost_volume(before, after, self.config.reach), before, after], dim=1)
        pairs = self.pair(pairs.contiguous(memory_format=torch.channels_last))
        x = self.mix(pairs.flatten(1)).unflatten(0, (len(clips), -1))
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() + self.along(x.float())[0]
        return {name: self.heads[name.replace("/", "_")](x) for name in HEADS}

    @torch.no_grad()
    def read(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """The likeliest classes between successive frames uint8 [F, H, W, 3]: [F - 1] by head."""
        logits = self(torch.from_numpy(frames)[None])
        return {name: values[0].argmax(dim=-1).numpy() for name, values in logits.items()}


def _convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.GroupNorm(8, after), nn.SiLU()]


def cost_volume(before: Tensor, after: Tensor, reach: int) -> Tensor:
    """Products of the features [N, C, h, w] of every place with those of the places after at most `reach`
    rows and columns away, 0 beyond the border: [N, (2 reach + 1)^2, h, w]."""
    height, width = before.shape[-2:]
    products = torch.einsum("ncp,ncq->npq", before.flatten(2), after.flatten(2)) / before.shape[1] ** 0.5
    offsets = torch.arange(-reach, reach + 1)
    rows = torch.arange(height)[:, None, None, None] + offsets[:, None]  # [h, 1, n, 1]
    columns = torch.arange(width)[:, None, None] + offsets  # [w, 1, n]
    inside = ((rows >= 0) & (rows < height)) & ((columns >= 0) & (columns < width))  # [h, w, n, n]
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    places, inside = (table.flatten(2).flatten(0, 1).to(before.device) for table in (places, inside))
    found = products.gather(2, places.expand(len(products), -1, -1)) * inside
    return found.transpose(1, 2).unflatten(2, (height, width))


@dataclass(frozen=True, kw_only=True)
class InverseTraining:
    """`clips` of 17 frames are watched once and visited for `epochs`, `batch` at once; `blurred` is the share
    of visits in which they grow blurred, as imagined frames do."""

    clips: int = 2000
    epochs: int = 8
    batch: int = 16
    rate: float = 2e-3
    blurred: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Steps:
    """Clips uint8 [C, F, H, W, 3] and the classes [C, F - 1] of all their steps by head."""

    clips: Tensor
    truth: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.clips)

    def visit(self, rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Clips to learn from, a share of them blurred."""
        return blurred(self.clips[rows], share, generator)


class Visited(Protocol):
    """Clips that an inverse dynamics model learns from."""

    @property
    def truth(self) -> dict[str, Tensor]: ...

    def __len__(self) -> int: ...

    def visit(self, rows: Tensor, share: float, generator: torch.Generator) -> Tensor: ...


def blurred(clips: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Clips uint8 [B, F, H, W, 3] as floats, a share of them blurred from some frame on: a mean over 2 x 2
    pixels first, over 4 x 4 from a later one."""
    frames = clips.permute(0, 1, 4, 2, 3).float()
    size = tuple(frames.shape[-2:])
    numbers = torch.arange(frames.shape[1])
    chosen = torch.rand(len(frames), 1, generator=generator) < share
    for cell, earliest in ((2, 1), (4, 4)):
        starts = torch.randint(earliest, frames.shape[1] + 4, (len(frames), 1), generator=generator)
        rows, columns = torch.nonzero(chosen & (numbers >= starts), as_tuple=True)
        if len(rows):
            coarse = F.avg_pool2d(frames[rows, columns], cell)
            frames[rows, columns] = F.interpolate(coarse, size=size, mode="bilinear")
    return frames.permute(0, 1, 3, 4, 2)


def truth_of(actions: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Classes [N] of every head."""
    camera = camera_bins(actions)
    return {**labels(actions), "pitch": camera[:, 0], "yaw": camera[:, 1]}


def watched(number: int, split: str, *, size: int = 64, frames: int = 17, seed: int = 0) -> Iterator[Clip]:
    """Clips of the player who uses every key."""
    config = WorldConfig(size=size, frames=frames, players=("roam",), seed=seed)
    return (watch(config, index, split) for index in range(number))


def steps_of(clips: Iterator[Clip]) -> Steps:
    found = list(clips)
    truths = [truth_of(clip.actions) for clip in found]
    return Steps(
        torch.from_numpy(np.stack([clip.frames for clip in found])),
        {name: torch.from_numpy(np.stack([truth[name] for truth in truths])) for name in HEADS},
    )


def train(
    data: Visited, config: InverseConfig, training: InverseTraining, start: InverseModel | None = None
) -> InverseModel:
    """Cross-entropy over all heads, from a new model, or of `start` in place."""
    torch.manual_seed(training.seed)
    model = (start or InverseModel(config)).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.rate, weight_decay=0.01)
    steps = max(1, training.epochs * len(data) // training.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=steps)
    generator = torch.Generator().manual_seed(training.seed)
    for step in range(steps):
        rows = torch.randint(len(data), (training.batch,), generator=generator)
        with autocast():
            logits = model(data.visit(rows, training.blurred, generator))
        loss = cost(logits, {name: data.truth[name][rows] for name in HEADS})
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step + 1} of {steps}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def cost(
    logits: Mapping[str, Tensor], truth: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Cross-entropy in nats a step, the sum over heads, of logits [B, N, classes] and classes [B, N]; with
    `weights` [classes] by head each step counts as much as that of its class."""
    found = []
    for name in HEADS:
        classes = truth[name].flatten()
        nats = F.cross_entropy(logits[name].float().flatten(0, 1), classes, reduction="none")
        found.append((nats * weights[name][classes] if weights else nats).mean())
    return torch.stack(found).sum()


def save(model: InverseModel, path: Path, notes: dict[str, Any]) -> None:
    metadata = {"config": json.dumps(asdict(model.config)), "notes": json.dumps(notes)}
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata=metadata)


def load(path: Path) -> InverseModel:
    """A saved model. ValueError, in one line, for anything else."""
    state = read_safetensors(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    try:
        model = InverseModel(InverseConfig(**parse_json(metadata["config"])))
        load_strict(model, {name: value.float() for name, value in state.items()})
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: not an inverse dynamics model ({error})") from None
    return model.eval()
