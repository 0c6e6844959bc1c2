"""What arms of several experiments do: draw test prompts with a base model, and tune or train one."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from unified.eval.lab.experiment import Trial
from unified.eval.lab.ground.bases import Base, Rows
from unified.eval.lab.ground.drawing import Drawn, How, draw
from unified.eval.lab.ground.measures import measured
from unified.eval.lab.ground.training import Course, Trained, train

from unified.model import UnifiedModel, UnifiedOutput

SEED_STRIDE = 10_000  # between the noise of one seed and that of the next


def drawn_with(trial: Trial, model: Any, tokenizer: str, how: How, split: str = "test") -> Drawn:
    """The prompts of a trial, with its noise: the same of both for every model and every `how`."""
    scenes = trial.ground.prompts(trial.seed, split)
    coder = trial.ground.tokenizer(tokenizer)
    return draw(model, coder, scenes, how, seed=trial.seed * SEED_STRIDE, rows=trial.ground.sizes.rows)


def scored(trial: Trial, model: Any, tokenizer: str, how: How, split: str = "test") -> dict[str, float]:
    """`measures.measured` of them."""
    return measured(trial.ground.prompts(trial.seed, split), drawn_with(trial, model, tokenizer, how, split))


def profiled(trial: Trial, model: Any, profiler: Any, how: How, first: int, count: int) -> Tensor:
    """The table of a profiler, a cache policy that keeps all, after drawing `count` validation prompts from
    number `first` on."""
    scenes, coder = trial.ground.scenes("validation", count, first), trial.ground.tokenizer("vq")
    seed = trial.seed * SEED_STRIDE + first
    draw(model, coder, scenes, how.but(policy=profiler), seed=seed, rows=count)
    return profiler.table()


def output(model: UnifiedModel, batch: Rows, **options: Any) -> UnifiedOutput:
    """The likelihoods of rows."""
    return model(batch.ids, labels=batch.labels, layout=batch.layout, return_logits=False, **options)


def trained(
    trial: Trial,
    model: UnifiedModel,
    base: Base,
    steps: int,
    what: str,
    rate: float = Course.rate,
    batch: int | None = None,
) -> Trained:
    """Train a model of a kind of base by its likelihood, `batch` rows a step (default: those of base models)
    drawn from the trial's seed."""
    rows = trial.ground.batches(base, trial.seed + 1, batch)

    def loss(step: int) -> Tensor:
        found = output(model, rows(step, model)).loss
        assert found is not None
        return found

    return train(model, loss, Course(steps=steps, rate=rate, what=what), trial.work)
