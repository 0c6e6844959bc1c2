"""T2I-CompBench's scores against a golden folder (`python -m unified.checkpoints verify`): the rules of the
released scripts on given detections, depths, answers and tagged prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unified.checkpoints.cases import checked, read_cases, same
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.eval.metrics import compbench
from unified.eval.metrics import compbench_prompts as reading
from unified.eval.metrics.detections import Detection

ATOL = 1e-6
Case = Mapping[str, Any]


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds scores of T2I-CompBench."""
    return config.get("case") == "t2i_compbench"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every result of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def _checks(folder: Path) -> Iterator[Check]:
    config, cases, stored = read_config(folder), read_cases(folder), read_io(folder)
    depths, plurals = stored["depth_map"].numpy(), config["singular_plural"]
    rules = _rules(config)
    scorers: dict[str, Callable[[Case], float]] = {
        "geometry_2d": lambda case: compbench.plane_rule(case["locality"], case["a"], case["b"], rules),
        "geometry_3d": lambda case: _depth_rule(case, depths, rules),
        "spatial_2d": lambda case: _plane(case, reading.simple_names(_words(case)), rules),
        "spatial_2d_complex": lambda case: _plane(case, reading.complex_names(_words(case)), rules),
        "spatial_3d": lambda case: _depth(case, depths, rules),
        "numeracy": lambda case: _numbers(case, plurals),
        "blip_vqa": _attributes,
    }
    found = {name: [float(score(case)) for case in cases[name]] for name, score in scorers.items()}
    complex_prompts = cases["three_in_one"]
    found["three_in_one"] = compbench.three_in_one(
        complex_prompts["prompts"],
        complex_prompts["spatial_list"],
        complex_prompts["action_list"],
        complex_prompts,
        complex_prompts["images_per_prompt"],
    )
    computed = {name: torch.tensor(scores, dtype=torch.float64) for name, scores in found.items()}
    yield from compare(stored, computed, "depth_map".__eq__, lambda name: Tolerance(ATOL))

    for name in scorers:
        wanted = [float(case["score"]) for case in cases[name]]
        yield same(f"cases.{name}", found[name], wanted, atol=ATOL)
    yield same("cases.three_in_one", found["three_in_one"], complex_prompts["total"], atol=ATOL)
    asked = [reading.questions(case["noun_chunks"]) for case in cases["blip_vqa"]]
    yield same("cases.blip_vqa.questions", asked, [case["questions"] for case in cases["blip_vqa"]])
    overlaps = cases["numeracy_overlap"]
    equal = [int(compbench.same_object(case["a"], case["b"])) for case in overlaps]
    yield same("cases.numeracy_overlap", equal, [case["same"] for case in overlaps])
    for name, text in _printed(found).items():
        stated = cases["three_in_one"]["printed"] if name == "three_in_one" else cases[f"{name}_summary"]
        yield same(f"cases.{name}.printed", _figures(text), _figures(stated), atol=ATOL)


def _rules(config: Mapping[str, Any]) -> compbench.Rules:
    names = {
        "near": "distance_threshold",
        "apart": "iou_threshold",
        "behind": "iou_threshold_3d",
        "floor": "score_floor",
    }
    return compbench.Rules(**{name: config[key] for name, key in names.items()})


def _words(case: Case) -> list[reading.Word]:
    return [reading.Word(*token) for token in case["tokens"]]


def _detections(case: Case, depths: np.ndarray | None = None) -> list[Detection]:
    found = []
    scores = case.get("scores", [1.0] * len(case["boxes"]))
    for label, box, score in zip(case["labels"], case["boxes"], scores, strict=True):
        depth = None if depths is None else compbench.released_depth(depths, box)
        found.append(Detection(label, box, score, depth=depth))
    return found


def _depth_rule(case: Case, depths: np.ndarray, rules: compbench.Rules) -> float:
    a, b = (Detection("", case[name], depth=compbench.released_depth(depths, case[name])) for name in "ab")
    return compbench.depth_rule(case["locality"], a, b, rules)


def _plane(case: Case, names: list[str], rules: compbench.Rules) -> float:
    return compbench.plane_score(names, reading.relation(case["prompt"]), _detections(case), rules)


def _depth(case: Case, depths: np.ndarray, rules: compbench.Rules) -> float:
    names = reading.simple_names(_words(case))
    held = reading.relation(case["prompt"], reading.RELATIONS_3D)
    return compbench.depth_score(names, held, _detections(case, depths), rules)


def _numbers(case: Case, plurals: Mapping[str, str]) -> float:
    wanted = reading.numbered([word.text for word in _words(case)], plurals)
    return compbench.number_score(wanted, _detections(case))


def _attributes(case: Case) -> float:
    asked = reading.questions(case["noun_chunks"])
    pairs = zip(case["yes_probability"], asked, strict=True)
    return compbench.attribute_score(value for value, question in pairs if question)


def _printed(found: Mapping[str, list[float]]) -> dict[str, str]:
    """The lines that the released scripts end with."""
    total, count = sum(found["numeracy"]), len(found["numeracy"])
    mean = {name: sum(scores) / len(scores) for name, scores in found.items()}
    return {
        "numeracy": f"total:{total} num:{count} avg:{mean['numeracy']}",
        "blip_vqa": f"BLIP-VQA score:{mean['blip_vqa']}",
        "three_in_one": f"score avg:{mean['three_in_one']}",
    }


def _figures(text: str) -> list[str | float]:
    """A printed line as its words and numbers in turn."""
    parts = text.replace(":", " ").split()
    return [float(part) if part.replace(".", "", 1).isdigit() else part for part in parts]
