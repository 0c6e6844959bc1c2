"""Images in a terminal: the protocols of kitty and iTerm2, sixel, or half blocks in 24-bit colour.

`protocol` reads environment variables only and sends the terminal no query, which could hang. Where it
returns "" images are only saved.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

import numpy as np
from PIL import Image

PROTOCOLS = ("kitty", "iterm", "sixel", "blocks")
SHOWN_SIDE = 256  # pixels, for terminals that show pixels
SIXEL_TERMINALS = ("foot", "mlterm", "contour", "yaft", "sixel")
CELL = 8  # pixels of a column, where the terminal does not say
WIDEST = 64  # columns of a picture of half blocks
CHUNK = 4096  # bytes of one kitty escape sequence


def protocol(environment: Mapping[str, str], stream: TextIO) -> str:
    """The protocol for images on this stream: one of `PROTOCOLS`, or "" for none. The variable
    `UNIFIED_IMAGES` overrides what is detected ("none" turns images off)."""
    wished = environment.get("UNIFIED_IMAGES", "")
    if wished in PROTOCOLS or wished == "none":
        return wished if wished != "none" else ""
    if not stream.isatty() or environment.get("TERM", "dumb") == "dumb":
        return ""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" not in environment and not term.startswith("screen"):  # these swallow pictures
        if "kitty" in term or "KITTY_WINDOW_ID" in environment or program == "ghostty":
            return "kitty"
        if program in ("iTerm.app", "WezTerm", "mintty"):
            return "iterm"
        if any(name in term for name in SIXEL_TERMINALS):
            return "sixel"
    return "blocks" if environment.get("COLORTERM") in ("truecolor", "24bit") else ""


def size() -> tuple[int, int]:
    """Columns and lines of the terminal as it is now. `shutil` alone goes by the variables COLUMNS and LINES,
    which do not change with it."""
    try:
        return tuple(os.get_terminal_size(sys.stdout.fileno()))  # type: ignore[return-value]
    except (AttributeError, OSError, ValueError):  # no terminal
        return tuple(shutil.get_terminal_size())  # type: ignore[return-value]


def render(image: np.ndarray, how: str, columns: int = WIDEST, lines: int = WIDEST) -> str:
    """The characters that show an image uint8 [H, W, 3] in at most so many columns and lines."""
    height, width = image.shape[:2]
    if how == "blocks":
        return blocks(image, max(1, min(WIDEST, columns, 2 * lines * width // height)))
    room = max(1, min(SHOWN_SIDE, columns * CELL, 2 * lines * CELL * width // height))  # cells are 1 to 2
    return {"kitty": kitty, "iterm": iterm, "sixel": sixel}[how](_scaled(image, room)) + "\n"


def blocks(image: np.ndarray, width: int = 64) -> str:
    """Two rows of pixels per line: the upper half block, one row as foreground and one as background."""
    height, columns = image.shape[:2]
    columns = min(width, columns)
    rows = max(2, round(height * columns / image.shape[1] / 2) * 2)
    small = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BOX))
    lines = []
    for upper, lower in zip(small[::2].tolist(), small[1::2].tolist(), strict=True):
        cells = [
            f"\x1b[38;2;{a};{b};{c}m\x1b[48;2;{d};{e};{f}m▀"
            for (a, b, c), (d, e, f) in zip(upper, lower, strict=True)
        ]
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines) + "\n"


def kitty(image: np.ndarray) -> str:
    """An image uint8 [H, W, 3] in the kitty graphics protocol, as PNG in chunks."""
    data = base64.standard_b64encode(_png(image)).decode()
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    out = []
    for number, chunk in enumerate(chunks):
        head = "a=T,f=100," if number == 0 else ""
        out.append(f"\x1b_G{head}m={int(number + 1 < len(chunks))};{chunk}\x1b\\")
    return "".join(out)


def iterm(image: np.ndarray) -> str:
    """An image uint8 [H, W, 3] in the inline images protocol of iTerm2, as PNG."""
    data = _png(image)
    return f"\x1b]1337;File=inline=1;size={len(data)}:{base64.standard_b64encode(data).decode()}\a"


def sixel(image: np.ndarray) -> str:
    """An image uint8 [H, W, 3] as sixels of at most 64 colours: bands of six rows, each colour of a band as
    one run-length-coded line."""
    indexed = Image.fromarray(image).quantize(64)
    table = np.asarray(indexed.getpalette(), dtype=np.int64).reshape(-1, 3) * 100 // 255
    pixels = np.asarray(indexed)
    out = [f'\x1bPq"1;1;{image.shape[1]};{image.shape[0]}']
    out += [f"#{number};2;{r};{g};{b}" for number, (r, g, b) in enumerate(table.tolist())]
    for top in range(0, len(pixels), 6):
        band = pixels[top : top + 6]
        weights = (1 << np.arange(len(band)))[:, None]
        lines = [_runs(number, ((band == number) * weights).sum(axis=0)) for number in np.unique(band)]
        out.append("$".join(lines) + "-")
    return "".join(out) + "\x1b\\"


def _runs(colour: int, bits: np.ndarray) -> str:
    edges = np.flatnonzero(np.diff(bits)) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(bits))
    runs = [f"!{end - start}{chr(63 + bits[start])}" for start, end in zip(starts, ends, strict=True)]
    return f"#{colour}" + "".join(runs)


def _scaled(image: np.ndarray, room: int) -> np.ndarray:
    """The image whole times as large, or scaled down, so that it is at most `room` pixels wide."""
    height, width = image.shape[:2]
    times = min(room // width, SHOWN_SIDE // max(height, width))
    if width > room:
        small = (room, max(1, round(height * room / width)))
        return np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BOX))
    return image.repeat(max(1, times), axis=0).repeat(max(1, times), axis=1)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
