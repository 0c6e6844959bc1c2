"""Recipes as JSON, also those that were saved before there was a field or a group of fields."""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified.train.aliases import ALIASES
from unified.train.override import fitting


def to_json(recipe: Any) -> str:
    """The tree as JSON, with the class of every recipe in it."""
    return json.dumps(_plain(recipe), indent=2, ensure_ascii=False) + "\n"


def completed(stored: Any, recipe: Any) -> Any:
    """The parsed JSON of a recipe, as `recipe` would write it: fields are where they belong today, and those
    that did not exist when it was stored get their defaults."""
    if isinstance(stored, dict) and dataclasses.is_dataclass(recipe):
        stored = regrouped(stored, type(recipe).__name__)
        added = {item.name: _default(item) for item in dataclasses.fields(recipe) if item.name not in stored}
        whole = stored | {name: value for name, value in added.items() if value is not dataclasses.MISSING}
        return {name: completed(value, getattr(recipe, name, None)) for name, value in whole.items()}
    if isinstance(stored, list) and isinstance(recipe, tuple) and len(stored) == len(recipe):
        return [completed(*pair) for pair in zip(stored, recipe, strict=True)]
    return stored


def from_json(text: str, kinds: Mapping[str, type]) -> Any:
    """The recipe that `to_json` wrote, of the class among `kinds` that it names. ValueError, in one line, for
    anything else."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("recipe") not in kinds:
        raise ValueError(f'not a recipe: "recipe" must be one of {", ".join(kinds)}')
    return _built(data, kinds[data["recipe"]], "")


def _built(data: Any, hint: Any, path: str) -> Any:
    """Parsed JSON as the annotation `hint` of its place says."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [option for option in options if dataclasses.is_dataclass(option)]
    if isinstance(data, dict) and kinds:
        return _dataclass(data, _kind_of(data, kinds), path)
    if isinstance(data, list) and typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_built(value, item, f"{path}{number}.") for number, value in enumerate(data))
    try:
        return fitting(data, hint)
    except ValueError as error:
        raise ValueError(f"{path.rstrip('.')}: {error}") from None


def _kind_of(data: Mapping[str, Any], kinds: list[Any]) -> Any:
    """Among several dataclasses the one whose default `kind` the data name, else the first."""
    named = [kind for kind in kinds if "kind" in data and getattr(kind, "kind", None) == data["kind"]]
    return (named or kinds)[0]


def _dataclass(data: Mapping[str, Any], kind: Any, path: str) -> Any:
    values = {name: value for name, value in regrouped(data, kind.__name__).items() if name != "recipe"}
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise ValueError(f"{path}{name}: unknown key, {kind.__name__} has {', '.join(hints)}")
    built = {name: _built(value, hints[name], f"{path}{name}.") for name, value in values.items()}
    try:
        return kind(**built)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.rstrip('.') or 'the recipe'}: {error}") from None


def regrouped(stored: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Parsed JSON of the dataclass named `kind` with every field that it had before fields were grouped moved
    into its group."""
    aliases = ALIASES.get(kind, {})
    found = {name: value for name, value in stored.items() if name not in aliases}
    for old, (group, name) in aliases.items():
        if old in stored:
            found[group] = {name: stored[old], **found.get(group, {})}
    return found


def _default(item: dataclasses.Field[Any]) -> Any:
    """A field's default as plain data; MISSING if it has none."""
    made = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
    return made if made is dataclasses.MISSING else _plain(made)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
        kind = type(value).__name__
        return {"recipe": kind, **fields} if kind.endswith("Recipe") else fields
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
