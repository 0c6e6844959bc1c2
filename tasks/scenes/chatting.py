"""The task `scene_chat`: small talk, refusals, drawings, edits, lists and questions in any order.

What a model has heard before must not decide what it does next: thanks may follow a list, a drawing a
refusal, a greeting may come with a picture. The forms are those of the assistant and the chat: a question
about a picture alone, after a list with `THINKING`, or after a list without it. What is said while thinking
is never a reply to small talk.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from unified.tasks.scenes.choice import chance, pick
from unified.tasks.scenes.scene import Scene
from unified.tasks.scenes.scene_tasks import SceneTask
from unified.tasks.scenes.thoughts import THINKING
from unified.tasks.scenes.turns import Maker, Turn, follow_up, spoken_of
from unified.tasks.small_talk import SmallTalk, SmallTalkConfig, replies
from unified.tasks.talk import MISSING

OPENED = 0.5  # share of conversations that begin with a picture of the user's
MOST_MORE = 4  # requests after the first


class SceneChat(SceneTask):
    """One to five requests of any kind, with or without a picture, small talk and refusals among them."""

    name = "scene_chat"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        given = maker.scene(rng) if chance(rng, OPENED) else None
        turns = self.first(rng, maker, given)
        for _ in range(int(rng.integers(MOST_MORE + 1))):
            shown = turns[-1].after if turns[-1].after.objects else None
            if chance(rng, 0.4):
                turns.append(self.talk(rng, maker, shown, False))
            elif shown is not None and chance(rng, 0.3):
                turns += [maker.parts(rng, shown), self.after_list(rng, maker, shown)]
            else:
                turns.append(_work(rng, maker, shown, turns[-1]))
        return turns

    def first(self, rng: np.random.Generator, maker: Maker, given: Scene | None) -> list[Turn]:
        """What a conversation begins with, about the picture that is `given`, if one is."""
        if given is not None and chance(rng, 0.4):
            return [maker.parts(rng, given), self.after_list(rng, maker, given)]
        return [self.talk(rng, maker, given, True) if chance(rng, 0.6) else _work(rng, maker, given)]

    def talk(self, rng: np.random.Generator, maker: Maker, shown: Scene | None, given: bool) -> Turn:
        """Small talk or something out of scope, over a picture that is shown, or that is `given` with it."""
        config = SmallTalkConfig(wording=self.config.wording, refusals=0.4)
        found = SmallTalk(config).request(rng, maker.split, MISSING if shown is not None else "")
        text = pick(rng, replies(found.kind, found.topic))
        data = {"kind": "talk", "category": found.kind, "topic": found.topic}
        before = shown if given else None
        return Turn(request=found.text, data=data, before=before, after=shown or Scene(), text=text)

    def after_list(self, rng: np.random.Generator, maker: Maker, scene: Scene) -> Turn:
        """A question, with thinking or without, a caption, or small talk."""
        u = rng.random()
        if u < 0.35:
            return maker.thoughtful(maker.question(rng, scene))
        if u < 0.55:
            return maker.question(rng, scene)
        turn = self.talk(rng, maker, scene, False) if u < 0.8 else maker.caption(rng, scene)
        return replace(turn, request=f"{turn.request} {THINKING}") if chance(rng, 0.7) else turn


def _work(rng: np.random.Generator, maker: Maker, shown: Scene | None, last: Turn | None = None) -> Turn:
    """A drawing, or what is asked about a picture."""
    if shown is None:
        return maker.draw(rng)
    return follow_up(rng, maker, shown, spoken_of(last) if last is not None else None)
