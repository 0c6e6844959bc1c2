"""The arms of the experiment with preference tuning: what is tuned, on which task, and how.

Every arm starts from the same weights and makes the same number of updates of the same number of rows. The
arms of a task that learn from on-policy pairs learn from the same ones, which are made once for every seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unified.tasks.registry import make
from unified.tasks.sample import Sample
from unified.train.experiments.controls import contrastive, supervised
from unified.train.machine import Machine
from unified.train.preference.on_policy import OnPolicy, make_pairs, write_pairs
from unified.train.preference.rewards import TaskReward
from unified.train.preference.sampling import Sampling
from unified.train.preference.stage import PairData, PairTask, PreferenceOptions, PreferenceStage
from unified.train.recipe import OutputConfig, PreferenceRecipe
from unified.train.run import run
from unified.train.stage import BatchConfig, OptimisationConfig, ParameterConfig

from unified.pretrained import load_model

RATE, ADAPTER_RATE = 5e-5, 5e-4
DRAW = PairTask(task="scene_draw", options={"most": 1, "categories": ["complete"], "textures": ["plain"]})
ABSENT = PairTask(task="scene_question", options={"most": 4})
SCORES = {"scene_draw": "all", "scene_question": "correct"}  # what makes a reply right


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything: `updates` of `batch` pairs or rows; `samples` prompts with `answers` replies
    make the pairs; `measured` prompts of the validation split; `rows` replies at once."""

    updates: int = 20
    batch: int = 8
    samples: int = 96
    answers: int = 4
    measured: int = 96
    rows: int = 32


