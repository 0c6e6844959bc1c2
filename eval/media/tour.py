"""A model asked to answer, draw, edit, solve and imagine; every output is kept as it came, and judged."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from unified.eval.media.requests import CHAT, DRAWN, Request, counted, repainted
from unified.eval.metrics.images import squared_error
from unified.tasks.mazes import MazeConfig, MazeTask
from unified.tasks.sample import Sample
from unified.tasks.scenes.scene import Scene
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneDraw, SceneEdit, SceneQuestion, SceneTask
from unified.tasks.scenes.turns import image_of, text_of
from unified.tasks.worlds.clips import WorldConfig, watch

from unified.apps.assistant import DRAWING, Assistant
from unified.apps.commands.chat import Chat
from unified.apps.conversation import Painted, Scale

STEPS = 16  # imagined frames
PARSED = "as the scene parser reads it"
OWN = {  # of each task: the verb, the score that must be 1, and what it means
    "scene_question": ("ask", "correct", "the answer is known"),
    "scene_draw": ("draw", "all", PARSED),
    "scene_edit": ("edit", "both", "done, and the rest unchanged"),
}
PYTHON = """\
import unified

assistant = unified.load()  # the weights in the package
picture = assistant.draw("Draw a large red circle and a small blue star.")
print(picture.shape, picture.dtype)
print(assistant.ask("What colour is the star?", image=picture))"""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One request: what was `given` (None: words alone), the output as it came, what was `said`, and whether
    it is right by a `rule`; None where only its pictures are judged, in `rights`, one for each. Pictures are
    uint8 [H, W, 3]."""

    verb: str
    words: str
    given: np.ndarray | None = None
    made: list[np.ndarray] = field(default_factory=list)
    said: str = ""
    right: bool | None
    rule: str
    rights: tuple[bool | None, ...] = ()


def shots(model: Assistant) -> Iterator[Shot]:
    """The tour: sample 0 of the test split of each task and beside it a request in other words, a maze, a
    walk."""
    scenes = SceneConfig(size=model.side, most=3)
    for task in (SceneQuestion(scenes), SceneDraw(scenes), SceneEdit(scenes)):
        sample = task.sample(0, "test")
        yield asked(model, task, sample)
        yield in_other_words(model, sample)
    yield maze(model, MazeTask(MazeConfig(image_size=model.side, sizes=((4, 4),))))
    yield walk(model, WorldConfig(size=model.side, frames=STEPS + 1))


def asked(model: Assistant, task: SceneTask, sample: Sample) -> Shot:
    """A sample in its own words, scored by its task."""
    image, words = _asked(sample)
    verb, score, rule = OWN[task.name]

    def judge(said: str, picture: np.ndarray | None) -> bool:
        shown = [{"type": "text", "text": said}] if picture is None else [{"type": "image", "image": picture}]
        return task.score(sample, shown)[score] == 1

    return answered(model, verb, Request(words=words, judge=judge), image, rule)


def in_other_words(model: Assistant, sample: Sample) -> Shot:
    """A request that no task words so: about a sample's picture, or a drawing."""
    image, _ = _asked(sample)
    turn = sample.meta["turns"][0]
    if turn["kind"] == "draw":
        return answered(model, "draw", DRAWN, None, PARSED)
    scene = Scene.from_json(turn["scene"])
    if turn["kind"] == "question":
        return answered(model, "ask", counted(scene), image, "the answer is known")
    return answered(model, "edit", repainted(scene), image, PARSED)


def answered(model: Assistant, verb: str, request: Request, image: np.ndarray | None, rule: str) -> Shot:
    """Ask, draw map by map, or edit."""
    made, said = [], ""
    if verb == "ask":
        said = model.ask(request.words, image)
    elif verb == "edit" and image is not None:
        made = [model.edit(image, request.words)]
    else:
        made = drawn(model, request.words)
    right = request.judge(said, made[-1] if made else None)
    return Shot(verb=verb, words=request.words, given=image, made=made, said=said, right=right, rule=rule)


def drawn(model: Assistant, words: str) -> list[np.ndarray]:
    """Every map and every picture, as a conversation streams them."""
    found = []
    for event in model.chat().say(words, **vars(DRAWING)):
        if isinstance(event, Scale | Painted) and event.image is not None:
            found.append(event.image)
    return found


def maze(model: Assistant, task: MazeTask) -> Shot:
    sample = task.sample(0, "test")
    image, _ = _asked(sample)
    solution = model.solve(image)
    scores = task.score(sample, solution.content)
    sketched = scores["visual_success"] == 1
    before = (None,) * (len(solution.sketches) - 1)
    return Shot(
        verb="solve",
        words="the way from the green arrow to the red disc, with sketches",
        given=image,
        made=solution.sketches,
        said=", ".join(solution.actions),
        right=scores["success"] == 1,
        rule=f"the actions; its last sketch is {'right' if sketched else 'wrong'}",
        rights=(*before, sketched) if solution.sketches else (),
    )


def walk(model: Assistant, config: WorldConfig) -> Shot:
    """A frame is right if it is nearer to the true one than the first frame is."""
    clip = watch(config, 0, "test")
    made = list(model.imagine(clip.frames[0], clip.actions[:STEPS]))
    rights = tuple(
        squared_error(frame, true) < squared_error(clip.frames[0], true)
        for frame, true in zip(made, clip.frames[1:], strict=False)
    )
    return Shot(
        verb="imagine",
        words=f"{len(made)} frames of the block world from one frame and the actions",
        given=clip.frames[0],
        made=made,
        right=None,
        rights=rights,
        rule=f"{sum(rights)} of {len(rights)} frames nearer to the true one than a copy",
    )


@dataclass(frozen=True)
class Line:
    """A line typed into the chat, what was printed, and whether that is right."""

    typed: str
    printed: str
    right: bool


def chat(model: Assistant, requests: tuple[Request, ...] = CHAT) -> list[Line]:
    """What `unified chat` prints."""
    found, printed = [], io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        talk = Chat(model, folder=Path(folder), read=input, write=printed.write, progress=False)
        for request in requests:
            printed.seek(0)
            printed.truncate()
            before = talk.latest
            talk.handle(request.words)
            text = printed.getvalue().replace(f"{folder}/", "").strip()
            picture = None if talk.latest is before else talk.latest
            found.append(Line(request.words, text, request.judge(text, picture)))
    return found


def python_result(code: str = PYTHON) -> str:
    """What the example prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    return printed.getvalue().strip()


def _asked(sample: Sample) -> tuple[Any, str]:
    """The picture, if there is one, and the words of a sample's first turn."""
    content = sample.messages[0]["content"]
    return image_of(content), text_of(content)
