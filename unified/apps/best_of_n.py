"""Best-of-n image generation with the model as its own judge.

What an image should show follows from the text of its drawing steps; what it does show is a list of its nine
parts that the model writes (`looking`). The score is the share of parts in which both agree; sampling stops
at the first image of score 1, otherwise the image of largest score is returned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from unified.apps.answering import Content, images_of, text_of
from unified.finite import check_count

TRIES = 3
PLACES = (
    "top left", "top centre", "top right", "middle left", "centre", "middle right",
    "bottom left", "bottom centre", "bottom right",
)  # fmt: skip
NOTHING = "nothing"
_PLACE = "|".join(sorted(PLACES, key=len, reverse=True))
_LIST = re.compile(r"Seen: [^.]*\.")
_LISTED = re.compile(rf"[:;] ({_PLACE}) ([^.;]*?)(?=[.;])")
_PUT = re.compile(rf": ([^.:;]*?) in the ({_PLACE})\b(?: becomes ([^.]*?)\.)?")

Contents = dict[str, list[str]]


def described(words: str) -> Contents:
    """The objects in each part after all the drawing steps in `words`: those of a list ("Seen: ...") if there
    is one, then objects that are added and objects that are replaced. Parts without objects are left out."""
    contents = listed(words)
    for one, place, later in _PUT.findall(words):
        objects = contents.setdefault(place, [])
        if later and one in objects:
            objects.remove(one)
        if later != NOTHING:
            objects.append(later or one)
    return {place: objects for place, objects in contents.items() if objects}


def listed(words: str) -> Contents:
    """The objects that a list ("Seen: ...") names in each part. Parts without objects are left out."""
    found = _LIST.search(words)
    parts = _LISTED.findall(found[0]) if found else []
    return {place: objects.split(" and ") for place, objects in parts if objects != NOTHING}


def agreement(wanted: Contents, seen: Contents) -> float:
    """Share of the nine parts whose objects are the same, in 0..1."""
    same = [sorted(wanted.get(place, [])) == sorted(seen.get(place, [])) for place in PLACES]
    return sum(same) / len(PLACES)


def best_of_n(
    number: int,
    draw: Callable[[Sequence[int], int], Sequence[Content]],
    look: Callable[[Sequence[np.ndarray]], Sequence[Content]],
    tries: int = TRIES,
) -> list[Content]:
    """The best of up to `tries` answers to each of `number` requests. `draw(requests, attempt)`: answers to
    the requests of these numbers; `look(pictures)`: a list of the parts of each image. Images of a single
    object are not scored: the first one is returned. ValueError for fewer than one try."""
    check_count("tries", tries, 1)
    best: dict[int, tuple[float, Content]] = {}
    waiting = list(range(number))
    for attempt in range(tries):
        answers = list(draw(waiting, attempt))
        doubtful = [i for i, answer in enumerate(answers) if tries > 1 and _doubtful(answer)]
        lists = look([images_of(answers[i])[-1] for i in doubtful]) if doubtful else []
        scores = [1.0] * len(answers)
        for i, found in zip(doubtful, lists, strict=True):
            scores[i] = agreement(described(text_of(answers[i])), listed(text_of(found)))
        for request, score, answer in zip(waiting, scores, answers, strict=True):
            if request not in best or score > best[request][0]:
                best[request] = score, answer
        waiting = [request for request in waiting if best[request][0] < 1]
        if not waiting:
            break
    return [best[request][1] for request in range(number)]


def _doubtful(answer: Content) -> bool:
    """Whether an answer is to be scored: it has an image, of more than one object or edited."""
    words = text_of(answer)
    several = sum(map(len, described(words).values())) > 1 or " becomes " in words
    return several and bool(images_of(answer))
