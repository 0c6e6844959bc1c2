"""An encyclopedia of things that do not exist: what each is for, and of which parts it is built, in steps.

Every step is a sentence with a picture of its part. Names and parts are drawn from a seed, so that nothing
can be known but from the page itself; the pages of one split have names that no other has.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from unified.tasks.sample import SPLITS, generator, split_of
from unified.tasks.scenes.choice import pick
from unified.tasks.scenes.render import render
from unified.tasks.scenes.scene import COLOURS, SHAPES, Scene, SceneObject

SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ra", "si", "tu", "va", "zo")
PLACES = ("in the hills", "by the sea", "in the woods", "in the north", "on the islands", "in the desert")
USES = ("fishing", "cooking", "music", "weaving", "signals", "games", "farming", "prayer")
STARTS = ("First take", "Then add", "After it put", "Next fix", "At last set")
ORDINALS = ("first", "second", "third", "fourth", "fifth")
MOST_STEPS = len(STARTS)

Step = tuple[str, str]  # colour and shape


@dataclass(frozen=True, kw_only=True)
class Page:
    """`steps`: colour and shape of the parts, in the order in which they are put together."""

    name: str
    use: str
    place: str
    steps: tuple[Step, ...]

    @property
    def opening(self) -> str:
        return f"The {self.name} is used for {self.use} {self.place}."

    def sentence(self, number: int) -> str:
        """Of step `number`, from 0."""
        return f"{STARTS[number]} {described(self.steps[number])}."


@dataclass(frozen=True)
class Picture:
    """What a picture of a page shows; `page`: its name, `step`: from 0."""

    page: str
    step: int
    part: Step

    def pixels(self, size: int) -> np.ndarray:
        """uint8 [size, size, 3]."""
        colour, shape = self.part
        item = SceneObject(shape=shape, colour=colour, size="large", fill="solid", x=0.5, y=0.5)
        # The smallest picture shows the part as large as it fits.
        whole = render(Scene(objects=(item,)), 2 * size)
        return whole[size // 2 : size // 2 + size, size // 2 : size // 2 + size]


def described(part: Step) -> str:
    colour, shape = part
    return f"a{'n' if colour[0] in 'aeiou' else ''} {colour} {shape}"


def word_name(rng: np.random.Generator) -> str:
    return "".join(pick(rng, SYLLABLES) for _ in range(3)).capitalize()


class Encyclopedia:
    """`count` pages of one split with as many steps as one of `steps` says."""

    def __init__(self, seed: int, split: str, count: int, steps: Sequence[int]) -> None:
        self.pages = tuple(_pages(seed, split, count, steps))
        self.number = {page.name: n for n, page in enumerate(self.pages)}

    @cached_property
    def rarity(self) -> dict[str, float]:
        """Inverse document frequency of the words of all pages."""
        seen = Counter(word for page in self.pages for word in set(words_of(page)))
        return {word: math.log(len(self.pages) / count) + 1e-3 for word, count in seen.items()}

    def retrieve(self, question: str, count: int) -> list[Page]:
        """The pages that share the rarest words with a question, best first; pages that share as much in the
        order of how alike their parts are to those of the best."""
        asked = {word.strip(".,?").lower() for word in question.split()}
        # In one order: sums of floats depend on it, and the order of a set on the process.
        shared = [sorted(set(words_of(page)) & asked) for page in self.pages]
        score = [sum(self.rarity[word] for word in words) for words in shared]
        best = self.pages[int(np.argmax(score))]
        alike = [len(set(page.steps) & set(best.steps)) for page in self.pages]
        order = sorted(range(len(self.pages)), key=lambda n: (-score[n], -alike[n], n))
        return [self.pages[n] for n in order[:count]]


def words_of(page: Page) -> list[str]:
    told = " ".join([page.opening, *(page.sentence(n) for n in range(len(page.steps)))])
    return [word.strip(".,?").lower() for word in told.split()]


def _pages(seed: int, split: str, count: int, steps: Sequence[int]) -> list[Page]:
    rng = generator(seed, split, 2**31)  # apart from the samples' own
    found: dict[str, Page] = {}
    while len(found) < count:
        name = word_name(rng)
        if name in found or _split_of_name(name) != split:
            continue
        parts = rng.permutation(len(COLOURS) * len(SHAPES))[: pick(rng, tuple(steps))]
        colours, shapes = tuple(COLOURS), SHAPES
        found[name] = Page(
            name=name,
            use=pick(rng, USES),
            place=pick(rng, PLACES),
            steps=tuple((colours[n // len(shapes)], shapes[n % len(shapes)]) for n in parts.tolist()),
        )
    return list(found.values())


def _split_of_name(name: str) -> str:
    """Names of the compositional split are a quarter of those that the hash gives to training."""
    split = split_of(name, validation=0.1, test=0.1)
    if split == "train" and split_of(f"unseen {name}", validation=0.0, test=0.25) == "test":
        return SPLITS[3]
    return split
