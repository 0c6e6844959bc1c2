"""How one image is drawn by a published model, and ScaleKV budgets without a calibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unified.cache.policy import CachePolicy, ScaleKV
from unified.cache.scalekv import released_budgets, shared_budgets
from unified.decoding.guidance import check_scales
from unified.decoding.sampling import Sampler
from unified.finite import check_count
from unified.orders import Plan
from unified.text_files import content_of, read_object


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """`guidance`: scale of classifier-free guidance, 1 being off. `size`: (height, width) in pixels, None
    for the model's own. `policy`: which keys and values stay while an image is written."""

    guidance: float = 1.0
    sampler: Sampler = field(default_factory=Sampler)
    seed: int = 0
    size: tuple[int, int] | None = None
    policy: CachePolicy | None = None

    def __post_init__(self) -> None:
        check_scales(self.guidance)


def check_size(size: tuple[int, int] | None, own: tuple[int, int]) -> None:
    """ValueError for another (height, width) than the one that a model draws."""
    if size is not None and size != own:
        raise ValueError(f"this model draws {own[0]}x{own[1]} pixels, got {size[0]}x{size[1]}")


def scalekv(plan: Plan, layers: int, budget: int | str | Path) -> ScaleKV:
    """ScaleKV for a plan of a model of so many layers. `budget`: codes that every layer holds at most when a
    step begins (no layer is known to need more: `unified.cache.selectivity` measures which do), or a file of
    the published form ({"Scale 9": {"Max": ..., "Min": ..., "Block 0": 1, ...}, ...})."""
    if isinstance(budget, int):
        check_count("scalekv", budget, 1)
        tokens = [len(step.decide) for step in plan.steps]
        return ScaleKV(
            budgets=shared_budgets(tokens, layers, {}, mean=budget, refiner=budget), capacity=budget
        )
    if not Path(budget).is_file():
        raise ValueError(f"{budget}: no such file of ScaleKV budgets, and no number of codes")
    with content_of(budget):
        return ScaleKV(budgets=released_budgets(read_object(budget)))
