"""What the files of a model in this project's own form say about it. Nothing here imports torch."""

from __future__ import annotations

import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unified import __version__
from unified.file_names import CONFIG, PROCESSOR, SHIPPED, SHIPPED_NAME, VISUAL_WEIGHTS, WEIGHTS
from unified.stream.migration import migrated
from unified.text_files import at_home, content_of, read_object
from unified.tokenizers.schedules import ladder
from unified.tokenizers.stand_ins import check_file
from unified.tokenizers.tensor_sizes import tensor_sizes

SIDE = 64  # pixels of a picture of the assistant
GROWS = {"next_scale": True, "residual": True, "raster": False, "diagonal": False, "nar": False}


def described(model: str | None) -> dict[str, Any] | None:
    """What `info` says, without what depends on the machine; None for a model that has to be loaded for it: a
    hub name, one in another form, one that extends another. ValueError, in one line, for a damaged file."""
    folder = SHIPPED if model in (None, SHIPPED_NAME) else at_home(str(model))
    if not (folder / CONFIG).is_file() or not (folder / PROCESSOR).is_file():
        return None
    config, processor = migrated(read_object(folder / CONFIG)), migrated(read_object(folder / PROCESSOR))
    visual = folder / str(processor.get("visual"))
    if config.get("model_type") != "unified" or config.get("base") or not visual.is_file():
        return None
    try:
        return _described(folder, config, processor, read_object(visual))
    except (KeyError, TypeError):  # what it leaves out has a default that is known to the model
        return None


def _described(
    folder: Path, config: dict[str, Any], processor: dict[str, Any], visual: dict[str, Any]
) -> dict[str, Any]:
    words, backbone, order = config["vocabulary"], config["backbone"], processor["order"]
    network = visual.get("network") or visual["encoder"]
    stride = network["patch"] * 2 ** (len(network["multipliers"]) - 1)
    grid = (SIDE // stride, SIDE // stride)
    sides = processor["sides"]
    maps = ladder(grid, *([] if sides is None else [sides])) if GROWS[order] and sides != [] else (grid,)
    counts = [_numbers(folder / name) for name in (WEIGHTS, visual.get("weights", VISUAL_WEIGHTS))]
    return {
        "folder": str(folder),
        "parameters": sum(counts),
        "of_the_model": counts[0],
        "of_the_tokenizer": counts[1],
        "backbone": backbone["model_type"],
        "width": backbone["hidden_size"],
        "layers": backbone["num_hidden_layers"],
        "head": config["head"],
        "text_ids": words["text"],
        "visual_codes": words["visual"],
        "action_ids": words["action"] if processor.get("action") else 0,
        "stride": stride,
        "order": order,
        "maps": [list(shape) for shape in maps],
        **versions(),
    }


def _numbers(path: Path) -> int:
    """How many numbers the tensors of a file hold."""
    check_file(path)
    with content_of(path):
        return sum(math.prod(shape) for shape in tensor_sizes(path).values())


def versions() -> dict[str, str]:
    """Of this package and of what it stands on."""
    return {"unified": __version__, "torch": version("torch"), "python": platform.python_version()}
