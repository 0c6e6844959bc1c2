"""The task `encyclopedia`: a question, the pages that were found for it, and an answer of text and pictures.

The form of RAG-IGBench (arXiv 2512.05119) on invented things: documents with numbered pictures go in, the
answer is JSON with markdown that names pictures of theirs, `![a red star](IMG#3)`. Pages of one split are
unknown to every other; those of the compositional split have more steps.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from unified.tasks.encyclopedia.pages import (
    MOST_STEPS,
    ORDINALS,
    Encyclopedia,
    Page,
    Picture,
    described,
)
from unified.tasks.sample import Sample, check_index, check_split, generator
from unified.tasks.scenes.choice import pick, shuffled

IMAGE = re.compile(r"!\[[^\]]*\]\(IMG#(\d+)\)")
KINDS = ("how-to", "what-is", "head-to-head")
Content = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class EncyclopediaConfig:
    """`size`: side of a picture in pixels; `pages` of each split; `documents` that are found for a question,
    two at least; `steps` of a page, `unseen_steps` in the compositional split."""

    seed: int = 0
    size: int = 32
    pages: int = 128
    documents: int = 3
    steps: tuple[int, ...] = (2, 3)
    unseen_steps: tuple[int, ...] = (4,)

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if type(self.size) is not int or not 16 <= self.size <= 512 or self.size % 2:
            raise ValueError(f"size must be an even number of 16 to 512 pixels, got {self.size!r}")
        if type(self.pages) is not int or not 8 <= self.pages <= 200:
            raise ValueError(f"pages must be 8 to 200, got {self.pages!r}")
        if type(self.documents) is not int or not 2 <= self.documents <= 8:
            raise ValueError(f"documents must be 2 to 8, got {self.documents!r}")
        for name, numbers in (("steps", self.steps), ("unseen_steps", self.unseen_steps)):
            if not numbers or any(type(n) is not int or not 1 <= n <= MOST_STEPS for n in numbers):
                raise ValueError(f"{name} must be whole numbers of 1 to {MOST_STEPS}, got {numbers!r}")
        if both := set(self.steps) & set(self.unseen_steps):
            raise ValueError(f"steps and unseen_steps share {sorted(both)}: unseen must not be trained on")


@dataclass(frozen=True)
class Query:
    """`question` of a `kind`; `documents`: pages in the order in which they are shown; `pictures` of all, the
    candidates 1, 2, ...; `answer`: sentences, each with the number of its picture."""

    kind: str
    question: str
    documents: tuple[Page, ...]
    pictures: tuple[Picture, ...]
    answer: tuple[tuple[str, int], ...]


@lru_cache(maxsize=32)
def encyclopedia(config: EncyclopediaConfig, split: str) -> Encyclopedia:
    """The pages of a split. Raises ValueError for an unknown one."""
    check_split(split)
    steps = config.unseen_steps if split == "compositional" else config.steps
    return Encyclopedia(config.seed, split, config.pages, steps)


def query(config: EncyclopediaConfig, index: int, split: str) -> Query:
    """The query with this number, the same every time."""
    known = encyclopedia(config, split)
    check_index(index)
    rng = generator(config.seed, split, int(index))
    kind = pick(rng, KINDS)
    one, other = (known.pages[n] for n in rng.choice(len(known.pages), 2, replace=False))
    number = int(rng.integers(min(len(one.steps), len(other.steps))))
    if kind == "how-to":
        asked, question = [(one, n) for n in range(len(one.steps))], f"How is a {one.name} built?"
    elif kind == "what-is":
        asked = [(one, number)]
        question = f"What is the {ORDINALS[number]} part of a {one.name}?"
    else:
        asked = [(one, number), (other, number)]
        question = f"Compare the {ORDINALS[number]} part of a {one.name} and of a {other.name}."
    documents = tuple(shuffled(rng, known.retrieve(question, config.documents)))
    pictures = tuple(Picture(page.name, n, part) for page in documents for n, part in enumerate(page.steps))
    places = {(picture.page, picture.step): n for n, picture in enumerate(pictures, start=1)}
    answer = tuple((_said(kind, page, n), places[page.name, n]) for page, n in asked)
    return Query(kind, question, documents, pictures, answer)


def _said(kind: str, page: Page, number: int) -> str:
    part = described(page.steps[number])
    return page.sentence(number) if kind == "how-to" else f"The part of the {page.name} is {part}."


class EncyclopediaTask:
    """Retrieval-augmented answers of text and selected pictures. Implements `unified.tasks.sample.Task`."""

    name = "encyclopedia"

    def __init__(self, config: EncyclopediaConfig | None = None) -> None:
        self.config = config or EncyclopediaConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        found = query(self.config, index, split)
        asked = [*self._shown(found), {"type": "text", "text": found.question}]
        messages = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": answer_text(found)}]},
        ]
        meta = {
            "category": found.kind,
            "candidates": len(found.pictures),
            "answer": markdown(found),
            "sentences": [sentence for sentence, _ in found.answer],
            "images": [number for _, number in found.answer],
        }
        return Sample(task=self.name, messages=messages, meta=meta)

    def _shown(self, found: Query) -> Content:
        content: Content = []
        pictures = iter(enumerate(found.pictures, start=1))
        for number, page in enumerate(found.documents, start=1):
            content.append({"type": "text", "text": f"Document {number}: {page.opening}"})
            for step in range(len(page.steps)):
                k, picture = next(pictures)
                content.append({"type": "text", "text": f" {page.sentence(step)} IMG#{k}:"})
                content.append({"type": "image", "image": picture.pixels(self.config.size)})
        return content

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """`valid`: JSON with an answer; `real`: it names no picture that there is not; `success`: the right
        sentences and pictures, in order; `facts`: the share of sentences that it holds; `pictures`: F of the
        pictures named. The five published scores are `unified.eval.metrics.interleaved`. Raises ValueError
        for a malformed answer."""
        if not isinstance(answer, list) or not all(
            isinstance(item, dict) and item.get("type") in item for item in answer
        ):
            raise ValueError("an answer is a list of text and image items")
        text = read_answer("".join(item["text"] for item in answer if item["type"] == "text"))
        sentences, wanted = sample.meta["sentences"], sample.meta["images"]
        named = [int(number) for number in IMAGE.findall(text or "")]
        real = all(1 <= number <= sample.meta["candidates"] for number in named)
        facts = float(np.mean([sentence in (text or "") for sentence in sentences]))
        shared = len(set(named) & set(wanted))
        return {
            "valid": float(text is not None),
            "real": float(real),
            "success": float(text is not None and facts == 1 and named == wanted),
            "facts": facts,
            "pictures": 2 * shared / (len(set(named)) + len(set(wanted))),
        }


def markdown(found: Query) -> str:
    """The reference: every sentence with its picture."""
    captions = [described(found.pictures[number - 1].part) for _, number in found.answer]
    told = zip(found.answer, captions, strict=True)
    return " ".join(f"{sentence} ![{caption}](IMG#{number})" for (sentence, number), caption in told)


def answer_text(found: Query) -> str:
    """The reference in the form in which answers are written."""
    return json.dumps({"answer": markdown(found)})


def read_answer(text: str) -> str | None:
    """The markdown of an answer, None if it is no JSON object with one."""
    try:
        found = json.loads(text)["answer"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
