"""A processor as files: `processor.json` and the tokenizers that it names, see `unified.pretrained`.

Whatever is missing or does not fit raises ValueError in one line that names the file.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.file_names import CONFIG, PROCESSOR
from unified.stream.migration import migrated
from unified.stream.visual_files import (
    VISUAL_CONFIG,
    compact,
    dataclass_of,
    load_visual,
    read_json,
    save_visual,
    write_json,
)
from unified.stream.vocabulary import Vocabulary
from unified.text_files import content_of
from unified.tokenizers.action import ActionConfig, ActionTokenizer
from unified.tokenizers.text import load_text_tokenizer

if TYPE_CHECKING:
    from unified.stream.processor import Processor

FILES = {"text": "text_tokenizer.json", "visual": VISUAL_CONFIG, "action": "action.json"}


__all__ = ["FILES", "compact", "load_processor", "load_visual", "read_json", "save_processor", "save_visual"]


# Loading --------------------------------------------------------------------------------------------------


def load_processor(folder: str | Path) -> Processor:
    """The tokenizers of a folder behind one pair of calls."""
    from unified.stream.processor import Processor

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such model folder")
    if not (folder / PROCESSOR).is_file() and any(folder.glob("model*.safetensors")):
        config = folder / "config.json"
        if not config.is_file():
            raise ValueError(f"{folder} has weights but no config.json, which says what model they are of")
        if (kind := read_json(config).get("model_type")) != "unified":
            raise ValueError(f"{config}: model_type is {kind!r}, which is no model that is known here")
        raise ValueError(
            f"{folder} has weights but no {PROCESSOR}: give Trainer processing_class=processor, or call "
            "processor.save_pretrained(FOLDER)"
        )
    with content_of(folder / PROCESSOR):
        data = migrated(read_json(folder / PROCESSOR))
        names = {name: _file_name(data, name) for name in FILES}
    words = _vocabulary(folder, data)
    visual = load_visual(folder, names["visual"]) if names["visual"] else None
    action = _action(folder / names["action"]) if names["action"] else None
    with content_of(folder / names["text"]):
        text = load_text_tokenizer(folder / names["text"])
    with content_of(folder / PROCESSOR):
        return Processor(
            words,
            text,
            visual,
            action,
            order=data.get("order", "next_scale"),
            sides=_whole_numbers(data, "sides"),
            frame_sides=_whole_numbers(data, "frame_sides"),
            max_pixels=data.get("max_pixels"),
        )


def _file_name(data: dict[str, Any], name: str) -> str:
    """What `processor.json` calls a file, "" for none."""
    value = data.get(name, FILES[name] if name == "text" else None)
    if value is None and name != "text":
        return ""
    if not isinstance(value, str) or Path(value).name != value:
        raise ValueError(f"{name} must name a file in the same folder, got {value!r:.60}")
    return value


def _whole_numbers(data: dict[str, Any], name: str) -> tuple[int, ...] | None:
    value = data.get(name)
    if value is not None and not (isinstance(value, list) and all(type(item) is int for item in value)):
        raise ValueError(f"{name} must be a list of whole numbers, got {value!r:.60}")
    return None if value is None else tuple(value)


def _vocabulary(folder: Path, data: dict[str, Any]) -> Vocabulary:
    """That of `processor.json` or, where it names none, of the model's `config.json`."""
    name = PROCESSOR if "vocabulary" in data else CONFIG
    with content_of(folder / name):
        return Vocabulary(**(data if name == PROCESSOR else _of_model(folder / name))["vocabulary"])


def _of_model(path: Path) -> dict[str, Any]:
    return {"vocabulary": {}, **migrated(read_json(path))}


def _action(path: Path) -> ActionTokenizer:
    with content_of(path):
        return ActionTokenizer(dataclass_of(ActionConfig, read_json(path)))


# Saving ---------------------------------------------------------------------------------------------------


def save_processor(folder: str | Path, processor: Processor) -> None:
    """Write the tokenizers and `processor.json`. ValueError for a tokenizer of a kind that has no file
    format."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sides = processor.sides
    data: dict[str, Any] = {
        "order": processor.order,
        "sides": None if sides is None else list(sides),
        "vocabulary": processor.vocabulary.to_dict(),
        "text": FILES["text"],
    }
    if processor.frame_sides is not None:
        data["frame_sides"] = list(processor.frame_sides)
    if processor.max_pixels is not None:
        data["max_pixels"] = processor.max_pixels
    _text_backend(processor.stream.text).save(str(folder / FILES["text"]))
    if processor.visual is not None:
        save_visual(processor.visual, folder)
        data["visual"] = FILES["visual"]
    if processor.action is not None:
        config = getattr(processor.action, "config", None)
        if not isinstance(config, ActionConfig):
            raise ValueError(f"no file format for an action tokenizer {type(processor.action).__name__}")
        write_json(folder / FILES["action"], asdict(config))
        data["action"] = FILES["action"]
    write_json(folder / PROCESSOR, data)


def _text_backend(text: Any) -> Any:
    backend = getattr(text, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"no file format for a text tokenizer {type(text).__name__}")
    return backend
