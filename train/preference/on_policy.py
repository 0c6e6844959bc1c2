"""On-policy pairs: the best and the worst of several replies of the model itself, by a task's scorer.

Such pairs do not teach which generator made a picture, as pairs of another generator's winners and own losers
do (methods of VARGPT-v1.1, arXiv 2504.02949); they are made anew every round, with the reference at the start
of the round. Pairs of a smaller gap than a margin are dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from unified.tasks.sample import Sample, check_split
from unified.train.preference.data import load_rows, tokenizer_digest
from unified.train.preference.rewards import TaskReward
from unified.train.preference.sampling import Reply, Sampling, replies

from unified.finite import check_number
from unified.stream.processor import Processor

SEED_STRIDE = 1_000_003  # difference between the seeds of two runs, so that no two replies share one


@dataclass(frozen=True, kw_only=True)
class OnPolicy:
    """`answers` replies to each of `samples` prompts, from number `first` of the task's `split` on; kept
    where the best and the worst score lie at least `margin` apart. `truth`: the sample's own answer, which
    scores best by definition, is the chosen one."""

    samples: int = 256
    answers: int = 8
    margin: float = 0.1
    first: int = 0
    split: str = "train"
    seed: int = 0
    truth: bool = False
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        check_split(self.split)
        check_number("margin", self.margin)
        least = 1 if self.truth else 2
        if self.samples < 1 or self.answers < least:
            raise ValueError(
                f"samples must be at least 1 and answers {least}, got {self.samples}, {self.answers}"
            )
        if self.margin <= 0 or self.first < 0:
            raise ValueError(
                f"margin must be positive and first not negative, got {self.margin}, {self.first}"
            )


@dataclass
class Tally:
    """What came of the prompts so far."""

    prompts: int = 0
    pairs: int = 0
    best: float = 0.0
    mean: float = 0.0

    def add(self, scores: list[float], kept: bool) -> None:
        self.prompts += 1
        self.pairs += kept
        self.best += (max(scores) - self.best) / self.prompts
        self.mean += (sum(scores) / len(scores) - self.mean) / self.prompts

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs of {self.prompts} prompts; mean score {self.mean:.3f}, best {self.best:.3f}"
        )


@dataclass(frozen=True)
class Scored:
    """What came of one prompt: the scores of its replies, and the pair if one was kept."""

    scores: list[float]
    pair: dict[str, Any] | None


def make_pairs(
    model: Any,
    processor: Processor,
    reward: TaskReward,
    config: OnPolicy,
    *,
    sample: Callable[[int], Sample] | None = None,
    tally: Tally | None = None,
) -> Iterator[dict[str, Any]]:
    """Records of ids (see `data`), in the order of the prompts. `sample`: gives the prompts by number in
    place of the reward's task. Every reply depends on its number and the seed alone."""
    score = scorer(model, processor, reward, config, sample)
    return kept_pairs((score(part) for part in parts_of(config)), tally or Tally())


def parts_of(config: OnPolicy) -> list[range]:
    """The numbers of the prompts whose replies are drawn together."""
    together = max(1, config.sampling.batch // config.answers)
    numbers = range(config.first, config.first + config.samples)
    return [numbers[start : start + together] for start in range(0, len(numbers), together)]


def kept_pairs(parts: Iterable[Sequence[Scored]], tally: Tally) -> Iterator[dict[str, Any]]:
    """The pairs of parts in their order; the tally counts along."""
    for part in parts:
        for one in part:
            tally.add(one.scores, one.pair is not None)
            if one.pair is not None:
                yield one.pair


def scorer(
    model: Any,
    processor: Processor,
    reward: TaskReward,
    config: OnPolicy,
    sample: Callable[[int], Sample] | None = None,
) -> Callable[[range], list[Scored]]:
    """What gives the pairs of a part (`parts_of`)."""
    give = sample or (lambda number: reward.task.sample(number, config.split))
    tokenizer = tokenizer_digest(processor)

    @torch.no_grad()
    def score(part: range) -> list[Scored]:
        asked = [give(number) for number in part]
        rows = [each for each in asked for _ in range(config.answers)]
        seeds = [
            config.seed * SEED_STRIDE + number * config.answers + n
            for number in part
            for n in range(config.answers)
        ]
        drawn = replies(model, processor, rows, seeds, config.sampling)
        found = []
        for place, (number, each) in enumerate(zip(part, asked, strict=True)):
            own = drawn[place * config.answers : (place + 1) * config.answers]
            scores = [reward(each, reply.content) for reply in own]
            pair = _pair(own, scores, config, each, processor, reward)
            if pair is not None:
                pair |= {"tokenizer": tokenizer, "task": each.task, "index": number}
            found.append(Scored(scores, pair))
        return found

    return score


def _pair(
    found: list[Reply],
    scores: list[float],
    config: OnPolicy,
    sample: Sample,
    processor: Processor,
    reward: TaskReward,
) -> dict[str, Any] | None:
    """The best and the worst reply, or the true answer and the worst; None for a smaller gap."""
    order = sorted(range(len(found)), key=lambda n: scores[n])
    worst, best = found[order[0]], found[order[-1]]
    chosen, top = best.ids, scores[order[-1]]
    if config.truth:
        chosen = processor.encode(sample.messages)[len(best.prompt) :]
        top = reward(sample, sample.messages[-1]["content"])
    if top - scores[order[0]] < config.margin or chosen == worst.ids:
        return None
    return {
        "prompt_ids": worst.prompt,
        "chosen_ids": chosen,
        "rejected_ids": worst.ids,
        "scores": [round(top, 6), round(scores[order[0]], 6)],
    }


def samples_of(folder: Path) -> list[Sample]:
    """The samples of a dataset of messages that `python -m unified.tasks build` wrote."""
    from unified.tasks.packing import unpack

    rows = list(load_rows(folder))
    if not rows or not {"messages", "images", "task", "meta"} <= set(rows[0]):
        raise ValueError(f"{folder}: no dataset of messages as `python -m unified.tasks build` writes them")
    return [unpack({**row, "images": list(row["images"])}) for row in rows]


def write_pairs(path: Path, pairs: Iterator[dict[str, Any]]) -> int:
    """Records as JSON lines; the file is there whole or not at all, and without any record it stays as it
    was. Returns how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as file:
            for pair in pairs:
                file.write(json.dumps(pair) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        if count:
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count
