"""ask, draw, edit, solve, imagine, act: one call of the assistant each."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from unified.apps.commands.common import (
    NO_ANSWER,
    assistant,
    check_folder,
    check_picture,
    check_target,
    given,
    plain,
    save,
    save_animation,
    show,
    with_adapters,
    words,
    write_picture,
)
from unified.apps.commands.script import read_script
from unified.apps.page import save_trace, side_by_side
from unified.apps.pictures import open_picture

if TYPE_CHECKING:
    from unified.apps.conversation import Event
    from unified.apps.sketching import SketchLimits


def ask(options: argparse.Namespace) -> int:
    question = words(options.question, "the question")
    images = [open_picture(path).image for path in options.image]
    model = assistant(options)
    if len(images) > 1 and not getattr(model, "several_images", False):
        raise ValueError(f"this model is asked about one picture, got {len(images)}")
    shown: Any = images if len(images) > 1 else next(iter(images), None)
    grounded = {"grounded": True} if options.grounded else {}
    if grounded and "grounded" not in inspect.signature(model.ask).parameters:
        raise ValueError("--grounded is not for this model")
    answer: str = model.ask(question, shown, look=options.look, **grounded)
    if not answer and getattr(model, "thinks", False):
        answer = model.introduction()
    show(options, [answer or NO_ANSWER], {"answer": answer})
    return 0


def draw(options: argparse.Namespace) -> int:
    prompt, out = words(options.prompt, "the prompt"), check_picture(options.file or options.out)
    model = with_adapters(options)
    chosen = given(options, "size", "guidance", "temperature", "tries", "scale_kv", "strategy")
    _check_known(model, model.draw, chosen)
    image = model.draw(prompt, **chosen)
    return write_picture(options, image, out)


def edit(options: argparse.Namespace) -> int:
    instruction, out = words(options.instruction, "the instruction"), check_picture(options.out)
    before, chosen = open_picture(options.image).image, given(options, "guidance", "tries")
    if options.mask is not None:
        chosen["mask"] = open_picture(options.mask).image
    model = with_adapters(options)
    _check_known(model, model.edit, chosen)
    return write_picture(options, model.edit(before, instruction, **chosen), out)


def solve(options: argparse.Namespace) -> int:
    out = check_picture(options.out) if options.out else None
    folder = check_folder(options.save) if options.save else None
    limits = _sketch_limits(options)
    maze, model = open_picture(options.image).image, assistant(options)
    prompt = {} if options.prompt is None else {"prompt": words(options.prompt, "the prompt")}
    listen = None if options.json else _Aloud()
    how: dict[str, Any] = {"limits": limits, "page": options.page, "hear": listen, **prompt}
    solution = model.solve(maze, sketches=not options.text_only, **how)
    lines = [""] if listen else []
    if solution.cut:
        lines.append(f"The answer was cut: {solution.cut}.")
    if out and solution.sketches:
        save(side_by_side(solution.sketches), out)
        lines.append(f"Wrote {out}: {len(solution.sketches)} sketches from left to right.")
    if folder:
        files = save_trace(
            folder,
            model.picture(maze),
            solution.content,
            title=f"{options.image.name}, solved",
            cut=solution.cut,
        )
        lines.append(f"Wrote {' and '.join(map(str, files))}.")
    data = {"actions": solution.actions, "text": solution.text, "sketches": len(solution.sketches)}
    data |= {"cut": solution.cut or None, "file": str(out) if out and solution.sketches else None}
    show(options, lines, {**data, "folder": str(folder) if folder else None})
    return 0


class _Aloud:
    """Prints an answer while it is generated; a sketch as its number."""

    def __init__(self) -> None:
        self.sketches = 0

    def __call__(self, event: Event) -> None:
        from unified.apps.conversation import Painted, Text

        if isinstance(event, Text):
            print(event.text, end="", flush=True)
        elif isinstance(event, Painted):
            self.sketches += 1
            print(f" [sketch {self.sketches}] ", end="", flush=True)


def _sketch_limits(options: argparse.Namespace) -> SketchLimits | None:
    """The limits of an answer whose sketches the model decides on, None for the rule. ValueError for a limit
    without that."""
    from unified.apps.sketching import SketchLimits

    given = {name: getattr(options, f"most_{name}") for name in ("images", "ids", "seconds")}
    given = {name: value for name, value in given.items() if value is not None}
    if options.text_only and (options.own or given):
        raise ValueError("--text-only draws no sketches: leave out --own and its limits")
    if (given or options.page) and not options.own:
        raise ValueError("limits are for sketches that the model decides on: add --own")
    return SketchLimits(**given) if options.own else None


def imagine(options: argparse.Namespace) -> int:
    out = check_target(options.out)
    if out.suffix.lower() not in (".gif", ".png"):
        raise ValueError(f"{out}: frames are written as .gif (animated) or .png (side by side)")
    first, actions = open_picture(options.image).image, read_script(options.actions)
    model = assistant(options)
    frames = [model.picture(first), *model.imagine(first, actions, window=options.window)]
    if out.suffix.lower() == ".gif":
        save_animation(frames, out)
    else:
        save(np.concatenate(frames, axis=1), out)
    line = f"Wrote {out}: {len(frames)} frames, the first as given."
    show(options, [line], {"file": str(out), "frames": len(frames)})
    return 0


def act(options: argparse.Namespace) -> int:
    frame = open_picture(options.image).image
    action = plain(assistant(options).act(frame, options.task))
    show(options, [json.dumps(action)], {"action": action})
    return 0


def _check_known(model: Any, verb: Callable[..., Any], chosen: dict[str, Any]) -> None:
    """ValueError for an option that this kind of model does not take."""
    refused = set(chosen) - set(inspect.signature(verb).parameters)
    if model.draws and refused:
        raise ValueError(f"--{min(refused).replace('_', '-')} is not for this model")
