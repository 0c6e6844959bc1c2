"""An inverse dynamics model: which action lies between two frames. Trained on real frames only.

    python -m unified.eval.inverse --out inverse.safetensors --clips 4000

It reads true frames of scripted players in the voxel world (training split) and predicts the seven
tasks and two camera axes of `metrics.following`. `unified eval world --inverse FILE` reads actions back from
imagined frames with it. Before it is used its own score on true held-out video is printed beside.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from unified.eval.metrics.following import (
    CAMERA_BINS,
    CLASSES,
    accuracy,
    camera_bins,
    f1,
    labels,
    macro_f1,
    varied,
)
from unified.tasks.worlds.clips import Clip, WorldConfig, watch

from unified.checkpoints.state_dict import load_strict, read_safetensors
from unified.cli import Parser
from unified.commands.common import check_target, count

HEADS = {**CLASSES, "pitch": CAMERA_BINS, "yaw": CAMERA_BINS}


@dataclass(frozen=True, kw_only=True)
class InverseConfig:
    """`width` of the first of four levels; frames have `size` pixels a side; beside the two frames `around`
    more on either side are seen (the first and last of a clip are repeated)."""

    width: int = 32
    size: int = 64
    around: int = 1

    def __post_init__(self) -> None:
        if self.around < 0:
            raise ValueError(f"around must not be negative, got {self.around}")
        if self.width < 8 or self.width % 8 or self.size < 16 or self.size % 16:
            raise ValueError(
                f"width must be a multiple of 8 and size one of 16, got {self.width} and {self.size}"
            )


class InverseModel(nn.Module):
    """The frames around a step to logits of every head."""

    def __init__(self, config: InverseConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * factor for factor in (1, 2, 3, 4)]
        layers: list[nn.Module] = []
        for before, after in zip([3 * (2 * config.around + 3), *widths[:-1]], widths, strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        cells = (config.size // 16) ** 2
        self.mix = nn.Sequential(nn.Linear(cells * widths[-1], 256), nn.SiLU())
        self.heads = nn.ModuleDict({name.replace("/", "_"): nn.Linear(256, n) for name, n in HEADS.items()})

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Windows uint8 [B, 2 + 2 around, H, W, 3] -> logits [B, classes] of the middle step by head."""
        frames = windows.permute(0, 1, 4, 2, 3).float() / 127.5 - 1  # [B, F, 3, H, W]
        change = frames[:, self.config.around + 1] - frames[:, self.config.around]
        x = self.mix(self.body(torch.cat([frames.flatten(1, 2), change], dim=1)).flatten(1))
        return {name: self.heads[name.replace("/", "_")](x) for name in HEADS}

    @torch.no_grad()
    def read(self, frames: np.ndarray, batch: int = 256) -> dict[str, np.ndarray]:
        """The likeliest classes between successive frames uint8 [F, H, W, 3]: [F - 1] by head."""
        clip, steps = torch.from_numpy(frames)[None], torch.arange(len(frames) - 1)
        found: dict[str, list[Tensor]] = {name: [] for name in HEADS}
        for part in steps.split(batch):
            logits = self(windows(clip, torch.zeros_like(part), part, self.config.around))
            for name, values in logits.items():
                found[name].append(values.argmax(dim=-1))
        return {name: torch.cat(parts).numpy() for name, parts in found.items()}


