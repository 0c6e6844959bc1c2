"""`--override stages.0.steps=100 seed=3`: one value of a recipe by its path.

A field that was moved into a group is also reached by its old path (`train/aliases.py`). The value is JSON
where it can be read as such, else a string, and must fit the annotation of its field; the recipe's own checks
run again.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from unified.train.aliases import ALIASES


def override(recipe: Any, settings: Sequence[str]) -> Any:
    """The recipe with every `path=value` applied in order. ValueError, in one line, for a path it does not
    have or a value that does not fit."""
    for setting in settings:
        path, sign, text = setting.partition("=")
        if not path or not sign:
            raise ValueError(f"an override is PATH=VALUE, got {setting!r}")
        try:
            recipe = _replaced(recipe, path.split("."), _value(text), None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"--override {setting}: {error}") from None
    return recipe


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _replaced(node: Any, path: Sequence[str], value: Any, hint: Any) -> Any:
    if not path:
        return fitting(value, hint)
    head, rest = path[0], path[1:]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return _in_dataclass(node, head, rest, value)
    if isinstance(node, tuple):
        number = _index(head, len(node))
        return (*node[:number], _replaced(node[number], rest, value, _item_hint(hint)), *node[number + 1 :])
    if isinstance(node, Mapping):
        found = _replaced(node.get(head), rest, value, _item_hint(hint))
        return {**node, head: found}
    raise ValueError(f"{head!r} leads nowhere: {type(node).__name__} has no parts")


def _in_dataclass(node: Any, head: str, rest: Sequence[str], value: Any) -> Any:
    known = [item.name for item in dataclasses.fields(node)]
    aliases = ALIASES.get(type(node).__name__, {})
    if head in aliases:
        head, *inner = aliases[head]
        rest = [*inner, *rest]
    if head not in known:
        names = ", ".join([*known, *aliases])
        raise ValueError(f"unknown key {head!r}: {type(node).__name__} has {names}")
    hint = typing.get_type_hints(type(node))[head]
    return dataclasses.replace(node, **{head: _replaced(getattr(node, head), rest, value, hint)})


def _index(text: str, length: int) -> int:
    if not text.isdigit() or int(text) >= length:
        raise ValueError(f"{text!r} is not a number from 0 to {length - 1}")
    return int(text)


def _item_hint(hint: Any) -> Any:
    """The annotation of the items of a tuple or the values of a mapping."""
    parts = typing.get_args(hint)
    if not parts:
        return Any
    return parts[-1] if parts[-1] is not Ellipsis else parts[0]


def fitting(value: Any, hint: Any) -> Any:
    """The value as the annotation wants it; ValueError if it is of another type."""
    if hint in (None, Any):
        return value
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _any_of(value, typing.get_args(hint))
    if origin is typing.Literal:
        if value in typing.get_args(hint):
            return value
        raise ValueError(f"choose one of {', '.join(map(repr, typing.get_args(hint)))}, got {value!r}")
    if origin is tuple and isinstance(value, list):
        return tuple(fitting(item, _item_hint(hint)) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return {key: fitting(item, _item_hint(hint)) for key, item in value.items()}
    if hint is float and type(value) in (int, float):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"expected {_name(hint)}, got {value!r}")


def _any_of(value: Any, hints: Sequence[Any]) -> Any:
    for hint in hints:
        try:
            return fitting(value, hint)
        except ValueError:
            continue
    raise ValueError(f"expected {' or '.join(map(_name, hints))}, got {value!r}")


def _name(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return "a list"
    if origin is not None:
        return "an object"
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"a {hint.__name__} (set its parts)"
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    return names.get(hint, "nothing" if hint is type(None) else str(hint))
