"""One request with its answer: the unit that every scene task and every conversation is made of.

A turn is scored from its data alone, by `score_turn`; drawings are read by the scene parser.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from unified.tasks.scenes import asking, editing
from unified.tasks.scenes.asking import ask, suitable, wished_answer
from unified.tasks.scenes.captions import DETAILS, caption, request, score_caption
from unified.tasks.scenes.choice import chance, pick, shuffled
from unified.tasks.scenes.drawing import (
    Prompt,
    category_wish,
    check_categories,
    demand,
    loosened,
    prompt_text,
    score_drawing,
)
from unified.tasks.scenes.editing import Edit, instruct, score_edit
from unified.tasks.scenes.generate import Wish, random_scene
from unified.tasks.scenes.listing import score_seen, seen
from unified.tasks.scenes.questions import Query
from unified.tasks.scenes.render import Size, render
from unified.tasks.scenes.requests import request as free_request
from unified.tasks.scenes.scene import Filter, Scene, SceneObject
from unified.tasks.scenes.steps import Step, drawing_steps, editing_steps, score_plan
from unified.tasks.scenes.thoughts import THINKING, conclusion, thought
from unified.tasks.scenes.varied import Paint, readable, regrounded
from unified.tasks.scenes.words import normal
from unified.tasks.small_talk import score_reply

Content = list[dict[str, Any]]

WORDINGS = ("plain", "free")
UNNAMED = ("shape", "colour", "size", "fill", "where", "object")  # kinds of questions about one object
PLANS = ("drawing", "shown", "listed")
PLANNING = ("How would you draw this? {}", "Plan this picture in words: {}", "Say the steps alone: {}")
LOOKING = ("What is in each part of the picture?", "Say what you see, part by part.")
LOOKING_FREELY = (
    *[LOOKING[0]] * 6,
    *LOOKING,
    "what is where?",
    "List what you see, part by part.",
    "Go through the picture part by part.",
)
PATIENCE = 60  # scenes tried for one wish before another is made


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A request about `before` (None: about no picture) and its answer: a text, the picture of `after`, or
    `steps` that lead to it.

    `data` is what `score_turn` needs, as plain JSON; its "kind" is caption, question, parts, plan,
    draw, edit or talk, and its "category" tells kinds of these apart."""

    request: str
    data: dict[str, Any]
    before: Scene | None
    after: Scene
    text: str | None = None
    steps: tuple[Step, ...] = ()

    def answer(self, size: Size, paint: Paint = render) -> Content:
        """The answer; `paint` draws its pictures."""
        if self.text is not None:
            return [{"type": "text", "text": self.text}]
        content: Content = []
        for step in self.steps[:-1]:
            content += _said(step), {"type": "image", "image": paint(step.scene, size)}
        content += [_said(step) for step in self.steps[-1:]]
        return [*content, {"type": "image", "image": paint(self.after, size)}]


def _spoken(steps: tuple[Step, ...]) -> str:
    return " ".join(step.text for step in steps)


def _planned(rng: np.random.Generator, turn: Turn, steps: tuple[Step, ...], listed: str = "") -> Turn:
    """The turn in words alone; a picture that is `listed` is not shown."""
    text, request = _spoken(steps), turn.request
    if listed:
        text, request = text.removeprefix(f"{listed} "), f"{request} {listed}"
    data = {**turn.data, "kind": "plan", "text": text}
    before = None if listed else turn.before
    request = pick(rng, PLANNING).format(request)
    return replace(turn, request=request, data=data, before=before, text=text, steps=())


