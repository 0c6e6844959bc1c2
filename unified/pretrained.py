"""A trained model as a folder.

    config.json, model.safetensors            the model (UnifiedConfig and its weights)
    processor.json                            order, sides, max_pixels, vocabulary, names of the files below
    text_tokenizer.json                       Hugging Face `tokenizers`
    visual_config.json, visual.safetensors    the visual tokenizer: its kind, its configuration, its weights
    action.json                               ActionConfig

Whatever is missing or does not fit raises ValueError in one line that names the file.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from unified import adapters
from unified.checkpoints.state_dict import load_strict, read_safetensors
from unified.config import UnifiedConfig
from unified.model import UnifiedModel
from unified.stream.migration import migrated, weight_name
from unified.stream.processor import Processor
from unified.stream.vocabulary import Vocabulary
from unified.text_files import content_of, read_object
from unified.tokenizers.action import ActionConfig, ActionTokenizer
from unified.tokenizers.residual_vq import ResidualVQConfig, ResidualVQTokenizer
from unified.tokenizers.text import load_text_tokenizer
from unified.tokenizers.vq import VQConfig, VQTokenizer

SHIPPED = Path(__file__).resolve().parent / "weights" / "nano"
SHIPPED_NAME = "shipped"  # what it is called in recipes and by adapters, wherever the package lies
VISUAL: dict[str, tuple[Any, Callable[..., Any]]] = {
    "vq": (VQConfig, VQTokenizer),
    "residual_vq": (ResidualVQConfig, ResidualVQTokenizer),
}
FILES = {"text": "text_tokenizer.json", "visual": "visual_config.json", "action": "action.json"}
CONFIG, WEIGHTS, PROCESSOR, VISUAL_WEIGHTS = (
    "config.json",
    "model.safetensors",
    "processor.json",
    "visual.safetensors",
)


# Finding --------------------------------------------------------------------------------------------------


def find(model: str | Path | None = None) -> Path:
    """The folder of a model: the shipped one, a folder on disk, or a name on the hub (downloaded unless
    offline). ValueError, in one line, if there is none."""
    if model is None or str(model) == SHIPPED_NAME:
        if not (SHIPPED / CONFIG).is_file():
            raise ValueError(
                "no trained weights are shipped with this copy of the package: name a folder or a hub model"
            )
        return SHIPPED
    folder = Path(model)
    if folder.is_dir():
        return folder
    if folder.exists() or str(model).count("/") != 1 or str(model).startswith((".", "/")):
        raise ValueError(f"{model}: no such model folder")
    return _download(str(model))


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the hub has a dozen error types; each is a reason why there is no model
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(f"{name}: neither a folder nor a model that the hub gives out ({reason})") from None


# Loading --------------------------------------------------------------------------------------------------


def load_model(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[UnifiedModel, Processor]:
    """The model in evaluation mode and its processor. The tokenizers stay on the CPU in their own type. A
    folder of adapters (`peft`) is the model that it names with the adapters merged."""
    folder = Path(folder)
    if (folder / adapters.CONFIG).is_file() and not (folder / CONFIG).is_file():
        return _load_adapted(folder, device, dtype)
    processor = load_processor(folder)
    config = _config(folder / CONFIG)
    if config.words != processor.vocabulary:
        raise ValueError(f"{folder}: {CONFIG} and {PROCESSOR} have different vocabularies")
    with content_of(folder / CONFIG):
        model = UnifiedModel(config)
    _load_weights(model, folder / WEIGHTS, weight_name)
    model.name_or_path = SHIPPED_NAME if folder == SHIPPED else str(folder)  # the base of its adapters
    return model.to(device=device, dtype=dtype).eval(), processor  # type: ignore[call-arg]


def _load_adapted(
    folder: Path, device: str | torch.device, dtype: torch.dtype
) -> tuple[UnifiedModel, Processor]:
    """A base model with the adapters of a folder merged in float32; the folder's own processor, if it has
    one."""
    base = find(adapters.base_of(folder))
    model, processor = load_model(base)
    own = load_processor(folder) if (folder / PROCESSOR).is_file() else processor
    if own.vocabulary != processor.vocabulary:
        raise ValueError(f"{folder}: its vocabulary is not that of {base}")
    adapters.merge_folder(model, folder)
    return model.to(device=device, dtype=dtype).eval(), own  # type: ignore[call-arg]


def load_processor(folder: str | Path) -> Processor:
    """The tokenizers of a folder behind one pair of calls."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such model folder")
    if (folder / WEIGHTS).is_file() and not (folder / PROCESSOR).is_file():
        raise ValueError(
            f"{folder} has weights but no {PROCESSOR}: give Trainer processing_class=processor, or call "
            "processor.save_pretrained(FOLDER)"
        )
    with content_of(folder / PROCESSOR):
        data = migrated(_read_json(folder / PROCESSOR))
        names = {name: _file_name(data, name) for name in FILES}
    words = _vocabulary(folder, data)
    visual = _visual(folder, names["visual"]) if names["visual"] else None
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
    if "vocabulary" not in data:
        return _config(folder / CONFIG).words
    with content_of(folder / PROCESSOR):
        return Vocabulary(**data["vocabulary"])


