"""`python -m unified.train erase --concept star --out DIR`: a concept is taken out of what a model draws, and
the rest stays (EAR, arXiv 2506.20151; the objective is `unified/objectives/erasure.py`).

The frozen model draws images after prompts with the concept and after the same prompts with something in its
place. The same codes are scored under both, and adapters learn to give the concept's prompt what the other
one gives, and less. Prompts without the concept are taught to stay as they are. The adapters are merged:
OUT/model is a model like any other.

Limits: what is erased from the layers may no longer be recognised in a picture either, and somebody who has
the weights can train the concept in again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments
from unified.tasks.sample import Sample
from unified.train.average import Average
from unified.train.lock import alone
from unified.train.pairs import Pair, PairedRows
from unified.train.preference.on_policy import SEED_STRIDE
from unified.train.preference.sampling import Sampling, replies
from unified.train.select import merge_adapters, select
from unified.train.trainer import UnifiedTrainer

from unified.apps.commands.common import seed
from unified.command import Parser
from unified.command import run as run_command
from unified.objectives import build_objective
from unified.pretrained import find, load_model, save_model
from unified.stream.processor import Processor
from unified.text_files import read_text

PLACE = "{}"  # where the concept stands in a prompt
PROMPTS = (
    "Draw a {}.",
    "Draw a red {}.",
    "Draw a blue {}.",
    "Draw a small {}.",
    "Draw a large green {}.",
    "Draw a yellow {} at the top.",
    "Draw a purple {} on the left.",
    "A picture of a {}, please.",
)
INSTEAD = ("circle", "square", "triangle")


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = Parser(
        prog="python -m unified.train erase", description="Erase a concept from what a model draws."
    )
    made.add_argument("--model", help="a folder or hub name (default: the shipped model)")
    made.add_argument("--concept", required=True, metavar="WORDS", help="what is not to be drawn any more")
    made.add_argument("--instead", nargs="+", default=list(INSTEAD), metavar="WORDS",
                      help=f"what takes its place in prompts (default: {' '.join(INSTEAD)})")  # fmt: skip
    made.add_argument("--prompts", type=Path, metavar="FILE",
                      help="prompts, one a line, with {} where the concept stands")  # fmt: skip
    made.add_argument("--out", type=Path, required=True, help="folder of the run; the model is OUT/model")
    made.add_argument("--images", type=int, default=48, help="images that are drawn (default 48)")
    made.add_argument("--size", type=int, help="their side in pixels (default: the largest)")
    made.add_argument("--keep", type=float, default=0.5,
                      help="share of pairs without the concept: they stay (default 0.5)")  # fmt: skip
    made.add_argument("--eta", type=float, default=1.0, help="strength of the negative guidance (default 1)")
    made.add_argument("--window", type=int, default=48, help="codes of a window (default 48)")
    made.add_argument("--threshold", type=float, default=0.05,
                      help="largest loss of a window that is left out (default 0.05)")  # fmt: skip
    made.add_argument("--steps", type=int, default=60, help="optimiser steps (default 60)")
    made.add_argument("--batch", type=int, default=4, help="pairs a step (default 4)")
    made.add_argument("--rank", type=int, default=8, help="of the adapters (default 8)")
    made.add_argument("--learning-rate", type=float, default=5e-4, help="default 5e-4")
    made.add_argument("--seed", type=seed, default=0)
    made.add_argument("--cpu", action="store_true", help="leave GPUs alone")
    return made


def erase(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    return run_command("unified.train", _erase, parser().parse_args(arguments))


def _erase(options: argparse.Namespace) -> int:
    """ValueError, in one line, before anything is made, for what cannot be trained on."""
    prompts = prompts_of(options.prompts)
    _check(options)
    folder = find(options.model)
    with alone(options.out):
        torch.manual_seed(options.seed)
        device = "cpu" if options.cpu or not torch.cuda.is_available() else "cuda"
        model, processor = load_model(folder, device=device)
        pairs = erasure_pairs(model, processor, prompts, options)
        print(f"{len(pairs)} pairs of prompts", flush=True)
        losses = tune(model, processor, pairs, options)
        save_model(options.out / "model", model, processor)
    print(f"squared error of log-probabilities: {losses[0]:.4g} -> {losses[-1]:.4g}")
    print(f"wrote {options.out / 'model'}")
    return 0


def prompts_of(path: Path | None) -> tuple[str, ...]:
    """The prompts of a file, or those of scenes. ValueError for none, or one without a place."""
    if path is None:
        return PROMPTS
    found = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not found:
        raise ValueError(f"{path}: no prompts")
    for number, line in enumerate(found, start=1):
        if PLACE not in line:
            raise ValueError(f"{path}: prompt {number} has no {PLACE} where the concept stands")
    return found


def _check(options: argparse.Namespace) -> None:
    for name in ("images", "steps", "batch", "rank", "window"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not 0 <= options.keep < 1:
        raise ValueError(f"--keep must lie in [0, 1), got {options.keep}")
    if options.learning_rate <= 0:
        raise ValueError(f"--learning-rate must be positive, got {options.learning_rate}")
    if options.concept in options.instead:
        raise ValueError(f"--instead names the concept itself: {options.concept}")
    build_objective("erasure", _objective(options))


def _objective(options: argparse.Namespace) -> dict[str, Any]:
    return {"eta": options.eta, "window": options.window, "threshold": options.threshold}


# Pairs ------------------------------------------------------------------------------------------------------


def erasure_pairs(
    model: nn.Module, processor: Processor, prompts: Sequence[str], options: argparse.Namespace
) -> list[Pair]:
    """Row 2i: codes after a prompt with the concept; row 2i + 1: the same codes after one without. They are
    drawn after the first prompt and the second in turn. Pairs that are to stay have one prompt twice."""
    if processor.visual is None:
        raise ValueError("the model has no visual tokenizer: it draws nothing that could be erased")
    side = processor.vocabulary.max_side * processor.visual.stride
    if options.size is not None and not 0 < options.size <= side:
        raise ValueError(f"--size must lie in [1, {side}], got {options.size}")
    told, drawn = [], []
    kept = round(options.keep * options.images)
    for number in range(options.images):
        line = prompts[number % len(prompts)]
        other = line.replace(PLACE, options.instead[number // len(prompts) % len(options.instead)])
        concept = other if number < kept else line.replace(PLACE, options.concept)
        told.append((concept, other))
        drawn.append(_sample(concept if number % 2 == 0 else other, options.size or side))
    seeds = [options.seed * SEED_STRIDE + number for number in range(options.images)]
    found = replies(model, processor, drawn, seeds, Sampling())
    return [
        (_prompt(processor, concept) + reply.ids, _prompt(processor, other) + reply.ids)
        for (concept, other), reply in zip(told, found, strict=True)
    ]


def _sample(prompt: str, size: int) -> Sample:
    """A request for an image; the blank answer says only of what size."""
    blank = torch.zeros(size, size, 3, dtype=torch.uint8).numpy()
    answer = {"role": "assistant", "content": [{"type": "image", "image": blank}]}
    return Sample(task="erase", messages=[_request(prompt), answer])


def _request(prompt: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": prompt}]}


def _prompt(processor: Processor, prompt: str) -> list[int]:
    return list(processor.encode([_request(prompt)], prompt=True))


# Training ---------------------------------------------------------------------------------------------------


def tune(
    model: nn.Module, processor: Processor, pairs: Sequence[Pair], options: argparse.Namespace
) -> list[float]:
    """Adapters trained on the pairs and merged, in place; the mean squared error at each step."""
    select(model, ("lora",), rank=options.rank)
    epochs = -(-options.steps * options.batch // len(pairs))
    rows = PairedRows(pairs, processor.vocabulary, epochs=epochs, seed=options.seed)
    args = TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        learning_rate=options.learning_rate,
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=options.cpu or not torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
        seed=options.seed,
    )
    trainer = UnifiedTrainer(
        model, args, rows, Average(0.0), bf16=False, objective=build_objective("erasure", _objective(options))
    )
    trainer.train()
    merge_adapters(model)
    return [entry["error"] for entry in trainer.state.log_history if "error" in entry]
