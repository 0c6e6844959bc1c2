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
from unified.eval.media.requests import CHAT, DRAWN, Request
from unified.eval.metrics.images import squared_error
from unified.tasks.mazes import MazeConfig, MazeTask
from unified.tasks.sample import Sample
from unified.tasks.scenes.scene_tasks import SceneConfig, SceneDraw, SceneEdit, SceneQuestion
from unified.tasks.scenes.turns import text_of
from unified.tasks.worlds.clips import WorldConfig, watch

from unified.apps.assistant import DRAWING, Assistant
from unified.apps.commands.chat import Chat
from unified.apps.conversation import Painted, Scale

STEPS = 16  # imagined frames
PYTHON = """\
import unified

assistant = unified.load()  # the weights in the package
picture = assistant.draw("Draw a large red circle and a small blue star.")
print(picture.shape, picture.dtype)
print(assistant.ask("What colour is the star?", image=picture))"""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One request: what was `given` (None: words alone), the output as it came, what was `said`, and whether
    it is right. Pictures are uint8 [H, W, 3]; `rights` has a verdict for each frame, of walks alone."""

    verb: str
    words: str
    given: np.ndarray | None = None
    made: list[np.ndarray] = field(default_factory=list)
    said: str = ""
    right: bool
    rule: str
    rights: tuple[bool, ...] = ()


def shots(model: Assistant) -> Iterator[Shot]:
    """The tour: sample 0 of the test split of each task, a drawing in other words, a walk."""
    scenes = SceneConfig(size=model.side, most=3)
    yield question(model, SceneQuestion(scenes))
    task = SceneDraw(scenes)
    sample = task.sample(0, "test")
    prompt = text_of(sample.messages[0]["content"])
    yield drawing(
        model, prompt, lambda image: task.score(sample, [{"type": "image", "image": image}])["all"] == 1
    )
    yield drawing(model, DRAWN.words, lambda image: DRAWN.judge("", image))
    yield edit(model, SceneEdit(scenes))
    yield maze(model, MazeTask(MazeConfig(image_size=model.side, sizes=((4, 4),))))
    yield walk(model, WorldConfig(size=model.side, frames=STEPS + 1))


def question(model: Assistant, task: SceneQuestion) -> Shot:
    sample = task.sample(0, "test")
    image, words = _asked(sample)
    said = model.ask(words, image)
    right = task.score(sample, [{"type": "text", "text": said}])["correct"] == 1
    return Shot(verb="ask", words=words, given=image, said=said, right=right, rule="the answer is known")


def drawing(model: Assistant, words: str, judge: Any) -> Shot:
    """Map by map, as a conversation streams it."""
    maps, picture = [], None
    for event in model.chat().say(words, **vars(DRAWING)):
        if isinstance(event, Scale) and event.image is not None:
            maps.append(event.image)
        elif isinstance(event, Painted):
            picture = event.image
            maps.append(picture)
    right = picture is not None and bool(judge(picture))
    return Shot(verb="draw", words=words, made=maps, right=right, rule="read by the scene parser")


def edit(model: Assistant, task: SceneEdit) -> Shot:
    sample = task.sample(0, "test")
    image, words = _asked(sample)
    made = model.edit(image, words)
    right = task.score(sample, [{"type": "image", "image": made}])["both"] == 1
    rule = "done, and the rest unchanged"
    return Shot(verb="edit", words=words, given=image, made=[made], right=right, rule=rule)


def maze(model: Assistant, task: MazeTask) -> Shot:
    sample = task.sample(0, "test")
    image, _ = _asked(sample)
    solution = model.solve(image)
    scores = task.score(sample, solution.content)
    sketched = "right" if scores["visual_success"] == 1 else "wrong"
    return Shot(
        verb="solve",
        words="the way from the green arrow to the red disc, with sketches",
        given=image,
        made=solution.sketches,
        said=", ".join(solution.actions),
        right=scores["success"] == 1,
        rule=f"the actions; its last sketch is {sketched}",
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
        right=sum(rights) * 2 > len(rights),
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


def _asked(sample: Sample) -> tuple[np.ndarray, str]:
    """The picture and the words of a sample's first turn."""
    content = sample.messages[0]["content"]
    return content[0]["image"], text_of(content)
