"""Visual tokenizers side by side: PSNR, SSIM, LPIPS, use of codes and legibility of text, by domain.

Every tokenizer is fed the same pictures, drawn at its own side, and is compared with what it was fed, as
VTBench does (arXiv 2505.13439). Bits of an image are its codes times log2 of the codebook: they make
tokenizers of different length and vocabulary comparable. Codes are counted over the images that are measured.
Tokenizers of clips see clips of the voxel world, whose frames are compared one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unified.eval.measurement import DATA_SEED, Cell, Example, Result, Table
from unified.eval.metrics.codebook import CodeCount
from unified.eval.metrics.images import pooled_psnr, psnr, ssim
from unified.eval.metrics.lpips import LPIPS
from unified.eval.metrics.rates import mean
from unified.eval.suites.tokenizer import held_out
from unified.eval.suites.vtbench import legibility
from unified.eval.text_reader import Tesseract, TextReader
from unified.tasks.outside.images import read_image
from unified.tasks.outside.picture_folders import clip_frames, found_files
from unified.tasks.worlds.clips import WorldConfig, watch
from unified.tokenizers.clips import clip_pixels
from unified.tokenizers.images import to_uint8
from unified.tokenizers.reconstruction import frames_of, reconstruct, side_of

from unified.pretrained import load_tokenizer

BATCH = 16
SHOWN = 6  # pictures of a row
LEAST_SIDE = 32  # of LPIPS
HEADER = ("tokenizer", "domain", "side", "codes", "bits", "PSNR, dB (mean)", "PSNR, dB (pooled)", "SSIM")


@dataclass(frozen=True, eq=False)
class Subject:
    """A tokenizer, and the side in pixels of the images that it is measured on."""

    tokenizer: Any
    side: int


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """`count` images of a domain; `data`: domains of one's own, folders by name; `lpips`, if there is one;
    `reader` of text: None for Tesseract where it is installed. `text_alone`: text through the tokenizers
    (VTBench) and no other domain."""

    count: int = 64
    split: str = "test"
    data: Mapping[str, Path] = field(default_factory=dict)
    lpips: LPIPS | None = None
    reader: TextReader | None = None
    text_alone: bool = False


def subject_of(folder: Path, size: int) -> Subject:
    """Measured at its own side, or at `size` if it takes any. ValueError for a size that is no multiple of
    its stride."""
    tokenizer = load_tokenizer(folder)
    side = side_of(tokenizer) or size
    if side % tokenizer.stride:
        raise ValueError(f"{folder}: --size must be a multiple of {tokenizer.stride}, got {size}")
    return Subject(tokenizer, side)


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """`[NAME=]PATH` as paths by name. ValueError for a path that is not there."""
    found: dict[str, Path] = {}
    for text in texts:
        name, sign, rest = text.partition("=")
        if not sign or Path(text).exists():
            name, rest = Path(text).resolve().name, text
        if not Path(rest).exists():
            raise ValueError(f"{rest}: no such file or folder")
        found[name] = Path(rest)
    return found


def bench(subjects: Mapping[str, Subject], config: BenchConfig) -> Result:
    """All tokenizers in all domains. ValueError without any, and for tokenizers of clips where text alone is
    asked for."""
    if not subjects:
        raise ValueError("name at least one folder of a tokenizer")
    if config.text_alone:
        return _text_alone(subjects, config)
    numbers: dict[str, Any] = {}
    examples: dict[str, list[Example]] = {}
    left_out: list[str] = []
    for name, subject in subjects.items():
        numbers[name] = {}
        for domain, images in _domains(subject, config).items():
            try:
                truths = list(islice(images, config.count))
            except ValueError as error:
                if domain in config.data:
                    raise
                left_out.append(f"{domain} of {subject.side} pixels are left out: {error}.")
                continue
            found, made = measured(subject, truths, config.lpips)
            numbers[name][domain] = found
            rows = examples.setdefault(domain, [Example(f"{domain}: as they are", _frames(truths)[:SHOWN])])
            rows.append(Example(f"{domain}: {name}", made[:SHOWN]))
    tables = [_table(numbers, config)]
    text, notes, _ = _text(subjects, config)
    if text is not None:
        tables.append(text)
    notes += dict.fromkeys(left_out)
    if config.lpips is None:
        notes.append("LPIPS was not measured: give its weights as --lpips BACKBONE LINEAR.")
    numbers = {"tokenizers": numbers, "text": text.rows if text else []}
    shown = [row for rows in examples.values() for row in rows]
    return Result(numbers=numbers, tables=tables, examples=shown, notes=notes)


def measured(
    subject: Subject, truths: Sequence[np.ndarray], lpips: LPIPS | None = None
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Of images uint8 [H, W, 3], or clips [T, H, W, 3]: the numbers, and the frames as they come back."""
    tokenizer = subject.tokenizer
    count = CodeCount(tokenizer.codes) if tokenizer.codes else None
    made: list[np.ndarray] = []
    codes = 0
    for start in range(0, len(truths), BATCH):
        pixels, codes = _passed(tokenizer, np.stack(truths[start : start + BATCH]), count)
        made += list(pixels)
    shown = _frames(truths)
    pairs = list(zip(made, shown, strict=True))
    found: dict[str, Any] = {
        "side": subject.side,
        "images": len(shown),
        "codes": codes or None,
        "bits": codes * math.log2(tokenizer.codes) if count else None,
        "psnr": mean(psnr(*pair) for pair in pairs),
        "psnr_pooled": pooled_psnr(made, shown),
        "ssim": mean(ssim(*pair) for pair in pairs),
        "usage": count.usage if count else None,
        "perplexity": count.perplexity if count else None,
    }
    if lpips is not None and subject.side >= LEAST_SIDE:
        found[lpips.name] = mean(lpips(np.stack(made), np.stack(shown)))
    return found, made


