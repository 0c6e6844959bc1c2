"""GenEval's rules against a golden folder (`python -m unified.checkpoints verify`): boxes that count,
judgements with their reasons, geometry and summary of the released functions on given detections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unified.checkpoints.cases import checked, read_cases, same
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.eval.metrics.detections import Detection, iou
from unified.eval.metrics.geneval import Judgement, Row, Rules, judge, relations, summarise

GEOMETRY = 1e-9


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds judgements of GenEval."""
    return config.get("case") == "geneval"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every result of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def _checks(folder: Path) -> Iterator[Check]:
    cases, colours = read_cases(folder), read_config(folder)["colours"]
    judged = [_judged(case, colours) for case in cases["cases"]]
    overlaps = [iou(case["a"], case["b"], 1.0) for case in cases["geometry"]]
    numbers = [(one.correct, len(one.reason.splitlines())) for one in judged]
    computed = {
        "cases": torch.tensor(numbers, dtype=torch.float64),
        "iou": torch.tensor(overlaps, dtype=torch.float64),
    }
    yield from compare(read_io(folder), computed, lambda name: False, lambda name: Tolerance(GEOMETRY))

    wanted = cases["cases"]
    yield same("cases.correct", [one.correct for one in judged], [case["correct"] for case in wanted])
    reasons = [_words(one.reason) for one in judged]
    yield same("cases.reason", reasons, [_words(case["reason"]) for case in wanted])
    yield same("cases.kept", [_kept(one) for one in judged], [case["kept"] for case in wanted])
    yield same("geometry.iou", overlaps, [case["iou"] for case in cases["geometry"]], atol=GEOMETRY)
    held = [sorted(relations(case["a"], case["b"])) for case in cases["geometry"]]
    yield same("geometry.relations", held, [sorted(case["relations"]) for case in cases["geometry"]])
    summary = cases["summary"]
    rows = [Row(row["tag"], row["metadata"], row["correct"]) for row in summary["rows"]]
    yield same("summary.printed", str(summarise(rows)), summary["printed"])


def _judged(case: Mapping[str, Any], colours: Sequence[str]) -> Judgement:
    found = [
        Detection(label, box[:4], box[4], _colours(case["colour_scores"].get(label), number, colours))
        for label, boxes in case["detections"].items()
        for number, box in enumerate(boxes)
    ]
    return judge(case["metadata"], found, Rules(**case["options"]))


def _colours(scores: Sequence[Sequence[float]] | None, number: int, names: Sequence[str]) -> dict[str, float]:
    return dict(zip(names, scores[number], strict=True)) if scores else {}


def _kept(judgement: Judgement) -> dict[str, list[list[float]]]:
    return {label: [[*one.box, one.score] for one in found] for label, found in judgement.kept.items()}


def _words(reason: str) -> list[list[str]]:
    """The words of each line in alphabetical order: the released text joins two relations in any order."""
    return [sorted(line.split()) for line in reason.split("\n")]