def _config(path: Path) -> UnifiedConfig:
    data = _read_json(path)
    if data.get("model_type") != UnifiedConfig.model_type:
        raise ValueError(f"{path}: model_type is {data.get('model_type')!r}, expected 'unified'")
    with content_of(path):
        return UnifiedConfig.from_dict(data)


def _load_weights(module: torch.nn.Module, path: Path, rename: Callable[[str], str] | None = None) -> None:
    index = path.with_name(path.name + ".index.json")
    parts = [path]
    if index.is_file() and not path.is_file():
        with content_of(index):
            parts = [path.with_name(name) for name in sorted(set(_read_json(index)["weight_map"].values()))]
    state = {name: value for part in parts for name, value in read_safetensors(part).items()}
    state = adapters.merged(state, path.parent)
    try:
        load_strict(module, state, rename)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _visual(folder: Path, name: str) -> Any:
    path = folder / name
    data = _read_json(path)
    kind = data.pop("kind", "vq")
    if not isinstance(kind, str) or kind not in VISUAL:
        raise ValueError(f"{path}: unknown kind {kind!r:.60}: choose one of {', '.join(VISUAL)}")
    config, build = VISUAL[kind]
    with content_of(path):
        weights = folder / data.pop("weights", VISUAL_WEIGHTS)
        tokenizer = build(_dataclass(config, data)).eval().requires_grad_(False)
    _load_weights(tokenizer, weights)
    return tokenizer


def _action(path: Path) -> ActionTokenizer:
    with content_of(path):
        return ActionTokenizer(_dataclass(ActionConfig, _read_json(path)))


def _dataclass(kind: Any, data: Any) -> Any:
    """A configuration from plain data, parts within parts; lists stand for tuples."""
    if not isinstance(data, dict):
        raise ValueError(f"{kind.__name__} must be an object, got {type(data).__name__}")
    hints, values = typing.get_type_hints(kind), {}
    for name, value in data.items():
        parts = [hint for hint in (hints.get(name), *typing.get_args(hints.get(name))) if is_dataclass(hint)]
        if parts and (value is not None or type(None) not in typing.get_args(hints[name])):
            value = _dataclass(parts[0], value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return read_object(path)


# Saving ---------------------------------------------------------------------------------------------------


def save_model(
    folder: str | Path, model: UnifiedModel, processor: Processor, *, dtype: torch.dtype | None = None
) -> None:
    """Write a model and its processor. `dtype`: that of the stored weights of the model (bfloat16 halves
    them); the visual tokenizer keeps its own (stored in half the room where that loses nothing)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = model.dtype if dtype is None else dtype
    state = {name: value.detach().cpu().to(kept).contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    save_processor(folder, processor)


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
        _save_visual(folder, processor.visual)
        data["visual"] = FILES["visual"]
    if processor.action is not None:
        config = getattr(processor.action, "config", None)
        if not isinstance(config, ActionConfig):
            raise ValueError(f"no file format for an action tokenizer {type(processor.action).__name__}")
        _write_json(folder / FILES["action"], asdict(config))
        data["action"] = FILES["action"]
    _write_json(folder / PROCESSOR, data)


def compact(value: torch.Tensor) -> torch.Tensor:
    """A tensor to be stored: in bfloat16 if no bit is lost by it, otherwise as it is."""
    value = value.detach().cpu().contiguous()
    half = value.bfloat16()
    return half if value.dtype == torch.float32 and torch.equal(half.float(), value) else value


def _text_backend(text: Any) -> Any:
    backend = getattr(text, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"no file format for a text tokenizer {type(text).__name__}")
    return backend


def _save_visual(folder: Path, visual: Any) -> None:
    kind = next((name for name, (config, _) in VISUAL.items() if type(visual.config) is config), None)
    if kind is None:
        raise ValueError(f"no file format for a visual tokenizer {type(visual).__name__}")
    state = {name: compact(value) for name, value in visual.state_dict().items()}
    save_file(state, folder / VISUAL_WEIGHTS, metadata={"format": "pt"})
    data = asdict(visual.config)
    _write_json(folder / FILES["visual"], {"kind": kind, **data})


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
