"""Frames a second at MineWorld's shape: raster, diagonal and next-scale decoding of the same frames.

    python -m unified.eval.bench.mineworld [--repeats 3] [--json]

8 layers, width 512, 8 heads of which 4 have keys, 14 x 24 codes of 8192, 7 frames and 6 actions in the
cache, then an action and the eighth frame, float32, greedy, without pixels. `own` is our model (its frames
are read again after they are written: that is counted), once also with 2 x 2 codes to a position; `published`
a MineWorld checkpoint, stepped through the same `Session`. Weights are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from unified.tokenizers.schedules import ladder

from unified.cache.policy import Window
from unified.checkpoints.mineworld import MineWorldTransformer
from unified.checkpoints.mineworld_config import LayerSizes, MineWorldConfig
from unified.checkpoints.mineworld_session import Played
from unified.config import UnifiedConfig, text_decoder
from unified.decoding.sampling import Sampler
from unified.decoding.session import Session
from unified.model import UnifiedModel
from unified.orders.shapes import Shape, area

GREEDY = Sampler(temperature=0)
DIAGONAL = "diagonal(window=2)"
SIDES = (1, 3, 6, 12)  # of the maps before the last, next-scale
FRAMES = 8  # of context, the one that is written included


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of model and frames."""

    layers: int = 8
    width: int = 512
    heads: int = 8
    kv_heads: int = 4
    inner: int = 2048
    grid: Shape = (14, 24)
    codes: int = 8192


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement: a `model` (name in `MODELS`), an `order`, and how many `rows` are stepped at once."""

    model: str
    order: str
    rows: int = 1

    def __str__(self) -> str:
        return f"{self.model}, {self.order} x{self.rows}"


CASES = (
    Case(model="own", order="raster"),
    Case(model="own", order=DIAGONAL),
    Case(model="own", order="next_scale"),
    Case(model="merged", order="next_scale"),
    Case(model="published", order="raster"),
    Case(model="published", order=DIAGONAL),
    Case(model="own", order=DIAGONAL, rows=16),
    Case(model="own", order="next_scale", rows=16),
    Case(model="merged", order="next_scale", rows=16),
)
RATIOS = (  # what is to be how many times as fast as what
    (CASES[2], CASES[1], 4.0),
    (CASES[3], CASES[1], 4.0),
    (CASES[1], CASES[0], 3.0),
    (CASES[5], CASES[4], 3.0),
    (CASES[6], CASES[1], 2.5),
    (CASES[7], CASES[2], 2.5),
    (CASES[8], CASES[3], 2.5),
)


def own(size: Size, merge: int = 0) -> UnifiedModel:
    actions = MineWorldConfig(grid=size.grid, codes=size.codes, ids=size.codes + 70).actions
    vocabulary = {
        "visual": size.codes,
        "action": actions.size,
        "action_slots": actions.slots,
        "orders": ["raster", DIAGONAL, "next_scale"],
        "merge": merge,
    }
    decoder = text_decoder(
        width=size.width, layers=size.layers, heads=size.heads, kv_heads=size.kv_heads, mlp=size.inner
    )
    return UnifiedModel(UnifiedConfig(vocabulary=vocabulary, backbone=decoder)).eval().fuse()


def published(size: Size) -> Played:
    config = MineWorldConfig(
        grid=size.grid,
        codes=size.codes,
        ids=size.codes + 70,
        sizes=LayerSizes(
            width=size.width,
            inner=size.inner,
            heads=size.heads,
            kv_heads=size.kv_heads,
            layers=size.layers,
        ),
        context=FRAMES * (area((size.grid,)) + 11),
    )
    return Played(MineWorldTransformer(config).eval())


MODELS: dict[str, Callable[[Size], Any]] = {
    "own": own,
    "merged": lambda size: own(size, merge=4),
    "published": published,
}


def prepared(model: Any, size: Size, frames: int = FRAMES) -> Session:
    """A session of one row that has read all `frames` but the last, and the actions between them."""
    words, rng = model.vocabulary, torch.Generator().manual_seed(0)
    session = Session(model, policy=Window((frames + 1) * (area((size.grid,)) + 20), keep=1))
    for number in range(frames - 1):
        codes = torch.randint(size.codes, (area((size.grid,)),), generator=rng).tolist()
        session.feed(words.read_segment(codes, [size.grid]) + (_action(words) if number < frames - 2 else []))
    return session


def _action(words: Any) -> list[int]:
    return [words.action_start + number for number in range(words.action_slots)]


def copies(session: Session, rows: int) -> Session:
    """The same conversation in so many rows."""
    other = Session(session.model, rows=rows, policy=session.policy)
    other.context.cache = session.context.cache.take([0] * rows)
    other.context.cursors = session.context.cursors * rows
    other.context.last = [[x.expand(rows, -1).contiguous() for x in heads] for heads in session.context.last]
    for row in other.rows:
        row.stream, row.reference = list(session.rows[0].stream), session.rows[0].reference
    return other


def frame(session: Session, order: str, grid: Shape) -> None:
    """An action, and the frame after it, read again where the model does that."""
    session.feed(_action(session.vocabulary), defer=True)
    session.draw(ladder(grid, SIDES) if order == "next_scale" else (grid,), order=order, sampler=GREEDY)
    session.read_pending()


Rates = dict[str, float]  # frames a second by case


@torch.no_grad()
def measure(cases: Sequence[Case], repeats: int, size: Size | None = None) -> tuple[Rates, Rates]:
    """Frames of each case, counting all rows, per second of the clock and of processor time: medians of
    `repeats` frames. The two differ when other programs share the cores. The cases of a model take turns, so
    that a busy moment meets all of them."""
    size = size or Size()
    found: dict[str, list[tuple[float, float]]] = {str(case): [] for case in cases}
    for name in dict.fromkeys(case.model for case in cases):
        torch.manual_seed(0)
        first = prepared(MODELS[name](size), size)
        chosen = [case for case in cases if case.model == name]
        frame(copies(first, 1), min(chosen, key=lambda case: case.order == "raster").order, size.grid)
        for _ in range(repeats):
            for case in chosen:
                session = copies(first, case.rows)
                start = time.perf_counter(), time.process_time()
                frame(session, case.order, size.grid)
                taken = time.perf_counter() - start[0], time.process_time() - start[1]
                found[str(case)].append((case.rows / taken[0], case.rows / taken[1]))
    clock, busy = ({name: statistics.median(rate[n] for rate in rates) for name, rates in found.items()}
                   for n in (0, 1))  # fmt: skip
    return clock, busy


def lines(clock: Rates, busy: Rates) -> list[str]:
    """One line for each case, then one for each ratio with its goal."""
    found = [
        f"world, {name}: {rate:.3g} frames/s ({busy[name]:.3g} per second of processor time)"
        for name, rate in clock.items()
    ]
    for fast, slow, goal in RATIOS:
        ratio, by_processor = (rates[str(fast)] / rates[str(slow)] for rates in (clock, busy))
        verdict = "reached" if ratio >= goal else "MISSED"
        found.append(
            f"world, {fast} beside {slow}: {ratio:.2f} times (goal {goal:g}: {verdict}; "
            f"{by_processor:.2f} in processor time)"
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.mineworld", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=3, help="frames of each case; the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(options.repeats, options.threads) < 1:
        parser.error("--repeats and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    clock, busy = measure(CASES, options.repeats)
    if options.json:
        print(json.dumps({"frames_per_second": clock, "frames_per_processor_second": busy}))
    else:
        print("\n".join(lines(clock, busy)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