@dataclass(frozen=True, kw_only=True)
class InverseTraining:
    """`clips` of 17 frames are watched once and visited for `epochs`."""

    clips: int = 2000
    epochs: int = 8
    batch: int = 128
    rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class Steps:
    """Clips uint8 [C, F, H, W, 3] and the classes [C * (F - 1)] of all their steps by head, clip by clip."""

    clips: Tensor
    truth: dict[str, Tensor]

    def __len__(self) -> int:
        return self.clips.shape[0] * (self.clips.shape[1] - 1)

    def windows(self, numbers: Tensor, around: int) -> Tensor:
        """The frames around these steps [N]: uint8 [N, 2 + 2 around, H, W, 3]."""
        per_clip = self.clips.shape[1] - 1
        return windows(self.clips, numbers // per_clip, numbers % per_clip, around)


def windows(clips: Tensor, rows: Tensor, steps: Tensor, around: int) -> Tensor:
    """Frames step - around to step + 1 + around of clips [C, F, ...], those beyond the ends repeated."""
    offsets = torch.arange(-around, around + 2)
    places = (steps[:, None] + offsets).clamp(0, clips.shape[1] - 1)  # [N, 2 + 2 around]
    return clips[rows[:, None], places]


def truth_of(actions: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Classes [N] of every head."""
    camera = camera_bins(actions)
    return {**labels(actions), "pitch": camera[:, 0], "yaw": camera[:, 1]}


def watched(number: int, split: str, *, size: int = 64, frames: int = 17, seed: int = 0) -> Iterator[Clip]:
    """Clips of the voxel world."""
    config = WorldConfig(size=size, frames=frames, seed=seed)
    return (watch(config, index, split) for index in range(number))


def steps_of(clips: Iterator[Clip]) -> Steps:
    found = list(clips)
    truths = [truth_of(clip.actions) for clip in found]
    return Steps(
        torch.from_numpy(np.stack([clip.frames for clip in found])),
        {name: torch.from_numpy(np.concatenate([truth[name] for truth in truths])) for name in HEADS},
    )


def train(data: Steps, config: InverseConfig, training: InverseTraining) -> InverseModel:
    """Cross-entropy over all heads; rare classes weigh more (inverse square root of their share)."""
    torch.manual_seed(training.seed)
    model = InverseModel(config)
    weights = {name: _weights(data.truth[name], HEADS[name]) for name in HEADS}
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.rate, weight_decay=0.01)
    steps = max(1, training.epochs * (len(data) // training.batch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=steps)
    generator = torch.Generator().manual_seed(training.seed)
    for step in range(steps):
        rows = torch.randint(len(data), (training.batch,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(data.windows(rows, config.around))
        losses = [
            F.cross_entropy(logits[name].float(), data.truth[name][rows], weights[name]) for name in HEADS
        ]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step + 1} of {steps}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def _weights(truth: Tensor, classes: int) -> Tensor:
    counts = torch.bincount(truth, minlength=classes).float()
    weights = torch.where(counts > 0, counts.clamp(min=1).rsqrt(), torch.zeros(()))
    return weights / (weights * counts).sum() * counts.sum()


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
        model = InverseModel(InverseConfig(**json.loads(metadata["config"])))
        load_strict(model, {name: value.float() for name, value in state.items()})
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not an inverse dynamics model ({error})") from None
    return model.eval()


def score(model: InverseModel, data: Steps) -> dict[str, Any]:
    """On true video: mean macro F1 over the tasks that vary and that of each, accuracy, camera error in
    bins."""
    around = model.config.around
    with torch.no_grad():
        parts = [model(data.windows(part, around)) for part in torch.arange(len(data)).split(256)]
    found = {name: torch.cat([part[name] for part in parts]).argmax(-1).numpy() for name in HEADS}
    truth = {name: values.numpy() for name, values in data.truth.items()}
    tasks = varied({name: truth[name] for name in CLASSES})
    camera = np.mean([np.abs(found[axis] - truth[axis]).mean() for axis in ("pitch", "yaw")])
    result = {"macro_f1": f1(found, truth, tasks), "accuracy": accuracy(found, truth, tasks)}
    by_task = {name: round(macro_f1(found[name], truth[name]), 3) for name in tasks}
    return {**result, "camera_bins": float(camera), "by_task": by_task}


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="unified.eval.inverse", description="Trains an inverse dynamics model on true frames."
    )
    parser.add_argument("--out", type=Path, required=True, help="where to write it (.safetensors)")
    parser.add_argument(
        "--clips", type=count, default=2000, help="clips of 17 frames to train on (default 2000)"
    )
    parser.add_argument("--test-clips", type=count, default=200)
    parser.add_argument("--epochs", type=count, default=8)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--around", type=int, default=1, help="more frames seen on either side (0: a pair)")
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args(arguments)
    try:
        check_target(options.out)
        config = InverseConfig(width=options.width, size=options.size, around=options.around)
    except ValueError as error:
        parser.error(str(error))
    started = time.monotonic()
    training = InverseTraining(clips=options.clips, epochs=options.epochs)
    data = steps_of(watched(training.clips, "train", size=config.size))
    model = train(data, config, training)
    scores = score(model, steps_of(watched(options.test_clips, "test", size=config.size)))
    notes = {**asdict(training), "seconds": round(time.monotonic() - started), "test": scores}
    save(model, options.out, notes)
    print(json.dumps(notes))
    print(f"Wrote {options.out}: macro F1 {scores['macro_f1']:.3f} on true test video.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
