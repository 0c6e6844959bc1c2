"""VARiant: early steps of an image run every layer, later ones an equidistant few, chosen at run time.

    I_d = { floor(i (D - 1) / (d - 1)) : i = 0 .. d - 1 }
The first N steps (the bridge zone) run all D layers, the others (the flexible zone) those of I_d alone; a
layer outside I_d is not executed after the bridge, and lets go of the image's keys and values when the bridge
ends. N is a number of steps, or follows from a size, so that any schedule of maps has a bridge. The sets I_d
need not be nested (for D = 30 the 8 layers hold number 12, the 16 do not), and nothing here assumes it.
`unified/objectives/variant.py` trains weights for it.

Source: VARiant (arXiv 2511.16546); the announced code could not be obtained, the layers and zones follow its
description. `tests/unified/depth/test_variant.py` holds the cached entries to the formula
D sum_{k <= N} t_k, then |I_d| sum_{k <= K} t_k, and the skipped layers to being skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from unified.finite import check_tree
from unified.orders import Plan

UNITS = ("steps", "share", "side")


@dataclass(frozen=True, kw_only=True)
class VARiantConfig:
    """`layers`: how many layers d the flexible zone runs, at least 2; None: all. `bridge`: how far the bridge
    zone goes, in a `unit`. "steps": so many steps (published: 6 or 7 of 10). "share": the first steps that
    decide at most this share of the image's codes. "side": the first steps whose maps hold at most side *
    side codes."""

    layers: int | None = None
    bridge: float = 6
    unit: str = "steps"

    def __post_init__(self) -> None:
        check_tree(self)
        if self.layers is not None and self.layers < 2:
            raise ValueError(f"layers must be at least 2 (the first and the last) or None, got {self.layers}")
        if self.unit not in UNITS:
            raise ValueError(f"unknown unit {self.unit!r} of the bridge: choose one of {', '.join(UNITS)}")
        if self.bridge < 0 or (self.unit == "steps" and self.bridge != int(self.bridge)):
            raise ValueError(f"the bridge of {self.bridge} {self.unit} must be at least 0, steps being whole")
        if self.unit == "share" and self.bridge > 1:
            raise ValueError(f"a share of the codes is at most 1, got {self.bridge}")


class VARiant:
    """The depth of one request: all layers in the bridge zone, `config.layers` of them after it. As many
    layers as there are give the plain model, bit for bit. ValueError, when it is first asked, for more layers
    than there are."""

    def __init__(self, config: VARiantConfig | None = None) -> None:
        self.config = config or VARiantConfig()

    def runs(self, layer: int, layers: int, plan: Plan, step: int) -> bool:
        kept = equidistant(layers, layers if self.config.layers is None else self.config.layers)
        return layer in kept or step < bridge_steps(plan, self.config.bridge, self.config.unit)


@lru_cache(maxsize=256)
def equidistant(layers: int, count: int) -> frozenset[int]:
    """I_d: the numbers of `count` of so many layers, the first and the last among them."""
    if count > layers:
        raise ValueError(f"a depth of {count} layers, but the backbone has {layers}: choose at most {layers}")
    return frozenset(i * (layers - 1) // max(count - 1, 1) for i in range(count))


@lru_cache(maxsize=256)
def bridge_steps(plan: Plan, bridge: float, unit: str) -> int:
    """N: how many of a plan's first steps the bridge zone holds."""
    if unit == "steps":
        return min(int(bridge), len(plan.steps))
    decided = 0
    for number, step in enumerate(plan.steps):
        height, width = plan.step_shape(number)
        decided += len(step.decide)
        inside = decided <= bridge * plan.length if unit == "share" else height * width <= bridge**2
        if not inside:
            return number
    return len(plan.steps)
