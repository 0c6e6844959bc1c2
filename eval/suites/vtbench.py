"""Text through the visual tokenizer alone, after VTBench (arXiv 2505.13439): random strings in letters of
some heights are drawn, encoded and decoded, and read.

Strings are random, since a reader guesses the rest of a word it knows. Character and word error rates are
against the true string; the same of the original image is the reader's own error, below which no difference
means anything. VTBench's rates take the reading of the original for the truth, and its word error rate counts
characters (`unified.eval.metrics.legibility`). PSNR and SSIM are of the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from unified.eval.measurement import DATA_SEED, Example, Goal, Result, Run, Table
from unified.eval.metrics.images import pooled_psnr, ssim
from unified.eval.metrics.legibility import character_errors, pooled, vtbench_word_errors, word_errors
from unified.eval.text_reader import Tesseract, TextReader
from unified.tokenizers.images import to_images, to_uint8

HEIGHTS = (10, 14, 20)  # points
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without those that look alike
BATCH = 32
ADDED = 0.1  # character errors beyond the reader's own that a tokenizer may cost
Reconstruct = Callable[[np.ndarray], np.ndarray]  # uint8 [N, H, W, 3] -> the same


def vtbench(run: Run) -> Result:
    """`count` images of each height of letters."""
    try:
        reader: TextReader | None = Tesseract()
        obstacle = ""
    except ValueError as error:
        reader, obstacle = None, str(error)
    return legibility(
        lambda images: _reconstructed(run, images), reader, run.assistant.side, run.count, obstacle
    )


def legibility(
    reconstruct: Reconstruct,
    reader: TextReader | None,
    side: int,
    count: int,
    obstacle: str = "no reader",
    seed: int = DATA_SEED,
) -> Result:
    """The suite for anything that reconstructs images of this side; without a reader the rows say the
    obstacle. `seed` of the texts."""
    numbers: dict[str, Any] = {}
    rows: list[list[Any]] = []
    examples = []
    for height in HEIGHTS:
        rng = np.random.default_rng([seed, height])
        texts = [random_text(rng, side, height) for _ in range(count)]
        truths = [drawn(text, side, height) for text in texts]
        made = [
            image for n in range(0, count, BATCH) for image in reconstruct(np.stack(truths[n : n + BATCH]))
        ]
        found: dict[str, Any] = {
            "images": count,
            "psnr_pooled": pooled_psnr(made, truths),
            "ssim": float(np.mean([ssim(*pair) for pair in zip(made, truths, strict=True)])),
        }
        found |= _rates(reader, texts, truths, made) if reader else {"not_read": obstacle}
        numbers[str(height)] = found
        read = [found[name] for name in RATES] if reader else [obstacle, *[None] * (len(RATES) - 1)]
        rows.append([height, found["psnr_pooled"], found["ssim"], *read])
        pairs = [image for pair in list(zip(truths, made, strict=True))[:4] for image in pair]
        examples.append(Example(f"letters of {height}: true and passed through the tokenizer in turn", pairs))
    header = ["height of letters", "PSNR, dB (pooled)", "SSIM", *RATES.values()]
    largest = numbers[str(HEIGHTS[-1])]
    added = largest["cer"] - largest["cer_of_original"] if reader else None
    goal = Goal(f"text of {HEIGHTS[-1]} points, CER that the tokenizer adds", added, ADDED, most=True)
    notes = [] if reader else [f"Legibility was not measured: {obstacle}."]
    title = f"Text through the tokenizer: {count} images a height"
    tables = [Table(title, header, rows)]
    return Result(numbers=numbers, tables=tables, goals=[goal], examples=examples, notes=notes)


RATES = {
    "cer": "CER",
    "cer_of_original": "CER of the original",
    "wer": "WER",
    "cer_vtbench": "CER, VTBench",
    "wer_vtbench": "WER, VTBench",
}


def _rates(
    reader: TextReader, texts: Sequence[str], truths: Sequence[np.ndarray], made: Sequence[np.ndarray]
) -> dict[str, float]:
    original, read = ([reader.read(image) for image in images] for images in (truths, made))
    found = {
        "cer": pooled(map(character_errors, read, texts)),
        "cer_of_original": pooled(map(character_errors, original, texts)),
        "wer": pooled(map(word_errors, read, texts)),
        "cer_vtbench": pooled(map(character_errors, read, original)),
        "wer_vtbench": pooled(map(vtbench_word_errors, read, original)),
    }
    return {name: rate.rate for name, rate in found.items()}


def random_text(rng: np.random.Generator, side: int, height: int) -> str:
    """One line for each height that fits, as many letters as surely fit."""
    lines, letters = max(1, side // (height + height // 2)), max(1, side // height)
    return "\n".join("".join(rng.choice(list(LETTERS), letters)) for _ in range(lines))


def drawn(text: str, side: int, height: int) -> np.ndarray:
    """Black on white, uint8 [side, side, 3]."""
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(height)
    for number, line in enumerate(text.split("\n")):
        pen.text((2, 1 + number * (height + height // 2)), line, fill="black", font=font)
    return np.asarray(picture)


@torch.no_grad()
def _reconstructed(run: Run, images: np.ndarray) -> np.ndarray:
    visual = run.assistant.visual
    cells = run.assistant.side // visual.stride
    shapes = run.assistant.processor.schedule((cells, cells))
    maps = visual.encode(to_images(images).to(visual.codebook().device), shapes)
    read = visual.read_shapes(shapes)
    return to_uint8(visual.decode_maps(maps[-len(read) :], read))
