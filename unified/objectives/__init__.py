"""Objectives: from the scores of a policy, and perhaps of a reference, to a loss. To add one, write a class
with the methods of `Objective` and give it a line in `OBJECTIVES` (docs/add_a_part.md); a recipe's stage
chooses it by name. Imports `layout` and `depth`."""

from collections.abc import Mapping
from typing import Any

from unified.objectives.cca import CCA, CCAConfig
from unified.objectives.content_style import ContentStyle, ContentStyleConfig
from unified.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from unified.objectives.ddo import DDO, DDOConfig
from unified.objectives.distillation import PriorDistillation, PriorDistillationConfig
from unified.objectives.dpo import DPO, DPOConfig
from unified.objectives.early_centric import EarlyCentric, EarlyCentricConfig
from unified.objectives.erasure import Erasure, ErasureConfig
from unified.objectives.objective import Objective, ObjectiveOutput, Progress
from unified.objectives.scale_weighted import ScaleWeighted, ScaleWeightedConfig
from unified.objectives.scores import Scores
from unified.objectives.self_refinement import SelfRefinement, SelfRefinementConfig
from unified.objectives.variant import Supernet

OBJECTIVES: dict[str, type] = {
    "cross_entropy": CrossEntropy,
    "dpo": DPO,
    "variant": Supernet,
    "cca": CCA,
    "ddo": DDO,
    "scale_weighted": ScaleWeighted,
    "content_style": ContentStyle,
    "early_centric": EarlyCentric,
    "prior_distillation": PriorDistillation,
    "erasure": Erasure,
    "self_refinement": SelfRefinement,
}


def build_objective(name: str, options: Mapping[str, Any] | None = None) -> Objective:
    """A registered objective; `options` are fields of its configuration. ValueError, in one line, for an
    unknown name, an unknown option or a value out of range."""
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}: registered are {', '.join(OBJECTIVES)}")
    kind: Any = OBJECTIVES[name]
    try:
        return kind(kind.config_class(**(options or {})))
    except TypeError as error:  # a field that the configuration does not have, or a value of another type
        raise ValueError(f"objective {name!r}: {error}") from None


__all__ = [
    "CCA",
    "DDO",
    "DPO",
    "OBJECTIVES",
    "CCAConfig",
    "ContentStyle",
    "ContentStyleConfig",
    "CrossEntropy",
    "CrossEntropyConfig",
    "DDOConfig",
    "DPOConfig",
    "EarlyCentric",
    "EarlyCentricConfig",
    "Erasure",
    "ErasureConfig",
    "Objective",
    "ObjectiveOutput",
    "PriorDistillation",
    "PriorDistillationConfig",
    "Progress",
    "ScaleWeighted",
    "ScaleWeightedConfig",
    "Scores",
    "SelfRefinement",
    "SelfRefinementConfig",
    "build_objective",
]