TOY = Sizes(updates=2, batch=2, samples=3, answers=2, measured=2, rows=4)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One seed of an arm: from the model in `start`, in the folder `out`; `pairs` is the folder of the
    on-policy pairs that arms share."""

    start: Path
    out: Path
    pairs: Path
    source: PairTask
    category: str
    sizes: Sizes
    seed: int
    cpu: bool = True


@dataclass(frozen=True)
class Tuned:
    """The folder of a tuned model, and the log of its updates."""

    model: Path
    log: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """`what` it is, in a few words; `tune` does one seed of it on the prompts of `source`, those of one
    `category` alone if it is given."""

    what: str
    source: PairTask
    tune: Callable[[Trial], Tuned]
    category: str = ""


class OfCategory:
    """The samples of a task that have this category: number n is the first of them from `STRIDE` n on."""

    STRIDE = 256

    def __init__(self, task: Any, category: str) -> None:
        self.task, self.category, self.name = task, category, task.name
        self.score = task.score

    def sample(self, index: int, split: str = "train") -> Sample:
        """ValueError if there is none among `STRIDE`."""
        for number in range(index * self.STRIDE, (index + 1) * self.STRIDE):
            sample: Sample = self.task.sample(number, split)
            if sample.meta["category"] == self.category:
                return sample
        raise ValueError(f"{self.name} has no samples of the category {self.category!r}")


def prompts_of(source: PairTask, category: str) -> Any:
    task = make(source.task, **source.options)
    return OfCategory(task, category) if category else task


def preference(*, lora: int = 0, **options: Any) -> Callable[[Trial], Tuned]:
    """DPO on pairs of the start's own replies; `lora`: rank of adapters that are tuned alone."""

    def tune(trial: Trial) -> Tuned:
        sizes = trial.sizes
        adapter: dict[str, Any] = {"trains": ("lora",), "adapter": lora} if lora else {}
        rate = ADAPTER_RATE if lora else RATE
        stage = PreferenceStage(
            steps=sizes.updates,
            pairs=PairData(files=(str(_pairs(trial)),)),
            batch=BatchConfig(rows=sizes.batch, micro_rows=min(sizes.batch, 4), length=16384),
            optimisation=OptimisationConfig(learning_rate=rate, warmup=0, final=0.1, weight_decay=0.0),
            parameters=ParameterConfig(average=0.0, **adapter),
            preference=PreferenceOptions(**options),
        )
        every = max(1, sizes.updates // 10)
        output = OutputConfig(log_every=every, save_every=sizes.updates, sheet_every=0)
        recipe = PreferenceRecipe(
            name=trial.out.name, seed=trial.seed, start=str(trial.start), stages=(stage,), output=output
        )
        folder = run(recipe, Machine(out=trial.out, cpu=trial.cpu))
        return Tuned(folder, _log(trial.out / "stages" / "0-dpo" / "log.jsonl"))

    return tune


def control(tune: Callable[..., Path]) -> Callable[[Trial], Tuned]:
    """Tuning on the task's own answers: one of `controls`."""

    def tuned(trial: Trial) -> Tuned:
        prompts, sizes = prompts_of(trial.source, trial.category), trial.sizes
        counts = {"steps": sizes.updates, "rows": sizes.batch}
        return Tuned(tune(trial.start, trial.out, prompts, **counts, rate=RATE, seed=trial.seed))

    return tuned


ARMS = {
    "draw_sum": Arm(
        what="drawing, DPO on sums of log-probabilities",
        source=DRAW,
        tune=preference(weights="token", beta=0.05),
    ),
    "draw_map": Arm(
        what="drawing, DPO, every map of equal weight, and the likelihood of chosen replies",
        source=DRAW,
        tune=preference(weights="map", beta=10.0, sft=0.1),
    ),
    "draw_coarse": Arm(
        what="drawing, DPO, coarse maps first, and the likelihood of chosen replies",
        source=DRAW,
        tune=preference(weights="coarse_first", beta=10.0, sft=0.1),
    ),
    "draw_lora": Arm(
        what="as draw_map, adapters of rank 16 alone",
        source=DRAW,
        tune=preference(lora=16, weights="map", beta=10.0, sft=0.1),
    ),
    "draw_supervised": Arm(
        what="drawing, continued supervised tuning", source=DRAW, tune=control(supervised)
    ),
    "draw_cca": Arm(what="drawing, condition contrastive alignment", source=DRAW, tune=control(contrastive)),
    "absent_sum": Arm(
        what="whether an object is there, DPO on sums",
        source=ABSENT,
        category="existence",
        tune=preference(weights="token", beta=0.1),
    ),
    "absent_supervised": Arm(
        what="whether an object is there, continued supervised tuning",
        source=ABSENT,
        category="existence",
        tune=control(supervised),
    ),
}


def reward_of(arm: Arm) -> TaskReward:
    """1 for a reply that is all right, else 0."""
    return TaskReward(prompts_of(arm.source, arm.category), (SCORES[arm.source.task],))


def _pairs(trial: Trial) -> Path:
    """The file of the pairs of this start, task and seed, made if it is not there. ValueError if the replies
    to no prompt differ in score."""
    path = trial.pairs / f"{trial.source.task}{trial.category}-{trial.seed}.jsonl"
    if path.is_file():
        return path
    sizes = trial.sizes
    model, processor = load_model(trial.start)
    config = OnPolicy(
        samples=sizes.samples,
        answers=sizes.answers,
        margin=0.2,
        first=trial.seed * sizes.samples,
        seed=trial.seed,
        sampling=Sampling(batch=sizes.rows),
    )
    task = prompts_of(trial.source, trial.category)
    reward = TaskReward(task)  # the mean of all scores tells replies apart that are all wrong
    made = make_pairs(model.fuse(), processor, reward, config)
    if not write_pairs(path, made):
        raise ValueError(f"{trial.source.task}: no prompt has replies of different scores")
    return path


def _log(path: Path) -> list[dict[str, Any]]:
    """Margins, accuracy and likelihoods of the lines of a log."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = ("loss", "step", "rewards/margins", "rewards/accuracies")
    return [
        {key: value for key, value in line.items() if key in kept or key.startswith("logps/")}
        for line in lines
        if "loss" in line
    ]


def settings(sizes: Sizes, **changed: int | None) -> Sizes:
    """The sizes with those changed that are given."""
    return replace(sizes, **{name: value for name, value in changed.items() if value is not None})
