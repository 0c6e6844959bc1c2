"""On-policy pairs of the model in a folder, made in this process or, in the same bytes, by a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.train.preference.on_policy import (
    OnPolicy,
    Scored,
    Tally,
    kept_pairs,
    parts_of,
    samples_of,
    scorer,
)
from unified.train.preference.stage import PairTask


@dataclass(frozen=True)
class Asked:
    """Who answers what: the `model` of a folder, the prompts of `source` (of a dataset `data`, if given), as
    `config` says. `cpu`: leave GPUs alone."""

    model: Path
    source: PairTask
    config: OnPolicy
    data: Path | None = None
    cpu: bool = False

    def given(self) -> list[Any] | None:
        """The samples of the dataset, None without one. ValueError for too few."""
        if self.data is None:
            return None
        found = [sample for sample in samples_of(self.data) if sample.task == self.source.task]
        if len(found) < self.config.first + self.config.samples:
            raise ValueError(f"{self.data} holds {len(found)} samples of {self.source.task}: lower --samples")
        return found

    def pairs(self, tally: Tally) -> Iterator[dict[str, Any]]:
        """Made here, in the order of the prompts."""
        score = part_scorer(self)
        return kept_pairs((score(part) for part in parts_of(self.config)), tally)

    def on_ray(self, address: str, workers: int | None, tally: Tally) -> Iterator[dict[str, Any]]:
        """Made by a Ray cluster (`tasks.ray_work.connected`), in the same order. Its machines need the
        folders of the model and of the data under the same paths. Each process computes with as many threads
        as this one, since sums of floats, and so what is drawn, depend on them."""
        import torch
        from unified.tasks.ray_work import connected, done, has_gpus, in_order

        self.given()  # refused here, and not in another process
        parts = parts_of(self.config)
        with connected(address):
            gpus = float(not self.cpu and has_gpus())
            arguments = [self, torch.get_num_threads()]
            found = done(part_scorer, arguments, parts, workers=workers, gpus=gpus)
            yield from kept_pairs(in_order(parts, found), tally)


def part_scorer(asked: Asked, threads: int | None = None) -> Callable[[range], list[Scored]]:
    """What gives the pairs of a part, with the model loaded into this process. `threads`: of torch."""
    import torch
    from unified.tasks.registry import make
    from unified.train.preference.rewards import TaskReward

    from unified.pretrained import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    source, given = asked.source, asked.given()
    reward = TaskReward(make(source.task, **source.options), source.scores, source.following or None)
    device = "cpu" if asked.cpu or not torch.cuda.is_available() else "cuda"
    model, processor = load_model(asked.model, device=device)
    sample = given.__getitem__ if given is not None else None
    return scorer(model.fuse(), processor, reward, asked.config, sample)
