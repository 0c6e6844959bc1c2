"""A trained model as a folder.

    config.json, model.safetensors            the model (UnifiedConfig and its weights)
    processor.json                            order, sides, max_pixels, vocabulary, names of the files below
    text_tokenizer.json                       Hugging Face `tokenizers`
    visual_config.json, visual.safetensors    the visual tokenizer: its kind, its configuration, its weights
    action.json                               ActionConfig

Of a pretrained model that was extended, the weights are what is new (`vision_language.extension`).
Whatever is missing or does not fit raises ValueError in one line that names the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from unified import adapters
from unified.config import UnifiedConfig
from unified.core_model import CoreModel
from unified.file_names import CONFIG, PROCESSOR, SHIPPED, SHIPPED_NAME, WEIGHTS
from unified.stream.migration import weight_name
from unified.stream.processor import Processor
from unified.stream.processor_files import load_processor, read_json, save_processor
from unified.stream.visual_files import VISUAL_CONFIG, load_visual
from unified.text_files import at_home, content_of
from unified.weight_files import built

if TYPE_CHECKING:
    from unified.model import UnifiedModel

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model"]  # nothing that could be run


# Finding --------------------------------------------------------------------------------------------------


def find(model: str | Path | None = None, revision: str | None = None) -> Path:
    """The folder of a model: the shipped one, a folder on disk, or a name on the hub (downloaded unless
    offline; `revision`: a branch, tag or commit there). ValueError, in one line, if there is none."""
    if model is None or str(model) == SHIPPED_NAME:
        if not (SHIPPED / CONFIG).is_file():
            raise ValueError(
                "no trained weights are shipped with this copy of the package: name a folder or a hub model"
            )
        return SHIPPED
    if not str(model).strip():
        raise ValueError("the name of the model is empty: name a folder or a hub model")
    folder = at_home(model)
    if folder.is_dir():
        return folder
    if folder.exists() or str(model).count("/") != 1 or str(model).startswith((".", "/", "~")):
        raise ValueError(f"{model}: no such model folder")
    return _download(str(model), revision)


def load_tokenizer(folder: str | Path) -> Any:
    """The visual tokenizer of a folder, frozen: one that was trained (`visual_config.json`), that of a saved
    model, or a published one (`checkpoints.published_tokenizers`). ValueError, in one line, for any other."""
    folder = at_home(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    if (folder / VISUAL_CONFIG).is_file():
        return load_visual(folder)
    if (folder / PROCESSOR).is_file():
        visual = load_processor(folder).visual
        if visual is None:
            raise ValueError(f"{folder}: this model has no visual tokenizer")
        return visual
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder}: neither {VISUAL_CONFIG} nor {CONFIG} lies there")
    from unified.checkpoints.published_tokenizers import load_published

    return load_published(folder)


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except LocalEntryNotFoundError:
        raise ValueError(
            f"{name}: neither a folder nor a model that is stored here, and the hub cannot be reached: where "
            f"it can, run `hf download {name} --local-dir FOLDER`, then copy FOLDER here and name it"
        ) from None
    except Exception as error:  # the hub has a dozen error types; each is a reason why there is no model
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ValueError(f"{name}: neither a folder nor a model that the hub gives out ({reason})") from None


# Loading --------------------------------------------------------------------------------------------------


def load_model(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[UnifiedModel, Processor]:
    """The model in evaluation mode and its processor. The tokenizers stay on the CPU in their own type. A
    folder of adapters (`peft`) is the model that it names with the adapters merged."""
    from unified.model import UnifiedModel

    return _load(UnifiedModel, folder, device, dtype)


def load_core(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Any, Processor]:
    """As `load_model`, without what only the trainers and the hub of `transformers` need, whose import takes
    longer than torch's: a `CoreModel`; a `UnifiedModel` of a folder that extends a pretrained model."""
    return _load(CoreModel, folder, device, dtype)


def _load(
    kind: type[CoreModel], folder: str | Path, device: str | torch.device, dtype: torch.dtype
) -> tuple[Any, Processor]:
    folder = Path(folder)
    if (folder / adapters.CONFIG).is_file() and not (folder / CONFIG).is_file():
        return _load_adapted(kind, folder, device, dtype)
    processor = load_processor(folder)
    config = _config(folder / CONFIG)
    if config.words != processor.vocabulary:
        raise ValueError(f"{folder}: {CONFIG} and {PROCESSOR} have different vocabularies")
    if config.base:
        from unified.vision_language.extension import load_extension

        extended = load_extension(folder, config, base_folder(config), dtype=dtype)
        extended.name_or_path = str(folder)
        return extended.to(device), processor  # type: ignore[arg-type]

    def build() -> CoreModel:
        with content_of(folder / CONFIG):
            return kind(config)

    forms: Any = (weight_name, lambda state: adapters.merged(state, folder))
    model = built(build, folder / WEIGHTS, *forms)
    model.name_or_path = SHIPPED_NAME if folder == SHIPPED else str(folder)  # the base of its adapters
    return model.to(device=device, dtype=dtype).eval(), processor  # type: ignore[call-arg]


def _load_adapted(
    kind: type[CoreModel], folder: Path, device: str | torch.device, dtype: torch.dtype
) -> tuple[Any, Processor]:
    """A base model with the adapters of a folder merged in float32; the folder's own processor, if it has
    one."""
    base = find(adapters.base_of(folder))
    if base.resolve() == folder.resolve():
        raise ValueError(f"{folder / adapters.CONFIG}: the adapters name themselves as their base")
    model, processor = _load(kind, base, "cpu", torch.float32)
    own = load_processor(folder) if (folder / PROCESSOR).is_file() else processor
    if own.vocabulary != processor.vocabulary:
        raise ValueError(f"{folder}: its vocabulary is not that of {base}")
    adapters.merge_folder(model, folder)
    return model.to(device=device, dtype=dtype).eval(), own


def base_folder(config: Any) -> Path:
    """Where the pretrained model lies that a model extends. ValueError, in one line, if it is not there."""
    try:
        return find(config.base["source"])
    except ValueError as error:
        raise ValueError(f"the model that was extended is missing: {error}") from None


def _config(path: Path) -> UnifiedConfig:
    data = read_json(path)
    if data.get("model_type") != UnifiedConfig.model_type:
        raise ValueError(f"{path}: model_type is {data.get('model_type')!r}, expected 'unified'")
    with content_of(path):
        return UnifiedConfig.from_dict(data)


# Saving ---------------------------------------------------------------------------------------------------


def save_model(
    folder: str | Path, model: CoreModel, processor: Processor, *, dtype: torch.dtype | None = None
) -> None:
    """Write a model and its processor. `dtype`: that of the stored weights of the model (bfloat16 halves
    them); the visual tokenizer keeps its own (stored in half the room where that loses nothing)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = model.dtype if dtype is None else dtype
    if model.config.base:
        from unified.vision_language.extension import save_weights

        config: Any = model.config
        save_weights(folder, model.state_dict(), config, base_folder(config), kept)
        model.config.save_pretrained(folder)
        save_processor(folder, processor)
        return
    state = {name: value.detach().cpu().to(kept).contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    save_processor(folder, processor)


__all__ = ["SHIPPED", "find", "load_core", "load_model", "load_processor", "save_model", "save_processor"]
