"""RAG-IGBench's scorer against a golden folder (`python -m unified.checkpoints verify`): parsing of answers,
list scores, and a file of samples with the folder's toy embedders. Words are given: nothing here segments
Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unified.checkpoints.cases import checked, read_cases, same
from unified.checkpoints.check import Check
from unified.checkpoints.compare import Tolerance, compare
from unified.checkpoints.folder import read_config, read_io
from unified.eval.metrics import interleaved as scoring
from unified.eval.metrics.interleaved_markdown import Interleaved, answer_of, interleaved

ATOL = 1e-6
NAMES = {  # of averages in the folder, by those of scores
    "rouge1_score": "rouge-1",
    "edit_distance": "edit distance",
    "kendall_score": "kendall score",
    "alignment_score": "alignment score",
    "clip_score": "clip score",
}
UNDEFINED = -1.0


def matches(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a golden folder holds scores of RAG-IGBench."""
    return config.get("case") == "rag_igbench"


def verify(folder: Path) -> Iterator[Check]:
    """Recompute every result of a golden folder. ValueError for an unusable folder."""
    return checked(folder, _checks)


def _checks(folder: Path) -> Iterator[Check]:
    config, cases, stored = read_config(folder), read_cases(folder), read_io(folder)
    settings = _settings(config)
    images = stored["image_vectors"].numpy()
    lists = [_lists(case, settings.beta) for case in cases["lists"]]
    scored = [_scored(case, images, config["toy_dim"], settings) for case in cases["samples"]]
    order = config["score_order"]
    computed = {
        "lists": torch.tensor([[_number(value) for value in row] for row in lists], dtype=torch.float64),
        "scores": torch.tensor(
            [[one.scores.get(name, UNDEFINED) for name in order] for one in scored], dtype=torch.float64
        ),
    }
    yield from compare(stored, computed, "image_vectors".__eq__, lambda name: Tolerance(ATOL))
    yield from _parsing(cases, settings.context)
    for number, name in enumerate(("edit", "kendall", "kendall_scaled")):
        yield same(f"lists.{name}", [row[number] for row in lists], _column(cases["lists"], name), atol=ATOL)
    yield same("samples.status", [one.status for one in scored], _column(cases["samples"], "status"))
    wanted = [case.get("scores") or {} for case in cases["samples"]]
    yield same("samples.scores", [dict(one.scores) for one in scored], wanted, atol=ATOL)
    yield same("summary", _summary(scored), cases["summary"], atol=ATOL)


def _settings(config: Mapping[str, Any]) -> scoring.Settings:
    return scoring.Settings(
        context=config["context_chars"],
        clip=config["clip_chars"],
        beta=config["beta"],
        align_limits=tuple(config["align_map"]),
        clip_limits=tuple(config["clip_map"]),
    )


def _column(cases: list[Mapping[str, Any]], name: str) -> list[Any]:
    return [case[name] for case in cases]


def _stated(cases: list[Mapping[str, Any]], name: str) -> list[Any]:
    return [_ordered(value) for value in _column(cases, name)]


def _number(value: float | None) -> float:
    return UNDEFINED if value is None else value


def _parsing(cases: Mapping[str, Any], context: int) -> Iterator[Check]:
    answers = [answer_of(case["raw"]) for case in cases["raw"]]
    found = [False if answer is None else answer for answer in answers]
    yield same("raw.answer", found, _column(cases["raw"], "answer"))
    read = [interleaved(case["markdown"], context) for case in cases["docs"]]
    for name in ("text", "images", "contexts"):
        yield same(f"docs.{name}", [_part(one, name) for one in read], _stated(cases["docs"], name))
    valid = [case for case in cases["samples"] if "answer_text" in case]
    sides = {
        "answer": [interleaved(answer_of(case["raw"]) or "", context) for case in valid],
        "reference": [interleaved(case["reference"], context) for case in valid],
    }
    for side, parts in sides.items():
        for name in ("text", "images", "contexts"):
            stated = _stated(valid, f"{side}_{name}")
            yield same(f"samples.{side}_{name}", [_part(one, name) for one in parts], stated)


def _part(one: Interleaved, name: str) -> Any:
    return _ordered(getattr(one, name))


def _ordered(value: Any) -> Any:
    """Dictionaries as pairs: they compare without their order."""
    return [[*pair] for pair in value.items()] if isinstance(value, Mapping) else value


def _lists(case: Mapping[str, Any], beta: float) -> list[float | None]:
    """Edit, Kendall and its scaled form; None where they divide by zero."""
    answer, reference = case["answer"], case["reference"]

    def tried(score: Any, *arguments: Any) -> Any:
        try:
            return score(*arguments)
        except ZeroDivisionError:
            return None

    kendall = tried(scoring.kendall_score, answer, reference)
    rescaled = None
    if kendall is not None:
        rescaled = tried(scoring.scaled, kendall, len(reference), case["candidates"], beta)
    return [tried(scoring.edit_score, answer, reference), kendall, rescaled]


def _scored(
    case: Mapping[str, Any], images: np.ndarray, size: int, settings: scoring.Settings
) -> scoring.Scored:
    """A sample with the toy embedders; its words are looked up."""
    flat = [name for document in case["images"] for name in document]
    words = {
        case[f"{side}_text"]: case[f"{side}_kept"]
        for side in ("answer", "reference")
        if f"{side}_text" in case
    }

    def toy(text: str) -> np.ndarray:
        vector = np.full(size, 0.1, dtype=np.float32)
        for character in text:
            vector[ord(character) % size] += 1
        return vector

    embedders = scoring.Embedders(
        words=words.__getitem__,
        text=toy,
        image=lambda number: images[int(flat[number]) - 1],
        clip_text=toy,
    )
    return scoring.score_output(case["raw"], case["reference"], len(flat), embedders, settings)


def _summary(scored: list[scoring.Scored]) -> dict[str, Any]:
    found = scoring.averages(scored)
    return {
        "errors": [one.error for one in scored if one.status == "error"],
        **{NAMES[name]: value for name, value in found.scores.items()},
        "integrated_score": found.released,
        "Invalid format num": found.counts.get("invalid_format", 0),
        "Hallucination num": found.counts.get("hallucination", 0),
        "paper_mean": found.paper,
        "n_scored": found.counts["scored"],
    }
