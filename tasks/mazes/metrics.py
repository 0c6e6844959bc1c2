"""Text metrics of MazePlanning and the four rates: success, progress, visual success and layout
consistency.

Exactly the published evaluator (Latent Sketchpad, arXiv 2510.24514): actions are read from every
`<actions>` tag and compared with the label up to the first difference; actions after a full match are not
punished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """`accuracy` = `correct` / label length; `state_accuracy` the same for the first segment over its own
    length."""

    accuracy: float
    state_accuracy: float
    correct: int
    next_state_len: int
    segments: list[list[str]]
    answer_sequence: list[str] | None

    @property
    def actions(self) -> list[str]:
        return [action for segment in self.segments for action in segment]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Shares over a set of samples. `layout_consistency_rate` is over all generated images (the release has
    no aggregation), None without images; a sample without image counts as a visual failure."""

    samples: int
    images: int
    success_rate: float
    progress_rate: float
    visual_success_rate: float
    layout_consistency_rate: float | None


def read_segments(text: str) -> list[list[str]]:
    """The actions of every `<actions>...</actions>` in order, split at commas and stripped."""
    return [_split(inside) for inside in re.findall(r"<actions>(.*?)</actions>", text, re.DOTALL)]


def read_answer(text: str) -> list[str] | None:
    """The actions of the first `<answer>...</answer>` that stands on one line, lower case; None without
    one."""
    found = re.search(r"<answer>(.*?)</answer>", text)
    return _split(found.group(1).lower()) if found else None


def score_text(output: str, label: Sequence[str]) -> TextScore:
    """Compares the actions in a text with the label. Without an `<actions>` tag everything is 0 and, as
    published, the answer is not read either. Raises ValueError for an empty label."""
    if not label:
        raise ValueError("the label has no actions: nothing to compare with")
    segments = read_segments(output)
    if not segments:
        return TextScore(
            accuracy=0.0, state_accuracy=0.0, correct=0, next_state_len=0, segments=[], answer_sequence=None
        )
    correct = common_prefix([action for segment in segments for action in segment], label)
    first = segments[0]
    return TextScore(
        accuracy=correct / len(label),
        state_accuracy=common_prefix(first, label) / len(first),
        correct=correct,
        next_state_len=len(first),
        segments=segments,
        answer_sequence=read_answer(output),
    )


def common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common prefix."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


def rates(scores: Sequence[Mapping[str, float]]) -> Rates:
    """Aggregates what a task's `score` returns: keys success, progress, visual_success, images,
    consistent_images."""
    if not scores:
        raise ValueError("no scores to aggregate")
    images = round(sum(score["images"] for score in scores))
    consistent = sum(score["consistent_images"] for score in scores)
    return Rates(
        samples=len(scores),
        images=images,
        success_rate=_mean(scores, "success"),
        progress_rate=_mean(scores, "progress"),
        visual_success_rate=_mean(scores, "visual_success"),
        layout_consistency_rate=consistent / images if images else None,
    )


def rates_by_size(scores: Sequence[Mapping[str, float]], sizes: Sequence[Sequence[int]]) -> dict[str, Rates]:
    """The rates per maze size, keyed `rows x columns` as in "5x4", and of the whole set under "all"."""
    if len(scores) != len(sizes):
        raise ValueError(f"{len(scores)} scores but {len(sizes)} sizes: give one size per score")
    groups: dict[str, list[Mapping[str, float]]] = {}
    for score, (rows, columns) in zip(scores, sizes, strict=True):
        groups.setdefault(f"{rows}x{columns}", []).append(score)
    return {"all": rates(scores)} | {key: rates(groups[key]) for key in sorted(groups)}


def _split(text: str) -> list[str]:
    return [action.strip() for action in text.split(",")]


def _mean(scores: Sequence[Mapping[str, float]], key: str) -> float:
    return sum(score[key] for score in scores) / len(scores)
