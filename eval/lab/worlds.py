"""World models whose frame is one block, beside the one that writes a frame map by map: quality, drift and
seconds by horizon in one table.

    python -m unified.eval.lab.worlds [--toy] [--seed N] [--horizon N] [--steps N] [--work FOLDER] [--json]

Three small models learn the laboratory's clips (`ground/clips.py`), each for as many steps: `next scale`
writes codes; `one block` writes the latents of a KL-VAE with a flow over the whole frame behind the same
backbone (`block_flow`, order `blocks`); `ACDiT` denoises the frame with the whole network against clean
frames (arXiv 2412.07720). Each frame is made from the two before it, as they look, and their actions.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from unified.eval.lab.ground import clips as world
from unified.eval.lab.ground.bases import SQUARE, Rows
from unified.eval.lab.ground.clips import KINDS, PAST, Clips
from unified.eval.lab.ground.drawing import SAMPLER
from unified.eval.lab.ground.latents import begin, in_blocks
from unified.eval.lab.ground.tokenizers import SCHEDULE, as_pictures, train_one
from unified.eval.lab.ground.training import Course, train
from unified.eval.lab.sizes import FULL, TOY, Sizes

from unified.checkpoints.acdit.network import ACDiT, ACDiTConfig, BlockLayout
from unified.checkpoints.latent_tokenizer import LatentTokenizer, of_kl
from unified.config import UnifiedConfig
from unified.decoding.noise import PositionNoise
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.finite import check_count
from unified.heads.diffusion_solvers import dpm_solver, evenly, linear_kept
from unified.model import UnifiedModel
from unified.orders.shapes import Shapes, area, as_shapes

RATE, SHARE = 3e-3, 0.6  # steps, as a share of the base models'
SOLVER, NO_ACTION = 20, 0  # steps of a frame; the number of the action before a clip's first frame
SIDE = SQUARE[0][0]
TOKENS = area(SQUARE)
WHOLE = f"blocks(side={SIDE})"

Draw = Callable[[np.ndarray, Tensor, int], np.ndarray]  # frames [B, 2, ...], actions [B, 2, 2], seed -> frame


@dataclass(frozen=True)
class World:
    """A trained model of frames, and the seconds that its training took."""

    draw: Draw
    seconds: float


@dataclass(frozen=True)
class Study:
    """What all models learn from: sizes, clips, seed, steps, and a folder for checkpoints."""

    sizes: Sizes
    clips: Clips
    seed: int
    steps: int
    work: Path

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Numbers of clips [B] and of their first frames [B], a function of seed and step alone."""
        rng, count = np.random.default_rng([self.seed, step]), max(2, self.sizes.batch // 2)
        length = self.clips.frames.shape[1]
        rows = rng.integers(len(self.clips.actions), size=count)
        return torch.from_numpy(rows), torch.from_numpy(rng.integers(length - PAST, size=count))

    def course(self, name: str) -> Course:
        return Course(steps=self.steps, rate=RATE, what=f"{name}, seed {self.seed}")


# Models of streams ------------------------------------------------------------------------------------------


def next_scale(study: Study) -> World:
    """Codes of one book, map by map."""
    coder = train_one("vq", _flat(study.clips.frames), study.sizes, study.work / "vq")
    model = world.new_world(study.sizes, ("next_scale",), study.seed)
    return _of_stream(study, model, coder, "next_scale", as_shapes(SCHEDULE), SAMPLER)


def one_block(study: Study) -> World:
    """Latents, the whole frame in one step by a flow over all of them."""
    coder = frame_latents(study)
    like = world.new_world(study.sizes, (WHOLE,), study.seed).config
    words = {**(like.vocabulary or {}), "visual": coder.codes}
    width = study.sizes.model.part(0.5, 0.5).width
    torch.manual_seed(study.seed)
    model = UnifiedModel(
        UnifiedConfig(
            vocabulary=words,
            backbone=like.backbone,
            head="block_flow",
            head_options={**coder.head_options, "inner": width, "depth": 3, "steps": SOLVER, "repeats": 2},
        )
    )
    return _of_stream(study, model, coder, WHOLE, SQUARE, Sampler())


def frame_latents(study: Study) -> LatentTokenizer:
    """A KL-VAE of these frames."""
    return of_kl(train_one("kl_vae", _flat(study.clips.frames), study.sizes, study.work / "kl"))


def _of_stream(
    study: Study, model: UnifiedModel, coder: Any, order: str, shapes: Shapes, sampler: Sampler
) -> World:
    words = model.vocabulary
    seen, written = study.clips.codes(coder, SQUARE), study.clips.codes(coder, shapes)

    def loss(step: int) -> Tensor:
        rows, times = study.batch(step)
        past, acted = (_window(x, rows, times, PAST) for x in (seen, study.clips.actions))
        batch: Rows = world.world_rows(words, past, acted, written[rows, times + PAST], order, shapes)
        torch.manual_seed(1_000_003 * study.seed + step)  # of the noise of a head of latents
        found = model(batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False).loss
        assert found is not None
        return found

    done = train(model, loss, study.course(order), study.work / order.split("(")[0])

    def draw(past: np.ndarray, actions: Tensor, seed: int) -> np.ndarray:
        lines = world.context(words, Clips(past, actions).codes(coder, SQUARE), actions)
        session = Session(model, rows=len(lines), seed=seed)
        session.feed(lines)
        drawing = session.draw(shapes, order=order, sampler=sampler)
        with torch.no_grad():
            return as_pictures(coder.decode_maps([drawing.read()], SQUARE))

    return World(draw, done.seconds)


# ACDiT ------------------------------------------------------------------------------------------------------


class ActionEmbedding(nn.Module):
    """Actions [B, T, 2], counted from 1 (`NO_ACTION`: none) -> [B, T, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(count + 1, width) for count in KINDS.values())
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.3)  # type: ignore[arg-type]

    def forward(self, actions: Tensor) -> Tensor:
        return torch.stack([table(actions[..., n]) for n, table in enumerate(self.tables)]).sum(dim=0)


def acdit(study: Study) -> World:
    """Frames as blocks of a clip of three, each told the action that led to it."""
    coder, size = frame_latents(study), study.sizes.model.part(0.5, 0.5)
    torch.manual_seed(study.seed)
    frames = PAST + 1
    model = ACDiT(
        ACDiTConfig(
            layout=BlockLayout(count=frames, size=TOKENS, spatial=TOKENS, temporal=frames),
            channels=coder.dim,
            width=size.width,
            depth=size.layers,
            heads=size.heads,
            hidden=4 * size.width,
        )
    )
    begin(model)
    told: nn.Module = ActionEmbedding(size.width)
    model.y_embedder["embedding_table"] = told
    latents = coder.vectors(study.clips.codes(coder, SQUARE))  # [N, T, 64, C]
    acted = (
        torch.cat([study.clips.actions.new_full((len(latents), 1, 2), -1), study.clips.actions], dim=1) + 1
    )

    def condition(actions: Tensor, steps: Tensor) -> Tensor:
        found: Tensor = model.t_embedder(steps.flatten()).unflatten(0, steps.shape) + told(actions)
        return found

    def loss(step: int) -> Tensor:
        rows, times = study.batch(step)
        values, actions = (_window(x, rows, times, frames) for x in (latents, acted))
        generator = torch.Generator().manual_seed(1_000_003 * study.seed + step)
        steps = torch.randint(1000, values.shape[:2], generator=generator)
        noise = torch.randn(values.shape, generator=generator)
        kept = linear_kept()[steps].float()[..., None, None]
        noisy = kept.sqrt() * values + (1 - kept).sqrt() * noise
        made = model(values.flatten(1, 2), noisy.flatten(1, 2), condition(actions, steps))
        return (made - noise.flatten(1, 2)).square().mean()

    done = train(model, loss, study.course("ACDiT"), study.work / "acdit", in_blocks)

    @torch.no_grad()
    def draw(past: np.ndarray, actions: Tensor, seed: int) -> np.ndarray:
        values = coder.vectors(Clips(past, actions).codes(coder, SQUARE))  # [B, 2, 64, C]
        now, stores, rows = actions[:, -1:] + 1, model.stores(), len(past)
        noise = PositionNoise([seed + row for row in range(rows)])
        start = noise.normal(torch.arange(TOKENS).expand(rows, -1), coder.dim).float()
        first = condition(now, torch.full((rows, 1), 999))
        for block in range(
            1, PAST
        ):  # clean frames enter the cache; what is predicted beside them is not used
            model.step(start, first, block, stores, values[:, block - 1])
        before = [values[:, -1]]

        def predict(x: Tensor, step: int) -> Tensor:
            clean = before.pop() if before else None
            at = condition(now, torch.full((rows, 1), step))
            return model.step(x.float(), at, PAST, stores, clean)

        made = dpm_solver(predict, start, evenly(linear_kept(), SOLVER)).float()
        return as_pictures(coder.decode_vectors(made.transpose(1, 2).unflatten(2, (SIDE, SIDE))))

    return World(draw, done.seconds)


WORLDS: dict[str, Callable[[Study], World]] = {
    "next scale": next_scale,
    "one block": one_block,
    "ACDiT": acdit,
}


# The table --------------------------------------------------------------------------------------------------


def rolled_out(made: World, test: Clips, horizon: int, seed: int) -> tuple[np.ndarray, list[float]]:
    """Clips that begin with two true frames and go on with `horizon` drawn ones; seconds of a frame by
    horizon."""
    frames, seconds = test.frames[:, : PAST + horizon].copy(), []
    for step in range(horizon):
        began = time.perf_counter()
        past, acted = frames[:, step : step + PAST], test.actions[:, step : step + PAST]
        frames[:, step + PAST] = made.draw(past, acted, 10_000 * seed + 100 * step)
        seconds.append((time.perf_counter() - began) / len(frames))
    return frames, seconds


def measured(made: World, test: Clips, horizon: int, seed: int) -> dict[str, list[float]]:
    """By horizon: `psnr` in dB against the true frame, `drift`, the dB lost since the first drawn frame, and
    `seconds` of a frame."""
    frames, seconds = rolled_out(made, test, horizon, seed)
    psnr = world.mean_psnr(frames, test.frames[:, : PAST + horizon])[PAST:]
    return {"psnr": psnr, "drift": [psnr[0] - one for one in psnr], "seconds": seconds}


def copied(test: Clips, horizon: int) -> dict[str, list[float]]:
    """The last given frame in place of every later one: what a model must beat."""
    last = np.repeat(test.frames[:, PAST - 1 : PAST], horizon, axis=1)
    psnr = world.mean_psnr(last, test.frames[:, PAST : PAST + horizon])
    return {"psnr": psnr, "drift": [psnr[0] - one for one in psnr], "seconds": [0.0] * horizon}


def compared(
    sizes: Sizes, work: Path, *, seed: int = 0, horizon: int = 8, steps: int | None = None
) -> dict[str, Any]:
    """Train every world model and roll it out: by name what `measured` gives and the seconds of training."""
    steps = steps or sizes.steps(SHARE)
    check_count("horizon", horizon, 1)
    check_count("steps", steps, 1)
    length, count = PAST + horizon, max(2, sizes.prompts // 2)
    real = world.clips(max(4, sizes.scenes // 16), length, 0, work / "clips")
    test = world.clips(count, length, 1_000_000 + seed * count, work / "clips")
    study = Study(sizes, real, seed, steps, work / f"seed-{seed}")
    found: dict[str, Any] = {"copy": {**copied(test, horizon), "training": 0.0}}
    for name, make in WORLDS.items():
        made = make(study)
        found[name] = {**measured(made, test, horizon, seed), "training": made.seconds}
    return found


def table(found: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table: a row for each model and measure, a column for each horizon."""
    horizon = len(found["copy"]["psnr"])
    lines = ["| | | " + " | ".join(f"{n + 1}" for n in range(horizon)) + " | training, s |"]
    lines.append("|---|---|" + "---|" * (horizon + 1))
    forms = {
        "psnr": ("PSNR, dB", "{:.2f}"),
        "drift": ("drift, dB", "{:.2f}"),
        "seconds": ("s a frame", "{:.3f}"),
    }
    for name, numbers in found.items():
        for key, (what, form) in forms.items():
            values = " | ".join(form.format(one) for one in numbers[key])
            trained = f"{numbers['training']:.0f}" if key == "psnr" else ""
            lines.append(f"| {name if key == 'psnr' else ''} | {what} | {values} | {trained} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; status 2 with one line for bad input."""
    parser = argparse.ArgumentParser(
        prog="unified.eval.lab.worlds", description="world models of one block beside next-scale ones"
    )
    parser.add_argument("--toy", action="store_true", help="tiny models and a few steps: to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--horizon", type=int, default=8, help="frames that are drawn (default 8)")
    parser.add_argument("--steps", type=int, help="of each model (default 360)")
    parser.add_argument("--work", type=Path, default=Path("lab_work/worlds"), help="clips and checkpoints")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    sizes, kind = (TOY, "toy") if options.toy else (FULL, "full")
    told = {"seed": options.seed, "horizon": options.horizon, "steps": options.steps}
    try:
        found = compared(sizes, options.work / kind, **told)
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found) if options.json else "\n".join(table(found)))
    return 0


def _flat(frames: np.ndarray) -> np.ndarray:
    return frames.reshape(-1, *frames.shape[2:])


def _window(values: Tensor, rows: Tensor, times: Tensor, length: int) -> Tensor:
    """[B, length, ...] of values [N, T, ...]."""
    return torch.stack([values[rows, times + n] for n in range(length)], dim=1)


if __name__ == "__main__":
    sys.exit(main())
