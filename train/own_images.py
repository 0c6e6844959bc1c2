"""Folders of images, or of clips, as one array on disk: what a tokenizer is trained on.

Images are read as everywhere (`tokenizers.picture_files`), cut to their middle square and resized. Clips are
videos, animations and folders of frames, cut into pieces of equal length without overlap. Which of them are
held out is decided by their names, so it does not change when others are added.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from unified.tasks.outside.images import read_image
from unified.tasks.outside.picture_folders import clip_frames, found_files
from unified.train.pictures import mapped
from unified.train.stored import write_text

CHUNK = 64  # files that a process reads at once


@dataclass(frozen=True, kw_only=True)
class Reading:
    """`size` of images in pixels; `frames` of a clip, 0 for images; `validation`: share of the files that is
    held out; `skip_bad` leaves files out that cannot be read."""

    size: int = 64
    frames: int = 0
    validation: float = 0.05
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise ValueError(f"size must be 8 to 4096 pixels, got {self.size}")
        if self.frames < 0 or not 0 <= self.validation < 1:
            raise ValueError("frames must not be negative, and validation lie in [0, 1)")


@dataclass(frozen=True, eq=False)
class Pictures:
    """`array` uint8 [N, (T,) size, size, 3]; the rows to `train` on and to measure on; `left_out`: files that
    could not be read."""

    array: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    left_out: int


def prepared(folders: Sequence[Path], reading: Reading, out: Path, workers: int = 1) -> Pictures:
    """Read once and kept in `out`; read anew when files were added, changed or removed. ValueError, in one
    line, for folders without images and for a file that cannot be read."""
    files = found_files(folders, clips=reading.frames > 0)
    key = _key(files, reading)
    index, data = out / f"{key}.json", out / f"{key}.u8"
    if not index.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_text(index, json.dumps(_written(files, reading, data, workers)))
    held = json.loads(index.read_text(encoding="utf-8"))
    shape = (reading.frames,) if reading.frames else ()
    rows = sum(held["rows"])
    array = np.memmap(data, np.uint8, "r", shape=(rows, *shape, reading.size, reading.size, 3))
    out_of_training = np.repeat(_held_out(held["names"], reading.validation), held["rows"])
    places = np.arange(rows)
    if out_of_training.all():
        raise ValueError("no image is left to train on: lower --validation, or add images")
    return Pictures(array, places[~out_of_training], places[out_of_training], held["left_out"])


def feed(pictures: Pictures, batch: int, seed: int, start: int = 0, flip: bool = False) -> Iterator[Tensor]:
    """Endless batches float [batch, 3, (T,) H, W] in [-1, 1] of the images to train on; batch number n is the
    same wherever one starts. `flip`: half of them mirrored."""
    step = start
    while True:
        rng = np.random.default_rng([seed, step])
        rows = pictures.train[rng.integers(len(pictures.train), size=batch)]
        images = as_floats(np.stack([pictures.array[row] for row in rows]))
        mirrored = torch.from_numpy(rng.random(batch) < 0.5)
        yield (
            torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)
            if flip
            else images
        )
        step += 1


def as_floats(array: np.ndarray) -> Tensor:
    """uint8 [B, (T,) H, W, 3] -> float [B, 3, (T,) H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(array)).movedim(-1, 1).float() / 127.5 - 1


def _written(files: Sequence[Path], reading: Reading, data: Path, workers: int) -> dict[str, object]:
    """Reads all files into one; how many rows each has."""
    jobs = [(files[start : start + CHUNK], reading) for start in range(0, len(files), CHUNK)]
    partial = data.with_name(f"{data.name}.part")
    counts: list[int] = []
    with partial.open("wb") as file:
        for chunk in mapped(_read, jobs, workers):
            for content, rows in chunk:
                file.write(content)
                counts.append(rows)
    if not sum(counts):
        raise ValueError(f"none of {len(files)} files can be used: they are damaged, or shorter than a clip")
    partial.replace(data)
    return {"names": list(map(str, files)), "rows": counts, "left_out": counts.count(0)}


def _read(job: tuple[Sequence[Path], Reading]) -> list[tuple[bytes, int]]:
    """Of each file its pixels, and how many rows they are."""
    files, reading = job
    found = []
    for path in files:
        try:
            array = _clips(path, reading) if reading.frames else read_image(path, reading.size)[None]
        except ValueError as error:
            if not reading.skip_bad:
                reason = str(error).removeprefix(f"{path}: ")
                raise ValueError(f"{path}: {reason} (--skip-bad leaves such files out)") from None
            array = np.zeros((0,), np.uint8)
        found.append((array.tobytes(), len(array)))
    return found


def _clips(path: Path, reading: Reading) -> np.ndarray:
    """[n, T, size, size, 3]. ValueError for fewer frames than a clip has."""
    frames = list(clip_frames(path, reading.size))
    count = len(frames) // reading.frames
    if not count:
        raise ValueError(f"{len(frames)} frames, a clip has {reading.frames}")
    whole = np.stack(frames[: count * reading.frames])
    return whole.reshape(count, reading.frames, *whole.shape[1:])


def _held_out(names: Sequence[str], share: float) -> np.ndarray:
    """Which files are held out, bool [N]: at least one of several where there is a share, never all."""
    marks = np.array([zlib.crc32(Path(name).name.encode()) % 10000 for name in names])
    if len(names) == 1:
        return np.zeros(1, dtype=bool)
    held = marks < 10000 * share
    if share:
        held[marks.argmin()] = True
        held[marks.argmax()] = False
    return held


def _key(files: Sequence[Path], reading: Reading) -> str:
    digest = hashlib.sha256(repr((reading.size, reading.frames, reading.skip_bad)).encode())
    for path in files:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                state = file.stat()
                digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
