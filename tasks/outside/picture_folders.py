"""Folders of pictures, and of clips: videos, animations (GIF, WebP) and folders of frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from unified.tasks.outside.images import SUFFIXES, is_foreign, read_image
from unified.tokenizers.clips import animation

VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov")
ANIMATIONS = (".gif", ".webp")


def found_files(folders: Sequence[Path], *, clips: bool) -> list[Path]:
    """Images below folders (or single files), in the order of their names; for clips videos, animations and
    folders of frames. ValueError where there are none."""
    found: list[Path] = []
    for folder in folders:
        if folder.is_file():
            found.append(folder)
            continue
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such file or folder")
        below = sorted(path for path in folder.rglob("*") if not is_foreign(path.relative_to(folder)))
        files = [path for path in below if path.is_file()]
        if clips:
            found += [path for path in files if path.suffix.lower() in (*VIDEOS, *ANIMATIONS)]
            found += sorted({path.parent for path in files if _is_frame(path)})
        else:
            found += [path for path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        wanted = "clips (videos, animations, folders of frames)" if clips else "images"
        raise ValueError(f"no {wanted} in {', '.join(map(str, folders))}")
    return found


def clip_frames(path: Path, size: int) -> Iterator[np.ndarray]:
    """The frames uint8 [size, size, 3] of a video, an animation or a folder of frames. ValueError for what
    cannot be read."""
    if path.is_dir():
        for file in sorted(filter(_is_frame, path.iterdir()), key=_natural):
            yield read_image(file, size)
        return
    if path.suffix.lower() in ANIMATIONS:
        frames: Iterator[np.ndarray] = iter(animation(path))
    else:
        from unified.envs.recordings.video import VideoReader

        frames = iter(VideoReader(path))
    for frame in frames:
        yield np.asarray(ImageOps.fit(Image.fromarray(frame), (size, size), Image.Resampling.LANCZOS))


def _is_frame(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.suffix.lower() not in ANIMATIONS


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers in names count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