def _passed(tokenizer: Any, batch: np.ndarray, count: CodeCount | None) -> tuple[np.ndarray, int]:
    """A batch through a tokenizer, as frames; how many codes one image (or clip) is read from."""
    images = torch.from_numpy(batch).movedim(-1, 1).float() / 127.5 - 1
    found = reconstruct(tokenizer, images)
    read = tokenizer.read_shapes(found.shapes) if count else []
    if count is not None:
        for ids in found.ids[-len(read) :]:
            count.add(ids.numpy())
    frames = clip_pixels(found.images) if images.ndim == 5 else to_uint8(found.images)
    return frames.reshape(-1, *frames.shape[-3:]), sum(h * w for h, w in read)


def _domains(subject: Subject, config: BenchConfig) -> dict[str, Iterator[np.ndarray]]:
    """Pictures of the subject's side by domain; clips for a tokenizer of clips."""
    side, frames = subject.side, frames_of(subject.tokenizer)
    if frames:
        found: dict[str, Iterator[np.ndarray]] = {"clips": _clips(side, frames, config.split)}
        own: Callable[[Path], Iterator[np.ndarray]] = lambda path: _own_clips(path, side, frames)  # noqa: E731
    else:
        found = held_out(side, config.split)
        own = lambda path: _own_images(path, side)  # noqa: E731
    return found | {name: own(path) for name, path in config.data.items()}


def _clips(side: int, frames: int, split: str) -> Iterator[np.ndarray]:
    config, index = WorldConfig(size=side, seed=DATA_SEED, frames=frames), 0
    while True:
        yield watch(config, index, split).frames[:frames]
        index += 1


def _own_images(path: Path, side: int) -> Iterator[np.ndarray]:
    for file in found_files([path], clips=False):
        yield read_image(file, side)


def _own_clips(path: Path, side: int, frames: int) -> Iterator[np.ndarray]:
    for file in found_files([path], clips=True):
        shown = list(islice(clip_frames(file, side), frames))
        if len(shown) == frames:
            yield np.stack(shown)


def _frames(truths: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [frame for truth in truths for frame in (truth if truth.ndim == 4 else [truth])]


def _table(numbers: Mapping[str, Mapping[str, Any]], config: BenchConfig) -> Table:
    distance = [config.lpips.name] if config.lpips else []
    keys = ["side", "codes", "bits", "psnr", "psnr_pooled", "ssim", *distance, "usage", "perplexity"]
    rows: list[list[Cell]] = [
        [name, domain, *(found.get(key) for key in keys)]
        for name, domains in numbers.items()
        for domain, found in domains.items()
    ]
    header = [*HEADER, *distance, "code usage", "perplexity"]
    return Table(f"Tokenizers: {config.count} images a domain", header, rows)


def _text_alone(subjects: Mapping[str, Subject], config: BenchConfig) -> Result:
    text, notes, examples = _text(subjects, config)
    if text is None:
        raise ValueError("tokenizers of clips have no text to be read: name one of images")
    numbers = {"tokenizers": {}, "text": text.rows}
    return Result(numbers=numbers, tables=[text], examples=examples, notes=notes)


def _text(
    subjects: Mapping[str, Subject], config: BenchConfig
) -> tuple[Table | None, list[str], list[Example]]:
    """Random strings through every tokenizer of images, why they were not read, if they were not, and
    examples."""
    reader, obstacle = config.reader, ""
    if reader is None:
        try:
            reader = Tesseract()
        except ValueError as error:
            obstacle = str(error)
    rows: list[list[Cell]] = []
    examples: list[Example] = []
    for name, subject in subjects.items():
        if frames_of(subject.tokenizer):
            continue
        found = legibility(_through(subject), reader, subject.side, config.count, obstacle)
        examples += [Example(f"{name}, {one.words}", one.pictures) for one in found.examples]
        for height, values in found.numbers.items():
            rates = [values.get(key) for key in ("cer", "cer_of_original", "wer")]
            rows.append([name, height, values["psnr_pooled"], values["ssim"], *rates])
    notes = [f"Legibility of text was not measured: {obstacle}."] if obstacle and rows else []
    if not rows:
        return None, notes, []
    header = ["tokenizer", "points", "PSNR, dB (pooled)", "SSIM", "CER", "CER of the original", "WER"]
    return Table(f"Text: {config.count} images a height of letters", header, rows), notes, examples


def _through(subject: Subject) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: _passed(subject.tokenizer, images, None)[0]