def _said(step: Step) -> dict[str, Any]:
    return {"type": "text", "text": step.text}


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes turns for one split, with between `least` and `most` objects in every picture, textures and
    categories of prompts being picked from those given. A share of the pictures is `settled`; if any is, so
    is all that edits put somewhere. A share of the drawings and edits is made `stepwise`. `wording`: of the
    requests, one of `WORDINGS`. With `grounds`, most pictures that are
    given have a ground of any colour, and drawings where the request names one."""

    split: str
    least: int
    most: int
    textures: tuple[str, ...]
    categories: tuple[str, ...]
    settled: float
    stepwise: float
    wording: str = "plain"
    grounds: bool = False

    def scene(self, rng: np.random.Generator, wish: Wish | None = None) -> Scene:
        scene = random_scene(rng, self.split, self._wish(wish or Wish(least=self.least, most=self.most)))
        return regrounded(rng, scene) if self.grounds and chance(rng, 0.7) else scene

    def _wish(self, wish: Wish) -> Wish:
        return replace(wish, textures=self.textures, settled=self.settled)

    def caption(self, rng: np.random.Generator, scene: Scene) -> Turn:
        detail = pick(rng, tuple(DETAILS))
        data = {"kind": "caption", "category": detail, "scene": scene.to_json()}
        text = caption(rng, scene, detail)
        asked = self._worded(rng, request(rng, detail), data)
        return Turn(request=asked, data=data, before=scene, after=scene, text=text)

    def question(self, rng: np.random.Generator, scene: Scene | None = None) -> Turn:
        """About this scene or, if none is given, about a new one that makes the wished answer true."""
        while True:
            kind = pick(rng, asking.KINDS)
            wish = suitable(kind, self.least, self.most)
            wished = wished_answer(rng, kind)
            for _ in range(PATIENCE if scene is None else 1):
                if wish is None:
                    break
                shown = scene or self.scene(rng, wish)
                found = ask(rng, shown, self.split, kind, wished)
                if found is not None:
                    data = {"kind": "question", "category": kind, "scene": shown.to_json()}
                    query = self._unnamed(rng, found.query, shown)
                    data |= {"query": query.to_json(), "answer": found.answer}
                    asked = self._worded(rng, found.text, data)
                    return Turn(request=asked, data=data, before=shown, after=shown, text=found.answer)

    def draw(self, rng: np.random.Generator) -> Turn:
        coloured = self.split == "compositional"
        check_categories(self.categories, self.least, self.most, coloured)
        while True:
            category = pick(rng, self.categories)
            wish = category_wish(category, self.least, self.most, coloured)
            if wish is None:
                continue
            for _ in range(PATIENCE):
                scene = random_scene(rng, self.split, self._wish(wish))
                prompt = demand(rng, scene, category, coloured)
                if prompt is not None:
                    if self.wording != "plain":
                        prompt = loosened(rng, prompt, scene)
                    if self.grounds and chance(rng, 0.35):
                        scene = regrounded(rng, scene)
                        prompt = replace(prompt, background=scene.background)
                    data = {"kind": "draw", "category": category, "prompt": prompt.to_json()}
                    request = self._worded(rng, prompt_text(rng, prompt), data)
                    steps = drawing_steps(prompt, scene) if self._in_steps(rng) else ()
                    return Turn(request=request, data=data, before=None, after=scene, steps=steps)

    def parts(self, rng: np.random.Generator, scene: Scene) -> Turn:
        """What stands in each part of a picture."""
        data = {"kind": "parts", "category": "parts", "scene": scene.to_json()}
        asked = pick(rng, LOOKING if self.wording == "plain" else LOOKING_FREELY)
        return Turn(request=asked, data=data, before=scene, after=scene, text=seen(scene))

    def thoughtful(self, turn: Turn) -> Turn:
        """A question whose answer comes after what it is made from."""
        query, answer = Query.from_json(turn.data["query"]), turn.data["answer"]
        text = thought(query, turn.after, answer)
        return replace(turn, request=f"{turn.request} {THINKING}", text=text)

    def told(self, turn: Turn) -> Turn:
        """A question about a picture that is listed, not shown."""
        return replace(turn, request=f"{seen(turn.after)} {turn.request}", before=None)

    def plan(self, rng: np.random.Generator) -> Turn:
        """The steps of a drawing, or of an edit of a picture that is shown or listed, in words alone."""
        form = pick(rng, PLANS)
        if form == "drawing":
            turn = self.draw(rng)
            return _planned(rng, turn, drawing_steps(Prompt.from_json(turn.data["prompt"]), turn.after))
        while (edit := self.edit(rng, scene := self.scene(rng))) is None:
            pass
        steps = editing_steps(Edit.from_json(edit.data["edit"]), scene)
        return _planned(rng, edit, steps, "" if form == "shown" else seen(scene))

    def edit(
        self, rng: np.random.Generator, scene: Scene, spoken_of: SceneObject | None = None
    ) -> Turn | None:
        """Any kind of edit that the scene allows, or None if none is found. In free wording an object that is
        the only one, or was `spoken_of` last, may be called "it"."""
        for kind in shuffled(rng, editing.KINDS):
            found = instruct(rng, scene, self.split, kind, self.most, settled=self.settled > 0)
            if found is None or len(found.after.objects) < self.least or not self._shows(found.after):
                continue
            edit, it = self._with_it(rng, found.edit, scene, spoken_of)
            data = {"kind": "edit", "category": kind, "scene": scene.to_json(), "edit": edit.to_json()}
            steps = editing_steps(edit, scene) if self._in_steps(rng) else ()
            asked = self._worded(rng, found.text, data, it)
            return Turn(request=asked, data=data, before=scene, after=found.after, steps=steps)
        return None

    def _worded(self, rng: np.random.Generator, plain: str, data: dict[str, Any], it: bool = False) -> str:
        return plain if self.wording == "plain" else free_request(rng, data, it)

    def _shows(self, scene: Scene) -> bool:
        return not self.grounds or readable(scene)

    def _unnamed(self, rng: np.random.Generator, query: Query, scene: Scene) -> Query:
        """The question, now and then about "it" where there is one object alone."""
        alone = len(scene.objects) == 1 and query.kind in UNNAMED
        if self.wording == "plain" or not alone or not chance(rng, 0.5):
            return query
        return replace(query, subject=Filter())

    def _with_it(
        self, rng: np.random.Generator, edit: Edit, scene: Scene, spoken_of: SceneObject | None
    ) -> tuple[Edit, bool]:
        """The edit as its steps name its object, and whether the request calls it "it"."""
        if self.wording == "plain" or len(edit.wanted) != 1 or not chance(rng, 0.7):
            return edit, False
        if len(scene.objects) == 1:
            return replace(edit, wanted=(Filter(),)), True
        if spoken_of is None or edit.old[0] != spoken_of:
            return edit, False
        short = Filter.of(spoken_of, ("colour", "shape"))
        full = len(short.select(scene.objects)) > 1
        return replace(edit, wanted=(Filter.of(spoken_of) if full else short,)), True

    def _in_steps(self, rng: np.random.Generator) -> bool:
        return self.stepwise > 0 and chance(rng, self.stepwise)


def score_turn(data: dict[str, Any], answer: Content) -> dict[str, float]:
    """The score of an answer to one turn. Draw and edit need an image in it; without one everything is 0.

    Raises ValueError if the answer is not a list of content items or an image is not uint8 [H, W, 3]."""
    check_content(answer)
    if data["kind"] == "caption":
        return score_caption(Scene.from_json(data["scene"]), data["category"], text_of(answer))
    if data["kind"] == "question":
        return {"correct": float(normal(conclusion(text_of(answer))) == normal(data["answer"]))}
    if data["kind"] == "talk":
        return score_reply(data["category"], data["topic"], text_of(answer))
    if data["kind"] == "parts":
        return score_seen(Scene.from_json(data["scene"]), text_of(answer))
    if data["kind"] == "plan":
        return score_plan(data.get("prompt"), data["text"], text_of(answer))
    image = image_of(answer)
    drawn = _parse(image) if image is not None else Scene()
    if data["kind"] == "draw":
        scores = score_drawing(Prompt.from_json(data["prompt"]), drawn)
    else:
        scores = score_edit(Edit.from_json(data["edit"]), Scene.from_json(data["scene"]), drawn)
    return scores if image is not None else dict.fromkeys(scores, 0.0)


def _parse(image: np.ndarray) -> Scene:
    from unified.tasks.scenes.parser import parse  # here: making samples must not need scikit-image

    return parse(image)


def check_content(answer: Content) -> None:
    good = isinstance(answer, list) and all(
        isinstance(item, dict) and isinstance(item.get("type"), str) and item["type"] in item
        for item in answer
    )
    if not good or not all(isinstance(item["text"], str) for item in answer if item["type"] == "text"):
        raise ValueError(
            'an answer is a list of {"type": "text", "text": ...} or {"type": "image", "image": ...}'
        )


def text_of(answer: Content) -> str:
    return " ".join(item["text"] for item in answer if item["type"] == "text")


def image_of(answer: Content) -> np.ndarray | None:
    """The last image of an answer, or None."""
    images = [item["image"] for item in answer if item["type"] == "image"]
    return images[-1] if images else None


def spoken_of(turn: Turn) -> SceneObject | None:
    """The object that "it" means after a turn: what was changed, or the only thing drawn."""
    if turn.data["kind"] == "draw" and len(turn.after.objects) == 1:
        return turn.after.objects[0]
    if turn.data["kind"] != "edit" or len(turn.data["edit"]["new"]) != 1:
        return None
    return Edit.from_json(turn.data["edit"]).new[0]


def follow_up(
    rng: np.random.Generator, maker: Maker, scene: Scene, spoken_of: SceneObject | None = None
) -> Turn:
    """The next turn of a conversation about a picture: mostly questions and edits, now and then a new
    picture."""
    turn = None
    while turn is None:
        u = rng.random()
        if u < 0.45:
            turn = maker.question(rng, scene)
        elif u < 0.8:
            turn = maker.edit(rng, scene, spoken_of)
        else:
            turn = maker.caption(rng, scene) if chance(rng, 0.7) else maker.draw(rng)
    return turn
