"""The scene tasks: captions, questions, listings, plans, drawing, editing and conversations that mix them.

Every sample depends on (seed, split, index) and the configuration alone. `meta["turns"]` holds the data of
each assistant turn, in order; `score` judges the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from unified.tasks.sample import Sample, generator
from unified.tasks.scenes.choice import chance, check_choice, check_share, pick
from unified.tasks.scenes.drawing import CATEGORIES, check_categories
from unified.tasks.scenes.generate import Wish
from unified.tasks.scenes.render import Size, image_shape, render
from unified.tasks.scenes.scene import TEXTURES
from unified.tasks.scenes.turns import WORDINGS, Content, Maker, Turn, follow_up, score_turn, spoken_of
from unified.tasks.scenes.varied import RENDERERS, Paint, painter

QUIZ = 8  # questions about a picture in `scene_quiz` and `scene_study`
UNLISTED = ("background",)  # kinds of questions that a list of what stands where does not answer


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """`size` is a side or (height, width) in pixels; pictures hold `least` to `most` objects (an edit keeps
    to that). The ground's texture is picked from `textures`, the category of a prompt for a drawing from
    `categories`: what is named twice comes twice as often. `settled` is the share of pictures with objects at
    the middle of their cells or as near to it as they can be, rather than anywhere; `stepwise` that of
    drawings and edits made step by step, each step said before it is drawn. `wording` of the requests:
    "plain", a few templates, or "free", a grammar (`requests`). `renderer` of pictures that are given: "own"
    or "varied", many hands on grounds of any colour (`varied`); drawings keep our own."""

    seed: int = 0
    size: Size = 64
    least: int = 1
    most: int = 6
    textures: tuple[str, ...] = TEXTURES
    categories: tuple[str, ...] = tuple(CATEGORIES)
    settled: float = 0.0
    stepwise: float = 0.0
    wording: str = "plain"
    renderer: str = "own"

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")
        if min(image_shape(self.size)) < 32:
            raise ValueError(f"size must be at least 32 so that drawings can be scored, got {self.size!r}")
        Wish(least=self.least, most=self.most, textures=self.textures, settled=self.settled)
        check_categories(self.categories, self.least, self.most)
        check_share("stepwise", self.stepwise)
        check_choice("wording", self.wording, WORDINGS)
        check_choice("renderer", self.renderer, RENDERERS)


class SceneTask:
    """What they share: the configuration, and scoring of the last turn."""

    name = ""

    def __init__(self, config: SceneConfig | None = None) -> None:
        self.config = config or SceneConfig()

    def sample(self, index: int, split: str = "train") -> Sample:
        """The sample with this number, the same every time. Raises ValueError for an unknown split or a bad
        index."""
        rng = generator(self.config.seed, split, index)
        config = self.config
        maker = Maker(
            split=split,
            least=config.least,
            most=config.most,
            textures=config.textures,
            categories=config.categories,
            settled=config.settled,
            stepwise=config.stepwise,
            wording=config.wording,
            grounds=config.renderer == "varied",
        )
        turns = self.turns(rng, maker)
        messages, shown = [], None
        given = paint = painter(config.renderer, rng)
        for turn in turns:
            if turn.before is not None and turn.before != shown:
                paint = given
            elif turn.data["kind"] == "draw":
                paint = render
            messages += self.messages(rng, turn, shown, paint)
            shown = turn.after
        meta = {"category": turns[-1].data["category"], "turns": [turn.data for turn in turns]}
        return Sample(task=self.name, messages=messages, meta=meta)

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        raise NotImplementedError

    def messages(
        self, rng: np.random.Generator, turn: Turn, shown: Any, paint: Paint = render
    ) -> list[dict[str, Any]]:
        """A user and an assistant message; the picture is given if the conversation does not show it yet."""
        user: Content = [{"type": "text", "text": turn.request}]
        if turn.before is not None and turn.before != shown:
            user.insert(0, {"type": "image", "image": paint(turn.before, self.config.size)})
        answer = turn.answer(self.config.size, paint)
        return [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]

    def score(self, sample: Sample, answer: Content) -> dict[str, float]:
        """Scores in [0, 1] of an answer to the last turn; see `score_turn`."""
        return score_turn(sample.meta["turns"][-1], answer)


class SceneCaption(SceneTask):
    """A picture and a request for a caption; the category is the degree of detail."""

    name = "scene_caption"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        return [maker.caption(rng, maker.scene(rng))]


class SceneQuestion(SceneTask):
    """A picture and a question with a short answer; the category is the kind of question."""

    name = "scene_question"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        return [maker.question(rng)]


class SceneQuiz(SceneTask):
    """A picture and eight questions about it, one after another, now and then a caption in the end.

    A picture takes as many ids as three questions: here an answer costs a third of one in `scene_question`.
    """

    name = "scene_quiz"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        turns = [maker.question(rng)]
        scene = turns[0].after
        turns += [maker.question(rng, scene) for _ in range(QUIZ - 1)]
        return [*turns, maker.caption(rng, scene)] if chance(rng, 0.3) else turns


class SceneStudy(SceneTask):
    """A picture, what stands in each of its parts, and questions that are answered from that, thinking first,
    now and then a caption in the end. In half of the samples the list takes the picture's place: to think
    over what was seen is learned from words alone."""

    name = "scene_study"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        questions = [maker.question(rng)]
        scene = questions[0].after
        questions += [maker.question(rng, scene) for _ in range(QUIZ - 1)]
        questions = [maker.thoughtful(turn) for turn in questions]
        told = [turn for turn in questions if turn.data["category"] not in UNLISTED]
        if told and chance(rng, 0.5):
            return [maker.told(told[0]), *told[1:]]
        last = [maker.caption(rng, scene)] if chance(rng, 0.3) else []
        return [maker.parts(rng, scene), *questions, *last]


class SceneDraw(SceneTask):
    """A text-to-image prompt and one picture that fulfils it; the category is that of GenEval, or
    "complete"."""

    name = "scene_draw"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        return [maker.draw(rng)]


class SceneParts(SceneTask):
    """A picture and what stands in each of its nine parts."""

    name = "scene_parts"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        return [maker.parts(rng, maker.scene(rng))]


class ScenePlan(SceneTask):
    """A text-to-image prompt, or an edit of what is shown or listed, and the steps to the picture in words
    alone."""

    name = "scene_plan"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        return [maker.plan(rng)]


class SceneEdit(SceneTask):
    """A picture, an instruction, and the picture after it; the category is the kind of edit."""

    name = "scene_edit"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        while True:
            turn = maker.edit(rng, maker.scene(rng))
            if turn is not None:
                return [turn]


class SceneConversation(SceneTask):
    """Two to nine turns about one picture that is given or drawn first, edited and asked about, now and then
    after a list of what it shows."""

    name = "scene_conversation"

    def turns(self, rng: np.random.Generator, maker: Maker) -> list[Turn]:
        first = maker.draw(rng) if chance(rng, 0.5) else follow_up(rng, maker, maker.scene(rng))
        turns = [first]
        for _ in range(int(rng.integers(1, 5))):
            scene = turns[-1].after
            if chance(rng, 0.2):
                turns += [maker.parts(rng, scene), maker.thoughtful(maker.question(rng, scene))]
            else:
                turns.append(follow_up(rng, maker, scene, spoken_of(turns[-1])))
        return turns

    def messages(
        self, rng: np.random.Generator, turn: Turn, shown: Any, paint: Paint = render
    ) -> list[dict[str, Any]]:
        """The same with greetings, thanks, and a word along with a picture."""
        messages = super().messages(rng, turn, shown, paint)
        polite = pick(rng, GREETINGS if shown is None else THANKS)
        messages[0]["content"][-1]["text"] = polite.format(turn.request)
        if turn.text is None and chance(rng, 0.5):
            messages[1]["content"].insert(0, {"type": "text", "text": pick(rng, PRESENTING)})
        return messages


GREETINGS = ("{}", "{}", "Hello! {}", "Hi. {}", "{} Thank you.")
THANKS = ("{}", "{}", "{}", "Thanks! {}", "Good. {}", "Very nice. {}", "One more thing. {}", "{} Thanks.")
PRESENTING = ("Here it is.", "Here you are.", "Done.", "Of course.", "Sure.")

TASKS: dict[str, type[SceneTask]] = {
    task.name: task
    for task in (
        SceneCaption,
        SceneQuestion,
        SceneQuiz,
        SceneStudy,
        SceneParts,
        ScenePlan,
        SceneDraw,
        SceneEdit,
        SceneConversation,
    )
}
