"""The task `unknown_picture`: a picture of something else than shapes, and a polite no.

What is asked are the questions, captions and edits of scenes. A list of such a picture says that nothing in
it is known, so that what follows the list can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.tasks.grammar import one_of
from unified.tasks.hand import typed
from unified.tasks.sample import Sample, generator, split_of
from unified.tasks.scenes.choice import chance, check_share, pick
from unified.tasks.scenes.drawing import CATEGORIES
from unified.tasks.scenes.oddities import odd_picture
from unified.tasks.scenes.render import Size, image_shape
from unified.tasks.scenes.thoughts import THINKING
from unified.tasks.scenes.turns import LOOKING_FREELY, Content, Maker, check_content, text_of
from unified.tasks.scenes.words import normal
from unified.tasks.small_talk import SKILLS

UNSEEN = "Seen: nothing that I know."
REPLIES = (
    f"I am sorry, I do not know what that is. I can {SKILLS}.",
    f"I do not know what this picture shows, sorry. I can {SKILLS}.",
)
ASKED = (
    "what is [this|that|it]?",
    "what [do you see|can you see|is in the picture|does the picture show]?",
    "[who|what] is [on|in] the [picture|photo|photograph|image]?",
    "is this a [cat|dog|house|car|letter|face|person|tree|number|flower|photo]?",
    "describe [this|the picture|the photo|what you see]",
    "what [colour|size|shape] is [it|this|the cat|the house|the letter]?",
    "[can you|please] read [this|it|the text]",
    "where was [this|it|the photo] taken?",
    "tell me [about this|what this is|what you see]",
)


@dataclass(frozen=True, kw_only=True)
class UnknownConfig:
    """`size` is a side or (height, width) in pixels; `listed`: share of conversations in which the picture's
    parts are listed first, as the assistant does before it answers."""

    seed: int = 0
    size: Size = 64
    listed: float = 0.5

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        image_shape(self.size)
        check_share("listed", self.listed)


class UnknownPicture:
    """A picture that shows nothing known, and a polite no to what is asked about it."""

    name = "unknown_picture"

    def __init__(self, config: UnknownConfig | None = None) -> None:
        self.config = config or UnknownConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        rng = generator(self.config.seed, split, index)
        held_out = split == "compositional"
        picture = odd_picture(rng, self.config.size, held_out)
        while not held_out and split_of(picture.tobytes().hex()) != split:
            picture = odd_picture(rng, self.config.size)
        said, replied = _asked(rng, split), pick(rng, REPLIES)
        talk = [(said, replied)]
        if chance(rng, self.config.listed):
            thinking = f" {THINKING}" if chance(rng, 0.7) else ""
            talk = [(pick(rng, LOOKING_FREELY), UNSEEN), (said + thinking, replied)]
        messages: list[dict[str, Any]] = []
        for request, reply in talk:
            messages += [_message("user", request), _message("assistant", reply)]
        messages[0]["content"].insert(0, {"type": "image", "image": picture})
        return Sample(task=self.name, messages=messages, meta={"category": "unknown", "turns": len(talk)})

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """`correct`: the answer is one of the replies, apart from case and punctuation. Raises ValueError if
        the answer is not a list of content items."""
        check_content(answer)
        return {"correct": float(normal(text_of(answer)) in map(normal, REPLIES))}


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _asked(rng: np.random.Generator, split: str) -> str:
    """A question about any picture, or what is asked about a scene."""
    if chance(rng, 0.5):
        return typed(rng, one_of(rng, ASKED))
    maker = Maker(
        split=split,
        least=1,
        most=3,
        textures=("plain",),
        categories=tuple(CATEGORIES),
        settled=0.0,
        stepwise=0.0,
        wording="free",
    )
    scene = maker.scene(rng)
    turn = maker.edit(rng, scene) if chance(rng, 0.3) else None
    if turn is None:
        turn = maker.caption(rng, scene) if chance(rng, 0.3) else maker.question(rng)
    return turn.request
