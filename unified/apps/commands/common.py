"""What the commands share: the model options, saving pictures, and printing for people or for machines."""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from unified.apps.assistant import Assistant

NO_ANSWER = "(no answer)"
DTYPES = ("float32", "bfloat16", "float16")


def add_model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", metavar="FOLDER", help="a folder or hub name (default: the shipped model)"
    )
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    command.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 where it is fast, else float32")
    command.add_argument("--seed", type=seed, default=0, help="same seed, same answer (default 0)")
    command.add_argument("--json", action="store_true", help="print one JSON object for machines")


def seed(text: str) -> int:
    """A whole number of 0 to 2**31 - 1; for argparse."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"must be 0 to {2**31 - 1}, got {number}")
    return number


def count(text: str) -> int:
    """A whole number of at least 1; for argparse."""
    number = seed(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1, got 0")
    return number


def number(text: str, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number from `least` to `most`; for argparse."""
    try:
        found = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not least <= found <= most or math.isinf(found):
        limits = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise argparse.ArgumentTypeError(f"must be a finite number {limits}, got {text!r}")
    return found


def assistant(options: argparse.Namespace) -> Assistant:
    """The model that the options name. ValueError, in one line, if there is none."""
    from unified.apps.loading import load

    return load(options.model, device=options.device, dtype=options.dtype, seed=options.seed)


def with_adapters(options: argparse.Namespace) -> Assistant:
    """The model that the options name, with the adapters of `--adapter`. ValueError, in one line, for a file
    that does not fit, or a kind of model that has none."""
    from unified.apps.assistant import Assistant

    found = assistant(options)
    for number, text in enumerate(options.adapter):
        if not isinstance(found, Assistant):
            raise ValueError(f"--adapter is for models in this project's own form, not for {found.folder}")
        path, colon, only = text.rpartition(":")
        if not colon or Path(text).exists():
            path, only = text, ""
        name = found.load_adapter(path, f"{number}: {text}", only=only or None)
        if "condition" in found.adapters[name].options and options.command not in ("control", "upscale"):
            raise ValueError(f"{path}: this adapter reads a picture: use unified control or upscale")
    return found


def own_assistant(options: argparse.Namespace) -> Assistant:
    """The same for commands of models in this project's own form. ValueError, in one line, for another."""
    from unified.apps.assistant import Assistant

    found = assistant(options)
    if not isinstance(found, Assistant):
        raise ValueError(
            f"{options.command} is for models in this project's own form, not for {found.folder}"
        )
    return found


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given on the command line; the verbs have defaults of their own."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def words(text: str, what: str) -> str:
    if not text.strip():
        raise ValueError(f"{what} is empty")
    return text


def show(options: argparse.Namespace, lines: Sequence[str], data: dict[str, Any]) -> None:
    """Lines for people or, with --json, the data."""
    print(json.dumps(data, ensure_ascii=False) if options.json else "\n".join(lines))


def check_target(path: Path) -> Path:
    """ValueError unless a file can be written there: asked before the work begins."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    return path


def check_picture(path: Path) -> Path:
    """The same for a picture: its name must say a format that can be written."""
    from PIL import Image

    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), Image.registered_extensions()[path.suffix.lower()])
    except Exception:  # a format is unknown, only read, or not for colours: each says so in its own way
        raise ValueError(f"{path}: name a picture such as {path.stem or 'picture'}.png") from None
    return check_target(path)


def check_folder(path: Path) -> Path:
    """ValueError where a file has the name of the folder that is to be made."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: name a folder")
    return path


def save(image: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)


def save_animation(frames: Sequence[np.ndarray], path: Path, *, times: int = 4, fps: float = 10.0) -> None:
    """Frames uint8 [H, W, 3] as an animated GIF, each pixel `times` as large."""
    from PIL import Image

    large = [Image.fromarray(frame.repeat(times, axis=0).repeat(times, axis=1)) for frame in frames]
    large[0].save(path, save_all=True, append_images=large[1:], duration=round(1000 / fps), loop=0)


def plain(action: dict[str, Any]) -> dict[str, Any]:
    """An action as plain data, without the buttons that are not pressed."""
    pressed = {name: int(value) for name, value in action.items() if name != "camera" and value}
    return {**pressed, "camera": [round(float(angle), 3) for angle in action["camera"]]}


def write_picture(options: argparse.Namespace, image: np.ndarray, out: Path) -> int:
    save(image, out)
    height, width = image.shape[:2]
    show(options, [f"Wrote {out}: {width} x {height} pixels."], {"file": str(out), "size": [height, width]})
    return 0
