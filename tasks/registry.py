"""Every task by name, and how one is made from options such as those of a JSON file."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from unified.tasks import encyclopedia, mazes, outside, programs, roads, scenes, small_talk, walks, worlds
from unified.tasks.mazes import traces

TASKS: dict[str, Any] = {
    **scenes.TASKS,
    scenes.SceneMoves.name: scenes.SceneMoves,
    scenes.UnknownPicture.name: scenes.UnknownPicture,
    **mazes.TASKS,
    **worlds.TASKS,
    **roads.TASKS,
    **programs.TASKS,
    **walks.TASKS,
    **encyclopedia.TASKS,
    **small_talk.TASKS,
    **outside.TASKS,
    **traces.TASKS,
}


def make(name: str, /, **options: Any) -> Any:
    """The task of this name; `options` are fields of its configuration, lists standing for tuples.

    Raises ValueError, in one line, for an unknown task or option, a missing one, or a value it refuses."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}: choose one of {', '.join(sorted(TASKS))}")
    check_options(name, options)
    values = {key: _frozen(value) for key, value in options.items()}
    try:
        return TASKS[name](config_class(name)(**values))
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, OSError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"task {name!r}: {said:.400}") from None


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that the task does not have, or that it needs and lacks."""
    known = {item.name: item for item in dataclasses.fields(config_class(name))}
    for key in options:
        if key not in known:
            raise ValueError(f"unknown option {key!r} of the task {name!r}: it has {', '.join(known)}")
    for key in required(name):
        if key not in options:
            raise ValueError(f"the task {name!r} needs the option {key!r}")


def required(name: str) -> list[str]:
    """The options without which a task cannot be made."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(config_class(name))
    return [item.name for item in fields if item.default is missing and item.default_factory is missing]


def option_names(name: str) -> list[str]:
    return [item.name for item in dataclasses.fields(config_class(name))]


def config_class(name: str) -> Any:
    """The configuration class of a task: the annotation of its constructor's `config`."""
    hints = typing.get_type_hints(TASKS[name].__init__)
    choices = [hint for hint in typing.get_args(hints["config"]) or (hints["config"],)]
    return next(hint for hint in choices if dataclasses.is_dataclass(hint))


def summary(name: str) -> str:
    """The first sentence of a task's description, in one line."""
    text = " ".join((inspect.getdoc(TASKS[name]) or "").split())
    return text.split(". ")[0].rstrip(".")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list | tuple) else value
