"""RAG-IGBench's scores of an answer of text and selected images against a reference, each in [0, 1].

rouge: F of the sets of words; edit: order and choice of images; kendall: images in the reference's order,
scaled by how many candidates there were to choose from; alignment: text around the same image; clip: image
and text before it. Words and vectors come from outside (there jieba, Conan-embedding-v1 and CLIP): the scores
of other embedders need other limits. Quirks of the released scorer are kept: Kendall divides by the pairs of
the whole answer, samples that divide by zero are dropped, and `Averages.released` has alignment twice and no
rouge; `paper` is the mean of the five and `of_all` gives 0 to what was not scored. Zhang et al., arXiv
2512.05119.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from unified.eval.metrics.interleaved_markdown import CONTEXT, Interleaved, answer_of, interleaved
from unified.eval.metrics.legibility import edit_distance

SCORES = ("rouge1_score", "edit_distance", "kendall_score", "alignment_score", "clip_score")
Limits = tuple[float, float]
Vector = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Lengths in characters; `beta` of the scaling by candidates; cosines at or below the first limit are 0,
    from the second on 1."""

    context: int = CONTEXT
    clip: int = 25
    beta: float = 0.5
    align_limits: Limits = (0.7, 1.0)
    clip_limits: Limits = (0.1, 0.4)


@dataclass(frozen=True)
class Embedders:
    """`words` of a text, `text` to a vector, `image` (0-based number of a candidate) to a vector of the same
    space as `clip_text`."""

    words: Callable[[str], Sequence[str]]
    text: Callable[[str], Vector]
    image: Callable[[int], Vector]
    clip_text: Callable[[str], Vector]


@dataclass(frozen=True)
class Scored:
    """`scores` by name, where the answer was scored; `error`: why it was dropped."""

    status: Literal["scored", "invalid_format", "hallucination", "error"]
    scores: Mapping[str, float]
    error: str = ""


def score_output(
    output: str, reference: str, candidates: int, embedders: Embedders, settings: Settings | None = None
) -> Scored:
    """The scores of what a model wrote, with `candidates` images to choose from (ids from 1)."""
    settings = settings or Settings()
    markdown = answer_of(output)
    if markdown is None:
        return Scored("invalid_format", {})
    answer, truth = (interleaved(text, settings.context) for text in (markdown, reference))
    if any(int(name) > candidates for name in answer.contexts):
        return Scored("hallucination", {})
    try:
        return Scored("scored", _scores(answer, truth, candidates, embedders, settings))
    except (ZeroDivisionError, EmptyText) as error:
        return Scored("error", {}, str(error))


class EmptyText(ValueError):
    """A text has no words."""


def _scores(
    answer: Interleaved, truth: Interleaved, candidates: int, embedders: Embedders, settings: Settings
) -> dict[str, float]:
    rouge = rouge1(embedders.words(answer.text), embedders.words(truth.text))
    edit = edit_score(answer.images, truth.images)
    kendall = kendall_score(answer.images, truth.images)
    kendall = scaled(kendall, len(truth.images), candidates, settings.beta)
    pairs = [
        (answer.contexts[name], truth.contexts[name]) for name in answer.contexts if name in truth.contexts
    ]
    aligned = [cosine(embedders.text(a), embedders.text(b)) for a, b in pairs]
    seen = [
        cosine(embedders.image(int(name) - 1), embedders.clip_text(text[: settings.clip]))
        for name, text in answer.contexts.items()
    ]
    alignment = _mean(_limited(value, settings.align_limits) for value in aligned)
    clip = _mean(_limited(value, settings.clip_limits) for value in seen)
    return dict(zip(SCORES, (rouge, edit, kendall, alignment, clip), strict=True))


# The five scores --------------------------------------------------------------------------------------------


def rouge1(words: Sequence[str], reference: Sequence[str]) -> float:
    """F of the sets of words, which end at full stops too. EmptyText for a text without any."""
    found, wanted = (set(" ".join(text).replace(".", " ").split()) for text in (words, reference))
    for name, text in (("Hypothesis", found), ("Reference", wanted)):
        if not text:
            raise EmptyText(f"{name} is empty.")
    shared = len(found & wanted)
    precision, recall = shared / len(found), shared / len(wanted)
    return 2 * precision * recall / (precision + recall + 1e-8)


def edit_score(answer: Sequence[str], reference: Sequence[str]) -> float:
    """ZeroDivisionError where neither has an image."""
    return 1 - edit_distance(answer, reference) / max(len(answer), len(reference))


def kendall_score(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Pairs of the answer's images that the reference has in the same order, of all pairs of the answer. For
    fewer than two images on a side the share of right ones. ZeroDivisionError where the reference has none
    and the answer at most one."""
    place = {name: number for number, name in enumerate(reference)}  # of an id that is repeated the last
    kept = [place[name] for name in answer if name in place]
    if not answer and reference:
        return 0.0
    if len(reference) == 1:
        return len(kept) / len(answer)
    if len(answer) == 1:
        return len(kept) / len(reference)
    concordant = sum(first < second for n, first in enumerate(kept) for second in kept[n + 1 :])
    return concordant / (len(answer) * (len(answer) - 1) / 2)


def scaled(kendall: float, wanted: int, candidates: int, beta: float = 0.5) -> float:
    """More candidates than `wanted` images count for more; 1 only for infinitely many."""
    return kendall * (1 + beta * (candidates - wanted) / candidates) / (1 + beta)


def cosine(a: Vector, b: Vector) -> float:
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _limited(value: float, limits: Limits) -> float:
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _mean(values: object) -> float:
    found = list(values)  # type: ignore[call-overload]
    return fmean(found) if found else 0.0


# Many samples -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Averages:
    """`scores`: means over the scored samples; `counts`: samples by status; `released`, `paper`, `of_all`:
    three aggregates."""

    scores: Mapping[str, float]
    counts: Mapping[str, int]

    @property
    def released(self) -> float:
        """As the released script adds them up."""
        _, edit, kendall, alignment, clip = (self.scores[name] for name in SCORES)
        return (alignment + edit + kendall + alignment + clip) / len(SCORES)

    @property
    def paper(self) -> float:
        return fmean(self.scores[name] for name in SCORES)

    @property
    def of_all(self) -> float:
        """`paper` with 0 for every sample that was not scored."""
        return self.paper * self.counts["scored"] / sum(self.counts.values())


def averages(found: Sequence[Scored]) -> Averages:
    """ValueError where nothing was scored."""
    scored = [one.scores for one in found if one.status == "scored"]
    if not scored:
        raise ValueError(f"none of {len(found)} answers could be scored")
    scores = {name: fmean(each[name] for each in scored) for name in SCORES}
    return Averages(scores, Counter(one.status for one in found))
