"""Look again: a picture that shows something else than was said is drawn once more.

What a finished picture should show follows from the words of its steps; what it does show is listed part by
part, as before a question (`looking`). The first picture in which both agree is kept, or the one in
which most parts do: the best of n, with the model as its own judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from unified.apps.answering import Content, images_of, text_of

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

Shown = dict[str, list[str]]


def said(words: str) -> Shown:
    """What stands in each part after all the steps in `words`: a list ("Seen: ...") to begin with or nothing,
    then things that are put somewhere and things that become others. Parts with nothing are left out."""
    shown = listed(words)
    for thing, place, later in _PUT.findall(words):
        things = shown.setdefault(place, [])
        if later and thing in things:
            things.remove(thing)
        if later != NOTHING:
            things.append(later or thing)
    return {place: things for place, things in shown.items() if things}


def listed(words: str) -> Shown:
    """What a list ("Seen: ...") names, part by part."""
    found = _LIST.search(words)
    parts = _LISTED.findall(found[0]) if found else []
    return {place: things.split(" and ") for place, things in parts if things != NOTHING}


def agreement(wanted: Shown, seen: Shown) -> float:
    """Share of the nine parts that show what they should."""
    same = [sorted(wanted.get(place, [])) == sorted(seen.get(place, [])) for place in PLACES]
    return sum(same) / len(PLACES)


def drawn_again(
    number: int,
    draw: Callable[[Sequence[int], int], Sequence[Content]],
    look: Callable[[Sequence[np.ndarray]], Sequence[Content]],
    tries: int = TRIES,
) -> list[Content]:
    """The best of up to `tries` answers to each of `number` requests. `draw(requests, attempt)` answers some
    of them, `look(pictures)` lists what is in pictures. One thing alone is drawn without a look."""
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries}")
    best: dict[int, tuple[float, Content]] = {}
    waiting = list(range(number))
    for attempt in range(tries):
        answers = list(draw(waiting, attempt))
        doubtful = [i for i, answer in enumerate(answers) if tries > 1 and _doubtful(answer)]
        lists = look([images_of(answers[i])[-1] for i in doubtful]) if doubtful else []
        scores = [1.0] * len(answers)
        for i, found in zip(doubtful, lists, strict=True):
            scores[i] = agreement(said(text_of(answers[i])), listed(text_of(found)))
        for request, score, answer in zip(waiting, scores, answers, strict=True):
            if request not in best or score > best[request][0]:
                best[request] = score, answer
        waiting = [request for request in waiting if best[request][0] < 1]
        if not waiting:
            break
    return [best[request][1] for request in range(number)]


def _doubtful(answer: Content) -> bool:
    """Whether there is a picture, of more than one thing or made from another one."""
    words = text_of(answer)
    several = sum(map(len, said(words).values())) > 1 or " becomes " in words
    return several and bool(images_of(answer))
