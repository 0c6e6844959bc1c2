"""Readers of text in images, for legibility after a tokenizer: Tesseract, where it is installed.

Tesseract is asked by its command line (Debian: `apt install tesseract-ocr`); nothing of it is imported.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import Protocol

import numpy as np
from PIL import Image

LEAST_HEIGHT = 256  # pixels to which small images are enlarged: Tesseract wants letters of some 20 pixels
PAGE = 6  # one block of text
SECONDS = 60


class TextReader(Protocol):
    """Reads text."""

    def read(self, image: np.ndarray) -> str:
        """The text in an image uint8 [H, W, 3]; empty where none is found."""
        ...


class Tesseract:
    """`language`: one of `tesseract --list-langs`. ValueError where the program is not found."""

    def __init__(self, language: str = "eng") -> None:
        program = shutil.which("tesseract")
        if program is None:
            raise ValueError("Tesseract is not installed (Debian: apt install tesseract-ocr)")
        self.command = [program, "stdin", "stdout", "-l", language, "--psm", str(PAGE)]

    def read(self, image: np.ndarray) -> str:
        """`TextReader.read`. ValueError for what the program says is wrong."""
        picture = Image.fromarray(image)
        times = -(-LEAST_HEIGHT // picture.height)
        if times > 1:
            size = (picture.width * times, picture.height * times)
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        content = io.BytesIO()
        picture.save(content, "PNG")
        made = subprocess.run(self.command, input=content.getvalue(), capture_output=True, timeout=SECONDS)
        if made.returncode:
            told = made.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise ValueError(f"Tesseract failed: {told[0][:200]}")
        return made.stdout.decode(errors="replace").strip()
