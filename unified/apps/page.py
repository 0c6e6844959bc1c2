"""A trace as a page: the question, then text and sketches in the order in which they came, in one HTML file
that needs no other; and the same pictures side by side as a strip."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PAGE, STRIP = "trace.html", "strip.png"
GAP = 4  # pixels between the pictures of a strip
SHOWN = 192  # pixels of the longer side of a picture on the page

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
figure {{ display: inline-block; margin: 0.5rem 1rem 0.5rem 0; vertical-align: top; }}
img {{ image-rendering: pixelated; border: 1px solid #999; }}
figcaption {{ color: #555; font-size: 13px; }}
pre {{ white-space: pre-wrap; background: #f4f4f4; padding: 0.5rem 0.75rem; }}
.cut {{ color: #a00; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""


def save_trace(
    folder: Path, question: np.ndarray, content: Sequence[dict[str, Any]], *, title: str, cut: str = ""
) -> list[Path]:
    """Write the page and the strip of an answer to a picture, uint8 [H, W, 3], into a folder, which is made.
    `cut`: why the answer was cut. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    page, strip = folder / PAGE, folder / STRIP
    page.write_text(trace_page(question, content, title=title, cut=cut), encoding="utf-8")
    pictures = [item["image"] for item in content if item["type"] == "image"]
    Image.fromarray(side_by_side([question, *pictures])).save(strip)
    return [page, strip]


def trace_page(question: np.ndarray, content: Sequence[dict[str, Any]], *, title: str, cut: str = "") -> str:
    """The page as HTML."""
    parts = [_HEAD.format(title=html.escape(title)), _figure(question, "the question")]
    sketches = 0
    for item in content:
        if item["type"] == "image":
            sketches += 1
            parts.append(_figure(item["image"], f"sketch {sketches}"))
        elif item["type"] == "text" and item["text"].strip():
            parts.append(f"<pre>{html.escape(item['text'].strip())}</pre>")
    if cut:
        parts.append(f'<p class="cut">The answer was cut: {html.escape(cut)}.</p>')
    return "\n".join([*parts, "</body>\n</html>\n"])


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures uint8 [H, W, 3] of any sizes in a row, on white: [H, W, 3]."""
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] + GAP for picture in pictures) - GAP
    strip = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for picture in pictures:
        strip[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return strip


def _figure(picture: np.ndarray, caption: str) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    height, width = picture.shape[:2]
    times = max(1, SHOWN // max(height, width))
    image = (
        f'<img src="data:image/png;base64,{data}" width="{width * times}" height="{height * times}" alt="">'
    )
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"
