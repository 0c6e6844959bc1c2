"""Small talk with and without a picture, and requests that ask for a refusal."""

from __future__ import annotations

from collections.abc import Iterator

from unified.eval.measurement import DATA_SEED
from unified.eval.suites.ood.asking import Case, Reply
from unified.eval.suites.ood.phrasings.talk import ABOUT_PICTURES, OUT_OF_SCOPE, SMALL_TALK, UNDRAWABLE
from unified.eval.suites.ood.pictures import UNKNOWN
from unified.eval.suites.ood.scenes import show
from unified.eval.suites.ood.scoring import fits_small_talk, refuses
from unified.eval.suites.ood.wording import deck
from unified.tasks.sample import generator

TALK_CHANNELS = ("chat", "verb", "chat", "chat", "long history")
REFUSAL_KINDS = {"words alone": OUT_OF_SCOPE, "a drawing": UNDRAWABLE, **ABOUT_PICTURES}
SEED = DATA_SEED + 20


def small_talk_cases(split: str, count: int) -> Iterator[Case]:
    """As many remarks, all categories in turn, two of five along with a picture."""
    for number, (category, words) in enumerate(deck(generator(SEED, split, 0), SMALL_TALK, count)):
        rng = generator(SEED, split, number)
        shown = show(rng, split, number, second=number % 2 == 1) if number % 5 in (1, 2) else None
        yield Case(
            kind=f"{category}, {'a' if shown else 'no'} picture",
            words=words,
            verb="ask",
            channel=TALK_CHANNELS[number % len(TALK_CHANNELS)],
            right=lambda reply, category=category: _talked(reply, category),  # type: ignore[misc]
            picture=shown.picture if shown else None,
        )


def _talked(reply: Reply, category: str) -> bool:
    return fits_small_talk(category, reply.text, len(reply.pictures))


def refusal_cases(split: str, count: int) -> Iterator[Case]:
    """As many requests out of scope, all kinds in turn. Those for drawings are made in the chat: `draw` has
    no way to refuse."""
    for number, (kind, words) in enumerate(deck(generator(SEED + 1, split, 0), REFUSAL_KINDS, count)):
        rng = generator(SEED + 1, split, number)
        yield Case(
            kind=kind,
            words=words,
            verb="ask",
            channel="chat" if kind == "a drawing" or number % 2 else "verb",
            right=lambda reply: refuses(reply.text, len(reply.pictures)),
            picture=UNKNOWN[kind](rng) if kind in UNKNOWN else None,
        )
