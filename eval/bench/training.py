"""A training step beside that of the published code (`baseline.py`): images a second and peak memory.

    python -m unified.eval.bench.training [--batch 4] [--pairs 7] [--json]

`var` trains the yardstick's own weights by our forward pass. `own` is our model at equal depth and width,
with an MLP of equal size (three matrices of 1376 for two of 2048); it reads each image as a stream of ids
after a short prompt. All take the loss of 680 codes an image, clip the norm of the gradient at 1 and step
AdamW. In bfloat16 all run under autocast.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unified.eval.bench.baseline import PublishedVAR
from unified.eval.bench.generation import NOT_FAST, dtypes
from unified.eval.bench.images import CODES, own_model, peak_mb, var_model
from unified.eval.bench.interleaved import PAIRS, Ratio, interleaved
from unified.eval.bench.table import goal, rows_of

from unified.checkpoints.published import SCALES_256
from unified.model import UnifiedModel
from unified.orders.shapes import area

MLP = 1376  # of `own`
SHAPES = [(side, side) for side in SCALES_256]
FASTER = 1.3  # times as fast in bfloat16, of `own`
METHODS = ("var", "own")

Step = Callable[[], None]


def steps(method: str, dtype: str, batch: int) -> Step:
    """One training step of a batch of random codes."""
    torch.manual_seed(0)
    half = dtype == "bfloat16"
    codes = torch.randint(CODES, (batch, area(SHAPES)))
    if method == "own":
        own = own_model(MLP).train()
        own.attention = "by_sample"
        return _step(own.parameters(), _own_loss(own, codes, half))
    model = var_model().train()
    tokenizer = model.needed_tokenizer()
    trained = [weight for name, weight in model.named_parameters() if not name.startswith("tokenizer.")]
    labels = torch.arange(batch)
    with torch.no_grad():
        maps = codes.split([rows * columns for rows, columns in SHAPES], dim=1)
        vectors = tokenizer.transformer_inputs(maps, SHAPES)
    if method == "published":
        baseline = PublishedVAR(model, autocast=half)
        return _step(trained, lambda: baseline.loss(labels, vectors, codes))

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(labels, vectors)
        return F.cross_entropy(logits.flatten(0, 1), codes.flatten())

    return _step(trained, loss)


def _own_loss(model: UnifiedModel, codes: Tensor, half: bool) -> Callable[[], Tensor]:
    words = model.vocabulary
    prompt = [words.begin, words.user, *range(20), words.end, words.assistant]
    header = words.open_write("next_scale", SHAPES)
    ids = torch.tensor(
        [[*prompt, *header, *words.visual_ids(row), words.close, words.end] for row in codes.tolist()]
    )
    first = len(prompt) + len(header)
    labels = torch.full_like(ids, -100)
    labels[:, first : first + codes.shape[1]] = ids[:, first : first + codes.shape[1]]

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found: Tensor = model(ids, labels=labels, return_logits=False).loss
        return found

    return loss


def _step(weights: Iterable[nn.Parameter], loss: Callable[[], Tensor]) -> Step:
    trained = list(weights)
    optimiser = torch.optim.AdamW(trained, 1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return step


def compare(method: str, dtype: str, batch: int, pairs: int, threads: int) -> dict[str, Any]:
    """One row: the ratio of both sides' seconds, and peak MB of both."""
    memory = {name: _peak(name, dtype, batch, threads) for name in (method, "published")}
    ratio = interleaved(steps(method, dtype, batch), steps("published", dtype, batch), pairs)
    row = {"method": method, "dtype": dtype, "batch": batch, "step": asdict(ratio)}
    return {**row, "our_mb": memory[method], "their_mb": memory["published"]}


def _peak(method: str, dtype: str, batch: int, threads: int) -> float:
    """Peak memory in MB of a process that makes two steps."""
    command = [sys.executable, "-m", "unified.eval.bench.training", "--batch", str(batch), "--json"]
    command += ["--threads", str(threads), "--alone", method, dtype]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(found.stdout))


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """The table in Markdown, and the goals below it."""
    header = ("", "batch", "published, images/s", "ours", "times as fast", "memory, published", "ours")
    body, told = [], []
    for row in found:
        ratio, share = Ratio(**row["step"]), row["our_mb"] / row["their_mb"]
        name = f"{row['method']}, {row['dtype']}"
        cells = (
            row["batch"],
            f"{row['batch'] / ratio.theirs:.2f}",
            f"{row['batch'] / ratio.ours:.2f}",
            ratio,
        )
        body.append((name, *cells, f"{row['their_mb']:.0f} MB", f"{row['our_mb']:.0f} MB ({share:.2f})"))
        if row["method"] == "own":
            told.append(f"{name}: {ratio.times:.2f} times as fast {goal(ratio.times, FASTER)}")
            told.append(f"{name}: {share:.2f} of the memory {goal(share, 1.0, most=True)}")
    if not any(row["dtype"] == "bfloat16" for row in found):
        told.append(NOT_FAST)
    return [*rows_of(header, body), "", *(f"- {line}" for line in told)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m unified.eval.bench.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of interleaved steps ({PAIRS})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", nargs=2, metavar=("METHOD", "DTYPE"), help="peak memory of one side")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if min(options.batch, options.threads) < 1 or options.pairs < 2:
        parser.error("--batch and --threads must be at least 1, --pairs at least 2")
    torch.set_num_threads(options.threads)
    if options.alone:
        method, dtype = options.alone
        step = steps(method, dtype, options.batch)
        step(), step()
        print(peak_mb())
        return 0
    shape: dict[str, int] = {"batch": options.batch, "pairs": options.pairs, "threads": options.threads}
    found = [compare(method, dtype, **shape) for dtype in dtypes() for method in METHODS]
    print(json.dumps(found) if options.json else "\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
