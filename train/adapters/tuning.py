"""The loop that adapters are trained by: Adam on a few parameters, one process, one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unified.finite import check_count, check_number

WARMUP = 0.05  # share of the steps in which the learning rate rises
CLIP = 1.0


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """`steps` of `rows` images each, at a `learning_rate` above 0; `seed` of the choice of images and of new
    weights; the loss is logged every `log_every` steps."""

    steps: int = 200
    rows: int = 4
    learning_rate: float = 1e-3
    seed: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "rows", "log_every"):
            check_count(name, getattr(self, name), 1)
        check_number("learning_rate", self.learning_rate, 0)


def tune(
    groups: Sequence[Sequence[nn.Parameter]],
    loss_of: Callable[[int], Tensor],
    config: TuningConfig,
    log: Callable[[str], None] = print,
) -> list[float]:
    """Minimise `loss_of(step)`, step n by the parameters of group n modulo their number; the loss of every
    step. ValueError for a loss that is not finite: nothing is to be kept of such a training."""
    optimisers = [torch.optim.AdamW(group, lr=config.learning_rate, weight_decay=0.0) for group in groups]
    losses: list[float] = []
    for step in range(config.steps):
        number = step % len(groups)
        for parameter in (p for group in groups for p in group):
            parameter.grad = None
        loss = loss_of(step)
        losses.append(float(loss.detach()))
        if not torch.isfinite(loss):
            raise ValueError(f"the loss of step {step + 1} is not finite: lower the learning rate")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(groups[number]), CLIP)
        for group in optimisers[number].param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / (WARMUP * config.steps))
        optimisers[number].step()
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            recent = losses[-config.log_every :]
            log(f"step {step + 1}/{config.steps}  loss {sum(recent) / len(recent):.3f}")
    return losses
